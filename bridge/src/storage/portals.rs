//! Portals, with the mirrors and the ghosts put out that the rules look at.

use causeway_protocol::ids::{Epoch, GroupId, Timestamp};
use causeway_store::{Conn, Engine, Read, Row, Tx};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use sqlx::{QueryBuilder, Row as _};

use super::{Error, at};
use crate::domain::{
    ghost::Names,
    mirror::Mirror,
    portal::{Portal, PortalId, PortalState},
};

/// Makes the portal of a group, or opens it again; a portal whose room stands keeps it.
///
/// # Errors
/// [`Error`]
pub async fn open(
    tx: &mut Tx,
    now: Timestamp,
    group: &GroupId,
    name: &str,
) -> Result<PortalId, Error> {
    let id = sqlx::query_scalar(
        "INSERT INTO portals (group_id, name, state, created_at) VALUES ($1, $2, 'making', $3)
         ON CONFLICT (group_id) DO UPDATE SET state = 'making', name = excluded.name
         RETURNING portal",
    )
    .bind(group.as_bytes().as_slice())
    .bind(name)
    .bind(at(now))
    .fetch_one(tx.conn())
    .await?;
    Ok(PortalId(id))
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
    let row = sqlx::query(
        "SELECT portal, group_id, room_id, name, state, encrypted, announced_epoch
         FROM portals WHERE group_id = $1",
    )
    .bind(group.as_bytes().as_slice())
    .fetch_optional(tx.conn())
    .await?;
    whole(tx, names, row).await
}

/// The portal of a room.
///
/// # Errors
/// [`Error`]
pub async fn of_room(tx: &mut Tx, names: &Names, room: &RoomId) -> Result<Option<Portal>, Error> {
    let row = sqlx::query(
        "SELECT portal, group_id, room_id, name, state, encrypted, announced_epoch
         FROM portals WHERE room_id = $1",
    )
    .bind(room.as_str())
    .fetch_optional(tx.conn())
    .await?;
    whole(tx, names, row).await
}

/// The portal with this id.
///
/// # Errors
/// [`Error::Row`] if there is none.
pub async fn get(tx: &mut Tx, names: &Names, id: PortalId) -> Result<Portal, Error> {
    let row = sqlx::query(
        "SELECT portal, group_id, room_id, name, state, encrypted, announced_epoch
         FROM portals WHERE portal = $1",
    )
    .bind(id.0)
    .fetch_optional(tx.conn())
    .await?;
    whole(tx, names, row).await?.ok_or(Error::Row("outbox.portal"))
}

/// The portal with this id, without its people.
///
/// # Errors
/// [`Error::Row`] if there is none.
pub async fn place(conn: &mut Conn, names: &Names, id: PortalId) -> Result<Portal, Error> {
    let row = sqlx::query(
        "SELECT portal, group_id, room_id, name, state, encrypted, announced_epoch
         FROM portals WHERE portal = $1",
    )
    .bind(id.0)
    .fetch_optional(conn)
    .await?;
    bare(names, &row.ok_or(Error::Row("outbox.portal"))?)
}

/// All portals, oldest first.
///
/// # Errors
/// [`Error`]
pub async fn all(tx: &mut Tx, names: &Names) -> Result<Vec<Portal>, Error> {
    let rows = sqlx::query(
        "SELECT portal, group_id, room_id, name, state, encrypted, announced_epoch
         FROM portals ORDER BY portal",
    )
    .fetch_all(tx.conn())
    .await?;
    let mut portals = Vec::with_capacity(rows.len());
    for row in rows {
        portals.extend(whole(tx, names, Some(row)).await?);
    }
    Ok(portals)
}

async fn whole(tx: &mut Tx, names: &Names, row: Option<Row>) -> Result<Option<Portal>, Error> {
    let Some(row) = row else { return Ok(None) };
    let mut portal = bare(names, &row)?;
    let mirrors = sqlx::query("SELECT user_id, name FROM portal_mirrors WHERE portal = $1")
        .bind(portal.id.0)
        .fetch_all(tx.conn())
        .await?;
    for mirror in mirrors {
        portal.mirrors.insert(user(&mirror, "mirrors.user_id")?, mirror.try_get(1)?);
    }
    let removed = sqlx::query(
        "SELECT removed_by, account FROM ghost_rooms WHERE portal = $1 AND membership = 'removed'",
    )
    .bind(portal.id.0)
    .fetch_all(tx.conn())
    .await?;
    for ghost in removed {
        let account: String = ghost.try_get(1)?;
        let account = account.parse().map_err(|_| Error::Row("ghost_rooms.account"))?;
        portal.removed.insert(account, user(&ghost, "ghost_rooms.removed_by")?);
    }
    Ok(Some(portal))
}

fn bare(names: &Names, row: &Row) -> Result<Portal, Error> {
    let group: Vec<u8> = row.try_get(1)?;
    let room: Option<String> = row.try_get(2)?;
    let room = room.map(RoomId::parse).transpose().map_err(|_| Error::Row("portals.room_id"))?;
    let state: String = row.try_get(4)?;
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
        announced: Epoch(row.try_get(6)?),
        mirrors: std::collections::BTreeMap::new(),
        removed: std::collections::BTreeMap::new(),
        names: names.clone(),
    })
}

fn user(row: &Row, column: &'static str) -> Result<OwnedUserId, Error> {
    UserId::parse(row.try_get::<String, _>(0)?).map_err(|_| Error::Row(column))
}

