//! Sender Keys: a chain of 1,024 messages and whoever holds it.

use std::sync::LazyLock;

use causeway_groups::schemes::sender_keys::{
    ChainSecrets, HeldChain, OpenError, OwnChain, Seed, Suite, Wire,
};
use causeway_protocol::{
    ids::{DeviceId, Epoch, GroupId, RosterHash, Timestamp},
    olm_plaintext::OlmPlaintext,
    sender_key::Context,
};
use zeroize::Zeroizing;

use super::moves::{Move, SEALED, changed, cut, moves};

const GROUP: GroupId = GroupId::new([1; 32]);
const SENDER: DeviceId = DeviceId::new([2; 32]);
const READER: DeviceId = DeviceId::new([3; 32]);
const ROSTER: RosterHash = RosterHash::new([4; 32]);
/// Nodes of the tree that a receiver keeps at most; beyond that it forgets the lowest.
const MOST_NODES: usize = 64;

struct Sealed {
    wires: Vec<Vec<u8>>,
    /// What somebody is given before the message of the same number, as bytes.
    keys: Vec<Vec<u8>>,
}

static SEALED_WITH: LazyLock<[Sealed; 2]> = LazyLock::new(|| {
    [Suite::Aes256Gcm, Suite::ChaCha20Poly1305].map(|suite| {
        let secrets = ChainSecrets {
            root: Seed::new([7; 32]),
            signing: Zeroizing::new([8; 32]),
            rand: [9; 16],
        };
        let mut own = OwnChain::new(suite, GROUP, SENDER, Epoch(3), Timestamp(5), secrets);
        let (mut wires, mut keys) = (Vec::new(), Vec::new());
        for number in 0..SEALED {
            let key = own.distribution(READER, ROSTER, Timestamp(6)).expect("not ended");
            keys.push(OlmPlaintext::Distribution(key).to_bytes().expect("fits").to_vec());
            wires.push(own.seal(&ROSTER, [0; 4], &number.to_be_bytes()).expect("not ended"));
        }
        Sealed { wires, keys }
    })
});

/// Who holds the chain, and which of its messages this reader cannot open any more.
struct Reader {
    chain: HeldChain,
    shown: Vec<bool>,
    gone: Vec<bool>,
}

/// The lowest of the largest parts of the tree that are whole, and how many such parts there are.
fn whole_parts(gone: &[bool]) -> (std::ops::Range<usize>, usize) {
    let (mut first, mut count, mut at) = (0..0, 0, 0);
    while at < gone.len() {
        if gone[at] {
            at += 1;
            continue;
        }
        let mut size = 1;
        while at % (2 * size) == 0 && gone[at..].iter().take(2 * size).all(|gone| !gone) {
            size *= 2;
            if size == gone.len() {
                break;
            }
        }
        if count == 0 {
            first = at..at + size;
        }
        (count, at) = (count + 1, at + size);
    }
    (first, count)
}

impl Reader {
    fn given(keys: &[u8], from: usize) -> Self {
        let Ok(OlmPlaintext::Distribution(key)) = OlmPlaintext::parse(keys) else {
            unreachable!("a distribution was written")
        };
        let chain = HeldChain::from_distribution(&key).expect("a whole one");
        // What stands before the beginning is not for this reader, as if it had been shown.
        let shown: Vec<_> = (0..SEALED).map(|number| number < from).collect();
        Self { chain, gone: shown.clone(), shown }
    }

    fn context(&self) -> Context {
        Context { group: GROUP, sender: SENDER, chain: self.chain.id(), roster: ROSTER }
    }

    fn open(&mut self, context: &Context, wire: &[u8]) -> Result<Vec<u8>, OpenError> {
        let wire = Wire::parse(wire)?;
        // Tag and hint are what chain and roster are looked up by.
        let (chain, roster) = (context.chain.as_bytes(), context.roster.as_bytes());
        if !chain.starts_with(&wire.header().tag) || !roster.starts_with(&wire.header().hint) {
            return Err(OpenError::Signature);
        }
        Ok(wire.verify(&mut self.chain, context)?.open()?.spend().to_vec())
    }

    fn deliver(&mut self, number: usize, wire: &[u8]) {
        match self.open(&self.context(), wire) {
            Ok(text) => {
                assert_eq!(text, number.to_be_bytes(), "another text than was sealed");
                assert!(!self.shown[number], "{number} was shown twice");
                assert!(!self.gone[number], "{number} was to be forgotten");
                (self.shown[number], self.gone[number]) = (true, true);
                loop {
                    let (lowest, count) = whole_parts(&self.gone);
                    if count <= MOST_NODES {
                        break;
                    }
                    self.gone[lowest].fill(true);
                }
            }
            Err(error) => {
                assert_eq!(error, OpenError::Spent);
                assert!(self.gone[number], "{number} was lost");
            }
        }
    }

    fn refuse(&mut self, context: &Context, wire: &[u8]) {
        let before = self.chain.encode();
        assert!(self.open(context, wire).is_err(), "what nobody sealed was opened");
        assert_eq!(*before, *self.chain.encode(), "a refused message moved the chain");
    }
}

/// Plays `bytes`; the first says in which suite.
pub(crate) fn sender_keys(bytes: &[u8]) {
    let Some((suite, bytes)) = bytes.split_first() else { return };
    let sealed = &SEALED_WITH[usize::from(suite % 2)];
    let mut reader = Reader::given(&sealed.keys[0], 0);
    for step in moves(bytes) {
        let context = reader.context();
        match step {
            Move::Deliver(number) => reader.deliver(number, &sealed.wires[number]),
            Move::Change(number, at, by) => {
                reader.refuse(&context, &changed(&sealed.wires[number], at, by));
            }
            Move::Cut(number, at) => reader.refuse(&context, cut(&sealed.wires[number], at)),
            Move::Elsewhere(number, field) => {
                let mut context = context;
                match field % 4 {
                    0 => context.group = GroupId::new([9; 32]),
                    1 => context.sender = READER,
                    2 => context.roster = RosterHash::new([9; 32]),
                    _ => context.chain = causeway_protocol::ids::ChainId::new([9; 32]),
                }
                reader.refuse(&context, &sealed.wires[number]);
            }
            Move::Restart => {
                let stored = reader.chain.encode();
                reader.chain = HeldChain::decode(&stored).expect("what was stored");
                assert_eq!(*stored, *reader.chain.encode());
            }
            Move::Newcomer(from) => reader = Reader::given(&sealed.keys[from], from),
            Move::Junk(junk) => reader.refuse(&context, junk),
        }
    }
}
