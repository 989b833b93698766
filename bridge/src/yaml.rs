//! What is wrong with the YAML of a file, for whoever has to mend it: where, and in which words.

use serde_saphyr::{MessageFormatter as _, UserMessageFormatter};

/// `place:line:column`, as far as it is known, and what is wrong there. The text itself is not
/// quoted: there are files that hold tokens.
pub(crate) fn fault(place: &str, error: &serde_saphyr::Error) -> (String, String) {
    let error = error.without_snippet();
    let place = match error.location() {
        Some(at) if at.line() > 0 => format!("{place}:{}:{}", at.line(), at.column()),
        _ => place.to_owned(),
    };
    // What is quoted of the file may hold anything.
    let what = UserMessageFormatter.format_message(error).escape_debug().to_string();
    let what = what.replace("\\'", "'").replace("\\\"", "\"");
    let advice = advice(&what);
    (place, format!("{what}{advice}"))
}

/// What most probably is to be done about it.
fn advice(what: &str) -> &'static str {
    let table = [
        ("tab", "; write spaces in place of the tab"),
        ("duplicate mapping key", "; it stands there twice: keep one of them"),
        ("alias", "; write the star in quotes: \"*\""),
        (
            "mapping values",
            "; is a space missing after the colon in the line before, and is it indented like its \
             neighbours?",
        ),
        ("expected key", "; is it indented like its neighbours?"),
        ("document start", "; is it indented like its neighbours?"),
        ("unclosed", "; close it"),
    ];
    table.into_iter().find(|(part, _)| what.contains(part)).map_or("", |(_, advice)| advice)
}
