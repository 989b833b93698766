//! Servers that have no business in a group here, and those that abuse that they have.

use std::collections::BTreeSet;

use causeway_protocol::{
    api::{AccountAnswer, AccountDevices, GroupHead},
    envelope::{Kind, SubmittedTo},
    ids::{ItemId, text_of},
    link::{Answer, Ask, Call, Item, Row, Tell},
    roster::{Body, Op},
};
use serde_json::{Value, json};

use super::{
    OTHER, ask_of, at,
    groups::{ops, texts, until_epoch, with_carol},
    operator::{operate, other},
    peer::Peer,
    two,
    wire::{Wire, hand_in},
};
use crate::harness::{Group, Person, Server, op_body, random};

pub(super) fn shown(who: &Person) -> AccountAnswer {
    AccountDevices { list: who.list.clone(), devices: vec![who.record.clone()] }.into()
}

pub(super) fn show(who: &Person) -> Value {
    let shown = vec![serde_json::to_value(shown(who)).unwrap()];
    Item::Tell(ItemId::new(random()), Tell::Accounts(shown)).to_json()
}

/// An ask that has `op` posted to a group for `who`, whose account it shows.
fn post(server: &Server, who: &Person, group: &Group, op: &Op) -> Value {
    let mut body = op_body(op);
    body["group"] = json!(group.id());
    body["accounts"] = json!([shown(who)]);
    ask_of(Call::Op, Some(who), body, server.now().plus_ms(30_000)).to_json()
}

/// What the server answers to these; it may say something else, too.
async fn answered(server: &Server, peer: &mut Peer, asks: Vec<Value>) -> Vec<Answer> {
    hand_in(server, OTHER, peer.frame(asks)).await;
    let said = peer.said(server).await.into_iter();
    let answers = said.filter_map(|item| match item {
        Item::Answer(_, answer) => Some(answer),
        Item::Ask(..) | Item::Tell(..) | Item::Event(..) | Item::Row(_) => None,
    });
    answers.collect()
}

/// What is noted, but for how far the link was taken, and what the other server has.
async fn noted(server: &Server) -> BTreeSet<String> {
    let rows = server.rows().await;
    let is_link = |row: &String| row.starts_with("servers:") || row.starts_with("replicas:");
    rows.into_iter().filter(|row| !is_link(row)).collect()
}

#[tokio::test]
async fn a_server_with_nobody_in_a_group_leaves_nothing_whatever_it_asks_about_it() {
    let server = at("a.example").await;
    let alice = server.person("alice").await;
    let group = Group::create(&server, &alice).await;
    let mallory = Person::at("mallory", OTHER);
    let mut peer = Peer::new(OTHER);
    let before = noted(&server).await;
    // It lets itself in; somebody else whom it names; by an op that stands there.
    let erin = Person::at("erin", OTHER);
    let its = [
        group.op(&mallory, &Body::Add(vec![mallory.entry(0)])),
        group.op(&mallory, &Body::Add(vec![erin.entry(0)])),
        group.ops[0].clone(),
    ];
    let asks = its.iter().map(|op| post(&server, &mallory, &group, op)).collect();
    let answers = peer.ask(&server, asks).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!((statuses, noted(&server).await), (vec![404; 3], before));
    // An account that it has shown before is not noted as anybody's in a group either.
    let _ = hand_in(&server, OTHER, peer.frame(vec![show(&mallory)])).await;
    let before = noted(&server).await;
    let until = server.now().plus_ms(30_000);
    let ask = |call, body: Value| ask_of(call, Some(&mallory), body, until).to_json();
    let id = group.id();
    let asks = vec![
        post(&server, &mallory, &group, &its[0]),
        ask(Call::Invites, json!({ "group": id })),
        ask(Call::Requests, json!({ "group": id })),
        ask(Call::SenderKeys, json!({ "group": id })),
        ask(Call::Calls, json!({ "group": id, "what": "page", "body": {} })),
    ];
    let answers = peer.ask(&server, asks).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [404; 5]);
    let to = SubmittedTo::Device(alice.device());
    let key = mallory.submission(id, 0, Kind::KeyDistribution, to, vec![7; 40]);
    hand_in(&server, OTHER, peer.frame(vec![Item::Row(Row::Member(key)).to_json()])).await;
    assert_eq!(noted(&server).await, before);
    assert_eq!(other(&server).await["refused"], 1);
}

