//! From the content of an event to what is said in a group.

use causeway_protocol::content::{self, Content};
use ruma::{EventId, OwnedEventId};
use serde_json::{Map, Value};

use super::{
    MESSAGE, MessageRef, Skip, TextKind,
    effect::InGroup,
    ghost::Names,
    html::sanitise,
    json_bytes, json_bytes_of,
    mentions::as_natives_know,
    mirror::Mirror,
    said::{Said, Text},
};

/// Most bytes of one part as JSON: an envelope takes 45,000 with everything around it.
const MAX_PART: usize = 40_000;

/// Whether an event of this type says something to people.
pub fn is_said(kind: &str) -> bool {
    kind == MESSAGE
}

/// What an event says that [is said](is_said); more than one part where it is longer than an envelope.
///
/// An edit is said again in its new words, about the message that it corrects.
///
/// # Errors
/// [`Skip::Nothing`] for a redacted message, [`Skip::Malformed`] for one without type or body,
/// [`Skip::Type`] for what is no text.
pub fn said(names: &Names, content: &Map<String, Value>) -> Result<Vec<Said<OwnedEventId>>, Skip> {
    let (content, mut about) = match corrected(names, content) {
        Some((new, about)) => (new, Some(about)),
        None => (content, reply_to(content)),
    };
    // Only the first part answers.
    let parts = texts(names, content)?.into_iter();
    Ok(parts.map(|text| Said::Text(text, about.take())).collect())
}

/// The new words of an edit, and which event they replace (client-server API v1.16, "Event
/// replacements").
fn corrected<'a>(
    names: &Names,
    content: &'a Map<String, Value>,
) -> Option<(&'a Map<String, Value>, OwnedEventId)> {
    let relation = content.get("m.relates_to")?;
    if relation.get("rel_type").and_then(Value::as_str) != Some("m.replace") {
        return None;
    }
    let replaced = EventId::parse(relation.get("event_id")?.as_str()?).ok()?;
    let new = content.get("m.new_content")?.as_object()?;
    // Else the fallback says as much as there is.
    texts(names, new).is_ok().then_some((new, replaced))
}

/// A line in the name of who did something that is not carried, about the message of `about`.
pub fn notice(line: String, mut about: Option<OwnedEventId>) -> Vec<Said<OwnedEventId>> {
    let parts = parts(TextKind::Notice, line, None).into_iter();
    parts.map(|text| Said::Text(text, about.take())).collect()
}

/// What `deed` says in the group, where `found` is the message that it is about.
pub fn content(deed: &InGroup, found: Option<MessageRef>) -> Content {
    match deed {
        InGroup::Say(relayed) => match relayed.said.across(found) {
            Said::Text(text, reply_to) => {
                Content::Text(native(text, reply_to, Some(relayed.mirror.to_string())))
            }
        },
        InGroup::Announce(mirrors, gone) => Content::Mirrors(content::Mirrors {
            mirrors: mirrors.iter().map(named).collect(),
            gone: gone.iter().map(ToString::to_string).collect(),
        }),
        InGroup::Notice(body) => {
            let text = Text { kind: TextKind::Notice, body: body.clone(), html: None };
            Content::Text(native(text, None, None))
        }
    }
}

fn native(text: Text, reply_to: Option<MessageRef>, mirror: Option<String>) -> content::Text {
    let Text { kind, body, html } = text;
    content::Text { kind, body, html, reply_to, mirror }
}

fn named(mirror: &Mirror) -> content::Mirror {
    content::Mirror { id: mirror.id.to_string(), name: mirror.name.clone() }
}

fn texts(names: &Names, content: &Map<String, Value>) -> Result<Vec<Text>, Skip> {
    if content.is_empty() {
        return Err(Skip::Nothing);
    }
    let field = |name: &str| content.get(name).and_then(Value::as_str);
    let (msgtype, body) = field("msgtype").zip(field("body")).ok_or(Skip::Malformed)?;
    let html = (field("format") == Some("org.matrix.custom.html"))
        .then(|| field("formatted_body").and_then(sanitise))
        .flatten();
    let (kind, body, html) = match msgtype {
        "m.text" => (TextKind::Text, without_fallback(content, body), html),
        "m.notice" => (TextKind::Notice, without_fallback(content, body), html),
        "m.emote" => (TextKind::Emote, without_fallback(content, body), html),
        // [`super::unbridged`] has a line for it.
        _ => return Err(Skip::Type),
    };
    let body = as_natives_know(names, content, &body);
    let html = html.map(|html| as_natives_know(names, content, &html));
    Ok(parts(kind, body, html))
}

