//! The shapes of what travels as JSON; a change here is a change of the protocol.

use causeway_protocol::{
    api::{
        self, ClaimRequest, OpBytes, OpPage, PostEnvelopes, PostOp, RegisterRequest, StreamAck,
        StreamRow,
    },
    content::{BridgeRequest, MessageRef, Mirror, Mirrors, RosterSync, Text, TextKind},
    device::{DeviceList, OneTimeKey},
    envelope::{Envelope, Kind, Piece, Recipient, Sender, Submission, SubmittedTo},
    ids::{
        AccountId, ClientId, CurveKey, DeviceId, EnvelopeId, Epoch, GroupId, KeyId, RosterHash,
        Seq, Signature, Timestamp,
    },
    json,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    signers::Person,
    vectors::{Get, NATIVE},
};

fn device(number: u8) -> DeviceId {
    DeviceId::new([number; 32])
}

fn account() -> AccountId {
    "bob:b.example".parse().unwrap()
}

#[test]
fn what_an_account_shows() {
    let person = Person::new(1);
    let list = DeviceList {
        account: account(),
        member_id: person.record.member_id,
        version: 1,
        created_ms: Timestamp(1_760_966_065_060),
        devices: vec![person.record.device_id],
        signature: Signature::new([3; 64]),
    };
    let key = OneTimeKey {
        key_id: KeyId::new([0, 0, 0, 0, 0, 0, 0, 5]),
        fallback: true,
        curve25519: CurveKey::new([9; 32]),
        signature: Signature::new([4; 64]),
    };
    insta::assert_json_snapshot!(RegisterRequest {
        token: None,
        list,
        device: person.record,
        one_time_keys: vec![],
        fallback_key: key,
    });
}

#[test]
fn what_waits_in_a_mailbox() {
    let envelope = Envelope {
        id: EnvelopeId::new([1; 16]),
        kind: Kind::Fanout,
        group: GroupId::new([2; 32]),
        epoch: Epoch(7),
        sender: Some(Sender { account: account(), device: device(3) }),
        to: Recipient::Device(device(4)),
        ttl_ms: 2_592_000_000,
        payload: vec![0xfb, 0xff],
        piece: Some(Piece(vec![5])),
    };
    insta::assert_json_snapshot!(StreamRow { seq: Seq(1), envelope: envelope.clone() });
    let by_server = Envelope {
        kind: Kind::CallChanged,
        sender: None,
        to: Recipient::Broadcast,
        piece: None,
        ..envelope
    };
    insta::assert_json_snapshot!(by_server);
}

#[test]
fn what_a_device_posts() {
    let submission = Submission {
        id: None,
        kind: Kind::Fanout,
        group: GroupId::new([2; 32]),
        epoch: Epoch(7),
        sender: Sender { account: account(), device: device(3) },
        to: SubmittedTo::Devices([(device(4), Piece(vec![5]))].into()),
        ttl_ms: 60_000,
        payload: vec![6],
    };
    insta::assert_json_snapshot!(api::PostEnvelopes { envelopes: vec![submission], count: None });
}

#[test]
fn what_a_roster_page_is() {
    insta::assert_json_snapshot!(OpPage {
        ops: vec![OpBytes(vec![1, 2, 3])],
        epoch: Epoch(9),
        next: Some(Epoch(1)),
    });
}

#[test]
fn what_messages_say() {
    let reply_to = MessageRef { device: device(1), client_id: ClientId::new([2; 16]) };
    insta::assert_json_snapshot!(Text {
        kind: TextKind::Emote,
        body: "waves".to_owned(),
        html: Some("<i>waves</i>".to_owned()),
        reply_to: Some(reply_to),
        mirror: Some("@u:hs.example".to_owned()),
    });
    insta::assert_json_snapshot!(Mirrors {
        mirrors: vec![Mirror { id: "@u:hs.example".to_owned(), name: "U".to_owned() }],
        gone: vec!["@v:hs.example".to_owned()],
    });
    insta::assert_json_snapshot!(RosterSync {
        epoch: Epoch(5),
        roster_hash: RosterHash::new([8; 32]),
    });
    insta::assert_json_snapshot!(BridgeRequest { room: None, invite: None });
}

#[test]
fn bytes_have_one_spelling() {
    for wrong in [
        "AAAAAAAAAAAAAAAAAAAAAA==",
        "AAAAAAAAAAAAAAAAAAAAA+",
        "AAAAAAAAAAAAAAAAAAAAAB",
        "AAAAAAAAAAAAAAAAAAAA A",
        "AAAA",
        "",
    ] {
        assert!(wrong.parse::<EnvelopeId>().is_err(), "{wrong}");
    }
    assert!("AAAAAAAAAAAAAAAAAAAAAA".parse::<EnvelopeId>().is_ok());
}