#[tokio::test]
async fn an_op_of_a_member_here_that_lets_a_server_in_may_be_posted_by_that_one() {
    let server = at("a.example").await;
    let alice = server.person("alice").await;
    let mut group = Group::create(&server, &alice).await;
    let carol = Person::at("carol", OTHER);
    let op = group.op(&alice, &Body::Add(vec![carol.entry(0)]));
    let mut peer = Peer::new(OTHER);
    let answers = answered(&server, &mut peer, vec![post(&server, &carol, &group, &op)]).await;
    let [Answer { status: 200, body, .. }] = answers.as_slice() else { panic!("{answers:?}") };
    group.install(op.clone());
    let head: GroupHead = serde_json::from_value(body.clone()).unwrap();
    assert_eq!(head.roster_hash, group.roster.hash());
    // She is out again, and is told as far as she read; of somebody new of hers nothing is noted.
    group.post(&server, &alice, &Body::Remove(vec![carol.member()])).await;
    let before = noted(&server).await;
    let erin = Person::at("erin", OTHER);
    let asks = [&carol, &erin].map(|who| post(&server, who, &group, &op));
    let answers = answered(&server, &mut peer, asks.to_vec()).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!((statuses, noted(&server).await), (vec![200, 404], before));
}

#[tokio::test]
async fn what_no_item_carries_is_refused_at_once_and_holds_up_nobody() {
    let (here, alice, there, carol) = two().await;
    let _wire = Wire::between(&here, &there);
    let mut group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    let mallory = Person::at("mallory", OTHER).registered(&there).await;
    let nobodys = text_of(&random::<32>());
    let join = json!({"server": "a.example", "request": "A".repeat(64_000)});
    for (path, body) in [
        (format!("/groups/{nobodys}/join"), &join),
        (group.path("/join"), &join),
        (group.path("/roster"), &json!({"op": "A".repeat(64_000)})),
    ] {
        let answer = mallory.post(&there, &path, body).await;
        assert!([400, 404, 413].contains(&answer.status.as_u16()), "{path}: {}", answer.status);
    }
    // By a member as well, whatever it is made of: many accounts stand beside this one.
    let mut named = Vec::new();
    for n in 0..90 {
        let one = Person::at(&format!("p{n}"), OTHER).registered(&there).await;
        named.push(one.entry(0));
    }
    group.post(&here, &alice, &Body::Role(carol.member(), 1)).await;
    until_epoch(&there, &carol, &group).await;
    let large = group.op(&carol, &Body::Add(named));
    carol.post(&there, &group.path("/roster"), &op_body(&large)).await.refused(413, "M_TOO_LARGE");
    carol.say(&there, &group, &["undisturbed"]).await;
    assert_eq!(texts(&here, &alice, 1).await, ["undisturbed"]);
    assert_eq!(other(&here).await["malformed"], 0);
}

/// The servers that were asked for accounts since this was looked at last.
async fn asked(server: &Server) -> Vec<String> {
    let frames = super::wire::door(server).await;
    let asks = frames.iter().flat_map(|frame| {
        let items = frame["content"]["items"].as_array().cloned().unwrap_or_default();
        items.into_iter().filter_map(|item| Item::parse(&item).ok())
    });
    let accounts = asks.filter_map(|item| match item {
        Item::Ask(_, Ask { call: Call::Account, body, .. }) => Some(body["account"].to_string()),
        _ => None,
    });
    accounts.collect()
}

