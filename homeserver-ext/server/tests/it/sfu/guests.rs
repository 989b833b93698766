//! Those of Matrix: where the bridge has them let in, what a call makes of that, and what it does not.

use causeway_protocol::{
    api::{CallSfus, CallState, CallTopology},
    call::sfu_room,
    ghost,
    ids::{CallId, GroupId},
    roster::Body,
};
use causeway_server::TokenHash;
use serde_json::{Value, json};

use super::{
    claims,
    livekit::{Connected, Sfu},
};
use crate::{
    calls::{ask, listening, new_id, state},
    harness::{Answer, Group, Person, Server},
};

pub(super) const DOOR: &str = "token of the door";

pub(super) async fn server(livekit: Option<&Sfu>) -> Server {
    Server::start_with(|config| {
        config.livekit = livekit.map(Sfu::config);
        config.relay_token = Some(TokenHash::of(DOOR));
    })
    .await
}

/// By whom it is agreed that LiveKit hears what is said.
pub(super) async fn start(server: &Server, who: &Person, group: &Group, call: CallId) -> Answer {
    let caps = json!(["mesh", "sfu"]);
    let body = json!({"call": call, "intent": "audio", "caps": caps, "may_degrade": true});
    who.post(server, &group.path("/calls"), &body).await
}

pub(super) async fn join(server: &Server, who: &Person, group: &Group, call: CallId) -> Answer {
    let body = json!({"caps": ["mesh", "sfu"], "may_degrade": true});
    ask(server, who, group, (call, "join"), body).await
}

/// A group of which the last is the bridge.
pub(super) async fn bridged<const N: usize>(
    server: &Server,
    names: [&str; N],
) -> (Group, [Person; N]) {
    let mut people = Vec::new();
    for name in names {
        people.push(server.person(name).await);
    }
    let mut group = Group::create(server, &people[0]).await;
    let role = |n| if n + 1 == N { 2 } else { 0 };
    let entries = people.iter().enumerate().skip(1).map(|(n, it)| it.entry(role(n))).collect();
    group.post(server, &people[0], &Body::Add(entries)).await;
    (group, people.try_into().ok().unwrap())
}

pub(super) fn asks(group: Option<GroupId>, device: &str) -> Value {
    json!({
        "group": group, "room": "O8437W3+jmzMVjoIP3tNwbm+XxHQk2iKpOA7aqw3qSc", "user": "@mia:b.example",
        "device": device, "identity": format!("@mia:b.example:{device}"), "publish": true,
        "name": "Mia",
    })
}

