//! Tokens: text that is compared, sent and written to its own file, and shown nowhere.

use std::fmt;

use serde::{Deserialize, Deserializer, Serializer};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// A token or password; `Debug` does not show it, and it is wiped when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes `text` in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// A new one: 32 bytes of the system's randomness in hex.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        getrandom::fill(bytes.as_mut_slice())?;
        Ok(Self(Zeroizing::new(hex::encode(bytes.as_slice()))))
    }

    /// Its text, to be sent or written to its own file.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// SHA-256 of its text: what is kept where the token itself is not needed.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }

    /// Whether `text` is this, in a time that does not depend on where they differ.
    pub fn is(&self, text: &str) -> bool {
        // Hashes first: the time of a comparison tells nothing about the length either.
        let other: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        self.hash().ct_eq(&other).into()
    }

    /// Serde form for the files that are made to hold it.
    pub(crate) fn serialize<S: Serializer>(secret: &Self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(secret.expose())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("canary")), "Secret(…)");
    }

    #[test]
    fn only_the_same_text_is_it() {
        let secret = Secret::new("abc");
        assert!(secret.is("abc"));
        for other in ["", "ab", "abcd", "abd"] {
            assert!(!secret.is(other), "{other}");
        }
    }
}
