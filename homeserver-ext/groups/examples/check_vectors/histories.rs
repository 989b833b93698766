//! Ops: made again from their fields, applied, refused, and offered twice.

use causeway_protocol::{
    ids::{CurveKey, DeviceId, Epoch, GroupId, MemberId, RosterHash, Signature, Timestamp},
    keys::signed_bytes,
    roster::{
        Body, Create, Devices, Entry, Fork, Invalid, Kind, Log, Offer, Op, OpCore, Policy, Roster,
    },
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    accounts::{sign, signer},
    report::{Check, Failure, Fields, Named, ensure, same, unhex},
};

const OP_LABEL: &str = "cg/opsig/v2";

/// An op of the section `ops`, and the ops before it.
pub(crate) struct InGroup<'a> {
    group: &'a Value,
    before: Vec<&'a Value>,
    item: &'a Value,
}

impl Named for InGroup<'_> {
    fn name(&self) -> String {
        format!("{} {}", self.group["name"], self.item["epoch"])
    }
}

pub(crate) fn ops(file: &Value) -> Result<Vec<InGroup<'_>>, Failure> {
    let mut all = Vec::new();
    for group in file["ops"].items("groups")? {
        let ops = group.items("ops")?;
        for (at, item) in ops.iter().enumerate() {
            all.push(InGroup { group, before: ops.iter().take(at).copied().collect(), item });
        }
    }
    Ok(all)
}

/// Makes the op from its fields with its signer's seed, and applies it.
pub(crate) fn op(op: &InGroup<'_>) -> Check {
    let InGroup { group, before, item } = op;
    let ops: Result<Vec<Value>, Failure> =
        before.iter().map(|item| item.field("op").cloned()).collect();
    let state = state(&ops?)?;
    let signer_of = item.field("signer")?;
    let by_identity = signer_of.flag("by_identity_key")?;
    let body = body(item.text("kind")?, item.field("body_fields")?)?.to_bytes()?;
    same("body", body.as_slice(), item.bytes("body")?.as_slice())?;
    if item.get("group_id_preimage").is_some() {
        let member = signer_of.bytes("member_id")?;
        let preimage = [b"cg/group/v2\0", member.as_slice(), &body].concat();
        same("group_id preimage", preimage.as_slice(), &item.bytes("group_id_preimage")?)?;
        same("group_id", Sha256::digest(&preimage).as_slice(), &item.bytes("group_id")?)?;
        same("group_id", item.text("group_id")?, group.text("group_id")?)?;
    }
    let kind = Kind::from_number(item.number("kind_no")?);
    core_kind(item, kind)?;
    let core = OpCore {
        kind: kind.ok_or_else(|| Failure("no such kind".to_owned()))?,
        group: GroupId::new(group.array("group_id")?),
        epoch: Epoch(item.number("epoch")?),
        prev: RosterHash::new(item.array("prev")?),
        signer_member: MemberId::new(signer_of.array("member_id")?),
        signer_device: DeviceId::new(signer_of.array("device_id")?),
        signer_curve25519: CurveKey::new(signer_of.array("curve25519")?),
        created_ms: Timestamp(item.number("created_ms")?),
        body,
    };
    let signature = sign(&signer(signer_of, "signing_seed")?, &core.signed_bytes()?);
    same("signature", signature.as_bytes(), &item.array("signature")?)?;
    let op = core.sealed(Signature::new(item.array("certificate")?), signature)?;
    same("op", op.as_bytes(), item.bytes("op")?.as_slice())?;
    same("identity key", op.is_by_identity(), by_identity)?;
    same("op_hash", op.hash().as_bytes(), &item.array("op_hash")?)?;
    same("parsed op", &Op::parse(op.as_bytes()).map_err(invalid)?, &op)?;

    let after = judge(state.as_ref(), op.as_bytes()).map_err(invalid)?;
    same("roster preimage", after.hash_bytes(), item.bytes("roster_preimage")?)?;
    same("roster hash", after.hash().as_bytes(), &item.array("roster_hash")?)?;
    same("state after", &roster(&after), item.field("after")?)?;
    let cut = state.is_some_and(|before| before.is_cut(&after));
    same("cut", cut, item.flag("cut")?)
}

/// The name of a kind is that of its number.
fn core_kind(item: &Value, kind: Option<Kind>) -> Check {
    same("kind", kind.map(Kind::name), Some(item.text("kind")?))
}

/// The op is signed by this seed, over its core.
fn signed_by(op: &[u8], item: &Value, seed: &str, label: &str) -> Check {
    let short = || Failure("short op".to_owned());
    let (signed, signature) = op.split_last_chunk::<64>().ok_or_else(short)?;
    let core = signed.split_last_chunk::<64>().map_or(signed, |(core, _)| core);
    let again = sign(&signer(item, seed)?, &signed_bytes(label, core));
    same("signature as signed", again.as_bytes(), signature)
}

