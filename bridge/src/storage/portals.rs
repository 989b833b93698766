//! Portals, with the mirrors and the ghosts put out that the rules look at.

mod save;
mod several;

use std::collections::{BTreeMap, BTreeSet};

pub use save::save;
pub use several::{read_of_groups, read_of_rooms, select_of_groups, select_of_rooms};

use causeway_protocol::ids::{GroupId, Timestamp};
use causeway_store::{Conn, Read, Row, Script, Tx};
use ruma::{EventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use sqlx::Row as _;

use super::{Error, at};
use crate::domain::{
    ghost::Names,
    portal::{NEVER, Portal, PortalId, PortalState, Unsaved},
};

/// Woken when a portal's room may not be what it was.
pub const TOPIC: &str = "portals";

/// Rooms of one user that are named at once.
const ROOMS_NAMED: usize = 20;

/// The portal of a group, made if there is none: one that nobody has opened yet.
///
/// # Errors
/// [`Error`]
pub async fn found(
    tx: &mut Tx,
    names: &Names,
    now: Timestamp,
    group: &GroupId,
) -> Result<Portal, Error> {
    sqlx::query(
        "INSERT INTO portals (group_id, name, state, created_at) VALUES ($1, '', 'closed', $2)
         ON CONFLICT (group_id) DO NOTHING",
    )
    .bind(group.as_bytes().as_slice())
    .bind(at(now))
    .execute(tx.conn())
    .await?;
    of_group(tx, names, group).await?.ok_or(Error::Row("portals.group_id"))
}

/// The portal of a group.
///
/// # Errors
/// [`Error`]
pub async fn of_group(
    tx: &mut Tx,
    names: &Names,
    group: &GroupId,
) -> Result<Option<Portal>, Error> {
    let (group, mut script) = (group.as_bytes().as_slice(), Script::default());
    let query = script.add(
        "SELECT portal, group_id, room_id, name, state, encrypted, lost, successor,
                hears_from, refused
         FROM portals WHERE group_id = $1",
    );
    query.bind(group);
    let query = script.add(
        "SELECT m.user_id, m.name, NULL AS account FROM portal_mirrors m
         JOIN portals p ON p.portal = m.portal WHERE p.group_id = $1
         UNION ALL SELECT g.removed_by, NULL, g.account FROM ghost_rooms g
         JOIN portals p ON p.portal = g.portal
         WHERE p.group_id = $2 AND g.membership = 'removed'
         UNION ALL SELECT i.user_id, NULL, NULL FROM portal_invited i
         JOIN portals p ON p.portal = i.portal WHERE p.group_id = $3",
    );
    query.bind(group).bind(group).bind(group);
    whole(names, &script.run(tx.conn()).await?)
}

/// The portal of a room.
///
/// # Errors
/// [`Error`]
pub async fn of_room(tx: &mut Tx, names: &Names, room: &RoomId) -> Result<Option<Portal>, Error> {
    let (room, mut script) = (room.as_str(), Script::default());
    let query = script.add(
        "SELECT portal, group_id, room_id, name, state, encrypted, lost, successor,
                hears_from, refused
         FROM portals WHERE room_id = $1",
    );
    query.bind(room);
    let query = script.add(
        "SELECT m.user_id, m.name, NULL AS account FROM portal_mirrors m
         JOIN portals p ON p.portal = m.portal WHERE p.room_id = $1
         UNION ALL SELECT g.removed_by, NULL, g.account FROM ghost_rooms g
         JOIN portals p ON p.portal = g.portal
         WHERE p.room_id = $2 AND g.membership = 'removed'
         UNION ALL SELECT i.user_id, NULL, NULL FROM portal_invited i
         JOIN portals p ON p.portal = i.portal WHERE p.room_id = $3",
    );
    query.bind(room).bind(room).bind(room);
    whole(names, &script.run(tx.conn()).await?)
}

/// The group that this room is the open portal of.
///
/// # Errors
/// [`Error`]
pub async fn group_of(read: &mut Read, room: &RoomId) -> Result<Option<GroupId>, Error> {
    let group: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT group_id FROM portals WHERE room_id = $1 AND state = 'open'")
            .bind(room.as_str())
            .fetch_optional(read.conn())
            .await?;
    let group = group.map(|group| GroupId::from_slice(&group));
    group.transpose().map_err(|_| Error::Row("portals.group_id"))
}

/// Portals of whose rooms it is said that this one has replaced them, and where the bridge is not
/// yet. It has replaced one at most; whoever has power in another may say so of that too.
///
/// # Errors
/// [`Error`]
pub async fn replaced_by(tx: &mut Tx, room: &RoomId) -> Result<Vec<PortalId>, Error> {
    let ids: Vec<i64> =
        sqlx::query_scalar("SELECT portal FROM portals WHERE successor = $1 ORDER BY portal")
            .bind(room.as_str())
            .fetch_all(tx.conn())
            .await?;
    Ok(ids.into_iter().map(PortalId).collect())
}

/// Rooms of other portals that this one may have replaced, too.
///
/// # Errors
/// [`Error`]
pub async fn others_before(
    read: &mut Read,
    portal: PortalId,
    next: &RoomId,
) -> Result<Vec<OwnedRoomId>, Error> {
    let rooms: Vec<String> = sqlx::query_scalar(
        "SELECT room_id FROM portals
         WHERE successor = $1 AND portal <> $2 AND room_id IS NOT NULL",
    )
    .bind(next.as_str())
    .bind(portal.0)
    .fetch_all(read.conn())
    .await?;
    let parsed = rooms.into_iter().map(RoomId::parse);
    parsed.collect::<Result<_, _>>().map_err(|_| Error::Row("portals.room_id"))
}

/// The portal with this id.
///
/// # Errors
/// [`Error::Row`] if there is none.
pub async fn get(tx: &mut Tx, names: &Names, id: PortalId) -> Result<Portal, Error> {
    find(tx, names, id).await?.ok_or(Error::Row("outbox.portal"))
}

/// The portal with this id, if there is one.
///
/// # Errors
/// [`Error`]
pub async fn find(tx: &mut Tx, names: &Names, id: PortalId) -> Result<Option<Portal>, Error> {
    let row = sqlx::query(
        "SELECT portal, group_id, room_id, name, state, encrypted, lost, successor,
                hears_from, refused
         FROM portals WHERE portal = $1",
    )
    .bind(id.0)
    .fetch_optional(tx.conn())
    .await?;
    with_people(tx, names, row).await
}

/// The portal with this id, without its people.
///
/// # Errors
/// [`Error::Row`] if there is none.
pub async fn place(conn: &mut Conn, names: &Names, id: PortalId) -> Result<Portal, Error> {
    let mut script = Script::default();
    select_place(&mut script, id);
    read_place(names, script.run(conn).await?.first())
}

/// The Matrix users of a portal, by the names that its group knows them by.
///
/// # Errors
/// [`Error`]
pub async fn mirrors(
    read: &mut Read,
    id: PortalId,
) -> Result<BTreeMap<OwnedUserId, String>, Error> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT user_id, name FROM portal_mirrors WHERE portal = $1")
            .bind(id.0)
            .fetch_all(read.conn())
            .await?;
    let mirrors = rows.into_iter().map(|(user, name)| {
        let user = UserId::parse(user).map_err(|_| Error::Row("portal_mirrors.user_id"))?;
        Ok((user, name))
    });
    mirrors.collect()
}

