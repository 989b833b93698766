//! The JSON around a message, as it travels.

use causeway_protocol::json;
use serde::{Deserialize, Serialize};

use crate::schemes::legacy::{HeldKeys, OpenError};

/// Longest envelope that is looked at, bytes: a payload (protocol §0).
pub const MAX_ENVELOPE: usize = 45_000;

/// A message with the seed's names around it. Nothing but the ciphertext is signed: the rest is to be
/// believed only as far as it is what the transport says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// `group_message`.
    #[serde(rename = "type")]
    kind: String,
    /// The seed's id of the group, a UUID.
    pub group_id: String,
    /// What its sender calls it; neither authentic nor what it is told apart by.
    pub message_id: String,
    /// The seed's name of its sender, hex.
    pub sender_public_key: String,
    /// When its sender says it was sent, Unix ms.
    pub timestamp: u64,
    /// Its place in the chain.
    pub message_index: u64,
    /// Nonce ‖ ciphertext ‖ tag, hex.
    pub ciphertext: String,
    /// Over those, hex.
    pub signature: String,
}

const KIND: &str = "group_message";

impl Envelope {
    /// An envelope around what [`OwnKey::seal`](crate::schemes::legacy::OwnKey::seal) gave.
    pub fn new(
        (group_id, message_id): (String, String),
        sender_public_key: String,
        timestamp: u64,
        (message_index, ciphertext, signature): (u64, &[u8], [u8; 64]),
    ) -> Self {
        Self {
            kind: KIND.to_owned(),
            group_id,
            message_id,
            sender_public_key,
            timestamp,
            message_index,
            ciphertext: hex::encode(ciphertext),
            signature: hex::encode(signature),
        }
    }

    /// Reads an envelope, however it is spaced.
    ///
    /// # Errors
    /// [`OpenError::Malformed`].
    pub fn parse(text: &[u8]) -> Result<Self, OpenError> {
        if text.len() > MAX_ENVELOPE {
            return Err(OpenError::Malformed);
        }
        let envelope: Self = json::from_slice(text).map_err(|_| OpenError::Malformed)?;
        if envelope.kind == KIND { Ok(envelope) } else { Err(OpenError::Malformed) }
    }

    /// Its compact JSON, in the seed's order.
    pub fn to_json(&self) -> String {
        // Text and numbers alone: there is nothing in it that has no JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether it names the group and the sender that the transport names.
    pub fn is_of(&self, group_id: &str, sender_public_key: &str) -> bool {
        self.group_id == group_id && self.sender_public_key == sender_public_key
    }

    /// Opens it with what is held of the sender that the transport names, in the group that it names.
    ///
    /// # Errors
    /// [`OpenError`], and nothing has changed.
    pub fn open(
        &self,
        (group_id, sender_public_key): (&str, &str),
        held: &mut HeldKeys,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, OpenError> {
        if !self.is_of(group_id, sender_public_key) {
            return Err(OpenError::Context);
        }
        let ciphertext = hex::decode(&self.ciphertext).map_err(|_| OpenError::Malformed)?;
        let mut signature = [0; 64];
        hex::decode_to_slice(&self.signature, &mut signature).map_err(|_| OpenError::Malformed)?;
        held.open((0, self.message_index), &ciphertext, signature)
    }
}