#[tokio::test]
async fn third_servers_are_asked_for_ops_that_would_be_taken_and_for_a_few_of_one_server() {
    let server = at("a.example").await;
    let alice = server.person("alice").await;
    let mut group = Group::create(&server, &alice).await;
    let (mallory, carol) = (Person::at("mallory", OTHER), Person::at("carol", OTHER));
    let mut peer = Peer::new(OTHER);
    hand_in(&server, OTHER, peer.frame(vec![show(&mallory), show(&carol)])).await;
    let body = Body::Add(vec![mallory.entry(1), carol.entry(0)]);
    group.post(&server, &alice, &body).await;
    peer.said(&server).await;
    let named = |n: usize| Body::Add(vec![Person::at("erin", &format!("n{n}.example")).entry(0)]);
    // Who is in no group here, who may let nobody in, on another roster, more servers than a group has, and
    // what nobody can read.
    let nobody = Person::at("nobody", OTHER);
    let many = (0..40).map(|n| Person::at("erin", &format!("m{n}.example")).entry(0)).collect();
    let mut aside = Group::begun(group.ops[0].clone());
    aside.install(group.ops[1].clone());
    aside.install(group.op(&mallory, &Body::Leave));
    let mut bad = vec![
        post(&server, &mallory, &group, &group.op(&nobody, &named(1))),
        post(&server, &carol, &group, &group.op(&carol, &named(2))),
        post(&server, &mallory, &group, &aside.op(&alice, &named(3))),
        post(&server, &mallory, &group, &group.op(&mallory, &Body::Add(many))),
    ];
    let mut stranger = Peer::new("c.example");
    let frame = stranger.frame(vec![post(
        &server,
        &Person::at("x", "c.example"),
        &group,
        &group.op(&mallory, &named(4)),
    )]);
    hand_in(&server, "c.example", frame).await;
    bad.truncate(4);
    hand_in(&server, OTHER, peer.frame(bad)).await;
    assert_eq!(asked(&server).await, Vec::<String>::new());
    // What would be taken is put aside, 16 of one server, and the rest is refused and counted.
    let good = (10..40).map(|n| post(&server, &mallory, &group, &group.op(&mallory, &named(n))));
    let frame = peer.frame(good.collect());
    hand_in(&server, OTHER, frame).await;
    assert_eq!(asked(&server).await.len(), 16);
    assert_eq!(other(&server).await["limited"], 14);
    // However long it goes on it makes few servers known in an hour.
    for turn in 0..10 {
        server.pass_ms(31_000);
        let good = (100 + turn * 20..).take(16);
        let good = good.map(|n| post(&server, &mallory, &group, &group.op(&mallory, &named(n))));
        let frame = peer.frame(good.collect());
        hand_in(&server, OTHER, frame).await;
        let _ = asked(&server).await;
    }
    let limited = other(&server).await["limited"].as_u64().unwrap();
    assert!(limited > 14 + 60, "{limited}");
}

