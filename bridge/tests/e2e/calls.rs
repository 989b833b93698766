//! Natives of a bridged group and a Matrix user in one call: real Synapse, real LiveKit, real sound, told
//! apart by its frequency.

use std::collections::BTreeMap;

use causeway_bridge::domain::caller::CALLER;
use causeway_groups::calling::Command;
use causeway_protocol::{
    api::{CallState, CallTopology},
    ghost,
};
use reqwest::Method;
use ruma::{OwnedRoomId, RoomId};
use serde_json::json;

use crate::{
    bridged::Bridged,
    focus::{self, openid},
    line::{Line, OFTEN, TONES},
    matrix_caller::MatrixCaller,
    people::{PATIENCE, Person},
    sfu::{Sfu, has_calls, joined},
};

/// All that runs, and the room that Carol is in.
async fn ready() -> (Bridged, Sfu, OwnedRoomId) {
    let mut all = Bridged::start().await;
    // Synapse is killed once the room is whole.
    let room = joined(&all.carol).await;
    let livekit = Sfu::start().await;
    let focus = format!("{}/livekit/jwt", all.causeway.appservice_url());
    has_calls(&mut all.synapse, &focus).await;
    livekit.beside(&mut all.causeway).await;
    (all, livekit, room)
}

/// Carol's phone asks the focus, and goes to LiveKit.
async fn comes(all: &Bridged, room: &RoomId) -> MatrixCaller {
    let asked = json!({
        "room": room, "openid_token": openid(&all.carol).await, "device_id": "PHONE",
    });
    let (status, given) = focus::ask(all, "sfu/get", &asked).await;
    assert_eq!(status, 200, "{given}");
    MatrixCaller::join(&given, TONES[2], &TONES).await
}

/// It says in the room that it is in the call, or is not any more.
async fn says(all: &Bridged, room: &RoomId, is_in: bool) {
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
    all.carol.request(Method::PUT, &path, content).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn natives_and_a_matrix_user_hear_each_other() {
    let (mut all, _livekit, room) = ready().await;
    let token = all.causeway.registration_token().unwrap();
    let name = format!("bob:{}", all.synapse.server_name());
    let bob = Person::register(all.causeway.native_url(), &name, token.expose()).await;
    all.alice.add(all.group, &name).await;

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

/// Until Carol has heard each of the natives more often than now, and nobody else, by their ghosts.
async fn hears(line: &mut Line, caller: &MatrixCaller, all: &Bridged, people: &[&Person]) {
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
