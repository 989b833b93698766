//! What a room says of its call beside who is in it: that it rings, that somebody does not come, a hand, and a
//! sign of the moment (MSC4075, MSC4310, and as Element Call has them).

use causeway_protocol::{
    api::CallIntent,
    ids::{CallId, DeviceId, GroupId, Timestamp},
};
use ruma::{EventId, OwnedEventId, OwnedUserId};
use serde_json::{Value, json};

use super::{RoomEvent, attending::Attending, rtc::SLOT};

/// That a call rings.
pub const NOTIFICATION: &str = "org.matrix.msc4075.rtc.notification";
/// That somebody does not come.
pub const DECLINE: &str = "org.matrix.msc4310.rtc.decline";
/// A sign of the moment.
pub const REACTION: &str = "io.element.call.reaction";
/// State that says whether a room has calls.
pub const SLOT_STATE: &str = "org.matrix.msc4143.rtc.slot";
/// The key of the reaction that is a raised hand; clients may leave its last character away.
pub const HAND: &str = "\u{1F590}\u{FE0F}";
/// How long it rings, in ms.
pub const RINGS_MS: u64 = 90_000;

/// What a room says of its call.
#[derive(Debug, Clone)]
pub enum InCall {
    /// Who is in it, or is not any more.
    Attends(Attending),
    /// Of the moment.
    Moment(Moment),
}

/// What somebody of Matrix did of the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Whose room it is.
    pub group: GroupId,
    /// Who.
    pub user: OwnedUserId,
    /// What.
    pub what: What,
}

/// What it is; `member` is the event by which a device is in the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It rings, by this event.
    Rings(OwnedEventId),
    /// He does not come to what rings by this one.
    Declines(OwnedEventId),
    /// His hand is raised.
    Raises {
        /// As whom.
        member: OwnedEventId,
        /// By this event.
        by: OwnedEventId,
    },
    /// The event is taken back by which it may have been.
    Lowers(OwnedEventId),
    /// A sign.
    Shows {
        /// As whom.
        member: OwnedEventId,
        /// An emoji.
        emoji: String,
    },
}

impl Moment {
    /// What an event of a group's room says of that.
    pub fn of(group: GroupId, event: &RoomEvent) -> Option<Self> {
        if event.state_key.is_some() {
            return None;
        }
        let about = event.content.get("m.relates_to");
        let text = |of: Option<&Value>, key: &str| Some(of?.get(key)?.as_str()?.to_owned());
        let is_about = |kind: &str| text(about, "rel_type").as_deref() == Some(kind);
        let id = |text: Option<String>| EventId::parse(text?).ok();
        let what = match event.kind.as_str() {
            NOTIFICATION => What::Rings(event.event_id.clone()),
            DECLINE if is_about("m.reference") => What::Declines(id(text(about, "event_id"))?),
            "m.reaction" if is_hand(event) => {
                let member = id(text(about, "event_id"))?;
                What::Raises { member, by: event.event_id.clone() }
            }
            REACTION if is_about("m.reference") => {
                let emoji = event.content.get("emoji")?.as_str()?.to_owned();
                What::Shows { member: id(text(about, "event_id"))?, emoji }
            }
            "m.room.redaction" => {
                let redacts = event.content.get("redacts")?.as_str()?.to_owned();
                What::Lowers(id(Some(redacts))?)
            }
            _ => return None,
        };
        Some(Self { group, user: event.sender.clone(), what })
    }
}

/// Whether it is a raised hand, if what it is about is somebody in a call.
pub fn is_hand(event: &RoomEvent) -> bool {
    let about = event.content.get("m.relates_to");
    let key = about.and_then(|about| about.get("key")).and_then(Value::as_str);
    let is_hand = |key: &str| key.trim_end_matches('\u{FE0F}') == HAND.trim_end_matches('\u{FE0F}');
    event.kind == "m.reaction" && key.is_some_and(is_hand)
}

