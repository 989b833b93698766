//! What a server may do to bytes: any changed bit opens nothing and changes nothing.

use causeway_groups::machine::What;
use causeway_protocol::{api::StreamRow, envelope::Kind, ids::Seq};

use super::{ALICE, BOB, garden};
use crate::world::World;

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

#[tokio::test]
async fn any_changed_bit_of_a_message_is_refused_or_held_and_changes_nothing() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    world.send(ALICE, group, "two").await;
    let rows = world.waiting(BOB);
    let row = rows.iter().find(|row| row.envelope.kind == Kind::Message).unwrap().clone();
    let before = state(&world, BOB).await;
    let len = row.envelope.payload.len();
    // Every bit of the header, and one of each byte after it.
    let bits = (0..16 * 8).chain((16..len).map(|byte| byte * 8 + byte % 8));
    for (seq, bit) in (1_000..).zip(bits) {
        let mut envelope = row.envelope.clone();
        envelope.payload[bit / 8] ^= 1 << (bit % 8);
        envelope.id = envelope.compute_id();
        world.receive(BOB, &[StreamRow { seq: Seq(seq), envelope }]).await;
        let last = &world.devices[BOB].received.last().unwrap().what;
        assert!(matches!(last, What::Failed { .. } | What::Held { .. }), "bit {bit}: {last:?}");
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
    let mut moved = message.envelope.clone();
    moved.group = other;
    world.receive(BOB, &[StreamRow { seq: Seq(200), envelope: moved }]).await;
    assert_eq!(state(&world, BOB).await, before);
    assert!(world.devices[BOB].texts().is_empty());
    world.receive(BOB, std::slice::from_ref(message)).await;
    assert_eq!(world.devices[BOB].texts(), ["one"]);
}

#[tokio::test]
async fn where_there_is_no_room_to_hold_the_row_stays_in_the_mailbox() {
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
    assert_eq!(receipts.through, Some(rows[255].seq));
    // Those held open when their keys come, and then there is room for the rest.
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts().len(), 300);
}
