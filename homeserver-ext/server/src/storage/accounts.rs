//! Accounts and their newest device lists.

use causeway_protocol::{
    device::DeviceList,
    ids::{AccountId, MemberId, Timestamp},
};
use causeway_store::Conn;

use super::{Error, ms};

/// How long an op may carry a device list that was replaced, milliseconds.
pub(crate) const FORMER_MS: u64 = 24 * 60 * 60 * 1_000;

/// Puts a new account in; `false` if its name or its identity is taken.
pub(crate) async fn insert(
    conn: &mut Conn,
    now: Timestamp,
    list: &DeviceList,
) -> Result<bool, Error> {
    let done = sqlx::query(
        "INSERT INTO accounts (account, member_id, list, created_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
    )
    .bind(list.account.as_str())
    .bind(list.member_id.as_ref())
    .bind(text(list)?)
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The newest list of an account.
pub(crate) async fn list(
    conn: &mut Conn,
    account: &AccountId,
) -> Result<Option<DeviceList>, Error> {
    let list: Option<String> = sqlx::query_scalar("SELECT list FROM accounts WHERE account = $1")
        .bind(account.as_str())
        .fetch_optional(conn)
        .await?;
    list.map(|list| serde_json::from_str(&list).map_err(|_| Error::Row("list"))).transpose()
}

/// The newest list of the account that has this identity.
pub(crate) async fn list_of(
    conn: &mut Conn,
    member: &MemberId,
) -> Result<Option<DeviceList>, Error> {
    let list: Option<String> = sqlx::query_scalar("SELECT list FROM accounts WHERE member_id = $1")
        .bind(member.as_ref())
        .fetch_optional(conn)
        .await?;
    list.map(|list| serde_json::from_str(&list).map_err(|_| Error::Row("list"))).transpose()
}

/// The lists of an account that an op may carry: the newest, and those that took its place since
/// `since` at the earliest.
pub(crate) async fn lists_since(
    conn: &mut Conn,
    account: &AccountId,
    since: Timestamp,
) -> Result<Vec<DeviceList>, Error> {
    let lists: Vec<String> = sqlx::query_scalar(
        "SELECT list FROM accounts WHERE account = $1
         UNION ALL SELECT list FROM former_lists WHERE account = $1 AND until_ms >= $2",
    )
    .bind(account.as_str())
    .bind(ms(since))
    .fetch_all(conn)
    .await?;
    lists.iter().map(|list| serde_json::from_str(list).map_err(|_| Error::Row("list"))).collect()
}

/// How long after this database was put back groups may name accounts that it lost, milliseconds: as long
/// as anything is kept of what they said.
pub(super) const PUT_BACK_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// Notes that this database was put back.
pub(crate) async fn put_back(conn: &mut Conn, now: Timestamp) -> Result<(), causeway_store::Error> {
    sqlx::query(
        "INSERT INTO put_back (id, at_ms) VALUES (1, $1)
         ON CONFLICT (id) DO UPDATE SET at_ms = excluded.at_ms",
    )
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether this database was put back not long ago.
pub(crate) async fn was_put_back(conn: &mut Conn, now: Timestamp) -> Result<bool, Error> {
    let row = sqlx::query("SELECT 1 FROM put_back WHERE at_ms > $1")
        .bind(ms(now.minus_ms(PUT_BACK_MS)))
        .fetch_optional(conn)
        .await?;
    Ok(row.is_some())
}

/// Whether this database was put back not long ago, and knows nothing of `account`, which may be one
/// that it lost.
pub(crate) async fn may_be_lost(
    conn: &mut Conn,
    now: Timestamp,
    account: &AccountId,
) -> Result<bool, Error> {
    let row = sqlx::query(
        "SELECT 1 FROM put_back
         WHERE at_ms > $1 AND NOT EXISTS (SELECT 1 FROM accounts WHERE account = $2)",
    )
    .bind(ms(now.minus_ms(PUT_BACK_MS)))
    .bind(account.as_str())
    .fetch_optional(conn)
    .await?;
    Ok(row.is_some())
}

/// Forgets lists that were replaced before `before`.
pub(crate) async fn forget_lists(conn: &mut Conn, before: Timestamp) -> Result<(), Error> {
    sqlx::query("DELETE FROM former_lists WHERE until_ms < $1")
        .bind(ms(before))
        .execute(conn)
        .await?;
    Ok(())
}

/// Replaces the list of an account; the ones before are known for a while, 16 of them at most.
pub(crate) async fn set_list(
    conn: &mut Conn,
    now: Timestamp,
    list: &DeviceList,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO former_lists (account, list, until_ms)
         SELECT account, list, $2 FROM accounts WHERE account = $1
         ON CONFLICT (account, until_ms) DO NOTHING",
    )
    .bind(list.account.as_str())
    .bind(ms(now))
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "DELETE FROM former_lists WHERE account = $1 AND until_ms NOT IN (
             SELECT until_ms FROM former_lists WHERE account = $1
             ORDER BY until_ms DESC LIMIT 16)",
    )
    .bind(list.account.as_str())
    .execute(&mut *conn)
    .await?;
    sqlx::query("UPDATE accounts SET list = $2 WHERE account = $1")
        .bind(list.account.as_str())
        .bind(text(list)?)
        .execute(conn)
        .await?;
    Ok(())
}

fn text(list: &DeviceList) -> Result<String, Error> {
    serde_json::to_string(list).map_err(|_| Error::Row("list"))
}
