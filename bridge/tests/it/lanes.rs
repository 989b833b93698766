//! Lanes wait by no clock of the wall, not for each other, and no shorter because others are busy.

use std::sync::{Arc, atomic::Ordering};

use causeway_bridge::{
    domain::{
        effect::{Effect, Here, InGroup, InRoom},
        portal::PortalId,
    },
    services::{Spine, deliver},
    storage::{
        effects::{Cause, Decided},
        portals,
    },
};
use causeway_protocol::ids::GroupId;
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    harness::{Bridge, START},
    people::PATIENCE,
    stub::Fault,
};

/// More lanes than one look finds.
const MANY: u32 = 1_500;

const HOUR: u64 = 60 * 60 * 1_000;
const DAYS: u64 = 40 * 24 * HOUR;

/// A portal in which bob has said "hi".
async fn spoken_in(bridge: &mut Bridge, number: u8) -> PortalId {
    let portal = bridge.portal(number).await;
    bridge.say(portal, "bob:b.example", "hi").await;
    bridge.drain().await;
    portal
}

fn bodies(bridge: &Bridge) -> Vec<String> {
    bridge.stub.said().into_iter().map(|(_, body)| body).filter(|body| body != "hi").collect()
}

/// One try that is not answered.
async fn fail_once(bridge: &Bridge) {
    bridge.stub.fail("/send/", Fault::Cut);
    bridge.drain().await;
}

#[tokio::test]
async fn a_clock_that_is_put_back_stops_nothing() {
    let mut bridge = Bridge::start().await;
    let portal = spoken_in(&mut bridge, 1).await;
    bridge.say(portal, "bob:b.example", "1").await;
    fail_once(&bridge).await;
    bridge.clock.store(START - HOUR, Ordering::Relaxed);
    bridge.steady.fetch_add(130_000, Ordering::Relaxed);
    bridge.drain().await;
    assert_eq!(bodies(&bridge), ["1"]);
    bridge.say(portal, "bob:b.example", "2").await;
    bridge.drain().await;
    assert_eq!(bodies(&bridge), ["1", "2"]);
}

#[tokio::test]
async fn a_clock_that_is_put_forth_for_a_moment_ends_nothing() {
    let mut bridge = Bridge::start().await;
    let portal = spoken_in(&mut bridge, 1).await;
    bridge.say(portal, "bob:b.example", "1").await;
    // No more: after seven failures a wait may be longer than the moment.
    for moment in [0, DAYS, 0] {
        bridge.clock.fetch_add(moment, Ordering::Relaxed);
        fail_once(&bridge).await;
        bridge.pass(25_000);
        fail_once(&bridge).await;
        bridge.clock.fetch_sub(moment, Ordering::Relaxed);
        bridge.pass(130_000);
    }
    bridge.drain().await;
    assert_eq!((bodies(&bridge), bridge.stats().await.dead_letters), (vec!["1".to_owned()], 0));
}

#[tokio::test]
async fn what_has_outlived_its_time_is_given_up_once_two_looks_agree() {
    let mut bridge = Bridge::start().await;
    let portal = spoken_in(&mut bridge, 1).await;
    bridge.say(portal, "bob:b.example", "1").await;
    fail_once(&bridge).await;
    bridge.pass(DAYS);
    fail_once(&bridge).await;
    assert_eq!(bridge.stats().await.outbox, 1);
    bridge.pass(130_000);
    fail_once(&bridge).await;
    // The word about it waits for a group that nobody here is in.
    let mut read = bridge.spine.db.read().await.unwrap();
    let dead = causeway_bridge::storage::dead_letters::list(&mut read, 0, 9).await.unwrap();
    assert!(dead.iter().any(|letter| letter.reason.contains("its time has passed")), "{dead:?}");
}

