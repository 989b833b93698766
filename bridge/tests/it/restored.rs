//! What a bridge does whose database was put back.

use causeway_bridge::{
    domain::effect::{Effect, InRoom},
    services::restored,
};

use crate::harness::Bridge;

async fn waiting(bridge: &Bridge) -> i64 {
    let mut read = bridge.spine.db.read().await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM portal_outbox WHERE lane LIKE '%/to_native'")
        .fetch_one(read.conn())
        .await
        .unwrap()
}

async fn go_on(bridge: &Bridge) {
    let spine = &bridge.spine;
    restored::go_on(&spine.db, &spine.sealer, &spine.names, spine.now(), 7).await.unwrap();
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
