//! A server whose database was put back from a copy, and the other, which has what it lost.

use causeway_protocol::{
    api::{Accepted, AccountAnswer, AccountDevices, DeliveryState, GroupHead, Session},
    envelope::Kind,
    ids::{Epoch, ItemId, RosterHash, ServerLinkId, StreamId, text_of},
    link::{Answer, Call, Had, Head, Item, Tell},
    roster::{Body, Devices, Policy},
};
use serde_json::{Value, json};

use super::{
    OTHER, at,
    given_again::until_taken,
    groups::{ops, post_at, texts, until_epoch, with_carol},
    peer::Peer,
    progress::{for_devices, state, until},
    restarted, started_again, two,
    wire::{Wire, hand_in},
};
use crate::harness::{Group, Person, Server, policy, random};

/// A copy of a server's database as of now.
pub(super) async fn copy(server: &Server) {
    let to = server.database().join("copy.db");
    server.change(&format!("VACUUM INTO '{}'", to.display())).await;
}

/// The server with that copy in the place of what it had.
pub(super) async fn put_back(server: Server, name: &'static str) -> Server {
    started_again(server, name, true, to_the_copy).await
}

/// Likewise, and nobody says so at its start.
async fn put_back_silently(server: Server, name: &'static str) -> Server {
    started_again(server, name, false, to_the_copy).await
}

fn to_the_copy(dir: &std::path::Path) {
    for gone in ["server.db-wal", "server.db-shm"] {
        let _ = std::fs::remove_file(dir.join(gone));
    }
    std::fs::rename(dir.join("copy.db"), dir.join("server.db")).unwrap();
}

/// How often this server has named its numbers.
async fn names(server: &Server) -> usize {
    server.rows().await.iter().filter(|row| row.starts_with("giving:")).count()
}

#[tokio::test]
async fn a_server_that_was_put_back_with_nobody_saying_so_sees_it_by_what_others_have() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    copy(&here).await;
    let said: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    for text in &said {
        alice.say(&here, &group, &[text]).await;
    }
    assert_eq!(texts(&there, &carol, 30).await, said);
    carol.say(&there, &group, &["before"]).await;
    assert_eq!(texts(&here, &alice, 1).await, ["before"]);
    until_taken(&there, "a.example").await;
    until_taken(&here, OTHER).await;
    drop(wire);
    let here = put_back_silently(here, "a.example").await;
    assert_eq!(names(&here).await, 1);
    let wire = Wire::between(&here, &there);
    let silent = loop {
        if let Some(silent) = here.app.silent_servers().await.pop() {
            break silent;
        }
        tokio::task::yield_now().await;
    };
    assert!(silent.server == OTHER && silent.why.contains("--after-restore"), "{silent:?}");
    assert_eq!(names(&here).await, 2, "what follows is numbered anew");
    // What the other had acknowledged comes again, and what is said now bears numbers of its own.
    assert_eq!(texts(&here, &alice, 1).await, ["before"]);
    alice.say(&here, &group, &["after"]).await;
    assert_eq!(texts(&there, &carol, 1).await, ["after"]);
    carol.say(&there, &group, &["back"]).await;
    assert_eq!(texts(&here, &alice, 1).await, ["back"]);
    // With another start nothing is left to be seen.
    until_taken(&here, OTHER).await;
    drop(wire);
    let here = started_again(here, "a.example", false, |_| {}).await;
    let _wire = Wire::between(&here, &there);
    alice.say(&here, &group, &["on"]).await;
    assert_eq!(texts(&there, &carol, 1).await, ["on"]);
    assert!(here.app.silent_servers().await.is_empty());
    assert_eq!(names(&here).await, 2);
}

#[tokio::test]
async fn who_says_that_it_has_more_than_there_is_has_links_begun_anew_once() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    alice.say(&here, &group, &["one"]).await;
    assert_eq!(texts(&there, &carol, 1).await, ["one"]);
    let mut liar = Peer::new("c.example");
    let named = |rows: Vec<String>| {
        let row = rows.into_iter().rfind(|row| row.starts_with("giving:")).unwrap();
        let hex = row.split("X'").nth(1).unwrap().split('\'').next().unwrap().to_owned();
        let bytes = (0..16).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap());
        StreamId::from_slice(&bytes.collect::<Vec<_>>()).unwrap()
    };
    for _ in 0..5 {
        let stream = Some(named(here.rows().await));
        let mut frame = liar.frame(vec![]);
        frame["had"] = serde_json::to_value(Had { stream, seq: 1 << 40 }).unwrap();
        hand_in(&here, "c.example", frame).await;
        liar.begin_anew(ServerLinkId::new(random()));
    }
    assert_eq!(names(&here).await, 2, "once");
    assert_eq!(here.app.silent_servers().await[0].server, "c.example");
    // The others hear nothing of it but a link that begins.
    alice.say(&here, &group, &["two"]).await;
    assert_eq!(texts(&there, &carol, 1).await, ["two"]);
    carol.say(&there, &group, &["three"]).await;
    assert_eq!(texts(&here, &alice, 1).await, ["three"]);
    drop(wire);
}

