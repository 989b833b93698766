//! Groups whose members are on two servers.

use causeway_protocol::{
    api::{GroupHead, MessageStatus, PostEnvelopes},
    envelope::{Kind, SubmittedTo},
    roster::Body,
};
use reqwest::Method;

use super::{restarted, two, wire::Wire};
use crate::harness::{Answer, Group, Person, Server, json, op_body, text};

/// Posts the next op where the signer is, whose group may be kept elsewhere.
async fn post_at(server: &Server, signer: &Person, group: &mut Group, body: &Body) -> Answer {
    let op = group.op(signer, body);
    let answer = signer.post(server, &group.path("/roster"), &op_body(&op)).await;
    if answer.status.is_success() {
        group.install(op);
    }
    answer
}

async fn with_carol(here: &Server, alice: &Person, carol: &Person) -> Group {
    let mut group = Group::create(here, alice).await;
    group.post(here, alice, &Body::Add(vec![carol.entry(0)])).await;
    group
}

/// The next texts of somebody, acknowledged.
async fn texts(server: &Server, who: &Person, count: usize) -> Vec<String> {
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
        if format!("{:?}", status.recipients[0].state) == "Acked" {
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

async fn until_epoch(server: &Server, who: &Person, group: &Group) {
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
async fn nobody_logs_in_here_with_an_account_of_elsewhere_and_a_third_server_is_refused() {
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
