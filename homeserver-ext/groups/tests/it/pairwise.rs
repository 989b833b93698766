//! The construction by itself: what opens, where, and with which key.

use aes::cipher::{BlockEncrypt as _, KeyInit as _};
use aes_gcm::{
    Aes256Gcm,
    aead::{Aead as _, Payload},
};
use causeway_groups::schemes::pairwise::{FanOut, OpenError, open};
use causeway_protocol::{
    content::{Content, Plaintext},
    fanout::{Context, Header, Malformed, Message, commitment},
    ids::{ClientId, DeviceId, Epoch, GroupId, RosterHash, Timestamp},
    olm_plaintext::Piece,
};
use proptest::prelude::*;
use zeroize::Zeroizing;

const BOB: DeviceId = DeviceId::new([0xb0; 32]);

fn context() -> Context {
    Context {
        group: GroupId::new([1; 32]),
        sender: DeviceId::new([2; 32]),
        epoch: Epoch(3),
        roster: RosterHash::new([4; 32]),
        msg_id: ClientId::new([5; 16]),
    }
}

/// A plaintext of a type that nobody knows, so that its body may be anything.
fn plaintext(body: &[u8]) -> Vec<u8> {
    let content = Content::Unknown(200, body.to_vec());
    let sent_at = Timestamp(1_800_000_000_000);
    Plaintext { sent_at, ttl_s: 0, client_id: context().msg_id, content }.to_bytes()
}

fn sealed(body: &[u8]) -> FanOut {
    FanOut::seal(context(), Zeroizing::new([7; 32]), &plaintext(body)).unwrap()
}

fn opened(
    payload: &[u8],
    context: &Context,
    to: &DeviceId,
    piece: &Piece,
) -> Result<Vec<u8>, OpenError> {
    let message = Message::parse(payload).map_err(|Malformed| OpenError::Malformed)?;
    open(&message, context, to, piece).map(|text| text.to_vec())
}

#[test]
fn whoever_has_a_piece_opens_every_shard_with_it() {
    let fan_out = sealed(b"hello");
    for (shard, shards) in [(0, 1), (0, 2), (1, 2), (65_534, 65_535)] {
        let payload = fan_out.payload(shard, shards);
        let text = opened(&payload, &context(), &BOB, &fan_out.piece(&BOB));
        assert_eq!(text, Ok(plaintext(b"hello")));
    }
}

#[test]
fn what_is_kept_opens_in_its_own_context_only_and_its_key_is_the_same() {
    let fan_out = sealed(b"hello");
    let bytes = fan_out.encode();
    let read = FanOut::decode(context(), &bytes).unwrap();
    assert_eq!(read.payload(0, 1), fan_out.payload(0, 1));
    assert!(read.piece(&BOB) == fan_out.piece(&BOB));
    assert!(FanOut::decode(Context { epoch: Epoch(4), ..context() }, &bytes).is_none());
    for at in 0..bytes.len() {
        let mut bent = bytes.to_vec();
        bent[at] ^= 1;
        assert!(FanOut::decode(context(), &bent).is_none(), "{at}");
    }
    assert!(FanOut::decode(context(), &[]).is_none());
}

