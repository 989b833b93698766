//! The construction by itself, against what its source allowed: one key under three ciphers, and
//! messages that are called by their texts.

use causeway_groups::schemes::{
    pairwise::FanOut,
    sender_keys::{ChainSecrets, OwnChain, Seed, Suite},
    shared_key::{GroupKey, OpenError, Verified, Window, Wire},
};
use causeway_protocol::{
    envelope::{Kind, Recipient, compute_id},
    fanout,
    ids::{ClientId, DeviceId, EnvelopeId, Epoch, GroupId, RosterHash, Timestamp},
    shared_key::{self as shared, Alg, Context, Header, Message, Nonce},
};
use ed25519_dalek::{Signer as _, SigningKey};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

const GROUP: GroupId = GroupId::new([1; 32]);
const ROSTER: RosterHash = RosterHash::new([4; 32]);
const SECRET: [u8; 32] = [7; 32];
/// Longer than what any of them puts around it.
const TEXT: [u8; 100] = [b'x'; 100];
const ALGS: [Alg; 3] = [Alg::Aes256Gcm, Alg::ChaCha20Poly1305, Alg::XSalsa20Poly1305];

fn signing() -> SigningKey {
    SigningKey::from_bytes(&[8; 32])
}

fn key(alg: Alg) -> (GroupKey, Context) {
    let key = GroupKey::new(alg, GROUP, Epoch(3), Zeroizing::new(SECRET));
    let sender = DeviceId::new(signing().verifying_key().to_bytes());
    let context = Context { group: GROUP, sender, key: key.id(), roster: ROSTER };
    (key, context)
}

fn nonce(alg: Alg) -> Nonce {
    match alg {
        Alg::XSalsa20Poly1305 => Nonce::Whole([6; 24]),
        Alg::Aes256Gcm | Alg::ChaCha20Poly1305 => Nonce::Salt([6; 4]),
    }
}

fn open(wire: &[u8], (key, context): &(GroupKey, Context)) -> Result<Vec<u8>, OpenError> {
    let mut window = Window::default();
    let wire = Wire::parse(wire)?;
    let verified = wire.verify(key, &mut window, context, &signing().verifying_key());
    verified.and_then(Verified::open).map(|text| text.to_vec())
}

/// Whoever has the key and may sign says of a box of one cipher that it is another's: it is signed as
/// that cipher's messages are, and opens in none.
#[test]
fn a_box_of_one_cipher_opens_in_no_other() {
    for of in ALGS {
        let (key_of, context) = key(of);
        let sealed = key_of.seal(&context, 1, nonce(of), &signing(), &TEXT).unwrap();
        assert_eq!(open(&sealed, &key(of)), Ok(TEXT.to_vec()));
        let boxed = Message::parse(&sealed).unwrap().boxed;
        for other in ALGS.into_iter().filter(|other| *other != of) {
            let (_, context) = key(other);
            assert_eq!(open(&sealed, &key(other)), Err(OpenError::WrongAlg));
            let [t0, t1, t2, t3, ..] = *context.key.as_bytes();
            let (tag, nonce) = ([t0, t1, t2, t3], nonce(other));
            let header = Header { alg: other, tag, counter: 1, hint: [4; 4], nonce };
            let info = shared::sender_info(other, GROUP, context.key, context.sender);
            let mut okm = [0; 64];
            Hkdf::<Sha256>::new(None, &SECRET).expand(&info, &mut okm).unwrap();
            let commit = okm[32..].try_into().unwrap();
            let signed = shared::signed_bytes(&context.aad(&header), &commit, boxed);
            let signature = signing().sign(&signed).to_bytes();
            let wire = [header.to_bytes(), boxed.to_vec(), signature.to_vec()].concat();
            assert_eq!(open(&wire, &key(other)), Err(OpenError::Box), "{of:?} as {other:?}");
        }
    }
}

/// The server tries a text that it guesses: what it sees of the same text is another each time, in
/// whichever scheme, under the same keys even.
#[test]
fn the_same_text_has_another_name_each_time() {
    let text = b"yes";
    let name = |kind: Kind, payload: &[u8]| -> EnvelopeId {
        compute_id(kind, None, &Recipient::Broadcast, payload, None)
    };
    for alg in ALGS {
        let (key, context) = key(alg);
        let names = [1, 2].map(|counter| {
            let sealed = key.seal(&context, counter, nonce(alg), &signing(), text).unwrap();
            name(Kind::Message, &sealed)
        });
        assert_ne!(names[0], names[1]);
    }

    let secrets =
        ChainSecrets { root: Seed::new(SECRET), signing: Zeroizing::new(SECRET), rand: [9; 16] };
    let sender = DeviceId::new([2; 32]);
    let mut chain = OwnChain::new(Suite::Aes256Gcm, GROUP, sender, Epoch(3), Timestamp(5), secrets);
    let names = [(); 2].map(|()| {
        let sealed = chain.seal(&ROSTER, [0; 4], text).unwrap();
        name(Kind::Message, &sealed)
    });
    assert_ne!(names[0], names[1]);

    let names = [7, 8].map(|key| {
        let msg_id = ClientId::new([5; 16]);
        let context =
            fanout::Context { group: GROUP, sender, epoch: Epoch(3), roster: ROSTER, msg_id };
        let sealed = FanOut::seal(context, Zeroizing::new([key; 32]), text).unwrap();
        name(Kind::Fanout, &sealed.payload(0, 1))
    });
    assert_ne!(names[0], names[1]);
}
