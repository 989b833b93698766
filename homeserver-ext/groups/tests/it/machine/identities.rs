//! A name is a key: who is given something is who the account is known to be.

use causeway_groups::machine::{IdentityShown, OpError, SealError, Trust, What};
use causeway_protocol::{
    envelope::Kind,
    ids::{AccountId, GroupId, MemberId},
    roster::{Body, Devices, Entry, OpCore, Role},
};

use super::{ALICE, BOB, CAROL, garden, stranger::Stranger};
use crate::world::{World, text};

fn account(name: &str) -> AccountId {
    format!("{name}:a.example").parse().unwrap()
}

fn member(world: &World, who: usize) -> MemberId {
    world.devices[who].machine.me().record.member_id
}

/// What was said to `who` about identities, in this group.
fn shown(world: &World, who: usize, group: GroupId) -> Vec<IdentityShown> {
    let of_group = world.devices[who].received.iter().filter(|r| r.group == group);
    let shown = of_group.filter_map(|r| match &r.what {
        What::Identity(shown) => Some(shown.clone()),
        _ => None,
    });
    shown.collect()
}

/// Why nothing can be sent, if so.
async fn refused(world: &mut World, who: usize, group: GroupId) -> Option<Vec<AccountId>> {
    let item = world.outgoing(text("may I?"));
    match world.seal(who, group, std::slice::from_ref(&item)).await {
        Ok(batch) => {
            world.post(who, &batch).await.unwrap();
            None
        }
        Err(SealError::Changed(accounts)) => Some(accounts),
        Err(other) => panic!("{other}"),
    }
}

async fn decide(
    world: &mut World,
    who: usize,
    name: &str,
    is: MemberId,
    verified: bool,
) -> Result<(), OpError> {
    world.learn(who, &account(name)).await;
    let now = world.time();
    let device = &world.devices[who];
    let mut tx = device.db.begin().await.unwrap();
    device.machine.decide(&mut tx, now, &account(name), is, verified).await?;
    tx.commit().await.unwrap();
    Ok(())
}

async fn trusts(world: &World, who: usize, group: GroupId) -> Vec<(String, Trust)> {
    let device = &world.devices[who];
    let mut tx = device.db.begin().await.unwrap();
    let roster = device.machine.roster(&mut tx, group).await.unwrap().unwrap();
    let trusts = device.machine.trusts(&mut tx, &roster).await.unwrap();
    let mut named: Vec<_> = roster
        .members()
        .iter()
        .map(|(id, member)| (member.account.localpart().to_owned(), trusts[id]))
        .collect();
    named.sort_by_key(|(name, trust)| (name.clone(), trust.name()));
    named
}

/// Keys that the server has for this device.
fn keys_for(world: &World, device: causeway_protocol::ids::DeviceId) -> usize {
    let rows = world.mailboxes.get(&device).into_iter().flatten();
    rows.filter(|row| row.envelope.kind == Kind::KeyDistribution).count()
}

#[tokio::test]
async fn who_bears_a_known_name_over_another_identity_is_given_nothing() {
    let (mut world, garden) = garden(&["alice", "bob"]).await;
    let mallory = Stranger::known_to(&mut world, ALICE).await;
    let (real, forged) = (member(&world, BOB), mallory.record.member_id);
    let trap = mallory.group_as(&mut world, "bob:a.example", ALICE).await;
    let expected = IdentityShown {
        account: account("bob"),
        member_id: forged,
        known: Some(real),
        was_verified: false,
        owner: Some(account("mallory")),
        by_list: false,
    };
    assert_eq!(shown(&world, ALICE, trap), [expected], "said once, with the op");
    for _ in 0..2 {
        assert_eq!(refused(&mut world, ALICE, trap).await, Some(vec![account("bob")]));
        assert_eq!(refused(&mut world, ALICE, garden).await, None, "other groups go on");
        world.devices[ALICE].restart().await;
        world.sync(ALICE).await;
    }
    assert_eq!(shown(&world, ALICE, trap).len(), 1);
    assert_eq!(keys_for(&world, mallory.record.device_id), 0);
    // Nobody can accept what the account has not signed.
    let not_his = decide(&mut world, ALICE, "bob", forged, false).await;
    assert!(matches!(not_his, Err(OpError::OtherIdentity(_))), "{not_his:?}");
    assert_eq!(refused(&mut world, ALICE, trap).await, Some(vec![account("bob")]));
    // Whoever has compared numbers with Bob knows that this is not he.
    decide(&mut world, ALICE, "bob", real, true).await.unwrap();
    assert_eq!(refused(&mut world, ALICE, trap).await, None);
    assert_eq!(keys_for(&world, mallory.record.device_id), 0, "still given nothing");
    let former = ("bob".to_owned(), Trust::Former);
    assert_eq!(trusts(&world, ALICE, trap).await, [("alice".to_owned(), Trust::Me), former]);
    assert_eq!(trusts(&world, ALICE, garden).await[1], ("bob".to_owned(), Trust::Verified));
}

