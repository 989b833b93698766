//! Of whom rows are parked at the server, and whether it is time to ask for them.

use causeway_protocol::ids::{DeviceId, GroupId, Seq, Timestamp};
use causeway_store::{Conn, Row, Script};
use sqlx::FromRow as _;

use super::{Error, Whole as _, ms, signed, unsigned};

/// What was asked for in vain waits for a second at least, twice as long each time, and no longer than
/// this before an op of the group is reason enough to ask again.
const OP_WAIT_MS: u64 = 30_000;
/// Likewise for a key or a record of its sender.
const KEY_WAIT_MS: u64 = 5_000;

/// Rows of a device in a group that may be dealt with now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The group.
    pub group: GroupId,
    /// Whose rows.
    pub sender: DeviceId,
    /// The last of them that is known here.
    pub(crate) last: Seq,
    /// How often there was a reason to ask since they were looked at.
    pub(crate) times: i64,
}

/// What came of asking for what is parked of one.
#[derive(Debug, Clone, Copy)]
pub struct Looked {
    /// Up to here the server had seen acknowledgements before, and so of parking.
    pub acked: Seq,
    /// The last number that it had given.
    pub given: Seq,
    /// Rows that it handed out.
    pub handed: usize,
    /// Those of them that cannot be dealt with yet.
    pub left: usize,
    /// Whether what is on its way to the server is waited for no longer.
    pub is_enough: bool,
}

/// Notes that a row is to be parked; whether it is the first of its sender there.
pub(crate) async fn park(
    conn: &mut Conn,
    (group, sender): (&GroupId, &DeviceId),
    seq: Seq,
    now: Timestamp,
) -> Result<bool, Error> {
    // They come in order; a lower number is one of a server that was put back.
    let known = sqlx::query(
        "UPDATE parked SET last_seq = $3, at_ms = $4 WHERE group_id = $1 AND sender = $2",
    )
    .bind(group.as_bytes().as_slice())
    .bind(sender.as_bytes().as_slice())
    .bind(signed(seq.0))
    .bind(ms(now))
    .execute(&mut *conn)
    .await?;
    if known.rows_affected() > 0 {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO parked (group_id, sender, last_seq, due, at_ms) VALUES ($1, $2, $3, 0, $4)",
    )
    .bind(group.as_bytes().as_slice())
    .bind(sender.as_bytes().as_slice())
    .bind(signed(seq.0))
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(true)
}

/// Whether rows of this sender in this group are parked.
pub(crate) async fn is_known(
    conn: &mut Conn,
    (group, sender): (&GroupId, &DeviceId),
) -> Result<bool, Error> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM parked WHERE group_id = $1 AND sender = $2")
            .bind(group.as_bytes().as_slice())
            .bind(sender.as_bytes().as_slice())
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
}

