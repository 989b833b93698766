//! The rules about the room itself, as a table.

use ruma::RoomId;
use serde_json::json;

use super::{
    super::{
        route,
        table::{event, member, portal, shape, spoken, text, user},
    },
    *,
};
use crate::domain::{Input, effect::InGroup, portal::NEVER};

const BOT: &str = "@causewaybot:b.example";

fn found() -> Found {
    let mut found = Found::of(&portal().names, portal().room.as_ref().unwrap(), &[]);
    found.is_in = true;
    found.people = [(user("@al:x"), Some("Al".to_owned()))].into();
    found.put_out = [("eve:b.example".parse().unwrap(), user("@al:x"))].into();
    found
}

fn lost_portal() -> Portal {
    Portal { lost: Some("gone".to_owned()), ..portal() }
}

fn of(portal: &Portal, news: News) -> Result<Vec<&'static str>, Skip> {
    route(portal, &Input::Room(news)).map(|effects| shape(&effects))
}

#[test]
fn what_is_found_out_of_a_room() {
    let (open, lost) = (portal(), lost_portal());
    let replaced = Portal { successor: Some("!next:x".try_into().unwrap()), ..lost_portal() };
    let following = Portal { lost: None, ..replaced.clone() };
    let making = Portal { state: PortalState::Making, ..portal() };
    let stuck = Portal { state: PortalState::Making, ..lost_portal() };
    let closed = Portal { state: PortalState::Closed, ..portal() };
    let roomless = Portal { room: None, ..making.clone() };
    let elsewhere = Found { room: "!other:x".try_into().unwrap(), ..found() };
    let (is_lost, is_back) = (vec!["lost", "notice in group"], vec!["back", "return"]);
    let is_elsewhere = vec!["back", "return", "notice in group"];
    let anew = vec!["announce", "given up", "notice in group", "make anew", "invited", "invite"];
    let instead =
        vec!["announce", "given up", "notice in group", "make instead", "invited", "invite"];
    let nowhere = Portal { room: None, ..lost_portal() };
    let put_out = |account: &str| News::PutOut(account.parse().unwrap(), user("@al:x"));
    let open =
        Portal { removed: [("eve:b.example".parse().unwrap(), user("@al:x"))].into(), ..open };
    let next = || News::Replaced("!next:x".try_into().unwrap());
    let not = || News::NotFollowed("!next:x".try_into().unwrap(), "no".to_owned());
    let table = [
        (&open, News::Out, Ok(is_lost.clone())),
        (&lost, News::Out, Err(Skip::Nothing)),
        // It was to come back.
        (&making, News::Out, Ok(is_lost.clone())),
        (&roomless, News::Out, Err(Skip::Nothing)),
        (&open, News::In, Err(Skip::Nothing)),
        (&open, News::Elsewhere, Ok(is_elsewhere.clone())),
        (&lost, News::Elsewhere, Ok(is_elsewhere)),
        (&making, News::Elsewhere, Err(Skip::Nothing)),
        (&lost, News::In, Ok(is_back)),
        (&replaced, News::In, Err(Skip::Nothing)),
        (&making, News::Unmade, Ok(vec!["lost"])),
        (&stuck, News::Unmade, Err(Skip::Nothing)),
        (&open, News::Unmade, Err(Skip::Nothing)),
        // Following was given up.
        (&following, News::Unmade, Ok(vec!["lost"])),
        (&replaced, News::Unmade, Err(Skip::Nothing)),
        (&open, put_out("bob:b.example"), Ok(vec!["standing", "notice in group"])),
        // It is known, and was said.
        (&open, put_out("eve:b.example"), Err(Skip::Nothing)),
        (&open, News::Recreate, Ok(instead.clone())),
        (&lost, News::Recreate, Ok(instead.clone())),
        (&stuck, News::Recreate, Ok(instead)),
        (&nowhere, News::Recreate, Ok(anew)),
        (&making, News::Recreate, Err(Skip::Nothing)),
        (&open, News::Unbridged(user("@al:x")), Ok([&["announce", "out"], &is_lost[..]].concat())),
        // It was seen to be out before what made it go could say why.
        (&lost, News::Unbridged(user("@al:x")), Ok([&["announce", "out"], &is_lost[..]].concat())),
        (&closed, News::Unbridged(user("@al:x")), Err(Skip::Closed)),
        (&open, not(), Ok(is_lost)),
        (&open, next(), Ok(vec!["replaced", "follow"])),
        (&replaced, next(), Err(Skip::Nothing)),
        (&making, next(), Err(Skip::Nothing)),
        (&closed, next(), Err(Skip::Closed)),
        (&open, News::NotSet(Ornament::Name), Ok(vec!["notice in group"])),
        (&lost, News::NotSet(Ornament::Name), Err(Skip::Nothing)),
        (&making, News::NotSet(Ornament::Topic), Err(Skip::Nothing)),
        (&closed, News::NotSet(Ornament::Topic), Err(Skip::Closed)),
        (&closed, News::Entered(found(), None), Ok(vec!["made"])),
        // The portal has another room by now.
        (&open, News::Entered(elsewhere, None), Err(Skip::Nothing)),
        (&closed, News::Followed(found()), Err(Skip::Closed)),
        (&closed, News::Out, Err(Skip::Closed)),
        (&closed, News::In, Err(Skip::Closed)),
        (&closed, News::Recreate, Err(Skip::Closed)),
        (&closed, not(), Err(Skip::Closed)),
    ];
    for (portal, news, expected) in table {
        assert_eq!(of(portal, news.clone()), expected, "{news:?}");
    }
}

