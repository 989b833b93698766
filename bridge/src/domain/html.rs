//! Formatted text, with nothing left that a client should not show: both ways, since neither side
//! trusts the other.

use std::sync::LazyLock;

use ammonia::Builder;

/// Most tags, and most character references, of what is sanitised at all.
const MAX_TAGS: usize = 2_000;
/// Deepest nesting; client-server API v1.16, "m.room.message msgtypes", asks for a limit of 100.
const MAX_DEPTH: usize = 100;

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
        .add_tags(["thead", "u", "img"])
        .add_tag_attributes("img", ["alt"])
        .add_tag_attributes("a", ["href"])
        .add_tag_attributes("ol", ["start"])
        .add_tag_attributes("code", ["class"])
        .add_tag_attributes("span", ["data-mx-spoiler", "data-mx-color", "data-mx-bg-color"])
        .add_clean_content_tags(["mx-reply", "script", "style", "title"])
        .add_url_schemes(["https", "http", "ftp", "mailto", "magnet"])
        .url_relative(ammonia::UrlRelative::Deny)
        .link_rel(None)
        .attribute_filter(|_, attribute, value| match attribute {
            "href" if is_mention(value) => None,
            "class" if !is_language(value) => None,
            "data-mx-color" | "data-mx-bg-color" if !is_colour(value) => None,
            _ => Some(value.into()),
        });
    builder
});

fn is_language(class: &str) -> bool {
    class.starts_with("language-") && !class.contains(char::is_whitespace)
}

