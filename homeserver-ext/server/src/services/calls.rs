//! Calls: who may do what in one, and what time does to it.
//!
//! The rules are `causeway_protocol::call`; here is who may ask, and one transaction for each change.

mod abroad;
mod attend;
mod elsewhere;
mod kept;
mod matrix;
mod mesh;
mod next_room;
mod operator;
mod rooms;
mod ruling;
mod said;
mod sfu;
mod strangers;
mod time;

use std::collections::BTreeMap;

use causeway_protocol::{
    api::{
        AskUpgrade, CallCap, CallDevice, CallIntent, CallState, CallWhom, JoinCall, ReportCall,
        SetCall, StartCall,
    },
    call::{Call, Caps, Event, Refused, Said, Who},
    ids::{CallId, DeviceId, GroupId, Timestamp},
    roster::Role,
};
use causeway_store::{Conn, Db, Tx};

pub(crate) use abroad::{Abroad, Asked, Fetched, Outcome, Wish, let_in_abroad, wish_abroad};
pub(crate) use attend::{Attended, Attends, With, attend};
pub(crate) use elsewhere::{takes_part, told_by_home, who_is_there};
pub(crate) use kept::{forget, page, put_back, state};
pub(crate) use matrix::{
    GuestAsks, GuestError, GuestToken, Place, are_there, let_in, may_be_called, serves,
};
pub(crate) use mesh::mesh;
pub(crate) use operator::{WishError, end_by_operator, mute, running, shown, wish};
pub(crate) use rooms::{Among, Due, heard, reconcile};
pub(crate) use ruling::{kick, mute as mute_other};
pub(crate) use said::{Says, says};
pub(crate) use sfu::sfu;
pub(crate) use time::{is_quiet, presence, tick};

use crate::{
    calls as change,
    gateway::livekit::{LiveKit, SfuError},
    live::Live,
    quota::{CallShares, TooOften, UsedUp},
    storage::{
        self,
        calls::{self, Kept, Person, Row},
        devices::Device,
        groups::{self, Group},
        mailbox,
        standing::{self, Standing},
    },
};

/// Bytes of a call's participants, and of who has taken part: who comes beyond that finds it full. With what
/// becomes of them, and who declines, its state has to fit an envelope (45,000 bytes).
const MOST_BYTES: usize = 24_500;
/// Bytes of a participant beside his account's name and what LiveKit calls him, at most.
const PARTICIPANT_BYTES: usize = 198;
/// Likewise of one of Matrix, with what his room calls him.
const GUEST_BYTES: usize = 620;
/// Devices that one report names.
const MAX_CONNECTED: usize = 16;
/// Accounts that are named as having taken part, or declined.
const MAX_NAMED: usize = 64;
/// Signs of the moment that are kept.
const MAX_SIGNS: usize = 4;
/// Those of Matrix who were taken out that are kept.
const MAX_KICKED: usize = 64;
/// Bytes of one.
const MAX_EMOJI: usize = 32;
/// How long one of Matrix may not come back who was taken out.
const KICKED_MS: u64 = 10 * 60 * 1_000;
/// Calls that are kept of one group.
const MAX_OF_GROUP: u32 = 1_000;