#[tokio::test]
async fn a_room_that_fails_is_not_tried_more_often_because_others_are_busy() {
    for fault in [
        Fault::Cut,
        Fault::Answer(500, json!({"errcode": "M_UNKNOWN"})),
        Fault::Answer(429, json!({"errcode": "M_LIMIT_EXCEEDED"})),
    ] {
        let mut bridge = Bridge::start().await;
        let portal = spoken_in(&mut bridge, 1).await;
        bridge.say(portal, "bob:b.example", "never").await;
        // Its wait has come to half a minute and more.
        for _ in 0..20 {
            bridge.stub.fail("/send/", fault.clone());
            bridge.drain().await;
            bridge.pass(130_000);
        }
        let before = bridge.stub.look(|rooms| rooms.sends);
        for _ in 0..100 {
            bridge.stub.fail("/send/", fault.clone());
        }
        for txn in 0..100 {
            bridge.push_as(&txn.to_string(), &[]).await;
            bridge.drain().await;
            bridge.pass(10);
        }
        let tries = bridge.stub.look(|rooms| rooms.sends) - before;
        // When its time came, and once since the homeserver showed that it is there.
        assert!(tries <= 3, "{tries}");
    }
}

#[tokio::test]
async fn rooms_that_hang_hold_up_nobody_else() {
    const HANG: u8 = 20;
    let mut bridge = Bridge::start().await;
    let mut portals = Vec::new();
    for number in 0..=HANG {
        portals.push(spoken_in(&mut bridge, number).await);
    }
    let last = portals.pop().unwrap();
    let never = Arc::new(Notify::new());
    let before = bridge.stub.look(|rooms| rooms.sends);
    for portal in portals {
        bridge.stub.fail("/send/", Fault::Late(Arc::clone(&never), json!({})));
        bridge.say(portal, "bob:b.example", "hangs").await;
    }
    let spine = bridge.spine.clone();
    let all_hang = before + usize::from(HANG);
    let heard = async {
        bridge.stub.wait(|rooms| (rooms.sends == all_hang).then_some(())).await;
        bridge.say(last, "bob:b.example", "heard").await;
        bridge.stub.wait(|rooms| (rooms.sends == all_hang + 1).then_some(())).await;
    };
    tokio::select! {
        () = deliver::run(&spine, std::future::pending()) => panic!("it ended"),
        () = heard => {}
    }
    assert_eq!(bodies(&bridge), ["heard"]);
}

/// Has `effects` in each of many portals at once, while nothing else happens, and waits until nothing
/// is left of them.
async fn in_many(bridge: &Bridge, effects: impl Fn(u32) -> Vec<Effect>) {
    let Spine { db, sealer, names, .. } = &bridge.spine;
    let now = bridge.spine.now();
    let all_go_out = async {
        let mut tx = db.begin().await.unwrap();
        let (mut decided, mut portals) = (Decided::default(), Vec::new());
        for number in 0..MANY {
            let (mut group, id) = ([0; 32], number.to_be_bytes());
            group[..4].copy_from_slice(&id);
            let group = GroupId::new(group);
            let mut portal = portals::found(&mut tx, names, now, &group).await.unwrap();
            let cause =
                Cause { id: &id, author: "test", accepted_at: now, expires_at: now.plus_ms(DAYS) };
            decided.take(&mut portal, cause, effects(number));
            portals.push(portal);
        }
        decided.keep(&mut tx, sealer, now, portals.iter_mut()).await.unwrap();
        tx.commit().await.unwrap();
        while bridge.stats().await.outbox > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = deliver::run(&bridge.spine, std::future::pending()) => panic!("it ended"),
        done = tokio::time::timeout(PATIENCE, all_go_out) => {
            assert!(done.is_ok(), "{} rows stand still", bridge.stats().await.outbox);
        }
    }
}

#[tokio::test]
async fn more_rooms_than_one_look_finds_are_all_served_without_another_event() {
    let bridge = Bridge::start().await;
    in_many(&bridge, |number| {
        let body = json!({"room_alias_name": number.to_string(), "initial_state": []});
        let bot = bridge.spine.names.bot().as_str();
        let made = bridge.stub.look(|rooms| rooms.create(bot, &body)).unwrap();
        let room = made["room_id"].as_str().unwrap().try_into().unwrap();
        let word = InRoom::Notice(number.to_string());
        vec![Effect::Here(Here::Made(room)), Effect::InRoom(word)]
    })
    .await;
    assert_eq!(bodies(&bridge).len(), MANY as usize);
}

/// Nobody is there to hear it, which buries it: that is an outcome too.
#[tokio::test]
async fn more_groups_than_one_look_finds_are_all_served_without_another_event() {
    let bridge = Bridge::start().await;
    in_many(&bridge, |number| vec![Effect::InGroup(InGroup::Notice(number.to_string()))]).await;
    assert_eq!(bridge.stats().await.dead_letters, i64::from(MANY));
}
