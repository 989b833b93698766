//! Calls that are too big for a mesh: real clients, a real server, and a real LiveKit beside it.

use causeway_groups::calling::Command;
use causeway_protocol::api::CallTopology;
use causeway_server::{ApiSecret, LiveKit};
use serde_json::json;
use tokio::runtime::Runtime;

use super::caller::Line;
use crate::{
    calls::home::Home,
    cli_proxy::Proxy,
    cli_world::{Person, World},
};

const NAMES: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];

/// A LiveKit, and the runtime in which it is.
pub(crate) struct Sfu {
    home: Home,
    runtime: Runtime,
}

impl Sfu {
    pub(crate) fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        Self { home: runtime.block_on(Home::new()), runtime }
    }

    pub(crate) fn of(&self) -> LiveKit {
        LiveKit {
            api_url: self.home.livekit.api_url(),
            public_url: self.home.livekit.url(),
            api_key: self.home.livekit.key().to_owned(),
            api_secret: ApiSecret::new(self.home.livekit.secret()),
        }
    }

    fn rooms(&self) -> usize {
        let rooms = self.runtime.block_on(self.home.ask("ListRooms", json!({})));
        rooms["rooms"].as_array().map_or(0, Vec::len)
    }
}

/// People of one group on a server that has that, the first four of whom talk to each other.
fn four(sfu: &Sfu) -> (World, [Person; 5], Line) {
    let mut world = World::new();
    world.server.with_livekit(sfu.of());
    let people = world.group(NAMES);
    let mut line = Line::new();
    line.call(0, &people[0], true);
    line.until_in_it(&[0]);
    for (n, person) in people.iter().enumerate().take(4).skip(1) {
        line.call(n, person, false);
    }
    line.until_in_it(&[0, 1, 2, 3]);
    line.until_all_hear(&[0, 1, 2, 3], 2);
    (world, people, line)
}

/// Likewise, where their server says that LiveKit hears what is said; and who of all takes that.
fn four_in_the_clear(sfu: &Sfu, takes_it: [bool; 5]) -> (World, [Person; 5], Line) {
    let mut world = World::new();
    world.server.with_livekit(sfu.of());
    let mut people = world.group(NAMES);
    let proxy = Proxy::before(world.server.address());
    proxy.calls_are_clear();
    for person in &mut people {
        person.url = proxy.url();
    }
    let mut line = Line::new();
    for (n, person) in people.iter().enumerate().take(4) {
        line.may_degrade = takes_it[n];
        line.call(n, person, n == 0);
        line.until_in_it(&(0..=n).collect::<Vec<_>>());
    }
    line.until_all_hear(&[0, 1, 2, 3], 2);
    line.may_degrade = takes_it[4];
    (world, people, line)
}

pub(super) fn carried_by(line: &Line, who: &[usize], topology: CallTopology) -> bool {
    who.iter().all(|n| line.states.get(n).is_some_and(|state| state.topology == topology))
}

#[test]
fn the_fifth_comes_and_all_are_carried_by_the_server() {
    let sfu = Sfu::start();
    let (_world, people, mut line) = four(&sfu);
    assert_eq!(sfu.rooms(), 0);
    let all = [0, 1, 2, 3, 4];
    line.call(4, &people[4], false);
    line.until("the server carries it", |line| carried_by(line, &all, CallTopology::Sfu));
    line.until_in_it(&all);
    line.until_all_hear(&all, 4);
    assert_eq!(line.ears.len(), 20, "directions");
    assert_eq!(sfu.rooms(), 1);
    // Nobody has a way to another but by the server.
    for n in all {
        let brought = line.told.iter().rev().find(|(at, told)| *at == n && told.contains("Brings"));
        assert!(brought.is_some_and(|(_, told)| told.contains("sealed: {}")), "{brought:?}");
    }

    line.command(2, Command::Mute(true));
    line.until_all_hear(&[0, 1, 3, 4], 3);
    let muted = line.times((0, 2));
    line.until_all_hear(&[0, 1, 3, 4], 3);
    assert_eq!(line.times((0, 2)), muted);
    line.command(4, Command::Leave);
    line.until("it has left", |line| line.over.contains_key(&4));
    assert_eq!(line.over[&4], "Left");
    line.until_all_hear(&[0, 1, 3], 3);
}

#[test]
fn a_server_for_calls_that_dies_leaves_the_call_where_it_can_be() {
    let mut sfu = Sfu::start();
    let (_world, people, mut line) = four(&sfu);
    let all = [0, 1, 2, 3, 4];
    line.call(4, &people[4], false);
    line.until("the server carries it", |line| carried_by(line, &all, CallTopology::Sfu));
    line.until_all_hear(&all, 2);
    // Started again at once: it has no rooms any more, and gets them again.
    let Sfu { home, runtime } = &mut sfu;
    runtime.block_on(home.livekit.restart()).unwrap();
    line.until("it is missed", |line| all.iter().all(|n| line.is_told(*n, "Over(")));
    line.until_all_hear(&all, 4);
    assert!(line.over.is_empty(), "{:?}", line.over);
}

