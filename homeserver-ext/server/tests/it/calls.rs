//! Calls: who is in one, what carries it, and what becomes of it when things go wrong.

use causeway_protocol::{
    api::{CallPage, CallState, CallTopology},
    envelope::{Kind, Recipient},
    ids::{CallId, DeviceId},
    roster::{Body, Policy},
};
use causeway_server::TokenHash;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    admin::served,
    harness::{Answer, Group, Person, Server, Stream, policy, random},
};

pub(crate) fn new_id() -> CallId {
    CallId::new(random())
}

fn start_body(call: CallId) -> Value {
    json!({ "call": call, "intent": "audio", "caps": ["mesh", "sfu"] })
}

pub(crate) async fn start(server: &Server, who: &Person, group: &Group, call: CallId) -> Answer {
    who.post(server, &group.path("/calls"), &start_body(call)).await
}

pub(crate) async fn ask(
    server: &Server,
    who: &Person,
    group: &Group,
    (call, what): (CallId, &str),
    body: Value,
) -> Answer {
    who.post(server, &group.path(&format!("/calls/{call}/{what}")), &body).await
}

pub(crate) async fn join(server: &Server, who: &Person, group: &Group, call: CallId) -> Answer {
    ask(server, who, group, (call, "join"), json!({ "caps": ["mesh", "sfu"] })).await
}

async fn report(
    server: &Server,
    who: &Person,
    group: &Group,
    (call, epoch): (CallId, u32),
    connected: &[DeviceId],
) -> Answer {
    let body = json!({ "epoch": epoch, "connected": connected });
    ask(server, who, group, (call, "report"), body).await
}

pub(crate) async fn state(server: &Server, who: &Person, group: &Group, call: CallId) -> CallState {
    who.get(server, &group.path(&format!("/calls/{call}"))).await.ok()
}

pub(crate) fn devices(state: &CallState) -> Vec<DeviceId> {
    let mut devices: Vec<_> = state.natives().map(|it| it.device).collect();
    devices.sort_unstable();
    devices
}

pub(crate) fn sorted<const N: usize>(of: [&Person; N]) -> Vec<DeviceId> {
    let mut devices: Vec<_> = of.iter().map(|person| person.device()).collect();
    devices.sort_unstable();
    devices
}

/// The next state that a member's device is told, which must be one that everybody may be told.
pub(crate) async fn told(stream: &mut Stream) -> CallState {
    loop {
        let row = stream.next().await;
        if row.envelope.kind == Kind::CallChanged {
            assert_eq!(row.envelope.check(), Ok(()), "{row:?}");
            assert_eq!((row.envelope.to, row.envelope.ttl_ms), (Recipient::Broadcast, 60_000));
            return serde_json::from_slice(&row.envelope.payload).unwrap();
        }
    }
}

/// The next state that a device is told of which this is true.
pub(crate) async fn told_until(stream: &mut Stream, is: impl Fn(&CallState) -> bool) -> CallState {
    loop {
        let state = told(stream).await;
        if is(&state) {
            return state;
        }
    }
}

/// Streams of people, each begun: their devices are there.
pub(crate) async fn listening<const N: usize>(
    server: &Server,
    people: [&Person; N],
) -> Vec<Stream> {
    let mut streams = Vec::new();
    for who in people {
        let mut stream = who.stream(server).await;
        stream.hello().await;
        streams.push(stream);
    }
    streams
}

