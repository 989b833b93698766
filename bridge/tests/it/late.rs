//! What is kept of messages that may come to another server behind a cut, and how they go again.

use causeway_bridge::{
    domain::{
        MessageRef,
        effect::{Effect, InGroup},
        lane::Lane,
        portal::PortalId,
    },
    services::{self, from_matrix, late::Waits},
    storage::{
        expired,
        late::{self, Late},
        links::{self, Link},
        outbox::{self, Head, Stored},
        portals,
    },
};
use causeway_groups::machine::NewGroup;
use causeway_protocol::{
    ids::{ClientId, DeviceId, EnvelopeId, Epoch, Timestamp},
    roster::Scheme,
};
use causeway_store::Script;
use ruma::EventId;
use serde_json::json;

use crate::harness::Bridge;

const WEEK: u64 = 7 * 24 * 60 * 60 * 1_000;
const FIRST: EnvelopeId = EnvelopeId::new([1; 16]);
const SECOND: EnvelopeId = EnvelopeId::new([2; 16]);

/// What waits in the group's lane.
async fn waiting(bridge: &Bridge, portal: PortalId) -> Vec<Stored<InGroup>> {
    let mut tx = bridge.spine.db.begin().await.unwrap();
    match bridge.first(tx.conn(), &Lane::ToNative(portal)).await {
        Head::Rows(rows) => rows,
        Head::Unreadable(row) => panic!("{row:?}"),
    }
}

/// The server has the first row, under this name and epoch.
async fn is_posted(bridge: &Bridge, portal: PortalId, name: EnvelopeId, epoch: u32) {
    let row = waiting(bridge, portal).await.first().expect("a row").id;
    let mut script = Script::default();
    late::keep(&mut script, &[(row, name)], Epoch(epoch), bridge.spine.now());
    outbox::done(&mut script, &[row]);
    bridge.spine.db.begin().await.unwrap().commit_with(script).await.unwrap();
}

async fn failed(bridge: &Bridge) -> Vec<Late> {
    let mut read = bridge.spine.db.read().await.unwrap();
    late::failed(read.conn(), 0).await.unwrap()
}

async fn note(bridge: &Bridge, name: EnvelopeId) -> bool {
    let mut tx = bridge.spine.db.begin().await.unwrap();
    let is_kept = late::note(&mut tx, name).await.unwrap();
    tx.commit().await.unwrap();
    is_kept
}

async fn again(bridge: &Bridge, of: &Late) {
    let mut tx = bridge.spine.db.begin().await.unwrap();
    late::again(&mut tx, of).await.unwrap();
    tx.commit().await.unwrap();
}

async fn end(bridge: &Bridge, now: Timestamp) {
    let mut tx = bridge.spine.db.begin().await.unwrap();
    late::end(&mut tx, now).await.unwrap();
    tx.commit().await.unwrap();
}

fn notice(text: &str) -> Vec<Effect> {
    vec![Effect::InGroup(InGroup::Notice(text.to_owned()))]
}

