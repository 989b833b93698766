//! A server that turns its coat, speaking as its homeserver's application service through three real homeservers: it
//! says again what was said, shows lists that go back, and another history to each: each keeps what it had, people
//! read nothing twice and nothing that is altered, and the operator sees all of it.

use std::{path::Path, sync::Arc};

use causeway_bridge::clock;
use causeway_groups::{
    SCHEMA, Vault,
    machine::Received,
    sdk::{Client, Keep, KeepError, Linking},
};
use causeway_protocol::{
    api::AccountAnswer,
    envelope::{Kind, Submission},
    ids::{GroupId, Timestamp},
    link::{Ask, Call, Carried, Item, Tell},
    roster::Scheme,
};
use causeway_store::{Db, Lock, Options, Tx};
use futures_util::future::BoxFuture;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    hostile_server::{Hostile, event, id, named, operate, shown},
    people::{PATIENCE, Person, outgoing, text},
    servers::{Side, several},
};

/// Asks of one frame: more than may be asked at once.
const ASKS: usize = 150;

struct Nobody;

impl Keep for Nobody {
    fn keep<'a>(
        &'a self,
        _: &'a Client,
        _: &'a mut Tx,
        _: Vec<Received>,
    ) -> BoxFuture<'a, Result<(), KeepError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Links a second device to somebody's account.
async fn second_device(person: &Person, folder: &Path) {
    let path = folder.join("client.db");
    let db = Db::open(Options { path, lock: Lock::Shared, schemas: &[SCHEMA] }).await.unwrap();
    let vault = Vault::open(&db, &folder.join("storage.key")).await.unwrap();
    let url = person.client.http().base();
    let linking = Linking::begin(db, vault, url, Arc::new(Nobody), clock::now).await.unwrap();
    let link = linking.link().clone();
    let come = async {
        let answer = linking.answer().await.unwrap();
        linking.accept(answer).await.unwrap();
    };
    let ((), linked) = tokio::join!(come, person.client.link_device(&link));
    linked.unwrap();
}

/// An op that its group's admin signs, and that nobody else is shown yet.
async fn renames(admin: &Person, group: GroupId, name: &str) -> Value {
    let mut tx = admin.client.db().begin().await.unwrap();
    let machine = admin.client.machine();
    let roster = machine.roster(&mut tx, group).await.unwrap().unwrap();
    let mut policy = roster.policy().clone();
    name.clone_into(&mut policy.name);
    let op = machine.set_policy(&mut tx, clock::now(), group, policy).await.unwrap();
    event(group, Carried::Ops(vec![op.0]))
}

/// Waits until this is the group's name.
async fn is_called(who: &Person, group: GroupId, name: &str) {
    let called = async {
        while who.client.roster(group).await.unwrap().policy().name != name {
            who.client.sync_group(group).await.unwrap();
        }
    };
    timeout(PATIENCE, called).await.expect("its server has the op");
}

fn accounts(shown: &[&AccountAnswer]) -> Value {
    let shown = shown.iter().map(|shown| serde_json::to_value(shown).unwrap()).collect();
    Item::Tell(id(), Tell::Accounts(shown)).to_json()
}

async fn figure(side: &Side, name: &str) -> u64 {
    let url = format!("{}/metrics", side.causeway.appservice_url());
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with(name));
    line.map_or(0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
}

fn count(who: &Person, body: &str) -> usize {
    who.read().iter().filter(|read| read.body == body).count()
}

/// One group whose home is honest, and one whose home is to lie, in which everybody has read something.
async fn groups(
    [alice, carol, erin]: [&Person; 3],
    [alices, carols, erins]: [&String; 3],
) -> [GroupId; 2] {
    let garden = alice.create_group_as("Garden", Scheme::SenderKeys).await;
    let den = erin.create_group_as("Den", Scheme::SenderKeys).await;
    for (admin, group, others) in [(alice, garden, [carols, erins]), (erin, den, [alices, carols])]
    {
        for other in others {
            admin.add(group, other).await;
        }
    }
    alice.say(garden, &["hello garden".to_owned()]).await;
    erin.say(den, &["hello den".to_owned()]).await;
    erin.wait("a welcome", |read| !read.is_empty()).await;
    for who in [alice, carol] {
        who.wait("a welcome", |read| read.iter().any(|it| it.body == "hello den")).await;
    }
    [garden, den]
}

