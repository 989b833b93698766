//! What a room is told of messages that nobody in the group keeps any more, and somebody did not
//! read.

use std::fmt;

use causeway_protocol::{
    api::{DeliveryState, RecipientStatus},
    ids::DeviceId,
};
use ruma::OwnedEventId;

/// Messages from a room that members of its group did not read in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// The event that said the first of them.
    pub first: OwnedEventId,
    /// How many there are besides.
    pub more: usize,
    /// Whether there may be more still, uncounted.
    pub and_above: bool,
    /// By how many members; of several messages, of the one that most did not read. `None` where the
    /// server does not know any more.
    pub unread: Option<Unread>,
}

/// Members who did not read a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unread {
    /// How many.
    pub by: usize,
    /// Of how many to whom it was sent and who are still there.
    pub of: usize,
}

impl Unread {
    /// Counts, of members by their devices, those to whom a message was sent and of whose devices
    /// none took it.
    pub fn count<'a>(
        members: impl Iterator<Item = &'a [DeviceId]>,
        recipients: &[RecipientStatus],
    ) -> Self {
        let mut unread = Self { by: 0, of: 0 };
        for devices in members {
            let mut own = recipients.iter().filter(|to| devices.contains(&to.device)).peekable();
            if own.peek().is_some() {
                unread.of += 1;
                // Of another server's it is not known whether they took what that one has.
                let may_have = [DeliveryState::Acked, DeliveryState::Relayed];
                unread.by += usize::from(own.all(|to| !may_have.contains(&to.state)));
            }
        }
        unread
    }
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { more, and_above, unread, .. } = self;
        let (were, up_to) = match (more, and_above) {
            (0, _) => (" was".to_owned(), ""),
            (more, false) => (format!(" and {more} more were"), "up to "),
            (more, true) => (format!(" and at least {more} more were"), "up to "),
        };
        write!(f, "This message{were} not read in time by ")?;
        match unread {
            Some(Unread { by, of }) => write!(f, "{up_to}{by} of {of} members of the group.")?,
            None => f.write_str("all members of the group.")?,
        }
        f.write_str(" It is not kept for them any longer.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_read_what_one_of_his_devices_took() {
        use DeliveryState::{Acked, Delivered, Expired, Queued, Relayed};
        let id = |n| DeviceId::new([n; 32]);
        let members = [vec![id(1), id(2)], vec![id(3)], vec![id(4)], vec![id(5), id(6)]];
        let table = [
            (vec![(1, Acked), (2, Expired), (3, Acked)], (0, 2)),
            (vec![(1, Expired), (2, Expired), (3, Acked), (4, Delivered)], (2, 3)),
            (vec![(2, Expired), (6, Queued)], (2, 2)),
            (vec![(3, Expired), (4, Relayed)], (1, 2)),
            // Whose devices these were is not there any more.
            (vec![(7, Expired), (3, Acked)], (0, 1)),
            (vec![], (0, 0)),
        ];
        for (states, (by, of)) in table {
            let status = |(n, state): &(u8, DeliveryState)| RecipientStatus {
                device: id(*n),
                state: *state,
                reason: None,
            };
            let recipients: Vec<RecipientStatus> = states.iter().map(status).collect();
            let counted = Unread::count(members.iter().map(Vec::as_slice), &recipients);
            assert_eq!(counted, Unread { by, of }, "{states:?}");
        }
    }

    #[test]
    fn one_notice_says_how_many() {
        let some = Some(Unread { by: 1, of: 3 });
        let table = [
            (0, false, some, "This message was not read in time by 1 of 3 members"),
            (0, false, None, "This message was not read in time by all members"),
            (
                2,
                false,
                some,
                "This message and 2 more were not read in time by up to 1 of 3 members",
            ),
            (2, false, None, "This message and 2 more were not read in time by all members"),
            (
                99,
                true,
                some,
                "This message and at least 99 more were not read in time by up to 1 of 3 members",
            ),
        ];
        for (more, and_above, unread, begins) in table {
            let expired = Expired { first: "$e".try_into().unwrap(), more, and_above, unread };
            let text = expired.to_string();
            assert_eq!(text, format!("{begins} of the group. It is not kept for them any longer."));
        }
    }
}
