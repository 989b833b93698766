//! One call's working state: what was loaded is used for the whole slice, and saved once.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use causeway_protocol::{
    api::{CallState, StreamRow},
    device::DeviceOf,
    envelope::Sender,
    ids::{AccountId, DeviceId, EnvelopeId, Epoch, GroupId, Seq, Timestamp},
    roster::{Log, Roster},
};
use causeway_store::{Conn, Script, Tx};
use sha2::{Digest as _, Sha256};
use vodozemac::olm::Account;

use super::{Machine, MachineError, Received, What, known::Known, seen::Seen, shared::Shared};
use crate::{
    schemes::sender_keys::HeldChain,
    storage::{
        Error,
        accounts::{self, Ask, KnownDevice},
        chains::{self, OwnAndGiven},
        failures, groups as rows, holds,
        identities::Met,
        olm as sessions, ops, own,
        parked::Due,
    },
    vault::Vault,
};

/// What the server could not answer is not asked again before this.
pub(super) const ASK_AGAIN_MS: u64 = 10 * 60_000;

/// What the server will know soon is not asked again before this.
pub(super) const ASK_SOON_MS: u64 = 5_000;

/// Whose server said nothing of him is not asked for again before this, where somebody waits to be let in.
pub(super) const ASK_AWAY_MS: u64 = 15_000;

/// A chain of another device, and whether it has moved.
pub(super) struct Slot {
    pub(super) chain: HeldChain,
    pub(super) moved: bool,
}

/// Whose chain: the sender's in a group, by its tag.
pub(super) type ChainKey = (GroupId, DeviceId, [u8; 4]);

/// What rows are judged by, looked at before the first of them.
pub struct ToReceive {
    pub(super) due: Vec<Due>,
    pub(super) groups: Vec<(GroupId, rows::Group)>,
    pub(super) devices: Vec<KnownDevice>,
    pub(super) chains: Vec<(ChainKey, Vec<HeldChain>)>,
}

/// A row that waited, taken out to be judged again.
pub(super) struct Again {
    pub(super) row: StreamRow,
    /// Its payload, or its piece, is the Olm plaintext, not the ciphertext: that opens only once.
    pub(super) opened: bool,
}

impl From<(StreamRow, bool)> for Again {
    fn from((row, opened): (StreamRow, bool)) -> Self {
        Self { row, opened }
    }
}

/// How a row comes to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// As it came.
    First,
    /// It waited.
    Again,
    /// It waited, and what Olm opens of it was opened.
    AgainOpened,
}

pub(super) struct Work<'a> {
    pub(super) machine: &'a Machine,
    pub(super) tx: &'a mut Tx,
    pub(super) now: Timestamp,
    pub(super) received: Vec<Received>,
    pub(super) again: VecDeque<Again>,
    groups: HashMap<GroupId, (rows::Group, Option<Arc<Log>>)>,
    chains: HashMap<ChainKey, Vec<Slot>>,
    devices: HashMap<DeviceId, KnownDevice>,
    /// With some of whom there is a session to send with, as was looked up of many at once.
    pub(super) in_session: HashSet<DeviceId>,
    olm: Option<Account>,
    /// Who is who, until that changes in this transaction.
    pub(super) known: Option<Arc<Known>>,
    /// The revision of that, once it is known.
    pub(super) met: Option<Met>,
    /// How the row comes to be judged.
    pub(super) judged: Judged,
    /// Whose pieces wait unopened in groups that are offered, once that is known.
    pub(super) unopened: Option<HashSet<DeviceId>>,
    /// Whether the rows are such as were parked.
    pub(super) is_parked: bool,
    /// Rows that stay at the server.
    pub(super) parked: Vec<Seq>,
    /// Whose row is the first of his there.
    pub(super) no_room: Option<Sender>,
    /// Calls of which rows told.
    pub(super) calls: Vec<CallState>,
    /// Whose parked rows are being asked for, once that is known.
    pub(super) due: Option<HashSet<(GroupId, DeviceId)>>,
    /// Of whom a key is asked for, once that is known.
    pub(super) requested: Option<HashSet<(GroupId, DeviceId)>>,
    /// Whether a ratchet moved on for what may be sent: a copy of before must be known for one.
    pub(super) sealed: bool,
    /// The own key of the group that is sealed for, where it was looked at before; then what is changed in
    /// vain is taken back by itself.
    pub(super) own: Option<OwnAndGiven>,
    /// Keys that groups share, as they were read.
    pub(super) shared: Shared,
    /// What opened, to be noted.
    pub(super) seen: Seen,
    /// What is written last, and read by nobody before.
    pub(super) script: Script,
}

