//! What a client tells the server of its chains, and how it is asked to begin new ones.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use causeway_groups::{
    SCHEMA, Vault,
    machine::{NewGroup, Outgoing, Received},
    sdk::{Client, Keep, KeepError},
};
use causeway_protocol::{
    content::{Content, Text, TextKind},
    ids::{ClientId, GroupId, Timestamp},
    roster::Scheme,
};
use causeway_store::{Db, Lock, Options, Tx};
use futures_util::future::BoxFuture;

use crate::cli_server::Server;

/// Milliseconds by which this test's clock is ahead.
static AHEAD: AtomicU64 = AtomicU64::new(0);
const TWO_HOURS: u64 = 2 * 60 * 60 * 1_000;

#[expect(clippy::disallowed_methods, reason = "the clock of this test")]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let ms = u64::try_from(since.as_millis()).unwrap();
    Timestamp(ms + AHEAD.load(Ordering::SeqCst))
}

struct Nobody;

impl Keep for Nobody {
    fn keep<'a>(
        &'a self,
        _: &'a Client,
        _: &'a mut Tx,
        _: Vec<Received>,
    ) -> BoxFuture<'a, Result<(), KeepError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

async fn say(client: &Client, group: GroupId, n: u8) {
    let text = Text {
        kind: TextKind::Text,
        body: n.to_string(),
        html: None,
        reply_to: None,
        mirror: None,
    };
    let item =
        Outgoing { client_id: ClientId::new([n; 16]), ttl_s: 0, content: Content::Text(text) };
    client.prepare(group).await.unwrap();
    let mut tx = client.db().begin().await.unwrap();
    let batch = client.machine().seal(&mut tx, now(), group, &[item]).await.unwrap();
    tx.commit().await.unwrap();
    client.post(&batch).await.unwrap();
}

/// Tag and next index of the client's own chain, as the server was last told.
async fn reported(client: &Client, group: GroupId) -> Vec<(Vec<u8>, Option<u32>)> {
    let me = client.me().record.device_id;
    let inventory = client.http().sender_keys(group, None).await.unwrap();
    let keys = inventory.reports.into_iter().flat_map(|entry| entry.report.keys);
    keys.filter(|key| key.sender == me).map(|key| (key.tag, key.next_index)).collect()
}

#[tokio::test]
async fn chains_are_reported_hourly_and_begun_anew_when_asked() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.db");
    let db = Db::open(Options { path, lock: Lock::Shared, schemas: &[SCHEMA] }).await.unwrap();
    let vault = Vault::open(&db, &folder.path().join("storage.key")).await.unwrap();
    let url = server.url();
    let made =
        Client::register(db, vault, Some(&url), "ann", None, Arc::new(Nobody), now).await.unwrap();
    let client = made.client;
    let new = NewGroup {
        scheme: Scheme::SenderKeys,
        suite: None,
        name: "Keys".to_owned(),
        description: String::new(),
        members_may_add: false,
        is_channel: false,
        max_members: 10,
        ttl_s: 2_592_000,
    };
    let group = client.create_group(new).await.unwrap();

    say(&client, group, 1).await;
    AHEAD.fetch_add(TWO_HOURS, Ordering::SeqCst);
    client.chores().await.unwrap();
    let first = reported(&client, group).await;
    assert!(matches!(&first[..], [(tag, Some(1..))] if tag.len() == 4), "{first:?}");

    say(&client, group, 2).await;
    AHEAD.fetch_add(TWO_HOURS, Ordering::SeqCst);
    client.chores().await.unwrap();
    let second = reported(&client, group).await;
    assert_eq!(second[0].0, first[0].0, "a new chain that nobody asked for");
    assert!(second[0].1 > first[0].1);

    client.http().ask_rotation(group).await.unwrap();
    AHEAD.fetch_add(TWO_HOURS, Ordering::SeqCst);
    client.chores().await.unwrap();
    say(&client, group, 3).await;
    AHEAD.fetch_add(TWO_HOURS, Ordering::SeqCst);
    client.chores().await.unwrap();
    let third = reported(&client, group).await;
    assert_ne!(third[0].0, first[0].0, "asked, and the chain is the old one");

    let again = client.http().ask_rotation(group).await.unwrap_err();
    assert!(again.is_refusal("M_LIMIT_EXCEEDED") || again.is_transient(), "{again}");
}

fn in_a_fortnight() -> Timestamp {
    now().plus_ms(14 * 12 * TWO_HOURS)
}

/// What the server has of the keys of before was spent since, or nothing opens it any more.
#[tokio::test]
async fn a_server_that_was_put_back_to_before_a_fallback_key_gets_new_keys_once() {
    let mut server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.db");
    let db = Db::open(Options { path, lock: Lock::Shared, schemas: &[SCHEMA] }).await.unwrap();
    let vault = Vault::open(&db, &folder.path().join("storage.key")).await.unwrap();
    let (url, of) = (server.url(), || (db.clone(), vault.clone(), Arc::new(Nobody)));
    let (mine, sealed, keeper) = of();
    Client::register(mine, sealed, Some(&url), "ann", None, keeper, now).await.unwrap();
    // As another process.
    let opened = async || {
        let (mine, sealed, keeper) = of();
        Client::open(mine, sealed, None, keeper, in_a_fortnight).await.unwrap()
    };
    let at_server = async |client: &Client| {
        let keys = client.http().device().await.unwrap().keys.unwrap();
        keys.fallback_key.unwrap()
    };
    server.stop();
    let copy = server.backup();
    server.start_again();
    let client = opened().await;
    let first = at_server(&client).await;
    client.chores().await.unwrap();
    let second = at_server(&client).await;
    assert_ne!(first, second, "it is a fortnight old");

    server.stop();
    server.restore(&copy);
    server.start_again();
    let client = opened().await;
    assert_eq!(at_server(&client).await, first);
    client.compare().await.unwrap();
    let third = at_server(&client).await;
    assert!(third != first && third != second);
    opened().await.compare().await.unwrap();
    assert_eq!(at_server(&client).await, third, "nothing was put back since");
}

/// Found by an attack: after two restores what was said could not be opened, since a key was given again.
#[tokio::test]
async fn a_server_that_was_put_back_gives_no_key_that_may_be_spent() {
    let mut server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("client.db");
    let db = Db::open(Options { path, lock: Lock::Shared, schemas: &[SCHEMA] }).await.unwrap();
    let vault = Vault::open(&db, &folder.path().join("storage.key")).await.unwrap();
    let (url, of) = (server.url(), || (db.clone(), vault.clone(), Arc::new(Nobody)));
    let (mine, sealed, keeper) = of();
    Client::register(mine, sealed, Some(&url), "ann", None, keeper, now).await.unwrap();
    // As another process.
    let claimed = async || {
        let (mine, sealed, keeper) = of();
        let client = Client::open(mine, sealed, None, keeper, now).await.unwrap();
        let device = client.me().record.device_id;
        let keys = client.http().claim_keys(vec![device]).await.unwrap().keys;
        let key = keys.get(&device).unwrap();
        (key.curve25519, key.fallback)
    };
    server.stop();
    let copy = server.backup();
    server.start_again();
    let (spent, is_fallback) = claimed().await;
    assert!(!is_fallback);
    server.stop();
    server.restore(&copy);
    server.put_back = true;
    server.start_again();
    let (given, is_fallback) = claimed().await;
    assert!(given != spent && is_fallback);
}
