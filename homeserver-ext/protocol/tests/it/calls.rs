//! The rules of calls, one by one.

use std::collections::BTreeSet;

use causeway_protocol::{
    call::{
        Call, Caps, Change, Effect, Ended, Event, Out, Refused, Said, Topology, Who, offers,
        prevails, rules, sfu_identity,
    },
    ids::{CallId, DeviceId, Timestamp},
};

pub(crate) const ALL: Caps = Caps { mesh: true, sfu: true, may_degrade: false };

pub(crate) fn native(n: u8) -> Who {
    Who::Native(DeviceId::new([n; 32]))
}

fn matrix() -> Who {
    Who::Matrix("@eve:m.example".into(), "ABC".into())
}

/// A call and its time, in seconds.
struct Stage(Call, u64);

impl Stage {
    fn with(natives: u8) -> Self {
        let mut stage = Self(Call::new(rules::MESH_MAX, true, Timestamp(0)), 0);
        for n in 1..=natives {
            stage.take(Event::Join(native(n), ALL)).unwrap();
        }
        stage
    }

    fn on_sfu() -> Self {
        let mut stage = Self::with(5);
        stage.all_ready();
        stage.wait(2);
        assert_eq!(stage.0.topology, Topology::Sfu);
        stage
    }

    fn take(&mut self, event: Event) -> Result<Change, Refused> {
        self.0.apply(event, Timestamp(self.1 * 1000))
    }

    fn wait(&mut self, seconds: u64) -> Vec<Effect> {
        self.1 += seconds;
        self.take(Event::Tick).unwrap().effects
    }

    fn say(&mut self, n: u8, ready: bool, declined: bool) -> Vec<Effect> {
        let connected = self.0.participants.keys().cloned().collect();
        let said = Said { connected, ready, declined };
        self.take(Event::Report(native(n), self.0.epoch, said)).unwrap().effects
    }

    fn show(&mut self, those: &[u8]) -> Vec<Effect> {
        self.take(Event::Shown(those.iter().copied().map(native).collect())).unwrap().effects
    }

    fn are_ready(&mut self, those: impl IntoIterator<Item = u8>) {
        those.into_iter().for_each(|n| drop(self.say(n, true, false)));
    }

    fn come(&mut self, those: impl IntoIterator<Item = u8>) {
        those.into_iter().for_each(|n| drop(self.take(Event::Join(native(n), ALL)).unwrap()));
    }

    fn leave(&mut self, those: impl IntoIterator<Item = u8>) {
        those.into_iter().for_each(|n| drop(self.take(Event::Leave(native(n))).unwrap()));
    }

    fn all_ready(&mut self) {
        let all: Vec<u8> =
            (1..=9).filter(|n| self.0.participants.contains_key(&native(*n))).collect();
        self.show(&all);
        self.are_ready(all);
    }

    fn is(&self, topology: Topology, epoch: u32, participants: usize) {
        let now = (self.0.topology, self.0.epoch, self.0.participants.len());
        assert_eq!(now, (topology, epoch, participants));
    }
}

fn out(effects: &[Effect]) -> Vec<(Who, Out)> {
    let put_out = effects.iter().filter_map(|effect| match effect {
        Effect::PutOut(who, why) => Some((who.clone(), *why)),
        Effect::OpenRoom | Effect::CloseRoom | Effect::Remove(_) => None,
    });
    put_out.collect()
}

#[test]
fn four_stay_in_the_mesh_and_the_fifth_moves_all() {
    let mut stage = Stage::with(4);
    stage.is(Topology::Mesh, 0, 4);
    let change = stage.take(Event::Join(native(5), ALL)).unwrap();
    assert_eq!(change.effects, [Effect::OpenRoom]);
    stage.is(Topology::Prepare, 1, 5);
    stage.all_ready();
    stage.is(Topology::Dual, 2, 5);
    stage.wait(1);
    stage.is(Topology::Dual, 2, 5);
    stage.wait(1);
    stage.is(Topology::Sfu, 3, 5);
}

