//! Whether this machine's clock and the homeserver's agree, by the `Date` of what it answers.
//!
//! Messages have the homeserver's times, and what is too old by ours is dropped.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::UNIX_EPOCH,
};

use reqwest::header::{DATE, HeaderMap};

/// From here on people see what is expired, and nothing is delivered in time, seconds.
pub const WRONG: u64 = 60;
/// Below it both are right again, seconds: one that is off by a minute is not said to be so each time.
const RIGHT: u64 = 30;
/// What to do.
pub const REMEDY: &str =
    "set both clocks by NTP (`timedatectl`): what is old by a wrong clock is dropped";

/// Whether they were found to disagree.
#[derive(Debug, Default)]
pub(super) struct Clocks(AtomicBool);

/// What is new about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    /// They disagree now: by how much, in words.
    Wrong(String),
    /// They agree again.
    Right,
}

/// When an answer was given, in seconds since 1970 (RFC 9110, 5.6.7).
pub fn date(headers: &HeaderMap) -> Option<u64> {
    let time = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// How far this machine is off, in words.
pub fn difference(here: u64, theirs: u64) -> String {
    let which = if here < theirs { "behind" } else { "ahead of" };
    format!("this machine is {} s {which} the homeserver", here.abs_diff(theirs))
}

impl Clocks {
    /// Takes an answer of the time `theirs`, which came at the time `here`.
    pub(super) fn note(&self, here: u64, theirs: u64) -> Option<News> {
        let off = here.abs_diff(theirs);
        if off >= WRONG {
            let was_wrong = self.0.swap(true, Ordering::Relaxed);
            (!was_wrong).then(|| News::Wrong(difference(here, theirs)))
        } else if off < RIGHT {
            self.0.swap(false, Ordering::Relaxed).then_some(News::Right)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Clocks, News};

    #[test]
    fn a_clock_that_is_off_is_said_once_and_so_is_its_end() {
        let clocks = Clocks::default();
        let said = |here| clocks.note(here, 1_000);
        let wrong =
            |words: &str| Some(News::Wrong(format!("this machine is {words} the homeserver")));
        for (here, news) in [
            (1_000, None),
            (1_059, None),
            (1_300, wrong("300 s ahead of")),
            (1_300, None),
            // Neither wrong nor right.
            (1_040, None),
            (1_060, None),
            (1_002, Some(News::Right)),
            (1_001, None),
            (700, wrong("300 s behind")),
            (1_000, Some(News::Right)),
        ] {
            assert_eq!(said(here), news, "{here}");
        }
    }
}
