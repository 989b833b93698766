//! Many envelopes are taken in turns, and what is refused in a later one takes nothing of those before.

use std::{collections::BTreeSet, pin::pin};

use causeway_protocol::{
    api::{Accepted, ErrorBody, OwnDevice, PREFIX, PostEnvelopes},
    envelope::Submission,
    ids::EnvelopeId,
    roster::Body,
};
use causeway_server::{AccountQuotas, Quota};
use futures_util::StreamExt as _;
use reqwest::{Method, StatusCode};
use serde_json::json;
use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};
use tokio::task::JoinSet;

use crate::harness::{Group, Person, Server};

/// Eight turns.
const MANY: usize = 4_096;

fn said(group: &Group, from: &Person) -> Vec<Submission> {
    let epoch = group.roster.epoch().0;
    (0..MANY).map(|n| from.message(group.id(), epoch, &n.to_string())).collect()
}

/// Ids of a device's envelopes that the server has.
async fn kept(server: &Server) -> usize {
    server.rows().await.iter().filter(|row| row.starts_with("accepted:")).count()
}

#[tokio::test]
async fn what_was_taken_before_a_refusal_is_told_and_the_rest_costs_nothing() {
    let accounts =
        AccountQuotas { envelopes: Some(Quota::per_minute(1, 4_096)), ..AccountQuotas::default() };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let other = {
        let mut other = Group::create(&server, &alice).await;
        other.post(&server, &alice, &Body::Add(vec![bob.entry(0)])).await;
        other
    };
    let envelopes = said(&group, &bob);
    let names: Vec<EnvelopeId> = envelopes.iter().map(Submission::name).collect();
    // The group is closed between two turns, whoever is quicker.
    let closes = "CREATE TRIGGER closes AFTER INSERT ON envelopes
        WHEN (SELECT count(*) FROM envelopes WHERE grp = NEW.grp AND sender IS NOT NULL) = 1000
        BEGIN UPDATE groups SET closed = TRUE WHERE grp = NEW.grp; END";
    server.change(closes).await;
    let answer = bob.submit(&server, envelopes.clone()).await;
    server.change("DROP TRIGGER closes").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let body: ErrorBody = serde_json::from_slice(&answer.body).unwrap();
    let taken: Vec<EnvelopeId> = body.accepted.iter().map(|one| one.id).collect();
    assert_eq!(taken.len(), 1_024, "two turns");
    assert_eq!(taken, names[..taken.len()], "the first ones, in their order");
    assert!(body.accepted.iter().all(|one| one.recipients == 1));
    assert_eq!(kept(&server).await, taken.len());
    // The same again is refused in the first turn, and answered alike.
    let again = bob.submit(&server, envelopes.clone()).await;
    let told: ErrorBody = serde_json::from_slice(&again.body).unwrap();
    assert_eq!((again.status, &told.accepted), (answer.status, &body.accepted));
    let known = envelopes[..taken.len()].to_vec();
    bob.submit(&server, known).await.ok::<Accepted>();
    // What was refused has cost nothing.
    let rest = said(&other, &bob)[taken.len()..].to_vec();
    let path = other.path("/envelopes");
    let rest = PostEnvelopes { envelopes: rest, count: None };
    let accepted: Accepted = bob.post(&server, &path, &rest).await.ok();
    let ids: BTreeSet<_> = accepted.accepted.iter().map(|one| one.id).collect();
    assert_eq!(ids.len(), MANY - taken.len());
}

#[tokio::test]
async fn who_posts_much_again_does_not_ask_for_the_writer() {
    let server = Server::start().await;
    let (group, [_, bob]) = server.group(["alice", "bob"]).await;
    let envelopes = said(&group, &bob);
    let first: Accepted = bob.submit(&server, envelopes.clone()).await.ok();
    // Somebody else writes, for as long as it takes.
    let file = server.database().join("server.db");
    let mut other = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let again: Accepted = bob.submit(&server, envelopes).await.ok();
    assert_eq!(again.accepted, first.accepted);
}

#[tokio::test]
async fn who_sends_slowly_keeps_nobody_of_his_account_waiting() {
    let server = Server::start().await;
    let alice = server.person("alice").await;
    let url = format!("{}{PREFIX}/device/unpark", server.base);
    let mut begun: JoinSet<_> = (0..8)
        .map(|_| {
            let first = futures_util::stream::iter([Ok::<_, std::io::Error>(b"{".to_vec())]);
            let body = first.chain(futures_util::stream::pending());
            let request = reqwest::Client::new().post(&url).bearer_auth(&alice.token);
            request.body(reqwest::Body::wrap_stream(body)).send()
        })
        .collect();
    for _ in 0..50 {
        alice.get(&server, "/device").await.ok::<OwnDevice>();
    }
    assert!(begun.try_join_next().is_none(), "none of them is answered");
}

#[tokio::test]
async fn what_waited_for_its_turn_is_refused_to_who_is_logged_out_by_then() {
    let server = Server::start().await;
    let (group, [_, bob]) = server.group(["alice", "bob"]).await;
    let epoch = group.roster.epoch().0;
    let file = server.database().join("server.db");
    let mut other = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let some_time = async || {
        for _ in 0..50 {
            server.send(Method::GET, "/server", None, Vec::new()).await;
        }
    };
    // Who logs out waits for the writer, four behind him, and the others for them.
    let nothing = json!({});
    let mut logout = pin!(bob.post(&server, "/logout", &nothing));
    tokio::select! {
        answer = &mut logout => panic!("{:?}", answer.status),
        () = some_time() => {}
    }
    let posts =
        (0..12).map(|n| bob.submit(&server, vec![bob.message(group.id(), epoch, &n.to_string())]));
    let let_go = async {
        some_time().await;
        sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    };
    let (answers, answer, ()) = tokio::join!(futures_util::future::join_all(posts), logout, let_go);
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    let taken = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
    let refused = answers.iter().filter(|answer| answer.status == StatusCode::UNAUTHORIZED).count();
    assert!(taken <= 4 && taken + refused == 12, "{taken} are taken, {refused} refused");
}
