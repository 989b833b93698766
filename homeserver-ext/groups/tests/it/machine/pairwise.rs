//! Pairwise groups: a piece for each device, and nothing that a group shares.

use causeway_groups::machine::{NewGroup, SealError, What};
use causeway_protocol::{
    api::StreamRow,
    envelope::{Envelope, Kind, Piece, Recipient, Sender, Submission},
    fanout::Message,
    ids::{GroupId, Seq},
    roster::{Role, Scheme},
};

use super::{ALICE, BOB, CAROL};
use crate::world::{World, text};

pub(super) fn pairwise() -> NewGroup {
    NewGroup {
        scheme: Scheme::Pairwise,
        suite: None,
        name: "Garden".to_owned(),
        description: String::new(),
        members_may_add: false,
        is_channel: false,
        max_members: 100,
        ttl_s: 86_400,
    }
}

/// Alice's pairwise group with everybody in it.
pub(super) async fn garden(names: &[&str]) -> (World, GroupId) {
    let mut world = World::with(names).await;
    let group = world.create_group_as(ALICE, pairwise()).await;
    for who in 1..names.len() {
        world.add(ALICE, group, who, Role::Member).await;
    }
    world.sync_all().await;
    (world, group)
}

/// The fan-out rows that wait for somebody.
pub(super) fn pieces(world: &World, who: usize) -> Vec<StreamRow> {
    let rows = world.waiting(who).into_iter();
    rows.filter(|row| row.envelope.kind == Kind::Fanout).collect()
}

#[tokio::test]
async fn everybody_reads_everybody_in_order_and_no_key_is_shared() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    for n in 0..3 {
        for who in [ALICE, BOB, CAROL] {
            world.send(who, group, &format!("{who}{n}")).await;
        }
        world.sync_all().await;
    }
    let of = |others: [usize; 2]| (0..3).flat_map(move |n| others.map(|who| format!("{who}{n}")));
    assert!(world.devices[ALICE].texts().into_iter().eq(of([BOB, CAROL])));
    assert!(world.devices[BOB].texts().into_iter().eq(of([ALICE, CAROL])));
    assert!(world.devices[CAROL].texts().into_iter().eq(of([ALICE, BOB])));
    assert!(world.devices.iter().all(|device| device.reasons().is_empty()));
    let kinds = world.mailboxes.values().flatten().map(|row| row.envelope.kind);
    let keys = [Kind::Message, Kind::KeyDistribution, Kind::KeyRequest, Kind::KeyAck];
    assert!(!kinds.into_iter().any(|kind| keys.contains(&kind)));
}

#[tokio::test]
async fn a_message_is_one_ciphertext_with_a_piece_for_each() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    let item = world.outgoing(text("hello"));
    let batch = world.seal(ALICE, group, std::slice::from_ref(&item)).await.unwrap();
    let [submission] = batch.submissions.as_slice() else { panic!("one envelope") };
    assert_eq!(batch.messages[0].first, submission.name());
    let header = Message::parse(&submission.payload).unwrap().header;
    assert_eq!((header.shard, header.shards, header.msg_id), (0, 1, item.client_id));
    let mut readers: Vec<_> = submission.rows().map(|row| row.to).collect();
    readers.sort_unstable_by_key(|to| format!("{to:?}"));
    let mut others: Vec<_> =
        [BOB, CAROL].map(|who| Recipient::Device(world.devices[who].id())).into();
    others.sort_unstable_by_key(|to| format!("{to:?}"));
    assert_eq!(readers, others);
    // Sealed again it has another key, and the same name.
    let again = world.seal(ALICE, group, &[item]).await.unwrap();
    let other = Message::parse(&again.submissions[0].payload).unwrap().header;
    assert_eq!(other.msg_id, header.msg_id);
    assert_ne!(other.kc, header.kc);
    for batch in [&batch, &again] {
        world.post(ALICE, batch).await.unwrap();
    }
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["hello"], "read once, however often it was sealed");
}

