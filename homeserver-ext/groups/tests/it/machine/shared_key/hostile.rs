//! What a member may try who has the key, and a server with what passes.

use causeway_groups::{Vault, schemes::shared_key::GroupKey, vault::Class};
use causeway_protocol::{
    api::StreamRow,
    content::Plaintext,
    envelope::{Envelope, Kind, Recipient, Sender, compute_id},
    ids::{Epoch, GroupId, Seq, Timestamp},
    olm_plaintext::{OlmPayload, OlmPlaintext, Route, SharedKey},
    roster::Role,
    shared_key::{Alg, Context, Nonce},
};
use ed25519_dalek::SigningKey;
use vodozemac::olm::{OlmMessage, Session, SessionPickle};
use zeroize::Zeroizing;

use super::{ALICE, BOB, CAROL, DAY, garden, key, sent, waiting};
use crate::world::{World, text};

async fn vault(world: &World, who: usize) -> Vault {
    let device = &world.devices[who];
    Vault::open(&device.db, &device.dir.path().join("storage.key")).await.unwrap()
}

/// The newest key that somebody has of a group.
async fn key_of(world: &World, who: usize, group: GroupId) -> GroupKey {
    let vault = vault(world, who).await;
    let mut tx = world.devices[who].db.begin().await.unwrap();
    let (id, epoch, sealed): (Vec<u8>, u32, Vec<u8>) = sqlx::query_as(
        "SELECT key_id, epoch, sealed FROM shared_keys ORDER BY epoch DESC, generation DESC LIMIT 1",
    )
    .fetch_one(tx.conn())
    .await
    .unwrap();
    let place = [group.as_bytes().as_slice(), &id].concat();
    let secret = vault.unseal(Class::Ratchet, "shared_keys", "sealed", &place, &sealed).unwrap();
    let secret = Zeroizing::new(secret.as_slice().try_into().unwrap());
    GroupKey::new(Alg::Aes256Gcm, group, Epoch(epoch), secret)
}

async fn signing_key(world: &World, who: usize) -> SigningKey {
    let vault = vault(world, who).await;
    let mut tx = world.devices[who].db.begin().await.unwrap();
    let sealed: Vec<u8> =
        sqlx::query_scalar("SELECT device_sealed FROM own").fetch_one(tx.conn()).await.unwrap();
    let key = vault.unseal(Class::Signing, "own", "device_sealed", &[1], &sealed).unwrap();
    SigningKey::from_bytes(key.as_slice().try_into().unwrap())
}

/// A message that somebody makes by hand, as if `sender` said it.
struct Forged<'a> {
    key: &'a GroupKey,
    signing: &'a SigningKey,
    sender: Sender,
    counter: u64,
}

impl Forged<'_> {
    fn row(&self, world: &mut World, group: GroupId, seq: u64) -> StreamRow {
        let head = world.head(group);
        let (epoch, roster) = (head.epoch(), head.hash());
        let item = world.outgoing(text("forged"));
        let (client_id, content) = (item.client_id, item.content);
        let said = Plaintext { sent_at: world.time(), ttl_s: 0, client_id, content };
        let place = Context { group, sender: self.sender.device, key: self.key.id(), roster };
        let nonce = Nonce::Salt([seq.to_be_bytes()[7]; 4]);
        let sealed =
            self.key.seal(&place, self.counter, nonce, self.signing, &said.to_bytes()).unwrap();
        row(Kind::Message, (group, epoch), self.sender.clone(), Recipient::Broadcast, sealed, seq)
    }
}

fn row(
    kind: Kind,
    (group, epoch): (GroupId, Epoch),
    sender: Sender,
    to: Recipient,
    payload: Vec<u8>,
    seq: u64,
) -> StreamRow {
    let id = compute_id(kind, Some(&sender.device), &to, &payload, None);
    let envelope = Envelope {
        id,
        kind,
        group,
        epoch,
        sender: Some(sender),
        to,
        ttl_ms: 3_600_000,
        payload,
        piece: None,
    };
    StreamRow { seq: Seq(seq), envelope }
}