/// `serde_json` by itself takes each of these.
#[test]
fn a_structure_is_an_object_and_never_a_list_of_its_fields() {
    fn refused<T: DeserializeOwned>(list: &Value) {
        let text = list.to_string();
        assert!(serde_json::from_str::<T>(&text).is_ok(), "{text}");
        let error = json::from_slice::<T>(text.as_bytes()).err().expect("an error");
        assert_eq!(error.classify(), serde_json::error::Category::Data, "{text}");
    }
    refused::<StreamAck>(&json!([5]));
    refused::<PostOp>(&json!(["AAAA"]));
    refused::<ClaimRequest>(&json!([[]]));
    refused::<Text>(&json!(["text", "hello", null, null, null]));
    for item in NATIVE["envelopes"].list("items") {
        let text = item.text("json");
        let row: Envelope = json::from_slice(text.as_bytes()).unwrap();
        assert_eq!(serde_json::from_str::<Envelope>(text).unwrap(), row);
        let Some(sender) = row.sender else { continue };
        let mut value: Value = serde_json::from_str(text).unwrap();
        value["sender"] = json!([sender.account, sender.device]);
        refused::<Envelope>(&value);
        refused::<StreamRow>(&json!({ "seq": 1, "envelope": value }));
    }
    for item in NATIVE["envelopes"].list("submissions") {
        let text = item.text("json");
        let submission: Submission = json::from_slice(text.as_bytes()).unwrap();
        assert_eq!(serde_json::from_str::<Submission>(text).unwrap(), submission);
        let mut value: Value = serde_json::from_str(text).unwrap();
        value["sender"] = json!([submission.sender.account, submission.sender.device]);
        refused::<PostEnvelopes>(&json!({ "envelopes": [value] }));
    }
    // Nothing stands behind it.
    assert!(json::from_slice::<StreamAck>(b"{\"ack\":1} x").is_err());
}

/// Protocol §0: whatever stands in it, as deep as the body is long.
#[test]
fn a_field_that_is_not_known_is_ignored_however_deep_it_is() {
    let deep = |open: &str, close: &str, count| {
        format!("{{\"x\":{}7{},\"ack\":1}}", open.repeat(count), close.repeat(count))
    };
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let ack: StreamAck = json::from_slice(deep(open, close, 400_000).as_bytes()).unwrap();
        assert_eq!(ack, Seq(1).into());
        let open_end = deep(open, "", 400_000);
        assert!(json::from_slice::<StreamAck>(open_end.as_bytes()).is_err());
        // In one that is known it is of the wrong type, at the first level.
        let known = deep(open, close, 400_000).replace("\"x\"", "\"park\"");
        let error = json::from_slice::<StreamAck>(known.as_bytes()).unwrap_err();
        assert_eq!(error.classify(), serde_json::error::Category::Data);
    }
}

#[test]
fn a_known_field_stands_once_and_of_a_map_the_last_counts() {
    let twice = |text: &str| json::from_slice::<StreamAck>(text.as_bytes());
    assert!(twice("{\"ack\":1,\"ack\":1}").is_err());
    assert!(twice("{\"ack\":1,\"x\":1,\"x\":2}").is_ok());
    let text = format!("{{\"devices\":{{\"{0}\":\"BQ\",\"{0}\":\"Bg\"}}}}", device(4));
    let to: SubmittedTo = json::from_slice(text.as_bytes()).unwrap();
    assert_eq!(to, SubmittedTo::Devices([(device(4), Piece(vec![6]))].into()));
}

#[test]
fn an_optional_field_may_be_null() {
    fn same<T: DeserializeOwned + PartialEq + std::fmt::Debug>(base: &Value, optional: &[&str]) {
        let read = |value: &Value| json::from_slice::<T>(value.to_string().as_bytes());
        let absent = read(base).unwrap();
        for name in optional {
            let mut null = base.clone();
            null[name] = Value::Null;
            assert_eq!(read(&null).unwrap(), absent, "{name}");
        }
    }
    let group = GroupId::new([2; 32]);
    same::<StreamAck>(&json!({ "ack": 1 }), &["park"]);
    same::<api::Unpark>(&json!({ "group": group, "sender": device(1) }), &["after", "taken"]);
    same::<api::UploadKeys>(&json!({}), &["one_time_keys", "fallback_key", "replace"]);
    same::<api::PutSenderKeys>(&json!({ "keys": [] }), &["failures"]);
    let key = json!({ "tag": "AAAAAA", "sender": device(1), "epoch": 1 });
    same::<api::SenderKeyReport>(&key, &["next_index", "unacknowledged"]);
    same::<PostEnvelopes>(&json!({ "envelopes": [] }), &["count"]);
    let refusal = json!({ "errcode": "M_UNKNOWN", "error": "" });
    same::<api::ErrorBody>(&refusal, &["retry_after_ms", "epoch", "ops", "accepted"]);
    same::<Text>(&json!({ "kind": "text", "body": "" }), &["html", "reply_to", "mirror"]);
    // One that must be there must say something.
    assert!(json::from_slice::<StreamAck>(b"{\"ack\":null}").is_err());
}

#[test]
fn an_integer_is_written_as_one() {
    for wrong in ["1.0", "1e0", "-1", "-0", "01", "18446744073709551616", "true"] {
        let text = format!("{{\"ack\":{wrong}}}");
        assert!(json::from_slice::<StreamAck>(text.as_bytes()).is_err(), "{wrong}");
    }
    assert!(json::from_slice::<StreamAck>(b"{\"ack\":18446744073709551615}").is_ok());
}

/// Who writes a client has to learn from the error what is wanted.
#[test]
fn an_error_says_what_was_expected() {
    for text in ["[5]", "{\"ack\":\"5\"}"] {
        let ours = json::from_slice::<StreamAck>(text.as_bytes()).unwrap_err().to_string();
        assert!(
            ours.contains("expected struct StreamAck") || ours.contains("expected u64"),
            "{ours}"
        );
    }
}