#[tokio::test]
async fn a_home_that_puts_another_op_where_it_said_yes_is_not_believed() {
    let server = at("a.example").await;
    let alice = server.person("alice").await;
    let mallory = Person::at("mallory", OTHER);
    let mut peer = Peer::new(OTHER);
    let mut theirs = Group::begun(Group::first_op(&mallory));
    theirs.install(theirs.op(&mallory, &Body::Add(vec![alice.entry(1)])));
    hand_in(&server, OTHER, peer.frame(vec![show(&mallory), ops(&theirs, &theirs.ops)])).await;
    for (is_hers, status) in [(true, 200), (false, 502)] {
        let hers = theirs.op(&alice, &Body::Role(alice.member(), 1));
        let other_op = theirs.op(&mallory, &Body::Role(alice.member(), 1));
        let (path, body) = (theirs.path("/roster"), op_body(&hers));
        let home = async {
            let to = loop {
                let said = peer.said(&server).await.into_iter();
                let mut asks = said.filter_map(|item| match item {
                    Item::Ask(to, Ask { call: Call::Op, .. }) => Some(to),
                    _ => None,
                });
                if let Some(to) = asks.next() {
                    break to;
                }
                tokio::task::yield_now().await;
            };
            theirs.install(if is_hers { hers.clone() } else { other_op });
            let head = json!({
                "group": theirs.id(), "epoch": theirs.roster.epoch(), "name": "",
                "roster_hash": theirs.roster.hash(), "members": 2, "closed": false,
            });
            let answer = Answer { to, status: 200, body: head };
            let answer = Item::Answer(ItemId::new(random()), answer).to_json();
            let given = ops(&theirs, std::slice::from_ref(theirs.ops.last().unwrap()));
            hand_in(&server, OTHER, peer.frame(vec![answer, given])).await;
        };
        let (answer, ()) = tokio::join!(alice.post(&server, &path, &body), home);
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    let seen = other(&server).await;
    assert_eq!(seen["refused"], 1, "{seen}");
}

const DAY_MS: u64 = 86_400_000;

/// All that names the other server.
async fn of_other(server: &Server) -> Vec<String> {
    server.rows().await.into_iter().filter(|row| row.contains(OTHER)).collect()
}

async fn count(server: &Server, of: &str) -> usize {
    of_other(server).await.iter().filter(|row| row.starts_with(of)).count()
}

#[tokio::test]
async fn accounts_that_are_in_no_group_are_forgotten_after_a_week_and_their_server_after_a_month() {
    let server = at("a.example").await;
    let alice = server.person("alice").await;
    let mut group = Group::create(&server, &alice).await;
    let people = ["carol", "mallory", "erin"].map(|name| Person::at(name, OTHER));
    let [carol, mallory, erin] = &people;
    let mut peer = Peer::new(OTHER);
    hand_in(&server, OTHER, peer.frame(people.iter().map(show).collect())).await;
    group.post(&server, &alice, &Body::Add(vec![carol.entry(0), mallory.entry(0)])).await;
    assert_eq!(count(&server, "remote_accounts:").await, 3);
    let after = async |days: u64| {
        server.pass_ms(days * DAY_MS);
        server.app.upkeep().await.unwrap();
        (count(&server, "remote_accounts:").await, count(&server, "accounts:").await)
    };
    assert_eq!(after(6).await, (3, 2));
    // Erin was in no group; the others are.
    assert_eq!(after(2).await, (2, 2));
    // Mallory is out, and it is remembered that she was in it.
    group.post(&server, &alice, &Body::Remove(vec![mallory.member()])).await;
    assert_eq!(after(10).await, (2, 2));
    assert_eq!(after(20).await, (2, 2));
    assert_eq!(after(12).await, (1, 1));
    // The server was not heard for a month, and shares a group.
    assert_eq!(count(&server, "servers:").await, 1);
    // Who comes again is known again, whatever was said before.
    let frame = peer.frame(vec![show(erin), show(mallory)]);
    hand_in(&server, OTHER, frame).await;
    group.post(&server, &alice, &Body::Add(vec![mallory.entry(0)])).await;
    assert_eq!(after(8).await, (2, 2));
    let body = Body::Remove(vec![mallory.member(), carol.member()]);
    group.post(&server, &alice, &body).await;
    for _ in 0..4 {
        after(32).await;
    }
    assert_eq!(after(1).await, (0, 0));
    // But for what the group's own log says.
    let log = ["event_log:", "ops:", "groups:"];
    let left = of_other(&server).await;
    assert!(left.iter().all(|row| log.iter().any(|of| row.starts_with(of))), "{left:#?}");
    assert!(!server.rows().await.iter().any(|row| row.starts_with("replicas:")));
    // What it sends then is taken as of a server that nobody knows.
    let until = server.now().plus_ms(30_000);
    let ping = ask_of(Call::Ping, None, json!({}), until).to_json();
    peer.begin_anew(causeway_protocol::ids::ServerLinkId::new(random()));
    assert_eq!(peer.ask(&server, vec![ping]).await[0].status, 200);
}

#[tokio::test]
async fn who_sends_ahead_of_a_frame_that_never_comes_is_listed_with_what_is_held_of_it() {
    let server = at("a.example").await;
    let mut peer = Peer::new(OTHER);
    hand_in(&server, OTHER, peer.frame(Vec::new())).await;
    let until = server.now().plus_ms(30_000);
    let ping = || vec![ask_of(Call::Ping, None, json!({}), until).to_json()];
    let first = peer.frame(ping());
    for _ in 0..9 {
        hand_in(&server, OTHER, peer.frame(ping())).await;
    }
    // Nothing of it was taken.
    assert!(!server.rows().await.iter().any(|row| row.starts_with("servers:")));
    let (_, shown) = operate(&server, reqwest::Method::GET, "/servers").await;
    assert_eq!(shown["servers"].as_array().unwrap().len(), 1, "{shown}");
    assert_eq!(shown["servers"][0]["name"], OTHER);
    assert!(shown["servers"][0]["held_bytes"].as_u64().unwrap() > 9 * 100, "{shown}");
    let (_, none) = operate(&server, reqwest::Method::GET, "/servers?after=b.example").await;
    assert_eq!(none["servers"], json!([]));
    // Once the first comes all are, and it is listed once.
    hand_in(&server, OTHER, first).await;
    let (_, shown) = operate(&server, reqwest::Method::GET, "/servers?limit=1").await;
    assert_eq!(shown["servers"].as_array().unwrap().len(), 1, "{shown}");
    assert_eq!(shown["servers"][0]["held_bytes"], 0);
}
