use causeway_protocol::ids::Timestamp;
use serde_json::{Value, json};

use super::*;

fn event(kind: &str, state_key: Option<&str>, content: &Value) -> RoomEvent {
    RoomEvent {
        event_id: "$e:x".try_into().unwrap(),
        room_id: "!r:x".try_into().unwrap(),
        sender: "@al:x".try_into().unwrap(),
        kind: kind.to_owned(),
        state_key: state_key.map(str::to_owned),
        at: Timestamp(1),
        content: content.as_object().unwrap().clone(),
    }
}

/// Type, content, what it is, and what the group reads.
type Row = (&'static str, Value, Kind, &'static str);

fn messages() -> Vec<Row> {
    vec![
        (
            MESSAGE,
            json!({"msgtype": "m.image", "body": "cat.png", "url": "mxc://x/y"}),
            Kind::File,
            "sent image, which is not bridged yet: cat.png",
        ),
        (
            MESSAGE,
            json!({"msgtype": "m.file", "body": "a.pdf"}),
            Kind::File,
            "sent file, which is not bridged yet: a.pdf",
        ),
        (
            MESSAGE,
            json!({"msgtype": "m.video", "body": "a.mp4", "file": {"url": "mxc://x/y"}}),
            Kind::File,
            "sent video, which is not bridged yet: a.mp4",
        ),
        (
            MESSAGE,
            json!({"msgtype": "m.audio", "body": "a.ogg"}),
            Kind::File,
            "sent audio, which is not bridged yet: a.ogg",
        ),
        (
            MESSAGE,
            json!({"msgtype": "m.audio", "body": "Voice message", "org.matrix.msc3245.voice": {}}),
            Kind::File,
            "sent a voice message, which is not bridged yet: Voice message",
        ),
        (
            MESSAGE,
            json!({"msgtype": "m.location", "body": "The pier", "geo_uri": "geo:1,2"}),
            Kind::Location,
            "shared a location, which is not bridged yet: The pier",
        ),
        (
            MESSAGE,
            json!({"msgtype": "org.example.card", "body": "a card"}),
            Kind::Other,
            "sent something that is not bridged yet: a card",
        ),
    ]
}

fn polls_and_signs() -> Vec<Row> {
    let question = json!({
        "question": {"org.matrix.msc1767.text": "Where?"},
        "answers": [{"id": "1", "org.matrix.msc1767.text": "Here"},
                    {"id": "2", "org.matrix.msc1767.text": "There"}],
    });
    let stable = json!({
        "m.text": [{"body": "Where? 1. Here"}],
        "m.poll": {
            "question": {"m.text": [{"body": "Where?"}]},
            "answers": [{"m.id": "1", "m.text": [{"body": "Here"}]}],
        },
    });
    let relates = json!({"rel_type": "m.annotation", "event_id": "$a:x", "key": "👍"});
    let image = json!({"rel_type": "m.annotation", "event_id": "$a:x", "key": "mxc://x/y"});
    vec![
        (
            "m.sticker",
            json!({"body": "A cat", "url": "mxc://x/y", "info": {}}),
            Kind::Sticker,
            "sent a sticker, which is not bridged yet: A cat",
        ),
        (
            "m.sticker",
            json!({"url": "mxc://x/y"}),
            Kind::Sticker,
            "sent a sticker, which is not bridged yet",
        ),
        (
            "org.matrix.msc3381.poll.start",
            json!({"org.matrix.msc3381.poll.start": question}),
            Kind::Poll,
            "started a poll, which is not bridged yet: Where? (Here / There)",
        ),
        (
            "m.poll.start",
            stable,
            Kind::Poll,
            "started a poll, which is not bridged yet: Where? (Here)",
        ),
        (
            "m.poll.end",
            json!({"m.relates_to": {"rel_type": "m.reference", "event_id": "$a:x"}}),
            Kind::Poll,
            "ended a poll",
        ),
        (
            "org.matrix.msc3381.poll.end",
            json!({"org.matrix.msc1767.text": "Ended.", "org.matrix.msc3381.poll.end": {},
                "m.relates_to": {"rel_type": "m.reference", "event_id": "$a:x"}}),
            Kind::Poll,
            "ended a poll",
        ),
        (
            "m.reaction",
            json!({"m.relates_to": image, "com.beeper.reaction.shortcode": ":cat:"}),
            Kind::Reaction,
            "reacted with an image (:cat:)",
        ),
        ("m.reaction", json!({"m.relates_to": relates}), Kind::Reaction, "reacted with 👍"),
        ("m.reaction", json!({"m.relates_to": image}), Kind::Reaction, "reacted with an image"),
        ("m.room.redaction", json!({"redacts": "$a:x"}), Kind::Redaction, "took back this message"),
    ]
}

