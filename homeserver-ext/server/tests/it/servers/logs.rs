//! What is kept of groups of which another server is the home.

use causeway_protocol::{
    ids::{DeviceId, Epoch, MemberId},
    roster::{Body, Devices, Entry, Policy},
};
use serde_json::Value;

use super::{
    OTHER, as_in_tests, at,
    groups::{ops, said, texts, until_epoch},
    operator::other,
    peer::Peer,
    strangers::show,
    wire::hand_in,
};
use crate::harness::{Group, Person, Server, policy, random};

const HOUR_MS: u64 = 3_600_000;

/// Of one server 4 MiB, and 256 KiB of what has nobody here.
async fn small() -> Server {
    Server::start_with(|config| {
        as_in_tests(config, "a.example");
        config.others.log_bytes = 4 << 20;
    })
    .await
}

fn somebody(devices: usize) -> Entry {
    let mut ids: Vec<DeviceId> = (0..devices).map(|_| DeviceId::new(random())).collect();
    ids.sort();
    Entry {
        member_id: MemberId::new(random()),
        role: 0,
        account: format!("p{}:{OTHER}", u64::from_le_bytes(random())),
        legacy_id: String::new(),
        devices: Devices { version: 1, ids },
    }
}

/// Lets as many in as a group may have.
fn large() -> Body {
    Body::Policy(Policy { max_members: 1_000, ..policy() })
}

/// How many rows of a table there are.
async fn count(server: &Server, of: &str) -> usize {
    server.rows().await.iter().filter(|row| row.starts_with(of)).count()
}

/// The next op of a group is given by its home.
async fn give(server: &Server, peer: &mut Peer, group: &mut Group, (by, body): (&Person, &Body)) {
    let op = group.op(by, body);
    group.install(op.clone());
    let frame = peer.frame(vec![ops(group, &[op])]);
    hand_in(server, OTHER, frame).await;
}

async fn begin(server: &Server, peer: &mut Peer, by: &Person) -> Group {
    let group = Group::begun(Group::first_op(by));
    let frame = peer.frame(vec![ops(&group, &group.ops)]);
    hand_in(server, OTHER, frame).await;
    group
}

fn is_at(shown: &Value, limited: u64) {
    assert_eq!(shown["refused"], 0, "{shown}");
    assert_eq!(shown["limited"], limited, "{shown}");
    let why = "at the limit of what is kept of the groups of its";
    assert_eq!(shown["last_error"]["why"].as_str(), Some(why).filter(|_| limited > 0), "{shown}");
}

#[tokio::test]
async fn of_groups_in_which_nobody_here_is_little_is_kept_and_for_an_hour() {
    let server = small().await;
    let alice = server.person("alice").await;
    let (mallory, mut peer) = (Person::at("mallory", OTHER), Peer::new(OTHER));
    let mut group = begin(&server, &mut peer, &mallory).await;
    // People with many devices, whom the next op takes out again.
    for _ in 0..6 {
        let all: Vec<Entry> = (0..5).map(|_| somebody(64)).collect();
        let out = Body::Remove(all.iter().map(|one| one.member_id).collect());
        give(&server, &mut peer, &mut group, (&mallory, &Body::Add(all))).await;
        give(&server, &mut peer, &mut group, (&mallory, &out)).await;
    }
    assert_eq!(count(&server, "ops:").await, 1 + 2 * 2);
    assert_eq!(count(&server, "group_devices:").await, 1 + 5 * 64 * 2);
    let limited = other(&server).await["limited"].as_u64().unwrap();
    assert!(limited > 0);
    // Nor by ever more groups.
    for _ in 0..400 {
        begin(&server, &mut peer, &mallory).await;
    }
    let groups = count(&server, "groups:").await;
    assert!((10..400).contains(&groups), "{groups}");
    let limited = limited + 401 - u64::try_from(groups).unwrap();
    is_at(&other(&server).await, limited);
    // Others have room of their own.
    let (erin, mut third) = (Person::at("erin", "c.example"), Peer::new("c.example"));
    let mut theirs = Group::begun(Group::first_op(&erin));
    theirs.install(theirs.op(&erin, &Body::Add(vec![alice.entry(0)])));
    hand_in(&server, "c.example", third.frame(vec![ops(&theirs, &theirs.ops)])).await;
    until_epoch(&server, &alice, &theirs).await;
    // After an hour all of it is gone, and alice's group is not.
    for _ in 0..20 {
        server.app.upkeep().await.unwrap();
    }
    assert_eq!(count(&server, "groups:").await, groups + 1);
    server.pass_ms(HOUR_MS + 1);
    for _ in 0..20 {
        server.app.upkeep().await.unwrap();
    }
    assert_eq!((count(&server, "ops:").await, count(&server, "broadcasts:").await), (2, 2));
    assert_eq!(count(&server, "group_devices:").await, 2);
    until_epoch(&server, &alice, &theirs).await;
    // Their numbers are used again, by whichever group comes next.
    let bob = server.person("bob").await;
    let mut own = Group::create(&server, &bob).await;
    own.post(&server, &bob, &Body::Add(vec![alice.entry(0)])).await;
    bob.say(&server, &own, &["undisturbed"]).await;
    assert_eq!(texts(&server, &alice, 1).await, ["undisturbed"]);
    let mut group = begin(&server, &mut peer, &mallory).await;
    let frame = peer.frame(vec![show(&mallory)]);
    hand_in(&server, OTHER, frame).await;
    give(&server, &mut peer, &mut group, (&mallory, &Body::Add(vec![alice.entry(0)]))).await;
    until_epoch(&server, &alice, &group).await;
    assert_eq!(count(&server, "groups:").await, groups + 1);
    let frame = peer.frame(vec![said(&group, mallory.message(group.id(), 1, "hello"))]);
    hand_in(&server, OTHER, frame).await;
    assert_eq!(texts(&server, &alice, 1).await, ["hello"]);
    is_at(&other(&server).await, limited);
}

