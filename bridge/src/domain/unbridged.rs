//! What Matrix clients show and the bridge does not carry yet: the group reads a line in its place, and
//! who did it is told.

use causeway_protocol::{content::ContentType, ids::AccountId};
use ruma::{EventId, OwnedEventId};
use serde_json::{Map, Value};

use super::{MESSAGE, RoomEvent};

/// What somebody did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `m.image`, `m.video`, `m.audio` and `m.file`.
    File,
    /// `m.location`, and a live one that begins.
    Location,
    /// `m.sticker`.
    Sticker,
    /// A poll that begins, or ends (MSC3381).
    Poll,
    /// `m.reaction`.
    Reaction,
    /// `m.room.redaction`.
    Redaction,
    /// A call, or its ringing (MSC4075).
    Call,
    /// The room's own name.
    Name,
    /// The room's own topic.
    Topic,
    /// The room's own picture.
    Avatar,
    /// Anything else that has words for clients that do not know it.
    Other,
}

impl Kind {
    /// What an event is that says something that is not carried; `None` for text, which is, and for what
    /// nobody sees.
    pub fn of(event: &RoomEvent) -> Option<Self> {
        let content = &event.content;
        let is_gone = content.is_empty() && event.kind != "m.room.redaction";
        if is_gone {
            return None;
        }
        let is_rooms = event.state_key.as_deref() == Some("");
        Some(match (event.kind.as_str(), event.state_key.is_some()) {
            (MESSAGE, false) => match text(content, "msgtype")? {
                "m.text" | "m.notice" | "m.emote" => return None,
                "m.image" | "m.video" | "m.audio" | "m.file" => Self::File,
                "m.location" => Self::Location,
                _ => Self::Other,
            },
            ("m.sticker", false) => Self::Sticker,
            (
                "m.poll.start"
                | "org.matrix.msc3381.poll.start"
                | "m.poll.end"
                | "org.matrix.msc3381.poll.end",
                false,
            ) => Self::Poll,
            ("m.reaction", false) => Self::Reaction,
            ("m.room.redaction", false) => Self::Redaction,
            (
                "m.call.invite"
                | "m.call.notify"
                | "org.matrix.msc4075.call.notify"
                | "m.rtc.notification"
                | "org.matrix.msc4075.rtc.notification",
                false,
            ) => Self::Call,
            ("m.room.name", true) if is_rooms => Self::Name,
            ("m.room.topic", true) if is_rooms => Self::Topic,
            ("m.room.avatar", true) if is_rooms => Self::Avatar,
            ("m.beacon_info" | "org.matrix.msc3672.beacon_info", true)
                if content.get("live") == Some(&Value::Bool(true)) =>
            {
                Self::Location
            }
            // Votes, positions and candidates of calls are shown by what they belong to.
            (kind, false) if !is_part(kind) && fallback(content).is_some() => Self::Other,
            _ => return None,
        })
    }

    /// What whoever did it is told.
    pub fn answer(self) -> String {
        let what = self.plural();
        let instead = match self {
            Self::Name => {
                return "The native group keeps its name, and gives it to the room again when one of \
                        its admins changes it. Its people are told how the room is called."
                    .to_owned();
            }
            Self::Redaction => "its people are told of it, and can still read what you took back",
            _ => "its people read a line in place of yours",
        };
        format!("{what} do not get into the native group yet: {instead}.")
    }

    /// Names it in rows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Location => "location",
            Self::Sticker => "sticker",
            Self::Poll => "poll",
            Self::Reaction => "reaction",
            Self::Redaction => "redaction",
            Self::Call => "call",
            Self::Name => "name",
            Self::Topic => "topic",
            Self::Avatar => "avatar",
            Self::Other => "other",
        }
    }

    const fn plural(self) -> &'static str {
        match self {
            Self::File => "Files",
            Self::Location => "Locations",
            Self::Sticker => "Stickers",
            Self::Poll => "Polls",
            Self::Reaction => "Reactions",
            Self::Redaction => "Removals of messages",
            Self::Call => "Calls",
            Self::Name => "Names of rooms",
            Self::Topic => "Topics",
            Self::Avatar => "Pictures of rooms",
            Self::Other => "Messages of this kind",
        }
    }
}