#[test]
fn four_whose_server_for_calls_dies_talk_directly_again() {
    let _machine = crate::calls::MACHINE.blocking_lock();
    let mut sfu = Sfu::start();
    let (world, people, mut line) = four(&sfu);
    let (all, rest) = ([0, 1, 2, 3, 4], [0, 1, 2, 3]);
    line.call(4, &people[4], false);
    line.until("the server carries it", |line| carried_by(line, &all, CallTopology::Sfu));
    line.until_in_it(&all);
    line.command(4, Command::Leave);
    line.until("it has left", |line| line.over.contains_key(&4));
    line.until_in_it(&rest);
    line.until_all_hear(&rest, 2);
    dies(&mut sfu, &mut line, &rest);
    world.server.is_ahead_by(31_000);
    line.until("they talk directly", |line| carried_by(line, &rest, CallTopology::Mesh));
    line.until_all_hear(&rest, 4);
    assert_eq!(line.over.len(), 1, "{:?}", line.over);
}

#[test]
fn six_wait_for_a_server_that_dies_and_the_call_ends_with_why_where_it_stays_away() {
    let _machine = crate::calls::MACHINE.blocking_lock();
    let mut sfu = Sfu::start();
    let mut world = World::new();
    world.server.with_livekit(sfu.of());
    let people = world.group(["alice", "bob", "carol", "dave", "erin", "frank"]);
    let mut line = Line::new();
    line.call(0, &people[0], true);
    line.until_in_it(&[0]);
    for (n, person) in people.iter().enumerate().skip(1) {
        line.call(n, person, false);
        line.until_in_it(&(0..=n).collect::<Vec<_>>());
    }
    let (all, some) = ([0, 1, 2, 3, 4, 5], [0, 1, 2]);
    line.until("the server carries it", |line| carried_by(line, &all, CallTopology::Sfu));
    // Six at once would be much for a busy machine.
    for n in [3, 4, 5] {
        line.command(n, Command::Mute(true));
    }
    line.until_all_hear(&some, 2);
    dies(&mut sfu, &mut line, &all);
    world.server.is_ahead_by(31_000);
    line.until("they wait", |line| carried_by(line, &all, CallTopology::Reconnecting));
    sfu.runtime.block_on(sfu.home.livekit.restart()).unwrap();
    line.until("it is back", |line| carried_by(line, &all, CallTopology::Sfu));
    line.until_all_hear(&some, 2);
    assert!(line.over.is_empty(), "{:?}", line.over);

    dies(&mut sfu, &mut line, &all);
    world.server.is_ahead_by(31_000);
    line.until("they wait again", |line| carried_by(line, &all, CallTopology::Reconnecting));
    world.server.is_ahead_by(61_000);
    line.until("it is over", |line| line.over.len() == all.len());
    assert!(line.over.values().all(|over| over == "Over"), "{:?}", line.over);
    for n in all {
        assert_eq!(line.states[&n].reason.as_deref(), Some("media_server_lost"));
    }
}

/// Kills it, and waits until these have noticed.
fn dies(sfu: &mut Sfu, line: &mut Line, who: &[usize]) {
    line.told.clear();
    sfu.runtime.block_on(sfu.home.livekit.kill());
    line.until("it is missed", |line| who.iter().all(|n| line.is_told(*n, "Served(Cut)")));
}

#[test]
fn where_the_server_hears_what_is_said_all_who_take_that_are_told_and_hear_each_other() {
    let sfu = Sfu::start();
    let (_world, people, mut line) = four_in_the_clear(&sfu, [true; 5]);
    let all = [0, 1, 2, 3, 4];
    line.call(4, &people[4], false);
    line.until("the server carries it", |line| carried_by(line, &all, CallTopology::Sfu));
    line.until_all_hear(&all, 4);
    assert_eq!(line.ears.len(), 20, "directions");
    for n in all {
        let said = line.told.iter().filter(|(at, told)| *at == n && told.starts_with("Clear"));
        let said: Vec<_> = said.map(|(_, told)| told.as_str()).collect();
        assert_eq!(said, ["Clear { taken: true }"], "{n}");
    }
}

#[test]
fn one_of_the_mesh_who_does_not_take_that_keeps_all_in_it_and_a_newcomer_is_put_out() {
    let sfu = Sfu::start();
    let (_world, people, mut line) = four_in_the_clear(&sfu, [true, true, false, true, true]);
    line.call(4, &people[4], false);
    line.until("the newcomer is told", |line| line.over.contains_key(&4));
    assert_eq!(line.over[&4], r#"Out("cannot_use_sfu")"#);
    line.until("they stay", |line| carried_by(line, &[0, 1, 2, 3], CallTopology::Mesh));
    line.until_in_it(&[0, 1, 2, 3]);
    line.until_all_hear(&[0, 1, 2, 3], 3);
    assert!(line.is_told(2, "Clear { taken: false }"));
}
