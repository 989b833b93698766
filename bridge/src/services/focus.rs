//! The focus: who of Matrix is let into calls, and why not (MSC4195, "authorisation service").
//!
//! Whoever asks shows an OpenID token of his homeserver, and must be in a room that is bridged. What he
//! is given, and what that does to the group's call, is the native server's to say.

mod flights;
mod leaves;
mod limits;

use std::net::IpAddr;

use causeway_protocol::ids::GroupId;
use causeway_store::Db;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, UserId};
use serde_json::Value;

pub use self::leaves::Leave;
use self::{flights::Flights, limits::Limits};
use super::Clock;
use crate::{
    domain::{
        ghost::Names,
        rtc::{SLOT, alias, identity, is_device},
    },
    gateway::{
        door::{Door, Given, Guest, NotLetIn},
        matrix::{Matrix, MatrixError},
        openid::{OpenId, OpenIdError},
    },
    storage::{self, portals},
};

/// Tokens that one user may ask for at once, and after how many ms for another: a client asks two or
/// three times when it comes in.
const OF_USER: (u32, u64) = (12, 5_000);
/// Likewise those behind one address, whose users are not known yet.
const OF_ADDRESS: (u32, u64) = (60, 500);
/// Longest that an id of a member may be, in bytes.
const MAX_MEMBER: usize = 512;
/// Longest OpenID token, in bytes.
const MAX_TOKEN: usize = 1_024;

/// What it works with.
pub struct Focus {
    parts: Parts,
    flights: Flights,
    users: Limits<OwnedUserId>,
    addresses: Limits<IpAddr>,
}

/// What it works with, from outside.
pub struct Parts {
    /// `bridge.db`.
    pub db: Db,
    /// Our homeserver.
    pub matrix: Matrix,
    /// Who is who on our server.
    pub names: Names,
    /// All homeservers.
    pub openid: OpenId,
    /// The native server, where there is a token for its door.
    pub door: Option<Door>,
    /// Whether leaves of calls are taken over: not without a LiveKit that knows who is in one.
    pub takes_leaves: bool,
    /// Whether those are let in as well who are in a room that is not bridged, and the bot too.
    pub other_rooms: bool,
    /// What time it is.
    pub clock: Clock,
}

/// What somebody asks for.
pub struct Wish {
    /// The call of which room.
    pub room: OwnedRoomId,
    /// The homeserver that gave the token.
    pub server: OwnedServerName,
    /// The token.
    pub token: String,
    /// With which device.
    pub device: String,
    /// Where the client says who it is, and what it is called in the call: user and member id.
    pub claim: Option<(String, String)>,
    /// The leave of the call that it leaves to us, if it does.
    pub leave: Option<Leave>,
}

/// Who asks.
struct Found {
    user: OwnedUserId,
    group: Option<GroupId>,
    name: Option<String>,
    identity: String,
}

/// Why somebody is not let in.
#[derive(Debug, thiserror::Error)]
pub enum FocusError {
    /// Asks again after so many ms.
    #[error("too many tokens were asked for; again in {0} ms")]
    TooOften(u64),
    /// A client's mistake.
    #[error("{0}")]
    Malformed(&'static str),
    /// Too many leaves are ours already.
    #[error("as many leaves of calls are left to this server as may be")]
    TooManyLeaves,
    /// Not who he says.
    #[error("this OpenID token is {0}'s, and not of whom the request claims")]
    NotHis(OwnedUserId),
    /// Ours is who says so, and none of ours asks here: other homeservers' focuses are shown such tokens, and
    /// one that means harm would come by them as the native.
    #[error(
        "this OpenID token is of a native's ghost, who comes into calls by the native's own client"
    )]
    OfGhost,
    /// The homeserver has its doubts.
    #[error(transparent)]
    OpenId(OpenIdError),
    /// It is not for him.
    #[error("you are not in this room")]
    NotJoined,
    /// Not ours.
    #[error("this room is not bridged into a group: calls here are for rooms that are")]
    NotBridged,
    /// What the native server says.
    #[error(transparent)]
    NotLetIn(#[from] NotLetIn),
    /// Our homeserver does not answer: later.
    #[error("the homeserver does not answer; try again")]
    Homeserver,
    /// Ours.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<causeway_store::Error> for FocusError {
    fn from(error: causeway_store::Error) -> Self {
        Self::Storage(error.into())
    }
}

