//! What the bridge has acknowledged is kept for a while, and comes again when its database was put
//! back.

use std::{path::Path, time::Duration};

use causeway_protocol::{
    api::{Accepted, Again, DeliveryState, Kept, MessageStatus, ReadAgain, Session, StreamRow},
    envelope::{Kind, SubmittedTo},
    ids::{Generation, Seq},
    roster::Body,
};
use causeway_server::KeepRead;
use reqwest::Method;
use serde_json::json;

use crate::harness::{BRIDGE_TOKEN, Group, MONTH_MS, Person, Server, json as bytes, text};

const DAY_MS: u64 = 86_400_000;

async fn bridge_of(server: &Server) -> Person {
    let bridge = Person::new("bridge");
    let body = bytes(&bridge.registration(BRIDGE_TOKEN));
    let session: Session = server.send(Method::POST, "/register", None, body).await.ok();
    bridge.with_token(session.access_token)
}

/// Alice and the bridge in one group, where what the bridge acknowledges is kept.
async fn bridged(server: &Server) -> (Group, Person, Person, Kept) {
    let bridge = bridge_of(server).await;
    let (mut group, [alice]) = server.group(["alice"]).await;
    group.post(server, &alice, &Body::Add(vec![bridge.entry(2)])).await;
    let kept: Kept = bridge.put(server, "/device/kept", &json!({})).await.ok();
    (group, alice, bridge, kept)
}

async fn direct(server: &Server, group: &Group, from: &Person, to: &Person, what: &str) {
    let (epoch, to) = (group.roster.epoch().0, SubmittedTo::Device(to.device()));
    let key = from.submission(group.id(), epoch, Kind::KeyDistribution, to, what.into());
    let accepted: Accepted = from.submit(server, vec![key]).await.ok();
    assert_eq!(accepted.accepted[0].recipients, 1);
}

/// The next rows until one says this, acknowledged to the last, as the server knows.
async fn read_until(server: &Server, reader: &Person, last: &str) -> Vec<StreamRow> {
    let mut stream = reader.stream(server).await;
    let mut rows = Vec::new();
    loop {
        rows.push(stream.next().await);
        let row = rows.last().unwrap();
        if row.envelope.kind == Kind::Message && text(&row.envelope) == last {
            stream.ack(row.seq.0).await;
            break;
        }
    }
    // What was acknowledged before the end counts.
    stream.send(tokio_tungstenite::tungstenite::Message::Close(None)).await;
    stream.broken().await;
    rows
}

async fn again(server: &Server, bridge: &Person, generation: Generation, after: u64) -> Again {
    let body = ReadAgain { generation, after: Seq(after) };
    bridge.post(server, "/device/kept", &body).await.ok()
}

fn numbers(rows: &[StreamRow]) -> Vec<u64> {
    rows.iter().map(|row| row.seq.0).collect()
}

