//! What a member may try who shares what is not so.

use causeway_groups::{
    Vault,
    machine::{NewGroup, ShareError},
    vault::Class,
};
use causeway_protocol::{
    api::StreamRow,
    content::MAX_PLAINTEXT,
    envelope::{Envelope, Kind, Recipient, compute_id},
    ids::{GroupId, Seq, ShareId},
    olm_plaintext::{HistoryPage, OlmPayload, OlmPlaintext, Route},
    roster::Role,
};
use vodozemac::olm::{OlmMessage, Session, SessionPickle};

use super::{ALICE, BOB, CAROL, DAY, garden, pairwise, past, pasts, share, told};
use crate::world::World;

/// Bob's hand: what he seals for Alice past every rule.
struct Hand {
    session: Session,
    group: GroupId,
    seq: u64,
}

impl Hand {
    async fn new(world: &World, group: GroupId) -> Self {
        let device = &world.devices[BOB];
        let vault = Vault::open(&device.db, &device.dir.path().join("storage.key")).await.unwrap();
        let peer = world.devices[ALICE].id();
        let mut tx = device.db.begin().await.unwrap();
        let (session, sealed): (String, Vec<u8>) =
            sqlx::query_as("SELECT session_id, sealed FROM olm_sessions WHERE peer = $1")
                .bind(peer.as_bytes().as_slice())
                .fetch_one(tx.conn())
                .await
                .unwrap();
        let place = [peer.as_bytes().as_slice(), session.as_bytes()].concat();
        let pickle =
            vault.unseal(Class::Ratchet, "olm_sessions", "sealed", &place, &sealed).unwrap();
        let session = Session::from(serde_json::from_slice::<SessionPickle>(&pickle).unwrap());
        Self { session, group, seq: 1_000 }
    }

    fn row(&mut self, world: &World, of: GroupId, page: HistoryPage) -> StreamRow {
        let (from, to) = (world.devices[BOB].id(), world.devices[ALICE].id());
        let route = Route { group: of, from, to };
        let said = OlmPlaintext::History(route, page).to_bytes().unwrap();
        self.sealed(world, &said)
    }

    fn sealed(&mut self, world: &World, said: &[u8]) -> StreamRow {
        let payload = match self.session.encrypt(said).unwrap() {
            OlmMessage::PreKey(m) => OlmPayload::PreKey(&m.to_bytes()).to_bytes(),
            OlmMessage::Normal(m) => OlmPayload::Normal(&m.to_bytes()).to_bytes(),
        };
        let to = Recipient::Device(world.devices[ALICE].id());
        let sender = world.devices[BOB].machine.me().sender();
        let kind = Kind::Direct;
        self.seq += 1;
        let envelope = Envelope {
            id: compute_id(kind, Some(&sender.device), &to, &payload, None),
            kind,
            group: self.group,
            epoch: world.head(self.group).epoch(),
            sender: Some(sender),
            to,
            ttl_ms: 3_600_000,
            payload,
            piece: None,
        };
        StreamRow { seq: Seq(self.seq), envelope }
    }
}

/// Page `page` of `pages` of a share, with one text of Alice's.
fn page(world: &World, share: u8, (page, pages): (u16, u16), body: &str) -> HistoryPage {
    let texts = vec![past(world.devices[CAROL].id(), share, body)];
    HistoryPage { share: ShareId::new([share; 16]), page, pages, texts }
}

/// Bob has a session with Alice, and Carol is there too.
async fn acquainted() -> (World, GroupId, Hand) {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.send(BOB, group, "hello").await;
    world.sync_all().await;
    let hand = Hand::new(&world, group).await;
    (world, group, hand)
}

/// What Alice has of her own: all but what she keeps of shares.
async fn own(world: &World) -> Vec<i64> {
    let mut counts = Vec::new();
    for sql in [
        "SELECT COUNT(*) FROM seen",
        "SELECT COUNT(*) FROM ops",
        "SELECT COUNT(*) FROM held_chains",
        "SELECT COUNT(*) FROM groups",
        "SELECT COUNT(*) FROM accounts",
    ] {
        counts.push(world.count(ALICE, sql).await);
    }
    counts
}

