//! Rows of the outbox and its batches.

use causeway_protocol::{
    content::Plaintext,
    ids::{GroupId, ParseError, Timestamp},
};
use causeway_store::{Conn, Tx};
use sqlx::Row as _;

use super::{MAX_BATCH_BYTES, MAX_MESSAGES, OutboxError};
use crate::{
    machine::{Batch, Outgoing},
    vault::{Class, Vault},
};

/// A batch as it is stored.
pub(super) struct Stored {
    pub(super) id: i64,
    pub(super) batch: Batch,
    pub(super) rows: Vec<i64>,
}

/// A message that waits.
pub(super) struct Waiting {
    pub(super) row: i64,
    pub(super) plaintext: Plaintext,
}

impl Waiting {
    pub(super) fn into_outgoing(self) -> Outgoing {
        let Plaintext { client_id, ttl_s, content, .. } = self.plaintext;
        Outgoing { client_id, ttl_s, content }
    }
}

pub(super) async fn next(
    conn: &mut Conn,
    vault: &Vault,
    group: GroupId,
) -> Result<Vec<Waiting>, OutboxError> {
    let rows = sqlx::query(
        "SELECT row, client_id, content FROM outbox
         WHERE state = 'queued' AND group_id = $1 ORDER BY row LIMIT $2",
    )
    .bind(group.as_bytes().as_slice())
    .bind(i64::try_from(MAX_MESSAGES).unwrap_or(1))
    .fetch_all(conn)
    .await?;
    let mut waiting = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    for row in rows {
        let client_id: Vec<u8> = row.try_get(1)?;
        let sealed: Vec<u8> = row.try_get(2)?;
        let plaintext = vault.unseal(Class::Content, "outbox", "content", &client_id, &sealed)?;
        bytes += plaintext.len();
        if bytes > MAX_BATCH_BYTES && !waiting.is_empty() {
            break;
        }
        waiting.push(Waiting { row: row.try_get(0)?, plaintext: Plaintext::parse(&plaintext)? });
    }
    Ok(waiting)
}

pub(super) async fn load_batch(
    conn: &mut Conn,
    group: GroupId,
) -> Result<Option<Stored>, OutboxError> {
    let row = sqlx::query("SELECT id, body, rows FROM batches WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Stored {
        id: row.try_get(0)?,
        batch: serde_json::from_str(&row.try_get::<String, _>(1)?)?,
        rows: serde_json::from_str(&row.try_get::<String, _>(2)?)?,
    }))
}

pub(super) async fn save_batch(
    tx: &mut Tx,
    group: GroupId,
    batch: &Batch,
    rows: &[i64],
) -> Result<i64, OutboxError> {
    let row =
        sqlx::query("INSERT INTO batches (group_id, body, rows) VALUES ($1, $2, $3) RETURNING id")
            .bind(group.as_bytes().as_slice())
            .bind(serde_json::to_string(batch)?)
            .bind(serde_json::to_string(rows)?)
            .fetch_one(tx.conn())
            .await?;
    Ok(row.try_get(0)?)
}

/// Another process may have settled it first; then this changes nothing.
pub(super) async fn accept(tx: &mut Tx, stored: &Stored) -> Result<(), OutboxError> {
    for (row, message) in stored.rows.iter().zip(&stored.batch.messages) {
        sqlx::query(
            "UPDATE outbox SET state = 'accepted', envelope_id = $2, content = x''
             WHERE row = $1 AND state = 'queued'",
        )
        .bind(row)
        .bind(message.first.as_bytes().as_slice())
        .execute(tx.conn())
        .await?;
    }
    drop_batch(tx, stored.id).await
}

pub(super) async fn fail(tx: &mut Tx, row: i64, why: &str) -> Result<(), OutboxError> {
    sqlx::query(
        "UPDATE outbox SET state = 'failed', failure = $2, content = x''
         WHERE row = $1 AND state = 'queued'",
    )
    .bind(row)
    .bind(why)
    .execute(tx.conn())
    .await?;
    Ok(())
}

pub(super) async fn drop_batch(tx: &mut Tx, id: i64) -> Result<(), OutboxError> {
    sqlx::query("DELETE FROM batches WHERE id = $1").bind(id).execute(tx.conn()).await?;
    Ok(())
}

pub(super) fn ms(at: Timestamp) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

pub(super) fn decoded(error: ParseError) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}
