//! What the model's steps do to five machines.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use causeway_groups::machine::{Batch, NewGroup};
use causeway_protocol::{
    api::StreamRow,
    envelope::{Kind, Submission},
    fanout,
    ids::{EnvelopeId, GroupId},
    roster::{Role, Scheme},
    sender_key, shared_key,
};
use proptest::sample::Index;
use tokio::runtime::Runtime;

use super::{Order, PEOPLE, SECOND_ADMIN, Step};
use crate::{
    machine::crash::{back_up, put_back},
    world::{World, text},
};

/// A text, and who is to read it: those in whose mailboxes the server put it.
struct Said {
    author: usize,
    body: String,
    rows: BTreeSet<EnvelopeId>,
    readers: BTreeSet<usize>,
    /// Whose piece came with another text first: Olm opens it once, so it is as if the server had kept
    /// the message back, and healed only while the author is there.
    spoilt: BTreeSet<usize>,
    /// Somebody was taken out since: a shared key is erased then (protocol §5.2).
    is_cut: bool,
}

impl Said {
    fn by(author: usize, body: String) -> Self {
        let (rows, readers, spoilt) = Default::default();
        Self { author, body, rows, readers, spoilt, is_cut: false }
    }
}

/// A device's folder, and how far it was then.
struct Copy {
    files: BTreeMap<String, Vec<u8>>,
    acked: u64,
    /// How much had been shown.
    shown: usize,
    parked: Vec<StreamRow>,
}

pub(super) struct Played {
    scheme: Scheme,
    runtime: Runtime,
    world: World,
    group: GroupId,
    said: Vec<Said>,
    /// What each index or key was used for.
    used: BTreeMap<Vec<u8>, Vec<u8>>,
    copies: BTreeMap<usize, Copy>,
    /// Who has lost sessions and chains that others went on with.
    were_put_back: BTreeSet<usize>,
}

/// What was used up for a message, and what came of it; nothing for another envelope.
fn used(submission: &Submission) -> Option<(Vec<u8>, Vec<u8>)> {
    let payload = &submission.payload;
    let of = match submission.kind {
        Kind::Message => {
            if let Ok(message) = shared_key::Message::parse(payload) {
                let header = message.header;
                let counter = header.counter.to_be_bytes();
                [&header.tag[..], &counter, submission.sender.device.as_bytes()].concat()
            } else {
                let header = sender_key::Message::parse(payload).expect("a message").header;
                [&header.tag[..], &header.index.to_be_bytes()].concat()
            }
        }
        Kind::Fanout => {
            // Shards differ by their numbers alone.
            let message = fanout::Message::parse(payload).expect("a fan-out");
            return Some((message.header.kc.to_vec(), message.sealed.to_vec()));
        }
        _ => return None,
    };
    Some((of, payload.clone()))
}

fn is_message(kind: Kind) -> bool {
    matches!(kind, Kind::Message | Kind::Fanout)
}

impl Played {
    pub(super) fn begin(scheme: Scheme, members: &BTreeSet<usize>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (world, group) = runtime.block_on(async {
            let mut world = World::with(&["alice", "bob", "carol", "dan", "eve"]).await;
            assert_eq!(world.devices.len(), PEOPLE);
            let new = NewGroup {
                scheme,
                suite: None,
                name: "Garden".to_owned(),
                description: String::new(),
                members_may_add: false,
                is_channel: false,
                max_members: 100,
                ttl_s: 30 * 86_400,
            };
            let group = world.create_group_as(0, new).await;
            for whom in members.iter().copied().filter(|whom| *whom != 0) {
                world.add(0, group, whom, Role::Member).await;
            }
            world.promote(0, group, SECOND_ADMIN).await;
            world.sync_all().await;
            (world, group)
        });
        Self {
            scheme,
            runtime,
            world,
            group,
            said: Vec::new(),
            used: BTreeMap::new(),
            copies: BTreeMap::new(),
            were_put_back: BTreeSet::new(),
        }
    }

