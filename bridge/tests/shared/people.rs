//! Native people with their own keys, as independent of the bridge as any client is.

use std::{collections::BTreeSet, sync::Arc};

use causeway_bridge::clock;
use causeway_groups::{
    SCHEMA, Vault,
    machine::{AddedBy, Batch, NewGroup, Outgoing, Received, SealError, What},
    sdk::{CallError, Client, Keep, KeepError, SdkError},
};
use causeway_protocol::{
    content::{BridgeRequest, Content, MessageRef, Text, TextKind},
    ids::{ClientId, GroupId},
    roster::{Role, Scheme},
};
use causeway_store::{Db, Lock, Options, Tx};
use futures_util::future::BoxFuture;
use tokio::{sync::watch, time::MissedTickBehavior};

/// Longer than anything takes; a test that waits so long has failed.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_mins(2);

/// What a person has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) sender: String,
    pub(crate) mirror: Option<String>,
    pub(crate) body: String,
    pub(crate) replies: bool,
    /// Sent before a removal was seen.
    pub(crate) late: bool,
    pub(crate) reference: MessageRef,
}

/// Keeps what comes in where the test can see it: what is said, and which Matrix users read.
struct Diary(watch::Sender<Vec<Read>>, watch::Sender<BTreeSet<String>>);

