//! Which lane an effect takes, as a table.

use causeway_protocol::ids::GroupId;

use super::*;
use crate::domain::{
    command::Asked,
    effect::InGroup,
    ghost::Names,
    portal::{PortalState, Unsaved},
    said::{Relayed, Said, Spoken, Text},
};

const ID: PortalId = PortalId(1);

fn portal(encrypted: bool) -> Portal {
    Portal {
        id: ID,
        group: GroupId::new([7; 32]),
        room: None,
        name: String::new(),
        state: PortalState::Open,
        encrypted,
        lost: None,
        successor: None,
        hears_from: None,
        refused: None,
        mirrors: [].into(),
        invited: [].into(),
        removed: [].into(),
        natives: None,
        taken: std::sync::OnceLock::new(),
        names: Names::new("b.example").unwrap(),
        unsaved: Unsaved::default(),
    }
}

/// One deed of each kind, so that no kind has a lane that nobody looked at.
pub(crate) fn deeds() -> Vec<Deed> {
    let text = || Text { kind: crate::domain::TextKind::Text, body: "hi".into(), html: None };
    let spoken = Spoken {
        account: "bob:b.example".parse().unwrap(),
        reference: crate::domain::MessageRef {
            device: causeway_protocol::ids::DeviceId::new([1; 32]),
            client_id: causeway_protocol::ids::ClientId::new([2; 16]),
        },
        message_id: causeway_protocol::ids::EnvelopeId::new([3; 16]),
        expires_at: causeway_protocol::ids::Timestamp(9),
        sent_at: None,
        late: false,
        said: Said::Text(text(), None),
    };
    let relayed = Relayed {
        mirror: "@al:x".try_into().unwrap(),
        event_id: "$e".try_into().unwrap(),
        said: Said::Text(text(), Some("$q".try_into().unwrap())),
    };
    vec![
        InRoom::Say(spoken).into(),
        InRoom::Notice("n".into()).into(),
        InRoom::Make.into(),
        InRoom::Invite("@al:x".try_into().unwrap()).into(),
        InRoom::Leave("bob:b.example".parse().unwrap()).into(),
        InRoom::Pause.into(),
        InRoom::Close.into(),
        InGroup::Say(relayed).into(),
        InGroup::Announce(vec![], vec!["@al:x".try_into().unwrap()]).into(),
        InGroup::Notice("n".into()).into(),
        InRoom::Follow("!next:x".try_into().unwrap()).into(),
        InRoom::MakeAnew.into(),
        InRoom::Answer("n".into(), "$e".try_into().unwrap()).into(),
        InRoom::PutOut("bob:b.example".parse().unwrap(), "r".into()).into(),
        InRoom::Topic.into(),
        InRoom::Introduce.into(),
        InRoom::Members("$e".try_into().unwrap(), 2).into(),
        InRoom::Unread("$e".try_into().unwrap()).into(),
        InRoom::MakeInstead("!old:x".try_into().unwrap()).into(),
        InRoom::Asked(
            "$e".try_into().unwrap(),
            "@al:x".try_into().unwrap(),
            Asked::Invite("@bo:x".try_into().unwrap()),
        )
        .into(),
        InRoom::Rename.into(),
        InRoom::Return.into(),
        InRoom::InviteFor("@al:x".try_into().unwrap(), "bob:b.example".parse().unwrap()).into(),
        InRoom::Asked(
            "$e".try_into().unwrap(),
            "@al:x".try_into().unwrap(),
            Asked::UnbridgeInSilence,
        )
        .into(),
    ]
}

#[test]
fn an_operator_reads_what_waits() {
    let names: Vec<&str> = deeds().iter().map(Deed::name).collect();
    let expected = "say notice make invite leave pause close say announce notice follow make_anew \
                    notice leave topic notice notice notice make_anew notice rename return invite notice";
    assert_eq!(names.join(" "), expected);
}

#[test]
fn what_is_said_waits_in_an_encrypted_room_and_the_rest_does_not() {
    let (room, group, bot) = ("portal/1/to_matrix", "portal/1/to_native", "bot/1");
    let lanes = |encrypted| -> Vec<String> {
        deeds().iter().map(|deed| Lane::of(&portal(encrypted), deed).to_string()).collect()
    };
    let last = [room, room, room, room, bot, bot, bot, bot, room, bot, bot, bot];
    let first = [room, room, room, bot, room, bot, room, group, group, group, room, bot];
    assert_eq!(lanes(false), [&first[..], &last].concat());
    let last = [room, bot, room, room, bot, bot, bot, bot, room, bot, bot, bot];
    let first = [room, room, bot, bot, bot, bot, bot, group, group, group, bot, bot];
    assert_eq!(lanes(true), [&first[..], &last].concat());
}

#[test]
fn what_is_somebodys_goes_aside_and_home_again() {
    let whose: Vec<Option<String>> =
        deeds().iter().map(|deed| deed.who().map(str::to_owned)).collect();
    let (bob, al) = (Some("bob:b.example".to_owned()), Some("@al:x".to_owned()));
    let bot = Some("bot".to_owned());
    let mut expected = vec![bob.clone(), bot.clone(), None, al.clone(), bob.clone()];
    expected.resize(12, None);
    expected.extend([bot.clone(), bob, bot.clone(), bot.clone(), bot.clone(), bot.clone(), None]);
    expected.extend([al.clone(), bot, None, al.clone(), al]);
    assert_eq!(whose, expected);
    for deed in deeds() {
        let lane = Lane::of(&portal(false), &deed);
        let Some(aside) = deed.who().and_then(|who| lane.aside(who)) else { continue };
        assert_eq!((aside.home(&deed), lane.home(&deed)), (lane.clone(), lane), "{deed:?}");
        assert_eq!((aside.aside("x"), aside.portal()), (None, ID));
    }
    let aside = [Lane::Aside(ID, "x".to_owned()), Lane::BotAside(ID, "x".to_owned())];
    assert_eq!([Lane::ToMatrix(ID).aside("x"), Lane::Bot(ID).aside("x")], aside.map(Some));
    // Of the version before.
    let invite = InRoom::Invite("@al:x".try_into().unwrap()).into();
    assert_eq!(Lane::Aside(ID, "@al:x".to_owned()).home(&invite), Lane::Bot(ID));
    let instead = InRoom::MakeInstead("!old:x".try_into().unwrap());
    for anew in [InRoom::MakeAnew, InRoom::Return, instead] {
        assert_eq!(Lane::ToMatrix(ID).home(&anew.into()), Lane::Bot(ID));
    }
    assert_eq!(Lane::ToNative(ID).aside("x"), None);
}

#[test]
fn lanes_are_named_both_ways() {
    for (lane, name) in [
        (Lane::ToMatrix(PortalId(12)), "portal/12/to_matrix"),
        (Lane::ToNative(PortalId(3)), "portal/3/to_native"),
        (Lane::Bot(PortalId(1)), "bot/1"),
        (Lane::Aside(PortalId(7), "a/b:x".to_owned()), "portal/7/to_matrix/a/b:x"),
        (Lane::BotAside(PortalId(7), "@a/b:x".to_owned()), "bot/7/@a/b:x"),
    ] {
        assert_eq!((lane.to_string().as_str(), name.parse()), (name, Ok(lane)));
    }
    for name in ["portal/x/to_matrix", "portal/1/to", "bot", "bot/", "bot/x/2", ""] {
        assert_eq!(name.parse::<Lane>(), Err(NotALane), "{name}");
    }
}
