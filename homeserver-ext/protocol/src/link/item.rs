//! Items: what a frame brings, each for itself.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    envelope::Sender,
    ids::{
        AccountId, DeviceId, EnvelopeId, Epoch, GroupId, ItemId, RosterHash, StreamId, Timestamp,
    },
    json,
};

use super::{
    event::Event,
    frame::MAX_ITEM,
    row::{Row, is_of},
};

/// How long after its `until` an ask is still carried out.
const LATE_MS: u64 = 300_000;

/// One item.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// For devices of the receiver; its id is the row's.
    Row(Row),
    /// For all of a group, where the receiver is not in its relay room.
    Event(ItemId, Event),
    /// A request of one of the sender's accounts, or of the sender itself.
    Ask(ItemId, Ask),
    /// What became of it.
    Answer(ItemId, Answer),
    /// What nobody answers.
    Tell(ItemId, Tell),
}

/// Why an item is skipped; it counts as malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadItem {
    /// Bytes, and the most that is read.
    #[error("item is {0} bytes, at most {1} are read")]
    TooLarge(usize, usize),
    /// None of ours.
    #[error("not a kind of item that is known")]
    Unknown,
    /// A field is missing, or of the wrong type.
    #[error("not the fields of its kind")]
    Fields,
}

/// A request, carried to the server that it concerns: what the same one is on one server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// Which request.
    pub call: Call,
    /// Whose; absent for the server's own.
    #[serde(rename = "as")]
    pub caller: Option<Sender>,
    /// Unsent then, it is dropped; the asker's clock.
    pub until: Timestamp,
    /// The request's own.
    pub body: Value,
}

/// Requests that one server carries to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// What the server is.
    Ping,
    /// `GET accounts/{account}`.
    Account,
    /// `POST keys/claim`.
    Claim,
    /// `GET groups/{id}/roster`.
    Ops,
    /// `POST groups/{id}/roster`.
    Op,
    /// `POST groups/{id}/join`.
    Join,
    /// The routes of invites.
    Invites,
    /// The routes of requests to join.
    Requests,
    /// `DELETE groups/{id}/sender-keys`.
    SenderKeys,
    /// Events that are missing (protocol §7.3).
    Events,
    /// The routes of calls.
    Calls,
}

/// HTTP status and body that the request would have had there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The ask.
    pub to: ItemId,
    /// HTTP's.
    pub status: u16,
    /// The answer's own.
    pub body: Value,
}

/// What a server says to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tell {
    /// The group's relay room, by its home.
    Room(GroupId, String),
    /// The receiver's agent is to leave the group's relay room.
    Leave(GroupId),
    /// Where the sender stands.
    Heads(Vec<Head>),
    /// What became of events and rows.
    Progress(Vec<StreamProgress>, Vec<RowProgress>),
    /// An account's list has this version.
    Devices(AccountId, u32),
    /// Lists and records of accounts of other servers than the receiver's, whom the group's ops name: what
    /// `GET accounts/{account}` answers, not verified.
    Accounts(Vec<Value>),
}

/// Where a server stands in one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Which group.
    pub group: GroupId,
    /// Its present stream; absent where it has sent no event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamId>,
    /// The last event of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Epoch of its last op.
    pub epoch: Epoch,
    /// The roster there.
    pub roster_hash: RosterHash,
}

/// How far events were taken, and read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamProgress {
    /// Which group.
    pub group: GroupId,
    /// The reader's stream of it.
    pub stream: StreamId,
    /// The last event up to which all are committed.
    pub taken: u64,
    /// Devices of the one who tells.
    #[serde(default, deserialize_with = "json::or_default")]
    pub devices: Vec<DeviceProgress>,
}

/// How far one device has read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceProgress {
    /// Which.
    pub device: DeviceId,
    /// Last event that was given to it.
    pub delivered: u64,
    /// Last event that it acknowledged.
    pub acked: u64,
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowProgress {
    /// What its sender calls it; of a fan-out that of the whole.
    pub id: EnvelopeId,
    /// The device that sent it, of the server that is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<DeviceId>,
    /// In which group, where it did not arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupId>,
    /// Absent: all of that server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// Newest only. `delivered` and `acked` are of all that was sent before this and was for the device, too.
    pub state: RowState,
    /// Where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// States of a row at its reader's server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowState {
    /// Given to the device.
    Delivered,
    /// The device has it.
    Acked,
    /// It ended first.
    Expired,
    /// Refused; the reason says why.
    Failed,
}

