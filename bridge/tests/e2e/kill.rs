//! A stream each way through a real Synapse while something dies at random: nothing is lost,
//! nothing doubled, and every sender's order is kept.

use std::{collections::BTreeMap, time::Duration};

use causeway_bridge::demo::{causeway::Causeway, matrix_user::MatrixUser, synapse::Synapse};
use causeway_protocol::{ids::GroupId, roster::Scheme};
use ruma::OwnedRoomId;
use tokio::sync::watch;

use crate::{
    bridged::Bridged,
    people::{PATIENCE, Person},
};

/// Messages each way.
const MESSAGES: usize = 500;
/// Deaths by SIGKILL.
const KILLS: usize = 25;

/// A bridged group: two natives, and Carol in the room.
struct Stage {
    synapse: Synapse,
    alice: Person,
    bob: Person,
    carol: MatrixUser,
    group: GroupId,
    room: OwnedRoomId,
    seen: watch::Receiver<BTreeMap<String, Vec<String>>>,
    reading: tokio::task::JoinHandle<()>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Stage {
    #[expect(clippy::disallowed_methods, reason = "Carol's client, beside the test")]
    async fn new(scheme: Scheme) -> (Self, Causeway) {
        let Bridged { causeway, alice, carol, group, synapse } = Bridged::start_as(scheme).await;
        let token = causeway.registration_token().unwrap();
        let name = format!("bob:{}", synapse.server_name());
        let bob = Person::register(causeway.native_url(), &name, token.expose()).await;
        alice.add(group, &name).await;
        let reader = MatrixUser::login(&synapse.url(), "carol", "secret of carol").await.unwrap();
        let room = loop {
            if let Some(room) = reader.sync().await.unwrap().invites.pop() {
                break room;
            }
        };
        carol.join(&room).await.unwrap();
        let (tell, seen) = watch::channel(BTreeMap::new());
        let reading = tokio::spawn(keep_reading(reader, tell));
        let stage = Self { synapse, alice, bob, carol, group, room, seen, reading };
        (stage, causeway)
    }

    async fn natives_talk(&self) {
        for n in 0..MESSAGES / 2 {
            self.alice.say(self.group, &[format!("a{n}")]).await;
            self.bob.say(self.group, &[format!("b{n}")]).await;
        }
    }

    async fn carol_talks(&self) {
        for n in 0..MESSAGES {
            // Her homeserver may be away for a while.
            while self.carol.say(&self.room, &format!("c{n}")).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Waits until everybody has read everything, and looks for what should not be there.
    async fn check(&self, causeway: &Causeway) {
        let total =
            |seen: &BTreeMap<String, Vec<String>>| seen.values().map(Vec::len).sum::<usize>();
        let mut seen = self.seen.clone();
        let all = seen.wait_for(|seen| total(seen) >= MESSAGES);
        let arrived = tokio::time::timeout(PATIENCE, all).await.is_ok();
        for person in [&self.alice, &self.bob] {
            let all = |read: &[_]| count_mirrored(read) >= MESSAGES;
            person.wait("Carol's messages", all).await;
            let expected: Vec<String> = (0..MESSAGES).map(|n| format!("c{n}")).collect();
            let mirrored = person.mirrored();
            let first = mirrored.iter().zip(&expected).position(|(got, wanted)| got != wanted);
            let around =
                first.map(|at| &mirrored[at.saturating_sub(3)..mirrored.len().min(at + 9)]);
            assert!(mirrored == expected, "{around:?}\n{}", causeway.log());
        }
        let seen = self.seen.borrow().clone();
        assert!(arrived, "{} of {MESSAGES} arrived\n{}", total(&seen), causeway.log());
        for (name, prefix) in [("alice", "a"), ("bob", "b")] {
            let ghost = format!("@causeway_{name}:{}", self.synapse.server_name());
            let expected: Vec<String> = (0..MESSAGES / 2).map(|n| format!("{prefix}{n}")).collect();
            assert_eq!(seen.get(&ghost), Some(&expected), "{ghost}");
        }
    }
}

fn count_mirrored(read: &[crate::people::Read]) -> usize {
    read.iter().filter(|read| read.mirror.is_some()).count()
}

/// Notes what ghosts say, by sender, once for each event.
pub(crate) async fn keep_reading(
    carol: MatrixUser,
    tell: watch::Sender<BTreeMap<String, Vec<String>>>,
) {
    loop {
        let Ok(news) = carol.sync().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        tell.send_modify(|seen| {
            for event in &news.events {
                let is_message = event.text("/type") == Some("m.room.message");
                let (sender, body) = (event.text("/sender"), event.text("/content/body"));
                if let (true, Some(sender), Some(body)) = (is_message, sender, body)
                    && sender.starts_with("@causeway_")
                {
                    seen.entry(sender.to_owned()).or_default().push(body.to_owned());
                }
            }
        });
    }
}

/// Moments from a printed seed.
struct Moments(u64);

impl Moments {
    fn new() -> Self {
        let given = std::env::var("CAUSEWAY_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).unwrap();
            u64::from_le_bytes(bytes) | 1
        });
        println!("CAUSEWAY_SEED={seed}");
        Self(seed)
    }

    /// The next number below `limit` (xorshift64).
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[tokio::test]
async fn killed_at_random_moments_it_loses_and_doubles_nothing() {
    is_killed_at_random_moments(Scheme::SenderKeys).await;
}

#[tokio::test]
async fn killed_at_random_moments_it_loses_and_doubles_nothing_of_a_pairwise_group() {
    is_killed_at_random_moments(Scheme::Pairwise).await;
}

#[tokio::test]
async fn killed_at_random_moments_it_loses_and_doubles_nothing_of_one_that_shares_a_key() {
    is_killed_at_random_moments(Scheme::SharedKey).await;
}

async fn is_killed_at_random_moments(scheme: Scheme) {
    let mut moments = Moments::new();
    let (stage, mut causeway) = Stage::new(scheme).await;
    let talk = async { tokio::join!(stage.natives_talk(), stage.carol_talks()) };
    tokio::pin!(talk);
    let (mut kills, mut is_over) = (0, false);
    while kills < KILLS || !is_over {
        let life = Duration::from_millis(moments.below(900));
        tokio::select! {
            _ = &mut talk, if !is_over => is_over = true,
            () = tokio::time::sleep(life) => {
                causeway.kill().unwrap();
                kills += 1;
                causeway.spawn().unwrap();
                // One in four dies again while it starts.
                if moments.below(4) > 0 {
                    tokio::select! {
                        ready = causeway.ready() => ready.unwrap(),
                        _ = &mut talk, if !is_over => is_over = true,
                    }
                }
            }
        }
    }
    causeway.ready().await.unwrap();
    println!("killed {kills} times under {MESSAGES} messages each way");
    stage.check(&causeway).await;
}

#[tokio::test]
async fn what_is_said_while_the_homeserver_is_away_arrives_when_it_is_back() {
    let (mut stage, causeway) = Stage::new(Scheme::SenderKeys).await;
    stage.synapse.kill().unwrap();
    stage.natives_talk().await;
    stage.synapse.start_again().await.unwrap();
    stage.carol_talks().await;
    stage.check(&causeway).await;
}
