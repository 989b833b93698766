//! A server of two that is put back from a copy, after it had taken much: whoever had not read it there reads
//! it all the same, in its order, and whoever had reads nothing twice.

use causeway_protocol::{ids::GroupId, roster::Scheme};
use tokio::time::Instant;

use crate::{
    backup::{causeway_run, done},
    people::{Person, Read},
    servers::{Side, assert_nothing_is_read, put_back, two},
};

/// Messages that the server loses.
const MESSAGES: usize = 200;
/// Messages that one request says.
const AT_ONCE: usize = 20;

fn bodies(read: &[Read]) -> Vec<String> {
    read.iter().map(|read| read.body.clone()).collect()
}

/// What the operator sees of the other server.
fn shown(side: &Side, other: &str) -> serde_json::Value {
    done(&causeway_run(side.causeway.dir(), &["servers", "show", other, "--output", "json"]))
}

/// Says all, with an op in the middle of it that lets somebody in.
async fn say_all(admin: &Person, sender: &Person, group: GroupId, (all, new): (&[String], &str)) {
    for (n, some) in all.chunks(AT_ONCE).enumerate() {
        if n * AT_ONCE == all.len() / 2 {
            admin.add(group, new).await;
            // What the sender says from here on is for him, too.
            let epoch = admin.client.roster(group).await.unwrap().epoch();
            while sender.client.roster(group).await.unwrap().epoch() < epoch {
                tokio::task::yield_now().await;
            }
        }
        sender.say(group, some).await;
    }
}

/// The server `lost` of two is put back from a copy that is older than all that the other one gave it.
async fn lose_and_have_again(lost: usize) {
    let mut sides = two().await;
    let names = sides.each_ref().map(|side| side.name().to_owned());
    let alice = sides[0].person("alice").await;
    let carol = sides[1].person("carol").await;
    let (reader, sender) = if lost == 0 { (&alice, &carol) } else { (&carol, &alice) };
    // Two there whose devices are off: one from before the copy on, one is let in after it.
    let mut away = sides[lost].person("dan").await;
    let mut new = sides[lost].person("erin").await;
    let group = alice.create_group_as("Garden", Scheme::SenderKeys).await;
    for who in [format!("carol:{}", names[1]), format!("dan:{}", names[lost])] {
        alice.add(group, &who).await;
    }
    alice.say(group, &["welcome".to_owned()]).await;
    carol.wait("a welcome", |read| read.len() == 1).await;
    sender.say(group, &["hello".to_owned()]).await;
    let has_hello = |read: &[Read]| read.last().is_some_and(|read| read.body == "hello");
    reader.wait("words of the sender", has_hello).await;
    away.wait("words of the sender", has_hello).await;
    let before = [&away, reader].map(|who| who.read().len());
    away.go_away().await;
    new.go_away().await;
    let create = ["backup", "create", "copy", "--output", "json"];
    done(&causeway_run(sides[lost].causeway.dir(), &create));

    let said: Vec<String> = (0..MESSAGES).map(|n| format!("canary {n}")).collect();
    let erin = format!("erin:{}", names[lost]);
    say_all(&alice, sender, group, (&said, &erin)).await;
    reader.wait("all of it", |read| read.len() == before[1] + MESSAGES).await;
    // Its server has acknowledged all, and the other one lets go of it.
    while shown(&sides[1 - lost], &names[lost])["waiting"] != 0 {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    put_back(&mut sides[lost], async {
        away.come_back();
        new.come_back();
        let after = "canary after".to_owned();
        sender.say(group, std::slice::from_ref(&after)).await;
        let has_after = |read: &[Read]| read.last().is_some_and(|read| read.body == after);
        for who in [&away, &new, reader] {
            who.wait("words after the restore", has_after).await;
        }
        println!("{MESSAGES} given again and read in {:?}", began.elapsed());
        let all: Vec<_> = said.iter().chain([&after]).cloned().collect();
        for (who, before) in [&away, reader].into_iter().zip(before) {
            assert_eq!(bodies(&who.read()[before..]), all, "all, once, in order");
        }
        assert_eq!(bodies(&new.read()), all[MESSAGES / 2..], "all since he was let in");
        reader.say(group, &["canary back".to_owned()]).await;
        let has_back = |read: &[Read]| read.last().is_some_and(|read| read.body == "canary back");
        sender.wait("words from there", has_back).await;
    })
    .await;
    let seen = shown(&sides[1 - lost], &names[lost]);
    assert_eq!(seen["gaps"], 0, "{seen}");
    assert!(seen["kept_bytes"].as_u64().is_some_and(|kept| kept > 0), "{seen}");
    for side in &sides {
        assert_nothing_is_read(side.synapse.dir(), &["canary 0", "canary after", "canary back"]);
    }
}

#[tokio::test]
async fn what_a_replica_had_taken_after_its_copy_is_given_again() {
    lose_and_have_again(1).await;
}

#[tokio::test]
async fn what_a_home_had_taken_after_its_copy_is_given_again() {
    lose_and_have_again(0).await;
}