/// Looks after the calls until this is true of one.
pub(crate) async fn tended(
    server: &Server,
    who: &Person,
    (group, call): (&Group, CallId),
    is: impl Fn(&CallState) -> bool,
) -> CallState {
    let tended = async {
        loop {
            server.app.tick_calls().await.unwrap();
            let state = state(server, who, group, call).await;
            if is(&state) {
                return state;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), tended).await.expect("it never is")
}

pub(crate) fn is_lost(state: &CallState, who: &Person) -> bool {
    state.natives().any(|it| it.device == who.device() && it.lost)
}

#[tokio::test]
async fn every_member_is_told_of_a_call_from_its_start_to_its_end() {
    let server = Server::start().await;
    let (group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let dave = server.person("dave").await;
    let mut streams = listening(&server, [&alice, &bob, &carol]).await;
    let call = new_id();
    let begun: CallState = start(&server, &alice, &group, call).await.ok();
    assert_eq!((begun.topology, begun.version, begun.epoch), (CallTopology::Mesh, 1, 0));
    assert_eq!(devices(&begun), sorted([&alice]));
    for stream in &mut streams {
        assert_eq!(told(stream).await, begun);
    }
    let joined: CallState = join(&server, &bob, &group, call).await.ok();
    assert_eq!(devices(&joined), sorted([&alice, &bob]));
    for (who, peer) in [(&alice, &bob), (&bob, &alice)] {
        report(&server, who, &group, (call, 0), &[peer.device()]).await.ok::<CallState>();
    }
    let set = json!({ "muted": true, "hand": true });
    let set: CallState = ask(&server, &bob, &group, (call, "set"), set).await.ok();
    let of_bob = set.natives().find(|it| it.device == bob.device()).unwrap();
    assert!(of_bob.muted && of_bob.hand && !of_bob.lost);
    assert_eq!(of_bob.connected, [alice.device()]);
    // The same again is no change, and nobody is told.
    let again = json!({ "muted": true });
    let again: CallState = ask(&server, &bob, &group, (call, "set"), again).await.ok();
    assert_eq!(again, set);
    for who in [&bob, &alice] {
        ask(&server, who, &group, (call, "leave"), json!({})).await.ok::<CallState>();
    }
    server.pass_ms(30_000);
    server.app.tick_calls().await.unwrap();
    let ended: CallState = state(&server, &carol, &group, call).await;
    assert_eq!((ended.topology, ended.reason.as_deref()), (CallTopology::Ended, Some("empty")));
    assert_eq!(ended.accounts, [alice.account.clone(), bob.account.clone()]);
    for stream in &mut streams {
        let mut versions = vec![begun.version];
        while *versions.last().unwrap() < ended.version {
            versions.push(told(stream).await.version);
        }
        assert!(versions.is_sorted_by(|one, next| one < next), "{versions:?}");
    }
    // A stranger hears nothing, and what nobody fetched in a minute is gone.
    dave.get(&server, &group.path("/calls")).await.refused(404, "M_NOT_FOUND");
    server.pass_ms(60_001);
    server.app.upkeep().await.unwrap();
    let rows = server.rows().await;
    assert!(!rows.iter().any(|row| row.starts_with("envelopes: ")), "{rows:#?}");
}

#[tokio::test]
async fn two_who_start_at_once_are_in_one_call() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let _streams = listening(&server, [&alice, &bob]).await;
    let calls = [new_id(), new_id()];
    let (one, other) = tokio::join!(
        start(&server, &alice, &group, calls[0]),
        start(&server, &bob, &group, calls[1])
    );
    let (call, loser, refusal) =
        if one.status.is_success() { (calls[0], &bob, other) } else { (calls[1], &alice, one) };
    let refusal = refusal.refused(409, "DEV_CAUSEWAY_CALL_EXISTS");
    assert_eq!(refusal.call.unwrap().call, call);
    let both: CallState = join(&server, loser, &group, call).await.ok();
    assert_eq!(devices(&both), sorted([&alice, &bob]));
    // Who starts it again gets it as it is; nobody has a second one.
    assert_eq!(start(&server, &alice, &group, call).await.ok::<CallState>(), both);
    let page: CallPage = alice.get(&server, &group.path("/calls")).await.ok();
    assert_eq!((page.calls, page.next), (vec![both], None));
}

#[tokio::test]
async fn four_devices_talk_directly_and_the_fifth_is_told_why_not() {
    let server = Server::start().await;
    let (mut group, [alice, bob, carol, dave]) =
        server.group(["alice", "bob", "carol", "dave"]).await;
    // Two devices of one account are two.
    let phone = alice.second_device(&server).await;
    let phone = phone.clone().with_token(
        phone.login(&server).await.ok::<causeway_protocol::api::Session>().access_token,
    );
    group.post(&server, &alice, &Body::Devices(phone.devices())).await;
    let _streams = listening(&server, [&alice, &phone, &bob, &carol, &dave]).await;
    let call = new_id();
    start(&server, &alice, &group, call).await.ok::<CallState>();
    for who in [&phone, &bob, &carol] {
        join(&server, who, &group, call).await.ok::<CallState>();
    }
    let before = server.rows().await;
    let refusal = join(&server, &dave, &group, call).await;
    let refusal = refusal.refused(503, "DEV_CAUSEWAY_SFU_UNAVAILABLE");
    assert_eq!((refusal.max, refusal.retry_after_ms), (Some(4), Some(30_000)));
    assert_eq!(
        refusal.error,
        "This call has 4 people. The server that carries bigger calls is not reachable."
    );
    let refusal = ask(&server, &bob, &group, (call, "sfu"), json!({ "epoch": 0 })).await;
    refusal.refused(503, "DEV_CAUSEWAY_SFU_UNAVAILABLE");
    ask(&server, &dave, &group, (call, "sfu"), json!({ "epoch": 0 }))
        .await
        .refused(403, "M_FORBIDDEN");
    server.assert_unchanged(&before).await;
    // One goes, and there is room; whoever cannot talk directly has none.
    ask(&server, &phone, &group, (call, "leave"), json!({})).await.ok::<CallState>();
    let no_mesh = json!({ "caps": ["later"] });
    let refusal = ask(&server, &dave, &group, (call, "join"), no_mesh).await;
    let refusal = refusal.refused(409, "DEV_CAUSEWAY_CANNOT_USE_SFU");
    assert_eq!(refusal.who, [dave.device()]);
    let four: CallState = join(&server, &dave, &group, call).await.ok();
    assert_eq!(devices(&four), sorted([&alice, &bob, &carol, &dave]));
}

#[tokio::test]
async fn who_loses_his_stream_has_15_seconds_to_come_back() {
    let server = Server::start().await;
    let (group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let mut watch = alice.stream(&server).await;
    watch.hello().await;
    let others = listening(&server, [&bob, &carol]).await;
    let call = new_id();
    start(&server, &alice, &group, call).await.ok::<CallState>();
    for who in [&bob, &carol] {
        join(&server, who, &group, call).await.ok::<CallState>();
    }
    drop(others);
    let both = |state: &CallState| is_lost(state, &bob) && is_lost(state, &carol);
    told_until(&mut watch, both).await;
    server.pass_ms(14_999);
    server.app.tick_calls().await.unwrap();
    assert_eq!(state(&server, &alice, &group, call).await.participants.len(), 3);
    // Carol is back in time.
    let _carols = listening(&server, [&carol]).await;
    told_until(&mut watch, |state| !is_lost(state, &carol)).await;
    server.pass_ms(1);
    server.app.tick_calls().await.unwrap();
    let without = told_until(&mut watch, |state| state.participants.len() == 2).await;
    assert_eq!(devices(&without), sorted([&alice, &carol]));
    assert_eq!((without.out[0].device, &*without.out[0].why), (bob.device(), "lost"));
    // Bob comes again as anybody does.
    let again: CallState = join(&server, &bob, &group, call).await.ok();
    assert_eq!(again.participants.len(), 3);
    assert!(again.out.is_empty());
}

#[tokio::test]
async fn an_op_that_takes_a_device_out_takes_it_out_of_the_call() {
    let server = Server::start().await;
    let (mut group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let mut watch = carol.stream(&server).await;
    watch.hello().await;
    let _streams = listening(&server, [&alice, &bob]).await;
    let call = new_id();
    start(&server, &alice, &group, call).await.ok::<CallState>();
    for who in [&bob, &carol] {
        join(&server, who, &group, call).await.ok::<CallState>();
    }
    group.post(&server, &alice, &Body::Remove(vec![bob.member()])).await;
    let without = state(&server, &alice, &group, call).await;
    assert_eq!(devices(&without), sorted([&alice, &carol]));
    assert_eq!(told_until(&mut watch, |it| it.version == without.version).await, without);
    join(&server, &bob, &group, call).await.refused(404, "M_NOT_FOUND");
    // An op that takes nobody out is none of the call's business.
    let named = Policy { name: "tea time".to_owned(), ..policy() };
    group.post(&server, &alice, &Body::Policy(named)).await;
    assert_eq!(state(&server, &alice, &group, call).await, without);
    // Whoever leaves the group leaves the call; a group that is closed has none.
    group.post(&server, &carol, &Body::Leave).await;
    assert_eq!(devices(&state(&server, &alice, &group, call).await), sorted([&alice]));
    group.post(&server, &alice, &Body::Close).await;
    let ended = state(&server, &alice, &group, call).await;
    assert_eq!(
        (ended.reason.as_deref(), ended.ended_by),
        (Some("by_hand"), Some(alice.account.clone()))
    );
    start(&server, &alice, &group, new_id()).await.refused(403, "M_FORBIDDEN");
    join(&server, &alice, &group, call).await.refused(410, "DEV_CAUSEWAY_CALL_ENDED");
}

#[tokio::test]
async fn what_nobody_may_say_changes_nothing() {
    let server = Server::start().await;
    let (group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let (other, _) = server.group(["erin"]).await;
    let _streams = listening(&server, [&alice, &bob]).await;
    let call = new_id();
    start(&server, &alice, &group, call).await.ok::<CallState>();
    let begun: CallState = join(&server, &bob, &group, call).await.ok();
    let before = server.rows().await;
    // Not in the call; another epoch; a call that is none; a call of another group.
    report(&server, &carol, &group, (call, 0), &[]).await.refused(403, "M_FORBIDDEN");
    let stale = report(&server, &bob, &group, (call, 7), &[]).await;
    let stale = stale.refused(409, "DEV_CAUSEWAY_STALE_EPOCH");
    assert_eq!(*stale.call.unwrap(), begun);
    report(&server, &bob, &group, (new_id(), 0), &[]).await.refused(404, "M_NOT_FOUND");
    join(&server, &bob, &other, call).await.refused(404, "M_NOT_FOUND");
    let raised = json!({ "hand": true });
    ask(&server, &carol, &group, (call, "set"), raised).await.refused(403, "M_FORBIDDEN");
    ask(&server, &bob, &group, (call, "end"), json!({})).await.refused(403, "M_FORBIDDEN");
    let many: Vec<DeviceId> = (0..17).map(|n| DeviceId::new([n; 32])).collect();
    report(&server, &bob, &group, (call, 0), &many).await.refused(400, "M_INVALID_PARAM");
    // Who is not in it has left it, and who is in it does not decline.
    ask(&server, &carol, &group, (call, "leave"), json!({})).await.ok::<CallState>();
    ask(&server, &bob, &group, (call, "decline"), json!({})).await.ok::<CallState>();
    server.assert_unchanged(&before).await;
    // A liar is believed about nobody: of those whom he names there remain who are in the call,
    // and that the server for calls has him he says alone.
    let lie = json!({ "epoch": 0, "connected": [bob.device(), carol.device(), alice.device()],
        "ready": { "published": true } });
    let lied: CallState = ask(&server, &bob, &group, (call, "report"), lie).await.ok();
    assert_eq!((lied.topology, lied.epoch), (CallTopology::Mesh, 0));
    for it in lied.natives() {
        let says = if it.device == bob.device() { vec![alice.device()] } else { Vec::new() };
        assert_eq!(it.connected, says);
    }
}

#[tokio::test]
async fn an_end_and_a_join_that_meet_leave_nobody_in_a_call_that_is_over() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let _streams = listening(&server, [&alice, &bob]).await;
    for _ in 0..4 {
        let call = new_id();
        start(&server, &bob, &group, call).await.ok::<CallState>();
        ask(&server, &bob, &group, (call, "leave"), json!({})).await.ok::<CallState>();
        let (ended, joined) = tokio::join!(
            ask(&server, &alice, &group, (call, "end"), json!({})),
            ask(&server, &bob, &group, (call, "set"), json!({ "muted": true })),
        );
        let ended: CallState = ended.ok();
        assert_eq!(ended.ended_by.as_ref(), Some(&alice.account));
        assert!([403, 410].contains(&joined.status.as_u16()), "{}", joined.text());
        server.pass_ms(60_000);
    }
    for _ in 0..4 {
        let call = new_id();
        start(&server, &bob, &group, call).await.ok::<CallState>();
        let (ended, joined) = tokio::join!(
            ask(&server, &alice, &group, (call, "end"), json!({})),
            join(&server, &alice, &group, call),
        );
        ended.ok::<CallState>();
        if !joined.status.is_success() {
            joined.refused(410, "DEV_CAUSEWAY_CALL_ENDED");
        }
        let over = state(&server, &bob, &group, call).await;
        assert_eq!((over.topology, over.participants), (CallTopology::Ended, Vec::new()));
        server.pass_ms(60_000);
    }
}

#[tokio::test]
async fn a_hundred_joins_of_one_device_are_five_and_disturb_nobody() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let _streams = listening(&server, [&alice, &bob]).await;
    let call = new_id();
    start(&server, &alice, &group, call).await.ok::<CallState>();
    let body = json!({ "caps": ["mesh"] });
    let joins = (0..100).map(|_| ask(&server, &bob, &group, (call, "join"), body.clone()));
    let answers = futures_util::future::join_all(joins).await;
    let taken = answers.iter().filter(|answer| answer.status.is_success()).count();
    assert_eq!(taken, 5);
    for answer in answers.iter().filter(|answer| !answer.status.is_success()) {
        let refusal = answer.refused(429, "M_LIMIT_EXCEEDED");
        assert!(refusal.retry_after_ms.is_some_and(|ms| (1..=12_000).contains(&ms)));
    }
    // One change came of them all, and she who is in it goes on.
    let now: CallState = state(&server, &alice, &group, call).await;
    assert_eq!((now.version, now.participants.len()), (2, 2));
    let set = ask(&server, &alice, &group, (call, "set"), json!({ "hand": true })).await;
    assert_eq!(set.ok::<CallState>().version, 3);
    // Twenty an hour, in the long run.
    for _ in 0..4 {
        server.pass_ms(60_000);
        for _ in 0..5 {
            join(&server, &bob, &group, call).await;
        }
    }
    server.pass_ms(60_000);
    join(&server, &bob, &group, call).await.refused(429, "M_LIMIT_EXCEEDED");
    // What is said in calls has its own measure.
    let mut taken = 0;
    while report(&server, &bob, &group, (call, 0), &[]).await.status.is_success() {
        taken += 1;
    }
    assert_eq!(taken, 60);
}

#[tokio::test]
async fn a_decline_is_the_accounts_and_joining_takes_it_back() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let mut other_device = bob.stream(&server).await;
    other_device.hello().await;
    let _streams = listening(&server, [&alice]).await;
    let call = new_id();
    start(&server, &alice, &group, call).await.ok::<CallState>();
    let declined = ask(&server, &bob, &group, (call, "decline"), json!({})).await;
    let declined: CallState = declined.ok();
    assert_eq!(declined.declined, std::slice::from_ref(&bob.account));
    let heard = told_until(&mut other_device, |it| !it.declined.is_empty()).await;
    assert_eq!(heard, declined);
    let again = ask(&server, &bob, &group, (call, "decline"), json!({})).await;
    assert_eq!(again.ok::<CallState>(), declined);
    let joined: CallState = join(&server, &bob, &group, call).await.ok();
    assert!(joined.declined.is_empty());
}

#[tokio::test]
async fn a_call_outlives_the_server_in_each_state() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let ended = new_id();
    start(&server, &alice, &group, ended).await.ok::<CallState>();
    let ended: CallState = ask(&server, &alice, &group, (ended, "end"), json!({})).await.ok();
    let call = new_id();
    let streams = listening(&server, [&alice, &bob]).await;
    start(&server, &alice, &group, call).await.ok::<CallState>();
    join(&server, &bob, &group, call).await.ok::<CallState>();
    let told = report(&server, &alice, &group, (call, 0), &[bob.device()]).await;
    let before: CallState = told.ok();
    drop(streams);
    let server = server.restart().await;
    assert_eq!(state(&server, &alice, &group, ended.call).await, ended);
    let after = state(&server, &alice, &group, call).await;
    assert_eq!((devices(&after), after.epoch), (devices(&before), before.epoch));
    // Alice is back in time, and Bob is not.
    let of = (&group, call);
    let streams = listening(&server, [&alice]).await;
    let lost = |it: &CallState| is_lost(it, &bob) && !is_lost(it, &alice);
    tended(&server, &alice, of, lost).await;
    // Lost, and started again: the time that he has goes on.
    drop(streams);
    server.pass_ms(14_999);
    let server = server.restart().await;
    let _streams = listening(&server, [&alice]).await;
    assert_eq!(tended(&server, &alice, of, lost).await.participants.len(), 2);
    server.pass_ms(1);
    server.app.tick_calls().await.unwrap();
    assert_eq!(devices(&state(&server, &alice, &group, call).await), sorted([&alice]));
    // Empty, and started again: it ends.
    ask(&server, &alice, &group, (call, "leave"), json!({})).await.ok::<CallState>();
    let server = server.restart().await;
    server.pass_ms(30_000);
    server.app.tick_calls().await.unwrap();
    let over = state(&server, &alice, &group, call).await;
    assert_eq!(over.reason.as_deref(), Some("empty"));
}

