//! Fan-outs: sealed again to the byte, opened by each recipient, and refused for the reason given.

use causeway_groups::schemes::pairwise::{self, FanOut};
use causeway_protocol::{
    device::DeviceOf,
    envelope::{Kind, Piece, Recipient, compute_id},
    fanout::{Context, Message, commitment},
    ids::{ClientId, DeviceId, Epoch, GroupId, RosterHash, Seq},
    olm_plaintext::{OlmPayload, OlmPlaintext},
    roster::{Arrival, Log, Verdict},
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    histories::log,
    report::{Check, Failure, Fields, Vectors, ensure, same},
};

/// One message: its ciphertext, every piece, every shard.
pub(crate) fn item(item: &Value) -> Check {
    let context = Context {
        group: GroupId::new(item.array("group_id")?),
        sender: DeviceId::new(item.array("sender_id")?),
        epoch: Epoch(item.number("epoch")?),
        roster: RosterHash::new(item.array("roster_hash")?),
        msg_id: ClientId::new(item.array("msg_id")?),
    };
    same("aad", context.aad(), item.bytes("aad")?)?;
    same("nonce", item.array("nonce")?, [0; 12])?;
    let key: [u8; 32] = item.array("key")?;
    let preimage = [b"cg/fanout/kc".as_slice(), &key].concat();
    same("kc preimage", preimage, item.bytes("kc_preimage")?)?;
    same("kc", commitment(&key), item.array("kc")?)?;
    let plaintext = item.bytes("plaintext")?;
    let sealed = FanOut::seal(context, Zeroizing::new(key), &plaintext)?;
    same("opened again", sealed.open()?.as_slice(), &plaintext)?;
    let shards = item.items("shards")?;
    for shard in &shards {
        let payload = sealed.payload(shard.number("shard")?, shard.number("shards")?);
        same("payload", &payload, &shard.bytes("payload")?)?;
        same("length", payload.len(), sealed.payload_len())?;
        let message = Message::parse(&payload)?;
        same("ciphertext", message.sealed, item.bytes("ct_tag")?.as_slice())?;
        for recipient in shard.names("recipients", DeviceId::new)? {
            let piece = sealed.piece(&recipient);
            let text = pairwise::open(&message, &context, &recipient, &piece)?;
            same("plaintext", text.as_slice(), &plaintext)?;
        }
    }
    for piece in item.items("pieces")? {
        let recipient = DeviceId::new(piece.array("recipient_id")?);
        let said = sealed.piece(&recipient);
        let hash: [u8; 32] = Sha256::digest(piece.bytes("binding_preimage")?).into();
        same("binding of the preimage", hash, piece.array("binding")?)?;
        same("binding", said.binding, piece.array("binding")?)?;
        let said = OlmPlaintext::Piece(said).to_bytes()?;
        same("Olm plaintext", said.as_slice(), piece.bytes("olm_plaintext")?.as_slice())?;
        let olm = piece.bytes("olm_bytes")?;
        let olm = match piece.number("olm_type")? {
            0_u8 => OlmPayload::PreKey(&olm),
            _ => OlmPayload::Normal(&olm),
        };
        same("piece", olm.to_bytes(), piece.bytes("piece")?)?;
        let shard: usize = piece.number("shard")?;
        let shard = shards.get(shard).ok_or_else(|| Failure("no such shard".to_owned()))?;
        ensure(
            shard.names("recipients", DeviceId::new)?.contains(&recipient),
            "the shard has other recipients",
        )?;
        let id = compute_id(
            Kind::Fanout,
            Some(&context.sender),
            &Recipient::Device(recipient),
            &shard.bytes("payload")?,
            Some(&Piece(piece.bytes("piece")?)),
        );
        same("id", id.as_bytes(), &piece.array("id")?)?;
    }
    Ok(())
}

/// One row as a recipient has it: opened, held, or refused for exactly this reason.
pub(crate) fn case(vectors: &Vectors<'_>, case: &Value) -> Check {
    let ops: Vec<Value> =
        vectors.0.field("fanout")?.items("history")?.into_iter().cloned().collect();
    let got = judged(vectors, &log(&ops)?, case)?;
    same("result", got, case.text("result")?)
}

fn judged(vectors: &Vectors<'_>, log: &Log, case: &Value) -> Result<&'static str, Failure> {
    let (payload, piece) = (case.bytes("payload")?, case.bytes("olm_plaintext")?);
    let (Ok(message), Ok(OlmPlaintext::Piece(piece))) =
        (Message::parse(&payload), OlmPlaintext::parse(&piece))
    else {
        return Ok("malformed");
    };
    let context = Context {
        group: GroupId::new(case.array("group_id")?),
        sender: DeviceId::new(case.array("sender_id")?),
        epoch: Epoch(case.number("epoch")?),
        roster: message.header.roster,
        msg_id: message.header.msg_id,
    };
    let is_known =
        log.head().group() == context.group && log.epoch_of(&context.roster) == Some(context.epoch);
    if !is_known {
        return Ok("hold_roster");
    }
    let device = hex::encode(context.sender);
    let has = |person: &Value| {
        let devices = person.items("devices").unwrap_or_default();
        devices.into_iter().any(|of| of["device_id"] == device.as_str())
    };
    let person = vectors.person(has).ok_or_else(|| Failure("nobody's device".to_owned()))?;
    let sender = DeviceOf {
        member_id: causeway_protocol::ids::MemberId::new(person.array("member_id")?),
        device_id: context.sender,
    };
    let [a, b, c, d, ..] = *context.roster.as_bytes();
    let verdict = log.judge(&Arrival {
        sender,
        account: &person.text("account")?.parse()?,
        key_epoch: Some(context.epoch),
        header_epoch: context.epoch,
        hint: [a, b, c, d],
        place: Seq(u64::MAX),
    });
    let Verdict::Open { .. } = verdict else { return Ok(verdict.reason()) };
    let recipient = DeviceId::new(case.array("recipient_id")?);
    let opened = pairwise::open(&message, &context, &recipient, &piece);
    Ok(opened.map_or_else(pairwise::OpenError::reason, |_| "ok"))
}
