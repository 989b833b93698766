//! What a client keeps of a group: its history in rows, and what it answers without them.

use std::sync::Arc;

use causeway_protocol::{
    ids::{AccountId, DeviceId, Epoch, MemberId, RosterHash},
    roster::{BadRow, Body, Devices, Entry, Invalid, Log, LogEntry, Offer, Op, Policy, Roster},
};

use crate::signers::{Person, policy};

/// 1 begins a group, lets 2 in, then the bridge 3, and removes 2.
fn history() -> (Log, [Person; 4]) {
    let people = [1, 2, 3, 4].map(Person::new);
    let [admin, member, bridge, _] = &people;
    let mut log = Log::begin(&admin.create(policy())).unwrap();
    for body in [
        Body::Add(vec![member.entry(0)]),
        Body::Add(vec![bridge.entry(2)]),
        Body::Remove(vec![member.record.member_id]),
    ] {
        let op = admin.op(log.head(), &body);
        let Offer::Installed(installed) = log.offer(&op) else { panic!("not taken") };
        assert_eq!(installed.cut, matches!(body, Body::Remove(_)));
    }
    (log, people)
}

#[test]
fn who_was_removed_is_known_by_key_and_by_name() {
    let (log, [admin, member, bridge, stranger]) = history();
    let removed = |id: &MemberId, account: &AccountId| log.was_removed(id, account);
    assert!(removed(&member.record.member_id, &stranger.account), "under another name");
    assert!(removed(&stranger.record.member_id, &member.account), "with another key");
    for person in [admin, bridge, stranger] {
        assert!(!removed(&person.record.member_id, &person.account), "{}", person.account);
    }
}

#[test]
fn rosters_are_forgotten_and_what_they_did_stays() {
    let (mut log, _) = history();
    let hashes: Vec<RosterHash> = log.entries().iter().map(|entry| entry.roster_hash).collect();
    let known = |log: &Log| -> Vec<bool> {
        let by_epoch = (0..4).map(|epoch| log.roster(Epoch(epoch)).is_some());
        let by_hash: Vec<bool> = hashes.iter().map(|hash| log.by_hash(hash).is_some()).collect();
        assert_eq!(by_epoch.collect::<Vec<_>>(), by_hash);
        by_hash
    };
    assert_eq!(known(&log), [true; 4]);
    assert_eq!(log.by_hash(&hashes[1]).unwrap().epoch(), Epoch(1));
    assert_eq!(log.by_hash(&RosterHash::new([0; 32])), None);
    log.forget_before(Epoch(2));
    assert_eq!(known(&log), [false, false, true, true]);
    log.forget_before(Epoch(99));
    assert_eq!(known(&log), [false, false, false, true], "the head is always kept");
    assert_eq!(log.entries().len(), 4);
    assert!(log.cut_in(Epoch(2), Epoch(3)) && !log.cut_in(Epoch(0), Epoch(2)));
}

#[test]
fn what_is_sealed_anew_is_read_by_nobody_who_came_since() {
    let (mut log, [admin, _, bridge, stranger]) = history();
    let then: Vec<_> = (0..4).map(|epoch| Arc::clone(log.roster(Epoch(epoch)).unwrap())).collect();
    let may = |log: &Log| then.iter().map(|then| log.may_seal_anew(then)).collect::<Vec<_>>();
    // Since the bridge came nobody has but the one who went; since the first message more have come.
    assert_eq!(may(&log), [false, false, true, false]);
    for body in [Body::Add(vec![stranger.entry(0)]), Body::Remove(vec![bridge.record.member_id])] {
        let op = admin.op(log.head(), &body);
        assert!(matches!(log.offer(&op), Offer::Installed(_)));
    }
    assert_eq!(may(&log), [false; 4], "the stranger has read nothing of it");
}

#[test]
fn a_history_is_read_from_its_rows_or_not_at_all() {
    let (log, _) = history();
    let (entries, head) = (log.entries().to_vec(), Arc::clone(log.head()));
    let before = Arc::clone(log.roster(Epoch(2)).unwrap());
    let read = |entries: &[LogEntry], head: &Arc<Roster>| {
        Log::from_rows(entries.to_vec(), Arc::clone(head), Epoch(1))
    };
    let mut again = read(&entries, &head).unwrap();
    assert_eq!((again.entries(), again.head()), (&entries[..], &head));
    assert_eq!([0, 1, 2, 3, 4].map(|n| again.lacks(Epoch(n))), [false, true, true, false, false]);
    assert!(again.keep(Arc::clone(&before)));
    assert_eq!([0, 1, 2, 3, 4].map(|n| again.lacks(Epoch(n))), [false, true, false, false, false]);
    assert_eq!(again.roster(Epoch(2)), Some(&before));

    assert!(read(&[], &head).is_none(), "nothing");
    assert!(read(&entries[1..], &head).is_none(), "not from the beginning");
    assert!(read(&entries, &before).is_none(), "beyond the head");
    assert!(read(&entries[..3], &head).is_none(), "not up to the head");
    let mut other = entries.clone();
    other[3].roster_hash = entries[2].roster_hash;
    assert!(read(&other, &head).is_none(), "another head of that epoch");
}