#[tokio::test]
async fn first_contact_compares_the_accounts_own_list_with_what_the_op_says() {
    let mut world = World::with(&["alice", "bob"]).await;
    let mallory = Stranger::known_to(&mut world, BOB).await;
    let trap = mallory.group_as(&mut world, "bob:a.example", ALICE).await;
    world.sync(ALICE).await;
    let [said] = &shown(&world, ALICE, trap)[..] else { panic!("said once") };
    assert_eq!(said.known, Some(member(&world, BOB)));
    assert_eq!(refused(&mut world, ALICE, trap).await, Some(vec![account("bob")]));
    assert_eq!(keys_for(&world, mallory.record.device_id), 0);
}

#[tokio::test]
async fn a_known_identity_under_another_name_is_given_nothing_there() {
    let (mut world, garden) = garden(&["alice", "bob"]).await;
    let mallory = Stranger::known_to(&mut world, ALICE).await;
    let trap = mallory.group_as(&mut world, "mallory:a.example", ALICE).await;
    let bob = world.devices[BOB].machine.me().record.clone();
    let entry = Entry {
        member_id: bob.member_id,
        role: 0,
        account: "dave:a.example".to_owned(),
        legacy_id: String::new(),
        devices: Devices { version: 1, ids: vec![bob.device_id] },
    };
    let head = world.head(trap).clone();
    let (now, body) = (world.time(), Body::Add(vec![entry]));
    let op = mallory.sign(OpCore::next(&head, &mallory.record, now, &body).unwrap());
    world.take_op(&op.0).unwrap();
    world.install(ALICE, trap, &[op]).await;
    let [said] = &shown(&world, ALICE, trap)[..] else { panic!("said once") };
    assert_eq!((&said.account, &said.owner), (&account("dave"), &Some(account("bob"))));
    let before = keys_for(&world, bob.device_id);
    assert_eq!(refused(&mut world, ALICE, trap).await, Some(vec![account("dave")]));
    assert_eq!(keys_for(&world, bob.device_id), before);
    assert_eq!(refused(&mut world, ALICE, garden).await, None);
    assert_eq!(trusts(&world, ALICE, garden).await[1].1, Trust::Pinned, "Bob stays who he is");
}

/// Somebody under my own name, or my identity under another's.
#[tokio::test]
async fn nobody_else_is_me() {
    let mut world = World::with(&["alice"]).await;
    let mallory = Stranger::known_to(&mut world, ALICE).await;
    let trap = mallory.group_as(&mut world, "alice:a.example", ALICE).await;
    let [said] = &shown(&world, ALICE, trap)[..] else { panic!("said once") };
    assert_eq!(said.known, Some(member(&world, ALICE)));
    assert_eq!(refused(&mut world, ALICE, trap).await, Some(vec![account("alice")]));
    let is = decide(&mut world, ALICE, "alice", mallory.record.member_id, true).await;
    assert!(matches!(is, Err(OpError::OtherIdentity(_))));
}

/// Bob has lost everything and has another identity: two admins, and two groups.
#[tokio::test]
async fn a_new_identity_is_taken_by_a_persons_word_and_the_former_gets_nothing_more() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.promote(ALICE, group, CAROL).await;
    world.sync_all().await;
    let other = world.create_group(ALICE).await;
    world.add(ALICE, other, BOB, Role::Member).await;
    world.sync_all().await;
    for group in [group, other] {
        assert_eq!(refused(&mut world, ALICE, group).await, None);
    }
    let (old, old_device) = (member(&world, BOB), world.devices[BOB].id());
    let again = world.register("bob").await;
    // It is long ago that anybody asked for him.
    world.now += 3_600_000;
    let new = member(&world, again);
    // An admin who has not decided cannot add it.
    world.learn(ALICE, &account("bob")).await;
    let [said] = &shown(&world, ALICE, group)[..] else { panic!("said in each group") };
    assert_eq!((said.member_id, said.known, said.by_list), (new, Some(old), true));
    assert_eq!(shown(&world, ALICE, other).len(), 1);
    let mut tx = world.devices[ALICE].db.begin().await.unwrap();
    let now = world.time();
    let machine = &world.devices[ALICE].machine;
    let add = machine.add(&mut tx, now, group, &account("bob"), Role::Member).await;
    assert!(matches!(add, Err(OpError::ChangedIdentity(_))), "{add:?}");
    drop(tx);
    // The other admin decides first.
    decide(&mut world, CAROL, "bob", new, false).await.unwrap();
    world.add(CAROL, group, again, Role::Member).await;
    world.sync(ALICE).await;
    assert_eq!(refused(&mut world, ALICE, group).await, Some(vec![account("bob")]));
    let keys = keys_for(&world, old_device);
    assert_eq!(refused(&mut world, CAROL, group).await, None);
    assert_eq!(keys_for(&world, old_device), keys, "Carol has decided");
    assert_eq!(refused(&mut world, ALICE, other).await, None, "there he is who he was");
    decide(&mut world, ALICE, "bob", new, true).await.unwrap();
    let bobs = trusts(&world, ALICE, group).await;
    assert_eq!(
        bobs[1..3].iter().map(|(_, t)| *t).collect::<Vec<_>>(),
        [Trust::Former, Trust::Verified]
    );
    // Who was given the chain before is not given what is said now.
    world.sync_all().await;
    let read = world.devices[BOB].texts().len();
    for group in [group, other] {
        world.send(ALICE, group, "to the new one").await;
    }
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts().len(), read);
    assert_eq!(world.devices[again].texts(), ["may I?", "to the new one"]);
}

