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
    /// What else is set in the room and shown by clients: pins, who may come in, who may do what.
    Setting,
    /// Anything else that has words for clients that do not know it.
    Other,
}

impl Kind {
    /// What an event is that says something that is not carried; `None` for text, which is, and for what
    /// nobody sees.
    pub fn of(event: &RoomEvent) -> Option<Self> {
        let content = &event.content;
        let is_rooms = event.state_key.as_deref() == Some("");
        // What is taken off a room is news, unlike what was redacted.
        let is_taken_off = is_rooms && event.kind.starts_with("m.room.");
        if content.is_empty() && !is_taken_off && event.kind != "m.room.redaction" {
            return None;
        }
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
            (kind, true) if is_rooms && setting(kind, content).is_some() => Self::Setting,
            // One that began before MSC4075 rings by what it is.
            ("m.call" | "org.matrix.msc3401.call", true)
                if !content.contains_key("m.terminated") =>
            {
                Self::Call
            }
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
            Self::Setting => {
                return "The native group has no settings of this kind yet: its people are told that \
                        you changed one here."
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
            Self::Setting => "setting",
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
            Self::Setting => "Settings of rooms",
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
            let voice = ["m.voice", "org.matrix.msc3245.voice", "org.matrix.msc3245.voice.v2"];
            let is_voice = voice.iter().any(|name| content.contains_key(*name));
            let what =
                if is_voice { "a voice message" } else { what.strip_prefix("m.").unwrap_or(what) };
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
            // Images stand there by their address, and may bear a name (MSC4027).
            let named = ["shortcode", "com.beeper.reaction.shortcode"];
            match named.iter().find_map(|name| text(content, name)) {
                Some(named) if key.starts_with("mxc://") => {
                    format!("reacted with an image ({named})")
                }
                None if key.starts_with("mxc://") => "reacted with an image".to_owned(),
                _ => format!("reacted with {key}"),
            }
        }
        Kind::Redaction => "took back this message".to_owned(),
        Kind::Call => "started a call, which is not bridged yet".to_owned(),
        Kind::Name => renamed("name", text(content, "name")),
        Kind::Topic => renamed("topic", text(content, "topic")),
        Kind::Avatar => "gave the Matrix room another picture".to_owned(),
        Kind::Setting => setting(&event.kind, content).unwrap_or_default(),
        Kind::Other => {
            let words = fallback(content).unwrap_or_default();
            format!("sent something that is not bridged yet: {words}")
        }
    };
    (line.trim_end_matches([' ', ':']).to_owned(), about)
}

/// What somebody did who set something in the room.
fn setting(kind: &str, content: &Map<String, Value>) -> Option<String> {
    let to = |what: &str, key: &str| match text(content, key) {
        Some(value) => format!("changed {what} the Matrix room: {value}"),
        None => format!("changed {what} the Matrix room"),
    };
    Some(match kind {
        "m.room.pinned_events" => "changed which messages are pinned in the Matrix room".to_owned(),
        "m.room.server_acl" => "changed which servers may take part in the Matrix room".to_owned(),
        "m.room.power_levels" => "changed who may do what in the Matrix room".to_owned(),
        "m.room.canonical_alias" => to("the address of", "alias"),
        "m.room.join_rules" => to("who may come into", "join_rule"),
        "m.room.guest_access" => to("whether guests may come into", "guest_access"),
        "m.room.history_visibility" => to("who may read back in", "history_visibility"),
        _ => return None,
    })
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
    let parts = [
        "poll.response",
        "beacon",
        "call.",
        "rtc.",
        "m.key.verification.",
        "io.element.functional",
    ];
    parts.iter().any(|part| kind.contains(part))
}

/// Words for clients that do not know the type (MSC1767, as it is and as it was), plain ones before
/// others.
fn fallback(content: &Map<String, Value>) -> Option<&str> {
    let names = [
        "body",
        "m.text",
        "org.matrix.msc1767.text",
        "m.markup",
        "org.matrix.msc1767.markup",
        "m.message",
        "org.matrix.msc1767.message",
    ];
    let words = names.iter().filter_map(|name| content.get(*name)).find_map(|words| {
        if let Some(words) = words.as_str() {
            return Some(words);
        }
        let forms = words.as_array()?;
        let is_plain = |form: &&Value| {
            let kind = form.get("mimetype").and_then(Value::as_str);
            kind.is_none_or(|kind| kind == "text/plain")
        };
        forms.iter().find(is_plain).or_else(|| forms.first())?.get("body")?.as_str()
    });
    words.filter(|words| !words.is_empty())
}

fn text<'a>(content: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    content.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

#[cfg(test)]
#[path = "unbridged_table.rs"]
mod table;
