//! Markdown as the HTML that goes beside a text: the elements that Matrix clients show, and no others.
//!
//! HTML in the text is text, an image is its description, and links lead to web pages and mail only.

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

/// The text with markup; `None` where it has none.
pub(super) fn to_html(text: &str) -> Option<String> {
    let parser = Parser::new_ext(text, Options::ENABLE_STRIKETHROUGH);
    let mut has_markup = false;
    let mut links = Vec::new();
    let events = parser.filter_map(|event| {
        let event = match event {
            Event::Html(html) | Event::InlineHtml(html) => Event::Text(html),
            // What describes an image stands inside, and so does a block of HTML.
            Event::Start(Tag::HtmlBlock | Tag::Image { .. })
            | Event::End(TagEnd::HtmlBlock | TagEnd::Image) => return None,
            Event::Start(Tag::Link { link_type, dest_url, id, .. }) => {
                let leads = leads_somewhere(&dest_url);
                links.push(leads);
                // Titles are not among what may be said.
                let title = CowStr::Borrowed("");
                leads.then_some(Event::Start(Tag::Link { link_type, dest_url, title, id }))?
            }
            Event::End(TagEnd::Link) => {
                links.pop().unwrap_or_default().then_some(Event::End(TagEnd::Link))?
            }
            event => event,
        };
        has_markup |= !matches!(
            event,
            Event::Text(_) | Event::SoftBreak | Event::Start(Tag::Paragraph) | Event::End(_)
        );
        Some(event)
    });
    let mut html = String::new();
    html::push_html(&mut html, events);
    has_markup.then(|| unwrapped(html.trim_end()).to_owned())
}

fn leads_somewhere(url: &str) -> bool {
    let scheme = url.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("http" | "https" | "mailto"))
}

/// One paragraph is no paragraph.
fn unwrapped(html: &str) -> &str {
    let inner = html.strip_prefix("<p>").and_then(|rest| rest.strip_suffix("</p>"));
    inner.filter(|inner| !inner.contains("<p>")).unwrap_or(html)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_a_safe_subset_and_text_without_it_has_none() {
        for (text, html) in [
            ("plain", None),
            ("two\nlines", None),
            ("two\n\nparagraphs", None),
            ("1 < 2 & 3", None),
            ("<script>alert(1)</script>", None),
            ("<b onclick=x>hi</b>", None),
            ("**a** and *b*", Some("<strong>a</strong> and <em>b</em>")),
            ("~~no~~ `x<y`", Some("<del>no</del> <code>x&lt;y</code>")),
            ("# Big", Some("<h1>Big</h1>")),
            ("- a\n- b", Some("<ul>\n<li>a</li>\n<li>b</li>\n</ul>")),
            ("3. a", Some("<ol start=\"3\">\n<li>a</li>\n</ol>")),
            ("> said", Some("<blockquote>\n<p>said</p>\n</blockquote>")),
            (
                "```rust\nlet x;\n```",
                Some("<pre><code class=\"language-rust\">let x;\n</code></pre>"),
            ),
            ("a  \nb", Some("a<br />\nb")),
            ("*a* <script>x</script>", Some("<em>a</em> &lt;script&gt;x&lt;/script&gt;")),
            ("*a*\n\n<div>\nx\n</div>", Some("<p><em>a</em></p>\n&lt;div&gt;\nx\n&lt;/div&gt;")),
            ("[it](https://b.example \"t\")", Some("<a href=\"https://b.example\">it</a>")),
            ("[it](javascript:alert(1)) *b*", Some("it <em>b</em>")),
            ("[it](data:text/html,x)", None),
            ("[it](JaVaScRiPt:x)", None),
            ("![a cat](https://b.example/c.png)", None),
            ("[a ![cat](x) b](http://b.example)", Some("<a href=\"http://b.example\">a cat b</a>")),
            ("<https://b.example>", Some("<a href=\"https://b.example\">https://b.example</a>")),
            ("*a*\n\n*b*", Some("<p><em>a</em></p>\n<p><em>b</em></p>")),
        ] {
            assert_eq!(to_html(text).as_deref(), html, "{text}");
        }
    }
}
