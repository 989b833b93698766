//! Keys of pairwise messages that are given again, and what one pair of devices may lose.

use std::collections::BTreeMap;

use causeway_groups::{
    Vault,
    machine::{Batch, Lacking, SentIn, What},
    schemes::pairwise,
    vault::Class,
};
use causeway_protocol::{
    api::StreamRow,
    envelope::{Envelope, Kind, Piece, Recipient, Submission, SubmittedTo},
    fanout::{Context, Message},
    ids::{ClientId, DeviceId, EnvelopeId, GroupId, Seq},
    olm_plaintext::{OlmPayload, OlmPlaintext},
    roster::Role,
};
use proptest::prelude::*;
use vodozemac::olm::{OlmMessage, Session, SessionPickle};

use super::{
    ALICE, BOB, CAROL,
    crash::{back_up, put_back, run},
    pairwise::garden,
};
use crate::world::{World, text};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

/// The sessions of a device are gone: it was restored from before they were made.
async fn lose_sessions(world: &World, who: usize) {
    let mut tx = world.devices[who].db.begin().await.unwrap();
    sqlx::query("DELETE FROM olm_sessions").execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
}

fn fan_outs(world: &World, who: usize) -> Vec<Envelope> {
    let mailbox = world.mailboxes.get(&world.devices[who].id()).cloned().unwrap_or_default();
    let rows = mailbox.into_iter().map(|row| row.envelope);
    rows.filter(|envelope| envelope.kind == Kind::Fanout).collect()
}

async fn sent_in(world: &World, who: usize, group: GroupId, name: ClientId) -> SentIn {
    let mut tx = world.devices[who].db.begin().await.unwrap();
    world.devices[who].machine.sent_in(&mut tx, group, name).await.unwrap().unwrap()
}

fn name_of(batch: &Batch) -> ClientId {
    Message::parse(&batch.submissions.last().unwrap().payload).unwrap().header.msg_id
}

#[tokio::test]
async fn a_wedged_session_heals_and_the_key_alone_is_given_again() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    lose_sessions(&world, BOB).await;
    let batch = world.send(ALICE, group, "two").await;
    world.send(ALICE, group, "three").await;
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two", "three"]);
    assert!(world.devices[BOB].reasons().is_empty());
    assert_eq!(world.devices[CAROL].texts(), ["one", "two", "three"]);
    // The ciphertext is the one that everybody has; only who could not open it got it again.
    let (bobs, carols) = (fan_outs(&world, BOB), fan_outs(&world, CAROL));
    assert_eq!((bobs.len(), carols.len()), (5, 3));
    let sealed = |e: &Envelope| Message::parse(&e.payload).unwrap().sealed.to_vec();
    assert_eq!(sealed(&bobs[1]), sealed(&bobs[3]));
    assert_ne!(bobs[1].piece, bobs[3].piece);
    // Its sender sees it.
    let bob = world.devices[BOB].id();
    let again = Some(again_name(&bobs[3]));
    let SentIn { names, lacking } = sent_in(&world, ALICE, group, name_of(&batch)).await;
    assert_eq!(names, batch.messages[0].ids().collect::<Vec<_>>());
    assert_eq!(lacking, [Lacking { device: bob, wedged: true, name: again, is_out: false }]);
    // Nothing waits any more, and nothing is reported as lost later.
    for table in ["SELECT COUNT(*) FROM holds", "SELECT COUNT(*) FROM key_requests"] {
        assert_eq!(world.count(BOB, table).await, 0, "{table}");
    }
}

#[tokio::test]
async fn wherever_a_process_dies_while_a_key_is_given_again_all_is_read_once_and_in_order() {
    for step in 0.. {
        let (mut world, group) = garden(&["alice", "bob"]).await;
        world.send(ALICE, group, "one").await;
        world.sync_all().await;
        lose_sessions(&world, BOB).await;
        world.dies_in = Some(step);
        world.send(ALICE, group, "two").await;
        world.sync_all().await;
        let is_over = world.dies_in.take().is_some();
        // What was on its way is asked for again after a while.
        for _ in 0..3 {
            world.now += 6 * MINUTE_MS;
            world.sync_all().await;
        }
        world.send(BOB, group, "I see").await;
        world.send(ALICE, group, "three").await;
        world.sync_all().await;
        assert_eq!(world.devices[BOB].texts(), ["one", "two", "three"], "{step}");
        assert_eq!(world.devices[ALICE].texts(), ["I see"], "{step}");
        assert!(world.devices.iter().all(|device| device.reasons().is_empty()), "{step}");
        for table in ["SELECT COUNT(*) FROM holds", "SELECT COUNT(*) FROM key_requests"] {
            assert_eq!(world.count(BOB, table).await, 0, "{step}: {table}");
        }
        assert_eq!(world.count(ALICE, "SELECT COUNT(*) FROM outgoing").await, 0, "{step}");
        if is_over {
            assert!(step > 12, "only {step} steps");
            return;
        }
    }
}

