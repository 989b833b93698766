//! The chain against the vectors, and against everything that a wire can do to it.

use causeway_groups::schemes::sender_keys::{
    ChainSecrets, HeldChain, OpenError, OwnChain, SealError, Seed, Suite, Wire,
};
use causeway_protocol::{
    ids::{ChainId, DeviceId, Epoch, GroupId, RosterHash, Timestamp},
    olm_plaintext::{Distribution, OlmPlaintext},
    sender_key::{Context, LEAVES, MAX_PLAINTEXT},
};
use proptest::prelude::*;
use serde_json::Value;
use zeroize::Zeroizing;

const GROUP: GroupId = GroupId::new([1; 32]);
const ALICE: DeviceId = DeviceId::new([2; 32]);
const BOB: DeviceId = DeviceId::new([3; 32]);
const ROSTER: RosterHash = RosterHash::new([4; 32]);

fn context(chain: &HeldChain) -> Context {
    Context { group: GROUP, sender: ALICE, chain: chain.id(), roster: ROSTER }
}

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/tests/vectors/v2.json");
    serde_json::from_slice(&std::fs::read(path).expect("the vectors")).expect("JSON")
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("a string")).expect("hex")
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().expect("the length")
}

fn own(suite: Suite) -> OwnChain {
    let secrets =
        ChainSecrets { root: Seed::new([7; 32]), signing: Zeroizing::new([8; 32]), rand: [9; 16] };
    OwnChain::new(suite, GROUP, ALICE, Epoch(3), Timestamp(5), secrets)
}

fn held(own: &OwnChain) -> HeldChain {
    let distribution = own.distribution(BOB, ROSTER, Timestamp(0)).expect("not ended");
    HeldChain::from_distribution(&distribution).expect("nodes")
}

fn open_in(chain: &mut HeldChain, context: &Context, wire: &[u8]) -> Result<Vec<u8>, OpenError> {
    Ok(Wire::parse(wire)?.verify(chain, context)?.open()?.spend().to_vec())
}

fn open(chain: &mut HeldChain, wire: &[u8]) -> Result<Vec<u8>, OpenError> {
    let context = context(chain);
    open_in(chain, &context, wire)
}

#[test]
fn every_message_of_the_vectors_is_sealed_and_opened_to_the_byte() {
    let vectors = vectors();
    let group = GroupId::new(array(&vectors["roster"]["group_id"]));
    let epoch = Epoch(u32::try_from(vectors["roster"]["epoch"].as_u64().unwrap()).unwrap());
    let roster_hash = RosterHash::new(array(&vectors["roster"]["hash"]));
    let sender = DeviceId::new(array(&vectors["roster"]["creator"]));
    for vector in vectors["chains"].as_array().unwrap() {
        let number = u8::try_from(vector["suite"].as_u64().unwrap()).unwrap();
        let Some(suite) = Suite::from_number(number) else { continue };
        let secrets = ChainSecrets {
            root: Seed::new(array(&vector["root"])),
            signing: Zeroizing::new(array(&vector["signing_seed"])),
            rand: array(&vector["chain_rand"]),
        };
        let mut chain = OwnChain::new(suite, group, sender, epoch, Timestamp(0), secrets);
        assert_eq!(chain.id().as_bytes(), &array(&vector["chain_id"]));
        let mut reader = held(&chain);
        let context = Context { group, sender, chain: chain.id(), roster: roster_hash };
        for message in vector["messages"].as_array().unwrap() {
            let index = u32::try_from(message["index"].as_u64().unwrap()).unwrap();
            while chain.next_index() < index {
                chain.seal(&roster_hash, [0; 4], b"").unwrap();
            }
            let (plaintext, wire) = (bytes(&message["plaintext"]), bytes(&message["wire"]));
            let sealed = chain.seal(&roster_hash, array(&message["salt"]), &plaintext).unwrap();
            assert_eq!(hex::encode(&sealed), hex::encode(&wire), "index {index}");
            assert_eq!(sealed.len() - plaintext.len(), if index < 128 { 94 } else { 95 });
            assert_eq!(open_in(&mut reader, &context, &wire).unwrap(), plaintext);
        }
    }
}

#[test]
fn the_distribution_of_the_vectors_is_written_and_read_to_the_byte() {
    let vectors = vectors();
    let vector = &vectors["chains"][0]["distribution_at_500"];
    let wire = bytes(&vector["bytes"]);
    let parsed = OlmPlaintext::parse(&wire).expect("a plaintext");
    assert_eq!(parsed.to_bytes().unwrap().as_slice(), wire);
    let OlmPlaintext::Distribution(distribution) = parsed else { panic!("a distribution") };
    assert_eq!(wire.len(), 302);
    assert_eq!(distribution.chain_id().as_bytes(), &array(&vectors["chains"][0]["chain_id"]));
    HeldChain::from_distribution(&distribution).expect("a minimal cover");
}

