//! Accounts and their newest device lists.

use causeway_protocol::{
    device::DeviceList,
    ids::{AccountId, Timestamp},
};
use causeway_store::Conn;

use super::{Error, ms};

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

/// Replaces the list of an account.
pub(crate) async fn set_list(conn: &mut Conn, list: &DeviceList) -> Result<(), Error> {
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