/// Asks for the portal with this id, without its people: one row, for [`read_place`].
pub(super) fn select_place(script: &mut Script, id: PortalId) {
    let query = script.add(
        "SELECT portal, group_id, room_id, name, state, encrypted, lost, successor,
                hears_from, refused
         FROM portals WHERE portal = $1",
    );
    query.bind(id.0);
}

/// Reads what [`select_place`] asked for.
pub(super) fn read_place(names: &Names, row: Option<&Row>) -> Result<Portal, Error> {
    bare(names, row.ok_or(Error::Row("outbox.portal"))?)
}

/// All portals, oldest first.
///
/// # Errors
/// [`Error`]
pub async fn all(tx: &mut Tx, names: &Names) -> Result<Vec<Portal>, Error> {
    let rows = sqlx::query(
        "SELECT portal, group_id, room_id, name, state, encrypted, lost, successor,
                hears_from, refused
         FROM portals ORDER BY portal",
    )
    .fetch_all(tx.conn())
    .await?;
    let mut portals = Vec::with_capacity(rows.len());
    for row in rows {
        portals.extend(with_people(tx, names, Some(row)).await?);
    }
    Ok(portals)
}

async fn with_people(
    tx: &mut Tx,
    names: &Names,
    row: Option<Row>,
) -> Result<Option<Portal>, Error> {
    let Some(row) = row else { return Ok(None) };
    let portal: i64 = row.try_get(0)?;
    let people = sqlx::query(
        "SELECT user_id, name, NULL AS account FROM portal_mirrors WHERE portal = $1
         UNION ALL SELECT removed_by, NULL, account FROM ghost_rooms
         WHERE portal = $1 AND membership = 'removed'
         UNION ALL SELECT user_id, NULL, NULL FROM portal_invited WHERE portal = $1",
    );
    let people = people.bind(portal).fetch_all(tx.conn()).await?;
    let rows: Vec<Row> = std::iter::once(row).chain(people).collect();
    whole(names, &rows)
}

