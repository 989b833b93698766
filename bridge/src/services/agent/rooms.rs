//! The rooms of agents that carry what is for all of a group: made, entered and left as the native server
//! wishes, and told to it as they are (protocol §7.4).
//!
//! Here, too, nothing is kept: what is wished for is asked for, what is there is looked at, and what the two
//! make of each other are rules (`domain::relay_room`). Whatever a room does not carry the links do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use causeway_protocol::ids::GroupId;
use futures_util::future::join_all;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomAliasId, RoomId, UserId};
use serde_json::value::to_raw_value;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{Agent, Trouble};
use crate::{
    domain::{
        ghost::Names,
        relay_room::{self, Invites, Leaving, MESSAGE, Next, Tended, Wish},
    },
    gateway::{
        door::{DoorError, Post, Report},
        matrix::{MatrixError, ToAgent},
    },
    registration::AGENT,
    secret::Secret,
    steps::Step,
};

/// How soon it is looked again where something is missing.
const SOON: Duration = Duration::from_mins(1);
/// Likewise where nothing is.
const LATE: Duration = Duration::from_mins(10);
/// Invitations that are remembered.
const MAX_INVITES: usize = 1_000;

/// What the ways of the agent tell each other about rooms.
#[derive(Default)]
pub(super) struct Seen {
    inner: Mutex<Inner>,
    news: Notify,
}

#[derive(Default)]
struct Inner {
    /// What the native server said of its wishes last.
    moved: Option<u64>,
    /// Rooms into which an agent invited this one.
    invites: BTreeMap<OwnedRoomId, OwnedUserId>,
    /// Rooms of which it may not be known any more who is in them.
    changed: BTreeSet<OwnedRoomId>,
}

impl Seen {
    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// With what the native server is asked whether its wishes are others.
    pub(super) fn moved(&self) -> Option<u64> {
        self.with(|inner| inner.moved)
    }

    /// It answered with this.
    pub(super) fn has_moved(&self, moved: u64) {
        if self.with(|inner| inner.moved.replace(moved)) != Some(moved) {
            self.news.notify_one();
        }
    }

    /// The homeserver showed this.
    pub(super) fn came(&self, came: &mut ToAgent) {
        let (invites, changed) =
            (std::mem::take(&mut came.invites), std::mem::take(&mut came.changed));
        let invites: Vec<_> =
            invites.into_iter().filter(|(_, by)| by.localpart() == AGENT).collect();
        if invites.is_empty() && changed.is_empty() {
            return;
        }
        self.with(|inner| {
            for (room, by) in invites {
                relay_room::remember(&mut inner.invites, MAX_INVITES, room, by);
            }
            inner.changed.extend(changed);
        });
        self.news.notify_one();
    }

    /// A room does not take what it should.
    fn refuses(&self, room: OwnedRoomId) {
        self.with(|inner| inner.changed.insert(room));
        self.news.notify_one();
    }
}

/// Posts events, those of several rooms at once.
pub(super) async fn post(agent: &Agent, user: &UserId, seen: &Seen, posts: Vec<Post>) {
    join_all(posts.into_iter().map(async |Post { room, content }| {
        let txn = match Secret::random() {
            Ok(txn) => txn,
            Err(error) => return tracing::error!(%error, "no randomness"),
        };
        let Ok(content) = to_raw_value(&content) else { return };
        let sent = agent.matrix.post(user, &room, (MESSAGE, txn.expose()), &content).await;
        match sent {
            Ok(()) => agent.steps.reached(Step::PostedFrames).await,
            Err(error) => {
                // The links bring it.
                tracing::debug!(%error, "an event did not leave");
                seen.refuses(room);
            }
        }
    }))
    .await;
}

/// Keeps the rooms as they are wished for.
pub(super) async fn keep(agent: &Agent, user: &UserId, seen: &Seen) {
    let (mut keeper, mut trouble) = (Keeper::new(), Trouble::default());
    loop {
        let pause = match keeper.round(agent, user, seen).await {
            Ok(true) => LATE,
            Ok(false) => SOON,
            Err(error) => {
                trouble.pause("rooms of agents are not looked after", &error).await;
                continue;
            }
        };
        trouble.is_over();
        // Whichever comes first.
        let _ = timeout(pause, seen.news.notified()).await;
    }
}

