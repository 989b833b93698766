//! What a device cannot hold stands apart until it is asked for, and nothing else waits for it.

use std::collections::{BTreeMap, BTreeSet};

use causeway_protocol::{
    api::{
        Accepted, Again, DeliveryState, EventKind, EventPage, Kept, MessageStatus, ParkedPage,
        ReadAgain, Session, StreamAck, StreamRow, Unpark, Unparked,
    },
    envelope::{Kind, Piece, SubmittedTo},
    ids::{EnvelopeId, Seq},
    roster::Body,
};
use reqwest::Method;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{BRIDGE_TOKEN, Group, MONTH_MS, Person, Server, json as bytes, text};

/// Reads until one says this, acknowledges it, and parks those for which `is_parked`.
async fn read(
    server: &Server,
    reader: &Person,
    last: &str,
    is_parked: impl Fn(&StreamRow) -> bool,
) -> Vec<StreamRow> {
    let mut stream = reader.stream(server).await;
    let mut rows = Vec::new();
    loop {
        let row = stream.next().await;
        let is_last = row.envelope.payload == last.as_bytes();
        rows.push(row);
        if is_last {
            break;
        }
    }
    let park = rows.iter().filter(|row| is_parked(row)).map(|row| row.seq).collect();
    let ack = StreamAck { ack: rows.last().unwrap().seq, park };
    stream.send(Message::text(String::from_utf8(bytes(&ack)).unwrap())).await;
    stream.send(Message::Close(None)).await;
    stream.broken().await;
    rows
}

fn is_of(person: &Person) -> impl Fn(&StreamRow) -> bool {
    let device = person.device();
    move |row| row.envelope.sender.as_ref().is_some_and(|sender| sender.device == device)
}

fn said(rows: &[StreamRow]) -> Vec<String> {
    rows.iter()
        .filter(|row| row.envelope.kind != Kind::Roster)
        .map(|row| text(&row.envelope))
        .collect()
}

/// All that is parked of one for another, without taking it.
async fn parked(server: &Server, reader: &Person, group: &Group, of: &Person) -> Vec<StreamRow> {
    let mut all = Vec::new();
    let mut after = Seq(0);
    loop {
        let unparked = unpark(server, reader, group, of, (after, Vec::new())).await;
        let Some(last) = unparked.rows.last() else { return all };
        after = last.seq;
        all.extend(unparked.rows);
    }
}

async fn unpark(
    server: &Server,
    reader: &Person,
    group: &Group,
    of: &Person,
    (after, taken): (Seq, Vec<Seq>),
) -> Unparked {
    let request = Unpark { group: group.id(), sender: of.device(), after, taken };
    reader.post(server, "/device/unpark", &request).await.ok()
}

async fn take(server: &Server, reader: &Person, group: &Group, of: &Person, rows: &[StreamRow]) {
    for some in rows.chunks(256) {
        let seqs = some.iter().map(|row| row.seq).collect();
        unpark(server, reader, group, of, (Seq(u64::MAX), seqs)).await;
    }
}

async fn state(server: &Server, who: &Person, id: EnvelopeId, of: &Person) -> DeliveryState {
    let status: MessageStatus = who.get(server, &format!("/messages/{id}/status")).await.ok();
    status.recipients.iter().find(|row| row.device == of.device()).unwrap().state
}

async fn count(server: &Server, table: &str) -> usize {
    let rows = server.rows().await;
    rows.iter().filter(|row| row.starts_with(&format!("{table}:"))).count()
}

