//! Who was told that what he did is not carried.

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
