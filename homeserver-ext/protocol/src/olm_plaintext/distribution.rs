//! A sender-key chain on its way to one device, and when it is believed (protocol §4.3).
//!
//! 197 + 35 n bytes: 232 from the start of a chain, 547 at most.

use zeroize::Zeroizing;

use super::Route;
use crate::{
    device::DeviceOf,
    fields::{Reader, Short, Writer},
    ids::{ChainId, DeviceId, Epoch, GroupId, RosterHash, Timestamp},
    keys::check_ed25519,
    roster::Log,
    sender_key::{ChainParts, LEAVES, cover},
};

/// One node of a chain's tree.
#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    /// 0 is the root, 10 a message key.
    pub depth: u8,
    /// Which of the nodes at this depth.
    pub prefix: u16,
    /// Its secret.
    pub seed: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({}, {})", self.depth, self.prefix)
    }
}

/// A chain from an index on, as its sender gives it to one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// In which group, by whom, for whom.
    pub route: Route,
    /// Which suite.
    pub suite: u8,
    /// Epoch in which the chain was made.
    pub epoch: Epoch,
    /// Public half of the chain's signing key.
    pub sign_pk: [u8; 32],
    /// Makes the chain's id unique.
    pub rand: [u8; 16],
    /// First index that it opens.
    pub start_index: u32,
    /// When this was made.
    pub created_ms: Timestamp,
    /// The roster when this was sent.
    pub roster_hash: RosterHash,
    /// The cover of `start_index` to the last index.
    pub nodes: Vec<Node>,
}

/// Why a distribution is not taken: the first thing that is wrong, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// Not exactly the cover of what follows its start, or signed by a key that is none.
    #[error("bad_nodes")]
    BadNodes,
    /// Of another suite than the group's.
    #[error("wrong_suite")]
    WrongSuite,
    /// The Olm peer is not the device whose chain it says to be.
    #[error("not_the_peer")]
    NotThePeer,
    /// Made for another device.
    #[error("not_for_me")]
    NotForMe,
    /// The group is not known here.
    #[error("unknown_group")]
    UnknownGroup,
    /// Its roster is not known: hold it, and judge again after each op.
    #[error("unknown_roster")]
    UnknownRoster,
    /// The chain is younger than the roster.
    #[error("roster_before_chain")]
    RosterBeforeChain,
    /// The sending device does not count under that roster.
    #[error("sender_not_counting")]
    SenderNotCounting,
    /// This device does not count under that roster.
    #[error("recipient_not_counting")]
    RecipientNotCounting,
    /// A device was taken out since the chain was made.
    #[error("cut_between")]
    CutBetween,
    /// The chain is held: acknowledge it again, change nothing.
    #[error("held")]
    Held,
}

impl Distribution {
    /// What names the chain.
    pub const fn parts(&self) -> ChainParts {
        ChainParts {
            suite: self.suite,
            group: self.route.group,
            sender: self.route.from,
            epoch: self.epoch,
            sign_pk: self.sign_pk,
            rand: self.rand,
        }
    }

    /// The chain's id.
    pub fn chain_id(&self) -> ChainId {
        self.parts().id()
    }

    /// Whether the chain is taken. `log` is the group's history, `None` where the group is not
    /// known; `peer` the session's device as its record says; `holds` whether a chain is held.
    ///
    /// # Errors
    /// [`Refused`]; nothing may change then.
    pub fn judge(
        &self,
        log: Option<&Log>,
        me: &DeviceOf,
        peer: &DeviceOf,
        holds: impl FnOnce(&ChainId) -> bool,
    ) -> Result<(), Refused> {
        let shape = self.nodes.iter().map(|node| (node.depth, node.prefix));
        let is_cover = self.start_index < LEAVES && shape.eq(cover(self.start_index));
        if !is_cover || check_ed25519(self.sign_pk).is_err() {
            return Err(Refused::BadNodes);
        }
        let log = log.filter(|log| log.head().group() == self.route.group);
        if log.is_some_and(|log| log.head().effective_suite() != self.suite) {
            return Err(Refused::WrongSuite);
        }
        if self.route.from != peer.device_id {
            return Err(Refused::NotThePeer);
        }
        if self.route.to != me.device_id {
            return Err(Refused::NotForMe);
        }
        let log = log.ok_or(Refused::UnknownGroup)?;
        let roster = log.by_hash(&self.roster_hash).ok_or(Refused::UnknownRoster)?;
        if roster.epoch() < self.epoch {
            return Err(Refused::RosterBeforeChain);
        }
        roster.counts(peer).ok_or(Refused::SenderNotCounting)?;
        roster.counts(me).ok_or(Refused::RecipientNotCounting)?;
        if log.cut_in(self.epoch, roster.epoch()) {
            return Err(Refused::CutBetween);
        }
        if holds(&self.chain_id()) { Err(Refused::Held) } else { Ok(()) }
    }

    pub(super) fn write(&self, to: Writer) -> Writer {
        let count = u8::try_from(self.nodes.len()).unwrap_or(u8::MAX);
        to.raw(*b"\x02D")
            .u8(self.suite)
            .u8(0)
            .be32(self.epoch.0)
            .raw(self.route.group)
            .raw(self.route.from)
            .raw(self.route.to)
            .raw(self.sign_pk)
            .raw(self.rand)
            .be32(self.start_index)
            .be64(self.created_ms.0)
            .raw(self.roster_hash)
            .u8(count)
            .each(&self.nodes, |to, node| to.u8(node.depth).be16(node.prefix).raw(*node.seed))
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, Short> {
        let (suite, flags) = (from.u8()?, from.u8()?);
        if flags != 0 || !(1..=4).contains(&suite) {
            return Err(Short);
        }
        let epoch = Epoch(from.be32()?);
        let route = Route {
            group: GroupId::new(from.array()?),
            from: DeviceId::new(from.array()?),
            to: DeviceId::new(from.array()?),
        };
        let (sign_pk, rand) = (from.array()?, from.array()?);
        let start_index = from.be32()?;
        let created_ms = Timestamp(from.be64()?);
        let roster_hash = RosterHash::new(from.array()?);
        let count = from.u8()?;
        let node = |_| {
            Ok(Node {
                depth: from.u8()?,
                prefix: from.be16()?,
                seed: Zeroizing::new(from.array()?),
            })
        };
        let nodes = (0..count).map(node).collect::<Result<_, _>>()?;
        Ok(Self { route, suite, epoch, sign_pk, rand, start_index, created_ms, roster_hash, nodes })
    }
}