#[tokio::test]
async fn whoever_was_never_in_the_group_has_said_nothing_there() {
    let (mut world, group, _) = acquainted().await;
    let mallory = world.register("mallory").await;
    let (bob, carol) = (world.devices[BOB].id(), world.devices[CAROL].id());
    let stranger = past(world.devices[mallory].id(), 1, "I was here");
    let mut later = past(carol, 2, "tomorrow, and the day after");
    later.sent_at = world.time().plus_ms(2 * DAY);
    let mut ages = later.clone();
    ages.sent_at.0 = u64::MAX;
    let mut mirrored = past(carol, 3, "through the bridge");
    mirrored.mirror = Some("@u:m.example".to_owned());
    for text in [stranger, later, ages, mirrored] {
        share(&world, BOB, group, ALICE, vec![past(bob, 9, "true"), text]).await.unwrap();
        world.sync_all().await;
    }
    // Nothing of such a page is taken.
    assert!(told(&world, ALICE).is_empty());
    let reasons = ["author_not_in_group", "bad_date", "bad_date", "not_the_bridge"];
    assert_eq!(world.devices[ALICE].reasons(), reasons);
    // What she has said with this device she knows herself.
    let alice = world.devices[ALICE].id();
    let texts = vec![past(alice, 4, "I owe Bob a thousand"), past(bob, 5, "thanks")];
    share(&world, BOB, group, ALICE, texts).await.unwrap();
    world.sync_all().await;
    assert_eq!(told(&world, ALICE), ["bob:a.example bob:a.example thanks"]);
}

#[tokio::test]
async fn a_share_is_of_the_group_of_its_envelope_and_its_giver_in_it() {
    let (mut world, group, mut hand) = acquainted().await;
    let other = world.create_group(ALICE).await;
    world.add(ALICE, other, CAROL, Role::Member).await;
    world.sync_all().await;
    let row = hand.row(&world, other, page(&world, 1, (0, 1), "forged"));
    world.receive(ALICE, &[row]).await;
    // In an envelope of that group, in which Bob is not.
    hand.group = other;
    let row = hand.row(&world, other, page(&world, 2, (0, 1), "forged"));
    world.receive(ALICE, &[row]).await;
    assert_eq!(world.devices[ALICE].reasons(), ["wrong_group", "not_a_member"]);
    hand.group = group;
    let row = hand.row(&world, group, page(&world, 3, (0, 1), "shared"));
    world.receive(ALICE, &[row]).await;
    assert_eq!(told(&world, ALICE), ["bob:a.example carol:a.example shared"]);
}

/// Bob shares in a channel with a client that does not know what that is.
#[tokio::test]
async fn who_may_not_write_in_a_channel_does_not_speak_there_by_sharing() {
    let (mut world, group) = {
        let mut world = World::with(&["alice", "bob", "carol"]).await;
        let new = NewGroup { is_channel: true, ..pairwise() };
        let group = world.create_group_as(ALICE, new).await;
        for who in [BOB, CAROL] {
            world.add(ALICE, group, who, Role::Member).await;
        }
        world.sync_all().await;
        (world, group)
    };
    let other = world.create_group(BOB).await;
    world.add(BOB, other, ALICE, Role::Member).await;
    world.sync_all().await;
    world.send(BOB, other, "hello").await;
    world.sync_all().await;
    let mut hand = Hand::new(&world, group).await;
    let row = hand.row(&world, group, page(&world, 1, (0, 1), "said in a channel"));
    world.receive(ALICE, &[row]).await;
    assert!(told(&world, ALICE).is_empty());
    assert_eq!(world.devices[ALICE].reasons(), ["dropped_in_channel"]);
    let carol = world.devices[CAROL].id();
    let by_him = share(&world, BOB, group, ALICE, vec![past(carol, 1, "x")]).await;
    assert!(matches!(by_him, Err(ShareError::Channel)), "{by_him:?}");
}

#[tokio::test]
async fn a_page_comes_once_and_a_share_stays_what_it_was() {
    let (mut world, group, mut hand) = acquainted().await;
    let before = own(&world).await;
    let mut rows = Vec::new();
    for (of, body) in
        [((0, 2), "first"), ((0, 2), "otherwise"), ((1, 3), "longer"), ((1, 2), "last")]
    {
        rows.push(hand.row(&world, group, page(&world, 1, of, body)));
    }
    for row in rows.clone() {
        world.receive(ALICE, &[row]).await;
        world.devices[ALICE].restart().await;
    }
    // The same envelopes once more.
    for row in rows {
        world.receive(ALICE, &[row]).await;
    }
    let wanted = ["bob:a.example carol:a.example first", "bob:a.example carol:a.example last"];
    assert_eq!(told(&world, ALICE), wanted);
    assert_eq!(world.devices[ALICE].reasons(), ["another_share"]);
    // Envelopes that were had, and nothing else.
    let after = own(&world).await;
    assert_eq!(after[1..], before[1..]);
}

