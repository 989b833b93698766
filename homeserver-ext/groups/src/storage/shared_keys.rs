//! Keys that all of a group share: who made them, who was given them, what was opened under them.

use std::collections::HashMap;

use causeway_protocol::{
    ids::{DeviceId, Epoch, GroupId, RosterHash, SharedKeyId, Timestamp},
    shared_key::Alg,
};
use causeway_store::{Conn, Row, Script};
use sqlx::Row as _;
use zeroize::Zeroizing;

use super::{Error, Whole as _, ms, signed, unsigned};
use crate::{
    schemes::shared_key::{GroupKey, Window},
    vault::{Class, Vault},
};

const TABLE: &str = "shared_keys";
/// Keys of one maker in a group: whoever may make keys fills no more than this.
/// Whoever comes back after a month gets a month's keys at once, and some of what is under them waits for
/// its sender's record.
const MAX_OF_MAKER: i64 = 64;
/// Groups that are looked after at once.
const PAGE: i64 = 16;

/// A key, and what is known of it.
pub(crate) struct Kept {
    pub(crate) key: GroupKey,
    pub(crate) generation: u8,
    pub(crate) roster: RosterHash,
    /// Who gave it.
    pub(crate) maker: DeviceId,
    /// From when on it is sent under.
    pub(crate) created: Timestamp,
    pub(crate) ends: Timestamp,
    /// When it came.
    pub(crate) at: Timestamp,
    /// The number of this device's next message.
    pub(crate) next: u64,
    /// Since when another is sent under.
    pub(crate) retired: Option<Timestamp>,
    /// Whether nobody is left whom this device is to give it.
    pub(crate) is_given: bool,
}

fn place(group: &GroupId, key: &SharedKeyId) -> Vec<u8> {
    [group.as_bytes().as_slice(), key.as_bytes()].concat()
}

/// Keeps a new key, and lets go of its maker's oldest beyond what is kept of one.
pub(crate) async fn insert(conn: &mut Conn, vault: &Vault, kept: &Kept) -> Result<(), Error> {
    let Kept { key, maker, .. } = kept;
    let (group, id) = (key.group(), key.id());
    let secret = key.expose().as_slice();
    let sealed = vault.seal(Class::Ratchet, TABLE, "sealed", &place(&group, &id), secret)?;
    sqlx::query(
        "INSERT INTO shared_keys (group_id, key_id, epoch, generation, alg, roster, maker, sealed,
             created_ms, ends_ms, at_ms, next, retired_ms, is_given)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, NULL, $13)
         ON CONFLICT DO NOTHING",
    )
    .bind(group.as_bytes().as_slice())
    .bind(id.as_bytes().as_slice())
    .bind(i64::from(key.epoch().0))
    .bind(i64::from(kept.generation))
    .bind(i64::from(key.alg().number()))
    .bind(kept.roster.as_bytes().as_slice())
    .bind(maker.as_bytes().as_slice())
    .bind(sealed)
    .bind(ms(kept.created))
    .bind(ms(kept.ends))
    .bind(ms(kept.at))
    .bind(signed(kept.next))
    .bind(kept.is_given)
    .execute(&mut *conn)
    .await?;
    let over: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT key_id FROM shared_keys WHERE group_id = $1 AND maker = $2 AND key_id <> $3
         ORDER BY at_ms DESC, epoch DESC, generation DESC, key_id LIMIT 1000 OFFSET $4",
    )
    .bind(group.as_bytes().as_slice())
    .bind(maker.as_bytes().as_slice())
    .bind(id.as_bytes().as_slice())
    .bind(MAX_OF_MAKER - 1)
    .fetch_all(&mut *conn)
    .await?;
    for key in over {
        erase(conn, &group, &SharedKeyId::from_slice(&key).whole(TABLE)?).await?;
    }
    Ok(())
}

/// All keys of a group, in no order.
pub(crate) async fn of_group(
    conn: &mut Conn,
    vault: &Vault,
    group: &GroupId,
) -> Result<Vec<Kept>, Error> {
    let rows = sqlx::query(
        "SELECT key_id, epoch, generation, alg, roster, maker, sealed, created_ms, ends_ms, at_ms,
             next, retired_ms, is_given
         FROM shared_keys WHERE group_id = $1",
    )
    .bind(group.as_bytes().as_slice())
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| read(vault, group, row)).collect()
}

