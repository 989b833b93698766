//! Who I am: keys, certificate, list, Olm account.

use causeway_protocol::{
    device::{DeviceList, DeviceRecord, OneTimeKey},
    ids::AccountId,
};
use causeway_store::{Conn, Row, Script, Tx};
use sqlx::Row as _;
use vodozemac::olm::{Account, AccountPickle};
use zeroize::Zeroizing;

use super::{Error, Whole as _, json, signed, unsigned};
use crate::vault::{Class, Vault};

const TABLE: &str = "own";
/// Primary key of the one row.
const ROW: &[u8] = &[1];

/// The row, its secrets opened.
pub(crate) struct Own {
    pub(crate) account: AccountId,
    pub(crate) record: DeviceRecord,
    pub(crate) list: DeviceList,
    pub(crate) identity: Option<Zeroizing<Vec<u8>>>,
    pub(crate) device: Zeroizing<Vec<u8>>,
}

pub(crate) async fn load(conn: &mut Conn, vault: &Vault) -> Result<Option<Own>, Error> {
    let row = sqlx::query("SELECT account, record, list, identity_sealed, device_sealed FROM own")
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let unseal =
        |column, sealed: Vec<u8>| vault.unseal(Class::Signing, TABLE, column, ROW, &sealed);
    let identity: Option<Vec<u8>> = row.try_get(3)?;
    Ok(Some(Own {
        account: row.try_get::<String, _>(0)?.parse().whole(TABLE)?,
        record: serde_json::from_str(row.try_get(1)?).whole(TABLE)?,
        list: serde_json::from_str(row.try_get(2)?).whole(TABLE)?,
        identity: identity.map(|sealed| unseal("identity_sealed", sealed)).transpose()?,
        device: unseal("device_sealed", row.try_get(4)?)?,
    }))
}

pub(crate) async fn insert(
    conn: &mut Conn,
    vault: &Vault,
    own: &Own,
    olm: &Account,
) -> Result<(), Error> {
    let seal = |column, bytes: &[u8]| vault.seal(Class::Signing, TABLE, column, ROW, bytes);
    let identity = own.identity.as_ref().map(|key| seal("identity_sealed", key)).transpose()?;
    sqlx::query(
        "INSERT INTO own (id, account, record, list, identity_sealed, device_sealed, olm_sealed,
             next_key_id)
         VALUES (1, $1, $2, $3, $4, $5, $6, 1)",
    )
    .bind(own.account.as_str())
    .bind(json(&own.record))
    .bind(json(&own.list))
    .bind(identity)
    .bind(seal("device_sealed", &own.device)?)
    .bind(sealed_olm(vault, olm)?)
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets an identity that never came to be: its name was refused.
pub(crate) async fn delete(conn: &mut Conn) -> Result<(), Error> {
    sqlx::query("DELETE FROM own").execute(&mut *conn).await?;
    sqlx::query("DELETE FROM one_time_keys").execute(conn).await?;
    Ok(())
}

/// The account's own list is this one.
pub(crate) async fn set_list(conn: &mut Conn, list: &DeviceList) -> Result<(), Error> {
    sqlx::query("UPDATE own SET list = $1").bind(json(list)).execute(conn).await?;
    Ok(())
}

/// As [`set_list`], if it is newer than the one that is known.
pub(crate) async fn renew_list(conn: &mut Conn, list: &DeviceList) -> Result<(), Error> {
    if list_version(conn).await? < list.version {
        set_list(conn, list).await?;
    }
    Ok(())
}

/// Version of the account's own list, as far as it is known; 0 if there is none.
pub(crate) async fn list_version(conn: &mut Conn) -> Result<u32, Error> {
    let list: Option<String> =
        sqlx::query_scalar("SELECT list FROM own").fetch_optional(conn).await?;
    let Some(list) = list else { return Ok(0) };
    let list: DeviceList = serde_json::from_str(&list).whole(TABLE)?;
    Ok(list.version)
}

/// Whether all groups name this device.
pub(crate) async fn is_listed(conn: &mut Conn) -> Result<bool, Error> {
    Ok(sqlx::query_scalar("SELECT listed FROM own").fetch_one(conn).await?)
}

/// Says whether they do.
pub(crate) async fn set_listed(conn: &mut Conn, listed: bool) -> Result<(), Error> {
    sqlx::query("UPDATE own SET listed = $1").bind(listed).execute(conn).await?;
    Ok(())
}

fn sealed_olm(vault: &Vault, olm: &Account) -> Result<Vec<u8>, Error> {
    let pickle = Zeroizing::new(serde_json::to_vec(&olm.pickle()).whole(TABLE)?);
    Ok(vault.seal(Class::Ratchet, TABLE, "olm_sealed", ROW, &pickle)?)
}

