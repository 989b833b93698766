//! From what is said in a group to the content of an event.

use std::collections::BTreeMap;

use ruma::{EventId, OwnedEventId, OwnedUserId};
use serde_json::{Map, Value, json};

use super::{
    MESSAGE, TextKind,
    html::sanitise,
    json_bytes,
    mentions::{escape, named},
    said::{Said, Text},
};

/// Field of every content of ours that holds its transaction id (design §3).
pub const MARKER: &str = "dev.causeway.txn";

/// Field of what bears the time at which it was said: when it was sent, milliseconds since 1970.
pub const SENT_AT: &str = "dev.causeway.sent_at";

/// Most bytes of a content; an event may have 65,536 with everything around it.
const MAX_CONTENT: usize = 60_000;

/// Type and content of the event that says `said`, marked with `txn`; those of `people` whom it
/// names are mentioned.
pub fn event(
    said: &Said<OwnedEventId>,
    people: &BTreeMap<OwnedUserId, String>,
    txn: &str,
) -> (&'static str, Value) {
    match said {
        Said::Text(text, reply_to) => (MESSAGE, content(text, reply_to.as_deref(), people, txn)),
    }
}

/// Type and content of a notice by the bot, to an event or to nobody in particular.
pub fn notice(body: &str, about: Option<&EventId>, txn: &str) -> (&'static str, Value) {
    let text = Text { kind: TextKind::Notice, body: body.to_owned(), html: with_code(body) };
    event(&Said::Text(text, about.map(ToOwned::to_owned)), &BTreeMap::new(), txn)
}

/// What stands between backticks as code; `None` where nothing does.
fn with_code(body: &str) -> Option<String> {
    let parts: Vec<&str> = body.split('`').collect();
    // The last one may stand alone.
    let pairs = (parts.len() - 1) / 2;
    let mut html = String::new();
    for (n, part) in parts.iter().enumerate() {
        html.push_str(match n {
            0 => "",
            _ if n > 2 * pairs => "`",
            _ if n % 2 == 1 => "<code>",
            _ => "</code>",
        });
        escape(part, &mut html);
    }
    (pairs > 0).then_some(html)
}

/// The bot's mark on an event: one of the few that encrypted rooms have in clear.
pub fn reaction(about: &EventId, key: &str, txn: &str) -> (&'static str, Value) {
    let relates = json!({"rel_type": "m.annotation", "event_id": about, "key": key});
    ("m.reaction", json!({"m.relates_to": relates, MARKER: txn}))
}

