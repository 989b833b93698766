//! Keys of legacy groups: the own one, whom it was given to, and those of others.

#[cfg(feature = "cli")]
use std::collections::BTreeMap;
use std::collections::HashSet;

use causeway_protocol::ids::{DeviceId, Epoch, GroupId, Timestamp};
use causeway_store::Conn;

use super::{Error, Whole as _, ms, unsigned};
use crate::{
    schemes::legacy::{HeldKeys, OwnKey, Suite},
    vault::{Class, Vault},
};

/// The key that this device speaks with.
pub(crate) struct Own {
    pub(crate) key: OwnKey,
    /// In which epoch it began.
    pub(crate) epoch: Epoch,
    pub(crate) created: Timestamp,
    /// Who has it.
    pub(crate) given: HashSet<DeviceId>,
}

/// The own key of a group that speaks `suite`.
pub(crate) async fn own(
    conn: &mut Conn,
    vault: &Vault,
    suite: Suite,
    group: &GroupId,
) -> Result<Option<Own>, Error> {
    let row: Option<(Vec<u8>, u32, i64)> =
        sqlx::query_as("SELECT sealed, epoch, created_ms FROM legacy_own WHERE group_id = $1")
            .bind(group.as_bytes().as_slice())
            .fetch_optional(&mut *conn)
            .await?;
    let Some((sealed, epoch, created)) = row else { return Ok(None) };
    let bytes = vault.unseal(Class::Ratchet, "legacy_own", "sealed", group.as_bytes(), &sealed)?;
    let given: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT device_id FROM legacy_given WHERE group_id = $1")
            .bind(group.as_bytes().as_slice())
            .fetch_all(conn)
            .await?;
    let given = given.iter().map(|id| DeviceId::from_slice(id).whole("legacy_given"));
    Ok(Some(Own {
        key: OwnKey::decode(suite, &bytes).whole("legacy_own")?,
        epoch: Epoch(epoch),
        created: Timestamp(unsigned(created)),
        given: given.collect::<Result<_, _>>()?,
    }))
}

pub(crate) async fn save_own(
    conn: &mut Conn,
    vault: &Vault,
    group: &GroupId,
    Own { key, epoch, created, .. }: &Own,
) -> Result<(), Error> {
    let bytes = key.encode();
    sqlx::query(
        "INSERT INTO legacy_own (group_id, sealed, epoch, created_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (group_id) DO UPDATE SET sealed = excluded.sealed, epoch = excluded.epoch,
             created_ms = excluded.created_ms",
    )
    .bind(group.as_bytes().as_slice())
    .bind(vault.seal(Class::Ratchet, "legacy_own", "sealed", group.as_bytes(), &bytes)?)
    .bind(i64::from(epoch.0))
    .bind(ms(*created))
    .execute(conn)
    .await?;
    Ok(())
}

/// `device` was given the own key.
pub(crate) async fn give(conn: &mut Conn, group: &GroupId, device: &DeviceId) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO legacy_given (group_id, device_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
    )
    .bind(group.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets the own key: the next message begins a new one.
pub(crate) async fn drop_own(conn: &mut Conn, group: &GroupId) -> Result<(), Error> {
    let id = group.as_bytes().as_slice();
    sqlx::query("DELETE FROM legacy_own WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM legacy_given WHERE group_id = $1").bind(id).execute(conn).await?;
    Ok(())
}

/// As [`drop_own`], in every group.
pub(crate) async fn drop_all_own(conn: &mut Conn) -> Result<(), Error> {
    sqlx::query("DELETE FROM legacy_own").execute(&mut *conn).await?;
    sqlx::query("DELETE FROM legacy_given").execute(conn).await?;
    Ok(())
}

/// What is held of a sender in a group that speaks `suite`.
pub(crate) async fn held(
    conn: &mut Conn,
    vault: &Vault,
    suite: Suite,
    (group, sender): (&GroupId, &DeviceId),
) -> Result<Option<HeldKeys>, Error> {
    let sealed: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT sealed FROM legacy_held WHERE group_id = $1 AND sender = $2")
            .bind(group.as_bytes().as_slice())
            .bind(sender.as_bytes().as_slice())
            .fetch_optional(conn)
            .await?;
    let Some(sealed) = sealed else { return Ok(None) };
    let place = [group.as_bytes().as_slice(), sender.as_bytes()].concat();
    let bytes = vault.unseal(Class::Ratchet, "legacy_held", "sealed", &place, &sealed)?;
    HeldKeys::decode(suite, &bytes).whole("legacy_held").map(Some)
}

/// Keeps what is held of a sender; `version` where it said what it can follow.
pub(crate) async fn save_held(
    conn: &mut Conn,
    vault: &Vault,
    (group, sender): (&GroupId, &DeviceId),
    held: &HeldKeys,
    version: Option<u8>,
    now: Timestamp,
) -> Result<(), Error> {
    let place = [group.as_bytes().as_slice(), sender.as_bytes()].concat();
    sqlx::query(
        "INSERT INTO legacy_held (group_id, sender, sealed, version, at_ms)
         VALUES ($1, $2, $3, COALESCE($4, 1), $5)
         ON CONFLICT (group_id, sender) DO UPDATE SET sealed = excluded.sealed,
             version = COALESCE($4, legacy_held.version), at_ms = excluded.at_ms",
    )
    .bind(group.as_bytes().as_slice())
    .bind(sender.as_bytes().as_slice())
    .bind(vault.seal(Class::Ratchet, "legacy_held", "sealed", &place, &held.encode())?)
    .bind(version.map(i64::from))
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// The highest `min_version` that each device has said it can follow.
#[cfg(feature = "cli")]
pub(crate) async fn versions(
    conn: &mut Conn,
    group: &GroupId,
) -> Result<BTreeMap<DeviceId, u8>, Error> {
    let rows: Vec<(Vec<u8>, i64)> =
        sqlx::query_as("SELECT sender, version FROM legacy_held WHERE group_id = $1")
            .bind(group.as_bytes().as_slice())
            .fetch_all(conn)
            .await?;
    let read = |(sender, version): (Vec<u8>, i64)| {
        let sender = DeviceId::from_slice(&sender).whole("legacy_held")?;
        Ok((sender, u8::try_from(version).whole("legacy_held")?))
    };
    rows.into_iter().map(read).collect()
}

/// Lets go of what nobody has spoken with since `before`.
pub(crate) async fn expire(conn: &mut Conn, before: Timestamp) -> Result<(), Error> {
    sqlx::query("DELETE FROM legacy_held WHERE at_ms < $1").bind(ms(before)).execute(conn).await?;
    Ok(())
}
