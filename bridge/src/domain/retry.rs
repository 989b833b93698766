//! What a failed try means for what comes next (design §3, "Retries").

use causeway_protocol::ids::Timestamp;

use super::Outcome;

/// Longest wait before another try, milliseconds; full jitter makes it half of that on average.
const MAX_WAIT_MS: u64 = 120_000;
/// Longest wait before the first repeat, milliseconds.
const FIRST_WAIT_MS: u64 = 250;

/// How a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No answer: nobody knows whether it was done.
    #[error("no answer: {0}")]
    Unknown(String),
    /// Answered, and refused: status, code, text, and after how many milliseconds to come back.
    #[error("refused with {0} {1}: {2}")]
    Refused(u16, String, String, Option<u64>),
}

impl Failure {
    /// Whether the other side may have done it all the same.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Unknown(_) => true,
            Self::Refused(status, ..) => *status >= 500 || *status == 408,
        }
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
    let (wait, counts) = match failure {
        Failure::Unknown(_) => (jittered, false),
        Failure::Refused(_, code, ..) if is_token_fault(code) => return Outcome::Halt,
        Failure::Refused(429, _, _, after) => {
            (after.unwrap_or(0).min(MAX_WAIT_MS).max(jittered), false)
        }
        Failure::Refused(408 | 500..=599, ..) => (jittered, false),
        Failure::Refused(..) => (jittered, true),
    };
    if counts && tries.refused + 1 >= tries.limit {
        return Outcome::Dead(failure.to_string());
    }
    if !counts && now >= tries.expires_at {
        return Outcome::Dead(format!("its time has passed; last: {failure}"));
    }
    Outcome::Again(wait, counts)
}

fn is_token_fault(code: &str) -> bool {
    matches!(code, "M_UNKNOWN_TOKEN" | "M_MISSING_TOKEN")
}

/// Full jitter: anything from nothing to twice as long as the last time.
fn wait_ms(failures: u32, random: u64) -> u64 {
    let ceiling = FIRST_WAIT_MS.saturating_mul(1 << failures.min(16)).min(MAX_WAIT_MS);
    random % (ceiling + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIES: Tries =
        Tries { refused: 0, limit: 3, failures: 0, expires_at: Timestamp(1_000) };

    fn refused(status: u16, code: &str) -> Failure {
        Failure::Refused(status, code.to_owned(), String::new(), None)
    }

    #[test]
    fn only_answered_refusals_count() {
        let table = [
            (Failure::Unknown("reset".to_owned()), Outcome::Again(0, false)),
            (refused(408, "M_UNKNOWN"), Outcome::Again(0, false)),
            (refused(429, "M_LIMIT_EXCEEDED"), Outcome::Again(0, false)),
            (refused(500, "M_UNKNOWN"), Outcome::Again(0, false)),
            (refused(502, ""), Outcome::Again(0, false)),
            (refused(403, "M_FORBIDDEN"), Outcome::Again(0, true)),
            (refused(413, "M_TOO_LARGE"), Outcome::Again(0, true)),
            (refused(302, ""), Outcome::Again(0, true)),
            (refused(401, "M_UNKNOWN_TOKEN"), Outcome::Halt),
        ];
        for (failure, outcome) in table {
            assert_eq!(judge(&failure, TRIES, Timestamp(0), 0), outcome, "{failure}");
        }
    }

    #[test]
    fn the_limit_ends_refusals_and_time_ends_the_rest() {
        let last = Tries { refused: 2, ..TRIES };
        let away = Failure::Unknown("away".to_owned());
        assert!(matches!(judge(&refused(403, "X"), last, Timestamp(0), 0), Outcome::Dead(_)));
        assert_eq!(judge(&away, last, Timestamp(999), 0), Outcome::Again(0, false));
        assert!(matches!(judge(&away, last, Timestamp(1_000), 0), Outcome::Dead(_)));
    }

    #[test]
    fn waits_grow_to_two_minutes_and_obey_the_homeserver() {
        let ceiling = |failures| (0..50).map(|n| wait_ms(failures, u64::MAX - n)).max().unwrap();
        assert!(ceiling(0) <= FIRST_WAIT_MS);
        assert!(ceiling(40) <= MAX_WAIT_MS);
        let told = Failure::Refused(429, String::new(), String::new(), Some(5_000));
        assert_eq!(judge(&told, TRIES, Timestamp(0), 0), Outcome::Again(5_000, false));
    }
}