#[tokio::test]
async fn a_database_that_was_put_back_has_no_running_call() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let call = new_id();
    start(&server, &alice, &group, call).await.ok::<CallState>();
    let (folder, clock) = (server.folder(), server.clock());
    server.stop().await;
    let copy = std::fs::read(folder.path().join("server.db")).unwrap();
    let server = Server::start_in(folder, clock, |_| {}).await;
    // What happened since the copy is lost with it.
    let since: CallState = join(&server, &bob, &group, call).await.ok();
    let (folder, clock) = (server.folder(), server.clock());
    server.stop().await;
    std::fs::write(folder.path().join("server.db"), copy).unwrap();
    let server = Server::start_in(folder, clock, |config| config.put_back = true).await;
    let over = state(&server, &bob, &group, call).await;
    assert_eq!((over.topology, over.reason.as_deref()), (CallTopology::Ended, Some("put_back")));
    // Nobody who saw it before takes that for an old state.
    assert!(over.version > since.version + 1_000_000);
    assert!(over.participants.is_empty());
    let mut watch = bob.stream(&server).await;
    assert_eq!(told_until(&mut watch, |it| it.reason.is_some()).await, over);
    start(&server, &bob, &group, new_id()).await.ok::<CallState>();
}

#[tokio::test]
async fn past_calls_are_there_page_by_page_for_30_days() {
    let server = Server::start().await;
    let (group, [alice]) = server.group(["alice"]).await;
    let mut calls = Vec::new();
    for _ in 0..5 {
        let call = new_id();
        start(&server, &alice, &group, call).await.ok::<CallState>();
        ask(&server, &alice, &group, (call, "end"), json!({})).await.ok::<CallState>();
        calls.insert(0, call);
    }
    let (mut seen, mut from) = (Vec::new(), String::new());
    loop {
        let path = group.path(&format!("/calls?limit=2{from}"));
        let page: CallPage = alice.get(&server, &path).await.ok();
        seen.extend(page.calls.iter().map(|it| it.call));
        let Some(next) = page.next else { break };
        from = format!("&from={next}");
    }
    assert_eq!(seen, calls);
    server.pass_ms(30 * 86_400_000);
    server.app.upkeep().await.unwrap();
    assert_eq!(alice.get(&server, &group.path("/calls")).await.ok::<CallPage>().calls.len(), 5);
    server.pass_ms(1);
    server.app.upkeep().await.unwrap();
    assert!(alice.get(&server, &group.path("/calls")).await.ok::<CallPage>().calls.is_empty());
}

