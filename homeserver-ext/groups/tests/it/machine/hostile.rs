//! What a server may do to bytes: any changed bit opens nothing and changes nothing.

use causeway_groups::machine::{Received, SealError, What};
use causeway_protocol::{
    api::{PutSenderKeys, StreamRow},
    content::{Content, Mirrors, Text},
    envelope::{Envelope, Kind},
    ids::{EnvelopeId, GroupId, Seq},
    roster::{Role, Scheme},
};

use super::{ALICE, BOB, garden, stranger::Stranger};
use crate::world::{World, text};

/// Everything that the machine keeps of chains, rosters and sessions.
async fn state(world: &World, who: usize) -> Vec<Vec<u8>> {
    let mut tx = world.devices[who].db.begin().await.unwrap();
    let mut all: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT sealed FROM held_chains UNION ALL SELECT sealed FROM own_chains
         UNION ALL SELECT op FROM ops UNION ALL SELECT revision FROM groups",
    )
    .fetch_all(tx.conn())
    .await
    .unwrap();
    all.sort_unstable();
    all
}

/// The row with each bit changed, every `step`th of them, in places of their own.
fn bent(row: &StreamRow, step: usize) -> Vec<StreamRow> {
    let bend = |(seq, bit): (u64, usize)| {
        let mut envelope = row.envelope.clone();
        envelope.payload[bit / 8] ^= 1 << (bit % 8);
        envelope.id = envelope.compute_id();
        StreamRow { seq: Seq(seq), envelope }
    };
    (10_000..).zip((0..row.envelope.payload.len() * 8).step_by(step)).map(bend).collect()
}

#[tokio::test]
async fn any_changed_bit_of_a_distribution_is_refused_and_gives_no_chain() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    let rows = world.waiting(BOB);
    let [key, message] = rows.as_slice() else { panic!("two rows") };
    assert_eq!(key.envelope.kind, Kind::KeyDistribution);
    let before = state(&world, BOB).await;
    for slice in bent(key, 5).chunks(64) {
        world.receive(BOB, slice).await;
    }
    let said = world.devices[BOB].reasons();
    assert_eq!(said.len(), bent(key, 5).len());
    assert!(said.iter().all(|reason| matches!(*reason, "olm" | "malformed")), "{said:?}");
    assert_eq!(state(&world, BOB).await, before);
    world.receive(BOB, &[key.clone(), message.clone()]).await;
    assert_eq!(world.devices[BOB].texts(), ["one"]);
}

#[tokio::test]
async fn any_changed_bit_of_a_message_is_refused_or_held_and_changes_nothing() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    world.send(ALICE, group, "two").await;
    let rows = world.waiting(BOB);
    let row = rows.iter().find(|row| row.envelope.kind == Kind::Message).unwrap().clone();
    let before = state(&world, BOB).await;
    let bent = bent(&row, 1);
    for slice in bent.chunks(64) {
        let said = world.devices[BOB].received.len();
        world.receive(BOB, slice).await;
        let said = &world.devices[BOB].received[said..];
        assert_eq!(said.len(), slice.len());
        for Received { seq, what, .. } in said {
            assert!(matches!(what, What::Failed { .. } | What::Held { .. }), "{seq:?}: {what:?}");
        }
    }
    assert_eq!(state(&world, BOB).await, before);
    assert_eq!(world.devices[BOB].texts(), ["one"]);
    world.receive(BOB, &[row]).await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two"]);
}

#[tokio::test]
async fn a_row_whose_envelope_was_changed_is_refused() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.send(ALICE, group, "one").await;
    let rows = world.waiting(BOB);
    let [key, message] = rows.as_slice() else { panic!("two rows") };
    world.receive(BOB, std::slice::from_ref(key)).await;
    let before = state(&world, BOB).await;
    let other = world.create_group(ALICE).await;
    let changes: [fn(&mut causeway_protocol::envelope::Envelope, &World); 4] = [
        |envelope, _| envelope.epoch.0 += 1,
        |envelope, _| envelope.epoch.0 -= 1,
        |envelope, world| {
            let carol = &world.devices[2];
            envelope.sender = Some(causeway_protocol::envelope::Sender {
                account: carol.account(),
                device: carol.id(),
            });
        },
        |envelope, world| {
            envelope.sender.as_mut().unwrap().account = world.devices[2].account();
        },
    ];
    for (seq, change) in (100..).zip(changes) {
        let mut envelope = message.envelope.clone();
        change(&mut envelope, &world);
        world.receive(BOB, &[StreamRow { seq: Seq(seq), envelope }]).await;
    }
    // Not the id of these bytes, and bytes that are not this id's.
    for change in [
        |e: &mut Envelope| e.payload[20] ^= 1,
        |e: &mut Envelope| {
            e.id = EnvelopeId::new([7; 16]);
        },
    ] {
        let mut envelope = message.envelope.clone();
        change(&mut envelope);
        world.receive(BOB, &[StreamRow { seq: Seq(150), envelope }]).await;
        let last = &world.devices[BOB].received.last().unwrap().what;
        assert!(matches!(last, What::Failed { reason: "bad_envelope", .. }), "{last:?}");
    }
    let mut moved = message.envelope.clone();
    moved.group = other;
    world.receive(BOB, &[StreamRow { seq: Seq(200), envelope: moved }]).await;
    assert_eq!(state(&world, BOB).await, before);
    assert!(world.devices[BOB].texts().is_empty());
    world.receive(BOB, std::slice::from_ref(message)).await;
    assert_eq!(world.devices[BOB].texts(), ["one"]);
}

