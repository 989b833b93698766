//! What waits for devices of another server, as it goes there.

use std::collections::BTreeMap;

use causeway_protocol::{
    envelope::{Envelope, Kind, Piece, Recipient, Sender, Submission, SubmittedTo, compute_id},
    ids::{DeviceId, EnvelopeId, Epoch, GroupId, Timestamp},
    link::Row as ForPeer,
};
use causeway_store::{Conn, Row, Script};
use sqlx::{FromRow, Row as _};

use crate::storage::{Error, GroupRow, name_of, number, time};

/// What one look finds at most. It stands in the statement.
const LOOK: usize = 64;
const DAY_MS: u64 = 86_400_000;

/// An envelope for devices of the server, and its number here.
#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) seq: i64,
    pub(crate) group: GroupRow,
    pub(crate) row: ForPeer,
    /// What its sender calls a fan-out, and until when that may be asked for.
    pub(crate) whole: Option<(EnvelopeId, Timestamp)>,
}

/// Asks what devices here, and this server as a group's home, have for those of the server after `after`, in
/// order. A server that has not shown its devices yet gets what is for all: it knows for whom.
pub(crate) fn select_next(script: &mut Script, server: i64, after: i64) {
    let query = script.add(
        "SELECT n.last, k.seq FROM numbers n LEFT JOIN (
            SELECT seq FROM (SELECT DISTINCT m.seq FROM devices d
                JOIN mailbox m ON m.device = d.device AND m.seq > $2
                JOIN envelopes e ON e.envelope = m.envelope
                LEFT JOIN devices s ON s.device = e.sender
                WHERE d.server = $1 AND (e.sender IS NULL AND e.kind = 17
                    OR e.sender IS NOT NULL AND s.server IS NULL) ORDER BY m.seq LIMIT 64) own
            UNION ALL
            SELECT seq FROM (SELECT b.seq FROM broadcasts b
                WHERE b.seq > $2 AND b.ended IS NULL AND (b.sender = 0 OR EXISTS (
                    SELECT 1 FROM devices s WHERE s.device = b.sender AND s.server IS NULL))
                AND (EXISTS (
                    SELECT 1 FROM group_devices g JOIN devices d
                        ON d.device_id = g.device_id AND d.member_id = g.member_id
                    WHERE g.grp = b.grp AND d.server = $1 AND b.seq > g.after_seq
                    AND b.seq <= g.until_seq AND b.epoch >= g.from_epoch)
                OR EXISTS (
                    SELECT 1 FROM replicas r JOIN servers o ON o.server = r.server
                    JOIN group_devices g ON g.grp = r.grp
                    JOIN group_members m ON m.grp = g.grp AND m.member_id = g.member_id
                        AND m.account LIKE '%:' || o.name AND m.account NOT LIKE '%:%:' || o.name
                    WHERE r.server = $1 AND r.grp = b.grp AND b.seq > g.after_seq
                    AND b.seq <= g.until_seq AND b.epoch >= g.from_epoch))
                ORDER BY b.seq LIMIT 64) everyones
         ) k ON TRUE ORDER BY k.seq LIMIT 64",
    );
    query.bind(server).bind(after);
}

/// Reads what [`select_next`] asked for; and up to which number it was looked for.
pub(crate) async fn read_next(
    conn: &mut Conn,
    (server, after): (i64, i64),
    rows: &[Row],
) -> Result<(Vec<Forward>, i64), Error> {
    let keys: Vec<(i64, Option<i64>)> =
        rows.iter().map(FromRow::from_row).collect::<Result<_, _>>()?;
    let last = keys.first().map_or(after, |(last, _)| *last);
    let found: Vec<i64> = keys.iter().filter_map(|(_, seq)| *seq).collect();
    let until = match found.last() {
        Some(newest) if found.len() >= LOOK => *newest,
        _ => last,
    };
    Ok((read(conn, server, found).await?, until.max(after)))
}

