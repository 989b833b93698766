//! How far messages come at another server, and what their sender hears of it.

use causeway_protocol::{
    api::{DeliveryState, MessageStatus, OwnDevice},
    envelope::{Kind, Piece, Submission, SubmittedTo},
    ids::{DeviceId, EnvelopeId, ItemId},
    link::{Item, RowProgress, RowState, Tell},
    roster::Body,
};

use super::{
    OTHER, at,
    groups::{ops, said, until_epoch, with_carol},
    peer::Peer,
    restarted,
    strangers::show,
    two,
    wire::{Wire, hand_in},
};
use crate::harness::{Group, Person, Server, random, text};

/// How far an envelope came at one device, and why it did not.
pub(super) async fn state(
    server: &Server,
    who: &Person,
    id: EnvelopeId,
    device: DeviceId,
) -> (DeliveryState, Option<String>) {
    let status: MessageStatus = who.get(server, &format!("/messages/{id}/status")).await.ok();
    let of = status.recipients.into_iter().find(|of| of.device == device).expect("a recipient");
    (of.state, of.reason)
}

pub(super) async fn until(
    server: &Server,
    who: &Person,
    (id, whom): (EnvelopeId, &Person),
    is: DeliveryState,
) {
    while state(server, who, id, whom.device()).await.0 != is {
        tokio::task::yield_now().await;
    }
}

/// Reads the next text, and waits until that is acknowledged.
async fn read(server: &Server, who: &Person, is: &str) {
    let mut stream = who.stream(server).await;
    loop {
        let row = stream.next().await;
        stream.ack(row.seq.0).await;
        if row.envelope.kind == Kind::Message {
            assert_eq!(text(&row.envelope), is);
            let acked = Some(row.seq.0.to_string());
            // On the disk: a server that ends before has not heard of it.
            let is_there = |line: &String| {
                let columns = line.strip_prefix("mailboxes: ");
                columns.and_then(|columns| columns.split(',').nth(1)) == acked.as_deref()
            };
            while !server.rows().await.iter().any(is_there) {
                tokio::task::yield_now().await;
            }
            break;
        }
    }
}

/// The ids of what the server told a device to have ended, acknowledged.
async fn ended(server: &Server, who: &Person) -> Vec<Vec<u8>> {
    let mut stream = who.stream(server).await;
    let mut ended = Vec::new();
    let mut last = None;
    for row in stream.settled().await {
        last = Some(row.seq.0);
        if row.envelope.kind == Kind::Expired {
            ended.push(row.envelope.payload);
        }
    }
    if let Some(last) = last {
        stream.ack(last).await;
        while who.get(server, "/device").await.ok::<OwnDevice>().waits == Some(true) {
            tokio::task::yield_now().await;
        }
    }
    ended
}

pub(super) fn for_devices(group: &Group, who: &Person, whom: &[&Person]) -> Submission {
    let pieces = whom.iter().map(|whom| (whom.device(), Piece(vec![1, 2, 3]))).collect();
    let to = SubmittedTo::Devices(pieces);
    let epoch = group.roster.epoch().0;
    Submission { id: None, ..who.submission(group.id(), epoch, Kind::Fanout, to, vec![9; 40]) }
}

#[tokio::test]
async fn a_sender_sees_what_a_device_of_another_server_was_given_and_has() {
    let (here, alice, there, carol) = two().await;
    let _wire = Wire::between(&here, &there);
    let mut group = with_carol(&here, &alice, &carol).await;
    let bob = here.person("bob").await;
    group.post(&here, &alice, &Body::Add(vec![bob.entry(0)])).await;
    until_epoch(&there, &carol, &group).await;
    let to_all = alice.say(&here, &group, &["to all"]).await.accepted[0].id;
    let to = SubmittedTo::Device(carol.device());
    let key = alice.submission(group.id(), 2, Kind::KeyDistribution, to, b"\x01 key".to_vec());
    let key_id = key.name();
    // Of which the other server has a part, that it knows by another name.
    let fan_out = for_devices(&group, &alice, &[&bob, &carol]);
    let fan_out_id = fan_out.name();
    alice.submit(&here, vec![key]).await.ok::<serde_json::Value>();
    alice.submit(&here, vec![fan_out]).await.ok::<serde_json::Value>();
    for id in [to_all, key_id, fan_out_id] {
        until(&here, &alice, (id, &carol), DeliveryState::Relayed).await;
    }
    let mut stream = carol.stream(&there).await;
    let mut seqs = Vec::new();
    while seqs.len() < 3 {
        let row = stream.next().await;
        if row.envelope.kind != Kind::Roster {
            seqs.push(row.seq.0);
        }
    }
    for id in [to_all, key_id, fan_out_id] {
        until(&here, &alice, (id, &carol), DeliveryState::Delivered).await;
    }
    // What she has is said of all up to there, and of nothing behind it.
    stream.ack(seqs[1]).await;
    for id in [to_all, key_id] {
        until(&here, &alice, (id, &carol), DeliveryState::Acked).await;
    }
    assert_eq!(state(&here, &alice, fan_out_id, carol.device()).await.0, DeliveryState::Delivered);
    stream.ack(seqs[2]).await;
    until(&here, &alice, (fan_out_id, &carol), DeliveryState::Acked).await;
    assert_eq!(state(&here, &alice, fan_out_id, bob.device()).await.0, DeliveryState::Queued);
}

