//! The sender's side of a chain: it only moves on.

use causeway_protocol::{
    ids::{ChainId, DeviceId, Epoch, GroupId, RosterHash, Timestamp},
    olm_plaintext::{self, Distribution, Route},
    sender_key::{ChainParts, Context, LEAVES},
};
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use super::{
    STORED_VERSION, Suite,
    message::{self, SealError},
    tree::{Node, Seed, Tree},
};

/// What a new chain is made of: 80 bytes that nobody else knows.
pub struct ChainSecrets {
    /// Root of the tree.
    pub root: Seed,
    /// Seed of the chain's signing key.
    pub signing: Zeroizing<[u8; 32]>,
    /// Part of the chain's name.
    pub rand: [u8; 16],
}

/// A chain of this device's own.
pub struct OwnChain {
    suite: Suite,
    group: GroupId,
    sender: DeviceId,
    epoch: Epoch,
    rand: [u8; 16],
    created: Timestamp,
    id: ChainId,
    signing: SigningKey,
    tree: Tree,
}

impl OwnChain {
    /// Begins a chain in `epoch`.
    pub fn new(
        suite: Suite,
        group: GroupId,
        sender: DeviceId,
        epoch: Epoch,
        created: Timestamp,
        secrets: ChainSecrets,
    ) -> Self {
        let signing = SigningKey::from_bytes(&secrets.signing);
        let sign_pk = signing.verifying_key().to_bytes();
        let ChainSecrets { root, rand, .. } = secrets;
        let suite_number = suite.number();
        let id = ChainParts { suite: suite_number, group, sender, epoch, sign_pk, rand }.id();
        let tree = Tree::new(root);
        Self { suite, group, sender, epoch, rand, created, id, signing, tree }
    }

    /// Its name.
    pub const fn id(&self) -> ChainId {
        self.id
    }

    /// The roster epoch in which it began.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// When it began.
    pub const fn created(&self) -> Timestamp {
        self.created
    }

    /// Index of the next message; 1,024 at the end.
    pub fn next_index(&self) -> u32 {
        self.tree.first().unwrap_or(LEAVES)
    }

    /// Seals `plaintext` (at most 64 KiB) for everyone who holds this chain, and moves it on.
    ///
    /// The chain must be stored before the bytes leave: `header ‖ ciphertext ‖ tag ‖ signature`,
    /// 94 bytes more than the plaintext, from index 128 on 95 (protocol §4.1). `salt` is random.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn seal(
        &mut self,
        roster_hash: &RosterHash,
        salt: [u8; 4],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let index = self.tree.first().ok_or(SealError::Ended)?;
        let (key, puncture) = self.tree.derive(index).ok_or(SealError::Ended)?;
        let context = Context {
            group: self.group,
            sender: self.sender,
            chain: self.id,
            roster: *roster_hash,
        };
        let place = message::Place { suite: self.suite, index, salt };
        let wire = message::seal(&place, &context, &key, &self.signing, plaintext)?;
        self.tree.puncture(puncture);
        Ok(wire)
    }

    /// What `recipient` needs to open everything from here on, and nothing before.
    ///
    /// `None` at the end of the chain: there is nothing left to open.
    pub fn distribution(
        &self,
        recipient: DeviceId,
        roster_hash: RosterHash,
        created_ms: Timestamp,
    ) -> Option<Distribution> {
        let node = |node: &Node| olm_plaintext::Node {
            depth: node.depth,
            prefix: node.prefix,
            seed: Zeroizing::new(*node.seed.expose()),
        };
        Some(Distribution {
            route: Route { group: self.group, from: self.sender, to: recipient },
            suite: self.suite.number(),
            epoch: self.epoch,
            sign_pk: self.signing.verifying_key().to_bytes(),
            rand: self.rand,
            start_index: self.tree.first()?,
            created_ms,
            roster_hash,
            nodes: self.tree.nodes().iter().map(node).collect(),
        })
    }

    /// The chain as bytes, to be sealed at rest.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(512));
        bytes.extend_from_slice(&[STORED_VERSION, self.suite.number()]);
        bytes.extend_from_slice(self.group.as_bytes());
        bytes.extend_from_slice(self.sender.as_bytes());
        bytes.extend_from_slice(&self.epoch.0.to_be_bytes());
        bytes.extend_from_slice(&self.rand);
        bytes.extend_from_slice(&self.created.0.to_be_bytes());
        bytes.extend_from_slice(self.signing.as_bytes());
        self.tree.encode(&mut bytes);
        bytes
    }

    /// The chain that [`Self::encode`] wrote; `None` for any other bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[STORED_VERSION, suite], rest) = bytes.split_first_chunk()? else { return None };
        let (group, rest) = rest.split_first_chunk()?;
        let (sender, rest) = rest.split_first_chunk()?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let (rand, rest) = rest.split_first_chunk()?;
        let (created, rest) = rest.split_first_chunk()?;
        let (signing, rest) = rest.split_first_chunk::<32>()?;
        let secrets = ChainSecrets {
            root: Seed::new([0; 32]),
            signing: Zeroizing::new(*signing),
            rand: *rand,
        };
        let chain = Self::new(
            Suite::from_number(suite)?,
            GroupId::new(*group),
            DeviceId::new(*sender),
            Epoch(u32::from_be_bytes(*epoch)),
            Timestamp(u64::from_be_bytes(*created)),
            secrets,
        );
        Some(Self { tree: Tree::decode(rest)?, ..chain })
    }
}