#[test]
fn the_bot_is_put_out_and_welcome_again() {
    let (open, lost) = (portal(), lost_portal());
    let next = "!next:x".try_into().unwrap();
    let replaced = Portal { successor: Some(next), ..lost_portal() };
    let event = |id: &str| Some(id.try_into().unwrap());
    let out = Portal { hears_from: event(NEVER), ..lost_portal() };
    let gone = Portal { lost: None, ..out.clone() };
    let again = Portal { hears_from: event("$again"), ..portal() };
    let invite = member("@al:x", BOT, "invite");
    let Input::Event(mut there, _) = invite.clone() else { unreachable!() };
    there.room_id = "!next:x".try_into().unwrap();
    let Input::Event(mut said, _) = text("@al:x") else { unreachable!() };
    said.room_id = there.room_id.clone();
    let Input::Event(mut other, _) = member("@al:x", "@new:x", "invite") else { unreachable!() };
    other.room_id = there.room_id.clone();
    let table = [
        (&open, member("@al:x", BOT, "leave"), Ok(vec!["out", "lost", "notice in group"])),
        (&open, member("@al:x", BOT, "ban"), Ok(vec!["out", "lost", "notice in group"])),
        // What made it go says why.
        (&open, member(BOT, BOT, "leave"), Ok(vec!["out"])),
        (&lost, member("@al:x", BOT, "ban"), Ok(vec!["out"])),
        (&out, member("@al:x", BOT, "ban"), Err(Skip::Nothing)),
        // Before it was seen why it went.
        (&gone, member("@al:x", BOT, "invite"), Ok(vec!["back", "return"])),
        (&again, member("@al:x", BOT, "ban"), Err(Skip::Nothing)),
        (&open, member(BOT, BOT, "join"), Err(Skip::Nothing)),
        (&open, invite.clone(), Err(Skip::Nothing)),
        (&lost, invite.clone(), Ok(vec!["back", "return"])),
        // It is welcome in the room that nobody uses any more.
        (&replaced, invite, Err(Skip::Nothing)),
        (&replaced, Input::Event(there, false), Ok(vec!["follow"])),
        // Said where the bridge is not.
        (&replaced, Input::Event(said, false), Err(Skip::Elsewhere)),
        (&replaced, Input::Event(other, false), Err(Skip::Elsewhere)),
    ];
    for (portal, input, expected) in table {
        let effects = route(portal, &input).map(|effects| shape(&effects));
        assert_eq!(effects, expected, "{input:?}");
    }
}

#[test]
fn a_tombstone_is_followed_where_it_leads_somewhere() {
    let stone = |content| event("@al:x", "m.room.tombstone", Some(""), &content);
    let effects = route(&portal(), &stone(json!({"replacement_room": "!next:x"}))).unwrap();
    assert_eq!(shape(&effects), ["replaced", "follow"]);
    for content in [json!({}), json!({"replacement_room": "nowhere"})] {
        // The bot is in there all the same.
        let effects = route(&portal(), &stone(content)).unwrap();
        assert_eq!(shape(&effects), ["notice in group"]);
    }
}

