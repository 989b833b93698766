//! One whose keys do not come stops nobody but himself: what of him cannot be held stands apart at a
//! real server, and is shown in order when the keys come.

use causeway_groups::machine::Batch;
use causeway_protocol::{
    api::PostEnvelopes,
    envelope::{Kind, Submission},
    ids::GroupId,
    roster::{Role, Scheme},
};
use tempfile::TempDir;

use crate::{
    cli_server::{Server, now},
    sdk_device::{Device, PATIENCE, new_group, outgoing},
};

/// More than are held of one sender.
const MANY: u32 = 400;

impl Device {
    async fn group_with(&self, other: &Self, name: &str) -> GroupId {
        let new = new_group(Scheme::SenderKeys, name, 10);
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
