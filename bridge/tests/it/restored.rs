//! What a bridge does whose database was put back.

use causeway_bridge::{
    domain::effect::{Effect, InRoom},
    services::{reconcile, restored, standing},
    storage,
};
use causeway_groups::machine::MOST_COMMITS;
use causeway_protocol::ids::Timestamp;

use serde_json::json;

use crate::{
    harness::{Bridge, START},
    stub::Fault,
};

async fn waiting(bridge: &Bridge) -> i64 {
    let mut read = bridge.spine.db.read().await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM portal_outbox WHERE lane LIKE '%/to_native'")
        .fetch_one(read.conn())
        .await
        .unwrap()
}

async fn go_on(bridge: &Bridge) {
    let spine = &bridge.spine;
    restored::go_on(&spine.db, spine.now(), 7).await.unwrap();
    // Nobody keeps anything for it: it never knew its place.
    let names = &spine.names;
    restored::ask(&spine.db, &spine.sealer, names, spine.now(), &spine.native).await.unwrap();
}

#[tokio::test]
async fn what_waits_in_a_copy_is_looked_for_and_the_groups_are_told_once() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.drain().await;
    let gone = bridge.say(portal, "alice:b.example", "one").await;
    bridge.drain().await;
    let before = waiting(&bridge).await;
    // The copy was made before that went, and put back when the homeserver had forgotten its name.
    bridge.pass(3 * 24 * 3_600_000);
    bridge.stub.forget_txns();
    bridge.keep(portal, &[1], vec![Effect::InRoom(InRoom::Say(gone))]).await;
    bridge.say(portal, "alice:b.example", "two").await;
    go_on(&bridge).await;
    go_on(&bridge).await;
    assert_eq!(waiting(&bridge).await, before + 1);
    bridge.drain().await;
    let said: Vec<_> = bridge.stub.said().into_iter().map(|(_, body)| body).collect();
    assert_eq!(said, ["one", "two"]);
}

#[tokio::test]
async fn what_was_said_late_by_others_does_not_end_the_search() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.drain().await;
    bridge.pass(3 * 3_600_000);
    let gone = bridge.say(portal, "alice:b.example", "one").await;
    let mut late = bridge.spoken("bob:b.example", "said three hours ago");
    late.sent_at = Some(Timestamp(START));
    bridge.keep(portal, &[77], vec![Effect::InRoom(InRoom::Say(late))]).await;
    bridge.drain().await;
    let times = bridge.stub.look(|rooms| rooms.events.clone());
    assert_eq!(times.last().unwrap()["origin_server_ts"], START);
    bridge.stub.forget_txns();
    bridge.keep(portal, &[1], vec![Effect::InRoom(InRoom::Say(gone))]).await;
    go_on(&bridge).await;
    bridge.drain().await;
    let said: Vec<_> = bridge.stub.said().into_iter().map(|(_, body)| body).collect();
    assert_eq!(said, ["one", "said three hours ago"]);
}

async fn behind(bridge: &Bridge) -> Option<u64> {
    let spine = &bridge.spine;
    let (bot, device) = (spine.names.bot(), spine.native.me().record.device_id);
    let known = standing::at_homeserver(&spine.matrix, bot, device).await.unwrap();
    standing::behind(&spine.db, known, 1).await.unwrap()
}

/// As a start does before anything else.
async fn opened(bridge: &Bridge) -> u64 {
    let mut tx = bridge.spine.db.begin().await.unwrap();
    storage::restored::is_uncompared(tx.conn()).await.unwrap();
    let since = storage::restored::uncompared_since(tx.conn()).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    since
}

