//! A group's key, and what one device's messages are sealed with under it.

use std::cmp::Reverse;

use causeway_protocol::{
    ids::{DeviceId, Epoch, GroupId, SharedKeyId},
    shared_key::{Alg, key_id, sender_info},
};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A key of a group, for one epoch.
pub struct GroupKey {
    alg: Alg,
    group: GroupId,
    epoch: Epoch,
    id: SharedKeyId,
    secret: Zeroizing<[u8; 32]>,
    /// What all is derived from, which is the same for each message.
    prk: Prk,
}

impl GroupKey {
    /// The key with these 32 secret bytes; its id follows from them.
    pub fn new(alg: Alg, group: GroupId, epoch: Epoch, secret: Zeroizing<[u8; 32]>) -> Self {
        let prk = Prk::of(&secret);
        let mut commit_key = Zeroizing::new([0; 32]);
        prk.expand(b"cg/shared/commit", commit_key.as_mut_slice());
        let id = key_id(group, epoch, &commit_key);
        Self { alg, group, epoch, id, secret, prk }
    }

    /// Its name, the same for all who have it.
    pub const fn id(&self) -> SharedKeyId {
        self.id
    }

    /// How messages under it are boxed.
    pub const fn alg(&self) -> Alg {
        self.alg
    }

    /// The group.
    pub const fn group(&self) -> GroupId {
        self.group
    }

    /// The epoch that it is for.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How it stands among others, as one of this generation.
    pub const fn rank(&self, generation: u8) -> Rank {
        Rank(self.epoch, generation, Reverse(self.id))
    }

    /// Its secret, to be given to a member's device over Olm or sealed at rest.
    pub const fn expose(&self) -> &Zeroizing<[u8; 32]> {
        &self.secret
    }

    /// What `sender` seals with under it.
    pub fn of(&self, sender: DeviceId) -> SenderKey {
        let info = sender_info(self.alg, self.group, self.id, sender);
        let mut okm = Zeroizing::new([0; 64]);
        self.prk.expand(&info, okm.as_mut_slice());
        let (mut sub, mut commit) = ([0; 32], [0; 32]);
        let (first, second) = okm.split_at(32);
        sub.copy_from_slice(first);
        commit.copy_from_slice(second);
        SenderKey { sub, commit }
    }
}

/// Which of several keys is sent under, the greatest: that of the highest epoch, then of the highest
/// generation, then with the lowest id, so that all who have the same keys choose the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(Epoch, u8, Reverse<SharedKeyId>);

/// What one device's messages under a key are sealed with.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SenderKey {
    pub(super) sub: [u8; 32],
    pub(super) commit: [u8; 32],
}

/// The pseudorandom key of RFC 5869: `HKDF-Extract(salt absent, secret)`.
struct Prk(Zeroizing<[u8; 32]>);

impl Prk {
    fn of(secret: &[u8; 32]) -> Self {
        let (mut extracted, _) = Hkdf::<Sha256>::extract(None, secret);
        let mut prk = Zeroizing::new([0; 32]);
        prk.copy_from_slice(&extracted);
        extracted.zeroize();
        Self(prk)
    }

    /// `HKDF-Expand(prk, info)`.
    fn expand(&self, info: &[u8], okm: &mut [u8]) {
        // 32 bytes are a whole key, and at most 64 are taken of the 8,160 that there are.
        _ = Hkdf::<Sha256>::from_prk(self.0.as_slice()).map(|hkdf| hkdf.expand(info, okm));
    }
}
