//! What other servers acknowledged, kept for a while: whoever is put back from a copy is given it again
//! (protocol §7.1).

use std::collections::BTreeMap;

use causeway_protocol::ids::{StreamId, Timestamp};
use causeway_store::{Conn, Script};
use sqlx::FromRow;

use crate::storage::{Error, ms, number};

/// Former names of this server's numbers that are remembered.
const FORMER: i64 = 64;
/// Items that go at once for want of room.
const GOING: i64 = 256;

/// What others call this server's numbers.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    /// As of now.
    pub(crate) mine: StreamId,
    /// Before this database was put back, and up to which number it knows them.
    pub(crate) former: Vec<(StreamId, i64)>,
    /// The last number when the database was opened.
    pub(crate) opened: i64,
}

/// An item that a server has acknowledged.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) seq: i64,
    /// As it went, JSON.
    pub(crate) text: String,
    /// Nobody is to have it any more then.
    pub(crate) until: Timestamp,
}

/// This database is opened; `fresh` names its numbers where nothing does, or where it `was_put_back`.
pub(crate) async fn begin(
    conn: &mut Conn,
    fresh: StreamId,
    was_put_back: bool,
) -> Result<Streams, causeway_store::Error> {
    if was_put_back {
        sqlx::query(
            "UPDATE giving SET until_seq = (SELECT last FROM numbers) WHERE until_seq IS NULL",
        )
        .execute(&mut *conn)
        .await?;
    }
    sqlx::query(
        "INSERT INTO giving (stream) SELECT $1
         WHERE NOT EXISTS (SELECT 1 FROM giving WHERE until_seq IS NULL)",
    )
    .bind(fresh.as_ref())
    .execute(&mut *conn)
    .await?;
    sqlx::query("DELETE FROM giving WHERE n <= (SELECT max(n) FROM giving) - $1")
        .bind(FORMER)
        .execute(&mut *conn)
        .await?;
    let rows: Vec<(Vec<u8>, Option<i64>)> =
        sqlx::query_as("SELECT stream, until_seq FROM giving ORDER BY n")
            .fetch_all(&mut *conn)
            .await?;
    let opened = sqlx::query_scalar("SELECT last FROM numbers").fetch_one(conn).await?;
    let mut streams = Streams { mine: fresh, former: Vec::new(), opened };
    for (stream, until) in rows {
        match (StreamId::from_slice(&stream), until) {
            (Ok(stream), Some(until)) => streams.former.push((stream, until)),
            (Ok(stream), None) => streams.mine = stream,
            (Err(_), _) => {}
        }
    }
    Ok(streams)
}

/// This database was put back before it was opened, with nobody saying so: from the number on that it had
/// then, `fresh` names its numbers.
pub(crate) async fn begin_anew(
    conn: &mut Conn,
    fresh: StreamId,
    opened: i64,
) -> Result<Streams, Error> {
    sqlx::query("UPDATE giving SET until_seq = $1 WHERE until_seq IS NULL")
        .bind(opened)
        .execute(&mut *conn)
        .await?;
    Ok(begin(conn, fresh, false).await?)
}

/// Runs a script, and keeps what a server acknowledged, which has all up to the last of it now, and had all
/// up to `given`. What is beyond `most` bytes of all servers goes, the oldest of the one first for which most
/// is kept. What was given again is kept already, or has gone.
pub(crate) async fn keep(
    conn: &mut Conn,
    mut script: Script,
    (server, given): (i64, i64),
    items: &[Item],
    most: u64,
) -> Result<(), Error> {
    let new: Vec<&Item> = items.iter().filter(|item| item.seq > given).collect();
    let Some(last) = new.iter().map(|item| item.seq).max() else {
        script.run(conn).await?;
        return Ok(());
    };
    let kept: &[&Item] = if most > 0 { &new } else { &[] };
    script.insert(
        "INSERT INTO given (server, seq, bytes, until_ms, item) ",
        kept,
        " ON CONFLICT DO NOTHING",
        |values, item| {
            let columns = values.bind(server).bind(item.seq).bind(item.bytes());
            columns.bind(ms(item.until)).bind(item.text.clone());
        },
    );
    let query = script.add(
        "UPDATE servers SET given = $2, given_bytes = given_bytes + $3,
            given_from = CASE WHEN $4 THEN given_from ELSE $2 END WHERE server = $1",
    );
    let bytes = kept.iter().map(|item| item.bytes()).sum::<i64>();
    query.bind(server).bind(last).bind(bytes).bind(most > 0);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    loop {
        select_fullest(&mut script, most);
        let rows = script.run(&mut *conn).await?;
        let next: Option<(i64, i64)> = rows.first().map(FromRow::from_row).transpose()?;
        let Some((fullest, beyond)) = next else { return Ok(()) };
        let_go(conn, fullest, beyond).await?;
        script = Script::default();
    }
}