#[test]
fn nobody_is_ready_by_his_word_or_by_the_list_alone() {
    let mut stage = Stage::with(5);
    stage.are_ready(1..=5);
    stage.is(Topology::Prepare, 1, 5);
    let mut stage = Stage::with(5);
    stage.show(&[1, 2, 3, 4, 5]);
    stage.is(Topology::Prepare, 1, 5);
    stage.are_ready(1..=5);
    stage.is(Topology::Dual, 2, 5);
}

#[test]
fn a_matrix_user_moves_even_two() {
    let mut stage = Stage::with(2);
    stage.take(Event::Join(matrix(), ALL)).unwrap();
    stage.is(Topology::Prepare, 1, 3);
    stage.all_ready();
    stage.wait(2);
    stage.is(Topology::Sfu, 3, 3);
    // It is never waited for, and has 30 s.
    assert_eq!(out(&stage.wait(27)), []);
    assert_eq!(out(&stage.wait(1)), [(matrix(), Out::CouldNotConnect)]);
}

#[test]
fn a_token_that_nobody_uses_moves_nobody() {
    let mut stage = Stage::with(2);
    stage.take(Event::Expect(matrix())).unwrap();
    stage.is(Topology::Prepare, 1, 2);
    assert!(stage.0.may_use_sfu(&matrix()));
    stage.all_ready();
    stage.wait(29);
    stage.is(Topology::Prepare, 1, 2);
    assert_eq!(stage.wait(1), [Effect::CloseRoom]);
    stage.is(Topology::Mesh, 2, 2);
    assert!(!stage.0.may_use_sfu(&matrix()));
}

#[test]
fn who_comes_while_one_of_matrix_is_awaited_has_time_of_his_own() {
    for seconds in [13, 25] {
        let mut stage = Stage::with(2);
        stage.take(Event::Expect(matrix())).unwrap();
        stage.all_ready();
        stage.wait(seconds);
        let change = stage.take(Event::Join(native(3), ALL)).unwrap();
        assert_eq!(out(&change.effects), [], "after {seconds} s");
        stage.is(Topology::Prepare, 1, 3);
    }
    // Likewise where those who were there were put out, and nobody is left.
    let mut stage = Stage::with(1);
    stage.take(Event::Expect(matrix())).unwrap();
    stage.take(Event::Leave(native(1))).unwrap();
    stage.wait(14);
    let change = stage.take(Event::Join(native(2), ALL)).unwrap();
    assert_eq!(out(&change.effects), []);
}

#[test]
fn one_user_under_many_names_leaves_room_for_others() {
    let of = |user: &str, device: usize| Who::Matrix(user.to_owned(), format!("D{device}"));
    let mut stage = Stage::with(2);
    for device in 0..40 {
        stage.take(Event::Expect(of("@eve:b.example", device))).unwrap();
    }
    let awaited: Vec<_> = stage.0.awaited().cloned().collect();
    assert_eq!(awaited.len(), rules::MOST_EXPECTED_OF_ONE);
    assert!(awaited.contains(&of("@eve:b.example", 39)), "the newest");
    for user in 0..rules::MOST_EXPECTED - rules::MOST_EXPECTED_OF_ONE {
        stage.take(Event::Expect(of(&format!("@u{user}:b.example"), 0))).unwrap();
    }
    let refused = stage.take(Event::Expect(of("@last:b.example", 0))).unwrap_err();
    assert_eq!(refused, Refused::TooManyExpected(rules::MOST_EXPECTED));
    // Whom an admin puts out makes room.
    stage.take(Event::Kick(of("@u0:b.example", 0))).unwrap();
    stage.take(Event::Expect(of("@last:b.example", 0))).unwrap();
    assert_eq!(stage.take(Event::Kick(of("@u0:b.example", 0))).unwrap_err(), Refused::NotInCall);
}

#[test]
fn one_of_the_mesh_who_is_not_ready_keeps_all_in_it() {
    let mut stage = Stage::with(5);
    stage.show(&[1, 2, 3, 5]);
    stage.are_ready([1, 2, 3, 5]);
    stage.wait(7);
    stage.is(Topology::Prepare, 1, 5);
    let effects = stage.wait(1);
    assert_eq!(out(&effects), [(native(5), Out::CannotUseSfu)]);
    assert_eq!(effects.last(), Some(&Effect::CloseRoom));
    stage.is(Topology::Mesh, 2, 4);
}

