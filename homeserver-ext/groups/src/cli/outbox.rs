//! Messages that were promised: stored before they are tried, sent in order, sent once.
//!
//! ```text
//! queued ──seal──▶ in the group's batch ──POST──▶ accepted
//!    ▲                     │ 409: the group has moved on     │ refused, or too old
//!    └─────────────────────┘                                 ▼ failed
//! ```
//! A group has at most one batch, whose finished bytes were stored in the commit that moved the
//! ratchet. Whoever finds it posts it, `send` and `tail` alike and as often as need be, because the
//! server takes each id once. Only an answered 409 lets its messages be sealed again, under the
//! same client ids.

mod rows;

use std::time::Duration;

use causeway_protocol::{
    content::{Content, Malformed, Plaintext},
    ids::{ClientId, EnvelopeId, GroupId, Timestamp},
};
use causeway_store::{Db, Error as StoreError, Tx};
use sqlx::Row as _;

use self::rows::{Stored, accept, decoded, drop_batch, fail, load_batch, ms, next, save_batch};
use crate::{
    machine::{Outgoing, SealError},
    sdk::{CallError, Client, SdkError},
    vault::{Class, Vault, VaultError},
};

/// Messages of one batch, and bytes of text in it: the server takes 4 MiB in one request.
const MAX_MESSAGES: usize = 64;
const MAX_BATCH_BYTES: usize = 1 << 20;
/// Batches in a row that the group's changes may make useless.
const TRIES: usize = 16;
/// How long an accepted row remembers its client id: as long as receivers do.
const REMEMBER_MS: u64 = 31 * 24 * 60 * 60 * 1_000;

/// Why the outbox does not get on.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutboxError {
    /// The server, or the client's work around sealing; the messages wait.
    #[error(transparent)]
    Sdk(#[from] SdkError),
    /// This group may not be sent to now; the messages wait.
    #[error(transparent)]
    Seal(SealError),
    /// A row that does not open.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored row is not what this program writes.
    #[error("a batch of the outbox is damaged: {0}")]
    Batch(#[from] serde_json::Error),
    /// As before.
    #[error("a row of the outbox is damaged: {0}")]
    Row(#[from] Malformed),
}

impl OutboxError {
    /// How long the server asks to be left alone, if it does.
    pub(super) fn asked_to_wait(&self) -> Option<Duration> {
        let Self::Sdk(SdkError::Call(CallError::RetryAfter(ms))) = self else { return None };
        Some(Duration::from_millis(*ms))
    }

    /// Whether the same may succeed later without anyone changing anything.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Sdk(error) => error.is_transient(),
            Self::Store(StoreError::Busy) => true,
            Self::Seal(_) | Self::Vault(_) | Self::Store(_) | Self::Batch(_) | Self::Row(_) => {
                false
            }
        }
    }
}

impl From<sqlx::Error> for OutboxError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Where a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It waits.
    Queued,
    /// The server has it, under this id.
    Accepted(EnvelopeId),
    /// It will not be sent, for this reason.
    Failed(String),
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing waits in this group.
    Empty,
    /// The server has taken a batch.
    Sent,
    /// The group had moved on, or some messages had to be given up: there is more to do.
    Again,
}

/// Stores a message behind the others of its group; one with a client id that is there already is
/// that one.
pub(super) async fn add(
    tx: &mut Tx,
    vault: &Vault,
    now: Timestamp,
    group: GroupId,
    client_id: ClientId,
    ttl_s: u32,
    content: Content,
) -> Result<(), OutboxError> {
    let plaintext = Plaintext { sent_at: now, ttl_s, client_id, content }.to_bytes();
    let place = client_id.as_bytes();
    let content = vault.seal(Class::Content, "outbox", "content", place, &plaintext)?;
    sqlx::query(
        "INSERT INTO outbox (group_id, client_id, content, created_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (client_id) DO NOTHING",
    )
    .bind(group.as_bytes().as_slice())
    .bind(client_id.as_bytes().as_slice())
    .bind(content)
    .bind(ms(now))
    .execute(tx.conn())
    .await?;
    Ok(())
}

/// Where the message with this client id is; one that is not there any more was accepted long ago.
pub(super) async fn state(db: &Db, client_id: ClientId) -> Result<Option<State>, OutboxError> {
    let row = sqlx::query("SELECT state, envelope_id, failure FROM outbox WHERE client_id = $1")
        .bind(client_id.as_bytes().as_slice())
        .fetch_optional(db.read().await?.conn())
        .await?;
    let Some(row) = row else { return Ok(None) };
    let state: String = row.try_get(0)?;
    let envelope: Option<Vec<u8>> = row.try_get(1)?;
    let failure: Option<String> = row.try_get(2)?;
    Ok(Some(match (state.as_str(), envelope.map(|id| EnvelopeId::from_slice(&id)), failure) {
        ("accepted", Some(Ok(id)), _) => State::Accepted(id),
        ("failed", _, why) => State::Failed(why.unwrap_or_default()),
        _ => State::Queued,
    }))
}

/// Groups in which something waits, the longest wait first.
pub(super) async fn waiting(db: &Db) -> Result<Vec<GroupId>, OutboxError> {
    let rows = sqlx::query(
        "SELECT group_id FROM outbox WHERE state = 'queued' GROUP BY group_id ORDER BY MIN(row)",
    )
    .fetch_all(db.read().await?.conn())
    .await?;
    rows.iter()
        .map(|row| Ok(GroupId::from_slice(&row.try_get::<Vec<u8>, _>(0)?).map_err(decoded)?))
        .collect()
}

