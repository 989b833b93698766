//! Servers that lie, repeat themselves, and flood.

use causeway_protocol::{
    api::{AccountAnswer, AccountDevices},
    envelope::{Kind, SubmittedTo},
    ids::{DeviceId, EnvelopeId, ItemId, ServerLinkId},
    link::{Answer, Ask, Call, Frame, Item, RowProgress, RowState, Tell},
    roster::{Body, Policy},
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    OTHER, ask_of, at,
    groups::{ops, said, texts, until_epoch},
    operator::{operate, other},
    peer::Peer,
    restarted,
    strangers::show,
    thirds::{HOME, THIRD},
    wire::{Wire, door, hand_in},
};
use crate::harness::{Group, Person, Server, policy, random};

/// A group of Carol's, who is at the test's own server, with Alice in it.
async fn carols(server: &Server, alice: &Person, peer: &mut Peer) -> (Group, Person) {
    let carol = Person::at("carol", OTHER);
    let mut group = Group::begun(Group::first_op(&carol));
    group.install(group.op(&carol, &Body::Add(vec![alice.entry(0)])));
    let frame = peer.frame(vec![show(&carol), ops(&group, &group.ops)]);
    hand_in(server, OTHER, frame).await;
    (group, carol)
}

async fn counts(server: &Server) -> (u64, u64) {
    let seen = other(server).await;
    (seen["refused"].as_u64().unwrap(), seen["malformed"].as_u64().unwrap())
}

#[tokio::test]
async fn what_is_wrong_with_a_frame_counts_once_however_often_it_is_looked_at() {
    let server = at(HOME).await;
    let (alice, mut peer) = (server.person("alice").await, Peer::new(OTHER));
    let (group, carol) = carols(&server, &alice, &mut peer).await;
    peer.said(&server).await;
    let foreign = || Person::at("erin", THIRD).message(group.id(), 1, "foreign");
    let mut wrong = carol.message(group.id(), 1, "wrong");
    wrong.id = Some(EnvelopeId::new(random()));
    let dan = Person::at("dan", OTHER);
    let shown = AccountDevices { list: carol.list.clone(), devices: vec![dan.record.clone()] };
    let bad_list = |shown: AccountDevices| {
        let shown = serde_json::to_value(AccountAnswer::from(shown)).unwrap();
        Item::Tell(ItemId::new(random()), Tell::Accounts(vec![shown])).to_json()
    };
    // Three of other servers, a list that does not verify, one of a wrong name that stands together with what
    // is good, and with what waits for an epoch that nobody made; and what is nothing.
    let stuck = peer.frame(vec![
        said(&group, foreign()),
        said(&group, foreign()),
        said(&group, foreign()),
        json!({"t": "dance"}),
        bad_list(shown.clone()),
        said(&group, carol.message(group.id(), 1, "good")),
        said(&group, wrong),
        said(&group, carol.message(group.id(), 77, "later")),
        said(&group, foreign()),
    ]);
    hand_in(&server, OTHER, stuck.clone()).await;
    assert_eq!(counts(&server).await, (5, 1));
    // Whatever comes meanwhile, and however often it comes itself.
    for _ in 0..30 {
        let bare = peer.frame(Vec::new());
        hand_in(&server, OTHER, bare).await;
        hand_in(&server, OTHER, stuck.clone()).await;
    }
    assert_eq!(counts(&server).await, (5, 1));
    // What stands behind it is looked at as well, for what may help.
    let ahead = peer.frame(vec![bad_list(shown)]);
    for _ in 0..30 {
        hand_in(&server, OTHER, ahead.clone()).await;
    }
    assert_eq!(counts(&server).await, (6, 1));
    // There is no such epoch: what waited is refused, and what stood behind it is dealt with.
    let asked = loop {
        let said = peer.said(&server).await.into_iter();
        let mut asks = said.filter_map(|item| match item {
            Item::Ask(to, Ask { call: Call::Ops, .. }) => Some(to),
            _ => None,
        });
        if let Some(asked) = asks.next() {
            break asked;
        }
        tokio::task::yield_now().await;
    };
    let body = json!({ "errcode": "M_NOT_FOUND", "error": "no such group" });
    let answer = Item::Answer(ItemId::new(random()), Answer { to: asked, status: 404, body });
    let frame = peer.frame(vec![answer.to_json()]);
    hand_in(&server, OTHER, frame).await;
    assert_eq!(counts(&server).await, (8, 1));
    assert_eq!(texts(&server, &alice, 1).await, ["good"]);
    let frame = peer.frame(vec![said(&group, carol.message(group.id(), 1, "next"))]);
    hand_in(&server, OTHER, frame).await;
    assert_eq!(texts(&server, &alice, 1).await, ["next"]);
}

