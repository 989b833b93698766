//! What is asked of the bridge, as a table: by whom, how much of it is left, and what he gets.

use causeway_protocol::ids::{EnvelopeId, Epoch};

use super::{
    super::{
        route,
        table::{ENOUGH, portal, shape, user},
    },
    *,
};
use crate::domain::{Input, effect::InGroup, share::Share};

const STRANGER: Share = Share { may_ask: false, ..ENOUGH };
const NO_ROOM: Share = Share { rooms: 0, ..ENOUGH };

fn bob() -> AccountId {
    "bob:b.example".parse().unwrap()
}

fn request(invite: &[&str]) -> BridgeRequest {
    BridgeRequest {
        id: EnvelopeId::new([1; 16]),
        by: bob(),
        share: ENOUGH,
        from_admin: true,
        room: None,
        invite: invite.iter().map(|id| user(id)).collect(),
    }
}

fn lets_in(share: Share) -> Input {
    Input::Roster(RosterChange {
        epoch: Epoch(2),
        by: Some(bob()),
        share,
        policy: None,
        joined: vec![],
        left: vec![],
        let_in: Some("Walkers".to_owned()),
        put_out: false,
        closed: false,
    })
}

fn asks(portal: &Portal, request: BridgeRequest) -> Result<Vec<&'static str>, Skip> {
    route(portal, &Input::Request(request)).map(|effects| shape(&effects))
}

/// What one rule gave to bob.
fn gave(effects: &[Effect]) -> (u32, u32, Option<Refusal>) {
    let Some(Effect::Here(Here::Given(given))) = effects.first() else { unreachable!() };
    assert_eq!(given.to, bob());
    (given.used.rooms, given.used.invites, given.refused)
}

fn text(effect: &Effect) -> &str {
    let Effect::InGroup(InGroup::Notice(text)) = effect else { unreachable!() };
    text
}

#[test]
fn the_bridge_comes_where_whoever_asks_may_and_has_rooms_left() {
    let closed = Portal { state: PortalState::Closed, ..portal() };
    let new = Portal { room: None, ..closed.clone() };
    let lost = Portal { lost: Some("gone".to_owned()), ..closed.clone() };
    let (comes, not) = (
        vec!["given", "opened", "make", "notice in group"],
        ["given", "refused", "notice in group"],
    );
    let (not_allowed, no_room) = (Some(Refusal::NotAllowed), Some(Refusal::Rooms));
    let table = [
        (&new, ENOUGH, comes.clone(), (1, 0, None)),
        (&new, NO_ROOM, not.to_vec(), (0, 0, no_room)),
        (&new, STRANGER, not.to_vec(), (0, 0, not_allowed)),
        // It has a room.
        (&closed, NO_ROOM, comes, (0, 0, None)),
        (&closed, STRANGER, not.to_vec(), (0, 0, not_allowed)),
        (&lost, NO_ROOM, not.to_vec(), (0, 0, no_room)),
    ];
    for (portal, share, expected, given) in table {
        let effects = route(portal, &lets_in(share)).unwrap();
        assert_eq!((shape(&effects), gave(&effects)), (expected, given), "{share:?}");
    }
    let effects = route(&lost, &lets_in(ENOUGH)).unwrap();
    let anew =
        ["given", "announce", "opened", "make instead", "invited", "invite", "notice in group"];
    assert_eq!((shape(&effects), gave(&effects)), (anew.to_vec(), (1, 0, None)));
    let effects = route(&new, &lets_in(NO_ROOM)).unwrap();
    for part in ["bob:b.example", "bridge.rooms_per_day", "group bridge", "member remove"] {
        assert!(text(&effects[2]).contains(part), "{part}");
    }
}

