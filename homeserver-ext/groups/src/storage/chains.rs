//! Own chains, chains of others, and who was given which.

use std::collections::HashSet;

use causeway_protocol::ids::{ChainId, DeviceId, GroupId, Timestamp};
use causeway_store::{Conn, Row, Script};
use sqlx::Row as _;
use zeroize::Zeroizing;

use super::{Error, Whole as _, ms};
use crate::{
    schemes::sender_keys::{HeldChain, OwnChain},
    vault::{Class, Vault},
};

/// At least so many chains of a sender are kept, however old.
const MIN_CHAINS: i64 = 5;
/// At most so many.
const MAX_CHAINS: i64 = 64;

pub(crate) async fn own(
    conn: &mut Conn,
    vault: &Vault,
    group: &GroupId,
) -> Result<Option<OwnChain>, Error> {
    let sealed: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT sealed FROM own_chains WHERE group_id = $1")
            .bind(group.as_bytes().as_slice())
            .fetch_optional(conn)
            .await?;
    sealed.map(|sealed| opened(vault, group, &sealed)).transpose()
}

pub(crate) fn save_own(
    script: &mut Script,
    vault: &Vault,
    group: &GroupId,
    chain: &OwnChain,
) -> Result<(), Error> {
    let sealed =
        vault.seal(Class::Ratchet, "own_chains", "sealed", group.as_bytes(), &chain.encode())?;
    let query = script.add(
        "INSERT INTO own_chains (group_id, chain_id, sealed) VALUES ($1, $2, $3)
         ON CONFLICT (group_id)
         DO UPDATE SET chain_id = excluded.chain_id, sealed = excluded.sealed",
    );
    query.bind(group.as_bytes().as_slice()).bind(chain.id().as_bytes().as_slice()).bind(sealed);
    Ok(())
}