fn read(vault: &Vault, group: &GroupId, row: &Row) -> Result<Kept, Error> {
    let id = SharedKeyId::from_slice(row.try_get(0)?).whole(TABLE)?;
    let secret =
        vault.unseal(Class::Ratchet, TABLE, "sealed", &place(group, &id), row.try_get(6)?)?;
    let secret = Zeroizing::new(<[u8; 32]>::try_from(secret.as_slice()).ok().whole(TABLE)?);
    let alg = Alg::from_number(row.try_get(3)?).whole(TABLE)?;
    let key = GroupKey::new(alg, *group, Epoch(row.try_get(1)?), secret);
    (key.id() == id).then_some(()).whole(TABLE)?;
    Ok(Kept {
        key,
        generation: row.try_get(2)?,
        roster: RosterHash::from_slice(row.try_get(4)?).whole(TABLE)?,
        maker: DeviceId::from_slice(row.try_get(5)?).whole(TABLE)?,
        created: Timestamp(unsigned(row.try_get(7)?)),
        ends: Timestamp(unsigned(row.try_get(8)?)),
        at: Timestamp(unsigned(row.try_get(9)?)),
        next: unsigned(row.try_get(10)?),
        retired: row.try_get::<Option<i64>, _>(11)?.map(|at| Timestamp(unsigned(at))),
        is_given: row.try_get(12)?,
    })
}

/// The number of this device's next message under a key.
pub(crate) fn set_next(script: &mut Script, key: &GroupKey, next: u64) {
    script
        .add("UPDATE shared_keys SET next = $3 WHERE group_id = $1 AND key_id = $2")
        .bind(key.group().as_bytes().as_slice())
        .bind(key.id().as_bytes().as_slice())
        .bind(signed(next));
}

