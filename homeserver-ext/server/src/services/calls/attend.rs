//! What a room says of who of Matrix is in its call: one who comes is awaited in the group's call, or
//! begins it; one who goes is out of it.
//!
//! It comes before LiveKit shows him, and only hastens what that shows: nobody is in a call by his own
//! word, and nobody stays in it by that.

use std::collections::BTreeSet;

use causeway_protocol::{
    api::{CallDevice, CallIntent},
    call::{Call, Event, Who},
    ids::{CallId, GroupId, Timestamp},
};
use causeway_store::{Db, Tx};
use serde::{Deserialize, Serialize};

use super::{
    GuestError, MAX_OF_GROUP,
    abroad::MOST,
    begun_in,
    matrix::{is_name, may_come, note},
    next_room, sfu, time,
};
use crate::{
    calls as change,
    gateway::livekit::LiveKit,
    live::Live,
    quota::CallShares,
    storage::{
        calls::{self, Row},
        group_rooms,
        groups::{self, Group},
    },
};

/// Names that LiveKit may have for one device.
const MOST_NAMES: usize = 4;

/// A room says that one of Matrix is in its call, or is not any more.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Attends {
    pub(crate) group: GroupId,
    pub(crate) user: String,
    /// All of his, where he is not in the room any more.
    pub(crate) device: Option<String>,
    pub(crate) is_in: bool,
    /// What LiveKit may call him.
    #[serde(default)]
    pub(crate) identities: Vec<String>,
    /// The focus of the server for calls on which he speaks, where that is not this home's.
    #[serde(default)]
    pub(crate) focus: Option<String>,
    /// The call that begins with him, where none runs.
    pub(crate) begins: Option<Begins>,
}

/// A call of the group that begins in its room.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Begins {
    /// Of the event by which it begins, so that it begins once.
    pub(crate) call: CallId,
    pub(crate) intent: CallIntent,
    /// The bridge's device.
    pub(crate) by: CallDevice,
}

/// What became of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Attended {
    /// There is no call for it, or it was so before.
    Nothing,
    /// The call prepares for him, or did.
    Awaited,
    /// The group is called.
    Began,
    /// He is out of it, or out of the room where he may have waited for it.
    Gone,
}

impl Attended {
    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Awaited => "awaited",
            Self::Began => "began",
            Self::Gone => "gone",
        }
    }
}

/// What it works with: the shares that calls are begun from, how many a mesh carries, and LiveKit.
#[derive(Clone, Copy)]
pub(crate) struct With<'a> {
    pub(crate) shares: &'a CallShares,
    pub(crate) mesh_max: usize,
    pub(crate) livekit: Option<&'a LiveKit>,
}

/// Takes in what the room of a group says, whose bridge is of `here`.
pub(crate) async fn attend(
    (db, live): (&Db, &Live),
    with: With<'_>,
    (now, here): (Timestamp, &str),
    says: &Attends,
) -> Result<Attended, GuestError> {
    let attended = judged((db, live), with, (now, here), says).await;
    let outcome = attended.as_ref().map_or("refused", |it| it.name());
    metrics::counter!("causeway_call_members_total", "outcome" => outcome).increment(1);
    attended
}

async fn judged(
    (db, live): (&Db, &Live),
    with: With<'_>,
    (now, here): (Timestamp, &str),
    says: &Attends,
) -> Result<Attended, GuestError> {
    let names = [Some(&says.user), says.device.as_ref(), says.focus.as_ref()].into_iter().flatten();
    if !names.chain(&says.identities).all(|it| is_name(it)) || says.identities.len() > MOST_NAMES {
        return Err(GuestError::Name);
    }
    let mut tx = db.begin_growing().await?;
    let Some(group) = groups::by_id(tx.conn(), says.group).await? else {
        return Ok(Attended::Nothing);
    };
    if !groups::has_bridge(tx.conn(), group.row, here).await? {
        return Err(GuestError::NotBridged);
    }
    if group.head.closed {
        return Ok(Attended::Nothing);
    }
    let running = calls::running(tx.conn(), group.row).await?;
    // Of Matrix he is in no call that anybody was told of, and may wait for one all the same.
    let leaves = says.device.is_none() && !says.is_in;
    if leaves && group_rooms::may_wait(tx.conn(), group.row, &says.user).await? {
        return waits_no_more((tx, live), now, &group, (running, says)).await;
    }
    match (running, &says.device, &says.begins) {
        (Some(row), _, _) if !row.is_shown_by(here) => Ok(Attended::Nothing),
        (Some(row), _, _) if !says.is_in => goes((tx, live), now, row, says).await,
        (Some(row), Some(device), _) => comes((tx, live), with, now, (row, says, device)).await,
        (None, Some(device), Some(begins)) if says.is_in => {
            let asked = (says, device.as_str(), begins);
            begin((tx, live), with, now, &group, asked).await
        }
        (Some(_) | None, _, _) => Ok(Attended::Nothing),
    }
}

