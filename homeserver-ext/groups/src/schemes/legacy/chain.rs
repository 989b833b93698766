//! A receiver's linear chain: each index opens once, in any order, and what a stranger names costs
//! nothing.

use std::collections::{BTreeMap, VecDeque};

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// How far ahead of the next index a message may be.
const MAX_JUMP: u64 = 1_000;
/// Keys of messages that were jumped over; older ones are let go of.
const MAX_SKIPPED: usize = 256;

/// A chain key, or what a message's key is made from.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Secret([u8; 32]);

impl Secret {
    pub(super) const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What a chain key gives at its index.
pub(super) struct Step {
    /// For the message of that index.
    pub(super) message: Secret,
    /// The chain key of the next index.
    pub(super) next: Secret,
}

/// How a suite's chain moves on.
pub(super) type Ratchet = fn(&Secret, u64) -> Step;

/// Why there is no key for an index; nothing was derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// Its message was opened.
    #[error("this message was opened before")]
    Replay,
    /// From before this device was given the chain, or too long jumped over.
    #[error("this message is from before what is kept of its chain")]
    TooOld,
    /// More than 1,000 ahead.
    #[error("this message is too far ahead in its chain")]
    TooFar,
}

/// Where a chain is once a message was opened; the chain is as it was until then.
pub(super) enum Advance {
    /// A message that was jumped over before.
    Skipped(u64),
    /// One ahead.
    Ahead {
        /// Those that are jumped over with it, without those that are too many.
        skipped: VecDeque<(u64, Secret)>,
        /// The index after it.
        next: u64,
        /// The chain key there.
        key: Secret,
    },
}

/// Which indices can still be opened, and with what.
///
/// An index below `next` that is not in `skipped` was opened if it is not below `floor`: so each
/// message opens once, and no list of those that did is kept.
pub(super) struct Chain {
    floor: u64,
    next: u64,
    key: Secret,
    skipped: BTreeMap<u64, Secret>,
}

impl Chain {
    /// The chain of which `key` is the chain key at `start`.
    pub(super) const fn new(start: u64, key: Secret) -> Self {
        Self { floor: start, next: start, key, skipped: BTreeMap::new() }
    }

    /// The chain key at `index`, where that is ahead and within reach.
    pub(super) fn key_at(&self, index: u64, ratchet: Ratchet) -> Option<Secret> {
        if !(self.next..=self.next.saturating_add(MAX_JUMP)).contains(&index) {
            return None;
        }
        let mut key = Secret::new(*self.key.expose());
        for at in self.next..index {
            key = ratchet(&key, at).next;
        }
        Some(key)
    }

    /// Whether `index` is beyond what this chain can be moved on to.
    pub(super) const fn is_beyond(&self, index: u64) -> bool {
        index > self.next.saturating_add(MAX_JUMP)
    }

    fn check(&self, index: u64) -> Result<(), Unreachable> {
        if index < self.floor {
            Err(Unreachable::TooOld)
        } else if index < self.next && !self.skipped.contains_key(&index) {
            Err(Unreachable::Replay)
        } else if self.is_beyond(index) {
            Err(Unreachable::TooFar)
        } else {
            Ok(())
        }
    }

    /// What the message of `index` is opened with, derived on scratch.
    pub(super) fn derive(
        &self,
        index: u64,
        ratchet: Ratchet,
    ) -> Result<(Secret, Advance), Unreachable> {
        self.check(index)?;
        if let Some(key) = self.skipped.get(&index) {
            return Ok((Secret::new(*key.expose()), Advance::Skipped(index)));
        }
        let (mut key, mut skipped) = (Secret::new(*self.key.expose()), VecDeque::new());
        for at in self.next..index {
            let step = ratchet(&key, at);
            if skipped.len() == MAX_SKIPPED {
                skipped.pop_front();
            }
            skipped.push_back((at, step.message));
            key = step.next;
        }
        let step = ratchet(&key, index);
        let advance = Advance::Ahead { skipped, next: index.saturating_add(1), key: step.next };
        Ok((step.message, advance))
    }

    /// The message was opened: its key is gone.
    pub(super) fn spend(&mut self, advance: Advance) {
        match advance {
            Advance::Skipped(index) => {
                self.skipped.remove(&index);
            }
            Advance::Ahead { skipped, next, key } => {
                if let Some((first, _)) = skipped.front()
                    && *first > self.next
                {
                    self.floor = *first;
                }
                self.skipped.extend(skipped);
                self.next = next;
                self.key = key;
                while self.skipped.len() > MAX_SKIPPED
                    && let Some((index, _)) = self.skipped.pop_first()
                {
                    self.floor = self.floor.max(index.saturating_add(1));
                }
            }
        }
    }

    /// The chain as bytes: 50, and 40 for each message that was jumped over.
    pub(super) fn encode(&self, to: &mut Zeroizing<Vec<u8>>) {
        to.extend_from_slice(&self.floor.to_be_bytes());
        to.extend_from_slice(&self.next.to_be_bytes());
        to.extend_from_slice(self.key.expose());
        let count = u16::try_from(self.skipped.len()).unwrap_or(u16::MAX);
        to.extend_from_slice(&count.to_be_bytes());
        for (index, key) in &self.skipped {
            to.extend_from_slice(&index.to_be_bytes());
            to.extend_from_slice(key.expose());
        }
    }

    /// The chain that [`Self::encode`] wrote, and what stands behind it.
    pub(super) fn decode(from: &[u8]) -> Option<(Self, &[u8])> {
        let (floor, from) = from.split_first_chunk()?;
        let (next, from) = from.split_first_chunk()?;
        let (key, from) = from.split_first_chunk()?;
        let (count, mut from) = from.split_first_chunk()?;
        let mut skipped = BTreeMap::new();
        for _ in 0..u16::from_be_bytes(*count) {
            let (index, rest) = from.split_first_chunk()?;
            let (key, rest) = rest.split_first_chunk()?;
            skipped.insert(u64::from_be_bytes(*index), Secret::new(*key));
            from = rest;
        }
        let (floor, next) = (u64::from_be_bytes(*floor), u64::from_be_bytes(*next));
        Some((Self { floor, next, key: Secret::new(*key), skipped }, from))
    }
}
