//! An event of a relay room: one frame of several links, for each of which it has a number (protocol §7.4).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    ids::{ItemId, ServerLinkId},
    json,
};

use super::{
    event::Event,
    frame::{Ack, Frame},
    given::{Gives, Had},
    item::Item,
};

/// Most bytes of one content, as canonical JSON: the homeserver's own fields of an event take the rest of
/// 65,536 (Matrix, "Size limits").
pub const MAX_ROOM_CONTENT: usize = 61_500;

/// One event of a relay room.
#[derive(Debug, Clone, PartialEq)]
pub struct RoomEvent {
    /// What it brings.
    pub event: Event,
    /// As which frame of its link each server takes it, by name.
    pub frames: BTreeMap<String, FrameHead>,
}

/// A frame without its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameHead {
    /// The sender's present link with that server.
    pub link: ServerLinkId,
    /// The frame's number in it.
    pub seq: u64,
    /// As in a frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack: Option<Ack>,
    /// As in a frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<ServerLinkId>,
    /// As in a frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub had: Option<Had>,
    /// As in a frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gives: Option<Gives>,
}

/// Why a content is none; it counts as malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an event of a relay room")]
pub struct BadRoomEvent;

impl RoomEvent {
    /// Reads a content.
    ///
    /// # Errors
    /// [`BadRoomEvent`]
    pub fn parse(content: &Value) -> Result<Self, BadRoomEvent> {
        if content.to_string().len() > MAX_ROOM_CONTENT {
            return Err(BadRoomEvent);
        }
        let frames = content.get("frames").ok_or(BadRoomEvent)?;
        let frames: BTreeMap<String, FrameHead> =
            json::from_value(frames).map_err(|_| BadRoomEvent)?;
        let event = Event::read(content).ok_or(BadRoomEvent)?;
        Ok(Self { event, frames })
    }

    /// The frame that it is for a server; `None`: nothing for that one. `id` is drawn for its item.
    pub fn frame(&self, server: &str, id: ItemId) -> Option<Frame> {
        let FrameHead { link, seq, ack, reset, had, gives } = *self.frames.get(server)?;
        let items = vec![Item::Event(id, self.event.clone()).to_json()];
        Some(Frame { link, seq, ack, reset, had, gives: gives.map(Box::new), items })
    }
}

impl From<&Frame> for FrameHead {
    fn from(frame: &Frame) -> Self {
        let Frame { link, seq, ack, reset, had, .. } = *frame;
        Self { link, seq, ack, reset, had, gives: frame.gives.as_deref().copied() }
    }
}

/// The content of what several events of one group bring, by their own contents, at the place of the first.
pub fn joined(contents: &[&Value], frames: &BTreeMap<String, FrameHead>) -> Value {
    let mut content = contents.first().map_or(Value::Null, |first| (*first).clone());
    let more = contents.iter().skip(1).filter_map(|content| content.get("envelopes")?.as_array());
    if let Some(envelopes) = content.get_mut("envelopes").and_then(Value::as_array_mut) {
        envelopes.extend(more.flatten().cloned());
    }
    if let Some(fields) = content.as_object_mut() {
        fields.insert("frames".to_owned(), json!(frames));
    }
    content
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use serde_json::Value;

    use super::{FrameHead, MAX_ROOM_CONTENT, RoomEvent, joined};
    use crate::{
        envelope::{Kind, Sender, Submission, SubmittedTo},
        ids::{DeviceId, Epoch, GroupId, ItemId, ServerLinkId, StreamId},
        link::{Ack, Carried, Content, Event, EventPlace, Gives, Had, Item},
    };

    fn event(seq: u64, words: &[&str]) -> Event {
        let place = EventPlace { stream: StreamId::new([3; 16]), seq };
        let group = GroupId::new([7; 32]);
        let envelopes = words.iter().map(|word| Submission {
            id: None,
            kind: Kind::Message,
            group,
            epoch: Epoch(1),
            sender: Sender {
                account: "carol:a.example".parse().unwrap(),
                device: DeviceId::new([6; 32]),
            },
            to: SubmittedTo::Broadcast,
            ttl_ms: 1,
            payload: word.as_bytes().to_vec(),
        });
        Event { group, place, after: None, carried: Carried::Envelopes(envelopes.collect()) }
    }

    fn frames() -> BTreeMap<String, FrameHead> {
        let ack = Ack { link: ServerLinkId::new([5; 16]), seq: 4 };
        let head = |n| FrameHead {
            link: ServerLinkId::new([n; 16]),
            seq: u64::from(n),
            ack: Some(ack),
            reset: None,
            had: Some(Had { stream: Some(StreamId::new([6; 16])), seq: 3 }),
            gives: Some(Gives {
                stream: StreamId::new([7; 16]),
                after: 1,
                seq: 2,
                since: None,
                gap: false,
            }),
        };
        let frames = [("b.example", head(1)), ("c.example", head(2))];
        frames.map(|(name, head)| (name.to_owned(), head)).into()
    }

    fn content(event: &Event) -> Value {
        Item::Event(ItemId::new([9; 16]), event.clone()).to_json()["content"].clone()
    }

    fn whole() -> Value {
        let parts = [content(&event(1, &["one", "two"])), content(&event(2, &["three"]))];
        joined(&[&parts[0], &parts[1]], &frames())
    }

    #[test]
    fn it_is_a_frame_of_its_link_for_each_that_it_names_and_for_nobody_else() {
        let said = RoomEvent::parse(&whole()).unwrap();
        assert_eq!(said.event, event(1, &["one", "two", "three"]), "in their order");
        assert_eq!(said.frames, frames());
        let id = ItemId::new([9; 16]);
        for (name, n) in [("b.example", 1), ("c.example", 2)] {
            let frame = said.frame(name, id).unwrap();
            assert_eq!((frame.link, frame.seq), (ServerLinkId::new([n; 16]), u64::from(n)));
            assert_eq!(frame.ack.unwrap().seq, 4);
            let item = Item::parse(&frame.items[0]).unwrap();
            assert_eq!(item, Item::Event(id, said.event.clone()));
            let content = Content::parse(frame.to_json().to_string().as_bytes()).unwrap();
            assert_eq!(content, Content::Frame(frame));
        }
        assert_eq!(said.frame("d.example", id), None);
    }

    #[test]
    fn what_lacks_a_part_or_is_too_large_is_none() {
        let whole = whole();
        for field in ["v", "group", "stream", "seq", "frames", "envelopes"] {
            let mut part = whole.clone();
            part.as_object_mut().unwrap().remove(field);
            assert!(RoomEvent::parse(&part).is_err(), "without {field}");
        }
        let mut large = whole.clone();
        large["more"] = json!("x".repeat(MAX_ROOM_CONTENT));
        assert!(RoomEvent::parse(&large).is_err());
        let mut odd = whole;
        odd["frames"] = json!({"b.example": {"link": "short", "seq": 1}});
        assert!(RoomEvent::parse(&odd).is_err());
        assert!(RoomEvent::parse(&json!(BTreeMap::<String, u8>::new())).is_err());
    }
}
