//! What Prometheus is shown: right in form, complete, and counted once.
#![expect(clippy::float_cmp, reason = "counts are whole numbers")]

use std::fs;

use causeway_bridge::{figures, steps::Steps};
use serde_json::json;

use crate::{prometheus::Page, world::World};

async fn page(url: &str) -> Page {
    let answer = reqwest::get(format!("{url}/metrics")).await.unwrap();
    Page::read(&answer.text().await.unwrap())
}

#[tokio::test]
async fn messages_are_counted_once_each_way_with_how_long_they_took() {
    let recorder = figures::builder().unwrap().build_recorder();
    // Everything of this test runs on this thread.
    let _gathering = metrics::set_default_local_recorder(&recorder);
    figures::describe();
    let mut world = World::new().await;
    world.metrics = recorder.handle();
    let bridge = world.begin(Steps::default()).await;
    let alice = world.person("alice").await;
    let group = alice.create_group("Walkers").await;
    let stub = world.stub.clone();
    let told = async {
        alice.bridge(group, &["@al:x"]).await;
        let room = stub.wait(|rooms| rooms.room_that_invites("@al:x")).await;
        stub.change(|rooms| rooms.membership(&room, "@al:x", "@al:x", "join").unwrap());
        let said: Vec<String> = (0..7).map(|n| format!("a{n}")).collect();
        alice.say(group, &said).await;
        stub.wait(|rooms| (rooms.sends >= 7).then_some(())).await;
        for n in 0..5 {
            let text = json!({"msgtype": "m.text", "body": format!("m{n}")});
            stub.change(|rooms| rooms.event(&room, "@al:x", "m.room.message", None, text));
        }
        alice.wait("five", |read| read.iter().filter(|r| r.mirror.is_some()).count() == 5).await;
        while bridge.stats().await.outbox > 0 {
            tokio::task::yield_now().await;
        }
    };
    world.during(&bridge, told).await;

    // A look that follows an event may still have put something there.
    let shown = loop {
        let shown = page(&bridge.url).await;
        let waits = ["causeway_outbox_effects", "causeway_inbox_events"];
        if waits.iter().all(|figure| shown.value(figure) == 0.0) {
            break shown;
        }
        tokio::task::yield_now().await;
    };
    let count = |way: &str| format!("causeway_message_seconds_count{{direction=\"{way}\"}}");
    // Notices and announcements are no messages.
    assert_eq!(shown.value(&count("native_to_matrix")), 7.0);
    assert_eq!(shown.value(&count("matrix_to_native")), 5.0);
    for way in ["native_to_matrix", "matrix_to_native"] {
        let sum = shown.value(&format!("causeway_message_seconds_sum{{direction=\"{way}\"}}"));
        assert!(sum > 0.0 && sum < 12.0 * 120.0, "{way}: {sum} s");
    }
    assert_eq!(shown.value("causeway_portals"), 1.0);
    assert_eq!(shown.value("causeway_events_total{outcome=\"quarantined\"}"), 0.0);
    // Read from the homeserver's own account before, some of them are no news.
    let came = ["new", "repeated"]
        .map(|outcome| shown.value(&format!("causeway_events_total{{outcome=\"{outcome}\"}}")));
    assert!(came.iter().sum::<f64>() >= 12.0);
    assert!(shown.value("causeway_transaction_seconds_count") >= 1.0);
    let commits = shown.value("causeway_db_commits_total{db=\"bridge\"}");
    assert!(commits > 0.0 && shown.value("causeway_db_bytes{db=\"bridge\"}") > 0.0);

    // A second look counts nothing twice.
    let again = page(&bridge.url).await;
    assert_eq!(again.value(&count("native_to_matrix")), 7.0);
    assert_eq!(again.kinds, shown.kinds);
    bridge.drop_dead().await;
}

#[test]
fn the_book_lists_every_figure_and_no_other() {
    let book = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let book = fs::read_to_string(book).unwrap();
    let mut listed: Vec<&str> = book
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.starts_with("causeway_"))
        .map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap())
        .collect();
    listed.sort_unstable();
    listed.dedup();
    let mut known: Vec<&str> = figures::ALL.iter().map(|(name, _)| *name).collect();
    known.sort_unstable();
    assert_eq!(listed, known);
}