#[tokio::test]
async fn what_is_parked_holds_nothing_up_and_comes_in_its_order_when_it_is_asked_for() {
    let server = Server::start().await;
    let (group, [mallory, alice, bob]) = server.group(["mallory", "alice", "bob"]).await;
    let junk = mallory.say(&server, &group, &["junk 1", "junk 2"]).await;
    let epoch = group.roster.epoch().0;
    let pieces = [&alice, &bob].map(|who| (who.device(), Piece(b"a piece".to_vec())));
    let pieces = SubmittedTo::Devices(BTreeMap::from(pieces));
    let fanned = mallory.submission(group.id(), epoch, Kind::Fanout, pieces, b"junk 3".to_vec());
    let to = SubmittedTo::Device(bob.device());
    let direct = mallory.submission(group.id(), epoch, Kind::KeyAck, to, b"junk 4".to_vec());
    let more: Accepted = mallory.submit(&server, vec![fanned, direct]).await.ok();
    let honest = alice.say(&server, &group, &["hello"]).await;
    let rows = read(&server, &bob, "hello", is_of(&mallory)).await;
    assert_eq!(said(&rows), ["junk 1", "junk 2", "junk 3", "junk 4", "hello"]);
    // The others read all of it: nothing of it goes while one lacks it.
    read(&server, &alice, "junk 3", |_| false).await;
    let ids: Vec<_> = junk.accepted.iter().chain(&more.accepted).map(|one| one.id).collect();
    let server = server.restart().await;
    {
        server.app.upkeep().await.unwrap();
        for id in &ids {
            assert_eq!(state(&server, &mallory, *id, &bob).await, DeliveryState::Delivered);
        }
        let id = honest.accepted[0].id;
        assert_eq!(state(&server, &alice, id, &bob).await, DeliveryState::Acked);
        alice.say(&server, &group, &["again"]).await;
        assert_eq!(said(&read(&server, &bob, "again", |_| false).await), ["again"]);
        let figures = server.app.figures().await.unwrap();
        assert_eq!((figures.parked_rows, figures.parked_bytes), (4, 4 * 6 + 7));
        let page: ParkedPage = bob.get(&server, "/device/parked?limit=1").await.ok();
        let of = &page.parked[0];
        assert_eq!((of.group, &of.sender.account, of.rows), (group.id(), &mallory.account, 4));
        assert_eq!((page.parked.len(), page.next), (1, None));
        assert_eq!(of.bytes, 4 * 6 + 7);
        for _ in 0..2 {
            assert_eq!(parked(&server, &bob, &group, &mallory).await, rows[1..5]);
        }
        // Nobody else's, and nothing of anybody else.
        assert!(parked(&server, &alice, &group, &mallory).await.is_empty());
        assert!(parked(&server, &bob, &group, &alice).await.is_empty());
        take(&server, &alice, &group, &mallory, &rows).await;
        assert_eq!(parked(&server, &bob, &group, &mallory).await, rows[1..5]);
        take(&server, &bob, &group, &mallory, &rows[1..3]).await;
        assert_eq!(parked(&server, &bob, &group, &mallory).await, rows[3..5]);
        take(&server, &bob, &group, &mallory, &rows).await;
        for id in &ids {
            assert_eq!(state(&server, &mallory, *id, &bob).await, DeliveryState::Acked);
        }
        bob.say(&server, &group, &["the end"]).await;
        for who in [&alice, &mallory] {
            read(&server, who, "the end", |_| false).await;
        }
        server.app.upkeep().await.unwrap();
        assert_eq!(count(&server, "parked").await, 0);
        assert_eq!(count(&server, "envelopes").await, 0, "{:#?}", server.rows().await);
    }
}

#[tokio::test]
async fn what_is_parked_of_two_groups_is_handed_out_by_group() {
    let server = Server::start().await;
    let (one, [mallory, bob]) = server.group(["mallory", "bob"]).await;
    let mut other = Group::create(&server, &mallory).await;
    other.post(&server, &mallory, &Body::Add(vec![bob.entry(0)])).await;
    for n in 0..3 {
        mallory.say(&server, &one, &[&format!("one {n}")]).await;
        mallory.say(&server, &other, &[&format!("other {n}")]).await;
    }
    read(&server, &bob, "other 2", is_of(&mallory)).await;
    let page: ParkedPage = bob.get(&server, "/device/parked?limit=1").await.ok();
    assert_eq!(page.parked[0].group, one.id());
    let next = format!("/device/parked?from={}", page.next.unwrap().0);
    let page: ParkedPage = bob.get(&server, &next).await.ok();
    assert_eq!((page.parked.len(), page.parked[0].group), (1, other.id()));
    let of_one = parked(&server, &bob, &one, &mallory).await;
    assert_eq!(said(&of_one), ["one 0", "one 1", "one 2"]);
    take(&server, &bob, &one, &mallory, &of_one).await;
    let of_other = parked(&server, &bob, &other, &mallory).await;
    assert_eq!(said(&of_other), ["other 0", "other 1", "other 2"]);
    // Who leaves a group wants nothing more of it.
    other.post(&server, &bob, &Body::Leave).await;
    assert!(parked(&server, &bob, &other, &mallory).await.is_empty());
    assert_eq!(count(&server, "parked").await, 0);
}

