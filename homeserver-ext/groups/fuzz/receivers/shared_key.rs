//! Shared keys: 1,024 messages of one sender under one key, and the window of whoever reads them.

use std::sync::LazyLock;

use causeway_groups::schemes::shared_key::{GroupKey, OpenError, Replay, Window, Wire};
use causeway_protocol::{
    ids::{DeviceId, Epoch, GroupId, RosterHash, SharedKeyId},
    shared_key::{Alg, Context, Nonce},
};
use ed25519_dalek::{SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use super::moves::{Move, SEALED, changed, cut, moves};

const GROUP: GroupId = GroupId::new([1; 32]);
const ROSTER: RosterHash = RosterHash::new([4; 32]);
/// How far apart the counters are: the whole window of 1,024 is a ninth of what was sealed.
const APART: u64 = 9;

struct Sealed {
    key: GroupKey,
    signer: VerifyingKey,
    wires: Vec<Vec<u8>>,
}

static SEALED_WITH: LazyLock<[Sealed; 3]> = LazyLock::new(|| {
    [Alg::Aes256Gcm, Alg::ChaCha20Poly1305, Alg::XSalsa20Poly1305].map(|alg| {
        let key = GroupKey::new(alg, GROUP, Epoch(3), Zeroizing::new([7; 32]));
        let signing = SigningKey::from_bytes(&[8; 32]);
        let signer = signing.verifying_key();
        let context = context(&key, &signer);
        let seal = |number: usize| {
            let salt = number.to_le_bytes()[0];
            let nonce = if alg == Alg::XSalsa20Poly1305 {
                Nonce::Whole([salt; 24])
            } else {
                Nonce::Salt([salt; 4])
            };
            let text = number.to_be_bytes();
            key.seal(&context, number as u64 * APART, nonce, &signing, &text).expect("a counter")
        };
        let wires = (0..SEALED).map(seal).collect();
        Sealed { key, signer, wires }
    })
});

fn context(key: &GroupKey, signer: &VerifyingKey) -> Context {
    let sender = DeviceId::new(signer.to_bytes());
    Context { group: GROUP, sender, key: key.id(), roster: ROSTER }
}

struct Reader<'a> {
    sealed: &'a Sealed,
    window: Window,
    shown: Vec<bool>,
    newest: Option<usize>,
}

impl Reader<'_> {
    fn open(&mut self, context: &Context, wire: &[u8]) -> Result<Vec<u8>, OpenError> {
        let wire = Wire::parse(wire)?;
        // Tag and hint are what key and roster are looked up by.
        let (key, roster) = (context.key.as_bytes(), context.roster.as_bytes());
        if !key.starts_with(&wire.header().tag) || !roster.starts_with(&wire.header().hint) {
            return Err(OpenError::Signature);
        }
        let Sealed { key, signer, .. } = self.sealed;
        Ok(wire.verify(key, &mut self.window, context, signer)?.open()?.to_vec())
    }

    fn deliver(&mut self, number: usize) {
        let context = context(&self.sealed.key, &self.sealed.signer);
        let opened = self.open(&context, &self.sealed.wires[number]);
        let behind = self.newest.and_then(|newest| newest.checked_sub(number));
        if self.shown[number] {
            assert!(matches!(opened, Err(OpenError::Replay(_))), "{number} was shown twice");
        } else if behind.is_some_and(|behind| behind as u64 * APART >= 1_024) {
            assert_eq!(opened, Err(OpenError::Replay(Replay::TooOld)));
        } else {
            assert_eq!(opened.as_deref(), Ok(&number.to_be_bytes()[..]), "{number} was lost");
            self.shown[number] = true;
            self.newest = self.newest.max(Some(number));
        }
    }

    fn refuse(&mut self, context: &Context, wire: &[u8]) {
        let before = self.window.clone();
        assert!(self.open(context, wire).is_err(), "what nobody sealed was opened");
        assert_eq!(before, self.window, "a refused message moved the window");
    }
}

/// Plays `bytes`; the first says with which AEAD.
pub(crate) fn shared_key(bytes: &[u8]) {
    let Some((alg, bytes)) = bytes.split_first() else { return };
    let sealed = &SEALED_WITH[usize::from(alg % 3)];
    let begin =
        || Reader { sealed, window: Window::default(), shown: vec![false; SEALED], newest: None };
    let mut reader = begin();
    let right = context(&sealed.key, &sealed.signer);
    for step in moves(bytes) {
        match step {
            Move::Deliver(number) => reader.deliver(number),
            Move::Change(number, at, by) => {
                reader.refuse(&right, &changed(&sealed.wires[number], at, by));
            }
            Move::Cut(number, at) => reader.refuse(&right, cut(&sealed.wires[number], at)),
            Move::Elsewhere(number, field) => {
                let mut wrong = right;
                match field % 4 {
                    0 => wrong.group = GroupId::new([9; 32]),
                    1 => wrong.sender = DeviceId::new([9; 32]),
                    2 => wrong.roster = RosterHash::new([9; 32]),
                    _ => wrong.key = SharedKeyId::new([9; 32]),
                }
                reader.refuse(&wrong, &sealed.wires[number]);
            }
            Move::Restart => {
                let stored = reader.window.encode();
                reader.window = Window::decode(&stored).expect("what was stored");
                assert_eq!(stored, reader.window.encode());
            }
            Move::Newcomer(_) => reader = begin(),
            Move::Junk(junk) => reader.refuse(&right, junk),
        }
    }
}
