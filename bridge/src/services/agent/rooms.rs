//! The rooms of agents that carry what is for all of a group: made, entered and left as the native server
//! wishes, and told to it as they are (protocol §7.4).
//!
//! What is wished for is asked for, what is there is looked at, and what the two make of each other are rules
//! (`domain::relay_room`). Whatever a room does not carry the links do. Only whom it has invited is kept.

mod again;

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

use self::again::Invitations;
use super::{Agent, Remedy};
use crate::{
    domain::{
        ghost::Names,
        relay_room::{self, Invites, Leaving, MESSAGE, Next, Tended, Untold, Wish},
    },
    gateway::{
        door::{DoorError, Post, Report},
        matrix::{MatrixError, ToAgent},
    },
    registration::AGENT,
    secret::Secret,
    steps::Step,
    storage,
};

/// How soon it is looked again where something is missing.
const SOON: Duration = Duration::from_mins(1);
/// Likewise where nothing is.
const LATE: Duration = Duration::from_mins(10);
/// Invitations that are remembered.
const MAX_INVITES: usize = 1_000;
/// Invitations that wait to be declined; what is beyond is found again when these are.
const MAX_STRANGERS: usize = 1_000;
/// Shortest time between two that are declined.
const DECLINE_EVERY: Duration = Duration::from_millis(100);
/// How often in a row it is looked what is left of invitations that are too many to be read at once.
const MAX_LOOKS: u32 = 100;

/// What the ways of the agent tell each other about rooms.
#[derive(Default)]
pub(super) struct Seen {
    inner: Mutex<Inner>,
    news: Notify,
    /// There is something to be declined, or to look for.
    strangers: Notify,
}

#[derive(Default)]
struct Inner {
    /// What the native server said of its wishes last.
    moved: Option<u64>,
    /// Rooms into which an agent invited this one.
    invites: BTreeMap<OwnedRoomId, OwnedUserId>,
    /// Rooms of which it may not be known any more who is in them.
    changed: BTreeSet<OwnedRoomId>,
    /// So it is with all of them.
    is_all_changed: bool,
    /// Rooms into which the agent does not go: their invitations are to be declined.
    strangers: BTreeSet<OwnedRoomId>,
    /// There may be invitations of which nothing is known.
    lacks_invites: bool,
    /// Rooms of which homes have told, each with its home.
    told: BTreeSet<(OwnedRoomId, OwnedServerName)>,
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
        if came.lacks_rooms {
            self.with(|inner| (inner.is_all_changed, inner.lacks_invites) = (true, true));
            self.strangers.notify_one();
        }
        if !invites.is_empty() {
            self.invited(invites);
        }
        if !changed.is_empty() || came.lacks_rooms {
            self.with(|inner| inner.changed.extend(changed));
            self.news.notify_one();
        }
    }

    /// Somebody invites the agent: the agents of other servers may, and all others are declined.
    fn invited(&self, invites: impl IntoIterator<Item = (OwnedRoomId, Option<OwnedUserId>)>) {
        self.with(|inner| {
            for (room, by) in invites {
                let by = by.filter(|by| relay_room::may_be_relayed(Some(by)));
                match by {
                    Some(by) => {
                        relay_room::remember(&mut inner.invites, MAX_INVITES, room, by);
                    }
                    None => inner.declines(room),
                }
            }
        });
        self.news.notify_one();
        self.strangers.notify_one();
    }

    /// The next invitation that is to be declined, where there is one.
    fn stranger(&self) -> Option<OwnedRoomId> {
        self.with(|inner| inner.strangers.pop_first())
    }

    /// A room does not take what it should.
    fn refuses(&self, room: OwnedRoomId) {
        self.with(|inner| inner.changed.insert(room));
        self.news.notify_one();
    }
}

impl Inner {
    /// An invitation is to be declined; where too many wait for that, it is looked for again.
    fn declines(&mut self, room: OwnedRoomId) {
        if self.strangers.len() < MAX_STRANGERS {
            self.strangers.insert(room);
        } else {
            self.lacks_invites = true;
        }
    }
}

