//! One whose keys do not come stops nobody but himself: what of him cannot be held stands apart at a
//! real server, and is shown in order when the keys come.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use causeway_groups::{
    SCHEMA, Vault,
    machine::{AddedBy, Batch, NewGroup, Outgoing, Received, What},
    sdk::{Client, Keep, KeepError, Stream},
};
use causeway_protocol::{
    api::PostEnvelopes,
    content::{Content, Text, TextKind},
    envelope::{Kind, Submission},
    ids::{ClientId, GroupId},
    roster::{Role, Scheme},
};
use causeway_store::{Db, Lock, Options, Tx};
use futures_util::future::BoxFuture;
use tempfile::TempDir;

use crate::cli_server::{Server, now};

/// Longer than anything takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_mins(2);
/// More than are held of one sender.
const MANY: u32 = 400;

/// What messages are called.
static NAMES: AtomicU64 = AtomicU64::new(1);

/// Keeps what was said.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Keep for Heard {
    fn keep<'a>(
        &'a self,
        _: &'a Client,
        _: &'a mut Tx,
        received: Vec<Received>,
    ) -> BoxFuture<'a, Result<(), KeepError>> {
        for Received { what, .. } in received {
            if let What::Message(incoming) = what
                && let Content::Text(text) = incoming.content
            {
                self.0.lock().unwrap().push(text.body);
            }
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A device, and what it has heard.
struct Device {
    client: Client,
    stream: Stream,
    heard: Heard,
    path: PathBuf,
}

async fn database(path: &Path) -> (Db, Vault) {
    let options = Options { path: path.join("client.db"), lock: Lock::Shared, schemas: &[SCHEMA] };
    let db = Db::open(options).await.unwrap();
    let vault = Vault::open(&db, &path.join("storage.key")).await.unwrap();
    (db, vault)
}

impl Device {
    async fn register(server: &Server, folder: &TempDir, name: &str) -> Self {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        let (db, vault) = database(&path).await;
        let heard = Heard::default();
        let (url, keeper) = (server.url(), Arc::new(heard.clone()));
        let registered = Client::register(db, vault, Some(&url), name, None, keeper, now).await;
        let client = registered.unwrap().client.added_by_these(AddedBy::All);
        Self { stream: client.stream(), client, heard, path }
    }

    /// The process ends; another one goes on with the same database, or with what `path` is by then.
    async fn restart(&mut self, between: impl FnOnce(&Path)) {
        self.client.db().close().await;
        between(&self.path);
        let (db, vault) = database(&self.path).await;
        let keeper = Arc::new(self.heard.clone());
        let client = Client::open(db, vault, None, keeper, now).await.unwrap();
        self.client = client.added_by_these(AddedBy::All);
        self.stream = self.client.stream();
    }

    fn heard(&self) -> Vec<String> {
        self.heard.0.lock().unwrap().clone()
    }

    /// Follows its mailbox and does its chores until it has heard so much.
    async fn hear(&mut self, count: usize) -> Vec<String> {
        let listening = async {
            while self.heard().len() < count {
                tokio::select! {
                    rows = self.stream.next_rows() => match rows {
                        Ok(rows) => {
                            let taken = self.client.receive(&rows).await.unwrap();
                            self.stream.took(&taken).await;
                        }
                        Err(error) => assert!(error.is_transient(), "{error}"),
                    },
                    // What was acknowledged a moment ago may not be parked yet.
                    () = tokio::time::sleep(Duration::from_millis(20)) => {}
                }
                match self.client.chores().await {
                    Ok(_) => {}
                    Err(error) => assert!(error.is_transient(), "{error}"),
                }
            }
        };
        let heard = tokio::time::timeout(PATIENCE, listening).await;
        heard.unwrap_or_else(|_| panic!("heard {:?}", self.heard()));
        self.heard()
    }

    async fn group_with(&self, other: &Self, name: &str) -> GroupId {
        let new = NewGroup {
            scheme: Scheme::SenderKeys,
            suite: None,
            name: name.to_owned(),
            description: String::new(),
            members_may_add: false,
            is_channel: false,
            max_members: 10,
            ttl_s: 86_400,
        };
        let group = self.client.create_group(new).await.unwrap();
        let account = &other.client.me().account;
        self.client.add(group, account, Role::Member).await.unwrap();
        group
    }

    /// Seals texts; posts the messages, and returns the keys that open them.
    async fn say_without_keys(&self, group: GroupId, texts: &[String]) -> Vec<Submission> {
        let items: Vec<_> = texts.iter().map(|text| outgoing(text)).collect();
        while let Err(error) = self.client.prepare(group).await {
            assert!(error.is_transient(), "{error}");
        }
        let mut tx = self.client.db().begin().await.unwrap();
        let batch = self.client.machine().seal(&mut tx, now(), group, &items).await.unwrap();
        tx.commit().await.unwrap();
        let Batch { submissions, .. } = batch;
        let (messages, keys): (Vec<_>, _) =
            submissions.into_iter().partition(|one| one.kind == Kind::Message);
        self.post(group, messages).await;
        keys
    }

    async fn post(&self, group: GroupId, envelopes: Vec<Submission>) {
        let envelopes = PostEnvelopes { envelopes, count: None };
        // A connection from before a restart may break, and the outcome is not known then.
        while let Err(error) = self.client.http().post_envelopes(group, &envelopes).await {
            assert!(error.is_transient(), "{error}");
        }
    }

    async fn say(&self, group: GroupId, text: &str) {
        while let Err(error) = self.client.prepare(group).await {
            assert!(error.is_transient(), "{error}");
        }
        let mut tx = self.client.db().begin().await.unwrap();
        let sealed = self.client.machine().seal(&mut tx, now(), group, &[outgoing(text)]).await;
        tx.commit().await.unwrap();
        let batch = sealed.unwrap();
        while let Err(error) = self.client.post(&batch).await {
            assert!(error.is_transient(), "{error}");
        }
    }

    /// Waits until so many rows are parked: the server hears of it a moment later.
    async fn has_parked(&self, rows: u64) {
        let waiting = async {
            loop {
                let Ok(page) = self.client.http().parked(None).await else { continue };
                if page.parked.iter().map(|of| of.rows).sum::<u64>() == rows {
                    return;
                }
                if let Err(error) = self.client.chores().await {
                    assert!(error.is_transient(), "{error}");
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    }
}

fn outgoing(body: &str) -> Outgoing {
    let text = Text {
        kind: TextKind::Text,
        body: body.to_owned(),
        html: None,
        reply_to: None,
        mirror: None,
    };
    let n = NAMES.fetch_add(1, Ordering::Relaxed);
    let client_id = ClientId::new(u128::from(n).to_be_bytes());
    Outgoing { client_id, ttl_s: 0, content: Content::Text(text) }
}

fn texts(from: u32, to: u32) -> Vec<String> {
    (from..to).map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn who_gives_no_keys_stops_nobody_and_is_heard_in_order_when_he_does() {
    let (mut server, folder) = (Server::start(), TempDir::new().unwrap());
    let mallory = Device::register(&server, &folder, "mallory").await;
    let alice = Device::register(&server, &folder, "alice").await;
    let mut ben = Device::register(&server, &folder, "ben").await;
    let one = mallory.group_with(&ben, "one").await;
    let other = mallory.group_with(&ben, "other").await;
    let honest = alice.group_with(&ben, "honest").await;
    let keys = mallory.say_without_keys(one, &texts(0, MANY)).await;
    let of_other = mallory.say_without_keys(other, &texts(1_000, 1_000 + MANY)).await;
    alice.say(honest, "hello").await;
    assert_eq!(ben.hear(1).await, ["hello"]);
    // Of both groups what cannot be held stands apart.
    let parked = u64::from(2 * (MANY - 256));
    ben.has_parked(parked).await;
    ben.restart(|_| {}).await;
    server.stop();
    server.start_again();
    alice.say(honest, "and again").await;
    assert_eq!(ben.hear(2).await[1], "and again");
    ben.has_parked(parked).await;
    // The keys of one come among what they open, and it is said in order all the same.
    mallory.post(one, keys).await;
    for n in MANY..MANY + 5 {
        mallory.say(one, &n.to_string()).await;
    }
    let heard = ben.hear(2 + MANY as usize + 5).await;
    assert_eq!(heard[2..], texts(0, MANY + 5));
    ben.has_parked(parked / 2).await;
    mallory.post(other, of_other).await;
    let heard = ben.hear(2 + 2 * MANY as usize + 5).await;
    assert_eq!(heard[2 + MANY as usize + 5..], texts(1_000, 1_000 + MANY));
    alice.say(honest, "the end").await;
    assert_eq!(ben.hear(heard.len() + 1).await[heard.len()], "the end");
    ben.has_parked(0).await;
}

#[tokio::test]
async fn a_database_that_was_put_back_asks_for_what_it_does_not_know_to_be_parked() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let mallory = Device::register(&server, &folder, "mallory").await;
    let alice = Device::register(&server, &folder, "alice").await;
    let mut ben = Device::register(&server, &folder, "ben").await;
    let group = mallory.group_with(&ben, "one").await;
    let honest = alice.group_with(&ben, "honest").await;
    alice.say(honest, "before").await;
    ben.hear(1).await;
    let copy = TempDir::new().unwrap();
    let files = ["client.db", "client.db-wal", "client.db-shm"];
    ben.restart(|path| {
        for name in files.iter().filter(|name| path.join(name).exists()) {
            std::fs::copy(path.join(name), copy.path().join(name)).unwrap();
        }
    })
    .await;
    let keys = mallory.say_without_keys(group, &texts(0, MANY)).await;
    alice.say(honest, "hello").await;
    assert_eq!(ben.hear(2).await, ["before", "hello"]);
    ben.restart(|path| {
        for name in files {
            let _ = std::fs::remove_file(path.join(name));
            if copy.path().join(name).exists() {
                std::fs::copy(copy.path().join(name), path.join(name)).unwrap();
            }
        }
    })
    .await;
    mallory.post(group, keys).await;
    // What it had acknowledged is gone, and what was parked is not.
    let heard = ben.hear(2 + MANY as usize - 256).await;
    assert_eq!(heard[2..], texts(256, MANY));
    ben.has_parked(0).await;
}

#[tokio::test]
async fn who_leaves_a_group_leaves_what_is_parked_of_it() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let mallory = Device::register(&server, &folder, "mallory").await;
    let alice = Device::register(&server, &folder, "alice").await;
    let mut ben = Device::register(&server, &folder, "ben").await;
    let group = mallory.group_with(&ben, "one").await;
    let honest = alice.group_with(&ben, "honest").await;
    mallory.say_without_keys(group, &texts(0, MANY)).await;
    alice.say(honest, "hello").await;
    ben.hear(1).await;
    ben.has_parked(u64::from(MANY - 256)).await;
    ben.client.leave(group).await.unwrap();
    ben.has_parked(0).await;
    alice.say(honest, "the end").await;
    assert_eq!(ben.hear(2).await, ["hello", "the end"]);
}

#[tokio::test]
async fn a_server_that_was_put_back_gives_lower_numbers_and_nothing_waits_for_the_old_ones() {
    let (mut server, folder) = (Server::start(), TempDir::new().unwrap());
    let mallory = Device::register(&server, &folder, "mallory").await;
    let alice = Device::register(&server, &folder, "alice").await;
    let mut ben = Device::register(&server, &folder, "ben").await;
    let group = mallory.group_with(&ben, "one").await;
    let honest = alice.group_with(&ben, "honest").await;
    server.stop();
    let copy = server.backup();
    server.start_again();
    let keys = mallory.say_without_keys(group, &texts(0, MANY)).await;
    alice.say(honest, "hello").await;
    ben.hear(1).await;
    ben.has_parked(u64::from(MANY - 256)).await;
    server.stop();
    server.restore(&copy);
    server.start_again();
    // What was parked is lost with that database; what is held is not, nor what comes.
    mallory.post(group, keys).await;
    mallory.say(group, "later").await;
    let heard = ben.hear(1 + 256 + 1).await;
    assert_eq!(heard[1..257], texts(0, 256));
    assert_eq!(heard[257], "later");
    ben.client.chores().await.unwrap();
    let mut tx = ben.client.db().begin().await.unwrap();
    assert_eq!(ben.client.machine().to_unpark(&mut tx, now()).await.unwrap(), []);
}
