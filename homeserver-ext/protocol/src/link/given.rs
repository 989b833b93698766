//! How far what is kept for a peer was given, in numbers that outlive links and starts: so that a peer whose
//! database was put back from a copy is given again what it had taken (protocol §7.1).

use serde::{Deserialize, Serialize};

use crate::ids::StreamId;

/// What of a peer's stream is committed here, all of it up to this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Had {
    /// Absent: nothing of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamId>,
    /// 0 where nothing is.
    pub seq: u64,
}

/// What a frame's items stand for in their sender's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gives {
    /// The sender's stream: another one when its database was put back.
    pub stream: StreamId,
    /// All up to this number was given before.
    pub after: u64,
    /// With this frame all up to this number is.
    pub seq: u64,
    /// What the reader said that it has, where that is of no such stream: all behind that is in this frame
    /// and those before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Had>,
    /// Something between that and this frame is not kept any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gap: bool,
}

impl Had {
    /// Whether nothing is missing between what is here and what a frame gives.
    pub fn reaches(&self, gives: &Gives) -> bool {
        let is_same = self.stream == Some(gives.stream) && gives.after <= self.seq;
        is_same || gives.since == Some(*self)
    }

    /// The frame is committed.
    pub fn advance(&mut self, gives: &Gives) {
        let before = if self.stream == Some(gives.stream) { self.seq } else { 0 };
        *self = Self { stream: Some(gives.stream), seq: before.max(gives.seq) };
    }
}

#[cfg(test)]
mod tests {
    use super::{Gives, Had, StreamId};

    const MINE: StreamId = StreamId::new([1; 16]);
    const OTHER: StreamId = StreamId::new([2; 16]);

    #[test]
    fn a_frame_is_taken_where_nothing_is_missing_before_it() {
        let had = |stream, seq| Had { stream, seq };
        let here = had(Some(MINE), 10);
        let gives = |stream, after, since| Gives { stream, after, seq: 20, since, gap: false };
        let table = [
            (here, gives(MINE, 10, None), true),
            (here, gives(MINE, 9, None), true),
            (here, gives(MINE, 11, None), false),
            (here, gives(OTHER, 10, None), false),
            // Its stream is new, and it was told what is here.
            (here, gives(OTHER, 99, Some(here)), true),
            (here, gives(OTHER, 99, Some(had(Some(MINE), 9))), false),
            (here, gives(OTHER, 99, Some(Had::default())), false),
            // Nothing is here, and none was ever given.
            (Had::default(), gives(MINE, 0, None), false),
            (Had::default(), gives(MINE, 7, Some(Had::default())), true),
        ];
        for (here, gives, is_taken) in table {
            assert_eq!(here.reaches(&gives), is_taken, "{here:?} {gives:?}");
        }
    }

    #[test]
    fn what_is_had_never_goes_back_within_a_stream() {
        let mut had = Had::default();
        let mut advance = |stream, seq| {
            had.advance(&Gives { stream, after: 0, seq, since: None, gap: false });
            (had.stream, had.seq)
        };
        assert_eq!(advance(MINE, 5), (Some(MINE), 5));
        assert_eq!(advance(MINE, 3), (Some(MINE), 5));
        assert_eq!(advance(OTHER, 2), (Some(OTHER), 2));
    }
}