async fn is_compared(bridge: &Bridge) {
    let mut tx = bridge.spine.db.begin().await.unwrap();
    storage::restored::is_compared(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_folder_that_was_put_back_whole_is_known_by_what_the_homeserver_keeps() {
    let bridge = Bridge::start().await;
    bridge.portal(1).await;
    bridge.drain().await;
    opened(&bridge).await;
    assert_eq!(behind(&bridge).await, None);
    is_compared(&bridge).await;
    let told = standing::tell(&bridge.spine, None).await.unwrap();
    opened(&bridge).await;
    assert_eq!(behind(&bridge).await, None);

    // The copy was made, and what was told after it is lost with the folder.
    let set = |count: u64| {
        let spine = &bridge.spine;
        let device = spine.native.me().record.device_id;
        let standing = causeway_bridge::gateway::matrix::Standing { device, count };
        async move { spine.matrix.put_standing(spine.names.bot(), &standing).await.unwrap() }
    };
    set(told + 1_000).await;
    // Whatever is counted before anybody is asked changes nothing, over starts.
    for _ in 0..3 {
        let mut tx = bridge.spine.db.begin().await.unwrap();
        sqlx::query("UPDATE commits SET n = n + 1000").execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
        assert!(opened(&bridge).await <= told + 100);
    }
    assert_eq!(behind(&bridge).await, Some(told + 1_000));
    let spine = &bridge.spine;
    restored::go_on(&spine.db, spine.now(), told + 1_000).await.unwrap();
    assert_eq!(behind(&bridge).await, None);

    // A homeserver that says what cannot be is believed once, and leaves numbers to go on with.
    set(u64::MAX >> 1).await;
    assert_eq!(behind(&bridge).await, Some(MOST_COMMITS));
}

#[tokio::test]
async fn a_gateway_that_knows_nothing_is_no_homeserver_that_knows_nothing() {
    let bridge = Bridge::start().await;
    let spine = &bridge.spine;
    let (bot, device) = (spine.names.bot(), spine.native.me().record.device_id);
    assert_eq!(standing::at_homeserver(&spine.matrix, bot, device).await.unwrap(), 0);
    for fault in [Fault::Answer(404, json!("not here")), Fault::Answer(200, json!("welcome"))] {
        bridge.stub.fail("/account_data/", fault);
        standing::at_homeserver(&spine.matrix, bot, device).await.unwrap_err();
    }
}

/// Its event was read and came to nothing, by a version before perhaps.
#[tokio::test]
async fn a_room_of_which_the_state_alone_says_that_it_was_replaced_is_followed() {
    let mut bridge = Bridge::start().await;
    let portal = bridge.portal(1).await;
    bridge.drain().await;
    let room = bridge.portal_now(portal).await.room.unwrap();
    let next = "!next:b.example";
    bridge.stub.look(|rooms| {
        let create = json!({"predecessor": {"room_id": room}});
        rooms.event(next, "@al:x", "m.room.create", Some(""), create);
        rooms.membership(next, "@al:x", "@al:x", "join").unwrap();
        rooms.membership(next, "@al:x", bridge.spine.names.bot().as_str(), "invite").unwrap();
        let stone = json!({"replacement_room": next});
        rooms.event(room.as_str(), "@al:x", "m.room.tombstone", Some(""), stone);
    });
    // The homeserver was away, so the room is looked at again.
    bridge.stub.fail("/send/", Fault::Cut);
    bridge.say(portal, "alice:b.example", "one").await;
    bridge.drain().await;
    bridge.pass(130_000);
    bridge.drain().await;
    let words = |bridge: &Bridge| bridge.stub.said().len();
    assert_eq!((words(&bridge), bridge.stats().await.outbox), (0, 1), "it is not known yet");
    reconcile::look(&bridge.spine).await.unwrap();
    let mut tx = bridge.spine.db.begin().await.unwrap();
    sqlx::query("UPDATE inbox SET state = 1, sealed = NULL").execute(tx.conn()).await.unwrap();
    sqlx::query("DELETE FROM gaps").execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    for _ in 0..2 {
        bridge.pass(1_000);
        bridge.drain().await;
    }
    let said = bridge.stub.look(|rooms| {
        let said = rooms.events.iter().filter(|event| event["content"]["body"] == "one");
        said.map(|event| event["room_id"].clone()).collect::<Vec<_>>()
    });
    assert_eq!(said, [json!(next)]);
}
