//! Natives who call, as a Matrix user sees them in the room on a real Synapse.

use causeway_bridge::gateway::matrix::Direction;
use causeway_bridge::{
    demo::matrix_user::MatrixUser,
    domain::{
        caller::{CALLER, state_key},
        ghost::Names,
        in_call::{DECLINE, HAND, NOTIFICATION, REACTION, SLOT_STATE},
        rtc::SLOT,
    },
};
use causeway_protocol::{
    api::{CallCap, CallIntent, SetCall, StartCall},
    ids::CallId,
};
use reqwest::Method;
use ruma::RoomId;
use serde_json::{Value, json};

use crate::{
    bridged::Bridged,
    people::Person,
    sfu::{has_calls, joined},
};

const CALL: CallId = CallId::new([7; 16]);
const FOCUS: &str = "https://b.example/livekit/jwt";

/// Waits until Carol sees of this caller what is looked for.
async fn sees(carol: &MatrixUser, (room, key): (&RoomId, &str), is_in: bool) -> Value {
    let path = ["rooms", room.as_str(), "state", CALLER, key];
    let looking = async {
        loop {
            let said = carol.request(Method::GET, &path, Value::Null).await;
            let state: Value = said
                .ok()
                .map_or(Value::Null, |said| serde_json::from_slice(&said).unwrap_or(Value::Null));
            if state.get("device_id").is_some() == is_in && (is_in || state == json!({})) {
                return state;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::people::PATIENCE, looking).await.unwrap()
}

#[tokio::test]
async fn a_matrix_user_sees_who_calls_through_deaths_of_both_servers() {
    let mut all = Bridged::start().await;
    has_calls(&mut all.synapse, FOCUS).await;
    let room = joined(&all.carol).await;
    let names = Names::new(all.synapse.server_name()).unwrap();
    let me = all.alice.client.me();
    let ghost = names.ghost(&me.account).unwrap();
    let key = state_key(&ghost, &me.record.device_id);
    let asked = StartCall {
        call: CALL,
        intent: CallIntent::Audio,
        caps: vec![CallCap::Mesh],
        may_degrade: false,
    };
    all.alice.client.http().start_call(all.group, &asked).await.unwrap();
    let state = sees(&all.carol, (&room, &key), true).await;
    assert_eq!(state["foci_preferred"][0]["livekit_service_url"], FOCUS);
    assert_eq!(state["foci_preferred"][0]["livekit_alias"], json!(room));
    let waiting = all.synapse.matrix().delayed(&ghost).await.unwrap();
    assert_eq!(waiting.len(), 1, "{waiting:?}");

    // Both die; he is in the call still, and one leave waits for him.
    all.causeway.kill().unwrap();
    all.synapse.kill().unwrap();
    all.synapse.start_again().await.unwrap();
    all.causeway.start().await.unwrap();
    let is_anew = async {
        loop {
            let now = all.synapse.matrix().delayed(&ghost).await.unwrap();
            if now.len() == 1 && now != waiting {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::people::PATIENCE, is_anew).await.unwrap();
    sees(&all.carol, (&room, &key), true).await;

    // He leaves while Causeway is dead to Matrix: killed in the moment after.
    all.alice.client.http().leave_call(all.group, CALL).await.unwrap();
    all.causeway.kill().unwrap();
    all.causeway.start().await.unwrap();
    sees(&all.carol, (&room, &key), false).await;
    let is_over = async {
        while !all.synapse.matrix().delayed(&ghost).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::people::PATIENCE, is_over).await.unwrap();
}

/// Waits until the room has an event of this type by this ghost, and no other one of them.
async fn said(all: &Bridged, room: &RoomId, (kind, by): (&str, &str)) -> Value {
    let names = Names::new(all.synapse.server_name()).unwrap();
    let looking = async {
        loop {
            let matrix = all.synapse.matrix();
            let page = matrix.messages(names.bot(), room, Direction::Backwards, None, 100).await;
            let events = page.unwrap().chunk;
            let events = events.iter().map(|it| serde_json::from_str::<Value>(it.get()).unwrap());
            let is_it =
                |it: &Value| it["type"] == kind && it["sender"] == by && it["content"] != json!({});
            let mut found: Vec<_> = events.filter(is_it).collect();
            assert!(found.len() <= 1, "{found:?}");
            if let Some(found) = found.pop() {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::people::PATIENCE, looking).await.unwrap()
}

async fn sends(all: &Bridged, room: &RoomId, kind: &str, content: Value) {
    let path = ["rooms", room.as_str(), "send", kind, kind];
    all.carol.request(Method::PUT, &path, content).await.unwrap();
}

#[tokio::test]
async fn a_call_of_natives_rings_in_the_room_and_who_does_not_come_is_said_both_ways() {
    let mut all = Bridged::start().await;
    has_calls(&mut all.synapse, FOCUS).await;
    let room = joined(&all.carol).await;
    let token = all.causeway.registration_token().unwrap();
    let name = format!("bob:{}", all.synapse.server_name());
    let bob = Person::register(all.causeway.native_url(), &name, token.expose()).await;
    all.alice.add(all.group, &name).await;
    let names = Names::new(all.synapse.server_name()).unwrap();
    let me = all.alice.client.me();
    let (ghost, bobs) = (names.ghost(&me.account).unwrap(), name.parse().unwrap());
    let bobs = names.ghost(&bobs).unwrap();
    let http = all.alice.client.http();
    let asked = StartCall {
        call: CALL,
        intent: CallIntent::Audio,
        caps: vec![CallCap::Mesh],
        may_degrade: false,
    };
    http.start_call(all.group, &asked).await.unwrap();
    let ring = said(&all, &room, (NOTIFICATION, ghost.as_str())).await;
    let key = state_key(&ghost, &me.record.device_id);
    sees(&all.carol, (&room, &key), true).await;
    assert_eq!(ring["content"]["notification_type"], "ring");
    let state = all.synapse.matrix().whole_state(names.bot(), &room).await.unwrap();
    let of = |kind: &str, key: &str| {
        state.iter().find(|it| it.kind == kind && it.state_key == key).unwrap()
    };
    let member = of(CALLER, &key).event_id.clone().unwrap();
    assert_eq!(ring["content"]["m.relates_to"]["event_id"], json!(member));
    assert_eq!(of(SLOT_STATE, SLOT).content["status"], "open");

    // Bob does not come, nor does Carol; each side reads it of the other.
    bob.client.http().decline_call(all.group, CALL).await.unwrap();
    let declined = said(&all, &room, (DECLINE, bobs.as_str())).await;
    assert_eq!(declined["content"]["m.relates_to"]["event_id"], ring["event_id"]);
    let reference = json!({"rel_type": "m.reference", "event_id": ring["event_id"]});
    sends(&all, &room, DECLINE, json!({"m.relates_to": reference})).await;
    let is_told = async {
        let carol = all.carol.user_id().as_str();
        while http.call(all.group, CALL).await.unwrap().declined_mirrors != [carol] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::people::PATIENCE, is_told).await.unwrap();

    // A hand goes up, and after it down; and a sign.
    let set = async |set: SetCall| drop(http.set_call((all.group, CALL), &set).await.unwrap());
    set(SetCall { hand: Some(true), ..SetCall::default() }).await;
    let hand = said(&all, &room, ("m.reaction", ghost.as_str())).await;
    assert_eq!(hand["content"]["m.relates_to"]["key"], HAND);
    assert_eq!(hand["content"]["m.relates_to"]["event_id"], json!(member));
    set(SetCall { hand: Some(false), ..SetCall::default() }).await;
    said(&all, &room, ("m.room.redaction", ghost.as_str())).await;
    set(SetCall { reaction: Some("👍".to_owned()), ..SetCall::default() }).await;
    let sign = said(&all, &room, (REACTION, ghost.as_str())).await;
    assert_eq!(
        (&sign["content"]["emoji"], &sign["content"]["name"]),
        (&json!("👍"), &json!("thumbsup"))
    );

    // Killed and back, it does not ring again.
    all.causeway.kill().unwrap();
    all.causeway.start().await.unwrap();
    set(SetCall { hand: Some(true), ..SetCall::default() }).await;
    said(&all, &room, ("m.reaction", ghost.as_str())).await;
    said(&all, &room, (NOTIFICATION, ghost.as_str())).await;
}