#[tokio::test]
async fn a_server_that_goes_back_on_its_word_is_seen_and_moves_nobody() {
    let mut sides: [Side; 3] = several().await;
    let names = sides.each_ref().map(|side| side.name().to_owned());
    let (alice, carol) = (sides[0].person("alice").await, sides[1].person("carol").await);
    let (erin, dan) = (sides[2].person("erin").await, sides[2].person("dan").await);
    let [alices, carols, erins] = [("alice", 0), ("carol", 1), ("erin", 2)]
        .map(|(name, nth): (&str, usize)| format!("{name}:{}", names[nth]));
    let [garden, den] = groups([&alice, &carol, &erin], [&alices, &carols, &erins]).await;
    let once = erin.seal(garden, &[outgoing(text("said once"))]).await;
    erin.post(&once).await.unwrap();
    for who in [&alice, &carol] {
        who.wait("Erin's words", |read| read.iter().any(|it| it.body == "said once")).await;
    }
    // Dan's list, before and after his second device.
    let dans = dan.client.me().account.clone();
    let older = dan.client.http().account(&dans).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    second_device(&dan, folder.path()).await;
    let newer = alice.client.http().account(&dans).await.unwrap();
    assert_eq!((older.list.version, newer.list.version), (1, 2));
    let of_here = alice.client.http().account(&alices.parse().unwrap()).await.unwrap();
    let (first, other) = (renames(&erin, den, "one").await, renames(&erin, den, "other").await);

    let [home, replica, liar] = &mut sides;
    liar.causeway.kill().unwrap();
    let third = &*names[2];
    let (mut to_home, mut to_other) =
        (Hostile::new(liar, &names[0]), Hostile::new(liar, &names[1]));
    let refused = async |least: u64| {
        let seen = |it: &Value| it["refused"].as_u64() >= Some(least);
        shown(&home.causeway, third, seen).await
    };

    // What was said is said again, as it was, altered, and in one's own group under another epoch.
    let said = once.submissions.iter().find(|of| of.kind == Kind::Message).unwrap();
    let mut payload = said.payload.clone();
    *payload.last_mut().unwrap() ^= 1;
    let altered = named(Submission { payload, ..said.clone() });
    let moved = Submission { group: den, ..said.clone() };
    for _ in 0..3 {
        let items = [(garden, said), (garden, &altered), (den, &moved)];
        let items = items.map(|(group, it)| event(group, Carried::Envelopes(vec![it.clone()])));
        to_home.frame(items.to_vec(), None).await;
        to_other.frame(items.to_vec(), None).await;
    }
    // A list of before, and one of an account that is not its own.
    let before = operate(&home.causeway, Method::GET, &format!("servers/{third}")).await;
    let before = before["refused"].as_u64().unwrap();
    to_home.frame(vec![accounts(&[&newer, &older])], None).await;
    to_home.frame(vec![accounts(&[&of_here])], None).await;
    let seen = refused(before + 2).await;
    assert_eq!(seen["last_error"]["why"], "refused: device_list", "{seen}");
    // What was known is good for a minute, and then nobody answers.
    if let Ok(known) = alice.client.http().account(&dans).await {
        assert_eq!(known.list.version, 2);
    }
    // More questions than it may ask.
    let until = Timestamp(clock::now().0 + 30_000);
    let ping = || {
        let ask = Ask { call: Call::Ping, caller: None, until, body: json!({}) };
        Item::Ask(id(), ask).to_json()
    };
    to_home.frame((0..ASKS).map(|_| ping()).collect(), None).await;
    shown(&home.causeway, third, |it| it["limited"].as_u64() >= Some(1)).await;

    // Each of two is shown another history. They tell each other where they stand when one of them begins anew.
    to_home.frame(vec![first.clone()], None).await;
    to_other.frame(vec![other.clone()], None).await;
    is_called(&alice, den, "one").await;
    is_called(&carol, den, "other").await;
    replica.causeway.kill().unwrap();
    replica.causeway.start().await.unwrap();
    let told = async {
        let second = "causeway_servers_second_histories_total";
        while figure(home, second).await + figure(replica, second).await == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, told).await.expect("both histories are seen");
    // Whoever shows the other one as well is not believed.
    let before = operate(&home.causeway, Method::GET, &format!("servers/{third}")).await;
    to_home.frame(vec![other], None).await;
    let seen = refused(before["refused"].as_u64().unwrap() + 1).await;
    assert_eq!(seen["last_error"]["why"], "refused: second_history", "{seen}");
    alice.client.sync_group(den).await.unwrap();
    assert_eq!(alice.client.roster(den).await.unwrap().policy().name, "one");

    // It acknowledges nothing: what is for Erin waits, and the operator sees since when. The others talk on.
    alice.say(garden, &["still here".to_owned()]).await;
    carol.wait("Alice's words", |read| read.iter().any(|it| it.body == "still here")).await;
    carol.say(garden, &["so am I".to_owned()]).await;
    alice.wait("Carol's words", |read| read.iter().any(|it| it.body == "so am I")).await;
    let seen = shown(&home.causeway, third, |it| it["waits_since_ms"].is_u64()).await;
    assert!(seen["waiting"].as_u64() >= Some(1), "{seen}");
    for (who, last) in [(&alice, "so am I"), (&carol, "still here")] {
        assert_eq!(count(who, "said once"), 1, "{:?}", who.read());
        let bodies = ["hello garden", "hello den", "said once", last];
        let strange: Vec<_> =
            who.read().into_iter().filter(|it| !bodies.contains(&&*it.body)).collect();
        assert!(strange.is_empty(), "{strange:?}");
    }

    // Honest again, it has all that waited, and is heard.
    liar.causeway.start().await.unwrap();
    erin.wait("what waited", |read| {
        ["still here", "so am I"].iter().all(|body| read.iter().any(|it| it.body == *body))
    })
    .await;
    erin.say(garden, &["it was my server".to_owned()]).await;
    for who in [&alice, &carol] {
        who.wait("Erin's words", |read| read.iter().any(|it| it.body == "it was my server")).await;
    }
}
