//! One hostile account with every kind of junk at once, beside twenty honest people and a bridged room:
//! nothing of theirs is lost or comes out of its order.
//!
//! How long they wait for their posts, with and without it, is printed and judged by nobody here: machines
//! that run tests are busy. `cargo test -p causeway-bridge --test it -- swarm --nocapture` shows it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use causeway_bridge::{clock, steps::Steps};
use causeway_groups::{machine::NewGroup, sdk::CallError};
use causeway_protocol::{
    api::{JoinRequest, NewInvite, PostEnvelopes, PutSenderKeys, UploadKeys},
    envelope::{Kind, Recipient, Sender, Submission, SubmittedTo, compute_id},
    ids::{DeviceId, Epoch, GroupId, InviteKey},
    roster::Scheme,
};
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    people::Person,
    stub::Stub,
    world::{Running, World},
};

const HONEST: usize = 20;
/// Messages of each in each round.
const EACH: usize = 4;
/// How often each of the hostile account's eight hands does its kind of junk: envelopes, new groups
/// (more than an account may begin), and everything else, eight requests each time.
const JUNK: [usize; 8] = [100, 100, 30, 16, 16, 16, 16, 16];
/// Junk messages that go to everybody, and whose keys never come.
const HELD: usize = 200;

struct Cast {
    stub: Stub,
    people: Vec<Person>,
    group: GroupId,
    room: String,
}

/// How long each post of an honest person took.
type Times = Mutex<Vec<Duration>>;

impl Cast {
    /// Everybody says his part at once, one after the other for himself, and Al in the room says his.
    async fn speak(&self, round: &str, times: &Times) {
        let parts = self.people.iter().enumerate().map(async |(who, person)| {
            for n in 0..EACH {
                let began = Instant::now();
                person.say(self.group, &[format!("{round} {who} {n}")]).await;
                times.lock().unwrap().push(began.elapsed());
            }
        });
        for n in 0..EACH {
            let body = json!({"msgtype": "m.text", "body": format!("{round} al {n}")});
            self.stub
                .change(|rooms| rooms.event(&self.room, "@al:x", "m.room.message", None, body));
        }
        join_all(parts).await;
        for (who, person) in self.people.iter().enumerate() {
            let mut expected: Vec<String> = (0..HONEST).filter(|o| *o != who).map(name).collect();
            expected.push("al".to_owned());
            person
                .wait(round, |read| {
                    let bodies: Vec<&str> = read.iter().map(|read| read.body.as_str()).collect();
                    expected.iter().all(|who| is_whole(&bodies, round, who))
                })
                .await;
        }
        let find = |rooms: &crate::stub::Rooms| {
            let bodies: Vec<&str> = rooms
                .events
                .iter()
                .filter(|event| event["type"] == "m.room.message")
                .filter_map(|event| event["content"]["body"].as_str())
                .collect();
            (0..HONEST).map(name).all(|who| is_whole(&bodies, round, &who)).then_some(())
        };
        self.stub.wait(find).await;
    }
}

fn name(who: usize) -> String {
    who.to_string()
}

/// Whether all of somebody's round is there, each once and in its order.
fn is_whole(bodies: &[&str], round: &str, who: &str) -> bool {
    let prefix = format!("{round} {who} ");
    let said = bodies.iter().filter_map(|body| body.strip_prefix(&prefix));
    let said: Vec<usize> = said.map(|n| n.parse().unwrap()).collect();
    assert!(said.is_sorted_by(|a, b| a < b), "{prefix}{said:?}");
    said.len() == EACH
}

async fn begin() -> (World, Running, Cast) {
    let mut world = World::new().await;
    let bridge = world.begin(Steps::default()).await;
    let people = join_all((0..HONEST).map(|n| {
        let name = format!("h{n}");
        let world = &world;
        async move { world.person(&name).await }
    }))
    .await;
    let group = people[0].create_group("Walkers").await;
    for n in 1..HONEST {
        people[0].add(group, &format!("h{n}:b.example")).await;
    }
    let stub = world.stub.clone();
    let invited = async {
        people[0].bridge(group, &["@al:x"]).await;
        stub.wait(|rooms| rooms.room_that_invites("@al:x")).await
    };
    let room = world.during(&bridge, invited).await;
    stub.change(|rooms| rooms.membership(&room, "@al:x", "@al:x", "join").unwrap());
    (world, bridge, Cast { stub, people, group, room })
}

