//! What the frames of one sender are sealed with, as devices give it to each other.

use std::fmt;

use causeway_protocol::ids::base64url;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::entropy::{self, NoEntropy};

/// What the frames of one sender are sealed with, for a while; never shown.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct FrameKey([u8; 16]);

impl FrameKey {
    /// The key with these bytes, as they are given to the others.
    pub fn new(material: [u8; 16]) -> Self {
        Self(material)
    }

    /// A fresh one.
    ///
    /// # Errors
    /// There are no random bytes.
    pub(super) fn fresh() -> Result<Self, NoEntropy> {
        let random = entropy::secret()?;
        let (material, _) = random.split_first_chunk().unwrap_or((&[0; 16], &[]));
        Ok(Self(*material))
    }

    pub(super) fn material(&self) -> &[u8; 16] {
        &self.0
    }
}

impl Serialize for FrameKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        base64url::serialize(&self.0, to)
    }
}

impl<'de> Deserialize<'de> for FrameKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = Zeroizing::new(base64url::deserialize(from)?);
        let material = bytes.as_slice().try_into();
        material.map(Self).map_err(|_| de::Error::invalid_length(bytes.len(), &"16 bytes"))
    }
}

impl fmt::Debug for FrameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameKey(…)")
    }
}
