//! What the agent does about a relay room, as tables.

use causeway_protocol::ids::Timestamp;
use serde_json::{Map, json};

use super::*;

const GROUP: GroupId = GroupId::new([7; 32]);

fn server(name: &str) -> OwnedServerName {
    name.try_into().unwrap()
}

fn room(id: &str) -> OwnedRoomId {
    id.try_into().unwrap()
}

fn agent(name: &str) -> OwnedUserId {
    format!("@_causeway:{name}").try_into().unwrap()
}

fn wish(room_id: Option<&str>) -> Wish {
    let servers = ["b.example", "c.example"].map(server).into();
    Wish { group: GROUP, room: room_id.map(room), home: server("a.example"), servers }
}

/// Of a group that has nobody elsewhere any more.
fn over() -> Wish {
    Wish { servers: Vec::new(), ..wish(Some("!r")) }
}

fn event(kind: &str, key: &str, sender: &str, content: &Value) -> StateEvent {
    let content: Map<_, _> = content.as_object().unwrap().clone();
    let sender = sender.try_into().unwrap();
    StateEvent {
        kind: kind.to_owned(),
        state_key: key.to_owned(),
        sender,
        event_id: None,
        at: Timestamp(0),
        content,
    }
}

fn member(user: &str, membership: &str) -> StateEvent {
    let content = json!({ "membership": membership });
    event("m.room.member", user, "@_causeway:a.example", &content)
}

#[test]
fn the_home_makes_it_and_the_others_come_when_both_its_word_and_its_invitation_are_there() {
    let (home, replica) = (agent("a.example"), agent("b.example"));
    let by = |user: &str| BTreeMap::from([(room("!r"), user.try_into().unwrap())]);
    let none = BTreeMap::new();
    let rows = [
        (wish(None), &home, vec![], none.clone(), Next::Make),
        (wish(Some("!r")), &home, vec![room("!r")], none.clone(), Next::Look(room("!r"))),
        (wish(Some("!r")), &home, vec![room("!other")], none.clone(), Next::Make),
        (wish(None), &replica, vec![room("!r")], none.clone(), Next::Wait),
        (wish(Some("!r")), &replica, vec![], none.clone(), Next::Wait),
        (wish(Some("!r")), &replica, vec![room("!r")], none, Next::Look(room("!r"))),
        (wish(Some("!r")), &replica, vec![], by("@_causeway:a.example"), Next::Join(room("!r"))),
        (wish(Some("!r")), &replica, vec![], by("@_causeway:c.example"), Next::Wait),
        (wish(Some("!r")), &replica, vec![], by("@mallory:a.example"), Next::Wait),
        (wish(Some("!s")), &replica, vec![], by("@_causeway:a.example"), Next::Wait),
        (wish(Some("!r")), &home, vec![], by("@_causeway:a.example"), Next::Make),
        (over(), &home, vec![room("!r")], BTreeMap::new(), Next::Look(room("!r"))),
        (over(), &home, vec![], BTreeMap::new(), Next::Over(room("!r"))),
    ];
    for (wish, who, joined, invites, expected) in rows {
        assert_eq!(next(&wish, who, &joined, &invites), expected, "{wish:?} {who} {joined:?}");
    }
}

#[test]
fn the_home_lets_in_whoever_is_missing_and_puts_out_whoever_does_not_belong_there() {
    let state = [
        member("@_causeway:a.example", "join"),
        member("@_causeway:b.example", "join"),
        member("@_causeway:d.example", "join"),
        member("@mallory:b.example", "invite"),
        member("@eve:b.example", "leave"),
        event("m.room.topic", "", "@eve:b.example", &json!({"topic": "tea"})),
    ];
    let here = tend(&wish(Some("!r")), &agent("a.example"), &state);
    assert_eq!(here.joined, [server("b.example")].into());
    assert_eq!(here.invite, [server("c.example")]);
    assert_eq!(here.leaving, [agent("d.example")]);
    assert_eq!(here.put_out, [OwnedUserId::try_from("@mallory:b.example").unwrap()]);
    // Who was invited is not invited again, and one who left is.
    for (membership, count) in [("invite", 0), ("join", 0), ("leave", 1), ("ban", 1)] {
        let state =
            [member("@_causeway:b.example", "join"), member("@_causeway:c.example", membership)];
        let tended = tend(&wish(Some("!r")), &agent("a.example"), &state);
        assert_eq!(tended.invite.len(), count, "{membership}");
    }
    // A replica sees who is there, and leaves the rest to the home.
    let mut of_b = wish(Some("!r"));
    of_b.servers = ["a.example", "c.example"].map(server).into();
    let there = tend(&of_b, &agent("b.example"), &state);
    let joined = [server("a.example")].into();
    assert_eq!(there, Tended { joined, ..Tended::default() });
}

