//! What the room is told of who reads it, as a table.

use causeway_protocol::ids::{AccountId, Epoch};
use serde_json::json;

use super::{
    super::{
        route,
        table::{ENOUGH, event, portal, shape},
    },
    *,
};
use crate::domain::{Input, portal::PortalState};

fn account(name: &str) -> AccountId {
    format!("{name}:b.example").parse().unwrap()
}

fn change() -> RosterChange {
    RosterChange {
        epoch: Epoch(2),
        by: Some(account("ann")),
        share: ENOUGH,
        policy: None,
        joined: vec![],
        left: vec![],
        let_in: None,
        put_out: false,
        closed: false,
    }
}

#[test]
fn the_room_is_told_who_comes_and_who_goes() {
    let open = portal();
    let silent = [
        Portal { encrypted: true, ..portal() },
        Portal { lost: Some("gone".to_owned()), ..portal() },
        Portal { state: PortalState::Making, ..portal() },
    ];
    let joined = RosterChange { joined: vec![account("ben")], ..change() };
    let removed = RosterChange { left: vec![account("ben")], ..change() };
    let left = RosterChange { left: vec![account("ann")], ..change() };
    let same = RosterChange { policy: Some(portal().name), ..change() };
    let words = ["notice in room", "topic"];
    let table = [
        (joined, vec![], [&words[..], &["announce"]].concat()),
        (removed, vec!["put out"], words.to_vec()),
        (left, vec!["leave"], words.to_vec()),
        (same, vec![], vec!["topic"]),
    ];
    for (change, always, then) in table {
        let effects = route(&open, &Input::Roster(change.clone())).unwrap();
        assert_eq!(shape(&effects), [always.clone(), then].concat(), "{change:?}");
        for portal in &silent {
            assert_eq!(shape(&told(portal, &change)), always, "{change:?}");
        }
    }
}

#[test]
fn the_room_bears_the_groups_name() {
    let renamed = RosterChange { policy: Some("Runners".to_owned()), ..change() };
    let of = |portal: &Portal| {
        route(portal, &Input::Roster(renamed.clone())).map(|effects| shape(&effects))
    };
    assert_eq!(of(&portal()), Ok(vec!["named", "rename", "topic"]));
    let encrypted = Portal { encrypted: true, ..portal() };
    let lost = Portal { lost: Some("gone".to_owned()), ..portal() };
    let making = Portal { state: PortalState::Making, ..portal() };
    for portal in [encrypted, lost, making] {
        assert_eq!(of(&portal), Ok(vec!["named"]));
    }
    let closed = Portal { state: PortalState::Closed, ..portal() };
    assert_eq!(of(&closed), Err(Skip::Closed));
    // What the room is called by others is told, and what we called it is not.
    let named = |name: &str| {
        let event = event("@al:x", "m.room.name", Some(""), &json!({"name": name}));
        route(&portal(), &event).map(|effects| shape(&effects))
    };
    assert_eq!(named(&portal().name), Err(Skip::Nothing));
    assert_eq!(named("Runners"), Ok(vec!["say in group", "answer"]));
}

#[test]
fn one_who_is_removed_is_put_out_and_one_who_leaves_goes() {
    let of = |left: &str| told(&portal(), &RosterChange { left: vec![account(left)], ..change() });
    let why = "removed from the group by ann".to_owned();
    let first = |effects: Vec<Effect>| effects.into_iter().next().unwrap();
    assert_eq!(first(of("ben")), Effect::InRoom(InRoom::PutOut(account("ben"), why)));
    assert_eq!(first(of("ann")), Effect::InRoom(InRoom::Leave(account("ann"))));
}

#[test]
fn people_in_the_room_ask_who_reads() {
    let said = |body: &str| {
        let content = json!({"msgtype": "m.text", "body": body});
        event("@al:x", "m.room.message", None, &content)
    };
    let of = |body| route(&portal(), &said(body)).map(|effects| shape(&effects));
    for (body, expected) in [
        ("!causeway members", "members"),
        ("  !causeway  members 2 ", "members"),
        ("!causeway", "asked"),
        ("!causeway status", "asked"),
        ("!causeway invite @bo:x", "asked"),
        ("!causeway unbridge", "asked"),
        ("!causeway members two", "asked"),
        ("!causeway members 1 2", "asked"),
        // Not to the bot.
        ("!causewayed", "say in group"),
        ("try !causeway members", "say in group"),
    ] {
        assert_eq!(of(body), Ok(vec![expected]), "{body}");
    }
    let id = "$e".try_into().unwrap();
    let second = route(&portal(), &said("!causeway members 2"));
    assert_eq!(second, Ok(vec![Effect::InRoom(InRoom::Members(id, 2))]));
    let encrypted = Portal { encrypted: true, ..portal() };
    assert_eq!(route(&encrypted, &said("!causeway members")), Err(Skip::Nothing));
}