pub(super) fn described(n: usize) -> Body {
    Body::Policy(Policy { description: format!("{n} {}", "x".repeat(900)), ..policy() })
}

#[tokio::test]
async fn a_replica_put_back_has_the_ops_again_and_reads_on() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let mut group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    copy(&there).await;
    // More than one answer holds.
    for n in 0..80 {
        group.post(&here, &alice, &described(n)).await;
    }
    alice.say(&here, &group, &["before"]).await;
    assert_eq!(texts(&there, &carol, 1).await, ["before"]);
    until_epoch(&there, &carol, &group).await;
    drop(wire);
    let there = put_back(there, OTHER).await;
    let head: GroupHead = carol.get(&there, &group.path("")).await.ok();
    assert_eq!(head.epoch, Epoch(1), "it was put back");
    let _wire = Wire::between(&here, &there);
    until_epoch(&there, &carol, &group).await;
    group.post(&here, &alice, &described(99)).await;
    alice.say(&here, &group, &["after"]).await;
    until_epoch(&there, &carol, &group).await;
    // What had not been acknowledged came again.
    while texts(&there, &carol, 1).await != ["after"] {}
    carol.say(&there, &group, &["back"]).await;
    assert_eq!(texts(&here, &alice, 1).await, ["back"]);
    assert_eq!(group.read_ops(&there, &carol).await.ops.len(), group.ops.len());
}

#[tokio::test]
async fn a_replica_that_lost_a_whole_group_has_it_again_with_the_first_word() {
    let (here, alice, there, carol) = two().await;
    copy(&there).await;
    let wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    drop(wire);
    let there = put_back(there, OTHER).await;
    carol.get(&there, &group.path("")).await.refused(404, "M_NOT_FOUND");
    alice.say(&here, &group, &["one", "two"]).await;
    // The link that it does not know any more is given up after half a minute, or with a start.
    let here = restarted(here, "a.example").await;
    let _wire = Wire::between(&here, &there);
    until_epoch(&there, &carol, &group).await;
    assert_eq!(texts(&there, &carol, 2).await, ["one", "two"]);
    carol.say(&there, &group, &["back"]).await;
    assert_eq!(texts(&here, &alice, 1).await, ["back"]);
}

#[tokio::test]
async fn a_device_that_was_linked_after_the_copy_has_what_came_before_it_was_listed_again() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let mut group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    copy(&there).await;
    let phone = carol.second_device(&there).await;
    let both = Devices { version: phone.list.version, ids: phone.list.devices.clone() };
    post_at(&there, &carol, &mut group, &Body::Devices(both)).await.ok::<GroupHead>();
    until_epoch(&here, &alice, &group).await;
    let pieces = vec![for_devices(&group, &alice, &[&carol, &phone])];
    let pieces = alice.submit(&here, pieces).await.ok::<Accepted>().accepted[0].id;
    let one = alice.say(&here, &group, &["one"]).await.accepted[0].id;
    until(&here, &alice, (one, &phone), DeliveryState::Relayed).await;
    drop(wire);
    let there = put_back(there, OTHER).await;
    let _wire = Wire::between(&here, &there);
    until_epoch(&there, &carol, &group).await;
    assert_eq!(texts(&there, &carol, 1).await, ["one"]);
    let mut records = vec![carol.record.clone(), phone.record.clone()];
    records.sort_by_key(|record| record.device_id);
    let listed = AccountDevices { list: phone.list.clone(), devices: records };
    carol.put(&there, "/account/devices", &listed).await.done();
    // What its server tells of the other device it does not tell of this one.
    let two = alice.say(&here, &group, &["two"]).await.accepted[0].id;
    assert_eq!(texts(&there, &carol, 1).await, ["two"]);
    until(&here, &alice, (two, &carol), DeliveryState::Acked).await;
    until(&here, &alice, (two, &phone), DeliveryState::Relayed).await;
    assert_eq!(state(&here, &alice, one, phone.device()).await.0, DeliveryState::Relayed);
    let session: Session = phone.login(&there).await.ok();
    let phone = phone.with_token(session.access_token);
    let (mut stream, mut kinds) = (phone.stream(&there).await, Vec::new());
    while kinds.len() < 3 {
        let row = stream.next().await;
        stream.ack(row.seq.0).await;
        if row.envelope.kind != Kind::Roster {
            kinds.push((row.envelope.kind, row.envelope.piece.is_some()));
        }
    }
    drop(stream);
    assert_eq!(kinds, [(Kind::Fanout, true), (Kind::Message, false), (Kind::Message, false)]);
    until(&here, &alice, (two, &phone), DeliveryState::Acked).await;
    for id in [pieces, one] {
        assert_eq!(state(&here, &alice, id, phone.device()).await.0, DeliveryState::Acked);
    }
    // What it was called meanwhile is nothing that anybody is shown.
    let shown: AccountAnswer = alice.get(&here, &format!("/accounts/{}", carol.account)).await.ok();
    assert_eq!(shown.devices.len(), 2);
}

