//! Broadcasts: one row each, and who reads it.

use causeway_protocol::{
    device::DeviceOf,
    ids::{Epoch, Seq},
};
use causeway_store::Conn;

use crate::storage::{DeviceRow, Error, GroupRow, groups::Group, number};

/// Puts the op of this epoch down at its place, for all who count at it, those among them whom it
/// brought in or took out. The op itself is in `ops`.
pub(crate) async fn put_op(
    conn: &mut Conn,
    seq: i64,
    group: GroupRow,
    epoch: Epoch,
) -> Result<(), Error> {
    sqlx::query("INSERT INTO broadcasts (seq, grp, epoch) VALUES ($1, $2, $3)")
        .bind(seq)
        .bind(group)
        .bind(i64::from(epoch.0))
        .execute(conn)
        .await?;
    Ok(())
}

/// For how many devices a broadcast of `epoch` is: of those that count now, those that
/// counted then, but for the sender's own.
pub(crate) async fn recipients(conn: &mut Conn, group: &Group, epoch: Epoch) -> Result<u32, Error> {
    let others = group.devices.saturating_sub(1);
    if epoch == group.head.epoch {
        return Ok(others);
    }
    let newer: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM group_devices
         WHERE grp = $1 AND from_epoch > $2 AND until_epoch IS NULL",
    )
    .bind(group.row)
    .bind(i64::from(epoch.0))
    .fetch_one(conn)
    .await?;
    Ok(others.saturating_sub(number(newer, "count")?))
}

/// A device's place in a group, or one that it had.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub(crate) struct InGroup {
    #[sqlx(rename = "grp")]
    pub(crate) group: GroupRow,
    from_epoch: i64,
    until_seq: i64,
}

impl InGroup {
    /// Since which epoch it counts there; `None` where it does no more.
    pub(crate) fn since(&self) -> Option<Epoch> {
        let since = Epoch(u32::try_from(self.from_epoch).unwrap_or(0));
        (self.until_seq == i64::MAX).then_some(since)
    }
}

/// The groups whose broadcasts a device may have to read.
pub(crate) async fn groups_of(
    conn: &mut Conn,
    device: &DeviceOf,
    after: Seq,
) -> Result<Vec<InGroup>, Error> {
    let rows = sqlx::query_as(
        "SELECT grp, from_epoch, until_seq FROM group_devices
         WHERE device_id = $1 AND member_id = $2 AND until_seq > $3",
    )
    .bind(device.device_id.as_ref())
    .bind(device.member_id.as_ref())
    .bind(i64::try_from(after.0).unwrap_or(i64::MAX));
    Ok(rows.fetch_all(conn).await?)
}

/// Who reads a group's broadcasts, and how far each is; who is furthest behind stands first.
#[derive(Debug)]
pub(crate) struct Readers(Vec<Reader>);

#[derive(Debug, sqlx::FromRow)]
struct Reader {
    device: DeviceRow,
    /// Between these two numbers it counts, or counted.
    after_seq: i64,
    until_seq: i64,
    from_epoch: i64,
    acked_seq: i64,
    /// The server that it is on; none: this one.
    server: Option<i64>,
    /// Up to here what it acknowledged need not be kept for it; none: all of that need not.
    kept_seq: Option<i64>,
}

impl Reader {
    /// Up to here it lacks nothing.
    fn has(&self) -> i64 {
        self.after_seq.max(self.acked_seq)
    }

    fn is_for(&self, said: &Said) -> bool {
        said.seq > self.after_seq
            && said.seq <= self.until_seq
            && self.from_epoch <= said.epoch
            && said.sender != Some(self.device)
            && (said.is_here || self.server.is_none())
    }
}

/// A broadcast that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Said {
    pub(crate) seq: i64,
    pub(crate) epoch: i64,
    pub(crate) sender: Option<DeviceRow>,
    /// Whether a device of this server said it: what others' did is theirs to bring to third ones.
    pub(crate) is_here: bool,
    /// Whether somebody has parked it and not taken it.
    pub(crate) is_parked: bool,
    /// Whether somebody has parked it, taken it, and may have to read it again.
    pub(crate) is_taken: bool,
}

impl Readers {
    /// Whether somebody for whom it is has not acknowledged it, or has parked it.
    pub(crate) fn lack(&self, said: &Said) -> bool {
        if said.is_parked {
            return true;
        }
        let behind = self.0.iter().take_while(|reader| reader.has() < said.seq);
        behind.into_iter().any(|reader| reader.is_for(said))
    }