/// The event by which a call rings in its room; `member` is its starter's.
pub fn notification(member: &EventId, kind: &str, intent: CallIntent, started: Timestamp) -> Value {
    let intent = match intent {
        CallIntent::Audio => "audio",
        CallIntent::Video => "video",
    };
    json!({
        "m.mentions": {"user_ids": [], "room": true},
        "notification_type": kind,
        "m.relates_to": {"rel_type": "m.reference", "event_id": member},
        "sender_ts": started.0,
        "lifetime": RINGS_MS,
        "m.call.intent": intent,
        "slot_id": SLOT,
        "msc4354_sticky_key": SLOT,
    })
}

/// The event by which a native says that he does not come.
pub fn decline(notification: &EventId) -> Value {
    json!({"m.relates_to": {"rel_type": "m.reference", "event_id": notification}})
}

/// The event by which a native's hand is raised.
pub fn hand(member: &EventId) -> Value {
    json!({"m.relates_to": {"rel_type": "m.annotation", "event_id": member, "key": HAND}})
}

/// A native's sign. A name that clients know has its sound.
pub fn sign(member: &EventId, emoji: &str) -> Value {
    let name = if emoji == "\u{1F44D}" { "thumbsup" } else { "generic" };
    json!({
        "m.relates_to": {"rel_type": "m.reference", "event_id": member},
        "emoji": emoji, "name": name,
    })
}

/// That a room has calls; not encrypted.
pub fn slot() -> Value {
    json!({"status": "open", "application": {"type": "m.call"}})
}

/// What a call's ringing is called, so that it is sent once.
pub fn ring_txn(call: &CallId) -> String {
    format!("ring-{call}")
}

/// Likewise that somebody does not come.
pub fn decline_txn(call: &CallId, who: &str) -> String {
    format!("decline-{call}-{who}")
}

/// Likewise a sign.
pub fn sign_txn(call: &CallId, device: &DeviceId, at: Timestamp) -> String {
    format!("sign-{call}-{device}-{}", at.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId::new([1; 32]);

    fn said(kind: &str, content: &Value) -> Option<What> {
        let event = serde_json::from_value(json!({
            "event_id": "$by:b.example", "room_id": "!r:b.example", "sender": "@mia:b.example",
            "type": kind, "origin_server_ts": 1, "content": content,
        }));
        Moment::of(GROUP, &event.unwrap()).map(|moment| moment.what)
    }

    #[test]
    fn what_is_said_of_the_moment_is_understood_and_nothing_else_is() {
        let id = |text: &str| EventId::parse(text).unwrap();
        let (by, member) = (id("$by:b.example"), id("$member:b.example"));
        let rings = notification(&member, "ring", CallIntent::Audio, Timestamp(5));
        assert_eq!(said(NOTIFICATION, &rings), Some(What::Rings(by.clone())));
        assert_eq!(said(DECLINE, &decline(&member)), Some(What::Declines(member.clone())));
        let raises = What::Raises { member: member.clone(), by };
        assert_eq!(said("m.reaction", &hand(&member)), Some(raises));
        let shows = What::Shows { member: member.clone(), emoji: "👍".to_owned() };
        assert_eq!(said(REACTION, &sign(&member, "👍")), Some(shows));
        let redacts = json!({"redacts": member});
        assert_eq!(said("m.room.redaction", &redacts), Some(What::Lowers(member.clone())));
        let mut other = hand(&member);
        other["m.relates_to"]["key"] = json!("👍");
        assert_eq!(said("m.reaction", &other), None);
        for kind in [DECLINE, REACTION, "m.reaction", "m.room.redaction", "m.room.message"] {
            for content in [json!({}), json!({"m.relates_to": {"rel_type": "m.reference"}})] {
                assert_eq!(said(kind, &content), None, "{kind}");
            }
        }
    }

    #[test]
    fn a_ring_has_all_that_clients_want_of_it() {
        let member = EventId::parse("$member:b.example").unwrap();
        let ring = notification(&member, "ring", CallIntent::Video, Timestamp(5));
        assert_eq!(ring["lifetime"], 90_000);
        assert_eq!((&ring["slot_id"], &ring["m.call.intent"]), (&json!(SLOT), &json!("video")));
        assert_eq!(ring["m.relates_to"]["event_id"], json!(member));
        assert_eq!(ring["m.mentions"]["room"], true);
    }
}
