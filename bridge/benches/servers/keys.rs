//! A key for everybody in a group of many on two servers: from the first word until all have read it.

use std::collections::BTreeMap;

use causeway_protocol::ids::GroupId;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::{
    people::Person,
    stage::{Side, Stage, say},
};

/// A group of so many on the first two servers, half on each.
pub(crate) struct Crowd {
    pub(crate) group: GroupId,
    pub(crate) people: Vec<Person>,
}

impl Crowd {
    pub(crate) async fn gather(stage: &Stage, count: usize) -> Self {
        let mut people = Vec::with_capacity(count);
        for number in 0..count {
            people.push(stage.sides[number % 2].person(&format!("member{number}")).await);
        }
        let members: Vec<_> =
            people.iter().enumerate().map(|(number, one)| (number % 2, one)).collect();
        let group = stage.group(&members).await;
        // Each knows everybody; else the first word is waited for by who has still to be met.
        join_all(people.iter().map(
            async |one| {
                while one.client.chores().await.is_ok_and(|more| more) {}
            },
        ))
        .await;
        Self { group, people }
    }

    pub(crate) fn readers(&self) -> Vec<&Person> {
        self.people.iter().skip(1).collect()
    }

    /// The first says something, for which all others are given a new key.
    pub(crate) async fn distribute(&self, stage: &Stage, what: &str) {
        self.measured(stage, what, &self.readers()).await;
    }

    /// Likewise after one was put out.
    pub(crate) async fn distribute_again(&self, stage: &Stage) {
        let (last, others) = self.people.split_last().expect("one");
        let out = &last.client.me().account;
        self.people[0].client.remove(self.group, out).await.expect("removes");
        for other in others {
            other.client.sync_group(self.group).await.expect("level");
        }
        let readers: Vec<_> = others.iter().skip(1).collect();
        self.measured(stage, "after one was put out", &readers).await;
    }

    async fn measured(&self, stage: &Stage, what: &str, readers: &[&Person]) {
        stage.quiet().await;
        let two = &stage.sides[..2];
        let (before, cpu) = (requests(two).await, two.iter().map(Side::cpu_ms).collect::<Vec<_>>());
        let began = Instant::now();
        say(self.group, &self.people[0], readers, 1).await;
        let ms = began.elapsed().as_secs_f64() * 1e3;
        let spent: Vec<_> =
            two.iter().zip(cpu).map(|(side, before)| side.cpu_ms() - before).collect();
        let asked: Vec<String> = requests(two)
            .await
            .into_iter()
            .filter_map(|(call, count)| {
                let count = count - before.get(&call).copied().unwrap_or(0);
                (count > 0).then(|| format!("{count} {call}"))
            })
            .collect();
        println!(
            "| {} members, {what} | {ms:.0} ms | {:.0} and {:.0} ms | {} |",
            readers.len() + 1,
            spent[0],
            spent[1],
            asked.join(", ")
        );
    }
}

pub(crate) const HEAD: &str = "\
| a new key for all | from sending until the last has read | CPU of the sender's Causeway, of the other | requests to the homeservers |
|---|---|---|---|";

async fn requests(sides: &[Side]) -> BTreeMap<String, u64> {
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    for side in sides {
        for (call, count) in side.requests().await {
            *all.entry(call).or_default() += count;
        }
    }
    all
}