fn judge(state: Option<&Roster>, op: &[u8]) -> Result<Roster, Invalid> {
    let op = Op::parse(op)?;
    state.map_or_else(|| Roster::create(&op), |roster| roster.apply(&op))
}

fn state(ops: &[Value]) -> Result<Option<Roster>, Failure> {
    let mut state = None;
    for op in ops {
        state = Some(judge(state.as_ref(), &unhex(op)?).map_err(invalid)?);
    }
    Ok(state)
}

fn invalid(invalid: Invalid) -> Failure {
    Failure(invalid.to_string())
}

fn named<'a>(section: &'a Value, item: &Value) -> Result<&'a [Value], Failure> {
    let history = section.field("histories")?.field(item.text("history")?)?;
    history.as_array().map(Vec::as_slice).ok_or_else(|| Failure("no history".to_owned()))
}

/// Refused in its step, for its reason; and signed as the vector says, so that nothing else is.
pub(crate) fn negative(file: &Value, item: &Value) -> Check {
    let as_signed = item.get("op_as_signed").map_or_else(|| item.bytes("op"), unhex)?;
    signed_by(&as_signed, item, "signing_seed", item.text("signature_label")?)?;
    // The kind stands behind the domain tag and its zero.
    same("kind", as_signed.get(9).copied(), Some(item.number("kind_no")?))?;
    let section = file.field("op_negatives")?;
    let state = state(named(section, item)?)?;
    let refused = judge(state.as_ref(), &item.bytes("op")?);
    let Err(invalid) = refused else { return Err(Failure("was taken".to_owned())) };
    same("reason", (invalid.step(), invalid.reason()), (item.number("step")?, item.text("reason")?))
}

pub(crate) fn size_limit(file: &Value, item: &Value) -> Check {
    let state = state(named(file.field("op_negatives")?, item)?)?;
    let parts = item.field("op_fill")?;
    let middle = parts.bytes("fill")?.repeat(parts.number("count")?);
    let op = [parts.bytes("prefix")?, middle, parts.bytes("suffix")?].concat();
    same("size", op.len(), item.number("op_bytes")?)?;
    signed_by(&op, item, "signing_seed", OP_LABEL)?;
    let core = op.split_last_chunk::<128>().map_or(op.as_slice(), |(core, _)| core);
    same("op_hash", Sha256::digest(core).as_slice(), &item.bytes("op_hash")?)?;
    let judged = judge(state.as_ref(), &op);
    let step = judged.as_ref().map_or_else(|invalid| invalid.step(), |_| 0);
    same("step", step, item.number("step")?)?;
    let result = judged.map_or_else(Invalid::reason, |_| "ok");
    same("result", result, item.text("result")?)
}

/// Two ops on one `prev`, in one order.
pub(crate) struct Order<'a> {
    item: &'a Value,
    order: &'a Value,
}

impl Named for Order<'_> {
    fn name(&self) -> String {
        format!("{} after {}", self.item["name"], self.order["installed"])
    }
}

pub(crate) fn orders(file: &Value) -> Result<Vec<Order<'_>>, Failure> {
    let mut all = Vec::new();
    for item in file["second_histories"].items("items")? {
        all.extend(item.items("orders")?.into_iter().map(|order| Order { item, order }));
    }
    Ok(all)
}

/// The branch that was installed first stays, and the other is seen.
pub(crate) fn second(file: &Value, order: &Order<'_>) -> Check {
    let Order { item, order } = order;
    let mut ops = named(file.field("second_histories")?, item)?.to_vec();
    let installed = order.text("installed")?;
    let first = installed.strip_suffix(" and then_after_a").unwrap_or(installed);
    ops.push(item.field(first)?.clone());
    if first != installed {
        ops.extend(item.items("then_after_a")?.into_iter().cloned());
    }
    let mut log = log(&ops)?;
    for (name, seed, is) in [("a", "a_signing_seed", "a_is"), ("b", "b_signing_seed", "b_is")] {
        let op = parse(item.field(name)?)?;
        signed_by(op.as_bytes(), item, seed, OP_LABEL)?;
        core_kind(item.field(is)?, Some(op.kind()))?;
        let prev = log.entry(Epoch(op.epoch().0.wrapping_sub(1))).map(|entry| entry.roster_hash);
        let prev = prev.unwrap_or(RosterHash::new([0; 32]));
        same("prev", prev.as_bytes(), &item.array("prev")?)?;
    }
    let offered = order.text("offered")?;
    let Offer::Fork(Fork { installed, offered: seen, .. }) =
        log.offer(&parse(item.field(offered)?)?)
    else {
        return Err(Failure("no second history seen".to_owned()));
    };
    same("verdict", "first stays", order.text("verdict")?)?;
    same("installed op", installed.as_bytes(), &item.array(&format!("{first}_op_hash"))?)?;
    same("offered op", seen.as_bytes(), &item.array(&format!("{offered}_op_hash"))?)?;
    same("head", log.head().hash().as_bytes(), &order.array("head")?)?;
    same("head epoch", log.head().epoch().0, order.number("head_epoch")?)
}

