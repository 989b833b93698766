//! History that a member shares on purpose: in his words, once, and to whom he says.

mod hostile;

use causeway_groups::{
    machine::{NewGroup, Past, ShareError, Sharing, What},
    schemes::legacy::Suite,
};
use causeway_protocol::{
    content::TextKind,
    envelope::Kind,
    ids::{ClientId, DeviceId, GroupId, Timestamp},
    olm_plaintext::PastText,
    roster::{Role, Scheme},
};

use super::{ALICE, BOB, CAROL, crash, garden, pairwise::pairwise};
use crate::world::World;

const DAY: u64 = 24 * 3_600_000;

/// A text that a device is said to have sent.
fn past(device: DeviceId, name: u8, body: &str) -> PastText {
    PastText {
        device,
        client_id: ClientId::new([name; 16]),
        sent_at: Timestamp(1_700_000_000_000),
        kind: TextKind::Text,
        mirror: None,
        body: body.to_owned(),
    }
}

async fn share(
    world: &World,
    who: usize,
    group: GroupId,
    to: usize,
    texts: Vec<PastText>,
) -> Result<Sharing, ShareError> {
    let member = world.devices[to].machine.me().record.member_id;
    let (device, now) = (&world.devices[who], world.time());
    let mut tx = device.db.begin().await.unwrap();
    let sharing = device.machine.share_history(&mut tx, now, group, &member, texts).await?;
    tx.commit().await.unwrap();
    Ok(sharing)
}

fn pasts(world: &World, who: usize) -> Vec<&Past> {
    let received = world.devices[who].received.iter();
    received
        .filter_map(|r| if let What::Past(past) = &r.what { Some(past) } else { None })
        .collect()
}

/// By whom, of whom, what.
fn told(world: &World, who: usize) -> Vec<String> {
    let lines = |past: &Past| {
        let by = past.by.clone();
        let line = move |(account, text): &(_, PastText)| format!("{by} {account} {}", text.body);
        past.texts.iter().map(line).collect::<Vec<_>>()
    };
    pasts(world, who).into_iter().flat_map(lines).collect()
}

fn is_quiet(world: &World) -> bool {
    world.devices.iter().all(|device| device.reasons().is_empty())
}

/// What is owed, kept and finished at a device.
async fn left(world: &World, who: usize) -> i64 {
    world
        .count(
            who,
            "SELECT (SELECT COUNT(*) FROM owed_shares) + (SELECT COUNT(*) FROM share_pages)
                 + (SELECT COUNT(*) FROM outgoing WHERE kind = 4)",
        )
        .await
}

#[tokio::test]
async fn one_who_came_later_gets_what_is_shared_in_every_scheme_and_nobody_else_does() {
    let of = |scheme| NewGroup { scheme, ..pairwise() };
    let kinds = [
        Ok(of(Scheme::SenderKeys)),
        Ok(of(Scheme::Pairwise)),
        Ok(of(Scheme::SharedKey)),
        Err(Suite::OpusV1),
        Err(Suite::RenA),
    ];
    for kind in kinds {
        let mut world = World::with(&["alice", "bob", "carol"]).await;
        let group = match kind {
            Ok(new) => world.create_group_as(ALICE, new).await,
            Err(suite) => world.create_legacy_group(ALICE, suite).await,
        };
        world.add(ALICE, group, BOB, Role::Member).await;
        world.sync_all().await;
        world.send(BOB, group, "before").await;
        world.sync_all().await;
        world.add(ALICE, group, CAROL, Role::Member).await;
        world.sync_all().await;
        let (alice, bob) = (world.devices[ALICE].id(), world.devices[BOB].id());
        let texts = vec![past(bob, 1, "before"), past(alice, 2, "too")];
        let sharing = share(&world, ALICE, group, CAROL, texts).await.unwrap();
        assert_eq!((sharing.texts, sharing.left_out), (2, 0));
        assert_eq!(sharing.devices, [world.devices[CAROL].id()]);
        world.sync_all().await;
        let wanted =
            ["alice:a.example bob:a.example before", "alice:a.example alice:a.example too"];
        assert_eq!(told(&world, CAROL), wanted);
        assert_eq!(world.devices[CAROL].texts(), Vec::<String>::new());
        assert!(pasts(&world, BOB).is_empty() && pasts(&world, ALICE).is_empty());
        assert!(is_quiet(&world));
        assert_eq!(left(&world, ALICE).await, 0);
        // What goes on is read as ever.
        world.send(BOB, group, "after").await;
        world.sync_all().await;
        assert_eq!(world.devices[CAROL].texts(), ["after"]);
    }
}

