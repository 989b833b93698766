//! When events of the homeserver may be missing, so that it is asked before anything is routed.

/// How a transaction came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Came<'a> {
    /// Its number.
    pub txn: &'a str,
    /// The first on its connection: a homeserver that was away, or was another process.
    pub on_new_connection: bool,
    /// All of it could be read.
    pub whole: bool,
}

/// Whether something may be missing, where the transaction before was `last`.
///
/// Synapse counts them up by one and repeats the last until it is answered; when it starts again it
/// counts on from what it still has, so that even numbers that follow say little then.
pub fn is_doubtful(last: Option<&str>, came: Came<'_>) -> bool {
    came.on_new_connection || !came.whole || last.is_some_and(|last| !follows(last, came.txn))
}

/// Whether a homeserver that was asked from the place `since` on stands before it: it was put back,
/// and what it says since is not what the place was in.
///
/// Synapse takes a place of later for its own of now, and refuses nothing. Its places are `s123_…`,
/// or `m123~…` where several processes write; of others nothing is known.
pub fn went_back(since: &str, next: &str) -> bool {
    let number = |form: char, place: &str| {
        let place = place.strip_prefix(form)?;
        place.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    ['s', 'm'].into_iter().any(|form| {
        number(form, since).zip(number(form, next)).is_some_and(|(since, next)| next < since)
    })
}

fn follows(last: &str, txn: &str) -> bool {
    let number = |txn: &str| txn.parse::<u64>().ok();
    let next = number(last).and_then(|last| last.checked_add(1));
    last == txn || (next.is_some() && next == number(txn))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_place_of_the_same_form_is_one_of_before() {
        let table = [
            ("s10_2_3", "s10_9_9", false),
            ("s10_2_3", "s11_1_1", false),
            ("s10_2_3", "s9_3_4", true),
            ("s10", "s9", true),
            ("m10~1.12_5", "m9~1.11_5", true),
            ("m10~1.12_5", "m10~1.13_5", false),
            ("s10_2", "m9~1.11_5", false),
            ("10", "9", false),
            ("s", "s9", false),
            ("", "", false),
        ];
        for (since, next, expected) in table {
            assert_eq!(went_back(since, next), expected, "{since} {next}");
        }
    }

    #[test]
    fn what_does_not_follow_is_doubtful() {
        let table = [
            (None, "1", false),
            (None, "x", false),
            (Some("1"), "1", false),
            (Some("1"), "2", false),
            (Some("9"), "10", false),
            (Some("x"), "x", false),
            (Some("1"), "3", true),
            (Some("2"), "1", true),
            (Some("1"), "x", true),
            (Some("x"), "1", true),
            (Some("x"), "y", true),
            (Some("18446744073709551615"), "0", true),
        ];
        for (last, txn, expected) in table {
            let came = Came { txn, on_new_connection: false, whole: true };
            assert_eq!(is_doubtful(last, came), expected, "{last:?} {txn}");
            assert!(is_doubtful(last, Came { on_new_connection: true, ..came }));
            assert!(is_doubtful(last, Came { whole: false, ..came }));
        }
    }
}