/// Why a round did not come to its end.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Door(#[from] DoorError),
    #[error(transparent)]
    Matrix(#[from] MatrixError),
}

/// What is known from one round to the next.
struct Keeper {
    began: Instant,
    /// Of which start of the native server.
    of: Option<u32>,
    /// Rooms in which all is as it should be, and what was wished then.
    settled: BTreeMap<GroupId, Wish>,
    invites: Invites,
    leaving: Leaving,
    /// Rooms that the agent is in; none: not known.
    joined: Option<Vec<OwnedRoomId>>,
}

/// What comes of one wish.
struct Tending {
    report: Report,
    tended: Tended,
    is_settled: bool,
}

impl Tending {
    /// The room is over, and the agent not in it.
    fn over(wish: &Wish, room: OwnedRoomId) -> Self {
        let report = Report { group: wish.group, room, joined: None, leaving: BTreeSet::new() };
        Self { report, tended: Tended::default(), is_settled: true }
    }
}

impl Keeper {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            of: None,
            settled: BTreeMap::new(),
            invites: Invites::default(),
            leaving: Leaving::default(),
            joined: None,
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Looks once at what is wished for; whether all is so.
    async fn round(
        &mut self,
        agent: &Agent,
        user: &UserId,
        seen: &Seen,
    ) -> Result<bool, KeepError> {
        let wishes = agent.door.rooms().await?;
        seen.with(|inner| inner.moved = Some(wishes.moved));
        if self.of.replace(wishes.began) != Some(wishes.began) {
            self.settled.clear();
        }
        let (invites, changed) =
            seen.with(|inner| (inner.invites.clone(), std::mem::take(&mut inner.changed)));
        self.settled
            .retain(|_, wish| wish.room.as_ref().is_none_or(|room| !changed.contains(room)));
        let is_known = self.joined.is_some() && changed.is_empty();
        let joined = match self.joined.take().filter(|_| is_known) {
            Some(joined) => joined,
            None => agent.matrix.joined_rooms(user).await?,
        };
        let mut wanted: BTreeSet<OwnedRoomId> = BTreeSet::new();
        let mut all: Vec<(Wish, Tending)> = Vec::new();
        let mut is_all_settled = true;
        for wish in wishes.rooms {
            wanted.extend(wish.room.clone());
            if self.settled.get(&wish.group) == Some(&wish) {
                continue;
            }
            self.settled.remove(&wish.group);
            match self.look(agent, user, &wish, (&joined, &invites)).await {
                Ok(tending) => {
                    wanted.insert(tending.report.room.clone());
                    all.push((wish, tending));
                }
                Err(Looked::Waits) => is_all_settled = false,
                Err(Looked::Failed(error)) => {
                    tracing::debug!(%error, group = %wish.group, "a room of agents is not there yet");
                    is_all_settled = false;
                }
            }
        }
        for room in relay_room::unwanted(&joined, &wanted) {
            leave(agent, user, room).await;
        }
        self.leaving.keep(&wanted);
        let reports: Vec<_> = all.iter().map(|(_, tending)| tending.report.clone()).collect();
        if !reports.is_empty() {
            agent.door.report(&reports).await?;
            agent.steps.reached(Step::ReportedAgentsRooms).await;
        }
        let mut now_in: Vec<_> = joined.into_iter().filter(|room| wanted.contains(room)).collect();
        for (mut wish, Tending { report, tended, is_settled }) in all {
            if report.joined.is_some() && !now_in.contains(&report.room) {
                now_in.push(report.room.clone());
            }
            seen.with(|inner| inner.invites.remove(&report.room));
            let is_done = self.act(agent, user, (&report.room, tended)).await;
            is_all_settled &= is_settled;
            if is_done && is_settled {
                wish.room = Some(report.room);
                self.settled.insert(wish.group, wish);
            }
        }
        self.joined = Some(now_in);
        Ok(is_all_settled)
    }

