//! Fan-outs in bytes.

use std::collections::BTreeMap;

use causeway_protocol::{
    envelope::{Kind, MAX_BATCH, Piece, Sender, Submission, SubmittedTo},
    ids::{DeviceId, EnvelopeId, Epoch, RosterHash},
    posting::{BadPosting, FanOut, Posting},
    roster::{Body, Policy, Roster},
};

use crate::signers::Person;

fn policy() -> Policy {
    Policy {
        min_version: 2,
        add_by: 0,
        post_by: 0,
        max_members: 500,
        ttl_s: 86_400,
        name: "Garden".to_owned(),
        description: String::new(),
    }
}

/// A group of so many, and its first member.
fn group(members: u8) -> (Person, Roster) {
    let admin = Person::new(1);
    let begun = Roster::create(&admin.create(policy())).unwrap();
    let others = (2..=members).map(|n| Person::new(n).entry(0)).collect();
    let roster = begun.apply(&admin.op(&begun, &Body::Add(others))).unwrap();
    (admin, roster)
}

fn sender(person: &Person) -> Sender {
    Sender { account: person.account.clone(), device: person.record.device_id }
}

/// A fan-out to all of the roster but its sender.
fn fan_out(from: &Person, roster: &Roster, payload: usize, piece: usize) -> Submission {
    let me = from.record.device_id;
    let others = roster.devices().map(|of| of.device_id).filter(|device| *device != me);
    let to: BTreeMap<DeviceId, Piece> =
        others.map(|device| (device, Piece(vec![device.as_bytes()[0]; piece]))).collect();
    Submission {
        id: None,
        kind: Kind::Fanout,
        group: roster.group(),
        epoch: roster.epoch(),
        sender: sender(from),
        to: SubmittedTo::Devices(to),
        ttl_ms: 86_400_000,
        payload: vec![7; payload],
    }
}

#[test]
fn what_is_posted_by_places_is_what_was_sealed() {
    let (admin, roster) = group(50);
    let sealed = [fan_out(&admin, &roster, 1_179, 128), fan_out(&admin, &roster, 3, 0)];
    let posting = Posting::of(&sealed, 9, &roster).unwrap();
    let bytes = posting.to_bytes().unwrap();
    assert_eq!(bytes.len(), 45 + 34 + 1_179 + 49 * (4 + 128) + 34 + 3 + 49 * 4);
    let read = Posting::parse(&bytes).unwrap();
    assert_eq!(read, posting);
    assert_eq!((read.count, read.epoch, read.roster), (9, roster.epoch(), roster.hash()));
    let named = read.submissions(roster.group(), &sender(&admin), &roster).unwrap();
    assert_eq!(named, sealed);
    for submission in &named {
        submission.check().unwrap();
    }
}

/// One envelope with two pieces.
pub(crate) fn small() -> Posting {
    let piece = |byte| Piece(vec![byte]);
    Posting {
        count: 2,
        epoch: Epoch(3),
        roster: RosterHash::new([4; 32]),
        fan_outs: vec![FanOut {
            id: EnvelopeId::new([5; 16]),
            epoch: Epoch(2),
            ttl_ms: 6,
            payload: b"pay".to_vec(),
            pieces: vec![(0, piece(8)), (257, piece(9))],
        }],
    }
}

#[test]
fn the_bytes_are_as_the_document_says() {
    let posting = small();
    let mut bytes = vec![1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3];
    bytes.extend([4; 32]);
    bytes.extend([5; 16]);
    bytes.extend([0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 3]);
    bytes.extend(b"pay");
    bytes.extend([0, 2, 0, 0, 0, 1, 8, 1, 1, 0, 1, 9]);
    assert_eq!(posting.to_bytes().unwrap(), bytes);
    assert_eq!(Posting::parse(&bytes).unwrap(), posting);
    bytes[0] = 2;
    assert_eq!(Posting::parse(&bytes), Err(BadPosting::Version(2)));
}

#[test]
fn what_breaks_off_is_refused_wherever_it_does() {
    let (admin, roster) = group(4);
    let posting = Posting::of(&[fan_out(&admin, &roster, 9, 5)], 1, &roster).unwrap();
    let bytes = posting.to_bytes().unwrap();
    for end in 0..bytes.len() {
        assert_eq!(Posting::parse(&bytes[..end]), Err(BadPosting::BrokenOff), "{end}");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(Posting::parse(&longer), Err(BadPosting::BrokenOff));
}

#[test]
fn a_place_is_there_once_and_in_its_order() {
    let (admin, roster) = group(4);
    let sealed = [fan_out(&admin, &roster, 9, 5), fan_out(&admin, &roster, 8, 5)];
    let right = Posting::of(&sealed, 1, &roster).unwrap();
    let mut twice = right.clone();
    let first = twice.fan_outs[1].pieces[0].clone();
    twice.fan_outs[1].pieces.insert(1, first);
    let mut turned = right;
    turned.fan_outs[1].pieces.reverse();
    for wrong in [twice, turned] {
        let bytes = wrong.to_bytes().unwrap();
        assert_eq!(Posting::parse(&bytes), Err(BadPosting::Order(1)));
    }
}

#[test]
fn a_place_that_is_nobodys_and_one_that_is_anothers_are_refused() {
    let (admin, roster) = group(4);
    let right = Posting::of(&[fan_out(&admin, &roster, 9, 5)], 1, &roster).unwrap();
    let read = |posting: Posting| posting.submissions(roster.group(), &sender(&admin), &roster);
    let mut beyond = right.clone();
    beyond.fan_outs[0].pieces.last_mut().unwrap().0 = 4;
    assert_eq!(read(beyond), Err(BadPosting::NoSuchPlace(0, 4, 4)));
    let mut swapped = right.clone();
    let pieces = &mut swapped.fan_outs[0].pieces;
    (pieces[0].1, pieces[1].1) = (pieces[1].1.clone(), pieces[0].1.clone());
    assert_eq!(read(swapped), Err(BadPosting::Id(0)), "the id names devices and pieces");
    let mut other = right;
    other.fan_outs[0].payload[0] ^= 1;
    assert_eq!(read(other), Err(BadPosting::Id(0)));
}

#[test]
fn what_has_no_place_is_named_in_full() {
    let (admin, roster) = group(4);
    let begun = Roster::create(&admin.create(policy())).unwrap();
    assert_eq!(Posting::of(&[fan_out(&admin, &roster, 9, 5)], 1, &begun), None);
    let mut all = fan_out(&admin, &roster, 9, 5);
    all.to = SubmittedTo::Broadcast;
    assert_eq!(Posting::of(&[all], 1, &roster), None, "and what is no fan-out");
    let mut long = fan_out(&admin, &roster, 9, 5);
    let SubmittedTo::Devices(pieces) = &mut long.to else { panic!("a fan-out") };
    pieces.first_entry().unwrap().insert(Piece(vec![0; 65_536]));
    assert_eq!(Posting::of(&[long], 1, &roster).unwrap().to_bytes(), None);
}

#[test]
fn more_envelopes_than_one_request_takes_are_refused() {
    let (admin, roster) = group(2);
    let one = fan_out(&admin, &roster, 0, 0);
    let many = |count| {
        let posting = Posting::of(std::iter::repeat_n(&one, count), 1, &roster).unwrap();
        Posting::parse(&posting.to_bytes().unwrap())
    };
    assert_eq!(many(MAX_BATCH).unwrap().fan_outs.len(), MAX_BATCH);
    assert_eq!(many(MAX_BATCH + 1), Err(BadPosting::TooMany));
}