fn sender(world: &World, who: usize) -> Sender {
    world.devices[who].machine.me().sender()
}

#[tokio::test]
async fn whoever_has_the_key_speaks_for_nobody_else() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    let (shared, bobs) = (key_of(&world, BOB, group).await, signing_key(&world, BOB).await);
    let alice = sender(&world, ALICE);
    // Under Alice's name, signed by Bob; and what she said, said to be Bob's.
    let forged = Forged { key: &shared, signing: &bobs, sender: alice, counter: 7 };
    let forged = forged.row(&mut world, group, 900);
    world.send(ALICE, group, "two").await;
    let mut stolen = waiting(&world, CAROL, Kind::Message).pop().unwrap();
    stolen.seq.0 = 901;
    stolen.envelope.sender = Some(sender(&world, BOB));
    stolen.envelope.id = stolen.envelope.compute_id();
    world.receive(CAROL, &[forged, stolen]).await;
    assert_eq!(world.devices[CAROL].reasons(), ["bad_signature"; 2]);
    world.devices[CAROL].acked = 0;
    world.sync_all().await;
    assert_eq!(world.devices[CAROL].texts(), ["one", "two"]);
}

#[tokio::test]
async fn a_number_that_comes_twice_is_opened_once_and_one_beyond_the_cap_never() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    let (shared, bobs) = (key_of(&world, BOB, group).await, signing_key(&world, BOB).await);
    let bob = sender(&world, BOB);
    let of = |counter, seq, world: &mut World| {
        let forged = Forged { key: &shared, signing: &bobs, sender: bob.clone(), counter };
        forged.row(world, group, seq)
    };
    let rows: Vec<_> = [(5, 900), (5, 901), (4, 902), (4, 903), (5_000, 904), (3, 905)]
        .into_iter()
        .map(|(counter, seq)| of(counter, seq, &mut world))
        .collect();
    for row in &rows {
        world.receive(CAROL, std::slice::from_ref(row)).await;
        world.devices[CAROL].restart().await;
    }
    assert_eq!(world.devices[CAROL].texts(), ["one", "forged", "forged", "forged"]);
    assert_eq!(world.devices[CAROL].reasons(), ["replay"; 3]);
    // All in one call, too.
    world.receive(ALICE, &rows).await;
    assert_eq!(world.devices[ALICE].texts().len(), 3);
}

#[tokio::test]
async fn any_changed_bit_opens_nothing_and_changes_nothing() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "one").await;
    world.sync_all().await;
    world.send(ALICE, group, "two").await;
    let row = waiting(&world, BOB, Kind::Message).pop().unwrap();
    let state = |world: &World| {
        let db = world.devices[BOB].db.clone();
        async move {
            let mut tx = db.begin().await.unwrap();
            let all: Vec<Vec<u8>> = sqlx::query_scalar(
                "SELECT opened FROM shared_windows UNION ALL SELECT sealed FROM shared_keys",
            )
            .fetch_all(tx.conn())
            .await
            .unwrap();
            all
        }
    };
    let before = state(&world).await;
    for bit in 0..row.envelope.payload.len() * 8 {
        let mut bent = row.clone();
        bent.seq.0 = 10_000 + bit as u64;
        bent.envelope.payload[bit / 8] ^= 1 << (bit % 8);
        bent.envelope.id = bent.envelope.compute_id();
        world.receive(BOB, &[bent]).await;
    }
    assert_eq!(world.devices[BOB].texts(), ["one"]);
    assert_eq!(state(&world).await, before);
    world.receive(BOB, &[row]).await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two"]);
}