#[tokio::test]
async fn who_leaves_has_not_read_what_was_parked_and_its_sender_sees_that() {
    let server = Server::start().await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let epoch = group.roster.epoch().0;
    let to = SubmittedTo::Device(bob.device());
    let direct = alice.submission(group.id(), epoch, Kind::KeyAck, to, b"direct".to_vec());
    let direct: Accepted = alice.submit(&server, vec![direct]).await.ok();
    let said = alice.say(&server, &group, &["read", "parked"]).await;
    let is_parked = |row: &StreamRow| is_of(&alice)(row) && row.envelope.payload != b"read";
    read(&server, &bob, "parked", is_parked).await;
    group.post(&server, &bob, &Body::Leave).await;
    server.app.upkeep().await.unwrap();
    for (id, state, reason) in [
        (said.accepted[0].id, DeliveryState::Acked, None),
        (said.accepted[1].id, DeliveryState::Failed, Some("left")),
        (direct.accepted[0].id, DeliveryState::Failed, Some("left")),
    ] {
        let path = format!("/messages/{id}/status");
        let status: MessageStatus = alice.get(&server, &path).await.ok();
        let of_bob = &status.recipients[0];
        assert_eq!((of_bob.state, of_bob.reason.as_deref()), (state, reason));
    }
}

/// Reads so many messages, of which more are there than may be on their way, and parks all of them.
async fn park_all(server: &Server, reader: &Person, count: usize) {
    let mut stream = reader.stream(server).await;
    let (mut parked, mut park) = (0, Vec::new());
    while parked < count {
        let row = stream.next().await;
        if row.envelope.kind != Kind::Roster {
            park.push(row.seq);
            parked += 1;
        }
        if park.len() == 100 || parked == count {
            let ack = StreamAck { ack: row.seq, park: std::mem::take(&mut park) };
            stream.send(Message::text(String::from_utf8(bytes(&ack)).unwrap())).await;
        }
    }
    stream.send(Message::Close(None)).await;
    stream.broken().await;
}

async fn how(
    server: &Server,
    who: &Person,
    id: EnvelopeId,
    of: &Person,
) -> (DeliveryState, Option<String>) {
    let status: MessageStatus = who.get(server, &format!("/messages/{id}/status")).await.ok();
    let of = status.recipients.into_iter().find(|row| row.device == of.device()).unwrap();
    (of.state, of.reason)
}

