//! What this device says to another one alone, over Olm: finished once, and kept until the server has
//! it. What others say to this one is read in `receive/direct.rs`.

use causeway_protocol::{
    device::DeviceOf,
    envelope::{Kind, MAX_TTL_MS, Recipient, Submission, SubmittedTo, compute_id},
    ids::GroupId,
    roster::Roster,
};

use super::{MachineError, work::Work};
use crate::{
    olm,
    storage::{
        accounts::KnownDevice,
        chores::{self, Finished},
        fan_outs, olm as sessions,
    },
};

/// A key is sent under for so long after it was given: it waits as long as the last message under it.
const KEY_MS: u64 = 24 * 3_600_000;
/// Bytes of finished envelopes that go together: the rest goes with the next.
const MAX_BYTES: usize = 1 << 20;

impl Work<'_> {
    /// Seals `plaintext` for one device and keeps the finished envelope until the server has it;
    /// `false` if there is no session to do it with, or nothing may be given to that device.
    pub(super) async fn send_direct(
        &mut self,
        group: GroupId,
        known: &KnownDevice,
        kind: Kind,
        plaintext: &[u8],
    ) -> Result<bool, MachineError> {
        let (vault, now) = (self.vault(), self.now);
        let device = known.record.device_id;
        let Some(log) = self.log(&group).await? else { return Ok(false) };
        if !self.may_give(&log, known).await? {
            return Ok(false);
        }
        let session = sessions::newest(self.conn(), vault, &device).await?;
        let Some(mut session) = session else { return Ok(false) };
        let Some(payload) = olm::seal(&mut session, plaintext) else { return Ok(false) };
        self.sealed = true;
        sessions::save(self.conn(), vault, &device, &session, now).await?;
        let me = self.machine.me().record.device_id;
        let to = Recipient::Device(device);
        let ttl_ms = u64::from(log.head().policy().ttl_s) * 1_000;
        let finished = Finished {
            id: compute_id(kind, Some(&me), &to, &payload, None),
            group,
            device,
            kind,
            payload,
            ttl_ms: match kind {
                Kind::KeyDistribution => (ttl_ms + KEY_MS).min(MAX_TTL_MS),
                _ => ttl_ms,
            },
            piece: None,
        };
        chores::finish(self.conn(), &finished, now).await?;
        Ok(true)
    }

    /// Finished envelopes that the server does not have, stamped with this epoch; those to devices
    /// that no longer count, or whose members are no longer who they are called, are let go of.
    pub(super) async fn finished(
        &mut self,
        group: GroupId,
        head: &Roster,
    ) -> Result<Vec<Submission>, MachineError> {
        let mut submissions = Vec::new();
        let members = match self.log(&group).await? {
            Some(log) => self.members(&log).await?,
            None => return Ok(submissions),
        };
        let may_have = |device: &DeviceOf| !members.untrusted.contains(&device.member_id);
        let mut bytes = 0;
        for finished in chores::finished(self.conn(), &group).await? {
            let Finished { id, device, kind, payload, ttl_ms, piece, .. } = finished;
            let counts =
                head.devices().any(|counts| counts.device_id == device && may_have(&counts));
            if piece.as_ref().is_some_and(|(epoch, _)| !counts || *epoch != head.epoch()) {
                // Under this roster it is another message.
                chores::sent(self.conn(), &id).await?;
                fan_outs::not_given(self.conn(), &id).await?;
                continue;
            }
            if !counts {
                chores::sent(self.conn(), &id).await?;
                continue;
            }
            bytes += payload.len();
            if bytes > MAX_BYTES && !submissions.is_empty() {
                break;
            }
            let mut submission =
                self.submission(head, kind, Recipient::Device(device), ttl_ms, payload);
            if let Some((_, piece)) = piece {
                submission.id = None;
                submission.to = SubmittedTo::Devices([(device, piece)].into());
            }
            submissions.push(submission);
        }
        Ok(submissions)
    }

    /// An envelope of this device's, stamped with the epoch of `head`.
    pub(super) fn submission(
        &self,
        head: &Roster,
        kind: Kind,
        to: Recipient,
        ttl_ms: u64,
        payload: Vec<u8>,
    ) -> Submission {
        let sender = self.machine.me().sender();
        let device = sender.device;
        Submission {
            id: Some(compute_id(kind, Some(&device), &to, &payload, None)),
            kind,
            group: head.group(),
            epoch: head.epoch(),
            sender,
            to: match to {
                Recipient::Broadcast => SubmittedTo::Broadcast,
                Recipient::Device(device) => SubmittedTo::Device(device),
            },
            ttl_ms,
            payload,
        }
    }
}
