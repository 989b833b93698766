//! Bytes as the ops that somebody offers, one after the other: whatever they are, what was installed
//! stays, is known again, and makes the same roster in the hands of a second reader.

use std::sync::Arc;

use causeway_protocol::roster::{Log, Offer, Op, Roster};

/// Splits `bytes` into pieces, each behind be16 of its length; the last one may be cut off.
pub(crate) fn pieces(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let at = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (piece, rest) = rest.split_at(at);
        bytes = rest;
        Some(piece)
    })
}

/// Offers all of them, and returns how many were installed.
pub(crate) fn play(bytes: &[u8]) -> usize {
    let mut ops = pieces(bytes).filter_map(|piece| Op::parse(piece).ok());
    let Some(first) = ops.next() else { return 0 };
    let Ok(mut log) = Log::begin(&first) else { return 0 };
    let mut installed = vec![first];
    for op in ops.take(64) {
        let before = Arc::clone(log.head());
        match log.offer(&op) {
            Offer::Installed(_) => {
                assert_eq!(log.head().epoch(), op.epoch());
                assert!(matches!(log.offer(&op), Offer::Known(epoch) if epoch == op.epoch()));
                installed.push(op);
            }
            Offer::Known(epoch) => {
                // Whatever its signature, which is no part of what it is named by.
                assert_eq!(installed[epoch.0 as usize].core(), op.core());
                assert_eq!(log.head().hash(), before.hash());
            }
            Offer::Ahead(_) | Offer::Forgotten | Offer::Fork(_) | Offer::Invalid(_) => {
                assert_eq!(log.head().hash(), before.hash());
            }
        }
    }
    let head = Arc::clone(log.head());
    assert_eq!(Roster::from_row(&head.to_row()).expect("what was written").hash(), head.hash());
    let count = installed.len();
    let again = Roster::replay(None, installed).expect("each was valid");
    assert_eq!(again.hash(), head.hash());
    count
}
