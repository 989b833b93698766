//! `opus_v1`, suite 0x81: HKDF and SHA-256 chain, AES-256-GCM, Ed25519 over nonce and ciphertext, JSON
//! with hex.

mod distribution;
mod envelope;
mod invite;
mod python;

use aes_gcm::{
    Aes256Gcm,
    aead::{Aead, KeyInit},
};
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    OwnKey, Suite,
    chain::{Secret, Step},
};

pub use distribution::{BadDistribution, Distribution};
pub use envelope::{Envelope, MAX_ENVELOPE};
pub use invite::{BEGINNING as INVITE_BEGINNING, BadInvite, Invite, hash_token};

const NONCE: usize = 12;

/// The suite's number in a `create` op.
pub const SUITE: u8 = 0x81;

/// Nonce and tag.
pub(super) const OVERHEAD: usize = NONCE + 16;

pub(super) fn ratchet(key: &Secret, _: u64) -> Step {
    let next = Sha256::new().chain_update(key.expose()).chain_update(b"SenderKey_ChainAdvance");
    Step {
        message: Secret::new(expand(key.expose(), b"SenderKey_MessageKey")),
        next: Secret::new(next.finalize().into()),
    }
}

/// `HKDF-SHA256(ikm, salt absent, info, 32)`.
fn expand(ikm: &[u8], info: &[u8]) -> [u8; 32] {
    let mut okm = [0; 32];
    // 32 bytes, of the 8,160 that there are.
    _ = Hkdf::<Sha256>::new(None, ikm).expand(info, &mut okm);
    okm
}

pub(super) fn seal(key: &Secret, nonce: [u8; NONCE], plaintext: &[u8]) -> Option<Vec<u8>> {
    let sealed = Aes256Gcm::new(key.expose().into()).encrypt(&nonce.into(), plaintext).ok()?;
    Some([nonce.as_slice(), &sealed].concat())
}

pub(super) fn open(key: &Secret, ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = ciphertext.split_first_chunk::<NONCE>()?;
    let opened = Aes256Gcm::new(key.expose().into()).decrypt(nonce.into(), sealed);
    opened.ok().map(Zeroizing::new)
}

/// A chain as the seed derives it. Whoever keeps the master secret has all of the chain, so nothing here
/// keeps one.
pub fn from_master_secret(secret: &[u8]) -> OwnKey {
    let chain_key = Zeroizing::new(expand(secret, b"DiscordOpus_SenderKey_ChainKey_v1"));
    let signing = Zeroizing::new(expand(secret, b"DiscordOpus_SenderKey_SigningKey_v1"));
    OwnKey::new(Suite::OpusV1, 0, &chain_key, &signing)
}