/// A frame with one ask in it, of this number.
fn frame(server: &Server, link: ServerLinkId, seq: u64) -> Value {
    let until = server.now().plus_ms(30_000);
    let items = vec![ask_of(Call::Ping, None, json!({}), until).to_json()];
    Frame { link, seq, ack: None, reset: None, had: None, gives: None, items }.to_json()
}

#[tokio::test]
async fn numbers_far_ahead_and_floods_of_links_fill_nothing() {
    let server = at(HOME).await;
    let link = ServerLinkId::new(random());
    hand_in(&server, OTHER, frame(&server, link, 1)).await;
    let held = async || other(&server).await["held_bytes"].as_u64().unwrap();
    let one = frame(&server, link, 3).to_string().len() as u64;
    let rows = server.rows().await;
    for ahead in [1_026, 5_000, 1 << 32, (1 << 53) - 1] {
        hand_in(&server, OTHER, frame(&server, link, ahead)).await;
    }
    assert_eq!((held().await, counts(&server).await), (0, (0, 0)));
    // As many as there are numbers makes no sense.
    for ahead in [1 << 53, u64::MAX] {
        hand_in(&server, OTHER, frame(&server, link, ahead)).await;
    }
    assert_eq!((held().await, counts(&server).await), (0, (0, 2)));
    // All that is near, and links whose beginning never comes, each with what is ahead of that.
    for seq in 3..1_200 {
        hand_in(&server, OTHER, frame(&server, link, seq)).await;
    }
    let full = held().await;
    assert!((1_000 * one..=1_024 * (one + 8)).contains(&full), "{full}");
    for _ in 0..300 {
        let unknown = ServerLinkId::new(random());
        for seq in [2, 7, 1_000] {
            hand_in(&server, OTHER, frame(&server, unknown, seq)).await;
        }
    }
    assert!(held().await <= 1_024 * (one + 8));
    server.assert_unchanged(&rows).await;
    // What was missing comes, and all that is held has its turn.
    door(&server).await;
    hand_in(&server, OTHER, frame(&server, link, 2)).await;
    // But for what is ahead of links whose beginning may still come.
    assert!(held().await <= 8 * (one + 8));
    assert_eq!(counts(&server).await, (0, 2));
    let until = server.now().plus_ms(30_000);
    let ping = ask_of(Call::Ping, None, json!({}), until).to_json();
    assert_eq!(Peer::new(THIRD).ask(&server, vec![ping]).await[0].status, 200);
}