    pub(super) fn step(&mut self, step: &Step) {
        // Taken out, so that the rest of `self` can be lent to what it runs.
        let runtime = mem::replace(&mut self.runtime, idle());
        runtime.block_on(async {
            match *step {
                Step::Say(who) => self.say(who).await,
                Step::SayInVain(who) => self.say_in_vain(who).await,
                Step::Take(who, count, order) => self.take(who, count, order).await,
                Step::Sync(who) => self.world.sync(who).await,
                Step::Corrupt(row, at, by) => self.corrupt(row, at, by),
                Step::Leak(message, whom) => self.leak(message, whom),
                Step::Rotate(who) => self.rotate(who).await,
                Step::Add(by, whom) => {
                    self.world.sync(by).await;
                    self.world.add(by, self.group, whom, Role::Member).await;
                }
                Step::Remove(by, whom) => {
                    self.world.sync(by).await;
                    self.world.remove(by, self.group, whom).await;
                    self.said.iter_mut().for_each(|said| said.is_cut = true);
                }
                Step::DieIn(changes) => self.world.dies_in = Some(changes),
                Step::Restart(who) => self.world.devices[who].restart().await,
                Step::Copy(who) => self.copy(who).await,
                Step::PutBack(who) => self.put_back(who).await,
                Step::Wait(ms) => self.world.now += ms,
            }
        });
        self.runtime = runtime;
    }

    async fn say(&mut self, who: usize) {
        let body = format!("text {}", self.said.len());
        let item = self.world.outgoing(text(&body));
        let mut said = Said::by(who, body);
        let mut is_said = false;
        for tries in 0..8 {
            let items = std::slice::from_ref(&item);
            let Ok(batch) = self.world.seal(who, self.group, items).await else {
                // It may not have heard yet that it is in the group, or the key may not have come
                // that somebody else makes.
                if tries == 0 {
                    self.world.sync(who).await;
                } else {
                    self.world.sync_all().await;
                }
                continue;
            };
            self.use_up(&batch);
            match self.world.post(who, &batch).await {
                Ok(()) => {
                    let messages = batch.submissions.iter().filter(|s| is_message(s.kind));
                    said.rows = messages.flat_map(Submission::rows).map(|row| row.id).collect();
                    said.readers = (0..PEOPLE).filter(|reader| self.has(*reader, &said)).collect();
                    is_said = true;
                    break;
                }
                Err(ops) => self.world.install(who, self.group, &ops).await,
            }
        }
        assert!(is_said, "a member cannot say anything");
        self.said.push(said);
    }

    async fn say_in_vain(&mut self, who: usize) {
        let body = format!("text {}", self.said.len());
        let item = self.world.outgoing(text(&body));
        if let Ok(batch) = self.world.seal(who, self.group, std::slice::from_ref(&item)).await {
            self.use_up(&batch);
            self.world.devices[who].restart().await;
        }
        self.said.push(Said::by(who, body));
    }

    fn use_up(&mut self, batch: &Batch) {
        for (key, sealed) in batch.submissions.iter().filter_map(used) {
            let before = self.used.insert(key, sealed.clone());
            assert!(before.is_none_or(|before| before == sealed), "two texts under one key");
        }
    }

    fn has(&self, reader: usize, said: &Said) -> bool {
        let device = self.world.devices[reader].id();
        let mailbox = self.world.mailboxes.get(&device);
        mailbox.is_some_and(|rows| rows.iter().any(|row| said.rows.contains(&row.envelope.id)))
    }

    async fn take(&mut self, who: usize, count: usize, order: Order) {
        let mut rows = self.world.waiting(who);
        rows.truncate(count);
        match order {
            Order::AsTheyStand => self.world.receive(who, &rows).await,
            Order::Backwards => {
                rows.reverse();
                self.world.receive(who, &rows).await;
            }
            Order::Twice => {
                self.world.receive(who, &rows).await;
                self.world.receive(who, &rows).await;
            }
            Order::InVain => {
                let now = self.world.time();
                let device = &mut self.world.devices[who];
                let mut tx = device.db.begin().await.expect("begun");
                device.machine.receive(&mut tx, now, &rows).await.expect("received");
                drop(tx);
                device.restart().await;
            }
        }
    }