/// Declines invitations into what are no relay rooms, one after the other. Left standing, each would be in the
/// first answer to `/sync` after every start, with as much in it as its sender likes.
pub(super) async fn decline(agent: &Agent, user: &UserId, seen: &Seen) {
    let mut trouble = agent.trouble("invitations");
    loop {
        let mut is_done = true;
        while let Some(room) = seen.stranger() {
            is_done &= decline_one(agent, user, &room).await;
        }
        if seen.with(|inner| std::mem::take(&mut inner.lacks_invites)) {
            match look_for_invites(agent, user, seen).await {
                Ok(all) => is_done &= all,
                Err(error) => {
                    seen.with(|inner| inner.lacks_invites = true);
                    trouble.pause("invitations of the agent are not looked at", &error).await;
                    continue;
                }
            }
        }
        if is_done {
            trouble.is_over();
            seen.strangers.notified().await;
        } else {
            trouble.stands(
                "invitations of strangers cannot be declined",
                "the homeserver's log says why it does not let @_causeway leave; until then they are read \
                 anew every ten minutes",
                LATE,
            );
            let _ = timeout(LATE, seen.strangers.notified()).await;
            seen.with(|inner| inner.lacks_invites = true);
        }
    }
}

/// Declines one; whether it is.
async fn decline_one(agent: &Agent, user: &UserId, room: &RoomId) -> bool {
    let is_left = leave(agent, user, room).await;
    if is_left {
        metrics::counter!("causeway_servers_invitations_declined_total").increment(1);
    }
    tokio::time::sleep(DECLINE_EVERY).await;
    is_left
}

/// Looks at all invitations there are. Where these are more than is read at once, all are declined but those into
/// rooms of which their home has told, until the rest can be read; whether it can. An honest home invites again.
async fn look_for_invites(agent: &Agent, user: &UserId, seen: &Seen) -> Result<bool, MatrixError> {
    for _ in 0..MAX_LOOKS {
        let Ok(nonce) = crate::services::random() else { return Ok(false) };
        let found = agent.matrix.invitations(user, nonce).await?;
        if found.are_all {
            seen.invited(found.all);
            return Ok(true);
        }
        let told = seen.with(|inner| inner.told.clone());
        let (told, others): (Vec<_>, Vec<_>) = found
            .all
            .into_iter()
            .partition(|(room, by)| relay_room::is_told(room, by.as_ref(), &told));
        seen.invited(told);
        let mut others: Vec<_> = others.into_iter().map(|(room, _)| room).collect();
        if others.is_empty() {
            // None of an honest agent is as long.
            others.extend(found.cut);
        }
        let mut is_less = false;
        for room in others {
            is_less |= decline_one(agent, user, &room).await;
        }
        if !is_less {
            return Ok(false);
        }
    }
    Ok(false)
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
    let (mut keeper, mut trouble) = (Keeper::new(), agent.trouble("rooms"));
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
    #[error(transparent)]
    Rows(#[from] storage::Error),
}

impl Remedy for KeepError {
    fn remedy(&self) -> &'static str {
        match self {
            Self::Door(error) => error.remedy(),
            Self::Matrix(error) => error.remedy(),
            Self::Rows(_) => "bridge.db cannot be read or written: the log says why",
        }
    }
}