#[test]
fn who_agreed_to_be_left_is_left() {
    let mut stage = Stage::with(3);
    let agrees = Caps { may_degrade: true, ..ALL };
    stage.take(Event::Join(native(4), agrees)).unwrap();
    stage.take(Event::Join(native(5), ALL)).unwrap();
    stage.take(Event::Join(native(6), ALL)).unwrap();
    let those = [1, 2, 3, 5, 6];
    stage.show(&those);
    stage.are_ready(those);
    let effects = stage.say(4, false, true);
    assert_eq!(out(&effects), [(native(4), Out::MovedToSfu)]);
    stage.is(Topology::Dual, 2, 5);
}

#[test]
fn a_refusal_of_one_of_the_mesh_is_answered_at_once() {
    let mut stage = Stage::with(5);
    assert_eq!(out(&stage.say(2, false, true)), [(native(5), Out::CannotUseSfu)]);
    stage.is(Topology::Mesh, 2, 4);
    // And the newcomer's own at the latest when the others are ready.
    let mut stage = Stage::with(5);
    stage.show(&[1, 2, 3, 4]);
    stage.are_ready(1..=4);
    assert_eq!(out(&stage.say(5, false, true)), [(native(5), Out::CannotUseSfu)]);
    stage.is(Topology::Mesh, 2, 4);
}

#[test]
fn whoever_comes_meanwhile_adds_four_seconds_once() {
    let mut stage = Stage::with(5);
    assert_eq!(stage.0.until, Some(Timestamp(8_000)));
    stage.take(Event::Join(native(6), ALL)).unwrap();
    assert_eq!(stage.0.until, Some(Timestamp(12_000)));
    stage.take(Event::Join(native(7), ALL)).unwrap();
    assert_eq!(stage.0.until, Some(Timestamp(12_000)));
    // The seventh is not waited for.
    stage.show(&[1, 2, 3, 4, 5, 6]);
    stage.are_ready(1..=6);
    stage.is(Topology::Dual, 2, 7);
}

#[test]
fn a_crash_shrinks_the_quorum_and_fewer_need_no_sfu() {
    let mut stage = Stage::with(5);
    stage.take(Event::Join(native(6), ALL)).unwrap();
    stage.show(&[1, 2, 3, 4, 6]);
    stage.are_ready([1, 2, 3, 4, 6]);
    stage.is(Topology::Prepare, 1, 6);
    stage.take(Event::Lost(native(5))).unwrap();
    stage.is(Topology::Dual, 2, 6);
    let mut stage = Stage::with(5);
    assert_eq!(out(&stage.take(Event::Leave(native(1))).unwrap().effects), []);
    stage.is(Topology::Mesh, 2, 4);
}

#[test]
fn an_sfu_that_fails_before_the_move_costs_only_who_came_last() {
    for dual in [false, true] {
        let mut stage = Stage::with(5);
        if dual {
            stage.all_ready();
        }
        let effects = stage.take(Event::SfuDown).unwrap().effects;
        assert_eq!(out(&effects), [(native(5), Out::SfuUnavailable)]);
        assert_eq!((stage.0.topology, stage.0.participants.len()), (Topology::Mesh, 4));
        let again = stage.take(Event::Join(native(5), ALL)).unwrap_err();
        assert_eq!(again, Refused::SfuUnavailable(4, 30_000));
        let alone = Refused::SfuUnavailable(1, 0).to_string();
        assert!(alone.starts_with("This call has 1 person. "), "{alone}");
        let text = "This call has 4 people. The server that carries bigger calls is not reachable.";
        assert_eq!(again.to_string(), text);
        stage.wait(30);
        stage.take(Event::Join(native(5), ALL)).unwrap();
    }
}

#[test]
fn an_uplink_that_goes_before_the_commit_stops_it() {
    let mut stage = Stage::with(5);
    stage.all_ready();
    stage.show(&[1, 2, 3, 5]);
    stage.wait(7);
    stage.is(Topology::Dual, 2, 5);
    assert_eq!(out(&stage.wait(1)), [(native(5), Out::CannotUseSfu)]);
    stage.is(Topology::Mesh, 3, 4);
}

