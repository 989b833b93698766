//! The JSON around a message, as it travels.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use causeway_protocol::json;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::schemes::legacy::{HeldKeys, OpenError};

/// Longest envelope that is looked at, bytes: a payload (protocol §0).
pub const MAX_ENVELOPE: usize = 45_000;

/// A message with the seed's names around it, of which none is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The seed's id of the group.
    pub group_id: i32,
    /// The seed's id of its sender.
    pub sender_id: i32,
    /// Which chain of the sender's.
    pub chain_id: u32,
    /// Its place in the chain.
    pub iteration: u32,
    /// Ciphertext ‖ tag, padded base64.
    pub ciphertext: String,
    /// Over those, padded base64.
    pub signature: String,
}

impl Envelope {
    /// An envelope around what [`OwnKey::seal`](crate::schemes::legacy::OwnKey::seal) gave.
    pub fn new(
        (group_id, sender_id): (i32, i32),
        chain_id: u32,
        (iteration, ciphertext, signature): (u32, &[u8], [u8; 64]),
    ) -> Self {
        let (ciphertext, signature) = (STANDARD.encode(ciphertext), STANDARD.encode(signature));
        Self { group_id, sender_id, chain_id, iteration, ciphertext, signature }
    }

    /// Reads an envelope, however it is spaced.
    ///
    /// # Errors
    /// [`OpenError::Malformed`].
    pub fn parse(text: &[u8]) -> Result<Self, OpenError> {
        if text.len() > MAX_ENVELOPE {
            return Err(OpenError::Malformed);
        }
        json::from_slice(text).map_err(|_| OpenError::Malformed)
    }

    /// Its compact JSON, in the seed's order.
    pub fn to_json(&self) -> String {
        // Text and numbers alone: there is nothing in it that has no JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Opens it with what is held of the sender that the transport names, in the group that it names.
    ///
    /// # Errors
    /// [`OpenError`], and nothing has changed.
    pub fn open(
        &self,
        (group_id, sender_id): (i32, i32),
        held: &mut HeldKeys,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        if (self.group_id, self.sender_id) != (group_id, sender_id) {
            return Err(OpenError::Context);
        }
        let decoded = |text: &str| STANDARD.decode(text).map_err(|_| OpenError::Malformed);
        let signature = decoded(&self.signature)?.try_into().map_err(|_| OpenError::Malformed)?;
        let at = (self.chain_id, u64::from(self.iteration));
        held.open(at, &decoded(&self.ciphertext)?, signature)
    }
}