/// What is known from one round to the next.
struct Keeper {
    began: Instant,
    /// Of which start of the native server.
    of: Option<u32>,
    /// Rooms in which all is as it should be, and what was wished then.
    settled: BTreeMap<GroupId, Wish>,
    invites: Invites,
    again: Invitations,
    leaving: Leaving,
    unanswered: Leaving,
    untold: Untold,
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
            again: Invitations::default(),
            leaving: Leaving::told(),
            unanswered: Leaving::invited(),
            untold: Untold::default(),
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
        self.again.read(&agent.db, self.now_ms()).await?;
        let wishes = agent.door.rooms().await?;
        seen.with(|inner| inner.moved = Some(wishes.moved));
        if self.of.replace(wishes.began) != Some(wishes.began) {
            self.settled.clear();
        }
        let told: BTreeSet<_> = wishes
            .rooms
            .iter()
            .filter_map(|wish| Some((wish.room.clone()?, wish.home.clone())))
            .collect();
        let (invites, changed, is_all_changed) = seen.with(|inner| {
            inner.told.clone_from(&told);
            let is_all_changed = std::mem::take(&mut inner.is_all_changed);
            (inner.invites.clone(), std::mem::take(&mut inner.changed), is_all_changed)
        });
        if is_all_changed {
            self.settled.clear();
        }
        self.settled
            .retain(|_, wish| wish.room.as_ref().is_none_or(|room| !changed.contains(room)));
        let is_known = self.joined.is_some() && changed.is_empty() && !is_all_changed;
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
        self.again.keep(&wanted);
        self.unanswered.keep(&wanted);
        self.decline_untold(seen, &told);
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
            let missing = wish.servers.iter().filter(|it| !tended.joined.contains(*it)).cloned();
            self.again.keep_missing(&report.room, &missing.collect());
            let is_done = self.act(agent, user, (&report.room, tended)).await?;
            is_all_settled &= is_settled;
            if is_done && is_settled {
                wish.room = Some(report.room);
                self.settled.insert(wish.group, wish);
            }
        }
        self.joined = Some(now_in);
        self.again.tidy(&agent.db).await?;
        Ok(is_all_settled)
    }

    /// Has invitations declined into rooms of which nobody has told for long.
    fn decline_untold(&mut self, seen: &Seen, told: &BTreeSet<(OwnedRoomId, OwnedServerName)>) {
        let now_ms = self.now_ms();
        let were_any = seen.with(|inner| {
            let overdue = self.untold.overdue(&inner.invites, told, now_ms);
            for room in &overdue {
                inner.invites.remove(room);
                inner.declines(room.clone());
            }
            !overdue.is_empty()
        });
        if were_any {
            seen.strangers.notify_one();
        }
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
    ) -> Result<bool, storage::Error> {
        let mut is_done = true;
        let overdue = self.leaving.overdue(room, &tended.leaving, self.now_ms());
        let unanswered = self.unanswered.overdue(room, &tended.invited, self.now_ms());
        for who in &unanswered {
            // The next round finds it missing, and invites it.
            let taken_back = agent.matrix.kick(user, room, who, "to be invited again").await;
            if let Err(error) = taken_back {
                tracing::debug!(%error, %who, "an invitation is not taken back yet");
            }
            is_done = false;
        }
        for who in tended.put_out.iter().chain(&overdue) {
            let put_out = agent.matrix.kick(user, room, who, "not of this group").await;
            is_done &= put_out.is_ok();
        }
        for server in tended.invite {
            let now_ms = self.now_ms();
            if !self.again.may(room, &server, now_ms) || !self.invites.take(&server, now_ms) {
                is_done = false;
                continue;
            }
            self.again.invites(&agent.db, (room, &server), now_ms).await?;
            match invite(agent, user, room, &server).await {
                Ok(()) => agent.steps.reached(Step::InvitedAgents).await,
                Err(error) => {
                    tracing::debug!(%error, %server, "its agent is not invited yet");
                    self.invites.refused(&server, now_ms);
                    self.again.refused(&agent.db, (room, &server), now_ms).await?;
                    is_done = false;
                }
            }
        }
        Ok(is_done)
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

/// Leaves a room, or declines to come; whether that is done.
async fn leave(agent: &Agent, user: &UserId, room: &RoomId) -> bool {
    let left = agent.matrix.leave(user, room).await;
    let forgotten = match left {
        Ok(()) => agent.matrix.forget(user, room).await,
        error => error,
    };
    if let Err(error) = &forgotten {
        tracing::debug!(%error, %room, "a room is not left yet by the agent");
    }
    forgotten.is_ok()
}
