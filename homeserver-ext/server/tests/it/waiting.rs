//! What waits of one account: bounded in each mailbox, in each group, and in all.

use std::time::Duration;

use causeway_protocol::{
    api::{Accepted, Session},
    envelope::{Kind, Submission, SubmittedTo},
    ids::EnvelopeId,
    roster::Body,
};
use causeway_server::{AccountQuotas, Config};
use reqwest::Method;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{BRIDGE_TOKEN, Group, Person, Server, Stream, json, text};

const MINUTE_MS: u64 = 60_000;
const KIB: usize = 1_024;
/// Of what an envelope of these tests carries; its row counts for half a KiB more.
const BYTES: usize = 4 * KIB - 512;

async fn server_with(waiting_kib: u32, mailbox_kib: u32) -> Server {
    Server::start_with(|config| set(config, waiting_kib, mailbox_kib)).await
}

fn set(config: &mut Config, waiting_kib: u32, mailbox_kib: u32) {
    config.accounts = AccountQuotas { waiting_kib, mailbox_kib, ..AccountQuotas::default() };
    // Upkeep is the test's.
    config.cleanup_interval = Duration::from_hours(1);
}

/// Payloads of 3.5 KiB that begin with a name and a number.
fn texts(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{:<BYTES$}", format!("{name} {n:03} "))).collect()
}

fn broadcasts(group: &Group, from: &Person, name: &str, count: usize) -> Vec<Submission> {
    let epoch = group.roster.epoch().0;
    texts(name, count).iter().map(|text| from.message(group.id(), epoch, text)).collect()
}

fn directs(group: &Group, from: &Person, to: &Person, count: usize) -> Vec<Submission> {
    let (epoch, to) = (group.roster.epoch().0, SubmittedTo::Device(to.device()));
    let one = |text: &String| {
        from.submission(group.id(), epoch, Kind::Direct, to.clone(), text.as_bytes().to_vec())
    };
    texts("direct", count).iter().map(one).collect()
}

async fn post(server: &Server, who: &Person, envelopes: &[Submission]) -> Vec<EnvelopeId> {
    let accepted: Accepted = who.submit(server, envelopes.to_vec()).await.ok();
    accepted.accepted.iter().map(|one| one.id).collect()
}

async fn upkeep(server: &Server) {
    server.app.upkeep().await.unwrap();
}

/// All that waits for somebody but ops, in order, up to this one: whose it is and how it begins.
async fn waits(server: &Server, reader: &Person, last: &str) -> Vec<(String, String)> {
    rows_until(&mut reader.stream(server).await, last).await.0
}

async fn rows_until(stream: &mut Stream, last: &str) -> (Vec<(String, String)>, u64) {
    let mut seen = Vec::new();
    loop {
        let row = stream.next().await;
        let Some(sender) = &row.envelope.sender else { continue };
        let said = text(&row.envelope).trim_end().to_owned();
        let is_last = said == last;
        seen.push((sender.account.localpart().to_owned(), said));
        if is_last {
            return (seen, row.seq.0);
        }
    }
}

async fn read_all(server: &Server, reader: &Person, last: &str) {
    let mut stream = reader.stream(server).await;
    let (_, seq) = rows_until(&mut stream, last).await;
    stream.ack(seq).await;
    stream.send(Message::Close(None)).await;
    stream.broken().await;
}

/// What the server tells somebody that nobody fetched in time.
async fn told(server: &Server, who: &Person, count: usize) -> Vec<EnvelopeId> {
    let mut stream = who.stream(server).await;
    let mut names = Vec::new();
    while names.len() < count {
        let row = stream.next().await;
        if row.envelope.kind == Kind::Expired {
            names.push(EnvelopeId::from_slice(&row.envelope.payload).unwrap());
        }
    }
    names
}

