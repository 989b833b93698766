//! What a failed try means for what comes next (design §3, "Retries").

use causeway_protocol::ids::Timestamp;

use super::Outcome;

/// Longest wait before another try, milliseconds; full jitter makes it half of that on average.
const MAX_WAIT_MS: u64 = 120_000;
/// Longest wait before the first repeat, milliseconds.
const FIRST_WAIT_MS: u64 = 250;

/// How a try failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No answer, or 408 or 5xx: it may have been done all the same.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// Not reached, or 429: it was not done; after how many milliseconds to come back.
    #[error("not now: {0}")]
    NotNow(String, Option<u64>),
    /// The homeserver does not take our token.
    #[error("the homeserver does not take the token of the application service")]
    Token,
    /// Answered, and refused for itself.
    #[error("{0}")]
    Refused(String),
    /// It has become impossible, whatever the homeserver would say.
    #[error("{0}")]
    Gone(String),
}

impl Failure {
    /// Whether the other side may have done it all the same.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// Whether the other side was not there, rather than busy with us.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::NotNow(_, None))
    }
}

/// Where a row stands when a try has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tries {
    /// Answered refusals before this one.
    pub refused: u32,
    /// At how many of them it is given up.
    pub limit: u32,
    /// Failures of its lane in a row before this one.
    pub failures: u32,
    /// When it ends being of use.
    pub expires_at: Timestamp,
}

/// What follows from `failure`; `random` is a uniform 64-bit number.
///
/// Only answered refusals count; whatever may pass by itself is tried until the message's end.
pub fn judge(failure: &Failure, tries: Tries, now: Timestamp, random: u64) -> Outcome {
    let jittered = wait_ms(tries.failures, random);
    let wait = match failure {
        Failure::Token => return Outcome::Halt,
        Failure::Gone(reason) => return Outcome::Dead(reason.clone()),
        Failure::Refused(_) if tries.refused + 1 >= tries.limit => {
            return Outcome::Dead(failure.to_string());
        }
        Failure::Refused(_) => return Outcome::Again(jittered, true),
        Failure::Unknown(_) => jittered,
        Failure::NotNow(_, after) => after.unwrap_or(0).min(MAX_WAIT_MS).max(jittered),
    };
    if now >= tries.expires_at {
        return Outcome::Dead(format!("its time has passed; last: {failure}"));
    }
    Outcome::Again(wait, false)
}

/// Full jitter: anything from nothing to twice as long as the last time.
fn wait_ms(failures: u32, random: u64) -> u64 {
    let ceiling = FIRST_WAIT_MS.saturating_mul(1 << failures.min(16)).min(MAX_WAIT_MS);
    random % (ceiling + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIES: Tries = Tries { refused: 0, limit: 3, failures: 0, expires_at: Timestamp(1_000) };

    fn refused() -> Failure {
        Failure::Refused("403".to_owned())
    }

    fn away() -> Failure {
        Failure::Unknown("away".to_owned())
    }

    #[test]
    fn only_answered_refusals_count() {
        let table = [
            (away(), Outcome::Again(0, false)),
            (Failure::NotNow(String::new(), None), Outcome::Again(0, false)),
            (refused(), Outcome::Again(0, true)),
            (Failure::Token, Outcome::Halt),
        ];
        for (failure, outcome) in table {
            assert_eq!(judge(&failure, TRIES, Timestamp(0), 0), outcome, "{failure}");
        }
    }

    #[test]
    fn who_did_not_answer_is_away_and_may_have_done_it() {
        let table = [
            (away(), true, true),
            (Failure::NotNow(String::new(), None), false, true),
            (Failure::NotNow(String::new(), Some(1)), false, false),
            (Failure::Token, false, false),
            (refused(), false, false),
            (Failure::Gone(String::new()), false, false),
        ];
        for (failure, unknown, is_away) in table {
            assert_eq!((failure.is_unknown(), failure.is_away()), (unknown, is_away), "{failure}");
        }
    }

    #[test]
    fn the_limit_ends_refusals_and_time_ends_the_rest() {
        let last = Tries { refused: 2, ..TRIES };
        assert!(matches!(judge(&refused(), last, Timestamp(0), 0), Outcome::Dead(_)));
        assert_eq!(judge(&away(), last, Timestamp(999), 0), Outcome::Again(0, false));
        assert!(matches!(judge(&away(), last, Timestamp(1_000), 0), Outcome::Dead(_)));
    }

    #[test]
    fn waits_grow_to_two_minutes_and_obey_the_homeserver() {
        let ceiling = |failures| (0..50).map(|n| wait_ms(failures, u64::MAX - n)).max().unwrap();
        assert!(ceiling(0) <= FIRST_WAIT_MS);
        assert!(ceiling(40) <= MAX_WAIT_MS);
        for (failures, longest) in [(0, 250), (1, 500), (8, 64_000), (9, 120_000), (40, 120_000)] {
            assert_eq!(wait_ms(failures, longest), longest, "{failures}");
            assert_eq!(wait_ms(failures, longest + 1), 0, "{failures}");
        }
        let told = Failure::NotNow(String::new(), Some(5_000));
        assert_eq!(judge(&told, TRIES, Timestamp(0), 0), Outcome::Again(5_000, false));
    }
}
