//! New keys that an admin asks of everybody, on both servers.

use std::time::Duration;

use causeway_protocol::{
    link::{Call, Item},
    roster::Body,
};
use causeway_server::TokenHash;
use serde_json::{Value, json};

use super::{
    OTHER, ask_of, at,
    groups::{until_epoch, with_carol},
    peer::Peer,
    two,
    wire::{DOOR_TOKEN, Wire, hand_in},
};
use crate::harness::{Group, Person, Server};

async fn asked_at(server: &Server, who: &Person, group: &Group) -> Option<u64> {
    let report = json!({ "keys": [], "failures": {} });
    let noted: Value = who.put(server, &group.path("/sender-keys"), &report).await.ok();
    noted["rotate_asked_ms"].as_u64()
}

#[tokio::test]
async fn who_is_elsewhere_is_asked_for_new_keys_too_once_an_hour() {
    let (here, alice, there, carol) = two().await;
    let _wire = Wire::between(&here, &there);
    let mut group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    let path = group.path("/sender-keys");
    assert_eq!(asked_at(&there, &carol, &group).await, None);
    carol.delete(&there, &path).await.refused(403, "M_FORBIDDEN");
    alice.delete(&here, &path).await.done();
    assert_eq!(asked_at(&here, &alice, &group).await, Some(here.now().0));
    assert_eq!(asked_at(&there, &carol, &group).await, Some(there.now().0));
    alice.delete(&here, &path).await.refused(429, "M_LIMIT_EXCEEDED");
    // And by an admin of the other server than the home, of whom the home's devices hear.
    group.post(&here, &alice, &Body::Role(carol.member(), 1)).await;
    until_epoch(&there, &carol, &group).await;
    carol.delete(&there, &path).await.refused(429, "M_LIMIT_EXCEEDED");
    for server in [&here, &there] {
        server.pass_ms(3_600_000);
    }
    carol.delete(&there, &path).await.done();
    assert_eq!(asked_at(&here, &alice, &group).await, Some(here.now().0));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_named_and_asked_alone_the_next_time() {
    let here = Server::start_with(|config| {
        config.server_name = "a.example".to_owned();
        config.relay_token = Some(TokenHash::of(DOOR_TOKEN));
        config.edge.requests = None;
        config.relay_patience = Duration::from_secs(2);
    })
    .await;
    let there = at(OTHER).await;
    let alice = here.person("alice").await;
    let carol = Person::at("carol", OTHER).registered(&there).await;
    let wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    drop(wire);
    let path = group.path("/sender-keys");
    let refusal = alice.delete(&here, &path).await;
    let refusal = refusal.refused(504, "DEV_CAUSEWAY_UNREACHABLE");
    assert_eq!(refusal.server.as_deref(), Some(OTHER));
    let first = asked_at(&here, &alice, &group).await;
    assert!(first.is_some());
    here.pass_ms(60_000);
    there.pass_ms(60_000);
    let _wire = Wire::between(&here, &there);
    // The frame that was lost goes again within 7.5 s, which is longer than she waits: asking again is safe.
    let asked = async {
        loop {
            let answer = alice.delete(&here, &path).await;
            if answer.status.as_u16() != 504 {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(30), asked).await;
    let answer = answer.expect("it never answers");
    // The answer to an ask that she no longer waited for counts, too: then all were asked.
    if answer.status.as_u16() == 429 {
        answer.refused(429, "M_LIMIT_EXCEEDED");
    } else {
        answer.done();
    }
    assert_eq!(asked_at(&here, &alice, &group).await, first, "nobody here is asked again");
    assert!(asked_at(&there, &carol, &group).await.is_some());
    alice.delete(&here, &path).await.refused(429, "M_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn a_server_asks_in_the_name_of_an_admin_of_its_own_alone() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    drop(wire);
    let until = here.now().plus_ms(30_000);
    let body = json!({ "group": group.id() });
    let stranger = Person::at("mallory", OTHER);
    let asks = [
        (ask_of(Call::SenderKeys, Some(&carol), body.clone(), until), 403),
        (ask_of(Call::SenderKeys, Some(&alice), body.clone(), until), 403),
        (ask_of(Call::SenderKeys, Some(&stranger), body.clone(), until), 404),
        (ask_of(Call::SenderKeys, None, body, until), 403),
        (ask_of(Call::SenderKeys, Some(&carol), json!({}), until), 400),
    ];
    let mut peer = Peer::new(OTHER);
    let items = asks.iter().map(|(ask, _)| ask.to_json()).collect();
    hand_in(&here, OTHER, peer.frame(items)).await;
    // What the former link had not brought comes again with this one, and was granted.
    let statuses = peer.said(&here).await.into_iter().filter_map(|item| match item {
        Item::Answer(_, answer) if answer.status != 200 => Some(answer.status),
        _ => None,
    });
    assert_eq!(statuses.collect::<Vec<_>>(), asks.iter().map(|it| it.1).collect::<Vec<_>>());
    assert_eq!(asked_at(&here, &alice, &group).await, None);
}
