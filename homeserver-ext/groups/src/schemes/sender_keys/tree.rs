//! The puncturable tree of message keys, depth 10 (protocol §4.1; RFC 9420's secret tree).
//!
//! Kept nodes are an antichain in ascending order of their leaves: every leaf is below at most one
//! of them, and a used leaf below none.

use std::fmt;

use causeway_protocol::sender_key::{DEPTH, cover};
use hmac::{
    Hmac, Mac,
    digest::{KeyInit, generic_array::GenericArray},
};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A receiver keeps at most so many nodes of a chain: 2.4 KB.
const MAX_NODES: usize = 64;

/// Bytes of an encoded node: depth, prefix, seed.
const NODE_BYTES: usize = 1 + 2 + 32;

/// HMAC-SHA256 under a 32-byte key: zero-padded to the block, as HMAC itself does.
fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0; 64]);
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    <Hmac<Sha256> as KeyInit>::new(GenericArray::from_slice(block.as_slice()))
}

/// The secret of a node, 32 bytes; that of a leaf is a message key.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

impl Seed {
    /// The seed with these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes: to be sealed or sent over Olm, never shown.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    fn children(&self) -> [Self; 2] {
        let mac = keyed(&self.0);
        [0, 1].map(|b| Self(mac.clone().chain_update([b]).finalize().into_bytes().into()))
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// A node of the tree: it stands for the leaves `prefix << (10 - depth)` and on.
pub(super) struct Node {
    /// Levels below the root, 0 to 10.
    pub(super) depth: u8,
    /// The path to it, most significant bit first.
    pub(super) prefix: u16,
    /// What its leaves are derived from.
    pub(super) seed: Seed,
}

impl Node {
    /// Its leaves, as first and one past the last; `None` if there is no such node.
    fn leaves(&self) -> Option<(u32, u32)> {
        if self.depth > DEPTH || u32::from(self.prefix) >= 1 << self.depth {
            return None;
        }
        let width = 1 << (DEPTH - self.depth);
        let first = u32::from(self.prefix) * width;
        Some((first, first + width))
    }

    fn encode(&self, to: &mut Vec<u8>) {
        to.push(self.depth);
        to.extend_from_slice(&self.prefix.to_be_bytes());
        to.extend_from_slice(self.seed.expose());
    }

    fn decode(from: &[u8; NODE_BYTES]) -> Self {
        let [depth, high, low, seed @ ..] = from;
        Self { depth: *depth, prefix: u16::from_be_bytes([*high, *low]), seed: Seed(*seed) }
    }
}

/// What is left of a chain's tree.
pub(super) struct Tree(Vec<Node>);

/// What puts a tree into the state of having used one leaf.
pub(super) struct Puncture {
    at: usize,
    co_path: Vec<Node>,
}

impl Tree {
    pub(super) fn new(root: Seed) -> Self {
        Self(vec![Node { depth: 0, prefix: 0, seed: root }])
    }

    /// The tree of a newcomer: exactly the minimal cover of `start..1024`, in order (protocol §4.3).
    pub(super) fn from_cover(start: u32, nodes: Vec<Node>) -> Option<Self> {
        let shape = nodes.iter().map(|node| (node.depth, node.prefix));
        (!nodes.is_empty() && shape.eq(cover(start))).then_some(Self(nodes))
    }

    /// A tree as [`Self::encode`] wrote it; `None` if that was something else.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (nodes, rest) = bytes.as_chunks::<NODE_BYTES>();
        let tree = Self(nodes.iter().map(Node::decode).collect());
        let mut next = 0;
        for node in &tree.0 {
            let (first, end) = node.leaves()?;
            if first < next {
                return None;
            }
            next = end;
        }
        rest.is_empty().then_some(tree)
    }

    pub(super) fn encode(&self, to: &mut Vec<u8>) {
        to.reserve(self.0.len() * NODE_BYTES);
        for node in &self.0 {
            node.encode(to);
        }
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.0
    }

    /// First leaf that is not used; `None` at the end.
    pub(super) fn first(&self) -> Option<u32> {
        self.0.first()?.leaves().map(|(first, _)| first)
    }

    /// Derives the key of leaf `index` without changing the tree: at most 20 HMACs; `None` if it
    /// is used.
    pub(super) fn derive(&self, index: u32) -> Option<(Seed, Puncture)> {
        let at = self.0.partition_point(|n| n.leaves().is_some_and(|(_, end)| end <= index));
        let node = self.0.get(at)?;
        if node.leaves()?.0 > index {
            return None;
        }
        let mut co_path = Vec::with_capacity(usize::from(DEPTH));
        let (mut depth, mut prefix) = (node.depth, node.prefix);
        let mut key = Seed(node.seed.0);
        while depth < DEPTH {
            let [left, right] = key.children();
            depth += 1;
            prefix <<= 1;
            if index >> (DEPTH - depth) & 1 == 0 {
                co_path.push(Node { depth, prefix: prefix | 1, seed: right });
                key = left;
            } else {
                co_path.push(Node { depth, prefix, seed: left });
                prefix |= 1;
                key = right;
            }
        }
        co_path.sort_unstable_by_key(Node::leaves);
        Some((key, Puncture { at, co_path }))
    }

    /// Makes a leaf underivable that was derived from this very state of the tree.
    pub(super) fn puncture(&mut self, leaf: Puncture) {
        self.0.splice(leaf.at..=leaf.at, leaf.co_path);
    }

    /// Drops the lowest nodes beyond what a receiver keeps.
    pub(super) fn trim(&mut self) {
        let excess = self.0.len().saturating_sub(MAX_NODES);
        self.0.drain(..excess);
    }
}
