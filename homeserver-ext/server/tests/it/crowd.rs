//! Many at once: ops go on one after the other, and mailboxes have no gap.

use std::collections::BTreeMap;

use causeway_protocol::{
    api::{Accepted, GroupHead, LoginNonce, LoginRequest},
    device::login_bytes,
    envelope::Kind,
    ids::{DeviceId, Epoch},
    roster::{Body, Op, Policy},
};
use futures_util::future::join_all;
use reqwest::Method;

use crate::harness::{Group, Person, SERVER, Server, TOKEN, json, op_body, policy, sign, text};

/// A group of admins.
async fn admins(server: &Server, count: usize) -> (Group, Vec<Person>) {
    let mut people = Vec::new();
    for n in 0..count {
        people.push(server.person(&format!("p{n}")).await);
    }
    let mut group = Group::create(server, &people[0]).await;
    let others = people[1..].iter().map(|person| person.entry(1)).collect();
    group.post(server, &people[0], &Body::Add(others)).await;
    (group, people)
}

fn rename(group: &Group, signer: &Person, name: &str) -> Op {
    group.op(signer, &Body::Policy(Policy { name: name.to_owned(), ..policy() }))
}

#[tokio::test]
async fn of_a_hundred_ops_on_one_roster_one_is_taken_and_the_rest_are_told_which() {
    let server = Server::start().await;
    let (mut group, people) = admins(&server, 100).await;
    for round in 0..3 {
        let epoch = group.roster.epoch();
        let ops: Vec<Op> = people
            .iter()
            .map(|person| rename(&group, person, &format!("{round} {}", person.account)))
            .collect();
        let posts = people.iter().zip(&ops).map(async |(person, op)| {
            person.post(&server, &group.path("/roster"), &op_body(op)).await
        });
        let answers = join_all(posts).await;
        let mut taken = ops.iter().zip(&answers).filter(|(_, answer)| answer.status.is_success());
        let (winner, answer) = taken.next().expect("one is taken");
        assert!(taken.next().is_none(), "and no other");
        let head: GroupHead = answer.ok();
        let next = epoch.next().unwrap();
        assert_eq!(head.epoch, next);
        for answer in answers.iter().filter(|answer| !answer.status.is_success()) {
            let refusal = answer.refused(409, "M_STALE_EPOCH");
            assert_eq!(refusal.epoch, Some(next));
            let ops: Vec<_> = refusal.ops.unwrap().into_iter().map(|op| op.0).collect();
            assert_eq!(ops, [winner.as_bytes()]);
        }
        group.install(winner.clone());
        assert_eq!(head.roster_hash, group.roster.hash());
    }
}

#[tokio::test]
async fn who_installs_what_he_lacks_and_signs_anew_gets_in_once() {
    let server = Server::start().await;
    let (group, people) = admins(&server, 12).await;
    let first = group.ops.len();
    let changes = people.iter().map(async |person| {
        let mut mine = group.clone();
        loop {
            let op = rename(&mine, person, person.account.as_str());
            let answer = person.post(&server, &group.path("/roster"), &op_body(&op)).await;
            if answer.status.is_success() {
                return;
            }
            for op in answer.refused(409, "M_STALE_EPOCH").ops.unwrap() {
                mine.install(Op::parse(&op.0).unwrap());
            }
        }
    });
    join_all(changes).await;
    let page = group.read_ops(&server, &people[0]).await;
    let mut end = group.clone();
    let mut signers = BTreeMap::new();
    for op in &page.ops[first..] {
        let op = Op::parse(&op.0).unwrap();
        *signers.entry(op.signer().device_id).or_insert(0) += 1;
        end.install(op);
    }
    assert_eq!(signers.len(), 12);
    assert!(signers.values().all(|count| *count == 1));
    // One row for each op in every mailbox, in order.
    for person in [&people[0], &people[11]] {
        let rows = person.stream(&server).await.take(end.ops.len() - 1).await;
        let epochs = rows.iter().map(|row| row.envelope.epoch).filter(|epoch| epoch.0 > 0);
        assert!(epochs.zip(1..).all(|(epoch, n)| epoch == Epoch(n)));
    }
}

#[tokio::test]
async fn whoever_posts_together_makes_no_gap_and_keeps_his_order() {
    const SENDERS: usize = 20;
    const BATCHES: usize = 5;
    const TEXTS: usize = 7;
    let server = Server::start().await;
    let (group, people) = admins(&server, SENDERS + 1).await;
    let (reader, senders) = people.split_last().unwrap();
    let posts = senders.iter().map(async |sender| {
        for batch in 0..BATCHES {
            let texts: Vec<String> =
                (0..TEXTS).map(|n| format!("{} {}", sender.account, batch * TEXTS + n)).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let accepted: Accepted = sender.say(&server, &group, &texts).await;
            assert!(accepted.accepted.iter().all(|one| one.recipients as usize == SENDERS));
        }
    });
    let reading = async {
        let mut stream = reader.stream(&server).await;
        let mut next: BTreeMap<DeviceId, usize> = BTreeMap::new();
        let mut last = 0;
        for _ in 0..=SENDERS * BATCHES * TEXTS {
            let row = stream.next().await;
            assert!(row.seq.0 > last, "{} after {last}", row.seq);
            last = row.seq.0;
            stream.ack(row.seq.0).await;
            if row.envelope.kind == Kind::Message {
                let said = text(&row.envelope);
                let sender = row.envelope.sender.unwrap();
                let count = next.entry(sender.device).or_default();
                assert_eq!(said, format!("{} {count}", sender.account));
                *count += 1;
            }
        }
        assert!(next.len() == SENDERS && next.values().all(|count| *count == BATCHES * TEXTS));
    };
    tokio::join!(join_all(posts), reading);
}

#[tokio::test]
async fn a_name_and_a_nonce_are_taken_once_however_many_want_them() {
    let server = Server::start().await;
    let people: Vec<Person> = (0..30).map(|_| Person::new("alice")).collect();
    let registrations = people.iter().map(async |person| {
        let body = json(&person.registration(TOKEN));
        server.send(Method::POST, "/register", None, body).await
    });
    let answers = join_all(registrations).await;
    let mut winners = people.iter().zip(&answers).filter(|(_, answer)| answer.status.is_success());
    let (alice, _) = winners.next().expect("one is registered");
    assert!(winners.next().is_none(), "and no other");
    for answer in answers.iter().filter(|answer| !answer.status.is_success()) {
        answer.refused(400, "M_USER_IN_USE");
    }

    let nonce: LoginNonce = server.send(Method::POST, "/login/nonce", None, vec![]).await.ok();
    let bytes = login_bytes(SERVER, &alice.device(), &nonce.nonce);
    let signature = sign(&alice.key, &bytes);
    let request = LoginRequest { device_id: alice.device(), nonce: nonce.nonce, signature };
    let logins = (0..30).map(|_| server.send(Method::POST, "/login", None, json(&request)));
    let (let_in, refused): (Vec<_>, Vec<_>) =
        join_all(logins).await.into_iter().partition(|answer| answer.status.is_success());
    assert_eq!(let_in.len(), 1);
    for answer in refused {
        answer.refused(403, "M_FORBIDDEN");
    }
}
