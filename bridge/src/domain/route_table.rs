//! The rules of `route` as a table.

use causeway_protocol::ids::{
    AccountId, ClientId, DeviceId, EnvelopeId, Epoch, GroupId, Timestamp,
};
use ruma::OwnedUserId;
use serde_json::json;

use super::*;
use crate::domain::{
    MessageRef, News, TextKind,
    ghost::Names,
    portal::{PortalId, Unsaved},
    said::{Said, Text},
    share::Share,
};

pub(super) fn user(id: &str) -> OwnedUserId {
    UserId::parse(id).unwrap()
}

fn bob() -> AccountId {
    "bob:b.example".parse().unwrap()
}

pub(super) fn portal() -> Portal {
    Portal {
        id: PortalId(1),
        group: GroupId::new([7; 32]),
        room: Some("!r:b.example".try_into().unwrap()),
        name: "Walkers".to_owned(),
        state: PortalState::Open,
        encrypted: false,
        lost: None,
        successor: None,
        hears_from: None,
        refused: None,
        mirrors: [(user("@al:x"), "Al".to_owned())].into(),
        invited: [].into(),
        removed: [("eve:b.example".parse().unwrap(), user("@al:x"))].into(),
        natives: None,
        taken: std::sync::OnceLock::new(),
        names: Names::new("b.example").unwrap(),
        unsaved: Unsaved::default(),
    }
}

pub(super) fn event(sender: &str, kind: &str, state_key: Option<&str>, content: &Value) -> Input {
    Input::Event(
        RoomEvent {
            event_id: "$e".try_into().unwrap(),
            room_id: "!r:b.example".try_into().unwrap(),
            sender: user(sender),
            kind: kind.to_owned(),
            state_key: state_key.map(str::to_owned),
            at: Timestamp(5),
            content: content.as_object().unwrap().clone(),
        },
        false,
    )
}

pub(super) fn text(sender: &str) -> Input {
    event(sender, "m.room.message", None, &json!({"msgtype": "m.text", "body": "hi"}))
}

pub(super) fn member(sender: &str, target: &str, membership: &str) -> Input {
    event(sender, "m.room.member", Some(target), &json!({"membership": membership}))
}

fn hi() -> Text {
    Text { kind: TextKind::Text, body: "hi".to_owned(), html: None }
}

fn relayed(mirror: &str) -> Effect {
    Effect::InGroup(InGroup::Say(Relayed {
        mirror: user(mirror),
        event_id: "$e".try_into().unwrap(),
        said: Said::Text(hi(), None),
    }))
}

fn announced(id: &str, name: &str) -> [Effect; 2] {
    let mirrors = vec![Mirror { id: user(id), name: name.to_owned() }];
    let announce = InGroup::Announce(mirrors.clone(), vec![]);
    [Effect::Here(Here::Met(mirrors)), Effect::InGroup(announce)]
}

pub(super) fn spoken(account: &str, late: bool) -> Spoken {
    Spoken {
        account: account.parse().unwrap(),
        reference: MessageRef { device: DeviceId::new([1; 32]), client_id: ClientId::new([2; 16]) },
        message_id: EnvelopeId::new([3; 16]),
        expires_at: Timestamp(9),
        sent_at: None,
        late,
        said: Said::Text(hi(), None),
    }
}

pub(super) const ENOUGH: Share = Share { may_ask: true, rooms: 9, invites: 9 };

fn change() -> RosterChange {
    RosterChange {
        epoch: Epoch(2),
        by: Some(bob()),
        share: ENOUGH,
        policy: None,
        joined: vec![],
        left: vec![],
        let_in: None,
        put_out: false,
        closed: false,
    }
}

/// Takes in what an input changed, as the spine does before the next one.
fn apply(portal: &mut Portal, effects: &[Effect]) {
    for effect in effects {
        if let Effect::Here(fact) = effect {
            portal.apply(fact);
        }
    }
}