pub(super) async fn let_in(server: &Server, token: &str, asks: &Value) -> (u16, Value) {
    let url = format!("{}/_causeway/relay/v1/calls/token", server.base);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.post(url).bearer_auth(token).json(asks).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// The room of LiveKit's for which that is a token.
pub(super) fn room_of(given: &Value) -> String {
    let claims = claims(given["jwt"].as_str().unwrap());
    claims["video"]["room"].as_str().unwrap().to_owned()
}

pub(super) async fn looks(server: &Server) {
    server.pass_ms(500);
    server.app.tick_rooms().await.unwrap();
}

#[tokio::test]
async fn one_of_matrix_who_asks_has_the_call_prepare_and_is_in_it_once_he_is_there() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (group, [alice, bob, _]) = bridged(&server, ["alice", "bob", "ferry"]).await;
    let _streams = listening(&server, [&alice, &bob]).await;
    let call = new_id();
    start(&server, &alice, &group, call).await.ok::<CallState>();
    join(&server, &bob, &group, call).await.ok::<CallState>();
    let (status, given) = let_in(&server, DOOR, &asks(Some(group.id()), "PHONE")).await;
    assert_eq!((status, &given["url"]), (200, &json!(livekit.url())), "{given}");
    let prepared = state(&server, &alice, &group, call).await;
    assert_eq!((prepared.topology, prepared.epoch), (CallTopology::Prepare, 1));
    // Natives are told before they go there that LiveKit hears what is said.
    let native = ask(&server, &alice, &group, (call, "sfu"), json!({"epoch": 1})).await;
    let native: CallSfus = native.ok();
    assert_eq!(native.e2ee, "none");
    // The room where the others go; to send whatever his client can, and no more.
    let (room, jwt) = (native.sfus[0].room.clone(), given["jwt"].as_str().unwrap());
    let claims = claims(jwt);
    assert_eq!(claims["sub"], "@mia:b.example:PHONE");
    let grants = json!({
        "roomJoin": true, "room": room, "canPublish": true, "canSubscribe": true,
        "canPublishData": false, "canUpdateOwnMetadata": false,
    });
    assert_eq!(claims["video"], grants);
    // Another client of hers asks by the other name that a device may have, and comes by that.
    let mut other = asks(Some(group.id()), "PAD");
    other["identity"] = json!("J+T45tGruxc+HrUOqJJlyQSV33m728Cme4+vt8/SWrU");
    let (_, by_other) = let_in(&server, DOOR, &other).await;
    let _phone = Connected::by(&livekit.url(), jwt).await;
    let _pad = Connected::by(&livekit.url(), by_other["jwt"].as_str().unwrap()).await;
    let mut stranger =
        Connected::by(&livekit.url(), &livekit.token(&room, "@eve:b.example:X")).await;
    looks(&server).await;
    stranger.is_put_out().await;
    for _ in 0..4 {
        looks(&server).await;
    }
    let there = ["@mia:b.example:PHONE", "J+T45tGruxc+HrUOqJJlyQSV33m728Cme4+vt8/SWrU"];
    assert_eq!(livekit.people(&room).await, there);
    // All are shown them.
    let with = state(&server, &alice, &group, call).await;
    let shown: Vec<_> = with.guests().map(|it| (&*it.device, &*it.sfu, it.muted)).collect();
    assert_eq!(shown, [("PAD", there[1], true), ("PHONE", there[0], true)]);
    let one = serde_json::to_value(&with).unwrap()["participants"][3].take();
    assert_eq!((&one["via"], &one["name"]), (&json!("matrix"), &json!("Mia")), "{one}");
    assert_eq!((with.clear, &one["mirror"]), (true, &json!("@mia:b.example")));
    // When the call is over they are out of it, and their next one has another room.
    ask(&server, &alice, &group, (call, "end"), json!({})).await;
    livekit.until_rooms(&server, &[]).await;
    let (_, next) = let_in(&server, DOOR, &asks(Some(group.id()), "PHONE")).await;
    assert_ne!(room_of(&next), room);
}

#[tokio::test]
async fn whoever_asks_and_does_not_come_moves_nobody() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (group, [alice, bob, _]) = bridged(&server, ["alice", "bob", "ferry"]).await;
    let _streams = listening(&server, [&alice, &bob]).await;
    let call = new_id();
    start(&server, &alice, &group, call).await.ok::<CallState>();
    join(&server, &bob, &group, call).await.ok::<CallState>();
    assert_eq!(let_in(&server, DOOR, &asks(Some(group.id()), "PHONE")).await.0, 200);
    server.pass_ms(31_000);
    server.app.tick_calls().await.unwrap();
    let after = state(&server, &alice, &group, call).await;
    assert_eq!((after.topology, after.participants.len()), (CallTopology::Mesh, 2));
}

#[tokio::test]
async fn who_is_not_let_in_changes_nothing() {
    let mut livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (group, [alice, _]) = bridged(&server, ["alice", "ferry"]).await;
    let _streams = listening(&server, [&alice]).await;
    let call = new_id();
    start(&server, &alice, &group, call).await.ok::<CallState>();
    let before = server.rows().await;
    // Only the Matrix half asks, and only for names that LiveKit and its clients bear.
    for token in [&*alice.token, "", "token of nobody"] {
        let (status, said) = let_in(&server, token, &asks(Some(group.id()), "PHONE")).await;
        assert_eq!((status, said["errcode"].as_str()), (401, Some("M_UNKNOWN_TOKEN")));
    }
    for (key, value) in
        [("device", String::new()), ("user", "ü".to_owned()), ("identity", "a".repeat(257))]
    {
        let mut bad = asks(Some(group.id()), "PHONE");
        bad[key] = json!(value);
        assert_eq!(let_in(&server, DOOR, &bad).await.0, 400, "{key}");
    }
    livekit.server.kill().await;
    let (status, said) = let_in(&server, DOOR, &asks(Some(group.id()), "PHONE")).await;
    assert_eq!((status, &said["errcode"]), (503, &json!("DEV_CAUSEWAY_SFU_UNAVAILABLE")));
    let sentence = "This call has 1 person. The server that carries bigger calls is not reachable.";
    assert_eq!(said["error"], sentence);
    // Likewise where nothing runs.
    let nothing = let_in(&server, DOOR, &asks(None, "PHONE")).await.1;
    assert_eq!(nothing["error"], "The server that carries calls is not reachable.");
    server.assert_unchanged(&before).await;
}

