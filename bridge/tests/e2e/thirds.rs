//! A group on three homeservers that federate over TLS, each with its Causeway.

use causeway_protocol::roster::Scheme;

use crate::{
    people::{Person, Read},
    servers::{Side, several},
};

const COUNT: usize = 25;

#[tokio::test]
async fn three_real_homeservers_carry_a_group_and_one_that_is_gone_stops_nobody() {
    let mut sides: [Side; 3] = several().await;
    let alice = sides[0].person("alice").await;
    let (carol, erin) = (sides[1].person("carol").await, sides[2].person("erin").await);
    let group = alice.create_group_as("Garden", Scheme::SenderKeys).await;
    let welcome = async |who: &Person, account: String| {
        alice.add(group, &account).await;
        alice.say(group, &[format!("hello {account}")]).await;
        who.wait("a welcome", |read| !read.is_empty()).await;
    };
    welcome(&carol, format!("carol:{}", sides[1].name())).await;
    welcome(&erin, format!("erin:{}", sides[2].name())).await;
    say(&[(&alice, "alice"), (&carol, "carol"), (&erin, "erin")], group, "all").await;
    for (who, others) in
        [(&alice, ["carol", "erin"]), (&carol, ["alice", "erin"]), (&erin, ["alice", "carol"])]
    {
        all_of(who, &others, "all").await;
    }

    // The third one's Causeway ends as in a power cut: the others do not wait for it, and it has all later.
    sides[2].causeway.kill().unwrap();
    say(&[(&alice, "alice"), (&carol, "carol")], group, "without").await;
    all_of(&alice, &["carol"], "without").await;
    all_of(&carol, &["alice"], "without").await;
    sides[2].causeway.start().await.unwrap();
    all_of(&erin, &["alice", "carol"], "without").await;
    // So does the home: nobody is let in then, and the two others talk.
    sides[0].causeway.kill().unwrap();
    say(&[(&carol, "carol"), (&erin, "erin")], group, "alone").await;
    all_of(&erin, &["carol"], "alone").await;
    all_of(&carol, &["erin"], "alone").await;
    sides[0].causeway.start().await.unwrap();
    all_of(&alice, &["carol", "erin"], "alone").await;
}

async fn say(who: &[(&Person, &str)], group: causeway_protocol::ids::GroupId, word: &str) {
    for (person, name) in who {
        let texts: Vec<String> = (0..COUNT).map(|n| format!("{name} {word} {n}")).collect();
        person.say(group, &texts).await;
    }
}

/// Waits until somebody has read all that these have said with a word: each once, in the order of each.
async fn all_of(who: &Person, others: &[&str], word: &str) {
    let of = |read: &[Read], other: &str| -> Vec<String> {
        let begins = format!("{other} {word} ");
        let bodies = read.iter().map(|read| read.body.clone());
        bodies.filter(|body| body.starts_with(&begins)).collect()
    };
    for other in others {
        who.wait("all of it", |read| of(read, other).len() >= COUNT).await;
        let expected: Vec<String> = (0..COUNT).map(|n| format!("{other} {word} {n}")).collect();
        assert_eq!(of(&who.read(), other), expected);
    }
}
