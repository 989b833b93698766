//! Messages that were promised, in the order of their rows within a group; their contents sealed.

use causeway_protocol::ids::{ClientId, EnvelopeId, Epoch, GroupId, Timestamp};
use causeway_store::Conn;
use sqlx::Row as _;
use zeroize::Zeroizing;

use super::{Error, Whole as _, ms};
use crate::vault::{Class, Vault};

/// The content of what waits no more.
const EMPTY: &[u8] = &[];

/// A message that waits: its row, and its plaintext.
pub(crate) type Waiting = (i64, Zeroizing<Vec<u8>>);

/// Adds a message that waits, unless one with its client id is there already.
pub(crate) async fn add(
    conn: &mut Conn,
    vault: &Vault,
    now: Timestamp,
    group: &GroupId,
    client_id: &ClientId,
    plaintext: &[u8],
) -> Result<(), Error> {
    let place = client_id.as_bytes().as_slice();
    sqlx::query(
        "INSERT INTO outbox (group_id, client_id, content, created_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (client_id) DO NOTHING",
    )
    .bind(group.as_bytes().as_slice())
    .bind(place)
    .bind(vault.seal(Class::Content, "outbox", "content", place, plaintext)?)
    .bind(ms(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// Where a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// It waits.
    Queued,
    /// The server has it, under this id.
    Accepted(EnvelopeId),
    /// It will not be sent, for this reason.
    Failed(String),
}

/// Where the message with this client id is; one that is not there any more was accepted long ago.
pub(crate) async fn state(conn: &mut Conn, client_id: &ClientId) -> Result<Option<State>, Error> {
    let row: Option<(String, Option<Vec<u8>>, Option<String>)> =
        sqlx::query_as("SELECT state, envelope_id, failure FROM outbox WHERE client_id = $1")
            .bind(client_id.as_bytes().as_slice())
            .fetch_optional(conn)
            .await?;
    Ok(row.map(|(state, envelope, failure)| read(&state, envelope, failure)))
}

fn read(state: &str, envelope: Option<Vec<u8>>, failure: Option<String>) -> State {
    match (state, envelope.map(|id| EnvelopeId::from_slice(&id))) {
        ("accepted", Some(Ok(id))) => State::Accepted(id),
        ("failed", _) => State::Failed(failure.unwrap_or_default()),
        _ => State::Queued,
    }
}

/// A message that was promised, and where it is.
#[derive(Debug)]
pub(crate) struct Named {
    /// What this device calls it.
    pub(crate) client_id: ClientId,
    /// Where it is.
    pub(crate) state: State,
}

/// Client id, state, envelope, failure.
type NamedColumns = (Vec<u8>, String, Option<Vec<u8>>, Option<String>);

/// The message of a group with this id or client id; without, the last one.
pub(crate) async fn named(
    conn: &mut Conn,
    group: &GroupId,
    name: Option<[u8; 16]>,
) -> Result<Option<Named>, Error> {
    let row: Option<NamedColumns> = match name {
        Some(name) => {
            sqlx::query_as(
                "SELECT client_id, state, envelope_id, failure FROM outbox
                 WHERE group_id = $1 AND (client_id = $2 OR envelope_id = $2)
                 ORDER BY row DESC LIMIT 1",
            )
            .bind(group.as_bytes().as_slice())
            .bind(name.as_slice())
            .fetch_optional(conn)
            .await?
        }
        None => {
            sqlx::query_as(
                "SELECT client_id, state, envelope_id, failure FROM outbox
                 WHERE group_id = $1 ORDER BY row DESC LIMIT 1",
            )
            .bind(group.as_bytes().as_slice())
            .fetch_optional(conn)
            .await?
        }
    };
    let Some((client_id, state, envelope, failure)) = row else { return Ok(None) };
    let client_id = ClientId::from_slice(&client_id).whole("outbox")?;
    Ok(Some(Named { client_id, state: read(&state, envelope, failure) }))
}

/// Groups in which something waits, the longest wait first.
pub(crate) async fn groups(conn: &mut Conn) -> Result<Vec<GroupId>, Error> {
    let groups: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT group_id FROM outbox WHERE state = 'queued' GROUP BY group_id ORDER BY MIN(row)",
    )
    .fetch_all(conn)
    .await?;
    groups.iter().map(|group| GroupId::from_slice(group).whole("outbox")).collect()
}

/// The first messages that wait in a group: `count` at most, and no more than `bytes` of plaintext
/// unless the first is longer.
pub(crate) async fn first(
    conn: &mut Conn,
    vault: &Vault,
    group: &GroupId,
    count: usize,
    bytes: usize,
) -> Result<Vec<Waiting>, Error> {
    let rows = sqlx::query(
        "SELECT row, client_id, content FROM outbox
         WHERE state = 'queued' AND group_id = $1 ORDER BY row LIMIT $2",
    )
    .bind(group.as_bytes().as_slice())
    .bind(i64::try_from(count).unwrap_or(1))
    .fetch_all(conn)
    .await?;
    let (mut waiting, mut length) = (Vec::with_capacity(rows.len()), 0);
    for row in rows {
        let client_id: Vec<u8> = row.try_get(1)?;
        let sealed: Vec<u8> = row.try_get(2)?;
        let plaintext = vault.unseal(Class::Content, "outbox", "content", &client_id, &sealed)?;
        length += plaintext.len();
        if length > bytes && !waiting.is_empty() {
            break;
        }
        waiting.push((row.try_get(0)?, plaintext));
    }
    Ok(waiting)
}

/// Takes a message out of those that wait, for the server has it: its plaintext; nothing, if another
/// process has settled it, or it was accepted before. Where it may have to be sealed anew, its content stays,
/// with the epoch `under` which it is sealed.
pub(crate) async fn accepted(
    conn: &mut Conn,
    vault: &Vault,
    row: i64,
    (id, under): (&EnvelopeId, Option<Epoch>),
) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let Some(Queued { plaintext, was_accepted }) = queued(conn, vault, row).await? else {
        return Ok(None);
    };
    sqlx::query(
        "UPDATE outbox SET state = 'accepted', envelope_id = $2, sealed_epoch = $3,
            content = COALESCE($4, content) WHERE row = $1",
    )
    .bind(row)
    .bind(id.as_bytes().as_slice())
    .bind(under.map(|under| i64::from(under.0)))
    .bind(under.is_none().then_some(EMPTY))
    .execute(conn)
    .await?;
    Ok((!was_accepted).then_some(plaintext))
}