#[test]
fn without_an_sfu_the_fifth_is_told_so_and_nothing_changes() {
    let mut call = Call::new(rules::MESH_MAX, false, Timestamp(0));
    for n in 1..=4 {
        call.apply(Event::Join(native(n), ALL), Timestamp(0)).unwrap();
    }
    let before = call.clone();
    let refused = call.apply(Event::Join(native(5), ALL), Timestamp(0)).unwrap_err();
    assert_eq!((refused, call), (Refused::SfuUnavailable(4, 30_000), before));
}

#[test]
fn who_cannot_use_the_sfu_is_named() {
    let none = Caps { sfu: false, ..ALL };
    let mut stage = Stage::with(3);
    stage.take(Event::Join(native(4), none)).unwrap();
    let refused = stage.take(Event::Join(native(5), ALL)).unwrap_err();
    assert_eq!(refused, Refused::CannotUseSfu(vec![native(4)]));
    let mut stage = Stage::with(4);
    let refused = stage.take(Event::Join(native(5), none)).unwrap_err();
    assert_eq!(refused, Refused::CannotUseSfu(vec![native(5)]));
    stage.is(Topology::Mesh, 0, 4);
}

#[test]
fn a_small_call_goes_back_when_it_is_calm_and_all_are_connected() {
    let mut stage = Stage::on_sfu();
    stage.leave([4, 5]);
    stage.wait(119);
    stage.is(Topology::Sfu, 3, 3);
    stage.wait(1);
    stage.is(Topology::Shrink, 4, 3);
    stage.are_ready([1, 2]);
    stage.wait(3);
    stage.is(Topology::Shrink, 4, 3);
    stage.say(3, true, false);
    assert_eq!(stage.wait(2), []);
    stage.is(Topology::Mesh, 5, 3);
    assert_eq!(stage.wait(5), [Effect::CloseRoom]);
}

#[test]
fn a_return_that_does_not_come_about_and_one_who_comes_meanwhile_leave_it_on_the_sfu() {
    let shrinking = || {
        let mut stage = Stage::on_sfu();
        stage.leave([4, 5]);
        stage.wait(120);
        stage.is(Topology::Shrink, 4, 3);
        stage
    };
    let mut stage = shrinking();
    assert_eq!(stage.wait(8), []);
    stage.is(Topology::Sfu, 5, 3);
    stage.wait(59);
    stage.is(Topology::Sfu, 5, 3);
    let mut stage = shrinking();
    stage.take(Event::Join(native(4), ALL)).unwrap();
    stage.is(Topology::Sfu, 5, 4);
}

#[test]
fn after_three_switches_in_ten_minutes_it_stays() {
    let mut stage = Stage::on_sfu();
    let began = stage.1;
    for _ in 0..2 {
        stage.leave([4, 5]);
        while stage.0.topology == Topology::Sfu {
            stage.wait(1);
        }
        if stage.1 - began >= 600 {
            return;
        }
        stage.all_ready();
        stage.wait(2);
        stage.come([4, 5]);
        stage.all_ready();
        stage.wait(2);
    }
    panic!("it switched a fourth time after {} s", stage.1 - began);
}

#[test]
fn an_sfu_that_is_lost_ends_a_big_call_and_not_a_small_one() {
    let mut stage = Stage::on_sfu();
    stage.take(Event::SfuDown).unwrap();
    stage.wait(30);
    stage.is(Topology::Reconnecting, 4, 5);
    stage.wait(60);
    stage.is(Topology::Ended(Ended::MediaServerLost), 5, 0);

    let mut stage = Stage::on_sfu();
    stage.take(Event::SfuDown).unwrap();
    stage.wait(30);
    stage.take(Event::SfuUp).unwrap();
    stage.is(Topology::Sfu, 5, 5);

    let mut stage = Stage::on_sfu();
    stage.take(Event::Leave(native(5))).unwrap();
    stage.take(Event::SfuDown).unwrap();
    stage.wait(30);
    stage.is(Topology::Mesh, 4, 4);
}

