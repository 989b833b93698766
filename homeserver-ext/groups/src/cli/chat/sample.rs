//! Groups and lines for the tests of this folder.

use causeway_protocol::{
    content::TextKind,
    ids::{ClientId, DeviceId, EnvelopeId, GroupId, Timestamp},
};
use serde_json::json;

use super::{
    super::line::{Line, Message, Said},
    group::{Group, Standing},
};

/// 14:00 in UTC, and a minute for each row.
pub(crate) fn at(row: i64) -> Timestamp {
    Timestamp(1_795_788_000_000 + 60_000 * u64::try_from(row).unwrap())
}

pub(crate) fn group(id: u8, name: &str) -> Group {
    Group {
        id: GroupId::new([id; 32]),
        name: name.to_owned(),
        handle: None,
        standing: Standing::In,
        unread: 0,
        members: 3,
        readers: "end-to-end".to_owned(),
        asks: Vec::new(),
        changed: None,
    }
}

/// Said by `me`, it is an own one.
pub(crate) fn message(group: u8, row: i64, who: &str, body: &str) -> Line {
    let what = Said::Message(Message {
        id: EnvelopeId::new([0; 16]),
        sender: format!("{who}:b.example").parse().unwrap(),
        device: DeviceId::new([1; 32]),
        client_id: ClientId::new([u8::try_from(row).unwrap(); 16]),
        kind: TextKind::Text,
        body: body.to_owned(),
        html: None,
        reply_to: None,
        reply_row: None,
        mirror: None,
        identity: None,
        own: who == "me",
        bridge: false,
        sent_at_ms: at(row),
        late: false,
    });
    let id = GroupId::new([group; 32]);
    Line { row, group: id, group_name: "team".to_owned(), at_ms: at(row), what }
}

pub(crate) fn roster(group: u8, row: i64) -> Line {
    let line = json!({
        "row": row, "group": GroupId::new([group; 32]), "group_name": "team", "at_ms": at(row),
        "type": "roster", "epoch": 0, "change": "create", "by": "me:b.example", "joined": [],
        "left": [], "me_joined": false, "me_left": false,
    });
    serde_json::from_value(line).unwrap()
}
