//! Groups whose members are on three servers.

use std::{collections::BTreeMap, sync::Mutex};

use causeway_protocol::{
    api::{
        AccountAnswer, AccountDevices, GroupHead, JoinPending, MessageStatus, NewInvite, StreamRow,
    },
    envelope::{Kind, SubmittedTo},
    ids::{InviteKey, ItemId},
    link::{Item, Tell},
    roster::Body,
};

use tokio_tungstenite::tungstenite::Message;

use super::{
    OTHER, at, claim,
    groups::{ops, post_at, until_epoch, with_carol},
    look,
    operator::operate,
    peer::Peer,
    restarted,
    wire::{Wire, hand_in},
};
use crate::harness::{Group, Person, Server, op_body, random, signing_key, text};

pub(super) const HOME: &str = "a.example";
pub(super) const THIRD: &str = "c.example";

/// Alice at the home, Carol and Erin at others.
pub(super) struct Three {
    pub(super) home: Server,
    pub(super) alice: Person,
    pub(super) second: Server,
    pub(super) carol: Person,
    pub(super) third: Server,
    pub(super) erin: Person,
    /// Up to where each has read: acknowledgements may not have come before the stream ended.
    last: Mutex<BTreeMap<String, u64>>,
}

impl Three {
    pub(super) async fn start() -> Self {
        let (home, second, third) = (at(HOME).await, at(OTHER).await, at(THIRD).await);
        let alice = home.person("alice").await;
        let carol = Person::at("carol", OTHER).registered(&second).await;
        let erin = Person::at("erin", THIRD).registered(&third).await;
        Self { home, alice, second, carol, third, erin, last: Mutex::default() }
    }

    pub(super) fn wire(&self) -> Wire {
        Wire::among(&self.named())
    }

