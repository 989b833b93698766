//! A native person whose keys do not come stops the bridge for nobody else.

use causeway_bridge::{clock, steps::Steps};
use causeway_groups::machine::Outgoing;
use causeway_protocol::{
    api::PostEnvelopes,
    content::{Content, Text, TextKind},
    envelope::{Kind, Submission},
    ids::{ClientId, GroupId},
};

use crate::{people::Person, stub::Stub, world::World};

/// More than the bridge holds of one sender.
const MANY: usize = 320;

impl Person {
    async fn posts(&self, group: GroupId, envelopes: Vec<Submission>) {
        let envelopes = PostEnvelopes { envelopes, count: None };
        self.client.http().post_envelopes(group, &envelopes).await.unwrap();
    }

    /// Says what nobody can open: these are the keys.
    async fn says_without_keys(&self, group: GroupId, bodies: &[String]) -> Vec<Submission> {
        let outgoing = |(n, body): (u8, &String)| {
            let text = Text {
                kind: TextKind::Text,
                body: body.clone(),
                html: None,
                reply_to: None,
                mirror: None,
            };
            let mut id = [n; 16];
            getrandom::fill(&mut id).unwrap();
            Outgoing { client_id: ClientId::new(id), ttl_s: 0, content: Content::Text(text) }
        };
        let items: Vec<_> = bodies.iter().map(|body| outgoing((0, body))).collect();
        // A chain that nobody has.
        self.client.prepare(group).await.unwrap();
        let mut tx = self.client.db().begin().await.unwrap();
        self.client.machine().rotate(&mut tx, group).await.unwrap();
        let batch = self.client.machine().seal(&mut tx, clock::now(), group, &items).await;
        tx.commit().await.unwrap();
        let all = batch.unwrap().submissions;
        let (messages, keys) = all.into_iter().partition(|one| one.kind == Kind::Message);
        self.posts(group, messages).await;
        keys
    }
}

/// What this person's ghost has said in the room, when it has said so much.
async fn said(stub: &Stub, ghost: &str, count: usize) -> Vec<String> {
    stub.wait(|rooms| {
        let of = |event: &&serde_json::Value| {
            event["type"] == "m.room.message" && event["sender"] == ghost
        };
        let said = rooms.events.iter().filter(of);
        let said: Vec<_> =
            said.map(|event| event["content"]["body"].as_str().unwrap().to_owned()).collect();
        (said.len() >= count).then_some(said)
    })
    .await
}

#[tokio::test]
async fn who_gives_the_bridge_no_keys_stops_his_own_words_only() {
    let mut world = World::new().await;
    let bridge = world.begin(Steps::default()).await;
    let (mallory, alice) = (world.person("mallory").await, world.person("alice").await);
    let (his, hers) = (mallory.create_group("his").await, alice.create_group("hers").await);
    let stub = world.stub.clone();
    let bridged = async {
        mallory.bridge(his, &["@al:x"]).await;
        stub.wait(|rooms| rooms.room_that_invites("@al:x")).await;
        alice.bridge(hers, &["@bo:x"]).await;
        stub.wait(|rooms| rooms.room_that_invites("@bo:x")).await;
    };
    world.during(&bridge, bridged).await;
    let bodies: Vec<String> = (0..MANY).map(|n| n.to_string()).collect();
    let keys = mallory.says_without_keys(his, &bodies).await;
    let heard = async {
        alice.say(hers, &["hello".to_owned()]).await;
        assert_eq!(said(&stub, "@causeway_alice:b.example", 1).await, ["hello"]);
    };
    world.during(&bridge, heard).await;
    // Nothing of it is lost when the bridge dies, and all of it is said when the keys come.
    bridge.drop_dead().await;
    let bridge = world.begin(Steps::default()).await;
    mallory.posts(his, keys).await;
    let heard = async { said(&stub, "@causeway_mallory:b.example", MANY).await };
    assert_eq!(world.during(&bridge, heard).await, bodies);
    let heard = async {
        mallory.say(his, &["later".to_owned()]).await;
        said(&stub, "@causeway_mallory:b.example", MANY + 1).await
    };
    assert_eq!(world.during(&bridge, heard).await[MANY..], ["later"]);
    bridge.drop_dead().await;
}
