//! What two devices of a call tell each other so that they can connect (protocol §9): over Olm, at once,
//! and nothing of it is kept. Descriptions name addresses and the fingerprints of keys, so that no server
//! can stand between, and only who counts in the group and is who it is called may have them.

use causeway_protocol::{
    envelope::{Kind, Recipient},
    ids::{DeviceId, GroupId, Timestamp},
    olm_plaintext::{CallSignal, OlmPlaintext, Route},
};
use causeway_store::Tx;

use super::{Batch, Machine, MachineError, Needs, reach::Reach, work::Work};
use crate::{
    olm,
    storage::{accounts::KnownDevice, olm as sessions},
};

/// How long the server keeps one: who has not fetched it by then looks at the call anew.
const TTL_MS: u64 = 30_000;

/// What became of what was to be told.
#[derive(Debug)]
pub enum Signalling {
    /// To be posted, once the transaction is committed.
    Sealed(Batch),
    /// Ask the server for these, then again.
    Unprepared(Needs),
    /// It may not be told to that device, or cannot: it is not in the group, is not who it is called, or
    /// has no key.
    Nobody,
}

impl Machine {
    /// Seals what one device of a group's call is told. Nothing may be posted before `tx` is committed.
    ///
    /// # Errors
    /// [`MachineError`]
    pub async fn seal_signal(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        (group, to): (GroupId, DeviceId),
        signal: &CallSignal,
    ) -> Result<Signalling, MachineError> {
        let mut work = Work::new(self, tx, now);
        let done = work.signal(group, to, signal).await?;
        work.finish().await?;
        Ok(done)
    }
}

impl Work<'_> {
    async fn signal(
        &mut self,
        group: GroupId,
        to: DeviceId,
        signal: &CallSignal,
    ) -> Result<Signalling, MachineError> {
        let me = self.machine.me().device();
        let Some(log) = self.log(&group).await? else { return Ok(Signalling::Nobody) };
        let head = log.head();
        let counts = head.devices().find(|device| device.device_id == to);
        let Some(counts) = counts.filter(|_| head.counts(&me).is_some()) else {
            return Ok(Signalling::Nobody);
        };
        let needs = match self.reach(&log, &counts).await? {
            Reach::Session(known) => return self.seal_for(&log, &known, signal).await,
            Reach::Unknown(account) => Needs { accounts: vec![account], ..Needs::default() },
            Reach::NoSession(device) => Needs { claims: vec![device], ..Needs::default() },
            Reach::Never => return Ok(Signalling::Nobody),
        };
        Ok(Signalling::Unprepared(needs))
    }

    async fn seal_for(
        &mut self,
        log: &causeway_protocol::roster::Log,
        known: &KnownDevice,
        signal: &CallSignal,
    ) -> Result<Signalling, MachineError> {
        let (vault, now) = (self.vault(), self.now);
        let (head, to) = (log.head(), known.record.device_id);
        if !self.may_give(log, known).await? {
            return Ok(Signalling::Nobody);
        }
        let from = self.machine.me().record.device_id;
        let route = Route { group: head.group(), from, to };
        let said = OlmPlaintext::Call(route, signal.clone()).to_bytes();
        let session = sessions::newest(self.conn(), vault, &to).await?;
        let (Ok(said), Some(mut session)) = (said, session) else { return Ok(Signalling::Nobody) };
        let Some(payload) = olm::seal(&mut session, &said) else { return Ok(Signalling::Nobody) };
        self.sealed = true;
        sessions::save(self.conn(), vault, &to, &session, now).await?;
        let to = Recipient::Device(to);
        let submission = self.submission(head, Kind::Call, to, TTL_MS, payload);
        Ok(Signalling::Sealed(Batch::new(head, vec![submission], [])))
    }

    /// Whether what a device tells this one of a call is to be heard: it counts, and is who it is called.
    pub(super) async fn may_signal(
        &mut self,
        group: GroupId,
        device: &KnownDevice,
    ) -> Result<bool, MachineError> {
        let Some(log) = self.log(&group).await? else { return Ok(false) };
        self.may_give(&log, device).await
    }
}