/// The bot made the room, or found it. A portal that was closed meanwhile stays closed, and has its
/// room all the same: what was said before the close still goes there.
///
/// # Errors
/// [`Error`]
pub async fn room_is_made(tx: &mut Tx, portal: PortalId, room: &RoomId) -> Result<(), Error> {
    sqlx::query(
        "UPDATE portals
         SET room_id = $2, state = CASE state WHEN 'making' THEN 'open' ELSE state END
         WHERE portal = $1 AND (room_id IS NULL OR state = 'making')",
    )
    .bind(portal.0)
    .bind(room.as_str())
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// The bridge is out of the group.
///
/// # Errors
/// [`Error`]
pub async fn close(tx: &mut Tx, portal: PortalId) -> Result<(), Error> {
    sqlx::query("UPDATE portals SET state = 'closed' WHERE portal = $1")
        .bind(portal.0)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// The room is encrypted from now on.
///
/// # Errors
/// [`Error`]
pub async fn encrypted(tx: &mut Tx, portal: PortalId) -> Result<(), Error> {
    sqlx::query("UPDATE portals SET encrypted = 1 WHERE portal = $1")
        .bind(portal.0)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Members of `epoch` are told of all mirrors.
///
/// # Errors
/// [`Error`]
pub async fn announced(tx: &mut Tx, portal: PortalId, epoch: Epoch) -> Result<(), Error> {
    sqlx::query(
        "UPDATE portals SET announced_epoch = $2 WHERE portal = $1 AND announced_epoch < $2",
    )
    .bind(portal.0)
    .bind(i64::from(epoch.0))
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// The last event of the room that was routed: what a repair reads back to.
///
/// # Errors
/// [`Error`]
pub async fn routed_to(tx: &mut Tx, portal: PortalId, event_id: &str) -> Result<(), Error> {
    sqlx::query("UPDATE portals SET cursor_event = $2 WHERE portal = $1")
        .bind(portal.0)
        .bind(event_id)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Woken when a room may have events that never came.
pub const TOPIC: &str = "suspects";

/// A room whose events are held until they were compared with what the homeserver has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// Its portal.
    pub portal: PortalId,
    /// The room.
    pub room: OwnedRoomId,
    /// The last event that was routed.
    pub cursor: Option<String>,
    /// How often it was suspected since it was trusted.
    pub times: i64,
}

/// Something may be missing anywhere.
///
/// # Errors
/// [`Error`]
pub async fn suspect_all(tx: &mut Tx) -> Result<(), Error> {
    let found = sqlx::query(
        "UPDATE portals SET suspect = suspect + 1 WHERE room_id IS NOT NULL AND state <> 'closed'",
    )
    .execute(tx.conn())
    .await?;
    if found.rows_affected() > 0 {
        tx.wake(TOPIC);
    }
    Ok(())
}

/// Rooms that are suspect.
///
/// # Errors
/// [`Error`]
pub async fn suspects(read: &mut Read) -> Result<Vec<Suspect>, Error> {
    let rows = sqlx::query(
        "SELECT portal, room_id, cursor_event, suspect FROM portals
         WHERE suspect > 0 AND room_id IS NOT NULL ORDER BY portal",
    )
    .fetch_all(read.conn())
    .await?;
    rows.into_iter()
        .map(|row| {
            let room: String = row.try_get(1)?;
            Ok(Suspect {
                portal: PortalId(row.try_get(0)?),
                room: RoomId::parse(room).map_err(|_| Error::Row("portals.room_id"))?,
                cursor: row.try_get(2)?,
                times: row.try_get(3)?,
            })
        })
        .collect()
}

/// Nothing is missing any more, unless it was suspected again meanwhile.
///
/// # Errors
/// [`Error`]
pub async fn trust(tx: &mut Tx, suspect: &Suspect) -> Result<(), Error> {
    sqlx::query("UPDATE portals SET suspect = 0 WHERE portal = $1 AND suspect = $2")
        .bind(suspect.portal.0)
        .bind(suspect.times)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Changes whom the group knows.
///
/// # Errors
/// [`Error`]
pub async fn announce(
    tx: &mut Tx,
    portal: PortalId,
    mirrors: &[Mirror],
    gone: &[OwnedUserId],
) -> Result<(), Error> {
    if !mirrors.is_empty() {
        let mut upsert =
            QueryBuilder::<Engine>::new("INSERT INTO portal_mirrors (portal, user_id, name) ");
        upsert.push_values(mirrors, |mut row, mirror| {
            row.push_bind(portal.0).push_bind(mirror.id.as_str()).push_bind(mirror.name.as_str());
        });
        upsert.push(" ON CONFLICT (portal, user_id) DO UPDATE SET name = excluded.name");
        upsert.build().execute(tx.conn()).await?;
    }
    for user in gone {
        sqlx::query("DELETE FROM portal_mirrors WHERE portal = $1 AND user_id = $2")
            .bind(portal.0)
            .bind(user.as_str())
            .execute(tx.conn())
            .await?;
    }
    Ok(())
}

/// Whether some room is being made, so that events of unknown rooms may be its.
///
/// # Errors
/// [`Error`]
pub async fn any_in_making(tx: &mut Tx) -> Result<bool, Error> {
    let one = sqlx::query("SELECT 1 FROM portals WHERE state = 'making' LIMIT 1")
        .fetch_optional(tx.conn())
        .await?;
    Ok(one.is_some())
}
