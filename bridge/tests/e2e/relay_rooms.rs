//! A group on three homeservers that federate over TLS: what is for all goes by a room of the agents, which
//! homeservers and whoever is in it may spoil, and nothing is lost by it.

use causeway_bridge::{domain::relay_room::MESSAGE, gateway::matrix::Matrix};
use causeway_protocol::{ids::GroupId, roster::Scheme};
use futures_util::future::join_all;
use ruma::{OwnedRoomId, OwnedUserId};
use serde_json::{Value, json, value::to_raw_value};
use tokio::time::timeout;

use crate::{
    backup::{causeway_run, done},
    people::{PATIENCE, Person, Read},
    proxy::Proxy,
    servers::{Side, assert_nothing_is_read, put_back, several, several_behind},
};

const COUNT: usize = 60;

/// Three servers, with one person of each in a group.
pub(crate) struct Garden {
    pub(crate) sides: [Side; 3],
    people: [Person; 3],
    group: GroupId,
}

impl Garden {
    async fn plant() -> Self {
        Self::plant_on(several().await).await
    }

    pub(crate) async fn plant_on(sides: [Side; 3]) -> Self {
        let alice = sides[0].person("alice").await;
        let (carol, erin) = (sides[1].person("carol").await, sides[2].person("erin").await);
        let group = alice.create_group_as("Garden", Scheme::SenderKeys).await;
        for (side, name, who) in [(&sides[1], "carol", &carol), (&sides[2], "erin", &erin)] {
            alice.add(group, &format!("{name}:{}", side.name())).await;
            alice.say(group, &[format!("hello {name}")]).await;
            who.wait("a welcome", |read| !read.is_empty()).await;
        }
        let garden = Self { sides, people: [alice, carol, erin], group };
        for nth in 0..3 {
            // Whose keys are with whom.
            garden.say(nth, "hello all").await;
        }
        garden
    }

    /// The operator's view of the group at one of them.
    async fn replicas(&self, nth: usize) -> Value {
        let causeway = &self.sides[nth].causeway;
        let path = format!("groups/{}/replicas", self.group);
        let url = format!("{}/_causeway/admin/v1/{path}", causeway.appservice_url());
        let token = causeway.admin_token().unwrap();
        let answer = reqwest::Client::new().get(url).bearer_auth(token.expose()).send().await;
        answer.unwrap().json().await.unwrap()
    }

    /// Waits until each sees both others in the room; which that is.
    pub(crate) async fn in_room(&self, other_than: Option<&OwnedRoomId>) -> OwnedRoomId {
        let is_in = async |nth: usize| loop {
            let shown = self.replicas(nth).await;
            let replicas = shown["replicas"].as_array().unwrap();
            let all = replicas.len() == 2 && replicas.iter().all(|it| it["in_room"] == true);
            let room =
                shown["relay_room"].as_str().map(|room| OwnedRoomId::try_from(room).unwrap());
            match room.filter(|room| all && Some(room) != other_than) {
                Some(room) => return room,
                None => tokio::task::yield_now().await,
            }
        };
        let all = async { tokio::join!(is_in(0), is_in(1), is_in(2)) };
        let (one, other, third) = timeout(PATIENCE, all).await.expect("all are in the room");
        assert!(one == other && other == third);
        one
    }

    /// One of its figures.
    pub(crate) async fn figure(&self, nth: usize, name: &str) -> u64 {
        let url = format!("{}/metrics", self.sides[nth].causeway.appservice_url());
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(name));
        line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
    }

    pub(crate) async fn posted(&self, nth: usize) -> u64 {
        self.figure(nth, "causeway_servers_room_events_total{way=\"out\"}").await
    }

    /// One says something, and the two others read it.
    async fn say(&self, nth: usize, word: &str) {
        self.say_many(nth, word, 1).await;
    }

    async fn say_many(&self, nth: usize, word: &str, count: usize) {
        let texts: Vec<String> = (0..count).map(|n| format!("{nth} {word} {n}")).collect();
        for some in texts.chunks(20) {
            self.people[nth].say(self.group, some).await;
        }
        for (_, who) in self.people.iter().enumerate().filter(|(other, _)| *other != nth) {
            let of = |read: &[Read]| -> Vec<String> {
                let bodies = read.iter().map(|read| read.body.clone());
                bodies.filter(|body| body.starts_with(&format!("{nth} {word} "))).collect()
            };
            who.wait("all of it", |read| of(read).len() >= count).await;
            assert_eq!(of(&who.read()), texts, "each once, in order");
        }
    }

    /// All say so many at once, and read what the others said: each once, in the order of each.
    pub(crate) async fn talk(&self, word: &str, count: usize) {
        let said = |nth: usize| (0..count).map(|n| format!("{nth} {word} {n}")).collect::<Vec<_>>();
        let of = |read: &[Read], other: usize| -> Vec<String> {
            let bodies = read.iter().map(|read| read.body.clone());
            bodies.filter(|body| body.starts_with(&format!("{other} {word} "))).collect()
        };
        let talking = self.people.iter().enumerate().map(async |(nth, who)| {
            for some in said(nth).chunks(10) {
                who.say(self.group, some).await;
            }
        });
        join_all(talking).await;
        for (nth, who) in self.people.iter().enumerate() {
            for other in (0..3).filter(|other| *other != nth) {
                who.wait("all of it", |read| of(read, other).len() >= count).await;
                assert_eq!(of(&who.read(), other), said(other), "each once, in order");
            }
        }
    }

    fn agent(&self, nth: usize) -> (Matrix, OwnedUserId) {
        let side = &self.sides[nth];
        let user = format!("@_causeway:{}", side.name()).try_into().unwrap();
        (side.synapse.matrix().clone(), user)
    }
}

