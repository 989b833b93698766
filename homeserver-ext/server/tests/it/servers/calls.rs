//! Calls of groups whose members are on two servers, and on three.

use std::time::Duration;

use causeway_protocol::{
    api::{CallPage, CallState, CallTopology},
    envelope::{Envelope, Kind, Recipient, compute_id},
    ids::{CallId, Epoch, ItemId, Timestamp},
    link::{Ask, Call, Item, Row},
    roster::Body,
};
use causeway_server::Config;
use serde_json::{Value, json};

use super::{
    OTHER, at,
    groups::{until_epoch, with_carol},
    peer::Peer,
    restarted, two,
    wire::Wire,
};
use crate::{
    calls::{
        ask, devices, is_lost, join, listening, new_id, sorted, start, state, tended, told_until,
    },
    harness::{Answer, Group, Person, Server, random},
};

fn is_in(state: &CallState, who: &Person) -> bool {
    state.natives().any(|it| it.device == who.device())
}

#[tokio::test]
async fn whoever_is_of_another_server_calls_as_those_of_the_home_do() {
    let (here, alice, there, carol) = two().await;
    let _wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    let mut streams = listening(&here, [&alice]).await;
    streams.extend(listening(&there, [&carol]).await);
    // Carol begins it, and both are told; Alice's call is the same one.
    let call = new_id();
    let begun: CallState = start(&there, &carol, &group, call).await.ok();
    assert_eq!((begun.topology, begun.version), (CallTopology::Mesh, 1));
    assert_eq!(start(&there, &carol, &group, call).await.ok::<CallState>(), begun);
    for stream in &mut streams {
        assert_eq!(told_until(stream, |_| true).await, begun);
    }
    let refusal = start(&here, &alice, &group, new_id()).await;
    let refusal = refusal.refused(409, "DEV_CAUSEWAY_CALL_EXISTS");
    assert_eq!(refusal.call.as_deref(), Some(&begun));
    let joined: CallState = join(&here, &alice, &group, call).await.ok();
    assert_eq!(devices(&joined), sorted([&alice, &carol]));
    let refusal = start(&there, &carol, &group, new_id()).await;
    let refusal = refusal.refused(409, "DEV_CAUSEWAY_CALL_EXISTS");
    assert_eq!(refusal.call.as_deref(), Some(&joined));
    // What she says of herself, and what she asks for.
    let report = json!({ "epoch": 0, "connected": [alice.device()] });
    ask(&there, &carol, &group, (call, "report"), report).await.ok::<CallState>();
    let stale = json!({ "epoch": 9, "connected": [] });
    let refusal = ask(&there, &carol, &group, (call, "report"), stale).await;
    let refusal = refusal.refused(409, "DEV_CAUSEWAY_STALE_EPOCH");
    assert!(refusal.call.is_some_and(|state| state.call == call));
    let hand = json!({ "muted": true, "hand": true });
    ask(&there, &carol, &group, (call, "set"), hand).await.ok::<CallState>();
    let shown = told_until(&mut streams[0], |state| {
        state.natives().any(|it| it.device == carol.device() && it.hand && it.muted)
    });
    let shown = shown.await;
    assert_eq!(state(&there, &carol, &group, call).await, shown);
    let page: CallPage = carol.get(&there, &group.path("/calls")).await.ok();
    assert_eq!(page.calls, vec![shown]);
    let mesh = carol.get(&there, &group.path(&format!("/calls/{call}/mesh"))).await;
    assert_eq!(mesh.ok::<Value>()["relay_only"], json!(false));
    // No LiveKit there: it says so with its own words, number and time.
    let sfu = ask(&there, &carol, &group, (call, "sfu"), json!({ "epoch": 0 })).await;
    let refusal = sfu.refused(503, "DEV_CAUSEWAY_SFU_UNAVAILABLE");
    assert_eq!((refusal.max, refusal.retry_after_ms), (Some(2), Some(30_000)));
    // She may end it, since she began it; a stranger of her server asks in vain.
    let mallory = Person::at("mallory", OTHER).registered(&there).await;
    ask(&there, &mallory, &group, (call, "end"), json!({})).await.refused(404, "M_NOT_FOUND");
    let ended: CallState = ask(&there, &carol, &group, (call, "end"), json!({})).await.ok();
    assert_eq!(ended.ended_by.as_ref(), Some(&carol.account));
    for stream in &mut streams {
        told_until(stream, |state| *state == ended).await;
    }
}