/// `#rrggbb`, and no style that hides behind it.
fn is_colour(value: &str) -> bool {
    value
        .strip_prefix('#')
        .is_some_and(|hex| hex.len() == 6 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Mentions are left plain: a link that a client would draw as a person, and ring. Links to rooms
/// are what they say.
fn is_mention(href: &str) -> bool {
    let href = href.trim_start().to_ascii_lowercase();
    let is_of_room = ["#/#", "#/!", "#/%23", "#/%21"]
        .iter()
        .any(|room| href.starts_with(&format!("https://matrix.to/{room}")));
    href.starts_with("matrix:") || href.contains("://matrix.to/") && !is_of_room
}

/// `html` made harmless; `None` where nothing is left to be seen, and where it was not made for
/// people: then the plain text stands alone.
pub fn sanitise(html: &str) -> Option<String> {
    // A parser's time grows with the square of what stays open, and this runs inside a transaction.
    if html.matches('<').count() > MAX_TAGS || html.matches('&').count() > MAX_TAGS {
        return None;
    }
    let clean = named(&SANITISER.clean(html).to_string());
    (is_visible(&clean) && depth(&clean) <= MAX_DEPTH).then_some(clean)
}

/// Sanitised HTML with the name of each image in its place, which custom emoji have.
fn named(clean: &str) -> String {
    let (mut text, mut rest) = (String::with_capacity(clean.len()), clean);
    while let Some((before, tag)) = rest.split_once('<') {
        text.push_str(before);
        let (tag, after) = end_of_tag(tag);
        if let Some(attributes) = tag.strip_prefix("img") {
            let alt = attributes.split_once(" alt=\"").and_then(|(_, alt)| alt.split_once('"'));
            let (alt, _) = alt.unwrap_or_default();
            // In an attribute only `&` and `"` have to be written otherwise.
            text.push_str(&alt.replace('<', "&lt;").replace('>', "&gt;"));
        } else {
            text.extend(["<", tag, ">"]);
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

/// The attributes of a sanitised tag, and what follows it: a value may have `>` in it.
fn end_of_tag(tag: &str) -> (&str, &str) {
    let mut in_value = false;
    for (at, c) in tag.char_indices() {
        match c {
            '"' => in_value = !in_value,
            '>' if !in_value => {
                return (tag.get(..at).unwrap_or(tag), tag.get(at + 1..).unwrap_or(""));
            }
            _ => {}
        }
    }
    (tag, "")
}

/// Whether there is anything between the tags.
fn is_visible(clean: &str) -> bool {
    let mut in_tag = false;
    clean.chars().any(|c| {
        match c {
            '<' => in_tag = true,
            '>' => in_tag = false,
            _ => {}
        }
        !in_tag && c != '>' && !c.is_whitespace()
    })
}

/// How deep sanitised HTML is nested: what is open is closed in it.
fn depth(clean: &str) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    for tag in clean.split('<').skip(1) {
        if tag.starts_with('/') {
            now = now.saturating_sub(1);
        } else if !tag.starts_with("br>") && !tag.starts_with("hr>") {
            now += 1;
            most = most.max(now);
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_made_harmless() {
        let table = [
            ("<b>x</b>", "<b>x</b>"),
            ("<script>alert(1)</script>x", "x"),
            ("<style>*{display:none}</style><title>t</title>x", "x"),
            ("<img src=x onerror=alert(1)>x", "x"),
            ("<img src=\"https://t.example/p.gif\">x", "x"),
            (
                "well <img data-mx-emoticon src=\"mxc://x/y\" alt=\":hat:\" title=x> done",
                "well :hat: done",
            ),
            (
                "<img alt='<b onclick=\"x()\">\"&amp;' src=x>x",
                "&lt;b onclick=&quot;x()&quot;&gt;&quot;&amp;x",
            ),
            ("<b><img alt=\"<img alt='y'>\">z</b>", "<b>&lt;img alt='y'&gt;z</b>"),
            ("<svg><script>alert(1)</script><a href=\"javascript:x\">x</a></svg>", ""),
            ("<math><mtext><table><mglyph><style><img src=x></style>", ""),
            ("<iframe src=\"https://a.example\"></iframe>x", "x"),
            ("<form action=\"https://a.example\"><input name=a>x</form>", "x"),
            ("<a href=\"javascript:alert(1)\">x</a>", "<a>x</a>"),
            ("<a href=\" java\tscript:alert(1)\">x</a>", "<a>x</a>"),
            ("<a href=\"data:text/html,x\">x</a>", "<a>x</a>"),
            ("<a href=\"//a.example/\">x</a>", "<a>x</a>"),
            ("<a href=\"/relative\">x</a>", "<a>x</a>"),
            (
                "<a href=\"https://a.example/\" onclick=\"x()\" target=_blank>x</a>",
                "<a href=\"https://a.example/\">x</a>",
            ),
            ("<a href=\"https://matrix.to/#/@bob:x\">bob</a>", "<a>bob</a>"),
            ("<a href=\" HTTPS://Matrix.To/#/@bob:x\">bob</a>", "<a>bob</a>"),
            ("<a href=\"matrix:u/bob:x\">bob</a>", "<a>bob</a>"),
            (
                "<a href=\"https://matrix.to/#/%23tea:x?via=x\">tea</a>",
                "<a href=\"https://matrix.to/#/%23tea:x?via=x\">tea</a>",
            ),
            (
                "<a href=\"https://matrix.to/#/!r:x/$e\">tea</a>",
                "<a href=\"https://matrix.to/#/!r:x/$e\">tea</a>",
            ),
            ("<a href=\"https://matrix.to/#/%40bob:x\">bob</a>", "<a>bob</a>"),
            ("<a href=\"http://matrix.to/#/#r:x\">r</a>", "<a>r</a>"),
            ("<code class=\"language-rust\">x</code>", "<code class=\"language-rust\">x</code>"),
            ("<code class=\"mx_EventTile\">x</code>", "<code>x</code>"),
            ("<code class=\"language-a mx_EventTile\">x</code>", "<code>x</code>"),
            ("<span data-mx-spoiler=\"why\">x</span>", "<span data-mx-spoiler=\"why\">x</span>"),
            (
                "<span data-mx-color=\"#12aBef\">x</span>",
                "<span data-mx-color=\"#12aBef\">x</span>",
            ),
            ("<span data-mx-color=\"red;x:y\" data-mx-maths=\"x\">x</span>", "<span>x</span>"),
            (
                "<span data-mx-color=\"#12aBe\" data-mx-bg-color=\"#12aBeg\">x</span>",
                "<span>x</span>",
            ),
            ("<mx-reply><blockquote>old</blockquote></mx-reply>new", "new"),
            ("<p style=\"position:fixed\">x", "<p>x</p>"),
            ("<b>x", "<b>x</b>"),
            ("a <!-- b --> c & d < e", "a  c &amp; d &lt; e"),
        ];
        for (html, expected) in table {
            assert_eq!(sanitise(html).unwrap_or_default(), expected, "{html}");
        }
    }

    #[test]
    fn what_was_made_clean_stays_as_it_is() {
        for html in ["<p>a &amp; b</p>", "<ul><li>x</li></ul>", "a<br>b<hr>", "&lt;b&gt;"] {
            let clean = sanitise(html).unwrap();
            assert_eq!(sanitise(&clean), Some(clean.clone()), "{html}");
        }
    }

    #[test]
    fn what_nobody_could_see_or_should_wait_for_is_none() {
        let nested = |depth: usize| "<b>".repeat(depth) + "x" + &"</b>".repeat(depth);
        assert!(sanitise(&nested(100)).is_some());
        let closed_wrongly = "<div></x>".repeat(MAX_TAGS / 2);
        let bombs = [nested(101), nested(20_000), closed_wrongly + "x", "&".repeat(64_000)];
        for html in bombs.iter().map(String::as_str).chain(["", " \n", "<b> </b>", "<br><hr>"]) {
            assert_eq!(sanitise(html), None, "{}", html.get(..20).unwrap_or(html));
        }
        let whole = ["<li>x</li>", "x<br>", "x<hr>"].map(|html| html.repeat(MAX_TAGS / 2));
        for html in whole.into_iter().chain(["&amp;".repeat(MAX_TAGS)]) {
            assert_eq!(sanitise(&html), Some(html));
        }
    }
}
