use causeway_protocol::{
    device::DeviceOf,
    ids::{ChainId, DeviceId, MemberId},
    olm_plaintext::{Distribution, OlmPlaintext, Refused},
    sender_key::{ChainParts, Context, Header, LEAVES, Message, cover, signed_bytes},
};
use serde_json::Value;

use crate::vectors::{Get, NATIVE, V2, log, unhex};

/// The member who has this device, among the people of the vectors.
fn device_of(device_id: DeviceId) -> DeviceOf {
    let has = |person: &&Value| {
        person.list("devices").iter().any(|d| d.array("device_id") == *device_id.as_bytes())
    };
    let person = NATIVE.list("people").iter().find(has);
    let member_id = person.map_or([0; 32], |person| person.array("member_id"));
    DeviceOf { member_id: MemberId::new(member_id), device_id }
}

#[test]
fn distributions_are_taken_or_refused_as_the_vectors_say() {
    let section = &NATIVE["distribution_cases"];
    let log = log(section.list("history"));
    let me = DeviceOf {
        member_id: MemberId::new(section["recipient"].array("member_id")),
        device_id: DeviceId::new(section["recipient"].array("device_id")),
    };
    for case in section.list("items") {
        let peer = device_of(DeviceId::new(case.array("olm_peer")));
        let held: Vec<ChainId> =
            case.list("held").iter().map(|id| ChainId::from_slice(&unhex(id)).unwrap()).collect();
        let got = match OlmPlaintext::parse(&case.bytes("plaintext")) {
            Ok(OlmPlaintext::Distribution(distribution)) => {
                assert_eq!(distribution.chain_id().as_bytes(), &case.array("chain_id"));
                let judged = distribution.judge(Some(&log), &me, &peer, |id| held.contains(id));
                judged.map_or_else(|refused| refused.to_string(), |()| "ok".to_owned())
            }
            _ => "malformed".to_owned(),
        };
        assert_eq!(got, case.text("result"), "{}", case.text("name"));
    }
}

/// A key of small order, a misspelt one, and one that is on no point: none of them signs anything.
#[test]
fn a_chain_that_no_key_signs_is_not_taken() {
    let section = &NATIVE["distribution_cases"];
    let log = log(section.list("history"));
    let good = section.list("items").iter().find(|case| case.text("result") == "ok").unwrap();
    let peer = device_of(DeviceId::new(good.array("olm_peer")));
    let me = DeviceOf {
        member_id: MemberId::new(section["recipient"].array("member_id")),
        device_id: DeviceId::new(section["recipient"].array("device_id")),
    };
    let plaintext = OlmPlaintext::parse(&good.bytes("plaintext")).unwrap();
    let OlmPlaintext::Distribution(good) = plaintext else { panic!("a distribution") };
    assert_eq!(good.judge(Some(&log), &me, &peer, |_| false), Ok(()));
    let (mut identity, mut no_point) = ([0; 32], [0; 32]);
    (identity[0], no_point[0]) = (1, 2);
    for sign_pk in [[0; 32], identity, no_point, [0xff; 32]] {
        let bad = Distribution { sign_pk, ..good.clone() };
        assert_eq!(bad.judge(Some(&log), &me, &peer, |_| false), Err(Refused::BadNodes));
    }
}

#[test]
fn covers_are_the_vectors_and_miss_no_leaf() {
    for chain in V2.list("chains") {
        let Some(covers) = chain["covers"].as_array() else { continue };
        for item in covers {
            let nodes: Vec<(u8, u16)> = item
                .list("nodes")
                .iter()
                .map(|node| (node.small("depth"), node.small("prefix")))
                .collect();
            assert_eq!(cover(item.small("start_index")), nodes);
        }
    }
    for start in 0..=LEAVES {
        let mut next = start;
        for (depth, prefix) in cover(start) {
            let leaves = LEAVES >> depth;
            assert_eq!(u32::from(prefix) * leaves, next);
            next += leaves;
        }
        assert_eq!(next, LEAVES);
    }
}

#[test]
fn wire_forms_and_chain_ids_are_the_vectors() {
    let roster = &V2["roster"];
    for chain in V2.list("chains") {
        let parts = ChainParts {
            suite: chain.small("suite"),
            group: causeway_protocol::ids::GroupId::new(roster.array("group_id")),
            sender: DeviceId::new(chain.bytes("cert_preimage")[49..81].try_into().unwrap()),
            epoch: causeway_protocol::ids::Epoch(roster.small("epoch")),
            sign_pk: chain.array("signing_public"),
            rand: chain.array("chain_rand"),
        };
        assert_eq!(parts.to_bytes(), chain.bytes("cert_preimage"));
        assert_eq!(parts.id().as_bytes(), &chain.array("chain_id"));
        for item in chain.list("messages") {
            let wire = item.bytes("wire");
            let message = Message::parse(&wire).unwrap();
            assert_eq!(message.header.suite, parts.suite);
            assert_eq!(u64::from(message.header.index), item.number("index"));
            assert_eq!(message.header.salt, item.array("salt"));
            assert!(wire.starts_with(&message.header.to_bytes()));
            let context = Context {
                group: parts.group,
                sender: parts.sender,
                chain: parts.id(),
                roster: causeway_protocol::ids::RosterHash::new(roster.array("hash")),
            };
            let signed =
                signed_bytes(&context.aad(&message.header), &item.array("commit"), message.sealed);
            causeway_protocol::keys::verify_bytes(parts.sign_pk, &signed, message.signature)
                .unwrap();
        }
    }
}

#[test]
fn an_index_has_one_spelling_and_stands_within_the_chain() {
    let message = |index: &[u8]| {
        let wire = [&[0x21, 1, 2, 3, 4], index, &[0; 4 + 4 + 16 + 64]].concat();
        Message::parse(&wire).map(|message| message.header.index).ok()
    };
    assert_eq!(message(&[0]), Some(0));
    assert_eq!(message(&[0x7f]), Some(127));
    assert_eq!(message(&[0x80, 0x01]), Some(128));
    assert_eq!(message(&[0xff, 0x07]), Some(1_023));
    assert_eq!(message(&[0x80, 0x08]), None);
    assert_eq!(message(&[0x80, 0x00]), None);
    assert_eq!(message(&[0xff, 0x80, 0x00]), None);
    assert_eq!(message(&[0x80; 8]), None);
    for index in [0, 1, 127, 128, 1_023] {
        let header = Header { suite: 1, tag: [1; 4], index, hint: [2; 4], salt: [3; 4] };
        let wire = [&header.to_bytes()[..], &[0; 80]].concat();
        assert_eq!(Message::parse(&wire).unwrap().header, header);
        assert_eq!(wire.len(), if index < 128 { 94 } else { 95 });
    }
}

#[test]
fn a_message_has_a_version_a_suite_and_a_length() {
    let message = |first: u8, sealed: usize| {
        let header = [&[first, 1, 2, 3, 4, 0], &[0; 8][..]].concat();
        Message::parse(&[header, vec![0; sealed + 64]].concat()).is_ok()
    };
    let firsts = [(0x21, true), (0x22, true), (0x20, false), (0x25, false), (0x11, false)];
    for (first, read) in firsts {
        assert_eq!(message(first, 16), read, "{first:#x}");
    }
    let lengths = [(15, false), (16, true), (64 * 1024 + 16, true), (64 * 1024 + 17, false)];
    for (sealed, read) in lengths {
        assert_eq!(message(0x21, sealed), read, "{sealed}");
    }
}
