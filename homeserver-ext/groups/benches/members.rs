//! A group of many members through a server in a process of its own: made, spoken in, one put out, one
//! let in late. The first 50 are clients with their databases and streams; the others are registered,
//! are given whatever is given, and are away.
//!
//! `cargo bench -p causeway-groups --bench members [-- sender-keys|shared-key|pairwise MEMBERS]`: of 50
//! each where nothing is said. A group that shows a text to whom it must not, or not to whom it must,
//! ends this with an error.
#![cfg(test)]

#[path = "crowd/away.rs"]
mod away;
#[path = "crowd/served.rs"]
mod served;
#[path = "crowd/signer.rs"]
mod signer;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use causeway_groups::{
    SCHEMA, Vault,
    machine::{AddedBy, Batch, NewGroup, Outgoing, Received, What},
    sdk::{Client, Keep, KeepError, Stream},
};
use causeway_protocol::{
    api::StreamRow,
    content::{Content, Text, TextKind},
    envelope::{Envelope, Kind, Recipient, Submission},
    ids::{AccountId, ClientId, GroupId, Seq, Timestamp},
    posting::Posting,
    roster::{Role, Scheme},
};
use causeway_store::{Db, Lock, Options, Tx};
use futures_util::{
    StreamExt as _,
    future::{BoxFuture, join_all},
    stream,
};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

use crate::{
    away::Away,
    served::{FOLDER, Served, serve},
    signer::entry,
};

const SERVER: &str = "a.example";
const NOW: Timestamp = Timestamp(1_800_000_000_000);
/// Entries of one `add`.
const BATCH: usize = 250;
/// Members that are there.
const THERE: usize = 49;
/// Clients that do something at once.
const AT_A_TIME: usize = 8;

#[tokio::main]
async fn main() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return serve(SERVER, || NOW, Path::new(&folder)).await;
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let asked = words.iter().find_map(|word| word.parse().ok()).unwrap_or(50);
    for (name, scheme) in [
        ("sender-keys", Scheme::SenderKeys),
        ("shared-key", Scheme::SharedKey),
        ("pairwise", Scheme::Pairwise),
    ] {
        if words.iter().all(|word| word.parse::<usize>().is_ok()) || words.iter().any(|w| w == name)
        {
            println!("{name}, {asked} members");
            story(scheme, asked).await;
        }
    }
}

fn clock(id: ClockId) -> Duration {
    Duration::try_from(clock_gettime(id)).expect("not negative")
}

/// From now on, in ms.
struct Lap(Duration);

impl Lap {
    fn start() -> Self {
        Self(clock(ClockId::Monotonic))
    }

    fn ms(&self) -> f64 {
        clock(ClockId::Monotonic).saturating_sub(self.0).as_secs_f64() * 1e3
    }

    fn end(&self, what: &str) {
        println!("  {what:<58}{:>11.1} ms", self.ms());
    }
}

