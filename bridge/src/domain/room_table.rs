//! What a room's state says, as a table.

use serde_json::json;

use super::*;

fn read(state: &Value) -> Found {
    let state: Vec<StateEvent> = serde_json::from_value(state.clone()).unwrap();
    let room = OwnedRoomId::try_from("!r:b.example").unwrap();
    Found::of(&Names::new("b.example").unwrap(), &room, &state)
}

fn event(kind: &str, key: &str, sender: &str, content: &Value) -> Value {
    json!({"type": kind, "state_key": key, "sender": sender, "content": content})
}

fn member(who: &str, by: &str, membership: &str) -> Value {
    event("m.room.member", who, by, &json!({"membership": membership}))
}

const BOT: &str = "@causewaybot:b.example";

#[test]
fn who_is_in_it_and_who_was_put_out() {
    let found = read(&json!([
        member(BOT, BOT, "join"),
        event("m.room.create", "", BOT, &json!({})),
        event(
            "m.room.member",
            "@al:x",
            "@al:x",
            &json!({"membership": "join", "displayname": "Al"})
        ),
        member("@bea:x", "@bea:x", "join"),
        member("@cleo:x", BOT, "invite"),
        member("@dora:x", "@dora:x", "leave"),
        member("@causeway_bob:b.example", "@causeway_bob:b.example", "join"),
        member("@causeway_eve:b.example", "@al:x", "ban"),
        member("@causeway_fay:b.example", "@al:x", "leave"),
        // It left by itself.
        member("@causeway_gil:b.example", "@causeway_gil:b.example", "leave"),
        member("not a user", "@al:x", "join"),
        event("m.room.member", "@hal:x", "@hal:x", &json!({})),
    ]));
    assert!(found.is_in && found.is_made);
    let people: Vec<_> =
        found.people.iter().map(|(user, name)| (user.as_str(), name.as_deref())).collect();
    assert_eq!(people, [("@al:x", Some("Al")), ("@bea:x", None)]);
    assert_eq!(found.invited.iter().map(|user| user.as_str()).collect::<Vec<_>>(), ["@cleo:x"]);
    let out: Vec<_> =
        found.put_out.iter().map(|(who, by)| (who.localpart(), by.as_str())).collect();
    assert_eq!(out, [("eve", "@al:x"), ("fay", "@al:x")]);
}

#[test]
fn who_may_do_what() {
    let user = |id: &str| OwnedUserId::try_from(id).unwrap();
    let of = |version: &str, levels: &Value| {
        let state = json!([
            event(
                "m.room.create",
                "",
                "@al:x",
                &json!({"room_version": version,
                "additional_creators": ["@bea:x"]})
            ),
            event("m.room.power_levels", "", "@al:x", levels),
        ]);
        Powers::of_room(&serde_json::from_value::<Vec<StateEvent>>(state).unwrap())
    };
    let levels = json!({"users": {"@mod:x": 50, "@old:x": "60"}, "users_default": 1, "invite": 40,
        "state_default": 30, "events": {"m.room.tombstone": 90}});
    let powers = of("11", &levels);
    assert_eq!((powers.to_invite(), powers.to_close()), (40, 90));
    let powers_of: Vec<i64> =
        ["@mod:x", "@old:x", "@al:x", "@bea:x"].iter().map(|id| powers.of(&user(id))).collect();
    assert_eq!(powers_of, [50, 60, 1, 1], "who made a room of this version is one like others");
    let powers = of("12", &levels);
    assert_eq!((powers.of(&user("@al:x")), powers.of(&user("@bea:x"))), (i64::MAX, i64::MAX));
    let none = of("11", &json!({}));
    assert_eq!((none.to_invite(), none.to_close(), none.of(&user("@mod:x"))), (0, 50, 0));
    assert_eq!(of("11", &json!({"state_default": 30})).to_close(), 30);
}

#[test]
fn what_it_is_like() {
    let plain = read(&json!([]));
    assert!(!plain.is_in && !plain.is_made && !plain.encrypted && !plain.muted);
    let room = |id: &str| Some(OwnedRoomId::try_from(id).unwrap());
    let levels = |content: &Value| read(&json!([event("m.room.power_levels", "", BOT, content)]));
    assert!(!levels(&json!({"events_default": 0})).muted);
    assert!(levels(&json!({"events_default": 50})).muted);
    assert!(!levels(&json!({"events_default": 50, "users_default": 50})).muted);
    let content = json!({"events_default": 50, "events": {"m.room.message": 0}});
    assert!(!levels(&content).muted);
    assert!(levels(&json!({"events": {"m.room.message": 1}})).muted);
    let found = read(&json!([
        event("m.room.create", "", "@al:x", &json!({"predecessor": {"room_id": "!old:x"}})),
        event("m.room.encryption", "", "@al:x", &json!({})),
        event("m.room.topic", "", "@al:x", &json!({"topic": "tea"})),
        event("m.room.tombstone", "", "@al:x", &json!({"replacement_room": "!next:x"})),
        // Not of the room.
        event("m.room.topic", "x", "@al:x", &json!({"topic": "coffee"})),
    ]));
    assert!(found.encrypted && !found.is_made);
    assert_eq!(found.topic.as_deref(), Some("tea"));
    assert_eq!((found.predecessor, found.successor), (room("!old:x"), room("!next:x")));
}