#[tokio::test]
async fn a_flood_is_cut_off_and_said_once() {
    let (mut world, group, mut hand) = acquainted().await;
    // Shares without an end: eight of them are begun in a day.
    for share in 0..100 {
        let row = hand.row(&world, group, page(&world, share, (0, 2), "begun"));
        world.receive(ALICE, &[row]).await;
    }
    assert_eq!(pasts(&world, ALICE).len(), 8);
    assert_eq!(world.count(ALICE, "SELECT COUNT(*) FROM heard_shares").await, 8);
    // Whole ones: so many pages in a day, good and bad ones together.
    for share in 100..=255 {
        for _ in 0..2 {
            let row = hand.row(&world, group, page(&world, share, (0, 1), "whole"));
            world.receive(ALICE, &[row]).await;
        }
    }
    let reasons = world.devices[ALICE].reasons();
    let count = |reason: &str| reasons.iter().filter(|r| **r == reason).count();
    assert_eq!((count("too_many_shares"), count("too_much_shared")), (92, 1));
    assert_eq!(reasons.len(), 93);
    assert_eq!(pasts(&world, ALICE).len(), 8 + (256 - 100) / 2);
    // Another member's is taken as ever.
    let bob = world.devices[BOB].id();
    // Numbers that the server has not given.
    world.devices[ALICE].acked = 0;
    share(&world, CAROL, group, ALICE, vec![past(bob, 1, "hello")]).await.unwrap();
    world.sync_all().await;
    assert_eq!(told(&world, ALICE).last().unwrap(), "carol:a.example bob:a.example hello");
    // And his the next day: what was begun may still end.
    world.now += DAY;
    for (share, of) in [(0, (1, 2)), (7, (1, 2)), (8, (0, 1))] {
        let row = hand.row(&world, group, page(&world, share, of, "next day"));
        world.receive(ALICE, &[row]).await;
    }
    assert_eq!(told(&world, ALICE).iter().filter(|told| told.ends_with("next day")).count(), 3);
    // What never ended is not known for ever.
    world.now += 32 * DAY;
    let (device, now) = (&world.devices[ALICE], world.time());
    let mut tx = device.db.begin().await.unwrap();
    device.machine.expire(&mut tx, now).await.unwrap();
    tx.commit().await.unwrap();
    for table in ["SELECT COUNT(*) FROM heard_shares", "SELECT COUNT(*) FROM sharers"] {
        assert_eq!(world.count(ALICE, table).await, 0);
    }
}

#[tokio::test]
async fn what_is_no_page_changes_nothing() {
    let (mut world, group, mut hand) = acquainted().await;
    let (from, to) = (world.devices[BOB].id(), world.devices[ALICE].id());
    let route = Route { group, from, to };
    let good = page(&world, 1, (0, 1), "x");
    let bytes = OlmPlaintext::History(route, good.clone()).to_bytes().unwrap();
    let at = 2 + 96 + 16;
    let mut rows = Vec::new();
    for wrong in [[0, 1, 0, 1, 0, 1], [255; 6], [0, 0, 0, 33, 0, 1], [0, 0, 0, 1, 0, 0]] {
        let mut said = bytes.to_vec();
        said[at..at + 6].copy_from_slice(&wrong);
        rows.push(hand.sealed(&world, &said));
    }
    let mut not_text = bytes.to_vec();
    *not_text.last_mut().unwrap() = 0xff;
    rows.push(hand.sealed(&world, &not_text));
    // A key request in the envelope of a share.
    rows.push(
        hand.sealed(&world, &OlmPlaintext::Acknowledgement(route, Vec::new()).to_bytes().unwrap()),
    );
    world.receive(ALICE, &rows).await;
    let mut wanted = vec!["bad_plaintext"; 5];
    wanted.push("wrong_kind");
    assert_eq!(world.devices[ALICE].reasons(), wanted);
    assert_eq!(world.count(ALICE, "SELECT COUNT(*) FROM sharers").await, 0);
    // More than fits an envelope: no server takes it, and who gets it all the same refuses it.
    let long = page(&world, 2, (0, 1), &"x".repeat(MAX_PLAINTEXT + 1_000));
    let row = hand.row(&world, group, long);
    assert!(row.envelope.payload.len() > 45_000 && row.envelope.check().is_err());
    world.receive(ALICE, &[row]).await;
    assert_eq!(world.devices[ALICE].reasons().last(), Some(&"bad_envelope"));
    assert!(told(&world, ALICE).is_empty());
}
