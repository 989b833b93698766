//! Ghosts that were made, and where they are.

use causeway_protocol::ids::{AccountId, Timestamp};
use causeway_store::{Read, Row, Script, Tx};
use ruma::{OwnedUserId, UserId};
use sqlx::Row as _;

use super::{Error, at};
use crate::domain::portal::PortalId;

/// The homeserver has the ghost now.
///
/// # Errors
/// [`Error`]
pub async fn made(
    tx: &mut Tx,
    now: Timestamp,
    account: &AccountId,
    ghost: &UserId,
    name: &str,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO ghosts (account, user_id, display_name, made_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (account) DO UPDATE SET display_name = excluded.display_name",
    )
    .bind(account.as_str())
    .bind(ghost.as_str())
    .bind(name)
    .bind(at(now))
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Where an account's ghost is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// In the room.
    Joined,
    /// Not in the room, and may come.
    Absent,
    /// Put out of the room by this user.
    Removed(OwnedUserId),
}

/// Where the account's ghost is, seen from the portal's room, and whether the homeserver has it, with its
/// device and by this name.
///
/// # Errors
/// [`Error`]
pub async fn standing(
    read: &mut Read,
    portal: PortalId,
    account: &AccountId,
    name: &str,
) -> Result<(Standing, bool), Error> {
    let mut script = Script::default();
    let query = script
        .add("SELECT membership, removed_by FROM ghost_rooms WHERE portal = $1 AND account = $2");
    query.bind(portal.0).bind(account.as_str());
    let query = script.add("SELECT 1 FROM ghosts WHERE account = $1 AND display_name = $2");
    query.bind(account.as_str()).bind(name);
    let mut rows = script.run(read.conn()).await?;
    let standing = standing_in(rows.take().first())?;
    Ok((standing, !rows.take().is_empty()))
}

fn standing_in(row: Option<&Row>) -> Result<Standing, Error> {
    let Some(row) = row else { return Ok(Standing::Absent) };
    match row.try_get::<Option<String>, _>(1)? {
        None => Ok(Standing::Joined),
        Some(by) => UserId::parse(by)
            .map(Standing::Removed)
            .map_err(|_| Error::Row("ghost_rooms.removed_by")),
    }
}

/// Accounts whose ghosts are in the portal's room.
///
/// # Errors
/// [`Error`]
pub async fn joined(read: &mut Read, portal: PortalId) -> Result<Vec<AccountId>, Error> {
    let accounts: Vec<String> = sqlx::query_scalar(
        "SELECT account FROM ghost_rooms WHERE portal = $1 AND membership = 'joined'
         ORDER BY account",
    )
    .bind(portal.0)
    .fetch_all(read.conn())
    .await?;
    accounts
        .into_iter()
        .map(|account| account.parse().map_err(|_| Error::Row("ghost_rooms.account")))
        .collect()
}

/// How many accounts' ghosts were put out of the portal's room.
///
/// # Errors
/// [`Error`]
pub async fn count_removed(read: &mut Read, portal: PortalId) -> Result<usize, Error> {
    let count: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM ghost_rooms WHERE portal = $1 AND membership = 'removed'",
    )
    .bind(portal.0)
    .fetch_one(read.conn())
    .await?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// The ghost is in the room, unless somebody put it out meanwhile.
///
/// # Errors
/// [`Error`]
pub async fn has_joined(tx: &mut Tx, portal: PortalId, account: &AccountId) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO ghost_rooms (portal, account, membership) VALUES ($1, $2, 'joined')
         ON CONFLICT (portal, account) DO NOTHING",
    )
    .bind(portal.0)
    .bind(account.as_str())
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// The ghost is not in the room, and nobody minds: it left, or is welcome again.
///
/// # Errors
/// [`Error`]
pub async fn has_left(tx: &mut Tx, portal: PortalId, account: &AccountId) -> Result<(), Error> {
    sqlx::query("DELETE FROM ghost_rooms WHERE portal = $1 AND account = $2")
        .bind(portal.0)
        .bind(account.as_str())
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// The portal's room is another one: no ghost is there yet, and none was put out of it.
///
/// # Errors
/// [`Error`]
pub async fn are_elsewhere(tx: &mut Tx, portal: PortalId) -> Result<(), Error> {
    sqlx::query("DELETE FROM ghost_rooms WHERE portal = $1")
        .bind(portal.0)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// Somebody put the ghost out of the room.
///
/// # Errors
/// [`Error`]
pub async fn removed(
    tx: &mut Tx,
    portal: PortalId,
    account: &AccountId,
    by: &OwnedUserId,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO ghost_rooms (portal, account, membership, removed_by)
         VALUES ($1, $2, 'removed', $3)
         ON CONFLICT (portal, account) DO UPDATE
         SET membership = 'removed', removed_by = excluded.removed_by",
    )
    .bind(portal.0)
    .bind(account.as_str())
    .bind(by.as_str())
    .execute(tx.conn())
    .await?;
    Ok(())
}
