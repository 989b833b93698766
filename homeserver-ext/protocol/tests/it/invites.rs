use causeway_protocol::{
    device::{DeviceList, DeviceRecord},
    ids::{CurveKey, DeviceId, InviteKey, MemberId, Signature, Timestamp},
    invite::{Admission, Held, InviteFacts, Join, Link, NotAdmitted, NowListed, invite_name},
    roster::{Op, Roster},
};
use serde_json::Value;

use crate::vectors::{Get, NATIVE, log, unhex};

/// All devices that the vectors know of an account; the records' own signatures are not in them.
fn records(account: &str) -> Vec<DeviceRecord> {
    let Some(records) = NATIVE["invites"]["records"][account].as_array() else { return Vec::new() };
    let record = |device: &Value| DeviceRecord {
        member_id: MemberId::new(device.array("member_id")),
        device_id: DeviceId::new(device.array("device_id")),
        curve25519: CurveKey::new(device.array("curve25519")),
        signature: Signature::new([0; 64]),
        certificate: Signature::new(device.array("certificate")),
    };
    records.iter().map(record).collect()
}

fn invite(name: &str) -> &'static Value {
    let items = NATIVE["invites"].list("items");
    items.iter().find(|item| item.text("name") == name).unwrap()
}

#[test]
fn links_are_the_vectors() {
    for item in NATIVE["invites"].list("items") {
        let link = Link::parse(item.text("link")).unwrap();
        let secret = &link.terms.secret;
        assert_eq!(secret.as_bytes(), &item.array("t"));
        assert_eq!(*secret.key_seed(), item.array("ik_seed"));
        assert_eq!(secret.key().as_bytes(), &item.array("ik_pub"));
        assert_eq!(invite_name(item.text("full_name")), link.terms.name);
        assert_eq!(link.terms.signed_bytes(), item.bytes("preimage"));
        assert_eq!(*link.to_text(), item.text("link"));
    }
}

#[test]
fn links_are_judged_in_order() {
    for case in NATIVE["invites"].list("link_cases") {
        let now = Timestamp(case.number("now"));
        let result = Link::parse(case.text("link"))
            .and_then(|link| link.judge(&records(link.terms.account.as_str()), now));
        let got = result.map_or_else(|refused| refused.to_string(), |()| "ok".to_owned());
        assert_eq!(got, case.text("result"), "{}", case.text("name"));
    }
}

#[test]
fn join_requests_are_the_vectors() {
    for item in NATIVE["invites"].list("items") {
        for join in item.list("joins") {
            let wire = join.bytes("wire");
            let parsed = Join::parse(&wire).unwrap();
            assert_eq!(parsed.to_bytes().unwrap(), wire);
            assert_eq!(parsed.request_bytes().unwrap(), join.bytes("request"));
            assert_eq!(parsed.account, join.text("account"));
            assert_eq!(parsed.now.0, join.number("now"));
            assert_eq!(parsed.ik_signature.as_bytes(), &join.array("ik_signature"));
            for (label, signed) in [
                ("cg/join/ik/v2\0", parsed.signed_by_invite().unwrap()),
                ("cg/join/v2\0", parsed.signed_by_device().unwrap()),
            ] {
                assert_eq!(signed, [label.as_bytes(), &join.bytes("request")].concat());
            }
        }
    }
}

#[test]
fn join_requests_are_judged_in_order() {
    for case in NATIVE["invites"].list("join_cases") {
        let item = invite(case.text("invite"));
        let facts = InviteFacts {
            group: causeway_protocol::ids::GroupId::new(item.array("group_id")),
            ik_pub: InviteKey::new(item.array("ik_pub")),
            expires: Timestamp(item.number("e")),
            revoked: case.flag("revoked"),
            uses_left: case.small("uses_left"),
        };
        let now = Timestamp(case.number("now"));
        let result = Join::parse(&case.bytes("wire")).and_then(|join| {
            join.judge(Some(&facts).filter(|facts| facts.ik_pub == join.ik_pub), now)
        });
        let got = result.map_or_else(|refused| refused.to_string(), |()| "ok".to_owned());
        assert_eq!(got, case.text("result"), "{}", case.text("name"));
    }
}