#[test]
fn who_was_refused_asks_again_and_gets_it_when_he_may() {
    let mut portal = Portal { state: PortalState::Closed, room: None, ..portal() };
    for effect in route(&portal, &lets_in(NO_ROOM)).unwrap() {
        if let Effect::Here(fact) = effect {
            portal.apply(&fact);
        }
    }
    assert_eq!(portal.refused.as_deref(), Some("bob:b.example met bridge.rooms_per_day"));
    let again = BridgeRequest { share: NO_ROOM, ..request(&["@new:x"]) };
    assert_eq!(asks(&portal, again), Ok(vec!["given", "notice in group"]));
    let by_member = BridgeRequest { from_admin: false, ..request(&[]) };
    assert_eq!(asks(&portal, by_member), Err(Skip::NotAdmin));
    let effects = route(&portal, &Input::Request(request(&["@new:x"]))).unwrap();
    let comes = [
        "given",
        "announce",
        "given up",
        "notice in group",
        "make anew",
        "invited",
        "invite",
        "invited",
        "invite",
    ];
    assert_eq!((shape(&effects), gave(&effects)), (comes.to_vec(), (1, 1, None)));
    for effect in effects {
        if let Effect::Here(fact) = effect {
            portal.apply(&fact);
        }
    }
    assert!(portal.is_in_making() && portal.refused.is_none());
}

#[test]
fn a_bridge_that_was_refused_and_put_out_is_out() {
    let mut portal =
        Portal { state: PortalState::Closed, refused: Some("no".to_owned()), ..portal() };
    let Input::Roster(change) = lets_in(ENOUGH) else { unreachable!() };
    let out = RosterChange { let_in: None, put_out: true, ..change };
    let effects = route(&portal, &Input::Roster(out)).unwrap();
    // Its room was told when it was closed.
    assert_eq!(effects, [Effect::Here(Here::Closed)]);
    portal.apply(&Here::Closed);
    // What was asked before comes late.
    assert_eq!(asks(&portal, request(&[])), Err(Skip::Closed));
}

#[test]
fn only_admins_invite_and_nobody_twice() {
    let of = |request| route(&portal(), &Input::Request(request));
    let by_member = BridgeRequest { from_admin: false, ..request(&["@new:x"]) };
    assert_eq!(of(by_member), Err(Skip::NotAdmin));
    let effects = of(request(&["@new:x"])).unwrap();
    assert_eq!(gave(&effects), (0, 1, None));
    let by = "bob:b.example".parse().unwrap();
    assert_eq!(effects[1..], room::invitation_for(&user("@new:x"), &by));
    assert_eq!(of(request(&["@al:x", "@causeway_x:b.example"])), Err(Skip::Nothing));
    let other = Some("!other:x".to_owned());
    let effects = of(BridgeRequest { room: other, ..request(&["@new:x"]) }).unwrap();
    assert_eq!(shape(&effects), ["given", "notice in group", "invited", "invite"]);
}

#[test]
fn nobody_has_more_people_invited_than_he_may() {
    let few = Share { invites: 1, ..ENOUGH };
    let over = BridgeRequest { share: few, ..request(&["@al:x", "@b:x", "@c:x", "@d:x"]) };
    let effects = route(&portal(), &Input::Request(over.clone())).unwrap();
    assert_eq!(shape(&effects), ["given", "notice in group", "invited", "invite"]);
    assert_eq!(gave(&effects), (0, 1, Some(Refusal::Invites)));
    assert!(text(&effects[1]).starts_with("2 of those whom bob:b.example asked for"));
    let stranger = BridgeRequest { share: STRANGER, ..over.clone() };
    let effects = route(&portal(), &Input::Request(stranger)).unwrap();
    assert_eq!(shape(&effects), ["given", "notice in group"]);
    assert_eq!(gave(&effects), (0, 0, Some(Refusal::NotAllowed)));
    // Where another room is made, those who were in the one before come along.
    let lost = Portal { lost: Some("gone".to_owned()), ..portal() };
    let effects = route(&lost, &Input::Request(over)).unwrap();
    let expected = [
        "given",
        "notice in group",
        "announce",
        "given up",
        "notice in group",
        "make instead",
        "invited",
        "invite",
    ];
    assert_eq!(
        (shape(&effects), gave(&effects)),
        (expected.to_vec(), (1, 1, Some(Refusal::Invites)))
    );
    let no_room = BridgeRequest { share: NO_ROOM, ..request(&[]) };
    assert_eq!(asks(&lost, no_room), Ok(vec!["given", "notice in group"]));
}
