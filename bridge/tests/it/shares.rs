//! What one account gets of the bridge: the rest is refused in words, and asked for again.

use causeway_bridge::{domain::share::Pattern, steps::Steps, storage::stats};
use causeway_protocol::{
    content::{BridgeRequest, Content},
    ids::GroupId,
};
use serde_json::Value;

use crate::{
    people::Person,
    world::{Running, World},
};

impl Person {
    /// Asks for these people to be invited, as `group bridge` does where the bridge is in.
    async fn ask(&self, group: GroupId, invite: &[&str]) {
        let invite = Some(invite.iter().map(|user| (*user).to_owned()).collect());
        self.send(group, vec![Content::BridgeRequest(BridgeRequest { room: None, invite })]).await;
    }

    async fn is_told(&self, part: &str) {
        self.wait(part, |read| read.iter().any(|read| read.body.contains(part))).await;
    }
}

/// As `GET shares` has it: each account with its rooms, invitations and refusals.
async fn shares(bridge: &Running) -> Vec<(String, i64, i64, i64)> {
    let url = format!("{}/_causeway/admin/v1/shares", bridge.url);
    let client = reqwest::Client::new();
    let answer = client.get(url).bearer_auth("admin").send().await.unwrap();
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let row = |row: &Value| {
        let number = |name: &str| row[name].as_i64().unwrap();
        let account = row["account"].as_str().unwrap().to_owned();
        (account, number("rooms"), number("invites"), number("refused"))
    };
    answer["shares"].as_array().unwrap().iter().map(row).collect()
}

#[tokio::test]
async fn an_account_has_so_many_rooms_and_invitations_a_day() {
    let mut world = World::new().await;
    world.terms.send_modify(|terms| (terms.rooms, terms.invites) = (Some(2), Some(3)));
    let bridge = world.begin(Steps::default()).await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let stub = world.stub.clone();
    let story = async {
        let mut groups = Vec::new();
        for number in 0..3 {
            let group = alice.create_group(&format!("g{number}")).await;
            alice.bridge(group, &["@a:x"]).await;
            groups.push(group);
        }
        alice.is_told("bridge.rooms_per_day").await;
        // She is told of the first two when their rooms are there.
        alice
            .wait("two rooms", |read| {
                read.iter().filter(|read| read.body.contains("bridged into the Matrix")).count()
                    == 2
            })
            .await;
        alice.ask(groups[0], &["@b:x", "@c:x", "@d:x"]).await;
        alice.is_told("2 of those whom alice:b.example asked for are not invited").await;
        // Whoever is another has a share of his own.
        let own = bob.create_group("bob's").await;
        bob.bridge(own, &["@z:x"]).await;
        stub.wait(|rooms| rooms.room_that_invites("@z:x")).await;
        groups
    };
    let groups = world.during(&bridge, story).await;
    // The third let-in and its request are each refused.
    let expected = [("alice:b.example".to_owned(), 2, 3, 3), ("bob:b.example".to_owned(), 1, 1, 0)];
    assert_eq!(shares(&bridge).await, expected);
    let mut read = bridge.spine.db.read().await.unwrap();
    let portals = stats::portals(&mut read, 0, 9).await.unwrap();
    drop(read);
    let refused: Vec<&str> = portals.iter().filter_map(|p| p.refused.as_deref()).collect();
    assert_eq!(refused, ["alice:b.example met bridge.rooms_per_day"]);
    // The operator lets her have more, while the bridge runs.
    world.terms.send_modify(|terms| (terms.rooms, terms.invites) = (None, None));
    let stub = world.stub.clone();
    let again = async {
        alice.ask(groups[2], &["@e:x"]).await;
        stub.wait(|rooms| rooms.room_that_invites("@e:x")).await
    };
    world.during(&bridge, again).await;
}

#[tokio::test]
async fn who_may_not_ask_is_told_so_and_gets_no_room() {
    let mut world = World::new().await;
    let allow = vec![Pattern::parse("alice", "b.example").unwrap()];
    world.terms.send_modify(|terms| terms.allow = allow);
    let bridge = world.begin(Steps::default()).await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let stub = world.stub.clone();
    let story = async {
        let group = bob.create_group("bob's").await;
        bob.bridge(group, &["@z:x"]).await;
        bob.is_told("bridge.allow").await;
        let other = alice.create_group("alice's").await;
        alice.bridge(other, &["@a:x"]).await;
        stub.wait(|rooms| rooms.room_that_invites("@a:x")).await;
    };
    world.during(&bridge, story).await;
    assert_eq!(world.stub.look(|rooms| rooms.room_that_invites("@z:x")), None);
    assert_eq!(shares(&bridge).await[0], ("bob:b.example".to_owned(), 0, 0, 2));
}