#[test]
fn into_a_lost_room_nothing_is_said() {
    let lost = lost_portal();
    let said = route(&lost, &Input::Spoken(spoken("bob:b.example", false))).unwrap();
    let unsaid = Here::Unsaid(spoken("bob:b.example", false), "gone".to_owned());
    assert_eq!(said, [Effect::Here(unsaid)]);
}

#[test]
fn a_room_is_read_before_the_first_word() {
    let portal = Portal { state: PortalState::Making, ..portal() };
    let quiet = ["made", "announce", "notice in group", "introduce"];
    assert_eq!(of(&portal, News::Entered(found(), None)), Ok(quiet.to_vec()));
    // Nobody is there to read the words.
    let empty = || Found { people: std::collections::BTreeMap::new(), ..found() };
    let alone = Portal { mirrors: std::collections::BTreeMap::new(), ..portal.clone() };
    let entered = of(&alone, News::Entered(empty(), None));
    assert_eq!(entered, Ok(vec!["made", "notice in group", "topic"]));
    let changed = Found {
        people: [(user("@bea:x"), Some("Al".to_owned())), (user("@cal:x"), Some("Al".to_owned()))]
            .into(),
        put_out: [("bob:b.example".parse().unwrap(), user("@bea:x"))].into(),
        ..found()
    };
    let effects = route(&portal, &Input::Room(News::Entered(changed, None))).unwrap();
    let expected = [
        "made",
        "parted",
        "met",
        "announce",
        "announce",
        "standing",
        "notice in group",
        "standing",
        "notice in group",
        "introduce",
    ];
    assert_eq!(shape(&effects), expected);
    let mirror = |id, name: &str| Mirror { id: user(id), name: name.to_owned() };
    let present = vec![mirror("@bea:x", "Al"), mirror("@cal:x", "Al (@cal:x)")];
    assert!(effects.contains(&Effect::Here(Here::Met(present.clone()))));
    let gone = InGroup::Announce(vec![], vec![user("@al:x")]);
    assert_eq!(effects[3], Effect::InGroup(gone));
    assert_eq!(effects[4], Effect::InGroup(InGroup::Announce(present, vec![])));

    let told = News::Entered(found(), Some("$t".try_into().unwrap()));
    assert_eq!(
        of(&portal, told),
        Ok(vec!["made", "told", "announce", "notice in group", "introduce"])
    );

    let encrypted = Found { encrypted: true, muted: true, ..found() };
    let paused = ["made", "announce", "encrypted", "pause", "notice in group", "notice in group"];
    assert_eq!(of(&portal, News::Entered(encrypted, None)), Ok(paused.to_vec()));
    let muted = Found { muted: true, ..found() };
    let warned = ["made", "announce", "notice in group", "notice in group", "introduce"];
    assert_eq!(of(&portal, News::Entered(muted, None)), Ok(warned.to_vec()));
    let replaced = Found { successor: Some("!next:x".try_into().unwrap()), ..found() };
    let goes_on = ["made", "announce", "notice in group", "introduce", "replaced", "follow"];
    assert_eq!(of(&portal, News::Entered(replaced, None)), Ok(goes_on.to_vec()));
}

#[test]
fn a_room_is_called_by_its_alias_where_the_bot_made_it() {
    let next: OwnedRoomId = "!next:x".try_into().unwrap();
    let names = |portal: &Portal, room: &RoomId, is_made: bool| {
        let found = Found { room: room.to_owned(), is_made, ..found() };
        let effects = route(portal, &Input::Room(News::Entered(found, None))).unwrap();
        let said = effects.into_iter().rev().find_map(|effect| match effect {
            Effect::InGroup(InGroup::Notice(text)) => Some(text),
            _ => None,
        });
        said.unwrap()
    };
    let making = Portal { state: PortalState::Making, room: None, ..portal() };
    let made = Portal { state: PortalState::Making, ..portal() };
    let alias = made.names.alias(&made.group);
    let says = |room: &str| format!("This group is bridged into the Matrix room {room}.");
    assert_eq!(names(&making, &next, true), says(&alias));
    assert_eq!(names(&made, made.room.as_ref().unwrap(), true), says(&alias));
    assert_eq!(names(&made, &next, true), says(&alias));
    assert_eq!(names(&made, &next, false), says(next.as_str()));
}