/// Passes over so many numbers under every key: they may have been used.
pub(crate) async fn skip(conn: &mut Conn, numbers: u64) -> Result<(), Error> {
    sqlx::query("UPDATE shared_keys SET next = next + $1")
        .bind(signed(numbers))
        .execute(&mut *conn)
        .await?;
    sqlx::query(
        "UPDATE groups SET rotate = TRUE WHERE group_id IN (SELECT group_id FROM shared_groups)",
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query("UPDATE shared_groups SET due_ms = 0").execute(conn).await?;
    Ok(())
}

/// Another key is sent under since `at`.
pub(crate) async fn retire(conn: &mut Conn, key: &GroupKey, at: Timestamp) -> Result<(), Error> {
    sqlx::query(
        "UPDATE shared_keys SET retired_ms = $3
         WHERE group_id = $1 AND key_id = $2 AND retired_ms IS NULL",
    )
    .bind(key.group().as_bytes().as_slice())
    .bind(key.id().as_bytes().as_slice())
    .bind(ms(at))
    .execute(conn)
    .await?;
    Ok(())
}

/// As [`retire`], of all keys of a group in which this device has no more part.
pub(crate) async fn retire_all(
    conn: &mut Conn,
    group: &GroupId,
    at: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE shared_keys SET retired_ms = $2 WHERE group_id = $1 AND retired_ms IS NULL",
    )
    .bind(group.as_bytes().as_slice())
    .bind(ms(at))
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets a key, and what was noted of it.
pub(crate) async fn erase(
    conn: &mut Conn,
    group: &GroupId,
    key: &SharedKeyId,
) -> Result<(), Error> {
    let (group, key) = (group.as_bytes().as_slice(), key.as_bytes().as_slice());
    sqlx::query("DELETE FROM shared_windows WHERE group_id = $1 AND key_id = $2")
        .bind(group)
        .bind(key)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM shared_given WHERE group_id = $1 AND key_id = $2")
        .bind(group)
        .bind(key)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM shared_keys WHERE group_id = $1 AND key_id = $2")
        .bind(group)
        .bind(key)
        .execute(conn)
        .await?;
    Ok(())
}

/// Whether rows of this group wait to be opened, here or at the server.
pub(crate) async fn any_waits(conn: &mut Conn, group: &GroupId) -> Result<bool, Error> {
    let waits: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM groups WHERE group_id = $1
         AND (EXISTS (SELECT 1 FROM holds WHERE holds.group_id = $1)
             OR EXISTS (SELECT 1 FROM parked WHERE parked.group_id = $1))",
    )
    .bind(group.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    Ok(waits.is_some())
}

/// What was opened of a sender's under a key.
pub(crate) async fn window(
    conn: &mut Conn,
    key: &GroupKey,
    sender: &DeviceId,
) -> Result<Window, Error> {
    let bytes: Option<Vec<u8>> = sqlx::query_scalar(
        "SELECT opened FROM shared_windows WHERE group_id = $1 AND key_id = $2 AND sender = $3",
    )
    .bind(key.group().as_bytes().as_slice())
    .bind(key.id().as_bytes().as_slice())
    .bind(sender.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    match bytes {
        Some(bytes) => Window::decode(&bytes).whole("shared_windows"),
        None => Ok(Window::default()),
    }
}

/// Keeps what was opened.
pub(crate) fn save_window(
    script: &mut Script,
    (group, key): (&GroupId, &SharedKeyId),
    sender: &DeviceId,
    window: &Window,
) {
    script
        .add(
            "INSERT INTO shared_windows (group_id, key_id, sender, opened) VALUES ($1, $2, $3, $4)
             ON CONFLICT (group_id, key_id, sender) DO UPDATE SET opened = excluded.opened",
        )
        .bind(group.as_bytes().as_slice())
        .bind(key.as_bytes().as_slice())
        .bind(sender.as_bytes().as_slice())
        .bind(window.encode());
}

/// Notes that `device` has the key, or when it is tried again to give it.
pub(crate) async fn give(
    conn: &mut Conn,
    key: &GroupKey,
    device: &DeviceId,
    next: Option<Timestamp>,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO shared_given (group_id, key_id, device, next_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (group_id, key_id, device) DO UPDATE SET next_ms = excluded.next_ms",
    )
    .bind(key.group().as_bytes().as_slice())
    .bind(key.id().as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .bind(next.map(ms))
    .execute(conn)
    .await?;
    Ok(())
}

/// Who has a key, and when it is tried again with whom.
pub(crate) async fn given(
    conn: &mut Conn,
    key: &GroupKey,
) -> Result<HashMap<DeviceId, Option<Timestamp>>, Error> {
    let rows =
        sqlx::query("SELECT device, next_ms FROM shared_given WHERE group_id = $1 AND key_id = $2")
            .bind(key.group().as_bytes().as_slice())
            .bind(key.id().as_bytes().as_slice())
            .fetch_all(conn)
            .await?;
    let one = |row: Row| {
        let next: Option<i64> = row.try_get(1)?;
        let device = DeviceId::from_slice(row.try_get(0)?).whole("shared_given")?;
        Ok((device, next.map(|at| Timestamp(unsigned(at)))))
    };
    rows.into_iter().map(one).collect()
}

/// All who are to have it have it.
pub(crate) async fn set_given(conn: &mut Conn, key: &GroupKey) -> Result<(), Error> {
    sqlx::query("UPDATE shared_keys SET is_given = TRUE WHERE group_id = $1 AND key_id = $2")
        .bind(key.group().as_bytes().as_slice())
        .bind(key.id().as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

/// The keys of this group are to be looked after now.
pub(crate) async fn wake(conn: &mut Conn, group: &GroupId) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO shared_groups (group_id, due_ms) VALUES ($1, 0)
         ON CONFLICT (group_id) DO UPDATE SET due_ms = 0",
    )
    .bind(group.as_bytes().as_slice())
    .execute(conn)
    .await?;
    Ok(())
}

/// As [`wake`], where it is known that the group shares a key.
pub(crate) async fn wake_known(conn: &mut Conn, group: &GroupId) -> Result<(), Error> {
    sqlx::query("UPDATE shared_groups SET due_ms = 0 WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

/// There is a session with this device: what waits for one may be given.
pub(crate) async fn session_came(conn: &mut Conn, device: &DeviceId) -> Result<(), Error> {
    let groups: Vec<Vec<u8>> = sqlx::query_scalar(
        "UPDATE shared_given SET next_ms = 0 WHERE device = $1 AND next_ms IS NOT NULL
         RETURNING group_id",
    )
    .bind(device.as_bytes().as_slice())
    .fetch_all(&mut *conn)
    .await?;
    for group in groups {
        wake_known(conn, &GroupId::from_slice(&group).whole("shared_given")?).await?;
    }
    Ok(())
}

/// A page of the groups whose keys are to be looked after.
pub(crate) async fn due(conn: &mut Conn, now: Timestamp) -> Result<Vec<GroupId>, Error> {
    let ids: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT group_id FROM shared_groups WHERE due_ms <= $1 ORDER BY due_ms LIMIT $2",
    )
    .bind(ms(now))
    .bind(PAGE)
    .fetch_all(conn)
    .await?;
    ids.iter().map(|id| GroupId::from_slice(id).whole("shared_groups")).collect()
}

/// When they are to be looked after next.
pub(crate) async fn set_due(conn: &mut Conn, group: &GroupId, at: Timestamp) -> Result<(), Error> {
    sqlx::query("UPDATE shared_groups SET due_ms = $2 WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .bind(ms(at))
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets a group.
pub(crate) async fn forget(conn: &mut Conn, group: &GroupId) -> Result<(), Error> {
    let id = group.as_bytes().as_slice();
    sqlx::query("DELETE FROM shared_windows WHERE group_id = $1")
        .bind(id)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM shared_given WHERE group_id = $1")
        .bind(id)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM shared_keys WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM shared_groups WHERE group_id = $1").bind(id).execute(conn).await?;
    Ok(())
}
