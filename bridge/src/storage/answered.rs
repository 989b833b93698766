//! Who was told that what he did is not carried.

use causeway_protocol::ids::AccountId;
use causeway_store::Tx;

use super::Error;
use crate::domain::portal::PortalId;

/// Whether `who` is to be told of this kind in a portal; from now on he has been.
///
/// # Errors
/// [`Error`]
pub async fn is_first(tx: &mut Tx, portal: PortalId, who: &str, kind: &str) -> Result<bool, Error> {
    let kept = sqlx::query(
        "INSERT INTO answered (portal, who, kind) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(portal.0)
    .bind(who)
    .bind(kind)
    .execute(tx.conn())
    .await?;
    Ok(kept.rows_affected() > 0)
}

/// `account` is to be told, when the bridge is let in again, that something that it had said is not in the
/// room.
///
/// # Errors
/// [`Error`]
pub async fn owes(tx: &mut Tx, portal: PortalId, account: &str) -> Result<(), Error> {
    is_first(tx, portal, account, "unsaid").await.map(drop)
}

/// Those who are to be told that; from now on they have been.
///
/// # Errors
/// [`Error`]
pub async fn owed(tx: &mut Tx, portal: PortalId) -> Result<Vec<AccountId>, Error> {
    let accounts: Vec<String> = sqlx::query_scalar(
        "DELETE FROM answered WHERE portal = $1 AND kind = 'unsaid' RETURNING who",
    )
    .bind(portal.0)
    .fetch_all(tx.conn())
    .await?;
    let accounts = accounts.iter().map(|who| who.parse().map_err(|_| Error::Row("answered.who")));
    let mut accounts = accounts.collect::<Result<Vec<AccountId>, Error>>()?;
    accounts.sort();
    Ok(accounts)
}

/// Whoever comes again is told again: nothing is kept of those who went.
///
/// # Errors
/// [`Error`]
pub async fn forget(tx: &mut Tx, portal: PortalId, who: &str) -> Result<(), Error> {
    sqlx::query("DELETE FROM answered WHERE portal = $1 AND who = $2")
        .bind(portal.0)
        .bind(who)
        .execute(tx.conn())
        .await?;
    Ok(())
}

/// People of the room are heard again: whoever is not, later, is told anew.
///
/// # Errors
/// [`Error`]
pub async fn are_heard(tx: &mut Tx, portal: PortalId) -> Result<(), Error> {
    sqlx::query("DELETE FROM answered WHERE portal = $1 AND kind = 'unheard'")
        .bind(portal.0)
        .execute(tx.conn())
        .await?;
    Ok(())
}
