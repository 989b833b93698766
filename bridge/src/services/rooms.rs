//! Whether the bot still is in the portals' rooms: asked at the start, when something was refused or
//! given up, and now and then. A room that is purged says so by no event.
//!
//! What comes of it is a rule's (`domain/route/room.rs`); here it is only found out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
    time::Duration,
};

use causeway_protocol::ids::{GroupId, Timestamp};
use causeway_store::Db;
use ruma::{OwnedRoomId, RoomAliasId, RoomId};
use serde_json::Value;

use super::{Spine, StepError};
use crate::{
    domain::{
        Input, News, Skip,
        ghost::Names,
        portal::PortalId,
        room::{Found, predecessor, successor},
        route::route,
    },
    gateway::matrix::MatrixError,
    health::Kind,
    storage::{
        self,
        effects::{Cause, Decided},
        errands, inbox,
        portals::{self, Placed},
        sealed::Sealer,
    },
};

/// Longest between two looks.
const EVERY: Duration = Duration::from_mins(5);
/// Shortest between two looks.
const REST: Duration = Duration::from_secs(1);
/// Wait after a look that failed.
const AFTER_FAULT: Duration = Duration::from_secs(10);
/// How long what was found out is worth saying.
const TOLD_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// Why a look came to nothing; the next one may.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The homeserver's.
    #[error(transparent)]
    Matrix(#[from] MatrixError),
    /// The rows'.
    #[error(transparent)]
    Step(#[from] StepError),
}

impl From<storage::Error> for LookError {
    fn from(error: storage::Error) -> Self {
        Self::Step(error.into())
    }
}

impl From<causeway_store::Error> for LookError {
    fn from(error: causeway_store::Error) -> Self {
        Self::Step(error.into())
    }
}

/// Looks until `stop` is done.
pub async fn run(spine: &Spine, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut woken = spine.db.listen(portals::TOPIC);
    let mut seen = Seen::default();
    loop {
        let wait = match look(spine, &mut seen).await {
            Ok(()) if seen.out.is_empty() => EVERY,
            Ok(()) => Duration::ZERO,
            Err(error) => {
                tracing::debug!(%error, "it cannot be seen whether the portals' rooms are there");
                AFTER_FAULT
            }
        };
        spine.rooms_looked.store(true, Ordering::Relaxed);
        tokio::select! {
            () = async {
                tokio::time::sleep(REST).await;
                tokio::select! {
                    () = woken.changed() => {}
                    () = tokio::time::sleep(wait) => {}
                }
            } => {}
            () = &mut stop => return,
        }
    }
}

/// What the look before has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Portals that health names.
    shown: BTreeMap<PortalId, String>,
    /// Portals whose rooms the bot seemed to be out of: two looks have to agree, since what happens
    /// between asking and answering may be over again.
    out: BTreeSet<PortalId>,
}

/// Looks once.
///
/// # Errors
/// [`LookError`]
pub async fn look(spine: &Spine, seen: &mut Seen) -> Result<(), LookError> {
    let mut read = spine.db.read().await?;
    let unmade = portals::unmade(&mut read).await?;
    // Before the homeserver is asked: what is made meanwhile is not in its answer.
    let open = portals::open(&mut read).await?;
    drop(read);
    let mut is_known = spine.rooms_known.load(Ordering::Relaxed) || open.is_empty();
    let mut news: Vec<(PortalId, Option<OwnedRoomId>, News)> =
        unmade.into_iter().map(|portal| (portal, None, News::Unmade)).collect();
    if !open.is_empty() {
        let joined = spine.matrix.joined_rooms(spine.names.bot()).await?;
        let joined: BTreeSet<OwnedRoomId> = joined.into_iter().collect();
        is_known = is_known || !any_unheard(spine, &open, &joined).await?;
        let mut out = BTreeSet::new();
        for Placed { id, group, room, lost, is_out, .. } in open {
            if joined.contains(&room) {
                if lost.is_some() || is_out {
                    news.push((id, Some(room), News::In));
                }
                continue;
            }
            // A database that was put back does not know the room that was made since.
            match (is_elsewhere(spine, &group, &room, &joined).await, lost) {
                (Ok(true), _) => news.push((id, Some(room), News::Elsewhere)),
                (Ok(false) | Err(_), Some(_)) => {}
                (Err(error), None) => {
                    tracing::debug!(%room, %error, "where its alias leads cannot be seen");
                    out.insert(id);
                }
                (Ok(false), None) if seen.out.contains(&id) => {
                    news.push((id, Some(room), News::Out));
                }
                (Ok(false), None) => {
                    out.insert(id);
                }
            }
        }
        seen.out = out;
    }
    // With what is found out stands that a room is entered, for which events of unknown rooms wait.
    if !news.is_empty() {
        learn(spine, news).await?;
    }
    if is_known && seen.out.is_empty() && !spine.rooms_known.swap(true, Ordering::Relaxed) {
        let mut tx = spine.db.begin().await?;
        inbox::route_early(&mut tx).await?;
        tx.commit().await?;
    }
    let lost = portals::lost(&mut spine.db.read().await?).await?;
    show(spine, &mut seen.shown, lost.into_iter().collect());
    Ok(())
}

