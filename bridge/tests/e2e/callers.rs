//! Natives who call, as a Matrix user sees them in the room on a real Synapse.

use causeway_bridge::{
    demo::matrix_user::MatrixUser,
    domain::{
        caller::{CALLER, state_key},
        ghost::Names,
    },
};
use causeway_protocol::{
    api::{CallCap, CallIntent, StartCall},
    ids::CallId,
};
use reqwest::Method;
use ruma::RoomId;
use serde_json::{Value, json};

use crate::{
    bridged::Bridged,
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
