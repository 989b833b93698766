//! The place where a new device and the first one leave what is for the other: who may put what, how
//! often, how long.

use causeway_protocol::{
    api::{LinkState, PutAnswer, SealedAnswer},
    device::DeviceRecord,
    device_link::{LINK_MS, MAX_LINK_BYTES},
    ids::text_of,
};
use causeway_server::{GuestQuotas, Quota};
use reqwest::Method;

use crate::harness::{Answer, Person, Server, json};

fn path(n: u8, rest: &str) -> String {
    format!("/links/{}{rest}", text_of(&[n; 16]))
}

async fn offer(server: &Server, n: u8) -> Answer {
    server.send(Method::PUT, &path(n, ""), None, b"{}".to_vec()).await
}

async fn state(server: &Server, n: u8) -> Answer {
    server.send(Method::GET, &path(n, ""), None, Vec::new()).await
}

fn sealed(n: u8) -> PutAnswer {
    PutAnswer { answer: SealedAnswer(vec![n; 700]) }
}

async fn record(server: &Server, n: u8, record: &DeviceRecord) -> Answer {
    server.send(Method::PUT, &path(n, "/record"), None, json(record)).await
}

#[tokio::test]
async fn an_offer_takes_one_answer_and_then_one_record() {
    let server = Server::start().await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let (new, other) = (Person::new("alice"), Person::new("mallory"));
    let rows = server.rows().await;
    for _ in 0..2 {
        offer(&server, 1).await.done();
    }
    let empty = LinkState { answer: None, record: None };
    assert_eq!(state(&server, 1).await.ok::<LinkState>(), empty);
    // Nothing to sign a record for.
    record(&server, 1, &new.record).await.refused(404, "M_NOT_FOUND");

    // By who has a session, once; the same again is the same.
    let answer = server.send(Method::PUT, &path(1, "/answer"), None, json(&sealed(1))).await;
    answer.refused(401, "M_MISSING_TOKEN");
    for _ in 0..2 {
        alice.put(&server, &path(1, "/answer"), &sealed(1)).await.done();
    }
    for by in [&alice, &bob] {
        let answer = by.put(&server, &path(1, "/answer"), &sealed(2)).await;
        answer.refused(409, "DEV_CAUSEWAY_LINK_TAKEN");
    }
    for _ in 0..2 {
        record(&server, 1, &new.record).await.done();
    }
    record(&server, 1, &other.record).await.refused(409, "DEV_CAUSEWAY_LINK_TAKEN");
    let full = LinkState { answer: Some(sealed(1).answer), record: Some(new.record) };
    assert_eq!(state(&server, 1).await.ok::<LinkState>(), full);
    // An offer that is made again is not made anew.
    offer(&server, 1).await.done();
    assert_eq!(state(&server, 1).await.ok::<LinkState>(), full);
    server.assert_unchanged(&rows).await;
}

#[tokio::test]
async fn an_offer_ends_after_ten_minutes_however_often_it_is_made_again() {
    let server = Server::start().await;
    let alice = server.person("alice").await;
    offer(&server, 1).await.done();
    server.pass_ms(LINK_MS - 1);
    offer(&server, 1).await.done();
    alice.put(&server, &path(1, "/answer"), &sealed(1)).await.done();
    server.pass_ms(1);
    state(&server, 1).await.refused(404, "M_NOT_FOUND");
    alice.put(&server, &path(1, "/answer"), &sealed(1)).await.refused(404, "M_NOT_FOUND");
    record(&server, 1, &alice.record).await.refused(404, "M_NOT_FOUND");
    offer(&server, 1).await.done();
    let empty = LinkState { answer: None, record: None };
    assert_eq!(state(&server, 1).await.ok::<LinkState>(), empty, "nothing of before");
}

/// It is in memory, and both devices put again what they have put.
#[tokio::test]
async fn a_restart_forgets_offers_and_the_same_ones_are_taken_again() {
    let server = Server::start().await;
    let alice = server.person("alice").await;
    offer(&server, 1).await.done();
    alice.put(&server, &path(1, "/answer"), &sealed(1)).await.done();
    let server = server.restart().await;
    state(&server, 1).await.refused(404, "M_NOT_FOUND");
    alice.put(&server, &path(1, "/answer"), &sealed(1)).await.refused(404, "M_NOT_FOUND");
    offer(&server, 1).await.done();
    alice.put(&server, &path(1, "/answer"), &sealed(1)).await.done();
    record(&server, 1, &alice.record).await.done();
}

#[tokio::test]
async fn an_address_offers_one_device_a_minute_and_may_say_it_again() {
    let server = Server::start_with(|config| {
        let link = Some(Quota::per_minute(1, 1));
        config.guests = GuestQuotas { register: None, login: None, link };
    })
    .await;
    offer(&server, 1).await.done();
    let refusal = offer(&server, 2).await.refused(429, "M_LIMIT_EXCEEDED");
    assert_eq!(refusal.retry_after_ms, Some(60_000));
    assert!(refusal.error.contains("limits.links"), "{}", refusal.error);
    offer(&server, 1).await.done();
    for _ in 0..50 {
        state(&server, 1).await.ok::<LinkState>();
    }
    server.pass_ms(60_000);
    offer(&server, 2).await.done();
    offer(&server, 3).await.refused(429, "M_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn what_is_too_large_is_not_kept() {
    let server = Server::start().await;
    let alice = server.person("alice").await;
    offer(&server, 1).await.done();
    let of = |length| PutAnswer { answer: SealedAnswer(vec![7; length]) };
    let answer = alice.put(&server, &path(1, "/answer"), &of(MAX_LINK_BYTES + 1)).await;
    answer.refused(413, "M_TOO_LARGE");
    alice.put(&server, &path(1, "/answer"), &of(MAX_LINK_BYTES)).await.done();
    let long = vec![b' '; 2 * MAX_LINK_BYTES + 1];
    let answer = server.send(Method::PUT, &path(1, "/record"), None, long).await;
    answer.refused(413, "M_TOO_LARGE");
}
