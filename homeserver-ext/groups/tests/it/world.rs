//! A server of a few maps, and devices on it: what the machine's tests play in.
//!
//! A test can lose, repeat, reorder and forge at will. The real server has its own tests.

mod device;
mod server;

use std::collections::BTreeMap;

use causeway_groups::{
    Machine, Vault,
    machine::{AddedBy, Batch, Looked, NewGroup, Outgoing, SealError},
    schemes::legacy::Suite,
};
use causeway_protocol::{
    api::{AccountDevices, KeyCount, OpBytes, PendingRequest, StreamRow},
    content::{Content, Text, TextKind},
    device::OneTimeKey,
    envelope::Recipient,
    ids::{AccountId, ClientId, DeviceId, GroupId, Seq, Timestamp},
    roster::{Op, Role, Scheme},
};

use self::device::open_db;
pub(crate) use self::{device::Device, server::roster_row};

#[derive(Default)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) devices: Vec<Device>,
    groups: BTreeMap<GroupId, server::Group>,
    accounts: BTreeMap<AccountId, AccountDevices>,
    keys: BTreeMap<DeviceId, Vec<OneTimeKey>>,
    pub(crate) mailboxes: BTreeMap<DeviceId, Vec<StreamRow>>,
    pub(crate) requests: BTreeMap<GroupId, Vec<PendingRequest>>,
    names: u128,
    /// When each row came, where the server lets go of what is over.
    pub(crate) came: Option<BTreeMap<(DeviceId, Seq), u64>>,
    /// After so many steps that change something a process dies.
    pub(crate) dies_in: Option<u32>,
}

fn garden() -> NewGroup {
    NewGroup {
        scheme: Scheme::SenderKeys,
        suite: None,
        name: "Garden".to_owned(),
        description: String::new(),
        members_may_add: false,
        is_channel: false,
        max_members: 100,
        ttl_s: 86_400,
    }
}

pub(crate) fn text(body: &str) -> Content {
    Content::Text(Text {
        kind: TextKind::Text,
        body: body.to_owned(),
        html: None,
        reply_to: None,
        mirror: None,
    })
}

impl World {
    pub(crate) async fn with(names: &[&str]) -> Self {
        let mut world = Self { now: 1_800_000_000_000, ..Self::default() };
        for name in names {
            world.register(name).await;
        }
        world
    }

    pub(crate) fn time(&self) -> Timestamp {
        Timestamp(self.now)
    }

    pub(crate) async fn register(&mut self, name: &str) -> usize {
        let dir = tempfile::tempdir().expect("a folder");
        let db = open_db(&dir).await;
        let vault = Vault::open(&db, &dir.path().join("storage.key")).await.expect("a vault");
        let account: AccountId = format!("{name}:a.example").parse().expect("an account");
        let mut tx = db.begin().await.unwrap();
        let (machine, _) =
            Machine::create(&mut tx, vault, account.clone(), self.time()).await.expect("created");
        let request = machine.register_request(&mut tx, None).await.expect("a request");
        let count = u32::try_from(request.one_time_keys.len()).unwrap();
        machine.uploaded(&mut tx, self.time(), KeyCount { one_time_keys: count }).await.unwrap();
        tx.commit().await.unwrap();
        // Whoever is added here has met nobody before; what is offered has tests of its own.
        let machine = machine.added_by_these(AddedBy::All);
        let device = machine.me().record.device_id;
        let mut keys = request.one_time_keys;
        keys.insert(0, request.fallback_key);
        self.keys.insert(device, keys);
        let devices = AccountDevices { list: request.list, devices: vec![request.device] };
        self.accounts.insert(account, devices);
        self.devices.push(Device {
            machine,
            db,
            dir,
            acked: 0,
            received: Vec::new(),
            parked: Vec::new(),
            asked: 0,
        });
        self.devices.len() - 1
    }

    /// Posts an op and installs it, as the SDK does.
    pub(crate) async fn post_op(&mut self, who: usize, op: OpBytes) {
        let group = Op::parse(&op.0).unwrap().group();
        let ops = match self.take_op(&op.0) {
            Ok(()) => vec![op],
            Err(ops) => ops,
        };
        self.install(who, group, &ops).await;
    }

    pub(crate) async fn install(&mut self, who: usize, group: GroupId, ops: &[OpBytes]) {
        let now = self.time();
        let device = &mut self.devices[who];
        let mut tx = device.db.begin().await.unwrap();
        let received = device.machine.install_ops(&mut tx, now, group, ops).await.unwrap();
        tx.commit().await.unwrap();
        device.received.extend(received);
    }