/// Forgets the chain that this device sends with: the next message begins a new one.
pub(crate) async fn drop_own(conn: &mut Conn, group: &GroupId) -> Result<(), Error> {
    sqlx::query("DELETE FROM own_chains WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

/// As [`drop_own`], in every group.
pub(crate) async fn drop_all_own(conn: &mut Conn) -> Result<(), Error> {
    sqlx::query("DELETE FROM own_chains").execute(conn).await?;
    Ok(())
}

/// A chain, and the devices that were given it.
pub(crate) type OwnAndGiven = Option<(OwnChain, HashSet<DeviceId>)>;

/// The chain that this device sends with, and the devices that were given it, in one look.
pub(crate) async fn own_and_given(
    conn: &mut Conn,
    vault: &Vault,
    group: &GroupId,
) -> Result<OwnAndGiven, Error> {
    let mut script = Script::default();
    select_own_and_given(&mut script, group);
    read_own_and_given(vault, group, &script.run(conn).await?)
}

/// Asks for what [`own_and_given`] tells.
pub(crate) fn select_own_and_given(script: &mut Script, group: &GroupId) {
    let query = script.add(
        "SELECT sealed, TRUE FROM own_chains WHERE group_id = $1
         UNION ALL
         SELECT given.device_id, FALSE FROM own_chains JOIN given ON given.chain_id = own_chains.chain_id
         WHERE own_chains.group_id = $1 AND given.owed = FALSE",
    );
    query.bind(group.as_bytes().as_slice());
}

/// Reads what [`select_own_and_given`] asked for.
pub(crate) fn read_own_and_given(
    vault: &Vault,
    group: &GroupId,
    rows: &[Row],
) -> Result<OwnAndGiven, Error> {
    let (mut chain, mut given) = (None, HashSet::new());
    for row in rows {
        let bytes: &[u8] = row.try_get(0)?;
        if row.try_get(1)? {
            chain = Some(opened(vault, group, bytes)?);
        } else {
            given.insert(DeviceId::from_slice(bytes).whole("given")?);
        }
    }
    Ok(chain.map(|chain| (chain, given)))
}

fn opened(vault: &Vault, group: &GroupId, sealed: &[u8]) -> Result<OwnChain, Error> {
    let bytes = vault.unseal(Class::Ratchet, "own_chains", "sealed", group.as_bytes(), sealed)?;
    OwnChain::decode(&bytes).whole("own_chains")
}

/// Notes that `device` was given `chain`, and keeps what it was given until it says it has it.
pub(crate) async fn give(
    conn: &mut Conn,
    vault: &Vault,
    group: &GroupId,
    chain: &ChainId,
    device: &DeviceId,
    distribution: &[u8],
    now: Timestamp,
) -> Result<(), Error> {
    let sealed =
        vault.seal(Class::Ratchet, "given", "sealed", &place(chain, device), distribution)?;
    sqlx::query(
        "INSERT INTO given (chain_id, device_id, group_id, sealed, at_ms)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (chain_id, device_id)
         DO UPDATE SET owed = FALSE, sealed = COALESCE(given.sealed, excluded.sealed)
         WHERE given.owed = TRUE",
    )
    .bind(chain.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .bind(group.as_bytes().as_slice())
    .bind(sealed)
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps what `device` is to be given of `chain` once it can be reached; what is kept already stays, and
/// opens more.
pub(crate) async fn owe(
    conn: &mut Conn,
    vault: &Vault,
    group: &GroupId,
    chain: &ChainId,
    device: &DeviceId,
    distribution: &[u8],
    now: Timestamp,
) -> Result<(), Error> {
    let sealed =
        vault.seal(Class::Ratchet, "given", "sealed", &place(chain, device), distribution)?;
    sqlx::query(
        "INSERT INTO given (chain_id, device_id, group_id, sealed, at_ms, owed)
         VALUES ($1, $2, $3, $4, $5, TRUE) ON CONFLICT DO NOTHING",
    )
    .bind(chain.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .bind(group.as_bytes().as_slice())
    .bind(sealed)
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// The devices for which something of `chain` is kept, which they were not given.
pub(crate) async fn owed_to(conn: &mut Conn, chain: &ChainId) -> Result<HashSet<DeviceId>, Error> {
    let rows: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT device_id FROM given WHERE chain_id = $1 AND owed = TRUE")
            .bind(chain.as_bytes().as_slice())
            .fetch_all(conn)
            .await?;
    rows.iter().map(|row| DeviceId::from_slice(row).whole("given")).collect()
}

/// What is kept for `device` of `chain`, and was not given to it.
pub(crate) async fn owed(
    conn: &mut Conn,
    vault: &Vault,
    chain: &ChainId,
    device: &DeviceId,
) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let sealed: Option<Vec<u8>> = sqlx::query_scalar(
        "SELECT sealed FROM given
         WHERE chain_id = $1 AND device_id = $2 AND owed = TRUE AND sealed IS NOT NULL",
    )
    .bind(chain.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    let open = |sealed: Vec<u8>| {
        vault.unseal(Class::Ratchet, "given", "sealed", &place(chain, device), &sealed)
    };
    Ok(sealed.map(open).transpose()?)
}

fn place(chain: &ChainId, device: &DeviceId) -> Vec<u8> {
    [chain.as_bytes().as_slice(), device.as_bytes()].concat()
}

/// The distribution that was made for `device` of the own chain with this tag, if it is kept and
/// was made since `since`.
pub(crate) async fn stored_distribution(
    conn: &mut Conn,
    vault: &Vault,
    group: &GroupId,
    device: &DeviceId,
    tag: [u8; 4],
    since: Timestamp,
) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let row = sqlx::query(
        "SELECT chain_id, sealed FROM given WHERE group_id = $1 AND device_id = $2
         AND substr(chain_id, 1, 4) = $3 AND sealed IS NOT NULL AND at_ms >= $4
         ORDER BY at_ms DESC LIMIT 1",
    )
    .bind(group.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .bind(tag.as_slice())
    .bind(ms(since))
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let place = [row.try_get::<&[u8], _>(0)?, device.as_bytes()].concat();
    let sealed: Vec<u8> = row.try_get(1)?;
    Ok(Some(vault.unseal(Class::Ratchet, "given", "sealed", &place, &sealed)?))
}

/// `device` is given the chain with this tag now, of which something was kept for it.
pub(crate) async fn was_given(
    conn: &mut Conn,
    group: &GroupId,
    device: &DeviceId,
    tag: [u8; 4],
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE given SET owed = FALSE WHERE group_id = $1 AND device_id = $2
         AND substr(chain_id, 1, 4) = $3 AND owed = TRUE",
    )
    .bind(group.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .bind(tag.as_slice())
    .execute(conn)
    .await?;
    Ok(())
}

/// `device` has this chain; what it was given is kept for its time if `keep`, or let go of.
pub(crate) async fn acknowledged(
    conn: &mut Conn,
    chain: &ChainId,
    device: &DeviceId,
    keep: bool,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE given SET acked = TRUE, sealed = CASE WHEN $3 = TRUE THEN sealed END
         WHERE chain_id = $1 AND device_id = $2",
    )
    .bind(chain.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .bind(keep)
    .execute(conn)
    .await?;
    Ok(())
}

/// The chains of a sender whose ids begin with `tag`, mostly one; with an empty tag all.
pub(crate) async fn held(
    conn: &mut Conn,
    vault: &Vault,
    group: &GroupId,
    sender: &DeviceId,
    tag: &[u8],
) -> Result<Vec<HeldChain>, Error> {
    let mut script = Script::default();
    select_held(&mut script, group, sender, tag);
    read_held(vault, group, sender, &script.run(conn).await?)
}

/// Asks for what [`held`] tells.
pub(crate) fn select_held(script: &mut Script, group: &GroupId, sender: &DeviceId, tag: &[u8]) {
    let query = script.add(
        "SELECT chain_id, sealed FROM held_chains
         WHERE group_id = $1 AND sender = $2 AND chain_id BETWEEN $3 AND $4",
    );
    query
        .bind(group.as_bytes().as_slice())
        .bind(sender.as_bytes().as_slice())
        .bind(tag)
        .bind([tag, &[0xff; 32]].concat());
}

/// Reads what [`select_held`] asked for.
pub(crate) fn read_held(
    vault: &Vault,
    group: &GroupId,
    sender: &DeviceId,
    rows: &[Row],
) -> Result<Vec<HeldChain>, Error> {
    let open = |row: &Row| {
        let place = held_place(group, sender, row.try_get(0)?);
        let sealed: Vec<u8> = row.try_get(1)?;
        let bytes = vault.unseal(Class::Ratchet, "held_chains", "sealed", &place, &sealed)?;
        HeldChain::decode(&bytes).whole("held_chains")
    };
    rows.iter().map(open).collect()
}

fn held_place(group: &GroupId, sender: &DeviceId, chain: &[u8]) -> Vec<u8> {
    [group.as_bytes().as_slice(), sender.as_bytes(), chain].concat()
}

/// Keeps a new chain, and lets go of the oldest beyond what is kept of a sender.
pub(crate) async fn insert_held(
    conn: &mut Conn,
    vault: &Vault,
    chain: &HeldChain,
    now: Timestamp,
) -> Result<(), Error> {
    let (group, sender, id) = (chain.group(), chain.sender(), chain.id());
    let place = held_place(&group, &sender, id.as_bytes());
    sqlx::query(
        "INSERT INTO held_chains (group_id, sender, chain_id, sealed, at_ms)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(group.as_bytes().as_slice())
    .bind(sender.as_bytes().as_slice())
    .bind(id.as_bytes().as_slice())
    .bind(vault.seal(Class::Ratchet, "held_chains", "sealed", &place, &chain.encode())?)
    .bind(ms(now))
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "DELETE FROM held_chains WHERE group_id = $1 AND sender = $2 AND chain_id NOT IN (
             SELECT chain_id FROM held_chains WHERE group_id = $1 AND sender = $2
             ORDER BY at_ms DESC, rowid DESC LIMIT $3)",
    )
    .bind(group.as_bytes().as_slice())
    .bind(sender.as_bytes().as_slice())
    .bind(MAX_CHAINS)
    .execute(conn)
    .await?;
    Ok(())
}

/// Lets go of chains that came before `before` and are not among their sender's last five.
pub(crate) async fn expire(conn: &mut Conn, before: Timestamp) -> Result<(), Error> {
    sqlx::query(
        "DELETE FROM held_chains WHERE at_ms < $1 AND chain_id NOT IN (
             SELECT chain_id FROM held_chains AS own
             WHERE own.group_id = held_chains.group_id AND own.sender = held_chains.sender
             ORDER BY own.at_ms DESC, own.rowid DESC LIMIT $2)",
    )
    .bind(ms(before))
    .bind(MIN_CHAINS)
    .execute(conn)
    .await?;
    Ok(())
}

/// Lets go of what was given before `before` and is kept still, and of whom chains that are gone
/// were given to.
pub(crate) async fn forget_given(conn: &mut Conn, before: Timestamp) -> Result<(), Error> {
    sqlx::query("UPDATE given SET sealed = NULL WHERE sealed IS NOT NULL AND at_ms < $1")
        .bind(ms(before))
        .execute(&mut *conn)
        .await?;
    sqlx::query(
        "DELETE FROM given WHERE sealed IS NULL
         AND chain_id NOT IN (SELECT chain_id FROM own_chains)",
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) fn save_held(
    script: &mut Script,
    vault: &Vault,
    chain: &HeldChain,
) -> Result<(), Error> {
    let (group, sender, id) = (chain.group(), chain.sender(), chain.id());
    let place = held_place(&group, &sender, id.as_bytes());
    let sealed = vault.seal(Class::Ratchet, "held_chains", "sealed", &place, &chain.encode())?;
    let query = script.add(
        "UPDATE held_chains SET sealed = $4
         WHERE group_id = $1 AND sender = $2 AND chain_id = $3",
    );
    query
        .bind(group.as_bytes().as_slice())
        .bind(sender.as_bytes().as_slice())
        .bind(id.as_bytes().as_slice())
        .bind(sealed);
    Ok(())
}

/// Devices that were given this chain and have not said that they have it.
pub(crate) async fn unacknowledged(conn: &mut Conn, chain: &ChainId) -> Result<u32, Error> {
    Ok(sqlx::query_scalar("SELECT COUNT(*) FROM given WHERE chain_id = $1 AND acked = FALSE")
        .bind(chain.as_bytes().as_slice())
        .fetch_one(conn)
        .await?)
}

/// Devices whose chains are held in this group.
pub(crate) async fn senders(conn: &mut Conn, group: &GroupId) -> Result<Vec<DeviceId>, Error> {
    let senders: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT DISTINCT sender FROM held_chains WHERE group_id = $1 ORDER BY sender",
    )
    .bind(group.as_bytes().as_slice())
    .fetch_all(conn)
    .await?;
    senders.iter().map(|sender| DeviceId::from_slice(sender).whole("held_chains")).collect()
}
