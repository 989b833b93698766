//! Of whom rows are parked at the server, and whether it is time to ask for them.

use causeway_protocol::ids::{DeviceId, GroupId, Seq, Timestamp};
use causeway_store::Conn;

use super::{Error, Whole as _, ms, signed, unsigned};

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
        For::Sender(sender) => sqlx::query("UPDATE parked SET due = due + 1 WHERE sender = $1")
            .bind(sender.as_bytes().as_slice()),
        For::Both(group, sender) => {
            sqlx::query("UPDATE parked SET due = due + 1 WHERE group_id = $1 AND sender = $2")
                .bind(group.as_bytes().as_slice())
                .bind(sender.as_bytes().as_slice())
        }
    };
    query.execute(conn).await?;
    Ok(())
}

/// What is to be asked for.
pub(crate) async fn due(conn: &mut Conn) -> Result<Vec<Due>, Error> {
    let rows: Vec<(Vec<u8>, Vec<u8>, i64, i64)> = sqlx::query_as(
        "SELECT group_id, sender, last_seq, due FROM parked WHERE due > 0 ORDER BY group_id, sender",
    )
    .fetch_all(conn)
    .await?;
    let due = |(group, sender, last, times): (Vec<u8>, Vec<u8>, i64, i64)| {
        Ok(Due {
            group: GroupId::from_slice(&group).whole("parked")?,
            sender: DeviceId::from_slice(&sender).whole("parked")?,
            last: Seq(unsigned(last)),
            times,
        })
    };
    rows.into_iter().map(due).collect()
}

/// All that was parked up to `acked` was looked at, of numbers up to `given`; `is_left`: some of it is parked still. `false`:
/// there is more, or a new reason to ask.
pub(crate) async fn looked_at(
    conn: &mut Conn,
    due: &Due,
    (acked, given): (Seq, Seq),
    is_left: bool,
) -> Result<bool, Error> {
    let query = if is_left {
        sqlx::query(
            "UPDATE parked SET due = 0
             WHERE group_id = $1 AND sender = $2 AND due = $3
             AND (last_seq <= $4 OR last_seq > $5)",
        )
    } else {
        sqlx::query(
            "DELETE FROM parked
             WHERE group_id = $1 AND sender = $2 AND due = $3
             AND (last_seq <= $4 OR last_seq > $5)",
        )
    };
    let done = query
        .bind(due.group.as_bytes().as_slice())
        .bind(due.sender.as_bytes().as_slice())
        .bind(due.times)
        .bind(signed(acked.0))
        .bind(signed(given.0))
        .execute(conn)
        .await?;
    Ok(done.rows_affected() > 0)
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
