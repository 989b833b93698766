//! Finished envelopes on their way, with the rows of the outbox that they carry: one batch for each
//! group.

use causeway_protocol::ids::GroupId;
use causeway_store::Conn;
use serde::{Serialize, de::DeserializeOwned};

use super::{Error, Whole as _, json};

/// A batch as it is stored.
pub(crate) struct Stored<T> {
    pub(crate) id: i64,
    pub(crate) batch: T,
    pub(crate) rows: Vec<i64>,
}

pub(crate) async fn get<T: DeserializeOwned>(
    conn: &mut Conn,
    group: &GroupId,
) -> Result<Option<Stored<T>>, Error> {
    let row: Option<(i64, String, String)> =
        sqlx::query_as("SELECT id, body, rows FROM batches WHERE group_id = $1")
            .bind(group.as_bytes().as_slice())
            .fetch_optional(conn)
            .await?;
    let Some((id, body, rows)) = row else { return Ok(None) };
    let batch = serde_json::from_str(&body).whole("batches")?;
    Ok(Some(Stored { id, batch, rows: serde_json::from_str(&rows).whole("batches")? }))
}

pub(crate) async fn put(
    conn: &mut Conn,
    group: &GroupId,
    batch: &impl Serialize,
    rows: &[i64],
) -> Result<i64, Error> {
    let id = sqlx::query_scalar(
        "INSERT INTO batches (group_id, body, rows) VALUES ($1, $2, $3) RETURNING id",
    )
    .bind(group.as_bytes().as_slice())
    .bind(json(batch))
    .bind(json(&rows))
    .fetch_one(conn)
    .await?;
    Ok(id)
}

pub(crate) async fn delete(conn: &mut Conn, id: i64) -> Result<(), Error> {
    sqlx::query("DELETE FROM batches WHERE id = $1").bind(id).execute(conn).await?;
    Ok(())
}
