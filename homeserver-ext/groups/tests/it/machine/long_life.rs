//! A group's long life, in every scheme: who was away for a month, whose creator is gone, and two
//! admins who act at once.

use std::collections::BTreeMap;

use causeway_groups::machine::{NewGroup, SealError};
use causeway_protocol::{
    api::OpBytes,
    envelope::Kind,
    ids::GroupId,
    roster::{Role, Scheme},
};

use super::{ALICE, BOB, CAROL};
use crate::world::{World, text};

const DAN: usize = 3;
const EVE: usize = 4;
const DAY: u64 = 86_400_000;
const SCHEMES: [Scheme; 3] = [Scheme::SenderKeys, Scheme::Pairwise, Scheme::SharedKey];

/// Alice's group, which keeps what is said for 29 days, and its keys for 30, with the first `members` of five people in it.
async fn garden(scheme: Scheme, members: usize) -> (World, GroupId) {
    let mut world = World::with(&["alice", "bob", "carol", "dan", "eve"]).await;
    let new = NewGroup { scheme, ttl_s: 29 * 86_400, ..super::pairwise::pairwise() };
    let group = world.create_group_as(ALICE, new).await;
    for who in 1..members {
        world.add(ALICE, group, who, Role::Member).await;
    }
    world.sync_all().await;
    (world, group)
}

/// Everybody but these reads what waits, and does what is due.
async fn sync_without(world: &mut World, away: &[usize]) {
    for _ in 0..3 {
        world.now += 5_000;
        for who in (0..world.devices.len()).filter(|who| !away.contains(who)) {
            world.sync(who).await;
        }
    }
}

/// What each of these says is read by all others of them.
async fn all_talk(world: &mut World, group: GroupId, people: &[usize], away: &[usize]) {
    let before: Vec<usize> = people.iter().map(|who| world.devices[*who].texts().len()).collect();
    for who in people {
        world.send(*who, group, &format!("from {who}")).await;
        sync_without(world, away).await;
    }
    for (who, before) in people.iter().zip(before) {
        let heard = world.devices[*who].texts().split_off(before);
        let others = people.iter().filter(|other| *other != who);
        let said: Vec<String> = others.map(|other| format!("from {other}")).collect();
        assert_eq!(heard, said, "{who}");
    }
}

fn nothing_failed(world: &World, scheme: Scheme) {
    for (who, device) in world.devices.iter().enumerate() {
        assert!(device.reasons().is_empty(), "{scheme:?}, {who}: {:?}", device.reasons());
    }
}

#[tokio::test]
async fn whoever_was_away_for_a_month_reads_all_that_the_server_still_has() {
    for scheme in SCHEMES {
        let (mut world, group) = garden(scheme, 3).await;
        world.came = Some(BTreeMap::default());
        let mut good = Vec::new();
        for day in 0..36 {
            // Meanwhile somebody comes, and somebody else is put out.
            match day {
                10 => world.add(ALICE, group, DAN, Role::Member).await,
                20 => world.remove(ALICE, group, BOB).await,
                _ => {}
            }
            let speakers: &[usize] = match day {
                0..10 => &[ALICE, BOB],
                10..20 => &[ALICE, BOB, DAN],
                _ => &[ALICE, DAN],
            };
            sync_without(&mut world, &[CAROL]).await;
            for who in speakers {
                let body = format!("{who} on day {day}");
                world.send(*who, group, &body).await;
                sync_without(&mut world, &[CAROL]).await;
                // She is back at the end of day 35, and what is older than 29 days is over.
                if day >= 7 {
                    good.push(body);
                }
            }
            world.now += DAY - 60_000;
        }
        world.sync_all().await;
        let carol = &world.devices[CAROL];
        // Each one's in order; Dan's when she knows who he is.
        let of = |all: &[String], who: usize| {
            let his = |said: &&String| said.starts_with(&format!("{who} "));
            all.iter().filter(his).cloned().collect::<Vec<_>>()
        };
        let texts = carol.texts();
        let lacking: Vec<_> = good.iter().filter(|said| !texts.contains(said)).collect();
        assert!(lacking.is_empty(), "{scheme:?}: {lacking:?} {:?}", carol.reasons());
        assert_eq!(texts.len(), good.len(), "{scheme:?}");
        for who in [ALICE, BOB, DAN] {
            assert_eq!(of(&texts, who), of(&good, who), "{scheme:?}");
        }
        assert!(carol.reasons().is_empty(), "{scheme:?}: {:?}", carol.reasons());
        world.devices[CAROL].received.clear();
        all_talk(&mut world, group, &[CAROL, ALICE, DAN], &[]).await;
        assert!(!world.devices[BOB].texts().iter().any(|said| said.contains("from")), "{scheme:?}");
        nothing_failed(&world, scheme);
    }
}

