//! What another device says to this one over Olm (protocol §2.2, §4.3).

use causeway_protocol::{
    api::StreamRow,
    envelope::Sender,
    ids::{DeviceId, GroupId, Seq},
    olm_plaintext::{Missing, OlmPlaintext},
};
use zeroize::Zeroizing;

use super::{MachineError, Step, What, Work};
use crate::{
    machine::{Signalled, opening::Taken, schemes, shares::Heard, work::Again},
    olm::Payload,
    storage::{
        accounts::{self, Ask, KnownDevice},
        chores, fallback, groups as rows, holds,
        holds::WaitsFor,
        olm as sessions, owed, own,
        parked::For,
    },
};

const HOUR_MS: u64 = 3_600_000;

impl Work<'_> {
    pub(super) async fn direct(
        &mut self,
        row: &StreamRow,
        sender: &Sender,
        opened: bool,
    ) -> Result<Step, MachineError> {
        let envelope = &row.envelope;
        let Some(device) = self.device(sender.device).await? else {
            return self.hold_for_record(row, sender).await;
        };
        if device.account != sender.account {
            self.fail(row, "not_the_account");
            return Ok(Step::Done);
        }
        let plaintext = if opened {
            OlmPlaintext::parse(&envelope.payload).map_err(|_| "bad_plaintext")
        } else {
            let now = self.now;
            let name = *envelope.id.as_bytes();
            if !holds::see(self.conn(), &sender.device, name, envelope.id, now).await? {
                self.say(row.seq, envelope.group, What::Duplicate);
                return Ok(Step::Done);
            }
            let opened = self.open_olm(&device, row.seq, &envelope.payload).await?;
            if let Err("olm") = opened {
                self.wedged(&sender.device).await?;
            }
            opened
        };
        let plaintext = match plaintext.and_then(|said| checked(said, row, &device, self.me())) {
            Ok(plaintext) => plaintext,
            Err(reason) => {
                self.fail(row, reason);
                return Ok(Step::Done);
            }
        };
        match plaintext {
            key @ (OlmPlaintext::Distribution(_)
            | OlmPlaintext::SharedKey(..)
            | OlmPlaintext::Legacy(..)
            | OlmPlaintext::Piece(_)) => return self.key(row, sender, &device, &key).await,
            OlmPlaintext::Acknowledgement(_, chains) => {
                let peer = device.record.device();
                schemes::acknowledged(self, &envelope.group, &peer, &chains).await?;
            }
            OlmPlaintext::KeyRequest(route, missing) => {
                self.answer(route.group, sender.device, missing).await?;
            }
            OlmPlaintext::Invite(route, text) => {
                self.hear_of_link(route.group, &device.record.device(), &text).await?;
            }
            said @ OlmPlaintext::History(..) => {
                return self.past(row, sender, &device, &said).await;
            }
            OlmPlaintext::Call(route, signal) => {
                if self.may_signal(route.group, &device).await? {
                    let signalled = Signalled { group: route.group, from: route.from, signal };
                    self.say(row.seq, route.group, What::Signal(signalled));
                } else {
                    self.fail(row, "not_counting");
                }
                return Ok(Step::Done);
            }
            OlmPlaintext::Dummy(_) => {}
        }
        self.say(row.seq, envelope.group, What::Keys);
        Ok(Step::Done)
    }

    fn me(&self) -> DeviceId {
        self.machine.me().record.device_id
    }

    /// Opens what `device` sealed in a session with this one, and what came of it before and waits;
    /// `olm` where no session opens it.
    pub(in crate::machine) async fn open_olm(
        &mut self,
        device: &KnownDevice,
        seq: Seq,
        payload: &[u8],
    ) -> Result<Result<OlmPlaintext, &'static str>, MachineError> {
        self.open_what_waits(device, seq).await?;
        let bytes = self.open_in_session(device, payload).await?;
        Ok(bytes.and_then(|bytes| OlmPlaintext::parse(&bytes).map_err(|_| "bad_plaintext")))
    }

    /// As [`open_olm`](Self::open_olm), of this alone.
    pub(in crate::machine) async fn open_in_session(
        &mut self,
        device: &KnownDevice,
        payload: &[u8],
    ) -> Result<Result<Zeroizing<Vec<u8>>, &'static str>, MachineError> {
        let (vault, now) = (self.vault(), self.now);
        let peer = device.record.device_id;
        let mut known = sessions::sessions(self.conn(), vault, &peer).await?;
        let Ok(payload) = Payload::parse(payload) else { return Ok(Err("malformed")) };
        let bytes = match payload.open(&mut known) {
            Ok(Some((bytes, at))) => {
                if let Some(session) = known.get(at) {
                    sessions::save(self.conn(), vault, &peer, session, now).await?;
                }
                bytes
            }
            Ok(None) => {
                let begun = payload.begin(self.olm().await?, &device.record.curve25519);
                let Ok((bytes, session)) = begun else { return Ok(Err("olm")) };
                sessions::save(self.conn(), vault, &peer, &session, now).await?;
                sessions::trim(self.conn(), &peer).await?;
                owed::session_came(self.conn(), &peer).await?;
                chores::session_came(self.conn(), &peer).await?;
                let is_fallback = match payload.one_time_key() {
                    Some(key) => fallback::was_used(self.conn(), &key).await?,
                    None => false,
                };
                if !is_fallback {
                    own::key_was_used(self.conn()).await?;
                }
                bytes
            }
            Err(_) => return Ok(Err("olm")),
        };
        Ok(Ok(bytes))
    }

    /// The sessions of two devices no longer fit: a new one is made, and type W said in it.
    pub(in crate::machine) async fn wedged(&mut self, peer: &DeviceId) -> Result<(), MachineError> {
        // Once an hour, so that nobody can make us claim all of another's keys.
        let since = self.now.minus_ms(HOUR_MS);
        accounts::ask(self.conn(), Ask::Heal, peer.as_bytes(), since).await?;
        Ok(())
    }

    /// Takes a key, or holds it as the plaintext that it is: Olm opens once.
    async fn key(
        &mut self,
        row: &StreamRow,
        sender: &Sender,
        device: &KnownDevice,
        key: &OlmPlaintext,
    ) -> Result<Step, MachineError> {
        let group = row.envelope.group;
        let is_heard_of = self.group(&group).await?.is_some();
        match schemes::take_key(self, group, &device.record.device(), key).await? {
            Taken::New => {
                self.say(row.seq, group, What::Keys);
                self.retry(group, Some(sender.device)).await?;
            }
            Taken::NewForAll => {
                self.say(row.seq, group, What::Keys);
                self.retry(group, None).await?;
            }
            Taken::Known => self.say(row.seq, group, What::Keys),
            Taken::NoRoster if is_heard_of => return self.hold_opened(row, sender, key).await,
            Taken::NoRoster => self.fail(row, "unknown_group"),
            Taken::Refused(reason) => self.fail(row, reason),
        }
        Ok(Step::Done)
    }

    /// Takes a page of what is shared, or holds it as the plaintext that it is.
    async fn past(
        &mut self,
        row: &StreamRow,
        sender: &Sender,
        device: &KnownDevice,
        said: &OlmPlaintext,
    ) -> Result<Step, MachineError> {
        let OlmPlaintext::History(_, page) = said else { return Ok(Step::Done) };
        let (group, epoch) = (row.envelope.group, row.envelope.epoch);
        let is_heard_of = self.group(&group).await?.is_some();
        match self.hear_past((group, epoch), device, page).await? {
            Heard::New(past) => self.say(row.seq, group, What::Past(past)),
            Heard::Known => self.say(row.seq, group, What::Duplicate),
            Heard::Silently => self.say(row.seq, group, What::Keys),
            Heard::NoRoster if is_heard_of => return self.hold_opened(row, sender, said).await,
            Heard::NoRoster => self.fail(row, "unknown_group"),
            Heard::Refused(reason) => self.fail(row, reason),
        }
        Ok(Step::Done)
    }

    /// What this sender was asked for has come, in whatever it was: if it was the last, nothing of his waits
    /// any more.
    pub(in crate::machine) async fn key_came(
        &mut self,
        group: GroupId,
        sender: DeviceId,
        tag: [u8; 4],
    ) -> Result<(), MachineError> {
        if self.requested.is_none() {
            self.requested = Some(chores::all_requested(self.conn()).await?);
        }
        let of = (group, sender);
        if self.requested.as_ref().is_some_and(|requested| requested.contains(&of)) {
            chores::key_came(self.conn(), &group, &sender, tag).await?;
            if !chores::is_requested(self.conn(), &group, &sender).await? {
                self.requested = None;
                self.retry(group, Some(sender)).await?;
            }
        }
        Ok(())
    }

    /// Takes out of the holds what waited for a key of this sender, or of anybody in the group.
    async fn retry(
        &mut self,
        group: GroupId,
        sender: Option<DeviceId>,
    ) -> Result<(), MachineError> {
        let (vault, of) = (self.vault(), sender.as_ref());
        let waited = holds::take(self.conn(), vault, Some(&group), of, WaitsFor::Chain).await?;
        self.ask_for_parked(of.map_or(For::Group(&group), |of| For::Both(&group, of))).await?;
        self.again.extend(waited.into_iter().map(Again::from));
        Ok(())
    }

    async fn hold_opened(
        &mut self,
        row: &StreamRow,
        sender: &Sender,
        key: &OlmPlaintext,
    ) -> Result<Step, MachineError> {
        let group = row.envelope.group;
        let Ok(bytes) = key.to_bytes() else {
            self.fail(row, "malformed");
            return Ok(Step::Done);
        };
        let mut opened = row.clone();
        opened.envelope.payload = bytes.to_vec();
        if !self.is_held(&opened, sender, WaitsFor::Roster, true).await? {
            // It opens once: who lacks the key asks for it again.
            self.fail(row, "no_room");
        }
        zeroize::Zeroize::zeroize(&mut opened.envelope.payload);
        if let Some((_, Some(log))) = self.group(&group).await? {
            // The sender may know ops that have not come yet.
            let next = log.head().epoch().next();
            rows::fetch_from(self.conn(), &group, next).await?;
        }
        Ok(Step::Done)
    }

    /// Answers a key request with what was made for that device, and with nothing else.
    async fn answer(
        &mut self,
        group: GroupId,
        device: DeviceId,
        missing: Missing,
    ) -> Result<(), MachineError> {
        let Some(log) = self.log(&group).await? else { return Ok(()) };
        let Some(known) = self.device(device).await? else { return Ok(()) };
        if self.may_give(&log, &known).await? {
            schemes::answer(self, &log, &known, missing).await?;
        }
        Ok(())
    }
}

/// What was said, if kind, group and both devices are those of the envelope.
fn checked(
    said: OlmPlaintext,
    row: &StreamRow,
    device: &KnownDevice,
    me: DeviceId,
) -> Result<OlmPlaintext, &'static str> {
    let route = said.route().ok_or("bad_plaintext")?;
    if said.kind() != row.envelope.kind {
        return Err("wrong_kind");
    }
    if route.group != row.envelope.group {
        return Err("wrong_group");
    }
    if route.from != device.record.device_id {
        return Err("not_the_peer");
    }
    if route.to == me { Ok(said) } else { Err("not_for_me") }
}
