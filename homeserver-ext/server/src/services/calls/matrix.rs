//! Where one of Matrix goes, whom the bridge has looked at: into the room of his group's call, who then
//! is awaited there, or into the one that the group's next call has.

use std::collections::{BTreeMap, BTreeSet};

use causeway_protocol::{
    call::{Event, Refused, Who},
    ghost,
    ids::{GroupId, Timestamp},
};
use causeway_store::{Conn, Db};
use serde::{Deserialize, Serialize};

use super::{is_full, next_room, time};
use crate::{
    calls as change,
    gateway::livekit::{InRoom, LiveKit},
    live::Live,
    quota::TooOften,
    storage::{
        self,
        calls::{self, Guest, Kicked, Row},
        group_rooms, groups,
    },
};

/// Names in LiveKit under which one device may have asked; the oldest goes.
const MOST_NAMES: usize = 8;
/// Longest of each text, in bytes.
const MAX_TEXT: usize = 256;
/// How often it is looked again where he goes, if that has changed meanwhile.
const TRIES: usize = 3;
/// Letters of the other name that a device may have there.
const DIGEST: usize = 43;
/// Characters that are kept of what somebody calls himself.
const MAX_NAME: usize = 100;

/// One of Matrix asks to be let in.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GuestAsks {
    /// Whose room he is in; none, where that is no group's.
    pub(crate) group: Option<GroupId>,
    /// What LiveKit is to call the room where it is no group's.
    pub(crate) room: String,
    pub(crate) user: String,
    pub(crate) device: String,
    /// What LiveKit is to call him.
    pub(crate) identity: String,
    /// Whether he sends here, and not to his own homeserver's.
    pub(crate) publish: bool,
    /// What his room calls him.
    #[serde(default)]
    pub(crate) name: Option<String>,
}

/// What lets him in.
#[derive(Serialize, Deserialize)]
pub(crate) struct GuestToken {
    url: String,
    jwt: String,
}

