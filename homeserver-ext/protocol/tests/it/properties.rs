//! What no table can list: generated histories, random bytes, every bit.

use std::collections::BTreeMap;

use causeway_protocol::{
    content::Plaintext,
    ids::{Epoch, MemberId, Seq},
    invite::{Join, Link},
    olm_plaintext::OlmPlaintext,
    roster::{Arrival, Body, Devices, Kind, Log, Offer, Op, Role, Roster, Verdict},
    sender_key::Message,
};
use proptest::prelude::*;

use crate::{
    signers::{Person, policy},
    vectors::{Get, NATIVE, unhex},
};

const PEOPLE: u8 = 5;

/// An op that somebody tries; most of these are not valid.
#[derive(Debug, Clone)]
struct Try {
    by: u8,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Add(Vec<(u8, u8)>),
    Remove(Vec<u8>),
    Role(u8, u8),
    Policy(u8, u32),
    Leave,
    Devices(u32),
    Close,
}

fn tries() -> impl Strategy<Value = Vec<Try>> {
    let person = 1..=PEOPLE;
    let what = prop_oneof![
        4 => prop::collection::vec((person.clone(), 0..4_u8), 0..3).prop_map(What::Add),
        2 => prop::collection::vec(person.clone(), 0..3).prop_map(What::Remove),
        3 => (person.clone(), 0..4_u8).prop_map(|(who, role)| What::Role(who, role)),
        2 => (0..3_u8, 0..6_u32).prop_map(|(add_by, most)| What::Policy(add_by, most)),
        1 => Just(What::Leave),
        2 => (0..5_u32).prop_map(What::Devices),
        1 => Just(What::Close),
    ];
    prop::collection::vec((person, what).prop_map(|(by, what)| Try { by, what }), 1..25)
}

/// A group as a child would keep it: who is in, in which role, with which list version.
#[derive(Debug, Clone)]
struct Model {
    members: BTreeMap<u8, (u8, u32)>,
    add_by: u8,
    most: u32,
    closed: bool,
}

impl Model {
    /// What the op makes of the group, if it is allowed: the list of protocol §3.2 from memory,
    /// without its order.
    fn after(&self, attempt: &Try) -> Option<Self> {
        let (role, version) = *self.members.get(&attempt.by)?;
        let mut next = self.clone();
        let admin = role == 1;
        let bridge_leaves = matches!(attempt.what, What::Leave);
        if self.closed || (role == 2 && !bridge_leaves) {
            return None;
        }
        match &attempt.what {
            What::Add(who) => {
                let plain = who.iter().all(|(_, role)| *role == 0);
                if !(admin || (self.add_by == 1 && plain)) || who.is_empty() {
                    return None;
                }
                for (id, role) in who {
                    if *role > 2 || next.members.insert(*id, (*role, 1)).is_some() {
                        return None;
                    }
                }
            }
            What::Remove(who) => {
                if !admin || who.is_empty() {
                    return None;
                }
                for id in who {
                    next.members.remove(id)?;
                }
            }
            What::Role(who, new) => {
                let target = next.members.get_mut(who)?;
                if !admin || *new > 1 || target.0 == 2 {
                    return None;
                }
                target.0 = *new;
            }
            What::Policy(add_by, most) => {
                if !admin || *add_by > 1 || *most == 0 {
                    return None;
                }
                (next.add_by, next.most) = (*add_by, *most);
            }
            What::Leave => drop(next.members.remove(&attempt.by)),
            What::Devices(new) => {
                if *new <= version {
                    return None;
                }
                next.members.insert(attempt.by, (role, *new));
            }
            What::Close => {
                if !admin {
                    return None;
                }
                next.closed = true;
            }
        }
        let bridges = next.members.values().filter(|(role, _)| *role == 2).count();
        let admins = next.members.values().filter(|(role, _)| *role == 1).count();
        let grew = next.members.len() > self.members.len();
        let room = u32::try_from(next.members.len()).unwrap() <= next.most;
        (bridges <= 1 && (admins > 0 || next.closed) && (!grew || room)).then_some(next)
    }
}

fn people() -> BTreeMap<u8, Person> {
    (1..=PEOPLE).map(|number| (number, Person::new(number))).collect()
}

fn body(people: &BTreeMap<u8, Person>, attempt: &Try) -> Body {
    let id = |number: &u8| people[number].record.member_id;
    match &attempt.what {
        What::Add(who) => Body::Add(who.iter().map(|(n, role)| people[n].entry(*role)).collect()),
        What::Remove(who) => Body::Remove(who.iter().map(id).collect()),
        What::Role(who, role) => Body::Role(id(who), *role),
        What::Policy(add_by, most) => {
            let mut policy = policy();
            (policy.add_by, policy.max_members) = (*add_by, *most);
            Body::Policy(policy)
        }
        What::Leave => Body::Leave,
        What::Devices(version) => Body::Devices(people[&attempt.by].devices(*version)),
        What::Close => Body::Close,
    }
}