/// The portal that the first row is of, the others of its people, if there is one.
fn whole(names: &Names, rows: &[Row]) -> Result<Option<Portal>, Error> {
    let Some((row, people)) = rows.split_first() else { return Ok(None) };
    let mut portal = bare(names, row)?;
    for row in people {
        add_one(&mut portal, row)?;
    }
    Ok(Some(portal))
}

/// Adds one of a portal's people.
fn add_one(portal: &mut Portal, row: &Row) -> Result<(), Error> {
    match row.try_get::<Option<String>, _>(2)? {
        None => match row.try_get::<Option<String>, _>(1)? {
            Some(name) => _ = portal.mirrors.insert(user(row, "portal_mirrors.user_id")?, name),
            None => _ = portal.invited.insert(user(row, "portal_invited.user_id")?),
        },
        Some(account) => {
            let account = account.parse().map_err(|_| Error::Row("ghost_rooms.account"))?;
            portal.removed.insert(account, user(row, "ghost_rooms.removed_by")?);
        }
    }
    Ok(())
}

fn bare(names: &Names, row: &Row) -> Result<Portal, Error> {
    let group: Vec<u8> = row.try_get(1)?;
    let room: Option<String> = row.try_get(2)?;
    let room = room.map(RoomId::parse).transpose().map_err(|_| Error::Row("portals.room_id"))?;
    let next: Option<String> = row.try_get(7)?;
    let next = next.map(RoomId::parse).transpose().map_err(|_| Error::Row("portals.successor"))?;
    let state: String = row.try_get(4)?;
    let told: Option<String> = row.try_get(8)?;
    let told =
        told.map(EventId::parse).transpose().map_err(|_| Error::Row("portals.hears_from"))?;
    Ok(Portal {
        id: PortalId(row.try_get(0)?),
        group: GroupId::from_slice(&group).map_err(|_| Error::Row("portals.group_id"))?,
        room,
        name: row.try_get(3)?,
        state: match state.as_str() {
            "making" => PortalState::Making,
            "open" => PortalState::Open,
            "closed" => PortalState::Closed,
            _ => return Err(Error::Row("portals.state")),
        },
        encrypted: row.try_get(5)?,
        lost: row.try_get(6)?,
        successor: next,
        hears_from: told,
        refused: row.try_get(9)?,
        mirrors: BTreeMap::new(),
        invited: BTreeSet::new(),
        removed: BTreeMap::new(),
        natives: None,
        taken: std::sync::OnceLock::new(),
        names: names.clone(),
        unsaved: Unsaved::default(),
    })
}

fn user(row: &Row, column: &'static str) -> Result<OwnedUserId, Error> {
    UserId::parse(row.try_get::<String, _>(0)?).map_err(|_| Error::Row(column))
}

/// Rooms of portals that are not closed.
///
/// # Errors
/// [`Error`]
pub async fn rooms(tx: &mut Tx) -> Result<Vec<OwnedRoomId>, Error> {
    let rooms: Vec<String> = sqlx::query_scalar(
        "SELECT room_id FROM portals WHERE room_id IS NOT NULL AND state <> 'closed'
         ORDER BY portal",
    )
    .fetch_all(tx.conn())
    .await?;
    rooms
        .into_iter()
        .map(|room| RoomId::parse(room).map_err(|_| Error::Row("portals.room_id")))
        .collect()
}

/// Bridged rooms in which somebody is, by the names of their groups: so many of them, and how many there
/// are.
///
/// # Errors
/// [`Error`]
pub async fn rooms_of(
    read: &mut Read,
    user: &UserId,
) -> Result<(Vec<(OwnedRoomId, String)>, usize), Error> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT portals.room_id, portals.name FROM portal_mirrors
         JOIN portals ON portals.portal = portal_mirrors.portal
         WHERE portal_mirrors.user_id = $1 AND portals.state = 'open' AND portals.lost IS NULL
           AND portals.room_id IS NOT NULL
         ORDER BY portals.portal",
    )
    .bind(user.as_str())
    .fetch_all(read.conn())
    .await?;
    let count = rows.len();
    let rooms = rows.into_iter().take(ROOMS_NAMED).map(|(room, name)| {
        let room = RoomId::parse(room).map_err(|_| Error::Row("portals.room_id"))?;
        Ok((room, name))
    });
    Ok((rooms.collect::<Result<_, Error>>()?, count))
}

/// The room that has replaced one that this user was in, while the bridge is not there.
///
/// # Errors
/// [`Error`]
pub async fn unfollowed(read: &mut Read, user: &UserId) -> Result<Option<OwnedRoomId>, Error> {
    let next: Option<String> = sqlx::query_scalar(
        "SELECT portals.successor FROM portal_mirrors
         JOIN portals ON portals.portal = portal_mirrors.portal
         WHERE portal_mirrors.user_id = $1 AND portals.lost IS NOT NULL
           AND portals.successor IS NOT NULL
         ORDER BY portals.portal LIMIT 1",
    )
    .bind(user.as_str())
    .fetch_optional(read.conn())
    .await?;
    next.map(RoomId::parse).transpose().map_err(|_| Error::Row("portals.successor"))
}

