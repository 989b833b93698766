//! What nobody fetched in time.

use causeway_protocol::ids::{EnvelopeId, Epoch, Timestamp};
use causeway_store::Conn;

use crate::storage::{DeviceRow, Error, GroupRow, ms, name_of, number};

/// An envelope whose time is over.
#[derive(Debug)]
pub(crate) struct Overdue {
    pub(crate) envelope: i64,
    /// What its sender calls it; none of a fan-out that came before that was kept.
    pub(crate) name: Option<EnvelopeId>,
    pub(crate) group: GroupRow,
    pub(crate) epoch: Epoch,
    pub(crate) sender: Option<DeviceRow>,
}

#[derive(sqlx::FromRow)]
struct OverdueColumns {
    envelope: i64,
    name: Option<Vec<u8>>,
    grp: GroupRow,
    epoch: i64,
    sender: Option<DeviceRow>,
}

impl TryFrom<OverdueColumns> for Overdue {
    type Error = Error;

    fn try_from(columns: OverdueColumns) -> Result<Self, Error> {
        Ok(Self {
            envelope: columns.envelope,
            name: columns.name.map(|name| name_of!(EnvelopeId, &name, "id")).transpose()?,
            group: columns.grp,
            epoch: Epoch(number(columns.epoch, "epoch")?),
            sender: columns.sender,
        })
    }
}

/// Envelopes whose time is over, the oldest first.
pub(crate) async fn overdue(
    conn: &mut Conn,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<Overdue>, Error> {
    let rows: Vec<OverdueColumns> = sqlx::query_as(
        "SELECT envelope, COALESCE(id, whole_id) AS name, grp, epoch, sender FROM envelopes
         WHERE expires_ms <= $1 ORDER BY expires_ms LIMIT $2",
    )
    .bind(ms(now))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Overdue::try_from).collect()
}

/// Drops an envelope with the rows that wait for it, and remembers that they expired; how many.
pub(crate) async fn expire(
    conn: &mut Conn,
    envelope: i64,
    keep_until: Timestamp,
) -> Result<u64, Error> {
    let done = sqlx::query(
        "INSERT INTO expired (device, seq, keep_until_ms)
         SELECT device, seq, $2 FROM mailbox WHERE envelope = $1",
    )
    .bind(envelope)
    .bind(ms(keep_until))
    .execute(&mut *conn)
    .await?;
    sqlx::query("DELETE FROM mailbox WHERE envelope = $1")
        .bind(envelope)
        .execute(&mut *conn)
        .await?;
    sqlx::query("DELETE FROM envelopes WHERE envelope = $1").bind(envelope).execute(conn).await?;
    Ok(done.rows_affected())
}
