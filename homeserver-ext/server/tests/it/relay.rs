use std::{collections::BTreeMap, time::Duration};

use causeway_protocol::{
    api::{Accepted, DeliveryState, MessageStatus, OwnDevice, Session},
    envelope::{Kind, MAX_PAYLOAD, Piece, Recipient, Submission, SubmittedTo},
    ids::{DeviceId, EnvelopeId, Epoch},
    roster::{Body, Policy},
};
use causeway_server::Quota;

use crate::harness::{Group, MONTH_MS, Person, Server, policy};

#[tokio::test]
async fn what_one_says_the_others_read_in_order_and_once() {
    let server = Server::start().await;
    let (group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let accepted = alice.say(&server, &group, &["one", "two", "three"]).await;
    assert_eq!(accepted.accepted.iter().map(|a| a.recipients).collect::<Vec<_>>(), [2, 2, 2]);
    for reader in [&bob, &carol] {
        assert_eq!(reader.stream(&server).await.texts(3).await, ["one", "two", "three"]);
    }
    let mut own = alice.stream(&server).await;
    bob.say(&server, &group, &["four"]).await;
    assert_eq!(own.texts(1).await, ["four"], "nobody reads what it said itself");
    server.stop().await;
}

#[tokio::test]
async fn one_s_other_device_reads_it_too() {
    let server = Server::start().await;
    let alice = server.person("alice").await;
    let phone = alice.second_device(&server).await;
    let phone = phone.clone().with_token(phone.login(&server).await.ok::<Session>().access_token);
    let alice = Person { list: phone.list.clone(), ..alice };
    let group = Group::create(&server, &alice).await;
    assert_eq!(alice.say(&server, &group, &["x"]).await.accepted[0].recipients, 1);
    assert_eq!(phone.stream(&server).await.texts(1).await, ["x"]);
}

#[tokio::test]
async fn a_post_whose_answer_was_lost_is_sent_again_and_read_once() {
    let server = Server::start().await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let texts = ["one", "two"];
    let batch: Vec<_> = texts.iter().map(|text| alice.message(group.id(), 1, text)).collect();
    let first: Accepted = alice.submit(&server, batch.clone()).await.ok();
    assert_eq!(first, alice.submit(&server, batch.clone()).await.ok());
    // Epoch, membership and quota are not looked at again; new ones beside old ones are.
    group.post(&server, &alice, &Body::Role(bob.member(), 1)).await;
    assert_eq!(first, alice.submit(&server, batch.clone()).await.ok());
    let mixed = vec![batch[1].clone(), alice.message(group.id(), 2, "three"), batch[0].clone()];
    let mixed: Accepted = alice.submit(&server, mixed).await.ok();
    assert_eq!(mixed.accepted[0], first.accepted[1]);
    group.post(&server, &bob, &Body::Remove(vec![alice.member()])).await;
    assert_eq!(first, alice.submit(&server, batch.clone()).await.ok());
    let mut stream = bob.stream(&server).await;
    assert_eq!(stream.texts(3).await, ["one", "two", "three"]);

    // The same twice in one batch is one.
    let twice = bob.message(group.id(), 3, "four");
    let accepted: Accepted = bob.submit(&server, vec![twice.clone(), twice]).await.ok();
    assert_eq!(accepted.accepted[0], accepted.accepted[1]);

    // Ids are kept for the time to live and a day; after that it would be another message.
    server.pass_ms(MONTH_MS + 86_400_000 - 1);
    server.app.upkeep().await.unwrap();
    assert_eq!(first, alice.submit(&server, batch.clone()).await.ok());
    server.pass_ms(1);
    server.app.upkeep().await.unwrap();
    alice.submit(&server, batch).await.refused(409, "M_STALE_EPOCH");
}

#[tokio::test]
async fn a_clock_that_is_put_forth_for_a_moment_ends_nothing() {
    let server = Server::start().await;
    let (group, [alice, _bob]) = server.group(["alice", "bob"]).await;
    let said = vec![alice.message(group.id(), 1, "kept")];
    let _: Accepted = alice.submit(&server, said).await.ok();
    let look = async |s| {
        server.app.upkeep_for_certain(std::time::Duration::from_secs(s)).await.unwrap();
    };
    look(0).await;
    look(60).await;
    let rows = server.rows().await;
    server.pass_ms(MONTH_MS + 1);
    for s in [61, 119, 120] {
        look(s).await;
        assert_eq!(server.rows().await, rows, "after {s} s");
    }
    // Two looks agree.
    look(180).await;
    assert_ne!(server.rows().await, rows);
}

#[tokio::test]
async fn an_epoch_behind_is_told_what_is_missing_and_then_delivered_once() {
    let server = Server::start().await;
    let (mut group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let stale = group.clone();
    group.post(&server, &alice, &Body::Remove(vec![carol.member()])).await;
    let before = server.rows().await;
    let refusal = bob
        .submit(&server, vec![bob.message(stale.id(), 1, "late")])
        .await
        .refused(409, "M_STALE_EPOCH");
    assert_eq!(refusal.epoch, Some(Epoch(2)));
    assert_eq!(refusal.ops.unwrap()[0].0, group.ops[2].as_bytes());
    server.assert_unchanged(&before).await;
    bob.say(&server, &group, &["late"]).await;
    let mut stream = alice.stream(&server).await;
    assert_eq!(stream.texts(1).await, ["late"]);

    // The one who was removed learns of that op, and of nothing after it.
    group.post(&server, &alice, &Body::Policy(Policy { name: "cocoa".into(), ..policy() })).await;
    let refusal = carol
        .submit(&server, vec![carol.message(group.id(), 1, "me?")])
        .await
        .refused(409, "M_STALE_EPOCH");
    assert_eq!((refusal.epoch, refusal.ops.unwrap().len()), (Some(Epoch(2)), 1));
    carol
        .submit(&server, vec![carol.message(group.id(), 2, "me?")])
        .await
        .refused(404, "M_NOT_FOUND");
    let dave = server.person("dave").await;
    dave.submit(&server, vec![dave.message(group.id(), 1, "me?")])
        .await
        .refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn adds_are_no_reason_to_seal_again_and_newcomers_get_no_old_epoch() {
    let server = Server::start().await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let carol = server.person("carol").await;
    group.post(&server, &alice, &Body::Add(vec![carol.entry(0)])).await;
    let accepted: Accepted =
        bob.submit(&server, vec![bob.message(group.id(), 1, "before carol")]).await.ok();
    assert_eq!(accepted.accepted[0].recipients, 1);
    bob.say(&server, &group, &["with carol"]).await;
    assert_eq!(alice.stream(&server).await.texts(2).await, ["before carol", "with carol"]);
    assert_eq!(carol.stream(&server).await.texts(1).await, ["with carol"]);
    // Carol did not count then.
    carol
        .submit(&server, vec![carol.message(group.id(), 1, "x")])
        .await
        .refused(403, "M_FORBIDDEN");

    for body in
        [Body::Role(bob.member(), 1), Body::Policy(policy()), Body::Remove(vec![carol.member()])]
    {
        let stale = group.roster.epoch().0;
        group.post(&server, &alice, &body).await;
        let late = bob.message(group.id(), stale, "x");
        bob.submit(&server, vec![late]).await.refused(409, "M_STALE_EPOCH");
    }
    let epoch = group.roster.epoch().0;
    let ahead = bob.message(group.id(), epoch + 1, "x");
    let refusal = bob.submit(&server, vec![ahead]).await.refused(409, "M_STALE_EPOCH");
    assert_eq!((refusal.epoch, refusal.ops.unwrap().len()), (Some(Epoch(epoch)), 0));
    group.post(&server, &alice, &Body::Close).await;
    bob.submit(&server, vec![bob.message(group.id(), epoch, "x")])
        .await
        .refused(409, "M_STALE_EPOCH");
    bob.submit(&server, vec![bob.message(group.id(), epoch + 1, "x")])
        .await
        .refused(403, "M_FORBIDDEN");
}

fn to(device: DeviceId) -> SubmittedTo {
    SubmittedTo::Device(device)
}

#[tokio::test]
async fn what_is_for_nobody_who_counts_is_taken_and_reaches_nobody() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let dave = server.person("dave").await;
    let for_one =
        |device| alice.submission(group.id(), 1, Kind::Direct, to(device), b"for one".to_vec());
    let envelopes = [&dave, &alice, &bob].map(|person| for_one(person.device())).to_vec();
    let accepted: Accepted = alice.submit(&server, envelopes).await.ok();
    let recipients: Vec<u32> = accepted.accepted.iter().map(|one| one.recipients).collect();
    assert_eq!(recipients, [0, 0, 1]);
}

#[tokio::test]
async fn a_batch_is_taken_in_order_and_only_as_a_whole() {
    let server = Server::start().await;
    let (group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let key = |person: &Person| {
        let payload = person.device().as_bytes().to_vec();
        alice.submission(group.id(), 1, Kind::KeyDistribution, to(person.device()), payload)
    };
    let batch = vec![key(&bob), key(&carol), alice.message(group.id(), 1, "sealed")];
    let accepted: Accepted = alice.submit(&server, batch.clone()).await.ok();
    assert_eq!(accepted.accepted.iter().map(|a| a.recipients).collect::<Vec<_>>(), [1, 1, 2]);
    // Kept to the end: a stream that ends notes what it was sent.
    let mut streams = Vec::new();
    for (n, reader) in [&bob, &carol].into_iter().enumerate() {
        let mut stream = reader.stream(&server).await;
        let rows = stream.take(3).await;
        streams.push(stream);
        let kinds: Vec<_> = rows.iter().map(|row| row.envelope.kind).collect();
        assert_eq!(kinds, [Kind::Roster, Kind::KeyDistribution, Kind::Message]);
        assert_eq!(rows[1].envelope.id, batch[n].id.unwrap());
        assert_eq!(rows[1].envelope.to, Recipient::Device(reader.device()));
        assert!(rows.iter().all(|row| row.envelope.check().is_ok()));
    }

    let before = server.rows().await;
    let mut bad = alice.message(group.id(), 1, "bad");
    bad.ttl_ms = 0;
    let mixed = vec![alice.message(group.id(), 1, "good"), bad];
    alice.submit(&server, mixed).await.refused(400, "M_INVALID_PARAM");
    let mixed = vec![alice.message(group.id(), 1, "good"), alice.message(group.id(), 7, "ahead")];
    alice.submit(&server, mixed).await.refused(409, "M_STALE_EPOCH");
    server.assert_unchanged(&before).await;
}

#[tokio::test]
async fn a_device_is_told_whether_something_for_it_alone_waits() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let waits = async || {
        let own: OwnDevice = bob.get(&server, "/device").await.ok();
        own.waits
    };
    let mut stream = bob.stream(&server).await;
    let last = stream.take(1).await.pop().unwrap();
    stream.ack(last.seq.0).await;
    alice.submit(&server, vec![alice.message(group.id(), 1, "for all")]).await.ok::<Accepted>();
    stream.take(1).await;
    assert_eq!(waits().await, Some(false));
    let key = |text: &str| {
        alice.submission(
            group.id(),
            1,
            Kind::KeyDistribution,
            to(bob.device()),
            text.as_bytes().to_vec(),
        )
    };
    alice.submit(&server, vec![key("a key")]).await.ok::<Accepted>();
    assert_eq!(waits().await, Some(true));
    let last = stream.take(1).await.pop().unwrap();
    assert_eq!(waits().await, Some(true), "seen, and not kept yet");
    stream.ack(last.seq.0).await;
    let gone = async { while waits().await == Some(true) {} };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("nothing waits any more");
}

#[tokio::test]
async fn a_large_batch_reaches_every_mailbox_in_its_order() {
    let server = Server::start().await;
    let (group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let texts: Vec<String> = (0..1_000).map(|n| format!("{n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    alice.say(&server, &group, &texts).await;
    for reader in [&bob, &carol] {
        let mut stream = reader.stream(&server).await;
        let mut seen = Vec::new();
        while seen.len() < texts.len() {
            let row = stream.next().await;
            if row.seq.0 % 100 == 0 {
                stream.ack(row.seq.0).await;
            }
            if row.envelope.kind == Kind::Message {
                seen.push(crate::harness::text(&row.envelope));
            }
        }
        assert_eq!(seen, texts);
    }
}

#[tokio::test]
async fn a_fan_out_is_a_row_with_a_piece_for_each_device() {
    let server = Server::start().await;
    let (group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let pieces: BTreeMap<_, _> = [&bob, &carol]
        .map(|person| (person.device(), Piece(person.device().as_bytes().to_vec())))
        .into();
    let fanout = |pieces| {
        let to = SubmittedTo::Devices(pieces);
        alice.submission(group.id(), 1, Kind::Fanout, to, b"ciphertext".to_vec())
    };
    let accepted: Accepted = alice.submit(&server, vec![fanout(pieces.clone())]).await.ok();
    assert_eq!(accepted.accepted[0].recipients, 2);
    assert_eq!(accepted, alice.submit(&server, vec![fanout(pieces.clone())]).await.ok());
    for reader in [&bob, &carol] {
        let row = reader.stream(&server).await.take(2).await.pop().unwrap();
        assert_eq!(row.envelope.check(), Ok(()));
        assert_eq!(row.envelope.piece.unwrap().0, reader.device().as_bytes());
    }
    // The same for one of them in another wrapping is not the same.
    let wrapped_again = BTreeMap::from([(bob.device(), Piece(b"again".to_vec()))]);
    let again: Accepted = alice.submit(&server, vec![fanout(wrapped_again)]).await.ok();
    assert_ne!(again.accepted[0].id, accepted.accepted[0].id);
    assert_eq!(states(&server, &alice, accepted.accepted[0].id).await.len(), 2);
    assert_eq!(states(&server, &alice, again.accepted[0].id).await.len(), 1);
    let row = bob.stream(&server).await.take(3).await.pop().unwrap();
    assert_eq!(row.envelope.piece.unwrap().0, b"again");
    let much = BTreeMap::from([(bob.device(), Piece(vec![0; MAX_PAYLOAD]))]);
    alice.submit(&server, vec![fanout(much)]).await.refused(413, "M_TOO_LARGE");
}

#[tokio::test]
async fn what_is_not_the_sender_s_or_not_in_form_is_refused() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let before = server.rows().await;
    let change = |change: &dyn Fn(&mut Submission)| {
        let mut submission = alice.message(group.id(), 1, "x");
        change(&mut submission);
        submission
    };
    let post = async |submission: Submission| {
        let body =
            causeway_protocol::api::PostEnvelopes { envelopes: vec![submission], count: None };
        alice.post(&server, &group.path("/envelopes"), &body).await
    };
    for not_ours in [
        change(&|s| s.sender.account = bob.account.clone()),
        change(&|s| s.sender.device = bob.device()),
        change(&|s| s.group = causeway_protocol::ids::GroupId::new([1; 32])),
    ] {
        post(not_ours).await.refused(403, "M_FORBIDDEN");
    }
    let of_server = |kind| {
        let bytes = b"x".to_vec();
        alice.submission(group.id(), 1, kind, SubmittedTo::Broadcast, bytes)
    };
    let to_one = alice.submission(group.id(), 1, Kind::Message, to(bob.device()), b"x".to_vec());
    for bad in [
        change(&|s| s.id = None),
        change(&|s| s.id = Some(EnvelopeId::new([0; 16]))),
        change(&|s| s.payload.push(0)),
        change(&|s| s.ttl_ms = 0),
        change(&|s| s.ttl_ms = MONTH_MS + 1),
        change(&|s| s.to = SubmittedTo::Devices(BTreeMap::new())),
        to_one,
        of_server(Kind::Roster),
        of_server(Kind::Join),
        of_server(Kind::CallChanged),
        of_server(Kind::Expired),
        of_server(Kind::KeyDistribution),
        Submission { ttl_ms: 60_001, ..of_server(Kind::Call) },
    ] {
        post(bad).await.refused(400, "M_INVALID_PARAM");
    }
    let fits = alice.message(group.id(), 1, &"x".repeat(MAX_PAYLOAD));
    let exceeds = alice.message(group.id(), 1, &"x".repeat(MAX_PAYLOAD + 1));
    post(exceeds).await.refused(413, "M_TOO_LARGE");
    let many: Vec<_> = (0..4_097).map(|_| alice.message(group.id(), 1, "")).collect();
    alice.submit(&server, many).await.refused(413, "M_TOO_LARGE");
    server.assert_unchanged(&before).await;
    post(fits).await.ok::<Accepted>();
    post(of_server(Kind::Call)).await.ok::<Accepted>();
}

#[tokio::test]
async fn an_epoch_behind_is_told_before_sizes_and_these_before_quotas() {
    let quota = Some(Quota::per_minute(1, 1));
    let server = Server::start_with(|config| config.accounts.envelopes = quota).await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    bob.say(&server, &group, &["all that is left"]).await;
    let stale = group.roster.epoch().0;
    group.post(&server, &alice, &Body::Role(bob.member(), 1)).await;
    let large = "x".repeat(MAX_PAYLOAD + 1);
    let post = async |epoch: u32, text: &str, ttl_ms: u64| {
        let message = bob.message(group.id(), epoch, text);
        bob.submit(&server, vec![Submission { ttl_ms, ..message }]).await
    };
    let before = server.rows().await;
    post(stale, &large, MONTH_MS).await.refused(409, "M_STALE_EPOCH");
    post(stale, "x", MONTH_MS + 1).await.refused(409, "M_STALE_EPOCH");
    post(stale + 1, &large, MONTH_MS).await.refused(413, "M_TOO_LARGE");
    post(stale + 1, "x", MONTH_MS + 1).await.refused(400, "M_INVALID_PARAM");
    post(stale + 1, "x", MONTH_MS).await.refused(429, "M_LIMIT_EXCEEDED");
    // What was accepted is so before all of them.
    post(stale, "all that is left", MONTH_MS).await.ok::<Accepted>();
    server.assert_unchanged(&before).await;
}

#[tokio::test]
async fn an_account_posts_so_much_over_all_its_devices_whatever_its_role() {
    let quota = Some(Quota::per_minute(60, 3));
    let server = Server::start_with(|config| config.accounts.envelopes = quota).await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    bob.say(&server, &group, &["1", "2", "3"]).await;
    let four = bob.message(group.id(), 1, "4");
    let refusal = bob.submit(&server, vec![four.clone()]).await.refused(429, "M_LIMIT_EXCEEDED");
    assert_eq!(refusal.retry_after_ms, Some(1_000));
    assert!(refusal.error.contains("limits.envelopes"), "{}", refusal.error);
    // What was accepted is answered again, and another has a share of his own.
    bob.say(&server, &group, &["1", "2", "3"]).await;
    alice.say(&server, &group, &["1", "2", "3"]).await;
    server.pass_ms(1_000);
    bob.submit(&server, vec![four]).await.ok::<Accepted>();
    // An admin cannot make somebody who is not the server's bridge one without a limit.
    let eve = server.person("eve").await;
    group.post(&server, &alice, &Body::Add(vec![eve.entry(2)])).await;
    let epoch = group.roster.epoch().0;
    let many = (0..3).map(|n| eve.message(group.id(), epoch, &n.to_string())).collect();
    eve.submit(&server, many).await.ok::<Accepted>();
    let four = eve.message(group.id(), epoch, "4");
    eve.submit(&server, vec![four]).await.refused(429, "M_LIMIT_EXCEEDED");
}

async fn states(
    server: &Server,
    person: &Person,
    id: EnvelopeId,
) -> BTreeMap<DeviceId, DeliveryState> {
    let status: MessageStatus = person.get(server, &format!("/messages/{id}/status")).await.ok();
    assert_eq!(status.id, id);
    status.recipients.into_iter().map(|row| (row.device, row.state)).collect()
}

#[tokio::test]
async fn one_can_see_how_far_one_s_message_came() {
    use DeliveryState::{Acked, Delivered, Expired, Queued};
    let server = Server::start().await;
    let (group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let id = alice.say(&server, &group, &["x"]).await.accepted[0].id;
    let (b, c) = (bob.device(), carol.device());
    let expect = |bob, carol| BTreeMap::from([(b, bob), (c, carol)]);
    assert_eq!(states(&server, &alice, id).await, expect(Queued, Queued));
    let mut stream = bob.stream(&server).await;
    let last = stream.take(2).await[1].seq.0;
    assert_eq!(states(&server, &alice, id).await, expect(Delivered, Queued));
    stream.ack(last).await;
    // A second message is on the stream only after the acknowledgement before it was taken.
    while states(&server, &alice, id).await != expect(Acked, Queued) {
        tokio::task::yield_now().await;
    }
    bob.get(&server, &format!("/messages/{id}/status")).await.refused(404, "M_NOT_FOUND");
    server.pass_ms(MONTH_MS);
    server.app.upkeep().await.unwrap();
    assert_eq!(states(&server, &alice, id).await, expect(Acked, Expired));
}

#[tokio::test]
async fn what_was_delivered_stays_so_when_stream_and_server_end() {
    use DeliveryState::{Delivered, Queued};
    let mut server = Server::start().await;
    let (group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let id = alice.say(&server, &group, &["x"]).await.accepted[0].id;
    let (b, c) = (bob.device(), carol.device());
    let mut stream = bob.stream(&server).await;
    stream.texts(1).await;
    // A newer stream of the device knows what the older was sent; then a new process does.
    let newer = bob.stream(&server).await;
    assert_eq!(stream.close_code().await, 4_000);
    assert_eq!(states(&server, &alice, id).await[&b], Delivered);
    drop(newer);
    server = server.restart().await;
    let expected = BTreeMap::from([(b, Delivered), (c, Queued)]);
    assert_eq!(states(&server, &alice, id).await, expected);
    let later = alice.say(&server, &group, &["y"]).await.accepted[0].id;
    assert_eq!(states(&server, &alice, later).await[&b], Queued);
}

#[tokio::test]
async fn what_nobody_fetches_in_time_goes_and_its_sender_is_told() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let short = |text: &str| {
        let mut message = alice.message(group.id(), 1, text);
        message.ttl_ms = 60_000;
        message
    };
    let accepted: Accepted = alice.submit(&server, vec![short("a"), short("b")]).await.ok();
    alice.say(&server, &group, &["stays"]).await;
    server.pass_ms(59_999);
    server.app.upkeep().await.unwrap();
    assert_eq!(server.app.figures().await.unwrap().mailbox_rows, 3);
    server.pass_ms(1);
    server.app.upkeep().await.unwrap();
    assert_eq!(bob.stream(&server).await.texts(1).await, ["stays"]);
    let rows = alice.stream(&server).await.take(4).await;
    for (row, accepted) in rows[2..].iter().zip(accepted.accepted) {
        assert_eq!((row.envelope.kind, row.envelope.check()), (Kind::Expired, Ok(())));
        assert_eq!(row.envelope.payload, accepted.id.as_bytes());
        assert_eq!(row.envelope.group, group.id());
    }
    // The op stays, however long nobody comes.
    server.pass_ms(10 * MONTH_MS);
    server.app.upkeep().await.unwrap();
    let row = bob.stream(&server).await.next().await;
    assert_eq!((row.envelope.kind, row.envelope.epoch), (Kind::Roster, Epoch(1)));
}

#[tokio::test]
async fn of_a_fan_out_that_nobody_fetches_the_sender_is_told_under_its_name() {
    use DeliveryState::{Acked, Expired};
    let server = Server::start().await;
    let (group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let piece = |person: &Person| (person.device(), Piece(person.device().as_bytes().to_vec()));
    let to = SubmittedTo::Devices([piece(&bob), piece(&carol)].into());
    let mut fanout = alice.submission(group.id(), 1, Kind::Fanout, to, b"ciphertext".to_vec());
    fanout.ttl_ms = 60_000;
    let name = fanout.name();
    let accepted: Accepted = alice.submit(&server, vec![fanout]).await.ok();
    assert_eq!(accepted.accepted[0].id, name);
    let mut stream = bob.stream(&server).await;
    let row = stream.take(2).await.pop().unwrap();
    // Her row's id is its own, whatever the whole is called.
    assert_eq!((row.envelope.kind, row.envelope.check()), (Kind::Fanout, Ok(())));
    stream.ack(row.seq.0).await;
    while states(&server, &alice, name).await[&bob.device()] != Acked {
        tokio::task::yield_now().await;
    }
    server.pass_ms(60_000);
    server.app.upkeep().await.unwrap();
    let row = alice.stream(&server).await.take(3).await.pop().unwrap();
    assert_eq!((row.envelope.kind, row.envelope.check()), (Kind::Expired, Ok(())));
    assert_eq!(row.envelope.payload, name.as_bytes());
    assert_eq!(states(&server, &alice, name).await[&carol.device()], Expired);
}

#[tokio::test]
async fn a_group_s_time_to_live_is_the_most() {
    let server = Server::start().await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    group.post(&server, &alice, &Body::Policy(Policy { ttl_s: 60, ..policy() })).await;
    alice.say(&server, &group, &["x"]).await;
    server.pass_ms(60_000);
    server.app.upkeep().await.unwrap();
    let mut stream = bob.stream(&server).await;
    alice.say(&server, &group, &["y"]).await;
    assert_eq!(stream.texts(1).await, ["y"]);
}

#[tokio::test]
async fn what_everybody_has_acknowledged_is_not_kept() {
    let server = Server::start().await;
    let (group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    alice.say(&server, &group, &["secret ciphertext"]).await;
    let kept = async || {
        let rows = server.rows().await;
        rows.iter().filter(|row| row.starts_with("envelopes:")).count()
    };
    let all = kept().await;
    for (person, rows) in [(&alice, 2), (&bob, 2), (&carol, 2)] {
        let mut stream = person.stream(&server).await;
        let last = stream.take(rows).await[rows - 1].seq.0;
        stream.ack(last).await;
    }
    assert_eq!(all, 1);
    while kept().await > 0 {
        server.app.upkeep().await.unwrap();
    }
    assert_eq!(server.app.figures().await.unwrap().mailbox_rows, 0);
}

#[tokio::test]
async fn a_signal_of_a_call_that_nobody_fetched_in_time_leaves_nothing_at_its_sender() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let epoch = group.roster.epoch().0;
    let signal = alice.submission(group.id(), epoch, Kind::Call, to(bob.device()), b"o".to_vec());
    alice.submit(&server, vec![signal]).await.ok::<Accepted>();
    server.pass_ms(60_001);
    server.app.upkeep().await.unwrap();
    bob.say(&server, &group, &["hello"]).await;
    let mut stream = alice.stream(&server).await;
    loop {
        let row = stream.next().await;
        assert_ne!(row.envelope.kind, Kind::Expired);
        if row.envelope.kind == Kind::Message {
            break;
        }
    }
}