impl Focus {
    /// Ready to be asked.
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            flights: Flights::default(),
            users: Limits::new(OF_USER),
            addresses: Limits::new(OF_ADDRESS),
        }
    }

    /// What lets him into the call that he asks for; `from` is where he asks.
    ///
    /// # Errors
    /// [`FocusError`]: nothing is another.
    pub async fn token(&self, from: Option<IpAddr>, wish: &Wish) -> Result<Given, FocusError> {
        let outcome = self.judged(from, wish).await;
        let name = match &outcome {
            Ok(_) => "given",
            Err(FocusError::TooOften(_)) => "too_often",
            Err(FocusError::Malformed(_) | FocusError::TooManyLeaves) => "malformed",
            Err(FocusError::NotHis(_) | FocusError::OfGhost | FocusError::OpenId(_)) => "not_his",
            Err(FocusError::NotJoined) => "not_joined",
            Err(FocusError::NotBridged) => "not_bridged",
            Err(FocusError::NotLetIn(NotLetIn::Refused(_))) => "refused",
            Err(FocusError::NotLetIn(NotLetIn::Away(_))) => "no_sfu",
            Err(FocusError::Homeserver | FocusError::Storage(_)) => "failed",
        };
        metrics::counter!("causeway_focus_tokens_total", "outcome" => name).increment(1);
        outcome
    }

    /// Takes over the leave of a call, of a device that is let in already.
    ///
    /// # Errors
    /// [`FocusError`]: nothing is another.
    pub async fn delegate(&self, from: Option<IpAddr>, wish: &Wish) -> Result<(), FocusError> {
        let found = self.found(from, wish).await?;
        self.take_over(wish, &found).await
    }

    /// Whether leaves of calls can be left to us.
    pub const fn takes_leaves(&self) -> bool {
        self.parts.takes_leaves && self.parts.door.is_some()
    }

    async fn judged(&self, from: Option<IpAddr>, wish: &Wish) -> Result<Given, FocusError> {
        let Found { user, group, name, identity } = self.found(from, wish).await?;
        let Some(door) = &self.parts.door else {
            let why = "The server that carries calls is not reachable.".to_owned();
            return Err(NotLetIn::Away(why).into());
        };
        let guest = Guest {
            group,
            room: alias(wish.room.as_str(), SLOT),
            identity: identity.clone(),
            device: wish.device.clone(),
            // Whoever is of another homeserver sends to that one's, and only listens here.
            publish: user.server_name() == self.parts.names.server(),
            name,
            user: user.clone(),
        };
        if wish.leave.is_some() {
            // Refused, he asks again without.
            self.take_over(wish, &Found { user, group, name: None, identity }).await?;
        }
        Ok(door.let_in(&guest).await?)
    }

    /// Who asks, and of which group's room, which he is in.
    async fn found(&self, from: Option<IpAddr>, wish: &Wish) -> Result<Found, FocusError> {
        let now = || (self.parts.clock)();
        if let Some(from) = from {
            self.addresses.take(now(), limits::household(from)).map_err(FocusError::TooOften)?;
        }
        if !is_device(&wish.device) {
            return Err(FocusError::Malformed("the device's id is empty, too long, or no id here"));
        }
        if wish.token.is_empty() || wish.token.len() > MAX_TOKEN {
            return Err(FocusError::Malformed("the OpenID token is empty, or too long to be one"));
        }
        let member = wish.claim.as_ref().map(|(_, member)| member.as_str());
        if member.is_some_and(|member| member.is_empty() || member.len() > MAX_MEMBER) {
            return Err(FocusError::Malformed("the member's id is empty, or too long"));
        }
        if let Some(leave) = &wish.leave {
            leave.check()?;
        }
        let user = self.flights.whose(&self.parts.openid, now, (&wish.server, &wish.token)).await;
        let user = user.map_err(FocusError::OpenId)?;
        if self.parts.names.is_ours(&user) {
            return Err(FocusError::OfGhost);
        }
        if wish.claim.as_ref().is_some_and(|(claimed, _)| *claimed != *user.as_str()) {
            return Err(FocusError::NotHis(user));
        }
        self.users.take(now(), user.clone()).map_err(FocusError::TooOften)?;
        let group = portals::group_of(&mut self.parts.db.read().await?, &wish.room).await?;
        if group.is_none() && !self.parts.other_rooms {
            return Err(FocusError::NotBridged);
        }
        let name = self.joined(wish, &user).await?;
        let identity = identity(user.as_str(), &wish.device, member);
        Ok(Found { user, group, name, identity })
    }

    /// What he is called in the room, which he is in now, and the bot as well.
    async fn joined(&self, wish: &Wish, user: &UserId) -> Result<Option<String>, FocusError> {
        let Parts { matrix, names, .. } = &self.parts;
        let state = matrix.state(names.bot(), &wish.room, "m.room.member", user.as_str()).await;
        match state {
            Ok(Some(member)) if member.get("membership").is_some_and(|it| it == "join") => {
                let name = member.get("displayname").and_then(Value::as_str);
                Ok(name.map(ToOwned::to_owned))
            }
            Ok(_) => Err(FocusError::NotJoined),
            Err(MatrixError::Refused(..)) => Err(FocusError::NotBridged),
            Err(error) => {
                tracing::warn!(%error, "nobody is let into calls");
                Err(FocusError::Homeserver)
            }
        }
    }
}