#[tokio::test]
async fn who_has_no_stream_at_his_own_server_is_lost_and_goes() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    let _alice = listening(&here, [&alice]).await;
    let mut carols = listening(&there, [&carol]).await;
    let call = new_id();
    start(&here, &alice, &group, call).await.ok::<CallState>();
    join(&there, &carol, &group, call).await.ok::<CallState>();
    tended(&here, &alice, (&group, call), |state| is_in(state, &carol)).await;
    // Her stream ends: within seconds the home knows, and it is back when she is.
    carols.clear();
    tended(&here, &alice, (&group, call), |state| is_lost(state, &carol)).await;
    carols = listening(&there, [&carol]).await;
    tended(&here, &alice, (&group, call), |state| !is_lost(state, &carol)).await;
    // And not back.
    carols.clear();
    tended(&here, &alice, (&group, call), |state| is_lost(state, &carol)).await;
    here.pass_ms(15_000);
    let out = tended(&here, &alice, (&group, call), |state| !is_in(state, &carol)).await;
    assert_eq!(out.out.first().map(|out| &*out.why), Some("lost"));
    drop(wire);
}

/// Stops a server and starts it again, on what it has.
async fn started(server: Server, name: &'static str) -> Server {
    let (dir, clock) = (server.folder(), server.clock());
    server.stop().await;
    let change = move |config: &mut Config| {
        super::as_in_tests(config, name);
        config.relay_patience = Duration::from_secs(5);
    };
    Server::start_in(dir, clock, change).await
}

#[tokio::test]
async fn a_restart_of_each_of_each_ends_nothing() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    let alices = listening(&here, [&alice]).await;
    let carols = listening(&there, [&carol]).await;
    let call = new_id();
    start(&here, &alice, &group, call).await.ok::<CallState>();
    join(&there, &carol, &group, call).await.ok::<CallState>();
    // Her server starts again.
    drop((wire, carols));
    let there = started(there, OTHER).await;
    let wire = Wire::between(&here, &there);
    let carols = listening(&there, [&carol]).await;
    let it = tended(&here, &alice, (&group, call), |state| !is_lost(state, &carol)).await;
    assert_eq!(devices(&it), sorted([&alice, &carol]));
    // And the home.
    drop((wire, alices));
    let refusal = state_at(&there, &carol, &group, call).await;
    refusal.refused(504, "DEV_CAUSEWAY_UNREACHABLE");
    let here = started(here, "a.example").await;
    let _alices = listening(&here, [&alice]).await;
    let wire = Wire::between(&here, &there);
    let it = tended(&here, &alice, (&group, call), |state| !is_lost(state, &carol)).await;
    assert_eq!(devices(&it), sorted([&alice, &carol]));
    assert_eq!(devices(&state(&there, &carol, &group, call).await), sorted([&alice, &carol]));
    drop((wire, carols));
}

async fn state_at(server: &Server, who: &Person, group: &Group, call: CallId) -> Answer {
    who.get(server, &group.path(&format!("/calls/{call}"))).await
}

#[tokio::test]
async fn a_call_of_a_home_that_was_put_back_is_over_for_all() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    let call = new_id();
    start(&there, &carol, &group, call).await.ok::<CallState>();
    let mut carols = listening(&there, [&carol]).await;
    drop(wire);
    let here = restarted(here, "a.example").await;
    let _wire = Wire::between(&here, &there);
    let over = told_until(&mut carols[0], |state| state.topology == CallTopology::Ended).await;
    assert_eq!(over.reason.as_deref(), Some("put_back"));
    // Whoever calls again does.
    start(&there, &carol, &group, new_id()).await.ok::<CallState>();
}

