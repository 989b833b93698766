//! The answer to a new device's offer, sealed with what the offer's text holds (protocol §1.1): the
//! server that keeps it can neither read it nor put another in its place.

use aes_gcm::{
    Aes256Gcm,
    aead::{Aead as _, KeyInit as _, Payload},
};
use causeway_protocol::device_link::{
    ANSWER_KEY_INFO, LinkAnswer, MAX_LINK_BYTES, OfferSecret, answer_aad,
};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Bytes of a nonce, which stands before the ciphertext.
const NONCE: usize = 12;
/// Bytes of a tag, which stands behind it.
const TAG: usize = 16;

/// The account has more devices than an answer has room for: how many bytes it would have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the answer would have {0} bytes, and has room for {MAX_LINK_BYTES}: the account has too many devices"
)]
pub struct TooLong(pub usize);

/// What stands there was sealed by somebody who does not have the text, or is not an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer was not sealed by who has the text, or somebody changed it")]
pub struct NotAnAnswer;

/// `nonce 12 ‖ AES-256-GCM(HKDF(s), nonce, AAD, JSON)`; the nonce is random.
///
/// # Errors
/// [`TooLong`].
pub fn seal(
    secret: &OfferSecret,
    answer: &LinkAnswer,
    nonce: [u8; NONCE],
) -> Result<Vec<u8>, TooLong> {
    // Names, numbers and byte strings: nothing here that JSON cannot say.
    let text = serde_json::to_vec(answer).unwrap_or_default();
    let length = NONCE + text.len() + TAG;
    let payload = Payload { msg: &text, aad: &answer_aad(&secret.id()) };
    let sealed = cipher(secret).encrypt(&nonce.into(), payload).map_err(|_| TooLong(length))?;
    let sealed = [nonce.as_slice(), &sealed].concat();
    if sealed.len() <= MAX_LINK_BYTES { Ok(sealed) } else { Err(TooLong(length)) }
}

/// Opens what [`seal`] made for the same secret.
///
/// # Errors
/// [`NotAnAnswer`].
pub fn open(secret: &OfferSecret, sealed: &[u8]) -> Result<LinkAnswer, NotAnAnswer> {
    let (nonce, boxed) = sealed.split_first_chunk::<NONCE>().ok_or(NotAnAnswer)?;
    let payload = Payload { msg: boxed, aad: &answer_aad(&secret.id()) };
    let text = cipher(secret).decrypt(&(*nonce).into(), payload).map_err(|_| NotAnAnswer)?;
    causeway_protocol::json::from_slice(&text).map_err(|_| NotAnAnswer)
}

fn cipher(secret: &OfferSecret) -> Aes256Gcm {
    let mut key = Zeroizing::new([0; 32]);
    // 32 bytes are always to be had.
    let _ = Hkdf::<Sha256>::new(None, secret.as_bytes()).expand(ANSWER_KEY_INFO, &mut *key);
    Aes256Gcm::new((&*key).into())
}