fn content(
    text: &Text,
    reply_to: Option<&EventId>,
    people: &BTreeMap<OwnedUserId, String>,
    txn: &str,
) -> Value {
    let mut content = Map::new();
    let msgtype = match text.kind {
        TextKind::Text => "m.text",
        TextKind::Notice => "m.notice",
        TextKind::Emote => "m.emote",
    };
    content.insert("msgtype".to_owned(), json!(msgtype));
    content.insert("body".to_owned(), json!(text.body));
    let named = named(&text.body, people);
    let users = named.as_ref().map(|named| &named.users);
    let mentions = users.map_or_else(|| json!({}), |users| json!({"user_ids": users}));
    content.insert("m.mentions".to_owned(), mentions);
    content.insert(MARKER.to_owned(), json!(txn));
    if let Some(event) = reply_to {
        content.insert("m.relates_to".to_owned(), json!({"m.in_reply_to": {"event_id": event}}));
    }
    let html = match (&text.html, named) {
        (Some(html), _) => sanitise(html),
        // Made of the text, and nothing of its own in it.
        (None, named) => named.map(|named| named.html),
    };
    if let Some(html) = html
        && json_bytes(&text.body) + json_bytes(&html) < MAX_CONTENT
    {
        content.insert("format".to_owned(), json!("org.matrix.custom.html"));
        content.insert("formatted_body".to_owned(), json!(html));
    }
    Value::Object(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_msgtype_and_the_marker() {
        for (kind, msgtype) in [
            (TextKind::Text, "m.text"),
            (TextKind::Notice, "m.notice"),
            (TextKind::Emote, "m.emote"),
        ] {
            let text = Text { kind, body: "hi".to_owned(), html: Some("<b>hi".to_owned()) };
            let (kind, content) = event(&Said::Text(text, None), &BTreeMap::new(), "t");
            assert_eq!(kind, "m.room.message");
            assert_eq!(
                content,
                json!({"msgtype": msgtype, "body": "hi", "format": "org.matrix.custom.html",
                       "formatted_body": "<b>hi</b>", "m.mentions": {}, "dev.causeway.txn": "t"})
            );
        }
    }

    #[test]
    fn a_reply_names_its_event_and_nobody_is_rung() {
        let text = Text { kind: TextKind::Text, body: "@room yes".to_owned(), html: None };
        let content = content(&text, Some(&EventId::parse("$e").unwrap()), &BTreeMap::new(), "t");
        assert_eq!(content["m.relates_to"]["m.in_reply_to"]["event_id"], "$e");
        assert_eq!(content["m.mentions"], json!({}));
    }

    #[test]
    fn what_would_not_fit_loses_its_formatting_not_its_words() {
        let body = "x".repeat(40_000);
        // As it comes, after sanitising, and as JSON: each is too long in its own way.
        for html in [body.clone(), "\"".repeat(11_000), "&lt;".repeat(1_999) + &"\\".repeat(9_000)]
        {
            let text = Text { kind: TextKind::Text, body: body.clone(), html: Some(html) };
            let content = content(&text, None, &BTreeMap::new(), "t");
            assert_eq!(content["body"], json!(body));
            assert_eq!(content.get("formatted_body"), None);
        }
    }

    #[test]
    fn what_just_fits_keeps_its_formatting() {
        for (html, kept) in [(999, true), (1_000, false)] {
            let (body, html) = ("x".repeat(59_000), Some("y".repeat(html)));
            let text = Text { kind: TextKind::Text, body, html };
            assert_eq!(
                content(&text, None, &BTreeMap::new(), "t").get("formatted_body").is_some(),
                kept,
                "{kept}"
            );
        }
    }

    #[test]
    fn the_bot_speaks_in_notices() {
        let (kind, mut content) = notice("hi", Some(&EventId::parse("$e").unwrap()), "t");
        let relates = content.as_object_mut().unwrap().remove("m.relates_to").unwrap();
        assert_eq!(relates, json!({"m.in_reply_to": {"event_id": "$e"}}));
        let expected =
            json!({"msgtype": "m.notice", "body": "hi", "m.mentions": {}, "dev.causeway.txn": "t"});
        assert_eq!((kind, &content), ("m.room.message", &expected));
        assert_eq!(notice("hi", None, "t"), (kind, expected));
    }

    #[test]
    fn commands_stand_out_in_what_the_bot_says() {
        let html = |body: &str| notice(body, None, "t").1.get("formatted_body").cloned();
        let table = [
            ("no command", None),
            ("one ` alone", None),
            ("", None),
            ("say `a`", Some("say <code>a</code>")),
            ("`a` and\n`b <c>`: `", Some("<code>a</code> and<br><code>b &lt;c&gt;</code>: `")),
        ];
        for (body, expected) in table {
            assert_eq!(html(body), expected.map(Value::from), "{body}");
            assert_eq!(notice(body, None, "t").1["body"], body);
        }
    }

    #[test]
    fn who_is_named_is_mentioned() {
        let al: OwnedUserId = "@al:x".try_into().unwrap();
        let people = [(al, "Al".to_owned())].into();
        let of = |body: &str, html: Option<&str>| {
            let (body, html) = (body.to_owned(), html.map(str::to_owned));
            content(&Text { kind: TextKind::Text, body, html }, None, &people, "t")
        };
        let pill = "hi <a href=\"https://matrix.to/#/@al:x\">Al</a>";
        let table = [
            (of("hi @Al", None), json!({"user_ids": ["@al:x"]}), Some(pill)),
            // Its own formatting stays.
            (
                of("hi @Al", Some("<b>hi</b> @Al")),
                json!({"user_ids": ["@al:x"]}),
                Some("<b>hi</b> @Al"),
            ),
            (of("hi Al", None), json!({}), None),
            (of("hi @Al", Some(pill)), json!({"user_ids": ["@al:x"]}), Some("hi <a>Al</a>")),
        ];
        for (content, mentions, html) in table {
            assert_eq!(content["m.mentions"], mentions);
            assert_eq!(content.get("formatted_body").and_then(Value::as_str), html);
        }
    }

    #[test]
    fn nothing_to_see_is_no_formatting() {
        for html in ["", " ", "<script>x</script>", "<img src=x>", "<b></b>"] {
            let text =
                Text { kind: TextKind::Text, body: "hi".to_owned(), html: Some(html.to_owned()) };
            assert_eq!(content(&text, None, &BTreeMap::new(), "t").get("format"), None, "{html}");
        }
    }
}