/// Texts that fill three pages.
fn three_pages(device: DeviceId) -> Vec<PastText> {
    (0..6).map(|n| past(device, n, &format!("{n}{}", "x".repeat(20_000)))).collect()
}

#[tokio::test]
async fn killed_after_any_step_each_text_comes_once() {
    for step in 0..40 {
        let (mut world, group) = garden(&["alice", "bob"]).await;
        let texts = three_pages(world.devices[ALICE].id());
        share(&world, ALICE, group, BOB, texts).await.unwrap();
        world.dies_in = Some(step);
        world.sync_all().await;
        let is_over = world.dies_in.take().is_some();
        world.sync_all().await;
        // Told before its process died, and again: what is told without a commit is not kept.
        let begins: Vec<_> = pasts(&world, BOB)
            .iter()
            .flat_map(|p| &p.texts)
            .map(|(_, t)| t.body[..1].to_owned())
            .collect();
        assert_eq!(begins, ["0", "1", "2", "3", "4", "5"], "{step}");
        assert_eq!(left(&world, ALICE).await, 0, "{step}");
        assert_eq!(world.count(BOB, "SELECT lacking FROM heard_shares").await, 0);
        assert!(is_quiet(&world), "{step}");
        if is_over {
            assert!(step > 4, "{step}");
            return;
        }
    }
    panic!("it dies no more after forty steps");
}

#[tokio::test]
async fn a_sharer_that_was_put_back_gives_nothing_twice() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    world.send(ALICE, group, "hello").await;
    world.sync_all().await;
    let texts = three_pages(world.devices[ALICE].id());
    share(&world, ALICE, group, BOB, texts).await.unwrap();
    let backup = crash::back_up(&mut world, ALICE).await;
    world.sync_all().await;
    assert_eq!(told(&world, BOB).len(), 6);
    crash::put_back(&mut world, ALICE, &backup).await;
    world.sync_all().await;
    assert_eq!(told(&world, BOB).len(), 6);
    assert_eq!(left(&world, ALICE).await, 0);
    assert!(is_quiet(&world));
}

#[tokio::test]
async fn every_page_fits_an_envelope_also_the_first_of_a_session() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    // As full as a page can be.
    let body = "x".repeat(44_000 - 120 - 60);
    let alice = world.devices[ALICE].id();
    let texts =
        vec![past(alice, 1, &body), past(alice, 2, &"y".repeat(44_000)), past(alice, 3, "z")];
    let sharing = share(&world, ALICE, group, BOB, texts).await.unwrap();
    assert_eq!((sharing.texts, sharing.left_out), (2, 1));
    world.sync_all().await;
    let sent = world.mailboxes[&world.devices[BOB].id()].iter();
    let sizes: Vec<_> = sent
        .filter(|row| row.envelope.kind == Kind::Direct)
        .map(|row| row.envelope.payload.len())
        .collect();
    assert!(!sizes.is_empty() && sizes.iter().all(|size| *size <= 45_000), "{sizes:?}");
    assert!(sizes.iter().any(|size| *size > 44_000), "{sizes:?}");
    assert_eq!(told(&world, BOB).len(), 2);
}

#[tokio::test]
async fn nothing_goes_to_or_comes_from_who_is_out() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    let alice = world.devices[ALICE].id();
    // Taken out before it went.
    share(&world, ALICE, group, CAROL, vec![past(alice, 1, "one")]).await.unwrap();
    world.remove(ALICE, group, CAROL).await;
    world.sync_all().await;
    assert!(told(&world, CAROL).is_empty());
    assert_eq!(left(&world, ALICE).await, 0);
    // Given when he was in; who was given it reads of his removal first.
    let bob = world.devices[BOB].id();
    share(&world, BOB, group, ALICE, vec![past(bob, 1, "two")]).await.unwrap();
    while !world.chores(BOB).await {}
    let row = world.waiting(ALICE).pop().unwrap();
    assert_eq!(row.envelope.kind, Kind::Direct);
    world.mailboxes.get_mut(&alice).unwrap().pop();
    world.remove(ALICE, group, BOB).await;
    world.sync_all().await;
    world.receive(ALICE, &[row]).await;
    assert!(told(&world, ALICE).is_empty());
    assert_eq!(world.devices[ALICE].reasons(), ["not_a_member"]);
    let shared = share(&world, BOB, group, ALICE, vec![past(bob, 1, "three")]).await;
    assert!(matches!(shared, Err(ShareError::Seal(_))), "{shared:?}");
    let shared = share(&world, ALICE, group, BOB, vec![past(bob, 1, "four")]).await;
    assert!(matches!(shared, Err(ShareError::NoDevice)), "{shared:?}");
    let shared = share(&world, ALICE, group, ALICE, vec![past(bob, 1, "five")]).await;
    assert!(matches!(shared, Err(ShareError::NoDevice)), "{shared:?}");
}