#[tokio::test]
async fn of_groups_with_somebody_here_more_is_kept_and_not_all() {
    let server = small().await;
    let alice = server.person("alice").await;
    let (mallory, mut peer) = (Person::at("mallory", OTHER), Peer::new(OTHER));
    let mut group = begin(&server, &mut peer, &mallory).await;
    let body = Body::Add(vec![alice.entry(0)]);
    give(&server, &mut peer, &mut group, (&mallory, &body)).await;
    let long = |n: usize| Body::Policy(Policy { description: format!("{n:01000}"), ..policy() });
    // Alone of nobody here it would be too much.
    for n in 0..300 {
        give(&server, &mut peer, &mut group, (&mallory, &long(n))).await;
    }
    until_epoch(&server, &alice, &group).await;
    is_at(&other(&server).await, 0);
    // It stays however long nothing comes, also where she is out; and what comes then has nobody here.
    let out = Body::Remove(vec![alice.member()]);
    give(&server, &mut peer, &mut group, (&mallory, &out)).await;
    let (page, epoch) = (group.read_ops(&server, &alice).await, group.roster.epoch());
    assert_eq!(page.epoch, epoch);
    for n in 0..150 {
        give(&server, &mut peer, &mut group, (&mallory, &long(n))).await;
    }
    let idle = count(&server, "ops:").await - 303;
    assert!((50..149).contains(&idle), "{idle}");
    server.pass_ms(2 * HOUR_MS);
    server.app.upkeep().await.unwrap();
    assert_eq!(group.read_ops(&server, &alice).await.epoch, epoch);
    // With her in it, as much as is kept of a server.
    let mut peer = Peer::new("c.example");
    let erin = Person::at("erin", "c.example");
    let mut group = Group::begun(Group::first_op(&erin));
    group.install(group.op(&erin, &body));
    group.install(group.op(&erin, &large()));
    let mut all = group.ops.clone();
    for _ in 0..30 {
        group.install(group.op(&erin, &Body::Add((0..20).map(|_| somebody(64)).collect())));
        all.push(group.ops.last().unwrap().clone());
    }
    for op in all {
        let frame = peer.frame(vec![ops(&group, &[op])]);
        hand_in(&server, "c.example", frame).await;
    }
    let head: causeway_protocol::api::GroupHead = alice.get(&server, &group.path("")).await.ok();
    assert!((Epoch(8)..Epoch(25)).contains(&head.epoch), "{head:?}");
    let (_, shown) =
        super::operator::operate(&server, reqwest::Method::GET, "/servers/c.example").await;
    assert!(shown["limited"].as_u64().unwrap() > 0, "{shown}");
}

#[tokio::test]
async fn a_big_group_comes_whole_to_who_is_let_in_last() {
    let server = at("a.example").await;
    let alice = server.person("alice").await;
    let (carol, mut peer) = (Person::at("carol", OTHER), Peer::new(OTHER));
    let mut group = begin(&server, &mut peer, &carol).await;
    give(&server, &mut peer, &mut group, (&carol, &large())).await;
    // 900 people with ten devices each.
    for _ in 0..9 {
        let all: Vec<Entry> = (0..100).map(|_| somebody(10)).collect();
        give(&server, &mut peer, &mut group, (&carol, &Body::Add(all))).await;
    }
    give(&server, &mut peer, &mut group, (&carol, &Body::Add(vec![alice.entry(0)]))).await;
    until_epoch(&server, &alice, &group).await;
    is_at(&other(&server).await, 0);
}
