//! Spans of time as people type and read them.

const UNITS: [(u32, char, &str); 4] =
    [(86_400, 'd', "day"), (3_600, 'h', "hour"), (60, 'm', "minute"), (1, 's', "second")];

/// Seconds, from `90`, `90s`, `15m`, `12h` or `7d`.
///
/// # Errors
/// It is none of these.
pub(super) fn parse(text: &str) -> Result<u32, String> {
    let wrong = || format!("`{text}` is no time: write it like 90s, 15m, 12h or 7d");
    let unit = UNITS.iter().find(|(_, letter, _)| text.ends_with(*letter));
    let (number, seconds) = match unit {
        Some((seconds, letter, _)) => (text.strip_suffix(*letter).unwrap_or(text), *seconds),
        None => (text, 1),
    };
    let number =
        number.trim_end().parse::<u32>().ok().and_then(|number| number.checked_mul(seconds));
    number.ok_or_else(wrong)
}

/// In the largest unit of which it is whole: `7 days`, `90 seconds`.
pub(super) fn in_words(seconds: u32) -> String {
    let whole = UNITS.iter().find(|(unit, ..)| seconds.is_multiple_of(*unit) && seconds >= *unit);
    let (unit, _, name) = whole.unwrap_or(&(1, 's', "second"));
    let count = seconds / unit;
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::{in_words, parse};

    #[test]
    fn spans_are_read_and_said() {
        for (text, seconds, words) in [
            ("90", 90, "90 seconds"),
            ("60s", 60, "1 minute"),
            ("15m", 900, "15 minutes"),
            ("36h", 129_600, "36 hours"),
            ("7d", 604_800, "7 days"),
            ("1d", 86_400, "1 day"),
            ("0", 0, "0 seconds"),
        ] {
            assert_eq!(parse(text), Ok(seconds), "{text}");
            assert_eq!(in_words(seconds), words);
        }
        for text in ["", "d", "-1", "1.5h", "1w", "4294967295d", "sieben"] {
            assert!(parse(text).unwrap_err().contains("7d"), "{text}");
        }
    }
}