/// As [`accepted`], of a message that will not be sent, and why. One that was accepted before stays so.
pub(crate) async fn failed(
    conn: &mut Conn,
    vault: &Vault,
    row: i64,
    why: &str,
) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let Some(Queued { plaintext, was_accepted }) = queued(conn, vault, row).await? else {
        return Ok(None);
    };
    let state = if was_accepted { "accepted" } else { "failed" };
    sqlx::query("UPDATE outbox SET state = $4, failure = $2, content = $3 WHERE row = $1")
        .bind(row)
        .bind(why)
        .bind(EMPTY)
        .bind(state)
        .execute(conn)
        .await?;
    Ok((!was_accepted).then_some(plaintext))
}

struct Queued {
    plaintext: Zeroizing<Vec<u8>>,
    /// It is sealed anew.
    was_accepted: bool,
}

async fn queued(conn: &mut Conn, vault: &Vault, row: i64) -> Result<Option<Queued>, Error> {
    let waits: Option<(Vec<u8>, Vec<u8>, i64)> = sqlx::query_as(
        "SELECT client_id, content, anew FROM outbox WHERE row = $1 AND state = 'queued'",
    )
    .bind(row)
    .fetch_optional(conn)
    .await?;
    let Some((place, sealed, anew)) = waits else { return Ok(None) };
    let plaintext = vault.unseal(Class::Content, "outbox", "content", &place, &sealed)?;
    Ok(Some(Queued { plaintext, was_accepted: anew > 0 }))
}

/// Forgets a message that waits, unless its row is one of `sent`.
pub(crate) async fn take_back(
    conn: &mut Conn,
    client_id: &ClientId,
    sent: &[i64],
) -> Result<(), Error> {
    let row: Option<i64> =
        sqlx::query_scalar("SELECT row FROM outbox WHERE client_id = $1 AND state = 'queued'")
            .bind(client_id.as_bytes().as_slice())
            .fetch_optional(&mut *conn)
            .await?;
    if let Some(row) = row.filter(|row| !sent.contains(row)) {
        sqlx::query("DELETE FROM outbox WHERE row = $1").bind(row).execute(conn).await?;
    }
    Ok(())
}

/// Forgets what was settled and was stored before `before`.
pub(crate) async fn forget(conn: &mut Conn, before: Timestamp) -> Result<(), Error> {
    sqlx::query("DELETE FROM outbox WHERE state <> 'queued' AND created_ms < $1")
        .bind(ms(before))
        .execute(&mut *conn)
        .await?;
    sqlx::query(
        "DELETE FROM not_taken WHERE NOT EXISTS (SELECT 1 FROM outbox
            WHERE outbox.group_id = not_taken.group_id AND outbox.envelope_id = not_taken.envelope_id
                AND outbox.sealed_epoch IS NOT NULL)",
    )
    .execute(conn)
    .await?;
    Ok(())
}
