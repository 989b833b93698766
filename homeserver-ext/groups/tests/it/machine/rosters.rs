//! What is kept of a group's history, and what is made again from it.

use causeway_groups::{WaitsFor, machine::What};
use causeway_protocol::{
    api::{OpBytes, StreamRow},
    envelope::Kind,
    ids::{AccountId, DeviceId, Epoch, GroupId, MemberId, Seq, Timestamp},
    roster::{Body, Devices, Entry, Op, OpCore, Policy, Roster},
};
use sqlx::AssertSqlSafe;

use super::{ALICE, BOB, garden, stranger::Stranger};
use crate::world::{World, roster_row, text};

const DAY_MS: u64 = 24 * 3_600_000;
/// Bytes of ops that are read again however small the roster is.
const REPLAYED: usize = 64 << 10;

/// A group of Mallory's with Alice in it.
async fn mallorys() -> (World, Stranger, GroupId) {
    let mut world = World::with(&["alice"]).await;
    let mallory = Stranger::known_to(&mut world, ALICE).await;
    let group = mallory.group_as(&mut world, "mallory:a.example", ALICE).await;
    (world, mallory, group)
}

fn name(byte: u8, number: usize) -> [u8; 32] {
    let mut name = [byte; 32];
    name[..8].copy_from_slice(&number.to_be_bytes());
    name
}

/// A member who is only a name.
fn entry(number: usize) -> Entry {
    Entry {
        member_id: MemberId::new(name(3, number)),
        role: 0,
        account: format!("member.{number}:a.example"),
        legacy_id: String::new(),
        devices: Devices { version: 1, ids: vec![DeviceId::new(name(4, number))] },
    }
}

/// A list of so many devices besides the one that signs.
fn devices(signer: &Stranger, version: u32, count: usize) -> Body {
    let mut ids: Vec<_> = (0..count).map(|number| DeviceId::new(name(5, number))).collect();
    ids.push(signer.record.device_id);
    ids.sort_unstable();
    Body::Devices(Devices { version, ids })
}

/// Installs what Mallory signs next, and nothing of what follows from it.
async fn install(world: &mut World, mallory: &Stranger, group: GroupId, body: &Body) {
    let core = OpCore::next(world.head(group), &mallory.record, Timestamp(3), body).unwrap();
    let op = mallory.sign(core);
    world.take_op(&op.0).unwrap();
    world.install(ALICE, group, &[op]).await;
}

