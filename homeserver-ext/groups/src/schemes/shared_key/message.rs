//! One message: its wire form, and the road from bytes to plaintext (protocol §5.2).
//!
//! Layout, associated data and what is signed are in [`causeway_protocol::shared_key`].
//! [`Wire`] → [`Verified`] → plaintext: each step is only reachable from the one before, and only
//! the last one moves the sender's [`Window`].

use aes_gcm::{
    Aes256Gcm,
    aead::{Aead, KeyInit, Payload},
};
use causeway_protocol::shared_key::{
    Alg, Context, Header, MAX_MESSAGES, MAX_PLAINTEXT, Message, Nonce, bound, signed_bytes,
};
use chacha20poly1305::ChaCha20Poly1305;
use crypto_secretbox::XSalsa20Poly1305;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use super::{
    key::{GroupKey, SenderKey},
    window::{Replay, Window},
};

/// Why nothing was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Split it, or send it as media.
    #[error("plaintext of {0} bytes, at most {1} fit")]
    TooLong(usize, usize),
    /// Make a new key.
    #[error("this device has sealed as many messages as one key allows")]
    Ended,
    /// The nonce is not of the kind that the key's AEAD takes.
    #[error("the nonce is of another AEAD")]
    Nonce,
}

impl GroupKey {
    /// Seals `plaintext` (at most 64 KiB) for all who have the key, as this sender's message number
    /// `counter`, which must be stored as used before the bytes leave.
    ///
    /// # Errors
    /// [`SealError`]
    pub fn seal(
        &self,
        context: &Context,
        counter: u64,
        nonce: Nonce,
        signing: &SigningKey,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        if plaintext.len() > MAX_PLAINTEXT {
            return Err(SealError::TooLong(plaintext.len(), MAX_PLAINTEXT));
        }
        if counter >= MAX_MESSAGES {
            return Err(SealError::Ended);
        }
        let is_whole = matches!(nonce, Nonce::Whole(_));
        if is_whole != (self.alg() == Alg::XSalsa20Poly1305) {
            return Err(SealError::Nonce);
        }
        let [t0, t1, t2, t3, ..] = *self.id().as_bytes();
        let [h0, h1, h2, h3, ..] = *context.roster.as_bytes();
        let (tag, hint) = ([t0, t1, t2, t3], [h0, h1, h2, h3]);
        let header = Header { alg: self.alg(), tag, counter, hint, nonce };
        let (aad, keys) = (context.aad(&header), self.of(context.sender));
        let too_long = |_| SealError::TooLong(plaintext.len(), MAX_PLAINTEXT);
        let boxed = keys.enclose(&header, &aad, plaintext).map_err(too_long)?;
        let signature = signing.sign(&signed_bytes(&aad, &keys.commit, &boxed));
        Ok([header.to_bytes(), boxed, signature.to_bytes().to_vec()].concat())
    }
}

/// What an AEAD refuses.
struct Refused;