#[tokio::test]
async fn a_message_of_which_no_shard_holds_all_pieces_goes_in_several() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    // Room for one piece beside it.
    let long = "x".repeat(44_450);
    let batch = world.send(ALICE, group, &long).await;
    let headers: Vec<_> =
        batch.submissions.iter().map(|s| Message::parse(&s.payload).unwrap()).collect();
    let [one, two] = headers.as_slice() else { panic!("{} shards", headers.len()) };
    assert_eq!(one.sealed, two.sealed);
    let shards = [one, two].map(|message| (message.header.shard, message.header.shards));
    assert_eq!(shards, [(0, 2), (1, 2)]);
    assert_eq!(batch.messages[0].ids().count(), 2);
    world.sync_all().await;
    for who in [BOB, CAROL] {
        assert_eq!(world.devices[who].texts(), [long.as_str()]);
    }
    let too_long = world.outgoing(text(&"x".repeat(44_850)));
    let refused = world.seal(ALICE, group, &[too_long]).await;
    assert!(matches!(refused, Err(SealError::TooLarge(0, _, 45_000))), "{refused:?}");
}

#[tokio::test]
async fn whoever_comes_reads_what_is_said_from_then_on_and_no_session_is_changed_for_it() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "before").await;
    world.sync_all().await;
    let sessions = "SELECT COUNT(*) FROM olm_sessions";
    let (alices, bobs) = (world.count(ALICE, sessions).await, world.count(BOB, sessions).await);
    let carol = world.register("carol").await;
    world.add(ALICE, group, carol, Role::Member).await;
    world.sync_all().await;
    world.send(ALICE, group, "after").await;
    world.send(BOB, group, "welcome").await;
    world.sync_all().await;
    assert_eq!(world.devices[carol].texts(), ["after", "welcome"]);
    assert_eq!(world.devices[BOB].texts(), ["before", "after"]);
    // One more each, with her; those that were there are the same.
    assert_eq!(world.count(ALICE, sessions).await, alices + 1);
    assert_eq!(world.count(BOB, sessions).await, bobs + 1);
}

#[tokio::test]
async fn whoever_was_taken_out_is_sealed_for_no_more() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.send(BOB, group, "before").await;
    world.sync_all().await;
    // Bob does not know yet: the server tells him, and he seals anew.
    world.remove(ALICE, group, CAROL).await;
    world.send(BOB, group, "after").await;
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].texts(), ["before", "after"]);
    assert_eq!(world.devices[CAROL].texts(), ["before"]);
    let carol = world.devices[CAROL].id();
    let to_carol = world.mailboxes[&carol].iter().filter(|r| r.envelope.kind == Kind::Fanout);
    assert_eq!(to_carol.count(), 1);
    // And what she says is taken from nobody, whatever the server does.
    let item = world.outgoing(text("still here"));
    let refused = world.seal_now(CAROL, group, &[item]).await;
    assert!(matches!(refused, Err(SealError::NotMember(_))), "{refused:?}");
}

#[tokio::test]
async fn what_one_seals_who_was_taken_out_is_refused_by_its_place() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    let item = world.outgoing(text("late"));
    let late = world.seal(CAROL, group, &[item]).await.unwrap();
    world.remove(ALICE, group, CAROL).await;
    world.sync_all().await;
    for row in late.submissions.iter().flat_map(Submission::rows) {
        for who in [ALICE, BOB] {
            let is_his = row.to == Recipient::Device(world.devices[who].id());
            if is_his {
                world.receive(who, &[StreamRow { seq: Seq(900), envelope: row.clone() }]).await;
                assert_eq!(world.devices[who].reasons(), ["failed_removed"]);
            }
        }
    }
}

/// Everything that the machine keeps of sessions.
async fn state(world: &World, who: usize) -> Vec<Vec<u8>> {
    let mut tx = world.devices[who].db.begin().await.unwrap();
    sqlx::query_scalar("SELECT sealed FROM olm_sessions").fetch_all(tx.conn()).await.unwrap()
}

fn changed(row: &StreamRow, seq: u64, change: impl Fn(&mut Envelope)) -> StreamRow {
    let mut envelope = row.envelope.clone();
    change(&mut envelope);
    envelope.id = envelope.compute_id();
    StreamRow { seq: Seq(seq), envelope }
}