#[tokio::test]
async fn a_home_put_back_is_given_its_ops_again_and_orders_on() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let mut group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    copy(&here).await;
    // Somebody of the other server whom the copy does not know, and more than one answer holds.
    let dan = Person::at("dan", OTHER).registered(&there).await;
    group.post(&here, &alice, &Body::Role(carol.member(), 1)).await;
    until_epoch(&there, &carol, &group).await;
    post_at(&there, &carol, &mut group, &Body::Add(vec![dan.entry(0)])).await.ok::<GroupHead>();
    for n in 0..80 {
        group.post(&here, &alice, &described(n)).await;
    }
    until_epoch(&there, &carol, &group).await;
    drop(wire);
    let here = put_back(here, "a.example").await;
    // Said while the two are apart.
    carol.say(&there, &group, &["still here"]).await;
    let _wire = Wire::between(&here, &there);
    until_epoch(&here, &alice, &group).await;
    assert_eq!(texts(&here, &alice, 1).await, ["still here"]);
    group.post(&here, &alice, &described(99)).await;
    until_epoch(&there, &dan, &group).await;
    alice.say(&here, &group, &["for both"]).await;
    assert_eq!(texts(&there, &carol, 1).await, ["for both"]);
    dan.say(&there, &group, &["me, too"]).await;
    assert_eq!(texts(&here, &alice, 1).await, ["me, too"]);
}

#[tokio::test]
async fn a_home_put_back_takes_ops_that_name_devices_which_it_lost() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let mut group = with_carol(&here, &alice, &carol).await;
    let bob = here.person("bob").await;
    group.post(&here, &alice, &Body::Add(vec![bob.entry(0)])).await;
    until_epoch(&there, &carol, &group).await;
    copy(&here).await;
    // Of an account here, and one of there, each by itself.
    let phone = alice.second_device(&here).await;
    let both = Devices { version: phone.list.version, ids: phone.list.devices.clone() };
    group.post(&here, &alice, &Body::Devices(both)).await;
    until_epoch(&there, &carol, &group).await;
    let tablet = carol.second_device(&there).await;
    let both = Devices { version: tablet.list.version, ids: tablet.list.devices.clone() };
    post_at(&there, &carol, &mut group, &Body::Devices(both)).await.ok::<GroupHead>();
    until_epoch(&there, &carol, &group).await;
    carol.say(&there, &group, &["before"]).await;
    until_taken(&there, "a.example").await;
    drop(wire);
    let here = put_back(here, "a.example").await;
    let _wire = Wire::between(&here, &there);
    until_epoch(&here, &alice, &group).await;
    carol.say(&there, &group, &["after"]).await;
    for who in [&alice, &bob] {
        assert_eq!(texts(&here, who, 2).await, ["before", "after"]);
    }
    alice.say(&here, &group, &["back"]).await;
    assert_eq!(texts(&there, &carol, 1).await, ["back"]);
}

#[tokio::test]
async fn a_home_that_lost_a_whole_group_has_it_again_with_an_op_of_a_member_elsewhere() {
    let (here, alice, there, carol) = two().await;
    copy(&here).await;
    let wire = Wire::between(&here, &there);
    let mut group = with_carol(&here, &alice, &carol).await;
    group.post(&here, &alice, &Body::Role(carol.member(), 1)).await;
    until_epoch(&there, &carol, &group).await;
    drop(wire);
    let here = put_back(here, "a.example").await;
    alice.get(&here, &group.path("")).await.refused(404, "M_NOT_FOUND");
    carol.say(&there, &group, &["anybody?"]).await;
    let there = restarted(there, OTHER).await;
    let _wire = Wire::between(&here, &there);
    until_epoch(&here, &alice, &group).await;
    assert_eq!(texts(&here, &alice, 1).await, ["anybody?"]);
    post_at(&there, &carol, &mut group, &described(1)).await.ok::<GroupHead>();
    until_epoch(&here, &alice, &group).await;
}

