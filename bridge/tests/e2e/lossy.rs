//! Real homeservers between which federation itself is bad, and one that is bad at telling its Causeway: of ten
//! transactions one is lost though it was taken, one comes twice, and one after the next.
//!
//! `CAUSEWAY_FAULTS=1000` says so many messages of each (`faults.rs`).

use std::{collections::BTreeMap, sync::Arc};

use causeway_bridge::demo::matrix_user::MatrixUser;
use causeway_livekit::ports::free_port;
use causeway_protocol::roster::Scheme;
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{
    faults::messages,
    kill::keep_reading,
    people::{PATIENCE, Person},
    proxy::{Proxy, harmed_of},
    relay_rooms::Garden,
    servers::{Side, assert_nothing_is_read, several, two_told_by},
};

/// Messages of each, without being told otherwise.
const MESSAGES: usize = 60;
/// Likewise where a person in a room says one after the other.
const IN_A_ROOM: usize = 30;
/// Messages that one request says.
const AT_ONCE: usize = 10;

/// Puts a proxy where others reach the homeserver.
async fn behind_a_border(side: &mut Side) -> Arc<Proxy> {
    let url = side.synapse.url();
    let own: u16 = url.rsplit_once(':').unwrap().1.parse().unwrap();
    let port = free_port().unwrap();
    let listener = |port: u16, names: &[&str]| {
        json!({
            "port": port, "bind_addresses": ["127.0.0.1"], "type": "http", "tls": false,
            "resources": [{ "names": names, "compress": false }],
        })
    };
    let own = listener(own, &["client", "openid"]);
    side.synapse.set("listeners", json!([own, listener(port, &["federation"])]));
    side.synapse.kill().unwrap();
    let proxy = Proxy::of_federation(format!("http://127.0.0.1:{port}"), &side.synapse).await;
    side.synapse.start_again().await.unwrap();
    proxy
}

#[tokio::test]
async fn federation_that_loses_doubles_and_turns_round_loses_and_doubles_no_message() {
    let mut sides: [Side; 3] = several().await;
    let mut borders = Vec::new();
    for side in &mut sides {
        borders.push(behind_a_border(side).await);
    }
    let garden = Garden::plant_on(sides).await;
    garden.in_room(None).await;
    for border in &borders {
        border.harm(true);
    }
    let (count, began) = (messages(MESSAGES), Instant::now());
    garden.talk("canary", count).await;
    let [harmed, sent] = harmed_of(&borders);
    let posted = garden.posted(0).await + garden.posted(1).await + garden.posted(2).await;
    println!(
        "{count} of each of three, 0 lost, 0 doubled, in {:?}; {posted} events of the room; \
         {harmed} of {sent} transactions between homeservers were lost, doubled or late",
        began.elapsed()
    );
    assert!(harmed >= 3, "{harmed} of {sent} harmed");
    for side in &garden.sides {
        assert_nothing_is_read(side.synapse.dir(), &["0 canary 0", "1 canary 1", "2 canary 2"]);
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "Mona's client, beside the test")]
async fn transactions_that_are_lost_doubled_and_turned_round_lose_and_double_nothing_for_anybody() {
    let (sides, proxies) = two_told_by(Proxy::of_transactions).await;
    let (alice, carol) = (sides[0].person("alice").await, sides[1].person("carol").await);
    let synapse = &sides[0].synapse;
    let mona = synapse.register("mona", "secret of mona").await.unwrap();
    let reader = MatrixUser::login(&synapse.url(), "mona", "secret of mona").await.unwrap();
    let group = alice.create_group_as("Garden", Scheme::SenderKeys).await;
    alice.add(group, &format!("carol:{}", sides[1].name())).await;
    alice.say(group, &["hello".to_owned()]).await;
    carol.wait("a welcome", |read| !read.is_empty()).await;
    alice.bridge(group, &[mona.user_id().as_str()]).await;
    let room = loop {
        if let Some(room) = mona.sync().await.unwrap().invites.pop() {
            break room;
        }
    };
    mona.join(&room).await.unwrap();
    // What she says from here on is for the bridge, too.
    let epoch = alice.client.roster(group).await.unwrap().epoch();
    while carol.client.roster(group).await.unwrap().epoch() < epoch {
        tokio::task::yield_now().await;
    }
    let (tell, mut seen) = watch::channel(BTreeMap::new());
    let reading = tokio::spawn(keep_reading(reader, tell));

    let (count, began) = (messages(IN_A_ROOM), Instant::now());
    let said = |who: &str| (0..count).map(|n| format!("{who} {n}")).collect::<Vec<_>>();
    let (alices, carols, monas) = (said("alice"), said("carol"), said("mona"));
    proxies[0].harm(true);
    let talk = async |who: &Person, bodies: &[String]| {
        for some in bodies.chunks(AT_ONCE) {
            who.say(group, some).await;
        }
    };
    let in_the_room = async {
        for body in &monas {
            mona.say(&room, body).await.unwrap();
        }
        // What was lost at the end is found out with what comes after it.
        proxies[0].harm(false);
        mona.say(&room, "that was all").await.unwrap();
    };
    tokio::join!(talk(&alice, &alices), talk(&carol, &carols), in_the_room);

    let expected: Vec<_> = monas.into_iter().chain(["that was all".to_owned()]).collect();
    for who in [&alice, &carol] {
        who.wait("what was said in the room", |read| {
            read.iter().filter(|read| read.mirror.is_some()).count() >= expected.len()
        })
        .await;
        assert_eq!(who.mirrored(), expected);
    }
    let here = sides[0].name();
    let there = sides[1].name().replace(':', "=3a");
    for (ghost, expected) in [
        (format!("@causeway_alice:{here}"), alices),
        (format!("@causeway__{there}/carol:{here}"), carols),
    ] {
        let all = |seen: &BTreeMap<String, Vec<String>>| {
            seen.get(&ghost).is_some_and(|bodies| bodies.len() >= expected.len())
        };
        let all = timeout(PATIENCE, seen.wait_for(all)).await.is_ok();
        assert!(all, "{ghost}: {:?}", seen.borrow());
        assert_eq!(seen.borrow().get(&ghost), Some(&expected), "{ghost}");
    }
    reading.abort();
    let [harmed, sent] = harmed_of(&proxies);
    println!(
        "{count} of each of two natives and one in the room, 0 lost, 0 doubled, in {:?}; \
         {harmed} of {sent} transactions were lost, doubled or late",
        began.elapsed()
    );
    assert!(harmed >= 3, "{harmed} of {sent} harmed");
}