#[tokio::test]
async fn where_there_is_no_room_to_hold_the_row_is_parked_and_nothing_waits_for_it() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    for n in 0..300 {
        world.send(ALICE, group, &n.to_string()).await;
    }
    let rows: Vec<_> =
        world.waiting(BOB).into_iter().filter(|r| r.envelope.kind == Kind::Message).collect();
    let now = world.time();
    let device = &world.devices[BOB];
    let mut tx = device.db.begin().await.unwrap();
    let receipts = device.machine.receive(&mut tx, now, &rows).await.unwrap();
    tx.commit().await.unwrap();
    let parked: Vec<_> = rows[256..].iter().map(|row| row.seq).collect();
    assert_eq!((receipts.through, receipts.parked), (rows.last().map(|row| row.seq), parked));
    assert_eq!(receipts.no_room.unwrap().device, world.devices[ALICE].id());
    // Those held open when their keys come, and those that are parked behind them.
    world.sync_all().await;
    let texts: Vec<_> = (0..300).map(|n| n.to_string()).collect();
    assert_eq!(world.devices[BOB].texts(), texts);
    assert!(world.devices[BOB].parked.is_empty());
    assert_eq!(world.count(BOB, "SELECT COUNT(*) FROM parked").await, 0);
}

#[tokio::test]
async fn a_row_that_is_held_takes_its_room_once_however_often_it_comes() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    for n in 0..3 {
        world.send(ALICE, group, &n.to_string()).await;
    }
    let rows = world.waiting(BOB);
    for _ in 0..4 {
        world.receive(BOB, &rows[1..]).await;
        world.devices[BOB].restart().await;
    }
    assert_eq!(world.count(BOB, "SELECT COUNT(*) FROM holds").await, 3);
    world.receive(BOB, &rows[..1]).await;
    assert_eq!(world.devices[BOB].texts(), ["0", "1", "2"]);
}

/// The key comes behind what waits for it: without looking further nothing would ever open again.
#[tokio::test]
async fn the_key_that_makes_room_is_found_behind_the_row_that_has_none() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let mut messages = Vec::new();
    let mut keys = Vec::new();
    for n in 0..260 {
        world.send(ALICE, group, &n.to_string()).await;
    }
    for row in world.waiting(BOB) {
        if row.envelope.kind == Kind::Message { messages.push(row) } else { keys.push(row) }
    }
    for (seq, row) in (10_000..).zip(&mut keys) {
        row.seq = Seq(seq);
    }
    let rows = [messages, keys].concat();
    world.receive(BOB, &rows).await;
    assert_eq!(world.devices[BOB].parked.len(), 4);
    world.unpark(BOB).await;
    let device = &world.devices[BOB];
    assert_eq!(device.texts(), (0..260).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(device.reasons().is_empty());
}

/// What this device would report to the server.
async fn failures(world: &World, who: usize, group: GroupId) -> PutSenderKeys {
    let device = &world.devices[who];
    let mut tx = device.db.begin().await.unwrap();
    device.machine.key_report(&mut tx, group).await.unwrap()
}

#[tokio::test]
async fn what_did_not_open_is_counted_by_reason_until_the_server_was_told() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    let batch = world.send(ALICE, group, "two").await;
    let good = world.waiting(BOB).pop().unwrap();
    let tampered = |at: usize, seq: u64| {
        let mut envelope = good.envelope.clone();
        let at = if at == 0 { envelope.payload.len() - 1 } else { at };
        envelope.payload[at] ^= 1;
        envelope.id = envelope.compute_id();
        StreamRow { seq: Seq(seq), envelope }
    };
    let mut truncated = good.clone();
    truncated.seq = Seq(602);
    truncated.envelope.payload.truncate(40);
    truncated.envelope.id = truncated.envelope.compute_id();
    let bad = [tampered(0, 600), tampered(40, 601), truncated];
    world.receive(BOB, &bad).await;
    // They come again, because they were not acknowledged in time.
    world.devices[BOB].restart().await;
    world.receive(BOB, &bad).await;
    assert_eq!(world.devices[BOB].reasons(), ["signature", "signature", "malformed"]);
    let report = failures(&world, BOB, group).await;
    let counted = [("malformed".to_owned(), 1), ("signature".to_owned(), 2)];
    assert_eq!(report.failures, counted.into());
    world.receive(BOB, &[tampered(0, 603)]).await;
    let device = &world.devices[BOB];
    let mut tx = device.db.begin().await.unwrap();
    device.machine.reported(&mut tx, group, &report, None).await.unwrap();
    tx.commit().await.unwrap();
    // What came while the report was on its way is told with the next.
    assert_eq!(failures(&world, BOB, group).await.failures, [("signature".to_owned(), 1)].into());
    // The right row is none of this.
    assert_eq!(batch.messages[0].first, good.envelope.id);
    assert_eq!(batch.messages.len(), 1);
    world.receive(BOB, &[good]).await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two"]);
    assert!(failures(&world, ALICE, group).await.failures.is_empty());
}

