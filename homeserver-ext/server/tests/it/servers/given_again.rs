//! A server whose database was put back from a copy is given again what it had taken from others.

use causeway_protocol::{
    api::{AccountAnswer, AccountDevices},
    envelope::{Kind, SubmittedTo},
    ids::{ItemId, ServerLinkId, StreamId},
    link::{Had, Item, Tell},
    roster::Body,
};

use reqwest::Method;

use super::{
    OTHER, at,
    groups::{ops, texts, until_epoch, with_carol},
    operator::{operate, other},
    peer::Peer,
    put_back::{copy, described, mallorys, put_back},
    restarted, two,
    wire::{Wire, hand_in},
};
use crate::harness::{Group, Person, Server, random, text};

/// What comes to somebody until `last` was said, and is acknowledged: texts, and the kinds of the rest.
pub(super) async fn all(server: &Server, who: &Person, last: &str) -> Vec<String> {
    let mut stream = who.stream(server).await;
    let mut all = Vec::new();
    while all.last().is_none_or(|newest| newest != last) {
        let row = stream.next().await;
        assert_eq!(row.envelope.check(), Ok(()), "{row:?}");
        all.push(match row.envelope.kind {
            Kind::Message => text(&row.envelope),
            kind => format!("{kind:?} of epoch {}", row.envelope.epoch.0),
        });
        stream.ack(row.seq.0).await;
    }
    all
}

/// What is for single devices, what is for all, and ops between them.
async fn much(here: &Server, alice: &Person, group: &mut Group, carol: &Person) {
    for n in 0..60 {
        if n % 7 == 3 {
            group.post(here, alice, &described(n)).await;
        }
        if n % 5 == 2 {
            let (to, sealed) = (SubmittedTo::Device(carol.device()), n.to_string().into_bytes());
            let epoch = group.roster.epoch().0;
            let key = alice.submission(group.id(), epoch, Kind::KeyDistribution, to, sealed);
            alice.submit(here, vec![key]).await.ok::<serde_json::Value>();
        }
        alice.say(here, group, &[&format!("{n}")]).await;
    }
}

/// Until the other server has acknowledged all that it was given.
pub(super) async fn until_taken(server: &Server, name: &str) {
    let path = format!("/servers/{name}");
    while operate(server, Method::GET, &path).await.1["waiting"] != 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_replica_is_given_again_all_that_it_lost_in_its_order_and_nothing_twice() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let mut group = with_carol(&here, &alice, &carol).await;
    alice.say(&here, &group, &["before"]).await;
    assert_eq!(texts(&there, &carol, 1).await, ["before"]);
    copy(&there).await;
    much(&here, &alice, &mut group, &carol).await;
    let read = all(&there, &carol, "59").await;
    assert_eq!(read.iter().filter(|it| it.starts_with("KeyDistribution")).count(), 12);
    until_taken(&here, OTHER).await;
    assert!(other(&here).await["kept_bytes"].as_u64().unwrap() > 60 * 100);
    drop(wire);
    let there = put_back(there, OTHER).await;
    // Said while the two are apart.
    alice.say(&here, &group, &["after"]).await;
    let wire = Wire::between(&here, &there);
    // Whatever had not been acknowledged when the copy was made comes once more.
    let mut again = all(&there, &carol, "after").await;
    again.retain(|it| it != "before");
    let again = again.split_off(again.len() - read.len() - 1);
    assert_eq!(again[..read.len()], read);
    until_epoch(&there, &carol, &group).await;
    // Once more, from the same copy and with a start of the other in between: the same again.
    until_taken(&here, OTHER).await;
    copy(&there).await;
    alice.say(&here, &group, &["one", "two"]).await;
    assert_eq!(texts(&there, &carol, 2).await, ["one", "two"]);
    until_taken(&here, OTHER).await;
    drop(wire);
    let there = put_back(there, OTHER).await;
    let here = restarted(here, "a.example").await;
    let _wire = Wire::between(&here, &there);
    alice.say(&here, &group, &["three"]).await;
    let mut again = all(&there, &carol, "three").await;
    assert_eq!(again.split_off(again.len() - 3), ["one", "two", "three"]);
    carol.say(&there, &group, &["back"]).await;
    assert_eq!(texts(&here, &alice, 1).await, ["back"]);
    assert_eq!(other(&here).await["gaps"], 0);
}

#[tokio::test]
async fn a_home_is_given_again_what_members_elsewhere_said() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let mut group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    copy(&here).await;
    let said: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    for (n, text) in said.iter().enumerate() {
        if n == 20 {
            group.post(&here, &alice, &described(1)).await;
            until_epoch(&there, &carol, &group).await;
        }
        carol.say(&there, &group, &[text]).await;
    }
    assert_eq!(texts(&here, &alice, 40).await, said);
    until_taken(&there, "a.example").await;
    drop(wire);
    let here = put_back(here, "a.example").await;
    let _wire = Wire::between(&here, &there);
    assert_eq!(texts(&here, &alice, 40).await, said);
    // What the home says now bears numbers that it had given before the copy was put back.
    alice.say(&here, &group, &["from home"]).await;
    assert_eq!(texts(&there, &carol, 1).await, ["from home"]);
    carol.say(&there, &group, &["on"]).await;
    assert_eq!(texts(&here, &alice, 1).await, ["on"]);
}