/// What the server calls the fan-out to one device that this row came of.
fn again_name(row: &Envelope) -> EnvelopeId {
    let Recipient::Device(device) = row.to else { panic!("a piece") };
    let pieces = BTreeMap::from([(device, row.piece.clone().unwrap())]);
    let submission = Submission {
        id: None,
        kind: row.kind,
        group: row.group,
        epoch: row.epoch,
        sender: row.sender.clone().unwrap(),
        to: SubmittedTo::Devices(pieces),
        ttl_ms: row.ttl_ms,
        payload: row.payload.clone(),
    };
    submission.name()
}

#[tokio::test]
async fn who_has_no_one_time_key_is_given_the_message_when_there_is_one() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    let key = world.fallback(CAROL);
    world.without_keys(CAROL);
    let batch = world.send(ALICE, group, "one").await;
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one"]);
    let carol = world.devices[CAROL].id();
    let lacking = sent_in(&world, ALICE, group, name_of(&batch)).await.lacking;
    assert_eq!(lacking, [Lacking { device: carol, wedged: false, name: None, is_out: false }]);
    world.send(ALICE, group, "two").await;
    world.give_only(CAROL, key);
    world.now += 11 * MINUTE_MS;
    world.send(ALICE, group, "three").await;
    world.sync_all().await;
    let mut read = world.devices[CAROL].texts();
    read.sort_unstable();
    assert_eq!(read, ["one", "three", "two"]);
    assert_eq!(world.devices[BOB].texts(), ["one", "two", "three"]);
}

#[tokio::test]
async fn what_was_said_before_one_came_is_given_to_nobody_who_asks() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let before = world.send(ALICE, group, "before").await;
    let carol = world.register("carol").await;
    world.add(ALICE, group, carol, Role::Member).await;
    world.sync_all().await;
    // She gets the row of another, and asks for its key.
    let mut envelope = before.submissions[0].rows().next().unwrap();
    envelope.to = Recipient::Device(world.devices[carol].id());
    envelope.id = envelope.compute_id();
    world.receive(carol, &[StreamRow { seq: Seq(900), envelope }]).await;
    world.sync_all().await;
    let asked = &world.mailboxes[&world.devices[ALICE].id()];
    assert!(asked.iter().any(|row| row.envelope.kind == Kind::KeyRequest));
    assert!(fan_outs(&world, carol).is_empty());
    assert!(world.devices[carol].texts().is_empty());
}

#[tokio::test]
async fn a_message_is_given_again_three_times_and_for_a_day() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(BOB, group, "hello").await;
    world.sync_all().await;
    world.send(ALICE, group, "one").await;
    let given = |world: &World| fan_outs(world, BOB).len();
    let before = given(&world);
    for round in 1..6 {
        ask(&mut world, group, BOB).await;
        assert_eq!(given(&world), before + round.min(3));
    }
    world.send(ALICE, group, "two").await;
    let before = given(&world);
    world.now += 24 * HOUR_MS + MINUTE_MS;
    ask(&mut world, group, BOB).await;
    assert_eq!(given(&world), before);
    let now = world.time();
    let mut tx = world.devices[ALICE].db.begin().await.unwrap();
    world.devices[ALICE].machine.expire(&mut tx, now).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.count(ALICE, "SELECT COUNT(*) FROM fan_outs").await, 2);
    let kept = "SELECT COUNT(*) FROM fan_outs WHERE sealed IS NOT NULL";
    assert_eq!(world.count(ALICE, kept).await, 0);
}