async fn read(conn: &mut Conn, server: i64, found: Vec<i64>) -> Result<Vec<Forward>, Error> {
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let mut script = Script::default();
    script.add_list(
        "SELECT e.id, e.kind, g.group_id, e.epoch, s.account, s.device_id, e.recipient, e.ttl_ms,
            e.payload, e.grp, e.whole_id, COALESCE(e.expires_ms, 0), e.envelope
         FROM envelopes e JOIN groups g ON g.grp = e.grp
         LEFT JOIN devices s ON s.device = e.sender
         WHERE e.envelope IN (",
        found,
    );
    let mut all = BTreeMap::new();
    for row in script.run(&mut *conn).await? {
        let mut forward = forward(row.try_get(12)?, &row)?;
        if let ForPeer::Member(submission) = &mut forward.row
            && submission.kind == Kind::Fanout
        {
            cut(conn, (server, forward.seq), submission).await?;
        }
        all.insert(forward.seq, forward);
    }
    Ok(all.into_values().collect())
}

/// Leaves of a fan-out what is for devices of the server.
async fn cut(
    conn: &mut Conn,
    (server, seq): (i64, i64),
    submission: &mut Submission,
) -> Result<(), Error> {
    let pieces: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(
        "SELECT d.device_id, m.piece FROM mailbox m JOIN devices d ON d.device = m.device
         WHERE m.envelope = $1 AND d.server = $2 AND m.piece IS NOT NULL",
    )
    .bind(seq)
    .bind(server)
    .fetch_all(conn)
    .await?;
    let pieces = pieces
        .into_iter()
        .map(|(device, piece)| Ok((name_of!(DeviceId, &device, "device_id")?, Piece(piece))));
    submission.id = None;
    submission.to = SubmittedTo::Devices(pieces.collect::<Result<_, Error>>()?);
    Ok(())
}

fn forward(seq: i64, row: &Row) -> Result<Forward, Error> {
    let id: Option<&[u8]> = row.try_get(0)?;
    let recipient: Option<&[u8]> = row.try_get(6)?;
    let to = match recipient {
        Some(device) => SubmittedTo::Device(name_of!(DeviceId, device, "recipient")?),
        None => SubmittedTo::Broadcast,
    };
    let kind = Kind::from_number(number(row.try_get(1)?, "kind")?).ok_or(Error::Row("kind"))?;
    let of_group = name_of!(GroupId, row.try_get::<&[u8], _>(2)?, "group_id")?;
    let epoch = Epoch(number(row.try_get(3)?, "epoch")?);
    let ttl_ms = number(row.try_get(7)?, "ttl_ms")?;
    let payload: Vec<u8> = row.try_get(8)?;
    let account: Option<&str> = row.try_get(4)?;
    let row_for_peer = match account {
        Some(account) => ForPeer::Member(Submission {
            id: id.map(|id| name_of!(EnvelopeId, id, "id")).transpose()?,
            kind,
            group: of_group,
            epoch,
            sender: Sender {
                account: account.parse().map_err(|_| Error::Row("account"))?,
                device: name_of!(DeviceId, row.try_get::<&[u8], _>(5)?, "device_id")?,
            },
            to,
            ttl_ms,
            payload,
        }),
        // Which of its devices are told is the other server's to say.
        None => ForPeer::Home(Envelope {
            id: compute_id(kind, None, &Recipient::Broadcast, &payload, None),
            kind,
            group: of_group,
            epoch,
            sender: None,
            to: Recipient::Broadcast,
            ttl_ms,
            payload,
            piece: None,
        }),
    };
    let whole: Option<&[u8]> = row.try_get(10)?;
    let whole = whole.map(|id| name_of!(EnvelopeId, id, "whole_id")).transpose()?;
    let until = time(row.try_get(11)?).plus_ms(DAY_MS);
    let whole = whole.map(|whole| (whole, until));
    Ok(Forward { seq, group: row.try_get(9)?, row: row_for_peer, whole })
}

/// The server has all that was for its devices, up to and with this number.
pub(crate) fn done(script: &mut Script, server: i64, until: i64) {
    // Envelopes first, while the rows still say which; those that others wait for stay.
    let query = script.add(
        "DELETE FROM envelopes WHERE envelope IN (
            SELECT m.envelope FROM devices d JOIN mailbox m ON m.device = d.device AND m.seq <= $2
            WHERE d.server = $1)
         AND NOT EXISTS (SELECT 1 FROM mailbox o JOIN devices d ON d.device = o.device
            WHERE o.envelope = envelopes.envelope AND (d.server IS NULL OR d.server <> $1))
         AND NOT EXISTS (SELECT 1 FROM parked p WHERE p.envelope = envelopes.envelope)",
    );
    query.bind(server).bind(until);
    let query = script.add(
        "DELETE FROM mailbox WHERE seq <= $2
         AND device IN (SELECT device FROM devices WHERE server = $1)",
    );
    query.bind(server).bind(until);
    let query = script.add(
        "UPDATE mailboxes SET acked_seq = $2 WHERE acked_seq < $2
         AND device IN (SELECT device FROM devices WHERE server = $1)",
    );
    query.bind(server).bind(until);
    let query =
        script.add("UPDATE servers SET forwarded = $2 WHERE server = $1 AND forwarded < $2");
    query.bind(server).bind(until);
}

/// The last number that was given.
pub(crate) async fn last(conn: &mut Conn) -> Result<i64, Error> {
    Ok(sqlx::query_scalar("SELECT last FROM numbers").fetch_one(conn).await?)
}

