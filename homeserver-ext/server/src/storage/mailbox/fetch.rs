//! Fetching: rows in order, and the acknowledgement that deletes them.

use causeway_protocol::{
    envelope::Kind,
    ids::{DeviceId, EnvelopeId, Epoch, GroupId, Seq, Timestamp},
};
use causeway_store::Conn;

use crate::storage::{DeviceRow, Error, name_of, number, time};

/// A row as it waits: everything that its frame says.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) seq: Seq,
    pub(crate) id: Option<EnvelopeId>,
    pub(crate) kind: Kind,
    pub(crate) group: GroupId,
    pub(crate) epoch: Epoch,
    /// Account and device; none where the server made it.
    pub(crate) sender: Option<(String, DeviceId)>,
    pub(crate) recipient: Option<DeviceId>,
    pub(crate) ttl_ms: u64,
    pub(crate) payload: Vec<u8>,
    pub(crate) piece: Option<Vec<u8>>,
}

#[derive(sqlx::FromRow)]
struct WaitingColumns {
    seq: i64,
    id: Option<Vec<u8>>,
    kind: i64,
    group_id: Vec<u8>,
    epoch: i64,
    account: Option<String>,
    device_id: Option<Vec<u8>>,
    recipient: Option<Vec<u8>>,
    ttl_ms: i64,
    payload: Vec<u8>,
    piece: Option<Vec<u8>>,
}

impl TryFrom<WaitingColumns> for Waiting {
    type Error = Error;

    fn try_from(columns: WaitingColumns) -> Result<Self, Error> {
        let device = |bytes: &Vec<u8>| name_of!(DeviceId, bytes, "device_id");
        let sender_id = columns.device_id.as_ref().map(device).transpose()?;
        Ok(Self {
            seq: Seq(number(columns.seq, "seq")?),
            id: columns.id.map(|id| name_of!(EnvelopeId, &id, "id")).transpose()?,
            kind: Kind::from_number(number(columns.kind, "kind")?).ok_or(Error::Row("kind"))?,
            group: name_of!(GroupId, &columns.group_id, "group_id")?,
            epoch: Epoch(number(columns.epoch, "epoch")?),
            sender: columns.account.zip(sender_id),
            recipient: columns.recipient.as_ref().map(device).transpose()?,
            ttl_ms: number(columns.ttl_ms, "ttl_ms")?,
            payload: columns.payload,
            piece: columns.piece,
        })
    }
}

/// The next rows of a device after `after`, in order.
pub(crate) async fn after(
    conn: &mut Conn,
    device: DeviceRow,
    after: Seq,
    limit: u32,
) -> Result<Vec<Waiting>, Error> {
    let rows: Vec<WaitingColumns> = sqlx::query_as(
        "SELECT m.seq, e.id, e.kind, g.group_id, e.epoch, d.account, d.device_id, e.recipient,
                e.ttl_ms, e.payload, m.piece
         FROM mailbox m
         JOIN envelopes e ON e.envelope = m.envelope
         JOIN groups g ON g.grp = e.grp
         LEFT JOIN devices d ON d.device = e.sender
         WHERE m.device = $1 AND m.seq > $2 ORDER BY m.seq LIMIT $3",
    )
    .bind(device)
    .bind(i64::try_from(after.0).unwrap_or(i64::MAX))
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Waiting::try_from).collect()
}

/// Up to where a device has acknowledged, and the last row that it was given.
pub(crate) async fn ends(conn: &mut Conn, device: DeviceRow) -> Result<(Seq, Seq), Error> {
    let ends: Option<(i64, i64)> =
        sqlx::query_as("SELECT acked_seq, last_seq FROM mailboxes WHERE device = $1")
            .bind(device)
            .fetch_optional(conn)
            .await?;
    let (acked, last) = ends.unwrap_or_default();
    Ok((Seq(number(acked, "acked_seq")?), Seq(number(last, "last_seq")?)))
}

/// When the envelopes were accepted that people's devices sent and `device` is about to acknowledge.
pub(crate) async fn accepted_at(
    conn: &mut Conn,
    device: DeviceRow,
    seq: Seq,
) -> Result<Vec<Timestamp>, Error> {
    let at: Vec<i64> = sqlx::query_scalar(
        "SELECT e.at_ms FROM mailbox m JOIN envelopes e ON e.envelope = m.envelope
         WHERE m.device = $1 AND m.seq <= $2 AND e.sender IS NOT NULL AND e.at_ms > 0",
    )
    .bind(device)
    .bind(i64::try_from(seq.0).unwrap_or(i64::MAX))
    .fetch_all(conn)
    .await?;
    Ok(at.into_iter().map(time).collect())
}

/// Notes up to which row a device's streams were written.
pub(crate) async fn set_sent(conn: &mut Conn, device: DeviceRow, seq: Seq) -> Result<(), Error> {
    sqlx::query("UPDATE mailboxes SET sent_seq = $2 WHERE device = $1 AND sent_seq < $2")
        .bind(device)
        .bind(i64::try_from(seq.0).unwrap_or(i64::MAX))
        .execute(conn)
        .await?;
    Ok(())
}

/// Deletes a device's rows up to and with `seq`; how many there were.
pub(crate) async fn ack(conn: &mut Conn, device: DeviceRow, seq: Seq) -> Result<u64, Error> {
    let seq = i64::try_from(seq.0).unwrap_or(i64::MAX);
    // Envelopes first, while the rows still say which; those that others wait for stay.
    sqlx::query(
        "DELETE FROM envelopes WHERE envelope IN
            (SELECT envelope FROM mailbox WHERE device = $1 AND seq <= $2)
         AND NOT EXISTS (SELECT 1 FROM mailbox o
            WHERE o.envelope = envelopes.envelope AND o.device <> $1)",
    )
    .bind(device)
    .bind(seq)
    .execute(&mut *conn)
    .await?;
    let done = sqlx::query("DELETE FROM mailbox WHERE device = $1 AND seq <= $2")
        .bind(device)
        .bind(seq)
        .execute(&mut *conn)
        .await?;
    sqlx::query(
        "UPDATE mailboxes SET acked_seq = CASE WHEN last_seq < $2 THEN last_seq ELSE $2 END
         WHERE device = $1 AND acked_seq < $2",
    )
    .bind(device)
    .bind(seq)
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