#[test]
fn who_holds_the_link_decides_in_order() {
    for case in NATIVE["invites"].list("admission_cases") {
        let item = invite(case.text("invite"));
        let history = [NATIVE["invites"].list("history"), case.list("more_ops")].concat();
        let join = Join::parse(&case.bytes("wire")).unwrap();
        // The list that the request was made from, whoever signed it.
        let list = DeviceList {
            account: join.account.parse().unwrap(),
            member_id: join.device.member_id,
            version: join.devices.version,
            created_ms: Timestamp(0),
            devices: join.devices.ids.clone(),
            signature: Signature::new([0; 64]),
        };
        let held = Held { used: case.small("used"), revoked: case.flag("revoked") };
        let listed = NowListed { list: &list, highest_seen: 0 };
        let now = Timestamp(case.number("now"));
        let link = Link::parse(item.text("link")).unwrap();
        let got = match join.admit(&link, held, listed, &log(&history), now) {
            Ok(Admission::Add(_)) => "add".to_owned(),
            Ok(Admission::Ask(_)) => "ask".to_owned(),
            Err(refused) => refused.to_string(),
        };
        assert_eq!(got, case.text("verdict"), "{}", case.text("name"));
    }
}

#[test]
fn a_device_list_that_differs_or_is_old_lets_nobody_in() {
    let case = &NATIVE["invites"].list("admission_cases")[0];
    let link = Link::parse(invite(case.text("invite")).text("link")).unwrap();
    let join = Join::parse(&case.bytes("wire")).unwrap();
    let list = DeviceList {
        account: join.account.parse().unwrap(),
        member_id: join.device.member_id,
        version: join.devices.version + 1,
        created_ms: Timestamp(0),
        devices: join.devices.ids.clone(),
        signature: Signature::new([0; 64]),
    };
    let log = log(NATIVE["invites"].list("history"));
    // The last moment at which the link is good.
    let (held, now) = (Held { used: 0, revoked: false }, link.terms.expires);
    let admit = |listed| join.admit(&link, held, listed, &log, now);
    let newer = NowListed { list: &list, highest_seen: 0 };
    assert_eq!(admit(newer), Err(NotAdmitted::ListDiffers));
    let same = DeviceList { version: join.devices.version, ..list.clone() };
    let seen_newer = NowListed { list: &same, highest_seen: same.version + 1 };
    assert_eq!(admit(seen_newer), Err(NotAdmitted::ListDiffers));
    let Ok(Admission::Add(entry)) = admit(NowListed { list: &same, highest_seen: same.version })
    else {
        panic!("not let in");
    };
    assert_eq!((entry.role, entry.account.as_str()), (0, join.account.as_str()));
}

#[test]
fn the_history_of_the_invites_is_a_valid_one() {
    let mut ops = NATIVE["invites"].list("history").iter();
    let create = Op::parse(&unhex(ops.next().unwrap())).unwrap();
    let begin = Roster::create(&create).unwrap();
    ops.fold(begin, |roster, op| roster.apply(&Op::parse(&unhex(op)).unwrap()).unwrap());
}

#[test]
fn every_single_bit_flip_of_a_request_is_refused() {
    let item = &NATIVE["invites"].list("items")[0];
    let facts = InviteFacts {
        group: causeway_protocol::ids::GroupId::new(item.array("group_id")),
        ik_pub: InviteKey::new(item.array("ik_pub")),
        expires: Timestamp(item.number("e")),
        revoked: false,
        uses_left: 1,
    };
    let wire = item.list("joins")[0].bytes("wire");
    let now = Join::parse(&wire).unwrap().now;
    Join::parse(&wire).unwrap().judge(Some(&facts), now).unwrap();
    for bit in 0..wire.len() * 8 {
        let mut flipped = wire.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let judged = Join::parse(&flipped).and_then(|join| join.judge(Some(&facts), now));
        assert!(judged.is_err(), "bit {bit}");
    }
    assert!(Join::parse(&wire).unwrap().judge(None, now).is_err());
}

#[test]
fn every_single_bit_flip_of_a_link_is_refused() {
    let item = &NATIVE["invites"].list("items")[0];
    let json = item.text("json").as_bytes();
    let judged = |json: &[u8]| {
        let text = format!("causeway://join/{}", causeway_protocol::ids::text_of(json));
        let link = Link::parse(&text)?;
        link.judge(&records(link.terms.account.as_str()), Timestamp(item.number("e") - 1))
    };
    judged(json).unwrap();
    for bit in 0..json.len() * 8 {
        let mut flipped = json.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(judged(&flipped).is_err(), "bit {bit}");
    }
}
