//! Finished envelopes on their way into a group: committed with the ratchet that made them, and
//! re-sent as they are until the server has answered.

use causeway_protocol::ids::Timestamp;
use causeway_store::Tx;
use serde::{Serialize, de::DeserializeOwned};

use super::{Error, at, sealed::Sealer};
use crate::domain::lane::Lane;

/// Keeps the envelopes of a lane; it has one batch at a time.
///
/// # Errors
/// [`Error`]
pub async fn put(
    tx: &mut Tx,
    vault: &Sealer,
    now: Timestamp,
    lane: Lane,
    batch: &impl Serialize,
) -> Result<i64, Error> {
    let lane = lane.to_string();
    let sealed = vault.seal_json("portal_batches", lane.as_bytes(), batch)?;
    let id = sqlx::query_scalar(
        "INSERT INTO portal_batches (lane, sealed, made_at) VALUES ($1, $2, $3) RETURNING batch",
    )
    .bind(lane)
    .bind(sealed)
    .bind(at(now))
    .fetch_one(tx.conn())
    .await?;
    Ok(id)
}

/// The envelopes of a lane.
///
/// # Errors
/// [`Error`]
pub async fn get<T: DeserializeOwned>(
    tx: &mut Tx,
    vault: &Sealer,
    lane: Lane,
) -> Result<Option<T>, Error> {
    let lane = lane.to_string();
    let sealed: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT sealed FROM portal_batches WHERE lane = $1")
            .bind(lane.as_str())
            .fetch_optional(tx.conn())
            .await?;
    Ok(sealed
        .map(|sealed| vault.open_json("portal_batches", lane.as_bytes(), &sealed))
        .transpose()?)
}

/// Forgets the envelopes of a lane: they were taken, or refused. Their rows are free again.
///
/// # Errors
/// [`Error`]
pub async fn drop(tx: &mut Tx, lane: Lane) -> Result<(), Error> {
    sqlx::query("DELETE FROM portal_batches WHERE lane = $1")
        .bind(lane.to_string())
        .execute(tx.conn())
        .await?;
    Ok(())
}
