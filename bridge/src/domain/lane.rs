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
}

impl Lane {
    /// The lane that `deed` takes out of `portal`, as the portal is now.
    pub fn of(portal: &Portal, deed: &Deed) -> Self {
        let id = portal.id;
        match deed {
            Deed::InGroup(_) => Self::ToNative(id),
            // It says that the other lane stands still; and the homeserver of somebody who is
            // invited may take its time.
            Deed::InRoom(InRoom::Pause | InRoom::Invite(_)) => Self::Bot(id),
            // What says nothing in the room goes on while the room is encrypted.
            Deed::InRoom(InRoom::Leave(_) | InRoom::Close) if portal.encrypted => Self::Bot(id),
            Deed::InRoom(
                InRoom::Say(_)
                | InRoom::Notice(_)
                | InRoom::Make
                | InRoom::Leave(_)
                | InRoom::Close,
            ) => Self::ToMatrix(id),
        }
    }

    /// The portal that it belongs to.
    pub fn portal(&self) -> PortalId {
        match self {
            Self::ToMatrix(portal) | Self::ToNative(portal) | Self::Bot(portal) => *portal,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ToMatrix(PortalId(id)) => write!(f, "portal/{id}/to_matrix"),
            Self::ToNative(PortalId(id)) => write!(f, "portal/{id}/to_native"),
            Self::Bot(PortalId(id)) => write!(f, "bot/{id}"),
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
        let parts: Vec<&str> = text.split('/').collect();
        let (lane, id): (fn(PortalId) -> Self, &str) = match parts.as_slice() {
            ["portal", id, "to_matrix"] => (Self::ToMatrix, id),
            ["portal", id, "to_native"] => (Self::ToNative, id),
            ["bot", id] => (Self::Bot, id),
            _ => return Err(NotALane),
        };
        id.parse().map(|id| lane(PortalId(id))).map_err(|_| NotALane)
    }
}

#[cfg(test)]
#[path = "lane_table.rs"]
pub(super) mod table;
