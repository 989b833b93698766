//! Why a text is not what it should be, without a word of it.

use serde_json::error::Category;

/// What is wrong with the JSON and where. serde's own words quote what it found, which may be what
/// somebody said: not for logs and rows.
pub fn unread(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        Category::Io | Category::Eof => "it breaks off",
        Category::Syntax => "no JSON",
        Category::Data => "a field is missing or of another kind",
    };
    format!("{what}, at line {} column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::unread;

    #[test]
    fn it_says_where_and_quotes_nothing() {
        let rows = [
            (r#"{"n": "canary"}"#, "a field is missing or of another kind, at line 1 column 14"),
            (r#"{"n": canary}"#, "no JSON, at line 1 column 7"),
            (r#"{"n": "#, "it breaks off, at line 1 column 6"),
        ];
        for (text, words) in rows {
            let read = serde_json::from_str::<std::collections::BTreeMap<String, u8>>(text);
            assert_eq!(unread(&read.unwrap_err()), words);
        }
    }
}