#[tokio::test]
async fn what_is_refused_before_its_piece_is_opened_changes_nothing() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    let other = world.create_group_as(ALICE, pairwise()).await;
    world.add(ALICE, other, BOB, Role::Member).await;
    world.send(ALICE, group, "zero").await;
    world.sync_all().await;
    world.send(ALICE, group, "one").await;
    let row = pieces(&world, BOB).pop().unwrap();
    let carol =
        Sender { account: world.devices[CAROL].account(), device: world.devices[CAROL].id() };
    let before = state(&world, BOB).await;
    let rows = [
        changed(&row, 500, |e| e.payload[0] = 0x21),
        changed(&row, 501, |e| e.payload[2] = 7),
        changed(&row, 502, |e| e.payload.truncate(100)),
        // A key in the clear, where there must be one that was sealed.
        changed(&row, 503, |e| e.piece = Some(Piece([b"F".as_slice(), &[7; 64]].concat()))),
        changed(&row, 504, |e| e.piece = Some(Piece(Vec::new()))),
        // Said to be another's, or under another's name.
        changed(&row, 505, |e| e.sender.as_mut().unwrap().account = carol.account.clone()),
        // A roster that is none, of another epoch, of another group.
        changed(&row, 506, |e| e.payload[30] ^= 1),
        changed(&row, 507, |e| e.epoch.0 -= 1),
        changed(&row, 508, |e| e.group = other),
    ];
    for row in &rows {
        world.receive(BOB, std::slice::from_ref(row)).await;
    }
    let said = world.devices[BOB].reasons();
    let malformed = ["malformed"; 5];
    assert_eq!(said, [malformed.as_slice(), &["refused_not_counting"]].concat());
    let held = |r: &&causeway_groups::machine::Received| matches!(r.what, What::Held { .. });
    assert_eq!(world.devices[BOB].received.iter().filter(held).count(), 3);
    assert_eq!(state(&world, BOB).await, before);
    world.receive(BOB, &[row]).await;
    assert_eq!(world.devices[BOB].texts(), ["zero", "one"]);
    assert_ne!(state(&world, BOB).await, before);
}

#[tokio::test]
async fn a_message_of_another_scheme_is_refused() {
    let mut world = World::with(&["alice", "bob"]).await;
    let mut rows = Vec::new();
    for new in [pairwise(), NewGroup { scheme: Scheme::SenderKeys, ..pairwise() }] {
        let group = world.create_group_as(ALICE, new).await;
        world.add(ALICE, group, BOB, Role::Member).await;
        world.sync_all().await;
        world.send(ALICE, group, "one").await;
        let is_read = |row: &StreamRow| row.envelope.kind.is_read();
        rows.extend(world.waiting(BOB).into_iter().find(is_read));
        world.sync_all().await;
    }
    let [pairwise, chained] = rows.as_slice() else { panic!("two rows") };
    for (seq, row, group) in [(500, pairwise, chained), (501, chained, pairwise)] {
        let row = changed(row, seq, |e| e.group = group.envelope.group);
        world.receive(BOB, &[row]).await;
    }
    assert_eq!(world.devices[BOB].reasons(), ["wrong_scheme"; 2]);
}

#[tokio::test]
async fn a_row_that_comes_again_is_shown_once_and_no_session_counts_as_wedged_for_it() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    for n in 0..3 {
        world.send(ALICE, group, &n.to_string()).await;
    }
    let rows = world.waiting(BOB);
    for _ in 0..3 {
        world.receive(BOB, &rows).await;
        world.devices[BOB].restart().await;
    }
    assert_eq!(world.devices[BOB].texts(), ["0", "1", "2"]);
    assert!(world.devices[BOB].reasons().is_empty());
    for table in ["SELECT COUNT(*) FROM holds", "SELECT COUNT(*) FROM key_requests"] {
        assert_eq!(world.count(BOB, table).await, 0);
    }
    assert_eq!(world.count(BOB, "SELECT COUNT(*) FROM asked WHERE what = 'heal'").await, 0);
}

#[tokio::test]
async fn whose_record_is_not_known_waits_for_it_and_is_asked_for_no_key() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let carol = world.register("carol").await;
    world.add(ALICE, group, carol, Role::Member).await;
    world.sync(carol).await;
    world.send(carol, group, "hello").await;
    let rows = world.waiting(BOB);
    // What she says comes before the op that brings her.
    world.receive(BOB, &rows[1..]).await;
    assert_eq!(world.count(BOB, "SELECT COUNT(*) FROM holds").await, 1);
    assert_eq!(world.count(BOB, "SELECT COUNT(*) FROM key_requests").await, 0);
    world.devices[BOB].restart().await;
    world.receive(BOB, &rows[..1]).await;
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["hello"]);
    assert_eq!(world.count(BOB, "SELECT COUNT(*) FROM holds").await, 0);
}

#[tokio::test]
async fn alone_in_a_group_nothing_goes_to_anybody() {
    let (mut world, group) = garden(&["alice"]).await;
    let batch = world.send(ALICE, group, "hello?").await;
    assert!(batch.submissions.is_empty());
    assert_eq!(batch.messages.len(), 1);
}
