//! Two real homeservers with a group of both, while what carries it breaks in each way: nothing is lost,
//! nothing doubled, every sender's order is kept, and no server has read a word.
//!
//! `CAUSEWAY_FAULTS=1000` says so many messages each way under each fault, with kills and a cut in full size;
//! without it a size that fits between other tests.

use std::{sync::Arc, time::Duration};

use causeway_bridge::demo::{matrix_user::MatrixUser, synapse::Synapse};
use causeway_protocol::{ids::GroupId, roster::Scheme};
use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    people::Person,
    proxy::{Proxy, harmed_of},
    servers::{Side, assert_nothing_is_read, two_behind},
};

/// Messages each way, without being told otherwise.
const MESSAGES: usize = 100;
/// From so many on everything is in full size.
const FULL: usize = 1_000;
/// Messages that one request says.
const AT_ONCE: usize = 10;
/// To-device senders beside the agent.
const SENDERS: usize = 8;

/// What happens while the two talk.
#[derive(Debug, Clone, Copy)]
enum Fault {
    LinkCut,
    HomeserverKilled,
    CausewayKilled,
    EachInTurn,
    Senders,
    BadWire,
}

struct Stage {
    sides: [Side; 2],
    proxies: [Arc<Proxy>; 2],
    alice: Person,
    carol: Person,
    group: GroupId,
    count: usize,
    senders: Vec<MatrixUser>,
}

impl Stage {
    /// Both say all while it happens, and read all.
    async fn under(&mut self, fault: Fault) {
        let (before, began) = ((self.alice.read().len(), self.carol.read().len()), Instant::now());
        let said = |who: &str| {
            (0..self.count).map(|n| format!("canary {fault:?} {who} {n}")).collect::<Vec<_>>()
        };
        let (hers, others) = (said("alice"), said("carol"));
        let group = self.group;
        let talk = async |who: &Person, bodies: &[String]| {
            for some in bodies.chunks(AT_ONCE) {
                who.say(group, some).await;
            }
        };
        tokio::join!(
            talk(&self.alice, &hers),
            talk(&self.carol, &others),
            happen(fault, (&mut self.sides, &self.proxies), &self.senders, self.count >= FULL)
        );
        let all = self.count;
        self.alice.wait("carol's words", |read| read.len() >= before.0 + all).await;
        self.carol.wait("alice's words", |read| read.len() >= before.1 + all).await;
        let new = |who: &Person, from: usize| {
            who.read()[from..].iter().map(|read| read.body.clone()).collect::<Vec<_>>()
        };
        assert_eq!(new(&self.alice, before.0), others, "{fault:?}");
        assert_eq!(new(&self.carol, before.1), hers, "{fault:?}");
        println!("{fault:?}: {all} each way, 0 lost, 0 doubled, in {:?}", began.elapsed());
    }
}

async fn happen(
    fault: Fault,
    (sides, proxies): (&mut [Side; 2], &[Arc<Proxy>; 2]),
    senders: &[MatrixUser],
    is_full: bool,
) {
    match fault {
        Fault::LinkCut => {
            let cut = |is_cut| {
                for proxy in proxies {
                    proxy.cut(is_cut);
                }
            };
            cut(true);
            tokio::time::sleep(Duration::from_secs(if is_full { 60 } else { 3 })).await;
            cut(false);
        }
        Fault::HomeserverKilled => {
            sides[1].synapse.kill().unwrap();
            sides[1].synapse.start_again().await.unwrap();
        }
        Fault::CausewayKilled => {
            for _ in 0..if is_full { 25 } else { 3 } {
                sides[1].causeway.kill().unwrap();
                sides[1].causeway.start().await.unwrap();
            }
        }
        Fault::EachInTurn => {
            for side in sides {
                side.causeway.kill().unwrap();
                side.causeway.start().await.unwrap();
                side.synapse.kill().unwrap();
                side.synapse.start_again().await.unwrap();
            }
        }
        Fault::Senders => flood(senders, &sides[1].synapse).await,
        Fault::BadWire => {
            for proxy in proxies {
                proxy.harm(true);
            }
        }
    }
}

/// Many at once send the other server's agent messages of another type, as anybody may.
async fn flood(senders: &[MatrixUser], to: &Synapse) {
    let agent = format!("@_causeway:{}", to.server_name());
    let said = senders.iter().map(async |sender| {
        for n in 0..40 {
            let path = ["sendToDevice", "m.dummy", &format!("flood-{n}")];
            let body = json!({"messages": {&agent: {"CAUSEWAY_RELAY": {"n": n}}}});
            // One that is refused for its rate is none that matters.
            let _ = sender.request(Method::PUT, &path, body).await;
        }
    });
    futures_util::future::join_all(said).await;
}

/// How many messages each says, without being told otherwise so many.
pub(crate) fn messages(otherwise: usize) -> usize {
    let count = std::env::var("CAUSEWAY_FAULTS").ok().and_then(|count| count.parse().ok());
    count.unwrap_or(otherwise)
}

#[tokio::test]
async fn a_group_of_two_homeservers_loses_and_doubles_nothing_under_each_fault() {
    let count = messages(MESSAGES);
    let (sides, proxies) = two_behind(Proxy::start).await;
    let (alice, carol) = (sides[0].person("alice").await, sides[1].person("carol").await);
    let mut senders = Vec::new();
    for n in 0..SENDERS {
        let made = sides[0].synapse.register(&format!("sender{n}"), "secret of a sender").await;
        senders.push(made.unwrap());
    }
    let group = alice.create_group_as("Garden", Scheme::SenderKeys).await;
    alice.add(group, &format!("carol:{}", sides[1].name())).await;
    alice.say(group, &["canary hello".to_owned()]).await;
    carol.wait("a welcome", |read| read.len() == 1).await;
    let mut stage = Stage { sides, proxies, alice, carol, group, count, senders };
    for fault in [
        Fault::LinkCut,
        Fault::HomeserverKilled,
        Fault::CausewayKilled,
        Fault::EachInTurn,
        Fault::Senders,
        Fault::BadWire,
    ] {
        stage.under(fault).await;
    }
    let [harmed, sent] = harmed_of(&stage.proxies);
    println!("on the bad wire {harmed} of {sent} to-device messages were lost, doubled or late");
    assert!(harmed > 0, "nothing was harmed");
    for side in &stage.sides {
        assert_nothing_is_read(
            side.synapse.dir(),
            &["canary hello", "canary LinkCut", "canary Bad"],
        );
    }
}
