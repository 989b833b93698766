//! What a byte string says is to be done.

/// Messages that were sealed beforehand.
pub(super) const SEALED: usize = 1_024;

/// One step.
pub(super) enum Move<'a> {
    /// A message comes as it was sealed.
    Deliver(usize),
    /// One byte of it is another: which one, and by what it differs.
    Change(usize, usize, u8),
    /// Only its beginning comes.
    Cut(usize, usize),
    /// It comes as if in another conversation; which field of the context differs.
    Elsewhere(usize, u8),
    /// The receiver stops, and goes on with what it has stored.
    Restart,
    /// Another receiver begins, given what is ahead of this message.
    Newcomer(usize),
    /// Something that nobody sealed.
    Junk(&'a [u8]),
}

/// The steps, one after the other; the last is what is left over.
pub(super) fn moves(mut bytes: &[u8]) -> impl Iterator<Item = Move<'_>> {
    std::iter::from_fn(move || {
        let (&[kind, high, low], rest) = bytes.split_first_chunk()?;
        let number = usize::from(u16::from_be_bytes([high, low])) % SEALED;
        bytes = rest;
        let at = rest.first().map_or(0, |byte| usize::from(*byte));
        Some(match kind % 16 {
            0..=7 => Move::Deliver(number),
            8 | 9 => {
                bytes = rest.get(1..).unwrap_or_default();
                Move::Change(number, at, (kind >> 4) + 1)
            }
            10 => {
                bytes = rest.get(1..).unwrap_or_default();
                Move::Cut(number, at)
            }
            11 | 12 => Move::Elsewhere(number, kind >> 4),
            13 => Move::Restart,
            14 => Move::Newcomer(number),
            _ => {
                let (junk, rest) = rest.split_at(number.min(rest.len()));
                bytes = rest;
                Move::Junk(junk)
            }
        })
    })
    .take(96)
}

/// `wire` with one byte changed.
pub(super) fn changed(wire: &[u8], at: usize, by: u8) -> Vec<u8> {
    let mut wire = wire.to_vec();
    let at = at % wire.len();
    wire[at] ^= by;
    wire
}

/// The beginning of `wire`, never all of it.
pub(super) fn cut(wire: &[u8], at: usize) -> &[u8] {
    &wire[..at % wire.len()]
}
