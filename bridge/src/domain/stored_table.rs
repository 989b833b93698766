//! What is kept reads back, and what the version before kept still does.

use causeway_protocol::ids::text_of;
use serde_json::{Value, json};

use super::*;
use crate::domain::lane::table::deeds;

#[test]
fn what_is_written_is_read() {
    for deed in deeds() {
        assert_eq!(read(&write(&deed).unwrap()), Ok(deed));
    }
}

fn spoken() -> Value {
    json!({
        "account": "bob:b.example",
        "reference": format!("{}/{}", text_of(&[1; 32]), text_of(&[2; 16])),
        "message_id": text_of(&[3; 16]),
        "expires_at": 9,
        "late": false,
    })
}

/// What databases hold. A change here is a new version, and what stands here becomes an old one.
#[test]
fn the_form_is_the_one_that_waits_in_databases() {
    let mut said = spoken();
    said["said"] = json!({"Text": [{"kind": "text", "body": "hi"}, null]});
    let relayed = json!({
        "mirror": "@al:x", "event_id": "$e",
        "said": {"Text": [{"kind": "text", "body": "hi"}, "$q"]},
    });
    let expected = [
        json!({"InRoom": {"Say": said}}),
        json!({"InRoom": {"Notice": "n"}}),
        json!({"InRoom": "Make"}),
        json!({"InRoom": {"Invite": "@al:x"}}),
        json!({"InRoom": {"Leave": "bob:b.example"}}),
        json!({"InRoom": "Pause"}),
        json!({"InRoom": "Close"}),
        json!({"InGroup": {"Say": relayed}}),
        json!({"InGroup": {"Announce": [[], ["@al:x"]]}}),
        json!({"InGroup": {"Notice": "n"}}),
        json!({"InRoom": {"Follow": "!next:x"}}),
        json!({"InRoom": "MakeAnew"}),
        json!({"InRoom": {"Answer": ["n", "$e"]}}),
        json!({"InRoom": {"PutOut": ["bob:b.example", "r"]}}),
        json!({"InRoom": "Topic"}),
        json!({"InRoom": "Introduce"}),
        json!({"InRoom": {"Members": ["$e", 2]}}),
        json!({"InRoom": {"Unread": "$e"}}),
        json!({"InRoom": {"MakeInstead": "!old:x"}}),
        json!({"InRoom": {"Asked": ["$e", "@al:x", {"Invite": "@bo:x"}]}}),
        json!({"InRoom": "Rename"}),
        json!({"InRoom": "Return"}),
        json!({"InRoom": {"InviteFor": ["@al:x", "bob:b.example"]}}),
        json!({"InRoom": {"Asked": ["$e", "@al:x", "UnbridgeInSilence"]}}),
    ];
    for (deed, expected) in deeds().iter().zip(expected) {
        let written: Value = serde_json::from_slice(&write(deed).unwrap()).unwrap();
        assert_eq!(written, json!({"v": 1, "deed": expected}));
    }
}

#[test]
fn what_the_first_version_kept_is_read() {
    let mut said = spoken();
    said["text"] = json!({"kind": "text", "body": "hi"});
    said["reply_to"] = Value::Null;
    let relayed = json!({
        "mirror": "@al:x", "event_id": "$e", "at": 5,
        "text": {"kind": "text", "body": "hi"}, "reply_to": "$q",
    });
    let rows = [
        json!({"ToMatrix": said}),
        json!({"NoticeMatrix": "n"}),
        json!("MakeRoom"),
        json!({"Invite": "@al:x"}),
        json!({"Leave": "bob:b.example"}),
        json!("Pause"),
        json!("Close"),
        json!({"ToNative": relayed}),
        json!({"Announce": [[], ["@al:x"]]}),
        json!({"NoticeNative": "n"}),
    ];
    for (row, expected) in rows.iter().zip(deeds()) {
        assert_eq!(read(&serde_json::to_vec(row).unwrap()), Ok(expected), "{row}");
    }
}

#[test]
fn what_no_version_wrote_is_not_read() {
    for bytes in [
        &b""[..],
        b"null",
        b"\"Elsewhere\"",
        br#"{"v":1}"#,
        br#"{"v":1,"deed":{"InRoom":"Elsewhere"}}"#,
        br#"{"v":1,"deed":"Pause"}"#,
        br#"{"v":2,"deed":{"InRoom":"Pause"}}"#,
        br#"{"v":4294967296,"deed":{"InRoom":"Pause"}}"#,
    ] {
        assert_eq!(read(bytes), Err(Unreadable::Version), "{}", String::from_utf8_lossy(bytes));
    }
}