async fn story(scheme: Scheme, members: usize) {
    let folder = TempDir::new().expect("a folder");
    let served = Served::start(folder.path());
    let lap = Lap::start();
    let mut crowd = crowd(&served, folder.path(), (members - 1).min(THERE)).await;
    let away = (1..).take(members - 1 - crowd.len());
    let away = Away::register((&served.base, SERVER), away, NOW).await;
    lap.end("registered");
    let lap = Lap::start();
    let group = found(&served, &crowd, &away, scheme).await;
    lap.end("made, all added, 250 in an op");
    let mut messages = Messages { group, said: 0, last: Vec::new(), posted: Vec::new() };
    let lap = Lap::start();
    join_all(crowd.iter_mut().skip(1).map(|one| one.catch_up(group))).await;
    lap.end("those who are there know the group, and all who are in it");

    let (alice, others) = crowd.split_first_mut().expect("one");
    messages.heard_by(alice, others.iter_mut(), "the first message, all sessions new").await;
    let mut settled = Vec::new();
    for _ in 0..20 {
        settled.push(messages.say(alice, others.iter_mut()).await);
    }
    say_median("a message of 1 KiB, from its sealing until all have it", settled);
    each_way(alice, &mut others[0], &mut messages).await;
    messages.say_size(alice).await;
    for other in &mut others[1..] {
        other.hear(messages.said).await;
    }
    let out = others.len() / 2;
    let name = others[out].client.me().account.clone();
    let lap = Lap::start();
    alice.client.remove(group, &name).await.expect("removes");
    lap.end("one is put out (shared key: and all are given the next)");
    let stay = others.iter_mut().enumerate().filter(|(at, _)| *at != out).map(|(_, one)| one);
    messages.heard_by(alice, stay, "the first message after it").await;
    let after = messages.last.clone();
    others[out].is_handed_in_vain(&after).await;

    let mut late = Person::register(&served, folder.path(), "late").await;
    let lap = Lap::start();
    alice.client.add(group, &late.client.me().account, Role::Member).await.expect("adds");
    lap.end("one is let in (shared key: and all are given the next)");
    late.catch_up(group).await;
    late.is_handed_in_vain(&after).await;
    let stay = others.iter_mut().enumerate().filter(|(at, _)| *at != out).map(|(_, one)| one);
    let lap = Lap::start();
    messages.say(alice, stay).await;
    late.hear(1).await;
    lap.end("a message that the late one reads too");
    late.is_handed_in_vain(&after).await;
    if members <= THERE + 1 {
        others.swap(out, 0);
        all_speak(&mut others[1..], &mut messages).await;
        // Who speaks has read it, so that no session of hers is one that nobody has answered in.
        alice.hear(others.len() - 1).await;
        let _ = messages.prepared(alice).await;
        messages.say_size(alice).await;
    }
    ops(alice, group, &late.client.me().account).await;
    let failed: usize = crowd.iter().map(|one| one.shown.failed.load(Ordering::SeqCst)).sum();
    assert_eq!(failed, 0, "all that came was read");
}

/// Sealing with its commit, and reading with its, message by message.
async fn each_way(alice: &mut Person, bob: &mut Person, messages: &mut Messages) {
    let (mut sealing, mut reading) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        let lap = Lap::start();
        let batch = messages.seal(alice).await;
        sealing.push(lap.ms());
        alice.client.post(&batch).await.expect("is taken");
        let rows = bob.rows().await;
        let lap = Lap::start();
        let taken = bob.client.receive(&rows).await.expect("receives");
        reading.push(lap.ms());
        bob.stream.took(&taken).await;
    }
    bob.hear(messages.said).await;
    for (what, mut laps) in [("sealed and stored", sealing), ("opened and stored", reading)] {
        laps.sort_by(f64::total_cmp);
        let (median, p95) = (laps[laps.len() / 2], laps[laps.len() * 95 / 100]);
        println!("  {what:<58}{median:>11.1} ms, p95 {p95:.1} ms");
    }
}

/// After a removal each has keys to give before it can say its first word.
async fn all_speak(crowd: &mut [Person], messages: &mut Messages) {
    for one in &mut *crowd {
        one.client.sync_group(messages.group).await.expect("syncs");
    }
    let goals: Vec<_> = crowd.iter().map(|one| one.shown.texts() + crowd.len() - 1).collect();
    let lap = Lap::start();
    for one in &mut *crowd {
        let batch = messages.prepared(one).await;
        one.client.post(&batch).await.expect("is taken");
    }
    join_all(crowd.iter_mut().zip(goals).map(|(one, goal)| one.hear(goal))).await;
    lap.end("then each says its first word, and all read all of them");
}

/// What an op takes of the whole way: signed, judged by the server and by who signed it, stored by both.
async fn ops(alice: &Person, group: GroupId, whom: &AccountId) {
    let mut laps = Vec::new();
    for round in 0..10 {
        let role = if round % 2 == 0 { Role::Admin } else { Role::Member };
        let lap = Lap::start();
        alice.client.set_role(group, whom, role).await.expect("changes");
        laps.push(lap.ms());
    }
    say_median("an op: signed, judged and stored by the server and here", laps);
}

