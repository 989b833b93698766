//! What a sender gives to each member over Olm.

use causeway_protocol::json;
use serde::Deserialize;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::python;
use crate::schemes::legacy::{Given, Suite, chain::Secret};

/// Longest text of a distribution that is looked at, bytes.
const MAX_TEXT: usize = 1_024;

/// Not the seed's JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a distribution of opus_v1")]
pub struct BadDistribution;

/// A chain from an index on. It names no group, no sender and no recipient: what stands around it in the
/// Olm session must.
pub struct Distribution {
    /// At that index.
    pub chain_key: Zeroizing<[u8; 32]>,
    /// Signs the chain's messages.
    pub signature_public: [u8; 32],
    /// The first that can be read with it.
    pub message_index: u64,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct Fields {
    chain_key: String,
    signature_public: String,
    message_index: u64,
}

impl Distribution {
    /// The text of the seed, spaces and all.
    pub fn to_json(&self) -> Zeroizing<String> {
        let chain_key = Zeroizing::new(hex::encode(*self.chain_key));
        Zeroizing::new(python::object(&[
            ("chain_key", python::text(&chain_key)),
            ("signature_public", python::text(&hex::encode(self.signature_public))),
            ("message_index", self.message_index.to_string()),
        ]))
    }

    /// Reads such a text, however it is spaced.
    ///
    /// # Errors
    /// [`BadDistribution`].
    pub fn parse(text: &[u8]) -> Result<Self, BadDistribution> {
        if text.len() > MAX_TEXT {
            return Err(BadDistribution);
        }
        let fields: Fields = json::from_slice(text).map_err(|_| BadDistribution)?;
        let mut chain_key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(&fields.chain_key, chain_key.as_mut_slice())
            .map_err(|_| BadDistribution)?;
        let mut signature_public = [0; 32];
        hex::decode_to_slice(&fields.signature_public, &mut signature_public)
            .map_err(|_| BadDistribution)?;
        Ok(Self { chain_key, signature_public, message_index: fields.message_index })
    }
}

impl From<Given> for Distribution {
    fn from(given: Given) -> Self {
        Self {
            chain_key: Zeroizing::new(*given.key.expose()),
            signature_public: given.signing,
            message_index: given.start,
        }
    }
}

impl From<&Distribution> for Given {
    fn from(distribution: &Distribution) -> Self {
        Self {
            suite: Suite::OpusV1,
            id: 0,
            signing: distribution.signature_public,
            start: distribution.message_index,
            key: Secret::new(*distribution.chain_key),
        }
    }
}