/// Portals that wait for an event that has come: a version before let them.
///
/// # Errors
/// [`Error`]
pub async fn heard(tx: &mut Tx) -> Result<(), Error> {
    sqlx::query(
        "UPDATE portals SET hears_from = NULL WHERE hears_from IS NOT NULL
           AND EXISTS (SELECT 1 FROM inbox WHERE inbox.event_id = portals.hears_from AND inbox.state = 1)",
    )
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// As [`heard`], of one portal: its event may have come before it was known to be waited for.
///
/// # Errors
/// [`Error`]
pub async fn has_heard(tx: &mut Tx, portal: PortalId) -> Result<(), Error> {
    sqlx::query(
        "UPDATE portals SET hears_from = NULL WHERE portal = $1 AND hears_from IS NOT NULL
           AND EXISTS (SELECT 1 FROM inbox WHERE inbox.event_id = portals.hears_from AND inbox.state = 1)",
    )
    .bind(portal.0)
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Whether some room is being made, so that events of unknown rooms may be its.
///
/// # Errors
/// [`Error`]
pub async fn any_in_making(tx: &mut Tx) -> Result<bool, Error> {
    let one = sqlx::query("SELECT 1 FROM portals WHERE state = 'making' AND lost IS NULL LIMIT 1")
        .fetch_optional(tx.conn())
        .await?;
    Ok(one.is_some())
}

/// Portals whose rooms are said to be in the making, or to be followed into, and of which nothing
/// waits that would.
///
/// # Errors
/// [`Error`]
pub async fn unmade(read: &mut Read) -> Result<Vec<PortalId>, Error> {
    let ids: Vec<i64> = sqlx::query_scalar(
        "SELECT portal FROM
             (SELECT portal FROM portals WHERE state = 'making' AND lost IS NULL
              UNION ALL SELECT portal FROM portals
              WHERE successor IS NOT NULL AND state = 'open' AND lost IS NULL) AS entered
         WHERE NOT EXISTS (SELECT 1 FROM portal_outbox WHERE portal_outbox.lane IN
               ('bot/' || entered.portal, 'portal/' || entered.portal || '/to_matrix'))",
    )
    .fetch_all(read.conn())
    .await?;
    Ok(ids.into_iter().map(PortalId).collect())
}

/// Where a portal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Which.
    pub id: PortalId,
    /// The native end.
    pub group: GroupId,
    /// Its room.
    pub room: OwnedRoomId,
    /// Why nothing gets there, if so.
    pub lost: Option<String>,
    /// The room that has replaced it, while the bridge is not there.
    pub successor: Option<OwnedRoomId>,
    /// The bot was seen to go out of it.
    pub is_out: bool,
}

/// Portals that are open, with their rooms.
///
/// # Errors
/// [`Error`]
pub async fn open(read: &mut Read) -> Result<Vec<Placed>, Error> {
    let rows = sqlx::query(
        "SELECT portal, group_id, room_id, lost, successor, hears_from FROM portals
         WHERE state = 'open' AND room_id IS NOT NULL ORDER BY portal",
    )
    .fetch_all(read.conn())
    .await?;
    rows.into_iter()
        .map(|row| {
            let (group, room): (Vec<u8>, String) = (row.try_get(1)?, row.try_get(2)?);
            let next: Option<String> = row.try_get(4)?;
            let next = next.map(RoomId::parse).transpose();
            Ok(Placed {
                id: PortalId(row.try_get(0)?),
                group: GroupId::from_slice(&group).map_err(|_| Error::Row("portals.group_id"))?,
                room: RoomId::parse(room).map_err(|_| Error::Row("portals.room_id"))?,
                lost: row.try_get(3)?,
                successor: next.map_err(|_| Error::Row("portals.successor"))?,
                is_out: row.try_get::<Option<&str>, _>(5)? == Some(NEVER),
            })
        })
        .collect()
}

/// Portals that nothing gets into, and why.
///
/// # Errors
/// [`Error`]
pub async fn lost(read: &mut Read) -> Result<Vec<(PortalId, String)>, Error> {
    let rows = sqlx::query(
        "SELECT portal, lost FROM portals WHERE lost IS NOT NULL AND state <> 'closed'
         ORDER BY portal",
    )
    .fetch_all(read.conn())
    .await?;
    rows.into_iter().map(|row| Ok((PortalId(row.try_get(0)?), row.try_get(1)?))).collect()
}