#[test]
fn a_newcomer_opens_exactly_what_is_ahead() {
    let mut chain = own(Suite::Aes256Gcm);
    let mut wires = Vec::new();
    let mut newcomer = None;
    for index in 0..LEAVES {
        if index == 500 {
            newcomer = Some(held(&chain));
        }
        wires.push(chain.seal(&ROSTER, [0; 4], &index.to_be_bytes()).unwrap());
    }
    assert!(chain.seal(&ROSTER, [0; 4], b"").is_err());
    assert!(chain.distribution(BOB, ROSTER, Timestamp(0)).is_none());
    let mut newcomer = newcomer.unwrap();
    for (index, wire) in (0..LEAVES).zip(&wires).rev() {
        let opened = open(&mut newcomer, wire);
        match index {
            0..500 => assert_eq!(opened, Err(OpenError::Spent)),
            _ => assert_eq!(opened.unwrap(), index.to_be_bytes()),
        }
    }
}

#[test]
fn a_cover_that_is_not_minimal_is_refused() {
    let chain = own(Suite::Aes256Gcm);
    let tampered = |change: fn(&mut Distribution)| {
        let mut distribution = chain.distribution(BOB, ROSTER, Timestamp(0)).unwrap();
        change(&mut distribution);
        HeldChain::from_distribution(&distribution).is_err()
    };
    assert!(tampered(|d| d.start_index = 1));
    assert!(tampered(|d| d.nodes.clear()));
    assert!(tampered(|d| d.nodes[0].prefix = 1));
    assert!(tampered(|d| d.nodes[0].depth = 11));
    assert!(tampered(|d| d.nodes[0].depth = 1));
    assert!(!tampered(|_| ()));
}

#[test]
fn any_changed_bit_is_refused_and_changes_nothing() {
    for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
        let mut chain = own(suite);
        let mut reader = held(&chain);
        let wire = chain.seal(&ROSTER, [1, 2, 3, 4], b"hello").unwrap();
        let before = reader.encode();
        for bit in 0..wire.len() * 8 {
            let mut wire = wire.clone();
            wire[bit / 8] ^= 1 << (bit % 8);
            let (tag, hint) = (1..5, 6..10);
            // The tag picks the chain and the hint the roster, before any of this.
            if tag.contains(&(bit / 8)) || hint.contains(&(bit / 8)) {
                continue;
            }
            assert!(open(&mut reader, &wire).is_err(), "bit {bit}");
            assert_eq!(reader.encode(), before);
        }
        for len in 0..wire.len() {
            assert!(open(&mut reader, &wire[..len]).is_err());
        }
        assert_eq!(open(&mut reader, &wire).unwrap(), b"hello");
        assert_eq!(open(&mut reader, &wire), Err(OpenError::Spent));
    }
}

#[test]
fn a_message_opens_in_its_own_context_only() {
    let mut chain = own(Suite::Aes256Gcm);
    let mut reader = held(&chain);
    let wire = chain.seal(&ROSTER, [0; 4], b"hello").unwrap();
    let right = context(&reader);
    for context in [
        Context { group: GroupId::new([0; 32]), ..right },
        Context { sender: BOB, ..right },
        Context { roster: RosterHash::new([0; 32]), ..right },
    ] {
        assert_eq!(open_in(&mut reader, &context, &wire), Err(OpenError::Signature));
    }
    assert!(open(&mut reader, &wire).is_ok());
}

#[test]
fn an_opened_message_that_is_not_spent_leaves_the_chain_as_it_was() {
    let mut chain = own(Suite::Aes256Gcm);
    let mut reader = held(&chain);
    let wire = chain.seal(&ROSTER, [0; 4], b"hello").unwrap();
    let before = reader.encode();
    let parsed = Wire::parse(&wire).unwrap();
    let right = context(&reader);
    assert_eq!(parsed.verify(&mut reader, &right).unwrap().open().unwrap().plaintext(), b"hello");
    assert_eq!(reader.encode(), before);
}

#[test]
fn an_index_not_written_minimally_is_malformed() {
    let mut chain = own(Suite::Aes256Gcm);
    let wire = chain.seal(&ROSTER, [0; 4], b"hello").unwrap();
    let padded = [&wire[..5], &[0x80, 0x00], &wire[6..]].concat();
    assert_eq!(Wire::parse(&padded).map(|_| ()), Err(OpenError::Malformed));
}

#[test]
fn state_in_order_stays_below_one_kilobyte() {
    let mut chain = own(Suite::Aes256Gcm);
    let mut reader = held(&chain);
    for _ in 0..LEAVES {
        let wire = chain.seal(&ROSTER, [0; 4], b"").unwrap();
        open(&mut reader, &wire).unwrap();
        assert!(reader.encode().len() <= 500);
        assert!(chain.encode().len() <= 500);
    }
}