/// Why a request about a call was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// There is no such group, or none that the caller counts in.
    #[error("no such group")]
    UnknownGroup,
    /// Ask for the group's calls.
    #[error("no such call in this group")]
    Unknown,
    /// Ask that server: it alone decides about the group's calls.
    #[error("the group is kept by {0}: ask there")]
    OtherServer(String),
    /// A mistake of the client, which makes one up.
    #[error("another call is called so: choose another id")]
    Taken,
    /// Nothing follows `close`.
    #[error("the group is closed")]
    Closed,
    /// Join that one.
    #[error("a call is running in this group: join it, or wait until it ends")]
    Exists(Box<CallState>),
    /// What the rules say; with the state, where that helps.
    #[error("{0}")]
    Refused(Refused, Box<CallState>),
    /// Ask whoever may.
    #[error("only who began the call and admins of the group may end it")]
    MayNotEnd,
    /// Again later: he is not heard until then.
    #[error("one of Matrix speaks on a server for calls that lets nobody of here in: {0}")]
    Abroad(String),
    /// Ask one who may.
    #[error("only admins of the group may take others out of its calls, or mute them")]
    MayNotRule,
    /// A mistake of the client.
    #[error("a sign of the moment is an emoji, of {MAX_EMOJI} bytes at most")]
    NoEmoji,
    /// It is not on the server for bigger calls, where alone it can be muted.
    #[error("nothing of that device passes the server for calls")]
    NotThere,
    /// The server for calls.
    #[error("The server that carries calls is not reachable.")]
    Sfu(#[from] SfuError),
    /// A mistake of the client.
    #[error("a report names {MAX_CONNECTED} devices at most")]
    TooManyNamed,
    /// Again when it says.
    #[error(transparent)]
    TooOften(#[from] TooOften),
    /// Likewise, of what one account may read.
    #[error(transparent)]
    UsedUp(#[from] UsedUp),
    /// Ours.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<causeway_store::Error> for CallError {
    fn from(error: causeway_store::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// What every request is about: what it is written to, when, and by whom.
#[derive(Clone, Copy)]
pub(crate) struct Of<'a> {
    pub(crate) db: &'a Db,
    pub(crate) live: &'a Live,
    pub(crate) now: Timestamp,
    /// This server.
    pub(crate) here: &'a str,
    pub(crate) caller: &'a Device,
    pub(crate) group: GroupId,
}

impl Of<'_> {
    const fn who(&self) -> Who {
        Who::Native(self.caller.device_id)
    }

    /// The group, and what the caller may do there.
    async fn group(&self, conn: &mut Conn) -> Result<(Group, Role), CallError> {
        let group = groups::by_id(conn, self.group).await?.ok_or(CallError::UnknownGroup)?;
        let account = self.caller.account.as_str();
        let role = match standing::of_device(conn, group.row, &self.caller.of(), account).await? {
            Standing::Counts(_, role) => role,
            Standing::Listed | Standing::Until(_) | Standing::None => {
                return Err(CallError::UnknownGroup);
            }
        };
        match groups::home(conn, self.group).await? {
            Some(home) if home != self.here => Err(CallError::OtherServer(home)),
            _ => Ok((group, role)),
        }
    }

    /// A call of the group, to be changed.
    async fn call(&self, tx: &mut Tx, call: CallId) -> Result<(Group, Role, Row), CallError> {
        let (group, role) = self.group(tx.conn()).await?;
        let row = calls::by_id(tx.conn(), group.row, call).await?.ok_or(CallError::Unknown)?;
        Ok((group, role, row))
    }

    /// Has the rules take `event` in, and puts down what that changed, or `is_other` did.
    async fn change(
        &self,
        mut tx: Tx,
        group: &Group,
        mut row: Row,
        (event, is_other): (Event, bool),
    ) -> Result<CallState, CallError> {
        let done = change::apply(&mut row, event, self.now);
        let done = done.map_err(|refused| CallError::Refused(refused, Box::new(row.state())))?;
        if is_other && !done.changed {
            row.kept.call.version += 1;
            row.kept.out.clear();
        }
        if is_other || done.changed {
            change::put((&mut tx, self.live), self.now, group.head.epoch, &row).await?;
            tx.commit().await?;
        }
        Ok(row.state())
    }
}

/// Begins a call, with the caller in it; one that is known is answered as it is.
pub(crate) async fn start(
    of: Of<'_>,
    shares: &CallShares,
    (mesh_max, has_sfu): (usize, bool),
    asked: &StartCall,
) -> Result<CallState, CallError> {
    shares.join(of.now, (&of.caller.account, of.caller.device_id))?;
    let mut tx = of.db.begin_growing().await?;
    let (group, _) = of.group(tx.conn()).await?;
    if let Some(known) = calls::by_id(tx.conn(), group.row, asked.call).await? {
        return Ok(known.state());
    }
    // The operator's commands name a call and no group.
    if calls::is_elsewhere(tx.conn(), asked.call).await? {
        return Err(CallError::Taken);
    }
    if group.head.closed {
        return Err(CallError::Closed);
    }
    if let Some(running) = calls::running(tx.conn(), group.row).await? {
        return Err(CallError::Exists(Box::new(running.state())));
    }
    let started_by = CallDevice {
        account: of.caller.account.clone(),
        device: of.caller.device_id,
        mirror: None,
    };
    let call = Call::new(mesh_max, has_sfu, of.now);
    let begun = (asked.call, asked.intent, started_by, call);
    let mut row = begun_in((&mut tx, &group), of.now, begun).await?;
    come_in(&mut row, of.caller);
    calls::forget_beyond(tx.conn(), group.row, MAX_OF_GROUP - 1).await?;
    let caps = caps(&asked.caps, asked.may_degrade);
    let state = of.change(tx, &group, row, (Event::Join(of.who(), caps), false)).await?;
    metrics::counter!("causeway_calls_started_total").increment(1);
    Ok(state)
}

/// A call of a group that nobody is in yet.
///
/// Where those of Matrix may come its room is the one in which they wait, and natives are called there by
/// ghosts of the bridge's server. What the group is now decides that to the call's end: whoever is in the
/// room would have to leave it to get another name. A bridge that comes later shows the next one; when the
/// last goes, so do those of Matrix.
async fn begun_in(
    (tx, group): (&mut Tx, &Group),
    now: Timestamp,
    (call_id, intent, started_by, call): (CallId, CallIntent, CallDevice, Call),
) -> Result<Row, storage::Error> {
    let ghosts = groups::bridge_server(tx.conn(), group.row).await?;
    let room = match &ghosts {
        Some(_) => Some(next_room::of_next_call(tx.conn(), group.row).await?),
        None => None,
    };
    Ok(Row {
        number: mailbox::take_numbers(tx.conn(), 1).await?,
        group: group.row,
        group_id: group.head.group,
        call_id,
        kept: Kept {
            call,
            intent,
            started_by,
            started_ms: now,
            ended_ms: None,
            ended_by: None,
            people: BTreeMap::new(),
            accounts: Vec::new(),
            declined: Vec::new(),
            out: Vec::new(),
            turned: Vec::new(),
            set_up: Vec::new(),
            room,
            ghosts,
            guests: BTreeMap::new(),
            declined_mirrors: Vec::new(),
            reactions: Vec::new(),
            kicked: Vec::new(),
        },
    })
}

/// Brings the caller's device into a call; one that is in it is answered as it is.
pub(crate) async fn join(
    of: Of<'_>,
    shares: &CallShares,
    livekit: Option<&LiveKit>,
    (call, asked): (CallId, &JoinCall),
) -> Result<CallState, CallError> {
    shares.join(of.now, (&of.caller.account, of.caller.device_id))?;
    let mut tx = of.db.begin().await?;
    let (group, _, mut row) = of.call(&mut tx, call).await?;
    let is_new = !row.kept.people.contains_key(&of.caller.device_id);
    if is_new && row.is_clear() && !asked.may_degrade {
        let refused = Refused::CannotUseSfu(vec![of.who()]);
        return Err(CallError::Refused(refused, Box::new(row.state())));
    }
    come_in(&mut row, of.caller);
    if is_new && !row.kept.call.is_over() && is_full(&row) {
        let others = row.kept.people.len() - 1;
        return Err(CallError::Refused(Refused::Full(others), Box::new(row.state())));
    }
    let event = Event::Join(of.who(), caps(&asked.caps, asked.may_degrade));
    sfu::note_away(&mut row.kept.call, of.now, livekit, &event);
    let joined = of.change(tx, &group, row, (event, false)).await;
    if is_new && joined.is_ok() {
        metrics::counter!("causeway_calls_joined_total").increment(1);
    }
    joined
}

/// Whether a call's state would grow too long to be told.
fn is_full(row: &Row) -> bool {
    let bytes = |(device, it): (&DeviceId, &Person)| {
        it.account.as_str().len() + row.name_of(device).len() + PARTICIPANT_BYTES
    };
    let people = row.kept.people.iter().map(bytes);
    let named = row.kept.accounts.iter().map(|account| account.as_str().len() + 3);
    let guests = row.guests();
    let guests = guests.iter().map(|who| match who {
        Who::Matrix(user, device) => {
            2 * (user.len() + device.len()) + row.focus_of(who).map_or(0, str::len) + GUEST_BYTES
        }
        Who::Native(_) => 0,
    });
    people.chain(named).chain(guests).sum::<usize>() > MOST_BYTES
}

/// Names the caller among those who take part.
fn come_in(row: &mut Row, caller: &Device) {
    let kept = &mut row.kept;
    if !kept.accounts.contains(&caller.account) && kept.accounts.len() < MAX_NAMED {
        kept.accounts.push(caller.account.clone());
    }
    kept.declined.retain(|account| *account != caller.account);
    kept.people.entry(caller.device_id).or_insert_with(|| Person {
        account: caller.account.clone(),
        row: caller.row.0,
        muted: false,
        hand: false,
        has_sound: false,
    });
}

fn caps(said: &[CallCap], may_degrade: bool) -> Caps {
    let can = |cap| said.contains(&cap);
    Caps { mesh: can(CallCap::Mesh), sfu: can(CallCap::Sfu), may_degrade }
}

/// Takes in what the caller's device says about itself.
pub(crate) async fn report(
    of: Of<'_>,
    shares: &CallShares,
    call: CallId,
    asked: &ReportCall,
) -> Result<CallState, CallError> {
    if asked.connected.len() > MAX_CONNECTED {
        return Err(CallError::TooManyNamed);
    }
    shares.word(of.now, (&of.caller.account, of.caller.device_id))?;
    let said = Said {
        connected: asked.connected.iter().map(|device: &DeviceId| Who::Native(*device)).collect(),
        ready: asked.ready.as_ref().is_some_and(|ready| ready.published),
        declined: asked.decline.is_some(),
    };
    let mut tx = of.db.begin().await?;
    let (group, _, row) = of.call(&mut tx, call).await?;
    of.change(tx, &group, row, (Event::Report(of.who(), asked.epoch, said), false)).await
}

/// Has the server for bigger calls carry the call, since there is no way from the caller's device to
/// another.
pub(crate) async fn upgrade(
    of: Of<'_>,
    shares: &CallShares,
    livekit: Option<&LiveKit>,
    (call, asked): (CallId, &AskUpgrade),
) -> Result<CallState, CallError> {
    shares.word(of.now, (&of.caller.account, of.caller.device_id))?;
    let mut tx = of.db.begin().await?;
    let (group, _, mut row) = of.call(&mut tx, call).await?;
    let event = Event::Upgrade(of.who(), Who::Native(asked.with));
    sfu::note_away(&mut row.kept.call, of.now, livekit, &event);
    of.change(tx, &group, row, (event, false)).await
}

/// Shows what the caller says of his microphone and his hand, and a sign.
pub(crate) async fn set(
    of: Of<'_>,
    shares: &CallShares,
    call: CallId,
    asked: &SetCall,
) -> Result<CallState, CallError> {
    shares.word(of.now, (&of.caller.account, of.caller.device_id))?;
    let mut tx = of.db.begin().await?;
    let (group, _, mut row) = of.call(&mut tx, call).await?;
    if row.kept.call.is_over() {
        return Err(CallError::Refused(Refused::Ended, Box::new(row.state())));
    }
    let Some(person) = row.kept.people.get_mut(&of.caller.device_id) else {
        return Err(CallError::Refused(Refused::NotInCall, Box::new(row.state())));
    };
    if asked.reaction.as_deref().is_some_and(|emoji| !said::is_emoji(emoji)) {
        return Err(CallError::NoEmoji);
    }
    let before = person.clone();
    person.muted = asked.muted.unwrap_or(person.muted);
    person.hand = asked.hand.unwrap_or(person.hand);
    let is_other = *person != before || asked.reaction.is_some();
    if let Some(emoji) = &asked.reaction {
        said::react(&mut row, CallWhom::Native { device: of.caller.device_id }, emoji, of.now);
    }
    of.change(tx, &group, row, (Event::Tick, is_other)).await
}

/// Takes the caller's device out of a call; one that is not in it is answered as it is.
pub(crate) async fn leave(of: Of<'_>, call: CallId) -> Result<CallState, CallError> {
    let mut tx = of.db.begin().await?;
    let (group, _, row) = of.call(&mut tx, call).await?;
    of.change(tx, &group, row, (Event::Leave(of.who()), false)).await
}

/// The caller's account does not come: its other devices stop ringing.
pub(crate) async fn decline(
    of: Of<'_>,
    shares: &CallShares,
    call: CallId,
) -> Result<CallState, CallError> {
    shares.word(of.now, (&of.caller.account, of.caller.device_id))?;
    let mut tx = of.db.begin().await?;
    let (group, _, mut row) = of.call(&mut tx, call).await?;
    let (account, kept) = (&of.caller.account, &mut row.kept);
    let is_in = kept.people.values().any(|person| person.account == *account);
    let is_other = !kept.call.is_over() && !is_in && !kept.declined.contains(account);
    if is_other {
        said::make_room(kept);
        kept.declined.push(account.clone());
    }
    of.change(tx, &group, row, (Event::Tick, is_other)).await
}

/// Ends a call for everybody, by who began it or an admin.
pub(crate) async fn end(of: Of<'_>, call: CallId) -> Result<CallState, CallError> {
    let mut tx = of.db.begin().await?;
    let (group, role, mut row) = of.call(&mut tx, call).await?;
    if role != Role::Admin && row.kept.started_by.account != of.caller.account {
        return Err(CallError::MayNotEnd);
    }
    if !row.kept.call.is_over() {
        row.kept.ended_by = Some(of.caller.account.clone());
    }
    of.change(tx, &group, row, (Event::End, false)).await
}
