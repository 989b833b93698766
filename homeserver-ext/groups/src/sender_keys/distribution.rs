//! How a device gets a chain: the distribution, Olm plaintext of type `D` (protocol §4.3).
//!
//! ```text
//! 02 44 │ suite │ flags 0 │ epoch │ group 32 │ sender 32 │ recipient 32 │ sign_pk 32 │ rand 16
//!       │ start index │ created │ roster_hash 32 │ n │ n × (depth │ prefix │ seed 32)
//! ```
//! 197 + 35 n bytes. Whether one is acceptable is judged by `causeway_protocol`.

use causeway_protocol::ids::{ChainId, DeviceId, Epoch, GroupId, RosterHash, Timestamp};

use zeroize::Zeroizing;

use super::{Node, Suite, chain::chain_id, tree::NODE_BYTES};

/// The nodes are not the minimal cover of what is ahead of `start_index`, or the key is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the nodes are not the minimal cover of what is ahead")]
pub struct BadNodes;

/// A chain on its way to one device.
#[derive(Debug)]
pub struct Distribution {
    /// How its messages are encrypted.
    pub suite: Suite,
    /// Roster epoch in which the chain began.
    pub epoch: Epoch,
    /// The group that it is for.
    pub group: GroupId,
    /// Whose chain it is.
    pub sender: DeviceId,
    /// The one device that this was made for.
    pub recipient: DeviceId,
    /// Public half of the chain's signing key.
    pub sign_pk: [u8; 32],
    /// Part of the chain's name.
    pub rand: [u8; 16],
    /// First index that it opens.
    pub start_index: u32,
    /// When the chain began.
    pub created: Timestamp,
    /// The roster when this was sent.
    pub roster_hash: RosterHash,
    /// What the message keys from `start_index` on derive from.
    pub nodes: Vec<Node>,
}

impl Distribution {
    /// The chain's name, recomputed.
    pub fn chain_id(&self) -> ChainId {
        chain_id(self.suite, &self.group, &self.sender, self.epoch, &self.sign_pk, &self.rand)
    }

    /// The Olm plaintext.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(197 + NODE_BYTES * self.nodes.len()));
        bytes.extend_from_slice(&[2, b'D', self.suite.number(), 0]);
        bytes.extend_from_slice(&self.epoch.0.to_be_bytes());
        bytes.extend_from_slice(self.group.as_bytes());
        bytes.extend_from_slice(self.sender.as_bytes());
        bytes.extend_from_slice(self.recipient.as_bytes());
        bytes.extend_from_slice(&self.sign_pk);
        bytes.extend_from_slice(&self.rand);
        bytes.extend_from_slice(&self.start_index.to_be_bytes());
        bytes.extend_from_slice(&self.created.0.to_be_bytes());
        bytes.extend_from_slice(self.roster_hash.as_bytes());
        // A cover has at most ten nodes.
        bytes.push(u8::try_from(self.nodes.len()).unwrap_or(u8::MAX));
        for node in &self.nodes {
            node.encode(&mut bytes);
        }
        bytes
    }

    /// Reads an Olm plaintext of type `D`; `None` if it is anything else, to the last byte. The
    /// nodes are judged later, by [`HeldChain::from_distribution`](super::HeldChain).
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[2, b'D', suite, 0], rest) = bytes.split_first_chunk()? else { return None };
        let (epoch, rest) = rest.split_first_chunk()?;
        let (group, rest) = rest.split_first_chunk()?;
        let (sender, rest) = rest.split_first_chunk()?;
        let (recipient, rest) = rest.split_first_chunk()?;
        let (sign_pk, rest) = rest.split_first_chunk()?;
        let (rand, rest) = rest.split_first_chunk()?;
        let (start_index, rest) = rest.split_first_chunk()?;
        let (created, rest) = rest.split_first_chunk()?;
        let (roster_hash, rest) = rest.split_first_chunk()?;
        let (&[count], rest) = rest.split_first_chunk()?;
        let (nodes, rest) = rest.as_chunks::<NODE_BYTES>();
        (nodes.len() == usize::from(count) && rest.is_empty()).then_some(())?;
        Some(Self {
            suite: Suite::from_number(suite)?,
            epoch: Epoch(u32::from_be_bytes(*epoch)),
            group: GroupId::new(*group),
            sender: DeviceId::new(*sender),
            recipient: DeviceId::new(*recipient),
            sign_pk: *sign_pk,
            rand: *rand,
            start_index: u32::from_be_bytes(*start_index),
            created: Timestamp(u64::from_be_bytes(*created)),
            roster_hash: RosterHash::new(*roster_hash),
            nodes: nodes.iter().map(Node::decode).collect(),
        })
    }
}
