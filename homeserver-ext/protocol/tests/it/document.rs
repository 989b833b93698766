//! The protocol document and the code name the same things: whoever reads only one of them must
//! not miss a label, a prefix or a reason.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use causeway_protocol::{
    envelope::{Kind, Piece, Recipient, Sender, Submission, SubmittedTo, compute_id},
    ids::{DeviceId, Epoch, GroupId, MemberId},
};

use crate::vectors::NATIVE;

const DOCUMENT: &str = include_str!("../../../../docs/protocol.md");

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// Every `cg/…` of a text with the zero bytes that are written after it.
fn tags(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in text.split("cg/").skip(1) {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '/';
        let name: String = rest.chars().take_while(|c| is_name(*c)).collect();
        let mut after = &rest[name.len()..];
        let mut zeros = 0;
        while let Some(rest) = after.strip_prefix("\\0") {
            (after, zeros) = (rest, zeros + 1);
        }
        found.insert(format!("cg/{name}{}", "\\0".repeat(zeros)));
    }
    found
}

#[test]
fn every_domain_tag_is_in_the_document_and_in_the_code_to_the_last_zero() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let code: BTreeSet<String> = ["protocol", "groups", "server"]
        .iter()
        .flat_map(|name| sources(&crates.join(name).join("src")))
        .flat_map(|file| {
            let text = fs::read_to_string(file).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            tags(&code.collect::<Vec<_>>().join("\n"))
        })
        .collect();
    assert_eq!(tags(DOCUMENT), code);
    assert_eq!(code.len(), 34);
}

/// What two people compare is worked out in the text for identities that anybody can write down.
#[test]
fn the_safety_number_of_the_document_is_right() {
    let [one, other] = [1, 2].map(|n| causeway_protocol::ids::MemberId::new([n; 32]));
    let number = causeway_protocol::keys::safety_number(&other, &one);
    assert!(DOCUMENT.contains(&format!("safety number   {number}\n")), "{number}");
}

#[test]
fn the_fingerprint_of_the_document_is_right() {
    let fingerprint = causeway_protocol::keys::fingerprint(&MemberId::new([1; 32]));
    assert!(DOCUMENT.contains(&format!("fingerprint     {fingerprint} ")), "{fingerprint}");
}

/// Ids, too: of bytes that are easily made, so that whoever writes a client can compare.
#[test]
fn the_ids_of_the_document_are_right() {
    let [sender, one, other] = [1, 2, 3].map(|n| DeviceId::new([n; 32]));
    let (payload, to) = (b"ABC", Recipient::Device(one));
    let pieces = [(one, Piece(vec![5])), (other, Piece(vec![6, 7]))];
    let whole = Submission {
        id: None,
        kind: Kind::Fanout,
        group: GroupId::new([4; 32]),
        epoch: Epoch(7),
        sender: Sender { account: "bob:b.example".parse().unwrap(), device: sender },
        to: SubmittedTo::Devices(pieces.clone().into()),
        ttl_ms: 60_000,
        payload: payload.to_vec(),
    };
    let [(_, piece), _] = &pieces;
    let of = |kind, piece| compute_id(kind, Some(&sender), &to, payload, piece);
    let about = whole.name();
    let back = Recipient::Device(sender);
    let ids = [
        compute_id(Kind::Message, Some(&sender), &Recipient::Broadcast, payload, None),
        of(Kind::KeyDistribution, None),
        of(Kind::Fanout, Some(piece)),
        about,
        compute_id(Kind::Expired, None, &back, about.as_bytes(), None),
    ];
    let start = DOCUMENT.find("\npayload  ").expect("the block of ids");
    let block = DOCUMENT[start..].split("```").next().unwrap();
    let said: Vec<&str> =
        block.trim().lines().skip(1).filter_map(|line| line.split(' ').next_back()).collect();
    assert_eq!(said, ids.map(|id| hex::encode(id.as_bytes())));
}

#[test]
fn every_reason_of_the_vectors_is_in_the_document() {
    let sections =
        ["op_negatives", "invites", "distribution_cases", "receive_rules", "second_histories"];
    let mut reasons = BTreeSet::new();
    for section in sections {
        collect(&NATIVE[section], &mut reasons);
    }
    reasons.remove("ok");
    assert!(reasons.len() > 60, "{}", reasons.len());
    let missing: Vec<_> =
        reasons.iter().filter(|reason| !DOCUMENT.contains(&format!("`{reason}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn collect(value: &serde_json::Value, into: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
        serde_json::Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_str() {
                    Some(word) if matches!(name.as_str(), "reason" | "result") => {
                        into.insert(word.to_owned());
                    }
                    _ => collect(field, into),
                }
            }
        }
        _ => {}
    }
}