#[tokio::test]
async fn what_somebody_says_whose_identity_changed_is_marked() {
    let (mut world, group) = garden(&["alice", "bob"]).await;
    let again = world.register("bob").await;
    // It is long ago that anybody asked for him.
    world.now += 3_600_000;
    let new = member(&world, again);
    let other = world.create_group(again).await;
    world.add(again, other, ALICE, Role::Member).await;
    world.send(again, other, "it is me").await;
    world.sync_all().await;
    let said: Vec<_> = world.devices[ALICE].messages().iter().map(|m| m.trust).collect();
    assert_eq!(said, [Trust::Changed]);
    assert_eq!(shown(&world, ALICE, other)[0].member_id, new);
    world.send(BOB, group, "no, me").await;
    world.sync_all().await;
    assert_eq!(world.devices[ALICE].messages().last().unwrap().trust, Trust::Pinned);
}

#[tokio::test]
async fn where_nobody_decides_the_server_does_and_nothing_stands_still() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.devices[CAROL].machine = world.devices[CAROL].machine.that_follows_its_server();
    let mallory = Stranger::known_to(&mut world, CAROL).await;
    let trap = mallory.group_as(&mut world, "bob:a.example", CAROL).await;
    assert_eq!(refused(&mut world, CAROL, trap).await, None, "nothing waits for a person");
    assert_eq!(keys_for(&world, mallory.record.device_id), 0);
    let again = world.register("bob").await;
    let new = member(&world, again);
    decide(&mut world, ALICE, "bob", new, false).await.unwrap();
    world.remove(ALICE, group, BOB).await;
    world.add(ALICE, group, again, Role::Member).await;
    world.sync_all().await;
    assert_eq!(shown(&world, CAROL, group).len(), 1, "said once");
    world.send(CAROL, group, "hello").await;
    world.sync_all().await;
    assert_eq!(world.devices[again].texts(), ["hello"]);
    // Whom it knew wrongly, from a database that was put back for example, it asks for.
    let mut tx = world.devices[CAROL].db.begin().await.unwrap();
    let back = "DELETE FROM identities WHERE standing = 'former';
        UPDATE identities SET member_id = randomblob(32) WHERE account = 'bob:a.example';
        UPDATE own SET met = randomblob(8)";
    sqlx::raw_sql(back).execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    world.now += 3_600_000;
    world.send(CAROL, group, "still there?").await;
    world.sync_all().await;
    assert_eq!(world.devices[again].texts(), ["hello", "still there?"]);
}

/// From before identities were kept: everybody in the rosters is met, before anything is sent.
#[tokio::test]
async fn a_database_of_before_meets_everybody_in_its_rosters() {
    let (mut world, group) = garden(&["alice", "bob", "carol"]).await;
    world.send(ALICE, group, "one").await;
    let mallory = Stranger::known_to(&mut world, ALICE).await;
    let trap = mallory.group_as(&mut world, "bob:a.example", ALICE).await;
    let said = shown(&world, ALICE, trap).len();
    let mut tx = world.devices[ALICE].db.begin().await.unwrap();
    let back = "DELETE FROM identities; UPDATE own SET met = NULL; DELETE FROM asked";
    sqlx::raw_sql(back).execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    world.devices[ALICE].restart().await;
    let item = world.outgoing(text("two"));
    let unprepared = world.seal_now(ALICE, group, std::slice::from_ref(&item)).await;
    assert!(matches!(unprepared, Err(SealError::Unprepared(needs)) if needs.accounts.len() == 2));
    world.sync(ALICE).await;
    assert_eq!(shown(&world, ALICE, trap).len(), said + 1);
    assert_eq!(
        world.count(ALICE, "SELECT COUNT(*) FROM identities WHERE standing = 'pinned'").await,
        2
    );
    world.send(ALICE, group, "two").await;
    world.sync_all().await;
    assert_eq!(world.devices[BOB].texts(), ["one", "two"]);
    assert_eq!(refused(&mut world, ALICE, trap).await, Some(vec![account("bob")]));
}