impl Keep for Diary {
    fn keep<'a>(
        &'a self,
        _: &'a Client,
        _: &'a mut Tx,
        received: Vec<Received>,
    ) -> BoxFuture<'a, Result<(), KeepError>> {
        self.0.send_modify(|read| {
            for Received { what, .. } in received {
                let What::Message(incoming) = what else { continue };
                if let Content::Mirrors(mirrors) = &incoming.content {
                    let present = mirrors.mirrors.iter().map(|mirror| mirror.id.clone());
                    self.1.send_modify(|readers| readers.extend(present));
                }
                let Content::Text(text) = incoming.content else { continue };
                read.push(Read {
                    sender: incoming.sender.to_string(),
                    mirror: text.mirror,
                    body: text.body,
                    replies: text.reply_to.is_some(),
                    late: incoming.late,
                    reference: MessageRef {
                        device: incoming.device,
                        client_id: incoming.client_id,
                    },
                });
            }
        });
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Somebody, with one device, always reading.
pub(crate) struct Person {
    pub(crate) client: Client,
    read: watch::Receiver<Vec<Read>>,
    readers: watch::Receiver<BTreeSet<String>>,
    pub(crate) reading: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Drop for Person {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Person {
    #[expect(clippy::disallowed_methods, reason = "a client beside the test")]
    pub(crate) async fn register(url: &str, name: &str, token: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.db");
        let options = Options { path, lock: Lock::Shared, schemas: &[SCHEMA] };
        let db = Db::open(options).await.unwrap();
        let vault = Vault::open(&db, &folder.path().join("storage.key")).await.unwrap();
        let (told, read) = watch::channel(Vec::new());
        let (announced, readers) = watch::channel(BTreeSet::new());
        let diary = Arc::new(Diary(told, announced));
        let token = Some(token.to_owned());
        let made = Client::register(db, vault, Some(url), name, token, diary, clock::now).await;
        // Whoever adds somebody here has not met him before.
        let client = made.unwrap().client.added_by_these(AddedBy::All);
        let reading = tokio::spawn(keep_reading(client.clone()));
        Self { client, read, readers, reading, _folder: folder }
    }

    pub(crate) async fn create_group(&self, name: &str) -> GroupId {
        self.create_group_as(name, Scheme::SenderKeys).await
    }

    pub(crate) async fn create_group_as(&self, name: &str, scheme: Scheme) -> GroupId {
        self.client.create_group(new_group(name, scheme)).await.unwrap()
    }

    /// A group in which only its admins write.
    pub(crate) async fn create_channel(&self, name: &str, scheme: Scheme) -> GroupId {
        let channel = NewGroup { is_channel: true, ..new_group(name, scheme) };
        self.client.create_group(channel).await.unwrap()
    }

    /// Adds an account of this server as an ordinary member.
    pub(crate) async fn add(&self, group: GroupId, account: &str) {
        let account = account.parse().unwrap();
        self.client.add(group, &account, Role::Member).await.unwrap();
    }

    /// Lets the server's bridge in, and asks it to invite these people.
    pub(crate) async fn bridge(&self, group: GroupId, invite: &[&str]) {
        let info = self.client.http().server().await.unwrap().bridge.unwrap();
        self.client.add_bridge(group, &info).await.unwrap();
        let invite = Some(invite.iter().map(|user| (*user).to_owned()).collect());
        self.send(group, vec![Content::BridgeRequest(BridgeRequest { room: None, invite })]).await;
    }

    pub(crate) async fn say(&self, group: GroupId, bodies: &[String]) {
        self.send(group, bodies.iter().map(|body| text(body)).collect()).await;
    }

    /// Sends as a good client does: until the server has it, the same bytes after an unknown
    /// outcome, sealed anew after a refusal.
    pub(crate) async fn send(&self, group: GroupId, contents: Vec<Content>) {
        let items: Vec<Outgoing> = contents.into_iter().map(outgoing).collect();
        self.send_items(group, &items).await;
    }

    /// The same of what has a name already; what the server has then.
    pub(crate) async fn send_items(&self, group: GroupId, items: &[Outgoing]) -> Batch {
        loop {
            let batch = self.seal(group, items).await;
            match self.post(&batch).await {
                Ok(()) => return batch,
                Err(ops) => {
                    let mut tx = self.client.db().begin().await.unwrap();
                    self.client.install(&mut tx, group, &ops).await.unwrap();
                    tx.commit().await.unwrap();
                }
            }
        }
    }

    pub(crate) async fn seal(&self, group: GroupId, items: &[Outgoing]) -> Batch {
        loop {
            while let Err(error) = self.client.prepare(group).await {
                assert!(error.is_transient(), "{error}");
                tokio::time::sleep(AGAIN).await;
            }
            let mut tx = self.client.db().begin().await.unwrap();
            match self.client.machine().seal(&mut tx, clock::now(), group, items).await {
                Ok(batch) => {
                    tx.commit().await.unwrap();
                    return batch;
                }
                Err(SealError::Unprepared(_)) => {}
                Err(SealError::NoKey) => {
                    drop(tx);
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(crate) async fn post(
        &self,
        batch: &Batch,
    ) -> Result<(), Vec<causeway_protocol::api::OpBytes>> {
        loop {
            match self.client.post(batch).await {
                Ok(_) => return Ok(()),
                Err(SdkError::Call(CallError::Stale { ops, .. })) => return Err(ops),
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Waits until what was read is as it should be.
    pub(crate) async fn wait(&self, what: &str, mut is_so: impl FnMut(&[Read]) -> bool) {
        let mut read = self.read.clone();
        let waited = tokio::time::timeout(PATIENCE, read.wait_for(|read| is_so(read))).await;
        assert!(waited.is_ok(), "{what}: {:?}", self.read());
    }

    /// Waits until it is said that this Matrix user reads.
    pub(crate) async fn is_told_of(&self, user: &str) {
        let mut readers = self.readers.clone();
        let told = readers.wait_for(|readers| readers.contains(user));
        let told = tokio::time::timeout(PATIENCE, told).await;
        assert!(told.is_ok(), "{user} is announced by nobody");
    }

    /// The device is off.
    pub(crate) async fn go_away(&mut self) {
        self.reading.abort();
        assert!((&mut self.reading).await.is_err(), "it ends with a test alone");
    }

    /// It reads on.
    #[expect(clippy::disallowed_methods, reason = "a client beside the test")]
    pub(crate) fn come_back(&mut self) {
        self.reading = tokio::spawn(keep_reading(self.client.clone()));
    }

    pub(crate) fn read(&self) -> Vec<Read> {
        self.read.borrow().clone()
    }

    /// Bodies of what mirrors said, in the order in which they were read.
    pub(crate) fn mirrored(&self) -> Vec<String> {
        self.read().into_iter().filter(|read| read.mirror.is_some()).map(|read| read.body).collect()
    }
}

/// Somebody's words.
pub(crate) fn text(body: &str) -> Content {
    Content::Text(Text {
        kind: TextKind::Text,
        body: body.to_owned(),
        html: None,
        reply_to: None,
        mirror: None,
    })
}

/// Something to be sealed, under a new id.
pub(crate) fn outgoing(content: Content) -> Outgoing {
    let mut id = [0; 16];
    getrandom::fill(&mut id).unwrap();
    Outgoing { client_id: ClientId::new(id), ttl_s: 0, content }
}

/// How often it is looked whether key work is due.
const CHORES: std::time::Duration = std::time::Duration::from_secs(1);
/// Between two tries at a server that is not there.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(20);

/// A group as everybody here makes them.
pub(crate) fn new_group(name: &str, scheme: Scheme) -> NewGroup {
    NewGroup {
        scheme,
        suite: None,
        name: name.to_owned(),
        description: String::new(),
        members_may_add: false,
        is_channel: false,
        max_members: 50,
        ttl_s: 2_592_000,
    }
}

/// Reads whatever comes, for ever.
pub(crate) async fn keep_reading(client: Client) {
    let chores = async || {
        if let Err(error) = client.chores().await {
            assert!(error.is_transient(), "{error}");
        }
    };
    let reading = async {
        let mut stream = client.stream();
        loop {
            match stream.next_rows().await {
                Ok(rows) => {
                    let taken = client.receive(&rows).await.unwrap();
                    stream.took(&taken).await;
                    chores().await;
                }
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
        }
    };
    // Some are due later, whether anything comes or not.
    let later = async {
        let mut due = tokio::time::interval(CHORES);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            chores().await;
        }
    };
    tokio::select! { () = reading => {}, () = later => {} }
}
