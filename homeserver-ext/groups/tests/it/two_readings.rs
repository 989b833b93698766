//! One ciphertext that AES-256-GCM opens under two keys, as two texts, sent under each scheme (flaws
//! A10 and D1): whoever made both keys shows one event to all, and no two of them the same text.

use aes::cipher::{BlockEncrypt as _, KeyInit as _};
use aes_gcm::{
    Aes256Gcm,
    aead::{Aead as _, Payload},
};
use causeway_groups::schemes::{
    legacy::{self, HeldKeys, OwnKey},
    pairwise,
    sender_keys::{self, ChainSecrets, HeldChain, OwnChain, Seed, Suite},
    shared_key::{self, GroupKey, Window},
};
use causeway_protocol::{
    content::{Content, Plaintext},
    fanout::{self, commitment},
    ids::{ClientId, DeviceId, Epoch, GroupId, RosterHash, Timestamp},
    olm_plaintext::Piece,
    sender_key,
    shared_key::{self as shared, Alg, Nonce},
};
use ed25519_dalek::{Signer as _, SigningKey};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

const GROUP: GroupId = GroupId::new([1; 32]);
const MALLORY: DeviceId = DeviceId::new([2; 32]);
const BOB: DeviceId = DeviceId::new([0xb0; 32]);
const ROSTER: RosterHash = RosterHash::new([4; 32]);
const MSG_ID: ClientId = ClientId::new([5; 16]);

/// How one of two readers opens.
#[derive(Clone)]
struct Reading {
    key: [u8; 32],
    nonce: [u8; 12],
    aad: Vec<u8>,
}

impl Reading {
    fn of(&self, sealed: &[u8]) -> Vec<u8> {
        let payload = Payload { msg: sealed, aad: &self.aad };
        Aes256Gcm::new((&self.key).into()).decrypt(&self.nonce.into(), payload).expect("it opens")
    }

    /// The hash key of AES-GCM, and what masks the tag.
    fn ghash_keys(&self) -> (u128, u128) {
        let cipher = aes::Aes256::new((&self.key).into());
        let encrypt = |block: [u8; 16]| {
            let mut block = block.into();
            cipher.encrypt_block(&mut block);
            u128::from_be_bytes(block.into())
        };
        let mut first = [0; 16];
        first[..12].copy_from_slice(&self.nonce);
        first[15] = 1;
        (encrypt([0; 16]), encrypt(first))
    }
}

/// x · y in the field of GHASH, whose first bit is the one of x⁰.
fn times(x: u128, y: u128) -> u128 {
    const R: u128 = 0xe1 << 120;
    let (mut z, mut v) = (0, y);
    for bit in (0..128).rev() {
        if x >> bit & 1 == 1 {
            z ^= v;
        }
        v = if v & 1 == 1 { v >> 1 ^ R } else { v >> 1 };
    }
    z
}

/// x⁻¹ = x^(2¹²⁸ − 2).
fn inverse(x: u128) -> u128 {
    let one = 1_u128 << 127;
    let (mut power, mut product) = (x, one);
    for _ in 0..127 {
        power = times(power, power);
        product = times(product, power);
    }
    assert_eq!(times(product, x), one);
    product
}

fn blocks(bytes: &[u8]) -> Vec<u128> {
    let block = |chunk: &[u8]| {
        let mut block = [0; 16];
        block[..chunk.len()].copy_from_slice(chunk);
        u128::from_be_bytes(block)
    };
    bytes.chunks(16).map(block).collect()
}

/// Everything that GHASH takes in, the ciphertext's block `free` being zero; and the power of the hash
/// key that this block is multiplied with.
fn ghash(h: u128, aad: &[u8], ciphertext: &[u8], free: usize) -> (u128, u128) {
    let lengths = ((aad.len() as u128 * 8) << 64) | (ciphertext.len() as u128 * 8);
    let aad = blocks(aad);
    let free = aad.len() + free;
    let all = [aad, blocks(ciphertext), vec![lengths]].concat();
    let (mut sum, mut power) = (0, 1_u128 << 127);
    let mut of_free = 0;
    for (at, block) in all.iter().enumerate().rev() {
        power = times(power, h);
        if at == free {
            of_free = power;
        } else {
            sum ^= times(*block, power);
        }
    }
    (sum, of_free)
}

