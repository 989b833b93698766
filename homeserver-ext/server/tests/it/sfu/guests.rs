//! Those of Matrix: where the bridge has them let in, what a call makes of that, and what it does not.

use causeway_protocol::{
    api::{CallSfus, CallState, CallTopology},
    call::sfu_room_of_group,
    ghost,
    ids::GroupId,
    roster::Body,
};
use causeway_server::TokenHash;
use serde_json::{Value, json};

use super::{
    claims,
    livekit::{Connected, Sfu},
};
use crate::{
    calls::{ask, join, listening, new_id, start, state},
    harness::{Group, Person, Server},
};

const DOOR: &str = "token of the door";

async fn server(livekit: Option<&Sfu>) -> Server {
    Server::start_with(|config| {
        config.livekit = livekit.map(Sfu::config);
        config.relay_token = Some(TokenHash::of(DOOR));
    })
    .await
}

/// A group of which the last is the bridge.
async fn bridged<const N: usize>(server: &Server, names: [&str; N]) -> (Group, [Person; N]) {
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

fn asks(group: Option<GroupId>, device: &str) -> Value {
    json!({
        "group": group, "room": "O8437W3+jmzMVjoIP3tNwbm+XxHQk2iKpOA7aqw3qSc", "user": "@mia:b.example",
        "device": device, "identity": format!("@mia:b.example:{device}"), "publish": true,
    })
}

async fn let_in(server: &Server, token: &str, asks: &Value) -> (u16, Value) {
    let url = format!("{}/_causeway/relay/v1/calls/token", server.base);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.post(url).bearer_auth(token).json(asks).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn looks(server: &Server) {
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
    assert_eq!(native.ok::<CallSfus>().e2ee, "none");
    // The room where the others go; to send whatever his client can, and no more.
    let (room, jwt) = (sfu_room_of_group(&group.id()), given["jwt"].as_str().unwrap());
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
    let rows = server.rows().await.concat();
    assert!(rows.contains(r#"{"Matrix":["@mia:b.example","PAD"]},{"caps""#), "{rows}");
    // When the call is over they are out of it, and their next one has the group's room.
    ask(&server, &alice, &group, (call, "end"), json!({})).await;
    livekit.until_rooms(&server, &[]).await;
    let (_, next) = let_in(&server, DOOR, &asks(Some(group.id()), "PHONE")).await;
    let next = super::claims(next["jwt"].as_str().unwrap());
    assert_eq!(next["video"]["room"], json!(sfu_room_of_group(&group.id())));
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
    let mut names: Vec<_> = prepared.participants.iter().map(|it| it.sfu.clone()).collect();
    names.sort_unstable();
    assert_eq!(names, [Some(ghost(&alice)), Some(ghost(&bob))]);
    // Who is there by that name is no stranger; the guest is there as well.
    let _alice = Connected::by(&of_alice.url, &of_alice.jwt).await;
    let mut guest = Connected::by(&livekit.url(), given["jwt"].as_str().unwrap()).await;
    looks(&server).await;
    let there = ["@mia:b.example:PHONE".to_owned(), ghost(&alice)];
    let mut there = there.to_vec();
    there.sort_unstable();
    assert_eq!(livekit.people(&sfu_room_of_group(&group.id())).await, there);

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
    let room = &claims(given["jwt"].as_str().unwrap())["video"]["room"];
    assert_eq!(*room, json!(sfu_room_of_group(&group.id())));
    let meanwhile = state(&server, &alice, &group, call).await;
    assert_eq!((meanwhile.bridged, meanwhile.topology), (false, CallTopology::Mesh));
    ask(&server, &alice, &group, (call, "end"), json!({})).await.ok::<CallState>();
    let next: CallState = start(&server, &alice, &group, new_id()).await.ok();
    assert!(next.bridged);
}
