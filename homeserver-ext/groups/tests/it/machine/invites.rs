//! Links and joining: a device that holds the link lets in, and the server cannot.

use causeway_groups::machine::{InviteRefused, What};
use causeway_protocol::{
    ids::{GroupId, Timestamp},
    invite::{Link, LinkRefused},
    roster::Role,
};

use super::{ALICE, BOB, CAROL, garden};
use crate::world::World;

pub(super) async fn invite(world: &mut World, who: usize, group: GroupId, uses: u32) -> Link {
    let now = world.time();
    let device = &world.devices[who];
    let mut tx = device.db.begin().await.unwrap();
    let expires = now.plus_ms(3_600_000);
    let made = device.machine.create_invite(&mut tx, now, group, "a.example", expires, uses).await;
    tx.commit().await.unwrap();
    made.unwrap().0
}

pub(super) async fn request(
    world: &World,
    who: usize,
    link: &Link,
) -> Result<Vec<u8>, InviteRefused> {
    let records = world.account_devices(&link.terms.account).unwrap().devices.clone();
    let device = &world.devices[who];
    let mut tx = device.db.begin().await.unwrap();
    let made = device.machine.join_request(&mut tx, world.time(), link, &records).await;
    made.map(|made| made.request)
}

async fn join(world: &mut World, who: usize, link: &Link) {
    let request = request(world, who, link).await.unwrap();
    world.ask_to_join(link.terms.group, &request);
    world.sync_all().await;
}

pub(super) async fn revoke(world: &World, who: usize, group: GroupId, link: &Link) {
    let device = &world.devices[who];
    let mut tx = device.db.begin().await.unwrap();
    let key = link.terms.secret.key();
    device.machine.revoke_invite(&mut tx, world.time(), group, &key).await.unwrap();
    tx.commit().await.unwrap();
}

pub(super) fn is_in(world: &World, group: GroupId, who: usize) -> bool {
    world.head(group).member(&world.devices[who].machine.me().record.member_id).is_some()
}

#[tokio::test]
async fn whoever_has_the_link_is_let_in_and_reads() {
    let (mut world, group) = garden(&["alice"]).await;
    world.register("bob").await;
    let link = invite(&mut world, ALICE, group, 1).await;
    let link = Link::parse(&link.to_text()).unwrap();
    join(&mut world, BOB, &link).await;
    assert!(is_in(&world, group, BOB));
    world.send(ALICE, group, "welcome").await;
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["welcome"]);
    let asked = world.devices[ALICE].received.iter();
    assert_eq!(asked.filter(|r| matches!(r.what, What::JoinAsked { .. })).count(), 1);
}

#[tokio::test]
async fn a_link_lets_in_as_many_as_it_says() {
    let (mut world, group) = garden(&["alice"]).await;
    for name in ["bob", "carol", "dave"] {
        world.register(name).await;
    }
    let link = invite(&mut world, ALICE, group, 2).await;
    for who in [1, 2, 3] {
        let request = request(&world, who, &link).await.unwrap();
        world.ask_to_join(group, &request);
    }
    world.sync_all().await;
    assert_eq!((1..=3).filter(|who| is_in(&world, group, *who)).count(), 2);
}

#[tokio::test]
async fn another_admin_admits_by_the_link_that_it_was_given() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.promote(ALICE, group, BOB).await;
    world.sync_all().await;
    let link = invite(&mut world, ALICE, group, 1).await;
    // There is no session with Bob's device yet: first a key is claimed.
    world.sync(ALICE).await;
    world.sync(BOB).await;
    let carol = world.register("carol").await;
    let request = request(&world, carol, &link).await.unwrap();
    world.ask_to_join(group, &request);
    // Alice is offline.
    for _ in 0..3 {
        world.sync(BOB).await;
    }
    assert!(is_in(&world, group, carol));
}

#[tokio::test]
async fn a_revoked_or_expired_link_lets_nobody_in() {
    let (mut world, group) = garden(&["alice"]).await;
    world.register("bob").await;
    let link = invite(&mut world, ALICE, group, 1).await;
    revoke(&world, ALICE, group, &link).await;
    join(&mut world, BOB, &link).await;
    assert!(!is_in(&world, group, BOB));

    let link = invite(&mut world, ALICE, group, 1).await;
    let asked = request(&world, BOB, &link).await.unwrap();
    world.now += 3_600_001;
    let refused = request(&world, BOB, &link).await;
    assert!(matches!(refused, Err(InviteRefused::Link(LinkRefused::Expired))));
    world.ask_to_join(group, &asked);
    world.sync_all().await;
    assert!(!is_in(&world, group, BOB));
}

