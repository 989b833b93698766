//! What became of a link, told to all who may admit by it: so a link that was taken back is dead at
//! every holder, and uses are counted across them, whatever the server says (protocol §3.4).

use causeway_protocol::{
    device::DeviceOf,
    envelope::Kind,
    ids::{GroupId, InviteKey, MemberId, Timestamp},
    invite::{Link, LinkWord},
    olm_plaintext::{OlmPlaintext, Route},
};
use causeway_store::Tx;

use super::{Machine, MachineError, Needs, invites::is_admin, reach::Reach, work::Work};
use crate::storage::{
    invites,
    link_words::{self as words, Owed},
    owed::WAIT_MS,
};

impl Machine {
    /// Nobody is let in by this link any more, whatever the server says; [`Self::chores`] tells the
    /// devices of other admins, and again with the group's next op.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn revoke_invite(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        group: GroupId,
        ik_pub: &InviteKey,
    ) -> Result<(), MachineError> {
        words::revoke(tx.conn(), ik_pub, &group, now, true).await?;
        let mut work = Work::new(self, tx, now);
        work.owe_word(&group, ik_pub, None).await?;
        work.finish().await?;
        Ok(())
    }
}

impl Work<'_> {
    /// Notes that an identity takes a use of a link, and that other admins are to be told.
    pub(super) async fn take_use(
        &mut self,
        group: &GroupId,
        ik_pub: &InviteKey,
        member: &MemberId,
    ) -> Result<(), MachineError> {
        if words::count_use(self.conn(), group, ik_pub, member).await? {
            self.owe_word(group, ik_pub, Some(*member)).await?;
        }
        Ok(())
    }

    /// After an op: what was taken back here is told once more, to those who are admins now. A word
    /// that was lost is made good by that.
    pub(super) async fn tell_again(&mut self, group: &GroupId) -> Result<(), MachineError> {
        for ik_pub in words::to_tell_again(self.conn(), group).await? {
            self.owe_word(group, &ik_pub, None).await?;
        }
        Ok(())
    }

    async fn owe_word(
        &mut self,
        group: &GroupId,
        ik_pub: &InviteKey,
        used_by: Option<MemberId>,
    ) -> Result<(), MachineError> {
        let Some(log) = self.log(group).await? else { return Ok(()) };
        let (me, now) = (self.machine.me().device(), self.now);
        for device in log.head().devices().filter(|device| *device != me) {
            if is_admin(log.head(), &device) {
                let owed =
                    Owed { group: *group, ik_pub: *ik_pub, device: device.device_id, used_by };
                words::owe(self.conn(), &owed, now).await?;
            }
        }
        Ok(())
    }

    /// Tells what is owed, as far as there are sessions.
    pub(super) async fn tell_words(&mut self, needs: &mut Needs) -> Result<(), MachineError> {
        let (me, now) = (self.machine.me().record.device_id, self.now);
        for owed in words::owed(self.conn(), now).await? {
            let Owed { group, ik_pub, device, used_by } = owed;
            let log = self.log(&group).await?;
            let admin = log.as_ref().and_then(|log| {
                let mut devices = log.head().devices();
                devices.find(|d| d.device_id == device && is_admin(log.head(), d))
            });
            let (Some(log), Some(admin)) = (log, admin) else {
                words::told(self.conn(), &owed).await?;
                continue;
            };
            let known = match self.reach(&log, &admin).await? {
                Reach::Session(known) => known,
                other => {
                    let next = self.wait_for(other, needs);
                    words::put_off(self.conn(), &owed, next).await?;
                    continue;
                }
            };
            let word = used_by.map_or(LinkWord::Revoked(ik_pub), |m| LinkWord::Used(ik_pub, m));
            let route = Route { group, from: me, to: device };
            let said = OlmPlaintext::Invite(route, word.to_text().to_string());
            if let Ok(bytes) = said.to_bytes()
                && self.send_direct(group, &known, Kind::Direct, &bytes).await?
            {
                words::told(self.conn(), &owed).await?;
            } else {
                words::put_off(self.conn(), &owed, now.plus_ms(WAIT_MS)).await?;
            }
        }
        Ok(())
    }

    /// Takes what another device says of a link: an admin's word, or, of its own link, its maker's.
    pub(super) async fn hear_of_link(
        &mut self,
        group: GroupId,
        from: &DeviceOf,
        text: &str,
    ) -> Result<(), MachineError> {
        let (vault, now) = (self.vault(), self.now);
        let Some(log) = self.log(&group).await? else { return Ok(()) };
        let is_admin = is_admin(log.head(), from);
        match LinkWord::parse(text) {
            Some(LinkWord::Link(link)) if is_admin => self.keep_invite(group, &link).await?,
            Some(LinkWord::Revoked(ik_pub)) => {
                let held = invites::held(self.conn(), vault, &ik_pub).await?;
                let held = held.filter(|held| held.group == group);
                let is_makers = held.as_ref().is_some_and(|held| {
                    Link::parse(&held.link).is_ok_and(|link| link.terms.inviter == *from)
                });
                let is_noted = held.is_some() || words::has_room(self.conn(), &group).await?;
                if (is_admin || is_makers) && is_noted {
                    words::revoke(self.conn(), &ik_pub, &group, now, false).await?;
                }
            }
            Some(LinkWord::Used(ik_pub, member)) if is_admin => {
                let held = invites::held(self.conn(), vault, &ik_pub).await?;
                if held.is_some_and(|held| held.group == group && held.used < held.uses) {
                    words::count_use(self.conn(), &group, &ik_pub, &member).await?;
                }
            }
            Some(LinkWord::Link(_) | LinkWord::Used(..)) | None => {}
        }
        Ok(())
    }
}