/// Six ops by one admin, which two branches share up to `split`.
fn branch(split: usize, name: &str) -> Vec<Op> {
    let person = Person::new(1);
    let mut ops = vec![person.create(policy())];
    let mut head = Roster::create(&ops[0]).unwrap();
    for number in 1..6 {
        let mut policy = policy();
        policy.name = if number <= split { "shared".to_owned() } else { name.to_owned() };
        policy.max_members = u32::try_from(number).unwrap();
        let op = person.op(&head, &Body::Policy(policy));
        head = head.apply(&op).unwrap();
        ops.push(op);
    }
    ops
}

/// Receive rules read off the rosters one by one, where the log keeps only what each op took out.
fn naively(rosters: &[Roster], places: &[u64], message: &Arrival<'_>) -> Verdict {
    let at = |epoch: Epoch| usize::try_from(epoch.0).unwrap();
    let cut = |from: usize, to: usize| {
        (from..to).any(|n| rosters[n].devices().any(|d| rosters[n + 1].counts(&d).is_none()))
    };
    let Some(chain) = message.key_epoch else { return Verdict::HoldChain };
    let named = rosters.get(at(message.header_epoch)).filter(|r| r.hint() == message.hint);
    let Some(roster) = named else { return Verdict::HoldRoster };
    let counts = |roster: &Roster| {
        roster.counts(&message.sender).is_some_and(|member| member.account == *message.account)
    };
    let (chain, sent) = (at(chain), at(roster.epoch()));
    if !counts(roster) {
        return Verdict::NotCounting;
    }
    if chain > sent {
        return Verdict::ChainTooNew;
    }
    if cut(chain, sent) {
        return Verdict::NotRotated;
    }
    let before = places.iter().take_while(|place| **place < message.place.0).count();
    let head = sent.max(before.saturating_sub(1));
    if !rosters[sent..=head].iter().all(counts) {
        return Verdict::Removed;
    }
    if rosters[head].closed() {
        return Verdict::Closed;
    }
    Verdict::Open { late: cut(sent, head) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn ops_are_valid_as_a_simple_model_says(tries in tries()) {
        let people = people();
        let mut log = Log::begin(&people[&1].create(policy())).unwrap();
        let mut model = Model {
            members: BTreeMap::from([(1, (1, 1))]),
            add_by: 0,
            most: 1_000,
            closed: false,
        };
        for attempt in &tries {
            let head = log.head().clone();
            let op = people[&attempt.by].op(&head, &body(&people, attempt));
            prop_assert!(Op::parse(op.as_bytes()).is_ok_and(|parsed| parsed == op));
            match (log.offer(&op), model.after(attempt)) {
                (Offer::Installed(installed), Some(next)) => {
                    let expected: BTreeMap<MemberId, u8> = next.members.iter()
                        .map(|(number, (role, _))| (people[number].record.member_id, *role))
                        .collect();
                    let got: BTreeMap<MemberId, u8> = log.head().members().iter()
                        .map(|(id, member)| (*id, member.role as u8))
                        .collect();
                    prop_assert_eq!(got, expected);
                    let gone = next.members.len() < model.members.len();
                    prop_assert_eq!(installed.cut, gone);
                    prop_assert_eq!(log.head().closed(), next.closed);
                    let row = log.head().to_row();
                    prop_assert_eq!(&Roster::from_row(&row).unwrap(), log.head().as_ref());
                    model = next;
                }
                (Offer::Invalid(_), None) => prop_assert_eq!(log.head(), &head),
                (offer, next) => {
                    return Err(TestCaseError::fail(format!("{attempt:?}: {offer:?}, {next:?}")));
                }
            }
        }
    }

    #[test]
    fn no_order_makes_a_client_leave_the_branch_installed_first(
        split in 0..4_usize, order in prop::collection::vec(any::<bool>(), 12)
    ) {
        let branches = [branch(split, "ours"), branch(split, "theirs")];
        let mut log = Log::begin(&branches[0][0]).unwrap();
        let mut next = [1, 1];
        let mut installed: Option<usize> = None;
        for pick in order {
            let side = usize::from(pick);
            let branch = &branches[side];
            let Some(op) = branch.get(next[side]) else { continue };
            let before = log.head().hash();
            if let Offer::Installed(_) = log.offer(op) {
                    let own = log.entries().iter().all(|entry| {
                        let at = usize::try_from(entry.epoch.0).unwrap();
                        branch.get(at).is_some_and(|op| op.hash() == entry.op_hash)
                    });
                    prop_assert!(own, "two branches mixed");
                    if next[side] > split {
                        prop_assert!(installed.is_none_or(|first| first == side));
                        installed = Some(side);
                    }
            } else {
                prop_assert_eq!(log.head().hash(), before);
            }
            next[side] += 1;
        }
    }

    #[test]
    fn messages_are_received_as_the_rosters_say(
        tries in tries(), sender in 1..=PEOPLE, chain in 0..12_u32, header in 0..12_u32,
        place in 0..130_u64, account in 1..=PEOPLE,
    ) {
        let people = people();
        let mut log = Log::begin(&people[&1].create(policy())).unwrap();
        let mut rosters = vec![log.head().as_ref().clone()];
        let first: Vec<_> = (2..=PEOPLE).map(|n| (n, n % 2)).collect();
        let first = Try { by: 1, what: What::Add(first) };
        for attempt in [&first].into_iter().chain(&tries) {
            let op = people[&attempt.by].op(log.head(), &body(&people, attempt));
            if let Offer::Installed(installed) = log.offer(&op) {
                rosters.push(installed.after.as_ref().clone());
            }
        }
        let places: Vec<u64> = (0..rosters.len() as u64).map(|n| n * 10).collect();
        for (epoch, place) in (0..).zip(&places) {
            log.put_place(Epoch(epoch), Seq(*place));
        }
        let header_epoch = Epoch(header);
        let message = Arrival {
            sender: people[&sender].record.device(),
            account: &people[&if account < PEOPLE { sender } else { account }].account,
            key_epoch: (chain < 11).then_some(Epoch(if chain > 8 { chain } else { chain.min(header) })),
            header_epoch,
            hint: log.roster(header_epoch).map_or([0; 4], |roster| roster.hint()),
            place: Seq(place),
        };
        prop_assert_eq!(log.judge(&message), naively(&rosters, &places, &message));
    }

    #[test]
    fn random_bytes_are_refused_and_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Op::parse(&bytes);
        let _ = Plaintext::parse(&bytes);
        let _ = Message::parse(&bytes);
        let _ = Join::parse(&bytes);
        let _ = OlmPlaintext::parse(&bytes);
        let _ = Roster::from_row(&bytes);
        let _ = Link::parse(&String::from_utf8_lossy(&bytes));
        let _ = OlmPlaintext::parse(&[b"\x02D", &bytes[..]].concat());
        let _ = OlmPlaintext::parse(&[b"\x02A", &bytes[..]].concat());
        let _ = OlmPlaintext::parse(&[b"\x02H", &bytes[..]].concat());
        let _ = OlmPlaintext::parse(&[b"\x02C", &bytes[..]].concat());
        let _ = Roster::from_row(&[&[1], &bytes[..]].concat());
    }

    #[test]
    fn random_bodies_never_panic(number in 0..8_u8, body in prop::collection::vec(any::<u8>(), 0..300)) {
        let kind = Kind::from_number(number).unwrap();
        let person = Person::new(1);
        let mut core = person.create(policy()).core().clone();
        (core.kind, core.body) = (kind, body);
        let op = person.seal(core);
        if let Ok(parsed) = op.body() {
            prop_assert_eq!(parsed.to_bytes().unwrap(), op.core().body.clone());
        }
        prop_assert!(Roster::create(&op).is_err());
    }

    #[test]
    fn a_row_of_a_message_never_changes_what_an_earlier_one_meant(place in 0..200_u64) {
        // `put_place` keeps what was said first.
        let rules = &NATIVE["receive_rules"];
        let mut log = crate::vectors::placed_log(rules.list("history"), rules.list("op_seq"));
        let before = log.entries().to_vec();
        log.put_place(Epoch(3), Seq(place));
        prop_assert_eq!(log.entries(), &before[..]);
    }
}

