//! What of one account waits: in all, by mailbox, and by group.
//!
//! Found by whose it is, so that counting costs as much as the account has waiting. `now` is by what
//! upkeep ends envelopes: what has run out waits no more. Each row counts for `row` bytes beside what
//! it carries.

use causeway_protocol::ids::{AccountId, Timestamp};
use causeway_store::Conn;

use crate::storage::{DeviceRow, Error, GroupRow, many, ms, number};

/// Where an account has a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// What is for one device alone.
    Mailbox(DeviceRow),
    /// What is for a group.
    Group(GroupRow),
}

/// Bytes of an account that wait to be read by somebody: each envelope once, its pieces and rows each.
pub(crate) async fn waits(
    conn: &mut Conn,
    account: &AccountId,
    now: Timestamp,
    row: u64,
) -> Result<u64, Error> {
    let bytes: i64 = sqlx::query_scalar(
        "SELECT CAST(COALESCE(SUM(w.bytes), 0) AS BIGINT) FROM (
            SELECT length(e.payload) + $3 AS bytes
            FROM devices d CROSS JOIN envelopes e CROSS JOIN broadcasts b
            WHERE d.account = $1 AND e.sender = d.device AND e.expires_ms > $2
            AND b.seq = e.envelope AND b.ended IS NULL AND b.read_seq IS NULL
         UNION ALL
            SELECT MAX(length(e.payload)) + SUM(COALESCE(length(m.piece), 0) + $3) AS bytes
            FROM devices d CROSS JOIN envelopes e CROSS JOIN mailbox m CROSS JOIN mailboxes p
            WHERE d.account = $1 AND e.sender = d.device AND e.expires_ms > $2
            AND m.envelope = e.envelope AND p.device = m.device AND p.acked_seq < m.seq
            GROUP BY e.envelope
         UNION ALL
            SELECT p.bytes + $3 AS bytes
            FROM devices d CROSS JOIN envelopes e CROSS JOIN parked p
            WHERE d.account = $1 AND e.sender = d.device AND e.expires_ms > $2
            AND p.envelope = e.envelope AND p.taken_ms IS NULL
            AND NOT EXISTS (SELECT 1 FROM broadcasts b WHERE b.seq = e.envelope)) w",
    )
    .bind(account.as_str())
    .bind(ms(now))
    .bind(signed(row))
    .fetch_one(conn)
    .await?;
    number(bytes, "bytes")
}

/// Where more than `most` bytes of an account wait.
pub(crate) async fn places_beyond(
    conn: &mut Conn,
    account: &AccountId,
    now: Timestamp,
    row: u64,
    most: u64,
) -> Result<Vec<Place>, Error> {
    let mailboxes: Vec<DeviceRow> = sqlx::query_scalar(
        "SELECT w.device FROM (
            SELECT m.device, length(e.payload) + COALESCE(length(m.piece), 0) + $3 AS bytes
            FROM devices d CROSS JOIN envelopes e CROSS JOIN mailbox m CROSS JOIN mailboxes p
            WHERE d.account = $1 AND e.sender = d.device AND e.expires_ms > $2
            AND m.envelope = e.envelope AND p.device = m.device AND p.acked_seq < m.seq
         UNION ALL
            SELECT p.device, p.bytes + $3 AS bytes
            FROM devices d CROSS JOIN envelopes e CROSS JOIN parked p
            WHERE d.account = $1 AND e.sender = d.device AND e.expires_ms > $2
            AND p.envelope = e.envelope AND p.taken_ms IS NULL
            AND NOT EXISTS (SELECT 1 FROM broadcasts b WHERE b.seq = e.envelope)) w
         GROUP BY w.device HAVING SUM(w.bytes) > $4",
    )
    .bind(account.as_str())
    .bind(ms(now))
    .bind(signed(row))
    .bind(signed(most))
    .fetch_all(&mut *conn)
    .await?;
    let groups: Vec<GroupRow> = sqlx::query_scalar(
        "SELECT e.grp FROM devices d CROSS JOIN envelopes e CROSS JOIN broadcasts b
         WHERE d.account = $1 AND e.sender = d.device AND e.expires_ms > $2
         AND b.seq = e.envelope AND b.ended IS NULL AND b.read_seq IS NULL
         GROUP BY e.grp HAVING SUM(length(e.payload) + $3) > $4",
    )
    .bind(account.as_str())
    .bind(ms(now))
    .bind(signed(row))
    .bind(signed(most))
    .fetch_all(conn)
    .await?;
    let mailboxes = mailboxes.into_iter().map(Place::Mailbox);
    Ok(mailboxes.chain(groups.into_iter().map(Place::Group)).collect())
}

/// Which envelopes of an account at this place are beyond `most` bytes, counted from the newest: the
/// oldest first.
pub(crate) async fn beyond(
    conn: &mut Conn,
    account: &AccountId,
    place: Place,
    now: Timestamp,
    row: u64,
    most: u64,
) -> Result<Vec<i64>, Error> {
    let (query, at) = match place {
        Place::Mailbox(device) => (
            sqlx::query_scalar(
                "SELECT t.envelope FROM (
                    SELECT w.envelope, SUM(w.bytes) OVER (ORDER BY w.envelope DESC) AS up_to FROM (
                        SELECT e.envelope,
                            length(e.payload) + COALESCE(length(m.piece), 0) + $3 AS bytes
                        FROM devices d CROSS JOIN envelopes e CROSS JOIN mailbox m
                        CROSS JOIN mailboxes p
                        WHERE d.account = $1 AND e.sender = d.device AND e.expires_ms > $2
                        AND m.envelope = e.envelope AND m.device = $5
                        AND p.device = m.device AND p.acked_seq < m.seq
                    UNION ALL
                        SELECT e.envelope, p.bytes + $3 AS bytes
                        FROM devices d CROSS JOIN envelopes e CROSS JOIN parked p
                        WHERE d.account = $1 AND e.sender = d.device AND e.expires_ms > $2
                        AND p.envelope = e.envelope AND p.device = $5 AND p.taken_ms IS NULL
                        AND NOT EXISTS (SELECT 1 FROM broadcasts b WHERE b.seq = e.envelope)
                    ) w) t WHERE t.up_to > $4 ORDER BY t.envelope",
            ),
            device.0,
        ),
        Place::Group(group) => (
            sqlx::query_scalar(
                "SELECT t.envelope FROM (
                    SELECT e.envelope,
                        SUM(length(e.payload) + $3) OVER (ORDER BY e.envelope DESC) AS up_to
                    FROM devices d CROSS JOIN envelopes e CROSS JOIN broadcasts b
                    WHERE d.account = $1 AND e.sender = d.device AND e.expires_ms > $2
                    AND e.grp = $5 AND b.seq = e.envelope
                    AND b.ended IS NULL AND b.read_seq IS NULL) t WHERE t.up_to > $4 ORDER BY t.envelope",
            ),
            group.0,
        ),
    };
    let beyond = query.bind(account.as_str()).bind(ms(now)).bind(signed(row)).bind(signed(most));
    Ok(beyond.bind(at).fetch_all(conn).await?)
}

/// Lets the time of these envelopes be over.
pub(crate) async fn end_early(
    conn: &mut Conn,
    envelopes: &[i64],
    now: Timestamp,
) -> Result<(), Error> {
    let head = "UPDATE envelopes SET expires_ms = $1 WHERE envelope IN (";
    many::run_in(conn, head, ms(now), envelopes).await
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