impl Item {
    fn bytes(&self) -> i64 {
        i64::try_from(self.text.len()).unwrap_or(i64::MAX)
    }
}

/// Asks for the server for which most is kept, and how much of all is beyond `most` bytes; none: nothing is.
fn select_fullest(script: &mut Script, most: i64) {
    let query = script.add(
        "SELECT server, kept - $1 FROM (
            SELECT server, given_bytes, sum(given_bytes) OVER () AS kept FROM servers
            WHERE given_bytes > 0) AS those
         WHERE kept > $1 ORDER BY given_bytes DESC LIMIT 1",
    );
    query.bind(most);
}

/// Lets the oldest go of what is kept for a server, so many bytes of it, or a batch.
async fn let_go(conn: &mut Conn, server: i64, bytes: i64) -> Result<(), Error> {
    let oldest: Vec<(i64, i64)> =
        sqlx::query_as("SELECT seq, bytes FROM given WHERE server = $1 ORDER BY seq LIMIT $2")
            .bind(server)
            .bind(GOING)
            .fetch_all(&mut *conn)
            .await?;
    let (mut until, mut gone) = (None, 0);
    for (seq, bytes_of_it) in oldest {
        if gone >= bytes {
            break;
        }
        (until, gone) = (Some(seq), gone + bytes_of_it);
    }
    let Some(until) = until else {
        sqlx::query("UPDATE servers SET given_bytes = 0 WHERE server = $1")
            .bind(server)
            .execute(conn)
            .await?;
        return Ok(());
    };
    sqlx::query("DELETE FROM given WHERE server = $1 AND seq <= $2")
        .bind(server)
        .bind(until)
        .execute(&mut *conn)
        .await?;
    sqlx::query(
        "UPDATE servers SET given_bytes = given_bytes - $2, given_from = $3 WHERE server = $1",
    )
    .bind(server)
    .bind(gone)
    .bind(until)
    .execute(conn)
    .await?;
    Ok(())
}

/// What is kept for a server after `after`, in order, each with its number, so much at most.
pub(crate) async fn next(
    conn: &mut Conn,
    (server, now): (i64, Timestamp),
    after: i64,
    most: usize,
) -> Result<Vec<(i64, String)>, Error> {
    Ok(sqlx::query_as(
        "SELECT seq, item FROM given WHERE server = $1 AND seq > $2 AND until_ms > $3
         ORDER BY seq LIMIT $4",
    )
    .bind(server)
    .bind(after)
    .bind(ms(now))
    .bind(i64::try_from(most).unwrap_or(i64::MAX))
    .fetch_all(conn)
    .await?)
}

/// The server has lost what came to it after this number: it is given ops and accounts of then again. Up to
/// which number something is not kept for it any more.
pub(crate) async fn go_back(conn: &mut Conn, server: i64, after: i64) -> Result<i64, Error> {
    sqlx::query(
        "UPDATE replicas SET epoch = COALESCE((
            SELECT min(b.epoch) - 1 FROM broadcasts b
            WHERE b.grp = replicas.grp AND b.sender IS NULL AND b.seq > $2
                AND b.epoch <= replicas.epoch), epoch)
         WHERE server = $1",
    )
    .bind(server)
    .bind(after)
    .execute(&mut *conn)
    .await?;
    Ok(sqlx::query_scalar("SELECT given_from FROM servers WHERE server = $1")
        .bind(server)
        .fetch_one(conn)
        .await?)
}

/// Forgets what nobody is to have any more, so much at most; how much there was.
pub(crate) async fn forget(conn: &mut Conn, now: Timestamp, most: u32) -> Result<u64, Error> {
    let gone: Vec<(i64, i64)> = sqlx::query_as(
        "DELETE FROM given WHERE (server, seq) IN
            (SELECT server, seq FROM given WHERE until_ms <= $1 LIMIT $2)
         RETURNING server, bytes",
    )
    .bind(ms(now))
    .bind(i64::from(most))
    .fetch_all(&mut *conn)
    .await?;
    let mut by_server: BTreeMap<i64, i64> = BTreeMap::new();
    for (server, bytes) in &gone {
        *by_server.entry(*server).or_default() += bytes;
    }
    for (server, bytes) in by_server {
        sqlx::query("UPDATE servers SET given_bytes = given_bytes - $2 WHERE server = $1")
            .bind(server)
            .bind(bytes)
            .execute(&mut *conn)
            .await?;
    }
    Ok(gone.len() as u64)
}

/// Bytes of all that is kept.
pub(crate) async fn bytes(conn: &mut Conn) -> Result<u64, Error> {
    let bytes: i64 = sqlx::query_scalar("SELECT COALESCE(sum(given_bytes), 0) FROM servers")
        .fetch_one(conn)
        .await?;
    number(bytes, "given_bytes")
}
