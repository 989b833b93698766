//! What an operator may do in a call, by its rules.

use causeway_protocol::{
    call::{Call, Caps, Effect, Event, Out, Refused, Said, Topology, Who, rules, sfu_room},
    ids::{CallId, GroupId, Timestamp},
};

use crate::calls::{ALL, native};

/// A call of natives who come at once, none of whom is ever lost.
fn call(natives: u8, caps: Caps) -> Call {
    let mut call = Call::new(rules::MESH_MAX, true, Timestamp(0));
    for n in 1..=natives {
        call.apply(Event::Join(native(n), caps), Timestamp(0)).unwrap();
    }
    call
}

fn all_ready(call: &mut Call, now: Timestamp) {
    let all: Vec<Who> = call.participants.keys().cloned().collect();
    call.apply(Event::Shown(all.iter().cloned().collect()), now).unwrap();
    for who in &all {
        let connected = all.iter().cloned().collect();
        let said = Said { connected, ready: true, declined: false };
        call.apply(Event::Report(who.clone(), call.epoch, said), now).unwrap();
    }
}

#[test]
fn two_go_to_the_sfu_when_the_operator_wants_it_and_stay_until_he_does_not() {
    let mut call = call(2, ALL);
    let moved = call.apply(Event::ToSfu, Timestamp(0)).unwrap();
    assert_eq!((moved.effects, call.topology), (vec![Effect::OpenRoom], Topology::Prepare));
    all_ready(&mut call, Timestamp(1_000));
    call.apply(Event::Tick, Timestamp(3_000)).unwrap();
    assert_eq!(call.topology, Topology::Sfu);
    // However calm it is.
    let hour = Timestamp(3_600_000);
    call.apply(Event::Tick, hour).unwrap();
    assert_eq!(call.topology, Topology::Sfu);
    call.apply(Event::ToMesh, hour).unwrap();
    assert_eq!(call.topology, Topology::Shrink);
    all_ready(&mut call, hour);
    call.apply(Event::Tick, hour.plus_ms(2_000)).unwrap();
    assert_eq!(call.topology, Topology::Mesh);
    // Once more changes nothing.
    assert!(!call.apply(Event::ToMesh, hour.plus_ms(2_000)).unwrap().changed);
}

#[test]
fn a_move_that_fails_or_cannot_be_leaves_the_call_where_it_is() {
    let mut two = call(2, ALL);
    two.apply(Event::ToSfu, Timestamp(0)).unwrap();
    two.apply(Event::SfuDown, Timestamp(0)).unwrap();
    assert_eq!((two.topology, two.participants.len()), (Topology::Mesh, 2));
    let refused = two.apply(Event::ToSfu, Timestamp(1)).unwrap_err();
    assert!(matches!(refused, Refused::SfuUnavailable(2, 29_999)), "{refused}");
    let mut alone = call(2, Caps { sfu: false, ..ALL });
    let refused = alone.apply(Event::ToSfu, Timestamp(0)).unwrap_err();
    assert!(matches!(refused, Refused::CannotUseSfu(who) if who.len() == 2));
    let mut five = call(5, ALL);
    let before = five.clone();
    assert_eq!(five.apply(Event::ToMesh, Timestamp(0)), Err(Refused::NoMesh(5)));
    assert_eq!(five, before);
    // Nobody is ready: who came first keeps all in the mesh, and the operator's wish is over.
    let mut late = call(2, ALL);
    late.apply(Event::ToSfu, Timestamp(0)).unwrap();
    late.apply(Event::Tick, Timestamp(8_000)).unwrap();
    assert_eq!(late.topology, Topology::Mesh);
    late.apply(Event::Tick, Timestamp(3_600_000)).unwrap();
    assert_eq!(late.topology, Topology::Mesh);
}

#[test]
fn while_one_of_matrix_is_awaited_no_call_is_sent_to_the_mesh() {
    let guest = Who::Matrix("@mia:b.example".to_owned(), "PHONE".to_owned());
    let mut two = call(2, ALL);
    two.apply(Event::Expect(guest.clone()), Timestamp(0)).unwrap();
    assert_eq!(two.topology, Topology::Prepare);
    let before = two.clone();
    assert_eq!(two.apply(Event::ToMesh, Timestamp(0)), Err(Refused::TooManyExpected(1)));
    assert_eq!(two, before);
    let mut two = call(2, ALL);
    two.apply(Event::ToSfu, Timestamp(0)).unwrap();
    all_ready(&mut two, Timestamp(1_000));
    two.apply(Event::Tick, Timestamp(3_000)).unwrap();
    two.apply(Event::Expect(guest), Timestamp(4_000)).unwrap();
    let before = two.clone();
    assert_eq!(two.apply(Event::ToMesh, Timestamp(5_000)), Err(Refused::TooManyExpected(1)));
    assert_eq!(two, before);
    // He did not come.
    let later = Timestamp(4_000).plus_ms(u64::try_from(rules::EXPECTED.as_millis()).unwrap());
    two.apply(Event::Tick, later).unwrap();
    two.apply(Event::ToMesh, later).unwrap();
    assert_eq!(two.topology, Topology::Shrink);
}