fn say_median(what: &str, mut laps: Vec<f64>) {
    laps.sort_by(f64::total_cmp);
    println!("  {what:<58}{:>11.1} ms, median of {}", laps[laps.len() / 2], laps.len());
}

struct Messages {
    group: GroupId,
    said: usize,
    /// What all were sent of the last one.
    last: Vec<Envelope>,
    posted: Vec<Submission>,
}

impl Messages {
    async fn seal(&mut self, alice: &Person) -> Batch {
        self.said += 1;
        let content = Content::Text(Text {
            kind: TextKind::Text,
            body: "x".repeat(1_024),
            html: None,
            reply_to: None,
            mirror: None,
        });
        let name = u128::try_from(self.said).expect("few");
        let item = Outgoing { client_id: ClientId::new(name.to_be_bytes()), ttl_s: 0, content };
        let mut tx = alice.client.db().begin().await.expect("begins");
        let sealed = alice.client.machine().seal(&mut tx, NOW, self.group, &[item]).await;
        tx.commit().await.expect("commits");
        let batch = sealed.expect("seals");
        self.posted.clone_from(&batch.submissions);
        self.last = batch.submissions.iter().flat_map(Submission::rows).collect();
        batch
    }

    /// How large the last was as it was posted, where it went in bytes.
    async fn say_size(&self, alice: &Person) {
        let roster = alice.client.roster(self.group).await.expect("a group");
        if let Some(posting) = Posting::of(&self.posted, 1, &roster) {
            let bytes = posting.to_bytes().expect("fits").len();
            println!("  {:<58}{bytes:>11} B", "the last as it is posted");
        }
    }

    async fn prepared(&mut self, alice: &Person) -> Batch {
        // First who they are, then their keys.
        alice.client.prepare(self.group).await.expect("prepares");
        alice.client.prepare(self.group).await.expect("prepares");
        self.seal(alice).await
    }

    /// Until all have shown it, in ms.
    async fn say<'a>(
        &mut self,
        alice: &Person,
        others: impl Iterator<Item = &'a mut Person>,
    ) -> f64 {
        let others: Vec<_> = others.map(|one| (one.shown.texts() + 1, one)).collect();
        let lap = Lap::start();
        let batch = self.prepared(alice).await;
        alice.client.post(&batch).await.expect("is taken");
        // Where more are to be given a key than go with a message.
        let keys = async { while alice.client.chores().await.expect("chores") {} };
        let heard = join_all(others.into_iter().map(|(goal, one)| one.hear(goal)));
        futures_util::join!(keys, heard);
        lap.ms()
    }

    async fn heard_by<'a>(
        &mut self,
        alice: &Person,
        others: impl Iterator<Item = &'a mut Person>,
        what: &str,
    ) {
        let ms = self.say(alice, others).await;
        println!("  {what:<58}{ms:>11.1} ms");
    }
}

/// What was shown, counted.
#[derive(Default)]
struct Shown {
    texts: AtomicUsize,
    failed: AtomicUsize,
}

impl Shown {
    fn texts(&self) -> usize {
        self.texts.load(Ordering::SeqCst)
    }
}

struct Counts(Arc<Shown>);

impl Keep for Counts {
    fn keep<'a>(
        &'a self,
        _: &'a Client,
        _: &'a mut Tx,
        received: Vec<Received>,
    ) -> BoxFuture<'a, Result<(), KeepError>> {
        for one in received {
            match one.what {
                What::Message(_) => self.0.texts.fetch_add(1, Ordering::SeqCst),
                What::Failed { .. } => self.0.failed.fetch_add(1, Ordering::SeqCst),
                _ => 0,
            };
        }
        Box::pin(async { Ok(()) })
    }
}

struct Person {
    client: Client,
    stream: Stream,
    shown: Arc<Shown>,
}

