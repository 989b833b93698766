//! LiveKit takes no token back: each call of a group with a bridge has a room of its own, and another is drawn where
//! that has to be.

use causeway_protocol::{
    api::{CallSfu, CallSfus, CallState, CallTopology},
    ids::CallId,
    roster::Body,
};
use serde_json::json;

use super::{
    guests::{DOOR, asks, attend, bridged, join, let_in, looks, room_of, says, server, start},
    livekit::{Connected, Sfu},
    talkers::Talker,
};
use crate::{
    calls::{ask, listening, new_id, state},
    harness::{Group, Person, Server, Stream},
};

/// What lets a native of the call in.
async fn access(server: &Server, who: &Person, group: &Group, call: CallId) -> CallSfu {
    let epoch = state(server, who, group, call).await.epoch;
    let given = ask(server, who, group, (call, "sfu"), json!({ "epoch": epoch })).await;
    given.ok::<CallSfus>().sfus.remove(0)
}

async fn room_for(server: &Server, who: &Person, group: &Group, call: CallId) -> String {
    access(server, who, group, call).await.room
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
async fn who_leaves_the_matrix_room_does_not_wait_for_the_groups_call() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (group, [alice, _]) = bridged(&server, ["alice", "ferry"]).await;
    let _streams = listening(&server, [&alice]).await;
    let (jwt, room) = mia(&server, &group).await;
    let mut phone = Connected::by(&livekit.url(), &jwt).await;
    // She hangs up what nobody else hears of.
    assert_eq!(attend(&server, DOOR, &says(&group, false, None)).await.1["outcome"], "nothing");
    livekit.until_rooms(&server, std::slice::from_ref(&room)).await;
    // Nor does somebody who goes take anything from those who wait.
    let leaves = json!({"group": group.id(), "user": "@max:b.example", "is_in": false});
    assert_eq!(attend(&server, DOOR, &leaves).await.1["outcome"], "nothing");
    let leaves = json!({"group": group.id(), "user": "@mia:b.example", "is_in": false});
    assert_eq!(attend(&server, DOOR, &leaves).await.1["outcome"], "gone");
    livekit.until_rooms(&server, &[]).await;
    phone.is_put_out().await;
    let again = livekit.token(&room, "@mia:b.example:PHONE");
    assert_eq!(livekit.validates(&again).await, 404);
    assert_eq!(attend(&server, DOOR, &leaves).await.1["outcome"], "nothing");
    let left = |row: &String| row.starts_with("call_rooms") || row.starts_with("waiting_guests");
    assert!(!server.rows().await.iter().any(left));
    assert_ne!(mia(&server, &group).await.1, room);
}

#[tokio::test]
async fn nor_while_natives_talk_directly() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (group, [alice, bob, _]) = bridged(&server, ["alice", "bob", "ferry"]).await;
    let _streams = listening(&server, [&alice, &bob]).await;
    let (jwt, room) = mia(&server, &group).await;
    let mut phone = Connected::by(&livekit.url(), &jwt).await;
    let call = new_id();
    start(&server, &alice, &group, call).await.ok::<CallState>();
    join(&server, &bob, &group, call).await.ok::<CallState>();
    let leaves = json!({"group": group.id(), "user": "@mia:b.example", "is_in": false});
    assert_eq!(attend(&server, DOOR, &leaves).await.1["outcome"], "gone");
    livekit.until_rooms(&server, &[]).await;
    phone.is_put_out().await;
    // Who asks now is let into the call, in the room that it has now.
    let (_, next) = mia(&server, &group).await;
    assert_ne!(next, room);
    assert_eq!(room_for(&server, &alice, &group, call).await, next);
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

const MAX: &str = "@max:b.example:PHONE";

/// Alice and Bob talk through LiveKit, and Mia and Max hear them.
struct Heard {
    livekit: Sfu,
    server: Server,
    group: Group,
    people: [Person; 3],
    call: CallId,
    room: String,
    talkers: Vec<Talker>,
    mia: Connected,
    max: Connected,
    _streams: Vec<Stream>,
}

impl Heard {
    async fn new() -> Self {
        let livekit = Sfu::start().await;
        let server = server(Some(&livekit)).await;
        let (group, people) = bridged(&server, ["alice", "bob", "ferry"]).await;
        let streams = listening(&server, [&people[0], &people[1]]).await;
        let call = new_id();
        start(&server, &people[0], &group, call).await.ok::<CallState>();
        join(&server, &people[1], &group, call).await.ok::<CallState>();
        let (jwt, room) = mia(&server, &group).await;
        let mia = Connected::by(&livekit.url(), &jwt).await;
        let mut asks = asks(Some(group.id()), "PHONE");
        (asks["user"], asks["identity"]) = (json!("@max:b.example"), json!(MAX));
        let (_, given) = let_in(&server, DOOR, &asks).await;
        let max = Connected::by(&livekit.url(), given["jwt"].as_str().unwrap()).await;
        let mut talkers = Vec::new();
        for who in &people[..2] {
            let sfu = access(&server, who, &group, call).await;
            talkers.push(Talker::start(who, sfu).await);
            let body = json!({ "epoch": 1, "connected": [], "ready": { "published": true } });
            ask(&server, who, &group, (call, "report"), body).await.ok::<CallState>();
        }
        let all = Self {
            livekit,
            server,
            group,
            people,
            call,
            room,
            talkers,
            mia,
            max,
            _streams: streams,
        };
        looks(&all.server).await;
        all.later(2_000).await;
        all.are(CallTopology::Sfu, 2, 2).await;
        all
    }