async fn all_bytes(world: &World) -> i64 {
    world
        .count(ALICE, "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        .await
}

/// Bytes of each op, and of the roster that is kept whole with it.
async fn kept(world: &World, who: usize) -> Vec<(usize, Option<usize>)> {
    let mut tx = world.devices[who].db.begin().await.unwrap();
    let rows: Vec<(i64, Option<i64>)> =
        sqlx::query_as("SELECT LENGTH(op), LENGTH(roster) FROM ops ORDER BY epoch")
            .fetch_all(tx.conn())
            .await
            .unwrap();
    let bytes = |bytes: i64| usize::try_from(bytes).unwrap();
    rows.into_iter().map(|(op, whole)| (bytes(op), whole.map(bytes))).collect()
}

/// What is kept whole is no more bytes than the ops, and from it any roster is made with no more
/// bytes of ops than the roster has itself.
fn assert_bounded(rows: &[(usize, Option<usize>)], rosters: &[Roster]) {
    assert_eq!(rows.len(), rosters.len());
    let ops: usize = rows.iter().map(|(op, _)| op).sum();
    let whole: usize = rows.iter().filter_map(|(_, whole)| *whole).sum();
    assert!(whole <= ops, "{whole} bytes of rosters, {ops} of ops");
    let mut since = 0;
    for ((op, whole), roster) in rows.iter().zip(rosters) {
        since = if whole.is_some() { 0 } else { since + op };
        let most = roster.to_row().len().max(REPLAYED);
        assert!(since < most, "{since} bytes to read again, {most} at {}", roster.epoch());
    }
}

#[tokio::test]
async fn what_a_member_costs_does_not_grow_with_the_members() {
    let (mut world, mallory, group) = mallorys().await;
    let empty = all_bytes(&world).await;
    let mut each = Vec::new();
    for members in 0..480 {
        if members == 120 {
            each.push((all_bytes(&world).await - empty) / 120);
        }
        install(&mut world, &mallory, group, &Body::Add(vec![entry(members)])).await;
    }
    each.push((all_bytes(&world).await - empty) / 480);
    // With every roster whole it was four times as much.
    assert!(each[1] < each[0] * 2, "bytes for each of 120 and of 480 members: {each:?}");
    assert_bounded(&kept(&world, ALICE).await, world.rosters(group));
}

#[tokio::test]
async fn whatever_ops_a_member_posts_little_has_to_be_read_again() {
    let (mut world, mallory, group) = mallorys().await;
    // A list as long as an op can carry, and short ones; many small ops on a large roster.
    for (version, count) in (2..).zip([1_300, 1, 1_300, 1_200, 1, 1, 1_300].repeat(3)) {
        install(&mut world, &mallory, group, &devices(&mallory, version, count)).await;
    }
    for number in 0..60 {
        let entries = (0..8).map(|of_them| entry(8 * number + of_them)).collect();
        install(&mut world, &mallory, group, &Body::Add(entries)).await;
        let gone = (0..7).map(|of_them| MemberId::new(name(3, 8 * number + of_them))).collect();
        install(&mut world, &mallory, group, &Body::Remove(gone)).await;
    }
    assert_bounded(&kept(&world, ALICE).await, world.rosters(group));
    world.devices[ALICE].restart().await;
    let device = &world.devices[ALICE];
    let mut tx = device.db.begin().await.unwrap();
    let head = device.machine.roster(&mut tx, group).await.unwrap().unwrap();
    assert_eq!(*head, *world.head(group));
}

/// Alice renames the group, with so many bytes of description.
async fn rename(world: &mut World, group: GroupId, description: usize) {
    let head = world.head(group).policy().clone();
    let policy = Policy { description: "x".repeat(description), ttl_s: 2_592_000, ..head };
    let (device, now) = (&world.devices[ALICE], world.time());
    let mut tx = device.db.begin().await.unwrap();
    let op = device.machine.set_policy(&mut tx, now, group, policy).await.unwrap();
    drop(tx);
    world.post_op(ALICE, op.clone()).await;
    world.install(BOB, group, &[op]).await;
}

/// What Bob says in the epoch where he is, as a row that nobody has sent yet.
async fn sealed(world: &mut World, group: GroupId, body: &str) -> StreamRow {
    let item = world.outgoing(text(body));
    let batch = world.seal(BOB, group, &[item]).await.unwrap();
    let envelope = batch.submissions.last().unwrap().rows().next().unwrap();
    assert_eq!(envelope.kind, Kind::Message);
    StreamRow { seq: Seq(1_000_000), envelope }
}

#[tokio::test]
async fn a_message_of_any_epoch_opens_whatever_is_kept_whole() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(BOB, group, "hello").await;
    world.sync_all().await;
    let mut late = Vec::new();
    for number in 0..90 {
        late.push(sealed(&mut world, group, &number.to_string()).await);
        rename(&mut world, group, 2_000).await;
    }
    let whole = kept(&world, ALICE).await.iter().filter(|(_, whole)| whole.is_some()).count();
    assert!((1..10).contains(&whole), "{whole} are whole");
    world.devices[ALICE].restart().await;
    // From the last to the first, and to and fro.
    late.reverse();
    late.sort_by_key(|row| row.envelope.epoch.0 % 2);
    for row in &mut late {
        world.receive(ALICE, std::slice::from_ref(row)).await;
    }
    let alice = &world.devices[ALICE];
    assert_eq!(alice.reasons(), [""; 0]);
    let mut numbers: Vec<u32> = alice.texts()[1..].iter().map(|n| n.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..90).collect::<Vec<_>>());
}

#[tokio::test]
async fn rosters_of_more_than_a_month_ago_are_forgotten_and_the_others_made_again() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(BOB, group, "hello").await;
    world.sync_all().await;
    let old = sealed(&mut world, group, "old").await;
    for _ in 0..70 {
        rename(&mut world, group, 2_000).await;
    }
    world.now += 20 * DAY_MS;
    world.send(BOB, group, "hello again").await;
    world.sync_all().await;
    let newer = sealed(&mut world, group, "newer").await;
    for _ in 0..70 {
        rename(&mut world, group, 2_000).await;
    }
    let whole = "SELECT COUNT(*) FROM ops WHERE roster IS NOT NULL";
    let before = world.count(ALICE, whole).await;
    world.now += 15 * DAY_MS;
    let (device, now) = (&world.devices[ALICE], world.time());
    let mut tx = device.db.begin().await.unwrap();
    device.machine.expire(&mut tx, now).await.unwrap();
    tx.commit().await.unwrap();
    let after = world.count(ALICE, whole).await;
    assert!(0 < after && after < before, "{before} were whole, {after} are");
    for row in [old, newer] {
        world.receive(ALICE, &[row]).await;
    }
    assert_eq!(world.devices[ALICE].texts(), ["hello", "hello again", "newer"]);
    let held = |what: &What| matches!(what, What::Held { waits_for: WaitsFor::Roster, .. });
    assert_eq!(world.devices[ALICE].received.iter().filter(|r| held(&r.what)).count(), 1);
}

