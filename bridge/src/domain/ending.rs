//! Who is told when something was given up, and what.

use super::{
    effect::{Deed, InGroup, InRoom},
    lane::Lane,
};

/// A word to the side that will not see what it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What is said, and where.
    pub notice: Deed,
    /// What it is about: of the same author, the same is told once in a while.
    pub about: String,
}

/// Whom to tell that `deed` of `author` was given up.
pub fn word_of(deed: &Deed, author: &str, reason: &str) -> Option<Word> {
    let text = |place| format!("What {author} said is not in the {place}: {reason}.");
    let (notice, about): (Deed, _) = match deed {
        Deed::InRoom(InRoom::Say(_)) => (InGroup::Notice(text("room")).into(), reason),
        Deed::InGroup(InGroup::Say(_)) => (InRoom::Notice(text("group")).into(), reason),
        Deed::InRoom(InRoom::Make | InRoom::MakeAnew | InRoom::MakeInstead(_)) => {
            (InGroup::Notice(format!("The group has no room: {reason}.")).into(), reason)
        }
        Deed::InRoom(InRoom::Invite(user) | InRoom::InviteFor(user, _)) => {
            let text = format!("{user} is not invited to the room: {reason}.");
            return Some(Word { notice: InGroup::Notice(text.clone()).into(), about: text });
        }
        Deed::InRoom(InRoom::Asked(event, ..)) => {
            let text = format!("What you asked for is not done: {reason}.");
            return Some(Word {
                notice: InRoom::Answer(text, event.clone()).into(),
                about: event.to_string(),
            });
        }
        Deed::InRoom(InRoom::Return) => {
            let text = format!("The bridge does not get back into the Matrix room: {reason}.");
            (InGroup::Notice(text).into(), reason)
        }
        Deed::InRoom(InRoom::Follow(room)) => {
            let text = format!("The bridge does not follow into {room}: {reason}.");
            (InGroup::Notice(text).into(), reason)
        }
        // A word about a word would have no end; the rest is nobody's but ours.
        Deed::InRoom(
            InRoom::Notice(_)
            | InRoom::Answer(..)
            | InRoom::Leave(_)
            | InRoom::PutOut(..)
            | InRoom::Topic
            | InRoom::Rename
            | InRoom::Introduce
            | InRoom::Members(..)
            | InRoom::Unread(_)
            | InRoom::Pause
            | InRoom::Close,
        )
        | Deed::InGroup(InGroup::Announce(..) | InGroup::Notice(_)) => return None,
    };
    Some(Word { notice, about: about.to_owned() })
}

/// Whom to tell that something of `author` in `lane` cannot be read any more.
pub fn word_of_unreadable(lane: &Lane, author: &str, reason: &str) -> Option<Word> {
    let text = |place| format!("Something by {author} is not done in the {place}: {reason}.");
    let notice: Deed = match lane {
        Lane::ToMatrix(_) | Lane::Aside(..) => InGroup::Notice(text("room")).into(),
        Lane::ToNative(_) => InRoom::Notice(text("group")).into(),
        Lane::Bot(_) | Lane::BotAside(..) => return None,
    };
    Some(Word { notice, about: reason.to_owned() })
}

#[cfg(test)]
#[path = "ending_table.rs"]
mod table;