    async fn later(&self, ms: u64) {
        self.server.app.tick_calls().await.unwrap();
        self.server.pass_ms(ms);
        self.server.app.tick_rooms().await.unwrap();
        self.server.app.tick_calls().await.unwrap();
    }

    async fn are(&self, topology: CallTopology, natives: usize, guests: usize) {
        let now = state(&self.server, &self.people[0], &self.group, self.call).await;
        let are = (now.topology, now.natives().count(), now.guests().count());
        assert_eq!(are, (topology, natives, guests), "{now:#?}");
    }

    /// An admin takes Max out.
    async fn max_is_taken_out(&mut self) {
        let body = json!({"mirror": "@max:b.example", "device": "PHONE"});
        let kicked = ask(&self.server, &self.people[0], &self.group, (self.call, "kick"), body);
        kicked.await.ok::<CallState>();
        looks(&self.server).await;
        self.max.is_put_out().await;
    }

    /// He comes back, by what LiveKit gave him, and is put out.
    async fn max_comes_back(&self) {
        let token = self.livekit.token(&self.room, MAX);
        let mut back = Connected::by(&self.livekit.url(), &token).await;
        self.later(2_000).await;
        back.is_put_out().await;
    }

    async fn room_now(&self) -> String {
        room_for(&self.server, &self.people[0], &self.group, self.call).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_back_again_and_again_costs_the_call_its_room_and_nobody_his_place() {
    let mut all = Heard::new().await;
    all.max_is_taken_out().await;
    all.max_comes_back().await;
    assert_eq!(all.room_now().await, all.room);
    all.max_comes_back().await;
    let fresh = all.room_now().await;
    assert_ne!(fresh, all.room);
    // What he has leads nowhere any more.
    assert_eq!(all.livekit.validates(&all.livekit.token(&all.room, MAX)).await, 404);
    assert_eq!(all.livekit.rooms().await, std::slice::from_ref(&fresh));
    // All are in the call as before; natives go there by themselves, and Mia when she asks again.
    all.are(CallTopology::Sfu, 2, 1).await;
    all.mia.is_put_out().await;
    for (who, talker) in all.people.iter().zip(&mut all.talkers) {
        talker.goes_anew(access(&all.server, who, &all.group, all.call).await).await;
    }
    let (jwt, room) = mia(&all.server, &all.group).await;
    assert_eq!(room, fresh);
    let _mia = Connected::by(&all.livekit.url(), &jwt).await;
    for _ in 0..8 {
        all.later(5_000).await;
    }
    all.are(CallTopology::Sfu, 2, 1).await;
    assert_eq!(all.livekit.people(&fresh).await.len(), 3);
    // Nothing is left of the old one.
    let rooms = all.server.rows().await;
    let rooms: Vec<_> = rooms.iter().filter(|row| row.starts_with("call_rooms")).collect();
    assert!(rooms.len() == 1 && rooms[0].contains(&fresh), "{rooms:?}");
    // Nor of either when the call is over.
    let ended = ask(&all.server, &all.people[0], &all.group, (all.call, "end"), json!({})).await;
    ended.ok::<CallState>();
    all.livekit.until_rooms(&all.server, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_room_that_could_not_be_closed_is_closed_after_a_start() {
    let mut all = Heard::new().await;
    all.max_is_taken_out().await;
    all.max_comes_back().await;
    all.max_comes_back().await;
    let fresh = all.room_now().await;
    // As if the server had died between the two.
    all.livekit.opens(&all.room).await;
    let number = "(SELECT max(number) + 1 FROM calls)";
    let sql = format!("INSERT INTO call_rooms (number, room) VALUES ({number}, '{}')", all.room);
    all.server.change(&sql).await;
    all.livekit.until_rooms(&all.server, &[fresh]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_call_that_is_sealed_nobody_has_to_go_for_a_strangers_sake() {
    let mut all = Heard::new().await;
    all.max_is_taken_out().await;
    let gone = says(&all.group, false, None);
    assert_eq!(attend(&all.server, DOOR, &gone).await.1["outcome"], "gone");
    for _ in 0..4 {
        all.max_comes_back().await;
    }
    assert_eq!(all.room_now().await, all.room);
    all.are(CallTopology::Sfu, 2, 0).await;
}