#[test]
fn another_room_has_put_nobody_out() {
    let next = Found { room: "!next:x".try_into().unwrap(), ..found() };
    let followed = [
        "moved",
        "announce",
        "standing",
        "notice in group",
        "notice in group",
        "notice in room",
        "introduce",
    ];
    assert_eq!(of(&portal(), News::Followed(next.clone())), Ok(followed.to_vec()));
    let welcome = Found { put_out: [].into(), encrypted: true, ..next };
    let expected =
        ["moved", "announce", "encrypted", "pause", "notice in group", "notice in group"];
    assert_eq!(of(&portal(), News::Followed(welcome.clone())), Ok(expected.to_vec()));
    // It was replaced too, meanwhile.
    let passed = Found { successor: Some("!last:x".try_into().unwrap()), ..welcome };
    let expected = [&expected[..], &["replaced", "follow"]].concat();
    assert_eq!(of(&portal(), News::Followed(passed)), Ok(expected));
}

#[test]
fn into_another_room_come_those_of_the_one_before() {
    let invited = [user("@bo:x"), user("@cy:x")].into();
    let before = Portal { state: PortalState::Making, invited, ..portal() };
    let next = Found {
        room: "!next:x".try_into().unwrap(),
        people: [].into(),
        // He is invited there already.
        invited: [user("@cy:x")].into(),
        put_out: [].into(),
        ..found()
    };
    let effects = route(&before, &Input::Room(News::Entered(next, None))).unwrap();
    let come = [invitation(&user("@al:x")), invitation(&user("@bo:x"))].concat();
    assert_eq!(effects.last_chunk::<4>().map(|last| &last[..]), Some(&come[..]));
}

#[test]
fn what_was_said_before_the_room_was_told_is_its_own() {
    let mut portal = Portal { hears_from: Some("$told".try_into().unwrap()), ..portal() };
    let text =
        || event("@al:x", "m.room.message", None, &json!({"msgtype": "m.text", "body": "hi"}));
    // Not the group's: whoever said it is told.
    assert_eq!(shape(&route(&portal, &text()).unwrap()), ["answer"]);
    let effects = route(&portal, &member("@new:x", "@new:x", "join")).unwrap();
    assert_eq!(shape(&effects), ["met", "announce"]);
    let Input::Event(mut told, _) = text() else { unreachable!() };
    told.event_id = "$told".try_into().unwrap();
    told.sender = user(BOT);
    assert_eq!(route(&portal, &Input::Event(told, false)), Ok(vec![Effect::Here(Here::Heard)]));
    portal.apply(&Here::Heard);
    assert_eq!(shape(&route(&portal, &text()).unwrap()), ["say in group"]);
}

/// Found by an attack: nobody had come yet, and nobody was invited into the next room.
#[test]
fn who_is_invited_and_has_not_come_is_invited_into_another_room() {
    let invited = Portal { invited: [user("@bea:x"), user("@cy:x")].into(), ..portal() };
    let gone = route(&invited, &member("@bea:x", "@bea:x", "leave")).unwrap();
    assert_eq!(gone, [Effect::Here(Here::Uninvited(user("@bea:x")))]);
    assert_eq!(route(&invited, &member("@al:x", "@cy:x", "invite")), Err(Skip::Nothing));
    let effects = route(&invited, &Input::Room(News::Recreate)).unwrap();
    let mut after = invited.clone();
    for effect in &effects {
        if let Effect::Here(fact) = effect {
            after.apply(fact);
        }
    }
    let all = ["@al:x", "@bea:x", "@cy:x"].map(user);
    let asked: Vec<_> = effects
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::InRoom(InRoom::Invite(user)) => Some(user),
            _ => None,
        })
        .collect();
    assert_eq!((asked.as_slice(), after.invited), (&all[..], all.clone().into()));
    // Also whom only the room's state names.
    let there = Found { invited: [user("@dan:x")].into(), ..found() };
    let entered =
        of(&Portal { state: PortalState::Making, ..portal() }, News::Entered(there, None));
    assert!(entered.unwrap().contains(&"invited"));
}
