//! A server of two that is put back from a copy that is an hour old, on a clock that is moved: in that hour its
//! people were spoken with every minute, somebody came and went, and keys were changed, and the upkeep of both
//! servers did what was due. Who was away all the time reads all of it, in order, and nobody reads anything twice.

use std::slice;

use causeway_bridge::steps::Steps;
use causeway_groups::{
    machine::{Batch, Outgoing},
    sdk::Reached,
};
use causeway_protocol::{ids::GroupId, roster::Scheme};

use crate::{
    federation::{Half, federation, until},
    people::{Person, Read, outgoing, text},
};

const MINUTE_MS: u64 = 60_000;
const MINUTES: usize = 60;
/// In which minute somebody comes, goes, and everybody is asked for new keys.
const COMES: usize = 15;
const GOES: usize = 30;
const NEW_KEYS: usize = 45;

fn bodies(read: &[Read]) -> Vec<String> {
    read.iter().map(|read| read.body.clone()).collect()
}

async fn until_knows(who: &Person, group: GroupId, of: &Person) {
    let epoch = of.client.roster(group).await.unwrap().epoch();
    let knows = async || who.client.roster(group).await.is_ok_and(|roster| roster.epoch() >= epoch);
    assert!(until(knows).await, "the op does not come");
}

async fn until_taken(of: &Half, by: &str) {
    let is_taken = until(async || of.shown(by).await["waiting"] == 0).await;
    assert!(is_taken, "it is not acknowledged: {:#?}", of.shown(by).await);
}

/// Seals anew what came to `reader`'s server behind an op, as `causeway-client` does: of the first messages.
async fn seal_anew(who: &Person, group: GroupId, first: &[(Batch, Outgoing)], reader: &Person) {
    let is_late = |it: &Reached| matches!(it, Reached::Failed(Some(why)) if why == "stale_epoch");
    for (minute, (batch, item)) in first.iter().enumerate() {
        let id = batch.submissions.last().unwrap().id.unwrap();
        let is_read = || bodies(&reader.read()).contains(&format!("minute {minute}"));
        let mut is_anew = false;
        let becomes = async || {
            let reached = who.client.reached(group, item.client_id, id).await.unwrap();
            is_anew = reached.is_some_and(|it| it.values().any(is_late));
            is_anew || is_read()
        };
        assert!(until(becomes).await, "nobody says what became of it");
        if is_anew {
            who.send_items(group, slice::from_ref(item)).await;
        }
    }
}

/// The server `lost` of the two, the home or the replica, loses an hour.
async fn lose_an_hour(lost: usize, scheme: Scheme) {
    let mut halves = federation(["a.example", "b.example"]).await;
    let alice = halves[0].person("alice").await;
    let carol = halves[1].person("carol").await;
    let (sender, reader) = if lost == 0 { (&carol, &alice) } else { (&alice, &carol) };
    let mut away = halves[lost].person("dan").await;
    let guest = halves[1 - lost].person("gus").await;
    let (dan, gus) =
        (format!("dan:{}", halves[lost].name()), format!("gus:{}", halves[1 - lost].name()));
    let group = alice.create_group_as("Garden", scheme).await;
    alice.add(group, "carol:b.example").await;
    alice.add(group, &dan).await;
    until_knows(&carol, group, &alice).await;
    sender.say(group, &["hello".to_owned()]).await;
    for who in [reader, &away] {
        who.wait("hello", |read| read.last().is_some_and(|it| it.body == "hello")).await;
    }
    let before = [&away, reader].map(|who| who.read().len());
    away.go_away().await;
    until_taken(&halves[1 - lost], halves[lost].name()).await;
    halves[lost].copy().await;

    let said: Vec<String> = (0..MINUTES).map(|minute| format!("minute {minute}")).collect();
    let mut sent = Vec::new();
    for (minute, body) in said.iter().enumerate() {
        match minute {
            COMES => alice.add(group, &gus).await,
            GOES => drop(alice.client.remove(group, &gus.parse().unwrap()).await.unwrap()),
            NEW_KEYS if scheme == Scheme::SenderKeys => {
                alice.client.http().ask_rotation(group).await.unwrap();
            }
            _ => {}
        }
        until_knows(sender, group, &alice).await;
        let item = outgoing(text(body));
        sent.push((sender.send_items(group, slice::from_ref(&item)).await, item));
        reader.wait("each minute", |read| read.last().is_some_and(|it| it.body == *body)).await;
        halves[0].pass(MINUTE_MS).await;
        halves[1].upkeep().await;
    }
    until_taken(&halves[1 - lost], halves[lost].name()).await;
    guest
        .wait("his part of it", |read| read.last().is_some_and(|it| it.body == said[GOES - 1]))
        .await;

    halves[lost].put_back(Steps::default()).await;
    away.come_back();
    let after = "after the hour".to_owned();
    sender.say(group, slice::from_ref(&after)).await;
    let all: Vec<_> = said.iter().chain([&after]).cloned().collect();
    // The home is told all ops first, so that what was sealed before somebody went comes behind that: it is
    // sealed anew, and whoever has read it knows it.
    let (late, on_time) = if (lost, scheme) == (0, Scheme::SharedKey) {
        seal_anew(sender, group, &sent[..GOES], &away).await;
        all.iter().cloned().enumerate().partition(|(minute, _)| *minute < GOES)
    } else {
        (Vec::new(), all.iter().cloned().enumerate().collect::<Vec<_>>())
    };
    away.wait("all of it", |read| read.len() >= before[0] + all.len()).await;
    let (was_late, was_on_time): (Vec<_>, Vec<_>) = bodies(&away.read()[before[0]..])
        .into_iter()
        .partition(|body| late.iter().any(|(_, it)| it == body));
    for (expected, was) in [(late, was_late), (on_time, was_on_time)] {
        assert_eq!(
            was,
            expected.into_iter().map(|(_, it)| it).collect::<Vec<_>>(),
            "once, in order"
        );
    }
    reader.wait("all of it", |read| read.len() >= before[1] + all.len()).await;
    assert_eq!(bodies(&reader.read()[before[1]..]), all, "nothing twice");
    assert_eq!(bodies(&guest.read()), said[COMES..GOES], "what was said while he was there");
    // Both go on, and the roster is what it was before.
    reader.say(group, &["back".to_owned()]).await;
    sender.wait("words from there", |read| read.last().is_some_and(|it| it.body == "back")).await;
    let rosters = [&alice, &carol, &away].map(|who| who.client.roster(group));
    let rosters = futures_util::future::join_all(rosters).await;
    let hashes: Vec<_> = rosters.into_iter().map(|it| it.unwrap().hash()).collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]));
    for side in [0, 1] {
        let shown = halves[side].shown(halves[1 - side].name()).await;
        assert_eq!(shown["gaps"], 0, "{shown}");
    }
}

#[tokio::test]
async fn a_replica_an_hour_behind_is_given_the_hour_again() {
    lose_an_hour(1, Scheme::SenderKeys).await;
}

#[tokio::test]
async fn a_home_an_hour_behind_is_given_the_hour_again() {
    lose_an_hour(0, Scheme::SenderKeys).await;
}

#[tokio::test]
async fn so_are_both_where_all_share_a_key_that_changes() {
    for lost in [0, 1] {
        lose_an_hour(lost, Scheme::SharedKey).await;
    }
}