    pub(super) fn named(&self) -> [(&'static str, &Server); 3] {
        [(HOME, &self.home), (OTHER, &self.second), (THIRD, &self.third)]
    }

    /// A group of all three.
    pub(super) async fn group(&self) -> Group {
        let mut group = with_carol(&self.home, &self.alice, &self.carol).await;
        group.post(&self.home, &self.alice, &Body::Add(vec![self.erin.entry(0)])).await;
        self.until(&group).await;
        group
    }

    async fn until(&self, group: &Group) {
        until_epoch(&self.second, &self.carol, group).await;
        until_epoch(&self.third, &self.erin, group).await;
    }

    /// The next texts of somebody, acknowledged.
    pub(super) async fn texts(&self, server: &Server, who: &Person, count: usize) -> Vec<String> {
        let (mut stream, mut read) = (who.stream(server).await, Vec::new());
        let mut last = self.last.lock().unwrap().get(who.account.as_str()).copied().unwrap_or(0);
        while read.len() < count {
            let row = stream.next().await;
            stream.ack(row.seq.0).await;
            if row.envelope.kind == Kind::Message && row.seq.0 > last {
                last = row.seq.0;
                read.push(text(&row.envelope));
            }
        }
        self.last.lock().unwrap().insert(who.account.to_string(), last);
        read
    }

    /// Nothing else waits for somebody but what may not have been acknowledged yet.
    pub(super) async fn settled(&self, server: &Server, who: &Person) {
        let last = self.last.lock().unwrap().get(who.account.as_str()).copied().unwrap_or(0);
        let mut stream = who.stream(server).await;
        stream.hello().await;
        for _ in 0..3 {
            stream.send(Message::Ping(vec![].into())).await;
            loop {
                match stream.any().await {
                    Message::Pong(_) => break,
                    Message::Text(row) => {
                        let row: StreamRow = serde_json::from_str(&row).unwrap();
                        let is_said = row.envelope.kind == Kind::Message;
                        assert!(!is_said || row.seq.0 <= last, "{row:?}");
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    pub(super) fn each(&self) -> [(&Server, &Person); 3] {
        [(&self.home, &self.alice), (&self.second, &self.carol), (&self.third, &self.erin)]
    }

    /// Each says something, and the other two read it.
    pub(super) async fn talk(&self, group: &Group, word: &str) {
        for (server, who) in self.each() {
            let text = format!("{word} of {}", who.account);
            who.say(server, group, &[&text]).await;
        }
        for (server, who) in self.each() {
            let others = self.each().into_iter().filter(|(_, other)| other.account != who.account);
            let mut expected: Vec<_> =
                others.map(|(_, other)| format!("{word} of {}", other.account)).collect();
            let mut read = self.texts(server, who, 2).await;
            expected.sort();
            read.sort();
            assert_eq!(read, expected, "{}", who.account);
        }
    }
}

#[tokio::test]
async fn each_of_three_reads_the_others_once_and_in_order() {
    let three = Three::start().await;
    let _wire = three.wire();
    let group = three.group().await;
    three.talk(&group, "hello").await;
    let many: Vec<String> = (0..30).map(|n| format!("{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    three.carol.say(&three.second, &group, &many).await;
    assert_eq!(three.texts(&three.home, &three.alice, 30).await, many);
    assert_eq!(three.texts(&three.third, &three.erin, 30).await, many);
    for (server, who) in three.each() {
        three.settled(server, who).await;
        assert_eq!(group.read_ops(server, who).await.ops.len(), 3);
    }
    // Whose records and keys are whose, also between two of which neither is the home.
    assert_eq!(look(&three.second, &three.carol, &three.erin).await.list, three.erin.list);
    assert_eq!(claim(&three.third, &three.erin, &three.carol).await.keys.len(), 1);
    // The operator of each sees the two others.
    for (server, mut others) in [
        (&three.home, vec![OTHER, THIRD]),
        (&three.second, vec![HOME, THIRD]),
        (&three.third, vec![HOME, OTHER]),
    ] {
        let path = format!("/groups/{}/replicas", group.id());
        let (status, shown) = operate(server, reqwest::Method::GET, &path).await;
        assert_eq!(status, 200);
        let named = shown["replicas"].as_array().unwrap().iter();
        let mut named: Vec<_> = named.map(|it| it["server"].as_str().unwrap()).collect();
        named.sort_unstable();
        others.sort_unstable();
        assert_eq!(named, others, "{shown}");
    }
}

#[tokio::test]
async fn what_is_for_one_device_goes_from_any_of_three_to_any() {
    let three = Three::start().await;
    let _wire = three.wire();
    let group = three.group().await;
    for (from, by) in three.each() {
        for (to, whom) in three.each() {
            if by.account == whom.account {
                continue;
            }
            let name = format!("\x01 {} {}", by.account, whom.account).into_bytes();
            let device = SubmittedTo::Device(whom.device());
            let key = by.submission(group.id(), 2, Kind::KeyDistribution, device, name.clone());
            let id = key.name();
            by.submit(from, vec![key]).await.ok::<serde_json::Value>();
            let mut stream = whom.stream(to).await;
            loop {
                let row = stream.next().await;
                stream.ack(row.seq.0).await;
                if row.envelope.id == id {
                    assert_eq!(row.envelope.payload, name);
                    break;
                }
            }
        }
    }
    for (server, who) in three.each() {
        three.settled(server, who).await;
    }
}

#[tokio::test]
async fn an_admin_of_a_replica_lets_a_third_server_in_which_the_home_never_heard_of() {
    let three = Three::start().await;
    let _wire = three.wire();
    let mut group = with_carol(&three.home, &three.alice, &three.carol).await;
    group.post(&three.home, &three.alice, &Body::Role(three.carol.member(), 1)).await;
    until_epoch(&three.second, &three.carol, &group).await;
    let body = Body::Add(vec![three.erin.entry(0)]);
    post_at(&three.second, &three.carol, &mut group, &body).await.ok::<GroupHead>();
    three.until(&group).await;
    three.talk(&group, "hello").await;
    // One that its server does not have is not let in, and what was asked is answered.
    let nobody = Person::at("nobody", THIRD);
    let body = Body::Add(vec![nobody.entry(0)]);
    let answer = post_at(&three.second, &three.carol, &mut group, &body).await;
    assert!(answer.status.is_client_error(), "{}", answer.text());
}

#[tokio::test]
async fn who_is_at_a_third_server_comes_in_by_a_link_that_a_replica_made() {
    let three = Three::start().await;
    let _wire = three.wire();
    let mut group = with_carol(&three.home, &three.alice, &three.carol).await;
    group.post(&three.home, &three.alice, &Body::Role(three.carol.member(), 1)).await;
    until_epoch(&three.second, &three.carol, &group).await;
    let ik = signing_key();
    let expires_ms = three.second.now().plus_ms(3_600_000);
    let ik_pub = InviteKey::new(ik.verifying_key().to_bytes());
    let body = NewInvite { ik_pub, expires_ms, uses: 1 };
    three.carol.post(&three.second, &group.path("/invites"), &body).await.done();
    let join = three.erin.join(&three.third, group.id(), &ik);
    three.erin.post_join_at(&three.third, HOME, &join).await.ok::<JoinPending>();
    let mut stream = three.carol.stream(&three.second).await;
    while stream.next().await.envelope.kind != Kind::Join {}
    let body = Body::Add(vec![three.erin.entry(0)]);
    post_at(&three.second, &three.carol, &mut group, &body).await.ok::<GroupHead>();
    three.until(&group).await;
    three.talk(&group, "hello").await;
}

#[tokio::test]
async fn a_third_server_that_is_gone_stops_nobody_and_has_all_of_it_later() {
    let mut three = Three::start().await;
    let wire = three.wire();
    let mut group = three.group().await;
    three.talk(&group, "before").await;
    drop(wire);
    let wire = Wire::among(&[(HOME, &three.home), (OTHER, &three.second)]);
    three.alice.say(&three.home, &group, &["one"]).await;
    assert_eq!(three.texts(&three.second, &three.carol, 1).await, ["one"]);
    let dan = Person::at("dan", OTHER).registered(&three.second).await;
    group.post(&three.home, &three.alice, &Body::Add(vec![dan.entry(0)])).await;
    until_epoch(&three.second, &dan, &group).await;
    three.carol.say(&three.second, &group, &["two"]).await;
    assert_eq!(three.texts(&three.home, &three.alice, 1).await, ["two"]);
    assert_eq!(three.texts(&three.second, &dan, 1).await, ["two"]);
    dan.say(&three.second, &group, &["three"]).await;
    assert_eq!(three.texts(&three.home, &three.alice, 1).await, ["three"]);
    drop(wire);
    three.home = restarted(three.home, HOME).await;
    three.second = restarted(three.second, OTHER).await;
    let _wire = three.wire();
    let mut read = three.texts(&three.third, &three.erin, 3).await;
    let of_second: Vec<_> = read.iter().filter(|text| *text != "one").cloned().collect();
    assert_eq!(of_second, ["two", "three"], "in the order of each server");
    read.sort();
    assert_eq!(read, ["one", "three", "two"]);
    three.settled(&three.third, &three.erin).await;
}

#[tokio::test]
async fn the_two_others_go_on_while_the_home_is_gone() {
    let three = Three::start().await;
    let wire = three.wire();
    let group = three.group().await;
    drop(wire);
    let _wire = Wire::among(&[(OTHER, &three.second), (THIRD, &three.third)]);
    three.carol.say(&three.second, &group, &["still here"]).await;
    assert_eq!(three.texts(&three.third, &three.erin, 1).await, ["still here"]);
    three.erin.say(&three.third, &group, &["me too"]).await;
    assert_eq!(three.texts(&three.second, &three.carol, 1).await, ["me too"]);
}

#[tokio::test]
async fn a_message_that_is_faster_than_the_op_it_needs_waits_for_it() {
    let three = Three::start().await;
    let wire = three.wire();
    let mut group = with_carol(&three.home, &three.alice, &three.carol).await;
    until_epoch(&three.second, &three.carol, &group).await;
    drop(wire);
    // Erin's server hears of her being let in, and Carol's does not.
    let wire = Wire::among(&[(HOME, &three.home), (THIRD, &three.third)]);
    group.post(&three.home, &three.alice, &Body::Add(vec![three.erin.entry(0)])).await;
    until_epoch(&three.third, &three.erin, &group).await;
    three.erin.say(&three.third, &group, &["first"]).await;
    assert_eq!(three.texts(&three.home, &three.alice, 1).await, ["first"]);
    drop(wire);
    // Nor can the home tell her: what she needs she has of Erin's.
    let _wire = Wire::among(&[(OTHER, &three.second), (THIRD, &three.third)]);
    assert_eq!(three.texts(&three.second, &three.carol, 1).await, ["first"]);
    until_epoch(&three.second, &three.carol, &group).await;
}

#[tokio::test]
async fn what_is_said_before_a_third_server_has_shown_its_accounts_is_kept_for_it() {
    let three = Three::start().await;
    let wire = three.wire();
    let mut group = with_carol(&three.home, &three.alice, &three.carol).await;
    until_epoch(&three.second, &three.carol, &group).await;
    look(&three.home, &three.alice, &three.erin).await;
    drop(wire);
    let wire = Wire::among(&[(HOME, &three.home), (OTHER, &three.second)]);
    group.post(&three.home, &three.alice, &Body::Add(vec![three.erin.entry(0)])).await;
    until_epoch(&three.second, &three.carol, &group).await;
    three.carol.say(&three.second, &group, &["already"]).await;
    assert_eq!(three.texts(&three.home, &three.alice, 1).await, ["already"]);
    for server in [&three.home, &three.second] {
        server.app.upkeep().await.unwrap();
    }
    drop(wire);
    let _wire = three.wire();
    assert_eq!(three.texts(&three.third, &three.erin, 1).await, ["already"]);
    three.settled(&three.third, &three.erin).await;
}

#[tokio::test]
async fn a_server_of_which_all_are_out_is_told_until_then_and_the_others_talk_on() {
    let three = Three::start().await;
    let _wire = three.wire();
    let mut group = three.group().await;
    three.talk(&group, "before").await;
    group.post(&three.home, &three.alice, &Body::Remove(vec![three.erin.member()])).await;
    until_epoch(&three.second, &three.carol, &group).await;
    three.carol.say(&three.second, &group, &["without her"]).await;
    assert_eq!(three.texts(&three.home, &three.alice, 1).await, ["without her"]);
    three.alice.say(&three.home, &group, &["indeed"]).await;
    assert_eq!(three.texts(&three.second, &three.carol, 1).await, ["indeed"]);
    // She is told of the op that took her out, and of nothing after it.
    let mut stream = three.erin.stream(&three.third).await;
    loop {
        let row = stream.next().await;
        assert_ne!(row.envelope.kind, Kind::Message);
        stream.ack(row.seq.0).await;
        if row.envelope.epoch == group.roster.epoch() {
            break;
        }
    }
    stream.settle().await;
    drop(stream);
    let late = three.erin.message(group.id(), 2, "late");
    assert!(!three.erin.submit(&three.third, vec![late]).await.status.is_success());
    for server in [&three.home, &three.second] {
        let path = format!("/groups/{}/replicas", group.id());
        let (_, shown) = operate(server, reqwest::Method::GET, &path).await;
        assert_eq!(shown["replicas"].as_array().unwrap().len(), 1, "{shown}");
    }
    let said = three.alice.say(&three.home, &group, &["x"]).await.accepted[0].id;
    let path = format!("/messages/{said}/status");
    let status: MessageStatus = three.alice.get(&three.home, &path).await.ok();
    assert_eq!(status.recipients.len(), 1);
}

#[tokio::test]
async fn a_server_that_names_many_others_makes_few_of_them_known() {
    let server = at(HOME).await;
    let alice = server.person("alice").await;
    let mallory = Person::at("mallory", OTHER);
    let mut peer = Peer::new(OTHER);
    let mut theirs = Group::begun(Group::first_op(&mallory));
    theirs.install(theirs.op(&mallory, &Body::Add(vec![alice.entry(0)])));
    for n in 0..80 {
        let named = Person::at("erin", &format!("n{n}.example"));
        theirs.install(theirs.op(&mallory, &Body::Add(vec![named.entry(0)])));
    }
    for op in &theirs.ops {
        hand_in(&server, OTHER, peer.frame(vec![ops(&theirs, std::slice::from_ref(op))])).await;
    }
    let known = server.rows().await.iter().filter(|row| row.starts_with("servers:")).count();
    assert_eq!(known, 1 + 60);
    // It is the home of nobody's accounts but its own, which nothing was asked for and nothing put down.
    let devices = server.rows().await.iter().filter(|row| row.starts_with("devices:")).count();
    assert_eq!(devices, 1);
}

#[tokio::test]
async fn a_third_server_shows_its_own_accounts_and_gives_no_ops_unasked() {
    let three = Three::start().await;
    let wire = three.wire();
    let mut group = three.group().await;
    three.talk(&group, "before").await;
    drop(wire);
    let mut peer = Peer::new(THIRD);
    let admin = group.op(&three.alice, &Body::Remove(vec![three.carol.member()]));
    let fake = Person::at("frank", HOME);
    let account = AccountDevices { list: fake.list.clone(), devices: vec![fake.record.clone()] };
    let shown = serde_json::to_value(AccountAnswer::from(account)).unwrap();
    let before = three.second.rows().await;
    for item in [
        // An op that is good, and not its to give; another server's account.
        ops(&group, std::slice::from_ref(&admin)),
        Item::Tell(ItemId::new(random()), Tell::Accounts(vec![shown])).to_json(),
    ] {
        hand_in(&three.second, THIRD, peer.frame(vec![item])).await;
    }
    let noted = ["servers:", "events:", "mailboxes:"];
    let is_link = |row: &&String| !noted.iter().any(|table| row.starts_with(table));
    let after = three.second.rows().await;
    let new: Vec<_> = after.iter().filter(is_link).filter(|row| !before.contains(row)).collect();
    assert!(new.is_empty(), "{new:?}");
    // The home gives it, and all go on.
    let _wire = three.wire();
    group.install(admin.clone());
    let body = op_body(&admin);
    let posted = three.alice.post(&three.home, &group.path("/roster"), &body).await;
    posted.ok::<GroupHead>();
    until_epoch(&three.third, &three.erin, &group).await;
}
