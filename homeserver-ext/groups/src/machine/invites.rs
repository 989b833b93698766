//! Links: made, given on to other admins, and taken back.

use causeway_protocol::{
    api::NewInvite,
    device::DeviceOf,
    envelope::Kind,
    ids::{GroupId, InviteKey, Timestamp},
    invite::{Link, LinkSecret, Terms, invite_name},
    olm_plaintext::{OlmPlaintext, Route},
    roster::{Role, Roster},
};
use causeway_store::Tx;
use zeroize::Zeroizing;

use super::{Machine, MachineError, Needs, OpError, reach::Reach, work::Work};
use crate::{
    entropy,
    storage::{
        invites::{self, HeldInvite},
        joins, link_words,
        owed::WAIT_MS,
    },
};

/// Links of one group that other admins may give to this device.
const MAX_GIVEN: i64 = 1_000;
/// Of them, those that one of its members made.
const MAX_OF_ONE: i64 = 250;
/// As long as a client lets a link live.
const MAX_LIFE_MS: u64 = 366 * 24 * 3_600_000;

/// A link that this device can admit by.
#[derive(Debug, Clone)]
pub struct InviteView {
    /// Public half of its key.
    pub ik_pub: InviteKey,
    /// The link.
    pub link: Link,
    /// Whether this device made it, or was given it by another admin.
    pub made_here: bool,
    /// How many it has let in.
    pub used: u32,
    /// Whether it was taken back.
    pub revoked: bool,
}

impl Machine {
    /// Makes a link for `group` and keeps it; [`Self::chores`] gives it to the devices of other admins,
    /// so that they can admit too. The server is to be told what [`NewInvite`] says before the link is of use.
    ///
    /// # Errors
    /// [`OpError::UnknownGroup`].
    pub async fn create_invite(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        group: GroupId,
        server: &str,
        expires: Timestamp,
        uses: u32,
    ) -> Result<(Link, NewInvite), OpError> {
        let head = self.roster(tx, group).await?.ok_or(OpError::UnknownGroup(group))?;
        let me = self.me();
        let secret = LinkSecret::new(Zeroizing::new(entropy::bytes().map_err(MachineError::from)?));
        let terms = Terms {
            server: server.to_owned(),
            group,
            name: invite_name(&head.policy().name),
            account: me.account.clone(),
            inviter: me.device(),
            expires,
            secret,
            uses,
        };
        let signature = self.sign(&terms.signed_bytes());
        let link = Link { terms, signature };
        let ik_pub = link.terms.secret.key();
        let mine = held(&link, true);
        let maker = &link.terms.inviter.member_id;
        let kept = invites::insert(tx.conn(), self.vault(), &mine, maker).await;
        kept.map_err(MachineError::from)?;
        let mut work = Work::new(self, tx, now);
        work.owe_invite(group, ik_pub).await?;
        work.finish().await?;
        Ok((link, NewInvite { ik_pub, expires_ms: expires, uses }))
    }

    /// Links for `group` that this device holds.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn invites(
        &self,
        tx: &mut Tx,
        group: GroupId,
    ) -> Result<Vec<InviteView>, MachineError> {
        let mut views = Vec::new();
        for ik_pub in invites::of_group(tx.conn(), &group).await? {
            let held = invites::held(tx.conn(), self.vault(), &ik_pub).await?;
            let view = held.and_then(|held| {
                let HeldInvite { link, made_here, used, revoked, .. } = held;
                let link = Link::parse(&link).ok()?;
                Some(InviteView { ik_pub, link, made_here, used, revoked })
            });
            views.extend(view);
        }
        Ok(views)
    }
}

pub(super) fn is_admin(roster: &Roster, device: &DeviceOf) -> bool {
    roster.counts(device).is_some_and(|member| member.role == Role::Admin)
}

/// Whether this device keeps a link that it is given in `group`.
///
/// In whose name it is, that one's device must have made it: he is asked about when somebody comes by
/// it. Nobody else gives this device a link of its own.
fn may_be_given(link: &Link, group: GroupId, me: &DeviceOf, now: Timestamp) -> bool {
    let terms = &link.terms;
    terms.group == group
        && terms.inviter != *me
        && terms.expires <= now.plus_ms(MAX_LIFE_MS)
        && link.is_signed()
}

fn held(link: &Link, made_here: bool) -> HeldInvite {
    let terms = &link.terms;
    HeldInvite {
        ik_pub: terms.secret.key(),
        group: terms.group,
        link: link.to_text(),
        made_here,
        uses: terms.uses,
        expires: terms.expires,
        used: 0,
        revoked: false,
    }
}