#[test]
fn a_room_that_is_over_is_so_once_nobody_else_is_there() {
    let home = agent("a.example");
    let mut state = vec![member("@_causeway:a.example", "join")];
    assert!(tend(&over(), &home, &state).is_settled(&over()));
    state.push(member("@_causeway:b.example", "invite"));
    let tended = tend(&over(), &home, &state);
    assert!(!tended.is_settled(&over()));
    assert_eq!((tended.leaving, tended.joined.len()), (vec![agent("b.example")], 0));
}

#[test]
fn who_is_to_leave_is_put_out_a_minute_later_and_who_is_wanted_again_is_not() {
    let mut leaving = Leaving::told();
    let (b, c, in_r) = (agent("b.example"), agent("c.example"), room("!r"));
    let both = [b.clone(), c.clone()];
    assert!(leaving.overdue(&in_r, &both, 1_000).is_empty());
    assert!(leaving.overdue(&room("!s"), &both, 30_000).is_empty(), "each room for itself");
    assert!(leaving.overdue(&in_r, &both[..1], 60_999).is_empty());
    assert_eq!(leaving.overdue(&in_r, &both, 61_000), std::slice::from_ref(&b));
    assert_eq!(leaving.overdue(&in_r, &both, 120_999), std::slice::from_ref(&b));
    leaving.keep(&[in_r.clone()].into());
    assert_eq!(leaving.overdue(&in_r, &both, 121_000), [b, c]);
    assert!(leaving.overdue(&room("!s"), &both, 121_000).is_empty());
    assert!(leaving.overdue(&in_r, &[], 121_000).is_empty());
    assert!(leaving.overdue(&in_r, &both, 200_000).is_empty());
}

#[test]
fn a_room_is_the_groups_when_its_first_event_is_the_agents_and_says_so() {
    let made = make(&GROUP, "causeway_relay_00");
    let content = made["creation_content"].clone();
    let by = |sender: &str, content: &Value| event("m.room.create", "", sender, content);
    let (home, ours) = (agent("a.example"), "@_causeway:a.example");
    assert!(is_its(&GROUP, &home, &[by(ours, &content)]));
    assert!(!is_its(&GroupId::new([8; 32]), &home, &[by(ours, &content)]));
    assert!(!is_its(&GROUP, &home, &[by("@mallory:a.example", &content)]));
    assert!(!is_its(&GROUP, &home, &[by(ours, &json!({}))]));
    assert!(!is_its(&GROUP, &home, &[]));
    let ended = event("m.room.tombstone", "", ours, &json!({"replacement_room": "!s"}));
    assert!(!is_its(&GROUP, &home, &[by(ours, &content), ended]));
    // Nobody but agents posts, and they nothing else.
    let powers = &made["power_level_content_override"];
    assert_eq!((&powers["events_default"], &powers["state_default"]), (&json!(100), &json!(100)));
    assert_eq!((&powers["events"], powers.get("users")), (&json!({MESSAGE: 0}), None));
}

#[test]
fn only_what_a_room_carries_is_the_agents_to_read() {
    for (event, is_carried) in [
        (json!({"type": MESSAGE, "content": {}}), true),
        (json!({"type": "m.room.member", "content": {"type": MESSAGE}}), false),
        (json!({"type": 7}), false),
        (json!([]), false),
    ] {
        let event = serde_json::value::to_raw_value(&event).unwrap();
        assert_eq!(super::is_carried(&event), is_carried, "{event}");
    }
}

#[test]
fn rooms_that_nobody_wishes_for_are_left() {
    let joined = ["!a", "!b", "!c"].map(room);
    let wanted = [room("!b"), room("!d")].into();
    let left: Vec<_> = unwanted(&joined, &wanted).map(RoomId::as_str).collect();
    assert_eq!(left, ["!a", "!c"]);
}

#[test]
fn a_server_is_invited_four_times_at_once_then_rarely_and_after_a_refusal_hourly() {
    let (b, c) = (server("b.example"), server("c.example"));
    let mut invites = Invites::default();
    let taken = |invites: &mut Invites, at: u64| (0..9).filter(|_| invites.take(&b, at)).count();
    assert_eq!(taken(&mut invites, 1_000), 4);
    assert!(invites.take(&c, 1_000), "each for itself");
    assert_eq!(taken(&mut invites, 1_000 + EACH_MS - 1), 0);
    assert_eq!(taken(&mut invites, 1_000 + EACH_MS), 1);
    assert_eq!(taken(&mut invites, 1_000 + 3 * EACH_MS), 2);
    assert_eq!(taken(&mut invites, 1_000 + 90 * EACH_MS), 4);
    let later = 1_000 + 200 * EACH_MS;
    assert!(invites.take(&b, later));
    invites.refused(&b, later);
    assert_eq!(taken(&mut invites, later + REFUSED_MS - 1), 0);
    assert_eq!(taken(&mut invites, later + REFUSED_MS), 4);
}