pub(crate) fn same_op(file: &Value, item: &Value) -> Check {
    let section = file.field("second_histories")?;
    let mut log = log(named(section, item)?)?;
    let (a, b) = (parse(item.field("a")?)?, parse(item.field("b")?)?);
    same("op_hash", a.hash().as_bytes(), &item.array("op_hash")?)?;
    ensure(a.as_bytes() != b.as_bytes(), "the signatures are the same")?;
    ensure(matches!(log.offer(&a), Offer::Installed(_)), "the first is not installed")?;
    ensure(matches!(log.offer(&b), Offer::Known(_)), "the second is not known as the first")?;
    same("verdict", "same op", item.text("verdict")?)
}

fn parse(op: &Value) -> Result<Op, Failure> {
    Op::parse(&unhex(op)?).map_err(invalid)
}

/// A history of installed ops.
pub(crate) fn log(ops: &[Value]) -> Result<Log, Failure> {
    let (create, ops) = ops.split_first().ok_or_else(|| Failure("no history".to_owned()))?;
    let mut log = Log::begin(&parse(create)?).map_err(invalid)?;
    for op in ops {
        let offer = log.offer(&parse(op)?);
        ensure(matches!(offer, Offer::Installed(_)), "the history is not valid")?;
    }
    Ok(log)
}

fn body(kind: &str, fields: &Value) -> Result<Body, Failure> {
    Ok(match kind {
        "create" => Body::Create(Create {
            scheme: fields.number("scheme")?,
            suite: fields.number("suite")?,
            rand: fields.array("rand16")?,
            account: fields.text("account")?.to_owned(),
            legacy_id: fields.text("legacy_id")?.to_owned(),
            devices: devices(fields)?,
            policy: policy(fields.field("policy")?)?,
        }),
        "add" => {
            Body::Add(fields.items("entries")?.into_iter().map(entry).collect::<Result<_, _>>()?)
        }
        "remove" => Body::Remove(fields.names("member_ids", MemberId::new)?),
        "role" => Body::Role(MemberId::new(fields.array("member_id")?), fields.number("role")?),
        "policy" => Body::Policy(policy(fields.field("policy")?)?),
        "leave" => Body::Leave,
        "devices" => Body::Devices(devices(fields)?),
        "close" => Body::Close,
        _ => return Err(Failure("no such kind".to_owned())),
    })
}

fn entry(fields: &Value) -> Result<Entry, Failure> {
    Ok(Entry {
        member_id: MemberId::new(fields.array("member_id")?),
        role: fields.number("role")?,
        account: fields.text("account")?.to_owned(),
        legacy_id: fields.text("legacy_id")?.to_owned(),
        devices: devices(fields)?,
    })
}

fn devices(fields: &Value) -> Result<Devices, Failure> {
    let ids = fields.names("device_ids", DeviceId::new)?;
    Ok(Devices { version: fields.number("list_version")?, ids })
}

fn policy(fields: &Value) -> Result<Policy, Failure> {
    Ok(Policy {
        min_version: fields.number("min_version")?,
        add_by: fields.number("add_by")?,
        post_by: fields.number("post_by")?,
        max_members: fields.number("max_members")?,
        ttl_s: fields.number("ttl_s")?,
        name: fields.text("name")?.to_owned(),
        description: fields.text("description")?.to_owned(),
    })
}

fn roster(roster: &Roster) -> Value {
    let policy = roster.policy();
    let members = roster.members().iter().map(|(id, member)| {
        json!({
            "member_id": hex::encode(id),
            "role": member.role as u8,
            "account": member.account.as_str(),
            "legacy_id": member.legacy_id.as_ref(),
            "list_version": member.list_version,
            "device_ids": member.devices.iter().map(hex::encode).collect::<Vec<_>>(),
        })
    });
    json!({
        "epoch": roster.epoch(),
        "closed": roster.closed(),
        "policy": {
            "min_version": policy.min_version,
            "add_by": policy.add_by,
            "post_by": policy.post_by,
            "max_members": policy.max_members,
            "ttl_s": policy.ttl_s,
            "name": policy.name,
            "description": policy.description,
        },
        "scheme": roster.scheme() as u8,
        "suite": roster.suite(),
        "creator": hex::encode(roster.creator()),
        "members": members.collect::<Vec<_>>(),
    })
}
