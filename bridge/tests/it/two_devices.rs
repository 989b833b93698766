//! A native with two devices is one person in the room, and hears what is said there on both.

use std::sync::{Arc, Mutex, PoisonError};

use causeway_bridge::{clock, steps::Steps};
use causeway_groups::{
    SCHEMA, Vault,
    machine::{Received, What},
    sdk::{Client, Keep, KeepError, Linking},
};
use causeway_protocol::{content::Content, ids::GroupId};
use causeway_store::{Db, Lock, Options, Tx};
use futures_util::future::BoxFuture;

use crate::{
    people::{Person, outgoing, text},
    world::World,
};

/// What the second device has read.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Keep for Heard {
    fn keep<'a>(
        &'a self,
        _: &'a Client,
        _: &'a mut Tx,
        received: Vec<Received>,
    ) -> BoxFuture<'a, Result<(), KeepError>> {
        let texts = received.into_iter().filter_map(|received| match received.what {
            What::Message(incoming) => match incoming.content {
                Content::Text(text) => Some(text.body),
                _ => None,
            },
            _ => None,
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(texts);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Another device of this person.
async fn second(person: &Person, folder: &std::path::Path, heard: Heard) -> Client {
    let path = folder.join("client.db");
    let db = Db::open(Options { path, lock: Lock::Shared, schemas: &[SCHEMA] }).await.unwrap();
    let vault = Vault::open(&db, &folder.join("storage.key")).await.unwrap();
    let url = person.client.http().base();
    let linking = Linking::begin(db, vault, url, Arc::new(heard), clock::now).await.unwrap();
    let link = linking.link().clone();
    let come = async {
        let answer = linking.answer().await.unwrap();
        linking.accept(answer).await.unwrap()
    };
    let (client, linked) = tokio::join!(come, person.client.link_device(&link));
    linked.unwrap();
    person.client.bring_in().await.unwrap();
    client.sync().await.unwrap();
    client.chores().await.unwrap();
    client
}

async fn say(client: &Client, group: GroupId, body: &str) {
    client.prepare(group).await.unwrap();
    let mut tx = client.db().begin().await.unwrap();
    let items = [outgoing(text(body))];
    let batch = client.machine().seal(&mut tx, clock::now(), group, &items).await.unwrap();
    tx.commit().await.unwrap();
    client.post(&batch).await.unwrap();
}

#[tokio::test]
async fn both_devices_of_a_native_are_one_ghost_and_hear_the_room() {
    let mut world = World::new().await;
    let bridge = world.begin(Steps::default()).await;
    let alice = world.person("alice").await;
    let group = alice.create_group("Walkers").await;
    let stub = world.stub.clone();
    let told = async {
        alice.bridge(group, &["@al:x"]).await;
        let room = stub.wait(|rooms| rooms.room_that_invites("@al:x")).await;
        stub.change(|rooms| rooms.membership(&room, "@al:x", "@al:x", "join").unwrap());
        let is_said = async |body: &str| {
            let find = |event: &&serde_json::Value| {
                event["type"] == "m.room.message" && event["content"]["body"] == body
            };
            let event = stub.wait(|rooms| rooms.events.iter().find(find).cloned()).await;
            event["sender"].as_str().unwrap().to_owned()
        };
        alice.say(group, &["from the first".to_owned()]).await;
        assert_eq!(is_said("from the first").await, "@causeway_alice:b.example");

        let (folder, heard) = (tempfile::tempdir().unwrap(), Heard::default());
        let laptop = second(&alice, folder.path(), heard.clone()).await;
        say(&laptop, group, "from the second").await;
        assert_eq!(is_said("from the second").await, "@causeway_alice:b.example");
        alice.wait("the other's", |read| read.iter().any(|r| r.body == "from the second")).await;
        alice.say(group, &["and the first again".to_owned()]).await;
        assert_eq!(is_said("and the first again").await, "@causeway_alice:b.example");
        let ghosts = stub.look(|rooms| {
            let hers = |user: &&String| user.contains("causeway_alice");
            rooms.users.iter().filter(hers).count()
        });
        assert_eq!(ghosts, 1);

        let content = serde_json::json!({"msgtype": "m.text", "body": "hello both"});
        stub.change(|rooms| rooms.event(&room, "@al:x", "m.room.message", None, content));
        alice.wait("the room", |read| read.iter().any(|r| r.body == "hello both")).await;
        let mut stream = laptop.stream();
        loop {
            let rows = stream.next_rows().await.unwrap();
            let taken = laptop.receive(&rows).await.unwrap();
            stream.took(&taken).await;
            laptop.chores().await.unwrap();
            let heard = heard.0.lock().unwrap().clone();
            if heard.iter().any(|body| body == "hello both") {
                assert!(heard.contains(&"and the first again".to_owned()), "{heard:?}");
                break;
            }
        }
    };
    world.during(&bridge, told).await;
}
