//! What refusals mean and what follows from failures, as tables.

use super::*;

const TRIES: Tries = Tries {
    refused: 0,
    limit: 3,
    failures: 0,
    stood: Duration::ZERO,
    others_do_well: true,
    room_takes: false,
    is_alone: false,
    is_invite: false,
    is_over: false,
};

fn refused() -> Failure {
    Failure::Refused("403".to_owned())
}

fn away() -> Failure {
    Failure::Unknown("away".to_owned())
}

fn fault() -> Failure {
    Failure::Fault("500".to_owned())
}

fn is_dead(failure: &Failure, tries: Tries) -> bool {
    matches!(judge(failure, tries, 0), Outcome::Dead(_))
}

#[test]
fn what_a_refusal_means_depends_on_the_errcode_and_the_place() {
    use Meaning::{Device, Final, Passing, Standing, Unclear};
    // In the order of the places: a message, a ghost, an invite, the room.
    let table = [
        ((403, "M_FORBIDDEN"), [Standing, Final, Final, Unclear]),
        ((413, "M_TOO_LARGE"), [Final; 4]),
        ((413, ""), [Final; 4]),
        ((400, "M_BAD_JSON"), [Final; 4]),
        ((400, "M_NOT_JSON"), [Final; 4]),
        ((403, "M_USER_DEACTIVATED"), [Final; 4]),
        ((400, "M_UNKNOWN_DEVICE"), [Device, Unclear, Unclear, Unclear]),
        ((403, "M_RESOURCE_LIMIT_EXCEEDED"), [Passing; 4]),
        ((404, ""), [Passing; 4]),
        ((302, ""), [Passing; 4]),
        ((404, "M_NOT_FOUND"), [Unclear; 4]),
        ((400, "M_UNKNOWN"), [Unclear; 4]),
    ];
    for ((status, errcode), expected) in table {
        let places = [Place::Message, Place::Ghost, Place::Invite, Place::Room];
        let found = places.map(|place| meaning(place, status, errcode));
        assert_eq!(found, expected, "{status} {errcode}");
    }
}

#[test]
fn what_is_not_mended_is_given_up_waited_for_or_counted() {
    let table = [
        (Meaning::Final, Failure::Gone("x".to_owned())),
        (Meaning::Standing, Failure::Gone("x".to_owned())),
        (Meaning::Passing, Failure::Unknown("x".to_owned())),
        (Meaning::Device, Failure::Refused("x".to_owned())),
        (Meaning::Unclear, Failure::Refused("x".to_owned())),
    ];
    for (meaning, failure) in table {
        assert_eq!(Failure::refused(meaning, "x".to_owned()), failure, "{meaning:?}");
    }
}

#[test]
fn only_answered_refusals_count() {
    let table = [
        (away(), Outcome::Again(1, false)),
        (fault(), Outcome::Again(1, false)),
        (Failure::NotNow(String::new(), None), Outcome::Again(1, false)),
        (refused(), Outcome::Again(1, true)),
        (Failure::Token, Outcome::Halt),
        (Failure::Aside, Outcome::Again(0, false)),
        (Failure::Searching(100), Outcome::Again(0, false)),
        (Failure::Later(String::new()), Outcome::Again(LATER_MS, false)),
        (Failure::Gone("no".to_owned()), Outcome::Dead("no".to_owned())),
    ];
    for (failure, outcome) in table {
        assert_eq!(judge(&failure, TRIES, 0), outcome, "{failure}");
    }
}

#[test]
fn who_did_not_answer_is_away_and_may_have_done_it() {
    let table = [
        (away(), true, true),
        (fault(), true, false),
        (Failure::NotNow(String::new(), None), false, true),
        (Failure::NotNow(String::new(), Some(1)), false, false),
        (Failure::Token, false, false),
        (refused(), false, false),
        (Failure::Gone(String::new()), false, false),
    ];
    for (failure, unknown, is_away) in table {
        assert_eq!((failure.is_unknown(), failure.is_away()), (unknown, is_away), "{failure}");
    }
}

#[test]
fn others_go_first_where_the_trouble_may_be_ones_own() {
    let limited = || Failure::NotNow(String::new(), Some(1));
    let absent = || Failure::NotNow(String::new(), None);
    // Is it his own; may it be, the first time; the second time; after long.
    let table = [
        (refused(), [true, false, false, false]),
        (Failure::Gone(String::new()), [true, false, false, false]),
        (Failure::Aside, [true, false, false, false]),
        (Failure::Searching(100), [false; 4]),
        (Failure::Later(String::new()), [false; 4]),
        (fault(), [false, false, true, true]),
        (away(), [false, false, true, true]),
        (limited(), [false, false, true, true]),
        (Failure::NotNow(String::new(), Some(5_000)), [false, true, true, true]),
        (absent(), [false; 4]),
        (Failure::Token, [false; 4]),
    ];
    let (short, long) = (Duration::from_millis(4_999), Duration::from_secs(5));
    for (failure, expected) in table {
        let may_be = |failures, took| failure.may_be_own(failures, took);
        let found = [failure.is_own(false), may_be(0, short), may_be(1, short), may_be(0, long)];
        assert_eq!(found, expected, "{failure}");
    }
    let invites = [refused(), fault(), away(), limited(), absent(), Failure::Token];
    let own = invites.map(|failure| failure.is_own(true));
    assert_eq!(own, [true, true, true, false, false, false]);
}

