//! What the one who runs the server sees of it.

use causeway_server::{DELIVERY_BUCKETS, DELIVERY_SECONDS};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::harness::{MONTH_MS, Server};

/// The value of the line that begins with `name`.
#[track_caller]
fn value(metrics: &PrometheusHandle, name: &str) -> String {
    let text = metrics.render();
    let line = text.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
    line.rsplit_once(' ').unwrap().1.to_owned()
}

#[tokio::test]
async fn what_waits_for_how_long_and_how_fast_it_went_is_measured() {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(DELIVERY_SECONDS.to_owned()), &DELIVERY_BUCKETS)
        .unwrap()
        .build_recorder();
    let metrics = recorder.handle();
    // Everything of this test runs on this thread.
    let _recording = metrics::set_default_local_recorder(&recorder);

    let server = Server::start().await;
    let (group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    server.app.measure().await.unwrap();
    assert_eq!(value(&metrics, "causeway_mailbox_oldest_seconds"), "0", "ops wait for ever");
    alice.say(&server, &group, &["one", "two"]).await;
    server.pass_ms(3_000);
    server.app.measure().await.unwrap();
    assert_eq!(value(&metrics, "causeway_mailbox_oldest_seconds"), "3");
    // A broadcast is one, whoever reads it.
    assert_eq!(value(&metrics, "causeway_mailbox_rows"), "2");
    assert_eq!(value(&metrics, "causeway_groups"), "1");
    assert_eq!(value(&metrics, "causeway_members"), "3");
    assert_eq!(value(&metrics, "causeway_messages_published_total"), "2");

    let mut stream = bob.stream(&server).await;
    let last = stream.take(3).await[2].seq.0;
    stream.ack(last).await;
    // It is counted after the commit; ops aside.
    while !metrics.render().contains("causeway_delivery_seconds_count 2\n") {
        tokio::task::yield_now().await;
    }
    assert_eq!(value(&metrics, "causeway_messages_delivered_total"), "3");
    assert_eq!(value(&metrics, "causeway_delivery_seconds_sum"), "6");
    assert_eq!(value(&metrics, "causeway_delivery_seconds_bucket{le=\"1\"}"), "0");
    assert_eq!(value(&metrics, "causeway_delivery_seconds_bucket{le=\"5\"}"), "2");

    carol.get(&server, "/nothing/here").await.refused(404, "M_UNRECOGNIZED");
    let refused = "causeway_refused_total{status=\"404\",errcode=\"M_UNRECOGNIZED\"}";
    assert_eq!(value(&metrics, refused), "1");

    server.pass_ms(MONTH_MS);
    server.app.upkeep().await.unwrap();
    assert_eq!(value(&metrics, "causeway_messages_expired_total"), "2");
    assert_eq!(server.app.figures().await.unwrap().oldest_waiting_ms, 0);
    let text = metrics.render();
    for name in ["alice", "bob", &group.id().to_string(), &alice.device().to_string()] {
        assert!(!text.contains(name), "{name} in\n{text}");
    }
}
