//! Envelopes, message plaintexts and Olm plaintexts: bytes to fields and back.

use std::collections::BTreeSet;

use causeway_protocol::{
    content::{Content, Plaintext},
    device::DeviceOf,
    envelope::{Envelope, Kind, Recipient, Submission, id_bytes},
    ids::{ChainId, ClientId, DeviceId, Epoch, GroupId, RosterHash, Timestamp},
    olm_plaintext::{LegacyKey, Missing, OlmPlaintext, Piece, Route, SharedKey},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{
    chains,
    histories::log,
    report::{Check, Failure, Fields, ensure, same},
};

/// Stands in ids for a server that sends, and for everybody.
const NOBODY: DeviceId = DeviceId::new([0; 32]);

/// JSON to row and back, the id, and where the chain is given the payload sealed again.
pub(crate) fn envelope(item: &Value) -> Check {
    let row: Envelope = serde_json::from_str(item.text("json")?)?;
    let json: Value = serde_json::from_str(item.text("json")?)?;
    same("JSON", serde_json::to_value(&row)?, json)?;
    same("kind", row.kind.number(), item.number("kind_no")?)?;
    same("name of the kind", serde_json::to_value(row.kind)?, item.field("kind")?.clone())?;
    same("recipient", serde_json::to_value(row.to)?, item.field("to")?.clone())?;
    let account = row.sender.as_ref().map(|sender| sender.account.as_str());
    same("account", account, item.field("sender_account")?.as_str())?;
    let device = row.sender.as_ref().map_or(NOBODY, |sender| sender.device);
    same("device", device.as_bytes(), &item.array("sender_device")?)?;
    same(
        "piece",
        row.piece.as_ref().map(|piece| hex::encode(&piece.0)).as_deref(),
        item.field("piece")?.as_str(),
    )?;
    // The id of a message does not name a recipient.
    if row.kind != Kind::Message {
        let to = match &row.to {
            Recipient::Device(device) => *device,
            Recipient::Broadcast => NOBODY,
        };
        same("R", to.as_bytes(), &item.array("R")?)?;
    }
    same("group", row.group.as_bytes(), &item.array("group_id")?)?;
    same("epoch", row.epoch.0, item.number("epoch")?)?;
    same("ttl_ms", row.ttl_ms, item.number("ttl_ms")?)?;
    same("payload", row.payload.as_slice(), item.bytes("payload")?.as_slice())?;
    let sender = row.sender.as_ref().map(|sender| &sender.device);
    let preimage = id_bytes(row.kind, sender, &row.to, &row.payload, row.piece.as_ref());
    same("id preimage", preimage, item.bytes("id_preimage")?)?;
    same("id", row.compute_id().as_bytes(), &item.array("id")?)?;
    row.check()?;
    let mut other = row.clone();
    other.payload.push(0);
    ensure(other.check().is_err(), "the id is that of another payload too")?;

    let Some(inputs) = item.get("wire_inputs").filter(|inputs| !inputs.is_null()) else {
        return Ok(());
    };
    let plaintext = inputs.bytes("plaintext")?;
    let wire = chains::seal_at(
        inputs.field("chain")?,
        inputs.number("index")?,
        &RosterHash::new(inputs.array("roster_hash")?),
        inputs.array("salt")?,
        &plaintext,
    )?;
    same("sealed payload", wire.as_slice(), row.payload.as_slice())?;
    let ttl_ms = Plaintext::parse(&plaintext)?.ttl_ms(inputs.number("group_ttl_s")?);
    same("ttl_ms of the plaintext", ttl_ms.min(row.kind.max_ttl_ms()), row.ttl_ms)
}

/// A fan-out as posted stands for its rows.
pub(crate) fn submission(file: &Value, item: &Value) -> Check {
    let submission: Submission = serde_json::from_str(item.text("json")?)?;
    let json: Value = serde_json::from_str(item.text("json")?)?;
    same("JSON", serde_json::to_value(&submission)?, json)?;
    submission.check()?;
    let items = file["envelopes"].items("items")?;
    let mut expected = BTreeSet::new();
    for row in item.items("rows")? {
        let at = row.as_u64().and_then(|at| usize::try_from(at).ok());
        let row = at.and_then(|at| items.get(at)).ok_or_else(|| Failure("no row".to_owned()))?;
        expected.insert(row.text("json")?.to_owned());
    }
    let rows: Result<BTreeSet<String>, _> =
        submission.rows().map(|row| serde_json::to_string(&row)).collect();
    same("rows", rows?, expected)
}

pub(crate) fn plaintext(item: &Value) -> Check {
    let bytes = item.bytes("bytes")?;
    let plaintext = Plaintext::parse(&bytes)?;
    same("type", plaintext.content.number(), item.number("type")?)?;
    ensure(!matches!(plaintext.content, Content::Unknown(..)), "the type is not known")?;
    same("sent_at", plaintext.sent_at, Timestamp(item.number("sent_at_ms")?))?;
    same("ttl_s", plaintext.ttl_s, item.number("ttl_s")?)?;
    same("client_id", plaintext.client_id, ClientId::new(item.array("client_id")?))?;
    let again = plaintext.to_bytes();
    let body = again.get(29..).unwrap_or_default();
    same("body", body, item.text("body_json")?.as_bytes())?;
    same("bytes", again, bytes)
}

/// Fields to bytes and bytes to fields; a distribution is made from its chain and opens its message.
pub(crate) fn olm_plaintext(section: &Value, item: &Value) -> Check {
    let bytes = item.bytes("plaintext")?;
    let plaintext = OlmPlaintext::parse(&bytes)?;
    same("type", letter(&plaintext), item.text("type")?)?;
    if let OlmPlaintext::Distribution(said) = &plaintext {
        same("chain's epoch", said.epoch.0, item.number("chain_epoch")?)?;
        let ops: Vec<Value> = section.items("history")?.into_iter().cloned().collect();
        let log = log(&ops)?;
        let roster = log.by_hash(&said.roster_hash).map(|roster| roster.epoch().0);
        same("roster's epoch", roster, Some(item.number("roster_epoch")?))?;
        let nodes = item.items("nodes")?;
        same("number of nodes", said.nodes.len(), nodes.len())?;
        for (node, expected) in said.nodes.iter().zip(nodes) {
            same("depth", node.depth, expected.number("depth")?)?;
            same("prefix", node.prefix, expected.number("prefix")?)?;
            same("seed", *node.seed, expected.array("seed")?)?;
        }
    }
    let made = match &plaintext {
        OlmPlaintext::Distribution(distribution) => {
            chains::distribution_opens(distribution, item)?;
            OlmPlaintext::Distribution(chains::distribution_made(item)?)
        }
        OlmPlaintext::Acknowledgement(..) => {
            let entry = |entry: &Value| -> Result<(ChainId, u32), Failure> {
                Ok((ChainId::new(entry.array("chain_id")?), entry.number("start")?))
            };
            let entries: Result<_, Failure> =
                item.items("entries")?.into_iter().map(entry).collect();
            OlmPlaintext::Acknowledgement(route(item)?, entries?)
        }
        OlmPlaintext::KeyRequest(..) => OlmPlaintext::KeyRequest(
            route(item)?,
            Missing {
                tag: item.array("chain_tag")?,
                index: item.number("index")?,
                epoch: Epoch(item.number("epoch")?),
            },
        ),
        OlmPlaintext::SharedKey(..) => OlmPlaintext::SharedKey(
            route(item)?,
            SharedKey {
                alg: item.number("alg")?,
                generation: item.number("generation")?,
                epoch: Epoch(item.number("epoch")?),
                roster_hash: RosterHash::new(item.array("roster_hash")?),
                created_ms: Timestamp(item.number("created_ms")?),
                not_after_ms: Timestamp(item.number("not_after_ms")?),
                key: Zeroizing::new(item.array("K")?),
            },
        ),
        OlmPlaintext::Invite(..) => {
            OlmPlaintext::Invite(route(item)?, item.text("link")?.to_owned())
        }
        OlmPlaintext::Dummy(_) => OlmPlaintext::Dummy(route(item)?),
        OlmPlaintext::Legacy(..) => OlmPlaintext::Legacy(
            route(item)?,
            LegacyKey {
                suite: item.number("suite")?,
                version: item.number("version")?,
                text: Zeroizing::new(item.text("text")?.to_owned()),
            },
        ),
        OlmPlaintext::History(..) => return ensure(false, "no vector has shared history"),
        OlmPlaintext::Call(..) => return ensure(false, "no vector has a signal of a call"),
        OlmPlaintext::Piece(_) => OlmPlaintext::Piece(Piece {
            key: Zeroizing::new(item.array("key")?),
            binding: Sha256::digest(item.bytes("binding_preimage")?).into(),
        }),
    };
    same("bytes", made.to_bytes()?.as_slice(), bytes.as_slice())?;
    same("fields", &plaintext, &made)?;
    let longer = OlmPlaintext::parse(&[bytes.as_slice(), &[0]].concat());
    ensure(longer.is_err(), "a trailing byte is taken")?;
    let shorter = bytes.split_last().map(|(_, rest)| OlmPlaintext::parse(rest));
    ensure(matches!(shorter, Some(Err(_))), "a missing byte is not missed")
}

fn letter(plaintext: &OlmPlaintext) -> &'static str {
    match plaintext {
        OlmPlaintext::Distribution(_) => "D",
        OlmPlaintext::Acknowledgement(..) => "A",
        OlmPlaintext::KeyRequest(..) => "R",
        OlmPlaintext::SharedKey(..) => "K",
        OlmPlaintext::Invite(..) => "I",
        OlmPlaintext::Dummy(_) => "W",
        OlmPlaintext::Legacy(..) => "L",
        OlmPlaintext::History(..) => "H",
        OlmPlaintext::Call(..) => "C",
        OlmPlaintext::Piece(_) => "fanout piece",
    }
}

fn route(item: &Value) -> Result<Route, Failure> {
    Ok(Route {
        group: GroupId::new(item.array("group_id")?),
        from: DeviceId::new(item.array("from")?),
        to: DeviceId::new(item.array("to")?),
    })
}

/// Who is meant by `recipient` in a section.
pub(crate) fn recipient(section: &Value) -> Result<DeviceOf, Failure> {
    let recipient = section.field("recipient")?;
    Ok(DeviceOf {
        member_id: causeway_protocol::ids::MemberId::new(recipient.array("member_id")?),
        device_id: DeviceId::new(recipient.array("device_id")?),
    })
}