#[tokio::test]
async fn a_second_op_on_an_old_roster_is_seen_and_can_be_gone_over_to() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let fork_at = world.head(group).epoch().next().unwrap();
    let (device, now) = (&world.devices[ALICE], world.time());
    let mut tx = device.db.begin().await.unwrap();
    let second = device.machine.close(&mut tx, now, group).await.unwrap();
    drop(tx);
    for _ in 0..90 {
        rename(&mut world, group, 2_000).await;
    }
    world.devices[BOB].restart().await;
    let row = StreamRow { seq: Seq(2_000), envelope: roster_row(&second.0) };
    world.receive(BOB, &[row]).await;
    let device = &world.devices[BOB];
    let mut tx = device.db.begin().await.unwrap();
    let view = device.machine.fork(&mut tx, group).await.unwrap().expect("a second history");
    assert_eq!(view.fork.epoch, fork_at);
    let by =
        [Some(&view.fork.mine), view.fork.other.as_ref()].map(|op| op.unwrap().account.clone());
    assert_eq!(by, [Some(world.devices[ALICE].account()), Some(world.devices[ALICE].account())]);
    device.machine.adopt(&mut tx, now, group).await.unwrap();
    let head = device.machine.roster(&mut tx, group).await.unwrap().unwrap();
    assert_eq!((head.closed(), head.epoch()), (true, fork_at));
    tx.commit().await.unwrap();
    // What is counted towards the next whole one is what is there.
    let differs = "SELECT COUNT(*) FROM groups
        WHERE since_whole <> (SELECT SUM(LENGTH(op)) FROM ops) OR rosters_from <> 0";
    assert_eq!(world.count(BOB, differs).await, 0);
}

/// From the tables of this version to those of before, but for what is in them.
const BACK: &str = "
    DROP INDEX given_owed;
    ALTER TABLE given DROP COLUMN owed;
    DROP TABLE not_taken;
    DROP INDEX outbox_sealed;
    ALTER TABLE outbox DROP COLUMN sealed_epoch;
    ALTER TABLE outbox DROP COLUMN anew;
    ALTER TABLE own DROP COLUMN listed;
    DROP TABLE fallback_key;
    DROP TABLE forgotten;
    ALTER TABLE key_requests DROP COLUMN tries;
    ALTER TABLE key_requests DROP COLUMN next_ms;
    ALTER TABLE key_requests DROP COLUMN until_ms;
    ALTER TABLE key_requests ADD COLUMN asked_ms BIGINT;
    ALTER TABLE own DROP COLUMN replaces;
    DROP TABLE share_pages;
    DROP TABLE owed_shares;
    DROP TABLE heard_shares;
    DROP TABLE sharers;
    DROP TABLE shared_lines;
    DROP TABLE shared_groups;
    DROP TABLE shared_given;
    DROP TABLE shared_windows;
    DROP TABLE shared_keys;
    DROP TABLE owed_pieces;
    DROP TABLE fan_outs;
    DROP TABLE imported;
    DROP TABLE legacy_own;
    DROP TABLE legacy_given;
    DROP TABLE legacy_held;
    ALTER TABLE outgoing DROP COLUMN piece;
    ALTER TABLE outgoing DROP COLUMN epoch;
    DROP TABLE owed_words;
    ALTER TABLE owed_invites DROP COLUMN since_ms;
    ALTER TABLE invites DROP COLUMN maker;
    ALTER TABLE owed_invites DROP COLUMN next_ms;
    DROP TABLE link_uses;
    DROP TABLE revoked_links;
    ALTER TABLE invites ADD COLUMN revoked BIGINT NOT NULL DEFAULT 0;
    DROP INDEX history_said;
    DROP INDEX history_of;
    ALTER TABLE history DROP COLUMN device;
    ALTER TABLE history DROP COLUMN client_id;
    ALTER TABLE history DROP COLUMN own;
    DROP TABLE parked;
    ALTER TABLE mirrors DROP COLUMN present;
    DROP TABLE place;
    DROP TABLE settings;
    ALTER TABLE holds DROP COLUMN is_opened;
    DROP TABLE offered_rows;
    ALTER TABLE groups DROP COLUMN offer;
    ALTER TABLE groups DROP COLUMN offered_by;
    DROP TABLE identities;
    ALTER TABLE own DROP COLUMN met;
    DROP INDEX ops_whole;
    ALTER TABLE groups DROP COLUMN since_whole;
    ALTER TABLE groups DROP COLUMN rosters_from;
    DELETE FROM schema_versions WHERE schema_name = 'client' AND version >= 9;";

