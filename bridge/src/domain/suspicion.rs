//! When events of the homeserver may be missing, so that every room is read back first.

/// Whether something may be missing between the transactions `last` and `txn`.
///
/// Synapse counts them up by one and repeats the last until it is answered. Whatever else comes
/// shows a homeserver that began to count anew, or a transaction that never came.
pub fn is_gap(last: Option<&str>, txn: &str) -> bool {
    let Some(last) = last else { return false };
    let number = |txn: &str| txn.parse::<u64>().ok();
    let next = number(last).and_then(|last| last.checked_add(1));
    last != txn && (next.is_none() || next != number(txn))
}

#[cfg(test)]
mod tests {
    use super::is_gap;

    #[test]
    fn what_does_not_follow_is_a_gap() {
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
            assert_eq!(is_gap(last, txn), expected, "{last:?} {txn}");
        }
    }
}
