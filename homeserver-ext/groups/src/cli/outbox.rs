//! Messages that were promised: stored before they are tried, sent in order, sent once.
//!
//! ```text
//! queued ──seal──▶ in the group's batch ──POST──▶ accepted
//!    ▲                     │ 409: the group has moved on     │ refused, or too old
//!    └─────────────────────┘                                 ▼ failed
//! ```
//! How a batch lives is told in [`crate::sdk::Sending`]. Whoever finds one posts it, `send` and `tail`
//! alike. Only an answered 409 lets its messages be sealed again, under the same client ids, and that
//! another server could not put them down behind a cut (`anew`).

mod anew;

use std::time::Duration;

use causeway_protocol::{
    content::{Content, MAX_PLAINTEXT, Malformed, Plaintext},
    envelope::MAX_PAYLOAD,
    ids::{ClientId, EnvelopeId, Epoch, GroupId, Timestamp},
    roster::Scheme,
};
use causeway_store::{Db, Error as StoreError, Tx};

pub(super) use self::anew::seal_anew;
use super::{
    history,
    line::{Message, Said},
};
pub(super) use crate::storage::outbox::{Named, State};
use crate::{
    machine::{Outgoing, SealError},
    sdk::{Answer, CallError, Client, SdkError, Sending},
    storage::{self, outbox as rows},
    vault::Vault,
};

/// Messages of one batch, and bytes of text in it: the server takes 4 MiB in one request.
const MAX_MESSAGES: usize = 64;
const MAX_BATCH_BYTES: usize = 1 << 20;
const _: () = assert!(MAX_PLAINTEXT + 95 == MAX_PAYLOAD, "what is sealed is one payload");
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
    /// The rows.
    #[error(transparent)]
    Rows(#[from] storage::Error),
    /// Split it; it was not stored. Bytes of its plaintext, most.
    #[error("the message is too long: as it is sealed it takes {0} bytes, and at most {1} fit")]
    TooLarge(usize, usize),
    /// A stored message is not what this program writes.
    #[error("a row of the outbox is damaged: {0}")]
    Content(#[from] Malformed),
}

impl OutboxError {
    /// Whether a person must decide about the group first; other groups go on.
    pub(super) fn waits_for_a_person(&self) -> bool {
        match self {
            Self::Seal(error) | Self::Sdk(SdkError::Seal(error)) => {
                matches!(error, SealError::Forked | SealError::Changed(_) | SealError::Offered)
            }
            Self::Sdk(_) | Self::Rows(_) | Self::TooLarge(..) | Self::Content(_) => false,
        }
    }

    /// Whether other groups go on: here a person must decide first, or a key come.
    pub(super) fn is_of_the_group(&self) -> bool {
        let lacks_key = matches!(
            self,
            Self::Seal(SealError::NoKey) | Self::Sdk(SdkError::Seal(SealError::NoKey))
        );
        lacks_key || self.waits_for_a_person()
    }

    /// How long the server asks to be left alone, if it does. What another one asks concerns no other group.
    pub(super) fn asked_to_wait(&self) -> Option<Duration> {
        let Self::Sdk(SdkError::Call(CallError::RetryAfter { ms, server: None, .. })) = self else {
            return None;
        };
        Some(Duration::from_millis(*ms))
    }

    /// Whether the same may succeed later without anyone changing anything.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Seal(SealError::NoKey)
            | Self::Sdk(SdkError::Store(StoreError::Busy | StoreError::Readers))
            | Self::Rows(storage::Error::Store(StoreError::Busy | StoreError::Readers)) => true,
            Self::Sdk(error) => error.is_transient(),
            Self::Seal(_) | Self::Rows(_) | Self::TooLarge(..) | Self::Content(_) => false,
        }
    }
}

impl From<StoreError> for OutboxError {
    fn from(error: StoreError) -> Self {
        Self::Rows(error.into())
    }
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
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(OutboxError::TooLarge(plaintext.len(), MAX_PLAINTEXT));
    }
    Ok(rows::add(tx.conn(), vault, now, &group, &client_id, &plaintext).await?)
}

/// Where the message with this client id is; one that is not there any more was accepted long ago.
pub(super) async fn state(db: &Db, client_id: ClientId) -> Result<Option<State>, OutboxError> {
    Ok(rows::state(db.read().await?.conn(), &client_id).await?)
}

/// The message of a group that has this id, or is called so by this device; the last one without.
pub(super) async fn named(
    db: &Db,
    group: GroupId,
    name: Option<[u8; 16]>,
) -> Result<Option<Named>, OutboxError> {
    Ok(rows::named(db.read().await?.conn(), &group, name).await?)
}

