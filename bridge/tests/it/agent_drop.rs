//! The process image dropped between every two steps of what goes between servers: over links, by a room of
//! agents, and where a server that was put back is given again what it lost. Nothing lost, nothing doubled,
//! order kept per sender.

use std::cell::Cell;

use causeway_bridge::steps::{Step, Steps};
use causeway_protocol::{
    ids::{AccountId, GroupId},
    roster::{Role, Scheme},
};
use futures_util::future::{join, join_all};
use tokio::time::timeout;

use crate::{
    federation::{Half, federation, until},
    people::{PATIENCE, Person, Read, new_group},
};

/// Messages of each at once.
const AT_ONCE: usize = 3;
/// Rounds of words behind a drop.
const AFTER: usize = 2;
const HOUR_MS: u64 = 3_600_000;
const HOME: usize = 0;
const REPLICA: usize = 1;

/// Where in the list the steps begin that are there once for a room.
const FIRST_OF_ROOMS: usize = 5;

/// At which of the servers agents pass by a step: the home's, another's, or both.
const fn sides(step: Step) -> &'static [usize] {
    match step {
        Step::MadeAgentsRoom | Step::InvitedAgents => &[HOME],
        Step::JoinedAgentsRoom => &[REPLICA],
        _ => &[HOME, REPLICA],
    }
}

/// A server each with one person.
struct Stage {
    halves: [Half; 3],
    people: [Person; 3],
}

impl Stage {
    async fn set() -> Self {
        let halves = federation(["a.example", "b.example", "c.example"]).await;
        let people = [
            halves[0].person("alice").await,
            halves[1].person("carol").await,
            halves[2].person("erin").await,
        ];
        Self { halves, people }
    }

    /// A new group of all three talks until the process of one was at a step and is dropped there, and on.
    async fn talk_through(&mut self, side: usize, step: Step, passes: u32) {
        let what = format!("{step:?} after {passes} at {}", self.halves[side].name());
        let steps = Steps::default();
        let sprung = steps.set(step, passes);
        let Self { halves, people } = self;
        halves[side].dies_and_begins(steps).await;
        let was_dropped = Cell::new(false);
        let story = async {
            let group = begin(people).await;
            (group, talk(people, [0, 1, 2], group, (0, &was_dropped)).await)
        };
        let dying = async {
            sprung.await.unwrap();
            halves[side].dies_and_begins(Steps::default()).await;
            was_dropped.set(true);
        };
        let told = timeout(PATIENCE, join(story, dying)).await;
        let Ok(((group, rounds), ())) = told else {
            panic!("{what}: dropped {}, {:?}", was_dropped.get(), people[HOME].read())
        };
        for reader in 0..3 {
            all_is_read(people, reader, (group, rounds), &what).await;
        }
    }

    /// The replica is put back, and one of the two dies at a step while it is given again what it lost.
    async fn give_again_through(&mut self, side: usize, step: Step) {
        let what = format!("{step:?} at {} while it is given again", self.halves[side].name());
        let Self { halves, people } = self;
        // So often as in this story it is not given again within an hour.
        halves[HOME].pass(HOUR_MS).await;
        let group = begin(people).await;
        say(people, [0, 1, 2], group, 0).await;
        for reader in 0..3 {
            all_is_read(people, reader, (group, 1), &what).await;
        }
        people[REPLICA].go_away().await;
        until_taken(halves, &what).await;
        halves[REPLICA].copy().await;
        say(people, [HOME, 2], group, 1).await;
        say(people, [HOME, 2], group, 2).await;
        until_taken(halves, &what).await;

        let (steps, was_dropped) = (Steps::default(), Cell::new(false));
        let sprung = steps.set(step, 1);
        if side == REPLICA {
            halves[REPLICA].put_back(steps).await;
        } else {
            halves[side].dies_and_begins(steps).await;
            halves[REPLICA].put_back(Steps::default()).await;
        }
        people[REPLICA].come_back();
        let dying = async {
            sprung.await.unwrap();
            halves[side].dies_and_begins(Steps::default()).await;
            was_dropped.set(true);
        };
        let story = talk(people, [HOME, 2], group, (3, &was_dropped));
        let Ok((rounds, ())) = timeout(PATIENCE, join(story, dying)).await else {
            panic!("{what} is not reached")
        };
        all_is_read(people, REPLICA, (group, rounds), &what).await;
        assert_eq!(halves[HOME].shown("b.example").await["gaps"], 0, "{what}");
    }
}