#[test]
fn whoever_is_taken_out_may_come_back() {
    let mut call = call(3, ALL);
    let kicked = call.apply(Event::Kick(native(2)), Timestamp(0)).unwrap();
    assert_eq!(kicked.effects, [Effect::PutOut(native(2), Out::Kicked)]);
    assert_eq!(call.apply(Event::Kick(native(2)), Timestamp(0)), Err(Refused::NotInCall));
    call.apply(Event::Join(native(2), ALL), Timestamp(0)).unwrap();
    assert_eq!(call.participants.len(), 3);
    call.apply(Event::End, Timestamp(0)).unwrap();
    for event in [Event::ToSfu, Event::ToMesh, Event::Kick(native(1))] {
        assert_eq!(call.apply(event, Timestamp(0)), Err(Refused::Ended));
    }
}

/// As after a new start of the server: all streams are lost at once, and come back within the grace.
#[test]
fn nobody_is_moved_while_all_are_lost() {
    let mut five = call(5, ALL);
    for n in 1..=5 {
        five.apply(Event::Lost(native(n)), Timestamp(500)).unwrap();
    }
    assert_eq!((five.topology, five.epoch), (Topology::Prepare, 1));
    five.apply(Event::Tick, Timestamp(5_000)).unwrap();
    for n in 1..=5 {
        five.apply(Event::Back(native(n)), Timestamp(5_000)).unwrap();
    }
    assert_eq!((five.topology, five.epoch), (Topology::Prepare, 1));
    all_ready(&mut five, Timestamp(6_000));
    assert_eq!(five.topology, Topology::Dual);
    for n in 1..=5 {
        five.apply(Event::Lost(native(n)), Timestamp(7_000)).unwrap();
    }
    five.apply(Event::Tick, Timestamp(9_000)).unwrap();
    assert_eq!(five.topology, Topology::Dual);
    // Nor for those of the mesh who come back later.
    five.apply(Event::Back(native(1)), Timestamp(9_000)).unwrap();
    assert_eq!(five.topology, Topology::Dual);
    let mut late = five.clone();
    for n in 2..=4 {
        five.apply(Event::Back(native(n)), Timestamp(12_000)).unwrap();
    }
    assert_eq!(five.topology, Topology::Sfu);
    // Who does not come back is not waited for for ever.
    assert_eq!(late.deadline(Timestamp(14_999)), Some(Timestamp(15_000)));
    late.apply(Event::Tick, Timestamp(14_999)).unwrap();
    assert_eq!(late.topology, Topology::Dual);
    late.apply(Event::Tick, Timestamp(15_000)).unwrap();
    assert_eq!(late.topology, Topology::Sfu);
}

/// Some are back before the others are seen to be lost, and the time of the step was over long before.
#[test]
fn nor_is_the_mesh_taken_from_those_who_come_back_later_than_others() {
    let mut five = call(5, ALL);
    all_ready(&mut five, Timestamp(1_000));
    assert_eq!(five.topology, Topology::Dual);
    let start = Timestamp(60_000);
    for n in [2, 3, 4] {
        five.apply(Event::Lost(native(n)), start).unwrap();
        assert_eq!(five.topology, Topology::Dual);
    }
    for n in [2, 3] {
        five.apply(Event::Back(native(n)), start.plus_ms(4_000)).unwrap();
        assert_eq!(five.topology, Topology::Dual);
    }
    five.apply(Event::Back(native(4)), start.plus_ms(5_000)).unwrap();
    assert_eq!(five.topology, Topology::Sfu);
}

#[test]
fn a_room_is_one_calls_of_one_group() {
    let room = |group, call| sfu_room(&GroupId::new([group; 32]), &CallId::new([call; 16]));
    let all = std::collections::BTreeSet::from([room(1, 1), room(1, 2), room(2, 1), room(2, 2)]);
    assert!(all.len() == 4 && all.iter().all(|name| name.len() == 32));
}