#[tokio::test]
async fn a_server_without_livekit_says_so() {
    let server = server(None).await;
    let (group, _) = bridged(&server, ["alice", "ferry"]).await;
    for group in [None, Some(group.id())] {
        let (status, said) = let_in(&server, DOOR, &asks(group, "PHONE")).await;
        assert_eq!((status, &said["errcode"]), (503, &json!("DEV_CAUSEWAY_SFU_UNAVAILABLE")));
    }
}

#[tokio::test]
async fn where_a_bridge_is_natives_are_called_by_their_ghosts_to_the_end() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (mut group, [alice, bob, ferry]) = bridged(&server, ["alice", "bob", "ferry"]).await;
    let _streams = listening(&server, [&alice, &bob]).await;
    let call = new_id();
    let began: CallState = start(&server, &alice, &group, call).await.ok();
    assert!(began.bridged);
    join(&server, &bob, &group, call).await.ok::<CallState>();
    let (_, given) = let_in(&server, DOOR, &asks(Some(group.id()), "PHONE")).await;
    let ghost =
        |who: &Person| ghost::in_call(who.account.server(), &who.account, &who.device()).unwrap();
    let begins = format!("@causeway_alice:{}:CW", alice.account.server());
    assert!(ghost(&alice).starts_with(&begins));
    let given_her = ask(&server, &alice, &group, (call, "sfu"), json!({"epoch": 1})).await;
    let of_alice = given_her.ok::<CallSfus>().sfus.remove(0);
    assert_eq!(of_alice.mine, ghost(&alice));
    assert_eq!(claims(&of_alice.jwt)["sub"], json!(ghost(&alice)));
    let prepared = state(&server, &alice, &group, call).await;
    let mut names: Vec<_> = prepared.natives().map(|it| it.sfu.clone()).collect();
    names.sort_unstable();
    assert_eq!(names, [Some(ghost(&alice)), Some(ghost(&bob))]);
    // Who is there by that name is no stranger; the guest is there as well.
    let _alice = Connected::by(&of_alice.url, &of_alice.jwt).await;
    let mut guest = Connected::by(&livekit.url(), given["jwt"].as_str().unwrap()).await;
    looks(&server).await;
    let there = ["@mia:b.example:PHONE".to_owned(), ghost(&alice)];
    let mut there = there.to_vec();
    there.sort_unstable();
    assert_eq!(livekit.people(&room_of(&given)).await, there);

    // The bridge goes: so do those of Matrix, awaited ones too, and the natives keep their names.
    assert_eq!(let_in(&server, DOOR, &asks(Some(group.id()), "PAD")).await.0, 200);
    group.post(&server, &ferry, &Body::Leave).await;
    looks(&server).await;
    guest.is_put_out().await;
    let after = state(&server, &alice, &group, call).await;
    assert_eq!((after.bridged, after.topology), (true, CallTopology::Mesh));
    let rows = server.rows().await.concat();
    assert!(!rows.contains("@mia:b.example"), "{rows}");
    let (status, said) = let_in(&server, DOOR, &asks(Some(group.id()), "PHONE")).await;
    assert_eq!((status, &said["errcode"]), (403, &json!("M_FORBIDDEN")), "{said}");
}