#[tokio::test]
async fn an_op_of_a_member_elsewhere_brings_its_home_those_that_it_lost() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let mut group = with_carol(&here, &alice, &carol).await;
    group.post(&here, &alice, &Body::Role(carol.member(), 1)).await;
    until_epoch(&there, &carol, &group).await;
    // Behind the two servers' backs, so that neither has reason to say where it stands.
    copy(&here).await;
    for n in 0..5 {
        group.post(&here, &alice, &described(n)).await;
    }
    until_epoch(&there, &carol, &group).await;
    drop(wire);
    let here = put_back(here, "a.example").await;
    let _wire = Wire::between(&here, &there);
    post_at(&there, &carol, &mut group, &described(9)).await.ok::<GroupHead>();
    until_epoch(&here, &alice, &group).await;
    until_epoch(&there, &carol, &group).await;
}

/// A group of Mallory's, whose server is the test's, with Alice in it, of seven ops.
pub(super) fn mallorys(alice: &Person) -> (Group, Person) {
    let mallory = Person::at("mallory", OTHER);
    let mut group = Group::begun(Group::first_op(&mallory));
    group.install(group.op(&mallory, &Body::Add(vec![alice.entry(0)])));
    for n in 0..5 {
        group.install(group.op(&mallory, &described(n)));
    }
    (group, mallory)
}

/// Gives a server what begins there.
pub(super) async fn give(
    server: &Server,
    peer: &mut Peer,
    group: &Group,
    range: std::ops::Range<usize>,
) {
    let frame = peer.frame(vec![ops(group, &group.ops[range])]);
    assert!(hand_in(server, OTHER, frame).await.is_empty());
}

/// The next question for ops: for which it is, and its body.
async fn next_ask(server: &Server, peer: &mut Peer) -> (ItemId, Value) {
    loop {
        for item in peer.said(server).await {
            if let Item::Ask(id, ask) = item {
                assert_eq!(ask.call, Call::Ops);
                return (id, ask.body);
            }
        }
        tokio::task::yield_now().await;
    }
}

async fn reply(server: &Server, peer: &mut Peer, to: ItemId, (status, body): (u16, Value)) {
    let answer = Item::Answer(ItemId::new(random()), Answer { to, status, body });
    let frame = peer.frame(vec![answer.to_json()]);
    hand_in(server, OTHER, frame).await;
}

fn page(group: &Group, range: std::ops::Range<usize>, next: Option<u32>) -> (u16, Value) {
    let ops: Vec<_> = group.ops[range].iter().map(|op| text_of(op.as_bytes())).collect();
    (200, json!({ "ops": ops, "epoch": 99, "next": next }))
}

async fn epoch(server: &Server, who: &Person, group: &Group) -> u32 {
    who.get(server, &group.path("")).await.ok::<GroupHead>().epoch.0
}

#[tokio::test]
async fn a_gap_in_the_ops_is_asked_for_and_what_is_answered_is_judged() {
    let server = at("a.example").await;
    let alice = server.person("alice").await;
    let mut peer = Peer::new(OTHER);
    let (group, mallory) = mallorys(&alice);
    let (other, _) = mallorys(&alice);
    give(&server, &mut peer, &group, 0..3).await;
    let before = epoch(&server, &alice, &group).await;
    for wrong in [
        // Of another group; that go back, and so for ever; nothing; what makes no sense; a refusal.
        page(&other, 0..3, None),
        page(&group, 0..3, Some(1)),
        page(&group, 5..6, Some(3)),
        (200, json!({ "ops": [], "epoch": 99, "next": 3 })),
        (200, json!({ "ops": 7 })),
        (404, json!({ "errcode": "M_NOT_FOUND", "error": "no such group" })),
    ] {
        give(&server, &mut peer, &group, 5..7).await;
        let (id, body) = next_ask(&server, &mut peer).await;
        assert_eq!(body, json!({ "group": group.id(), "from": 3 }));
        reply(&server, &mut peer, id, wrong).await;
        // Which is not asked again by itself.
        let asks = peer.said(&server).await;
        assert!(asks.iter().all(|item| !matches!(item, Item::Ask(..))), "{asks:?}");
        assert_eq!(epoch(&server, &alice, &group).await, before);
    }
    // An answer to what nobody asked is nobody's.
    reply(&server, &mut peer, ItemId::new(random()), page(&group, 3..7, None)).await;
    assert_eq!(epoch(&server, &alice, &group).await, before);
    // Page by page.
    give(&server, &mut peer, &group, 5..7).await;
    let (id, _) = next_ask(&server, &mut peer).await;
    reply(&server, &mut peer, id, page(&group, 3..5, Some(5))).await;
    let (id, body) = next_ask(&server, &mut peer).await;
    assert_eq!(body["from"], 5);
    reply(&server, &mut peer, id, page(&group, 5..7, None)).await;
    assert_eq!(epoch(&server, &alice, &group).await, 6);
    // A second history changes nothing.
    let second = group.op(&mallory, &described(77));
    let third = group.op(&mallory, &described(78));
    let mut both = group.clone();
    both.install(second);
    give(&server, &mut peer, &both, 7..8).await;
    assert_eq!(epoch(&server, &alice, &group).await, 7);
    both.ops[7] = third;
    give(&server, &mut peer, &both, 7..8).await;
    let kept = both.read_ops(&server, &alice).await.ops;
    assert_ne!(kept[7].0, both.ops[7].as_bytes());
    assert_eq!(epoch(&server, &alice, &group).await, 7);
}