    pub(crate) async fn create_group(&mut self, who: usize) -> GroupId {
        self.create_group_as(who, garden()).await
    }

    pub(crate) async fn create_group_as(&mut self, who: usize, new: NewGroup) -> GroupId {
        let now = self.time();
        let device = &self.devices[who];
        let mut tx = device.db.begin().await.unwrap();
        let (group, op) = device.machine.create_group(&mut tx, now, new).await.unwrap();
        drop(tx);
        self.post_op(who, op).await;
        group
    }

    pub(crate) async fn create_legacy_group(&mut self, who: usize, suite: Suite) -> GroupId {
        let now = self.time();
        let device = &self.devices[who];
        let mut tx = device.db.begin().await.unwrap();
        let made = device.machine.create_legacy_group(&mut tx, now, suite, garden()).await;
        let (group, op) = made.unwrap();
        drop(tx);
        self.post_op(who, op).await;
        group
    }

    /// An account whose keys the test holds.
    pub(crate) fn put_account(&mut self, devices: AccountDevices, keys: Vec<OneTimeKey>) {
        self.keys.insert(devices.devices[0].device_id, keys);
        self.accounts.insert(devices.list.account.clone(), devices);
    }

    /// Leaves a device without keys at the server: nobody can begin to speak with it.
    pub(crate) fn without_keys(&mut self, who: usize) {
        self.keys.remove(&self.devices[who].id());
    }

    /// The server, or another one that it asked, gives out keys of `of` as those of `who`.
    pub(crate) fn with_keys_of(&mut self, who: usize, of: usize) {
        let keys = self.keys[&self.devices[of].id()].clone();
        self.keys.insert(self.devices[who].id(), keys);
    }

    pub(crate) async fn learn(&mut self, who: usize, account: &AccountId) {
        let now = self.time();
        let answer = self.accounts.get(account).cloned().map(Into::into);
        let device = &mut self.devices[who];
        let mut tx = device.db.begin().await.unwrap();
        let learnt = device.machine.learn(&mut tx, now, account, answer.as_ref()).await.unwrap();
        tx.commit().await.unwrap();
        device.received.extend(learnt);
    }

    pub(crate) async fn add(&mut self, who: usize, group: GroupId, whom: usize, role: Role) {
        let account = self.devices[whom].account();
        self.learn(who, &account).await;
        let now = self.time();
        let device = &self.devices[who];
        let mut tx = device.db.begin().await.unwrap();
        let op = device.machine.add(&mut tx, now, group, &account, role).await.unwrap();
        drop(tx);
        self.post_op(who, op).await;
    }

    pub(crate) async fn remove(&mut self, who: usize, group: GroupId, whom: usize) {
        let account = self.devices[whom].account();
        let now = self.time();
        let device = &self.devices[who];
        let mut tx = device.db.begin().await.unwrap();
        let op = device.machine.remove(&mut tx, now, group, &account).await.unwrap();
        drop(tx);
        self.post_op(who, op).await;
    }

    pub(crate) async fn promote(&mut self, who: usize, group: GroupId, whom: usize) {
        let account = self.devices[whom].account();
        let now = self.time();
        let device = &self.devices[who];
        let mut tx = device.db.begin().await.unwrap();
        let op = device.machine.set_role(&mut tx, now, group, &account, Role::Admin).await.unwrap();
        drop(tx);
        self.post_op(who, op).await;
    }

    pub(crate) async fn provide(&mut self, who: usize, needs: causeway_groups::machine::Needs) {
        for account in needs.accounts {
            self.learn(who, &account).await;
        }
        if !needs.claims.is_empty() {
            let answer = self.claim(&needs.claims);
            let now = self.time();
            let device = &self.devices[who];
            let mut tx = device.db.begin().await.unwrap();
            device.machine.claimed(&mut tx, now, &needs.claims, &answer).await.unwrap();
            tx.commit().await.unwrap();
        }
    }

    /// Provides for what is to be sealed; `false` where it is not to be, as the SDK judges it.
    pub(crate) async fn prepare(&mut self, who: usize, group: GroupId) -> bool {
        loop {
            let now = self.time();
            let device = &self.devices[who];
            let mut tx = device.db.begin().await.unwrap();
            // Why it cannot be sealed is said where it is tried.
            let needs = device.machine.needs(&mut tx, now, group).await.unwrap_or_default();
            drop(tx);
            let is_his = |row: &StreamRow| row.envelope.to != Recipient::Broadcast;
            if needs.is_key_over && self.waiting(who).iter().any(is_his) {
                return false;
            }
            if needs.is_empty() {
                return true;
            }
            self.provide(who, needs).await;
        }
    }