pub(crate) async fn olm(conn: &mut Conn, vault: &Vault) -> Result<Account, Error> {
    let sealed: Vec<u8> = sqlx::query_scalar("SELECT olm_sealed FROM own").fetch_one(conn).await?;
    let pickle = vault.unseal(Class::Ratchet, TABLE, "olm_sealed", ROW, &sealed)?;
    let pickle: AccountPickle = serde_json::from_slice(&pickle).whole(TABLE)?;
    Ok(pickle.into())
}

pub(crate) async fn save_olm(conn: &mut Conn, vault: &Vault, olm: &Account) -> Result<(), Error> {
    sqlx::query("UPDATE own SET olm_sealed = $1")
        .bind(sealed_olm(vault, olm)?)
        .execute(conn)
        .await?;
    Ok(())
}

/// Takes `count` numbers for one-time keys; returns the first.
pub(crate) async fn take_key_ids(conn: &mut Conn, count: u64) -> Result<u64, Error> {
    let next: i64 =
        sqlx::query_scalar("UPDATE own SET next_key_id = next_key_id + $1 RETURNING next_key_id")
            .bind(signed(count))
            .fetch_one(conn)
            .await?;
    Ok(unsigned(next) - count)
}

/// Gives no number for one-time keys that is less than this.
pub(crate) async fn skip_key_ids(conn: &mut Conn, least: u64) -> Result<(), Error> {
    sqlx::query("UPDATE own SET next_key_id = $1 WHERE next_key_id < $1")
        .bind(signed(least))
        .execute(conn)
        .await?;
    Ok(())
}

pub(crate) async fn insert_key(conn: &mut Conn, key: &OneTimeKey) -> Result<(), Error> {
    sqlx::query("INSERT INTO one_time_keys (key_id, key) VALUES ($1, $2)")
        .bind(key.key_id.as_bytes().as_slice())
        .bind(json(key))
        .execute(conn)
        .await?;
    Ok(())
}

/// Keys that the server does not have yet, as far as is known.
pub(crate) async fn unpublished(conn: &mut Conn) -> Result<Vec<OneTimeKey>, Error> {
    let keys: Vec<String> =
        sqlx::query_scalar("SELECT key FROM one_time_keys ORDER BY key_id").fetch_all(conn).await?;
    keys.iter().map(|key| serde_json::from_str(key).whole("one_time_keys")).collect()
}

/// The server has all that were unpublished, and `left` one-time keys now.
pub(crate) async fn published(conn: &mut Conn, left: Option<u32>) -> Result<(), Error> {
    sqlx::query("DELETE FROM one_time_keys").execute(&mut *conn).await?;
    sqlx::query("UPDATE own SET keys_left = $1").bind(left.map(i64::from)).execute(conn).await?;
    Ok(())
}

/// One-time keys at the server, as far as is known.
pub(crate) async fn keys_left(conn: &mut Conn) -> Result<Option<u32>, Error> {
    Ok(sqlx::query_scalar("SELECT keys_left FROM own").fetch_one(conn).await?)
}

pub(crate) async fn key_was_used(conn: &mut Conn) -> Result<(), Error> {
    sqlx::query("UPDATE own SET keys_left = keys_left - 1 WHERE keys_left > 0")
        .execute(conn)
        .await?;
    Ok(())
}

/// Whether this device was made.
pub(crate) async fn is_there(conn: &mut Conn) -> Result<bool, Error> {
    let one: Option<i64> = sqlx::query_scalar("SELECT id FROM own").fetch_optional(conn).await?;
    Ok(one.is_some())
}

/// Commits counted so far: those that moved own ratchets; of a bridge, all.
pub(crate) async fn commits(conn: &mut Conn) -> Result<u64, Error> {
    Ok(unsigned(sqlx::query_scalar("SELECT n FROM commits WHERE id = 1").fetch_one(conn).await?))
}

/// Counts this commit, to be known beside the database before anything of it leaves.
pub(crate) async fn count(tx: &mut Tx) -> Result<(), Error> {
    count_from(tx, 0).await
}

/// As [`count`], from `least` on.
pub(crate) async fn count_from(tx: &mut Tx, least: u64) -> Result<(), Error> {
    let n: i64 = sqlx::query_scalar(
        "UPDATE commits SET n = CASE WHEN n < $1 THEN $1 ELSE n END + 1 WHERE id = 1 RETURNING n",
    )
    .bind(signed(least))
    .fetch_one(tx.conn())
    .await?;
    tx.counted(unsigned(n));
    Ok(())
}

/// Asks for what [`commits`] tells.
pub(crate) fn select_commits(script: &mut Script) {
    script.add("SELECT n FROM commits WHERE id = 1");
}

/// Reads what [`select_commits`] asked for.
pub(crate) fn read_commits(row: Option<&Row>) -> Result<u64, Error> {
    Ok(unsigned(row.ok_or(Error::Broken("commits"))?.try_get(0)?))
}

/// As [`count`], once the script is run, where `before` is what was read in this transaction.
pub(crate) fn count_after(tx: &mut Tx, script: &mut Script, before: u64) {
    script.add("UPDATE commits SET n = $1 WHERE id = 1").bind(signed(before + 1));
    tx.counted(before + 1);
}
