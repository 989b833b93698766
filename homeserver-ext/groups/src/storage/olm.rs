//! Olm sessions, several for a peer: the one used last is the one to send with, of those that are
//! not retired.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use causeway_protocol::ids::{DeviceId, Timestamp};
use causeway_store::{Conn, Row, Script};
use sqlx::Row as _;
use vodozemac::olm::{Session, SessionPickle};
use zeroize::Zeroizing;

use super::{Error, Whole as _, ms};
use crate::vault::{Class, Vault};

const TABLE: &str = "olm_sessions";
/// Peers that are looked up in one errand; the engine looks each of a list up among all before it.
const AT_ONCE: usize = 64;
/// More sessions than this with one peer are not kept: those unused longest go.
const MAX_SESSIONS: i64 = 5;

fn place(peer: &DeviceId, session_id: &str) -> Vec<u8> {
    [peer.as_bytes(), session_id.as_bytes()].concat()
}

/// The sessions with `peer`, the one used last first.
pub(crate) async fn sessions(
    conn: &mut Conn,
    vault: &Vault,
    peer: &DeviceId,
) -> Result<Vec<Session>, Error> {
    let rows = sqlx::query(
        "SELECT session_id, sealed FROM olm_sessions WHERE peer = $1
         ORDER BY used_ms DESC, session_id LIMIT $2",
    )
    .bind(peer.as_bytes().as_slice())
    .bind(MAX_SESSIONS)
    .fetch_all(conn)
    .await?;
    rows.iter().map(|row| session(vault, peer, row)).collect()
}

/// The session to send with.
pub(crate) async fn newest(
    conn: &mut Conn,
    vault: &Vault,
    peer: &DeviceId,
) -> Result<Option<Session>, Error> {
    Ok(newest_of(conn, vault, &[*peer]).await?.remove(peer))
}

/// The session to send with, of each of these with whom there is one.
pub(crate) async fn newest_of(
    conn: &mut Conn,
    vault: &Vault,
    peers: &[DeviceId],
) -> Result<HashMap<DeviceId, Session>, Error> {
    let mut open = HashMap::with_capacity(peers.len());
    for some in peers.chunks(AT_ONCE) {
        let mut script = Script::default();
        script.add_list(
            "SELECT session_id, sealed, peer, used_ms FROM olm_sessions
             WHERE retired = FALSE AND peer IN (",
            names(some),
        );
        let rows = script.run(conn).await?;
        let mut newest: HashMap<DeviceId, (Reverse<i64>, &str, &Row)> = HashMap::new();
        for row in rows.iter() {
            let peer = DeviceId::from_slice(row.try_get(2)?).whole(TABLE)?;
            let found = (Reverse(row.try_get(3)?), row.try_get(0)?, row);
            let is_newer =
                |(used, id, _): &(Reverse<i64>, &str, &Row)| (found.0, found.1) < (*used, *id);
            if newest.get(&peer).is_none_or(is_newer) {
                newest.insert(peer, found);
            }
        }
        for (peer, (.., row)) in newest {
            open.insert(peer, session(vault, &peer, row)?);
        }
    }
    Ok(open)
}

fn session(vault: &Vault, peer: &DeviceId, row: &Row) -> Result<Session, Error> {
    let place = place(peer, row.try_get(0)?);
    let sealed: Vec<u8> = row.try_get(1)?;
    let pickle = vault.unseal(Class::Ratchet, TABLE, "sealed", &place, &sealed)?;
    let pickle: SessionPickle = serde_json::from_slice(&pickle).whole(TABLE)?;
    Ok(pickle.into())
}

/// Whether there is a session to send with.
pub(crate) async fn has_session(conn: &mut Conn, peer: &DeviceId) -> Result<bool, Error> {
    Ok(!with_session(conn, &[*peer]).await?.is_empty())
}

/// Those of them with whom there is a session to send with.
pub(crate) async fn with_session(
    conn: &mut Conn,
    peers: &[DeviceId],
) -> Result<HashSet<DeviceId>, Error> {
    let mut found = HashSet::with_capacity(peers.len());
    for some in peers.chunks(AT_ONCE) {
        let mut script = Script::default();
        script.add_list(
            "SELECT DISTINCT peer FROM olm_sessions WHERE retired = FALSE AND peer IN (",
            names(some),
        );
        for row in script.run(conn).await?.iter() {
            found.insert(DeviceId::from_slice(row.try_get(0)?).whole(TABLE)?);
        }
    }
    Ok(found)
}

fn names(peers: &[DeviceId]) -> Vec<Vec<u8>> {
    peers.iter().map(|peer| peer.as_bytes().to_vec()).collect()
}

pub(crate) async fn save(
    conn: &mut Conn,
    vault: &Vault,
    peer: &DeviceId,
    session: &Session,
    now: Timestamp,
) -> Result<(), Error> {
    let id = session.session_id();
    let pickle = Zeroizing::new(serde_json::to_vec(&session.pickle()).whole(TABLE)?);
    sqlx::query(
        "INSERT INTO olm_sessions (peer, session_id, sealed, used_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (peer, session_id)
         DO UPDATE SET sealed = excluded.sealed, used_ms = excluded.used_ms",
    )
    .bind(peer.as_bytes().as_slice())
    .bind(&id)
    .bind(vault.seal(Class::Ratchet, TABLE, "sealed", &place(peer, &id), &pickle)?)
    .bind(ms(now))
    .execute(&mut *conn)
    .await?;
    Ok(())
}

/// As [`save`], of one session with each of these.
pub(crate) fn save_all(
    script: &mut Script,
    vault: &Vault,
    moved: &[(&DeviceId, &Session)],
    now: Timestamp,
) -> Result<(), Error> {
    let mut rows = Vec::with_capacity(moved.len());
    for (peer, session) in moved {
        let id = session.session_id();
        let pickle = Zeroizing::new(serde_json::to_vec(&session.pickle()).whole(TABLE)?);
        let sealed = vault.seal(Class::Ratchet, TABLE, "sealed", &place(peer, &id), &pickle)?;
        rows.push((*peer, id, sealed));
    }
    script.insert(
        "INSERT INTO olm_sessions (peer, session_id, sealed, used_ms) ",
        &rows,
        " ON CONFLICT (peer, session_id)
         DO UPDATE SET sealed = excluded.sealed, used_ms = excluded.used_ms",
        |row, (peer, id, sealed)| {
            row.bind(peer.as_bytes().as_slice()).bind(id).bind(sealed.as_slice()).bind(ms(now));
        },
    );
    Ok(())
}

/// Lets no session seal any more; what comes in them is still opened.
pub(crate) async fn retire_all(conn: &mut Conn) -> Result<(), Error> {
    sqlx::query("UPDATE olm_sessions SET retired = TRUE").execute(conn).await?;
    Ok(())
}

/// Forgets the sessions with `peer` beyond those that are kept.
pub(crate) async fn trim(conn: &mut Conn, peer: &DeviceId) -> Result<(), Error> {
    sqlx::query(
        "DELETE FROM olm_sessions WHERE peer = $1 AND session_id NOT IN (
             SELECT session_id FROM olm_sessions WHERE peer = $1
             ORDER BY used_ms DESC, session_id LIMIT $2)",
    )
    .bind(peer.as_bytes().as_slice())
    .bind(MAX_SESSIONS)
    .execute(conn)
    .await?;
    Ok(())
}