    pub(crate) fn outgoing(&mut self, content: Content) -> Outgoing {
        self.names += 1;
        // A name's first bytes tell it from others.
        Outgoing { client_id: ClientId::new(self.names.to_le_bytes()), ttl_s: 0, content }
    }

    pub(crate) async fn seal(
        &mut self,
        who: usize,
        group: GroupId,
        items: &[Outgoing],
    ) -> Result<Batch, SealError> {
        if !self.prepare(who, group).await {
            return Err(SealError::NoKey);
        }
        let now = self.time();
        let device = &self.devices[who];
        let mut tx = device.db.begin().await.unwrap();
        let batch = device.machine.seal(&mut tx, now, group, items).await?;
        if self.dies() {
            drop(tx);
            self.devices[who].restart().await;
            return Box::pin(self.seal(who, group, items)).await;
        }
        tx.commit().await.unwrap();
        Ok(batch)
    }

    /// Whether a process dies here.
    fn dies(&mut self) -> bool {
        let left = self.dies_in.map(|steps| steps.checked_sub(1));
        self.dies_in = left.flatten();
        left == Some(None)
    }

    pub(crate) async fn post(&mut self, who: usize, batch: &Batch) -> Result<(), Vec<OpBytes>> {
        if self.dies() {
            self.devices[who].restart().await;
        }
        self.take_batch(batch)?;
        if self.dies() {
            // Whoever keeps it posts it again; keys come again by themselves.
            self.devices[who].restart().await;
            return Ok(());
        }
        let device = &self.devices[who];
        let mut tx = device.db.begin().await.unwrap();
        device.machine.accepted(&mut tx, batch).await.unwrap();
        tx.commit().await.unwrap();
        Ok(())
    }

    /// Says something, again and again until the server takes it.
    pub(crate) async fn send(&mut self, who: usize, group: GroupId, body: &str) -> Batch {
        let item = self.outgoing(text(body));
        loop {
            let batch = self.seal(who, group, std::slice::from_ref(&item)).await.expect("sealed");
            match self.post(who, &batch).await {
                Ok(()) => return batch,
                Err(ops) => self.install(who, group, &ops).await,
            }
        }
    }

    pub(crate) fn waiting(&self, who: usize) -> Vec<StreamRow> {
        let device = &self.devices[who];
        let mailbox = self.mailboxes.get(&device.id()).cloned().unwrap_or_default();
        mailbox
            .into_iter()
            .filter(|row| row.seq.0 > device.acked && self.is_good(device.id(), row))
            .collect()
    }

    /// Whether the server has it still.
    fn is_good(&self, device: DeviceId, row: &StreamRow) -> bool {
        let came = self.came.as_ref().and_then(|came| came.get(&(device, row.seq)));
        came.is_none_or(|came| came + row.envelope.ttl_ms > self.now)
    }

    pub(crate) async fn receive(&mut self, who: usize, rows: &[StreamRow]) {
        let now = self.time();
        let device = &mut self.devices[who];
        let mut tx = device.db.begin().await.unwrap();
        let receipts = device.machine.receive(&mut tx, now, rows).await.unwrap();
        if !rows.is_empty() && self.dies() {
            drop(tx);
            self.devices[who].restart().await;
            return;
        }
        tx.commit().await.unwrap();
        let dies = !rows.is_empty() && self.dies();
        let device = &mut self.devices[who];
        device.received.extend(receipts.received);
        if dies {
            device.restart().await;
            return;
        }
        let is_parked = |row: &&StreamRow| receipts.parked.contains(&row.seq);
        let parked: Vec<_> = rows.iter().filter(is_parked).cloned().collect();
        device.parked.retain(|row| !receipts.parked.contains(&row.seq));
        device.parked.extend(parked);
        if let Some(through) = receipts.through {
            device.acked = device.acked.max(through.0);
        }
    }

