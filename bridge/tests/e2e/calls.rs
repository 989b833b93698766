//! Natives of a bridged group and a Matrix user in one call: real Synapse, real LiveKit, real sound, told
//! apart by its frequency.

use std::collections::BTreeMap;

use causeway_bridge::domain::{
    caller::CALLER,
    in_call::{HAND, REACTION},
};
use causeway_groups::calling::Command;
use causeway_protocol::{
    api::{CallState, CallTopology, CallWhom},
    ghost,
};
use reqwest::Method;
use ruma::{OwnedRoomId, RoomId};
use serde_json::{Value, json};

use crate::{
    bridged::Bridged,
    focus::{self, openid},
    line::{Line, OFTEN, TONES},
    matrix_caller::MatrixCaller,
    people::{PATIENCE, Person},
    sfu::{Sfu, has_calls, joined},
};

/// All that runs, and the room that Carol is in.
pub(crate) async fn ready() -> (Bridged, Sfu, OwnedRoomId) {
    let mut all = Bridged::start().await;
    // Synapse is killed once the room is whole.
    let room = joined(&all.carol).await;
    let livekit = Sfu::start().await;
    let focus = format!("{}/livekit/jwt", all.causeway.appservice_url());
    has_calls(&mut all.synapse, &focus).await;
    livekit.beside(&mut all.causeway).await;
    (all, livekit, room)
}

/// Bob, who is in the group.
pub(crate) async fn bob(all: &Bridged) -> Person {
    let token = all.causeway.registration_token().unwrap();
    let name = format!("bob:{}", all.synapse.server_name());
    let bob = Person::register(all.causeway.native_url(), &name, token.expose()).await;
    all.alice.add(all.group, &name).await;
    bob
}

/// Carol's phone asks the focus, and goes to LiveKit.
pub(crate) async fn comes(all: &Bridged, room: &RoomId) -> MatrixCaller {
    let asked = json!({
        "room": room, "openid_token": openid(&all.carol).await, "device_id": "PHONE",
    });
    let (status, given) = focus::ask(all, "sfu/get", &asked).await;
    assert_eq!(status, 200, "{given}");
    MatrixCaller::join(&given, TONES[2], &TONES).await
}