#[tokio::test]
async fn both_put_back_give_each_other_what_each_has() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    alice.say(&here, &group, &["one"]).await;
    assert_eq!(texts(&there, &carol, 1).await, ["one"]);
    until_taken(&here, OTHER).await;
    copy(&there).await;
    alice.say(&here, &group, &["two"]).await;
    assert_eq!(texts(&there, &carol, 1).await, ["two"]);
    until_taken(&here, OTHER).await;
    copy(&here).await;
    alice.say(&here, &group, &["lost with both"]).await;
    assert_eq!(texts(&there, &carol, 1).await, ["lost with both"]);
    until_taken(&here, OTHER).await;
    drop(wire);
    let (here, there) = (put_back(here, "a.example").await, put_back(there, OTHER).await);
    let _wire = Wire::between(&here, &there);
    alice.say(&here, &group, &["three"]).await;
    let mut read = all(&there, &carol, "three").await;
    assert_eq!(read.split_off(read.len() - 2), ["two", "three"]);
}

#[tokio::test]
async fn what_is_not_kept_any_more_is_a_gap_that_both_operators_see() {
    let here = Server::start_with(|config| {
        super::as_in_tests(config, "a.example");
        config.others.keep_bytes = 8_000;
    })
    .await;
    let there = at(OTHER).await;
    let alice = here.person("alice").await;
    let carol = Person::at("carol", OTHER).registered(&there).await;
    let wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    copy(&there).await;
    let said: Vec<String> = (0..60).map(|n| n.to_string()).collect();
    for text in &said {
        alice.say(&here, &group, &[text]).await;
    }
    assert_eq!(texts(&there, &carol, 60).await, said);
    until_taken(&here, OTHER).await;
    let kept = other(&here).await["kept_bytes"].as_u64().unwrap();
    assert!((4_000..=8_000).contains(&kept), "{kept}");
    // What everybody has read is there no more, but for what is kept.
    here.pass_ms(3_600_000);
    here.app.upkeep().await.unwrap();
    drop(wire);
    let there = put_back(there, OTHER).await;
    let _wire = Wire::between(&here, &there);
    alice.say(&here, &group, &["after"]).await;
    let mut read = all(&there, &carol, "after").await;
    read.retain(|it| !it.contains("epoch"));
    let newest = said.iter().map(String::as_str).chain(["after"]);
    let newest: Vec<_> = newest.skip(61 - read.len()).collect();
    assert!((10..60).contains(&read.len()), "{}", read.len());
    assert_eq!(read, newest, "the newest, all of them");
    until_taken(&here, OTHER).await;
    let gap = |of: serde_json::Value| {
        assert_eq!(of["gaps"], 1, "{of}");
        of["last_error"]["why"].as_str().unwrap().to_owned()
    };
    assert!(gap(other(&here).await).contains("it was put back"));
    let (_, seen) = operate(&there, Method::GET, "/servers/a.example").await;
    assert!(gap(seen).contains("this server was put back"));
}

/// What comes of the group of a server of the test's own, which begins a link and says what it has.
async fn had(server: &Server, peer: &mut Peer, had: Had) -> usize {
    peer.begin_anew(ServerLinkId::new(random()));
    let mut frame = peer.frame(vec![]);
    frame["had"] = serde_json::to_value(had).unwrap();
    hand_in(server, OTHER, frame).await;
    let said = peer.said(server).await;
    said.iter().filter(|item| matches!(item, Item::Event(..))).count()
}

#[tokio::test]
async fn who_says_again_and_again_that_he_was_put_back_is_given_what_is_kept_a_few_times() {
    let server = at("a.example").await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let mut peer = Peer::new(OTHER);
    let (group, mallory) = mallorys(&alice);
    let shown =
        AccountDevices { list: mallory.list.clone(), devices: vec![mallory.record.clone()] };
    let shown = serde_json::to_value(AccountAnswer::from(shown)).unwrap();
    let shown = Item::Tell(ItemId::new(random()), Tell::Accounts(vec![shown])).to_json();
    let frame = peer.frame(vec![shown, ops(&group, &group.ops)]);
    hand_in(&server, OTHER, frame).await;
    let said: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    let said: Vec<&str> = said.iter().map(String::as_str).collect();
    alice.say(&server, &group, &said).await;
    let events = peer.said(&server).await;
    assert_eq!(events.iter().filter(|item| matches!(item, Item::Event(..))).count(), 30);
    let frame = peer.frame(vec![]);
    hand_in(&server, OTHER, frame).await;
    assert_eq!(other(&server).await["waiting"], 0);
    let mut given = Vec::new();
    for n in 0..20 {
        // What nobody ever gave it, likewise.
        let stream = (n % 2 == 1).then(|| StreamId::new(random()));
        given.push(had(&server, &mut peer, Had { stream, seq: 0 }).await);
        server.pass_ms(11_000);
    }
    let times = given.iter().filter(|count| **count > 0).count();
    assert!((1..=6).contains(&times), "{given:?}");
    assert!(given.iter().all(|count| [0, 30].contains(count)), "{given:?}");
    assert!(other(&server).await["limited"].as_u64().unwrap() > 0);
    // Those here go on.
    let mut ours = Group::create(&server, &alice).await;
    ours.post(&server, &alice, &Body::Add(vec![bob.entry(0)])).await;
    alice.say(&server, &ours, &["undisturbed"]).await;
    assert_eq!(texts(&server, &bob, 1).await, ["undisturbed"]);
}