/// A ciphertext with its tag that opens for both. The first reads `text` but for its fourth block, which
/// pays for the tag.
fn two_readings(readings: &[Reading; 2], text: &[u8]) -> Vec<u8> {
    const FREE: usize = 3;
    let [first, _] = readings;
    let payload = Payload { msg: text, aad: &first.aad };
    let sealed = Aes256Gcm::new((&first.key).into()).encrypt(&first.nonce.into(), payload);
    let mut ciphertext = sealed.expect("it seals");
    ciphertext.truncate(text.len());
    let [(sum1, power1, mask1), (sum2, power2, mask2)] = [0, 1].map(|reader: usize| {
        let (h, mask) = readings[reader].ghash_keys();
        let (sum, power) = ghash(h, &readings[reader].aad, &ciphertext, FREE);
        (sum, power, mask)
    });
    let block = times(sum1 ^ sum2 ^ mask1 ^ mask2, inverse(power1 ^ power2));
    ciphertext[FREE * 16..(FREE + 1) * 16].copy_from_slice(&block.to_be_bytes());
    let tag = sum1 ^ times(block, power1) ^ mask1;
    let forged = [ciphertext, tag.to_be_bytes().to_vec()].concat();
    let [one, other] = [0, 1].map(|reader: usize| readings[reader].of(&forged));
    assert_ne!(one, other, "AES-GCM alone reads two texts");
    forged
}

/// A plaintext of a type that nobody knows, so that its body may be anything.
fn plaintext() -> Vec<u8> {
    let content = Content::Unknown(200, vec![b'x'; 48]);
    let sent_at = Timestamp(1_800_000_000_000);
    Plaintext { sent_at, ttl_s: 0, client_id: MSG_ID, content }.to_bytes()
}

#[test]
fn a_ciphertext_with_two_readings_is_read_by_one_key_alone() {
    let context = fanout::Context {
        group: GROUP,
        sender: MALLORY,
        epoch: Epoch(3),
        roster: ROSTER,
        msg_id: MSG_ID,
    };
    let keys = [[7; 32], [8; 32]];
    let readings = keys.map(|key| Reading { key, nonce: [0; 12], aad: context.aad() });
    let forged = two_readings(&readings, &plaintext());

    // Mallory gives Bob the one key and Carol the other, each rightly bound.
    for told in 0..2 {
        let kc = commitment(&keys[told]);
        let header = fanout::Header { shard: 0, shards: 1, msg_id: MSG_ID, roster: ROSTER, kc };
        let payload = [header.to_bytes(), forged.clone()].concat();
        let read = keys.map(|key| {
            let binding = context.binding(&forged, &kc, &BOB);
            let piece = Piece { key: Zeroizing::new(key), binding };
            let message = fanout::Message::parse(&payload).unwrap();
            pairwise::open(&message, &context, &BOB, &piece).map(|text| text.to_vec())
        });
        assert_eq!(read[1 - told], Err(pairwise::OpenError::Commitment));
        // The second reading has not even the right name.
        let own =
            if told == 0 { Ok(readings[0].of(&forged)) } else { Err(pairwise::OpenError::Name) };
        assert_eq!(read[told], own);
    }
}

#[test]
fn a_message_of_a_chain_with_two_roots_is_read_from_one_alone() {
    let signing = [8; 32];
    let roots = [[7_u8; 32], [9; 32]];
    let chains = roots.map(|root| {
        let root = Seed::new(root);
        let secrets = ChainSecrets { root, signing: Zeroizing::new(signing), rand: [9; 16] };
        OwnChain::new(Suite::Aes256Gcm, GROUP, MALLORY, Epoch(3), Timestamp(5), secrets)
    });
    let chain = chains[0].id();
    assert_eq!(chain, chains[1].id(), "its name says nothing of its root");
    let context = sender_key::Context { group: GROUP, sender: MALLORY, chain, roster: ROSTER };
    let [t0, t1, t2, t3, ..] = *chain.as_bytes();
    let header = sender_key::Header {
        suite: 1,
        tag: [t0, t1, t2, t3],
        index: 0,
        hint: [4; 4],
        salt: [6; 4],
    };
    let aad = context.aad(&header);
    let keys = roots.map(|root| {
        let leaf = (0..sender_key::DEPTH).fold(root, |node, _| {
            let mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(&node).unwrap();
            mac.chain_update([0]).finalize().into_bytes().into()
        });
        let info = [b"cg/sk/v2/msg".as_slice(), &[1], &header.salt, chain.as_bytes()].concat();
        let mut okm = [0; 76];
        Hkdf::<Sha256>::from_prk(&leaf).unwrap().expand(&info, &mut okm).unwrap();
        okm
    });
    let readings = keys.map(|okm| Reading {
        key: okm[..32].try_into().unwrap(),
        nonce: okm[32..44].try_into().unwrap(),
        aad: aad.clone(),
    });
    let forged = two_readings(&readings, &plaintext());

    for told in 0..2 {
        let commit = keys[told][44..].try_into().unwrap();
        let signed = sender_key::signed_bytes(&aad, &commit, &forged);
        let signature = SigningKey::from_bytes(&signing).sign(&signed).to_bytes();
        let wire = [header.to_bytes(), forged.clone(), signature.to_vec()].concat();
        let read = [0, 1].map(|reader: usize| {
            let given = chains[reader].distribution(BOB, ROSTER, Timestamp(0)).unwrap();
            let mut held = HeldChain::from_distribution(&given).unwrap();
            let opened = sender_keys::Wire::parse(&wire)?.verify(&mut held, &context)?.open()?;
            Ok(opened.spend().to_vec())
        });
        assert_eq!(read[told], Ok(readings[told].of(&forged)));
        assert_eq!(read[1 - told], Err(sender_keys::OpenError::Signature));
    }
}

