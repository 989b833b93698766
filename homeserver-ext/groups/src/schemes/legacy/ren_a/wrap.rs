//! A chain key wrapped for one X25519 key.
//!
//! The wrap names nobody who made it, so it travels inside Olm alone: else whoever carries it wraps a
//! key of his own and speaks as anyone.

use causeway_protocol::{ids::CurveKey, keys::check_curve25519};
use chacha20poly1305::aead::{Aead as _, Payload};
use hkdf::Hkdf;
use sha2::Sha256;
use vodozemac::{Curve25519PublicKey, Curve25519SecretKey};
use zeroize::Zeroizing;

use super::cipher;

/// Bytes of a wrap: ephemeral key 32 ‖ chain key 32 ‖ tag 16.
pub const BLOB: usize = 80;

/// What a sender's device gives of its chain.
pub struct Chain {
    /// What its sender calls it.
    pub chain_id: u32,
    /// The first that can be read with it.
    pub iteration: u32,
    /// At that iteration.
    pub chain_key: Zeroizing<[u8; 32]>,
    /// Signs its messages.
    pub signing: [u8; 32],
}

/// Why a wrap does not open, or none was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotWrapped {
    /// Not a canonical X25519 key, or one of small order: Diffie-Hellman with it says nothing.
    #[error("not a usable X25519 key")]
    Key,
    /// Not made for this key, group, sender, chain, iteration and signing key.
    #[error("the wrapped key is not authentic")]
    Blob,
}

/// Wraps the chain key for who holds `recipient`; `ephemeral` is random, and used once.
///
/// # Errors
/// [`NotWrapped::Key`].
pub fn wrap(
    (group_id, sender_id): (i32, i32),
    chain: &Chain,
    ephemeral: &Zeroizing<[u8; 32]>,
    recipient: &[u8; 32],
) -> Result<[u8; BLOB], NotWrapped> {
    let secret = Curve25519SecretKey::from_slice(ephemeral);
    let public = Curve25519PublicKey::from(&secret).to_bytes();
    let okm = agreed(&secret, recipient, &public, recipient)?;
    let aad = aad((group_id, sender_id), (chain.chain_id, chain.iteration), &chain.signing);
    let (cipher, nonce) = cipher(&okm);
    let payload = Payload { msg: chain.chain_key.as_slice(), aad: &aad };
    let sealed = cipher.encrypt(&nonce.into(), payload).map_err(|_| NotWrapped::Blob)?;
    [public.as_slice(), &sealed].concat().try_into().map_err(|_| NotWrapped::Blob)
}

/// Opens a wrap with the recipient's key, in the context that the Olm session names.
///
/// # Errors
/// [`NotWrapped`].
pub fn unwrap(
    (group_id, sender_id): (i32, i32),
    (chain_id, iteration): (u32, u32),
    signing: [u8; 32],
    recipient: &Zeroizing<[u8; 32]>,
    blob: &[u8; BLOB],
) -> Result<Chain, NotWrapped> {
    let (public, sealed) = blob.split_first_chunk::<32>().ok_or(NotWrapped::Blob)?;
    let secret = Curve25519SecretKey::from_slice(recipient);
    let own = Curve25519PublicKey::from(&secret).to_bytes();
    let okm = agreed(&secret, public, public, &own)?;
    let aad = aad((group_id, sender_id), (chain_id, iteration), &signing);
    let (cipher, nonce) = cipher(&okm);
    let opened = cipher.decrypt(&nonce.into(), Payload { msg: sealed, aad: &aad });
    let opened = Zeroizing::new(opened.map_err(|_| NotWrapped::Blob)?);
    let mut chain_key = Zeroizing::new([0; 32]);
    chain_key.copy_from_slice(opened.get(..32).ok_or(NotWrapped::Blob)?);
    Ok(Chain { chain_id, iteration, chain_key, signing })
}

/// `HKDF(DH, salt absent, "RenSenderKeyWrap_v1" ‖ ephemeral ‖ recipient, 44)`.
fn agreed(
    secret: &Curve25519SecretKey,
    peer: &[u8; 32],
    ephemeral: &[u8; 32],
    recipient: &[u8; 32],
) -> Result<Zeroizing<[u8; 44]>, NotWrapped> {
    check_curve25519(&CurveKey::new(*peer)).map_err(|_| NotWrapped::Key)?;
    let shared =
        secret.diffie_hellman(&Curve25519PublicKey::from_bytes(*peer)).ok_or(NotWrapped::Key)?;
    let mut okm = Zeroizing::new([0; 44]);
    let info: [&[u8]; 3] = [b"RenSenderKeyWrap_v1", ephemeral, recipient];
    // 44 bytes, of the 8,160 that there are.
    _ = Hkdf::<Sha256>::new(None, shared.as_bytes()).expand_multi_info(&info, okm.as_mut_slice());
    Ok(okm)
}

/// le32 group ‖ le32 sender ‖ le32 chain ‖ le32 iteration ‖ signing key.
fn aad(
    (group_id, sender_id): (i32, i32),
    (chain_id, iteration): (u32, u32),
    signing: &[u8; 32],
) -> Vec<u8> {
    [
        group_id.to_le_bytes().as_slice(),
        &sender_id.to_le_bytes(),
        &chain_id.to_le_bytes(),
        &iteration.to_le_bytes(),
        signing,
    ]
    .concat()
}