/// A new group of all three, whichever server dies meanwhile.
async fn begin(people: &[Person; 3]) -> GroupId {
    let alice = &people[HOME].client;
    let group = loop {
        match alice.create_group(new_group("Walkers", Scheme::SenderKeys)).await {
            Ok(group) => break group,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    };
    for account in ["carol:b.example", "erin:c.example"] {
        let account: AccountId = account.parse().unwrap();
        // Whether it was done, where nobody answered, the roster says.
        while !alice.roster(group).await.unwrap().members().values().any(|it| it.account == account)
        {
            if let Err(error) = alice.add(group, &account, Role::Member).await {
                assert!(error.is_transient(), "{error}");
                let _ = alice.sync_group(group).await;
            }
        }
    }
    let epoch = alice.roster(group).await.unwrap().epoch();
    for who in people {
        let knows =
            async || who.client.roster(group).await.is_ok_and(|roster| roster.epoch() >= epoch);
        assert!(until(knows).await, "an op does not come");
    }
    group
}

/// What one says in a round.
fn words(who: usize, group: GroupId, round: usize) -> Vec<String> {
    (0..AT_ONCE).map(|n| format!("{group} of {who}: {round}.{n}")).collect()
}

async fn say<const N: usize>(people: &[Person; 3], who: [usize; N], group: GroupId, round: usize) {
    join_all(who.map(|who| {
        let words = words(who, group, round);
        async move { people[who].say(group, &words).await }
    }))
    .await;
}

/// Some talk from a round on until one was dropped, and a little longer; how many rounds there were then.
async fn talk<const N: usize>(
    people: &[Person; 3],
    who: [usize; N],
    group: GroupId,
    (mut round, was_dropped): (usize, &Cell<bool>),
) -> usize {
    let mut after = 0;
    while after < AFTER {
        after += usize::from(was_dropped.get());
        say(people, who, group, round).await;
        round += 1;
    }
    round
}

/// Waits until one has read all rounds of a group: of each other what he said, once and in order.
async fn all_is_read(
    people: &[Person; 3],
    reader: usize,
    (group, rounds): (GroupId, usize),
    what: &str,
) {
    for other in (0..3).filter(|other| *other != reader) {
        let expected: Vec<_> = (0..rounds).flat_map(|round| words(other, group, round)).collect();
        let of = |read: &[Read]| -> Vec<String> {
            let bodies = read.iter().map(|read| read.body.clone());
            bodies.filter(|body| body.starts_with(&format!("{group} of {other}: "))).collect()
        };
        people[reader].wait(what, |read| of(read).len() >= expected.len()).await;
        assert_eq!(of(&people[reader].read()), expected, "{what}");
    }
}

/// Waits until the replica has acknowledged all that is for it.
async fn until_taken(halves: &[Half; 3], what: &str) {
    for side in [HOME, 2] {
        let is_taken = until(async || halves[side].shown("b.example").await["waiting"] == 0).await;
        let shown = halves[side].shown("b.example").await;
        assert!(is_taken, "{what}: it is not acknowledged: {shown:#?}");
    }
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_between_servers_wherever_one_is_dropped() {
    let mut stage = Stage::set().await;
    for (nth, step) in Step::OF_SERVERS.into_iter().enumerate() {
        for side in sides(step) {
            // Once for a group, or as often as they talk.
            let is_once = Step::OF_SERVERS[FIRST_OF_ROOMS..].contains(&step);
            let passes = if is_once { 0 } else { u32::try_from(nth + 2 * side).unwrap() };
            stage.talk_through(*side, step, passes).await;
        }
    }
}

#[tokio::test]
async fn nor_is_anything_that_is_given_again() {
    let mut stage = Stage::set().await;
    for (side, step) in [
        (HOME, Step::FetchedFrames),
        (HOME, Step::SentFrames),
        (HOME, Step::HandedInFrames),
        (REPLICA, Step::CameFrames),
        (REPLICA, Step::HandedInFrames),
        (REPLICA, Step::SentFrames),
    ] {
        stage.give_again_through(side, step).await;
    }
}