fn calls_and_others() -> Vec<Row> {
    vec![
        (
            "m.call.invite",
            json!({"call_id": "c", "offer": {}}),
            Kind::Call,
            "started a call, which is not bridged yet",
        ),
        (
            "org.matrix.msc4075.rtc.notification",
            json!({"notification_type": "ring"}),
            Kind::Call,
            "started a call, which is not bridged yet",
        ),
        (
            "m.rtc.notification",
            json!({"notification_type": "notification", "body": "a call"}),
            Kind::Call,
            "started a call, which is not bridged yet",
        ),
        (
            "org.matrix.msc4075.call.notify",
            json!({"notify_type": "ring"}),
            Kind::Call,
            "started a call, which is not bridged yet",
        ),
        (
            "m.call.notify",
            json!({"notify_type": "ring"}),
            Kind::Call,
            "started a call, which is not bridged yet",
        ),
        (
            "org.example.unknown",
            json!({"body": "words"}),
            Kind::Other,
            "sent something that is not bridged yet: words",
        ),
        (
            "org.example.extensible",
            json!({"m.text": [{"body": "words"}]}),
            Kind::Other,
            "sent something that is not bridged yet: words",
        ),
        (
            "m.message",
            json!({"m.text": [{"mimetype": "text/html", "body": "<b>words</b>"}, {"body": "words"}]}),
            Kind::Other,
            "sent something that is not bridged yet: words",
        ),
        (
            "org.matrix.msc1767.message",
            json!({"org.matrix.msc1767.message": [{"mimetype": "text/plain", "body": "words"}]}),
            Kind::Other,
            "sent something that is not bridged yet: words",
        ),
        (
            "org.matrix.msc1767.emote",
            json!({"org.matrix.msc1767.markup": [{"mimetype": "text/html", "body": "<i>waves</i>"}]}),
            Kind::Other,
            "sent something that is not bridged yet: <i>waves</i>",
        ),
        (
            "org.matrix.msc1767.file",
            json!({"org.matrix.msc1767.text": "a.pdf", "org.matrix.msc1767.file": {"url": "mxc://x/y"}}),
            Kind::Other,
            "sent something that is not bridged yet: a.pdf",
        ),
    ]
}

#[test]
fn what_clients_show_has_a_line() {
    for (kind, content, expected, words) in
        [messages(), polls_and_signs(), calls_and_others()].concat()
    {
        let event = event(kind, None, &content);
        let found = Kind::of(&event);
        assert_eq!(found, Some(expected), "{kind}");
        let (line, about) = line(expected, &event);
        assert_eq!(line, words);
        let is_about = matches!(expected, Kind::Reaction | Kind::Redaction);
        assert_eq!(about.is_some(), is_about, "{kind}");
        assert!(expected.answer().ends_with('.') && expected.answer().contains("yet"));
    }
    let live = json!({"live": true, "description": "On my way"});
    let beacon = event("org.matrix.msc3672.beacon_info", Some("@al:x"), &live);
    assert_eq!(Kind::of(&beacon), Some(Kind::Location));
    assert_eq!(
        line(Kind::Location, &beacon).0,
        "shared a location, which is not bridged yet: On my way"
    );
}

#[test]
fn what_the_room_is_called_has_a_line() {
    let table = [
        ("m.room.name", json!({"name": "Tea"}), "gave the Matrix room another name: Tea"),
        ("m.room.name", json!({"name": ""}), "took the name off the Matrix room"),
        ("m.room.topic", json!({"topic": "Tea"}), "gave the Matrix room another topic: Tea"),
        ("m.room.avatar", json!({"url": "mxc://x/y"}), "gave the Matrix room another picture"),
        (
            "m.room.pinned_events",
            json!({"pinned": ["$a"]}),
            "changed which messages are pinned in the Matrix room",
        ),
        (
            "m.room.server_acl",
            json!({"allow": ["*"]}),
            "changed which servers may take part in the Matrix room",
        ),
        ("m.room.power_levels", json!({"users": {}}), "changed who may do what in the Matrix room"),
        (
            "m.room.join_rules",
            json!({"join_rule": "public"}),
            "changed who may come into the Matrix room: public",
        ),
        (
            "m.room.history_visibility",
            json!({"history_visibility": "world_readable"}),
            "changed who may read back in the Matrix room: world_readable",
        ),
        (
            "m.room.guest_access",
            json!({"guest_access": "can_join"}),
            "changed whether guests may come into the Matrix room: can_join",
        ),
        (
            "m.room.canonical_alias",
            json!({"alias": "#tea:x"}),
            "changed the address of the Matrix room: #tea:x",
        ),
        ("m.room.canonical_alias", json!({}), "changed the address of the Matrix room"),
        ("m.call", json!({"m.intent": "m.ring"}), "started a call, which is not bridged yet"),
        (
            "org.matrix.msc3401.call",
            json!({"m.intent": "m.room"}),
            "started a call, which is not bridged yet",
        ),
    ];
    for (kind, content, words) in table {
        let event = event(kind, Some(""), &content);
        let kind = Kind::of(&event).unwrap();
        assert_eq!(line(kind, &event), (words.to_owned(), None));
        assert!(kind.answer().ends_with('.'));
    }
}