#[test]
fn who_may_add_is_said_by_role_and_policy() {
    let [admin, member, bridge, stranger] = [1, 2, 3, 4].map(Person::new);
    for (add_by, members_may) in [(0, false), (1, true)] {
        let begun = Roster::create(&admin.create(Policy { add_by, ..policy() })).unwrap();
        let entries = vec![member.entry(0), bridge.entry(2)];
        let roster = begun.apply(&admin.op(&begun, &Body::Add(entries))).unwrap();
        assert_eq!((begun.bridge(), roster.bridge().unwrap().0), (None, &bridge.record.member_id));
        let may =
            [&admin, &member, &bridge, &stranger].map(|p| roster.may_add(&p.record.member_id));
        assert_eq!(may, [true, members_may, false, false]);
    }
    let channel = |post_by| Policy { post_by, ..policy() }.is_channel();
    assert_eq!([channel(0), channel(1)], [false, true]);
}

#[test]
fn a_row_of_a_roster_is_read_whole_or_not_at_all() {
    let (log, [admin, ..]) = history();
    let roster = log.head();
    let row = roster.to_row();
    // Two members with a device each; lengths of strings are counted before the strings.
    let strings = roster.policy().name.len() + 2 * admin.account.as_str().len();
    assert_eq!(row.len(), 120 + 2 * (41 + 32) + strings);
    assert_eq!(Roster::from_row(&row).unwrap(), **roster);
    for end in 0..row.len() {
        assert_eq!(Roster::from_row(&row[..end]), Err(BadRow), "{end}");
    }
    assert_eq!(Roster::from_row(&[&row[..], &[0]].concat()), Err(BadRow));
    let mut other = row.clone();
    other[0] += 1;
    assert_eq!(Roster::from_row(&other), Err(BadRow), "another version");
    // One member twice is one member less than the row counts.
    let second = row.len() - 73 - admin.account.as_str().len();
    let (first, at) = (second - 73 - admin.account.as_str().len(), second);
    let id = row[first..first + 32].to_vec();
    let mut twice = row;
    twice[at..at + 32].copy_from_slice(&id);
    assert_eq!(Roster::from_row(&twice), Err(BadRow));
}

/// `count` renamings of a group of three.
fn renamed(count: u8) -> (Log, Vec<Op>) {
    let admin = Person::new(1);
    let create = admin.create(policy());
    let mut log = Log::begin(&create).unwrap();
    let mut ops = vec![create];
    let add = Body::Add([2, 3].map(|n| Person::new(n).entry(0)).to_vec());
    let name = |n: u8| Body::Policy(Policy { name: n.to_string(), ..policy() });
    for body in [add].into_iter().chain((0..count).map(name)) {
        ops.push(admin.op(log.head(), &body));
        assert!(matches!(log.offer(ops.last().unwrap()), Offer::Installed(_)));
    }
    (log, ops)
}

#[test]
fn a_roster_is_made_again_from_any_before_it_and_the_ops_between() {
    let (mut log, mut ops) = renamed(4);
    let [admin, other] = [1, 2].map(Person::new);
    for (signer, body) in [
        (&admin, Body::Role(other.record.member_id, 1)),
        (&other, Body::Devices(other.devices(2))),
        (&other, Body::Leave),
        (&admin, Body::Remove(vec![Person::new(3).record.member_id])),
        (&admin, Body::Close),
    ] {
        ops.push(signer.op(log.head(), &body));
        assert!(matches!(log.offer(ops.last().unwrap()), Offer::Installed(_)));
    }
    let rosters: Vec<Roster> =
        (0..11).map(|n| Roster::clone(log.roster(Epoch(n)).unwrap())).collect();
    for to in 0..ops.len() {
        let from_nothing = Roster::replay(None, ops[..=to].iter().cloned());
        assert_eq!(from_nothing.as_ref(), Some(&rosters[to]), "{to}");
        for from in 0..=to {
            let base = Some(rosters[from].clone());
            let made = Roster::replay(base, ops[from + 1..=to].iter().cloned());
            assert_eq!(made.as_ref(), Some(&rosters[to]), "{from} {to}");
        }
    }
    let base = || Some(rosters[1].clone());
    let elsewhere = Policy { name: "elsewhere".to_owned(), ..policy() };
    let mut foreign = Log::begin(&admin.create(elsewhere)).unwrap();
    let add = admin.op(foreign.head(), &Body::Add(vec![other.entry(0)]));
    assert!(matches!(foreign.offer(&add), Offer::Installed(_)));
    let foreign = admin.op(foreign.head(), &Body::Close);
    for (what, ops) in [
        ("an op is missing", ops[3..5].to_vec()),
        ("an op comes twice", vec![ops[2].clone(), ops[2].clone()]),
        ("it begins anew", vec![ops[0].clone()]),
        ("of another group", vec![foreign]),
    ] {
        assert_eq!(Roster::replay(base(), ops), None, "{what}");
    }
    assert_eq!(Roster::replay(None, []), None);
    assert_eq!(Roster::replay(None, [ops[1].clone()]), None);
}

