//! `POST groups/{id}/legacy/{suite}/messages`: the seed's JSON, byte for byte to all who count.

use causeway_protocol::{
    api::Accepted,
    envelope::Kind,
    ids::Timestamp,
    roster::{Body, Create, OpCore},
};
use reqwest::StatusCode;

use crate::harness::{Group, Person, Server, op_body, policy, random};

async fn legacy(server: &Server, admin: &Person, suite: u8) -> Group {
    let mut policy = policy();
    policy.min_version = 1;
    let create = Create {
        scheme: 1,
        suite,
        rand: random(),
        account: admin.account.as_str().to_owned(),
        legacy_id: String::new(),
        devices: admin.devices(),
        policy,
    };
    let op = admin.seal_op(OpCore::create(&admin.record, Timestamp(1), create).unwrap());
    let _: causeway_protocol::api::GroupHead =
        admin.post(server, "/groups", &op_body(&op)).await.ok();
    Group::begun(op)
}

async fn post(
    server: &Server,
    person: &Person,
    group: &Group,
    suite: &str,
    body: &str,
) -> (StatusCode, String) {
    let path = group.path(&format!("/legacy/{suite}/messages"));
    let body = body.as_bytes().to_vec();
    let answer = server.send(reqwest::Method::POST, &path, Some(&person.token), body).await;
    (answer.status, answer.text())
}

#[tokio::test]
async fn what_a_seeds_client_says_comes_as_it_said_it() {
    for (number, suite) in [(0x81, "opus_v1"), (0x82, "ren_a")] {
        says(number, suite).await;
    }
}

async fn says(number: u8, suite: &str) {
    let server = Server::start().await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let mut group = legacy(&server, &alice, number).await;
    group.post(&server, &alice, &Body::Add(vec![bob.entry(0)])).await;
    let body = "{\"type\": \"group_message\",  \"message_index\": 0, \"é\": [1,2]}\n";
    let (status, answer) = post(&server, &alice, &group, suite, body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let accepted: Accepted = serde_json::from_str(&answer).unwrap();
    assert_eq!(accepted.accepted[0].recipients, 1);
    let again = post(&server, &alice, &group, suite, body).await;
    assert_eq!(again, (StatusCode::OK, answer), "the same bytes are the same message");

    let mut stream = bob.stream(&server).await;
    let row = loop {
        let row = stream.next().await;
        if row.envelope.kind == Kind::Message {
            break row;
        }
    };
    assert_eq!(row.envelope.payload, body.as_bytes());
    assert_eq!(row.envelope.sender.as_ref().unwrap().device, alice.device());
    assert_eq!(row.envelope.epoch, group.roster.epoch());
    row.envelope.check().unwrap();
}

#[tokio::test]
async fn what_is_no_message_of_the_suite_is_refused() {
    let server = Server::start().await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let mut group = legacy(&server, &alice, 0x81).await;
    let other = Group::create(&server, &alice).await;
    for (body, expected) in [
        ("", StatusCode::BAD_REQUEST),
        ("[]", StatusCode::BAD_REQUEST),
        (" {}", StatusCode::BAD_REQUEST),
        ("{} x", StatusCode::BAD_REQUEST),
        ("\u{feff}{}", StatusCode::BAD_REQUEST),
        ("{\"a\":", StatusCode::BAD_REQUEST),
    ] {
        let (status, answer) = post(&server, &alice, &group, "opus_v1", body).await;
        assert_eq!(status, expected, "{body}: {answer}");
    }
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(45_000));
    let (status, _) = post(&server, &alice, &group, "opus_v1", &long).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, _) = post(&server, &alice, &group, "secirc", "{}").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _) = post(&server, &alice, &group, "ren_a", "{}").await;
    assert_eq!(status, StatusCode::NOT_FOUND, "the other suite");
    let (status, _) = post(&server, &alice, &other, "opus_v1", "{}").await;
    assert_eq!(status, StatusCode::NOT_FOUND, "another suite");
    let (status, _) = post(&server, &bob, &group, "opus_v1", "{}").await;
    assert_eq!(status, StatusCode::NOT_FOUND, "not a member");
    let (status, _) = post(&server, &alice, &group, "opus_v1", "{}").await;
    assert_eq!(status, StatusCode::OK);
    let upgraded =
        causeway_protocol::roster::Policy { min_version: 2, ..group.roster.policy().clone() };
    group.post(&server, &alice, &Body::Policy(upgraded)).await;
    let (status, _) = post(&server, &alice, &group, "opus_v1", "{}").await;
    assert_eq!(status, StatusCode::NOT_FOUND, "upgraded");
}