#[tokio::test]
async fn what_was_read_while_the_servers_were_apart_is_told_after_each_restarts() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    let one = alice.say(&here, &group, &["one"]).await.accepted[0].id;
    until(&here, &alice, (one, &carol), DeliveryState::Relayed).await;
    drop(wire);
    read(&there, &carol, "one").await;
    let there = restarted(there, OTHER).await;
    let wire = Wire::between(&here, &there);
    until(&here, &alice, (one, &carol), DeliveryState::Acked).await;
    drop(wire);
    let here = restarted(here, "a.example").await;
    assert_eq!(state(&here, &alice, one, carol.device()).await.0, DeliveryState::Acked);
    let _wire = Wire::lossy(&here, &there);
    let two = alice.say(&here, &group, &["two"]).await.accepted[0].id;
    read(&there, &carol, "two").await;
    until(&here, &alice, (two, &carol), DeliveryState::Acked).await;
}

#[tokio::test]
async fn what_nobody_fetches_elsewhere_expires_there_and_its_sender_hears_so_once() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let group = with_carol(&here, &alice, &carol).await;
    let id = alice.say(&here, &group, &["too late"]).await.accepted[0].id;
    until(&here, &alice, (id, &carol), DeliveryState::Relayed).await;
    drop(wire);
    // By the other server's clock alone.
    there.pass_ms(31 * 86_400_000);
    there.app.upkeep().await.unwrap();
    // What is owed is told after a restart, too.
    let there = restarted(there, OTHER).await;
    let _wire = Wire::between(&here, &there);
    until(&here, &alice, (id, &carol), DeliveryState::Expired).await;
    assert_eq!(ended(&here, &alice).await, [id.as_ref().to_vec()]);
    while there.rows().await.iter().any(|row| row.starts_with("owed_progress:")) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_message_of_who_is_out_is_refused_elsewhere_and_its_sender_hears_why() {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let mut group = with_carol(&here, &alice, &carol).await;
    until_epoch(&there, &carol, &group).await;
    drop(wire);
    // Each server takes it in its own order.
    let id = carol.say(&there, &group, &["still in?"]).await.accepted[0].id;
    group.post(&here, &alice, &Body::Remove(vec![carol.member()])).await;
    let _wire = Wire::between(&here, &there);
    until(&there, &carol, (id, &alice), DeliveryState::Failed).await;
    let (_, reason) = state(&there, &carol, id, alice.device()).await;
    assert_eq!(reason.as_deref(), Some("removed"));
    while !ended(&there, &carol).await.contains(&id.as_ref().to_vec()) {}
}

fn progress(rows: Vec<RowProgress>) -> serde_json::Value {
    Item::Tell(ItemId::new(random()), Tell::Progress(Vec::new(), rows)).to_json()
}

