//! A key for everybody in a group of many on two servers: from the first word until all have read it.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use causeway_protocol::ids::GroupId;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::{
    Size, median,
    people::Person,
    stage::{Counts, OURS, Stage, WITH_ERRANDS, say},
};

/// A group of so many on the first two servers, half on each.
pub(crate) struct Crowd {
    pub(crate) group: GroupId,
    pub(crate) people: Vec<Person>,
}

/// What a key for all came to, on the sender's server and on the other.
pub(crate) struct Spent {
    ms: f64,
    cpu: [f64; 2],
    /// Until nothing passed any more, without what as long a time costs where nothing is said.
    in_all: [f64; 2],
    counts: [Counts; 2],
    /// Errands to the threads of databases, where they are logged.
    errands: [u64; 2],
}

impl Crowd {
    /// They are called by this and a number.
    pub(crate) async fn gather(stage: &Stage, name: &str, count: usize) -> Self {
        let mut people = Vec::with_capacity(count);
        for number in 0..count {
            people.push(stage.sides[number % 2].person(&format!("{name}{number}")).await);
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
    pub(crate) async fn distribute(&self, stage: &Stage) -> Spent {
        self.measured(stage, &self.readers()).await
    }

    /// Likewise after one was put out.
    pub(crate) async fn distribute_again(&self, stage: &Stage) -> Spent {
        let (last, others) = self.people.split_last().expect("one");
        let out = &last.client.me().account;
        self.people[0].client.remove(self.group, out).await.expect("removes");
        for other in others {
            other.client.sync_group(self.group).await.expect("level");
        }
        let readers: Vec<_> = others.iter().skip(1).collect();
        self.measured(stage, &readers).await
    }

    async fn measured(&self, stage: &Stage, readers: &[&Person]) -> Spent {
        let two = &stage.sides[..2];
        let idle = idle(stage).await;
        let counted = [two[0].counts().await, two[1].counts().await];
        let asked = [two[0].errands(), two[1].errands()];
        let (began, before) = (Instant::now(), cpu(stage));
        say(self.group, &self.people[0], readers, 1).await;
        let (took, spent) = (began.elapsed(), less(cpu(stage), before));
        let errands = [two[0].errands() - asked[0], two[1].errands() - asked[1]];
        let counts =
            [two[0].counts().await.since(&counted[0]), two[1].counts().await.since(&counted[1])];
        let counted = cpu(stage);
        stage.quiet().await;
        let (rest, seconds) = (less(cpu(stage), counted), began.elapsed().as_secs_f64());
        let in_all = std::array::from_fn(|at| spent[at] + rest[at] - idle[at] * seconds);
        Spent { ms: took.as_secs_f64() * 1e3, cpu: spent, in_all, counts, errands }
    }
}

/// What the first two servers spend in a second in which nothing is said.
async fn idle(stage: &Stage) -> [f64; 2] {
    stage.quiet().await;
    let (began, before) = (Instant::now(), cpu(stage));
    stage.quiet().await;
    less(cpu(stage), before).map(|ms| ms / began.elapsed().as_secs_f64())
}

/// What the first two servers have spent so far.
fn cpu(stage: &Stage) -> [f64; 2] {
    [stage.sides[0].cpu_ms(), stage.sides[1].cpu_ms()]
}

fn less(after: [f64; 2], before: [f64; 2]) -> [f64; 2] {
    std::array::from_fn(|at| after[at] - before[at])
}

pub(crate) const HEAD: &str = "\
| a new key for all | from sending until the last has read | CPU of the sender's Causeway, of the other | likewise until nothing passes | commits | errands to databases, where they are counted | requests to the homeservers |
|---|---|---|---|---|---|---|";

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ms, cpu, in_all, counts, errands } = self;
        let mut requests: BTreeMap<&str, u64> = BTreeMap::new();
        for (call, count) in counts.iter().flat_map(|counts| &counts.requests) {
            *requests.entry(call).or_default() += count;
        }
        let requests: Vec<_> =
            requests.iter().map(|(call, count)| format!("{count} {call}")).collect();
        write!(
            f,
            "{ms:.0} ms | {:.1}, {:.1} ms | {:.0}, {:.0} ms | {}, {} | {}, {} | {} |",
            cpu[0],
            cpu[1],
            in_all[0],
            in_all[1],
            counts[0].commits,
            counts[1].commits,
            errands[0],
            errands[1],
            requests.join(", ")
        )
    }
}

/// This build and another in turns, each with groups of its own.
pub(crate) async fn in_turns(stage: &mut Stage, size: &Size, other: Option<PathBuf>) {
    let mut builds = vec![("this build", PathBuf::from(OURS))];
    builds.extend(other.map(|other| ("the other", other)));
    println!("{HEAD}");
    for (at, (what, build)) in builds.iter().enumerate() {
        turn(stage, size, (what, build, WITH_ERRANDS), &format!("counted{at}of")).await;
    }
    let mut all: Vec<Vec<[Spent; 2]>> = builds.iter().map(|_| Vec::new()).collect();
    for round in 0..size.turns {
        for at in 0..builds.len() {
            // Who begins changes.
            let at = (at + round) % builds.len();
            let (what, build) = &builds[at];
            let name = format!("turn{round}of{at}of");
            all[at].push(turn(stage, size, (what, build, "info"), &name).await);
        }
    }
    let both = |spent: &Spent| spent.cpu.iter().sum::<f64>();
    for (kind, what) in ["all sessions new", "after one was put out"].into_iter().enumerate() {
        let sums: Vec<f64> = all
            .iter()
            .map(|turns| median(turns.iter().map(|turn| both(&turn[kind])).collect()))
            .collect();
        println!("{what}: CPU of both servers, median of {}: {sums:.1?} ms", size.turns);
    }
}

async fn turn(
    stage: &mut Stage,
    size: &Size,
    (what, build, level): (&str, &Path, &str),
    name: &str,
) -> [Spent; 2] {
    stage.run(build, level).await;
    let crowd = Crowd::gather(stage, name, size.members).await;
    let first = crowd.distribute(stage).await;
    println!("| {what}, {} members, all sessions new | {first}", size.members);
    let second = crowd.distribute_again(stage).await;
    println!("| {what}, {} members, after one was put out | {second}", size.members - 1);
    [first, second]
}
