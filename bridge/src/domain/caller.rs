//! How a native who takes part in a call looks in its room: as `MatrixRTC` has it, so that Element shows
//! him there, and can join him (MSC3401 as Element Call has it, MSC4143).

use std::collections::BTreeMap;

use causeway_protocol::{
    api::{CallIntent, CallState, CallTopology},
    ghost,
    ids::{AccountId, DeviceId, GroupId, Timestamp},
};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::{Value, json};

/// Type of the state that says who is in a room's call.
pub const CALLER: &str = "org.matrix.msc3401.call.member";

/// How long such a state counts, in ms, if nobody renews it; and how often it is renewed.
const LIFE_MS: u64 = 4 * RENEWED_MS;
const RENEWED_MS: u64 = 60 * 60 * 1_000;

/// One who is to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Where.
    pub room: OwnedRoomId,
    /// Of which device: [`state_key`].
    pub key: String,
    /// The ghost.
    pub user: OwnedUserId,
    /// Whose call it is.
    pub group: GroupId,
    /// Since when.
    pub began_at: Timestamp,
}

/// What the homeserver calls a native device.
pub fn device_name(device: &DeviceId) -> String {
    ghost::device(device)
}

/// State key under which a ghost's device is in the call of its room.
pub fn state_key(ghost: &UserId, device: &DeviceId) -> String {
    format!("_{ghost}_{}_m.call", device_name(device))
}

/// The native devices that a call has now, and whose they are; none of one that is over, nor of one that
/// began when no bridge was in the group: nobody of Matrix could hear whom the room showed.
pub fn natives(state: &CallState) -> BTreeMap<DeviceId, AccountId> {
    if state.topology == CallTopology::Ended || state.ended_ms.is_some() || !state.bridged {
        return BTreeMap::new();
    }
    state.natives().map(|one| (one.device, one.account.clone())).collect()
}

/// Whether `other` says more of a group's calls than what is known.
pub fn is_newer(known: &CallState, other: &CallState) -> bool {
    if known.call == other.call {
        other.version > known.version
    } else {
        other.started_ms > known.started_ms
    }
}

/// How often what began then was renewed: the state is another after each time.
pub fn renewals(began_at: Timestamp, now: Timestamp) -> u64 {
    now.0.saturating_sub(began_at.0) / RENEWED_MS
}

/// The state of one who is in the call. Every field is there, since a client that misses one (Element X)
/// takes the whole for nobody; `focus` is the address at which clients ask for the call's server, to the
/// letter as the homeserver names it.
pub fn content(
    room: &RoomId,
    (ghost, device): (&UserId, &str),
    intent: CallIntent,
    focus: &str,
    (began_at, renewals): (Timestamp, u64),
) -> Value {
    let intent = match intent {
        CallIntent::Audio => "audio",
        CallIntent::Video => "video",
    };
    let mut content = json!({
        "application": "m.call",
        "call_id": "",
        "scope": "m.room",
        "device_id": device,
        "membershipID": format!("{ghost}:{device}"),
        "expires": LIFE_MS + renewals * RENEWED_MS,
        "m.call.intent": intent,
        "focus_active": {"type": "livekit", "focus_selection": "multi_sfu"},
        "foci_preferred": [
            {"type": "livekit", "livekit_service_url": focus, "livekit_alias": room},
        ],
    });
    // Of the first the homeserver's own time counts.
    if renewals > 0
        && let Some(fields) = content.as_object_mut()
    {
        fields.insert("created_ts".to_owned(), json!(began_at.0));
    }
    content
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ruma::events::call::member::{
        ActiveFocus, ActiveLivekitFocus, Application, CallMemberEventContent, CallMemberStateKey,
        CallScope, Focus, FocusSelection,
    };

    use super::*;

    fn shown(renewals: u64) -> Value {
        let ghost = <&UserId>::try_from("@causeway_bob:b.example").unwrap();
        let room = <&RoomId>::try_from("!r:b.example").unwrap();
        let began = (Timestamp(1_763_640_000_000), renewals);
        content(room, (ghost, "CW0102"), CallIntent::Audio, "https://b.example/livekit/jwt", began)
    }

    /// As Element X reads it: what it does not understand is nobody to it, without a word.
    #[test]
    fn element_x_sees_somebody_who_is_in_the_call() {
        for renewals in [0, 3] {
            let read: CallMemberEventContent = serde_json::from_value(shown(renewals)).unwrap();
            let CallMemberEventContent::SessionContent(member) = &read else {
                panic!("taken for {read:?}");
            };
            assert_eq!(member.device_id, "CW0102");
            assert_eq!(member.expires, Duration::from_secs(3_600 * (4 + renewals)));
            assert_eq!(member.created_ts.is_some(), renewals > 0);
            let Application::Call(call) = &member.application else { panic!("no call") };
            assert_eq!((call.call_id.as_str(), &call.scope), ("", &CallScope::Room));
            let [Focus::Livekit(focus)] = &member.foci_preferred[..] else { panic!("no focus") };
            assert_eq!(focus.service_url, "https://b.example/livekit/jwt");
            assert_eq!(focus.alias, "!r:b.example");
            let ActiveFocus::Livekit(ActiveLivekitFocus { focus_selection, .. }) =
                &member.focus_active
            else {
                panic!("another focus");
            };
            assert_eq!(*focus_selection, FocusSelection::from("multi_sfu"));
            // And back, with nothing of it lost that ruma knows.
            let back = serde_json::to_value(&read).unwrap();
            let again: CallMemberEventContent = serde_json::from_value(back).unwrap();
            assert_eq!(again, read);
        }
    }

    #[test]
    fn the_key_is_one_that_clients_read() {
        let ghost = <&UserId>::try_from("@causeway_bob:b.example").unwrap();
        let key = state_key(ghost, &DeviceId::new([0xAB; 32]));
        assert_eq!(key, "_@causeway_bob:b.example_CWABABABABABABABAB_m.call");
        let read: CallMemberStateKey = key.parse().unwrap();
        assert_eq!(read.user_id(), ghost);
    }

    #[test]
    fn it_is_renewed_every_hour_and_not_more_often() {
        let began = Timestamp(5_000);
        let hours = [0, 3_599_999, 3_600_000, 7_199_999, 7_200_000]
            .map(|ms| renewals(began, began.plus_ms(ms)));
        assert_eq!(hours, [0, 0, 1, 1, 2]);
        // A clock that went back.
        assert_eq!(renewals(began, Timestamp(0)), 0);
    }
}