/// `who` asks Alice for the last message that she sent, as if he could not open it.
async fn ask(world: &mut World, group: GroupId, who: usize) {
    let row = fan_outs(world, who).pop().unwrap();
    let name = Message::parse(&row.payload).unwrap().header.msg_id;
    let (device, epoch) = (world.devices[ALICE].id(), i64::from(row.epoch.0));
    let mut tx = world.devices[who].db.begin().await.unwrap();
    sqlx::query("DELETE FROM key_requests").execute(tx.conn()).await.unwrap();
    let index = u32::from_be_bytes(name.as_bytes()[4..8].try_into().unwrap());
    sqlx::query(
        "INSERT INTO key_requests (group_id, device, tag, idx, epoch, until_ms)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(group.as_bytes().as_slice())
    .bind(device.as_bytes().as_slice())
    .bind(&name.as_bytes()[..4])
    .bind(i64::from(index))
    .bind(epoch)
    .bind(i64::MAX)
    .execute(tx.conn())
    .await
    .unwrap();
    tx.commit().await.unwrap();
    world.chores(who).await;
    world.sync(ALICE).await;
}

#[tokio::test]
async fn after_a_cut_what_is_given_again_is_sealed_under_the_roster_of_then() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    lose_sessions(&world, BOB).await;
    world.send(ALICE, group, "two").await;
    world.remove(ALICE, group, CAROL).await;
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two"]);
    let again = fan_outs(&world, BOB).pop().unwrap();
    assert_eq!(again.epoch, world.head(group).epoch());
    assert_eq!(fan_outs(&world, CAROL).len(), 2);
}

#[tokio::test]
async fn whoever_is_out_is_given_nothing_again() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    lose_sessions(&world, CAROL).await;
    world.send(ALICE, group, "two").await;
    let rows = world.waiting(CAROL);
    world.receive(CAROL, &rows).await;
    for _ in 0..3 {
        world.chores(CAROL).await;
    }
    world.remove(ALICE, group, CAROL).await;
    world.sync_all().await;
    assert_eq!(world.devices[CAROL].texts(), ["one"]);
    assert_eq!(fan_outs(&world, CAROL).len(), 2);
    assert_eq!(world.count(ALICE, "SELECT COUNT(*) FROM outgoing").await, 0);
}

#[tokio::test]
async fn who_was_out_and_is_back_gives_again_what_was_said_before() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.send(BOB, group, "one").await;
    world.sync_all().await;
    lose_sessions(&world, CAROL).await;
    world.send(BOB, group, "two").await;
    world.remove(ALICE, group, BOB).await;
    world.sync_all().await;
    assert_eq!(world.devices[CAROL].texts(), ["one"]);
    world.add(ALICE, group, BOB, Role::Member).await;
    for _ in 0..4 {
        world.now += 30 * MINUTE_MS;
        world.sync_all().await;
    }
    assert_eq!(world.devices[CAROL].texts(), ["one", "two"]);
}

#[tokio::test]
async fn what_is_given_again_goes_as_the_same_bytes_until_the_server_has_it() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(BOB, group, "hello").await;
    world.sync_all().await;
    world.send(ALICE, group, "one").await;
    let row = fan_outs(&world, BOB).pop().unwrap();
    let name = Message::parse(&row.payload).unwrap().header.msg_id;
    let mut tx = world.devices[ALICE].db.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO owed_pieces (group_id, client_id, device, wedged, tries, next_ms)
         VALUES ($1, $2, $3, TRUE, 1, 0)",
    )
    .bind(group.as_bytes().as_slice())
    .bind(name.as_bytes().as_slice())
    .bind(world.devices[BOB].id().as_bytes().as_slice())
    .execute(tx.conn())
    .await
    .unwrap();
    tx.commit().await.unwrap();
    let mut posts = Vec::new();
    for _ in 0..3 {
        let (device, now) = (&world.devices[ALICE], world.time());
        let mut tx = device.db.begin().await.unwrap();
        let chores = device.machine.chores(&mut tx, now).await.unwrap();
        tx.commit().await.unwrap();
        posts.push(chores.batches);
        // Its answer was lost.
        world.devices[ALICE].restart().await;
    }
    assert_eq!(posts[0].len(), 1);
    assert!(posts[0][0].has_keys());
    assert_eq!(posts[0], posts[1]);
    assert_eq!(posts[1], posts[2]);
    world.post(ALICE, &posts[0][0]).await.unwrap();
    assert!(world.chores(ALICE).await, "the server has it");
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one"]);
}