/// What kinds of effects an input has, for rows where the content is not the point.
pub(super) fn shape(effects: &[Effect]) -> Vec<&'static str> {
    effects
        .iter()
        .map(|effect| match effect {
            Effect::InRoom(InRoom::Say(_)) => "say in room",
            Effect::InRoom(InRoom::Notice(_)) => "notice in room",
            Effect::InRoom(InRoom::Answer(..)) => "answer",
            Effect::InRoom(InRoom::Make) => "make",
            Effect::InRoom(InRoom::Invite(_) | InRoom::InviteFor(..)) => "invite",
            Effect::InRoom(InRoom::Leave(_)) => "leave",
            Effect::InRoom(InRoom::PutOut(..)) => "put out",
            Effect::InRoom(InRoom::Topic) => "topic",
            Effect::InRoom(InRoom::Unread(_)) => "unread",
            Effect::InRoom(InRoom::Introduce) => "introduce",
            Effect::InRoom(InRoom::Members(..)) => "members",
            Effect::InRoom(InRoom::Asked(..)) => "asked",
            Effect::InRoom(InRoom::Rename) => "rename",
            Effect::InRoom(InRoom::Pause) => "pause",
            Effect::InRoom(InRoom::Close) => "close",
            Effect::InRoom(InRoom::Return) => "return",
            Effect::InRoom(InRoom::MakeAnew) => "make anew",
            Effect::InRoom(InRoom::MakeInstead(_)) => "make instead",
            Effect::InRoom(InRoom::Follow(_)) => "follow",
            Effect::InGroup(InGroup::Say(_)) => "say in group",
            Effect::InGroup(InGroup::Announce(..)) => "announce",
            Effect::InGroup(InGroup::Notice(_)) => "notice in group",
            Effect::Here(Here::Opened(_)) => "opened",
            Effect::Here(Here::Refused(..)) => "refused",
            Effect::Here(Here::Given(_)) => "given",
            Effect::Here(Here::Named(_)) => "named",
            Effect::Here(Here::Made(_)) => "made",
            Effect::Here(Here::Moved(_)) => "moved",
            Effect::Here(Here::Lost(_)) => "lost",
            Effect::Here(Here::Replaced(_)) => "replaced",
            Effect::Here(Here::Back) => "back",
            Effect::Here(Here::Out) => "out",
            Effect::Here(Here::Told(_)) => "told",
            Effect::Here(Here::Heard) => "heard",
            Effect::Here(Here::GivenUp) => "given up",
            Effect::Here(Here::Closed) => "closed",
            Effect::Here(Here::Encrypted) => "encrypted",
            Effect::Here(Here::Met(_)) => "met",
            Effect::Here(Here::Parted(_)) => "parted",
            Effect::Here(Here::Invited(_)) => "invited",
            Effect::Here(Here::Uninvited(_)) => "uninvited",
            Effect::Here(Here::Standing(..)) => "standing",
            Effect::Here(Here::Unsaid(..)) => "unsaid",
        })
        .collect()
}

#[test]
fn the_group_is_told_that_somebody_has_another_identity() {
    let changed = Input::Changed(bob(), causeway_protocol::ids::MemberId::new([4; 32]));
    let effects = route(&portal(), &changed).unwrap();
    assert_eq!(shape(&effects), ["notice in group"], "the room knows names only");
    let closed = Portal { state: PortalState::Closed, ..portal() };
    assert_eq!(route(&closed, &changed), Err(Skip::Closed));
}

