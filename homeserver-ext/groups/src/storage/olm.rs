//! Olm sessions, several for a peer: the one used last is the one to send with, of those that are
//! not retired.

use causeway_protocol::ids::{DeviceId, Timestamp};
use causeway_store::{Conn, Row, Script};
use sqlx::Row as _;
use vodozemac::olm::{Session, SessionPickle};
use zeroize::Zeroizing;

use super::{Error, Whole as _, ms};
use crate::vault::{Class, Vault};

const TABLE: &str = "olm_sessions";
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
    let row = sqlx::query(
        "SELECT session_id, sealed FROM olm_sessions WHERE peer = $1 AND retired = FALSE
         ORDER BY used_ms DESC, session_id LIMIT 1",
    )
    .bind(peer.as_bytes().as_slice())
    .fetch_optional(conn)
    .await?;
    row.map(|row| session(vault, peer, &row)).transpose()
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
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM olm_sessions WHERE peer = $1 AND retired = FALSE")
            .bind(peer.as_bytes().as_slice())
            .fetch_optional(conn)
            .await?;
    Ok(found.is_some())
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
