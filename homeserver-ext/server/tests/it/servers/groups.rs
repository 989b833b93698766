//! Groups whose members are on two servers.

use causeway_protocol::{
    api::{AccountAnswer, AccountDevices, GroupHead, GroupServers, MessageStatus, PostEnvelopes},
    envelope::{Kind, Submission, SubmittedTo},
    ids::{EnvelopeId, ItemId, StreamId},
    link::{Carried, Event, EventPlace, Item, Row, Tell},
    roster::{Body, Op, Policy},
};
use reqwest::Method;

use super::{
    at,
    peer::Peer,
    restarted, two,
    wire::{Wire, hand_in},
};
use crate::harness::{Answer, Group, Person, Server, json, op_body, policy, random, text};

/// Posts the next op where the signer is, whose group may be kept elsewhere.
pub(super) async fn post_at(
    server: &Server,
    signer: &Person,
    group: &mut Group,
    body: &Body,
) -> Answer {
    let op = group.op(signer, body);
    let answer = signer.post(server, &group.path("/roster"), &op_body(&op)).await;
    if answer.status.is_success() {
        group.install(op);
    }
    answer
}

pub(super) async fn with_carol(here: &Server, alice: &Person, carol: &Person) -> Group {
    let mut group = Group::create(here, alice).await;
    group.post(here, alice, &Body::Add(vec![carol.entry(0)])).await;
    group
}

/// The next texts of somebody, acknowledged.
pub(super) async fn texts(server: &Server, who: &Person, count: usize) -> Vec<String> {
    let mut stream = who.stream(server).await;
    let mut texts = Vec::new();
    while texts.len() < count {
        let row = stream.next().await;
        assert_eq!(row.envelope.check(), Ok(()), "{row:?}");
        if row.envelope.kind == Kind::Message {
            texts.push(text(&row.envelope));
        }
        stream.ack(row.seq.0).await;
    }
    texts
}

#[tokio::test]
async fn a_member_elsewhere_reads_the_log_and_everybodys_messages_in_order() {
    let (here, alice, there, carol) = two().await;
    let _wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    let said: Vec<String> = (0..30).map(|n| format!("here {n}")).collect();
    let said: Vec<&str> = said.iter().map(String::as_str).collect();
    alice.say(&here, &group, &said).await;
    assert_eq!(texts(&there, &carol, 30).await, said);
    // The log is whole there, from the beginning on.
    let ops = group.read_ops(&there, &carol).await;
    assert_eq!(ops.ops.len(), 2);
    let head: GroupHead = carol.get(&there, &group.path("")).await.ok();
    assert_eq!(head.roster_hash, group.roster.hash());
    // And back.
    let back: Vec<String> = (0..30).map(|n| format!("there {n}")).collect();
    let back: Vec<&str> = back.iter().map(String::as_str).collect();
    carol.say(&there, &group, &back).await;
    assert_eq!(texts(&here, &alice, 30).await, back);
}

