//! A native person: a real client of the native API, driven by the story.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use causeway_groups::{
    Vault,
    machine::{Batch, Incoming, NewGroup, Outgoing, Received, SealError, What},
    sdk::{CallError, Client, Keep, KeepError, RegisterError, SdkError},
    vault::VaultError,
};
use causeway_protocol::{
    api::StreamRow,
    content::{Content, Text, TextKind},
    envelope::{self, Envelope, Kind, Recipient, Submission},
    ids::{ClientId, DeviceId, GroupId, Seq},
    invite::Link,
    roster::{Role, Scheme},
};
use causeway_store::{Db, Lock, OpenError, Options, Tx};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::transcript::Transcript;
use crate::{clock, secret::Secret};

/// How often the key work is looked at when nothing calls for it.
const CHORES: Duration = Duration::from_secs(1);
/// Longest until who is invited is let in.
const TO_BE_LET_IN: Duration = Duration::from_mins(1);
/// How long an invite is good.
const INVITE_MS: u64 = 7 * 24 * 60 * 60 * 1_000;
/// Before what passed without an answer is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Somebody with a native account.
pub(super) struct NativePerson {
    client: Client,
    seen: Transcript,
    rows: Arc<Mutex<Vec<StreamRow>>>,
    listening: Option<AbortOnDropHandle<()>>,
}

/// Why a person could not do something.
#[derive(Debug, thiserror::Error)]
pub enum PersonError {
    /// The database of the client.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its storage key.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The account was not made.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The client could not do it.
    #[error(transparent)]
    Sdk(#[from] SdkError),
    /// Nothing could be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The rows of the client.
    #[error(transparent)]
    Store(#[from] causeway_store::Error),
    /// No randomness.
    #[error("no randomness: {0}")]
    Entropy(#[from] getrandom::Error),
    /// Whoever had made the invite did not let its holder in.
    #[error("the invited member was not let in")]
    NotLetIn,
}

/// Shows what a client opened.
#[derive(Default)]
struct Screen {
    seen: Transcript,
    /// Names of Matrix users, as the bridge announced them.
    names: Mutex<BTreeMap<String, String>>,
}

impl Keep for Screen {
    fn keep<'a>(
        &'a self,
        _client: &'a Client,
        _tx: &'a mut Tx,
        received: Vec<Received>,
    ) -> BoxFuture<'a, Result<(), KeepError>> {
        Box::pin(async move {
            for received in received {
                if let What::Message(message) = received.what {
                    self.show(message);
                }
            }
            Ok(())
        })
    }
}

impl Screen {
    /// Shows a message as a person reads it (protocol §2.1).
    fn show(&self, message: Incoming) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        match message.content {
            Content::Text(text) => {
                let who = match (&text.mirror, message.role) {
                    (Some(mirror), _) => {
                        let name = names.get(mirror).filter(|name| !name.is_empty());
                        let server = message.sender.server();
                        format!("{} (Matrix, via {server})", name.unwrap_or(mirror))
                    }
                    (None, Role::Bridge) => "the bridge".to_owned(),
                    (None, Role::Member | Role::Admin) => message.sender.localpart().to_owned(),
                };
                self.seen.show(who, text.body, false);
            }
            Content::Mirrors(mirrors) => {
                names.extend(mirrors.mirrors.into_iter().map(|mirror| (mirror.id, mirror.name)));
            }
            Content::RosterSync(_) | Content::BridgeRequest(_) | Content::Unknown(..) => {}
        }
    }
}

impl NativePerson {
    /// Registers `name` with a client whose files are in `dir`, and listens.
    pub(super) async fn register(
        name: &str,
        dir: &Path,
        url: &str,
        token: &Secret,
    ) -> Result<Self, PersonError> {
        let db = Db::open(Options {
            path: dir.join(format!("{name}.db")),
            lock: Lock::Shared,
            schemas: &[causeway_groups::SCHEMA],
        })
        .await?;
        let vault = Vault::open(&db, &dir.join(format!("{name}.key"))).await?;
        let screen = Arc::new(Screen::default());
        let seen = screen.seen.clone();
        let token = Some(token.expose().to_owned());
        let made = Client::register(db, vault, Some(url), name, token, screen, clock::now).await?;
        let client = made.client;
        let rows = Arc::default();
        let listening = TaskTracker::new().spawn(listen(client.clone(), Arc::clone(&rows)));
        let listening = Some(AbortOnDropHandle::new(listening));
        Ok(Self { client, seen, rows, listening })
    }

    /// The client.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// What this person has seen.
    pub(super) fn seen(&self) -> &Transcript {
        &self.seen
    }

    /// What came into the mailbox so far, opened or not.
    pub(super) fn rows(&self) -> Vec<StreamRow> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a group with this person as its admin.
    pub(super) async fn create_group(
        &self,
        name: &str,
        description: &str,
        scheme: Scheme,
    ) -> Result<GroupId, PersonError> {
        let new = NewGroup {
            scheme,
            suite: None,
            name: name.to_owned(),
            description: description.to_owned(),
            members_may_add: false,
            is_channel: false,
            max_members: 100,
            ttl_s: 30 * 24 * 60 * 60,
        };
        Ok(self.client.create_group(new).await?)
    }

    /// An invite into a group for so many.
    pub(super) async fn invite(&self, group: GroupId, guests: u32) -> Result<Link, PersonError> {
        let expires = self.client.now().plus_ms(INVITE_MS);
        Ok(self.client.create_invite(group, expires, guests).await?)
    }

