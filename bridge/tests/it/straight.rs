//! A few events are taken in and routed in one commit, and nothing overtakes by it.

use std::{future::poll_fn, task::Poll};

use causeway_bridge::{
    domain::{
        effect::InGroup,
        lane::Lane,
        portal::PortalId,
        said::{Relayed, Said},
    },
    services::{
        Step,
        from_matrix::{self, Straight},
        reconcile,
    },
    steps::Steps,
    storage::{
        inbox::{Accepted, FEW},
        outbox::Head,
        reading,
    },
};
use causeway_store::Script;
use ruma::RoomId;
use serde_json::{Value, json, value::to_raw_value};

use crate::{harness::Bridge, world::World};

struct Way {
    bridge: Bridge,
    straight: Straight,
    portal: PortalId,
    room: String,
}

impl Way {
    /// A room with Al in it, of which all is routed, and no doubt.
    async fn begin() -> Self {
        let bridge = Bridge::start().await;
        let portal = bridge.portal(1).await;
        bridge.drain().await;
        let room = bridge.portal_now(portal).await.room.unwrap().to_string();
        let so_far: Vec<Value> = bridge.stub.look(|rooms| rooms.events.clone());
        bridge.push(&so_far).await;
        let straight = Straight::default();
        straight.open(&bridge.spine);
        let way = Self { bridge, straight, portal, room };
        way.bridge.push(&[way.event(0)]).await;
        way.read_on().await;
        way.route().await;
        way
    }

    /// Reads what the homeserver has, to the end.
    async fn read_on(&self) {
        let spine = &self.bridge.spine;
        reconcile::look(spine).await.unwrap();
        let gaps = reading::gaps(&mut spine.db.read().await.unwrap()).await.unwrap();
        for gap in gaps {
            reconcile::fill(spine, &gap.room).await.unwrap();
        }
    }

    fn event(&self, n: usize) -> Value {
        self.bridge.stub.look(|rooms| {
            let text = json!({"msgtype": "m.text", "body": n.to_string()});
            rooms.event(&self.room, "@al:x", "m.room.message", None, text);
            rooms.events.last().unwrap().clone()
        })
    }

    async fn accept(&self, events: &[Value]) -> Option<Accepted> {
        let raw: Vec<_> = events.iter().map(|event| to_raw_value(event).unwrap()).collect();
        self.straight.accept(self.bridge.spine.now(), &raw).await
    }

    async fn route(&self) {
        while from_matrix::step(&self.bridge.spine).await.unwrap() == Step::Did {}
    }

    /// What is on its way into the group, in its order.
    async fn relayed(&self) -> Vec<String> {
        let mut tx = self.bridge.spine.db.begin().await.unwrap();
        let lane = Lane::ToNative(self.portal);
        let Head::Rows(rows) = self.bridge.first(tx.conn(), &lane).await else { panic!() };
        let said = rows.into_iter().filter_map(|row| match row.entry.deed {
            InGroup::Say(Relayed { said: Said::Text(text, _), .. }) => Some(text.body),
            InGroup::Announce(..) | InGroup::Notice(_) => None,
        });
        said.collect()
    }

    /// Rows of the inbox that are in this state, and how many of them hold an event.
    async fn rows(&self, state: i64) -> (i64, i64) {
        let mut read = self.bridge.spine.db.read().await.unwrap();
        sqlx::query_as("SELECT count(*), count(sealed) FROM inbox WHERE state = $1")
            .bind(state)
            .fetch_one(read.conn())
            .await
            .unwrap()
    }
}

fn new(new: u64, repeated: u64) -> Accepted {
    Accepted { new, repeated, quarantined: 0 }
}

#[tokio::test]
async fn events_are_taken_in_and_routed_in_one_commit() {
    let way = Way::begin().await;
    let before = way.bridge.spine.db.counts();
    let events = [way.event(1), way.event(2)];
    assert_eq!(way.accept(&events).await, Some(new(2, 0)));
    let after = way.bridge.spine.db.counts();
    assert_eq!((after.commits, after.transactions), (before.commits + 1, before.transactions + 1));
    assert_eq!(way.rows(0).await, (0, 0));
    assert_eq!(way.rows(1).await.1, 0);
    assert_eq!(way.relayed().await, ["0", "1", "2"]);
}