#[tokio::test]
async fn much_that_is_parked_for_who_leaves_goes_a_little_at_a_time_whatever_ends_the_server() {
    let server = Server::start().await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let texts: Vec<String> = (0..1_190).map(|n| n.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let said = alice.say(&server, &group, &texts).await;
    let epoch = group.roster.epoch().0;
    let direct = (0..10).map(|n| {
        let to = SubmittedTo::Device(bob.device());
        alice.submission(group.id(), epoch, Kind::KeyAck, to, format!("direct {n}").into_bytes())
    });
    let direct: Accepted = alice.submit(&server, direct.collect()).await.ok();
    park_all(&server, &bob, 1_200).await;
    assert_eq!(count(&server, "parked").await, 1_200);
    group.post(&server, &bob, &Body::Leave).await;
    // One turn, and the others may write.
    assert_eq!(count(&server, "parked").await, 1_200 - 512);
    let left = (DeliveryState::Failed, Some("left".to_owned()));
    assert_eq!(how(&server, &alice, said.accepted[0].id, &bob).await, left);
    let last = direct.accepted[9].id;
    assert_eq!(how(&server, &alice, last, &bob).await, (DeliveryState::Delivered, None));
    // Whoever posts an op gives it one more. What comes when he is back is another matter.
    group.post(&server, &alice, &Body::Add(vec![bob.entry(0)])).await;
    assert_eq!(count(&server, "parked").await, 1_200 - 2 * 512);
    let back = alice.say(&server, &group, &["back"]).await.accepted[0].id;
    park_all(&server, &bob, 1).await;
    let server = server.restart().await;
    assert_eq!(count(&server, "parked").await, 1_200 - 2 * 512 + 1);
    server.app.upkeep().await.unwrap();
    for id in said.accepted.iter().chain(&direct.accepted).map(|one| one.id) {
        assert_eq!(how(&server, &alice, id, &bob).await, left);
    }
    assert_eq!(how(&server, &alice, back, &bob).await, (DeliveryState::Delivered, None));
    assert_eq!(count(&server, "parked").await, 1);
    assert_eq!(count(&server, "leaving").await, 0);
    let direct = hex::encode_upper("direct");
    let rows = server.rows().await;
    assert!(!rows.iter().any(|row| row.starts_with("envelopes:") && row.contains(&direct)));
}

#[tokio::test]
async fn what_is_parked_expires_and_its_sender_is_told() {
    let server = Server::start().await;
    let (group, [mallory, alice, bob]) = server.group(["mallory", "alice", "bob"]).await;
    let epoch = group.roster.epoch().0;
    let to = SubmittedTo::Device(bob.device());
    let direct = mallory.submission(group.id(), epoch, Kind::KeyAck, to, b"direct".to_vec());
    let direct: Accepted = mallory.submit(&server, vec![direct]).await.ok();
    let broadcast = mallory.say(&server, &group, &["broadcast"]).await;
    read(&server, &bob, "broadcast", is_of(&mallory)).await;
    read(&server, &alice, "broadcast", |_| false).await;
    server.pass_ms(MONTH_MS);
    server.app.upkeep().await.unwrap();
    for id in [direct.accepted[0].id, broadcast.accepted[0].id] {
        assert_eq!(state(&server, &mallory, id, &bob).await, DeliveryState::Expired);
    }
    let id = broadcast.accepted[0].id;
    assert_eq!(state(&server, &mallory, id, &alice).await, DeliveryState::Acked);
    assert!(parked(&server, &bob, &group, &mallory).await.is_empty());
    let mut stream = mallory.stream(&server).await;
    let mut told = Vec::new();
    while told.len() < 2 {
        let row = stream.next().await;
        if row.envelope.kind == Kind::Expired {
            told.push(EnvelopeId::from_slice(&row.envelope.payload).unwrap());
        }
    }
    assert_eq!(told, [direct.accepted[0].id, broadcast.accepted[0].id]);
    assert_eq!(count(&server, "parked").await, 0);
    server.pass_ms(86_400_000);
    server.app.upkeep().await.unwrap();
    assert_eq!(count(&server, "expired").await, 0);
}

#[tokio::test]
async fn much_that_is_parked_expires_a_little_at_a_time_and_its_sender_is_told_of_all() {
    let server = Server::start().await;
    let (group, [mallory, alice, bob, carol]) =
        server.group(["mallory", "alice", "bob", "carol"]).await;
    let readers = [&alice, &bob, &carol];
    let texts: Vec<String> = (0..180).map(|n| n.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    mallory.say(&server, &group, &texts).await;
    let epoch = group.roster.epoch().0;
    let pieces = readers.map(|who| (who.device(), Piece(b"a piece".to_vec())));
    let pieces = SubmittedTo::Devices(BTreeMap::from(pieces));
    let fanned = (0..10).map(|n| {
        let what = format!("fanned {n}").into_bytes();
        mallory.submission(group.id(), epoch, Kind::Fanout, pieces.clone(), what)
    });
    mallory.submit(&server, fanned.collect()).await.ok::<Accepted>();
    for reader in readers {
        park_all(&server, reader, 190).await;
    }
    assert_eq!(count(&server, "parked").await, 3 * 190);
    server.pass_ms(MONTH_MS);
    // One more than a step: what one step does beyond that comes to nothing.
    let trigger = "CREATE TRIGGER much BEFORE INSERT ON expired
         WHEN (SELECT count(*) FROM expired) >= 512 BEGIN SELECT RAISE(ABORT, 'no more'); END";
    server.change(trigger).await;
    server.app.upkeep().await.unwrap_err();
    assert_eq!(count(&server, "expired").await, 512);
    assert_eq!(count(&server, "parked").await, 3 * 190 - 512);
    server.change("DROP TRIGGER much").await;
    let server = server.restart().await;
    server.app.upkeep().await.unwrap();
    assert_eq!(count(&server, "parked").await, 0);
    assert_eq!(count(&server, "expired").await, 3 * 190);
    let mut stream = mallory.stream(&server).await;
    let mut told = BTreeSet::new();
    while told.len() < 190 {
        let row = stream.next().await;
        if row.envelope.kind == Kind::Expired {
            told.insert(EnvelopeId::from_slice(&row.envelope.payload).unwrap());
        }
    }
}

#[tokio::test]
async fn over_a_senders_limit_there_the_newest_are_refused_to_him_and_to_nobody_else() {
    for (rows, kib) in [(3, 1_000), (1_000, 1)] {
        let server = Server::start_with(|config| {
            config.accounts.parked = rows;
            config.accounts.parked_kib = kib;
        })
        .await;
        let (group, [mallory, alice, bob]) = server.group(["mallory", "alice", "bob"]).await;
        let junk = |n: u32| format!("{n}{}", "x".repeat(299));
        let texts: Vec<String> = (0..5).map(junk).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let posted = mallory.say(&server, &group, &texts).await;
        let hers = alice.say(&server, &group, &["hello"]).await.accepted[0].id;
        read(&server, &bob, "hello", |row| row.envelope.sender.is_some()).await;
        assert_eq!(said(&parked(&server, &bob, &group, &mallory).await), texts[..3]);
        assert_eq!(said(&parked(&server, &bob, &group, &alice).await), ["hello"]);
        for (n, one) in posted.accepted.iter().enumerate() {
            let path = format!("/messages/{}/status", one.id);
            let status: MessageStatus = mallory.get(&server, &path).await.ok();
            let at_bob = status.recipients.iter().find(|row| row.device == bob.device()).unwrap();
            let expected = if n < 3 {
                (DeliveryState::Delivered, None)
            } else {
                (DeliveryState::Failed, Some("mailbox_full"))
            };
            assert_eq!((at_bob.state, at_bob.reason.as_deref()), expected, "{n}");
            // Whoever can hold it reads it.
            let at_alice = state(&server, &mallory, one.id, &alice).await;
            assert_eq!(at_alice, DeliveryState::Queued);
        }
        assert_eq!(state(&server, &alice, hers, &bob).await, DeliveryState::Delivered);
        // He hears of it, and not at whom; nobody else does.
        for (person, count) in [(&mallory, Some(2)), (&alice, None), (&bob, None)] {
            let page: EventPage = person.get(&server, "/events").await.ok();
            let mut failed = page.events.iter().filter(|it| it.kind == EventKind::MessageFailed);
            assert_eq!(failed.next().map(|it| it.about.count), count.map(Some));
        }
        // What is taken makes room.
        let three = parked(&server, &bob, &group, &mallory).await;
        take(&server, &bob, &group, &mallory, &three).await;
        mallory.say(&server, &group, &["later"]).await;
        read(&server, &bob, "later", is_of(&mallory)).await;
        assert_eq!(said(&parked(&server, &bob, &group, &mallory).await), ["later"]);
    }
}

#[tokio::test]
async fn only_what_waits_can_be_parked() {
    let server = Server::start().await;
    let (group, [mallory, alice, bob]) = server.group(["mallory", "alice", "bob"]).await;
    let (_, [carol, dave]) = server.group(["carol", "dave"]).await;
    mallory.say(&server, &group, &["one"]).await;
    let first = read(&server, &bob, "one", |_| false).await;
    let theirs = read(&server, &alice, "one", |_| false).await;
    assert_eq!(first[1].seq, theirs[1].seq);
    mallory.say(&server, &group, &["two", "three"]).await;
    let mut stream = bob.stream(&server).await;
    let rows = stream.take(2).await;
    // Ops, what was acknowledged, what comes later, what is nobody's, and what is another's.
    let park = (0..=rows[1].seq.0 + 5).map(Seq).filter(|seq| *seq != rows[0].seq).collect();
    let ack = StreamAck { ack: rows[0].seq, park };
    stream.send(Message::text(String::from_utf8(bytes(&ack)).unwrap())).await;
    stream.send(Message::Close(None)).await;
    stream.broken().await;
    assert_eq!(count(&server, "parked").await, 0);
    assert_eq!(said(&read(&server, &bob, "three", |_| false).await), ["three"]);
    assert!(parked(&server, &dave, &group, &mallory).await.is_empty());
    let many = (1..=257).map(Seq).collect();
    let request = Unpark { group: group.id(), sender: carol.device(), after: Seq(0), taken: many };
    bob.post(&server, "/device/unpark", &request).await.refused(413, "M_TOO_LARGE");
}

async fn bridged(server: &Server) -> (Group, Person, Person, Kept) {
    let bridge = Person::new("bridge");
    let body = bytes(&bridge.registration(BRIDGE_TOKEN));
    let session: Session = server.send(Method::POST, "/register", None, body).await.ok();
    let bridge = bridge.with_token(session.access_token);
    let (mut group, [alice]) = server.group(["alice"]).await;
    group.post(server, &alice, &Body::Add(vec![bridge.entry(2)])).await;
    let kept: Kept = bridge.put(server, "/device/kept", &json!({})).await.ok();
    (group, alice, bridge, kept)
}

/// What the bridge has taken of what was parked is acknowledged like everything else: it is kept, and
/// comes again when its database is put back.
#[tokio::test]
async fn what_was_parked_is_kept_for_the_bridge_too_once_it_is_taken() {
    let server = Server::start().await;
    let (group, alice, bridge, kept) = bridged(&server).await;
    let epoch = group.roster.epoch().0;
    let to = SubmittedTo::Device(bridge.device());
    let direct = alice.submission(group.id(), epoch, Kind::KeyAck, to, b"direct".to_vec());
    alice.submit(&server, vec![direct]).await.ok::<Accepted>();
    alice.say(&server, &group, &["parked"]).await;
    let rows = read(&server, &bridge, "parked", is_of(&alice)).await;
    let place = rows.last().unwrap().seq;
    // Nothing of it was read: its time does not begin.
    server.pass_ms(3 * 86_400_000);
    server.app.upkeep().await.unwrap();
    assert_eq!(parked(&server, &bridge, &group, &alice).await, rows[1..]);
    let after_copy = async || {
        take(&server, &bridge, &group, &alice, &rows[1..]).await;
        assert!(parked(&server, &bridge, &group, &alice).await.is_empty());
        server.app.upkeep().await.unwrap();
    };
    after_copy().await;
    let again = ReadAgain { generation: kept.generation, after: place };
    bridge.post(&server, "/device/kept", &again).await.ok::<Again>();
    assert_eq!(parked(&server, &bridge, &group, &alice).await, rows[1..]);
    after_copy().await;
    // A copy of after that lacks nothing.
    alice.say(&server, &group, &["later"]).await;
    let later = read(&server, &bridge, "later", |_| false).await;
    let again = ReadAgain { generation: kept.generation, after: later[0].seq };
    bridge.post(&server, "/device/kept", &again).await.ok::<Again>();
    assert!(parked(&server, &bridge, &group, &alice).await.is_empty());
    server.pass_ms(2 * 86_400_000 + 60_000);
    server.app.upkeep().await.unwrap();
    server.app.upkeep().await.unwrap();
    for table in ["parked", "mailbox", "envelopes", "kept"] {
        assert_eq!(count(&server, table).await, 0, "{table}: {:#?}", server.rows().await);
    }
}