    /// Asks for what is parked and may be dealt with, as the SDK does; whether there was any.
    pub(crate) async fn unpark(&mut self, who: usize) -> bool {
        let now = self.time();
        let device = &mut self.devices[who];
        let mut tx = device.db.begin().await.unwrap();
        let due = device.machine.to_unpark(&mut tx, now).await.unwrap();
        tx.commit().await.unwrap();
        for of in &due {
            let is_his = |row: &StreamRow| {
                let sender = row.envelope.sender.as_ref().unwrap().device;
                row.envelope.group == of.group && sender == of.sender
            };
            let his: Vec<_> = device.parked.extract_if(.., |row| is_his(row)).collect();
            device.asked += his.len();
            let mut left = Vec::new();
            for rows in his.chunks(64) {
                let mut tx = device.db.begin().await.unwrap();
                let receipts = device.machine.receive_parked(&mut tx, now, rows).await.unwrap();
                tx.commit().await.unwrap();
                device.received.extend(receipts.received);
                left.extend(rows.iter().filter(|row| receipts.parked.contains(&row.seq)).cloned());
            }
            let mut tx = device.db.begin().await.unwrap();
            let looked = Looked {
                acked: Seq(device.acked),
                given: Seq(u64::MAX),
                handed: his.len(),
                left: left.len(),
                is_enough: false,
            };
            device.machine.unparked(&mut tx, now, of, looked).await.unwrap();
            tx.commit().await.unwrap();
            device.parked.extend(left);
        }
        !due.is_empty()
    }

    /// Takes what waits, and does the chores, until there is nothing left of either.
    pub(crate) async fn sync(&mut self, who: usize) {
        for _ in 0..20 {
            let waiting = self.waiting(who);
            self.receive(who, &waiting).await;
            let quiet = !self.unpark(who).await && self.chores(who).await;
            if waiting.is_empty() && quiet {
                return;
            }
        }
        panic!("no end of chores");
    }

    pub(crate) async fn sync_all(&mut self) {
        for _ in 0..4 {
            self.now += 5_000;
            for who in 0..self.devices.len() {
                self.sync(who).await;
            }
        }
    }

    pub(crate) async fn chores(&mut self, who: usize) -> bool {
        let now = self.time();
        let device = &self.devices[who];
        let mut tx = device.db.begin().await.unwrap();
        let chores = device.machine.chores(&mut tx, now).await.unwrap();
        let quiet = chores.is_empty();
        if !quiet && self.dies() {
            drop(tx);
            self.devices[who].restart().await;
            return false;
        }
        tx.commit().await.unwrap();
        for (group, from) in chores.fetch_ops {
            let from = usize::try_from(from.0).unwrap();
            let ops = self.groups.get(&group).map(|group| group.ops.clone()).unwrap_or_default();
            let ops: Vec<_> = ops.into_iter().skip(from).map(OpBytes).collect();
            self.install(who, group, &ops).await;
        }
        for group in chores.fetch_requests {
            let waiting = self.requests.get(&group).cloned().unwrap_or_default();
            let device = &mut self.devices[who];
            let mut tx = device.db.begin().await.unwrap();
            let asked = device.machine.take_requests(&mut tx, now, group, &waiting).await.unwrap();
            tx.commit().await.unwrap();
            device.received.extend(asked);
        }
        self.provide(who, chores.needs).await;
        if let Some(keys) = chores.keys {
            let device = &self.devices[who];
            let mine = self.keys.entry(device.id()).or_default();
            if keys.replace {
                mine.truncate(1);
            }
            if let Some(fallback) = keys.fallback_key {
                mine.drain(..mine.len().min(1));
                mine.insert(0, fallback);
            }
            mine.extend(keys.one_time_keys);
            let count = KeyCount { one_time_keys: u32::try_from(mine.len() - 1).unwrap() };
            let mut tx = device.db.begin().await.unwrap();
            device.machine.uploaded(&mut tx, now, count).await.unwrap();
            tx.commit().await.unwrap();
        }
        for batch in chores.batches {
            if let Err(ops) = self.post(who, &batch).await {
                self.install(who, batch.group, &ops).await;
            }
        }
        for (_, op) in chores.ops {
            self.post_op(who, OpBytes(op)).await;
        }
        quiet
    }

    /// As [`Self::seal`], without asking the server for anything.
    pub(crate) async fn seal_now(
        &mut self,
        who: usize,
        group: GroupId,
        items: &[Outgoing],
    ) -> Result<Batch, SealError> {
        let now = self.time();
        let device = &self.devices[who];
        let mut tx = device.db.begin().await.unwrap();
        device.machine.seal(&mut tx, now, group, items).await
    }

    pub(crate) async fn count(&self, who: usize, sql: &'static str) -> i64 {
        let mut tx = self.devices[who].db.begin().await.unwrap();
        sqlx::query_scalar(sql).fetch_one(tx.conn()).await.unwrap()
    }
}