/// The hostile account: what it did, and what it was answered.
struct Mallory {
    person: Person,
    /// Its group, into which it has put everybody and the bridge.
    group: GroupId,
    answers: Mutex<BTreeMap<(&'static str, String), usize>>,
}

impl Mallory {
    async fn new(world: &World, honest: &[Person]) -> Self {
        let person = world.person("mallory").await;
        let group = person.create_group("Walkers").await;
        for n in 0..honest.len() {
            person.add(group, &format!("h{n}:b.example")).await;
        }
        person.add(group, "bridge:b.example").await;
        Self { person, group, answers: Mutex::default() }
    }

    fn note<T>(&self, kind: &'static str, answer: &Result<T, CallError>) {
        let answer = match answer {
            Ok(_) => "taken".to_owned(),
            Err(CallError::Refused { status, .. }) => status.to_string(),
            Err(CallError::RetryAfter { .. }) => "429".to_owned(),
            Err(CallError::Stale { .. }) => "409".to_owned(),
            Err(CallError::Full(_)) => "507".to_owned(),
            Err(
                CallError::Unreachable(_)
                | CallError::Unknown(_)
                | CallError::Elsewhere { .. }
                | CallError::Foreign { .. },
            ) => "no answer".to_owned(),
        };
        *self.answers.lock().unwrap().entry((kind, answer)).or_default() += 1;
    }

    fn envelope(&self, kind: Kind, to: SubmittedTo, payload: Vec<u8>) -> Submission {
        let me = self.person.client.me();
        let device = me.record.device_id;
        let recipient = match &to {
            SubmittedTo::Device(device) => Recipient::Device(*device),
            SubmittedTo::Broadcast | SubmittedTo::Devices(_) => Recipient::Broadcast,
        };
        Submission {
            id: Some(compute_id(kind, Some(&device), &recipient, &payload, None)),
            group: self.group,
            epoch: Epoch(u32::try_from(HONEST).unwrap() + 1),
            sender: Sender { account: me.account.clone(), device: me.record.device_id },
            kind,
            ttl_ms: 2_592_000_000,
            to,
            payload,
        }
    }

    /// Posts envelopes that nobody can open: for all (`n` is below [`HELD`]), and for a victim alone.
    async fn envelopes(&self, n: usize, victim: DeviceId) {
        let http = self.person.client.http();
        let mut envelopes = Vec::new();
        if n < HELD {
            // A message of suite 1 under a chain that nobody has.
            let tag = u32::try_from(n).unwrap().to_be_bytes();
            let wire = [&[0x21], &tag[..], &[0], &[7; 200]].concat();
            envelopes.push(self.envelope(Kind::Message, SubmittedTo::Broadcast, wire));
        }
        let olm = [&n.to_be_bytes()[..], &vec![1; 30_000][..]].concat();
        envelopes.push(self.envelope(Kind::Direct, SubmittedTo::Device(victim), olm));
        let batch = PostEnvelopes { envelopes, count: None };
        self.note("envelopes", &http.post_envelopes(self.group, &batch).await);
    }

    async fn groups(&self) {
        let new = NewGroup {
            scheme: Scheme::SenderKeys,
            suite: None,
            name: "Walkers".to_owned(),
            description: "d".repeat(40_000),
            members_may_add: true,
            is_channel: false,
            max_members: 50,
            ttl_s: 2_592_000,
        };
        let client = &self.person.client;
        let mut tx = client.db().begin().await.unwrap();
        let made = client.machine().create_group(&mut tx, clock::now(), new).await.unwrap();
        drop(tx);
        self.note("groups", &client.http().create_group(&made.1).await);
    }