/// Notes what the server says is parked: what was not known is to be asked for.
pub(crate) async fn hear_of(
    conn: &mut Conn,
    (group, sender): (&GroupId, &DeviceId),
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO parked (group_id, sender, last_seq, due, at_ms) VALUES ($1, $2, 0, 1, $3)
         ON CONFLICT DO NOTHING",
    )
    .bind(group.as_bytes().as_slice())
    .bind(sender.as_bytes().as_slice())
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// For whose parked rows something came.
#[derive(Debug, Clone, Copy)]
pub(crate) enum For<'a> {
    /// All of a group.
    Group(&'a GroupId),
    /// One sender's, in all groups.
    Sender(&'a DeviceId),
    /// One sender's in one group.
    Both(&'a GroupId, &'a DeviceId),
}

/// Something came for which these rows may wait.
pub(crate) async fn set_due(conn: &mut Conn, of: For<'_>) -> Result<(), Error> {
    let query = match of {
        For::Group(group) => sqlx::query("UPDATE parked SET due = due + 1 WHERE group_id = $1")
            .bind(group.as_bytes().as_slice()),
        For::Sender(sender) => {
            sqlx::query("UPDATE parked SET due = due + 1, next_ms = key_ms WHERE sender = $1")
                .bind(sender.as_bytes().as_slice())
        }
        For::Both(group, sender) => sqlx::query(
            "UPDATE parked SET due = due + 1, next_ms = key_ms WHERE group_id = $1 AND sender = $2",
        )
        .bind(group.as_bytes().as_slice())
        .bind(sender.as_bytes().as_slice()),
    };
    query.execute(conn).await?;
    Ok(())
}

/// What is to be asked for, now or later.
pub(crate) async fn due(conn: &mut Conn) -> Result<Vec<Due>, Error> {
    let mut script = Script::default();
    select_due(&mut script);
    read_due(&script.run(conn).await?)
}

/// Asks for what [`due`] tells.
pub(crate) fn select_due(script: &mut Script) {
    script.add(
        "SELECT group_id, sender, last_seq, due FROM parked WHERE due > 0 ORDER BY group_id, sender",
    );
}

/// Reads what [`select_due`] asked for.
pub(crate) fn read_due(rows: &[Row]) -> Result<Vec<Due>, Error> {
    rows.iter().map(|row| due_of(DueColumns::from_row(row)?)).collect()
}

/// What is to be asked for at `now`.
pub(crate) async fn due_now(conn: &mut Conn, now: Timestamp) -> Result<Vec<Due>, Error> {
    // A clock that was put back holds nothing up.
    let rows: Vec<DueColumns> = sqlx::query_as(
        "SELECT group_id, sender, last_seq, due FROM parked
         WHERE due > 0 AND (next_ms <= $1 OR next_ms > $2) ORDER BY group_id, sender",
    )
    .bind(ms(now))
    .bind(ms(now.plus_ms(OP_WAIT_MS)))
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(due_of).collect()
}

type DueColumns = (Vec<u8>, Vec<u8>, i64, i64);

fn due_of((group, sender, last, times): DueColumns) -> Result<Due, Error> {
    Ok(Due {
        group: GroupId::from_slice(&group).whole("parked")?,
        sender: DeviceId::from_slice(&sender).whole("parked")?,
        last: Seq(unsigned(last)),
        times,
    })
}

/// All that was handed out was looked at. `false`: more of it is on its way to the server.
pub(crate) async fn looked_at(
    conn: &mut Conn,
    of: &Due,
    looked: Looked,
    now: Timestamp,
) -> Result<bool, Error> {
    let (group, sender) = (of.group.as_bytes().as_slice(), of.sender.as_bytes().as_slice());
    let known: Option<(i64, i64, i64)> = sqlx::query_as(
        "SELECT last_seq, due, tries FROM parked WHERE group_id = $1 AND sender = $2",
    )
    .bind(group)
    .bind(sender)
    .fetch_optional(&mut *conn)
    .await?;
    let Some((last, due, tries)) = known else { return Ok(true) };
    let is_all = unsigned(last) <= looked.acked.0 || unsigned(last) > looked.given.0;
    if !is_all && !looked.is_enough {
        return Ok(false);
    }
    let is_new = due != of.times;
    if looked.left == 0 && is_all {
        // With a new reason to ask there may be more by now.
        if !is_new {
            sqlx::query("DELETE FROM parked WHERE group_id = $1 AND sender = $2")
                .bind(group)
                .bind(sender)
                .execute(conn)
                .await?;
        }
        return Ok(true);
    }
    let tries = if is_in_vain(looked) { tries.saturating_add(1) } else { tries };
    let (op_ms, key_ms) = waits_ms(tries);
    let is_asked_again = is_new || !is_all;
    let next = if is_asked_again { key_ms } else { op_ms };
    sqlx::query(
        "UPDATE parked SET due = $3, tries = $4, next_ms = $5, key_ms = $6
         WHERE group_id = $1 AND sender = $2",
    )
    .bind(group)
    .bind(sender)
    .bind(if is_asked_again { due } else { 0 })
    .bind(tries)
    .bind(ms(now.plus_ms(next)))
    .bind(ms(now.plus_ms(key_ms)))
    .execute(conn)
    .await?;
    Ok(true)
}

/// Less than an eighth of what was handed out could be dealt with.
fn is_in_vain(looked: Looked) -> bool {
    looked.handed.saturating_sub(looked.left).saturating_mul(8) < looked.handed.max(1)
}

/// How long what was asked for in vain so often waits: for an op, and for a key.
fn waits_ms(tries: i64) -> (u64, u64) {
    let Ok(doublings) = u32::try_from(tries.min(10) - 1) else { return (0, 0) };
    let wait = 1_000 << doublings;
    (wait.min(OP_WAIT_MS), wait.min(KEY_WAIT_MS))
}

/// Forgets what is parked of a group.
pub(crate) async fn drop_of(conn: &mut Conn, group: &GroupId) -> Result<(), Error> {
    sqlx::query("DELETE FROM parked WHERE group_id = $1")
        .bind(group.as_bytes().as_slice())
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets what has expired at the server by now.
pub(crate) async fn expire(conn: &mut Conn, before: Timestamp) -> Result<(), Error> {
    sqlx::query("DELETE FROM parked WHERE at_ms < $1").bind(ms(before)).execute(conn).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_its_bound_and_only_in_vain() {
        for (tries, waits) in [
            (0, (0, 0)),
            (1, (1_000, 1_000)),
            (2, (2_000, 2_000)),
            (4, (8_000, 5_000)),
            (6, (30_000, 5_000)),
            (i64::MAX, (30_000, 5_000)),
        ] {
            assert_eq!(waits_ms(tries), waits, "{tries}");
        }
        let (acked, given, is_enough) = (Seq(1), Seq(1), false);
        for (handed, left, in_vain) in [
            (0, 0, true),
            (44, 44, true),
            (44, 43, true),
            (44, 39, true),
            (44, 38, false),
            (1, 0, false),
        ] {
            let looked = Looked { acked, given, handed, left, is_enough };
            assert_eq!(is_in_vain(looked), in_vain, "{handed} {left}");
        }
    }
}