proptest! {
    #[test]
    fn any_changed_bit_of_payload_or_piece_is_refused(
        body in prop::collection::vec(any::<u8>(), 0..80),
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let fan_out = sealed(&body);
        let (payload, piece) = (fan_out.payload(1, 4), fan_out.piece(&BOB));
        let mut bytes = [payload.as_slice(), &*piece.key, &piece.binding].concat();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let (bent, rest) = bytes.split_at(payload.len());
        let (key, binding) = rest.split_at(32);
        let piece = Piece {
            key: Zeroizing::new(key.try_into().unwrap()),
            binding: binding.try_into().unwrap(),
        };
        // The context is the one that the header says, as a reader has it.
        let context = Message::parse(bent).map_or_else(|_| context(), |message| {
            let Header { roster, msg_id, .. } = message.header;
            Context { roster, msg_id, ..context() }
        });
        let opened = opened(bent, &context, &BOB, &piece);
        // Where it stands among the shards is nothing that a reader goes by.
        if (1..5).contains(&at) {
            prop_assert!(opened.is_err() || opened == Ok(plaintext(&body)));
        } else {
            prop_assert!(opened.is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_piece_opens_nothing_in_another_context(which in 0_usize..6, with in 1_u8..) {
        let fan_out = sealed(b"hello");
        let (mut other, mut to) = (context(), BOB);
        let id = [with ^ 0xff; 32];
        match which {
            0 => other.group = GroupId::new(id),
            1 => other.sender = DeviceId::new(id),
            2 => other.epoch = Epoch(3 + u32::from(with)),
            3 => other.roster = RosterHash::new(id),
            4 => other.msg_id = ClientId::new([with ^ 0xff; 16]),
            _ => to = DeviceId::new(id),
        }
        prop_assume!(other != context() || to != BOB);
        let opened = opened(&fan_out.payload(0, 1), &other, &to, &fan_out.piece(&BOB));
        // All but the epoch is bound twice; the epoch's hash is its roster's.
        let why = if which == 2 { OpenError::Ciphertext } else { OpenError::Binding };
        prop_assert_eq!(opened, Err(why));
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

/// The hash key of AES-GCM under `key`, and what masks its tag where the nonce is zeros.
fn ghash_keys(key: &[u8; 32]) -> (u128, u128) {
    let cipher = aes::Aes256::new(key.into());
    let encrypt = |block: u128| {
        let mut block = block.to_be_bytes().into();
        cipher.encrypt_block(&mut block);
        u128::from_be_bytes(block.into())
    };
    (encrypt(0), encrypt(1))
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

/// A ciphertext that opens under two keys, in the same context: AES-GCM commits to none.
fn two_readings(keys: [&[u8; 32]; 2], body: &[u8; 48]) -> Vec<u8> {
    const FREE: usize = 3;
    let aad = context().aad();
    let fan_out = FanOut::seal(context(), Zeroizing::new(*keys[0]), &plaintext(body)).unwrap();
    let payload = fan_out.payload(0, 1);
    let sealed = Message::parse(&payload).unwrap().sealed;
    let mut ciphertext = sealed[..sealed.len() - 16].to_vec();
    let [(sum1, power1, mask1), (sum2, power2, mask2)] = keys.map(|key| {
        let (h, mask) = ghash_keys(key);
        let (sum, power) = ghash(h, &aad, &ciphertext, FREE);
        (sum, power, mask)
    });
    let block = times(sum1 ^ sum2 ^ mask1 ^ mask2, inverse(power1 ^ power2));
    ciphertext[FREE * 16..(FREE + 1) * 16].copy_from_slice(&block.to_be_bytes());
    let tag = sum1 ^ times(block, power1) ^ mask1;
    [ciphertext, tag.to_be_bytes().to_vec()].concat()
}

#[test]
fn a_ciphertext_with_two_readings_is_read_by_one_key_alone() {
    let keys = [[7_u8; 32], [8; 32]];
    let forged = two_readings([&keys[0], &keys[1]], &[b'x'; 48]);
    let aad = context().aad();
    let readings = keys.map(|key| {
        let payload = Payload { msg: &forged, aad: &aad };
        Aes256Gcm::new((&key).into()).decrypt(&[0; 12].into(), payload).expect("it opens")
    });
    assert_ne!(readings[0], readings[1], "AES-GCM alone reads two texts");

    // Mallory gives Bob the one key and Carol the other, each rightly bound.
    let Context { roster, msg_id, .. } = context();
    for told in 0..2 {
        let kc = commitment(&keys[told]);
        let header = Header { shard: 0, shards: 1, msg_id, roster, kc };
        let payload = [header.to_bytes(), forged.clone()].concat();
        let read = keys.map(|key| {
            let binding = context().binding(&forged, &kc, &BOB);
            opened(&payload, &context(), &BOB, &Piece { key: Zeroizing::new(key), binding })
        });
        assert_eq!(read[1 - told], Err(OpenError::Commitment));
        // The second reading has not even the right name.
        let own = if told == 0 { Ok(readings[0].clone()) } else { Err(OpenError::Name) };
        assert_eq!(read[told], own);
    }
}

#[test]
fn a_fan_out_is_101_bytes_longer_than_its_text() {
    let fan_out = sealed(&[b'x'; 1_024]);
    let text = plaintext(&[b'x'; 1_024]).len();
    assert_eq!(fan_out.payload(0, 1).len(), text + 101);
    assert_eq!(fan_out.payload_len(), text + 101);
}
