use causeway_protocol::{
    device::DeviceOf,
    ids::{DeviceId, Signature, Timestamp},
    roster::{Body, Devices, Entry, Invalid, Op, OpCore, Policy, Roster},
};
use serde_json::{Value, json};

use crate::{
    signers::{Person, policy, sign},
    vectors::{Get, NATIVE, unhex},
};

fn judge(state: Option<&Roster>, op: &[u8]) -> Result<Roster, Invalid> {
    let op = Op::parse(op)?;
    match state {
        Some(roster) => roster.apply(&op),
        None => Roster::create(&op),
    }
}

fn state_after(ops: &[Value]) -> Option<Roster> {
    ops.iter().fold(None, |state, op| Some(judge(state.as_ref(), &unhex(op)).unwrap()))
}

fn policy_json(policy: &Policy) -> Value {
    json!({
        "min_version": policy.min_version, "add_by": policy.add_by, "post_by": policy.post_by,
        "max_members": policy.max_members, "ttl_s": policy.ttl_s, "name": policy.name,
        "description": policy.description,
    })
}

fn roster_json(roster: &Roster) -> Value {
    let members: Vec<Value> = roster
        .members()
        .iter()
        .map(|(id, member)| {
            json!({
                "member_id": hex::encode(id), "role": member.role as u8,
                "account": member.account.as_str(), "legacy_id": member.legacy_id.as_ref(),
                "list_version": member.list_version,
                "device_ids": member.devices.iter().map(hex::encode).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "epoch": roster.epoch(), "closed": roster.closed(), "policy": policy_json(roster.policy()),
        "scheme": roster.scheme() as u8, "suite": roster.suite(),
        "creator": hex::encode(roster.creator()), "members": members,
    })
}

fn devices_json(to: &mut Value, devices: &Devices) {
    to["list_version"] = json!(devices.version);
    to["device_ids"] = devices.ids.iter().map(hex::encode).collect();
}

fn entry_json(entry: &Entry) -> Value {
    let mut json = json!({
        "member_id": hex::encode(entry.member_id), "role": entry.role,
        "account": entry.account, "legacy_id": entry.legacy_id,
    });
    devices_json(&mut json, &entry.devices);
    json
}

fn body_json(body: &Body) -> Value {
    let mut json = json!({});
    match body {
        Body::Create(create) => {
            json = json!({
                "scheme": create.scheme, "suite": create.suite, "rand16": hex::encode(create.rand),
                "account": create.account, "legacy_id": create.legacy_id,
                "policy": policy_json(&create.policy),
            });
            devices_json(&mut json, &create.devices);
        }
        Body::Add(entries) => json["entries"] = entries.iter().map(entry_json).collect(),
        Body::Remove(ids) => json["member_ids"] = ids.iter().map(hex::encode).collect(),
        Body::Role(id, role) => json = json!({ "member_id": hex::encode(id), "role": role }),
        Body::Policy(policy) => json["policy"] = policy_json(policy),
        Body::Devices(devices) => devices_json(&mut json, devices),
        Body::Leave | Body::Close => {}
    }
    json
}

#[test]
fn valid_ops_make_the_rosters_of_the_vectors() {
    for group in NATIVE["ops"].list("groups") {
        let mut state: Option<Roster> = None;
        for item in group.list("ops") {
            let bytes = item.bytes("op");
            let op = Op::parse(&bytes).unwrap();
            assert_eq!(op.as_bytes(), bytes);
            assert_eq!(op.kind().name(), item.text("kind"));
            assert_eq!(op.is_by_identity(), item["signer"].flag("by_identity_key"));
            assert_eq!(op.hash().as_bytes(), &item.array("op_hash"));
            let body = op.body().unwrap();
            assert_eq!(body.to_bytes().unwrap(), item.bytes("body"));
            assert_eq!(body_json(&body), item["body_fields"], "{}", op.kind().name());
            assert_eq!(op.core().to_bytes().unwrap(), bytes[..bytes.len() - 128]);

            let after = judge(state.as_ref(), &bytes).unwrap();
            assert_eq!(roster_json(&after), item["after"]);
            assert_eq!(after.hash_bytes(), item.bytes("roster_preimage"));
            assert_eq!(after.hash().as_bytes(), &item.array("roster_hash"));
            let cut = state.as_ref().is_some_and(|before| before.is_cut(&after));
            assert_eq!(cut, item.flag("cut"));
            assert_eq!(Roster::from_row(&after.to_row()).unwrap(), after);
            state = Some(after);
        }
    }
}

#[test]
fn a_legacy_group_counts_as_suite_1_once_it_was_upgraded() {
    let groups = NATIVE["ops"].list("groups");
    let legacy = groups.iter().find(|group| group.text("name") == "legacy").unwrap();
    let ops: Vec<Value> = legacy.list("ops").iter().map(|item| item["op"].clone()).collect();
    assert_eq!(state_after(&ops[..2]).unwrap().effective_suite(), 0x81);
    let upgraded = state_after(&ops).unwrap();
    assert_eq!((upgraded.suite(), upgraded.effective_suite()), (0x81, 1));
}

#[test]
fn invalid_ops_are_refused_in_their_step_for_their_reason() {
    let negatives = &NATIVE["op_negatives"];
    for item in negatives.list("items") {
        let state = state_after(negatives["histories"].list(item.text("history")));
        let invalid = judge(state.as_ref(), &item.bytes("op")).unwrap_err();
        let got = (u64::from(invalid.step()), invalid.reason());
        assert_eq!(got, (item.number("step"), item.text("reason")), "{}", item.text("name"));
    }
}

#[test]
fn an_op_is_as_long_as_an_envelope_takes_and_no_longer() {
    let negatives = &NATIVE["op_negatives"];
    for item in negatives.list("size_limit") {
        let state = state_after(negatives["histories"].list(item.text("history")));
        let fill = &item["op_fill"];
        let count = usize::try_from(fill.number("count")).unwrap();
        let op =
            [fill.bytes("prefix"), fill.bytes("fill").repeat(count), fill.bytes("suffix")].concat();
        assert_eq!(u64::try_from(op.len()).unwrap(), item.number("op_bytes"));
        let result = judge(state.as_ref(), &op).map_err(Invalid::reason);
        assert_eq!(result.err().unwrap_or("ok"), item.text("result"));
    }
}

#[test]
fn an_identity_key_takes_a_lost_device_out() {
    let person = Person::new(1);
    let mut create = person.create(policy()).core().clone();
    let Body::Create(mut fields) = person.create(policy()).body().unwrap() else { panic!() };
    let lost = DeviceId::new([0; 32]);
    fields.devices.ids.insert(0, lost);
    create = OpCore::create(&person.record, create.created_ms, fields).unwrap();
    let before = Roster::create(&person.seal(create)).unwrap();

    let member_id = person.record.member_id;
    let core = OpCore::by_identity(&before, member_id, Timestamp(2), person.devices(2)).unwrap();
    let signature = sign(&person.identity, &core.signed_bytes().unwrap());
    let op = core.sealed(Signature::new([0; 64]), signature).unwrap();
    assert!(op.is_by_identity());
    let after = before.apply(&op).unwrap();
    let device = DeviceOf { member_id, device_id: lost };
    assert_eq!(before.taken_out(&after), [device]);
    assert!(before.is_cut(&after) && before.counts(&device).is_some());
    assert!(after.counts(&device).is_none());
}