#[tokio::test]
async fn a_bridge_that_comes_during_a_call_shows_the_next_one() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (mut group, [alice]) = server.group(["alice"]).await;
    let _streams = listening(&server, [&alice]).await;
    let call = new_id();
    let began: CallState = start(&server, &alice, &group, call).await.ok();
    assert!(!began.bridged);
    let (status, _) = let_in(&server, DOOR, &asks(Some(group.id()), "PHONE")).await;
    assert_eq!(status, 403);
    let ferry = server.person("ferry").await;
    group.post(&server, &alice, &Body::Add(vec![ferry.entry(2)])).await;
    // One of Matrix who asks meanwhile waits for it: the call that runs has another room.
    let (status, given) = let_in(&server, DOOR, &asks(Some(group.id()), "PHONE")).await;
    assert_eq!(status, 200, "{given}");
    let room = room_of(&given);
    assert_ne!(room, sfu_room(&group.id(), &call));
    let meanwhile = state(&server, &alice, &group, call).await;
    assert_eq!((meanwhile.bridged, meanwhile.topology), (false, CallTopology::Mesh));
    ask(&server, &alice, &group, (call, "end"), json!({})).await.ok::<CallState>();
    let next: CallState = start(&server, &alice, &group, new_id()).await.ok();
    assert!(next.bridged);
    let (_, given) = let_in(&server, DOOR, &asks(Some(group.id()), "PHONE")).await;
    assert_eq!(room_of(&given), room, "where she waits");
}

#[tokio::test]
async fn nobody_is_heard_by_livekit_who_has_not_agreed_to_it() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (group, [alice, bob, _]) = bridged(&server, ["alice", "bob", "ferry"]).await;
    let _streams = listening(&server, [&alice, &bob]).await;
    // One who has not is in the call: nobody of Matrix comes into it, and nothing is another.
    let call = new_id();
    crate::calls::start(&server, &alice, &group, call).await.ok::<CallState>();
    let before = state(&server, &alice, &group, call).await;
    let (status, said) = let_in(&server, DOOR, &asks(Some(group.id()), "PHONE")).await;
    assert_eq!((status, &said["errcode"]), (403, &json!("M_FORBIDDEN")), "{said}");
    assert_eq!(state(&server, &alice, &group, call).await, before);
    ask(&server, &alice, &group, (call, "end"), json!({})).await.ok::<CallState>();
    // One of Matrix is in it: whoever has not agreed stays out.
    let call = new_id();
    start(&server, &alice, &group, call).await.ok::<CallState>();
    let (_, given) = let_in(&server, DOOR, &asks(Some(group.id()), "PHONE")).await;
    let _phone = Connected::by(&livekit.url(), given["jwt"].as_str().unwrap()).await;
    looks(&server).await;
    let refused = crate::calls::join(&server, &bob, &group, call).await;
    let refused = refused.refused(409, "DEV_CAUSEWAY_CANNOT_USE_SFU");
    assert_eq!(refused.who, [bob.device()]);
    assert_eq!(state(&server, &alice, &group, call).await.natives().count(), 1);
    let with: CallState = join(&server, &bob, &group, call).await.ok();
    assert_eq!((with.natives().count(), with.guests().count(), with.clear), (2, 1, true));
}

/// What the room says of Mia's phone.
pub(super) fn says(group: &Group, is_in: bool, begins: Option<(CallId, &Person)>) -> Value {
    let begins = begins.map(|(call, by)| {
        let by = json!({"account": by.account, "device": by.device()});
        json!({"call": call, "intent": "audio", "by": by})
    });
    json!({
        "group": group.id(), "user": "@mia:b.example", "device": "PHONE", "is_in": is_in,
        "identities": ["@mia:b.example:PHONE"], "begins": begins,
    })
}