#[test]
fn a_chain_with_many_holes_forgets_the_lowest_and_keeps_its_size() {
    let mut chain = own(Suite::Aes256Gcm);
    let mut reader = held(&chain);
    let wires: Vec<_> = (0..LEAVES)
        .map(|index| chain.seal(&ROSTER, [0; 4], &index.to_be_bytes()).unwrap())
        .collect();
    // Every other one is lost, so that each that comes leaves a hole behind.
    for wire in wires.iter().skip(1).step_by(2).take(400) {
        open(&mut reader, wire).unwrap();
        assert!(reader.encode().len() <= 138 + 64 * 35);
    }
    let late: Vec<_> = wires.iter().step_by(2).take(400).map(|w| open(&mut reader, w)).collect();
    let kept = late.iter().position(Result::is_ok).unwrap();
    assert!(late[..kept].iter().all(|opened| *opened == Err(OpenError::Spent)));
    assert!(late[kept..].iter().all(Result::is_ok) && late.len() - kept >= 50, "{kept}");
    // What is ahead is not touched by it.
    assert!(wires.iter().skip(801).all(|wire| open(&mut reader, wire).is_ok()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_order_loss_and_duplication_shows_each_exactly_once(
        deliveries in prop::collection::vec(0_usize..60, 1..160),
        reload in any::<bool>(),
    ) {
        let mut chain = own(Suite::Aes256Gcm);
        let mut reader = held(&chain);
        let wires: Vec<_> = (0_u8..60)
            .map(|i| {
                if reload {
                    chain = OwnChain::decode(&chain.encode()).unwrap();
                }
                chain.seal(&ROSTER, [0; 4], &[i]).unwrap()
            })
            .collect();
        let mut shown = [false; 60];
        for at in deliveries {
            if reload {
                reader = HeldChain::decode(&reader.encode()).unwrap();
            }
            match open(&mut reader, &wires[at]) {
                Ok(text) => {
                    prop_assert_eq!(text, vec![u8::try_from(at).unwrap()]);
                    prop_assert!(!shown[at]);
                    shown[at] = true;
                }
                Err(error) => prop_assert!(error == OpenError::Spent && shown[at]),
            }
        }
    }
}

#[test]
fn the_longest_plaintext_is_sealed_and_one_byte_more_moves_nothing() {
    let mut chain = own(Suite::Aes256Gcm);
    let mut reader = held(&chain);
    let long = vec![7; MAX_PLAINTEXT + 1];
    let refused = chain.seal(&ROSTER, [0; 4], &long).unwrap_err();
    assert_eq!(refused, SealError::TooLong(MAX_PLAINTEXT + 1, MAX_PLAINTEXT));
    assert_eq!(chain.next_index(), 0);
    let wire = chain.seal(&ROSTER, [0; 4], &long[1..]).unwrap();
    assert_eq!(open(&mut reader, &wire).unwrap(), long[1..]);
}

/// Else a message of another place would be told from a repeated one by what is held here.
#[test]
fn whether_a_message_fits_is_asked_before_whether_it_was_opened() {
    let mut chain = own(Suite::Aes256Gcm);
    let mut reader = held(&chain);
    let wire = chain.seal(&ROSTER, [0; 4], b"x").unwrap();
    open(&mut reader, &wire).unwrap();
    let fitting = context(&reader);
    assert_eq!(open_in(&mut reader, &fitting, &wire), Err(OpenError::Spent));
    for other in [
        Context { group: GroupId::new([9; 32]), ..fitting },
        Context { sender: BOB, ..fitting },
        Context { chain: ChainId::new([9; 32]), ..fitting },
    ] {
        assert_eq!(open_in(&mut reader, &other, &wire), Err(OpenError::Signature));
    }
    let wire = own(Suite::ChaCha20Poly1305).seal(&ROSTER, [0; 4], b"x").unwrap();
    assert_eq!(open_in(&mut reader, &fitting, &wire), Err(OpenError::Signature));
}

#[test]
fn a_stored_tree_with_a_node_that_cannot_be_is_refused() {
    const NODE_BYTES: usize = 1 + 2 + 32;
    let stored = held(&own(Suite::Aes256Gcm)).encode().to_vec();
    assert!(HeldChain::decode(&stored).is_some());
    let root = stored.len() - NODE_BYTES;
    // Depth, and both bytes of the prefix: a root beside the root, and a leaf below the leaves.
    for (depth, prefix) in [(0, [0, 1]), (1, [0, 2]), (10, [4, 0]), (11, [0, 0])] {
        let mut bent = stored.clone();
        bent[root..root + 3].copy_from_slice(&[depth, prefix[0], prefix[1]]);
        assert!(HeldChain::decode(&bent).is_none(), "{depth} {prefix:?}");
    }
}

#[test]
fn a_seed_is_not_printed() {
    assert_eq!(format!("{:?}", Seed::new([7; 32])), "Seed(..)");
}
