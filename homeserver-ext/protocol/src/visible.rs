//! What of a text can be seen (protocol §3.2).

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory as _};
use unicode_security::skeleton;

/// Whether it is drawn as nothing, and is no white space: what the skeleton of UTS #39 leaves nothing of
/// (default ignorables), controls, annotations, the empty braille cell, the note without a head, and
/// blanks between hieroglyphs.
pub fn is_invisible(c: char) -> bool {
    let mut bytes = [0; 4];
    c.is_control()
        || matches!(
            c,
            '\u{2800}' | '\u{fff9}'..='\u{fffb}' | '\u{13441}' | '\u{13442}' | '\u{1d159}'
        )
        || skeleton(c.encode_utf8(&mut bytes)).next().is_none()
}

/// Whether there is anything to see: what a name must have, and a topic that is not empty.
pub fn shows_something(text: &str) -> bool {
    text.chars().any(|c| !c.is_whitespace() && !is_invisible(c) && !is_mark(c))
}

/// Whether it only takes part in the look of what stands before it.
fn is_mark(c: char) -> bool {
    matches!(c.general_category(), GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark)
}

/// What two texts have in common that people would take for one another.
pub fn look(text: &str) -> String {
    let kept: String = text.chars().filter(|c| !is_invisible(*c)).collect();
    skeleton(&kept.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_is_nothing() {
        for nothing in [
            "",
            " ",
            "\u{200b}",
            "\u{3164}\u{2800}",
            "\t\u{a0}\u{202e}\u{e0020}\u{ad}",
            "\u{1d159}",
            "\u{13441}\u{13442}",
            "\u{300}",
            " \u{301}\u{20dd}\u{fe0f}",
        ] {
            assert!(!shows_something(nothing), "{nothing:?}");
        }
        for something in [
            "a",
            "\u{200b}.",
            "\u{1f9d1}\u{200d}\u{1f680}",
            "あ",
            "e\u{301}",
            "\u{93e}",
            "☺\u{fe0f}",
        ] {
            assert!(shows_something(something), "{something:?}");
        }
    }

    #[test]
    fn names_that_people_would_take_for_one_another_look_alike() {
        for alike in ["team\u{200b}", " team", "te\u{430}m"] {
            assert_eq!(look(alike), look("team"), "{alike:?}");
        }
        assert_ne!(look("teams"), look("team"));
    }
}
