//! What is for all of a group on three servers, by a room of their agents.

use std::{collections::BTreeSet, sync::Arc};

use causeway_protocol::{
    ids::ItemId,
    link::{Call, Item, MAX_ROOM_CONTENT, Tell},
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    OTHER, as_in_tests, at,
    given_again::{all, until_taken},
    groups::until_epoch,
    operator::operate,
    peer::Peer,
    put_back::{copy, put_back},
    restarted,
    thirds::{HOME, THIRD, Three},
    wire::{Room, Wire, door, hand_in, hand_in_of_room, report, wishes},
};
use crate::harness::{Group, Server, random};

const ROOM: &str = "!room";

/// Says to each that the agents of all are in the room.
async fn all_join(three: &Three, group: &Group) {
    let all = [HOME, OTHER, THIRD];
    for (name, server) in three.named() {
        let joined: BTreeSet<_> = all.into_iter().filter(|other| *other != name).collect();
        report(server, json!([{"group": group.id(), "room": ROOM, "joined": joined}])).await;
    }
}

/// A group of three with a room that all use; the home's first report has the others told.
async fn with_room() -> (Three, Group, Arc<Room>) {
    let three = Three::start().await;
    let wire = three.wire();
    let group = three.group().await;
    assert_eq!(wishes(&three.home).await["rooms"][0]["room"], Value::Null);
    let alone = json!([{"group": group.id(), "room": ROOM, "joined": []}]);
    report(&three.home, alone).await;
    for (name, server) in three.named() {
        let mut others = vec![HOME, OTHER, THIRD];
        others.retain(|other| *other != name);
        let wish = json!({"group": group.id(), "room": ROOM, "home": HOME, "servers": others});
        while wishes(server).await["rooms"] != json!([wish]) {
            tokio::task::yield_now().await;
        }
    }
    all_join(&three, &group).await;
    drop(wire);
    (three, group, Arc::default())
}

async fn say(three: &Three, group: &Group, from: usize, word: &str, count: usize) -> Vec<String> {
    let texts: Vec<String> = (0..count).map(|n| format!("{word} {n}")).collect();
    let (server, who) = three.each()[from];
    for some in texts.chunks(20) {
        let some: Vec<&str> = some.iter().map(String::as_str).collect();
        who.say(server, group, &some).await;
    }
    texts
}

async fn shown(server: &Server, group: &Group) -> Value {
    let (status, shown) =
        operate(server, Method::GET, &format!("/groups/{}/replicas", group.id())).await;
    assert_eq!(status, 200);
    shown
}