#[test]
fn a_history_has_few_rosters_at_hand_and_takes_none_but_its_own() {
    let (mut log, ops) = renamed(200);
    let last = u32::try_from(ops.len() - 1).unwrap();
    let lacking = |log: &Log| (0..=last).filter(|n| log.lacks(Epoch(*n))).count();
    let at_hand = ops.len() - lacking(&log);
    // And the newest.
    assert_eq!(at_hand, 65);
    let early = Arc::new(Roster::replay(None, ops[..8].iter().cloned()).unwrap());
    let hash = early.hash();
    assert!(log.lacks(Epoch(7)) && log.by_hint(Epoch(7), early.hint()).is_none());
    assert_eq!(log.epoch_of(&hash), Some(Epoch(7)));
    assert!(log.is_meant(Epoch(7), early.hint()) && !log.is_meant(Epoch(8), early.hint()));
    assert!(log.keep(Arc::clone(&early)) && log.keep(Arc::clone(&early)));
    assert_eq!(log.by_hint(Epoch(7), early.hint()), Some(&early));
    assert_eq!(log.by_hash(&hash), Some(&early));
    assert_eq!(ops.len() - lacking(&log), at_hand, "it took the place of another");
    assert!(!log.keep(Arc::new(Roster::create(&Person::new(4).create(policy())).unwrap())));
    log.forget_before(Epoch(8));
    assert!(!log.lacks(Epoch(7)) && log.by_hash(&hash).is_none());
}

#[test]
fn a_closed_group_waits_for_no_op() {
    let (mut log, [admin, ..]) = history();
    let (mut other, _) = history();
    let close = admin.op(log.head(), &Body::Close);
    assert!(matches!(log.offer(&close), Offer::Installed(_)));
    let next = admin.op(log.head(), &Body::Policy(policy()));
    assert!(matches!(log.offer(&next), Offer::Invalid(Invalid::Closed)));

    for add_by in [1, 0, 1] {
        let op = admin.op(other.head(), &Body::Policy(Policy { add_by, ..policy() }));
        assert!(matches!(other.offer(&op), Offer::Installed(_)));
        if op.epoch() > log.head().epoch().next().unwrap() {
            assert!(matches!(log.offer(&op), Offer::Invalid(_)), "nothing can stand between");
        }
    }
    assert_eq!(other.head().epoch(), Epoch(6));
}

#[test]
fn a_newcomers_list_has_a_version() {
    let [admin, member] = [1, 2].map(Person::new);
    let begun = Roster::create(&admin.create(policy())).unwrap();
    for (version, wanted) in [(0, Some(Invalid::ListVersion)), (1, None)] {
        let entry = Entry { devices: member.devices(version), ..member.entry(0) };
        let taken = begun.apply(&admin.op(&begun, &Body::Add(vec![entry])));
        assert_eq!(taken.err(), wanted);
    }
}

#[test]
fn of_a_large_group_fewer_rosters_are_at_hand() {
    let admin = Person::new(1);
    let mut log = Log::begin(&admin.create(policy())).unwrap();
    let somebody = |n: u32| {
        let mut id = [9; 32];
        id[..4].copy_from_slice(&n.to_be_bytes());
        Entry {
            member_id: MemberId::new(id),
            account: format!("n{n}:a.example"),
            devices: Devices { version: 1, ids: vec![DeviceId::new(id)] },
            ..Person::new(2).entry(0)
        }
    };
    // With the admin 512, of which 64 are as many members as may be in memory.
    for from in [0, 256] {
        let add = Body::Add((from..(from + 256).min(511)).map(somebody).collect());
        assert!(matches!(log.offer(&admin.op(log.head(), &add)), Offer::Installed(_)));
    }
    let rename = |log: &mut Log, n: usize| {
        let policy = Policy { name: n.to_string(), ..policy() };
        let op = admin.op(log.head(), &Body::Policy(policy));
        assert!(matches!(log.offer(&op), Offer::Installed(_)));
    };
    let at_hand = |log: &Log| {
        let before = 0..log.head().epoch().0;
        before.filter(|n| !log.lacks(Epoch(*n))).count()
    };
    (0..70).for_each(|n| rename(&mut log, n));
    assert_eq!((log.head().members().len(), at_hand(&log)), (512, 64));
    let add = Body::Add(vec![somebody(511)]);
    assert!(matches!(log.offer(&admin.op(log.head(), &add)), Offer::Installed(_)));
    (0..70).for_each(|n| rename(&mut log, n));
    assert_eq!(at_hand(&log), 32_768 / 513);
}
