//! Links and join requests: made again from their fields and seeds, and judged.

use causeway_protocol::{
    device::{DeviceList, DeviceOf, DeviceRecord, verify_certificate},
    ids::{CurveKey, DeviceId, GroupId, InviteKey, MemberId, Signature, Timestamp, bytes_of},
    invite::{Admission, Held, InviteFacts, Join, Link, LinkSecret, NowListed, Terms, invite_name},
    roster::Devices,
};
use ed25519_dalek::SigningKey;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{
    accounts::{sign, signer},
    histories::log,
    report::{Check, Failure, Fields, same},
};

/// The link and its join requests, from fields and seeds to text and bytes.
pub(crate) fn invite(item: &Value) -> Check {
    let inviter = item.field("inviter")?;
    let (curve, certificate) = (
        CurveKey::new(inviter.array("curve25519")?),
        Signature::new(inviter.array("certificate")?),
    );
    verify_certificate(&device(inviter)?, &curve, &certificate)?;
    let terms = Terms {
        server: item.text("h")?.to_owned(),
        group: GroupId::new(item.array("group_id")?),
        name: invite_name(item.text("full_name")?),
        account: item.text("a")?.parse()?,
        inviter: device(inviter)?,
        expires: Timestamp(item.number("e")?),
        secret: LinkSecret::new(Zeroizing::new(item.array("t")?)),
        uses: item.number("u")?,
    };
    same("n", terms.name.as_str(), item.text("n")?)?;
    let ik_preimage = [b"cg/invite/key\0", item.bytes("t")?.as_slice()].concat();
    same("ik seed preimage", ik_preimage, item.bytes("ik_seed_preimage")?)?;
    same("H(n)", Sha256::digest(&terms.name).as_slice(), &item.bytes("name_hash")?)?;
    same("ik seed", *terms.secret.key_seed(), item.array("ik_seed")?)?;
    let ik_pub = terms.secret.key();
    same("ik_pub", ik_pub.as_bytes(), &item.array("ik_pub")?)?;
    same("preimage", terms.signed_bytes(), item.bytes("preimage")?)?;
    let signature = sign(&signer(inviter, "device_seed")?, &terms.signed_bytes());
    same("signature", signature.as_bytes(), &item.array("signature")?)?;
    let ik = SigningKey::from_bytes(&terms.secret.key_seed());
    let link = Link { terms, signature };
    same("link", link.to_text().as_str(), item.text("link")?)?;
    let in_base64 = item.text("link")?.strip_prefix("causeway://join/").unwrap_or_default();
    same("JSON", bytes_of(in_base64)?.as_slice(), item.text("json")?.as_bytes())?;
    same("parsed link", &Link::parse(item.text("link")?)?, &link)?;
    item.items("joins")?.into_iter().try_for_each(|join| request(&link, &ik, join))
}

fn request(link: &Link, ik: &SigningKey, item: &Value) -> Check {
    let mut join = Join {
        group: link.terms.group,
        ik_pub: link.terms.secret.key(),
        device: device(item)?,
        curve25519: CurveKey::new(item.array("curve25519")?),
        certificate: Signature::new(item.array("certificate")?),
        now: Timestamp(item.number("now")?),
        account: item.text("account")?.to_owned(),
        devices: Devices {
            version: item.number("list_version")?,
            ids: item.names("device_ids", DeviceId::new)?,
        },
        ik_signature: Signature::new([0; 64]),
        device_signature: Signature::new([0; 64]),
    };
    same("request", join.request_bytes()?, item.bytes("request")?)?;
    join.ik_signature = sign(ik, &join.signed_by_invite()?);
    join.device_signature = sign(&signer(item, "device_seed")?, &join.signed_by_device()?);
    same("device signature", join.device_signature.as_bytes(), &item.array("device_signature")?)?;
    same("ik signature", join.ik_signature.as_bytes(), &item.array("ik_signature")?)?;
    same("wire", join.to_bytes()?, item.bytes("wire")?)?;
    same("parsed request", &Join::parse(&join.to_bytes()?)?, &join)
}