#[tokio::test]
async fn sixty_messages_reach_two_servers_by_a_few_events_and_the_operator_sees_the_room() {
    let (three, group, room) = with_room().await;
    let texts = say(&three, &group, 1, "hello", 60).await;
    let _wire = Wire::with_room(&three.named(), &room);
    assert_eq!(three.texts(&three.home, &three.alice, 60).await, texts);
    assert_eq!(three.texts(&three.third, &three.erin, 60).await, texts);
    let posted = room.posted.lock().unwrap().clone();
    assert!((1..=6).contains(&posted.len()), "{}", posted.len());
    for (by, content) in &posted {
        assert_eq!(*by, OTHER);
        assert!(content.to_string().len() <= MAX_ROOM_CONTENT);
        let frames: Vec<_> = content["frames"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(frames, [HOME, THIRD]);
    }
    let events = posted.iter().map(|(_, it)| it["envelopes"].as_array().unwrap().len());
    assert_eq!(events.sum::<usize>(), 60, "all of it, and each once");
    for (server, who) in three.each() {
        three.settled(server, who).await;
        let shown = shown(server, &group).await;
        assert_eq!(shown["relay_room"], ROOM);
        let replicas = shown["replicas"].as_array().unwrap();
        assert!(replicas.iter().all(|it| it["in_room"] == true), "{shown}");
    }
    three.talk(&group, "and all").await;
}

#[tokio::test]
async fn what_a_homeserver_keeps_to_itself_comes_by_the_link_once_and_in_order() {
    let (three, group, room) = with_room().await;
    room.withheld.lock().unwrap().insert(THIRD);
    let mut texts = say(&three, &group, 1, "one", 5).await;
    let wire = Wire::with_room(&three.named(), &room);
    assert_eq!(three.texts(&three.home, &three.alice, 5).await, texts);
    assert_eq!(three.texts(&three.third, &three.erin, 5).await, texts);
    // From now on it is not counted on: what follows waits for nothing. The operator sees it.
    let seen = shown(&three.second, &group).await;
    let by_room = |server: &str| {
        let replicas = seen["replicas"].as_array().unwrap();
        let of = replicas.iter().find(|it| it["server"] == server).unwrap();
        (of["in_room"].as_bool().unwrap(), of["by_room"].as_bool().unwrap())
    };
    assert_eq!((by_room(HOME), by_room(THIRD)), ((true, true), (true, false)), "{seen}");
    let (_, seen) = operate(&three.second, Method::GET, "/servers/c.example").await;
    let of = json!({"group": group.id(), "room": ROOM, "in_room": true, "by_room": false});
    assert_eq!(seen["relay_rooms"], json!([of]));
    let before = room.posted.lock().unwrap().len();
    texts = say(&three, &group, 1, "two", 5).await;
    assert_eq!(three.texts(&three.third, &three.erin, 5).await, texts);
    assert_eq!(three.texts(&three.home, &three.alice, 5).await, texts);
    assert_eq!(room.posted.lock().unwrap().len(), before);
    // What had been kept back comes after all, and nobody has it twice.
    let late = room.posted.lock().unwrap().clone();
    for (by, content) in &late {
        hand_in_of_room(&three.third, by, ROOM, content).await;
    }
    drop(wire);
    for (server, who) in three.each() {
        three.settled(server, who).await;
    }
}

#[tokio::test]
async fn whose_agent_is_not_there_is_served_by_the_link_and_the_room_may_end_at_any_time() {
    let (three, group, room) = with_room().await;
    let _wire = Wire::with_room(&three.named(), &room);
    three.talk(&group, "by the room").await;
    let before = room.posted.lock().unwrap().len();
    assert!(before >= 3, "{before}");
    // One leaves: for a single other server there is nothing to be won.
    let alone = json!([{"group": group.id(), "room": ROOM, "joined": [HOME]}]);
    report(&three.second, alone).await;
    let texts = say(&three, &group, 1, "by the links", 5).await;
    assert_eq!(three.texts(&three.third, &three.erin, 5).await, texts);
    assert_eq!(three.texts(&three.home, &three.alice, 5).await, texts);
    assert_eq!(room.posted.lock().unwrap().len(), before);
    // Its own agent is out.
    report(&three.third, json!([{"group": group.id(), "room": ROOM, "joined": null}])).await;
    three.erin.say(&three.third, &group, &["still here"]).await;
    assert_eq!(three.texts(&three.home, &three.alice, 1).await, ["still here"]);
    assert_eq!(three.texts(&three.second, &three.carol, 1).await, ["still here"]);
    assert_eq!(room.posted.lock().unwrap().len(), before);
    assert_eq!(shown(&three.third, &group).await["replicas"][0]["in_room"], false);
}

#[tokio::test]
async fn through_starts_of_each_nothing_is_lost_or_doubled() {
    let (mut three, group, room) = with_room().await;
    let wire = Wire::with_room(&three.named(), &room);
    three.talk(&group, "before").await;
    // What was posted, and not taken, when both ended.
    room.withheld.lock().unwrap().extend([HOME, THIRD]);
    let before = room.posted.lock().unwrap().len();
    let texts = say(&three, &group, 1, "on its way", 5).await;
    while room.posted.lock().unwrap().len() == before {
        tokio::task::yield_now().await;
    }
    drop(wire);
    let late = room.posted.lock().unwrap().split_off(before);
    three.second = restarted(three.second, OTHER).await;
    three.third = restarted(three.third, THIRD).await;
    room.withheld.lock().unwrap().clear();
    // Its old number says nothing to who was started anew, or does not know that link any more.
    for (by, content) in &late {
        hand_in_of_room(&three.third, by, ROOM, content).await;
        hand_in_of_room(&three.home, by, ROOM, content).await;
    }
    all_join(&three, &group).await;
    let _wire = Wire::with_room(&three.named(), &room);
    assert_eq!(three.texts(&three.third, &three.erin, 5).await, texts);
    assert_eq!(three.texts(&three.home, &three.alice, 5).await, texts);
    for (server, who) in three.each() {
        three.settled(server, who).await;
    }
    three.talk(&group, "after").await;
}

#[tokio::test]
async fn who_was_put_back_is_given_again_what_had_come_by_the_room() {
    let (mut three, group, room) = with_room().await;
    let wire = Wire::with_room(&three.named(), &room);
    three.talk(&group, "before").await;
    until_taken(&three.second, THIRD).await;
    copy(&three.third).await;
    let before = room.posted.lock().unwrap().len();
    let mut texts = say(&three, &group, 1, "after the copy", 20).await;
    assert_eq!(three.texts(&three.third, &three.erin, 20).await, texts);
    assert_eq!(three.texts(&three.home, &three.alice, 20).await, texts);
    until_taken(&three.second, THIRD).await;
    assert!(room.posted.lock().unwrap().len() > before, "it came by the room");
    drop(wire);
    three.third = put_back(three.third, THIRD).await;
    texts.extend(say(&three, &group, 1, "while it was away", 5).await);
    let wire = Wire::with_room(&three.named(), &room);
    // What it had, by the link and in its order, with what is new behind it; nobody else has it twice.
    let last = texts.last().unwrap();
    let mut again = all(&three.third, &three.erin, last).await;
    again.retain(|it| texts.contains(it));
    assert_eq!(again, texts);
    assert_eq!(three.texts(&three.home, &three.alice, 5).await, texts[20..]);
    three.settled(&three.home, &three.alice).await;
    until_taken(&three.second, THIRD).await;
    drop(wire);
    // And the room goes on.
    all_join(&three, &group).await;
    let texts = say(&three, &group, 1, "by the room again", 20).await;
    let before = room.posted.lock().unwrap().len();
    let _wire = Wire::with_room(&three.named(), &room);
    all(&three.third, &three.erin, texts.last().unwrap()).await;
    assert_eq!(three.texts(&three.home, &three.alice, 20).await, texts);
    let posted = room.posted.lock().unwrap().split_off(before);
    assert!(posted.iter().any(|(_, it)| !it["frames"][THIRD].is_null()), "{posted:?}");
}

#[tokio::test]
async fn who_is_in_the_room_speaks_for_nobody_else_there() {
    let (three, group, room) = with_room().await;
    let wire = Wire::with_room(&three.named(), &room);
    three.talk(&group, "before").await;
    drop(wire);
    let content = room.posted.lock().unwrap().iter().find(|it| it.0 == OTHER).unwrap().1.clone();
    let refused = async || {
        let (_, shown) = operate(&three.third, Method::GET, "/servers/a.example").await;
        (shown["refused"].as_u64().unwrap(), shown["malformed"].as_u64().unwrap())
    };
    let before = refused().await;
    // The home's agent says again what Carol's server said, as the first frame of a link of its own.
    let mut peer = Peer::new(HOME);
    let head = peer.frame(vec![json!({})]);
    let mut forged = content.clone();
    forged["frames"] = json!({THIRD: {"link": head["link"], "seq": head["seq"]}});
    hand_in_of_room(&three.third, HOME, ROOM, &forged).await;
    assert_eq!(refused().await, (before.0 + 1, before.1));
    // In another room, or without what an event needs.
    hand_in_of_room(&three.third, HOME, "!other", &forged).await;
    assert_eq!(refused().await, (before.0 + 2, before.1));
    for broken in [json!({}), json!({"v": 1, "frames": 7})] {
        hand_in_of_room(&three.third, HOME, ROOM, &broken).await;
    }
    assert_eq!(refused().await, (before.0 + 2, before.1 + 2));
    three.settled(&three.third, &three.erin).await;
    // A replica does not say which room it is, nor ends it; the home does both.
    let tells = |room: &str| {
        let id = || ItemId::new(random());
        let tell = Tell::Room(group.id(), room.to_owned());
        [Item::Tell(id(), tell).to_json(), Item::Tell(id(), Tell::Leave(group.id())).to_json()]
    };
    let mut second = Peer::new(OTHER);
    hand_in(&three.third, OTHER, second.frame(tells("!theirs").into())).await;
    assert_eq!(wishes(&three.third).await["rooms"][0]["room"], ROOM);
    let [moved, ended] = tells("!new");
    hand_in(&three.third, HOME, peer.frame(vec![moved])).await;
    assert_eq!(wishes(&three.third).await["rooms"][0]["room"], "!new");
    hand_in(&three.third, HOME, peer.frame(vec![ended])).await;
    assert_eq!(wishes(&three.third).await["rooms"], json!([]));
}

#[tokio::test]
async fn whose_last_member_is_taken_out_is_told_to_leave_and_asks_for_the_ops_up_to_its_end() {
    let (three, mut group, room) = with_room().await;
    let wire = Wire::with_room(&three.named(), &room);
    three.talk(&group, "before").await;
    until_taken(&three.home, THIRD).await;
    drop(wire);
    // The third hears nothing but that it is to leave, and asks for the ops that say why.
    let out = causeway_protocol::roster::Body::Remove(vec![three.erin.member()]);
    group.post(&three.home, &three.alice, &out).await;
    let mut peer = Peer::new(HOME);
    let tell = Tell::Leave(group.id());
    let tell = Item::Tell(ItemId::new(random()), tell).to_json();
    hand_in(&three.third, HOME, peer.frame(vec![tell])).await;
    assert_eq!(wishes(&three.third).await["rooms"], json!([]));
    let asked = |item: &Item| matches!(item, Item::Ask(_, ask) if ask.call == Call::Ops);
    assert!(peer.said(&three.third).await.iter().any(asked));
    // The home tells it so, once its agent sees it there, and nobody else.
    let said = json!([{"group": group.id(), "room": ROOM, "joined": [OTHER], "leaving": [THIRD]}]);
    report(&three.home, said).await;
    let told = door(&three.home).await;
    let leaves = |to: &str| {
        let of = told.iter().filter(|frame| frame["to"] == to);
        of.flat_map(|frame| frame["content"]["items"].as_array().unwrap())
            .filter(|item| item["what"] == "leave" && item["group"] == json!(group.id()))
            .count()
    };
    assert_eq!((leaves(THIRD), leaves(OTHER)), (1, 0), "{told:?}");
}

#[tokio::test]
async fn a_group_that_is_closed_or_left_and_a_server_that_wants_none_have_no_room() {
    let (three, mut group, room) = with_room().await;
    let _wire = Wire::with_room(&three.named(), &room);
    let out = causeway_protocol::roster::Body::Remove(vec![three.erin.member()]);
    group.post(&three.home, &three.alice, &out).await;
    until_epoch(&three.second, &three.carol, &group).await;
    while wishes(&three.third).await["rooms"] != json!([]) {
        tokio::task::yield_now().await;
    }
    assert_eq!(wishes(&three.second).await["rooms"][0]["servers"], json!([HOME]));
    group.post(&three.home, &three.alice, &causeway_protocol::roster::Body::Close).await;
    until_epoch(&three.second, &three.carol, &group).await;
    assert_eq!(wishes(&three.second).await["rooms"], json!([]));
    // The home's agent stays until the others are out, and then there is no room any more.
    let over = json!([{"group": group.id(), "room": ROOM, "home": HOME, "servers": []}]);
    assert_eq!(wishes(&three.home).await["rooms"], over);
    let at_home = |leaving: Value| json!([{"group": group.id(), "room": ROOM, "joined": [], "leaving": leaving}]);
    report(&three.home, at_home(json!([OTHER]))).await;
    assert_eq!(wishes(&three.home).await["rooms"], over);
    report(&three.home, at_home(json!([]))).await;
    assert_eq!(wishes(&three.home).await["rooms"], json!([]));
    assert_eq!(shown(&three.home, &group).await["relay_room"], Value::Null);
    let alone = at("d.example").await;
    assert_eq!(wishes(&alone).await["rooms"], json!([]));
}

#[tokio::test]
async fn rooms_that_are_shared_with_a_server_are_shown_by_pages() {
    let three = Three::start().await;
    let _wire = three.wire();
    let mut expected = Vec::new();
    for nth in 0..3 {
        let (group, room) = (three.group().await.id(), format!("!{nth}"));
        report(&three.home, json!([{"group": group, "room": room, "joined": [OTHER]}])).await;
        expected.push((group, room));
    }
    expected.sort_by_key(|(group, _)| *group.as_bytes());
    let (mut seen, mut sizes, mut after) = (Vec::new(), Vec::new(), String::new());
    loop {
        let path = format!("/servers/{OTHER}?limit=2{after}");
        let (status, page) = operate(&three.home, Method::GET, &path).await;
        assert_eq!((status, &page["groups"]), (200, &json!(3)), "{page}");
        let rooms = page["relay_rooms"].as_array().unwrap();
        assert!(rooms.iter().all(|it| it["in_room"] == true), "{page}");
        sizes.push(rooms.len());
        seen.extend(rooms.iter().map(|it| json!([it["group"], it["room"]])));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    let expected: Vec<_> = expected.iter().map(|(group, room)| json!([group, room])).collect();
    assert_eq!((seen, sizes), (expected, vec![2, 1]));
    for wrong in ["limit=0", "limit=1001", "after=nothing"] {
        let (status, _) =
            operate(&three.home, Method::GET, &format!("/servers/{OTHER}?{wrong}")).await;
        assert_eq!(status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn of_a_server_that_is_denied_nothing_in_a_room_is_looked_at() {
    let server = Server::start_with(|config| {
        as_in_tests(config, HOME);
        config.others.deny = vec![OTHER.parse().unwrap()];
    })
    .await;
    for content in [json!(7), json!({"v": 1, "frames": 7})] {
        for _ in 0..30 {
            hand_in_of_room(&server, OTHER, "!room", &content).await;
        }
    }
    let (status, _) = operate(&server, Method::GET, "/servers/b.example").await;
    assert_eq!(status, 404, "nothing of it is known");
    for _ in 0..30 {
        hand_in_of_room(&server, THIRD, "!room", &json!(7)).await;
    }
    let (_, shown) = operate(&server, Method::GET, "/servers/c.example").await;
    assert_eq!((&shown["state"], &shown["malformed"]), (&json!("shut"), &json!(30)), "{shown}");
}
