//! A device, and what came in at it.

use causeway_groups::{
    Machine, SCHEMA, Vault,
    machine::{AddedBy, Incoming, Received, What},
};
use causeway_protocol::{
    api::StreamRow,
    content::Content,
    ids::{AccountId, DeviceId},
};
use causeway_store::{Db, Lock, Options};
use tempfile::TempDir;

pub(crate) struct Device {
    pub(crate) machine: Machine,
    pub(crate) db: Db,
    pub(crate) dir: TempDir,
    pub(crate) acked: u64,
    pub(crate) received: Vec<Received>,
    /// What the server has set aside for it.
    pub(crate) parked: Vec<StreamRow>,
    /// How many of those rows it has asked for, each time counted.
    pub(crate) asked: usize,
}

impl Device {
    pub(crate) fn id(&self) -> DeviceId {
        self.machine.me().record.device_id
    }

    pub(crate) fn account(&self) -> AccountId {
        self.machine.me().account.clone()
    }

    pub(crate) fn messages(&self) -> Vec<&Incoming> {
        let message = |r: &'_ Received| matches!(r.what, What::Message(_));
        self.received
            .iter()
            .filter(|r| message(r))
            .map(|r| match &r.what {
                What::Message(incoming) => incoming,
                _ => unreachable!(),
            })
            .collect()
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        let text = |incoming: &&Incoming| match &incoming.content {
            Content::Text(text) => text.body.clone(),
            other => format!("{other:?}"),
        };
        self.messages().iter().map(text).collect()
    }

    pub(crate) fn reasons(&self) -> Vec<&'static str> {
        self.received
            .iter()
            .filter_map(|r| match r.what {
                What::Failed { reason, .. } => Some(reason),
                _ => None,
            })
            .collect()
    }

    /// The process ends and starts again.
    pub(crate) async fn restart(&mut self) {
        self.db.close().await;
        (self.db, self.machine) = open(&self.dir).await;
    }
}

pub(super) async fn open_db(dir: &TempDir) -> Db {
    let path = dir.path().join("client.db");
    Db::open(Options { path, lock: Lock::Shared, schemas: &[SCHEMA] }).await.expect("a database")
}

async fn open(dir: &TempDir) -> (Db, Machine) {
    let db = open_db(dir).await;
    let vault = Vault::open(&db, &dir.path().join("storage.key")).await.expect("a vault");
    let machine = Machine::load(&db, vault).await.expect("loads").expect("is there");
    (db, machine.added_by_these(AddedBy::All))
}
