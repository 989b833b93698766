//! LiveKit takes no token back: each call of a group with a bridge has a room of its own, and another is drawn where
//! that has to be.

use causeway_protocol::{
    api::{CallSfus, CallState},
    ids::CallId,
    roster::Body,
};
use serde_json::json;

use super::{
    guests::{DOOR, asks, attend, bridged, join, let_in, looks, room_of, says, server, start},
    livekit::{Connected, Sfu},
};
use crate::{
    calls::{ask, listening, new_id, state},
    harness::{Group, Person, Server},
};

/// Where a native of the call goes.
async fn room_for(server: &Server, who: &Person, group: &Group, call: CallId) -> String {
    let epoch = state(server, who, group, call).await.epoch;
    let given = ask(server, who, group, (call, "sfu"), json!({ "epoch": epoch })).await;
    given.ok::<CallSfus>().sfus.remove(0).room
}

/// What lets Mia's phone in, and the room.
async fn mia(server: &Server, group: &Group) -> (String, String) {
    let (status, given) = let_in(server, DOOR, &asks(Some(group.id()), "PHONE")).await;
    assert_eq!(status, 200, "{given}");
    (given["jwt"].as_str().unwrap().to_owned(), room_of(&given))
}

#[tokio::test]
async fn no_token_of_an_earlier_call_leads_into_the_next() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (group, [alice, bob, _]) = bridged(&server, ["alice", "bob", "ferry"]).await;
    let _streams = listening(&server, [&alice, &bob]).await;
    let (mut rooms, mut tokens) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let call = new_id();
        start(&server, &alice, &group, call).await.ok::<CallState>();
        let (jwt, room) = mia(&server, &group).await;
        assert_eq!(room_for(&server, &alice, &group, call).await, room);
        assert!(room.len() == 32 && room.bytes().all(|it| it.is_ascii_hexdigit()), "{room}");
        assert!(!rooms.contains(&room), "{room} again");
        let mut phone = Connected::by(&livekit.url(), &jwt).await;
        looks(&server).await;
        assert_eq!(state(&server, &alice, &group, call).await.guests().count(), 1);
        // What LiveKit gave who was in one before lasts longer than that call.
        for earlier in &rooms {
            tokens.push(livekit.token(earlier, "@mia:b.example:PHONE"));
        }
        for token in &tokens {
            assert_eq!(livekit.validates(token).await, 404);
        }
        ask(&server, &alice, &group, (call, "end"), json!({})).await.ok::<CallState>();
        livekit.until_rooms(&server, &[]).await;
        phone.is_put_out().await;
        rooms.push(room);
        tokens.push(jwt);
    }
}

#[tokio::test]
async fn who_waits_for_the_groups_call_is_in_its_room() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (group, [alice, bob, _]) = bridged(&server, ["alice", "bob", "ferry"]).await;
    let _streams = listening(&server, [&alice, &bob]).await;
    let (jwt, room) = mia(&server, &group).await;
    let _phone = Connected::by(&livekit.url(), &jwt).await;
    let place = json!({"group": group.id(), "room": "none", "identity": "@mia:b.example:PHONE"});
    let url = format!("{}/_causeway/relay/v1/calls/there", server.base);
    let there = server.http.post(url).bearer_auth(DOOR).json(&json!({ "places": [place] }));
    let there: serde_json::Value = there.send().await.unwrap().json().await.unwrap();
    assert_eq!(there, json!({ "there": [true] }));

    // Natives who talk among themselves, without LiveKit, take nobody's room away.
    let call = new_id();
    crate::calls::start(&server, &alice, &group, call).await.ok::<CallState>();
    ask(&server, &alice, &group, (call, "end"), json!({})).await.ok::<CallState>();
    livekit.until_rooms(&server, std::slice::from_ref(&room)).await;
    assert_eq!(mia(&server, &group).await.1, room);

    let call = new_id();
    start(&server, &alice, &group, call).await.ok::<CallState>();
    join(&server, &bob, &group, call).await.ok::<CallState>();
    // The room says that she is in the call, and she is where she was.
    attend(&server, DOOR, &says(&group, true, None)).await;
    looks(&server).await;
    assert_eq!(state(&server, &alice, &group, call).await.guests().count(), 1);
    assert_eq!(room_for(&server, &bob, &group, call).await, room);
    assert_eq!(livekit.people(&room).await, ["@mia:b.example:PHONE"]);
    // It is this call's alone.
    assert!(server.rows().await.iter().all(|row| !row.starts_with("group_rooms")));
}

#[tokio::test]
async fn a_group_that_gets_another_bridge_gets_another_room() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (mut group, [alice, ferry]) = bridged(&server, ["alice", "ferry"]).await;
    let (_, room) = mia(&server, &group).await;
    assert_eq!(mia(&server, &group).await.1, room);
    group.post(&server, &ferry, &Body::Leave).await;
    assert!(server.rows().await.iter().all(|row| !row.starts_with("group_rooms")));
    let other = server.person("other").await;
    group.post(&server, &alice, &Body::Add(vec![other.entry(2)])).await;
    assert_ne!(mia(&server, &group).await.1, room);
}

#[tokio::test]
async fn a_call_that_an_older_version_began_stays_in_its_room() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (group, [alice, bob, _]) = bridged(&server, ["alice", "bob", "ferry"]).await;
    let _streams = listening(&server, [&alice, &bob]).await;
    let call = new_id();
    start(&server, &alice, &group, call).await.ok::<CallState>();
    // By the group alone, and nothing is written down of the next one's.
    let older = "4d2b8a1c4d2b8a1c4d2b8a1c4d2b8a1c";
    server.change(&format!("UPDATE calls SET state = json_set(state, '$.room', '{older}')")).await;
    server.change("DELETE FROM group_rooms").await;
    let (jwt, room) = mia(&server, &group).await;
    assert_eq!(room, older);
    let mut phone = Connected::by(&livekit.url(), &jwt).await;
    looks(&server).await;
    assert_eq!(state(&server, &alice, &group, call).await.guests().count(), 1);
    ask(&server, &alice, &group, (call, "end"), json!({})).await.ok::<CallState>();
    livekit.until_rooms(&server, &[]).await;
    phone.is_put_out().await;
    assert_ne!(mia(&server, &group).await.1, older);
}
