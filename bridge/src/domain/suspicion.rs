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

fn follows(last: &str, txn: &str) -> bool {
    let number = |txn: &str| txn.parse::<u64>().ok();
    let next = number(last).and_then(|last| last.checked_add(1));
    last == txn || (next.is_some() && next == number(txn))
}

#[cfg(test)]
mod tests {
    use super::*;

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