#[tokio::test]
async fn what_came_too_late_elsewhere_stands_in_the_outbox_again_as_it_was() {
    let bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.keep(portal, b"one", notice("one")).await;
    let before = waiting(&bridge, portal).await;
    let event = EventId::parse("$one").unwrap();
    let message = MessageRef { device: DeviceId::new([3; 32]), client_id: ClientId::new([4; 16]) };
    let link = Link { portal, event_id: event.clone(), message, message_id: FIRST };
    let mut script = Script::default();
    links::put(&mut script, &[link]);
    bridge.spine.db.begin().await.unwrap().commit_with(script).await.unwrap();

    is_posted(&bridge, portal, FIRST, 4).await;
    assert!(waiting(&bridge, portal).await.is_empty());
    assert!(failed(&bridge).await.is_empty(), "nobody has said that it failed");
    assert!(!note(&bridge, SECOND).await, "of this nothing is kept");
    assert!(note(&bridge, FIRST).await);
    let all = failed(&bridge).await;
    let (n, ends_at) = (all[0].n, bridge.spine.now().plus_ms(WEEK));
    let expected = Late { n, portal, message: FIRST, epoch: Epoch(4), anew: 0, ends_at };
    assert_eq!(all, [expected]);

    // Killed after that, it is looked at again; twice is once.
    again(&bridge, &all[0]).await;
    again(&bridge, &all[0]).await;
    assert!(failed(&bridge).await.is_empty());
    let after = waiting(&bridge, portal).await;
    assert_eq!(after.len(), 1);
    assert_eq!(after[0].entry, before[0].entry, "under its name, with its words, in its lane");

    // Sealed anew it has another name, by which its event is known from then on.
    is_posted(&bridge, portal, SECOND, 5).await;
    let mut read = bridge.spine.db.read().await.unwrap();
    let named: Vec<u8> = sqlx::query_scalar("SELECT message_id FROM links WHERE event_id = $1")
        .bind(event.as_str())
        .fetch_one(read.conn())
        .await
        .unwrap();
    drop(read);
    assert_eq!(named, SECOND.as_bytes());
    assert!(!note(&bridge, FIRST).await);
    assert!(note(&bridge, SECOND).await);
    let all = failed(&bridge).await;
    assert_eq!((all.len(), all[0].epoch, all[0].anew), (1, Epoch(5), 1));
    let mut tx = bridge.spine.db.begin().await.unwrap();
    late::forget(&mut tx, &all[0]).await.unwrap();
    tx.commit().await.unwrap();
    assert!(!note(&bridge, SECOND).await);
}

#[tokio::test]
async fn what_is_kept_for_that_ends_by_age_and_by_number() {
    let bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    let name = |n: u8| EnvelopeId::new([n; 16]);
    for n in 1..=3 {
        bridge.keep(portal, &[b'k', n], notice("kept")).await;
    }
    is_posted(&bridge, portal, name(1), 4).await;
    is_posted(&bridge, portal, name(2), 4).await;
    // As if many had been kept between these two.
    let mut tx = bridge.spine.db.begin().await.unwrap();
    sqlx::query("UPDATE late SET n = n + 4095 WHERE message_id = $1")
        .bind(name(2).as_bytes().as_slice())
        .execute(tx.conn())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    is_posted(&bridge, portal, name(3), 4).await;
    assert!(!note(&bridge, name(1)).await, "the oldest is gone");
    let now = bridge.spine.now();
    end(&bridge, now.plus_ms(WEEK - 1)).await;
    assert!(note(&bridge, name(2)).await);
    end(&bridge, now.plus_ms(WEEK)).await;
    assert!(!note(&bridge, name(3)).await, "it is over");
    assert!(note(&bridge, name(2)).await, "of this somebody is to be told first");
}