impl Work<'_> {
    /// After an op that made admins: their devices are to be given the links that are good still, by
    /// the devices that made them, and by the one that signed the op.
    pub(super) async fn owe_new_admins(
        &mut self,
        before: Option<&Roster>,
        after: &Roster,
        signer: DeviceOf,
    ) -> Result<(), MachineError> {
        let (me, now) = (self.machine.me().device(), self.now);
        let is_new = |device: &DeviceOf| {
            *device != me
                && is_admin(after, device)
                && before.is_some_and(|before| !is_admin(before, device))
        };
        let new: Vec<DeviceOf> = after.devices().filter(is_new).collect();
        if new.is_empty() {
            return Ok(());
        }
        for ik_pub in invites::good(self.conn(), &after.group(), now, signer == me).await? {
            for device in &new {
                invites::owe(self.conn(), &ik_pub, &device.device_id, now).await?;
            }
        }
        Ok(())
    }

    /// Notes that the devices of other admins are to be given a link; the bridge's never are.
    async fn owe_invite(&mut self, group: GroupId, ik_pub: InviteKey) -> Result<(), MachineError> {
        let Some(log) = self.log(&group).await? else { return Ok(()) };
        let (me, now) = (self.machine.me().device(), self.now);
        for device in log.head().devices().filter(|device| *device != me) {
            if is_admin(log.head(), &device) {
                invites::owe(self.conn(), &ik_pub, &device.device_id, now).await?;
            }
        }
        Ok(())
    }

    /// Gives links to whom they are owed, as far as there are sessions.
    pub(super) async fn give_invites(&mut self, needs: &mut Needs) -> Result<(), MachineError> {
        let (vault, now) = (self.vault(), self.now);
        let me = self.machine.me().record.device_id;
        for (ik_pub, device) in invites::owed(self.conn(), now).await? {
            let held = invites::held(self.conn(), vault, &ik_pub).await?;
            let held = held.filter(|held| !held.revoked && held.expires >= now);
            let log = match &held {
                Some(held) => self.log(&held.group).await?,
                None => None,
            };
            let admin = log.as_ref().and_then(|log| {
                let mut devices = log.head().devices();
                devices.find(|d| d.device_id == device && is_admin(log.head(), d))
            });
            let (Some(held), Some(log), Some(admin)) = (held, log, admin) else {
                invites::given(self.conn(), &ik_pub, &device).await?;
                continue;
            };
            let known = match self.reach(&log, &admin).await? {
                Reach::Session(known) => known,
                other => {
                    let next = self.wait_for(other, needs);
                    invites::put_off(self.conn(), &ik_pub, &device, next).await?;
                    continue;
                }
            };
            let route = Route { group: held.group, from: me, to: device };
            if let Ok(bytes) = OlmPlaintext::Invite(route, held.link.as_str().to_owned()).to_bytes()
                && self.send_direct(held.group, &known, Kind::Direct, &bytes).await?
            {
                invites::given(self.conn(), &ik_pub, &device).await?;
                link_words::owe_uses(self.conn(), &ik_pub, &device, now).await?;
            } else {
                invites::put_off(self.conn(), &ik_pub, &device, now.plus_ms(WAIT_MS)).await?;
            }
        }
        Ok(())
    }

    /// Keeps a link that another admin's device gave.
    pub(super) async fn keep_invite(
        &mut self,
        group: GroupId,
        link: &Link,
    ) -> Result<(), MachineError> {
        let (vault, me) = (self.vault(), self.machine.me().device());
        if !may_be_given(link, group, &me, self.now) {
            return Ok(());
        }
        let maker = &link.terms.inviter.member_id;
        let (given, of_one) = invites::given_in(self.conn(), &group, maker).await?;
        if given < MAX_GIVEN && of_one < MAX_OF_ONE {
            let held = held(link, false);
            invites::insert(self.conn(), vault, &held, maker).await?;
            joins::link_came(self.conn(), &held.ik_pub).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use causeway_protocol::ids::{DeviceId, MemberId, Signature};
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;

    const NOW: Timestamp = Timestamp(1_000);

    fn device(n: u8) -> (SigningKey, DeviceOf) {
        let key = SigningKey::from_bytes(&[n; 32]);
        let device_id = DeviceId::new(key.verifying_key().to_bytes());
        (key, DeviceOf { member_id: MemberId::new([n; 32]), device_id })
    }

    /// A link in the name of `inviter`, signed by whoever.
    fn link(inviter: DeviceOf, by: &SigningKey, expires: Timestamp) -> Link {
        let terms = Terms {
            server: "a.example".to_owned(),
            group: GroupId::new([1; 32]),
            name: "Walkers".to_owned(),
            account: "alice:a.example".parse().unwrap(),
            inviter,
            expires,
            secret: LinkSecret::new(Zeroizing::new([2; 16])),
            uses: 1,
        };
        let signature = Signature::new(by.sign(&terms.signed_bytes()).to_bytes());
        Link { terms, signature }
    }

    #[test]
    fn a_link_is_kept_only_as_its_maker_made_it() {
        let ((alice_key, alice), (bob_key, bob), (_, me)) = (device(1), device(2), device(3));
        let (group, last) = (GroupId::new([1; 32]), NOW.plus_ms(MAX_LIFE_MS));
        let may = |link: &Link, group, me| may_be_given(link, group, me, NOW);
        let good = link(alice, &alice_key, last);
        assert!(may(&good, group, &me));
        assert!(!may(&link(alice, &bob_key, last), group, &me), "in another's name");
        assert!(!may(&link(alice, &bob_key, last), group, &alice), "in one's own");
        assert!(!may(&good, group, &alice), "nobody gives one's own");
        assert!(!may(&good, GroupId::new([9; 32]), &me), "of another group");
        assert!(!may(&link(alice, &alice_key, last.plus_ms(1)), group, &me), "for ever");
        let mut more = good;
        more.terms.uses = 2;
        assert!(!may(&more, group, &me), "with more uses than were signed");
        assert!(may(&link(bob, &bob_key, last), group, &me));
    }
}