    /// Comes into a group by an invite.
    pub(super) async fn come_in(&self, group: GroupId, invite: &Link) -> Result<(), PersonError> {
        self.client.ask_to_join(invite).await?;
        if self.client.wait_to_join(group, TO_BE_LET_IN).await? {
            Ok(())
        } else {
            Err(PersonError::NotLetIn)
        }
    }

    /// Says `text`; returns what was posted for it.
    pub(super) async fn say(&self, group: GroupId, text: &str) -> Result<Batch, PersonError> {
        let content = Text {
            kind: TextKind::Text,
            body: text.to_owned(),
            html: None,
            reply_to: None,
            mirror: None,
        };
        let batch = self.send(group, Content::Text(content)).await?;
        self.seen.show(self.client.me().account.localpart(), text, true);
        Ok(batch)
    }

    /// Sends `content`, as often as it takes for the server to have it once.
    pub(super) async fn send(
        &self,
        group: GroupId,
        content: Content,
    ) -> Result<Batch, PersonError> {
        let mut id = [0; ClientId::LEN];
        getrandom::fill(&mut id)?;
        let item = Outgoing { client_id: ClientId::new(id), ttl_s: 0, content };
        loop {
            if let Some(batch) = self.seal(group, &item).await?
                && self.post(group, &batch).await?
            {
                return Ok(batch);
            }
        }
    }

    /// Seals under the roster as it is known now; `None` if keys are to be fetched first.
    async fn seal(&self, group: GroupId, item: &Outgoing) -> Result<Option<Batch>, PersonError> {
        match self.client.prepare(group).await {
            Ok(()) => {}
            Err(error) if error.is_transient() => {
                sleep(AGAIN).await;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
        let mut tx = self.client.db().begin().await?;
        let items = std::slice::from_ref(item);
        match self.client.machine().seal(&mut tx, self.client.now(), group, items).await {
            Ok(batch) => {
                tx.commit().await?;
                Ok(Some(batch))
            }
            Err(SealError::Unprepared(_)) => Ok(None),
            Err(SealError::NoKey) => {
                sleep(AGAIN).await;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Posts the same bytes until there is an answer; whether they were taken.
    async fn post(&self, group: GroupId, batch: &Batch) -> Result<bool, PersonError> {
        loop {
            match self.client.post(batch).await {
                Ok(_) => return Ok(true),
                Err(SdkError::Call(CallError::Stale { ops, .. })) => {
                    let mut tx = self.client.db().begin().await?;
                    self.client.install(&mut tx, group, &ops).await?;
                    tx.commit().await?;
                    return Ok(false);
                }
                Err(error) if error.is_transient() => sleep(AGAIN).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Hands this person's client rows that the server would not have given it, as if they had
    /// come for this very device; returns how many messages it could read of them.
    pub(super) async fn be_handed(&mut self, envelopes: Vec<Envelope>) -> Result<u64, PersonError> {
        // It reads no longer from its own mailbox, so that places in it stay in order.
        self.listening = None;
        let before = self.seen.heard();
        let me = self.client.me().record.device_id;
        let last = self.rows().last().map_or(0, |row| row.seq.0);
        for (seq, envelope) in (last + 1..).zip(envelopes) {
            let row = StreamRow { seq: Seq(seq), envelope: addressed(envelope, me) };
            self.client.receive(&[row]).await?;
        }
        Ok((self.seen.heard() - before) as u64)
    }
}

/// `envelope` as if it were for `device`, its id right again.
fn addressed(mut envelope: Envelope, device: DeviceId) -> Envelope {
    if let Recipient::Device(_) = envelope.to {
        envelope.to = Recipient::Device(device);
        envelope.id = envelope::compute_id(
            envelope.kind,
            envelope.sender.as_ref().map(|sender| &sender.device),
            &envelope.to,
            &envelope.payload,
            envelope.piece.as_ref(),
        );
    }
    envelope
}

/// What a batch is to whom it reaches.
pub(super) fn envelopes(batch: &Batch) -> Vec<Envelope> {
    batch.submissions.iter().flat_map(Submission::rows).collect()
}

/// Follows the mailbox and does the device's part of the key work, until it is cut off.
async fn listen(client: Client, kept: Arc<Mutex<Vec<StreamRow>>>) {
    let mut stream = client.stream();
    let mut chores_at = Instant::now();
    loop {
        tokio::select! {
            rows = stream.next_rows() => match rows {
                Ok(rows) => {
                    match client.receive(&rows).await {
                        Ok(taken) => stream.took(&taken).await,
                        Err(error) => {
                            tracing::warn!(%error, "rows could not be received");
                            stream = client.stream();
                            continue;
                        }
                    }
                    if rows.iter().any(|row| row.envelope.kind != Kind::Message) {
                        chores_at = Instant::now();
                    }
                    kept.lock().unwrap_or_else(PoisonError::into_inner).extend(rows);
                }
                Err(error) if error.is_transient() => {}
                Err(error) => {
                    tracing::error!(%error, "the mailbox is closed");
                    return;
                }
            },
            () = sleep_until(chores_at) => {
                if let Err(error) = client.chores().await {
                    tracing::debug!(%error, "chores wait");
                }
                chores_at = Instant::now() + CHORES;
            }
        }
    }
}