#[tokio::test]
async fn the_server_cannot_let_itself_in() {
    let (mut world, group) = garden(&["alice"]).await;
    world.register("mallory").await;
    let link = invite(&mut world, ALICE, group, 1).await;
    // It knows the invite's public key, and not the secret that is in the link.
    let mut guessed = link.clone();
    guessed.terms.secret =
        causeway_protocol::invite::LinkSecret::new(zeroize::Zeroizing::new([0; 16]));
    guessed.terms.expires = Timestamp(u64::MAX);
    let mut forged = request(&world, BOB, &link).await.unwrap();
    let len = forged.len();
    forged[len - 100] ^= 1;
    world.ask_to_join(group, &forged);
    assert!(matches!(
        request(&world, BOB, &guessed).await,
        Err(InviteRefused::Link(LinkRefused::BadSignature))
    ));
    world.sync_all().await;
    assert!(!is_in(&world, group, BOB));
}

#[tokio::test]
async fn whoever_was_removed_waits_for_a_person() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.remove(ALICE, group, CAROL).await;
    world.sync_all().await;
    let link = invite(&mut world, ALICE, group, 1).await;
    join(&mut world, CAROL, &link).await;
    assert!(!is_in(&world, group, CAROL));
    let device = &world.devices[ALICE];
    let mut tx = device.db.begin().await.unwrap();
    let waiting = device.machine.join_requests(&mut tx).await.unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].account, world.devices[CAROL].account());
    drop(tx);
    // A person says yes: an add by hand.
    world.add(ALICE, group, CAROL, Role::Member).await;
    world.send(ALICE, group, "again").await;
    world.sync_all().await;
    assert_eq!(world.devices[CAROL].texts(), ["again"]);
}

#[tokio::test]
async fn whoever_becomes_admin_later_is_given_the_links_and_the_requests_of_before() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let link = invite(&mut world, ALICE, group, 1).await;
    let carol = world.register("carol").await;
    let asked = request(&world, carol, &link).await.unwrap();
    // Alice is not there when it comes, and Bob may not answer it.
    world.ask_to_join(group, &asked);
    world.sync(BOB).await;
    world.promote(ALICE, group, BOB).await;
    // She goes before she has seen it; her device gives Bob's the link all the same.
    for _ in 0..4 {
        world.chores(ALICE).await;
    }
    for _ in 0..4 {
        world.sync(BOB).await;
    }
    assert!(is_in(&world, group, carol));
    let asked = world.devices[BOB].received.iter();
    assert_eq!(asked.filter(|r| matches!(r.what, What::JoinAsked { .. })).count(), 1);
}

#[tokio::test]
async fn a_request_that_comes_before_its_link_is_judged_when_the_link_comes() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.promote(ALICE, group, BOB).await;
    world.sync_all().await;
    let link = invite(&mut world, ALICE, group, 1).await;
    let carol = world.register("carol").await;
    let asked = request(&world, carol, &link).await.unwrap();
    world.ask_to_join(group, &asked);
    world.sync(BOB).await;
    assert!(!is_in(&world, group, carol));
    for _ in 0..3 {
        world.chores(ALICE).await;
    }
    for _ in 0..3 {
        world.sync(BOB).await;
    }
    assert!(is_in(&world, group, carol));
}

#[tokio::test]
async fn a_request_for_another_group_is_refused() {
    let (mut world, group) = garden(&["alice"]).await;
    let other = world.create_group(ALICE).await;
    world.register("bob").await;
    let link = invite(&mut world, ALICE, group, 1).await;
    let asked = request(&world, BOB, &link).await.unwrap();
    world.ask_to_join(other, &asked);
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].reasons(), ["wrong_group"]);
    assert!(!is_in(&world, group, BOB) && !is_in(&world, other, BOB));
}

/// Found by an attack: links of one admin filled the room that there is for those of all.
#[tokio::test]
async fn links_of_one_admin_leave_room_for_those_of_others() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    for who in [BOB, CAROL] {
        world.promote(ALICE, group, who).await;
    }
    world.sync_all().await;
    for _ in 0..260 {
        invite(&mut world, CAROL, group, 1).await;
    }
    for _ in 0..2 {
        world.sync_all().await;
    }
    invite(&mut world, ALICE, group, 1).await;
    world.sync_all().await;
    let held = "SELECT COUNT(*) FROM invites";
    assert_eq!(world.count(BOB, held).await, 250 + 1);
    assert_eq!(world.count(CAROL, held).await, 260 + 1, "who made them has all");
}
