//! A device by the SDK alone, at a real server: what tests that are not about the command line use.

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
    content::{Content, Text, TextKind},
    ids::{ClientId, GroupId},
    roster::Scheme,
};
use causeway_store::{Db, Lock, Options, Tx};
use futures_util::future::BoxFuture;
use tempfile::TempDir;

use crate::cli_server::{Server, now};

/// Longer than anything takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// What messages are called.
static NAMES: AtomicU64 = AtomicU64::new(1);

/// Keeps what was said.
#[derive(Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Vec<String>>>);

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
pub(crate) struct Device {
    pub(crate) client: Client,
    pub(crate) stream: Stream,
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
    pub(crate) async fn register(server: &Server, folder: &TempDir, name: &str) -> Self {
        Self::register_at(&server.url(), folder, name).await
    }

    pub(crate) async fn register_at(url: &str, folder: &TempDir, name: &str) -> Self {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        let (db, vault) = database(&path).await;
        let heard = Heard::default();
        let keeper = Arc::new(heard.clone());
        let registered = Client::register(db, vault, Some(url), name, None, keeper, now).await;
        let client = registered.unwrap().client.added_by_these(AddedBy::All);
        Self { stream: client.stream(), client, heard, path }
    }

    /// The process ends; another one goes on with the same database, or with what `path` is by then.
    pub(crate) async fn restart(&mut self, between: impl FnOnce(&Path)) {
        self.client.db().close().await;
        between(&self.path);
        let (db, vault) = database(&self.path).await;
        let keeper = Arc::new(self.heard.clone());
        let client = Client::open(db, vault, None, keeper, now).await.unwrap();
        self.client = client.added_by_these(AddedBy::All);
        self.stream = self.client.stream();
    }

    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.0.lock().unwrap().clone()
    }

    /// Follows its mailbox and does its chores until it has heard so much.
    pub(crate) async fn hear(&mut self, count: usize) -> Vec<String> {
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

    pub(crate) async fn say(&self, group: GroupId, text: &str) {
        let batch = self.sealed(group, text).await;
        while let Err(error) = self.client.post(&batch).await {
            assert!(error.is_transient(), "{error}");
        }
    }

    /// Ready to be posted.
    pub(crate) async fn sealed(&self, group: GroupId, text: &str) -> Batch {
        while let Err(error) = self.client.prepare(group).await {
            assert!(error.is_transient(), "{error}");
        }
        let mut tx = self.client.db().begin().await.unwrap();
        let sealed = self.client.machine().seal(&mut tx, now(), group, &[outgoing(text)]).await;
        tx.commit().await.unwrap();
        sealed.unwrap()
    }

    /// Until there is nothing to be done for others.
    pub(crate) async fn does_its_chores(&self) {
        loop {
            match self.client.chores().await {
                Ok(false) => return,
                Ok(true) => {}
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
        }
    }
}

pub(crate) fn new_group(scheme: Scheme, name: &str, max_members: u32) -> NewGroup {
    NewGroup {
        scheme,
        suite: None,
        name: name.to_owned(),
        description: String::new(),
        members_may_add: false,
        is_channel: false,
        max_members,
        ttl_s: 86_400,
    }
}

pub(crate) fn outgoing(body: &str) -> Outgoing {
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
