//! What a room says of who of Matrix is in its call (MSC3401 as Element Call has it).

use causeway_protocol::{
    api::CallIntent,
    ids::{CallId, GroupId, Timestamp},
};
use ruma::{OwnedEventId, OwnedUserId, RoomId};
use sha2::{Digest as _, Sha256};

use super::{
    RoomEvent,
    caller::CALLER,
    room::StateEvent,
    rtc::{identity, is_device},
};

/// How old an event may be that begins a call: who comes back to what is long over calls nobody.
const FRESH_MS: u64 = 60_000;

/// Longest address of a focus, in bytes.
const MAX_FOCUS: usize = 256;
/// How long one is in a call who does not say it, in ms.
const LIFE_MS: u64 = 4 * 60 * 60 * 1_000;

/// One of Matrix is in the call of a group's room, or is not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attending {
    /// Whose room it is.
    pub group: GroupId,
    /// Who.
    pub user: OwnedUserId,
    /// With which device; none where he is not in the room any more.
    pub device: Option<String>,
    /// Whether he is.
    pub is_in: bool,
    /// The focus of the server for calls on which he says that he speaks.
    pub focus: Option<String>,
    /// The event that says so of a device.
    pub event: Option<OwnedEventId>,
    /// The call that begins with it, and when that was said, where it does not say again what was so.
    pub begins: Option<(CallId, CallIntent, Timestamp)>,
}

impl Attending {
    /// What an event of a group's room says of that; whose it is, the homeserver vouches for.
    pub fn of(group: GroupId, event: &RoomEvent) -> Option<Self> {
        let user = event.sender.clone();
        let key = event.state_key.as_deref()?;
        if event.kind == "m.room.member" {
            let text = |key: &str| event.content.get(key).and_then(|it| it.as_str());
            let is_out = matches!(text("membership"), Some("leave" | "ban"));
            let user = OwnedUserId::try_from(key).ok().filter(|_| is_out)?;
            return Some(Self {
                group,
                user,
                device: None,
                is_in: false,
                focus: None,
                event: None,
                begins: None,
            });
        }
        // Older clients have no `_` at the beginning, which some room versions did not take.
        let rest = key.strip_prefix('_').unwrap_or(key).strip_prefix(user.as_str())?;
        let device = rest.strip_prefix('_')?.strip_suffix("_m.call")?;
        if event.kind != CALLER || !is_device(device) {
            return None;
        }
        let text = |key: &str| event.content.get(key).and_then(|it| it.as_str());
        let is_in = text("application") == Some("m.call")
            && text("call_id") == Some("")
            && text("device_id") == Some(device);
        // Whoever says it again names when he said it first.
        let is_first = is_in && !event.content.contains_key("created_ts");
        let begins = is_first.then(|| {
            let intent = match text("m.call.intent") {
                Some("video") => CallIntent::Video,
                _ => CallIntent::Audio,
            };
            (call_of(event), intent, event.at)
        });
        let focus = event.content.get("foci_preferred").and_then(|foci| foci.get(0));
        let focus = focus.filter(|it| is_in && it.get("type").is_some_and(|it| it == "livekit"));
        let focus = focus.and_then(|it| it.get("livekit_service_url")?.as_str());
        let focus = focus.filter(|it| (1..=MAX_FOCUS).contains(&it.len()) && it.is_ascii());
        let (device, focus) = (Some(device.to_owned()), focus.map(ToOwned::to_owned));
        let event = Some(event.event_id.clone());
        Some(Self { group, user, device, is_in, focus, event, begins })
    }

    /// What a room's state says of it, where nobody is in a call for longer than he said that he is.
    pub fn in_state(
        (group, room): (GroupId, &RoomId),
        state: &StateEvent,
        now: Timestamp,
    ) -> Option<Self> {
        let event = RoomEvent {
            event_id: state.event_id.clone()?,
            room_id: room.to_owned(),
            sender: state.sender.clone(),
            kind: state.kind.clone(),
            state_key: Some(state.state_key.clone()),
            at: state.at,
            content: state.content.clone(),
        };
        let said = Self::of(group, &event)?;
        let ms = |key: &str| state.content.get(key).and_then(serde_json::Value::as_u64);
        let since = Timestamp(ms("created_ts").unwrap_or(state.at.0));
        let is_over = since.plus_ms(ms("expires").unwrap_or(LIFE_MS)) <= now;
        Some(Self { is_in: said.is_in && !is_over, ..said })
    }

    /// The call that begins with it at this time, if one does.
    pub fn begins(&self, now: Timestamp) -> Option<(CallId, CallIntent)> {
        let (call, intent, at) = self.begins?;
        (now.0.saturating_sub(at.0) <= FRESH_MS).then_some((call, intent))
    }

    /// What LiveKit may know the device by: as Element Call is in a call, and as it asks first whether it
    /// can be.
    pub fn identities(&self) -> Vec<String> {
        let Some(device) = &self.device else { return Vec::new() };
        let plain = identity(self.user.as_str(), device, None);
        let asked = identity(self.user.as_str(), device, Some(&plain));
        vec![plain, asked]
    }
}