#[tokio::test]
async fn one_members_junk_stops_no_other() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.send(CAROL, group, "mine").await;
    world.send(ALICE, group, "zero").await;
    world.sync_all().await;
    let last = fan_outs(&world, BOB)
        .into_iter()
        .find(|e| e.sender.as_ref().unwrap().device == world.devices[CAROL].id());
    let last = last.unwrap();
    let Piece(piece) = last.piece.clone().unwrap();
    let junk = |n: u64| {
        let mut envelope = last.clone();
        // Another name each, and a piece that is nothing in any session.
        envelope.payload[5..13].copy_from_slice(&n.to_be_bytes());
        let mut piece = piece.clone();
        let at = piece.len() - 1;
        piece[at] ^= 1;
        piece[at - 9] ^= 1;
        envelope.piece = Some(Piece(piece));
        envelope.id = envelope.compute_id();
        StreamRow { seq: Seq(1_000 + n), envelope }
    };
    let rows: Vec<_> = (0..300).map(junk).collect();
    for rows in rows.chunks(100) {
        world.receive(BOB, rows).await;
    }
    world.devices[BOB].acked = 0;
    world.mailboxes.get_mut(&world.devices[BOB].id()).unwrap().clear();
    world.send(ALICE, group, "one").await;
    world.send(CAROL, group, "and mine").await;
    let rows: Vec<_> = world
        .waiting(BOB)
        .into_iter()
        .map(|row| StreamRow { seq: Seq(row.seq.0 + 5_000), ..row })
        .collect();
    world.receive(BOB, &rows).await;
    let read = world.devices[BOB].texts();
    assert_eq!(read, ["mine", "zero", "one", "and mine"]);
    let held = world.count(BOB, "SELECT COUNT(*) FROM holds").await;
    assert!(held <= 256, "{held}");
}

/// A copy of the sessions that `who` has with another device, as a thief of one pair's secrets has it.
async fn stolen(world: &World, who: usize, peer: DeviceId) -> Vec<Session> {
    let device = &world.devices[who];
    let vault = Vault::open(&device.db, &device.dir.path().join("storage.key")).await.unwrap();
    let mut tx = device.db.begin().await.unwrap();
    let rows: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT session_id, sealed FROM olm_sessions WHERE peer = $1")
            .bind(peer.as_bytes().as_slice())
            .fetch_all(tx.conn())
            .await
            .unwrap();
    let open = |(id, sealed): (String, Vec<u8>)| {
        let place = [peer.as_bytes().as_slice(), id.as_bytes()].concat();
        let pickle = vault.unseal(Class::Ratchet, "olm_sessions", "sealed", &place, &sealed);
        let pickle: SessionPickle = serde_json::from_slice(&pickle.unwrap()).unwrap();
        Session::from(pickle)
    };
    rows.into_iter().map(open).collect()
}

/// What these sessions make of a row, if anything: the text, as whoever it is for would read it.
fn read_with(sessions: &mut [Session], row: &Envelope, world: &World) -> Option<Vec<u8>> {
    let Piece(piece) = row.piece.as_ref()?;
    let message = match OlmPayload::parse(piece).unwrap() {
        OlmPayload::PreKey(bytes) => OlmMessage::from_parts(0, bytes),
        OlmPayload::Normal(bytes) => OlmMessage::from_parts(1, bytes),
    };
    let message = message.unwrap();
    let said = sessions.iter_mut().find_map(|session| session.decrypt(&message).ok())?;
    let OlmPlaintext::Piece(piece) = OlmPlaintext::parse(&said).unwrap() else { return None };
    let message = Message::parse(&row.payload).unwrap();
    let context = Context {
        group: row.group,
        sender: row.sender.as_ref().unwrap().device,
        epoch: row.epoch,
        roster: message.header.roster,
        msg_id: message.header.msg_id,
    };
    let Recipient::Device(to) = row.to else { return None };
    assert!(world.devices.iter().any(|device| device.id() == to));
    Some(pairwise::open(&message, &context, &to, &piece).unwrap().to_vec())
}

#[tokio::test]
async fn a_pair_that_is_compromised_opens_nothing_else_and_one_round_trip_heals_it() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    for who in [ALICE, BOB, CAROL, ALICE, BOB] {
        world.send(who, group, "before").await;
        world.sync_all().await;
    }
    let rows_of = |world: &World, batch: &Batch, to: usize| {
        let to = Recipient::Device(world.devices[to].id());
        let rows = batch.submissions.iter().flat_map(Submission::rows);
        rows.filter(|row| row.to == to).collect::<Vec<_>>()
    };
    // Bob's half of what he has with Alice.
    let mut thief = stolen(&world, BOB, world.devices[ALICE].id()).await;
    assert!(!thief.is_empty());
    let secret = world.send(ALICE, group, "between us").await;
    let to_carol = rows_of(&world, &secret, CAROL);
    assert!(to_carol.iter().all(|row| read_with(&mut thief, row, &world).is_none()));
    for who in [BOB, CAROL] {
        let said = world.send(who, group, "others").await;
        for to in (0..3).filter(|to| (who, *to) != (ALICE, BOB) && *to != who) {
            for row in rows_of(&world, &said, to) {
                let own = (who, to) == (BOB, ALICE);
                assert!(own || read_with(&mut thief, &row, &world).is_none(), "{who} to {to}");
            }
        }
    }
    let to_bob = rows_of(&world, &secret, BOB);
    assert!(read_with(&mut thief, &to_bob[0], &world).is_some(), "that pair is open");
    // Bob answers, and Alice answers him: both turned the ratchet.
    world.sync_all().await;
    world.send(BOB, group, "there").await;
    world.sync_all().await;
    world.send(ALICE, group, "and back").await;
    world.sync_all().await;
    world.send(BOB, group, "there again").await;
    world.sync_all().await;
    let healed = world.send(ALICE, group, "closed").await;
    assert!(
        rows_of(&world, &healed, BOB).iter().all(|r| read_with(&mut thief, r, &world).is_none())
    );
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts().last().unwrap(), "closed");
}