#[tokio::test]
async fn an_op_takes_a_device_of_another_server_out_of_the_call() {
    let (here, alice, there, carol) = two().await;
    let _wire = Wire::between(&here, &there);
    let mut group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    let mut streams = listening(&here, [&alice]).await;
    let _carols = listening(&there, [&carol]).await;
    let call = new_id();
    start(&there, &carol, &group, call).await.ok::<CallState>();
    join(&here, &alice, &group, call).await.ok::<CallState>();
    group.post(&here, &alice, &Body::Remove(vec![carol.member()])).await;
    let left = told_until(&mut streams[0], |state| !is_in(state, &carol)).await;
    assert_eq!(devices(&left), sorted([&alice]));
    // What she asks afterwards is asked by nobody of the group.
    join(&there, &carol, &group, call).await.refused(404, "M_NOT_FOUND");
}

/// A frame of `from`'s that tells how a call stands.
fn change(group: &Group, epoch: Epoch, state: &CallState) -> Value {
    let payload = serde_json::to_vec(state).unwrap();
    let to = Recipient::Broadcast;
    let id = compute_id(Kind::CallChanged, None, &to, &payload, None);
    let kind = Kind::CallChanged;
    let (group, ttl_ms, piece) = (group.id(), 60_000, None);
    let home = Envelope { id, kind, group, epoch, sender: None, to, ttl_ms, payload, piece };
    Item::Row(Row::Home(home)).to_json()
}

#[tokio::test]
async fn another_server_neither_tells_of_calls_that_it_does_not_keep_nor_asks_for_others_devices() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    let mut stream = alice.stream(&here).await;
    stream.hello().await;
    let call = new_id();
    let begun: CallState = start(&here, &alice, &group, call).await.ok();
    drop(wire);
    // The member's server says how the home's call stands: nobody at the home is told.
    told_until(&mut stream, |_| true).await;
    let mut peer = Peer::new(OTHER);
    let forged = CallState { version: 99, ..begun.clone() };
    let frame = peer.frame(vec![change(&group, Epoch(1), &forged)]);
    super::wire::hand_in(&here, OTHER, frame).await;
    // A third server, with nobody in the group, speaks for somebody, and asks who is there.
    let mut stranger = Peer::new("c.example");
    let caller = json!({ "account": "erin:c.example", "device": carol.device() });
    let asks = [
        (Some(caller.clone()), json!({ "group": group.id(), "call": call, "what": "state" })),
        (None, json!({ "group": group.id(), "there": [alice.device()] })),
        (None, json!({ "group": group.id(), "there": vec![alice.device(); 501] })),
        (Some(caller), json!({ "group": group.id(), "call": call, "what": "burn" })),
    ];
    let items = asks.into_iter().map(|(caller, body)| {
        let caller = caller.map(|caller| serde_json::from_value(caller).unwrap());
        let until = Timestamp(here.now().0 + 1_000);
        Item::Ask(ItemId::new(random()), Ask { call: Call::Calls, caller, until, body }).to_json()
    });
    let answers = stranger.ask(&here, items.collect()).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [404, 200, 413, 400]);
    assert_eq!(answers[1].body, json!({ "there": [] }), "it is not the group's home");
    // Nothing of it changed anything, and nobody was told.
    assert_eq!(state(&here, &alice, &group, call).await, begun);
    let ended: CallState = ask(&here, &alice, &group, (call, "end"), json!({})).await.ok();
    assert_eq!(told_until(&mut stream, |_| true).await, ended);
}

#[tokio::test]
async fn a_call_is_full_before_its_state_is_too_long_to_be_told() {
    let here = Server::start_with(|config| config.mesh_max = 99).await;
    let alice = here.person("alice").await;
    let mut group = Group::create(&here, &alice).await;
    let name = "n".repeat(48);
    let mut people = Vec::new();
    for nth in 0..99 {
        people.push(here.person(&format!("{name}{nth}")).await);
    }
    for some in people.chunks(33) {
        group.post(&here, &alice, &Body::Add(some.iter().map(|it| it.entry(0)).collect())).await;
    }
    let call = new_id();
    start(&here, &alice, &group, call).await.ok::<CallState>();
    let mut full = None;
    for who in &people {
        let joined = join(&here, who, &group, call).await;
        if joined.status.as_u16() == 403 {
            full = Some(joined.refused(403, "M_RESOURCE_LIMIT_EXCEEDED"));
            break;
        }
        joined.ok::<CallState>();
    }
    assert!(full.expect("it was never full").error.contains("this call is full"));
}