/// Why he is not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuestError {
    /// Nothing runs that he could have been told of.
    #[error("The server that carries calls is not reachable.")]
    Away,
    /// What the rules say of the call that runs.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// What he has is not the group's room any more, nor does he hear its calls.
    #[error("no bridge is in this group")]
    NotBridged,
    /// Again after so many ms.
    #[error("somebody who may took you out of this call: you can come back in {} s", .0.div_ceil(1_000))]
    Kicked(u64),
    /// A mistake of the bridge.
    #[error("a name is empty, longer than {MAX_TEXT} bytes, or not of ASCII")]
    Name,
    /// Again when it says.
    #[error(transparent)]
    TooOften(#[from] TooOften),
    /// Ours.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<causeway_store::Error> for GuestError {
    fn from(error: causeway_store::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// Whether the bridge of a group is of `server`, which then has a say in its calls.
pub(crate) async fn serves(db: &Db, group: GroupId, server: &str) -> Result<bool, storage::Error> {
    let mut read = db.read().await?;
    let Some(group) = groups::by_id(read.conn(), group).await? else { return Ok(false) };
    groups::has_bridge(read.conn(), group.row, server).await
}

/// Whether the bridge of another `server` may have LiveKit call one of Matrix so: never as it calls a native,
/// or will.
pub(crate) fn may_be_called(server: &str, (user, device): (&str, &str), identity: &str) -> bool {
    let local =
        user.strip_prefix('@').and_then(|user| user.strip_suffix(server)?.strip_suffix(':'));
    let is_ghost = local.is_some_and(|local| local.starts_with(ghost::PREFIX));
    // The other is a digest, in base64.
    let is_his = identity == format!("{user}:{device}");
    !is_ghost && (is_his || (identity.len() == DIGEST && !identity.contains('@')))
}

/// Whether LiveKit and its clients bear it.
pub(super) fn is_name(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.len()) && text.is_ascii()
}

/// Lets one of Matrix in, and has a call that runs prepare for him.
///
/// The room is there before it is written down that he is awaited, and that before he has the token. Which
/// room the next call has is written down before that.
pub(crate) async fn let_in(
    (db, live): (&Db, &Live),
    livekit: Option<&LiveKit>,
    (now, here): (Timestamp, &str),
    asks: &GuestAsks,
) -> Result<GuestToken, GuestError> {
    let names = [&asks.user, &asks.device, &asks.identity, &asks.room];
    if !names.into_iter().all(|it| is_name(it)) {
        return Err(GuestError::Name);
    }
    for _ in 0..TRIES {
        let (row, room) = where_to(db, here, asks).await?;
        let away = || away(row.as_ref(), livekit, now);
        let livekit = livekit.ok_or_else(away)?;
        livekit.open(now, &room).await.map_err(|_| away())?;
        // A call may have begun, or ended, while LiveKit was asked.
        let is_still = if let Some(row) = &row {
            await_him((db, live), (now, here), (row.number, &room), asks).await?
        } else {
            where_to(db, here, asks).await?.1 == room && waits(db, asks, &room).await?
        };
        if is_still {
            let jwt = livekit.guest_token(&room, &asks.identity, asks.publish);
            let url = livekit.public_url().to_owned();
            return Ok(GuestToken { url, jwt: jwt.map_err(|_| away())? });
        }
    }
    Err(GuestError::Away)
}

/// The call that runs, if he may be in it, and its room; else that of the next one, or, where the group is not
/// known here, his Matrix room's own.
async fn where_to(
    db: &Db,
    here: &str,
    asks: &GuestAsks,
) -> Result<(Option<Row>, String), GuestError> {
    let mut read = db.read().await?;
    if let Some(row) = running(read.conn(), asks, here).await? {
        let room = row.room();
        return Ok((Some(row), room));
    }
    let Some(group) = asks.group else { return Ok((None, asks.room.clone())) };
    let Some(group) = groups::by_id(read.conn(), group).await? else {
        return Ok((None, asks.room.clone()));
    };
    if let Some(room) = group_rooms::of(read.conn(), group.row).await? {
        return Ok((None, room));
    }
    drop(read);
    let mut tx = db.begin_growing().await?;
    let room = next_room::of_next_call(tx.conn(), group.row).await?;
    tx.commit().await?;
    Ok((None, room))
}

/// Writes down that he may wait in that room; false where the next call has another by now.
async fn waits(db: &Db, asks: &GuestAsks, room: &str) -> Result<bool, GuestError> {
    let Some(group) = asks.group else { return Ok(true) };
    let mut tx = db.begin_growing().await?;
    let Some(group) = groups::by_id(tx.conn(), group).await? else { return Ok(true) };
    let is_so = group_rooms::lets_in(tx.conn(), group.row, room, &asks.user).await?;
    tx.commit().await?;
    Ok(is_so)
}

/// The call of his group, if it began when the bridge of `here` was there. Where this server has not heard of
/// the group, those of Matrix are on their own.
async fn running(conn: &mut Conn, asks: &GuestAsks, here: &str) -> Result<Option<Row>, GuestError> {
    let Some(group) = asks.group else { return Ok(None) };
    let Some(group) = groups::by_id(conn, group).await? else { return Ok(None) };
    if !groups::has_bridge(conn, group.row, here).await? {
        return Err(GuestError::NotBridged);
    }
    let running = calls::running(conn, group.row).await?;
    let running = running.filter(|row| row.kept.ghosts.is_some());
    // Where another bridge was there it has other names.
    if running.as_ref().is_some_and(|row| !row.is_shown_by(here)) {
        return Err(GuestError::NotBridged);
    }
    Ok(running)
}

/// Has the call prepare for him; false where its room is not that one any more.
async fn await_him(
    (db, live): (&Db, &Live),
    (now, here): (Timestamp, &str),
    (call, room): (i64, &str),
    asks: &GuestAsks,
) -> Result<bool, GuestError> {
    let mut tx = db.begin().await?;
    let Some(mut row) = calls::by_number(tx.conn(), call).await? else {
        return Err(Refused::Ended.into());
    };
    // It may have gone while LiveKit was asked.
    if !groups::has_bridge(tx.conn(), row.group, here).await? {
        return Err(GuestError::NotBridged);
    }
    if row.room() != room {
        return Ok(false);
    }
    let (before, who) =
        (row.kept.call.version, Who::Matrix(asks.user.clone(), asks.device.clone()));
    may_come(&row, &who, now)?;
    change::apply(&mut row, Event::Expect(who.clone()), now)?;
    note(&mut row, who, (&asks.identity, asks.name.as_deref()), now);
    time::put(tx, live, now, (&row, before)).await?;
    Ok(true)
}

/// Whether there is room for one of Matrix, and nobody would have to go for his sake: whoever has not
/// agreed that LiveKit hears him; and whether nobody took him out just now.
pub(super) fn may_come(row: &Row, who: &Who, now: Timestamp) -> Result<(), GuestError> {
    let is_he = |it: &&Kicked| matches!(who, Who::Matrix(user, _) if *user == it.user);
    let until = row.kept.kicked.iter().filter(is_he).map(|it| it.until_ms).max();
    if let Some(until) = until.filter(|until| *until > now) {
        return Err(GuestError::Kicked(until.0 - now.0));
    }
    let unwilling = row.unwilling();
    if !unwilling.is_empty() {
        return Err(Refused::CannotUseSfu(unwilling).into());
    }
    if !row.guests().contains(who) && is_full(row) {
        return Err(Refused::Full(row.kept.call.participants.len()).into());
    }
    Ok(())
}

/// Remembers what LiveKit calls him.
pub(super) fn note(
    row: &mut Row,
    who: Who,
    (identity, name): (&str, Option<&str>),
    now: Timestamp,
) {
    // Whoever may come again was not taken out for now.
    if let Who::Matrix(user, _) = &who {
        row.kept.kicked.retain(|it| it.user != *user);
    }
    let guests = &mut row.kept.guests;
    let his = guests.iter().filter(|(name, it)| it.who == who && **name != identity);
    let oldest = his.clone().min_by_key(|(_, it)| it.asked_ms).map(|(name, _)| name.clone());
    if his.count() >= MOST_NAMES
        && let Some(oldest) = oldest
    {
        guests.remove(&oldest);
    }
    let name = name.filter(|name| !name.trim().is_empty());
    let name = name.map(|name| name.chars().take(MAX_NAME).collect());
    let known = guests.get(identity).filter(|it| it.who == who);
    let (is_there, speaks) = known.map_or((false, false), |it| (it.is_there, it.speaks));
    let name = name.or_else(|| known.and_then(|it| it.name.clone()));
    let focus = known.and_then(|it| it.focus.clone());
    let hand = known.and_then(|it| it.hand.clone());
    let guest = Guest { who, asked_ms: now, name, is_there, speaks, focus, hand };
    guests.insert(identity.to_owned(), guest);
}

/// Takes in what LiveKit shows of those of Matrix; whether that is other than it was.
pub(super) fn see(row: &mut Row, shown: &[InRoom]) -> bool {
    let before = row.kept.guests.clone();
    for (name, guest) in &mut row.kept.guests {
        let seen = shown.iter().find(|it| it.identity == *name);
        (guest.is_there, guest.speaks) = (seen.is_some(), seen.is_some_and(|it| it.speaks));
    }
    row.kept.guests != before
}

/// Where one of Matrix may be: in the room of a call, under that name.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    /// None where the room is no group's, and is called so.
    pub(crate) group: Option<GroupId>,
    room: String,
    identity: String,
}

