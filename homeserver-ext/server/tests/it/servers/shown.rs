//! Accounts that other servers show: how many are kept, for how long, and how they come again.

use std::time::Duration;

use causeway_protocol::{link::Item, roster::Body};
use serde_json::{Value, json};

use super::{
    OTHER, at,
    groups::{ops, said, texts},
    operator::other,
    peer::Peer,
    strangers::{show, shown},
    wire::hand_in,
};
use crate::harness::{Group, Person, Server};

const DAY_MS: u64 = 86_400_000;
const THIRD: &str = "c.example";

/// Has a server know so many accounts of another that no group names, each shown a millisecond after the one
/// before, the last one a second ago.
async fn know(server: &Server, of: &str, count: u64) {
    let last = server.now().0 - 1_000;
    server
        .change(&format!(
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count})
             INSERT INTO remote_accounts (account, version, answer, asked_ms, server)
             SELECT printf('n%05d:{of}', n), 1, '{{}}', {last} - {count} + n, '{of}' FROM n"
        ))
        .await;
}

/// The names of accounts of another server that are known.
async fn known(server: &Server, of: &str) -> Vec<String> {
    let rows = server.rows().await.into_iter();
    let rows = rows.filter_map(|row| row.strip_prefix("remote_accounts: '").map(str::to_owned));
    let names = rows.filter_map(|row| row.split('\'').next().map(str::to_owned));
    names.filter(|name| name.ends_with(&format!(":{of}"))).collect()
}

#[tokio::test]
async fn of_accounts_that_no_group_names_the_newest_of_each_server_are_kept() {
    let server = at("a.example").await;
    let alice = server.person("alice").await;
    let mut group = Group::create(&server, &alice).await;
    let [carol, dan, erin] = ["carol", "dan", "erin"].map(|name| Person::at(name, OTHER));
    let (mut peer, mut third) = (Peer::new(OTHER), Peer::new(THIRD));
    hand_in(&server, OTHER, peer.frame(vec![show(&carol)])).await;
    hand_in(&server, THIRD, third.frame(vec![show(&Person::at("x", THIRD))])).await;
    group.post(&server, &alice, &Body::Add(vec![carol.entry(0)])).await;
    server.pass_ms(60_000);
    know(&server, OTHER, 4_096).await;
    know(&server, THIRD, 10).await;
    hand_in(&server, OTHER, peer.frame(vec![show(&dan), show(&erin)])).await;
    let left = known(&server, OTHER).await;
    // Carol, whom a group names, is counted by nobody.
    assert_eq!(left.len(), 1 + 4_096);
    for (name, is_kept) in
        [("carol", true), ("dan", true), ("erin", true), ("n00002", false), ("n00003", true)]
    {
        assert_eq!(left.contains(&format!("{name}:{OTHER}")), is_kept, "{name}");
    }
    assert_eq!(known(&server, THIRD).await.len(), 11, "those of others stay");
    let seen = other(&server).await;
    assert!(seen["limited"].as_u64().unwrap() > 0, "{seen}");
    let why = seen["last_error"]["why"].as_str().unwrap();
    assert!(why.contains("accounts that are in no group"), "{seen}");
    // Whom it showed a moment ago may come in.
    group.post(&server, &alice, &Body::Add(vec![erin.entry(0)])).await;
    assert!(server.rows().await.iter().any(|row| {
        row.starts_with("devices:") && row.contains(&format!("'{}'", erin.account))
    }));
}

#[tokio::test]
async fn old_accounts_are_forgotten_eight_in_a_transaction_until_none_is_left() {
    let server = at("a.example").await;
    let alice = server.person("alice").await;
    let mut group = Group::create(&server, &alice).await;
    let carol = Person::at("n00004-carol", OTHER);
    hand_in(&server, OTHER, Peer::new(OTHER).frame(vec![show(&carol)])).await;
    group.post(&server, &alice, &Body::Add(vec![carol.entry(0)])).await;
    // More than are looked at together, twice.
    know(&server, OTHER, 600).await;
    server.pass_ms(8 * DAY_MS);
    // What cannot be forgotten now takes back those alone that were to go with it.
    let gone = "BEFORE DELETE ON remote_accounts WHEN OLD.account LIKE 'n00012:%'";
    let trigger = format!("CREATE TRIGGER stays {gone} BEGIN SELECT RAISE(ABORT, 'stays'); END");
    server.change(&trigger).await;
    assert!(server.app.upkeep().await.is_err());
    let left = known(&server, OTHER).await;
    assert_eq!(left.len(), 1 + 600 - 8, "those of one transaction");
    assert_eq!(left[1], format!("n00009:{OTHER}"));
    server.change("DROP TRIGGER stays").await;
    server.app.upkeep().await.unwrap();
    assert_eq!(known(&server, OTHER).await, [carol.account.to_string()]);
}

fn tell(account: &Person) -> Value {
    serde_json::to_value(shown(account)).unwrap()
}

#[tokio::test]
async fn an_account_that_is_forgotten_when_its_op_comes_is_asked_for_with_its_first_word() {
    let server = at("a.example").await;
    let alice = server.person("alice").await;
    let mallory = Person::at("mallory", OTHER);
    let (erin, frank) = (Person::at("erin", THIRD), Person::at("frank", THIRD));
    let (mut home, mut third) = (Peer::new(OTHER), Peer::new(THIRD));
    let mut group = Group::begun(Group::first_op(&mallory));
    group.install(group.op(&mallory, &Body::Add(vec![alice.entry(0)])));
    let frame = home.frame(vec![show(&mallory), ops(&group, &group.ops)]);
    hand_in(&server, OTHER, frame).await;
    hand_in(&server, THIRD, third.frame(vec![show(&erin), show(&frank)])).await;
    server.pass_ms(8 * DAY_MS);
    server.app.upkeep().await.unwrap();
    assert!(known(&server, THIRD).await.is_empty());
    // The home was away for that long.
    group.install(group.op(&mallory, &Body::Add(vec![erin.entry(0), frank.entry(0)])));
    hand_in(&server, OTHER, home.frame(vec![ops(&group, &group.ops[2..])])).await;
    for (text, who) in [("one", &erin), ("two", &frank), ("three", &erin)] {
        let frame = third.frame(vec![said(&group, who.message(group.id(), 2, text))]);
        hand_in(&server, THIRD, frame).await;
    }
    // One is there; of the other her server does not know any more.
    let asked = tokio::time::timeout(Duration::from_mins(1), async {
        third.answer_next(&server, 200, tell(&erin)).await;
        let none = json!({"errcode": "M_NOT_FOUND", "error": "no"});
        third.answer_next(&server, 404, none).await;
    });
    asked.await.expect("it is asked for each");
    assert_eq!(texts(&server, &alice, 2).await, ["one", "three"]);
    let (_, seen) =
        super::operator::operate(&server, reqwest::Method::GET, "/servers/c.example").await;
    assert_eq!((&seen["refused"], &seen["malformed"]), (&json!(1), &json!(0)), "{seen}");
    // Who is not in the group is not asked for.
    let nobody = Person::at("nobody", THIRD);
    let frame = third.frame(vec![said(&group, nobody.message(group.id(), 2, "me, too"))]);
    hand_in(&server, THIRD, frame).await;
    let asks = third.said(&server).await;
    assert!(!asks.iter().any(|item| matches!(item, Item::Ask(..))), "{asks:?}");
}