#[test]
fn every_single_bit_flip_of_an_op_is_refused() {
    let history = NATIVE["op_negatives"]["histories"].list("n");
    let log = crate::vectors::log(&history[..history.len() - 1]);
    let op = unhex(&history[history.len() - 1]);
    log.head().apply(&Op::parse(&op).unwrap()).unwrap();
    for bit in 0..op.len() * 8 {
        let mut flipped = op.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let judged = Op::parse(&flipped).and_then(|op| log.head().apply(&op));
        assert!(judged.is_err(), "bit {bit}");
    }
}

#[test]
fn a_thousand_members_are_no_burden() {
    let people = people();
    let mut roster = Roster::create(&people[&1].create(policy())).unwrap();
    for batch in 0..10_u8 {
        let entry = |n: u16| {
            let mut entry = people[&2].entry(0);
            let mut id = [batch; 32];
            id[..2].copy_from_slice(&n.to_be_bytes());
            entry.member_id = MemberId::new(id);
            entry
        };
        let entries: Vec<_> = (0..if batch == 0 { 99 } else { 100 }).map(entry).collect();
        roster = roster.apply(&people[&1].op(&roster, &Body::Add(entries))).unwrap();
    }
    assert_eq!(roster.members().len(), 1_000);
    let one_more = people[&1].op(&roster, &Body::Add(vec![people[&3].entry(0)]));
    assert_eq!(roster.apply(&one_more).unwrap_err().reason(), "over_max_members");
    for version in 2..102 {
        let devices = Devices { version, ids: vec![people[&1].record.device_id] };
        roster = roster.apply(&people[&1].op(&roster, &Body::Devices(devices))).unwrap();
    }
    assert_eq!(Roster::from_row(&roster.to_row()).unwrap(), roster);
    assert_eq!(roster.member(&people[&1].record.member_id).unwrap().role, Role::Admin);
}
