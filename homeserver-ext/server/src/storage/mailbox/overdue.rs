//! What nobody fetched in time.

use causeway_protocol::{
    envelope::Kind,
    ids::{EnvelopeId, Epoch, Timestamp},
};
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
    /// It is one row for its group, and not one for each device.
    pub(crate) is_broadcast: bool,
    /// What devices of a call tell each other, which is of no use later: nobody misses it.
    pub(crate) is_signal: bool,
}

#[derive(sqlx::FromRow)]
struct OverdueColumns {
    envelope: i64,
    name: Option<Vec<u8>>,
    grp: GroupRow,
    epoch: i64,
    sender: Option<DeviceRow>,
    is_broadcast: bool,
    kind: i64,
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
            is_broadcast: columns.is_broadcast,
            is_signal: columns.kind == i64::from(Kind::Call.number()),
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
        "SELECT envelope, COALESCE(id, whole_id) AS name, grp, epoch, sender, kind,
            EXISTS (SELECT 1 FROM broadcasts b WHERE b.seq = envelopes.envelope) AS is_broadcast
         FROM envelopes WHERE expires_ms <= $1 ORDER BY expires_ms LIMIT $2",
    )
    .bind(ms(now))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Overdue::try_from).collect()
}

/// Drops at most about `limit` of the rows that wait for an envelope, and remembers that they expired;
/// how many, and whether the envelope went with the last of them. What was acknowledged and is kept
/// goes first, and has not expired.
pub(crate) async fn expire(
    conn: &mut Conn,
    envelope: i64,
    keep_until: Timestamp,
    limit: u32,
) -> Result<(u32, bool), Error> {
    sqlx::query(
        "DELETE FROM mailbox WHERE envelope = $1 AND EXISTS (SELECT 1 FROM mailboxes p
            WHERE p.device = mailbox.device AND p.acked_seq >= mailbox.seq)",
    )
    .bind(envelope)
    .execute(&mut *conn)
    .await?;
    let rows = sqlx::query(
        "INSERT INTO expired (device, seq, keep_until_ms)
         SELECT device, seq, $2 FROM mailbox WHERE envelope = $1 ORDER BY device LIMIT $3",
    )
    .bind(envelope)
    .bind(ms(keep_until))
    .bind(i64::from(limit))
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "DELETE FROM mailbox WHERE (device, seq) IN
            (SELECT device, seq FROM mailbox WHERE envelope = $1 ORDER BY device LIMIT $2)",
    )
    .bind(envelope)
    .bind(i64::from(limit))
    .execute(&mut *conn)
    .await?;
    let gone = sqlx::query(
        "DELETE FROM envelopes WHERE envelope = $1
         AND NOT EXISTS (SELECT 1 FROM mailbox m WHERE m.envelope = envelopes.envelope)",
    )
    .bind(envelope)
    .execute(conn)
    .await?;
    let count = u32::try_from(rows.rows_affected()).unwrap_or(u32::MAX);
    Ok((count, gone.rows_affected() > 0))
}
