//! A receiver's side of a chain: it spends each index once, in any order.

use causeway_protocol::{
    ids::{ChainId, DeviceId, Epoch, GroupId},
    keys,
    olm_plaintext::{self, Distribution},
};
use ed25519_dalek::VerifyingKey;
use zeroize::Zeroizing;

use super::{
    STORED_VERSION, Suite,
    tree::{Node, Puncture, Seed, Tree},
};

/// The distribution's signing key is none, its suite is not built, or its nodes are not the minimal
/// cover of what is ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the key, suite and nodes of a chain")]
pub struct BadDistribution;

/// Another device's chain, as far as this device may still read it.
pub struct HeldChain {
    suite: Suite,
    group: GroupId,
    sender: DeviceId,
    epoch: Epoch,
    id: ChainId,
    sign_pk: VerifyingKey,
    tree: Tree,
}

impl HeldChain {
    /// The chain of a distribution that was judged acceptable (protocol §4.3).
    ///
    /// # Errors
    /// [`BadDistribution`].
    pub fn from_distribution(distribution: &Distribution) -> Result<Self, BadDistribution> {
        let node = |node: &olm_plaintext::Node| Node {
            depth: node.depth,
            prefix: node.prefix,
            seed: Seed::new(*node.seed),
        };
        let nodes = distribution.nodes.iter().map(node).collect();
        let tree = Tree::from_cover(distribution.start_index, nodes).ok_or(BadDistribution)?;
        keys::check_ed25519(distribution.sign_pk).map_err(|_| BadDistribution)?;
        Ok(Self {
            suite: Suite::from_number(distribution.suite).ok_or(BadDistribution)?,
            group: distribution.route.group,
            sender: distribution.route.from,
            epoch: distribution.epoch,
            id: distribution.chain_id(),
            sign_pk: VerifyingKey::from_bytes(&distribution.sign_pk)
                .map_err(|_| BadDistribution)?,
            tree,
        })
    }

    /// Its name; the first four bytes are the tag on its messages.
    pub const fn id(&self) -> ChainId {
        self.id
    }

    /// The group that it is for.
    pub const fn group(&self) -> GroupId {
        self.group
    }

    /// The device that speaks with it.
    pub const fn sender(&self) -> DeviceId {
        self.sender
    }

    /// The roster epoch in which it began.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) const fn suite(&self) -> Suite {
        self.suite
    }

    pub(super) const fn sign_pk(&self) -> &VerifyingKey {
        &self.sign_pk
    }

    pub(super) fn derive(&self, index: u32) -> Option<(Seed, Puncture)> {
        self.tree.derive(index)
    }

    pub(super) fn spend(&mut self, puncture: Puncture) {
        self.tree.puncture(puncture);
        self.tree.trim();
    }

    /// The chain as bytes, to be sealed at rest: 134 and 35 for each node.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(512));
        bytes.extend_from_slice(&[STORED_VERSION, self.suite.number()]);
        bytes.extend_from_slice(self.group.as_bytes());
        bytes.extend_from_slice(self.sender.as_bytes());
        bytes.extend_from_slice(&self.epoch.0.to_be_bytes());
        bytes.extend_from_slice(self.id.as_bytes());
        bytes.extend_from_slice(self.sign_pk.as_bytes());
        self.tree.encode(&mut bytes);
        bytes
    }

    /// The chain that [`Self::encode`] wrote; `None` for any other bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[STORED_VERSION, suite], rest) = bytes.split_first_chunk()? else { return None };
        let (group, rest) = rest.split_first_chunk()?;
        let (sender, rest) = rest.split_first_chunk()?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let (id, rest) = rest.split_first_chunk()?;
        let (sign_pk, rest) = rest.split_first_chunk()?;
        Some(Self {
            suite: Suite::from_number(suite)?,
            group: GroupId::new(*group),
            sender: DeviceId::new(*sender),
            epoch: Epoch(u32::from_be_bytes(*epoch)),
            id: ChainId::new(*id),
            sign_pk: VerifyingKey::from_bytes(sign_pk).ok()?,
            tree: Tree::decode(rest)?,
        })
    }
}
