//! Of a call: those of Matrix who are in it, or are awaited.

use std::collections::BTreeSet;

use causeway_protocol::{
    api::{CallGuest, CallMember, CallWhom},
    call::Who,
    ids::Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{Row, native};

/// Those who were taken out that a state names: it has to fit an envelope.
const KICKED_SHOWN: usize = 4;

/// One of Matrix who asked to be let in, under one of the names that his device may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Guest {
    pub(crate) who: Who,
    pub(crate) asked_ms: Timestamp,
    /// What his room calls him.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// Whether LiveKit shows him under that name, and sound of his.
    #[serde(default)]
    pub(crate) is_there: bool,
    #[serde(default)]
    pub(crate) speaks: bool,
    /// The focus of the server for calls on which he speaks, where that is not this home's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) focus: Option<String>,
    /// The event by which his hand is raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hand: Option<String>,
}

/// One of Matrix who was taken out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kicked {
    pub(crate) user: String,
    pub(crate) device: String,
    /// Until when he may not come back.
    pub(crate) until_ms: Timestamp,
}

impl Row {
    /// Those of Matrix who take part, or are awaited.
    pub(crate) fn guests(&self) -> Vec<Who> {
        let call = &self.kept.call;
        let those = call.participants.keys().chain(call.awaited());
        those.filter(|who| native(who).is_none()).cloned().collect()
    }

    /// Whether LiveKit hears what is said: those of Matrix have no keys, since their rooms are not
    /// encrypted.
    pub(crate) fn is_clear(&self) -> bool {
        !self.guests().is_empty()
    }

    /// Where one of Matrix speaks, if that is not on this home's server for calls.
    pub(crate) fn focus_of(&self, who: &Who) -> Option<&str> {
        let mut his = self.kept.guests.values().filter(|guest| guest.who == *who);
        his.find_map(|guest| guest.focus.as_deref())
    }

    /// All places where those of Matrix who are in it speak, beside the home's.
    pub(crate) fn focuses(&self) -> BTreeSet<&str> {
        let there = self.kept.call.participants.keys();
        there.filter_map(|who| self.focus_of(who)).collect()
    }

    /// Natives who take part, and have not agreed that LiveKit hears them.
    pub(crate) fn unwilling(&self) -> Vec<Who> {
        let those = self.kept.call.participants.iter();
        let those = those.filter(|(who, it)| native(who).is_some() && !it.caps.may_degrade);
        those.map(|(who, _)| who.clone()).collect()
    }

    /// What somebody who takes part may be called on the server for bigger calls.
    pub(crate) fn names_there(&self, who: &Who) -> Vec<String> {
        match who {
            Who::Native(device) => vec![self.name_of(device)],
            Who::Matrix(user, device) => {
                let his = self.kept.guests.iter().filter(|(_, guest)| guest.who == *who);
                let plain = format!("{user}:{device}");
                his.map(|(name, _)| name.clone()).chain([plain]).collect()
            }
        }
    }

    /// Matrix users who declined, and are not in it.
    pub(super) fn declined_mirrors(&self) -> Vec<String> {
        let is_in = |user: &&String| {
            let those = self.kept.call.participants.keys();
            those.into_iter().any(|who| matches!(who, Who::Matrix(it, _) if it == *user))
        };
        self.kept.declined_mirrors.iter().filter(|user| !is_in(user)).cloned().collect()
    }

    /// Those of Matrix who were taken out last.
    pub(super) fn kicked(&self) -> Vec<CallWhom> {
        let whom =
            |it: &Kicked| CallWhom::Matrix { mirror: it.user.clone(), device: it.device.clone() };
        let beyond = self.kept.kicked.len().saturating_sub(KICKED_SHOWN);
        self.kept.kicked.iter().skip(beyond).map(whom).collect()
    }

    /// As those are told who may know of it.
    pub(super) fn shown_guests(&self) -> impl Iterator<Item = CallMember> + '_ {
        self.kept.call.participants.iter().filter_map(|(who, it)| {
            let Who::Matrix(user, device) = who else { return None };
            let plain = format!("{user}:{device}");
            let his = self.kept.guests.iter().filter(|(_, guest)| guest.who == *who);
            // A device may be there twice for a moment: by the name that stays.
            let best = his.max_by_key(|(name, guest)| {
                (guest.is_there, guest.speaks, **name == plain, guest.asked_ms)
            });
            let (sfu, guest) = best.map_or((&plain, None), |(name, guest)| (name, Some(guest)));
            let name = guest.and_then(|guest| guest.name.clone());
            let focus = self.focus_of(who);
            Some(CallMember::Matrix(CallGuest {
                name: name.unwrap_or_else(|| user.clone()),
                mirror: user.clone(),
                device: device.clone(),
                since_ms: it.since,
                // Of another server it is not known here.
                muted: focus.is_none() && !guest.is_some_and(|guest| guest.speaks),
                hand: self.kept.guests.values().any(|it| it.who == *who && it.hand.is_some()),
                sfu: sfu.clone(),
                focus: focus.map(ToOwned::to_owned),
                via: "matrix".to_owned(),
            }))
        })
    }
}