/// It says in the room that it is in the call, or is not any more.
pub(crate) async fn says(all: &Bridged, room: &RoomId, is_in: bool) -> String {
    let carol = all.carol.user_id().as_str();
    let content = json!({
        "application": "m.call", "call_id": "", "scope": "m.room", "device_id": "PHONE",
        "membershipID": format!("{carol}:PHONE"), "expires": 14_400_000,
        "m.call.intent": "audio",
        "focus_active": {"type": "livekit", "focus_selection": "multi_sfu"},
        "foci_preferred": [],
    });
    let content = if is_in { content } else { json!({}) };
    let key = format!("_{carol}_PHONE_m.call");
    let path = ["rooms", room.as_str(), "state", CALLER, &key];
    let sent = all.carol.request(Method::PUT, &path, content).await.unwrap();
    serde_json::from_slice::<Value>(&sent).unwrap()["event_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn natives_and_a_matrix_user_hear_each_other() {
    let (mut all, _livekit, room) = ready().await;
    let bob = bob(&all).await;

    // Alice and Bob talk directly.
    let mut line = Line::new();
    line.call(&all.alice, all.group).await;
    line.call(&bob, all.group).await;
    line.until_all_hear(None).await;
    assert!(line.states.values().all(|it| it.topology == CallTopology::Mesh && it.bridged));

    let carol = all.carol.user_id().to_string();
    let caller = comes(&all, &room).await;
    let is_there =
        |state: &CallState| state.topology == CallTopology::Sfu && state.guests().count() == 1;
    line.until("LiveKit carries it", |line| {
        line.states.len() == 2 && line.states.values().all(is_there)
    })
    .await;
    let shown = line.states[&0].guests().next().unwrap().clone();
    assert_eq!((&*shown.mirror, &*shown.device, &*shown.name), (&*carol, "PHONE", "carol"));
    assert_eq!((&*shown.sfu, &*shown.via), (&*format!("{carol}:PHONE"), "matrix"));
    line.until_all_hear(line.guest()).await;
    hears(&mut line, &caller, &all, &[&all.alice, &bob]).await;
    raises_her_hand(&mut line, &all, &room).await;
    // They were told that LiveKit hears what they say.
    for n in [0, 1] {
        assert!(line.told.contains(&(n, "Clear { taken: true }".to_owned())), "{:?}", line.told);
    }

    // Causeway dies and comes back: what is said goes on, and all are still in it.
    all.causeway.kill().unwrap();
    all.causeway.start().await.unwrap();
    line.until_all_hear(line.guest()).await;
    hears(&mut line, &caller, &all, &[&all.alice, &bob]).await;
    assert!(line.states.values().all(is_there), "{:?}", line.states);

    // Her client is killed: she is out, and what is said is sealed again, or goes directly.
    drop(caller);
    line.until("she is out", |line| {
        line.states.values().all(|it| it.guests().count() == 0 && !it.clear)
    })
    .await;
    line.until_all_hear(None).await;
    for commands in &line.commands {
        commands.send(Command::Leave).await.unwrap();
    }
    while line.talking.join_next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_matrix_user_begins_is_the_groups() {
    let (all, _livekit, room) = ready().await;
    let caller = comes(&all, &room).await;
    says(&all, &room, true).await;
    let http = all.alice.client.http();
    let rings = async {
        loop {
            let newest = http.calls(all.group, None, 1).await.unwrap().calls.pop();
            if let Some(call) = newest {
                return call;
            }
            tokio::task::yield_now().await;
        }
    };
    let call = tokio::time::timeout(PATIENCE, rings).await.unwrap();
    let carol = all.carol.user_id().as_str();
    assert_eq!(call.started_by.mirror.as_deref(), Some(carol));
    let mut line = Line::new();
    line.call(&all.alice, all.group).await;
    line.until("she is in it", |line| {
        line.states.get(&0).is_some_and(|it| it.call == call.call && it.guests().count() == 1)
    })
    .await;
    line.until_all_hear(line.guest()).await;
    hears(&mut line, &caller, &all, &[&all.alice]).await;
    // She says that she went, and is out before anybody misses her.
    says(&all, &room, false).await;
    line.until("she is out", |line| line.states[&0].guests().count() == 0).await;
    line.commands[0].send(Command::Leave).await.unwrap();
    while line.talking.join_next().await.is_some() {}
}

/// Carol's hand goes up and down, and she gives a sign; natives are shown all of it.
async fn raises_her_hand(line: &mut Line, all: &Bridged, room: &RoomId) {
    let carol = all.carol.user_id().as_str();
    let member = says(all, room, true).await;
    let send = async |kind: &str, content: Value| {
        // Synapse takes what bears the same transaction id for the same, whatever its type.
        let path = ["rooms", room.as_str(), "send", kind, kind];
        let sent = all.carol.request(Method::PUT, &path, content).await.unwrap();
        serde_json::from_slice::<Value>(&sent).unwrap()["event_id"].as_str().unwrap().to_owned()
    };
    let about = |kind: &str| json!({"rel_type": kind, "event_id": member});
    let mut hand = about("m.annotation");
    hand["key"] = json!(HAND);
    let raised = send("m.reaction", json!({"m.relates_to": hand})).await;
    let hand = |line: &Line| line.states[&0].guests().any(|it| it.hand);
    line.until("her hand is up", hand).await;
    let path = ["rooms", room.as_str(), "redact", &raised, "down"];
    all.carol.request(Method::PUT, &path, json!({})).await.unwrap();
    line.until("it is down", |line| !hand(line)).await;
    let sign = json!({"m.relates_to": about("m.reference"), "emoji": "👍", "name": "thumbsup"});
    send(REACTION, sign).await;
    let whose = CallWhom::Matrix { mirror: carol.to_owned(), device: "PHONE".to_owned() };
    line.until("her sign is shown", |line| {
        line.states[&0].reactions.iter().any(|it| it.who == whose && it.emoji == "👍")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_livekit_carries_already_miss_nothing_when_one_of_matrix_comes() {
    let (all, _livekit, room) = ready().await;
    let bob = bob(&all).await;
    let mut line = Line::new();
    line.call(&all.alice, all.group).await;
    line.call(&bob, all.group).await;
    line.until_all_hear(None).await;
    moves(&all, &line.states[&0].call.to_string(), "sfu").await;
    line.until("LiveKit carries it", |line| {
        line.states.len() == 2
            && line.states.values().all(|it| it.topology == CallTopology::Sfu && !it.clear)
    })
    .await;
    line.until_all_hear(None).await;

    line.told.clear();
    let caller = comes(&all, &room).await;
    line.until("she is in it", |line| line.states.values().all(|it| it.guests().count() == 1))
        .await;
    line.until_all_hear(line.guest()).await;
    // What was sealed until she was there may have been noise to her.
    line.until("she hears both", |_| {
        TONES[..2].iter().all(|tone| {
            caller.heard().iter().any(|((_, heard), times)| heard == tone && *times >= 2 * OFTEN)
        })
    })
    .await;
    drop(caller);
    line.until("she is out", |line| line.states.values().all(|it| !it.clear)).await;
    line.until_all_hear(None).await;
    // Nobody went away from LiveKit for it.
    let gone =
        line.told.iter().find(|(_, told)| told.contains("Served(Over") || told.contains("Joined"));
    assert_eq!(gone, None);
    assert!(line.told.contains(&(0, "Clear { taken: true }".to_owned())), "{:?}", line.told);
    for commands in &line.commands {
        commands.send(Command::Leave).await.unwrap();
    }
    while line.talking.join_next().await.is_some() {}
}

/// The operator has something else carry the call.
pub(crate) async fn moves(all: &Bridged, call: &str, to: &str) {
    let config = all.causeway.dir().join("causeway.yaml");
    let mut command = tokio::process::Command::new(crate::start::binary());
    command.args(["calls", "move", call, "--to", to, "--config"]).arg(&config);
    assert!(command.status().await.unwrap().success());
}

/// Carol's phone has the homeserver say in an hour that it went; what that is called.
async fn schedules_her_leave(all: &Bridged, room: &RoomId) -> String {
    let key = format!("_{}_PHONE_m.call", all.carol.user_id());
    let mut url: reqwest::Url = all.synapse.url().parse().unwrap();
    url.path_segments_mut().unwrap().extend([
        "_matrix",
        "client",
        "v3",
        "rooms",
        room.as_str(),
        "state",
        CALLER,
        &key,
    ]);
    url.query_pairs_mut().append_pair("org.matrix.msc4140.delay", "3600000");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let sent = http.put(url).bearer_auth(all.carol.token().expose()).json(&json!({})).send().await;
    let sent: Value = sent.unwrap().json().await.unwrap();
    sent["delay_id"].as_str().unwrap_or_else(|| panic!("{sent}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_client_leaves_its_leave_to_the_focus_and_dies_is_out_of_the_call() {
    let (mut all, _livekit, room) = ready().await;
    let carol = all.carol.user_id().to_string();
    let delay = schedules_her_leave(&all, &room).await;
    says(&all, &room, true).await;
    let token = openid(&all.carol).await;
    let asked = json!({
        "room": room, "openid_token": token, "device_id": "PHONE", "delay_id": delay,
        "delay_timeout": 3_600_000,
    });
    // Clients look whether it is there by asking for nothing: all but 404 says so.
    assert_eq!(focus::ask(&all, "delegate_delayed_leave", &Value::Null).await.0, 400);
    for (key, bad) in [
        ("delay_id", json!("none")),
        ("delay_id", json!("../../whoami")),
        ("delay_timeout", json!(9_999)),
        ("delay_timeout", json!(86_400_001)),
        ("delay_timeout", Value::Null),
    ] {
        let mut body = asked.clone();
        body[key] = bad;
        let (status, said) = focus::ask(&all, "sfu/get", &body).await;
        assert_eq!((status, &said["errcode"]), (400, &json!("M_BAD_JSON")), "{said}: {body}");
    }
    // Another user, who knows what it is called, and is not in the room.
    let dora = all.synapse.register("dora", "secret of dora").await.unwrap();
    let mut of_dora = asked.clone();
    of_dora["openid_token"] = openid(&dora).await;
    assert_eq!(focus::ask(&all, "sfu/get", &of_dora).await.0, 403);
    let (status, given) = focus::ask(&all, "sfu/get", &asked).await;
    assert_eq!(status, 200, "{given}");
    // Likewise after it, by the name that the client has in the call.
    let member = json!({
        "id": "m1", "claimed_user_id": carol, "claimed_device_id": "PHONE",
    });
    let by_name = json!({
        "room_id": room, "slot_id": "m.call#ROOM", "openid_token": token, "member": member,
        "delay_id": schedules_her_leave(&all, &room).await, "delay_timeout": 3_600_000,
    });
    let (status, said) = focus::ask(&all, "delegate_delayed_leave", &by_name).await;
    assert_eq!((status, said), (200, json!({})));

    let caller = MatrixCaller::join(&given, TONES[2], &TONES).await;
    let mut line = Line::new();
    line.call(&all.alice, all.group).await;
    line.until("she is in it", |line| {
        line.states.get(&0).is_some_and(|it| it.guests().count() == 1)
    })
    .await;
    // Causeway dies and comes back; then her client dies.
    all.causeway.kill().unwrap();
    all.causeway.start().await.unwrap();
    line.until_all_hear(line.guest()).await;
    drop(caller);
    let key = format!("_{carol}_PHONE_m.call");
    let path = ["rooms", room.as_str(), "state", CALLER, &key];
    let is_out = async {
        loop {
            let said = all.carol.request(Method::GET, &path, Value::Null).await.unwrap();
            if serde_json::from_slice::<Value>(&said).unwrap() == json!({}) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, is_out).await.unwrap();
    line.commands[0].send(Command::Leave).await.unwrap();
    while line.talking.join_next().await.is_some() {}
}

/// Until Carol has heard each of the natives more often than now, and nobody else, by their ghosts.
pub(crate) async fn hears(
    line: &mut Line,
    caller: &MatrixCaller,
    all: &Bridged,
    people: &[&Person],
) {
    let server = all.synapse.server_name();
    let ways = people.iter().zip(TONES).map(|(person, tone)| {
        let me = person.client.me();
        (ghost::in_call(server, &me.account, &me.record.device_id).unwrap(), tone)
    });
    let ways: Vec<_> = ways.collect();
    let before = caller.heard();
    let times = |heard: &BTreeMap<(String, u32), usize>, way: &(String, u32)| {
        heard.get(way).copied().unwrap_or_default()
    };
    line.until("she hears them", |_| {
        let now = caller.heard();
        ways.iter().all(|way| times(&now, way) >= times(&before, way) + OFTEN)
    })
    .await;
    let heard: Vec<_> = caller.heard().into_keys().collect();
    let mut ways = ways;
    ways.sort_unstable();
    assert_eq!(heard, ways);
}