/// Found by an attack: an invitation to a room that was not made was tried without a pause.
#[test]
fn what_is_not_ended_by_patience_is_waited_for() {
    let asked = Tries { stood: 4 * INVITE_PATIENCE, is_invite: true, failures: 9, ..TRIES };
    for (failure, least) in [(None, 60_000), (Some(30_000), 0)] {
        let failure = Failure::NotNow(String::new(), failure);
        match judge(&failure, asked, MAX_WAIT_MS) {
            Outcome::Again(wait, false) => assert!(wait >= least && least > 0, "{wait}"),
            Outcome::Dead(_) => assert_eq!(least, 0),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_limit_ends_refusals_and_time_ends_the_rest() {
    let last = Tries { refused: 2, ..TRIES };
    assert!(is_dead(&refused(), last));
    assert!(!is_dead(&refused(), Tries { refused: 1, is_over: true, ..TRIES }));
    for failure in [away(), fault(), Failure::NotNow(String::new(), Some(9))] {
        assert!(!is_dead(&failure, last));
        assert!(is_dead(&failure, Tries { is_over: true, ..TRIES }));
    }
}

#[test]
fn what_the_homeserver_cannot_do_while_it_does_others_ends_after_five_minutes() {
    let five = Tries { stood: OWN_PATIENCE, ..TRIES };
    let less = Tries { stood: Duration::from_millis(299_999), ..TRIES };
    let alone = Tries { others_do_well: false, ..five };
    for (failure, tries, expected) in [
        (fault(), five, true),
        (fault(), less, false),
        (fault(), alone, false),
        (away(), five, false),
        (Failure::NotNow(String::new(), None), five, false),
        // A gateway that fails one person only speaks of him.
        (away(), Tries { is_alone: true, ..five }, true),
        (away(), Tries { is_alone: true, ..less }, false),
        (away(), Tries { is_alone: true, ..alone }, false),
        (Failure::NotNow(String::new(), None), Tries { is_alone: true, ..five }, false),
    ] {
        assert_eq!(is_dead(&failure, tries), expected, "{failure} {tries:?}");
    }
}

#[test]
fn nobody_is_invited_for_longer_than_a_minute() {
    let asked = Tries { stood: INVITE_PATIENCE, is_invite: true, others_do_well: false, ..TRIES };
    let less = Tries { stood: Duration::from_millis(24_999), ..asked };
    for (failure, tries, expected) in [
        (fault(), asked, true),
        (away(), asked, true),
        (fault(), less, false),
        (away(), less, false),
        (Failure::NotNow(String::new(), Some(999_000)), asked, true),
        // The homeserver is not there at all.
        (Failure::NotNow(String::new(), None), asked, false),
    ] {
        assert_eq!(is_dead(&failure, tries), expected, "{failure} {tries:?}");
    }
    // The last try is not late.
    let long = Tries { failures: 40, ..less };
    assert_eq!(judge(&away(), long, 100_000), Outcome::Again(1, false));
    let early = Tries { stood: Duration::from_secs(20), ..long };
    assert_eq!(judge(&away(), early, 100_000), Outcome::Again(5_000, false));
}

#[test]
fn waits_grow_to_two_minutes_and_obey_the_homeserver() {
    let wait = |failures, random| wait_ms(failures, MAX_WAIT_MS, random);
    let ceiling = |failures| (0..50).map(|n| wait(failures, u64::MAX - n)).max().unwrap();
    assert!(ceiling(0) <= FIRST_WAIT_MS);
    assert!(ceiling(40) <= MAX_WAIT_MS);
    for (failures, longest) in [(0, 250), (1, 500), (8, 64_000), (9, 120_000), (40, 120_000)] {
        assert_eq!(wait(failures, longest), longest, "{failures}");
        assert_eq!(wait(failures, longest + 1), 1, "{failures}");
    }
    // Bad luck in a room that takes what others say costs no minutes.
    for (room_takes, wait) in [(false, 15_001), (true, 1)] {
        let tries = Tries { failures: 40, room_takes, ..TRIES };
        assert_eq!(judge(&away(), tries, 15_001), Outcome::Again(wait, false));
    }
    let told = Failure::NotNow(String::new(), Some(5_000));
    assert_eq!(judge(&told, TRIES, 0), Outcome::Again(5_000, false));
}