fn heads(heads: Vec<Head>) -> Value {
    Item::Tell(ItemId::new(random()), Tell::Heads(heads)).to_json()
}

fn head(group: &Group, epoch: u32) -> Head {
    let (group, epoch, roster_hash) = (group.id(), Epoch(epoch), group.roster.hash());
    Head { group, stream: None, seq: None, epoch, roster_hash }
}

#[tokio::test]
async fn where_a_server_says_that_groups_stand_is_heard_within_bounds() {
    let server = at("a.example").await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let mut ours = Group::create(&server, &alice).await;
    ours.post(&server, &alice, &Body::Add(vec![bob.entry(0)])).await;
    let mut peer = Peer::new(OTHER);
    let (theirs, _) = mallorys(&alice);
    give(&server, &mut peer, &theirs, 0..7).await;
    peer.said(&server).await;
    let tell = async |peer: &mut Peer, said: Vec<Head>| {
        let frame = peer.frame(vec![heads(said)]);
        hand_in(&server, OTHER, frame).await;
        peer.said(&server).await
    };
    // Of a group in which it has nobody it is told nothing, and nothing of it is believed.
    assert!(tell(&mut peer, vec![head(&ours, 0), head(&ours, 9)]).await.is_empty());
    // The same; another history, which is shown and changes nothing.
    assert!(tell(&mut peer, vec![head(&theirs, 6)]).await.is_empty());
    let other = Head { roster_hash: RosterHash::new([7; 32]), ..head(&theirs, 6) };
    assert!(tell(&mut peer, vec![other]).await.is_empty());
    // It is behind, and is told so.
    let behind = Group::begun(theirs.ops[0].clone());
    let told = tell(&mut peer, vec![head(&behind, 0)]).await;
    let [Item::Tell(_, Tell::Heads(said))] = &told[..] else { panic!("{told:?}") };
    assert_eq!(said, &[head(&theirs, 6)]);
    // It is ahead, and is asked; once, while it does not answer.
    let told = tell(&mut peer, vec![head(&theirs, 9), head(&theirs, 10)]).await;
    let [Item::Ask(_, ask)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(ask.body, json!({ "group": theirs.id(), "from": 7 }));
    assert!(tell(&mut peer, vec![head(&theirs, 11)]).await.is_empty());
    // A flood of groups that nobody knows: so many questions at once, and no end of them only if it answers.
    let mut asks = 0;
    for _ in 0..100 {
        let unknown =
            || Head { group: causeway_protocol::ids::GroupId::new(random()), ..head(&ours, 3) };
        asks += tell(&mut peer, (0..250).map(|_| unknown()).collect()).await.len();
    }
    assert_eq!(asks, 15);
    // Its own group's ops it is given, and no other's.
    let until = server.now().plus_ms(30_000);
    let ask = |group: &Group| {
        let body = json!({ "group": group.id(), "from": 5 });
        super::ask_of(Call::Ops, None, body, until).to_json()
    };
    let answers = peer.ask(&server, vec![ask(&ours), ask(&theirs)]).await;
    assert_eq!(answers.iter().map(|it| it.status).collect::<Vec<_>>(), [404, 200]);
    assert_eq!(answers[1].body["ops"].as_array().unwrap().len(), 2);
    // Those here go on.
    alice.say(&server, &ours, &["undisturbed"]).await;
    assert_eq!(texts(&server, &bob, 1).await, ["undisturbed"]);
}
