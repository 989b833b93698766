//! Calls do not reach other servers yet, and say so.

use causeway_protocol::{api::CallState, roster::Body};
use serde_json::json;

use super::{two, wire::Wire};
use crate::{
    calls::{ask, new_id, start},
    harness::Group,
};

#[tokio::test]
async fn in_a_group_of_another_server_there_are_no_calls_yet() {
    let (here, alice, there, carol) = two().await;
    let _wire = Wire::between(&here, &there);
    let mut group = Group::create(&here, &alice).await;
    group.post(&here, &alice, &Body::Add(vec![carol.entry(0)])).await;
    let _seen = carol.stream(&there).await.next().await;
    let refusal = start(&there, &carol, &group, new_id()).await.refused(404, "M_UNRECOGNIZED");
    assert!(refusal.error.contains("calls do not reach other servers yet"), "{}", refusal.error);
    // At the group's home they go on, and what members elsewhere are not told stops nothing.
    let call = new_id();
    start(&here, &alice, &group, call).await.ok::<CallState>();
    ask(&here, &alice, &group, (call, "end"), json!({})).await.ok::<CallState>();
    alice.say(&here, &group, &["after the call"]).await;
    let mut stream = carol.stream(&there).await;
    while stream.texts(1).await != ["after the call"] {}
}