/// A group of which a server lacks ops.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Behind {
    #[sqlx(rename = "grp")]
    pub(crate) group: GroupRow,
    /// The last that it has; -1: none.
    pub(crate) epoch: i64,
    /// The last that it may have: a server without members the one that took out its last. Of one whose
    /// devices are not known here all: it is in the roster.
    pub(crate) until: i64,
    /// Who began the group; none of one from before that was kept, whose home is here.
    pub(crate) creator: Option<String>,
}

/// Asks for the groups of which the other server lacks ops, of this one as their home, or has not been shown the
/// accounts here that they name; 1,024 at most.
pub(crate) fn select_behind(script: &mut Script, server: i64) {
    let query = script.add(
        "SELECT grp, epoch, until, creator FROM (
            SELECT r.grp, r.epoch, g.creator, CASE WHEN EXISTS (
                    SELECT 1 FROM group_devices g JOIN devices d
                        ON d.device_id = g.device_id AND d.member_id = g.member_id
                    WHERE g.grp = r.grp AND d.server = r.server AND g.until_epoch IS NULL)
                THEN g.epoch ELSE COALESCE((
                    SELECT max(o.until_epoch) FROM group_devices o JOIN devices d
                        ON d.device_id = o.device_id AND d.member_id = o.member_id
                    WHERE o.grp = r.grp AND d.server = r.server), g.epoch) END AS until
            FROM replicas r JOIN groups g ON g.grp = r.grp
            WHERE r.server = $1 AND r.epoch < g.epoch) AS lacking
         WHERE epoch < until ORDER BY grp LIMIT 1024",
    );
    query.bind(server);
}

/// Reads what [`select_behind`] asked for.
pub(crate) fn read_behind(rows: &[Row]) -> Result<Vec<Behind>, Error> {
    Ok(rows.iter().map(FromRow::from_row).collect::<Result<_, _>>()?)
}

/// Ops of one group that are read at once. It stands in the statement.
pub(crate) const OPS: usize = 256;

/// A group's ops of these epochs in order, at most [`OPS`], each with its number; 0 for one from before those
/// were numbered.
pub(crate) async fn ops(
    conn: &mut Conn,
    group: GroupRow,
    from: i64,
    until: i64,
) -> Result<Vec<(i64, Vec<u8>)>, Error> {
    let rows = sqlx::query_as(
        "SELECT COALESCE((SELECT b.seq FROM broadcasts b
            WHERE b.grp = o.grp AND b.epoch = o.epoch AND b.sender IS NULL), 0), o.op
         FROM ops o WHERE o.grp = $1 AND o.epoch >= $2 AND o.epoch <= $3
         ORDER BY o.epoch LIMIT 256",
    );
    Ok(rows.bind(group).bind(from).bind(until).fetch_all(conn).await?)
}

/// The server has a group's ops up to this epoch.
pub(crate) async fn has_ops(
    conn: &mut Conn,
    server: i64,
    group: GroupRow,
    epoch: i64,
) -> Result<(), Error> {
    sqlx::query("UPDATE replicas SET epoch = $3 WHERE server = $1 AND grp = $2 AND epoch < $3")
        .bind(server)
        .bind(group)
        .bind(epoch)
        .execute(conn)
        .await?;
    Ok(())
}

/// From now on the server is given the group's ops.
pub(crate) async fn begin_replica(
    conn: &mut Conn,
    server: i64,
    group: GroupRow,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO replicas (grp, server, epoch) VALUES ($1, $2, -1) ON CONFLICT DO NOTHING",
    )
    .bind(group)
    .bind(server)
    .execute(conn)
    .await?;
    Ok(())
}

/// From now on the server is given nothing more of the group.
pub(crate) async fn end_replica(
    conn: &mut Conn,
    server: i64,
    group: GroupRow,
) -> Result<(), Error> {
    sqlx::query("DELETE FROM replicas WHERE server = $1 AND grp = $2")
        .bind(server)
        .bind(group)
        .execute(conn)
        .await?;
    Ok(())
}

/// A server of which devices are known, or that is in a group with this one.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Peer {
    pub(crate) server: i64,
    pub(crate) name: String,
    /// Up to which number it has all.
    pub(crate) forwarded: i64,
}

/// All of them, and the last number that was given.
pub(crate) async fn peers(conn: &mut Conn) -> Result<(Vec<Peer>, i64), Error> {
    let mut script = Script::default();
    script.add(
        "SELECT server, name, forwarded FROM servers s
         WHERE EXISTS (SELECT 1 FROM devices d WHERE d.server = s.server)
            OR EXISTS (SELECT 1 FROM replicas r WHERE r.server = s.server) ORDER BY server",
    );
    script.add("SELECT last FROM numbers");
    let mut rows = script.run(conn).await?;
    let peers = rows.take().iter().map(FromRow::from_row).collect::<Result<_, _>>()?;
    let last = rows.take().first().ok_or(Error::Row("numbers"))?.try_get(0)?;
    Ok((peers, last))
}
