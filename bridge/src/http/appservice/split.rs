//! Takes a transaction apart without believing a word of it.
//!
//! One refused transaction stops a homeserver's whole queue, and one odd event must not take the
//! others with it: so the body is cut into fields, and `events` into elements, by brackets and
//! strings alone. Whether a piece is JSON is judged for each piece by itself.

/// Most events that are cut out: Synapse sends 100, and what is behind them comes by `/sync`.
pub(super) const MAX_EVENTS: usize = 10_000;

/// A body in pieces.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pieces<'a> {
    /// Elements of `events`, whole but not judged.
    pub(super) events: Vec<&'a [u8]>,
    /// From here on it cannot be taken apart: cut off, or not JSON at all.
    pub(super) rest: Option<&'a [u8]>,
}

/// Cuts `body` into pieces. Never fails, never recurses; reads each byte once or twice.
pub(super) fn split(body: &[u8]) -> Pieces<'_> {
    let mut events = Vec::new();
    let rest = fields(body, &mut events);
    Pieces { events, rest }
}

/// Reads the fields of the object that `body` should be; returns what could not be read.
fn fields<'a>(body: &'a [u8], events: &mut Vec<&'a [u8]>) -> Option<&'a [u8]> {
    let Some(mut left) = after(body, b'{') else { return Some(body) };
    if let Some(end) = after(left, b'}') {
        return rest(end);
    }
    loop {
        let Some((key, value)) = field(left) else { return Some(left) };
        let next = if key == b"\"events\""
            && let Some(elements) = after(value, b'[')
        {
            match array(elements, events) {
                Ok(end) => end,
                Err(stuck) => return Some(stuck),
            }
        } else {
            let Some((_, end)) = whole(value) else { return Some(left) };
            end
        };
        match (after(next, b','), after(next, b'}')) {
            (Some(more), _) => left = more,
            (None, Some(end)) => return rest(end),
            (None, None) => return Some(next),
        }
    }
}

/// A key and what follows its colon.
fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let bytes = trimmed(bytes);
    if bytes.first() != Some(&b'"') {
        return None;
    }
    let (key, end) = whole(bytes)?;
    Some((key, after(end, b':')?))
}

/// Reads elements up to the closing bracket and returns what follows it; else what is left.
fn array<'a>(mut left: &'a [u8], events: &mut Vec<&'a [u8]>) -> Result<&'a [u8], &'a [u8]> {
    if let Some(end) = after(left, b']') {
        return Ok(end);
    }
    loop {
        let (element, end) = whole(left).ok_or(left)?;
        events.push(element);
        if events.len() == MAX_EVENTS {
            return Err(end);
        }
        if let Some(end) = after(end, b']') {
            return Ok(end);
        }
        left = after(end, b',').ok_or(end)?;
    }
}

/// The value that `bytes` begins with, and what follows it.
fn whole(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let bytes = trimmed(bytes);
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for (at, byte) in bytes.iter().enumerate() {
        let ends = if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            !in_string && depth == 0
        } else {
            match byte {
                b'"' => in_string = true,
                b'{' | b'[' => depth += 1,
                b'}' | b']' | b',' if depth == 0 => {
                    // A number or a word ends where something else begins.
                    return (at > 0).then(|| bytes.split_at(at));
                }
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            depth == 0 && matches!(byte, b'}' | b']')
        };
        if ends {
            return bytes.split_at_checked(at + 1);
        }
    }
    None
}

/// What follows `byte`, if `bytes` begin with it, white space aside.
fn after(bytes: &[u8], byte: u8) -> Option<&[u8]> {
    trimmed(bytes).strip_prefix(&[byte])
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii_start()
}

/// What should be nothing.
fn rest(bytes: &[u8]) -> Option<&[u8]> {
    let bytes = trimmed(bytes);
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{MAX_EVENTS, split};

    fn cut(body: &str) -> (Vec<String>, Option<String>) {
        let pieces = split(body.as_bytes());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (pieces.events.into_iter().map(text).collect(), pieces.rest.map(text))
    }

    #[test]
    fn a_body_is_cut_as_the_table_says() {
        let rows: &[(&str, &[&str], Option<&str>)] = &[
            (r#"{"events":[]}"#, &[], None),
            (r"{}", &[], None),
            (r#" { "a" : 1 , "events" : [ {"b":2} , 3 ] } "#, &[r#"{"b":2}"#, "3 "], None),
            (r#"{"events":[{"a":"]}\"\\"}],"x":{"y":[1]}}"#, &[r#"{"a":"]}\"\\"}"#], None),
            (r#"{"events":[{"a":NaN},{"b":1}]}"#, &[r#"{"a":NaN}"#, r#"{"b":1}"#], None),
            (r#"{"events":{"a":1}}"#, &[], None),
            (r#"{"events":null,"b":true}"#, &[], None),
            // Cut off: what is whole is taken.
            (r#"{"events":[{"a":1},{"b"#, &[r#"{"a":1}"#], Some(r#"{"b"#)),
            (r#"{"events":[{"a":1}"#, &[r#"{"a":1}"#], Some("")),
            (r#"{"events":[{"a":1}]"#, &[r#"{"a":1}"#], Some("")),
            (r#"{"events":[1]}x"#, &["1"], Some("x")),
            ("", &[], Some("")),
            ("[]", &[], Some("[]")),
            ("nonsense", &[], Some("nonsense")),
        ];
        for (body, events, rest) in rows {
            let (got, left) = cut(body);
            assert_eq!(
                (got, left.as_deref()),
                (events.iter().map(|e| (*e).to_owned()).collect(), *rest),
                "{body}"
            );
        }
    }

    #[test]
    fn no_more_is_cut_out_than_is_taken() {
        let body = format!(r#"{{"events":[{}]}}"#, vec!["{}"; MAX_EVENTS + 5].join(","));
        let pieces = split(body.as_bytes());
        assert_eq!((pieces.events.len(), pieces.rest.is_some()), (MAX_EVENTS, true));
    }

    #[test]
    fn depth_costs_nothing() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        let body = format!(r#"{{"events":[{{"a":1}},{deep},{{"b":2}}]}}"#);
        let pieces = split(body.as_bytes());
        assert_eq!((pieces.events.len(), pieces.rest), (3, None));
    }

    proptest! {
        #[test]
        fn any_json_is_cut_where_a_parser_would(
            texts in proptest::collection::vec(".{0,20}", 0..8),
            numbers in proptest::collection::vec(any::<i32>(), 0..4),
        ) {
            let mut events: Vec<serde_json::Value> =
                texts.iter().map(|text| serde_json::json!({"body": text, "n": numbers})).collect();
            events.extend(texts.iter().map(|text| serde_json::json!(text)));
            let body = serde_json::json!({"a": texts, "events": events, "z": numbers}).to_string();
            let pieces = split(body.as_bytes());
            prop_assert_eq!(pieces.rest, None);
            let read: Vec<serde_json::Value> =
                pieces.events.iter().map(|event| serde_json::from_slice(event).unwrap()).collect();
            prop_assert_eq!(read, events);
        }

        #[test]
        fn any_bytes_are_survived(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            split(&body);
        }
    }
}