impl Ask {
    /// Whether the asking server may speak for its caller.
    pub fn is_by(&self, peer: &str) -> bool {
        self.caller.as_ref().is_none_or(|caller| is_of(&caller.account, peer))
    }

    /// Whether it is still to be sent.
    pub fn is_wanted(&self, now: Timestamp) -> bool {
        now < self.until
    }

    /// Whether it is still carried out: clocks differ, and nobody waits for ever.
    pub fn is_in_time(&self, now: Timestamp) -> bool {
        now <= self.until.plus_ms(LATE_MS)
    }
}

impl Item {
    /// Reads an item of a frame.
    ///
    /// # Errors
    /// [`BadItem`]; the frame's other items are read all the same.
    pub fn parse(value: &Value) -> Result<Self, BadItem> {
        let bytes = value.to_string().len();
        if bytes > MAX_ITEM {
            return Err(BadItem::TooLarge(bytes, MAX_ITEM));
        }
        let kind = value.get("t").and_then(Value::as_str).ok_or(BadItem::Unknown)?;
        let id = || value.get("id").and_then(|id| json::from_value::<ItemId>(id).ok());
        let item = match kind {
            "row" => value.get("envelope").and_then(Row::read).map(Self::Row),
            "event" => {
                let content = value.get("content").and_then(Event::read);
                id().zip(content).map(|(id, event)| Self::Event(id, event))
            }
            "ask" => id().zip(json::from_value(value).ok()).map(|(id, ask)| Self::Ask(id, ask)),
            "answer" => id().zip(json::from_value(value).ok()).map(|(id, to)| Self::Answer(id, to)),
            "tell" => id().zip(Tell::read(value)).map(|(id, tell)| Self::Tell(id, tell)),
            _ => return Err(BadItem::Unknown),
        };
        item.ok_or(BadItem::Fields)
    }

    /// The item of a frame.
    pub fn to_json(&self) -> Value {
        let (kind, id, fields) = match self {
            Self::Row(row) => return json!({"t": "row", "envelope": row.to_value()}),
            Self::Event(id, event) => ("event", id, json!({ "content": event.to_value() })),
            Self::Ask(id, ask) => ("ask", id, serde_json::to_value(ask).unwrap_or_default()),
            Self::Answer(id, to) => ("answer", id, serde_json::to_value(to).unwrap_or_default()),
            Self::Tell(id, tell) => ("tell", id, tell.fields()),
        };
        let mut item = json!({"t": kind, "id": id});
        if let (Some(item), Value::Object(fields)) = (item.as_object_mut(), fields) {
            item.extend(fields);
        }
        item
    }
}

impl Tell {
    fn read(value: &Value) -> Option<Self> {
        fn field<T: for<'de> Deserialize<'de>>(value: &Value, name: &str) -> Option<T> {
            json::from_value(value.get(name)?).ok()
        }
        fn list<T: for<'de> Deserialize<'de>>(value: &Value, name: &str) -> Option<Vec<T>> {
            match value.get(name) {
                None | Some(Value::Null) => Some(Vec::new()),
                Some(list) => json::from_value(list).ok(),
            }
        }
        Some(match value.get("what")?.as_str()? {
            "room" => Self::Room(field(value, "group")?, field(value, "room_id")?),
            "leave" => Self::Leave(field(value, "group")?),
            "heads" => Self::Heads(list(value, "heads")?),
            "progress" => Self::Progress(list(value, "streams")?, list(value, "rows")?),
            "accounts" => Self::Accounts(list(value, "accounts")?),
            "devices" => Self::Devices(field(value, "account")?, field(value, "version")?),
            _ => return None,
        })
    }

    fn fields(&self) -> Value {
        match self {
            Self::Room(group, room) => json!({"what": "room", "group": group, "room_id": room}),
            Self::Leave(group) => json!({"what": "leave", "group": group}),
            Self::Heads(heads) => json!({"what": "heads", "heads": heads}),
            Self::Progress(streams, rows) => {
                json!({"what": "progress", "streams": streams, "rows": rows})
            }
            Self::Accounts(accounts) => json!({"what": "accounts", "accounts": accounts}),
            Self::Devices(account, version) => {
                json!({"what": "devices", "account": account, "version": version})
            }
        }
    }
}