#[tokio::test]
async fn what_is_for_one_device_goes_to_it_alone_and_its_sender_sees_how_far_it_came() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    drop(wire);
    let to = SubmittedTo::Device(carol.device());
    let key = alice.submission(group.id(), 1, Kind::KeyDistribution, to, b"\x01 sealed".to_vec());
    let id = key.name();
    alice.submit(&here, vec![key]).await.ok::<serde_json::Value>();
    let status: MessageStatus = alice.get(&here, &format!("/messages/{id}/status")).await.ok();
    assert_eq!(format!("{:?}", status.recipients[0].state), "Queued");
    let _wire = Wire::between(&here, &there);
    let mut stream = carol.stream(&there).await;
    let row = loop {
        let row = stream.next().await;
        if row.envelope.kind == Kind::KeyDistribution {
            break row;
        }
    };
    assert_eq!((row.envelope.id, row.envelope.payload), (id, b"\x01 sealed".to_vec()));
    loop {
        let status: MessageStatus = alice.get(&here, &format!("/messages/{id}/status")).await.ok();
        // That her server has it, or that she was given it, which may be said first.
        if ["Relayed", "Delivered"].contains(&&*format!("{:?}", status.recipients[0].state)) {
            break;
        }
        tokio::task::yield_now().await;
    }
    // Of what is for all, likewise.
    let said = alice.say(&here, &group, &["to all"]).await.accepted[0].id;
    loop {
        let status: MessageStatus =
            alice.get(&here, &format!("/messages/{said}/status")).await.ok();
        let state = format!("{:?}", status.recipients[0].state);
        assert!(["Queued", "Relayed", "Delivered"].contains(&&*state), "{state}");
        if state != "Queued" {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_member_elsewhere_signs_ops_at_the_home_and_one_who_is_out_reads_nothing_more() {
    let (here, alice, there, carol) = two().await;
    let _wire = Wire::between(&here, &there);
    let mut group = with_carol(&here, &alice, &carol).await;
    alice.say(&here, &group, &["one"]).await;
    assert_eq!(texts(&there, &carol, 1).await, ["one"]);
    // A second person there, let in by an admin there: the home takes the op, and both have it.
    let body = Body::Role(carol.member(), 1);
    group.post(&here, &alice, &body).await;
    let dan = Person::at("dan", "b.example").registered(&there).await;
    until_epoch(&there, &carol, &group).await;
    let added = post_at(&there, &carol, &mut group, &Body::Add(vec![dan.entry(0)])).await;
    added.ok::<GroupHead>();
    until_epoch(&here, &alice, &group).await;
    until_epoch(&there, &dan, &group).await;
    // An op on an older roster is refused by the home with what is lacking.
    let mut old = group.clone();
    group.post(&here, &alice, &Body::Remove(vec![dan.member()])).await;
    let late = post_at(&there, &carol, &mut old, &Body::Remove(vec![dan.member()])).await;
    assert!([400, 409].contains(&late.status.as_u16()), "{}", late.text());
    until_epoch(&there, &carol, &group).await;
    alice.say(&here, &group, &["two"]).await;
    assert_eq!(texts(&there, &carol, 1).await, ["two"]);
    dan.get(&there, &group.path("")).await.refused(404, "M_NOT_FOUND");
    let mut stream = dan.stream(&there).await;
    stream.settle().await;
    // What he says is not taken any more, at his own server.
    let late = dan.submit(&there, vec![dan.message(group.id(), 3, "late")]).await;
    assert!(!late.status.is_success());
}

pub(super) async fn until_epoch(server: &Server, who: &Person, group: &Group) {
    loop {
        let answer = who.get(server, &group.path("")).await;
        if answer.status.is_success() && answer.ok::<GroupHead>().epoch == group.roster.epoch() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_while_each_server_restarts_and_frames_are_lost() {
    let (mut here, alice, mut there, carol) = two().await;
    let wire = Wire::lossy(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    let mut all = Vec::new();
    drop(wire);
    for round in 0..4 {
        let texts: Vec<String> = (0..20).map(|n| format!("{round} {n}")).collect();
        let said: Vec<&str> = texts.iter().map(String::as_str).collect();
        alice.say(&here, &group, &said).await;
        carol.say(&there, &group, &said).await;
        all.extend(texts);
        let wire = Wire::lossy(&here, &there);
        // Half of it may have come when one of them ends.
        if round % 2 == 0 {
            here = restarted(here, "a.example").await;
        } else {
            there = restarted(there, "b.example").await;
        }
        drop(wire);
    }
    let _wire = Wire::between(&here, &there);
    assert_eq!(texts(&there, &carol, 80).await, all);
    assert_eq!(texts(&here, &alice, 80).await, all);
    for (server, who) in [(&here, &alice), (&there, &carol)] {
        who.stream(server).await.settle().await;
    }
}

#[tokio::test]
async fn nobody_logs_in_here_with_an_account_of_elsewhere_and_nobody_unknown_is_added() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let mut group = with_carol(&here, &alice, &carol).await;
    let nonce: causeway_protocol::api::LoginNonce =
        here.send(Method::POST, "/login/nonce", None, b"{}".to_vec()).await.ok();
    let bytes = causeway_protocol::device::login_bytes("a.example", &carol.device(), &nonce.nonce);
    let signature = crate::harness::sign(&carol.key, &bytes);
    let device_id = carol.device();
    let request = causeway_protocol::api::LoginRequest { device_id, nonce: nonce.nonce, signature };
    let answer = here.send(Method::POST, "/login", None, json(&request)).await;
    answer.refused(403, "M_FORBIDDEN");
    drop(wire);
    // Nobody of whom nothing is known is added; where he is cannot be asked.
    let erin = Person::at("erin", "c.example");
    let answer = post_at(&here, &alice, &mut group, &Body::Add(vec![erin.entry(0)])).await;
    answer.refused(504, "DEV_CAUSEWAY_UNREACHABLE");
    // A session of one server opens nothing of the other.
    let body = PostEnvelopes { envelopes: vec![carol.message(group.id(), 1, "x")], count: None };
    let answer = carol.post(&here, &group.path("/envelopes"), &body).await;
    answer.refused(401, "M_UNKNOWN_TOKEN");
}

fn event(group: &Group, carried: Carried) -> serde_json::Value {
    let place = EventPlace { stream: StreamId::new(random()), seq: 1 };
    let event = Event { group: group.id(), place, after: None, carried };
    Item::Event(ItemId::new(random()), event).to_json()
}

pub(super) fn said(group: &Group, envelope: Submission) -> serde_json::Value {
    event(group, Carried::Envelopes(vec![envelope]))
}

pub(super) fn ops(group: &Group, ops: &[Op]) -> serde_json::Value {
    event(group, Carried::Ops(ops.iter().map(|op| op.as_bytes().to_vec()).collect()))
}

#[tokio::test]
async fn a_server_that_keeps_to_nothing_changes_nothing_and_disturbs_nobody() {
    let server = at("a.example").await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let mut group = Group::create(&server, &alice).await;
    group.post(&server, &alice, &Body::Add(vec![bob.entry(0)])).await;
    let (mallory, carol) = (Person::at("mallory", "b.example"), Person::at("carol", "c.example"));
    let mut peer = Peer::new("b.example");
    let theirs = Group::begun(Group::first_op(&mallory));
    let third = Group::begun(Group::first_op(&carol));
    let before = server.rows().await;
    let to = SubmittedTo::Device(bob.device());
    let key = mallory.submission(group.id(), 1, Kind::KeyDistribution, to, vec![7; 40]);
    let mut forged = mallory.message(group.id(), 1, "forged");
    forged.sender = alice.message(group.id(), 1, "forged").sender;
    let leaves = group.op(&bob, &Body::Leave);
    for item in [
        // In a group that it has nobody in; in the name of somebody here; of one who is not its own.
        said(&group, mallory.message(group.id(), 1, "let me in")),
        said(&group, forged),
        said(&group, carol.message(group.id(), 1, "from elsewhere")),
        Item::Row(Row::Member(key)).to_json(),
        // For all, in a row; in a group of another id.
        Item::Row(Row::Member(mallory.message(group.id(), 1, "for all"))).to_json(),
        said(&theirs, mallory.message(group.id(), 1, "another")),
        // Ops of a group whose home it is not: the next one, the first of a third's, one without a beginning.
        ops(&group, std::slice::from_ref(&leaves)),
        ops(&third, &third.ops),
        ops(&theirs, std::slice::from_ref(&leaves)),
        event(&group, Carried::Ops(vec![vec![1; 60]])),
    ] {
        let frame = peer.frame(vec![item]);
        assert!(hand_in(&server, "b.example", frame).await.is_empty());
    }
    let is_link = |row: &String| row.starts_with("servers:") || row.starts_with("numbers:");
    let after: Vec<_> = server.rows().await.into_iter().filter(|row| !is_link(row)).collect();
    let before: Vec<_> = before.into_iter().filter(|row| !is_link(row)).collect();
    assert_eq!(after, before);
    // A second history of a group of its own is left out, and it may make so many groups known.
    let frame = peer.frame(vec![ops(&theirs, &theirs.ops)]);
    hand_in(&server, "b.example", frame).await;
    for _ in 0..610 {
        let another = Group::begun(Group::first_op(&mallory));
        let frame = peer.frame(vec![ops(&another, &another.ops)]);
        hand_in(&server, "b.example", frame).await;
    }
    let groups = server.rows().await.iter().filter(|row| row.starts_with("groups:")).count();
    // Those that were refused count, too.
    assert_eq!(groups, 1 + 598);
    // Those here go on.
    alice.say(&server, &group, &["undisturbed"]).await;
    assert_eq!(texts(&server, &bob, 1).await, ["undisturbed"]);
}

#[tokio::test]
async fn of_what_comes_together_only_what_may_not_is_not_put_down() {
    let server = at("a.example").await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let carol = Person::at("carol", "b.example");
    let mut group = Group::begun(Group::first_op_of(&carol, 3));
    for body in [Body::Add(vec![alice.entry(0), bob.entry(0)]), Body::Remove(vec![bob.member()])] {
        let op = group.op(&carol, &body);
        group.install(op);
    }
    let shown = AccountDevices { list: carol.list.clone(), devices: vec![carol.record.clone()] };
    let shown = serde_json::to_value(AccountAnswer::from(shown)).unwrap();
    let accounts = Item::Tell(ItemId::new(random()), Tell::Accounts(vec![shown])).to_json();
    let message = |epoch, text| carol.message(group.id(), epoch, text);
    // Under a shared key nobody opens what was sealed before somebody was taken out.
    let (stale, mut wrong) = (message(1, "stale"), message(2, "wrong"));
    wrong.id = Some(EnvelopeId::new(random()));
    let to = SubmittedTo::Device(alice.device());
    let key = carol.submission(group.id(), 2, Kind::KeyDistribution, to, b"\x01 key".to_vec());
    let said = [message(2, "one"), stale, message(2, "two"), wrong, message(2, "three")]
        .map(|envelope| said(&group, envelope));
    let mut items = vec![accounts, ops(&group, &group.ops)];
    items.extend(said);
    items.insert(4, Item::Row(Row::Member(key)).to_json());
    let frame = Peer::new("b.example").frame(items);
    hand_in(&server, "b.example", frame.clone()).await;
    // What was put down is not once more.
    hand_in(&server, "b.example", frame).await;
    let mut stream = alice.stream(&server).await;
    let mut read = Vec::new();
    for row in stream.settled().await {
        match row.envelope.kind {
            Kind::Roster => {}
            Kind::Message => read.push(text(&row.envelope)),
            kind => read.push(format!("{kind:?}")),
        }
    }
    assert_eq!(read, ["one", "KeyDistribution", "two", "three"]);
}

#[tokio::test]
async fn ops_and_messages_come_in_the_order_in_which_the_home_took_them() {
    let (here, alice, there, carol) = two().await;
    let mut group = Group::create(&here, &alice).await;
    // More than one event holds.
    for n in 0..80 {
        let policy = Policy { description: format!("{n} {}", "x".repeat(900)), ..policy() };
        group.post(&here, &alice, &Body::Policy(policy)).await;
    }
    let wire = Wire::between(&here, &there);
    group.post(&here, &alice, &Body::Add(vec![carol.entry(0)])).await;
    drop(wire);
    alice.say(&here, &group, &["one"]).await;
    group.post(&here, &alice, &Body::Policy(policy())).await;
    alice.say(&here, &group, &["two"]).await;
    group.post(&here, &alice, &Body::Remove(vec![carol.member()])).await;
    alice.say(&here, &group, &["three"]).await;
    let _wire = Wire::between(&here, &there);
    // What was said while she was in, and nothing after.
    assert_eq!(texts(&there, &carol, 2).await, ["one", "two"]);
    let mut epochs = Vec::new();
    let mut stream = carol.stream(&there).await;
    while epochs.last() != Some(&group.roster.epoch()) {
        let row = stream.next().await;
        if row.envelope.kind == Kind::Message {
            // What was acknowledged last may not have been before the stream ended.
            assert_ne!(text(&row.envelope), "three");
            continue;
        }
        epochs.push(row.envelope.epoch);
    }
    stream.settle().await;
    assert_eq!(group.read_ops(&there, &carol).await.ops.len(), group.ops.len());
}

#[tokio::test]
async fn members_see_on_which_servers_a_group_is_and_what_waits_for_each() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    drop(wire);
    alice.say(&here, &group, &["one", "two"]).await;
    let of = async |server: &Server, who: &Person| -> GroupServers {
        who.get(server, &group.path("/servers")).await.ok()
    };
    let seen = of(&here, &alice).await;
    let others: Vec<_> = seen.servers.iter().map(|of| (of.server.as_str(), of.waiting)).collect();
    assert_eq!((seen.home.as_str(), others), ("a.example", vec![("b.example", 2)]));
    let seen = of(&there, &carol).await;
    assert_eq!((seen.home.as_str(), seen.servers[0].server.as_str()), ("a.example", "a.example"));
    assert!(seen.servers[0].heard_ms.is_some());
    let _wire = Wire::between(&here, &there);
    while of(&here, &alice).await.servers[0].waiting > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_op_that_is_posted_elsewhere_than_at_home_stands_behind_what_was_said_before_it() {
    let server = at("a.example").await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let (carol, mut peer) = (Person::at("carol", "b.example"), Peer::new("b.example"));
    let mut group = Group::begun(Group::first_op(&carol));
    group.install(group.op(&carol, &Body::Add(vec![alice.entry(1), bob.entry(0)])));
    let shown = AccountDevices { list: carol.list.clone(), devices: vec![carol.record.clone()] };
    let shown = serde_json::to_value(AccountAnswer::from(shown)).unwrap();
    let accounts = Item::Tell(ItemId::new(random()), Tell::Accounts(vec![shown])).to_json();
    let frame = peer.frame(vec![accounts, ops(&group, &group.ops)]);
    hand_in(&server, "b.example", frame).await;
    // The home had taken this before, and its answer is quicker.
    let before = said(&group, carol.message(group.id(), 1, "before"));
    let remove = group.op(&alice, &Body::Remove(vec![bob.member()]));
    group.install(remove.clone());
    let home = async {
        let head = GroupHead {
            group: group.id(),
            epoch: group.roster.epoch(),
            roster_hash: group.roster.hash(),
            name: "tea".to_owned(),
            members: 2,
            closed: false,
        };
        peer.answer_next(&server, 200, serde_json::to_value(head).unwrap()).await;
        let frame = peer.frame(vec![before, ops(&group, std::slice::from_ref(&remove))]);
        hand_in(&server, "b.example", frame).await;
    };
    let path = group.path("/roster");
    let body = op_body(&remove);
    let (answer, ()) = tokio::join!(alice.post(&server, &path, &body), home);
    answer.ok::<GroupHead>();
    until_epoch(&server, &alice, &group).await;
    // Also who is out reads what was said before.
    for who in [&alice, &bob] {
        let mut stream = who.stream(&server).await;
        let mut rows = Vec::new();
        while rows.last() != Some(&(Kind::Roster, 2)) {
            let row = stream.next().await;
            rows.push((row.envelope.kind, row.envelope.epoch.0));
        }
        assert_eq!(rows, [(Kind::Roster, 1), (Kind::Message, 1), (Kind::Roster, 2)]);
    }
}