/// One call of each event, however often that comes.
fn call_of(event: &RoomEvent) -> CallId {
    let hash =
        Sha256::new().chain_update(b"cg/call/matrix\0").chain_update(event.event_id.as_bytes());
    let mut id = [0; 16];
    id.iter_mut().zip(hash.finalize()).for_each(|(id, byte)| *id = byte);
    CallId::new(id)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const GROUP: GroupId = GroupId::new([1; 32]);

    fn event(kind: &str, sender: &str, key: &str, content: &Value) -> RoomEvent {
        serde_json::from_value(json!({
            "event_id": "$1:b.example", "room_id": "!r:b.example", "sender": sender, "type": kind,
            "state_key": key, "origin_server_ts": 1_000_000, "content": content,
        }))
        .unwrap()
    }

    fn member(device: &str) -> Value {
        json!({
            "application": "m.call", "call_id": "", "scope": "m.room", "device_id": device,
            "m.call.intent": "video", "focus_active": {"type": "livekit"},
        })
    }

    #[test]
    fn who_comes_and_goes_is_said_by_his_own_state_alone() {
        let mia = "@mia:b.example";
        let of = |sender: &str, key: &str, content: Value| {
            let said = Attending::of(GROUP, &event(CALLER, sender, key, &content));
            said.map(|said| (said.device, said.is_in))
        };
        let phone = || Some("PHONE".to_owned());
        for key in ["_@mia:b.example_PHONE_m.call", "@mia:b.example_PHONE_m.call"] {
            assert_eq!(of(mia, key, member("PHONE")), Some((phone(), true)), "{key}");
            assert_eq!(of(mia, key, json!({})), Some((phone(), false)), "{key}");
            // Of another device, of another call of the room: he is not in the one that all are in.
            assert_eq!(of(mia, key, member("PAD")), Some((phone(), false)), "{key}");
            let other = json!({"application": "m.call", "call_id": "x", "device_id": "PHONE"});
            assert_eq!(of(mia, key, other), Some((phone(), false)), "{key}");
        }
        for (sender, key) in [
            ("@eve:b.example", "_@mia:b.example_PHONE_m.call"),
            (mia, "_@mia:b.example_PHONE_m.board"),
            (mia, "_@mia:b.example__m.call"),
            (mia, "_@mia:b.example_A:B_m.call"),
            (mia, ""),
        ] {
            assert_eq!(of(sender, key, member("PHONE")), None, "{key}");
        }
    }

    #[test]
    fn a_rooms_state_says_who_is_in_its_call_until_that_has_run_out() {
        let mut state: StateEvent = serde_json::from_value(json!({
            "event_id": "$1:b.example", "sender": "@mia:b.example", "type": CALLER,
            "state_key": "_@mia:b.example_PHONE_m.call", "origin_server_ts": 1_000,
            "content": member("PHONE"),
        }))
        .unwrap();
        let room = RoomId::parse("!r:b.example").unwrap();
        let is_in = |state: &StateEvent, now| {
            Attending::in_state((GROUP, &room), state, Timestamp(now)).map(|said| said.is_in)
        };
        assert_eq!(is_in(&state, 14_400_999), Some(true));
        assert_eq!(is_in(&state, 14_401_000), Some(false));
        for (key, ms) in [("expires", 5_000), ("created_ts", 20_000)] {
            state.content.insert(key.to_owned(), json!(ms));
        }
        assert_eq!((is_in(&state, 24_999), is_in(&state, 25_000)), (Some(true), Some(false)));
        state.content.clear();
        assert_eq!(is_in(&state, 0), Some(false));
        state.event_id = None;
        assert_eq!(is_in(&state, 0), None);
    }

    #[test]
    fn who_is_not_in_the_room_is_in_no_call() {
        let key = "@mia:b.example";
        for (membership, is_out) in [("leave", true), ("ban", true), ("join", false)] {
            let content = json!({"membership": membership});
            let said =
                Attending::of(GROUP, &event("m.room.member", "@al:b.example", key, &content));
            let said = said.map(|said| (said.user.to_string(), said.device, said.is_in));
            assert_eq!(said, is_out.then(|| (key.to_owned(), None, false)));
        }
    }

    #[test]
    fn where_he_speaks_is_the_first_focus_that_he_names() {
        let focus = |foci: Value| {
            let mut content = member("PHONE");
            content["foci_preferred"] = foci;
            let key = "_@mia:b.example_PHONE_m.call";
            Attending::of(GROUP, &event(CALLER, "@mia:b.example", key, &content)).unwrap().focus
        };
        let at = |url: &str| json!({"type": "livekit", "livekit_service_url": url});
        let url = "https://b.example/livekit/jwt";
        assert_eq!(focus(json!([at(url), at("https://c.example")])).as_deref(), Some(url));
        for none in [
            json!([]),
            json!({}),
            json!(null),
            json!([{"type": "full_mesh", "livekit_service_url": url}]),
            json!([{"type": "livekit"}]),
            json!([at("")]),
            json!([at("https://ä.example")]),
            json!([at(&format!("https://b.example/{}", "a".repeat(256)))]),
        ] {
            assert_eq!(focus(none.clone()), None, "{none}");
        }
    }

    #[test]
    fn a_call_begins_once_and_not_long_after() {
        let key = "_@mia:b.example_PHONE_m.call";
        let first = event(CALLER, "@mia:b.example", key, &member("PHONE"));
        let said = Attending::of(GROUP, &first).unwrap();
        let begins = said.begins(Timestamp(1_060_000)).unwrap();
        assert_eq!(begins.1, CallIntent::Video);
        assert_eq!(
            Attending::of(GROUP, &first).unwrap().begins(Timestamp(1_000_000)),
            Some(begins)
        );
        assert_eq!(said.begins(Timestamp(1_060_001)), None);
        let mut again = first;
        again.content.insert("created_ts".to_owned(), json!(1_000_000));
        let again = Attending::of(GROUP, &again).unwrap();
        assert_eq!((again.is_in, again.begins(Timestamp(1_000_000))), (true, None));
        let names = said.identities();
        assert_eq!(names[0], "@mia:b.example:PHONE");
        assert_eq!(names.len(), 2);
    }
}