#[test]
fn who_does_not_come_is_invited_again_after_ten_minutes_then_twice_as_late_each_time() {
    let (r, other) = (room("!r:a.example"), room("!s:a.example"));
    let (b, c) = (server("b.example"), server("c.example"));
    let mut again = Again::default();
    let (mut now, mut waits) = (5, Vec::new());
    for _ in 0..10 {
        assert!(again.may(&r, &b, now));
        again.invited(&r, &b, now);
        let wait = (1..=1_440).find(|minutes| again.may(&r, &b, now + minutes * 60_000)).unwrap();
        assert!(!again.may(&r, &b, now + wait * 60_000 - 1));
        waits.push(wait);
        now += wait * 60_000;
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1_280, 1_440, 1_440]);
    let hour = 3_600_000;
    assert_eq!(again.refused(&r, &b, now), 43_200_000);
    assert!(!again.may(&r, &b, now + hour - 1) && again.may(&r, &b, now + hour));
    assert_eq!(again.invited(&r, &b, now + hour), 86_400_000, "a refusal makes it no later");
    assert_eq!(again.refused(&r, &c, now), 0, "who was never invited");
    now += hour;
    assert!(again.may(&other, &b, now) && again.may(&r, &c, now), "each for itself");
    // While it is missing that is remembered; once it came, or none is wished any more, it is not.
    again.keep(&[r.clone()].into());
    again.keep_missing(&other, &[].into());
    again.keep_missing(&r, &[b.clone()].into());
    assert!(!again.may(&r, &b, now));
    again.keep_missing(&r, &[].into());
    assert!(again.may(&r, &b, now));
}

#[test]
fn what_was_waited_for_before_a_start_is_waited_for_after_it_and_goes_on_growing() {
    let (r, b) = (room("!r:a.example"), server("b.example"));
    let mut again = Again::default();
    assert!(!again.has(&r, &b));
    again.put_back((&r, &b), 100, (5_000, 1_200_000));
    assert!(again.has(&r, &b) && !again.may(&r, &b, 5_099) && again.may(&r, &b, 5_100));
    assert_eq!(again.invited(&r, &b, 5_100), 2_400_000);
    // It was refused: that is an hour, also where less was waited before.
    again.put_back((&r, &b), 100, (3_600_000, 300_000));
    assert!(!again.may(&r, &b, 3_600_099) && again.may(&r, &b, 3_600_100));
    assert_eq!(again.invited(&r, &b, 3_600_100), 600_000);
    // By a clock that was put back.
    again.put_back((&r, &b), 100, (u64::MAX, 1_200_000));
    assert!(again.may(&r, &b, 3_600_100));
    again.put_back((&r, &b), 100, (u64::MAX, u64::MAX));
    assert!(again.may(&r, &b, 86_400_100));
}

#[test]
fn whoever_invites_into_many_rooms_keeps_nobody_elses_invitation_out() {
    let mut invites = BTreeMap::new();
    remember(&mut invites, 8, room("!of-a"), agent("a.example"));
    for n in 0..100 {
        remember(&mut invites, 8, room(&format!("!junk-{n:03}")), agent("z.example"));
        assert!(invites.len() <= 8);
    }
    remember(&mut invites, 8, room("!of-b"), agent("b.example"));
    for (id, by) in [("!of-a", "a.example"), ("!of-b", "b.example")] {
        assert_eq!(invites.get(&room(id)), Some(&agent(by)));
    }
}

#[test]
fn an_agents_invitation_is_kept_for_ten_minutes_and_while_its_home_tells_of_its_room() {
    let invites: BTreeMap<_, _> = [
        (room("!told:b.example"), agent("b.example")),
        (room("!trap:b.example"), agent("c.example")),
        (room("!new:b.example"), agent("b.example")),
    ]
    .into();
    let told = [
        (room("!told:b.example"), server("b.example")),
        // Its home is another than whose agent invites.
        (room("!trap:b.example"), server("b.example")),
    ];
    let told = told.into();
    let mut untold = Untold::default();
    assert!(untold.overdue(&invites, &told, 5).is_empty());
    assert!(untold.overdue(&invites, &told, 600_004).is_empty());
    let over = [room("!new:b.example"), room("!trap:b.example")];
    assert_eq!(untold.overdue(&invites, &told, 600_005), over);
    // It is told of meanwhile, and then no more: the time begins anew.
    let of_all = invites.iter().map(|(room, by)| (room.clone(), by.server_name().to_owned()));
    assert!(untold.overdue(&invites, &of_all.collect(), 700_000).is_empty());
    assert!(untold.overdue(&invites, &told, 800_000).is_empty());
    for (by, may) in [
        (Some(agent("b.example")), true),
        (Some("@mallory:b.example".try_into().unwrap()), false),
        (None, false),
    ] {
        assert_eq!(may_be_relayed(by.as_ref()), may, "{by:?}");
    }
}

#[test]
fn an_invitation_that_nobody_answered_for_an_hour_is_taken_back_to_be_made_anew() {
    let mut invited = Leaving::invited();
    let (place, who) = (room("!r:a.example"), [agent("b.example")]);
    assert!(invited.overdue(&place, &who, 0).is_empty());
    assert!(invited.overdue(&place, &who, 3_599_999).is_empty());
    assert_eq!(invited.overdue(&place, &who, 3_600_000), who);
}