/// Whether nobody was told that anything expired.
async fn is_nothing_told(server: &Server) -> bool {
    let rows = server.rows().await;
    let kind = Kind::Expired.number().to_string();
    let envelopes = rows.iter().filter_map(|row| row.strip_prefix("envelopes: "));
    !envelopes.into_iter().any(|row| row.split(',').nth(2) == Some(&kind))
}

/// One fills an absent device's mailbox, and a group in which that device does not read.
#[tokio::test]
async fn what_an_absent_device_costs_falls_on_the_oldest_of_who_sends_it() {
    let server = server_with(1 << 20, 64).await;
    let (group, [mallory, alice, absent, carol]) =
        server.group(["mallory", "alice", "absent", "carol"]).await;
    let first = post(&server, &alice, &broadcasts(&group, &alice, "alice", 1)).await;
    post(&server, &alice, &directs(&group, &alice, &absent, 1)).await;
    let mut filled = post(&server, &mallory, &directs(&group, &mallory, &absent, 20)).await;
    filled.extend(post(&server, &mallory, &broadcasts(&group, &mallory, "junk", 20)).await);
    assert!(is_nothing_told(&server).await);
    upkeep(&server).await;
    let seen = waits(&server, &absent, "junk 019").await;
    let of = |name: &str, kind: &str| {
        seen.iter().filter(|(who, said)| who == name && said.starts_with(kind)).count()
    };
    assert_eq!((of("mallory", "direct"), of("mallory", "junk")), (16, 16));
    assert_eq!((of("alice", "alice"), of("alice", "direct")), (1, 1), "others' rows stay");
    assert_eq!(seen[0], ("alice".to_owned(), "alice 000".to_owned()));
    // The oldest went, each way, and their sender is told which.
    let mut gone: Vec<_> = filled[..4].iter().chain(&filled[20..24]).copied().collect();
    let mut names = told(&server, &mallory, 8).await;
    gone.sort_unstable();
    names.sort_unstable();
    assert_eq!(names, gone);
    assert!(!names.contains(&first[0]));
    // A third person posts and is read meanwhile, and so is Mallory.
    post(&server, &carol, &broadcasts(&group, &carol, "carol", 1)).await;
    post(&server, &mallory, &broadcasts(&group, &mallory, "more", 1)).await;
    let seen = waits(&server, &alice, "more 000").await;
    assert!(seen.contains(&("carol".to_owned(), "carol 000".to_owned())));
    // It goes on so, however much comes.
    for n in 0..5 {
        let name = format!("again {n}");
        post(&server, &mallory, &broadcasts(&group, &mallory, &name, 20)).await;
        upkeep(&server).await;
    }
    let seen = waits(&server, &absent, "again 4 019").await;
    let rows = seen.iter().filter(|(who, said)| who == "mallory" && !said.starts_with("direct"));
    assert_eq!(rows.count(), 16);
}

#[tokio::test]
async fn those_who_meet_in_one_mailbox_have_a_share_each() {
    let server = server_with(1 << 20, 64).await;
    let (mut group, [alice, bob, absent]) = server.group(["alice", "bob", "absent"]).await;
    let second = bob.second_device(&server).await;
    let session: Session = second.login(&server).await.ok();
    let second = second.with_token(session.access_token);
    group.post(&server, &bob, &Body::Devices(second.devices())).await;
    post(&server, &alice, &directs(&group, &alice, &absent, 14)).await;
    post(&server, &bob, &directs(&group, &bob, &absent, 14)).await;
    upkeep(&server).await;
    assert!(is_nothing_told(&server).await);
    // An account has one share, whichever of its devices posts.
    post(&server, &second, &directs(&group, &second, &absent, 14)).await;
    upkeep(&server).await;
    post(&server, &alice, &broadcasts(&group, &alice, "end", 1)).await;
    let seen = waits(&server, &absent, "end 000").await;
    let of =
        |name: &str| seen.iter().filter(|(who, said)| who == name && said != "end 000").count();
    assert_eq!((of("alice"), of("bob")), (14, 16));
}