#[tokio::test]
async fn a_database_with_every_roster_whole_lets_go_of_most() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(BOB, group, "hello").await;
    world.sync_all().await;
    let old = sealed(&mut world, group, "old").await;
    for _ in 0..90 {
        rename(&mut world, group, 2_000).await;
    }
    let late = sealed(&mut world, group, "late").await;
    let mut tx = world.devices[ALICE].db.begin().await.unwrap();
    for roster in world.rosters(group).iter().filter(|roster| roster.epoch() > Epoch(0)) {
        let whole = sqlx::query("UPDATE ops SET roster = $1 WHERE epoch = $2");
        whole.bind(roster.to_row()).bind(roster.epoch().0).execute(tx.conn()).await.unwrap();
    }
    sqlx::raw_sql(AssertSqlSafe(BACK)).execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    world.devices[ALICE].restart().await;
    let rows = kept(&world, ALICE).await;
    let whole: usize = rows.iter().filter(|(_, whole)| whole.is_some()).count();
    assert!((2..8).contains(&whole), "{whole} of {} are whole", rows.len());
    assert!(rows.last().unwrap().1.is_some(), "the newest is");
    assert!(rows[1].1.is_some(), "so is the first that was there");
    let forgotten = "SELECT COUNT(*) FROM groups WHERE rosters_from = 1 AND since_whole = 0";
    assert_eq!(world.count(ALICE, forgotten).await, 1);
    for row in [late, old] {
        world.receive(ALICE, &[row]).await;
    }
    assert_eq!(world.devices[ALICE].texts(), ["hello", "late", "old"]);
    rename(&mut world, group, 10).await;
    let device = &world.devices[ALICE];
    let mut tx = device.db.begin().await.unwrap();
    let head = device.machine.roster(&mut tx, group).await.unwrap().unwrap();
    assert_eq!(*head, *world.head(group));
    let ops: Vec<OpBytes> = device.machine.ops(&mut tx, group, Epoch(0)).await.unwrap();
    assert!(ops.iter().all(|op| Op::parse(&op.0).is_ok()));
}

#[tokio::test]
async fn an_op_that_is_not_the_one_that_was_judged_makes_no_roster() {
    let (mut world, mallory, group) = mallorys().await;
    for number in 0..3 {
        install(&mut world, &mallory, group, &Body::Add(vec![entry(number)])).await;
    }
    let device = &mut world.devices[ALICE];
    let mut tx = device.db.begin().await.unwrap();
    let mut op: Vec<u8> = sqlx::query_scalar("SELECT op FROM ops WHERE epoch = 2")
        .fetch_one(tx.conn())
        .await
        .unwrap();
    // The newcomer's device, which no roster's hash names.
    let at = op.len() - 128 - 1;
    op[at] ^= 1;
    sqlx::query("UPDATE ops SET op = $1 WHERE epoch = 2")
        .bind(op)
        .execute(tx.conn())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    device.restart().await;
    let mut tx = device.db.begin().await.unwrap();
    let damaged = device.machine.roster(&mut tx, group).await.unwrap_err();
    assert_eq!(damaged.to_string(), "a row of ops is broken");
}

/// Whose accounts are to be asked for before Alice says something.
async fn asked_for(world: &World, group: GroupId) -> Vec<AccountId> {
    let (device, now) = (&world.devices[ALICE], world.time());
    let mut tx = device.db.begin().await.unwrap();
    device.machine.needs(&mut tx, now, group).await.unwrap().accounts
}

#[tokio::test]
async fn a_list_that_was_older_than_the_roster_is_asked_for_again_soon() {
    let (mut world, mallory, group) = mallorys().await;
    let account: AccountId = "mallory:a.example".parse().unwrap();
    assert!(asked_for(&world, group).await.is_empty());
    install(&mut world, &mallory, group, &devices(&mallory, 2, 1)).await;
    assert_eq!(asked_for(&world, group).await, std::slice::from_ref(&account));
    // The server does not show it yet.
    world.learn(ALICE, &account).await;
    assert!(asked_for(&world, group).await.is_empty());
    world.now += 5_001;
    assert_eq!(asked_for(&world, group).await, [account]);
}
