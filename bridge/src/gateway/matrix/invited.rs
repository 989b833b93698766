//! Into which rooms somebody is invited, also by an answer of which only the beginning is there.
//!
//! What stands in an invitation its sender wrote, up to many MiB of it: nothing is kept of that but the room, and
//! who invites.

use std::{collections::BTreeMap, fmt};

use ruma::{OwnedRoomId, OwnedUserId, UserId};
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// Where an answer to `/sync` has invitations.
const PLACE: [&str; 2] = ["rooms", "invite"];

/// Rooms into which somebody is invited.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Invitations {
    /// Each with who invites, where that can be seen.
    pub all: BTreeMap<OwnedRoomId, Option<OwnedUserId>>,
    /// The one at whose midst the answer was cut off.
    pub cut: Option<OwnedRoomId>,
    /// These are all there are.
    pub are_all: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Invited {
    pub(super) invite_state: Shown,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Shown {
    pub(super) events: Vec<Box<RawValue>>,
}

/// Who invited `user`, by what is shown of a room: the last that says so, since homeservers put the invitation
/// itself behind what its sender wrote of the room.
pub(super) fn by(user: &UserId, shown: &[Box<RawValue>]) -> Option<OwnedUserId> {
    #[derive(Deserialize)]
    struct Member {
        #[serde(rename = "type")]
        kind: String,
        sender: OwnedUserId,
        state_key: String,
    }
    shown.iter().rev().find_map(|event| {
        let event: Member = serde_json::from_str(event.get()).ok()?;
        let is_his = event.kind == "m.room.member" && event.state_key == user.as_str();
        is_his.then_some(event.sender)
    })
}

/// Reads what there is of an answer.
pub(super) fn read(user: &UserId, answer: &[u8], is_whole: bool) -> Invitations {
    let mut found = Invitations::default();
    let mut read = serde_json::Deserializer::from_slice(answer);
    let within = Within { path: &PLACE, user, found: &mut found };
    // Where it ends too early, what was before that is found.
    let ended = within.deserialize(&mut read).is_ok();
    found.are_all = is_whole && ended;
    found
}

/// An object of which one entry counts, or, where the path ends, the object of invitations.
struct Within<'a> {
    path: &'a [&'static str],
    user: &'a UserId,
    found: &'a mut Invitations,
}

impl<'de> DeserializeSeed<'de> for Within<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Within<'_> {
    type Value = ();

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { path, user, found } = self;
        let Some((wanted, path)) = path.split_first() else {
            while let Some(room) = map.next_key::<String>()? {
                let room = OwnedRoomId::try_from(room).ok();
                found.cut.clone_from(&room);
                let shown: &RawValue = map.next_value()?;
                found.cut = None;
                let Invited { invite_state } =
                    serde_json::from_str(shown.get()).unwrap_or_default();
                if let Some(room) = room {
                    found.all.insert(room, by(user, &invite_state.events));
                }
            }
            return Ok(());
        };
        while let Some(key) = map.next_key::<String>()? {
            if key == *wanted {
                map.next_value_seed(Within { path, user, found: &mut *found })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ruma::{RoomId, user_id};
    use serde_json::json;

    use super::*;

    #[test]
    fn invitations_are_found_up_to_where_an_answer_is_cut_off() {
        let me = user_id!("@_causeway:a.example");
        let invite = |by: &str| {
            let member = json!({"type": "m.room.member", "sender": by, "state_key": me});
            // What the sender would have it be.
            let forged = json!({
                "type": "m.room.member", "sender": "@_causeway:c.example", "state_key": me,
            });
            json!({"invite_state": {"events": [{"type": 1}, forged, member, "x"]}})
        };
        let answer = json!({
            "next_batch": "s1",
            "rooms": {
                "join": {"!in:a.example": {"timeline": {"events": []}}},
                "invite": {
                    "!a:a.example": invite("@mallory:b.example"),
                    "!b:a.example": {"invite_state": 7},
                    "!c:a.example": invite("@_causeway:b.example"),
                    "no room": invite("@mallory:b.example"),
                },
            },
            "to_device": {"events": []},
        });
        let whole = answer.to_string();
        let found = read(me, whole.as_bytes(), true);
        let by: Vec<_> = found.all.iter().map(|(room, by)| (room.as_str(), by.as_ref())).collect();
        let (mallory, agent) = (user_id!("@mallory:b.example"), user_id!("@_causeway:b.example"));
        let expected = [
            ("!a:a.example", Some(mallory.to_owned())),
            ("!b:a.example", None),
            ("!c:a.example", Some(agent.to_owned())),
        ];
        assert_eq!(by, expected.each_ref().map(|(room, by)| (*room, by.as_ref())));
        assert!(found.are_all && found.cut.is_none());
        // Wherever it is cut: what is found is there, and nothing is taken for all.
        for end in 0..whole.len() {
            let part = read(me, &whole.as_bytes()[..end], false);
            assert!(!part.are_all);
            assert!(part.all.iter().all(|(room, by)| found.all.get(room) == Some(by)), "{end}");
            assert!(part.cut.is_none_or(|room| !part.all.contains_key(&room)), "{end}");
        }
        let within = whole.find("!c:a.example").unwrap() + 20;
        let part = read(me, &whole.as_bytes()[..within], false);
        assert_eq!(part.cut.as_deref().map(RoomId::as_str), Some("!c:a.example"));
        assert_eq!(part.all.len(), 2);
        for odd in [json!([]), json!({"rooms": 1}), json!({"rooms": {"invite": []}})] {
            let found = read(me, odd.to_string().as_bytes(), true);
            assert!(found.all.is_empty() && !found.are_all, "{odd}");
        }
        assert!(read(me, b"{}", true).are_all);
    }
}