#[test]
fn what_natives_send_and_is_not_carried_has_a_line() {
    let account = "bob:b.example".parse().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..=u8::MAX {
        let is_silent = [1, 6, 7, 16, 17, 18].contains(&number);
        assert_eq!(native_line(number).is_none(), is_silent, "{number}");
        if let Some(line) = native_line(number) {
            assert!(seen.insert(line), "each has its own");
            assert!(answer_native(&account, number).contains("bob:b.example"));
        }
    }
    let kinds: std::collections::BTreeSet<String> = (0..=u8::MAX).map(native_kind).collect();
    assert_eq!(kinds.len(), 12, "eleven that have numbers, and the rest");
    assert_eq!(native_line(99).unwrap(), "sent something that this bridge does not know (type 99)");
}

#[test]
fn what_is_carried_or_shown_by_nobody_has_none() {
    let table = [
        (MESSAGE, None, json!({"msgtype": "m.text", "body": "hi"})),
        (MESSAGE, None, json!({"msgtype": "m.emote", "body": "waves"})),
        (MESSAGE, None, json!({"msgtype": "m.notice", "body": "hm"})),
        // Redacted.
        (MESSAGE, None, json!({})),
        ("m.sticker", None, json!({})),
        ("m.reaction", None, json!({})),
        ("m.poll.response", None, json!({"m.text": "1"})),
        ("org.matrix.msc3381.poll.response", None, json!({"body": "1"})),
        ("m.beacon", None, json!({"body": "here"})),
        ("m.beacon_info", Some("@al:x"), json!({"live": false})),
        ("m.call.candidates", None, json!({"body": "x"})),
        ("m.key.verification.start", None, json!({"body": "x"})),
        ("org.example.silent", None, json!({"x": 1})),
        ("m.room.topic", Some("x"), json!({"topic": "x", "body": "x"})),
        ("m.room.topic", None, json!({"topic": "x"})),
        ("m.room.join_rules", Some("x"), json!({"join_rule": "public"})),
        ("m.room.third_party_invite", Some("x"), json!({"display_name": "x"})),
        (MESSAGE, None, json!({"msgtype": "m.text", "body": "[Spoiler](mxc://x/y)"})),
        (
            MESSAGE,
            None,
            json!({"msgtype": "m.text", "body": "in a thread",
            "m.relates_to": {"rel_type": "m.thread", "event_id": "$a:x"}}),
        ),
        // A call is shown once, by what rings; who is in it and what their clients say is its own.
        ("m.call.answer", None, json!({"body": "x"})),
        ("m.call.hangup", None, json!({"reason": "user_hangup"})),
        ("m.call.reject", None, json!({"body": "x"})),
        ("m.call.select_answer", None, json!({"body": "x"})),
        ("m.call.negotiate", None, json!({"body": "x"})),
        ("org.matrix.call.sdp_stream_metadata_changed", None, json!({"body": "x"})),
        ("io.element.call.encryption_keys", None, json!({"body": "x"})),
        ("io.element.call.reaction", None, json!({"body": "x"})),
        ("org.matrix.msc3401.call.member", Some("_@al:x_D"), json!({"memberships": [{}]})),
        ("m.call.member", Some("_@al:x_D"), json!({"application": "m.call"})),
        ("m.rtc.member", Some("x"), json!({"application": {"type": "m.call"}})),
        ("m.rtc.member", None, json!({"body": "x"})),
        ("org.matrix.msc4310.rtc.decline", None, json!({"body": "x"})),
        ("org.matrix.msc3401.call", Some("c"), json!({"m.terminated": "call_ended"})),
        ("org.matrix.msc3672.beacon", None, json!({"body": "here"})),
    ];
    for (kind, state_key, content) in table {
        assert_eq!(Kind::of(&event(kind, state_key, &content)), None, "{kind} {content}");
    }
}