/// A session of one with another, taken out of his database.
async fn session(world: &World, from: usize, to: usize) -> Session {
    let (vault, peer) = (vault(world, from).await, world.devices[to].id());
    let mut tx = world.devices[from].db.begin().await.unwrap();
    let (session, sealed): (String, Vec<u8>) =
        sqlx::query_as("SELECT session_id, sealed FROM olm_sessions WHERE peer = $1")
            .bind(peer.as_bytes().as_slice())
            .fetch_one(tx.conn())
            .await
            .unwrap();
    let place = [peer.as_bytes().as_slice(), session.as_bytes()].concat();
    let pickle = vault.unseal(Class::Ratchet, "olm_sessions", "sealed", &place, &sealed).unwrap();
    Session::from(serde_json::from_slice::<SessionPickle>(&pickle).unwrap())
}

/// A key that Bob gives Carol in it, made by hand.
fn hand(
    world: &World,
    session: &mut Session,
    group: GroupId,
    item: SharedKey,
    seq: u64,
) -> StreamRow {
    let (from, to) = (world.devices[BOB].id(), world.devices[CAROL].id());
    let said = OlmPlaintext::SharedKey(Route { group, from, to }, item).to_bytes().unwrap();
    let payload = match session.encrypt(said.as_slice()).unwrap() {
        OlmMessage::PreKey(m) => OlmPayload::PreKey(&m.to_bytes()).to_bytes(),
        OlmMessage::Normal(m) => OlmPayload::Normal(&m.to_bytes()).to_bytes(),
    };
    let epoch = world.head(group).epoch();
    let to = Recipient::Device(to);
    row(Kind::KeyDistribution, (group, epoch), sender(world, BOB), to, payload, seq)
}

fn item(world: &World, group: GroupId, generation: u8, secret: u8) -> SharedKey {
    let (head, now) = (world.head(group), world.time());
    SharedKey {
        alg: 1,
        generation,
        epoch: head.epoch(),
        roster_hash: head.hash(),
        created_ms: now,
        not_after_ms: now.plus_ms(DAY),
        key: Zeroizing::new([secret; 32]),
    }
}

/// A group in which Bob has a session with Carol.
async fn acquainted() -> (World, GroupId) {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    let other = world.create_group(BOB).await;
    world.add(BOB, other, CAROL, Role::Member).await;
    world.send(BOB, other, "hello").await;
    world.sync_all().await;
    (world, group)
}

#[tokio::test]
async fn a_key_from_one_who_may_make_none_is_not_taken() {
    let (mut world, group) = acquainted().await;
    let genuine = key(&world.send(ALICE, group, "one").await);
    let mut session = session(&world, BOB, CAROL).await;
    let forged = [
        item(&world, group, 0, 7),
        item(&world, group, 1, 7),
        SharedKey { alg: 9, ..item(&world, group, 1, 7) },
        SharedKey { alg: 2, ..item(&world, group, 1, 7) },
    ];
    for (seq, item) in (900..).zip(forged) {
        let row = hand(&world, &mut session, group, item, seq);
        world.receive(CAROL, &[row]).await;
    }
    let said = world.devices[CAROL].reasons();
    assert_eq!(said, ["not_maker", "not_maker", "malformed", "wrong_alg"]);
    // One of a roster that is none waits, and is never taken.
    let unknown = SharedKey { epoch: Epoch(9), ..item(&world, group, 0, 7) };
    let row = hand(&world, &mut session, group, unknown, 904);
    world.receive(CAROL, &[row]).await;
    world.devices[CAROL].acked = 0;
    world.sync_all().await;
    assert_eq!(key(&world.send(CAROL, group, "two").await), genuine);
}

#[tokio::test]
async fn an_admin_who_makes_very_many_pushes_out_only_his_own() {
    let (mut world, group) = acquainted().await;
    world.promote(ALICE, group, BOB).await;
    world.sync_all().await;
    let before = world.send(ALICE, group, "one").await;
    let mut session = session(&world, BOB, CAROL).await;
    for seq in 900..1_000_u64 {
        let secret = u8::try_from(seq - 899).unwrap();
        let item = item(&world, group, 1, secret);
        let row = hand(&world, &mut session, group, item, seq);
        world.receive(CAROL, &[row]).await;
    }
    assert_eq!(world.count(CAROL, super::KEYS).await, 65);
    world.devices[CAROL].acked = 0;
    world.sync_all().await;
    assert_eq!(world.devices[CAROL].texts(), ["hello", "one"]);
    assert_eq!(before.submissions.len(), 1);
}