    fn corrupt(&mut self, row: Index, at: Index, by: u8) {
        let sealed = |kind: Kind| {
            is_message(kind) || matches!(kind, Kind::KeyDistribution | Kind::KeyAck | Kind::Direct)
        };
        let boxes = self.world.mailboxes.iter();
        let rows = boxes.flat_map(|(device, rows)| rows.iter().map(|row| (*device, row)));
        let rows: Vec<_> = rows.filter(|(_, row)| sealed(row.envelope.kind)).collect();
        if rows.is_empty() {
            return;
        }
        let (device, row) = rows[row.index(rows.len())];
        let mut envelope = row.envelope.clone();
        if envelope.kind == Kind::Fanout {
            let whom = self.world.devices.iter().position(|known| known.id() == device);
            let his = self.said.iter_mut().filter(|said| said.rows.contains(&envelope.id));
            his.for_each(|said| said.spoilt.extend(whom));
        }
        let at = at.index(envelope.payload.len());
        envelope.payload[at] ^= by;
        envelope.id = envelope.compute_id();
        self.world.put(device, envelope);
    }

    fn leak(&mut self, message: Index, whom: usize) {
        let device = self.world.devices[whom].id();
        let boxes = self.world.mailboxes.values().flatten();
        let messages: Vec<_> = boxes.filter(|row| is_message(row.envelope.kind)).collect();
        if messages.is_empty() {
            return;
        }
        let envelope = messages[message.index(messages.len())].envelope.clone();
        self.world.put(device, envelope);
    }

    async fn rotate(&mut self, who: usize) {
        let device = &self.world.devices[who];
        let mut tx = device.db.begin().await.expect("begun");
        // It may not know the group yet.
        if device.machine.rotate(&mut tx, self.group).await.is_ok() {
            tx.commit().await.expect("committed");
        }
    }

    async fn copy(&mut self, who: usize) {
        let files = back_up(&mut self.world, who).await;
        let device = &self.world.devices[who];
        let (shown, parked) = (device.received.len(), device.parked.clone());
        self.copies.insert(who, Copy { files, acked: device.acked, shown, parked });
    }

    async fn put_back(&mut self, who: usize) {
        let copy = &self.copies[&who];
        put_back(&mut self.world, who, &copy.files).await;
        self.were_put_back.insert(who);
        if self.scheme == Scheme::SharedKey {
            // Nobody may have the key any more, who was in before and after.
            for said in self.said.iter_mut().filter(|said| said.is_cut) {
                said.spoilt.insert(who);
            }
        }
        let device = &mut self.world.devices[who];
        device.acked = copy.acked;
        device.received.truncate(copy.shown);
        device.parked.clone_from(&copy.parked);
    }

    /// Nobody reads twice, or what is not for them.
    pub(super) fn check(&self) {
        let said: BTreeMap<_, _> = self.said.iter().map(|said| (&said.body, said)).collect();
        for who in 0..PEOPLE {
            let mut shown = BTreeSet::new();
            for body in self.world.devices[who].texts() {
                assert!(said[&body].readers.contains(&who), "{who} reads {body:?}");
                assert!(shown.insert(body.clone()), "{who} reads {body:?} twice");
            }
        }
    }

    /// Whether one of them is without what the other sealed with, or for.
    fn have_lost(&self, reader: usize, author: usize) -> bool {
        [reader, author].iter().any(|who| self.were_put_back.contains(who))
    }

    /// Whether what was lost can be given again: both are in the group.
    fn can_ask(&self, reader: usize, author: usize) -> bool {
        let head = self.world.head(self.group);
        let is_in = |who: &usize| {
            let account = self.world.devices[*who].account();
            head.members().values().any(|member| member.account == account)
        };
        [reader, author].iter().all(is_in)
    }

    /// Everything comes to rest, and nothing is missing.
    pub(super) fn end(mut self) {
        let runtime = mem::replace(&mut self.runtime, idle());
        runtime.block_on(async {
            self.world.dies_in = None;
            for _ in 0..8 {
                self.world.now += 1_800_000;
                self.world.sync_all().await;
            }
        });
        self.check();
        for who in 0..PEOPLE {
            let shown: BTreeSet<_> = self.world.devices[who].texts().into_iter().collect();
            let due = |said: &&Said| {
                said.readers.contains(&who)
                    && !said.spoilt.contains(&who)
                    && (self.can_ask(who, said.author) || !self.have_lost(who, said.author))
            };
            let his = self.said.iter().filter(due);
            let missing: Vec<_> = his.filter(|said| !shown.contains(&said.body)).collect();
            let bodies: Vec<_> = missing.iter().map(|said| &said.body).collect();
            let reasons = self.world.devices[who].reasons();
            assert!(bodies.is_empty(), "{who} never reads {bodies:?}, and says {reasons:?}");
        }
    }
}

/// Stands in for the runtime while that runs something.
fn idle() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}
