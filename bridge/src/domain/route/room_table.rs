//! The rules about the room itself, as a table.

use serde_json::json;

use super::{
    super::{
        route,
        table::{event, member, portal, shape, spoken, text, user},
    },
    *,
};
use crate::domain::{Input, effect::InGroup};

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
    let making = Portal { state: PortalState::Making, ..portal() };
    let stuck = Portal { state: PortalState::Making, ..lost_portal() };
    let closed = Portal { state: PortalState::Closed, ..portal() };
    let (is_lost, is_back) = (vec!["lost", "notice in group"], vec!["back", "make"]);
    let anew = vec!["announce", "given up", "notice in group", "make anew", "invite"];
    let instead = vec!["announce", "given up", "notice in group", "make instead", "invite"];
    let nowhere = Portal { room: None, ..lost_portal() };
    let put_out = |account: &str| News::PutOut(account.parse().unwrap(), user("@al:x"));
    let open =
        Portal { removed: [("eve:b.example".parse().unwrap(), user("@al:x"))].into(), ..open };
    let not = || News::NotFollowed("!next:x".try_into().unwrap(), "no".to_owned());
    let table = [
        (&open, News::Out, Ok(is_lost.clone())),
        (&lost, News::Out, Err(Skip::Nothing)),
        (&making, News::Out, Err(Skip::Nothing)),
        (&open, News::In, Err(Skip::Nothing)),
        (&open, News::Elsewhere, Ok(is_back.clone())),
        (&lost, News::Elsewhere, Ok(is_back.clone())),
        (&making, News::Elsewhere, Err(Skip::Nothing)),
        (&lost, News::In, Ok(is_back)),
        (&replaced, News::In, Err(Skip::Nothing)),
        (&making, News::Unmade, Ok(vec!["lost"])),
        (&stuck, News::Unmade, Err(Skip::Nothing)),
        (&open, News::Unmade, Err(Skip::Nothing)),
        (&open, put_out("bob:b.example"), Ok(vec!["standing", "notice in group"])),
        // It is known, and was said.
        (&open, put_out("eve:b.example"), Err(Skip::Nothing)),
        (&open, News::Recreate, Ok(instead.clone())),
        (&lost, News::Recreate, Ok(instead.clone())),
        (&stuck, News::Recreate, Ok(instead)),
        (&nowhere, News::Recreate, Ok(anew)),
        (&making, News::Recreate, Err(Skip::Nothing)),
        (&open, News::Unbridged(user("@al:x")), Ok([&["announce"], &is_lost[..]].concat())),
        (&lost, News::Unbridged(user("@al:x")), Err(Skip::Nothing)),
        (&closed, News::Unbridged(user("@al:x")), Err(Skip::Closed)),
        (&open, not(), Ok(is_lost)),
        (&closed, News::Entered(found(), None), Ok(vec!["made"])),
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
    let invite = member("@al:x", BOT, "invite");
    let Input::Event(mut there, _) = invite.clone() else { unreachable!() };
    there.room_id = "!next:x".try_into().unwrap();
    let Input::Event(mut said, _) = text("@al:x") else { unreachable!() };
    said.room_id = there.room_id.clone();
    let Input::Event(mut other, _) = member("@al:x", "@new:x", "invite") else { unreachable!() };
    other.room_id = there.room_id.clone();
    let table = [
        (&open, member("@al:x", BOT, "leave"), Ok(vec!["lost", "notice in group"])),
        (&open, member("@al:x", BOT, "ban"), Ok(vec!["lost", "notice in group"])),
        (&open, member(BOT, BOT, "leave"), Ok(vec!["lost", "notice in group"])),
        (&lost, member("@al:x", BOT, "ban"), Err(Skip::Nothing)),
        (&open, member(BOT, BOT, "join"), Err(Skip::Nothing)),
        (&open, invite.clone(), Err(Skip::Nothing)),
        (&lost, invite.clone(), Ok(vec!["back", "make"])),
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
    let names = |portal: &Portal, room: &RoomId| {
        let found = Found { room: room.to_owned(), ..found() };
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
    assert_eq!(names(&making, &next), says(&alias));
    assert_eq!(names(&made, made.room.as_ref().unwrap()), says(&alias));
    assert_eq!(names(&made, &next), says(next.as_str()));
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
    assert_eq!(of(&portal(), News::Followed(welcome)), Ok(expected.to_vec()));
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