fn device(item: &Value) -> Result<DeviceOf, Failure> {
    Ok(DeviceOf {
        member_id: MemberId::new(item.array("member_id")?),
        device_id: DeviceId::new(item.array("device_id")?),
    })
}

pub(crate) fn link(file: &Value, case: &Value) -> Check {
    let now = Timestamp(case.number("now")?);
    let result = match Link::parse(case.text("link")?) {
        Ok(link) => link.judge(&records(file, link.terms.account.as_str())?, now),
        Err(refused) => Err(refused),
    };
    let got = result.map_or_else(|refused| refused.to_string(), |()| "ok".to_owned());
    same("result", got.as_str(), case.text("result")?)
}

/// An account's devices; the records' own signatures are not in the vectors, nor asked for.
fn records(file: &Value, account: &str) -> Result<Vec<DeviceRecord>, Failure> {
    let records = file["invites"].field("records")?;
    if records.get(account).is_none() {
        return Ok(Vec::new());
    }
    let record = |item: &Value| {
        Ok(DeviceRecord {
            member_id: MemberId::new(item.array("member_id")?),
            device_id: DeviceId::new(item.array("device_id")?),
            curve25519: CurveKey::new(item.array("curve25519")?),
            signature: Signature::new([0; 64]),
            certificate: Signature::new(item.array("certificate")?),
        })
    };
    records.items(account)?.into_iter().map(record).collect()
}

fn invite_of<'a>(file: &'a Value, case: &Value) -> Result<&'a Value, Failure> {
    let name = case.text("invite")?;
    let mut items = file["invites"].items("items")?.into_iter();
    items.find(|item| item["name"] == name).ok_or_else(|| Failure("no such invite".to_owned()))
}

pub(crate) fn join(file: &Value, case: &Value) -> Check {
    let item = invite_of(file, case)?;
    let facts = InviteFacts {
        group: GroupId::new(item.array("group_id")?),
        ik_pub: InviteKey::new(item.array("ik_pub")?),
        expires: Timestamp(item.number("e")?),
        revoked: case.flag("revoked")?,
        uses_left: case.number("uses_left")?,
    };
    let now = Timestamp(case.number("now")?);
    let result = Join::parse(&case.bytes("wire")?)
        .and_then(|join| join.judge(Some(&facts).filter(|f| f.ik_pub == join.ik_pub), now));
    let got = result.map_or_else(|refused| refused.to_string(), |()| "ok".to_owned());
    same("result", got.as_str(), case.text("result")?)
}

pub(crate) fn admission(file: &Value, case: &Value) -> Check {
    let invites = file.field("invites")?;
    let ops: Vec<Value> =
        invites.items("history")?.into_iter().chain(case.items("more_ops")?).cloned().collect();
    let link = Link::parse(invite_of(file, case)?.text("link")?)?;
    let join = Join::parse(&case.bytes("wire")?)?;
    // The list from which the request was made; its signature is checked before it comes here.
    let list = DeviceList {
        account: join.account.parse()?,
        member_id: join.device.member_id,
        version: join.devices.version,
        created_ms: Timestamp(0),
        devices: join.devices.ids.clone(),
        signature: Signature::new([0; 64]),
    };
    let held = Held { used: case.number("used")?, revoked: case.flag("revoked")? };
    let listed = NowListed { list: &list, highest_seen: 0 };
    let now = Timestamp(case.number("now")?);
    let got = match join.admit(&link, held, listed, &log(&ops)?, now) {
        Ok(Admission::Add(_)) => "add".to_owned(),
        Ok(Admission::Ask(_)) => "ask".to_owned(),
        Err(refused) => refused.to_string(),
    };
    same("verdict", got.as_str(), case.text("verdict")?)
}