#[tokio::test]
async fn sixty_messages_reach_two_other_homeservers_by_a_few_events_of_a_room() {
    let garden = Garden::plant().await;
    let room = garden.in_room(None).await;
    garden.say(1, "first by the room").await;
    let before = garden.posted(1).await;
    assert!(before > 0);
    garden.say_many(1, "many", COUNT).await;
    let events = garden.posted(1).await - before;
    println!("{events} events for {COUNT} messages");
    assert!((1..=20).contains(&events), "{events} events for {COUNT} messages");
    assert_eq!(garden.figure(1, "causeway_servers_room_missed_total").await, 0);
    for nth in [0, 2] {
        assert!(
            garden.figure(nth, "causeway_servers_room_events_total{way=\"in\"}").await >= events
        );
    }
    for nth in 0..3 {
        assert_nothing_is_read(garden.sides[nth].synapse.dir(), &["1 many 0", "by the room"]);
    }
    // Nobody but the agents is there, and nobody else gets in.
    let (home, agent) = garden.agent(0);
    let state = home.whole_state(&agent, &room).await.unwrap();
    let members = state.iter().filter(|event| event.kind == "m.room.member");
    assert_eq!(members.count(), 3);
    let mallory = garden.sides[0].synapse.register("mallory", "secret of mallory").await.unwrap();
    assert!(mallory.join(&room).await.is_err());

    // Whose last member is out leaves by itself; when the group is closed all do, and the home's agent last.
    let erin = format!("erin:{}", garden.sides[2].name()).parse().unwrap();
    garden.people[0].client.remove(garden.group, &erin).await.unwrap();
    let (_, third) = garden.agent(2);
    let has_left = async {
        loop {
            let state = home.whole_state(&agent, &room).await.unwrap();
            let of_third = state.iter().find(|event| event.state_key == third.as_str()).unwrap();
            if of_third.content["membership"] == "leave" {
                return of_third.sender.clone();
            }
        }
    };
    assert_eq!(timeout(PATIENCE, has_left).await.expect("it leaves"), third, "by itself");
    garden.people[0].client.close_group(garden.group).await.unwrap();
    let all_left = async {
        while !home.joined_rooms(&agent).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, all_left).await.expect("the home's agent leaves");
    let (second, agent) = garden.agent(1);
    assert_eq!(second.joined_rooms(&agent).await.unwrap(), Vec::<OwnedRoomId>::new());
    assert_eq!(garden.replicas(0).await["relay_room"], Value::Null);
}

#[tokio::test]
async fn a_room_that_is_spoiled_costs_nothing_but_the_links_time() {
    let garden = Garden::plant().await;
    let room = garden.in_room(None).await;
    // Somebody puts an agent out of the room: the links carry, and it is let in again.
    let (home, agent) = garden.agent(0);
    let (_, third) = garden.agent(2);
    home.kick(&agent, &room, &third, "by hand").await.unwrap();
    garden.say_many(1, "without the third", 10).await;
    garden.say_many(2, "of the third", 10).await;
    garden.in_room(None).await;
    garden.say_many(1, "with the third", 10).await;
    // The home's agent is out: nobody can come back, and there is another room.
    home.leave(&agent, &room).await.unwrap();
    garden.say_many(0, "without a room", 10).await;
    garden.say_many(1, "without the home", 10).await;
    let other = garden.in_room(Some(&room)).await;
    garden.say_many(2, "by the new room", 10).await;
    // Who is in the room says what he likes there: for others, for himself, and without sense.
    let (hostile, user) = garden.agent(2);
    let refused = garden.figure(0, "causeway_servers_refused_total").await;
    let carol = format!("carol:{}", garden.sides[1].name()).parse().unwrap();
    let carol = garden.people[0].client.http().account(&carol).await.unwrap().list;
    let forged = json!({
        "v": 1, "group": garden.group, "stream": "AAAAAAAAAAAAAAAAAAAAAA", "seq": 1,
        "envelopes": [{
            "kind": "message", "group": garden.group, "epoch": 1,
            "sender": {"account": carol.account, "device": carol.devices[0]},
            "to": "broadcast", "ttl_ms": 60_000, "payload": "AAAA",
        }],
        "frames": {garden.sides[0].name(): {"link": "AAAAAAAAAAAAAAAAAAAAAA", "seq": 1}},
    });
    let sends = [forged, json!({}), json!({"v": 1, "frames": []})];
    for (nth, content) in sends.iter().enumerate() {
        let content = to_raw_value(content).unwrap();
        let txn = format!("hostile {nth}");
        hostile.post(&user, &other, (MESSAGE, &txn), &content).await.unwrap();
    }
    let counted = async {
        while garden.figure(0, "causeway_servers_malformed_total").await < 2
            || garden.figure(0, "causeway_servers_refused_total").await <= refused
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, counted).await.expect("it is refused and counted");
    for nth in 0..3 {
        garden.say(nth, "all the same").await;
    }
}

