//! What became of a link is known to every holder, from the others and not from the server.

use causeway_protocol::{
    envelope::Kind,
    ids::{GroupId, InviteKey},
    invite::Link,
    roster::Role,
};

use super::{
    ALICE, BOB, CAROL, garden,
    invites::{invite, is_in, request, revoke},
};
use crate::world::World;

/// Alice and Bob are admins of a group, and hold a link that Alice made.
async fn two_holders(uses: u32) -> (World, GroupId, Link) {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.promote(ALICE, group, BOB).await;
    world.sync_all().await;
    let link = invite(&mut world, ALICE, group, uses).await;
    world.sync_all().await;
    (world, group, link)
}

/// The server shows a request to this holder alone, and says nothing of revocation or uses.
async fn ask_only(world: &mut World, holder: usize, asker: usize, link: &Link) {
    let request = request(world, asker, link).await.unwrap();
    let before = world.mailboxes.clone();
    world.ask_to_join(link.terms.group, &request);
    world.requests.clear();
    let mine = world.devices[holder].id();
    for (device, mailbox) in &mut world.mailboxes {
        if *device != mine {
            mailbox.clone_from(&before[device]);
        }
    }
    world.sync(holder).await;
}

#[tokio::test]
async fn a_link_that_was_taken_back_is_dead_at_every_holder() {
    let (mut world, group, link) = two_holders(1).await;
    let carol = world.register("carol").await;
    revoke(&world, ALICE, group, &link).await;
    world.sync_all().await;
    ask_only(&mut world, BOB, carol, &link).await;
    assert!(!is_in(&world, group, carol));
}

#[tokio::test]
async fn an_admin_takes_back_anothers_link() {
    let (mut world, group, link) = two_holders(1).await;
    let carol = world.register("carol").await;
    revoke(&world, BOB, group, &link).await;
    world.sync_all().await;
    ask_only(&mut world, ALICE, carol, &link).await;
    assert!(!is_in(&world, group, carol));
}

#[tokio::test]
async fn a_word_that_was_lost_comes_again_with_the_next_op() {
    let (mut world, group, link) = two_holders(1).await;
    let carol = world.register("carol").await;
    let dave = world.register("dave").await;
    revoke(&world, ALICE, group, &link).await;
    world.sync(ALICE).await;
    let id = world.devices[BOB].id();
    let mailbox = world.mailboxes.get_mut(&id).unwrap();
    let lost = mailbox.pop().unwrap();
    assert_eq!(lost.envelope.kind, Kind::Direct);
    world.add(ALICE, group, dave, Role::Member).await;
    world.sync_all().await;
    ask_only(&mut world, BOB, carol, &link).await;
    assert!(!is_in(&world, group, carol));
}

#[tokio::test]
async fn a_link_that_comes_after_its_revocation_is_dead_too() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.promote(ALICE, group, BOB).await;
    world.sync_all().await;
    let link = invite(&mut world, ALICE, group, 1).await;
    world.sync_all().await;
    // Carol is told by Alice that it is taken back before Bob, who makes her an admin, gives it.
    world.promote(BOB, group, CAROL).await;
    world.sync(ALICE).await;
    revoke(&world, ALICE, group, &link).await;
    for _ in 0..3 {
        world.sync(ALICE).await;
        world.sync(CAROL).await;
    }
    for _ in 0..3 {
        world.chores(BOB).await;
    }
    let dave = world.register("dave").await;
    world.sync(CAROL).await;
    ask_only(&mut world, CAROL, dave, &link).await;
    assert!(!is_in(&world, group, dave));
}

#[tokio::test]
async fn who_is_no_admin_takes_back_nothing_of_others() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let link = invite(&mut world, ALICE, group, 1).await;
    world.promote(ALICE, group, BOB).await;
    world.sync_all().await;
    revoke(&world, BOB, group, &link).await;
    let account = world.devices[BOB].account();
    let device = &world.devices[ALICE];
    let mut tx = device.db.begin().await.unwrap();
    let now = world.time();
    let op = device.machine.set_role(&mut tx, now, group, &account, Role::Member).await.unwrap();
    drop(tx);
    world.post_op(ALICE, op).await;
    world.sync_all().await;
    let carol = world.register("carol").await;
    ask_only(&mut world, ALICE, carol, &link).await;
    assert!(is_in(&world, group, carol));
}

#[tokio::test]
async fn a_use_counts_at_every_holder_whoever_was_asked() {
    let (mut world, group, link) = two_holders(1).await;
    let carol = world.register("carol").await;
    let dave = world.register("dave").await;
    ask_only(&mut world, ALICE, carol, &link).await;
    assert!(is_in(&world, group, carol));
    ask_only(&mut world, BOB, dave, &link).await;
    assert!(!is_in(&world, group, dave));
}

#[tokio::test]
async fn a_use_that_all_have_seen_counts_once() {
    let (mut world, group, link) = two_holders(2).await;
    for name in ["carol", "dave", "eve"] {
        let who = world.register(name).await;
        let asked = request(&world, who, &link).await.unwrap();
        world.ask_to_join(group, &asked);
        world.sync_all().await;
    }
    assert_eq!((2..=4).filter(|who| is_in(&world, group, *who)).count(), 2);
    for holder in [ALICE, BOB] {
        assert_eq!(world.count(holder, "SELECT used FROM invites").await, 2);
        assert_eq!(world.count(holder, "SELECT COUNT(*) FROM owed_words").await, 0);
    }
}