/// Groups in which something waits, the longest wait first.
pub(super) async fn waiting(db: &Db) -> Result<Vec<GroupId>, OutboxError> {
    Ok(rows::groups(db.read().await?.conn()).await?)
}

/// What the first messages say that wait in a group, in order.
pub(super) async fn texts(client: &Client, group: GroupId) -> Result<Vec<String>, OutboxError> {
    let mut read = client.db().read().await?;
    let (conn, vault) = (read.conn(), client.vault());
    let first = rows::first(conn, vault, &group, MAX_MESSAGES, MAX_BATCH_BYTES).await?;
    let mut texts = Vec::with_capacity(first.len());
    for (_, plaintext) in first {
        if let Content::Text(text) = Plaintext::parse(&plaintext)?.content {
            texts.push(text.body);
        }
    }
    Ok(texts)
}

/// Takes back messages that wait, but for those that are on their way already.
pub(super) async fn take_back(
    client: &Client,
    group: GroupId,
    client_ids: &[ClientId],
) -> Result<(), OutboxError> {
    let mut tx = client.db().begin().await?;
    let sending = client.sending(tx.conn(), group).await?;
    let sent = sending.map(|sending| sending.rows).unwrap_or_default();
    for client_id in client_ids {
        rows::take_back(tx.conn(), client_id, &sent).await?;
    }
    Ok(tx.commit().await?)
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
    let sending = client.sending(client.db().read().await?.conn(), group).await?;
    let sending = match sending {
        Some(sending) => sending,
        None => match seal(client, group).await? {
            Sealed::Batch(sending) => sending,
            Sealed::Nothing => return Ok(Step::Empty),
            Sealed::Changed => return Ok(Step::Again),
        },
    };
    match client.post_kept(&sending).await {
        Ok(answer) => {
            let mut tx = client.db().begin().await?;
            let under = may_be_late(client, &mut tx, &sending).await?;
            client.settle(&mut tx, &sending, &answer).await?;
            let step = match answer {
                Answer::Taken => {
                    let mut settled = Vec::with_capacity(sending.rows.len());
                    for (row, message) in sending.rows.iter().zip(&sending.batch.messages) {
                        let as_what = (message.first, under);
                        settled.extend(accepted(client, &mut tx, *row, as_what).await?);
                    }
                    keep(client, &mut tx, group, settled).await?;
                    Step::Sent
                }
                Answer::Behind(_) => Step::Again,
            };
            tx.commit().await?;
            Ok(step)
        }
        Err(SdkError::Call(CallError::Refused { status, error, taken, .. })) if status != 401 => {
            let mut tx = client.db().begin().await?;
            let under = may_be_late(client, &mut tx, &sending).await?;
            let mut settled = Vec::with_capacity(sending.rows.len());
            for (row, message) in sending.rows.iter().zip(&sending.batch.messages) {
                settled.extend(if message.ids().all(|id| taken.contains(&id)) {
                    accepted(client, &mut tx, *row, (message.first, under)).await?
                } else {
                    failed(client, &mut tx, *row, &error).await?
                });
            }
            keep(client, &mut tx, group, settled).await?;
            sending.give_up(&mut tx).await?;
            tx.commit().await?;
            Ok(Step::Again)
        }
        Err(error) => Err(error.into()),
    }
}

/// Forgets messages that were settled longer ago than anybody remembers their ids.
pub(super) async fn forget(tx: &mut Tx, now: Timestamp) -> Result<(), OutboxError> {
    Ok(rows::forget(tx.conn(), now.minus_ms(REMEMBER_MS)).await?)
}