#[tokio::test]
async fn what_all_have_read_is_not_held_against_who_posted_it() {
    let server = server_with(1 << 20, 64).await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    for n in 0..4 {
        let name = format!("part {n}");
        post(&server, &alice, &broadcasts(&group, &alice, &name, 15)).await;
        read_all(&server, &bob, &format!("{name} 014")).await;
    }
    upkeep(&server).await;
    assert!(is_nothing_told(&server).await);
}

#[tokio::test]
async fn who_has_too_much_waiting_is_refused_in_words_and_others_are_not() {
    let server = server_with(64, 1 << 20).await;
    let (group, [mallory, alice, bob]) = server.group(["mallory", "alice", "bob"]).await;
    let filled = broadcasts(&group, &mallory, "junk", 20);
    post(&server, &mallory, &filled).await;
    upkeep(&server).await;
    let before = server.rows().await;
    let more = broadcasts(&group, &mallory, "more", 1);
    let refusal = mallory.submit(&server, more.clone()).await.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refusal.error.contains("limits.waiting_kib"), "{}", refusal.error);
    assert_eq!(refusal.retry_after_ms, Some(MINUTE_MS));
    // What was accepted is answered as it was.
    assert_eq!(post(&server, &mallory, &filled).await.len(), 20);
    server.assert_unchanged(&before).await;
    let direct = directs(&group, &mallory, &bob, 1);
    mallory.submit(&server, direct).await.refused(429, "M_LIMIT_EXCEEDED");
    post(&server, &alice, &broadcasts(&group, &alice, "alice", 1)).await;
    read_all(&server, &bob, "alice 000").await;
    // It waits as long as one lacks it.
    server.pass_ms(MINUTE_MS);
    upkeep(&server).await;
    mallory.submit(&server, more.clone()).await.refused(429, "M_LIMIT_EXCEEDED");
    read_all(&server, &alice, "junk 019").await;
    server.pass_ms(MINUTE_MS);
    upkeep(&server).await;
    post(&server, &mallory, &more).await;
    assert!(is_nothing_told(&server).await, "nothing ended early");
}

#[tokio::test]
async fn a_restart_forgives_until_a_part_more_is_posted() {
    let server = server_with(64, 1 << 20).await;
    let (group, [mallory, _bob]) = server.group(["mallory", "bob"]).await;
    post(&server, &mallory, &broadcasts(&group, &mallory, "junk", 20)).await;
    upkeep(&server).await;
    let more = |name: &str| broadcasts(&group, &mallory, name, 1);
    mallory.submit(&server, more("one")).await.refused(429, "M_LIMIT_EXCEEDED");
    let (dir, clock) = (server.folder(), server.clock());
    server.stop().await;
    let server = Server::start_in(dir, clock, |config| set(config, 64, 1 << 20)).await;
    upkeep(&server).await;
    post(&server, &mallory, &more("one")).await;
    upkeep(&server).await;
    mallory.submit(&server, more("two")).await.refused(429, "M_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn the_bridge_has_neither_limit() {
    let server = server_with(64, 64).await;
    let bridge = Person::new("bridge");
    let body = json(&bridge.registration(BRIDGE_TOKEN));
    let session: Session = server.send(Method::POST, "/register", None, body).await.ok();
    let bridge = bridge.with_token(session.access_token);
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    group.post(&server, &alice, &Body::Add(vec![bridge.entry(2)])).await;
    // In a group where it is an ordinary member, what it posts makes it be counted.
    let mut other = Group::create(&server, &alice).await;
    other.post(&server, &alice, &Body::Add(vec![bridge.entry(0), bob.entry(0)])).await;
    for n in 0..3 {
        let name = format!("part {n}");
        post(&server, &bridge, &broadcasts(&group, &bridge, &name, 20)).await;
        post(&server, &bridge, &directs(&other, &bridge, &bob, 20)).await;
        upkeep(&server).await;
    }
    assert_eq!(waits(&server, &bob, "part 2 019").await.len(), 80);
    assert!(is_nothing_told(&server).await);
}