#[tokio::test]
async fn an_event_that_comes_again_is_routed_once() {
    let way = Way::begin().await;
    let (one, two) = (way.event(1), way.event(2));
    let twice = [one.clone(), two.clone(), one.clone()];
    assert_eq!(way.accept(&twice).await, Some(new(2, 1)));
    assert_eq!(way.accept(&[two, way.event(3)]).await, Some(new(1, 1)));
    assert_eq!(way.accept(&[one]).await, Some(new(0, 1)));
    assert_eq!(way.relayed().await, ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn what_waits_goes_first() {
    let way = Way::begin().await;
    way.bridge.push(&[way.event(1), way.event(2)]).await;
    assert_eq!(way.rows(0).await, (2, 2));
    assert_eq!(way.accept(&[way.event(3)]).await, Some(new(1, 0)));
    assert_eq!(way.rows(0).await, (0, 0));
    assert_eq!(way.rows(1).await.1, 0);
    assert_eq!(way.relayed().await, ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn while_there_is_doubt_it_waits_with_its_bytes() {
    let way = Way::begin().await;
    let mut script = Script::default();
    reading::doubt(&mut script);
    way.bridge.spine.db.write(script, vec![]).await.unwrap();
    assert_eq!(way.accept(&[way.event(1)]).await, Some(new(1, 0)));
    assert_eq!(way.rows(0).await, (1, 1));
    assert_eq!(way.relayed().await, ["0"]);
    // What it was doubted for is there now, and goes first.
    way.read_on().await;
    way.route().await;
    assert_eq!(way.relayed().await, ["0", "1"]);
}

#[tokio::test]
async fn a_room_with_a_gap_waits_and_no_other() {
    let way = Way::begin().await;
    for (room, is_routed) in [("!elsewhere:x", true), (way.room.as_str(), false)] {
        let mut tx = way.bridge.spine.db.begin().await.unwrap();
        reading::open_gap(&mut tx, &RoomId::parse(room).unwrap(), None).await.unwrap();
        tx.commit().await.unwrap();
        let before = way.relayed().await.len();
        assert_eq!(way.accept(&[way.event(before)]).await, Some(new(1, 0)));
        assert_eq!(way.relayed().await.len(), before + usize::from(is_routed), "{room}");
    }
    assert_eq!(way.rows(0).await, (1, 1));
}

#[tokio::test]
async fn what_may_be_of_a_room_in_the_making_is_kept_until_it_is_made() {
    let way = Way::begin().await;
    way.bridge.portal(2).await;
    let strange = json!({"event_id": "$strange", "room_id": "!strange:x", "sender": "@al:x",
                         "type": "m.room.message", "origin_server_ts": 5,
                         "content": {"msgtype": "m.text", "body": "hi"}});
    assert_eq!(way.accept(&[strange.clone(), way.event(1)]).await, Some(new(2, 0)));
    assert_eq!(way.rows(2).await, (1, 1));
    assert_eq!(way.relayed().await, ["0", "1"]);
    way.bridge.drain().await;
    way.route().await;
    assert_eq!(way.rows(2).await, (0, 0));
    assert_eq!(way.rows(0).await, (0, 0));
    assert_eq!(way.accept(&[strange]).await, Some(new(0, 1)));
}

/// Whether it comes to its end before it has been woken so often.
async fn comes_to_its_end(what: impl Future, wakes: usize) -> bool {
    tokio::pin!(what);
    let mut polled = 0;
    poll_fn(|cx| {
        polled += 1;
        match what.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if polled == wakes => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn what_was_kept_when_its_homeserver_broke_off_is_read_once() {
    let mut world = World::new().await;
    let running = world.begin(Steps::default()).await;
    world.kept = Some(reqwest::Client::new());
    let alice = world.person("alice").await;
    let group = alice.create_group("Walkers").await;
    let stub = world.stub.clone();
    let invited = async {
        alice.bridge(group, &["@al:x"]).await;
        stub.wait(|rooms| rooms.room_that_invites("@al:x")).await
    };
    let room = world.during(&running, invited).await;
    let say = |body: &str| {
        stub.change(|rooms| {
            let text = json!({"msgtype": "m.text", "body": body});
            rooms.event(&room, "@al:x", "m.room.message", None, text);
            to_raw_value(rooms.events.last().unwrap()).unwrap()
        })
    };
    stub.change(|rooms| rooms.membership(&room, "@al:x", "@al:x", "join").unwrap());
    say("hello");
    let heard = alice.wait("a first word", |read| read.iter().any(|read| read.body == "hello"));
    world.during(&running, heard).await;

    let (straight, spine) = (Straight::default(), &running.spine);
    straight.open(spine);
    let (mut broke_off, mut kept) = (0, vec!["hello".to_owned()]);
    // How often it is woken is as threads happen to run.
    for (n, wakes) in (1..=12).cycle().enumerate() {
        let (raw, body) = ([say(&n.to_string())], n.to_string());
        let is_done = comes_to_its_end(straight.accept(spine.now(), &raw), wakes).await;
        // Whatever was begun has ended when somebody else's turn has.
        spine.db.begin().await.unwrap().commit().await.unwrap();
        let known = "SELECT EXISTS (SELECT 1 FROM inbox WHERE event_id = $1 AND state = 1)";
        let event: Value = serde_json::from_str(raw[0].get()).unwrap();
        let mut read = spine.db.read().await.unwrap();
        let is_kept: bool = sqlx::query_scalar(known)
            .bind(event["event_id"].as_str())
            .fetch_one(read.conn())
            .await
            .unwrap();
        drop(read);
        assert!(is_kept || !is_done);
        if is_kept {
            alice.wait(&body, |read| read.iter().any(|read| read.body == body)).await;
            kept.push(body);
        }
        broke_off += usize::from(is_kept && !is_done);
        if broke_off == 3 {
            break;
        }
    }
    assert_eq!(alice.mirrored(), kept);
    running.drop_dead().await;
}

#[tokio::test]
async fn what_cannot_go_this_way_is_left_whole() {
    let way = Way::begin().await;
    let many: Vec<Value> = (1..=FEW + 1).map(|n| way.event(n)).collect();
    assert_eq!(way.accept(&many).await, None);
    assert_eq!(way.accept(&[]).await, None);
    assert_eq!(way.accept(&[way.event(1), json!({"event_id": 5})]).await, None);
    let before = way.rows(1).await;
    way.bridge.spine.db.close().await;
    assert_eq!(way.accept(&[way.event(2)]).await, None);
    assert_eq!(before.1, 0);
    // Nobody has opened it.
    let closed = Way { straight: Straight::default(), ..Way::begin().await };
    assert_eq!(closed.accept(&[closed.event(1)]).await, None);
    assert_eq!(closed.relayed().await, ["0"]);
}