/// Who of these is there, in their order; none of whom nobody knows.
pub(crate) async fn are_there(
    db: &Db,
    livekit: Option<&LiveKit>,
    now: Timestamp,
    places: &[Place],
) -> Result<Vec<Option<bool>>, storage::Error> {
    let mut known: BTreeMap<String, Option<BTreeSet<String>>> = BTreeMap::new();
    let mut there = Vec::with_capacity(places.len());
    for place in places {
        let room = match place.group {
            Some(group) => room_now(db.read().await?.conn(), group).await?,
            None => None,
        };
        let room = room.unwrap_or_else(|| place.room.clone());
        if !known.contains_key(&room) {
            let inside = match livekit {
                Some(livekit) => livekit.participants(now, &room).await.ok(),
                None => None,
            };
            let names = inside.map(|all| all.into_iter().map(|it| it.identity).collect());
            known.insert(room.clone(), names);
        }
        let inside = known.get(&room).and_then(Option::as_ref);
        there.push(inside.map(|inside| inside.contains(&place.identity)));
    }
    Ok(there)
}

/// Where those of Matrix of a group are, if anywhere.
async fn room_now(conn: &mut Conn, group: GroupId) -> Result<Option<String>, storage::Error> {
    let Some(group) = groups::by_id(conn, group).await? else { return Ok(None) };
    let row = calls::running(conn, group.row).await?;
    match row.filter(|row| row.kept.ghosts.is_some()) {
        Some(row) => Ok(Some(row.room())),
        None => group_rooms::of(conn, group.row).await,
    }
}

/// What he reads where LiveKit does not answer.
fn away(row: Option<&Row>, livekit: Option<&LiveKit>, now: Timestamp) -> GuestError {
    let Some(row) = row else { return GuestError::Away };
    let ms = livekit.and_then(|livekit| livekit.rests(now));
    let ms = ms.unwrap_or_else(super::sfu::rest);
    GuestError::Refused(Refused::SfuUnavailable(row.kept.people.len(), ms))
}
