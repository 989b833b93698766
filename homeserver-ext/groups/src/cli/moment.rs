//! Moments as people type them: so long ago, a day, or a day with a time.

use causeway_protocol::ids::Timestamp;
use jiff::{Timestamp as Moment, civil::DateTime, tz::TimeZone};

use super::span;

/// What was typed, before it is known when that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Typed {
    /// So many seconds ago.
    Ago(u32),
    /// A day, or a time of it, here.
    Local(DateTime),
    /// A moment everywhere.
    At(Moment),
}

/// `90s`, `15m`, `12h` or `7d` ago; `2026-11-27`, which is its beginning, `2026-11-27T14:03`, or that with an offset.
///
/// # Errors
/// It is none of these.
pub(super) fn parse(text: &str) -> Result<Typed, String> {
    if let Ok(seconds) = span::parse(text) {
        return Ok(Typed::Ago(seconds));
    }
    if let Ok(moment) = text.parse() {
        return Ok(Typed::At(moment));
    }
    let wrong =
        || format!("`{text}` is no moment: write it like 7d (ago), 2026-11-27 or 2026-11-27T14:03");
    text.parse().map(Typed::Local).map_err(|_| wrong())
}

impl Typed {
    /// When that is, in the zone of this machine.
    pub(super) fn at(self, now: Timestamp) -> Timestamp {
        self.at_in(&TimeZone::system(), now)
    }

    fn at_in(self, zone: &TimeZone, now: Timestamp) -> Timestamp {
        let moment = match self {
            Self::Ago(seconds) => return now.minus_ms(u64::from(seconds) * 1_000),
            Self::At(moment) => Some(moment),
            Self::Local(time) => zone.to_timestamp(time).ok(),
        };
        let ms = moment.map_or(0, Moment::as_millisecond);
        Timestamp(u64::try_from(ms).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::offset;

    use super::*;

    #[test]
    fn a_moment_is_read_as_it_is_typed() {
        let (now, east) = (Timestamp(1_764_000_000_000), offset(2).to_time_zone());
        for (text, ms) in [
            ("90s", now.0 - 90_000),
            ("7d", now.0 - 604_800_000),
            ("1970-01-02", 86_400_000 - 7_200_000),
            ("1970-01-02T03:00", 86_400_000 + 3_600_000),
            ("1970-01-02T03:00Z", 86_400_000 + 10_800_000),
            ("1960-01-01", 0),
        ] {
            assert_eq!(parse(text).unwrap().at_in(&east, now), Timestamp(ms), "{text}");
        }
        for text in ["", "yesterday", "2026-13-01", "27.11.2026"] {
            assert!(parse(text).unwrap_err().contains("2026-11-27T14:03"), "{text}");
        }
    }
}
