//! What could not be parsed, or not be read: kept whole and sealed, counted, in nobody's way.

use causeway_protocol::ids::Timestamp;
use causeway_store::Tx;
use ruma::EventId;
use sha2::{Digest as _, Sha256};

use super::{Error, at, sealed::Sealer};

/// Puts `bytes` aside; the same bytes twice are one row.
///
/// # Errors
/// [`Error`]
pub async fn put(
    tx: &mut Tx,
    vault: &Sealer,
    now: Timestamp,
    event_id: Option<&EventId>,
    reason: &str,
    bytes: &[u8],
) -> Result<(), Error> {
    let hash = Sha256::digest(bytes).to_vec();
    let sealed = vault.seal("quarantine", &hash, bytes)?;
    sqlx::query(
        "INSERT INTO quarantine (hash, event_id, reason, sealed, received_at)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (hash) DO NOTHING",
    )
    .bind(hash)
    .bind(event_id.map(EventId::as_str))
    .bind(reason)
    .bind(sealed)
    .bind(at(now))
    .execute(tx.conn())
    .await?;
    Ok(())
}