#[test]
fn a_message_under_two_shared_keys_is_read_under_one_alone() {
    let signing = SigningKey::from_bytes(&[8; 32]);
    let sender = DeviceId::new(signing.verifying_key().to_bytes());
    let secrets = [[7; 32], [9; 32]];
    let keys = secrets
        .map(|secret| GroupKey::new(Alg::Aes256Gcm, GROUP, Epoch(3), Zeroizing::new(secret)));
    let contexts = [0, 1].map(|key: usize| {
        let id = keys[key].id();
        shared::Context { group: GROUP, sender, key: id, roster: ROSTER }
    });
    // The four bytes that a reader looks the key up by could be made the same with some 2³² tries, so
    // here each reader is handed his own key whatever they are.
    let header = shared::Header {
        alg: Alg::Aes256Gcm,
        tag: [0; 4],
        counter: 1,
        hint: [4; 4],
        nonce: Nonce::Salt([6; 4]),
    };
    let derived = [0, 1].map(|key: usize| {
        let info = shared::sender_info(Alg::Aes256Gcm, GROUP, keys[key].id(), sender);
        let mut okm = [0; 64];
        Hkdf::<Sha256>::new(None, &secrets[key]).expand(&info, &mut okm).unwrap();
        okm
    });
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&1_u64.to_be_bytes());
    nonce[8..].copy_from_slice(&[6; 4]);
    let readings = [0, 1].map(|key: usize| Reading {
        key: derived[key][..32].try_into().unwrap(),
        nonce,
        aad: contexts[key].aad(&header),
    });
    let forged = two_readings(&readings, &plaintext());

    for told in 0..2 {
        let commit = derived[told][32..].try_into().unwrap();
        let signed = shared::signed_bytes(&readings[told].aad, &commit, &forged);
        let signature = signing.sign(&signed).to_bytes();
        let wire = [header.to_bytes(), forged.clone(), signature.to_vec()].concat();
        let read = [0, 1].map(|reader: usize| {
            let (mut window, device) = (Window::default(), signing.verifying_key());
            let wire = shared_key::Wire::parse(&wire)?;
            let verified = wire.verify(&keys[reader], &mut window, &contexts[reader], &device)?;
            Ok::<_, shared_key::OpenError>(verified.open()?.to_vec())
        });
        assert_eq!(read[told], Ok(readings[told].of(&forged)));
        assert_eq!(read[1 - told], Err(shared_key::OpenError::Signature));
    }
}

/// Seed 001 has no commitment, and its bytes are what they are: here the attack works.
#[test]
fn in_opus_v1_one_signed_message_is_read_as_two_texts() {
    let signing = [8; 32];
    let nonce = [6; 12];
    let chain_keys = [[7; 32], [9; 32]];
    let readings = chain_keys.map(|ck: [u8; 32]| {
        let mut key = [0; 32];
        Hkdf::<Sha256>::new(None, &ck).expand(b"SenderKey_MessageKey", &mut key).unwrap();
        Reading { key, nonce, aad: Vec::new() }
    });
    let forged = two_readings(&readings, &plaintext());
    let message = [nonce.as_slice(), &forged].concat();
    let signature = SigningKey::from_bytes(&signing).sign(&message).to_bytes();
    let read = chain_keys.map(|ck| {
        let own =
            OwnKey::new(legacy::Suite::OpusV1, 0, &Zeroizing::new(ck), &Zeroizing::new(signing));
        let mut held = HeldKeys::new(own.given()).unwrap();
        held.open((0, 0), &message, signature).unwrap().to_vec()
    });
    assert_eq!(read[0], readings[0].of(&forged));
    assert_eq!(read[1], readings[1].of(&forged));
}