/// What happens to Alice's device.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// So many messages are sealed; whether that is committed, and posted.
    Seal(usize, bool, bool),
    Restart,
    Backup,
    Restore,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1_usize..4, any::<bool>(), any::<bool>())
            .prop_map(|(count, commits, posts)| Event::Seal(count, commits, posts)),
        1 => Just(Event::Restart),
        1 => Just(Event::Backup),
        1 => Just(Event::Restore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn whatever_happens_to_a_device_no_key_seals_two_texts_and_all_that_is_posted_is_read_once(
        events in prop::collection::vec(event(), 4..16),
    ) {
        run(async {
            let (mut world, group) = garden(&["alice", "bob"]).await;
            let mut backup = back_up(&mut world, ALICE).await;
            let mut sealed: BTreeMap<[u8; 32], Vec<u8>> = BTreeMap::new();
            let (mut posted, mut said) = (Vec::new(), 0);
            for event in events {
                let (count, commits, posts) = match event {
                    Event::Seal(count, commits, posts) => (count, commits, posts),
                    Event::Restart => {
                        world.devices[ALICE].restart().await;
                        continue;
                    }
                    Event::Backup => {
                        backup = back_up(&mut world, ALICE).await;
                        continue;
                    }
                    Event::Restore => {
                        put_back(&mut world, ALICE, &backup).await;
                        continue;
                    }
                };
                let texts: Vec<_> = (said..said + count).map(|n| n.to_string()).collect();
                said += count;
                let items: Vec<_> = texts.iter().map(|body| world.outgoing(text(body))).collect();
                world.prepare(ALICE, group).await;
                let now = world.time();
                let device = &world.devices[ALICE];
                let mut tx = device.db.begin().await.unwrap();
                let batch = device.machine.seal(&mut tx, now, group, &items).await.unwrap();
                if commits {
                    tx.commit().await.unwrap();
                } else {
                    drop(tx);
                }
                for submission in batch.submissions.iter().filter(|s| s.kind == Kind::Fanout) {
                    let message = Message::parse(&submission.payload).unwrap();
                    let other = sealed.insert(message.header.kc, message.sealed.to_vec());
                    prop_assert!(other.is_none_or(|other| other == message.sealed));
                }
                if commits && posts {
                    world.post(ALICE, &batch).await.unwrap();
                    posted.extend(texts);
                }
            }
            // Sessions that were put back are wedged at most once an hour.
            for _ in 0..3 {
                world.now += 61 * MINUTE_MS;
                world.sync_all().await;
            }
            let mut read = world.devices[BOB].texts();
            read.sort_by_key(|text| text.parse::<usize>().unwrap());
            prop_assert_eq!(read, posted);
            let held = |r: &causeway_groups::machine::Received| matches!(r.what, What::Failed { .. });
            prop_assert!(!world.devices[BOB].received.iter().any(held));
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn who_left_before_the_message_could_be_given_is_told_of_still() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.without_keys(CAROL);
    let batch = world.send(ALICE, group, "one").await;
    world.sync_all().await;
    let carol = world.devices[CAROL].id();
    world.remove(ALICE, group, CAROL).await;
    world.sync_all().await;
    world.now += 11 * MINUTE_MS;
    for text in ["two", "three"] {
        // Nothing is owed any more, so nothing is made.
        world.send(ALICE, group, text).await;
        world.sync_all().await;
        let lacking = sent_in(&world, ALICE, group, name_of(&batch)).await.lacking;
        assert_eq!(lacking, [Lacking { device: carol, wedged: false, name: None, is_out: true }]);
    }
    assert!(world.devices[CAROL].texts().is_empty());
    let mut tx = world.devices[ALICE].db.begin().await.unwrap();
    let whose = world.devices[ALICE].machine.account_of(&mut tx, carol).await.unwrap();
    assert_eq!(whose, Some(world.devices[CAROL].account()));
}