/// What stands at the end of a roster row's fixed fields: version, group, epoch, op, creator.
const SCHEME_AT: usize = 1 + 32 + 4 + 32 + 32;

#[tokio::test]
async fn a_scheme_or_suite_that_is_not_built_is_refused_before_anything_is_done() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(BOB, group, "one").await;
    world.sync_all().await;
    let head = world.head(group).clone();
    assert_eq!((head.scheme(), head.suite()), (Scheme::SenderKeys, 1));
    for (scheme, suite) in [(2, 1), (3, 4), (1, 3), (1, 4)] {
        let mut row = head.to_row();
        row[SCHEME_AT..SCHEME_AT + 2].copy_from_slice(&[scheme, suite]);
        let device = &mut world.devices[ALICE];
        let mut tx = device.db.begin().await.unwrap();
        let change = sqlx::query("UPDATE ops SET roster = $1 WHERE epoch = $2");
        change.bind(row).bind(head.epoch().0).execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
        device.restart().await;
        let item = world.outgoing(text("two"));
        let sealed = world.seal_now(ALICE, group, std::slice::from_ref(&item)).await;
        assert!(matches!(sealed, Err(SealError::Scheme)), "{scheme} {suite}: {sealed:?}");
        let (device, now) = (&world.devices[ALICE], world.time());
        let mut tx = device.db.begin().await.unwrap();
        let needs = device.machine.needs(&mut tx, now, group).await;
        assert!(matches!(needs, Err(SealError::Scheme)));
        assert!(device.machine.key_report(&mut tx, group).await.unwrap().keys.is_empty());
    }
}

#[tokio::test]
async fn only_the_bridge_speaks_for_matrix_users_and_never_for_its_own_ghosts() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let bridge = world.register("bot").await;
    world.add(ALICE, group, bridge, Role::Bridge).await;
    world.sync_all().await;
    let said = |mirror: &str| {
        let Content::Text(words) = text(mirror) else { unreachable!() };
        Content::Text(Text { mirror: Some(mirror.to_owned()), ..words })
    };
    let announced = Content::Mirrors(Mirrors { mirrors: Vec::new(), gone: Vec::new() });
    for (who, content) in [
        (ALICE, said("@u:a.example")),
        (ALICE, announced),
        (bridge, said("@causeway_alice:a.example")),
        (bridge, said("@causeway_fan:elsewhere.example")),
        (bridge, said("@u:a.example")),
    ] {
        let item = world.outgoing(content);
        let batch = world.seal(who, group, &[item]).await.unwrap();
        world.post(who, &batch).await.unwrap();
    }
    world.sync_all().await;
    let bob = &world.devices[BOB];
    assert_eq!(bob.reasons(), ["not_the_bridge", "not_the_bridge", "mirror_is_a_ghost"]);
    assert_eq!(bob.texts(), ["@causeway_fan:elsewhere.example", "@u:a.example"]);
}

/// A client gives nothing to a device under another name than the one that signed for it, whatever a
/// server has let into the roster.
#[tokio::test]
async fn nothing_goes_to_a_device_under_anothers_name() {
    for (name, is_given) in [("mallory:a.example", true), ("bob:a.example", false)] {
        let mut world = World::with(&["alice", "bob"]).await;
        let mallory = Stranger::known_to(&mut world, ALICE).await;
        let group = mallory.group_as(&mut world, name, ALICE).await;
        let secret = world.outgoing(text("a secret"));
        match world.seal(ALICE, group, std::slice::from_ref(&secret)).await {
            Ok(batch) => world.post(ALICE, &batch).await.unwrap(),
            Err(refused) => assert!(matches!(refused, SealError::Changed(_)), "{refused}"),
        }
        let handed = world.mailboxes.get(&mallory.record.device_id).cloned().unwrap_or_default();
        let has_key = handed.iter().any(|row| row.envelope.kind == Kind::KeyDistribution);
        assert_eq!(has_key, is_given, "{name}");
    }
}