/// The event that a message answers.
fn reply_to(content: &Map<String, Value>) -> Option<OwnedEventId> {
    let event = content.get("m.relates_to")?.get("m.in_reply_to")?.get("event_id")?.as_str()?;
    EventId::parse(event).ok()
}

/// Older clients quote what they answer in the body (client-server API v1.12, "Fallbacks for rich
/// replies"); the group shows it by the reference. What somebody quotes himself is his own.
fn without_fallback(content: &Map<String, Value>, body: &str) -> String {
    let lines = body.split_inclusive('\n').take_while(|line| line.starts_with("> "));
    let quoted: usize = lines.map(str::len).sum();
    let rest = body.get(quoted..).unwrap_or_default();
    let html = content.get("formatted_body").and_then(Value::as_str);
    let is_proven = match html {
        _ if ["> <@", "> * <@"].iter().any(|by| body.starts_with(by)) => true,
        Some(html) => html.trim_start().starts_with("<mx-reply>"),
        // By another name; clients put a line between.
        None => body.starts_with("> <") && rest.starts_with('\n'),
    };
    if quoted == 0 || !is_proven || reply_to(content).is_none() {
        return body.to_owned();
    }
    rest.trim_start_matches('\n').to_owned()
}

fn parts(kind: TextKind, body: String, html: Option<String>) -> Vec<Text> {
    let html = html.filter(|html| json_bytes(&body) + json_bytes(html) <= MAX_PART);
    if json_bytes(&body) <= MAX_PART {
        return vec![Text { kind, body, html }];
    }
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut length = 0;
    for c in body.chars() {
        if length + json_bytes_of(c) > MAX_PART {
            parts.push(Text { kind, body: std::mem::take(&mut part), html: None });
            length = 0;
        }
        part.push(c);
        length += json_bytes_of(c);
    }
    parts.push(Text { kind, body: part, html: None });
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names() -> Names {
        Names::new("b.example").unwrap()
    }

    fn of(content: &Value) -> Result<Vec<Text>, Skip> {
        texts(&names(), content.as_object().unwrap())
    }

    fn text(kind: TextKind, body: &str, html: Option<&str>) -> Vec<Text> {
        vec![Text { kind, body: body.to_owned(), html: html.map(str::to_owned) }]
    }

    #[test]
    fn kinds_and_formatting_arrive() {
        let table = [
            (json!({"msgtype": "m.text", "body": "hi"}), text(TextKind::Text, "hi", None)),
            (json!({"msgtype": "m.notice", "body": "hi"}), text(TextKind::Notice, "hi", None)),
            (json!({"msgtype": "m.emote", "body": "waves"}), text(TextKind::Emote, "waves", None)),
            (
                json!({"msgtype": "m.text", "body": "hi", "format": "org.matrix.custom.html",
                       "formatted_body": "<b>hi</b><script>x</script>"}),
                text(TextKind::Text, "hi", Some("<b>hi</b>")),
            ),
            (
                json!({"msgtype": "m.text", "body": "hi", "format": "org.matrix.custom.html",
                       "formatted_body": "<img src=x>"}),
                text(TextKind::Text, "hi", None),
            ),
            (
                json!({"msgtype": "m.text", "body": "hi", "format": "other", "formatted_body": "x"}),
                text(TextKind::Text, "hi", None),
            ),
        ];
        for (content, expected) in table {
            assert_eq!(of(&content), Ok(expected));
        }
    }

    #[test]
    fn redacted_is_nothing_and_half_a_message_is_malformed() {
        assert_eq!(of(&json!({})), Err(Skip::Nothing));
        assert_eq!(of(&json!({"msgtype": "m.text"})), Err(Skip::Malformed));
        assert_eq!(of(&json!({"body": "x"})), Err(Skip::Malformed));
        assert_eq!(of(&json!({"msgtype": 1, "body": "x"})), Err(Skip::Malformed));
    }

    #[test]
    fn the_quote_of_a_reply_is_taken_off() {
        let relates = json!({"m.in_reply_to": {"event_id": "$e"}});
        let body = "> <@al:x> one\n> two\n\nthree";
        let reply = json!({"msgtype": "m.text", "body": body, "m.relates_to": relates});
        assert_eq!(of(&reply), Ok(text(TextKind::Text, "three", None)));
        assert_eq!(reply_to(reply.as_object().unwrap()).unwrap(), "$e");
        let plain = json!({"msgtype": "m.text", "body": body});
        assert_eq!(of(&plain), Ok(text(TextKind::Text, body, None)));
        // Body, formatted body, and what is left of it.
        let own = "> <lamp> switched off\nwho did that?";
        let table = [
            ("> <@al:x> one\ntwo\n> three", None, "two\n> three"),
            ("> * <@al:x> waves\n\ntwo", None, "two"),
            ("> <Old Tom> one\n\ntwo", None, "two"),
            (
                "> <Tom> one\ntwo",
                Some("<mx-reply><blockquote>one</blockquote></mx-reply>two"),
                "two",
            ),
            ("> <Tom> one\n\ntwo", Some("<blockquote>one</blockquote>two"), "> <Tom> one\n\ntwo"),
            (own, None, own),
            ("> one\n\ntwo", None, "> one\n\ntwo"),
            ("one", None, "one"),
        ];
        for (body, html, expected) in table {
            let mut reply = json!({"msgtype": "m.text", "body": body, "m.relates_to": relates});
            if let Some(html) = html {
                reply["format"] = json!("org.matrix.custom.html");
                reply["formatted_body"] = json!(html);
            }
            assert_eq!(of(&reply).unwrap()[0].body, expected, "{body}");
        }
    }

    #[test]
    fn an_edit_is_said_in_its_new_words() {
        let new = json!({"msgtype": "m.text", "body": "seven"});
        let relates = json!({"rel_type": "m.replace", "event_id": "$e"});
        let edit = |relates: &Value, new: &Value| {
            let content = json!({"msgtype": "m.text", "body": "* seven",
                "m.new_content": new, "m.relates_to": relates});
            match &said(&names(), content.as_object().unwrap()).unwrap()[..] {
                [Said::Text(text, about)] => {
                    (text.body.clone(), about.as_ref().map(ToString::to_string))
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(edit(&relates, &new), ("seven".to_owned(), Some("$e".to_owned())));
        // Where nothing says what it corrects, or how, there is the fallback.
        let table = [
            (json!({"rel_type": "m.replace"}), new.clone()),
            (json!({"rel_type": "m.reference", "event_id": "$e"}), new),
            (relates.clone(), json!("seven")),
            (relates.clone(), json!({})),
            (relates.clone(), json!({"msgtype": "m.text"})),
            (relates, json!({"msgtype": "m.image", "body": "seven"})),
        ];
        for (relates, new) in table {
            assert_eq!(edit(&relates, &new), ("* seven".to_owned(), None));
        }
    }

    #[test]
    fn a_long_text_is_split_and_whole() {
        for unit in ["x", "\u{1}", "\"", "ä", "🦀"] {
            let body = unit.repeat(60_000 / unit.len());
            let parts = of(&json!({"msgtype": "m.text", "body": body.clone()})).unwrap();
            for part in &parts {
                assert!(serde_json::to_string(&part.body).unwrap().len() <= MAX_PART + 2);
            }
            // No character is longer than six bytes: a part ends where the next one would not fit.
            for part in &parts[..parts.len() - 1] {
                assert!(serde_json::to_string(&part.body).unwrap().len() + 6 > MAX_PART + 2);
            }
            let joined: String = parts.into_iter().map(|part| part.body).collect();
            assert_eq!(joined, body);
        }
    }

    #[test]
    fn what_just_fits_is_one_part_and_keeps_its_formatting() {
        let of = |body: usize, html: usize| {
            let content = json!({"msgtype": "m.text", "body": "x".repeat(body),
                "format": "org.matrix.custom.html", "formatted_body": "y".repeat(html)});
            let parts = of(&content).unwrap();
            parts.iter().map(|part| (part.body.len(), part.html.is_some())).collect::<Vec<_>>()
        };
        assert_eq!(of(MAX_PART - 3, 3), [(MAX_PART - 3, true)]);
        assert_eq!(of(MAX_PART - 3, 4), [(MAX_PART - 3, false)]);
        assert_eq!(of(MAX_PART, 1), [(MAX_PART, false)]);
        assert_eq!(of(MAX_PART + 1, 1), [(MAX_PART, false), (1, false)]);
    }
}