#[tokio::test]
async fn the_operator_sees_the_calls_that_run_and_ends_them() {
    let server = Server::start().await;
    let alice = server.person("alice").await;
    let _streams = listening(&server, [&alice]).await;
    let mut running = Vec::new();
    for _ in 0..3 {
        let group = Group::create(&server, &alice).await;
        let call = new_id();
        start(&server, &alice, &group, call).await.ok::<CallState>();
        running.push((group, call));
    }
    let admin = causeway_server::admin::behind_token(server.app.admin(), TokenHash::of("right"));
    let (_serving, base) = served(admin).await;
    let send = async |method: Method, path: &str| {
        let request = server.http.request(method, format!("{base}{path}")).bearer_auth("right");
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap_or_default())
    };
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let (status, page) = send(Method::GET, &format!("/calls?limit=2{after}")).await;
        assert_eq!(status, 200, "{page}");
        for it in page["calls"].as_array().unwrap() {
            assert_eq!((&it["participants"], &it["topology"]), (&json!(1), &json!("mesh")));
            seen.push((
                it["group"].as_str().unwrap().to_owned(),
                it["call"].as_str().unwrap().to_owned(),
            ));
        }
        let Some(next) = page["next"].as_u64() else { break };
        after = format!("&after={next}");
    }
    let expected: Vec<_> =
        running.iter().map(|(group, call)| (group.id().to_string(), call.to_string())).collect();
    assert_eq!(seen, expected);
    let (group, call) = &running[1];
    for _ in 0..2 {
        assert_eq!(send(Method::POST, &format!("/calls/{call}/end")).await.0, 204);
    }
    let over = state(&server, &alice, group, *call).await;
    assert_eq!((over.reason.as_deref(), over.ended_by), (Some("by_hand"), None));
    let none = new_id();
    assert_eq!(send(Method::POST, &format!("/calls/{none}/end")).await.0, 404);
    server.app.measure().await.unwrap();
    let figures = server.app.figures().await.unwrap();
    assert_eq!((figures.calls, figures.call_participants), (2, 2));
}
