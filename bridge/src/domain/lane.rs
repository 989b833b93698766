//! Whose order is kept, and which lane an effect takes.

use std::{fmt, str::FromStr};

use super::{
    effect::{Deed, InRoom},
    portal::{Portal, PortalId},
};

/// Effects of one lane are carried out first in, first out; lanes do not wait for each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// What goes into the portal's room.
    ToMatrix(PortalId),
    /// What goes into the portal's group.
    ToNative(PortalId),
    /// What the bot does beside what is said: nobody's words wait for it.
    Bot(PortalId),
    /// What is somebody's, after something of it failed that did not fail for others; until it is
    /// empty, whatever else is his comes here too.
    Aside(PortalId, String),
    /// The same of what the bot does beside: it does not wait for what is said either.
    BotAside(PortalId, String),
}

impl Lane {
    /// The lane that `deed` takes out of `portal`, as the portal is now.
    pub fn of(portal: &Portal, deed: &Deed) -> Self {
        let id = portal.id;
        match deed {
            Deed::InGroup(_) => Self::ToNative(id),
            // It says that the other lane stands still; the homeserver of somebody who is invited
            // may take its time; nobody's words wait for what others ask the bot; and what waits for
            // another room, or for the bot to be back, is said there.
            Deed::InRoom(
                InRoom::Pause
                | InRoom::Unread(_)
                | InRoom::Invite(_)
                | InRoom::InviteFor(..)
                | InRoom::Asked(..)
                | InRoom::Members(..)
                | InRoom::MakeAnew
                | InRoom::MakeInstead(_)
                | InRoom::Return,
            ) => Self::Bot(id),
            // What says nothing in the room goes on while the room is encrypted.
            Deed::InRoom(
                InRoom::Make
                | InRoom::Leave(_)
                | InRoom::PutOut(..)
                | InRoom::Close
                | InRoom::Follow(_),
            ) if portal.encrypted => Self::Bot(id),
            Deed::InRoom(
                InRoom::Say(_)
                | InRoom::Notice(_)
                | InRoom::Answer(..)
                | InRoom::Topic
                | InRoom::Rename
                | InRoom::Introduce
                | InRoom::Make
                | InRoom::Leave(_)
                | InRoom::PutOut(..)
                | InRoom::Close
                | InRoom::Follow(_),
            ) => Self::ToMatrix(id),
        }
    }

    /// Where what is of `who` goes once it has failed alone; `None` where that is here, or never.
    pub fn aside(&self, who: &str) -> Option<Self> {
        match self {
            Self::ToMatrix(portal) => Some(Self::Aside(*portal, who.to_owned())),
            Self::Bot(portal) => Some(Self::BotAside(*portal, who.to_owned())),
            Self::ToNative(_) | Self::Aside(..) | Self::BotAside(..) => None,
        }
    }

    /// The lane that `deed` is in when it is not put aside.
    #[must_use]
    pub fn home(&self, deed: &Deed) -> Self {
        match (self, deed) {
            // Versions before let what waits for another room stand in front of it.
            (Self::BotAside(portal, _), _)
            | (Self::Aside(portal, _), Deed::InRoom(InRoom::Invite(_) | InRoom::Unread(_)))
            | (
                Self::ToMatrix(portal),
                Deed::InRoom(InRoom::MakeAnew | InRoom::MakeInstead(_) | InRoom::Return),
            ) => Self::Bot(*portal),
            (Self::Aside(portal, _), _) => Self::ToMatrix(*portal),
            _ => self.clone(),
        }
    }

    /// The portal that it belongs to.
    pub fn portal(&self) -> PortalId {
        match self {
            Self::ToMatrix(portal)
            | Self::ToNative(portal)
            | Self::Bot(portal)
            | Self::Aside(portal, _)
            | Self::BotAside(portal, _) => *portal,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ToMatrix(PortalId(id)) => write!(f, "portal/{id}/to_matrix"),
            Self::ToNative(PortalId(id)) => write!(f, "portal/{id}/to_native"),
            Self::Bot(PortalId(id)) => write!(f, "bot/{id}"),
            Self::Aside(PortalId(id), who) => write!(f, "portal/{id}/to_matrix/{who}"),
            Self::BotAside(PortalId(id), who) => write!(f, "bot/{id}/{who}"),
        }
    }
}

/// The text is not that of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a lane")]
pub struct NotALane;

impl FromStr for Lane {
    type Err = NotALane;

    fn from_str(text: &str) -> Result<Self, NotALane> {
        let portal = |id: &str| id.parse().map(PortalId).map_err(|_| NotALane);
        if let Some(rest) = text.strip_prefix("bot/") {
            // The name of an account may have strokes in it.
            return match rest.split_once('/') {
                Some((id, who)) => Ok(Self::BotAside(portal(id)?, who.to_owned())),
                None => portal(rest).map(Self::Bot),
            };
        }
        let parts: Vec<&str> = text.splitn(4, '/').collect();
        match parts.as_slice() {
            ["portal", id, "to_matrix", who] => Ok(Self::Aside(portal(id)?, (*who).to_owned())),
            ["portal", id, "to_matrix"] => portal(id).map(Self::ToMatrix),
            ["portal", id, "to_native"] => portal(id).map(Self::ToNative),
            _ => Err(NotALane),
        }
    }
}

#[cfg(test)]
#[path = "lane_table.rs"]
pub(super) mod table;