impl<'a> Work<'a> {
    pub(super) fn new(machine: &'a Machine, tx: &'a mut Tx, now: Timestamp) -> Self {
        Self {
            machine,
            tx,
            now,
            received: Vec::new(),
            again: VecDeque::new(),
            groups: HashMap::new(),
            chains: HashMap::new(),
            devices: HashMap::new(),
            in_session: HashSet::new(),
            olm: None,
            known: None,
            met: None,
            judged: Judged::First,
            unopened: None,
            is_parked: false,
            parked: Vec::new(),
            no_room: None,
            calls: Vec::new(),
            due: None,
            requested: None,
            sealed: false,
            own: None,
            shared: Shared::default(),
            seen: Seen::default(),
            script: Script::default(),
        }
    }

    pub(super) fn conn(&mut self) -> &mut Conn {
        self.tx.conn()
    }

    pub(super) fn vault(&self) -> &'a Vault {
        self.machine.vault()
    }

    /// Writes what is to be written last now: something is read after it.
    pub(super) async fn save(&mut self) -> Result<(), MachineError> {
        std::mem::take(&mut self.script).run(self.tx.conn()).await?;
        Ok(())
    }

    /// Saves what has moved.
    pub(super) async fn finish(mut self) -> Result<Vec<Received>, MachineError> {
        self.save_chains().await?;
        let seen = std::mem::take(&mut self.seen);
        seen.note(&mut self.script, self.now);
        let rows = std::mem::take(&mut self.script).run(self.tx.conn()).await?;
        seen.noted(&rows, &mut self.received)?;
        self.count_failures().await?;
        if self.sealed {
            own::count(self.tx).await?;
        }
        Ok(self.received)
    }

    /// The same after nothing but sealing, where so many commits were counted before: what is written
    /// last.
    pub(super) async fn finish_last(mut self, commits: u64) -> Result<Script, MachineError> {
        self.save_chains().await?;
        own::count_after(self.tx, &mut self.script, commits);
        Ok(self.script)
    }

    async fn save_chains(&mut self) -> Result<(), MachineError> {
        let vault = self.machine.vault();
        for slot in self.chains.values().flatten().filter(|slot| slot.moved) {
            chains::save_held(&mut self.script, vault, &slot.chain)?;
        }
        self.shared.save(&mut self.script);
        if let Some(olm) = &self.olm {
            own::save_olm(self.tx.conn(), vault, olm).await?;
        }
        Ok(())
    }

    /// Takes what was looked at before the first row.
    pub(super) async fn begin_with(&mut self, looked: ToReceive) -> Result<(), MachineError> {
        let ToReceive { due, groups, devices, chains } = looked;
        self.due = Some(due.into_iter().map(|due| (due.group, due.sender)).collect());
        for (group, row) in groups {
            self.loaded(group, row).await?;
        }
        let by_id = devices.into_iter().map(|known| (known.record.device_id, known));
        self.devices.extend(by_id);
        for (key, held) in chains {
            let slots = held.into_iter().map(|chain| Slot { chain, moved: false });
            self.chains.insert(key, slots.collect());
        }
        Ok(())
    }

    pub(super) fn say(&mut self, seq: Seq, group: GroupId, what: What) {
        self.received.push(Received { seq, group, what });
    }

    pub(super) fn fail(&mut self, row: &StreamRow, reason: &'static str) {
        let StreamRow { seq, envelope } = row;
        let sender = envelope.sender.as_ref().map(|sender| sender.device);
        tracing::debug!(group = %envelope.group, id = %envelope.id, reason, "not opened");
        self.say(*seq, envelope.group, What::Failed { id: envelope.id, sender, reason });
    }

    /// Whether a group was heard of, and its ops are not here yet or nobody has taken part in it.
    async fn is_not_taken(&mut self, group: &GroupId) -> Result<bool, MachineError> {
        match self.group(group).await? {
            None => Ok(false),
            Some((_, None)) => Ok(true),
            Some((_, Some(_))) => self.is_offered(group).await,
        }
    }

    /// Counts what failed, for the report to the server. A row that came again, because it was not
    /// acknowledged in time, is said and counted once.
    async fn count_failures(&mut self) -> Result<(), MachineError> {
        let me = self.machine.me().record.device_id;
        for at in 0..self.received.len() {
            let Some(Received { seq, group, what: What::Failed { id, sender, reason } }) =
                self.received.get(at)
            else {
                continue;
            };
            let (seq, group, id, sender, reason) = (*seq, *group, *id, *sender, *reason);
            // Nothing of a group in which one takes no part yet is shown, its junk included.
            if sender.is_some() && self.is_not_taken(&group).await? {
                if let Some(junk) = self.received.get_mut(at) {
                    junk.what = What::Keys;
                }
                continue;
            }
            if seq > Seq(0) && !self.is_first_failure(sender.unwrap_or(me), id, seq).await? {
                if let Some(again) = self.received.get_mut(at) {
                    again.what = What::Duplicate;
                }
            } else if sender.is_some() {
                failures::add(self.conn(), &group, reason, 1).await?;
            }
        }
        Ok(())
    }

    async fn is_first_failure(
        &mut self,
        sender: DeviceId,
        id: EnvelopeId,
        seq: Seq,
    ) -> Result<bool, MachineError> {
        // A name of its own: the same envelope may yet come in the place where it is good.
        let mut hash = Sha256::new();
        hash.update(b"failed\0");
        hash.update(id.as_bytes());
        hash.update(seq.0.to_be_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        let (name, _) = hash.split_first_chunk().unwrap_or((id.as_bytes(), &[]));
        let (name, now) = (*name, self.now);
        Ok(holds::see(self.conn(), &sender, name, EnvelopeId::new(name), now).await?)
    }

    /// A group's row and history, as far as they are known.
    pub(super) async fn group(
        &mut self,
        group: &GroupId,
    ) -> Result<Option<&mut (rows::Group, Option<Arc<Log>>)>, MachineError> {
        if !self.groups.contains_key(group)
            && let Some(row) = rows::group(self.tx.conn(), group).await?
        {
            self.loaded(*group, row).await?;
        }
        Ok(self.groups.get_mut(group))
    }

    /// Takes a group's row, and its history.
    pub(super) async fn loaded(
        &mut self,
        group: GroupId,
        row: rows::Group,
    ) -> Result<(), MachineError> {
        let log = self.machine.log_of(self.tx.conn(), &group, &row).await?;
        self.met.get_or_insert(row.met);
        self.groups.insert(group, (row, log));
        Ok(())
    }

    pub(super) async fn log(&mut self, group: &GroupId) -> Result<Option<Arc<Log>>, MachineError> {
        Ok(self.group(group).await?.and_then(|(_, log)| log.clone()))
    }

    /// The roster at an epoch of this history, made again from ops where it is not at hand; `None`
    /// where it is forgotten, or there is none.
    pub(super) async fn roster_at(
        &mut self,
        log: &Log,
        epoch: Epoch,
    ) -> Result<Option<Arc<Roster>>, MachineError> {
        if !log.lacks(epoch) {
            return Ok(log.roster(epoch).cloned());
        }
        let roster = ops::roster(self.conn(), &log.head().group(), epoch).await?;
        Ok(Some(Arc::new(roster)))
    }

    /// A group's history with the roster of `epoch` at hand, unless that is forgotten.
    pub(super) async fn at_hand(
        &mut self,
        log: Arc<Log>,
        epoch: Epoch,
    ) -> Result<Arc<Log>, MachineError> {
        let Some(roster) = self.roster_at(&log, epoch).await?.filter(|_| log.lacks(epoch)) else {
            return Ok(log);
        };
        let group = log.head().group();
        let mut log = Arc::unwrap_or_clone(log);
        if !log.keep(roster) {
            return Err(Error::Broken("ops").into());
        }
        let log = Arc::new(log);
        if let Some((row, known)) = self.groups.get_mut(&group) {
            *known = Some(Arc::clone(&log));
            self.machine.remember(group, row.revision, &log);
        }
        Ok(log)
    }

    /// Forgets what was loaded of a group: its row has changed.
    pub(super) fn reload(&mut self, group: &GroupId) {
        self.groups.remove(group);
    }

    /// A message went: roster sync is due while this goes on.
    pub(super) async fn touch(&mut self, group: &GroupId) -> Result<(), MachineError> {
        const COARSE_MS: u64 = 5 * 60_000;
        let now = self.now;
        if let Some((row, _)) = self.group(group).await?
            && row.active < now.minus_ms(COARSE_MS)
        {
            row.active = now;
            rows::set_active(self.conn(), group, now).await?;
        }
        Ok(())
    }

    /// The sender's chains whose messages have this tag, loaded once; others may be many.
    pub(super) async fn chains(
        &mut self,
        group: GroupId,
        sender: DeviceId,
        tag: [u8; 4],
    ) -> Result<&mut Vec<Slot>, MachineError> {
        let key = (group, sender, tag);
        if !self.chains.contains_key(&key) {
            let (conn, vault) = (self.tx.conn(), self.machine.vault());
            let held = chains::held(conn, vault, &group, &sender, &tag).await?;
            let slots = held.into_iter().map(|chain| Slot { chain, moved: false }).collect();
            self.chains.insert(key, slots);
        }
        Ok(self.chains.entry(key).or_default())
    }

    /// A device whose record is known.
    pub(super) async fn device(
        &mut self,
        device: DeviceId,
    ) -> Result<Option<KnownDevice>, MachineError> {
        if let Some(known) = self.devices.get(&device) {
            return Ok(Some(known.clone()));
        }
        let known = accounts::device(self.conn(), &device).await?;
        if let Some(known) = &known {
            self.devices.insert(device, known.clone());
        }
        Ok(known)
    }

    /// Looks up what is known of these, of which each would be asked for by itself.
    pub(super) async fn look_up(&mut self, devices: &[DeviceOf]) -> Result<(), MachineError> {
        let ids: Vec<DeviceId> = devices.iter().map(|device| device.device_id).collect();
        let unknown: Vec<DeviceId> =
            ids.iter().filter(|id| !self.devices.contains_key(id)).copied().collect();
        for known in accounts::devices(self.conn(), &unknown).await? {
            self.devices.insert(known.record.device_id, known);
        }
        let in_session = sessions::with_session(self.conn(), &ids).await?;
        self.in_session.extend(in_session);
        Ok(())
    }

    pub(super) async fn olm(&mut self) -> Result<&mut Account, MachineError> {
        let olm = match self.olm.take() {
            Some(olm) => olm,
            None => own::olm(self.tx.conn(), self.machine.vault()).await?,
        };
        Ok(self.olm.insert(olm))
    }

    pub(super) async fn ask_account(&mut self, account: &AccountId) -> Result<(), MachineError> {
        let since = self.now.minus_ms(ASK_AGAIN_MS);
        accounts::ask(self.conn(), Ask::Account, account.as_str().as_bytes(), since).await?;
        Ok(())
    }

    /// As [`Self::ask_account`], where what was answered before is contradicted, or gone beyond.
    pub(super) async fn ask_account_anew(
        &mut self,
        account: &AccountId,
    ) -> Result<(), MachineError> {
        let since = self.now.plus_ms(1);
        accounts::ask(self.conn(), Ask::Account, account.as_str().as_bytes(), since).await?;
        Ok(())
    }

    /// What came of an envelope that was held for a while, or could not be.
    pub(super) fn held(&mut self, row: &StreamRow, sender: DeviceId, waits_for: crate::WaitsFor) {
        let id: EnvelopeId = row.envelope.id;
        self.say(row.seq, row.envelope.group, What::Held { id, sender, waits_for });
    }
}
