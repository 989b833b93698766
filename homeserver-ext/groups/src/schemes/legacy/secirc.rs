//! `secirc`: one key for all of a group, three AEADs, a MAC where a signature belongs. For reading what
//! was kept, and nothing else: whoever has the key could have written any of it.

use aes_gcm::{
    Aes256Gcm,
    aead::{Aead, KeyInit},
};
use chacha20poly1305::ChaCha20Poly1305;
use crypto_secretbox::XSalsa20Poly1305;
use hmac::Mac as _;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::keyed;

/// For how long a key is still accepted once another one took its place, seconds.
pub const OVERLAP_S: u64 = 3_600;

/// How a message was boxed. Nothing about it is authentic: one key may have served all three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// AES-256-GCM, nonce of 12 bytes.
    #[serde(rename = "aes_256_gcm")]
    Aes256Gcm,
    /// ChaCha20-Poly1305, nonce of 12 bytes.
    #[serde(rename = "chacha20_poly1305")]
    ChaCha20Poly1305,
    /// XSalsa20-Poly1305, nonce of 24 bytes; one of 12 is filled up with zeros.
    #[serde(rename = "xsalsa20_poly1305")]
    XSalsa20Poly1305,
}

/// Why a message does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Its nonce is of a length that the AEAD does not take.
    #[error("a nonce of {0} bytes is none of its algorithm")]
    Nonce(usize),
    /// Not by who has the key, or changed since.
    #[error("its MAC is wrong")]
    Mac,
    /// Not boxed with this key, nonce and algorithm.
    #[error("it does not open with its key")]
    Box,
}

/// A message as it was kept.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// What it is called.
    pub message_id: [u8; 16],
    /// Who is said to have written it.
    pub sender_id: [u8; 16],
    /// How it is boxed.
    pub algorithm: Algorithm,
    /// 12 bytes; 24 too for `XSalsa20`.
    pub nonce: &'a [u8],
    /// The box.
    pub encrypted_content: &'a [u8],
    /// HMAC-SHA256 under the group's key over ids and box.
    pub signature: [u8; 32],
}

/// A key of a group, for a time.
pub struct GroupKey {
    /// The group.
    pub group_id: [u8; 16],
    /// From then on it is used, Unix time in seconds.
    pub created_at: u64,
    /// From then on another one is.
    pub expires_at: u64,
    key: Zeroizing<[u8; 32]>,
}

impl GroupKey {
    /// A key with its time.
    pub const fn new(
        group_id: [u8; 16],
        key: Zeroizing<[u8; 32]>,
        (created_at, expires_at): (u64, u64),
    ) -> Self {
        Self { group_id, created_at, expires_at, key }
    }

    /// What the source calls it: the key itself is hashed, and the time as Python prints a float.
    pub fn id(&self, nonce: &[u8], salt: &[u8], time: &str) -> [u8; 16] {
        let hash = Sha256::new()
            .chain_update(self.group_id)
            .chain_update(*self.key)
            .chain_update(nonce)
            .chain_update(salt)
            .chain_update(time);
        first_half(&hash.finalize().into())
    }

    /// Whether it is the one to write with at a time.
    pub const fn is_active(&self, at: u64) -> bool {
        self.created_at <= at && at < self.expires_at
    }

    /// Whether a message of that time may be under it.
    pub const fn accepts(&self, at: u64) -> bool {
        self.created_at <= at && at < self.expires_at.saturating_add(OVERLAP_S)
    }

    /// Checks the MAC in constant time, then opens.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(&self, message: &Message<'_>) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let mac = keyed(&self.key)
            .chain_update(message.message_id)
            .chain_update(self.group_id)
            .chain_update(message.sender_id)
            .chain_update(message.encrypted_content);
        mac.verify_slice(&message.signature).map_err(|_| OpenError::Mac)?;
        self.unbox(message.algorithm, message.nonce, message.encrypted_content)
    }

    /// Opens a box, whoever made it.
    ///
    /// # Errors
    /// [`OpenError::Nonce`], [`OpenError::Box`].
    pub fn unbox(
        &self,
        algorithm: Algorithm,
        nonce: &[u8],
        boxed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (key, refused) = ((&*self.key).into(), OpenError::Nonce(nonce.len()));
        let opened = match algorithm {
            Algorithm::Aes256Gcm => {
                let nonce: &[u8; 12] = nonce.try_into().map_err(|_| refused)?;
                Aes256Gcm::new(key).decrypt(nonce.into(), boxed)
            }
            Algorithm::ChaCha20Poly1305 => {
                let nonce: &[u8; 12] = nonce.try_into().map_err(|_| refused)?;
                ChaCha20Poly1305::new(key).decrypt(nonce.into(), boxed)
            }
            Algorithm::XSalsa20Poly1305 => {
                let mut whole = [0; 24];
                let filled = whole
                    .get_mut(..nonce.len())
                    .filter(|_| nonce.len() == 12 || nonce.len() == 24)
                    .ok_or(refused)?;
                filled.copy_from_slice(nonce);
                XSalsa20Poly1305::new(key).decrypt(&whole.into(), boxed)
            }
        };
        opened.map(Zeroizing::new).map_err(|_| OpenError::Box)
    }
}

/// What the source calls a message. The plaintext is hashed: whoever can guess it can check his guess.
pub fn message_id(
    group_id: &[u8; 16],
    sender_id: &[u8; 16],
    content: &[u8],
    time: &str,
) -> [u8; 16] {
    let hash = Sha256::new()
        .chain_update(group_id)
        .chain_update(sender_id)
        .chain_update(content)
        .chain_update(time);
    first_half(&hash.finalize().into())
}

fn first_half(hash: &[u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(hash.split_at(16).0);
    half
}