#[tokio::test]
async fn a_servers_word_counts_for_its_own_devices_and_is_bounded() {
    let server = at("a.example").await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let carol = Person::at("carol", OTHER);
    let mut peer = Peer::new(OTHER);
    // A group of hers, with two of here.
    let mut group = Group::begun(Group::first_op(&carol));
    let op = group.op(&carol, &Body::Add(vec![alice.entry(0), bob.entry(0)]));
    group.install(op);
    let shown = causeway_protocol::api::AccountDevices {
        list: carol.list.clone(),
        devices: vec![carol.record.clone()],
    };
    let shown = causeway_protocol::api::AccountAnswer::from(shown);
    let accounts = Tell::Accounts(vec![serde_json::to_value(shown).unwrap()]);
    let accounts = Item::Tell(ItemId::new(random()), accounts).to_json();
    let frame = peer.frame(vec![accounts, ops(&group, &group.ops)]);
    hand_in(&server, OTHER, frame).await;
    let id = alice.say(&server, &group, &["hello"]).await.accepted[0].id;
    let row = |device: Option<DeviceId>, state, reason: Option<&str>| RowProgress {
        id,
        sender: Some(alice.device()),
        group: Some(group.id()),
        device,
        state,
        reason: reason.map(str::to_owned),
    };
    let say = async |peer: &mut Peer, from: &str, rows: Vec<RowProgress>| {
        let frame = peer.frame(vec![progress(rows)]);
        hand_in(&server, from, frame).await;
    };
    // Of a device of this server; of nobody's; of an envelope that is none; by a server that has nobody in it.
    let strange = EnvelopeId::new(random());
    let (dev, other) = (Some(bob.device()), Some(DeviceId::new(random())));
    let unknown = RowProgress { id: strange, ..row(dev, RowState::Acked, None) };
    let nobodys =
        RowProgress { sender: Some(carol.device()), ..row(None, RowState::Failed, Some("x")) };
    let lies = vec![
        row(dev, RowState::Acked, None),
        row(dev, RowState::Failed, Some("no")),
        row(dev, RowState::Expired, None),
        row(other, RowState::Acked, None),
        RowProgress { sender: None, ..row(None, RowState::Failed, None) },
        unknown,
        nobodys,
    ];
    say(&mut peer, OTHER, lies).await;
    let mut third = Peer::new("c.example");
    let all = row(None, RowState::Failed, Some("no"));
    say(&mut third, "c.example", vec![row(Some(carol.device()), RowState::Acked, None), all]).await;
    assert_eq!(state(&server, &alice, id, bob.device()).await, (DeliveryState::Queued, None));
    assert_eq!(state(&server, &alice, id, carol.device()).await, (DeliveryState::Queued, None));
    assert!(ended(&server, &alice).await.is_empty());
    // Its own, again and again: its sender hears it once, in words that are fit to be shown.
    let why = "<b>no\n!</b> because it is so".repeat(20);
    for _ in 0..100 {
        say(&mut peer, OTHER, vec![row(None, RowState::Failed, Some(&why))]).await;
    }
    let (is, reason) = state(&server, &alice, id, carol.device()).await;
    assert_eq!(is, DeliveryState::Failed);
    assert_eq!(reason.map(|reason| (reason.len(), reason.starts_with("bnob"))), Some((64, true)));
    assert_eq!(state(&server, &alice, id, bob.device()).await, (DeliveryState::Queued, None));
    assert_eq!(ended(&server, &alice).await, [id.as_ref().to_vec()]);
    assert_eq!(ended(&server, &alice).await, Vec::<Vec<u8>>::new());
    let refused =
        async || server.rows().await.iter().filter(|row| row.starts_with("refused:")).count();
    assert_eq!(refused().await, 1);
    // What it said of a device of its own it does not take back, whether of that one or of all.
    let its = Some(carol.device());
    for (said, taken_back, is) in [
        (RowState::Delivered, Some("removed"), DeliveryState::Delivered),
        (RowState::Acked, Some("removed"), DeliveryState::Acked),
        (RowState::Acked, None, DeliveryState::Acked),
    ] {
        let id = alice.say(&server, &group, &["hello again"]).await.accepted[0].id;
        peer.said(&server).await;
        let as_of = |row: RowProgress| RowProgress { id, ..row };
        say(&mut peer, OTHER, vec![as_of(row(its, said, None))]).await;
        let state_of = if taken_back.is_some() { RowState::Failed } else { RowState::Expired };
        let ends = [row(its, state_of, taken_back), row(None, state_of, taken_back)];
        say(&mut peer, OTHER, ends.map(as_of).to_vec()).await;
        assert_eq!(state(&server, &alice, id, carol.device()).await, (is, None));
    }
    assert_eq!(refused().await, 1);
    // But who was given something may not take it in time.
    let id = alice.say(&server, &group, &["and again"]).await.accepted[0].id;
    peer.said(&server).await;
    for state in [RowState::Delivered, RowState::Expired] {
        let row = RowProgress { id, ..row(its, state, None) };
        say(&mut peer, OTHER, vec![row]).await;
    }
    assert_eq!(state(&server, &alice, id, carol.device()).await, (DeliveryState::Expired, None));
}