#[tokio::test]
async fn a_bridge_neither_gives_nor_gets() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let bridge = world.register("bot").await;
    world.add(ALICE, group, bridge, Role::Bridge).await;
    world.sync_all().await;
    let alice = world.devices[ALICE].id();
    let to_it = share(&world, ALICE, group, bridge, vec![past(alice, 1, "one")]).await;
    assert!(matches!(to_it, Err(ShareError::Bridge)), "{to_it:?}");
    share(&world, bridge, group, BOB, vec![past(alice, 1, "two")]).await.unwrap();
    world.sync_all().await;
    assert!(told(&world, BOB).is_empty());
    assert_eq!(world.devices[BOB].reasons(), ["not_by_a_bridge"]);
    // Between members it is as private as ever: what the bridge is handed is not this.
    share(&world, ALICE, group, BOB, vec![past(alice, 1, "three")]).await.unwrap();
    world.sync_all().await;
    assert_eq!(told(&world, BOB).len(), 1);
    assert!(pasts(&world, bridge).is_empty());
}

#[tokio::test]
async fn what_one_who_has_gone_said_is_said_to_be_of_that_account() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let bob = world.devices[BOB].id();
    world.remove(ALICE, group, BOB).await;
    let carol = world.register("carol").await;
    world.add(ALICE, group, carol, Role::Member).await;
    world.sync_all().await;
    share(&world, ALICE, group, carol, vec![past(bob, 1, "goodbye")]).await.unwrap();
    world.sync_all().await;
    assert_eq!(told(&world, carol), ["alice:a.example bob:a.example goodbye"]);
}

#[tokio::test]
async fn what_cannot_be_given_ends_and_there_is_no_more_of_it_than_so_much() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let carol = world.register("carol").await;
    world.without_keys(carol);
    world.add(ALICE, group, carol, Role::Member).await;
    world.sync_all().await;
    let alice = world.devices[ALICE].id();
    for _ in 0..16 {
        share(&world, ALICE, group, carol, vec![past(alice, 1, "one")]).await.unwrap();
    }
    let more = share(&world, ALICE, group, BOB, vec![past(alice, 1, "one")]).await;
    assert!(matches!(more, Err(ShareError::TooMany)), "{more:?}");
    let all: Vec<_> = (0..33).map(|n| past(alice, n, &"x".repeat(40_000))).collect();
    let more = share(&world, ALICE, group, BOB, all).await;
    assert!(matches!(more, Err(ShareError::TooMuch(33))), "{more:?}");
    let more = share(&world, ALICE, group, BOB, Vec::new()).await;
    assert!(matches!(more, Err(ShareError::Nothing)), "{more:?}");
    world.sync_all().await;
    assert_eq!(left(&world, ALICE).await, 32);
    world.now += 32 * DAY;
    let (device, now) = (&world.devices[ALICE], world.time());
    let mut tx = device.db.begin().await.unwrap();
    device.machine.expire(&mut tx, now).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(left(&world, ALICE).await, 0);
}

/// What `share` has laid out for another device of the same account is nothing special.
#[tokio::test]
async fn a_share_that_comes_before_the_op_that_lets_its_giver_in_waits_for_that() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let dave = world.register("dave").await;
    world.add(ALICE, group, dave, Role::Member).await;
    world.sync(ALICE).await;
    world.sync(dave).await;
    let id = world.devices[BOB].id();
    let op = world.mailboxes.get_mut(&id).unwrap().pop().unwrap();
    assert_eq!(op.envelope.kind, Kind::Roster);
    let alice = world.devices[ALICE].id();
    share(&world, dave, group, BOB, vec![past(alice, 1, "one")]).await.unwrap();
    world.sync(dave).await;
    let shared = world.waiting(BOB);
    // Its sender is not known, so his account is asked for; his membership then is.
    world.receive(BOB, &shared).await;
    assert!(told(&world, BOB).is_empty());
    let account = world.devices[dave].account();
    world.learn(BOB, &account).await;
    assert!(told(&world, BOB).is_empty());
    world.sync_all().await;
    assert_eq!(told(&world, BOB), ["dave:a.example alice:a.example one"]);
    assert!(is_quiet(&world));
}