impl SenderKey {
    fn enclose(&self, header: &Header, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Refused> {
        let sealed = match header.nonce {
            Nonce::Salt(salt) => {
                let (nonce, payload) =
                    (twelve(header.counter, salt), Payload { msg: plaintext, aad });
                if header.alg == Alg::Aes256Gcm {
                    Aes256Gcm::new((&self.sub).into()).encrypt(&nonce.into(), payload)
                } else {
                    ChaCha20Poly1305::new((&self.sub).into()).encrypt(&nonce.into(), payload)
                }
            }
            Nonce::Whole(nonce) => {
                let text = Zeroizing::new([bound(aad).as_slice(), plaintext].concat());
                XSalsa20Poly1305::new((&self.sub).into()).encrypt(&nonce.into(), text.as_slice())
            }
        };
        sealed.map_err(|_| Refused)
    }

    fn disclose(
        &self,
        header: &Header,
        aad: &[u8],
        boxed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Refused> {
        let opened = match header.nonce {
            Nonce::Salt(salt) => {
                let (nonce, payload) = (twelve(header.counter, salt), Payload { msg: boxed, aad });
                if header.alg == Alg::Aes256Gcm {
                    Aes256Gcm::new((&self.sub).into()).decrypt(&nonce.into(), payload)
                } else {
                    ChaCha20Poly1305::new((&self.sub).into()).decrypt(&nonce.into(), payload)
                }
            }
            Nonce::Whole(nonce) => {
                XSalsa20Poly1305::new((&self.sub).into()).decrypt(&nonce.into(), boxed)
            }
        };
        let opened = Zeroizing::new(opened.map_err(|_| Refused)?);
        match header.nonce {
            Nonce::Salt(_) => Ok(opened),
            // It has no associated data, so what it is bound to stands in the box.
            Nonce::Whole(_) => match opened.split_at_checked(bound(aad).len()) {
                Some((first, text)) if first == bound(aad) => Ok(Zeroizing::new(text.to_vec())),
                _ => Err(Refused),
            },
        }
    }
}

/// be64 counter ‖ salt.
fn twelve(counter: u64, salt: [u8; 4]) -> [u8; 12] {
    let ([c0, c1, c2, c3, c4, c5, c6, c7], [s0, s1, s2, s3]) = (counter.to_be_bytes(), salt);
    [c0, c1, c2, c3, c4, c5, c6, c7, s0, s1, s2, s3]
}

/// Why a message does not open; whatever the reason, nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Too short, too long, another version or AEAD, or a counter not spelled as short as can be.
    #[error("not a shared-key message of protocol §5.2")]
    Malformed,
    /// Sealed by another AEAD than its key is for.
    #[error("the message is of another AEAD than its key")]
    WrongAlg,
    /// Beyond what one sender may seal under one key.
    #[error("the message is beyond the end of its key")]
    Cap,
    /// It was opened, or may have been.
    #[error(transparent)]
    Replay(#[from] Replay),
    /// Not signed by the sending device in this context.
    #[error("the signature is not the sending device's")]
    Signature,
    /// Signed, yet not boxed with the sender's key.
    #[error("the box is not authentic")]
    Box,
}

/// A message of the right shape; nothing in it is to be believed yet.
#[derive(Debug, Clone, Copy)]
pub struct Wire<'a>(Message<'a>);

impl<'a> Wire<'a> {
    /// Reads the fields.
    ///
    /// # Errors
    /// [`OpenError::Malformed`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, OpenError> {
        Message::parse(bytes).map(Self).map_err(|_| OpenError::Malformed)
    }

    /// Which key, counter and roster it names.
    pub const fn header(&self) -> &Header {
        &self.0.header
    }

    /// Whether it may be one under `key`: before a roster is looked for.
    ///
    /// # Errors
    /// [`OpenError::WrongAlg`], [`OpenError::Cap`].
    pub fn fits(&self, key: &GroupKey) -> Result<(), OpenError> {
        if self.0.header.alg != key.alg() {
            return Err(OpenError::WrongAlg);
        }
        if self.0.header.counter >= MAX_MESSAGES { Err(OpenError::Cap) } else { Ok(()) }
    }

    /// Verifies strictly that `device` said it in this context, which names the key that is tried.
    ///
    /// # Errors
    /// As [`Self::fits`]; [`OpenError::Replay`]; [`OpenError::Signature`], also where key and
    /// context do not fit.
    pub fn verify<'w>(
        &self,
        key: &GroupKey,
        window: &'w mut Window,
        context: &Context,
        device: &VerifyingKey,
    ) -> Result<Verified<'a, 'w>, OpenError> {
        self.fits(key)?;
        let Message { header, boxed, signature } = self.0;
        if context.group != key.group()
            || context.key != key.id()
            || context.sender.as_bytes() != device.as_bytes()
        {
            return Err(OpenError::Signature);
        }
        window.check(header.counter)?;
        let (aad, keys) = (context.aad(&header), key.of(context.sender));
        let signed = signed_bytes(&aad, &keys.commit, boxed);
        device
            .verify_strict(&signed, &Signature::from_bytes(&signature))
            .map_err(|_| OpenError::Signature)?;
        Ok(Verified { header, boxed, aad, keys, window })
    }
}

/// A message that the sending device signed in this context.
pub struct Verified<'a, 'w> {
    header: Header,
    boxed: &'a [u8],
    aad: Vec<u8>,
    keys: SenderKey,
    window: &'w mut Window,
}

impl Verified<'_, '_> {
    /// Decrypts, and notes in the window that it was opened; text and window are to be stored in one
    /// transaction.
    ///
    /// # Errors
    /// [`OpenError::Box`]; [`OpenError::Replay`] never, after it was verified.
    pub fn open(self) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let Self { header, boxed, aad, keys, window } = self;
        let text = keys.disclose(&header, &aad, boxed).map_err(|Refused| OpenError::Box)?;
        if window.open(header.counter) { Ok(text) } else { Err(Replay::Seen.into()) }
    }
}
