//! When a shared key that came is believed (protocol §5.2).

use super::{Route, SharedKey};
use crate::{
    device::DeviceOf,
    ids::Epoch,
    roster::{Log, Member, Role, Scheme},
    shared_key::Alg,
};

/// Why a key is not taken: the first thing that is wrong, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum KeyRefused {
    /// For an AEAD that is none.
    #[error("malformed")]
    Malformed,
    /// The Olm peer is not the device that it says to be from.
    #[error("not_the_peer")]
    NotThePeer,
    /// Made for another device.
    #[error("not_for_me")]
    NotForMe,
    /// The group is not known here.
    #[error("unknown_group")]
    UnknownGroup,
    /// For another AEAD than the group's.
    #[error("wrong_alg")]
    WrongAlg,
    /// Its roster is not known, or not that of its epoch: hold it, and judge again after each op.
    #[error("unknown_roster")]
    UnknownRoster,
    /// Whoever made it may not make keys for that epoch.
    #[error("not_maker")]
    NotMaker,
    /// This device does not count under that roster.
    #[error("recipient_not_counting")]
    RecipientNotCounting,
}

impl SharedKey {
    /// Whether the key is taken. `log` is the group's history, `None` where the group is not known;
    /// `peer` the session's device as its record says; `signer` whoever signed the op of the key's
    /// epoch.
    ///
    /// # Errors
    /// [`KeyRefused`]; nothing may change then.
    pub fn judge(
        &self,
        route: &Route,
        log: Option<&Log>,
        me: &DeviceOf,
        peer: &DeviceOf,
        signer: impl FnOnce(Epoch) -> Option<DeviceOf>,
    ) -> Result<(), KeyRefused> {
        let alg = Alg::from_number(self.alg).ok_or(KeyRefused::Malformed)?;
        if route.from != peer.device_id {
            return Err(KeyRefused::NotThePeer);
        }
        if route.to != me.device_id {
            return Err(KeyRefused::NotForMe);
        }
        let log = log.filter(|log| log.head().group() == route.group);
        let log = log.ok_or(KeyRefused::UnknownGroup)?;
        let head = log.head();
        if head.scheme() != Scheme::SharedKey || head.effective_suite() != alg.number() {
            return Err(KeyRefused::WrongAlg);
        }
        let roster = log.by_hash(&self.roster_hash).ok_or(KeyRefused::UnknownRoster)?;
        if roster.epoch() != self.epoch {
            return Err(KeyRefused::UnknownRoster);
        }
        // Whoever let somebody in or put him out knows who is to have the next key. Where he is no
        // more there, and for what the timer makes, an admin does.
        let signer = signer(self.epoch).filter(|signer| roster.counts(signer).is_some());
        let may = match signer {
            Some(signer) if self.generation == 0 => signer == *peer,
            _ => roster.counts(peer).is_some_and(|member| member.role == Role::Admin),
        };
        if !may {
            return Err(KeyRefused::NotMaker);
        }
        roster.counts(me).ok_or(KeyRefused::RecipientNotCounting)?;
        Ok(())
    }

    /// Whether a key that [`judge`](Self::judge) refuses as its giver's ([`KeyRefused::NotMaker`]) may be
    /// one that this device has made itself and lost, given back: it might have made it, and the giver,
    /// who counts under its roster, might have had it. Nothing but opening what is there may follow.
    pub fn is_given_back(
        &self,
        log: &Log,
        me: &DeviceOf,
        peer: &DeviceOf,
        signer: impl FnOnce(Epoch) -> Option<DeviceOf>,
    ) -> bool {
        let Some(roster) = log.by_hash(&self.roster_hash) else { return false };
        let is_maker = signer(self.epoch).is_some_and(|signer| signer == *me);
        let is_admin = |member: &Member| member.role == Role::Admin;
        let counts = roster.counts(me);
        roster.counts(peer).is_some()
            && counts.is_some_and(|me| (self.generation == 0 && is_maker) || is_admin(me))
    }
}