#[tokio::test]
async fn whoever_is_back_is_told_of_no_hourly_word_that_came_too_late() {
    let (mut world, group) = garden(Scheme::SenderKeys, 2).await;
    for _ in 0..3 {
        world.now += 2 * 3_600_000;
        world.send(ALICE, group, "hello").await;
        sync_without(&mut world, &[BOB]).await;
    }
    let messages = world.waiting(BOB);
    assert!(messages.iter().filter(|row| row.envelope.kind == Kind::Message).count() > 3);
    world.now += 31 * DAY;
    world.sync(BOB).await;
    assert_eq!(world.devices[BOB].reasons(), ["expired"; 3]);
}

#[tokio::test]
async fn a_group_whose_creator_has_left_goes_on() {
    for scheme in SCHEMES {
        let (mut world, group) = garden(scheme, 3).await;
        all_talk(&mut world, group, &[ALICE, BOB, CAROL], &[]).await;
        world.promote(ALICE, group, BOB).await;
        world.sync_all().await;
        let now = world.time();
        let mut tx = world.devices[ALICE].db.begin().await.unwrap();
        let op = world.devices[ALICE].machine.leave(&mut tx, now, group).await.unwrap();
        drop(tx);
        world.post_op(ALICE, op).await;
        world.sync_all().await;
        goes_on(&mut world, group).await;
        nothing_failed(&world, scheme);
    }
}

#[tokio::test]
async fn a_group_whose_creator_never_comes_back_goes_on_and_can_put_her_out() {
    for scheme in SCHEMES {
        let (mut world, group) = garden(scheme, 3).await;
        world.promote(ALICE, group, BOB).await;
        world.sync_all().await;
        all_talk(&mut world, group, &[ALICE, BOB, CAROL], &[]).await;
        // From here on she reads and does nothing more.
        for _ in 0..10 {
            world.now += DAY;
            sync_without(&mut world, &[ALICE]).await;
            all_talk(&mut world, group, &[BOB, CAROL], &[ALICE]).await;
        }
        world.remove(BOB, group, ALICE).await;
        sync_without(&mut world, &[ALICE]).await;
        let heard = world.devices[ALICE].texts().len();
        goes_on(&mut world, group).await;
        // All that waits for her is of before.
        world.sync(ALICE).await;
        let since = world.devices[ALICE].texts().split_off(heard);
        assert!(since.iter().all(|said| !said.contains("late")), "{scheme:?}: {since:?}");
    }
}

/// Bob, who is an admin now, lets Dan in; what all of them say is read, for days.
async fn goes_on(world: &mut World, group: GroupId) {
    for day in 0..3 {
        if day == 1 {
            world.add(BOB, group, DAN, Role::Member).await;
            sync_without(world, &[ALICE]).await;
        }
        let people: &[usize] = if day == 0 { &[BOB, CAROL] } else { &[BOB, CAROL, DAN] };
        world.send(BOB, group, "late").await;
        sync_without(world, &[ALICE]).await;
        assert_eq!(world.devices[CAROL].texts().last().unwrap(), "late");
        all_talk(world, group, people, &[ALICE]).await;
        world.now += DAY;
        sync_without(world, &[ALICE]).await;
    }
}

/// An op that takes somebody in, signed and not posted.
async fn taking_in(world: &mut World, who: usize, group: GroupId, whom: usize) -> OpBytes {
    let account = world.devices[whom].account();
    world.learn(who, &account).await;
    let now = world.time();
    let device = &world.devices[who];
    let mut tx = device.db.begin().await.unwrap();
    device.machine.add(&mut tx, now, group, &account, Role::Member).await.unwrap()
}