pub(super) async fn attend(server: &Server, token: &str, says: &Value) -> (u16, Value) {
    let url = format!("{}/_causeway/relay/v1/calls/member", server.base);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.post(url).bearer_auth(token).json(says).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn one_of_matrix_begins_a_call_into_which_natives_come() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (group, [alice, ferry]) = bridged(&server, ["alice", "ferry"]).await;
    let _streams = listening(&server, [&alice]).await;
    let call = new_id();
    let outcome = async |is_in, begins| attend(&server, DOOR, &says(&group, is_in, begins)).await;
    // Who says again that he is in it, as each hour, begins nothing.
    assert_eq!(outcome(true, None).await, (200, json!({"outcome": "nothing"})));
    let first = outcome(true, Some((call, &ferry))).await;
    assert_eq!(first, (200, json!({"outcome": "began"})));
    let begun = state(&server, &alice, &group, call).await;
    assert_eq!((begun.topology, begun.participants.len()), (CallTopology::Prepare, 0));
    assert_eq!(begun.started_by.mirror.as_deref(), Some("@mia:b.example"));
    assert!(begun.bridged && begun.clear);
    // The same event comes twice; she asks for a token as well, and is there.
    assert_eq!(outcome(true, Some((call, &ferry))).await.1["outcome"], "awaited");
    let (_, given) = let_in(&server, DOOR, &asks(Some(group.id()), "PHONE")).await;
    let mut phone = Connected::by(&livekit.url(), given["jwt"].as_str().unwrap()).await;
    looks(&server).await;
    server.pass_ms(2_000);
    server.app.tick_calls().await.unwrap();
    let with: CallState = join(&server, &alice, &group, call).await.ok();
    assert_eq!((with.topology, with.participants.len()), (CallTopology::Sfu, 2));
    // The room says that she went: she is out, and the call is the natives'.
    assert_eq!(outcome(false, None).await.1["outcome"], "gone");
    looks(&server).await;
    phone.is_put_out().await;
    let after = state(&server, &alice, &group, call).await;
    assert_eq!((after.guests().count(), after.natives().count(), after.clear), (0, 1, false));
    // What was said of a call that is over begins none.
    ask(&server, &alice, &group, (call, "end"), json!({})).await;
    assert_eq!(outcome(true, Some((call, &ferry))).await.1["outcome"], "nothing");
}

#[tokio::test]
async fn whoever_says_that_he_comes_and_does_not_leaves_no_call_behind() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (group, [alice, ferry]) = bridged(&server, ["alice", "ferry"]).await;
    let _streams = listening(&server, [&alice]).await;
    let call = new_id();
    attend(&server, DOOR, &says(&group, true, Some((call, &ferry)))).await;
    server.pass_ms(31_000);
    server.app.tick_calls().await.unwrap();
    let over = state(&server, &alice, &group, call).await;
    assert_eq!((over.topology, over.reason.as_deref()), (CallTopology::Ended, Some("empty")));
    livekit.until_rooms(&server, &[]).await;
    // Nor does he call for ever.
    let begin = async || {
        let call = new_id();
        let begun = attend(&server, DOOR, &says(&group, true, Some((call, &ferry)))).await;
        ask(&server, &alice, &group, (call, "end"), json!({})).await;
        begun.0
    };
    assert_eq!([begin().await, begin().await, begin().await], [200, 200, 429]);
}

#[tokio::test]
async fn what_rooms_say_changes_nothing_where_it_may_not() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (group, [alice, ferry]) = bridged(&server, ["alice", "ferry"]).await;
    let (other, [carol]) = server.group(["carol"]).await;
    let _streams = listening(&server, [&alice, &carol]).await;
    let call = new_id();
    // A native who has not agreed to be heard by LiveKit.
    crate::calls::start(&server, &alice, &group, call).await.ok::<CallState>();
    let before = server.rows().await;
    let (bridged, none) = (says(&group, true, None), says(&other, true, Some((call, &ferry))));
    assert_eq!(attend(&server, "token of nobody", &bridged).await.0, 401);
    assert_eq!(attend(&server, DOOR, &bridged).await.0, 403);
    assert_eq!(attend(&server, DOOR, &none).await.0, 403);
    for (key, bad) in [
        ("user", json!("ü")),
        ("device", json!("")),
        ("identities", json!(vec!["a"; 5])),
        ("identities", json!(["a".repeat(257)])),
    ] {
        let mut says = says(&group, true, None);
        says[key] = bad;
        assert_eq!(attend(&server, DOOR, &says).await.0, 400, "{key}");
    }
    // Somebody else's leave, and that of one who is in no call.
    assert_eq!(attend(&server, DOOR, &says(&group, false, None)).await.1["outcome"], "nothing");
    server.assert_unchanged(&before).await;
}
