//! What becomes of a message in a group that shares a key, of which another server says that it came behind a cut:
//! nobody there opens it (`docs/protocol.md` §7.3).

use causeway_protocol::{
    api::{DeliveryState, RecipientStatus},
    ids::Epoch,
    roster::{Roster, Scheme},
};

/// How another server says that it came behind a cut.
const REASON: &str = "stale_epoch";
/// How often one message is sealed anew at most: so many cuts in a row are no accident.
const MOST: u32 = 8;

/// What becomes of a message that not all have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Becomes {
    /// It is sealed anew.
    Anew,
    /// The room is told, as of any other.
    Told,
    /// The op behind which it came is not here yet.
    Waits,
}

/// Whether a message in this group may come to another server than `here` behind a cut, and be opened by nobody
/// there.
pub fn may_be(roster: &Roster, here: &str) -> bool {
    let members = roster.members();
    roster.scheme() == Scheme::SharedKey
        && members.values().any(|member| member.account.server() != here)
}

/// What becomes of a message that was `sealed` under one epoch, where the group is in another `now`, and that was
/// sealed `anew` so often; it `may` be again, if nobody is to read it who came since.
pub fn becomes(
    recipients: &[RecipientStatus],
    anew: u32,
    (sealed, now): (Epoch, Epoch),
    may: bool,
) -> Becomes {
    let is_late = |to: &RecipientStatus| {
        to.state == DeliveryState::Failed && to.reason.as_deref() == Some(REASON)
    };
    if anew >= MOST || !recipients.iter().any(is_late) {
        Becomes::Told
    } else if now <= sealed {
        Becomes::Waits
    } else if may {
        Becomes::Anew
    } else {
        Becomes::Told
    }
}

#[cfg(test)]
mod tests {
    use causeway_protocol::ids::DeviceId;

    use super::*;

    #[test]
    fn what_came_behind_a_cut_is_sealed_anew_once_the_op_is_here() {
        let to = |state, reason: Option<&str>| RecipientStatus {
            device: DeviceId::new([7; 32]),
            state,
            reason: reason.map(str::to_owned),
        };
        let late = || to(DeliveryState::Failed, Some(REASON));
        let table = [
            (vec![], 0, 5, Becomes::Told),
            (vec![to(DeliveryState::Expired, None)], 0, 5, Becomes::Told),
            (vec![to(DeliveryState::Expired, Some(REASON))], 0, 5, Becomes::Told),
            (vec![to(DeliveryState::Failed, Some("removed"))], 0, 5, Becomes::Told),
            (vec![to(DeliveryState::Acked, None), late()], 0, 5, Becomes::Anew),
            (vec![late()], 0, 4, Becomes::Waits),
            (vec![late()], MOST - 1, 5, Becomes::Anew),
            (vec![late()], MOST, 5, Becomes::Told),
        ];
        for (recipients, anew, now, expected) in table {
            let epochs = (Epoch(4), Epoch(now));
            let what = format!("{recipients:?} {anew} {now}");
            assert_eq!(becomes(&recipients, anew, epochs, true), expected, "{what}");
            let unless = if expected == Becomes::Anew { Becomes::Told } else { expected };
            assert_eq!(becomes(&recipients, anew, epochs, false), unless, "{what}");
        }
    }
}
