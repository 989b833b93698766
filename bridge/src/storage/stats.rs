//! What metrics and the admin API count.

use causeway_protocol::ids::Timestamp;
use causeway_store::Read;
use serde::Serialize;
use sqlx::Row as _;

use super::{Error, time};

/// How full the queues are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, utoipa::ToSchema)]
pub struct Stats {
    /// Events that wait to be routed.
    pub inbox: i64,
    /// Effects that wait to be carried out.
    pub outbox: i64,
    /// Effects given up.
    pub dead_letters: i64,
    /// What could not be parsed or read.
    pub quarantine: i64,
    /// Portals that are open.
    pub portals: i64,
    /// Ghosts that were made.
    pub ghosts: i64,
    /// Lanes that stand still until somebody acts.
    pub paused_lanes: i64,
}

/// Counts.
///
/// # Errors
/// [`Error`]
pub async fn read(read: &mut Read) -> Result<Stats, Error> {
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM inbox WHERE state = 0),
                (SELECT count(*) FROM portal_outbox),
                (SELECT count(*) FROM dead_letters),
                (SELECT count(*) FROM quarantine),
                (SELECT count(*) FROM portals WHERE state = 'open'),
                (SELECT count(*) FROM ghosts),
                (SELECT count(*) FROM lanes WHERE paused IS NOT NULL)",
    )
    .fetch_one(read.conn())
    .await?;
    Ok(Stats {
        inbox: row.try_get(0)?,
        outbox: row.try_get(1)?,
        dead_letters: row.try_get(2)?,
        quarantine: row.try_get(3)?,
        portals: row.try_get(4)?,
        ghosts: row.try_get(5)?,
        paused_lanes: row.try_get(6)?,
    })
}

/// One lane as an admin sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LaneState {
    /// Its name.
    pub lane: String,
    /// Rows in it.
    pub rows: i64,
    /// Why it stands still, if it does.
    pub paused: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// When it may go on, Unix milliseconds.
    pub not_before: Timestamp,
}

/// Lanes with rows, or paused.
///
/// # Errors
/// [`Error`]
pub async fn lanes(read: &mut Read) -> Result<Vec<LaneState>, Error> {
    let rows = sqlx::query(
        "SELECT lane, (SELECT count(*) FROM portal_outbox WHERE portal_outbox.lane = lanes.lane) AS n, paused,
                failures, not_before
         FROM lanes WHERE ready = TRUE OR paused IS NOT NULL ORDER BY lane",
    )
    .fetch_all(read.conn())
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(LaneState {
                lane: row.try_get(0)?,
                rows: row.try_get(1)?,
                paused: row.try_get(2)?,
                failures: row.try_get(3)?,
                not_before: time(row.try_get(4)?),
            })
        })
        .collect()
}

/// One portal as an admin sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct PortalState {
    /// Names it.
    pub id: i64,
    /// The group, base64url.
    pub group: String,
    /// The room, once it is made.
    pub room: Option<String>,
    /// The group's name.
    pub name: String,
    /// `making`, `open` or `closed`.
    pub state: String,
    /// Whether the room is encrypted, so that nothing goes into it.
    pub encrypted: bool,
    /// Why it is closed though the bridge is in the group, if so: who asked for it may not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Why what is said in the group waits, if so: `encrypted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<&'static str>,
    /// Why nothing gets into the room any more, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
    /// Matrix users that the group knows.
    pub mirrors: i64,
    /// Ghosts in the room.
    pub ghosts: i64,
}

/// Portals after `after`, oldest first, at most `limit`.
///
/// # Errors
/// [`Error`]
pub async fn portals(read: &mut Read, after: i64, limit: u32) -> Result<Vec<PortalState>, Error> {
    let rows = sqlx::query(
        "SELECT portal, group_id, room_id, name, state, encrypted,
                (SELECT count(*) FROM portal_mirrors m WHERE m.portal = p.portal),
                (SELECT count(*) FROM ghost_rooms g
                 WHERE g.portal = p.portal AND g.membership = 'joined'),
                lost, refused
         FROM portals p WHERE portal > $1 ORDER BY portal LIMIT $2",
    )
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(read.conn())
    .await?;
    rows.into_iter()
        .map(|row| {
            let group: Vec<u8> = row.try_get(1)?;
            let state: String = row.try_get(4)?;
            let encrypted: bool = row.try_get(5)?;
            Ok(PortalState {
                id: row.try_get(0)?,
                group: causeway_protocol::ids::text_of(&group),
                room: row.try_get(2)?,
                name: row.try_get(3)?,
                paused: (encrypted && state != "closed").then_some("encrypted"),
                state,
                encrypted,
                mirrors: row.try_get(6)?,
                ghosts: row.try_get(7)?,
                lost: row.try_get(8)?,
                refused: row.try_get(9)?,
            })
        })
        .collect()
}