/// Whether a home that asks is told that somebody of this server is there.
async fn is_shown(server: &Server, home: &mut Peer, group: &Group, who: &Person) -> bool {
    let body = json!({ "group": group.id(), "there": [who.device()] });
    let until = Timestamp(server.now().0 + 1_000);
    let ask = Ask { call: Call::Calls, caller: None, until, body };
    let ask = Item::Ask(ItemId::new(random()), ask).to_json();
    super::wire::hand_in(server, OTHER, home.frame(vec![ask])).await;
    loop {
        for item in home.said(server).await {
            if let Item::Answer(_, answer) = item {
                let there = answer.body["there"].as_array().expect("an answer").clone();
                return there.contains(&json!(who.device()));
            }
        }
    }
}

#[tokio::test]
async fn a_home_sees_of_those_elsewhere_who_is_connected_only_while_they_are_in_its_call() {
    let server = at("a.example").await;
    let alice = server.person("alice").await;
    let mallory = Person::at("mallory", OTHER);
    let mut home = Peer::new(OTHER);
    let mut theirs = Group::begun(Group::first_op(&mallory));
    theirs.install(theirs.op(&mallory, &Body::Add(vec![alice.entry(0)])));
    let frame = home.frame(vec![super::groups::ops(&theirs, &theirs.ops)]);
    super::wire::hand_in(&server, OTHER, frame).await;
    let mut stream = alice.stream(&server).await;
    stream.hello().await;
    // She is connected, and in no call; that it tells of one with her in it changes nothing.
    assert!(!is_shown(&server, &mut home, &theirs, &alice).await);
    let call: CallId = new_id();
    let asks = async |home: &mut Peer, what: &str| {
        let path = theirs.path(&format!("/calls/{call}/{what}"));
        let body = if what == "join" { json!({ "caps": [] }) } else { json!({}) };
        let refusal = json!({ "errcode": "M_NOT_FOUND", "error": "gone" });
        let answered = home.answer_next(&server, 404, refusal);
        let (answer, ()) = tokio::join!(alice.post(&server, &path, &body), answered);
        assert_eq!(answer.status, 404, "{}", answer.text());
    };
    asks(&mut home, "join").await;
    assert!(is_shown(&server, &mut home, &theirs, &alice).await);
    // Whether her session is one her own server says alone.
    let refusal = json!({ "errcode": "M_UNKNOWN_TOKEN", "error": "log in again" });
    let (path, body) = (theirs.path(&format!("/calls/{call}/join")), json!({ "caps": [] }));
    let (answer, ()) =
        tokio::join!(alice.post(&server, &path, &body), home.answer_next(&server, 401, refusal));
    answer.refused(502, "DEV_CAUSEWAY_BAD_ANSWER");
    asks(&mut home, "leave").await;
    assert!(!is_shown(&server, &mut home, &theirs, &alice).await);
    // Whose call is over is not shown either, nor who is not connected.
    asks(&mut home, "join").await;
    assert!(is_shown(&server, &mut home, &theirs, &alice).await);
    let over = json!({
        "call": call, "group": theirs.id(), "version": 9, "epoch": 1, "topology": "ended",
        "intent": "audio", "bridged": false, "started_ms": 1,
        "started_by": { "account": mallory.account, "device": mallory.device() }, "ended_ms": 2, "reason": "left", "participants": [], "accounts": [],
    });
    let over: CallState = serde_json::from_value(over).unwrap();
    let told = home.frame(vec![change(&theirs, Epoch(1), &over)]);
    super::wire::hand_in(&server, OTHER, told).await;
    assert!(!is_shown(&server, &mut home, &theirs, &alice).await);
}
