//! From what is said in a group to the content of an event.

use std::sync::LazyLock;

use ammonia::Builder;
use ruma::EventId;
use serde_json::{Map, Value, json};

use super::{Text, TextKind};

/// Field of every content of ours that holds its transaction id (design §3).
pub const MARKER: &str = "dev.causeway.txn";

/// Most bytes of a content; an event may have 65,536 with everything around it.
const MAX_CONTENT: usize = 60_000;

/// Tags that a Matrix client shows; client-server API v1.16, "m.room.message msgtypes".
const TAGS: [&str; 34] = [
    "a",
    "b",
    "blockquote",
    "br",
    "caption",
    "code",
    "del",
    "details",
    "div",
    "em",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "i",
    "li",
    "ol",
    "p",
    "pre",
    "s",
    "span",
    "strong",
    "sub",
    "summary",
    "sup",
    "table",
    "tbody",
    "td",
    "th",
    "tr",
    "ul",
];

static SANITISER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut builder = Builder::empty();
    builder
        .add_tags(TAGS)
        .add_tags(["thead", "u"])
        .add_tag_attributes("a", ["href"])
        .add_tag_attributes("ol", ["start"])
        .add_tag_attributes("code", ["class"])
        .add_clean_content_tags(["mx-reply", "script", "style", "title"])
        .add_url_schemes(["https", "http", "ftp", "mailto", "magnet"])
        .url_relative(ammonia::UrlRelative::Deny)
        .link_rel(None)
        .attribute_filter(|_, attribute, value| match attribute {
            "href" if is_mention(value) => None,
            "class" if !value.starts_with("language-") => None,
            _ => Some(value.into()),
        });
    builder
});

/// Mentions are left plain: a link that a client would draw as a person, and ring.
fn is_mention(href: &str) -> bool {
    let href = href.trim_start().to_ascii_lowercase();
    href.starts_with("matrix:") || href.contains("://matrix.to/")
}

/// `html` with nothing left that a client should not show: both ways, since neither side trusts
/// the other.
pub fn sanitise(html: &str) -> String {
    SANITISER.clean(html).to_string()
}

/// Content of an `m.room.message` that says `text`, marked with `txn`.
pub fn content(text: &Text, reply_to: Option<&EventId>, txn: &str) -> Value {
    let mut content = Map::new();
    let msgtype = match text.kind {
        TextKind::Text => "m.text",
        TextKind::Notice => "m.notice",
        TextKind::Emote => "m.emote",
    };
    content.insert("msgtype".to_owned(), json!(msgtype));
    content.insert("body".to_owned(), json!(text.body));
    content.insert("m.mentions".to_owned(), json!({}));
    content.insert(MARKER.to_owned(), json!(txn));
    if let Some(event) = reply_to {
        content.insert("m.relates_to".to_owned(), json!({"m.in_reply_to": {"event_id": event}}));
    }
    if let Some(html) = &text.html
        && text.body.len() + html.len() < MAX_CONTENT
    {
        content.insert("format".to_owned(), json!("org.matrix.custom.html"));
        content.insert("formatted_body".to_owned(), json!(sanitise(html)));
    }
    Value::Object(content)
}

/// Content of a notice by the bot.
pub fn notice(body: &str, txn: &str) -> Value {
    let text = Text { kind: TextKind::Notice, body: body.to_owned(), html: None };
    content(&text, None, txn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_made_harmless() {
        let table = [
            ("<b>x</b>", "<b>x</b>"),
            ("<script>alert(1)</script>x", "x"),
            ("<img src=x onerror=alert(1)>x", "x"),
            ("<a href=\"javascript:alert(1)\">x</a>", "<a>x</a>"),
            (
                "<a href=\"https://a.example/\" onclick=\"x()\">x</a>",
                "<a href=\"https://a.example/\">x</a>",
            ),
            ("<a href=\"https://matrix.to/#/@bob:x\">bob</a>", "<a>bob</a>"),
            ("<code class=\"language-rust\">x</code>", "<code class=\"language-rust\">x</code>"),
            ("<code class=\"mx_EventTile\">x</code>", "<code>x</code>"),
            ("<mx-reply><blockquote>old</blockquote></mx-reply>new", "new"),
            ("<p style=\"position:fixed\">x", "<p>x</p>"),
        ];
        for (html, expected) in table {
            assert_eq!(sanitise(html), expected, "{html}");
        }
    }

    #[test]
    fn every_kind_has_its_msgtype_and_the_marker() {
        for (kind, msgtype) in [
            (TextKind::Text, "m.text"),
            (TextKind::Notice, "m.notice"),
            (TextKind::Emote, "m.emote"),
        ] {
            let text = Text { kind, body: "hi".to_owned(), html: Some("<b>hi".to_owned()) };
            let content = content(&text, None, "t");
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
        let content = content(&text, Some(&EventId::parse("$e").unwrap()), "t");
        assert_eq!(content["m.relates_to"]["m.in_reply_to"]["event_id"], "$e");
        assert_eq!(content["m.mentions"], json!({}));
    }

    #[test]
    fn what_would_not_fit_loses_its_formatting_not_its_words() {
        let body = "x".repeat(40_000);
        let text = Text { kind: TextKind::Text, body: body.clone(), html: Some(body.clone()) };
        let content = content(&text, None, "t");
        assert_eq!(content["body"], json!(body));
        assert_eq!(content.get("formatted_body"), None);
    }
}