#[test]
fn what_matrix_people_do() {
    let ghost = "@causeway_bob:b.example";
    let gone = |by: Option<&str>| {
        let mut effects = vec![Effect::Here(Here::Parted(user("@al:x")))];
        effects.extend(by.map(|by| notice(format!("{by} removed @al:x from the Matrix room."))));
        effects.push(Effect::InGroup(InGroup::Announce(vec![], vec![user("@al:x")])));
        effects
    };
    let announced = |id, name| announced(id, name).to_vec();
    let named = |name: &str| {
        let content = json!({"membership": "join", "displayname": name});
        event("@al:x", "m.room.member", Some("@al:x"), &content)
    };
    let table: Vec<(Input, Result<Vec<Effect>, Skip>)> = vec![
        (text("@al:x"), Ok(vec![relayed("@al:x")])),
        (text("@new:x"), Ok([announced("@new:x", "new"), vec![relayed("@new:x")]].concat())),
        (text(ghost), Err(Skip::Own)),
        (text("@causewaybot:b.example"), Err(Skip::Own)),
        (
            event(
                "@al:x",
                "m.room.message",
                None,
                &json!({"msgtype": "m.text", "body": "hi", "dev.causeway.txn": "t"}),
            ),
            Ok(vec![relayed("@al:x")]),
        ),
        (event("@al:x", "m.room.message", None, &json!({"body": 1})), Err(Skip::Malformed)),
        (event("@al:x", "m.room.message", None, &json!({})), Err(Skip::Nothing)),
        (
            event("@al:x", "m.room.encrypted", None, &json!({})),
            Ok(vec![Effect::InRoom(InRoom::Unread("$e".try_into().unwrap()))]),
        ),
        (event("@al:x", "org.example.setting", Some(""), &json!({})), Err(Skip::Type)),
        (event("@al:x", "m.room.message", Some(""), &json!({})), Err(Skip::Type)),
        (member("@new:x", "@new:x", "join"), Ok(announced("@new:x", "new"))),
        (named("Albert"), Ok(announced("@al:x", "Albert"))),
        (named("Al"), Err(Skip::Nothing)),
        (member("@al:x", "@al:x", "leave"), Ok(gone(None))),
        (
            member("@causewaybot:b.example", "@al:x", "ban"),
            Ok(gone(Some("@causewaybot:b.example"))),
        ),
        (member("@new:x", "@new:x", "leave"), Err(Skip::Nothing)),
        (member("@al:x", "@al:x", "invite"), Err(Skip::Nothing)),
        (
            member("@al:x", "@new:x", "invite"),
            Ok(vec![Effect::Here(Here::Invited(user("@new:x")))]),
        ),
        (member("@causewaybot:b.example", ghost, "invite"), Err(Skip::Own)),
        (member(ghost, ghost, "join"), Err(Skip::Own)),
        // Nobody put it out, so nothing is said of its coming.
        (member("@al:x", ghost, "invite"), Err(Skip::Nothing)),
        (member("@al:x", "@causeway_:b.example", "leave"), Err(Skip::Nothing)),
        (member("@al:x", "not an id", "join"), Err(Skip::Malformed)),
        (event("@al:x", "m.room.member", Some("@al:x"), &json!({})), Err(Skip::Malformed)),
    ];
    for (input, expected) in table {
        assert_eq!(route(&portal(), &input), expected, "{input:?}");
    }
}

#[test]
fn a_name_is_announced_once_and_again_when_it_changes() {
    let join = |name: &str| {
        let content = json!({"membership": "join", "displayname": name});
        event("@al:x", "m.room.member", Some("@al:x"), &content)
    };
    assert_eq!(route(&portal(), &join("Al")), Err(Skip::Nothing));
    assert_eq!(route(&portal(), &join("Alan")), Ok(announced("@al:x", "Alan").to_vec()));
}

#[test]
fn a_ghost_put_out_stays_out_until_invited() {
    let mut portal = portal();
    let ghost = "@causeway_bob:b.example";
    for membership in ["leave", "ban"] {
        let effects = route(&portal, &member("@al:x", ghost, membership)).unwrap();
        let standing = Here::Standing(bob(), Some(user("@al:x")));
        assert_eq!(effects.first(), Some(&Effect::Here(standing)));
        assert_eq!(shape(&effects), ["standing", "notice in group"]);
    }
    let banned = route(&portal, &member("@al:x", ghost, "ban")).unwrap();
    apply(&mut portal, &banned);
    assert_eq!(route(&portal, &member("@al:x", ghost, "leave")), Err(Skip::Nothing));
    let said = Input::Spoken(spoken("bob:b.example", false));
    let failed =
        Here::Unsaid(spoken("bob:b.example", false), "removed from the room by @al:x".to_owned());
    assert_eq!(route(&portal, &said), Ok(vec![Effect::Here(failed)]));
    let effects = route(&portal, &member("@al:x", ghost, "invite")).unwrap();
    assert_eq!(shape(&effects), ["standing", "notice in group"]);
    apply(&mut portal, &effects);
    assert_eq!(shape(&route(&portal, &said).unwrap()), ["say in room"]);
}

#[test]
fn what_natives_say() {
    let table = [
        (spoken("bob:b.example", false), vec!["say in room"]),
        (spoken("bob:b.example", true), vec!["say in room", "leave"]),
        (spoken("eve:b.example", false), vec!["unsaid"]),
        (spoken("bob:c.example", false), vec!["say in room"]),
    ];
    for (spoken, expected) in table {
        assert_eq!(shape(&route(&portal(), &Input::Spoken(spoken)).unwrap()), expected);
    }
}