#[test]
fn who_is_lost_has_fifteen_seconds() {
    for mut stage in [Stage::with(3), Stage::on_sfu()] {
        stage.take(Event::Lost(native(1))).unwrap();
        stage.wait(14);
        stage.take(Event::Back(native(1))).unwrap();
        stage.wait(2);
        assert!(stage.0.participants.contains_key(&native(1)));
        stage.take(Event::Lost(native(1))).unwrap();
        assert_eq!(out(&stage.wait(15)), [(native(1), Out::Lost)]);
    }
}

#[test]
fn an_uplink_that_is_lost_on_the_sfu_costs_only_its_owner() {
    let mut stage = Stage::on_sfu();
    stage.show(&[1, 2, 3, 4]);
    assert_eq!(out(&stage.wait(14)), []);
    assert_eq!(out(&stage.wait(1)), [(native(5), Out::CouldNotConnect)]);
    let mut stage = Stage::on_sfu();
    stage.say(5, false, false);
    assert_eq!(out(&stage.wait(14)), []);
    assert_eq!(out(&stage.wait(1)), [(native(5), Out::CouldNotConnect)]);
}

#[test]
fn a_pair_that_never_connects_may_move_all() {
    let mut stage = Stage::with(2);
    let ask = || Event::Upgrade(native(1), native(2));
    stage.wait(29);
    assert_eq!(stage.take(ask()), Err(Refused::NoNeed));
    stage.wait(1);
    stage.take(ask()).unwrap();
    stage.is(Topology::Prepare, 1, 2);
    stage.all_ready();
    stage.wait(2);
    stage.is(Topology::Sfu, 3, 2);
    let mut stage = Stage::with(2);
    for n in [1, 2] {
        stage.say(n, false, false);
    }
    stage.wait(31);
    assert_eq!(stage.take(ask()), Err(Refused::NoNeed));
}

#[test]
fn what_is_refused_changes_nothing() {
    let mut stage = Stage::with(2);
    let before = stage.0.clone();
    let said = Said { connected: BTreeSet::new(), ready: true, declined: true };
    let of_another = stage.take(Event::Report(native(1), 7, said.clone()));
    assert_eq!(of_another, Err(Refused::StaleEpoch(7, 0)));
    let stranger = stage.take(Event::Report(native(9), 0, said));
    assert_eq!(stranger, Err(Refused::NotInCall));
    assert_eq!(stage.take(Event::Upgrade(native(9), native(1))), Err(Refused::NotInCall));
    // A hundred joins of one who is in are one.
    for _ in 0..100 {
        assert!(!stage.take(Event::Join(native(1), ALL)).unwrap().changed);
    }
    assert_eq!(stage.0, before);
}

#[test]
fn a_call_is_full_and_an_empty_one_ends() {
    let mut stage = Stage::on_sfu();
    for n in 5..rules::MOST {
        let who = Who::Matrix(format!("@u{n}:m.example"), "D".into());
        stage.take(Event::Join(who, ALL)).unwrap();
    }
    assert_eq!(stage.take(Event::Join(native(9), ALL)), Err(Refused::Full(rules::MOST)));
    let mut stage = Stage::with(1);
    stage.take(Event::Leave(native(1))).unwrap();
    stage.wait(29);
    stage.is(Topology::Mesh, 0, 0);
    stage.wait(1);
    stage.is(Topology::Ended(Ended::Empty), 1, 0);
    assert_eq!(stage.take(Event::Join(native(1), ALL)), Err(Refused::Ended));
    assert!(!stage.take(Event::Leave(native(1))).unwrap().changed);
    assert_eq!(stage.0.deadline(Timestamp(0)), None);
}

#[test]
fn exactly_one_of_two_offers_and_one_call_stands() {
    let [one, other] = [1, 2].map(|n| DeviceId::new([n; 32]));
    assert!(offers(&other, &one) && !offers(&one, &other) && !offers(&one, &one));
    assert!(prevails(&other, &one) && !prevails(&one, &other));
}