#[tokio::test]
async fn much_that_the_bridge_acknowledged_at_once_comes_again_whole() {
    let server = Server::start().await;
    let (group, alice, bridge, kept) = bridged(&server).await;
    let epoch = group.roster.epoch().0;
    let keys = (0..600).map(|n| {
        let to = SubmittedTo::Device(bridge.device());
        let what = format!("{n:03}").into_bytes();
        alice.submission(group.id(), epoch, Kind::KeyDistribution, to, what)
    });
    alice.submit(&server, keys.collect()).await.ok::<Accepted>();
    alice.say(&server, &group, &["the end"]).await;
    let mut stream = bridge.stream(&server).await;
    let last = stream.hello().await.last_seq;
    stream.ack(last.0).await;
    stream.send(tokio_tungstenite::tungstenite::Message::Close(None)).await;
    stream.broken().await;
    assert_eq!(server.app.figures().await.unwrap().kept_bytes, 600 * 3 + 7);
    let answer = again(&server, &bridge, kept.generation, 0).await;
    assert_eq!(answer.until, last);
    let mut stream = bridge.stream(&server).await;
    let mut keys = Vec::new();
    while keys.len() < 600 {
        let row = stream.next().await;
        if row.envelope.kind == Kind::KeyDistribution {
            keys.push(text(&row.envelope));
        }
        if keys.len().is_multiple_of(100) {
            stream.ack(row.seq.0).await;
        }
    }
    assert_eq!(keys, (0..600).map(|n| format!("{n:03}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_the_bridge_acknowledged_comes_again_in_its_order_under_its_numbers() {
    let server = Server::start().await;
    let (group, alice, bridge, kept) = bridged(&server).await;
    assert_eq!(kept.keep_ms, 2 * DAY_MS);
    let bob = server.person("bob").await;
    alice.say(&server, &group, &["before the copy"]).await;
    let before = read_until(&server, &bridge, "before the copy").await;
    let place = before.last().unwrap().seq.0;
    direct(&server, &group, &alice, &bridge, "a key").await;
    let said = alice.say(&server, &group, &["one", "two"]).await;
    let first = read_until(&server, &bridge, "two").await;
    assert_eq!(first.len(), 3);
    server.app.upkeep().await.unwrap();
    assert_eq!(server.app.figures().await.unwrap().mailbox_rows, 0, "it waits for nobody");
    assert!(server.app.figures().await.unwrap().kept_bytes >= 11);

    // As often as need be, also half of it, and while more comes.
    for _ in 0..2 {
        let answer = again(&server, &bridge, kept.generation, place).await;
        assert_eq!(answer, Again { until: first[2].seq, whole: true });
        let mut stream = bridge.stream(&server).await;
        assert_eq!(numbers(&stream.take(2).await), numbers(&first[..2]));
        stream.ack(first[0].seq.0).await;
        stream.send(tokio_tungstenite::tungstenite::Message::Close(None)).await;
        stream.broken().await;
        assert_eq!(read_until(&server, &bridge, "two").await, first[1..]);
    }
    alice.say(&server, &group, &["three"]).await;
    again(&server, &bridge, kept.generation, place).await;
    let rows = read_until(&server, &bridge, "three").await;
    assert_eq!(rows[..3], first);
    assert_eq!(rows.len(), 4);
    // A sender is told nothing of it.
    let path = format!("/messages/{}/status", said.accepted[0].id);
    again(&server, &bridge, kept.generation, place).await;
    let status: MessageStatus = alice.get(&server, &path).await.ok();
    assert_eq!(status.recipients[0].state, DeliveryState::Acked);
    // Nobody else has it, and nobody else can have it again, or has it kept.
    let body = ReadAgain { generation: kept.generation, after: Seq(0) };
    for person in [&alice, &bob] {
        person.post(&server, "/device/kept", &body).await.refused(403, "M_FORBIDDEN");
        person.put(&server, "/device/kept", &json!({})).await.refused(403, "M_FORBIDDEN");
    }
    let rows = read_until(&server, &bridge, "three").await;
    assert_eq!(rows.len(), 4);
}

#[tokio::test]
async fn what_others_acknowledge_is_gone() {
    let server = Server::start().await;
    let (mut group, alice, bridge, _) = bridged(&server).await;
    let bob = server.person("bob").await;
    group.post(&server, &alice, &Body::Add(vec![bob.entry(0)])).await;
    direct(&server, &group, &alice, &bob, "a key").await;
    bridge.say(&server, &group, &["from the bridge"]).await;
    read_until(&server, &bob, "from the bridge").await;
    read_until(&server, &alice, "from the bridge").await;
    server.app.upkeep().await.unwrap();
    let rows = server.rows().await;
    assert!(!rows.iter().any(|row| row.starts_with("envelopes:") || row.starts_with("mailbox:")));
}

#[tokio::test]
async fn it_is_kept_for_its_time_and_no_longer() {
    let server = Server::start().await;
    let (group, alice, bridge, kept) = bridged(&server).await;
    direct(&server, &group, &alice, &bridge, "a key").await;
    alice.say(&server, &group, &["one"]).await;
    let first = read_until(&server, &bridge, "one").await;
    let place = first[0].seq.0;
    server.pass_ms(DAY_MS);
    alice.say(&server, &group, &["two"]).await;
    let second = read_until(&server, &bridge, "two").await;
    server.pass_ms(DAY_MS + 60_000);
    server.app.upkeep().await.unwrap();
    let answer = again(&server, &bridge, kept.generation, place).await;
    assert_eq!(answer, Again { until: second[0].seq, whole: false });
    assert_eq!(read_until(&server, &bridge, "two").await, second);
    // What is there after its place is all of it.
    assert!(again(&server, &bridge, kept.generation, second[0].seq.0 - 1).await.whole);
    server.pass_ms(DAY_MS);
    server.app.upkeep().await.unwrap();
    let rows = server.rows().await;
    let is_left = |row: &String| {
        ["envelopes:", "mailbox:", "kept:"].iter().any(|table| row.starts_with(table))
    };
    assert!(!rows.iter().any(is_left), "{rows:#?}");
    assert_eq!(server.app.figures().await.unwrap().kept_bytes, 0);
}

#[tokio::test]
async fn no_more_is_kept_than_so_many_bytes_and_the_oldest_goes() {
    let keep = KeepRead { time: Duration::from_hours(1), max_bytes: 2_500 };
    let server = Server::start_with(|config| config.keep_read = keep).await;
    let (group, alice, bridge, kept) = bridged(&server).await;
    let mut rows = Vec::new();
    for n in 0..6 {
        let said = format!("{n} {}", "x".repeat(998));
        alice.say(&server, &group, &[&said]).await;
        rows.extend(read_until(&server, &bridge, &said).await);
        server.pass_ms(60_000);
    }
    server.app.upkeep().await.unwrap();
    assert_eq!(server.app.figures().await.unwrap().kept_bytes, 2_000);
    assert!(!again(&server, &bridge, kept.generation, 0).await.whole);
    let last = text(&rows.last().unwrap().envelope);
    assert_eq!(read_until(&server, &bridge, &last).await, rows[rows.len() - 2..]);
}

#[tokio::test]
async fn nothing_is_kept_where_the_operator_wants_none() {
    let keep = KeepRead { time: Duration::ZERO, ..KeepRead::default() };
    let server = Server::start_with(|config| config.keep_read = keep).await;
    let (group, alice, bridge, kept) = bridged(&server).await;
    assert_eq!(kept.keep_ms, 0);
    alice.say(&server, &group, &["one"]).await;
    let rows = read_until(&server, &bridge, "one").await;
    let answer = again(&server, &bridge, kept.generation, rows[0].seq.0).await;
    assert!(!answer.whole);
    alice.say(&server, &group, &["two"]).await;
    assert_eq!(read_until(&server, &bridge, "two").await.len(), 1);
}

#[tokio::test]
async fn who_was_taken_out_reads_again_what_he_might_read_and_nothing_else() {
    let server = Server::start().await;
    let (mut group, alice, bridge, kept) = bridged(&server).await;
    let bob = server.person("bob").await;
    group.post(&server, &alice, &Body::Add(vec![bob.entry(0)])).await;
    alice.say(&server, &group, &["with the bridge"]).await;
    let place = read_until(&server, &bridge, "with the bridge").await[0].seq.0;
    group.post(&server, &alice, &Body::Remove(vec![bridge.member()])).await;
    alice.say(&server, &group, &["without it"]).await;
    let (other, [carol]) = server.group(["carol"]).await;
    let mut other = other;
    other.post(&server, &carol, &Body::Add(vec![bridge.entry(2)])).await;
    carol.say(&server, &other, &["the end"]).await;
    read_until(&server, &bridge, "the end").await;
    again(&server, &bridge, kept.generation, place).await;
    let rows = read_until(&server, &bridge, "the end").await;
    let said: Vec<_> = rows.iter().filter(|row| row.envelope.kind != Kind::Roster).collect();
    let said: Vec<_> = said.iter().map(|row| text(&row.envelope)).collect();
    assert_eq!(said, ["with the bridge", "the end"]);
}

#[tokio::test]
async fn what_is_over_does_not_come_again_and_was_not_missed() {
    let server = Server::start_with(|config| {
        config.keep_read.time = Duration::from_hours(24 * 60);
    })
    .await;
    let (group, alice, bridge, kept) = bridged(&server).await;
    direct(&server, &group, &alice, &bridge, "a key").await;
    alice.say(&server, &group, &["one"]).await;
    let rows = read_until(&server, &bridge, "one").await;
    server.app.upkeep().await.unwrap();
    server.pass_ms(MONTH_MS);
    server.app.upkeep().await.unwrap();
    alice.say(&server, &group, &["two"]).await;
    assert!(again(&server, &bridge, kept.generation, rows[0].seq.0).await.whole);
    let rows = read_until(&server, &bridge, "two").await;
    assert_eq!(rows.len(), 1);
    // Nor was anybody told that something of it had expired.
    bridge.say(&server, &group, &["the end"]).await;
    let of_alice = read_until(&server, &alice, "the end").await;
    assert!(of_alice.iter().all(|row| row.envelope.kind != Kind::Expired));
}

fn copy(from: &Path, to: &Path) {
    for file in from.read_dir().unwrap().map(Result::unwrap) {
        if file.file_name().to_string_lossy().starts_with("server.db") {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

#[tokio::test]
async fn a_place_of_a_server_that_was_put_back_since_is_none() {
    let server = Server::start().await;
    let (group, alice, bridge, old) = bridged(&server).await;
    alice.say(&server, &group, &["in the copy"]).await;
    let first = read_until(&server, &bridge, "in the copy").await;
    let (dir, clock, aside) = (server.folder(), server.clock(), tempfile::tempdir().unwrap());
    server.stop().await;
    copy(dir.path(), aside.path());
    let server = Server::start_in(dir.clone(), clock.clone(), |_| {}).await;
    let lost: Kept = bridge.put(&server, "/device/kept", &json!({})).await.ok();
    alice.say(&server, &group, &["lost", "with", "it"]).await;
    let of_lost = read_until(&server, &bridge, "it").await;
    // Put back, it gives these numbers to other rows.
    server.stop().await;
    for file in dir.path().read_dir().unwrap().map(Result::unwrap) {
        std::fs::remove_file(file.path()).unwrap();
    }
    copy(aside.path(), dir.path());
    let server = Server::start_in(dir, clock, |_| {}).await;
    let now: Kept = bridge.put(&server, "/device/kept", &json!({})).await.ok();
    alice.say(&server, &group, &["new", "and", "other"]).await;
    let of_now = read_until(&server, &bridge, "other").await;
    let place = of_lost.last().unwrap().seq.0;
    assert!(of_now[0].seq.0 <= place);
    // By a start that it does not know: everything.
    let answer = again(&server, &bridge, lost.generation, place).await;
    assert!(!answer.whole);
    let all = [first.clone(), of_now.clone()].concat();
    assert_eq!(read_until(&server, &bridge, "other").await, all);
    // By one that it knows: what came after it.
    assert!(!again(&server, &bridge, old.generation, place).await.whole, "nobody can be sure");
    assert_eq!(read_until(&server, &bridge, "other").await, of_now);
    assert!(again(&server, &bridge, now.generation, of_now[1].seq.0).await.whole);
    assert_eq!(read_until(&server, &bridge, "other").await, of_now[2..]);
}

/// Found by an attack: both databases put back from one backup passed for whole.
#[tokio::test]
async fn a_server_that_was_put_back_together_with_the_bridge_says_that_it_may_lack_something() {
    let server = Server::start().await;
    let (group, alice, bridge, kept) = bridged(&server).await;
    alice.say(&server, &group, &["in the copy"]).await;
    let place = read_until(&server, &bridge, "in the copy").await[0].seq.0;
    let (dir, clock, aside) = (server.folder(), server.clock(), tempfile::tempdir().unwrap());
    server.stop().await;
    copy(dir.path(), aside.path());
    let server = Server::start_in(dir.clone(), clock.clone(), |_| {}).await;
    alice.say(&server, &group, &["lost", "with", "it"]).await;
    read_until(&server, &bridge, "it").await;
    server.stop().await;
    for file in dir.path().read_dir().unwrap().map(Result::unwrap) {
        std::fs::remove_file(file.path()).unwrap();
    }
    copy(aside.path(), dir.path());
    let server = Server::start_in(dir, clock, |_| {}).await;
    assert!(!again(&server, &bridge, kept.generation, place).await.whole);
}