#[tokio::test]
async fn whatever_an_admin_says_of_its_time_a_key_is_replaced_after_a_day() {
    let (mut world, group) = acquainted().await;
    world.promote(ALICE, group, BOB).await;
    world.sync_all().await;
    let mut session = session(&world, BOB, CAROL).await;
    let times = [(0, 0), (0, u64::MAX), (u64::MAX, u64::MAX)];
    for (nth, (created, ends)) in (0_u8..).zip(times) {
        let item = SharedKey {
            created_ms: Timestamp(created.min(1 << 62)),
            not_after_ms: Timestamp(ends.min(1 << 62)),
            ..item(&world, group, 200 + nth, 7 + nth)
        };
        let row = hand(&world, &mut session, group, item, 900 + u64::from(nth));
        world.receive(CAROL, &[row]).await;
    }
    // She can speak still, and is heard by those who have what she has.
    let item = world.outgoing(text("still here"));
    assert!(world.seal(CAROL, group, &[item]).await.is_ok());
    world.devices[CAROL].acked = 0;
    world.sync_all().await;
    assert!(sent(&world, CAROL, Kind::KeyDistribution) >= 1);
}

/// A key of the last generation there is, made to be of the highest rank, that says it never ends: what
/// other admins make in its place has to end somewhere.
#[tokio::test]
async fn a_key_that_an_admin_made_to_be_the_last_is_not_replaced_without_end() {
    let (mut world, group) = acquainted().await;
    world.promote(ALICE, group, BOB).await;
    world.promote(ALICE, group, CAROL).await;
    world.sync_all().await;
    world.send(CAROL, group, "one").await;
    let mut session = session(&world, BOB, CAROL).await;
    let epoch = world.head(group).epoch();
    let id = |secret: &[u8; 32]| {
        *GroupKey::new(Alg::Aes256Gcm, group, epoch, Zeroizing::new(*secret)).id().as_bytes()
    };
    let secrets = (0..4_000_u32).map(|n| {
        let mut secret = [7; 32];
        secret[..4].copy_from_slice(&n.to_be_bytes());
        secret
    });
    let lowest = secrets.min_by_key(id).unwrap();
    let last = SharedKey {
        key: Zeroizing::new(lowest),
        not_after_ms: Timestamp(1 << 62),
        ..item(&world, group, u8::MAX, 7)
    };
    let row = hand(&world, &mut session, group, last, 900);
    world.receive(CAROL, &[row]).await;
    world.now += 2 * DAY;
    let before = sent(&world, ALICE, Kind::KeyDistribution);
    for _ in 0..8 {
        world.chores(CAROL).await;
        let item = world.outgoing(text("still here"));
        let batch = world.seal(CAROL, group, &[item]).await.unwrap();
        world.post(CAROL, &batch).await.unwrap();
    }
    assert_eq!(sent(&world, ALICE, Kind::KeyDistribution) - before, 1, "one in the place of his");
    // His is over after a week like any other.
    world.now += 7 * DAY;
    world.sync(CAROL).await;
    let batch = world.send(CAROL, group, "at last").await;
    let his = id(&lowest);
    assert_ne!(key(&batch)[..], his[..4]);
}

/// A server that gives a message back to its author, who holds the key that opens it.
#[tokio::test]
async fn what_a_device_said_itself_is_not_shown_to_it_again() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(BOB, group, "one").await;
    let row = waiting(&world, ALICE, Kind::Message).remove(0);
    let bob = world.devices[BOB].id();
    world.put(bob, row.envelope);
    world.sync_all().await;
    assert!(world.devices[BOB].texts().is_empty());
    assert!(world.devices[BOB].reasons().is_empty());
    assert_eq!(world.devices[ALICE].texts(), ["one"]);
}