#[tokio::test]
async fn whoever_is_given_a_link_later_hears_who_has_used_it() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let link = invite(&mut world, ALICE, group, 1).await;
    let carol = world.register("carol").await;
    ask_only(&mut world, ALICE, carol, &link).await;
    assert!(is_in(&world, group, carol));
    // A link that is used up is given to nobody; this one is not, by what it says.
    let link = invite(&mut world, ALICE, group, 2).await;
    let dave = world.register("dave").await;
    ask_only(&mut world, ALICE, dave, &link).await;
    world.promote(ALICE, group, BOB).await;
    world.sync_all().await;
    assert_eq!(world.count(BOB, "SELECT used FROM invites").await, 1);
}

#[tokio::test]
async fn what_is_said_of_a_link_ends_with_it() {
    let (mut world, group, link) = two_holders(2).await;
    let carol = world.register("carol").await;
    ask_only(&mut world, ALICE, carol, &link).await;
    revoke(&world, ALICE, group, &link).await;
    world.sync_all().await;
    let rows = "SELECT (SELECT COUNT(*) FROM link_uses) + (SELECT COUNT(*) FROM revoked_links)";
    assert_eq!(world.count(BOB, rows).await, 2);
    world.now += 400 * 24 * 3_600_000;
    for who in [ALICE, BOB] {
        let device = &world.devices[who];
        let mut tx = device.db.begin().await.unwrap();
        device.machine.expire(&mut tx, world.time()).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(world.count(who, rows).await, 0);
    }
}

/// Owes words of so many links to a device that has no keys, and to Bob.
async fn much_is_owed(links: u8) -> (World, GroupId) {
    let (mut world, group, _) = two_holders(1).await;
    let absent = world.register("absent").await;
    world.without_keys(absent);
    world.add(ALICE, group, absent, Role::Admin).await;
    world.sync(ALICE).await;
    world.now += 1;
    for n in 0..links {
        for m in 0..2 {
            let device = &world.devices[ALICE];
            let mut tx = device.db.begin().await.unwrap();
            let key = InviteKey::new([n, m].repeat(16).try_into().unwrap());
            device.machine.revoke_invite(&mut tx, world.time(), group, &key).await.unwrap();
            tx.commit().await.unwrap();
        }
    }
    (world, group)
}

/// Found by an attack: words for devices without keys held back everybody's.
#[tokio::test]
async fn words_that_cannot_go_hold_nothing_back() {
    let (mut world, group) = much_is_owed(180).await;
    for _ in 0..4 {
        world.sync(ALICE).await;
    }
    let owed = "SELECT COUNT(*) FROM owed_words";
    assert_eq!(world.count(ALICE, owed).await, 360, "Bob was told of all");
    assert_eq!(world.count(ALICE, "SELECT COUNT(DISTINCT device) FROM owed_words").await, 1);
    world.sync(BOB).await;
    assert_eq!(world.count(BOB, "SELECT COUNT(*) FROM revoked_links").await, 360);
    // Links that are owed hold nothing back either.
    for _ in 0..300 {
        invite(&mut world, ALICE, group, 1).await;
    }
    for _ in 0..4 {
        world.sync(ALICE).await;
    }
    assert_eq!(world.count(ALICE, "SELECT COUNT(*) FROM owed_invites").await, 301);
    world.sync(BOB).await;
    assert_eq!(world.count(BOB, "SELECT COUNT(*) FROM invites").await, 250, "of one maker");
    // They go when the device can be reached, and at once.
    let absent = world.devices.len() - 1;
    world.sync(absent).await;
    world.send(absent, group, "I am here").await;
    for _ in 0..4 {
        world.sync(ALICE).await;
    }
    assert_eq!(world.count(ALICE, owed).await, 0);
    assert_eq!(world.count(ALICE, "SELECT COUNT(*) FROM owed_invites").await, 0);
}

#[tokio::test]
async fn what_is_owed_ends_when_it_could_not_be_told_for_a_month() {
    let (mut world, _) = much_is_owed(2).await;
    world.sync(ALICE).await;
    let owed = "SELECT (SELECT COUNT(*) FROM owed_words) + (SELECT COUNT(*) FROM owed_invites)";
    for (days, left) in [(30, 5), (2, 0)] {
        world.now += days * 24 * 3_600_000;
        let device = &world.devices[ALICE];
        let mut tx = device.db.begin().await.unwrap();
        device.machine.expire(&mut tx, world.time()).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(world.count(ALICE, owed).await, left, "{days}");
    }
}

/// Carol, a mere member of the group of the link, has a group of her own in which Alice is an admin.
async fn a_group_of_carols() -> (World, GroupId, GroupId, Link) {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.promote(ALICE, group, BOB).await;
    world.sync_all().await;
    let link = invite(&mut world, ALICE, group, 1).await;
    let hers = world.create_group(CAROL).await;
    world.add(CAROL, hers, ALICE, Role::Admin).await;
    world.sync_all().await;
    (world, group, hers, link)
}

#[tokio::test]
async fn a_word_in_one_group_is_none_about_a_link_of_another() {
    let (mut world, group, hers, link) = a_group_of_carols().await;
    revoke(&world, CAROL, hers, &link).await;
    world.sync_all().await;
    let dave = world.register("dave").await;
    ask_only(&mut world, ALICE, dave, &link).await;
    assert!(is_in(&world, group, dave));
}

#[tokio::test]
async fn a_word_in_another_group_keeps_no_link_from_being_taken_back() {
    let (mut world, group, hers, link) = a_group_of_carols().await;
    revoke(&world, CAROL, hers, &link).await;
    world.sync_all().await;
    revoke(&world, ALICE, group, &link).await;
    world.sync_all().await;
    let dave = world.register("dave").await;
    ask_only(&mut world, BOB, dave, &link).await;
    assert!(!is_in(&world, group, dave));
}