enum Sealed {
    Batch(Sending),
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
    if let Some(sending) = client.sending(tx.conn(), group).await? {
        return Ok(Sealed::Batch(sending));
    }
    let (vault, conn) = (client.vault(), tx.conn());
    let first = rows::first(conn, vault, &group, MAX_MESSAGES, MAX_BATCH_BYTES).await?;
    if first.is_empty() {
        return Ok(Sealed::Nothing);
    }
    let mut waiting = Vec::with_capacity(first.len());
    for (row, plaintext) in first {
        waiting.push((row, Plaintext::parse(&plaintext)?));
    }
    let (waiting, late): (Vec<_>, Vec<_>) = match client.machine().roster(&mut tx, group).await {
        Ok(Some(roster)) => {
            waiting.into_iter().partition(|(_, text)| text.expires_at(roster.policy().ttl_s) > now)
        }
        Ok(None) => (waiting, Vec::new()),
        Err(error) => return Err(SdkError::from(error).into()),
    };
    if !late.is_empty() {
        let mut settled = Vec::with_capacity(late.len());
        for (row, _) in late {
            let why = "it was too old when the server could be reached";
            settled.extend(failed(client, &mut tx, row, why).await?);
        }
        keep(client, &mut tx, group, settled).await?;
        tx.commit().await?;
        return Ok(Sealed::Changed);
    }
    let outgoing =
        |Plaintext { client_id, ttl_s, content, .. }| Outgoing { client_id, ttl_s, content };
    let (rows, items): (Vec<i64>, Vec<Outgoing>) =
        waiting.into_iter().map(|(row, text)| (row, outgoing(text))).unzip();
    match client.machine().seal(&mut tx, now, group, &items).await {
        Ok(batch) => {
            let sending = client.keep_sending(&mut tx, batch, rows).await?;
            tx.commit().await?;
            Ok(Sealed::Batch(sending))
        }
        // Somebody came or went since the keys were fetched: fetch again.
        Err(SealError::Unprepared(_)) => Ok(Sealed::Changed),
        Err(error) => {
            // What was sealed before the error is taken back with this transaction.
            drop(tx);
            give_up(client, group, &rows, error).await
        }
    }
}

/// Fails those messages that can never be sent; others wait, and the error says for what.
async fn give_up(
    client: &Client,
    group: GroupId,
    rows: &[i64],
    error: SealError,
) -> Result<Sealed, OutboxError> {
    let hopeless = match &error {
        SealError::TooLarge(position, _, _) => rows.get(*position..=*position),
        SealError::NotMember(_) | SealError::Closed | SealError::Channel | SealError::Scheme => {
            Some(rows)
        }
        SealError::Forked
        | SealError::NoKey
        | SealError::Changed(_)
        | SealError::Offered
        | SealError::Unprepared(_)
        | SealError::TooMany(..)
        | SealError::Machine(_) => None,
    };
    let Some(hopeless) = hopeless else { return Err(OutboxError::Seal(error)) };
    let mut tx = client.db().begin().await?;
    let mut settled = Vec::with_capacity(hopeless.len());
    for row in hopeless {
        settled.extend(failed(client, &mut tx, *row, &error.to_string()).await?);
    }
    keep(client, &mut tx, group, settled).await?;
    tx.commit().await?;
    Ok(Sealed::Changed)
}

/// Under which epoch this is sealed, where another server may have it too late to put it down: in a group with
/// a shared key.
async fn may_be_late(
    client: &Client,
    tx: &mut Tx,
    sending: &Sending,
) -> Result<Option<Epoch>, OutboxError> {
    let roster = client.machine().roster(tx, sending.batch.group).await.map_err(SdkError::from)?;
    let is_shared = roster.is_some_and(|roster| roster.scheme() == Scheme::SharedKey);
    Ok(is_shared.then_some(sending.batch.epoch))
}

/// The server has the message of this row, under this id: the line that it is from now on.
async fn accepted(
    client: &Client,
    tx: &mut Tx,
    row: i64,
    (id, under): (EnvelopeId, Option<Epoch>),
) -> Result<Option<Said>, OutboxError> {
    let plaintext = rows::accepted(tx.conn(), client.vault(), row, (&id, under)).await?;
    let Some(plaintext) = plaintext else { return Ok(None) };
    let Plaintext { client_id, sent_at, content, .. } = Plaintext::parse(&plaintext)?;
    // What is for the bridge alone is nothing to show.
    let Content::Text(text) = content else { return Ok(None) };
    Ok(Some(Said::Message(Message::own(client.me(), id, client_id, sent_at, text))))
}

/// The message of this row will not be sent: its line, with which its words are not lost.
async fn failed(
    client: &Client,
    tx: &mut Tx,
    row: i64,
    why: &str,
) -> Result<Option<Said>, OutboxError> {
    let plaintext = rows::failed(tx.conn(), client.vault(), row, why).await?;
    let Some(plaintext) = plaintext else { return Ok(None) };
    let Plaintext { client_id, content, .. } = Plaintext::parse(&plaintext)?;
    let Content::Text(text) = content else { return Ok(None) };
    Ok(Some(Said::Unsent { client_id, body: text.body, reason: why.to_owned() }))
}

async fn keep(
    client: &Client,
    tx: &mut Tx,
    group: GroupId,
    settled: Vec<Said>,
) -> Result<(), OutboxError> {
    let kept = history::keep_own(client, tx, group, settled).await;
    kept.map_err(|error| SdkError::Keep(error).into())
}
