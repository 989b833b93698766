//! The recovery key: an account's private identity key, in a form for people.

use std::fmt;

use causeway_protocol::ids::{MemberId, bytes_of, text_of};
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

/// Characters of a recovery key: 32 bytes in base64url.
const LENGTH: usize = 43;

/// An account's private identity key, shown once at registration: with it, and with nothing else,
/// the account's device list can be changed when its devices are lost.
#[derive(Clone)]
pub struct RecoveryKey(Zeroizing<[u8; 32]>);

/// Why a text is no recovery key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotARecoveryKey {
    /// Nothing was given.
    #[error("there is no recovery key in it")]
    Empty,
    /// What, and at which place, counted from 1.
    #[error("`{0}`, at place {1}, is in no recovery key: they have letters, digits, `-` and `_`")]
    Character(char, usize),
    /// How many characters there are.
    #[error("a recovery key has {LENGTH} characters, and this has {0}")]
    Length(usize),
    /// The last character can only be one of sixteen.
    #[error("no recovery key ends with `{0}`: that or another character is wrong")]
    End(char),
}

impl RecoveryKey {
    pub(super) const fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// What a person writes down: 32 bytes in base64url.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(text_of(self.0.as_slice()))
    }

    /// Reads what a person wrote down; spaces and line feeds anywhere in it mean nothing.
    ///
    /// # Errors
    /// [`NotARecoveryKey`] says what is wrong, and nothing of what is right.
    pub fn parse(text: &str) -> Result<Self, NotARecoveryKey> {
        let letters: Zeroizing<String> =
            Zeroizing::new(text.chars().filter(|c| !c.is_whitespace()).collect());
        let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if let Some((at, wrong)) = letters.chars().enumerate().find(|(_, c)| !is_known(*c)) {
            return Err(NotARecoveryKey::Character(wrong, at + 1));
        }
        let end = letters.chars().last().ok_or(NotARecoveryKey::Empty)?;
        if letters.len() != LENGTH {
            return Err(NotARecoveryKey::Length(letters.len()));
        }
        let bytes =
            bytes_of(&letters).map(Zeroizing::new).map_err(|_| NotARecoveryKey::End(end))?;
        let bytes = bytes.as_slice().try_into().map_err(|_| NotARecoveryKey::End(end))?;
        Ok(Self(Zeroizing::new(bytes)))
    }

    /// The identity that it is the key of.
    pub fn member_id(&self) -> MemberId {
        MemberId::new(self.signing().verifying_key().to_bytes())
    }

    /// To sign with as the identity.
    pub(crate) fn signing(&self) -> SigningKey {
        SigningKey::from_bytes(&self.0)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_it_is_said() {
        let key = RecoveryKey::new(Zeroizing::new([0xab; 32]));
        let text = key.to_text();
        let spaced = format!(" {} {}\n", &text[..20], &text[20..]);
        for good in [&*text, &spaced] {
            assert_eq!(RecoveryKey::parse(good).unwrap().member_id(), key.member_id());
        }
        let wrong = |text: &str| RecoveryKey::parse(text).unwrap_err();
        assert_eq!(wrong(" \n"), NotARecoveryKey::Empty);
        assert_eq!(wrong(&text[1..]), NotARecoveryKey::Length(42));
        assert_eq!(wrong(&format!("{}A", &*text)), NotARecoveryKey::Length(44));
        assert_eq!(wrong(&text.replacen('q', "!", 1)), NotARecoveryKey::Character('!', 1));
        assert_eq!(wrong(&format!("{}B", &text[..42])), NotARecoveryKey::End('B'));
    }
}