/// What the group reads in its place, and the message that it is about.
pub fn line(kind: Kind, event: &RoomEvent) -> (String, Option<OwnedEventId>) {
    let content = &event.content;
    let body = text(content, "body").unwrap_or_default();
    let about = match kind {
        Kind::Reaction => content.get("m.relates_to").and_then(|of| of.get("event_id")),
        Kind::Redaction => content.get("redacts"),
        _ => None,
    };
    let about = about.and_then(Value::as_str).and_then(|id| EventId::parse(id).ok());
    let line = match kind {
        Kind::File => {
            let what = text(content, "msgtype").unwrap_or_default();
            let what = what.strip_prefix("m.").unwrap_or(what);
            format!("sent {what}, which is not bridged yet: {body}")
        }
        Kind::Location => {
            let place = text(content, "description").unwrap_or(body);
            format!("shared a location, which is not bridged yet: {place}")
        }
        Kind::Sticker => format!("sent a sticker, which is not bridged yet: {body}"),
        Kind::Poll => poll(content),
        Kind::Reaction => {
            let key = content.get("m.relates_to").and_then(|of| of.get("key"));
            let key = key.and_then(Value::as_str).unwrap_or_default();
            // Images stand there by their address.
            let key = if key.starts_with("mxc://") { "an image" } else { key };
            format!("reacted with {key}")
        }
        Kind::Redaction => "took back this message".to_owned(),
        Kind::Call => "started a call, which is not bridged yet".to_owned(),
        Kind::Name => renamed("name", text(content, "name")),
        Kind::Topic => renamed("topic", text(content, "topic")),
        Kind::Avatar => "gave the Matrix room another picture".to_owned(),
        Kind::Other => {
            let words = fallback(content).unwrap_or_default();
            format!("sent something that is not bridged yet: {words}")
        }
    };
    (line.trim_end_matches([' ', ':']).to_owned(), about)
}

fn renamed(what: &str, value: Option<&str>) -> String {
    match value {
        Some(value) => format!("gave the Matrix room another {what}: {value}"),
        None => format!("took the {what} off the Matrix room"),
    }
}

/// What the room reads in place of what somebody native sent that is not carried; `None` for what
/// nobody sees. Numbers as in protocol §2.1.
pub fn native_line(number: u8) -> Option<String> {
    Some(match ContentType::from_number(number) {
        Some(ContentType::Edit) => "changed a message, which is not bridged yet".to_owned(),
        Some(ContentType::Reaction) => "reacted to a message, which is not bridged yet".to_owned(),
        Some(ContentType::Redaction) => "took a message back, which is not bridged yet".to_owned(),
        Some(ContentType::Media) => "sent a file, which is not bridged yet".to_owned(),
        Some(ContentType::Call) => "started a call, which is not bridged yet".to_owned(),
        Some(
            ContentType::Receipt
            | ContentType::Typing
            | ContentType::Text
            | ContentType::Mirrors
            | ContentType::RosterSync
            | ContentType::BridgeRequest,
        ) => return None,
        None => format!("sent something that this bridge does not know (type {number})"),
    })
}

/// Names it in rows: all that have no number in the protocol are one, so that nobody is told 200 times.
pub fn native_kind(number: u8) -> String {
    match ContentType::from_number(number) {
        Some(_) => format!("native {number}"),
        None => "native".to_owned(),
    }
}

/// What whoever sent it is told, in the group.
pub fn answer_native(account: &AccountId, number: u8) -> String {
    let what = match ContentType::from_number(number) {
        Some(ContentType::Edit) => "Changed messages".to_owned(),
        Some(ContentType::Reaction) => "Reactions".to_owned(),
        Some(ContentType::Redaction) => "Removals of messages".to_owned(),
        Some(ContentType::Media) => "Files".to_owned(),
        Some(ContentType::Call) => "Calls".to_owned(),
        _ => "Messages of types that this bridge does not know".to_owned(),
    };
    format!(
        "{what} do not get into the Matrix room yet, {account}: it reads a line in their place."
    )
}

fn poll(content: &Map<String, Value>) -> String {
    let start = ["m.poll", "m.poll.start", "org.matrix.msc3381.poll.start"];
    let Some(poll) = start.iter().find_map(|name| content.get(*name)).and_then(Value::as_object)
    else {
        return "ended a poll".to_owned();
    };
    let words = |value: &Value| value.as_object().and_then(fallback).map(str::to_owned);
    let question = poll.get("question").and_then(words);
    let answers = poll.get("answers").and_then(Value::as_array);
    let answers: Vec<String> = answers.into_iter().flatten().filter_map(words).collect();
    let question = question.or_else(|| fallback(content).map(str::to_owned)).unwrap_or_default();
    let answers =
        if answers.is_empty() { String::new() } else { format!(" ({})", answers.join(" / ")) };
    format!("started a poll, which is not bridged yet: {question}{answers}")
}

/// What belongs to something else, which is shown instead of it.
fn is_part(kind: &str) -> bool {
    let parts =
        ["poll.response", "beacon", "call.", "m.key.verification.", "io.element.functional"];
    parts.iter().any(|part| kind.contains(part))
}

/// Words for clients that do not know the type (MSC1767).
fn fallback(content: &Map<String, Value>) -> Option<&str> {
    let plain = ["body", "org.matrix.msc1767.text"].iter().find_map(|name| text(content, name));
    plain.or_else(|| {
        let texts = content.get("m.text")?;
        texts.as_str().or_else(|| texts.as_array()?.first()?.get("body")?.as_str())
    })
}

fn text<'a>(content: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    content.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

#[cfg(test)]
#[path = "unbridged_table.rs"]
mod table;