#[tokio::test]
async fn through_kills_and_a_copy_put_back_the_room_goes_on() {
    let mut garden = Garden::plant().await;
    garden.in_room(None).await;
    done(&causeway_run(
        garden.sides[2].causeway.dir(),
        &["backup", "create", "copy", "--output", "json"],
    ));
    garden.say_many(1, "after the copy", 10).await;
    for nth in [1, 2, 0] {
        garden.sides[nth].causeway.kill().unwrap();
        garden.sides[nth].causeway.start().await.unwrap();
        garden.say_many((nth + 1) % 3, &format!("after a start of {nth}"), 10).await;
    }
    let Garden { sides, people, group } = &mut garden;
    put_back(&mut sides[2], async {
        people[1].say(*group, &["to who was put back".to_owned()]).await;
        let has = |read: &[Read]| read.iter().any(|read| read.body == "to who was put back");
        people[2].wait("words after the restore", has).await;
        people[0].wait("words after the restore", has).await;
    })
    .await;
    garden.in_room(None).await;
    let before = garden.posted(0).await;
    garden.say_many(0, "by the room again", 10).await;
    assert!(garden.posted(0).await > before);
    for who in &garden.people {
        let mut bodies: Vec<_> = who.read().into_iter().map(|read| read.body).collect();
        let all = bodies.len();
        bodies.sort();
        bodies.dedup();
        assert_eq!(bodies.len(), all, "each once");
    }
}

#[tokio::test]
async fn what_homeservers_keep_of_a_room_comes_by_the_links_and_the_others_read_the_room() {
    let (sides, proxies) = several_behind(Proxy::start).await;
    let garden = Garden::plant_on(sides).await;
    let room = garden.in_room(None).await;
    let came =
        async |nth| garden.figure(nth, "causeway_servers_room_events_total{way=\"in\"}").await;
    let missed = async |nth| garden.figure(nth, "causeway_servers_room_missed_total").await;
    let gaps = async |nth| garden.figure(nth, "causeway_servers_gaps_total").await;

    // One does not show its agent what stands in the room.
    proxies[2].keep(true);
    let before = (came(0).await, came(2).await, missed(1).await, garden.posted(1).await);
    garden.say_many(1, "kept from the third", COUNT).await;
    let kept = proxies[2].kept();
    let after = (came(0).await, came(2).await, missed(1).await, garden.posted(1).await);
    println!("{kept} events kept from one: {before:?}, then {after:?} came, came, missed, posted");
    assert!(kept > 0, "nothing was kept back");
    assert!(after.0 > before.0, "the others do not read the room");
    assert_eq!(after.1, before.1, "it came by the room");
    assert!(after.2 > before.2, "nothing was missed");
    assert!(after.3 > before.3, "nothing was posted");

    // One says that it took what its agent posts, and did not.
    proxies[2].keep(false);
    proxies[0].swallow(true);
    let before = (came(1).await, came(2).await, missed(0).await, proxies[0].kept());
    garden.say_many(0, "swallowed by the home", COUNT).await;
    let after = (came(1).await, came(2).await, missed(0).await, proxies[0].kept());
    println!("what one swallows: {before:?}, then {after:?} came, came, missed, swallowed");
    assert_eq!((after.0, after.1), (before.0, before.1), "it came by the room");
    assert!(after.2 >= before.2 + 2, "both miss it");
    assert!(after.3 > before.3, "nothing was swallowed");

    // Nothing was lost, and no room is made anew for it.
    proxies[0].swallow(false);
    for nth in 0..3 {
        garden.say(nth, "as before").await;
        assert_eq!(gaps(nth).await, 0);
    }
    assert_eq!(garden.in_room(None).await, room);
}
