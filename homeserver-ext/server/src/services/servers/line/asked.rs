//! Groups of which the server may have ops that are not here, and those that it is asked for.

use causeway_protocol::ids::{GroupId, ItemId, Timestamp};

use super::Line;

/// Groups of which ops are lacked at once.
const MAX_LACKING: usize = 10_000;
/// Groups of which ops are asked for at once.
const ASKED_AT_ONCE: usize = 16;

/// A question for a group's ops.
pub(super) struct Asked {
    id: ItemId,
    group: GroupId,
    /// As good as lost then.
    until: Timestamp,
}

impl Line {
    /// Notes that the server may have ops of a group that are not here.
    pub(in super::super) fn lack(&mut self, group: GroupId) {
        let is_asked = self.asked.iter().any(|asked| asked.group == group);
        if !is_asked && self.lacking.len() < MAX_LACKING {
            self.lacking.insert(group);
        }
    }

    /// The next group of which ops are to be asked for; what a question that was lost asked for is asked again.
    pub(in super::super) fn next_lacking(&mut self, now: Timestamp) -> Option<GroupId> {
        let lost = self.asked.extract_if(.., |asked| asked.until <= now);
        self.lacking.extend(lost.map(|asked| asked.group));
        if self.asked.len() < ASKED_AT_ONCE { self.lacking.pop_first() } else { None }
    }

    /// Ops of a group are asked for.
    pub(in super::super) fn ops_asked(&mut self, id: ItemId, group: GroupId, until: Timestamp) {
        self.asked.push(Asked { id, group, until });
    }

    /// Of which group this answers a question for ops.
    pub(in super::super) fn ops_answered(&mut self, id: ItemId) -> Option<GroupId> {
        let nth = self.asked.iter().position(|asked| asked.id == id)?;
        Some(self.asked.swap_remove(nth).group)
    }

    /// The server has no more ops of a group.
    pub(in super::super) fn has_no_more(&mut self, group: GroupId) {
        if self.stuck_since.is_some() {
            self.in_vain.insert(group);
        }
    }

    /// Whether the frame whose turn it is waits for something.
    pub(in super::super) const fn is_stuck(&self) -> bool {
        self.stuck_since.is_some()
    }

    /// Whether it had no more when it was asked for the frame whose turn it is.
    pub(in super::super) fn is_in_vain(&self, group: GroupId) -> bool {
        self.in_vain.contains(&group)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use causeway_protocol::ids::{GroupId, ItemId, ServerLinkId, StreamId, Timestamp};

    use super::Line;
    use crate::storage::servers::{Known, given::Streams};

    #[test]
    fn what_a_question_that_was_lost_asked_for_is_asked_again() {
        let streams = Streams { mine: StreamId::new([9; 16]), former: Vec::new(), opened: 0 };
        let mut line = Line::new(ServerLinkId::new([1; 16]), Known::default(), Arc::new(streams));
        let (group, id) = (GroupId::new([2; 32]), ItemId::new([3; 16]));
        line.lack(group);
        assert_eq!(line.next_lacking(Timestamp(0)), Some(group));
        line.ops_asked(id, group, Timestamp(300));
        line.lack(group);
        assert_eq!(line.next_lacking(Timestamp(299)), None, "it is asked for");
        assert_eq!(line.next_lacking(Timestamp(300)), Some(group));
        // One that is answered is not.
        line.ops_asked(id, group, Timestamp(600));
        assert_eq!(line.ops_answered(id), Some(group));
        assert_eq!(line.next_lacking(Timestamp(600)), None);
    }
}
