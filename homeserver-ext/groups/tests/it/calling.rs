//! Calls between real clients through a real server, with real sound over the loopback.

mod caller;
mod hostile;
pub(crate) mod served;
mod ways;

use causeway_groups::calling::Command;

use crate::{cli_calls::does, cli_proxy::Proxy, cli_world::World};
use caller::Line;

const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];

#[test]
fn two_three_and_four_come_hear_each_other_mute_and_leave() {
    let world = World::new();
    let people = world.group(NAMES);
    let mut line = Line::new();
    line.call(0, &people[0], true);
    line.until_in_it(&[0]);
    for (n, person) in people.iter().enumerate().skip(1) {
        line.call(n, person, false);
        let all: Vec<_> = (0..=n).collect();
        line.until_in_it(&all);
        line.until_all_hear(&all, 3);
    }
    assert_eq!(line.ears.len(), 12, "directions");
    // The server knows who is connected to whom, as each said it.
    line.until("all are connected", |line| {
        let mine = line.states[&0].natives();
        mine.map(|it| it.connected.len()).eq([3; 4])
    });

    line.command(2, Command::Mute(true));
    line.command(1, Command::Hand(true));
    line.until("it is shown", |line| {
        let all = line.states[&0].natives();
        let of = |n| all.clone().find(|it| line.devices[&it.device] == n).unwrap();
        of(2).muted && of(1).hand && !of(1).muted
    });
    line.until_all_hear(&[0, 1, 3], 3);
    let muted = [0, 1, 3].map(|n| line.times((n, 2)));
    line.until_all_hear(&[0, 1, 3], 4);
    assert_eq!([0, 1, 3].map(|n| line.times((n, 2))), muted);
    line.command(2, Command::Mute(false));
    line.until_all_hear(&[0, 1, 2, 3], 2);

    line.command(3, Command::Leave);
    line.until("it has left", |line| line.over.contains_key(&3));
    assert_eq!(line.over[&3], "Left");
    line.until_in_it(&[0, 1, 2]);
    line.until_all_hear(&[0, 1, 2], 2);
    // Whoever began it ends it for all.
    does(&people[0], async |client, group| {
        client.http().end_call(group, line.which().1).await.unwrap();
    });
    line.until("it is over", |line| (0..3).all(|n| line.over.contains_key(&n)));
    assert!((0..3).all(|n| line.over[&n] == "Over"), "{:?}", line.over);
}

#[test]
fn two_who_begin_at_once_are_in_one_call() {
    let world = World::new();
    let people = world.group(["alice", "bob"]);
    let mut line = Line::new();
    line.call(0, &people[0], true);
    line.call(1, &people[1], true);
    line.until_in_it(&[0, 1]);
    assert_eq!(line.states[&0].call, line.states[&1].call);
    line.until_all_hear(&[0, 1], 3);
}

#[test]
fn who_is_killed_is_let_go_after_its_grace_and_heard_again_when_it_comes_back() {
    let world = World::new();
    let people = world.group(["alice", "bob", "carol"]);
    let mut line = Line::new();
    line.call(0, &people[0], true);
    line.until_in_it(&[0]);
    line.call(1, &people[1], false);
    line.call(2, &people[2], false);
    line.until_all_hear(&[0, 1, 2], 2);
    // Back within its grace, unless the machine is slow; the rules' own tests have no such clock.
    line.kill(1);
    line.until_all_hear(&[0, 2], 2);
    line.ears.clear();
    line.call(1, &people[1], false);
    line.until_all_hear(&[0, 1, 2], 2);
    // Gone for good.
    line.kill(1);
    line.until_all_hear(&[0, 2], 4);
    line.until_in_it(&[0, 2]);
    let out = &line.states[&0].out;
    assert!(!out.is_empty() && out.iter().all(|out| out.why == "lost"), "{out:?}");
    line.until_all_hear(&[0, 2], 2);
}

#[test]
fn a_server_that_hangs_is_noticed_as_one_that_is_lost_and_they_talk_on() {
    let world = World::new();
    let mut people = world.group(["alice", "bob"]);
    let proxy = Proxy::before(world.server.address());
    for person in &mut people {
        person.url = proxy.url();
    }
    let mut line = Line::new();
    line.call(0, &people[0], true);
    line.until_in_it(&[0]);
    line.call(1, &people[1], false);
    line.until_all_hear(&[0, 1], 2);
    let hangs = proxy.hang();
    line.until("it is noticed", |line| [0, 1].iter().all(|n| line.is_told(*n, "Away(")));
    line.until_all_hear(&[0, 1], 4);
    drop(hangs);
    line.until("it is back", |line| [0, 1].iter().all(|n| line.is_told(*n, "Back")));
    line.until_in_it(&[0, 1]);
    line.until_all_hear(&[0, 1], 2);
    assert!(line.over.is_empty(), "{:?}", line.over);
}

#[test]
fn a_server_that_is_restarted_interrupts_nobody_and_lets_go_of_who_died_meanwhile() {
    let mut world = World::new();
    let people = world.group(["alice", "bob", "carol"]);
    let mut line = Line::new();
    line.call(0, &people[0], true);
    line.until_in_it(&[0]);
    line.call(1, &people[1], false);
    line.call(2, &people[2], false);
    line.until_all_hear(&[0, 1, 2], 2);
    world.server.stop();
    let before = line.ears.len();
    line.until_all_hear(&[0, 1, 2], 6);
    assert_eq!(line.ears.len(), before);
    line.kill(2);
    line.until_all_hear(&[0, 1], 2);
    world.server.start_again();
    // The two who are there stay, and go on talking.
    line.until_in_it(&[0, 1]);
    line.until_all_hear(&[0, 1], 2);
    assert!(line.over.is_empty(), "{:?}", line.over);
    line.command(0, Command::Leave);
    line.command(1, Command::Leave);
    line.until("both have left", |line| line.over.len() == 2);
    assert!(line.over.values().all(|over| over == "Left"), "{:?}", line.over);
}
