//! What a sender gives to each member over Olm: the seed's fields, of which the key is wrapped.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use causeway_protocol::json;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{BLOB, Chain, unwrap, wrap};

/// Longest text of a distribution that is looked at, bytes.
const MAX_TEXT: usize = 1_024;

/// Not such a text, or wrapped for another key, group or sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a distribution of ren_a that is meant for this device")]
pub struct BadDistribution;

/// A chain from an iteration on, for one recipient. The wrap names nobody who made it: it is believed of
/// the peer of the Olm session that it came in, and nobody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    /// The seed's id of the group.
    pub group_id: i32,
    /// The seed's id of its sender.
    pub sender_id: i32,
    chain_id: u32,
    iteration: u32,
    sender_key: String,
    signing_key: String,
}

impl Distribution {
    /// Wraps `chain` for who holds `recipient`; `ephemeral` is random, and used once.
    ///
    /// # Errors
    /// [`NotWrapped::Key`](super::NotWrapped::Key).
    pub fn new(
        (group_id, sender_id): (i32, i32),
        chain: &Chain,
        ephemeral: &Zeroizing<[u8; 32]>,
        recipient: &[u8; 32],
    ) -> Result<Self, super::NotWrapped> {
        let blob = wrap((group_id, sender_id), chain, ephemeral, recipient)?;
        Ok(Self {
            group_id,
            sender_id,
            chain_id: chain.chain_id,
            iteration: chain.iteration,
            sender_key: STANDARD.encode(blob),
            signing_key: STANDARD.encode(chain.signing),
        })
    }

    /// Its compact JSON.
    pub fn to_json(&self) -> String {
        // Text and numbers alone: there is nothing in it that has no JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads such a text, however it is spaced.
    ///
    /// # Errors
    /// [`BadDistribution`].
    pub fn parse(text: &[u8]) -> Result<Self, BadDistribution> {
        if text.len() > MAX_TEXT {
            return Err(BadDistribution);
        }
        json::from_slice(text).map_err(|_| BadDistribution)
    }

    /// The chain, for the group and the sender that the Olm session names.
    ///
    /// # Errors
    /// [`BadDistribution`].
    pub fn open(
        &self,
        (group_id, sender_id): (i32, i32),
        recipient: &Zeroizing<[u8; 32]>,
    ) -> Result<Chain, BadDistribution> {
        if (self.group_id, self.sender_id) != (group_id, sender_id) {
            return Err(BadDistribution);
        }
        let decoded = |text: &str| STANDARD.decode(text).map_err(|_| BadDistribution);
        let signing = decoded(&self.signing_key)?.try_into().map_err(|_| BadDistribution)?;
        let blob: [u8; BLOB] =
            decoded(&self.sender_key)?.try_into().map_err(|_| BadDistribution)?;
        let of = (self.chain_id, self.iteration);
        unwrap((group_id, sender_id), of, signing, recipient, &blob).map_err(|_| BadDistribution)
    }
}