    /// All other kinds of request that cost something.
    async fn others(&self, n: usize) {
        let (client, http) = (&self.person.client, self.person.client.http());
        let ops = client.http().ops(self.group, Epoch(0)).await;
        self.note("ops read", &ops);
        if let Some(op) = ops.ok().and_then(|page| page.ops.into_iter().last()) {
            let mut forged = op.0;
            if let Some(byte) = forged.get_mut(20) {
                *byte ^= 1;
            }
            let answer = http.post_op(self.group, &causeway_protocol::api::OpBytes(forged)).await;
            self.note("forged ops", &answer);
        }
        let key = |at: usize| {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).unwrap();
            bytes[0] = u8::try_from(at % 256).unwrap();
            bytes
        };
        let invite = NewInvite {
            ik_pub: InviteKey::new(*client.me().record.device_id.as_bytes()),
            expires_ms: clock::now().plus_ms(1_000_000),
            uses: u32::try_from(n + 1).unwrap(),
        };
        self.note("invites", &http.create_invite(self.group, &invite).await);
        let devices = (0..900).map(|at| DeviceId::new(key(at))).collect();
        self.note("claims", &http.claim_keys(devices).await);
        let keys = UploadKeys { one_time_keys: Vec::new(), fallback_key: None, replace: true };
        self.note("keys", &http.upload_keys(&keys).await);
        let report = PutSenderKeys {
            keys: Vec::new(),
            failures: (0..60).map(|at| (format!("junk {at} {n}"), 1)).collect(),
        };
        self.note("reports", &http.report_sender_keys(self.group, &report).await);
        self.note(
            "joins",
            &http.join(self.group, &JoinRequest { request: vec![5; 30_000], server: None }).await,
        );
        self.note("group lists", &http.groups(None).await);
    }

    /// Everything at once, again and again.
    async fn rage(self: Arc<Self>, victims: Vec<DeviceId>) {
        let next = AtomicUsize::new(0);
        let one = async |kind: usize| {
            for _ in 0..JUNK[kind] {
                let n = next.fetch_add(1, Ordering::Relaxed);
                match kind {
                    0 | 1 => self.envelopes(n, victims[n % victims.len()]).await,
                    2 => self.groups().await,
                    _ => self.others(n).await,
                }
            }
        };
        join_all((0..JUNK.len()).map(one)).await;
    }
}

fn p95(times: &Times) -> Duration {
    let mut times = times.lock().unwrap().clone();
    times.sort_unstable();
    times[times.len() * 95 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "a hostile client beside the test")]
async fn beside_every_kind_of_junk_at_once_nothing_honest_is_lost() {
    let (mut world, bridge, cast) = begin().await;
    let (before, beside) = (Times::default(), Times::default());
    // The first messages give keys to everybody.
    world.during(&bridge, cast.speak("first", &Times::default())).await;
    world.during(&bridge, cast.speak("without", &before)).await;
    let mallory = Arc::new(Mallory::new(&world, &cast.people).await);
    let victims = cast.people.iter().map(|person| person.client.me().record.device_id).collect();
    let rage = tokio::spawn(Arc::clone(&mallory).rage(victims));
    let mut round = 0;
    while round == 0 || !rage.is_finished() {
        world.during(&bridge, cast.speak(&format!("beside {round}"), &beside)).await;
        round += 1;
    }
    rage.await.unwrap();
    let answers = mallory.answers.lock().unwrap().clone();
    let kinds = ["envelopes", "groups", "claims", "keys", "reports", "joins"];
    for kind in kinds {
        assert!(answers.keys().any(|(of, _)| *of == kind), "{kind} were never tried: {answers:?}");
    }
    assert!(answers.keys().any(|(_, answer)| answer == "429"), "no limit was met: {answers:?}");
    let (before, beside) = (p95(&before), p95(&beside));
    let ratio = beside.as_secs_f64() / before.as_secs_f64();
    println!(
        "honest p95 {before:?} without, {beside:?} beside: {ratio:.2}; {round} rounds; {answers:?}"
    );
    bridge.drop_dead().await;
}