#[test]
fn an_encrypted_room_is_paused_once() {
    // A homeserver that encrypts every room has our bot do it.
    for by in ["@al:x", "@causewaybot:b.example", "@causeway_bob:b.example"] {
        let mut portal = portal();
        let encryption = event(by, "m.room.encryption", Some(""), &json!({}));
        let effects = route(&portal, &encryption).unwrap();
        assert_eq!(shape(&effects), ["encrypted", "pause", "notice in group"], "{by}");
        apply(&mut portal, &effects);
        assert!(portal.encrypted);
        assert_eq!(route(&portal, &encryption), Err(Skip::Nothing));
        let room = portal.room.clone().unwrap();
        assert_eq!(route(&portal, &Input::Room(News::Encrypted(room))), Err(Skip::Nothing));
    }
    let found = |room: &str| Input::Room(News::Encrypted(room.try_into().unwrap()));
    let effects = route(&portal(), &found("!r:b.example")).unwrap();
    assert_eq!(shape(&effects), ["encrypted", "pause", "notice in group"]);
    assert_eq!(route(&portal(), &found("!other:x")), Err(Skip::Nothing));
}

#[test]
fn rosters_open_and_close_the_portal() {
    let open = portal();
    let closed = Portal { state: PortalState::Closed, ..portal() };
    let newcomer = RosterChange { joined: vec![bob()], ..change() };
    let leaver = RosterChange { left: vec![bob()], ..change() };
    let entered = RosterChange { let_in: Some("Walkers".to_owned()), ..change() };
    let out = RosterChange { put_out: true, ..change() };
    let over = RosterChange { closed: true, ..change() };
    let table = [
        (&open, change(), Err(Skip::Nothing)),
        (&open, newcomer.clone(), Ok(vec!["notice in room", "topic", "announce"])),
        (&open, leaver, Ok(vec!["leave", "notice in room", "topic"])),
        (&open, entered.clone(), Ok(vec!["given", "opened", "make", "notice in group"])),
        (&open, out.clone(), Ok(vec!["closed", "close"])),
        (&open, over, Ok(vec!["closed", "close"])),
        (&closed, out, Err(Skip::Closed)),
        // One who comes as anything but the bridge is a member like another: nothing opens.
        (&closed, newcomer, Err(Skip::Closed)),
        (&closed, entered, Ok(vec!["given", "opened", "make", "notice in group"])),
    ];
    for (portal, change, expected) in table {
        let effects = route(portal, &Input::Roster(change.clone()));
        assert_eq!(effects.as_deref().map(shape).map_err(|skip| *skip), expected, "{change:?}");
    }
}

#[test]
fn from_a_closed_portal_nothing_gets_into_the_group_and_who_says_it_is_told() {
    let closed = Portal { state: PortalState::Closed, ..portal() };
    let deaf = Portal { hears_from: Some("$again".try_into().unwrap()), ..portal() };
    for portal in [&closed, &deaf] {
        let effects = route(portal, &text("@al:x"));
        assert_eq!(effects.map(|effects| shape(&effects)), Ok(vec!["answer"]));
        let unsayable = [
            Portal { encrypted: true, ..portal.clone() },
            Portal { lost: Some("gone".to_owned()), ..portal.clone() },
        ];
        for portal in unsayable {
            assert_eq!(route(&portal, &text("@al:x")), Err(Skip::Closed));
        }
    }
    let said = Input::Spoken(spoken("bob:b.example", false));
    assert_eq!(route(&closed, &said), Err(Skip::Closed));
}

#[test]
fn what_was_said_to_a_group_without_a_bridge_stays_there() {
    for state in [PortalState::Making, PortalState::Open, PortalState::Closed] {
        let portal = Portal { state, ..portal() };
        assert_eq!(route(&portal, &Input::Overheard), Err(Skip::Overheard));
    }
}

#[test]
fn an_event_with_a_link_is_ours() {
    let Input::Event(event, _) = text("@al:x") else { unreachable!() };
    assert_eq!(route(&portal(), &Input::Event(event, true)), Err(Skip::Own));
}

#[test]
fn what_was_not_read_in_time_is_answered_where_it_was_said() {
    let first: ruma::OwnedEventId = "$e".try_into().unwrap();
    let expired = Expired { first: first.clone(), more: 0, and_above: false, unread: None };
    let answer = InRoom::Answer(expired.to_string(), first);
    let input = Input::Expired(expired);
    assert_eq!(route(&portal(), &input), Ok(vec![Effect::InRoom(answer)]));
    let table = [
        (Portal { lost: Some("gone".to_owned()), ..portal() }, Skip::Nothing),
        (Portal { encrypted: true, ..portal() }, Skip::Nothing),
        (Portal { state: PortalState::Closed, ..portal() }, Skip::Closed),
    ];
    for (portal, skip) in table {
        assert_eq!(route(&portal, &input), Err(skip));
    }
}