/// Sends everything that waits in `group`, one batch after the other.
///
/// # Errors
/// The first trouble; what was not accepted still waits, in order.
pub(super) async fn flush(client: &Client, group: GroupId) -> Result<(), OutboxError> {
    let mut in_vain = 0;
    while in_vain < TRIES {
        match step(client, group).await? {
            Step::Empty => return Ok(()),
            Step::Sent => in_vain = 0,
            Step::Again => in_vain += 1,
        }
    }
    Err(SdkError::Contended.into())
}

/// Posts the group's batch; makes one first if there is none.
///
/// # Errors
/// See [`OutboxError`]; the messages wait, and what is stored is what will be sent.
pub(super) async fn step(client: &Client, group: GroupId) -> Result<Step, OutboxError> {
    let stored = load_batch(client.db().read().await?.conn(), group).await?;
    let stored = match stored {
        Some(stored) => stored,
        None => match seal(client, group).await? {
            Sealed::Batch(stored) => stored,
            Sealed::Nothing => return Ok(Step::Empty),
            Sealed::Changed => return Ok(Step::Again),
        },
    };
    let refused = match client.post(&stored.batch).await {
        Ok(_) => {
            let mut tx = client.db().begin().await?;
            accept(&mut tx, &stored).await?;
            tx.commit().await?;
            return Ok(Step::Sent);
        }
        Err(SdkError::Call(refused)) => refused,
        Err(error) => return Err(error.into()),
    };
    match refused {
        CallError::Stale { ops, .. } => {
            let mut tx = client.db().begin().await?;
            client.install(&mut tx, group, &ops).await?;
            drop_batch(&mut tx, stored.id).await?;
            tx.commit().await?;
            Ok(Step::Again)
        }
        CallError::Refused { status, error, .. } if status != 401 => {
            let mut tx = client.db().begin().await?;
            for row in &stored.rows {
                fail(&mut tx, *row, &error).await?;
            }
            drop_batch(&mut tx, stored.id).await?;
            tx.commit().await?;
            Ok(Step::Again)
        }
        CallError::Refused { .. }
        | CallError::RetryAfter(_)
        | CallError::Unreachable(_)
        | CallError::Unknown(_) => Err(SdkError::Call(refused).into()),
    }
}

/// Forgets messages that were settled longer ago than anybody remembers their ids.
pub(super) async fn forget(tx: &mut Tx, now: Timestamp) -> Result<(), OutboxError> {
    sqlx::query("DELETE FROM outbox WHERE state <> 'queued' AND created_ms < $1")
        .bind(ms(now.minus_ms(REMEMBER_MS)))
        .execute(tx.conn())
        .await?;
    Ok(())
}

enum Sealed {
    Batch(Stored),
    Nothing,
    Changed,
}

/// Seals what waits, and stores the finished bytes with the moved ratchet.
async fn seal(client: &Client, group: GroupId) -> Result<Sealed, OutboxError> {
    match client.prepare(group).await {
        // Said again below, where it is known whom it concerns.
        Ok(()) | Err(SdkError::Seal(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let now = client.now();
    let mut tx = client.db().begin().await?;
    // Another process may have been quicker; its batch comes first.
    if let Some(stored) = load_batch(tx.conn(), group).await? {
        return Ok(Sealed::Batch(stored));
    }
    let waiting = next(tx.conn(), client.vault(), group).await?;
    if waiting.is_empty() {
        return Ok(Sealed::Nothing);
    }
    let (waiting, late): (Vec<_>, Vec<_>) = match client.machine().roster(&mut tx, group).await {
        Ok(Some(roster)) => {
            waiting.into_iter().partition(|w| w.plaintext.expires_at(roster.policy().ttl_s) > now)
        }
        Ok(None) => (waiting, Vec::new()),
        Err(error) => return Err(SdkError::from(error).into()),
    };
    if !late.is_empty() {
        for late in late {
            fail(&mut tx, late.row, "it was too old when the server could be reached").await?;
        }
        tx.commit().await?;
        return Ok(Sealed::Changed);
    }
    let (rows, items): (Vec<i64>, Vec<Outgoing>) =
        waiting.into_iter().map(|w| (w.row, w.into_outgoing())).unzip();
    match client.machine().seal(&mut tx, now, group, &items).await {
        Ok(batch) => {
            let id = save_batch(&mut tx, group, &batch, &rows).await?;
            tx.commit().await?;
            Ok(Sealed::Batch(Stored { id, batch, rows }))
        }
        // Somebody came or went since the keys were fetched: fetch again.
        Err(SealError::Unprepared(_)) => Ok(Sealed::Changed),
        Err(error) => {
            // What was sealed before the error is taken back with this transaction.
            drop(tx);
            give_up(client, &rows, error).await
        }
    }
}

/// Fails those messages that can never be sent; others wait, and the error says for what.
async fn give_up(client: &Client, rows: &[i64], error: SealError) -> Result<Sealed, OutboxError> {
    let failed = match &error {
        SealError::TooLarge(position, _, _) => rows.get(*position..=*position),
        SealError::NotMember(_) | SealError::Closed | SealError::Channel | SealError::Scheme => {
            Some(rows)
        }
        SealError::Forked
        | SealError::Unprepared(_)
        | SealError::TooMany(..)
        | SealError::Machine(_) => None,
    };
    let Some(failed) = failed else { return Err(OutboxError::Seal(error)) };
    let mut tx = client.db().begin().await?;
    for row in failed {
        fail(&mut tx, *row, &error.to_string()).await?;
    }
    tx.commit().await?;
    Ok(Sealed::Changed)
}