/// Whether the bot is in a room that has replaced a portal's, of which the portal has not heard: the
/// database was put back. What is said there waits until what was said before is read.
async fn any_unheard(
    spine: &Spine,
    open: &[Placed],
    joined: &BTreeSet<OwnedRoomId>,
) -> Result<bool, LookError> {
    let Spine { db, matrix, names, .. } = spine;
    let ours: BTreeSet<&OwnedRoomId> = open.iter().map(|placed| &placed.room).collect();
    for room in joined.iter().filter(|room| !ours.contains(room)) {
        if errands::is_chat(db.read().await?.conn(), room).await? {
            continue;
        }
        let content = |kind, of| async move {
            match matrix.state(names.bot(), of, kind, "").await {
                Err(MatrixError::Refused(..)) => Ok(None),
                content => content,
            }
        };
        let create = content("m.room.create", room).await?;
        let before = create.as_ref().and_then(Value::as_object).and_then(predecessor);
        let is_unheard = |placed: &&Placed| {
            Some(&placed.room) == before.as_ref()
                && placed.lost.is_none()
                && placed.successor.is_none()
        };
        let Some(placed) = open.iter().find(is_unheard) else { continue };
        let stone = content("m.room.tombstone", &placed.room).await?;
        if stone.as_ref().and_then(Value::as_object).and_then(successor).as_ref() == Some(room) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the group's alias leads to another room that the bot made and is in, and that none has
/// replaced: a room that was upgraded keeps its alias, perhaps, and is the group's no more.
async fn is_elsewhere(
    spine: &Spine,
    group: &GroupId,
    room: &RoomId,
    joined: &BTreeSet<OwnedRoomId>,
) -> Result<bool, MatrixError> {
    let Spine { matrix, names, .. } = spine;
    let Ok(alias) = RoomAliasId::parse(names.alias(group)) else { return Ok(false) };
    let behind = matrix.resolve_alias(&alias).await?;
    let Some(behind) = behind.filter(|behind| behind != room && joined.contains(behind)) else {
        return Ok(false);
    };
    let state = matrix.whole_state(names.bot(), &behind).await?;
    let found = Found::of(names, &behind, &state);
    Ok(found.is_in && found.is_made && found.successor.is_none())
}

async fn learn(
    spine: &Spine,
    news: Vec<(PortalId, Option<OwnedRoomId>, News)>,
) -> Result<(), LookError> {
    let Spine { db, sealer, names, .. } = spine;
    let now = spine.now();
    let mut tx = db.begin().await?;
    for (id, room, news) in news {
        let mut portal = portals::get(&mut tx, names, id).await?;
        if room.is_some() && portal.room != room {
            continue;
        }
        let Ok(effects) = route(&portal, &Input::Room(news)) else { continue };
        let cause = format!("rooms {} {}", id.0, now.0);
        let mut decided = Decided::default();
        decided.take(&mut portal, because(names, now, &cause), effects);
        decided.keep(&mut tx, sealer, now, std::iter::once(&mut portal)).await?;
    }
    inbox::route_early(&mut tx).await?;
    tx.commit().await?;
    Ok(())
}

/// Why the operator gets no other room.
#[derive(Debug, thiserror::Error)]
pub enum RecreateError {
    /// There is no such portal.
    #[error("there is no portal of this number")]
    Unknown,
    /// Its group has no bridge: an admin of it lets one in.
    #[error("the bridge is not in the group")]
    Closed,
    /// The rows'.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

/// Has another room made for a portal; nothing more is done where one is being made already.
///
/// # Errors
/// [`RecreateError`]
pub async fn recreate(
    db: &Db,
    sealer: &Sealer,
    names: &Names,
    now: Timestamp,
    id: PortalId,
) -> Result<(), RecreateError> {
    let mut tx = db.begin().await.map_err(storage::Error::from)?;
    let Some(mut portal) = portals::find(&mut tx, names, id).await? else {
        return Err(RecreateError::Unknown);
    };
    let effects = match route(&portal, &Input::Room(News::Recreate)) {
        Ok(effects) => effects,
        Err(Skip::Closed) => return Err(RecreateError::Closed),
        Err(_) => return Ok(()),
    };
    let cause = format!("recreate {} {}", id.0, now.0);
    let mut decided = Decided::default();
    decided.take(&mut portal, because(names, now, &cause), effects);
    decided.keep(&mut tx, sealer, now, std::iter::once(&mut portal)).await?;
    Ok(tx.commit().await.map_err(storage::Error::from)?)
}

fn because<'a>(names: &'a Names, now: Timestamp, id: &'a str) -> Cause<'a> {
    let (author, expires_at) = (names.bot().as_str(), now.plus_ms(TOLD_MS));
    Cause { id: id.as_bytes(), author, accepted_at: now, expires_at }
}

/// Health names those that are lost, and no others.
fn show(spine: &Spine, shown: &mut BTreeMap<PortalId, String>, lost: BTreeMap<PortalId, String>) {
    for id in shown.keys().filter(|id| !lost.contains_key(id)) {
        spine.troubles.goes(Kind::Portal, &id.0.to_string());
    }
    for (id, why) in &lost {
        spine.troubles.stands(Kind::Portal, &id.0.to_string(), why, None);
    }
    *shown = lost;
}