#[test]
fn the_sfu_knows_a_device_by_another_name_in_each_call() {
    let name = |call, device| sfu_identity(&CallId::new([call; 16]), &DeviceId::new([device; 32]));
    assert_eq!(name(1, 2).len(), 32);
    let all: BTreeSet<_> = [name(1, 1), name(1, 2), name(2, 1), name(2, 2)].into();
    assert_eq!(all.len(), 4);
}

#[test]
fn who_is_not_there_gains_no_time_by_words() {
    let mut stage = Stage::on_sfu();
    stage.show(&[1, 2, 3, 4]);
    let mut put_out = Vec::new();
    for _ in 0..20 {
        stage.say(5, true, false);
        stage.say(5, false, false);
        put_out = stage.wait(1);
        if !put_out.is_empty() {
            break;
        }
    }
    assert!(put_out.contains(&Effect::PutOut(native(5), Out::CouldNotConnect)), "{put_out:?}");
}

#[test]
fn a_server_that_was_away_beyond_the_deadline_has_put_nobody_out() {
    let mut stage = Stage::with(0);
    for n in 1..=5 {
        stage.take(Event::Join(native(n), Caps { may_degrade: true, ..ALL })).unwrap();
    }
    stage.is(Topology::Prepare, 1, 5);
    (1..=5).for_each(|n| drop(stage.take(Event::Lost(native(n))).unwrap()));
    stage.wait(14);
    // They come back one by one, and have said nothing yet.
    for n in 1..=5 {
        stage.take(Event::Back(native(n))).unwrap();
        stage.is(Topology::Prepare, 1, 5);
    }
    stage.wait(7);
    stage.all_ready();
    stage.is(Topology::Dual, 2, 5);
    // Who is lost alone wins the others no time by that.
    let mut stage = Stage::with(5);
    stage.show(&[2, 3, 5]);
    stage.are_ready([2, 3, 5]);
    stage.take(Event::Lost(native(4))).unwrap();
    stage.wait(7);
    stage.take(Event::Back(native(4))).unwrap();
    stage.is(Topology::Prepare, 1, 5);
    stage.wait(2);
    stage.is(Topology::Mesh, 2, 4);
}

#[test]
fn a_new_room_costs_nobody_his_place_who_is_there_in_time() {
    let mut stage = Stage::on_sfu();
    stage.wait(100);
    let changed = stage.take(Event::NewRoom).unwrap();
    assert!(changed.changed && changed.effects.is_empty());
    assert!(stage.show(&[]).is_empty());
    stage.show(&[1, 2, 3, 4]);
    assert!(stage.wait(29).is_empty());
    stage.is(Topology::Sfu, 3, 5);
    // As a newcomer who does not connect.
    assert_eq!(out(&stage.wait(1)), [(native(5), Out::CouldNotConnect)]);
    stage.is(Topology::Sfu, 3, 4);
    // One of Matrix who has asked has his time again.
    let mut stage = Stage::on_sfu();
    stage.take(Event::Expect(matrix())).unwrap();
    stage.wait(25);
    stage.take(Event::NewRoom).unwrap();
    stage.wait(29);
    assert!(stage.0.is_awaited(&matrix()));
}

#[test]
fn a_new_room_on_the_way_to_the_sfu_gives_all_their_time_again() {
    let mut stage = Stage::with(5);
    stage.all_ready();
    stage.is(Topology::Dual, 2, 5);
    stage.wait(1);
    stage.take(Event::NewRoom).unwrap();
    stage.wait(7);
    stage.is(Topology::Dual, 2, 5);
    stage.show(&[1, 2, 3, 4, 5]);
    stage.wait(0);
    stage.is(Topology::Sfu, 3, 5);
    // While all prepare, whoever came last would be out after 8 s.
    let mut stage = Stage::with(5);
    stage.wait(7);
    stage.take(Event::NewRoom).unwrap();
    assert!(stage.wait(7).is_empty());
    stage.all_ready();
    stage.is(Topology::Dual, 2, 5);
}

#[test]
fn where_there_is_no_room_a_new_one_is_nothing() {
    let mut stage = Stage::with(3);
    assert!(!stage.take(Event::NewRoom).unwrap().changed);
    stage.take(Event::End).unwrap();
    assert!(!stage.take(Event::NewRoom).unwrap().changed);
}