/// A group of three, of which one is taken out by its home while somebody of the other server goes on: what
/// became of what he said, to who was not taken out.
async fn said_before_the_cut_came(scheme: u8) -> (DeliveryState, Option<String>, Vec<String>) {
    let (here, alice, there, carol) = two().await;
    let wire = Wire::between(&here, &there);
    let bob = here.person("bob").await;
    let mut group = Group::create_with(&here, &alice, scheme).await;
    group.post(&here, &alice, &Body::Add(vec![carol.entry(0), bob.entry(0)])).await;
    until_epoch(&there, &carol, &group).await;
    let early = carol.say(&there, &group, &["early"]).await.accepted[0].id;
    read(&here, &alice, "early").await;
    drop(wire);
    let late = carol.say(&there, &group, &["late"]).await.accepted[0].id;
    group.post(&here, &alice, &Body::Remove(vec![bob.member()])).await;
    // What was put down before the op comes again, and is no late one.
    let there = restarted(there, OTHER).await;
    let here = restarted(here, "a.example").await;
    let _wire = Wire::lossy(&here, &there);
    until_epoch(&there, &carol, &group).await;
    // What is said after the op closes the row of those before it.
    carol.say(&there, &group, &["after"]).await;
    let mut texts = Vec::new();
    let mut stream = alice.stream(&here).await;
    while texts.last().is_none_or(|text| text != "after") {
        let row = stream.next().await;
        if row.envelope.kind == Kind::Message {
            texts.push(text(&row.envelope));
        }
        stream.ack(row.seq.0).await;
    }
    until(&there, &carol, (early, &alice), DeliveryState::Acked).await;
    let is = if scheme == 3 { DeliveryState::Failed } else { DeliveryState::Acked };
    until(&there, &carol, (late, &alice), is).await;
    let (is, reason) = state(&there, &carol, late, alice.device()).await;
    if is == DeliveryState::Failed {
        while !ended(&there, &carol).await.contains(&late.as_ref().to_vec()) {}
    }
    // Who was taken out has what came before, whatever else he reads, and was not given what came behind it.
    let mut aside = Group::create(&here, &alice).await;
    aside.post(&here, &alice, &Body::Add(vec![bob.entry(0)])).await;
    alice.say(&here, &aside, &["aside"]).await;
    let mut stream = bob.stream(&here).await;
    loop {
        let row = stream.next().await;
        stream.ack(row.seq.0).await;
        if row.envelope.group == aside.id() && row.envelope.kind == Kind::Message {
            break;
        }
    }
    until(&there, &carol, (early, &bob), DeliveryState::Acked).await;
    until(&there, &carol, (late, &bob), DeliveryState::Failed).await;
    let of_bob = state(&there, &carol, late, bob.device()).await;
    let why = if scheme == 3 { "stale_epoch" } else { "left" };
    assert_eq!(of_bob, (DeliveryState::Failed, Some(why.to_owned())));
    (is, reason, texts)
}

#[tokio::test]
async fn under_a_shared_key_what_comes_behind_a_cut_is_not_put_down_and_its_sender_hears_so() {
    let (is, reason, texts) = said_before_the_cut_came(3).await;
    assert_eq!((is, reason.as_deref()), (DeliveryState::Failed, Some("stale_epoch")));
    assert_eq!(texts, ["after"]);
}

#[tokio::test]
async fn under_sender_keys_it_is_put_down_and_marked_by_its_readers() {
    let (is, _, texts) = said_before_the_cut_came(1).await;
    assert_eq!(is, DeliveryState::Acked);
    assert_eq!(texts, ["late", "after"]);
}

/// A server is owed the ends of as much as it can be: what was read behind them is told with them.
#[tokio::test]
async fn what_was_read_is_told_behind_as_many_ends_as_a_server_may_be_owed() {
    const OWED: usize = 4_096;
    let server = at("a.example").await;
    let alice = server.person("alice").await;
    let carol = Person::at("carol", OTHER);
    let mut peer = Peer::new(OTHER);
    let mut group = Group::begun(Group::first_op(&carol));
    group.install(group.op(&carol, &Body::Add(vec![alice.entry(0)])));
    let message = carol.message(group.id(), 1, "hello");
    let id = message.name();
    let items = vec![show(&carol), ops(&group, &group.ops), said(&group, message)];
    hand_in(&server, OTHER, peer.frame(items)).await;
    server
        .change(&format!(
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {OWED})
             INSERT INTO owed_progress (server, sender, id, device, n, group_id, reason)
             SELECT d.server, d.device_id, randomblob(16), 0, n, randomblob(32), 'refused'
             FROM n JOIN devices d ON d.account = '{}'",
            carol.account
        ))
        .await;
    read(&server, &alice, "hello").await;
    let mut told = Vec::new();
    let is_read = |row: &RowProgress| row.id == id && row.state == RowState::Acked;
    let all = tokio::time::timeout(std::time::Duration::from_mins(1), async {
        while !told.iter().any(is_read) {
            for item in peer.said(&server).await {
                if let Item::Tell(_, Tell::Progress(_, rows)) = item {
                    told.extend(rows);
                }
            }
            tokio::task::yield_now().await;
        }
    });
    all.await.expect("it is told without a word of the other that it has heard the ends");
    let ends = told.iter().take_while(|row| row.state == RowState::Failed).count();
    assert_eq!(ends, OWED, "what ended is told before what was read");
}