    /// Whether somebody has acknowledged it, and may have to read it again.
    pub(crate) fn may_read_again(&self, said: &Said) -> bool {
        let of = |reader: &&Reader| reader.kept_seq.is_some_and(|kept| kept < said.seq);
        said.is_taken || self.0.iter().filter(of).any(|reader| reader.is_for(said))
    }

    /// Above this somebody who counts now lacks every broadcast: of the two who are furthest behind,
    /// one at most has sent it.
    pub(crate) fn bound(&self) -> i64 {
        let now = self.0.iter().filter(|reader| reader.until_seq == i64::MAX);
        now.map(Reader::has).nth(1).unwrap_or(i64::MAX)
    }
}

/// Who reads what was broadcast in a group from `from` on; for devices that a third server has not shown yet
/// that server.
pub(crate) async fn readers(conn: &mut Conn, group: GroupRow, from: i64) -> Result<Readers, Error> {
    let mut readers: Vec<Reader> = sqlx::query_as(
        "SELECT d.device, g.after_seq, g.until_seq, g.from_epoch, b.acked_seq, d.server, b.kept_seq
         FROM group_devices g
         JOIN devices d ON d.device_id = g.device_id AND d.member_id = g.member_id
         JOIN mailboxes b ON b.device = d.device
         WHERE g.grp = $1 AND g.until_seq >= $2
         UNION ALL
         SELECT -s.server, g.after_seq, g.until_seq, g.from_epoch, s.forwarded, s.server, NULL
         FROM group_devices g
         JOIN group_members m ON m.grp = g.grp AND m.member_id = g.member_id
         JOIN servers s ON m.account LIKE '%:' || s.name AND m.account NOT LIKE '%:%:' || s.name
         JOIN replicas r ON r.server = s.server AND r.grp = g.grp
         WHERE g.grp = $1 AND g.until_seq >= $2
         AND NOT EXISTS (SELECT 1 FROM devices d WHERE d.device_id = g.device_id)",
    )
    .bind(group)
    .bind(from)
    .fetch_all(conn)
    .await?;
    readers.sort_by_key(Reader::has);
    Ok(Readers(readers))
}

/// The first group after this one in which a broadcast waits, and the number of its first.
pub(crate) async fn next_said(
    conn: &mut Conn,
    after: GroupRow,
) -> Result<Option<(GroupRow, i64)>, Error> {
    let next = sqlx::query_as(
        "SELECT grp, seq FROM broadcasts
         WHERE ended IS NULL AND sender IS NOT NULL AND read_seq IS NULL AND grp > $1
         ORDER BY grp, seq LIMIT 1",
    );
    Ok(next.bind(after).fetch_optional(conn).await?)
}

/// What waits in a group, after one number and up to another.
pub(crate) async fn said(
    conn: &mut Conn,
    group: GroupRow,
    after: i64,
    until: i64,
    limit: u32,
) -> Result<Vec<Said>, Error> {
    let said = sqlx::query_as(
        "SELECT seq, epoch, sender, NOT EXISTS (SELECT 1 FROM devices s
                WHERE s.device = broadcasts.sender AND s.server IS NOT NULL) AS is_here,
            EXISTS (SELECT 1 FROM parked p WHERE p.envelope = broadcasts.seq
                AND p.taken_ms IS NULL) AS is_parked,
            EXISTS (SELECT 1 FROM parked p WHERE p.envelope = broadcasts.seq
                AND p.taken_ms IS NOT NULL) AS is_taken
         FROM broadcasts WHERE ended IS NULL AND sender IS NOT NULL AND read_seq IS NULL
         AND grp = $1 AND seq > $2 AND seq <= $3 ORDER BY seq LIMIT $4",
    );
    Ok(said.bind(group).bind(after).bind(until).bind(i64::from(limit)).fetch_all(conn).await?)
}

/// Whether somebody has parked a broadcast and not taken it.
pub(crate) async fn is_parked(conn: &mut Conn, seq: i64) -> Result<bool, Error> {
    let is_parked = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM parked p WHERE p.envelope = $1 AND p.taken_ms IS NULL)",
    );
    Ok(is_parked.bind(seq).fetch_one(conn).await?)
}

/// Whether a device of this server sends it, or the server itself.
pub(crate) async fn is_here(conn: &mut Conn, sender: Option<DeviceRow>) -> Result<bool, Error> {
    let is_elsewhere: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM devices WHERE device = $1 AND server IS NOT NULL)",
    )
    .bind(sender)
    .fetch_one(conn)
    .await?;
    Ok(!is_elsewhere)
}