#[tokio::test]
async fn of_two_admins_at_once_the_second_signs_anew_and_nothing_is_lost() {
    for scheme in SCHEMES {
        let (mut world, group) = garden(scheme, 3).await;
        world.promote(ALICE, group, BOB).await;
        world.sync_all().await;
        // What is sealed before either op is on its way behind both.
        let item = world.outgoing(text("sealed before"));
        let before = world.seal(CAROL, group, std::slice::from_ref(&item)).await.unwrap();

        let first = taking_in(&mut world, ALICE, group, DAN).await;
        let second = taking_in(&mut world, BOB, group, EVE).await;
        world.post_op(ALICE, first).await;
        let ops = world.take_op(&second.0).expect_err("another op is at that epoch");
        world.install(BOB, group, &ops).await;
        let epoch = world.head(group).epoch();
        let anew = taking_in(&mut world, BOB, group, EVE).await;
        assert_ne!(anew.0, second.0);
        world.post_op(BOB, anew).await;
        assert_eq!(world.head(group).epoch().0, epoch.0 + 1, "{scheme:?}");

        if let Err(ops) = world.post(CAROL, &before).await {
            world.install(CAROL, group, &ops).await;
            let anew = world.seal(CAROL, group, &[item]).await.unwrap();
            world.post(CAROL, &anew).await.unwrap();
        }
        world.sync_all().await;
        for who in [ALICE, BOB] {
            assert_eq!(world.devices[who].texts(), ["sealed before"], "{scheme:?}, {who}");
        }
        let members = world.head(group).members().len();
        assert_eq!(members, 5, "{scheme:?}");
        all_talk(&mut world, group, &[ALICE, BOB, CAROL, DAN, EVE], &[]).await;

        // One takes out whom the other makes an admin: whoever is second is told, and decides anew.
        let now = world.time();
        let (dan, eve) = (world.devices[DAN].account(), world.devices[EVE].account());
        let mut tx = world.devices[ALICE].db.begin().await.unwrap();
        let out = world.devices[ALICE].machine.remove(&mut tx, now, group, &dan).await.unwrap();
        drop(tx);
        let mut tx = world.devices[BOB].db.begin().await.unwrap();
        let machine = &world.devices[BOB].machine;
        let up = machine.set_role(&mut tx, now, group, &eve, Role::Admin).await.unwrap();
        drop(tx);
        world.post_op(ALICE, out).await;
        let ops = world.take_op(&up.0).expect_err("another op is at that epoch");
        world.install(BOB, group, &ops).await;
        world.promote(BOB, group, EVE).await;
        world.sync_all().await;
        let head = world.head(group);
        let admins = head.members().values().filter(|member| member.role == Role::Admin).count();
        assert_eq!((head.members().len(), admins), (4, 3), "{scheme:?}");
        all_talk(&mut world, group, &[ALICE, BOB, CAROL, EVE], &[]).await;
        nothing_failed(&world, scheme);
    }
}

/// What this one wants to say is refused here, and nothing of it leaves.
async fn may_not_post(world: &mut World, who: usize, group: GroupId) {
    let item = world.outgoing(text("me too"));
    let sealed = world.seal(who, group, &[item]).await;
    assert!(matches!(sealed, Err(SealError::Channel)), "{who}");
}

#[tokio::test]
async fn only_who_is_an_admin_now_posts_in_a_channel() {
    for scheme in SCHEMES {
        let mut world = World::with(&["alice", "bob", "carol"]).await;
        let new = NewGroup { scheme, is_channel: true, ..super::pairwise::pairwise() };
        let group = world.create_group_as(ALICE, new).await;
        for who in [BOB, CAROL] {
            world.add(ALICE, group, who, Role::Member).await;
        }
        world.send(ALICE, group, "news").await;
        world.sync_all().await;
        may_not_post(&mut world, BOB, group).await;

        world.promote(ALICE, group, BOB).await;
        world.sync_all().await;
        world.devices[BOB].restart().await;
        world.send(BOB, group, "more news").await;
        world.sync_all().await;
        may_not_post(&mut world, CAROL, group).await;

        // What he seals as an admin and posts when he is none any more is refused, and sealed by nobody.
        let item = world.outgoing(text("late news"));
        let late = world.seal(BOB, group, std::slice::from_ref(&item)).await.unwrap();
        let now = world.time();
        let bob = world.devices[BOB].account();
        let mut tx = world.devices[ALICE].db.begin().await.unwrap();
        let machine = &world.devices[ALICE].machine;
        let down = machine.set_role(&mut tx, now, group, &bob, Role::Member).await.unwrap();
        drop(tx);
        world.post_op(ALICE, down).await;
        let ops = world.post(BOB, &late).await.expect_err("of a role that he has no more");
        world.install(BOB, group, &ops).await;
        world.devices[BOB].restart().await;
        may_not_post(&mut world, BOB, group).await;

        world.sync_all().await;
        for (who, heard) in [(ALICE, 1), (BOB, 1), (CAROL, 2)] {
            assert_eq!(world.devices[who].texts().len(), heard, "{scheme:?}, {who}");
        }
        nothing_failed(&world, scheme);
    }
}
