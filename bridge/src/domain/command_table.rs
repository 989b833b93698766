//! What is said to the bot, and what that asks, as tables.

use causeway_protocol::ids::Timestamp;
use serde_json::json;

use super::*;

fn event(kind: &str, key: Option<&str>, sender: &str, content: &Value) -> RoomEvent {
    RoomEvent {
        event_id: "$e".try_into().unwrap(),
        room_id: "!r:x".try_into().unwrap(),
        sender: sender.try_into().unwrap(),
        kind: kind.to_owned(),
        state_key: key.map(str::to_owned),
        at: Timestamp(1),
        content: content.as_object().unwrap().clone(),
    }
}

fn text(body: &str) -> RoomEvent {
    event(MESSAGE, None, "@al:x", &json!({"msgtype": "m.text", "body": body}))
}

#[test]
fn words_are_commands() {
    let words = |words| Some(Command::Words(words));
    let asked = |asked| Some(Command::Asked(asked));
    let table = [
        ("", words(Words::Help)),
        (" help ", words(Words::Help)),
        (" version", words(Words::Version)),
        (" bridge", words(Words::Bridge)),
        (" bridge a group", words(Words::Bridge)),
        (" members", Some(Command::Members(1))),
        ("  members  2 ", Some(Command::Members(2))),
        (" status", asked(Asked::Status)),
        (" unbridge", asked(Asked::Unbridge)),
        (" invite @bo:x", asked(Asked::Invite("@bo:x".try_into().unwrap()))),
        (" invite bo", words(Words::Unknown)),
        (" members two", words(Words::Unknown)),
        (" members 1 2", words(Words::Unknown)),
        (" Help", words(Words::Help)),
        (" HELP", words(Words::Help)),
        (" dance", words(Words::Unknown)),
    ];
    for (rest, expected) in table {
        assert_eq!(Command::of(&text(&format!("!causeway{rest}"))), expected, "{rest}");
        if !rest.is_empty() {
            assert_eq!(Command::of(&text(rest)), None, "{rest}");
            assert_eq!(Command::alone(&text(rest)), expected, "{rest}");
        }
    }
    assert_eq!(Command::of(&text("!causewayed")), None);
    let notice = json!({"msgtype": "m.notice", "body": "!causeway"});
    assert_eq!(Command::of(&event(MESSAGE, None, "@al:x", &notice)), None, "a bot's");
    let edit = json!({"msgtype": "m.text", "body": "!causeway",
        "m.relates_to": {"rel_type": "m.replace", "event_id": "$a"}});
    assert_eq!(Command::of(&event(MESSAGE, None, "@al:x", &edit)), None, "said before");
    assert_eq!(Command::of(&text("!Causeway help")), words(Words::Help));
    for (kind, content, expected) in [
        ("m.sticker", json!({"body": "cat"}), words(Words::Unknown)),
        (MESSAGE, json!({"msgtype": "m.image", "body": "cat.png"}), words(Words::Unknown)),
        (MESSAGE, json!({"msgtype": "m.emote", "body": "waves"}), words(Words::Unknown)),
        (MESSAGE, notice, None),
        (MESSAGE, edit, None),
        (MESSAGE, json!({}), None),
        ("m.reaction", json!({"x": 1}), None),
    ] {
        assert_eq!(Command::alone(&event(kind, None, "@al:x", &content)), expected, "{content}");
    }
}

#[test]
fn help_names_all_that_is_understood() {
    for line in HELP.lines().filter(|line| line.starts_with('`')) {
        let command = line.split('`').nth(1).unwrap().replace("@user:server", "@bo:x");
        let known = Command::of(&text(&command)).unwrap();
        assert_ne!(known, Command::Words(Words::Unknown), "{command}");
    }
    for word in ["status", "bridge", "version"] {
        assert!(ALONE.contains(&format!("`{word}`")), "{word}");
        let known = Command::alone(&text(word)).unwrap();
        assert_ne!(known, Command::Words(Words::Unknown), "{word}");
    }
}

#[test]
fn what_is_asked_where_there_is_no_portal() {
    let names = Names::new("b.example").unwrap();
    let (bot, ghost) = ("@causewaybot:b.example", "@causeway_bob:b.example");
    let member = |who: &str, by: &str, membership: &str, is_direct: bool| {
        let content = json!({"membership": membership, "is_direct": is_direct});
        event("m.room.member", Some(who), by, &content)
    };
    let help = || Command::Words(Words::Help);
    let looks = || What::Do(help(), false);
    let table = [
        (member(bot, "@al:x", "invite", true), Some((bot, What::Come(true)))),
        (member(bot, "@al:x", "invite", false), Some((bot, What::Come(false)))),
        (member(ghost, "@al:x", "invite", true), Some((ghost, What::Come(true)))),
        (member(bot, "@al:x", "leave", false), Some((bot, What::Left))),
        (member("@al:x", "@al:x", "leave", false), Some((bot, What::Left))),
        (member("@al:x", "@eve:x", "leave", false), None),
        (member("@bo:x", "@al:x", "invite", true), None),
        (member("@al:x", "@al:x", "join", false), None),
        // What we did ourselves.
        (member(ghost, bot, "invite", false), None),
        (member(bot, bot, "leave", false), None),
        (text("help"), Some((bot, What::Do(help(), false)))),
        (text("!causeway help"), Some((bot, What::Do(help(), true)))),
        (event("m.room.encryption", Some(""), "@al:x", &json!({})), Some((bot, looks()))),
        (event("m.room.encrypted", None, "@al:x", &json!({})), Some((bot, looks()))),
        (event("m.reaction", None, "@al:x", &json!({"body": "help"})), None),
        (event("m.room.member", Some("no user"), "@al:x", &json!({})), None),
    ];
    for (event, expected) in table {
        let found = errand(&names, &event);
        let found = found.as_ref().map(|errand| (errand.of.as_str(), errand.what.clone()));
        assert_eq!(found, expected, "{event:?}");
    }
}

#[test]
fn who_is_alone_with_the_bot_reads_where_he_is() {
    let room = |n: usize| {
        let id: OwnedRoomId = format!("!{n}:x").try_into().unwrap();
        (id, format!("Group {n}"))
    };
    let status = |rooms: &[_], count| Command::Asked(Asked::Status).answer_alone(rooms, count);
    assert!(status(&[], 0).starts_with("You are in no bridged room."));
    let one = "You are in 1 bridged room:\n“Group 1”: https://matrix.to/#/!1:x";
    assert_eq!(status(&[room(1)], 1), one);
    assert!(status(&[room(1), room(2)], 5).ends_with("\nand 3 more."));
}

#[test]
fn a_status_counts() {
    let status =
        Status { group: "Walkers", natives: 2, mirrors: 1, to_native: 0, to_matrix: 0, removed: 0 };
    let begins = "Bridged to the native group “Walkers”: 2 native members, 1 Matrix user.";
    assert_eq!(status.text(), format!("{begins} Nothing waits."));
    let text = Status { to_native: 1, removed: 2, ..status }.text();
    let ends = " 1 of what was said here waits for the group, 0 of what was said there for this \
                room. 2 native members were removed from this room: what they say does not get here.";
    assert_eq!(text, format!("{begins}{ends}"));
}