#[tokio::test]
async fn what_a_server_says_of_envelopes_that_are_not_for_it_changes_nothing() {
    let server = at(HOME).await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let mut peer = Peer::new(OTHER);
    let (_, carol) = carols(&server, &alice, &mut peer).await;
    // A group in which it has nobody; what is for all in it, and for one.
    let mut ours = Group::create(&server, &alice).await;
    ours.post(&server, &alice, &Body::Add(vec![bob.entry(0)])).await;
    let to_all = alice.say(&server, &ours, &["to all"]).await.accepted[0].id;
    let to = SubmittedTo::Device(bob.device());
    let key = alice.submission(ours.id(), 1, Kind::KeyDistribution, to, b"\x01 key".to_vec());
    let to_bob = key.name();
    alice.submit(&server, vec![key]).await.ok::<Value>();
    // How far its own device was given what is for it is its to say; of that nobody is told here.
    let is_link = |row: &String| row.starts_with("servers:") || row.starts_with("mailboxes: 3,");
    let noted = async || -> Vec<String> {
        server.rows().await.into_iter().filter(|row| !is_link(row)).collect()
    };
    let before = noted().await;
    let states = [RowState::Delivered, RowState::Acked, RowState::Expired, RowState::Failed];
    let whom = [None, Some(bob.device()), Some(carol.device()), Some(DeviceId::new(random()))];
    let by = [Some(alice.device()), Some(bob.device()), Some(carol.device())];
    let mut lies = Vec::new();
    for (id, state) in [to_all, to_bob].iter().flat_map(|id| states.map(|state| (*id, state))) {
        for (device, sender) in whom.iter().flat_map(|whom| by.map(|by| (*whom, by))) {
            let reason = (state == RowState::Failed).then(|| "removed".to_owned());
            let group = Some(ours.id());
            lies.push(RowProgress { id, sender, group, device, state, reason });
        }
    }
    for lie in lies {
        let tell = Tell::Progress(Vec::new(), vec![lie.clone()]);
        let frame = peer.frame(vec![Item::Tell(ItemId::new(random()), tell).to_json()]);
        hand_in(&server, OTHER, frame).await;
        let changed: Vec<_> =
            noted().await.into_iter().filter(|row| !before.contains(row)).collect();
        assert!(changed.is_empty(), "{lie:?} {changed:#?}");
    }
    assert_eq!(texts(&server, &bob, 1).await, ["to all"]);
}

#[tokio::test]
async fn a_home_that_shows_two_servers_another_history_each_is_seen_by_both() {
    let (second, third) = (at(OTHER).await, at(THIRD).await);
    let carol = Person::at("carol", OTHER).registered(&second).await;
    let erin = Person::at("erin", THIRD).registered(&third).await;
    let mallory = Person::at("mallory", HOME);
    let mut one = Group::begun(Group::first_op(&mallory));
    let entries = vec![carol.entry(0), erin.entry(0)];
    one.install(one.op(&mallory, &Body::Add(entries)));
    let mut two = one.clone();
    let described = |text: &str| Body::Policy(Policy { description: text.to_owned(), ..policy() });
    one.install(one.op(&mallory, &described("one")));
    two.install(two.op(&mallory, &described("two")));
    for (server, group) in [(&second, &one), (&third, &two)] {
        let frame = Peer::new(HOME).frame(vec![show(&mallory), ops(group, &group.ops)]);
        hand_in(server, HOME, frame).await;
    }
    // They show each other their people, and at their next starts where their groups stand.
    let wire = Wire::among(&[(OTHER, &second), (THIRD, &third)]);
    for (server, whom) in [(&second, &erin), (&third, &carol)] {
        let is_it =
            |row: &String| row.starts_with("devices:") && row.contains(whom.account.as_str());
        while !server.rows().await.iter().any(is_it) {
            tokio::task::yield_now().await;
        }
    }
    drop(wire);
    let (second, third) = (restarted(second, OTHER).await, restarted(third, THIRD).await);
    let _wire = Wire::among(&[(OTHER, &second), (THIRD, &third)]);
    for (server, who, group, whose) in
        [(&second, &carol, &one, THIRD), (&third, &erin, &two, OTHER)]
    {
        loop {
            let path = format!("/servers/{whose}");
            let (status, seen) = operate(server, Method::GET, &path).await;
            if status == 200 && seen["last_error"]["why"] == "refused: second_history" {
                break;
            }
            tokio::task::yield_now().await;
        }
        until_epoch(server, who, group).await;
        let kept = group.read_ops(server, who).await.ops;
        assert_eq!(kept.last().unwrap().0, group.ops.last().unwrap().as_bytes());
    }
}