/// Closes the room where he may wait. A call that runs, and has not opened it, gets the one that is drawn next.
async fn waits_no_more(
    (mut tx, live): (Tx, &Live),
    now: Timestamp,
    group: &Group,
    (running, says): (Option<Row>, &Attends),
) -> Result<Attended, GuestError> {
    change::close_waiting((&mut tx, live), group.row).await?;
    let Some(mut row) = running else {
        tx.commit().await?;
        return Ok(Attended::Gone);
    };
    let before = row.kept.call.version;
    for who in those_of(&row, says) {
        change::of_itself(&mut row, Event::Leave(who), now);
    }
    if !row.kept.call.has_room() && row.kept.room.is_some() {
        row.kept.room = Some(next_room::of_next_call(tx.conn(), group.row).await?);
    }
    if row.kept.call.version == before {
        row.kept.call.version += 1;
        row.kept.out.clear();
    }
    time::put(tx, live, now, (&row, before)).await?;
    Ok(Attended::Gone)
}

/// Who of those in a call is meant.
fn those_of(row: &Row, says: &Attends) -> Vec<Who> {
    let his = |who: &Who| match who {
        Who::Matrix(user, device) => {
            *user == says.user && says.device.as_ref().is_none_or(|it| it == device)
        }
        Who::Native(_) => false,
    };
    row.guests().into_iter().filter(his).collect()
}

async fn goes(
    (tx, live): (Tx, &Live),
    now: Timestamp,
    mut row: Row,
    says: &Attends,
) -> Result<Attended, GuestError> {
    let before = row.kept.call.version;
    for who in those_of(&row, says) {
        change::of_itself(&mut row, Event::Leave(who), now);
    }
    if row.kept.call.version == before {
        return Ok(Attended::Nothing);
    }
    time::put(tx, live, now, (&row, before)).await?;
    Ok(Attended::Gone)
}

async fn comes(
    (tx, live): (Tx, &Live),
    with: With<'_>,
    now: Timestamp,
    (mut row, says, device): (Row, &Attends, &str),
) -> Result<Attended, GuestError> {
    let before = row.kept.call.version;
    let who = Who::Matrix(says.user.clone(), device.to_owned());
    may_come(&row, &who, now)?;
    let event = Event::Expect(who.clone());
    sfu::note_away(&mut row.kept.call, now, with.livekit, &event);
    change::apply(&mut row, event, now)?;
    for identity in &says.identities {
        note(&mut row, who.clone(), (identity, None), now);
    }
    if speaks_at(&mut row, &who, says.focus.as_deref()) && row.kept.call.version == before {
        row.kept.call.version += 1;
        row.kept.out.clear();
    }
    time::put(tx, live, now, (&row, before)).await?;
    Ok(Attended::Awaited)
}

/// Notes on whose server for calls he speaks; whether that is another than before. One too many is heard by
/// nobody: natives go to so many servers, and no more.
fn speaks_at(row: &mut Row, who: &Who, focus: Option<&str>) -> bool {
    let others = row.kept.guests.values().filter(|guest| guest.who != *who);
    let others: BTreeSet<_> = others.filter_map(|guest| guest.focus.clone()).collect();
    let focus = focus.filter(|it| others.contains(*it) || others.len() < MOST);
    let before = row.focus_of(who).map(ToOwned::to_owned);
    for guest in row.kept.guests.values_mut().filter(|guest| guest.who == *who) {
        guest.focus = focus.map(ToOwned::to_owned);
    }
    before.as_deref() != focus
}

/// The group is called by one of Matrix: LiveKit carries it from the beginning, and if he does not come
/// it ends as one that nobody is in.
async fn begin(
    (mut tx, live): (Tx, &Live),
    With { shares, mesh_max, livekit }: With<'_>,
    now: Timestamp,
    group: &Group,
    (says, device, Begins { call, intent, by }): (&Attends, &str, &Begins),
) -> Result<Attended, GuestError> {
    if calls::by_id(tx.conn(), group.row, *call).await?.is_some() {
        return Ok(Attended::Nothing);
    }
    if livekit.is_none_or(|livekit| livekit.rests(now).is_some()) {
        return Err(GuestError::Away);
    }
    shares.guest(now, (&says.group, &says.user))?;
    let started_by = CallDevice { mirror: Some(says.user.clone()), ..by.clone() };
    let begun = (*call, *intent, started_by, Call::new(mesh_max, true, now));
    let mut row = begun_in((&mut tx, group), now, begun).await?;
    let who = Who::Matrix(says.user.clone(), device.to_owned());
    change::apply(&mut row, Event::Expect(who.clone()), now)?;
    for identity in &says.identities {
        note(&mut row, who.clone(), (identity, None), now);
    }
    speaks_at(&mut row, &who, says.focus.as_deref());
    calls::forget_beyond(tx.conn(), group.row, MAX_OF_GROUP - 1).await?;
    change::put((&mut tx, live), now, group.head.epoch, &row).await?;
    tx.commit().await?;
    metrics::counter!("causeway_calls_started_total").increment(1);
    Ok(Attended::Began)
}