/// Neither more of them nor age ends in silence what not all have.
#[tokio::test]
async fn of_what_is_not_sealed_anew_the_room_is_told() {
    let bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    let event = EventId::parse("$kept").unwrap();
    let message = MessageRef { device: DeviceId::new([3; 32]), client_id: ClientId::new([4; 16]) };
    let link = Link { portal, event_id: event.clone(), message, message_id: FIRST };
    let mut script = Script::default();
    links::put(&mut script, &[link]);
    bridge.spine.db.begin().await.unwrap().commit_with(script).await.unwrap();
    bridge.keep(portal, b"one", notice("one")).await;
    is_posted(&bridge, portal, FIRST, 4).await;
    assert!(note(&bridge, FIRST).await);
    for n in 1..=2_u8 {
        bridge.keep(portal, &[b'm', n], notice("more")).await;
        is_posted(&bridge, portal, EnvelopeId::new([9 + n; 16]), 4).await;
        let mut tx = bridge.spine.db.begin().await.unwrap();
        sqlx::query("UPDATE late SET n = n + 5000 WHERE n > 1").execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(failed(&bridge).await.len(), 1, "more came, and it still is to be looked at");
    bridge.pass(WEEK);
    end(&bridge, bridge.spine.now()).await;
    let mut waits = Waits::default();
    assert!(services::late::step(&bridge.spine, &mut waits).await.unwrap().is_none());
    assert!(failed(&bridge).await.is_empty());
    let told = expired::of(&mut bridge.spine.db.read().await.unwrap(), portal).await.unwrap();
    assert_eq!(told.iter().map(|noted| &noted.event).collect::<Vec<_>>(), [&event]);
}

/// Somebody takes back in the portal's room what he said; the homeserver's transaction of that number says so.
async fn redact(bridge: &Bridge, portal: PortalId, event: &str, txn: &str) {
    let room = bridge.portal_now(portal).await.room.unwrap().to_string();
    let redaction = bridge.stub.look(|rooms| {
        let redacts = json!({ "redacts": event });
        rooms.event(&room, "@al:x", "m.room.redaction", None, redacts);
        rooms.events.last().unwrap().clone()
    });
    bridge.push_as(txn, &[redaction]).await;
    while from_matrix::step(&bridge.spine).await.unwrap() == services::Step::Did {}
}

#[tokio::test]
async fn what_was_taken_back_in_the_room_is_not_sealed_anew() {
    let bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.drain().await;
    for event in ["$taken_back:x", "$stays:x"] {
        bridge.keep(portal, event.as_bytes(), notice(event)).await;
        let name = if event == "$stays:x" { SECOND } else { FIRST };
        is_posted(&bridge, portal, name, 4).await;
        assert!(note(&bridge, name).await);
    }
    redact(&bridge, portal, "$taken_back:x", "1").await;
    let left: Vec<_> = failed(&bridge).await.into_iter().map(|of| of.message).collect();
    assert_eq!(left, [SECOND]);
}

/// The rows of a lane, as whoever posts them holds them, and then has them written down.
async fn are_posted(bridge: &Bridge, rows: &[Stored<InGroup>], name: EnvelopeId, epoch: u32) {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let mut script = Script::default();
    let named: Vec<_> = ids.iter().map(|id| (*id, name)).collect();
    late::keep(&mut script, &named, Epoch(epoch), bridge.spine.now());
    outbox::done(&mut script, &ids);
    bridge.spine.db.begin().await.unwrap().commit_with(script).await.unwrap();
}

#[tokio::test]
async fn what_is_taken_back_while_it_waits_to_go_again_does_not_go() {
    let bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.drain().await;
    for (txn, is_on_its_way) in [("1", false), ("2", true)] {
        let event = format!("$late-{is_on_its_way}:x");
        bridge.keep(portal, event.as_bytes(), notice(&event)).await;
        is_posted(&bridge, portal, FIRST, 4).await;
        assert!(note(&bridge, FIRST).await);
        again(&bridge, &failed(&bridge).await[0]).await;
        let held = waiting(&bridge, portal).await;
        assert_eq!(held.len(), 1);
        redact(&bridge, portal, &event, txn).await;
        if is_on_its_way {
            // The server has it all the same, and says again that it was late.
            are_posted(&bridge, &held, SECOND, 5).await;
            assert!(!note(&bridge, SECOND).await, "nothing is kept of it");
        }
        // The group is not there: whatever was tried is a dead letter.
        bridge.drain().await;
        assert!(waiting(&bridge, portal).await.is_empty());
        let mut read = bridge.spine.db.read().await.unwrap();
        let tried = sqlx::query_scalar("SELECT count(*) FROM dead_letters WHERE txn = $1");
        let tried: i64 = tried.bind(&held[0].entry.txn).fetch_one(read.conn()).await.unwrap();
        assert_eq!(tried, 0);
    }
}

#[tokio::test]
async fn what_is_taken_back_before_it_went_is_not_kept_to_be_sealed_anew() {
    let bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.drain().await;
    let room = bridge.portal_now(portal).await.room.unwrap().to_string();
    let so_far = bridge.stub.look(|rooms| rooms.events.clone());
    bridge.push_as("1", &so_far).await;
    bridge.drain().await;
    // What is being posted when it is taken back.
    bridge.keep(portal, b"$waits:x", notice("waits")).await;
    let held = waiting(&bridge, portal).await;
    redact(&bridge, portal, "$waits:x", "2").await;
    are_posted(&bridge, &held, FIRST, 4).await;
    assert!(!note(&bridge, FIRST).await);
    let rest = waiting(&bridge, portal).await;
    are_posted(&bridge, &rest, EnvelopeId::new([7; 16]), 4).await;
    // What comes in one transaction with what takes it back.
    let both = bridge.stub.look(|rooms| {
        let text = json!({"msgtype": "m.text", "body": "oh"});
        rooms.event(&room, "@al:x", "m.room.message", None, text);
        let said = rooms.events.last().unwrap().clone();
        let redacts = json!({ "redacts": said["event_id"] });
        rooms.event(&room, "@al:x", "m.room.redaction", None, redacts);
        [said, rooms.events.last().unwrap().clone()]
    });
    bridge.push_as("3", &both).await;
    while from_matrix::step(&bridge.spine).await.unwrap() == services::Step::Did {}
    let rows = waiting(&bridge, portal).await;
    assert!(matches!(rows[0].entry.deed, InGroup::Say(_)), "{rows:?}");
    are_posted(&bridge, &rows[..1], SECOND, 4).await;
    assert!(!note(&bridge, SECOND).await);
}

/// Most that may wait for an op is kept, and of the oldest beyond it its room is told.
#[tokio::test]
async fn beyond_4096_that_wait_for_an_op_the_rooms_of_the_oldest_are_told() {
    const BEYOND: i64 = 3;
    let bridge = Bridge::start().await;
    let client = &bridge.spine.native;
    let new = NewGroup {
        scheme: Scheme::SharedKey,
        suite: None,
        name: "Walkers".to_owned(),
        description: String::new(),
        members_may_add: true,
        is_channel: false,
        max_members: 50,
        ttl_s: 2_592_000,
    };
    let mut tx = bridge.spine.db.begin().await.unwrap();
    let now = bridge.spine.now();
    let (group, op) = client.machine().create_group(&mut tx, now, new).await.unwrap();
    client.install(&mut tx, group, &[op]).await.unwrap();
    let portal = portals::found(&mut tx, &bridge.spine.names, now, &group).await.unwrap().id;
    let mut script = Script::default();
    let linked = |n: u8| Link {
        portal,
        event_id: EventId::parse(format!("$event{n}")).unwrap(),
        message: MessageRef { device: DeviceId::new([3; 32]), client_id: ClientId::new([n; 16]) },
        message_id: EnvelopeId::new([n; 16]),
    };
    links::put(&mut script, &[1, 2, 3, 4].map(linked));
    tx.commit_with(script).await.unwrap();
    // The op of the next epoch has come to another server, and not here.
    let mut tx = bridge.spine.db.begin().await.unwrap();
    sqlx::query(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 4096 + $3)
         INSERT INTO late (n, txn, lane, portal, author, sealed, expires_at, ends_at, message_id,
            epoch, failed)
         SELECT n, 'txn' || n, 'lane', $1, 'al', x'00', $2, $2, CASE WHEN n < 5 THEN
            unhex(replace(printf('%16s', ''), ' ', printf('%02x', n))) ELSE randomblob(16) END,
            0, TRUE FROM n",
    )
    .bind(portal.0)
    .bind(i64::try_from(now.plus_ms(WEEK).0).unwrap())
    .bind(BEYOND)
    .execute(tx.conn())
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let mut waits: Waits = (1..=4_096 + BEYOND).collect();
    let again = services::late::step(&bridge.spine, &mut waits).await.unwrap();
    assert!(again.is_some(), "it is looked again for the op");
    assert_eq!(waits, (1 + BEYOND..=4_096 + BEYOND).collect());
    let mut left = bridge.spine.db.read().await.unwrap();
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM late").fetch_one(left.conn()).await.unwrap();
    assert_eq!(count, 4_096);
    drop(left);
    let told = expired::of(&mut bridge.spine.db.read().await.unwrap(), portal).await.unwrap();
    let told: Vec<_> = told.iter().map(|noted| noted.event.to_string()).collect();
    assert_eq!(told, ["$event1", "$event2", "$event3"]);
}