    /// Goes into the room of one wish, or makes it, and looks who is there.
    async fn look(
        &self,
        agent: &Agent,
        user: &UserId,
        wish: &Wish,
        (joined, invites): (&[OwnedRoomId], &BTreeMap<OwnedRoomId, OwnedUserId>),
    ) -> Result<Tending, Looked> {
        let room = match relay_room::next(wish, user, joined, invites) {
            Next::Wait => return Err(Looked::Waits),
            Next::Over(room) => return Ok(Tending::over(wish, room)),
            Next::Look(room) => room,
            Next::Join(room) => {
                agent.matrix.join(user, (&*room).into()).await?;
                agent.steps.reached(Step::JoinedAgentsRoom).await;
                room
            }
            Next::Make => {
                let room = make(agent, user, wish).await?;
                agent.steps.reached(Step::MadeAgentsRoom).await;
                room
            }
        };
        let state = agent.matrix.whole_state(user, &room).await?;
        let tended = relay_room::tend(wish, user, &state);
        let is_settled = tended.is_settled(wish);
        let leaving = tended.leaving.iter().map(|who| who.server_name().to_owned()).collect();
        let report =
            Report { group: wish.group, room, joined: Some(tended.joined.clone()), leaving };
        Ok(Tending { report, tended, is_settled })
    }

    /// Invites who is missing, and puts out who does not belong there; whether nothing of that failed.
    async fn act(
        &mut self,
        agent: &Agent,
        user: &UserId,
        (room, tended): (&RoomId, Tended),
    ) -> bool {
        let mut is_done = true;
        let overdue = self.leaving.overdue(room, &tended.leaving, self.now_ms());
        for who in tended.put_out.iter().chain(&overdue) {
            let put_out = agent.matrix.kick(user, room, who, "not of this group").await;
            is_done &= put_out.is_ok();
        }
        for server in tended.invite {
            let now_ms = self.now_ms();
            if !self.invites.take(&server, now_ms) {
                is_done = false;
                continue;
            }
            match invite(agent, user, room, &server).await {
                Ok(()) => agent.steps.reached(Step::InvitedAgents).await,
                Err(error) => {
                    tracing::debug!(%error, %server, "its agent is not invited yet");
                    self.invites.refused(&server, now_ms);
                    is_done = false;
                }
            }
        }
        is_done
    }
}

/// Why a room is not looked at.
enum Looked {
    /// Nobody has let the agent in yet.
    Waits,
    /// The homeserver did not do it.
    Failed(MatrixError),
}

impl From<MatrixError> for Looked {
    fn from(error: MatrixError) -> Self {
        Self::Failed(error)
    }
}

async fn invite(
    agent: &Agent,
    user: &UserId,
    room: &RoomId,
    server: &OwnedServerName,
) -> Result<(), MatrixError> {
    let Ok(whom) = OwnedUserId::try_from(format!("@{AGENT}:{server}")) else { return Ok(()) };
    agent.matrix.invite(user, room, &whom, None).await
}

/// The room of a group of which this is the home: the one under its alias, where that is one, or a new one.
async fn make(agent: &Agent, user: &UserId, wish: &Wish) -> Result<OwnedRoomId, MatrixError> {
    let localpart = Names::relay_alias_localpart(&wish.group);
    let request = relay_room::make(&wish.group, &localpart);
    let made = agent.matrix.create_room(user, &request).await;
    let error = match made {
        Err(error) if error.is_code("M_ROOM_IN_USE") => error,
        made => return made,
    };
    let alias = RoomAliasId::parse(format!("#{localpart}:{}", agent.names.server()));
    let Ok(alias) = alias else { return Err(error) };
    if let Some(room) = agent.matrix.resolve_alias(&alias).await? {
        let state = agent.matrix.whole_state(user, &room).await.unwrap_or_default();
        let is_in = agent.matrix.joined_rooms(user).await?.contains(&room);
        if is_in && relay_room::is_its(&wish.group, user, &state) {
            return Ok(room);
        }
    }
    agent.matrix.drop_alias(user, &alias).await?;
    agent.matrix.create_room(user, &request).await
}

async fn leave(agent: &Agent, user: &UserId, room: &RoomId) {
    let left = agent.matrix.leave(user, room).await;
    let forgotten = match left {
        Ok(()) => agent.matrix.forget(user, room).await,
        error => error,
    };
    if let Err(error) = forgotten {
        tracing::debug!(%error, %room, "a room of agents is not left yet");
    }
}