impl Person {
    async fn register(served: &Served, folder: &Path, name: &str) -> Self {
        let path = folder.join(format!("{name}.db"));
        let options = Options { path, lock: Lock::Shared, schemas: &[SCHEMA] };
        let db = Db::open(options).await.expect("opens");
        let vault = Vault::open(&db, &folder.join(format!("{name}.key"))).await.expect("a vault");
        let shown = Arc::new(Shown::default());
        let counts = Arc::new(Counts(Arc::clone(&shown)));
        let registered =
            Client::register(db, vault, Some(&served.base), name, None, counts, || NOW).await;
        let client = registered.expect("registers").client.added_by_these(AddedBy::All);
        let stream = client.stream();
        Self { client, stream, shown }
    }

    /// What comes next, whatever becomes of the connection.
    async fn rows(&mut self) -> Vec<StreamRow> {
        loop {
            match self.stream.next_rows().await {
                Err(error) if error.is_transient() => {}
                rows => return rows.expect("rows"),
            }
        }
    }

    async fn hear(&mut self, goal: usize) {
        while self.shown.texts() < goal {
            let rows = self.rows().await;
            let taken = self.client.receive(&rows).await.expect("receives");
            self.stream.took(&taken).await;
            if self.shown.texts() < goal {
                self.client.chores().await.expect("chores");
            }
        }
    }

    /// Until the group is known as it is at the server.
    async fn catch_up(&mut self, group: GroupId) {
        self.client.sync_group(group).await.expect("syncs");
        while self.client.chores().await.expect("chores") {}
    }

    /// Whatever of a message somebody gives it of what goes to all, or to it, shows nothing.
    async fn is_handed_in_vain(&mut self, envelopes: &[Envelope]) {
        let (me, before) = (self.client.me().record.device_id, self.shown.texts());
        let to_all = envelopes.iter().filter(|envelope| envelope.kind == Kind::Message);
        let rows = (1 << 40..).map(Seq).zip(to_all.cloned());
        let rows: Vec<_> = rows.map(|(seq, envelope)| StreamRow { seq, envelope }).collect();
        self.client.receive(&rows).await.expect("receives");
        assert!(envelopes.iter().all(|envelope| envelope.to != Recipient::Device(me)));
        assert_eq!(self.shown.texts(), before, "it is not for this device");
    }
}

/// The first is who speaks.
async fn crowd(served: &Served, folder: &Path, count: usize) -> Vec<Person> {
    let names = (0..count).map(|n| format!("m{n}"));
    let people =
        stream::iter(names).map(async |name| Person::register(served, folder, &name).await);
    people.buffered(AT_A_TIME).collect().await
}

/// A group of the crowd, and of one who only adds: so many in an op.
async fn found(served: &Served, crowd: &[Person], away: &[Away], scheme: Scheme) -> GroupId {
    let (alice, others) = crowd.split_first().expect("one");
    let (last, others) = others.split_last().expect("another");
    let new = NewGroup {
        scheme,
        suite: None,
        name: "Garden".to_owned(),
        description: String::new(),
        members_may_add: false,
        is_channel: false,
        max_members: if scheme == Scheme::Pairwise { 500 } else { 1_000 },
        ttl_s: 86_400,
    };
    let group = alice.client.create_group(new).await.expect("creates");
    let founder = Away::register((&served.base, SERVER), std::iter::once(0), NOW).await.remove(0);
    alice.client.add(group, &founder.account, Role::Admin).await.expect("adds");
    let there = others.iter().map(|one| one.client.me());
    let there = there.map(|me| entry(me.record.device(), me.account.as_str().to_owned()));
    let entries: Vec<_> = there.chain(away.iter().map(Away::entry)).collect();
    for entries in entries.chunks(BATCH) {
        founder.add(group, entries.to_vec(), NOW).await;
    }
    alice.client.sync_group(group).await.expect("syncs");
    // Whoever signs the last op makes a shared key.
    alice.client.add(group, &last.client.me().account, Role::Member).await.expect("adds");
    group
}