#[test]
fn what_is_not_carried_is_answered_where_clients_show_it() {
    let about = "$a";
    let relates = json!({"rel_type": "m.annotation", "event_id": about, "key": "👍"});
    let table = [
        ("m.reaction", json!({"m.relates_to": relates}), about),
        ("m.room.redaction", json!({"redacts": about}), about),
        ("m.sticker", json!({"body": "a cat"}), "$e"),
    ];
    for (kind, content, answered) in table {
        let effects = route(&portal(), &event("@al:x", kind, None, &content)).unwrap();
        let Some(Effect::InRoom(InRoom::Answer(_, event))) = effects.last() else {
            unreachable!("{effects:?}")
        };
        assert_eq!(event.as_str(), answered, "{kind}");
    }
}

#[test]
fn the_first_who_comes_is_told_where_he_is() {
    let alone = Portal { mirrors: std::collections::BTreeMap::new(), ..portal() };
    let encrypted = Portal { encrypted: true, ..alone.clone() };
    let making = Portal { state: PortalState::Making, ..alone.clone() };
    let table = [
        (&alone, vec!["met", "announce", "introduce"]),
        (&portal(), vec!["met", "announce"]),
        (&encrypted, vec!["met", "announce"]),
        (&making, vec!["met", "announce"]),
    ];
    for (portal, expected) in table {
        let effects = route(portal, &member("@new:x", "@new:x", "join"));
        assert_eq!(effects.map(|effects| shape(&effects)), Ok(expected));
    }
}

/// What cannot be read is one type for all of them; what is not encrypted, state first of all, gives the
/// group its line, and the room nothing.
#[test]
fn in_an_encrypted_room_a_line_is_for_the_group_alone() {
    let portal = Portal { encrypted: true, ..portal() };
    let relates = json!({"rel_type": "m.annotation", "event_id": "$a:x", "key": "x"});
    for (kind, key, content) in [
        ("m.room.message", None, json!({"msgtype": "m.image", "body": "a.png"})),
        ("m.room.message", None, json!({"msgtype": "m.location", "body": "here"})),
        ("m.sticker", None, json!({"body": "a cat"})),
        ("m.poll.start", None, json!({"m.text": [{"body": "Where?"}]})),
        ("m.reaction", None, json!({"m.relates_to": relates})),
        ("m.room.redaction", None, json!({"redacts": "$a:x"})),
        ("m.call.invite", None, json!({"call_id": "c"})),
        ("org.matrix.msc4075.rtc.notification", None, json!({"notification_type": "ring"})),
        ("org.matrix.msc3672.beacon_info", Some("@al:x"), json!({"live": true})),
        ("m.room.name", Some(""), json!({"name": "Tea"})),
        ("m.room.topic", Some(""), json!({"topic": "Tea"})),
        ("m.room.avatar", Some(""), json!({"url": "mxc://x/y"})),
        ("m.room.pinned_events", Some(""), json!({"pinned": []})),
        ("org.example.unknown", None, json!({"body": "words"})),
    ] {
        let effects = route(&portal, &event("@al:x", kind, key, &content)).unwrap();
        let is_line = |effect: &Effect| {
            matches!(effect, Effect::InGroup(InGroup::Say(Relayed { said: Said::Text(text, _), .. }))
                if text.kind == TextKind::Notice)
        };
        assert!(effects.len() == 1 && effects.iter().all(is_line), "{kind}: {effects:?}");
    }
    for content in [
        json!({"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x"}),
        json!({"algorithm": "m.megolm.v1.aes-sha2", "m.relates_to": relates}),
        json!({}),
    ] {
        let effects = route(&portal, &event("@al:x", "m.room.encrypted", None, &content)).unwrap();
        assert!(matches!(effects.as_slice(), [Effect::InRoom(InRoom::Unread(_))]), "{effects:?}");
    }
}

#[test]
fn how_a_room_was_set_up_that_replaced_another_is_no_news() {
    let rules = event("@al:x", "m.room.join_rules", Some(""), &json!({"join_rule": "invite"}));
    let told = Portal { hears_from: Some("$told".try_into().unwrap()), ..portal() };
    assert_eq!(route(&told, &rules), Err(Skip::Closed));
    assert_eq!(route(&portal(), &rules).unwrap().len(), 2, "a line and an answer");
}
