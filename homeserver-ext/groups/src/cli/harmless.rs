//! Text from others, made safe for a terminal.

/// Text that does nothing to a terminal: no control characters but line ends, which are indented so
/// that nobody can write a line that looks like another's, and no marks that reverse the order.
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\n    "),
            '\t' => out.push(' '),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A name, which is one line whatever its owner made of it.
pub fn one_line(name: &str) -> String {
    harmless(&name.replace(['\n', '\u{2028}', '\u{2029}'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_write_what_moves_the_cursor_or_forges_a_line() {
        assert_eq!(harmless("a\x1b[2Jb"), "a\u{fffd}[2Jb");
        assert_eq!(harmless("hi\n[group] bob: yes"), "hi\n    [group] bob: yes");
        assert_eq!(harmless("\u{202e}evil\r"), "\u{fffd}evil\u{fffd}");
        assert_eq!(one_line("tea\n[team] bob: yes\u{2028}no"), "tea [team] bob: yes no");
    }
}
