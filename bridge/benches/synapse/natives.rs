//! Native people: real clients over the public API, each with a database of its own.

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use causeway_bridge::clock;
use causeway_groups::{
    SCHEMA, Vault,
    machine::{NewGroup, Outgoing, Received, SealError},
    sdk::{CallError, Client, Keep, KeepError, SdkError},
};
use causeway_protocol::{
    content::{BridgeRequest, Content, Text, TextKind},
    envelope::Kind,
    ids::{AccountId, ClientId, GroupId},
    roster::{Role, Scheme},
};
use causeway_store::{Db, Lock, Options, Tx};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::start;

/// Messages of one POST while a mailbox is filled.
const AT_ONCE: usize = 100;

/// A group of three devices, two of people and the bridge's, and its room.
pub(crate) struct Portal {
    pub(crate) room: String,
    group: GroupId,
    people: [Client; 2],
    /// Messages of the bridge that are in the first one's mailbox.
    arrived: watch::Sender<u64>,
}

/// Where people register.
pub(crate) struct Door {
    /// The native API.
    pub(crate) url: String,
    /// What opens it.
    pub(crate) token: String,
    /// Where their databases are.
    pub(crate) folder: PathBuf,
}

/// Keeps nothing: nobody reads here.
struct Nobody;

impl Keep for Nobody {
    fn keep<'a>(
        &'a self,
        _: &'a Client,
        _: &'a mut Tx,
        _: Vec<Received>,
    ) -> BoxFuture<'a, Result<(), KeepError>> {
        Box::pin(async { Ok(()) })
    }
}

impl Portal {
    /// Makes one, as people do: two accounts, a group, the bridge let in, `user` invited into the
    /// room that it makes. Its room is not known yet.
    pub(crate) async fn open(door: &Door, name: &str, user: &str) -> Self {
        let alice = door.register(&format!("alice-{name}")).await;
        let bob = door.register(&format!("bob-{name}")).await;
        let new = NewGroup {
            scheme: Scheme::SenderKeys,
            suite: None,
            name: name.to_owned(),
            description: String::new(),
            members_may_add: false,
            is_channel: false,
            max_members: 100,
            ttl_s: 86_400,
        };
        let group = alice.create_group(new).await.expect("a group");
        alice.add(group, &bob.me().account, Role::Member).await.expect("added");
        let bridge = alice.http().server().await.expect("answers").bridge.expect("has a bridge");
        alice.add_bridge(group, &bridge).await.expect("let in");
        bob.sync().await.expect("level");
        let ask = BridgeRequest { room: None, invite: Some(vec![user.to_owned()]) };
        say(&alice, group, vec![Content::BridgeRequest(ask)]).await;
        Self { room: String::new(), group, people: [alice, bob], arrived: watch::channel(0).0 }
    }

    /// Both people say `count` things in all.
    pub(crate) async fn talk(&self, count: usize) {
        let halves = [count.div_ceil(2), count / 2];
        for (person, count) in self.people.iter().zip(halves) {
            let texts: Vec<_> = (0..count).map(text).collect();
            for texts in texts.chunks(AT_ONCE) {
                say(person, self.group, texts.to_vec()).await;
            }
        }
    }

    /// Counts what comes from the bridge, as long as this process lives.
    pub(crate) fn count_arrivals(&self) {
        let (client, arrived) = (self.people[0].clone(), self.arrived.clone());
        start(count(client, arrived));
    }

    /// Messages of the bridge so far.
    pub(crate) fn arrived(&self) -> u64 {
        *self.arrived.borrow()
    }

    /// Waits until there are `total`.
    pub(crate) async fn until_arrived(&self, total: u64) {
        let mut arrived = self.arrived.subscribe();
        arrived.wait_for(|arrived| *arrived >= total).await.expect("open");
    }
}

impl Door {
    async fn register(&self, name: &str) -> Client {
        let path = self.folder.join(format!("{name}.db"));
        let options = Options { path, lock: Lock::Shared, schemas: &[SCHEMA] };
        let db = Db::open(options).await.expect("opens");
        let vault = Vault::open(&db, &self.folder.join("people.key")).await.expect("opens");
        let (url, token) = (Some(self.url.as_str()), Some(self.token.clone()));
        Client::register(db, vault, url, name, token, Arc::new(Nobody), clock::now)
            .await
            .expect("registered")
            .client
    }
}

fn text(number: usize) -> Content {
    let body = format!("{number} {}", "x".repeat(200));
    Content::Text(Text { kind: TextKind::Text, body, html: None, reply_to: None, mirror: None })
}

/// Seals, keeps and posts, as a client does; what is refused for its epoch is sealed anew.
async fn say(client: &Client, group: GroupId, contents: Vec<Content>) {
    let items: Vec<_> = contents
        .into_iter()
        .map(|content| Outgoing { client_id: random_id(), ttl_s: 0, content })
        .collect();
    let (mut rest, mut at_once) = (items.as_slice(), items.len());
    while !rest.is_empty() {
        client.prepare(group).await.expect("prepared");
        let mut tx = client.db().begin().await.expect("a turn");
        let (now, next) = (client.now(), &rest[..at_once.min(rest.len())]);
        let batch = match client.machine().seal(&mut tx, now, group, next).await {
            Ok(batch) => batch,
            // Many may need a new chain where one does not: what was prepared is for one.
            Err(SealError::Unprepared(_)) => {
                at_once = 1;
                continue;
            }
            Err(error) => panic!("not sealed: {error}"),
        };
        tx.commit().await.expect("committed");
        match client.post(&batch).await {
            Ok(_) => (rest, at_once) = (&rest[next.len()..], items.len()),
            Err(SdkError::Call(CallError::Stale { ops, .. })) => {
                let mut tx = client.db().begin().await.expect("a turn");
                client.install(&mut tx, group, &ops).await.expect("installed");
                tx.commit().await.expect("committed");
            }
            Err(error) => panic!("not posted: {error}"),
        }
    }
}

fn random_id() -> ClientId {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("randomness");
    ClientId::new(bytes)
}

async fn count(client: Client, arrived: watch::Sender<u64>) {
    let mut stream = client.stream();
    let mut seen = HashSet::new();
    let bridge: Option<AccountId> =
        client.http().server().await.expect("answers").bridge.map(|bridge| bridge.account);
    loop {
        let Ok(rows) = stream.next_rows().await else { continue };
        let Some(last) = rows.last().map(|row| row.seq) else { continue };
        let messages = rows.iter().filter(|row| {
            let sender = row.envelope.sender.as_ref().map(|sender| &sender.account);
            row.envelope.kind == Kind::Message && sender == bridge.as_ref()
        });
        let new = messages.filter(|row| seen.insert(row.envelope.id)).count();
        stream.ack(Some(last)).await;
        arrived.send_modify(|arrived| *arrived += new as u64);
    }
}
