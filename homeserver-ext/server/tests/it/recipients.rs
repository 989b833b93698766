//! How far a message came and that it ended, told to its sender and to nobody else, in each scheme.

use std::collections::BTreeMap;

use causeway_protocol::{
    api::{Accepted, DeliveryState, EventKind, EventPage, MessageStatus},
    envelope::{Kind, Piece, Submission, SubmittedTo},
    ids::{DeviceId, EnvelopeId, text_of},
    roster::{Body, Scheme},
};
use serde_json::{Value, json};

use crate::harness::{Group, MONTH_MS, Person, Server};

/// A group of this scheme: whoever is first has added the others.
async fn group(server: &Server, scheme: Scheme, names: [&str; 3]) -> (Group, [Person; 3]) {
    let [admin, second, third] = names;
    let people =
        [server.person(admin).await, server.person(second).await, server.person(third).await];
    let mut group = Group::create_with(server, &people[0], scheme as u8).await;
    let entries = people[1..].iter().map(|person| person.entry(0)).collect();
    group.post(server, &people[0], &Body::Add(entries)).await;
    (group, people)
}

/// What a client of this scheme posts for one message.
fn message(scheme: Scheme, group: &Group, from: &Person, to: &[&Person]) -> Submission {
    let epoch = group.roster.epoch().0;
    match scheme {
        Scheme::SenderKeys | Scheme::SharedKey => from.message(group.id(), epoch, "hello"),
        Scheme::Pairwise => {
            let pieces = to.iter().map(|person| (person.device(), Piece(b"a piece".to_vec())));
            let to = SubmittedTo::Devices(pieces.collect());
            from.submission(group.id(), epoch, Kind::Fanout, to, b"hello".to_vec())
        }
    }
}

async fn states(
    server: &Server,
    person: &Person,
    id: EnvelopeId,
) -> BTreeMap<DeviceId, DeliveryState> {
    let status: MessageStatus = person.get(server, &format!("/messages/{id}/status")).await.ok();
    status.recipients.into_iter().map(|row| (row.device, row.state)).collect()
}

async fn expired(server: &Server, person: &Person) -> Vec<Option<EnvelopeId>> {
    let page: EventPage = person.get(server, "/events").await.ok();
    let expired = page.events.into_iter().filter(|event| event.kind == EventKind::MessageExpired);
    expired.map(|event| event.about.envelope).collect()
}

#[tokio::test]
async fn what_ended_undelivered_is_told_to_its_sender_and_outlives_who_was_removed() {
    use DeliveryState::{Acked, Expired, Queued};
    for scheme in [Scheme::SenderKeys, Scheme::Pairwise, Scheme::SharedKey] {
        let server = Server::start().await;
        let (mut group, [alice, bob, carol]) =
            group(&server, scheme, ["alice", "bob", "carol"]).await;
        let said = message(scheme, &group, &alice, &[&bob, &carol]);
        let said: Accepted = alice.submit(&server, vec![said]).await.ok();
        let id = said.accepted[0].id;
        let expect =
            |bob_s, carol_s| BTreeMap::from([(bob.device(), bob_s), (carol.device(), carol_s)]);
        assert_eq!(states(&server, &alice, id).await, expect(Queued, Queued), "{scheme:?}");
        let mut stream = bob.stream(&server).await;
        let last = stream.take(2).await[1].seq.0;
        stream.ack(last).await;
        while states(&server, &alice, id).await != expect(Acked, Queued) {
            tokio::task::yield_now().await;
        }
        drop(stream);
        let out = Body::Remove(vec![bob.member(), carol.member()]);
        group.post(&server, &alice, &out).await;
        assert_eq!(states(&server, &alice, id).await, expect(Acked, Queued), "{scheme:?}");

        server.pass_ms(MONTH_MS);
        server.app.upkeep().await.unwrap();
        let server = server.restart().await;
        assert_eq!(states(&server, &alice, id).await, expect(Acked, Expired), "{scheme:?}");
        assert_eq!(expired(&server, &alice).await, [Some(id)], "{scheme:?}");
        // A valid session that did not send it learns neither.
        let mallory = server.person("mallory").await;
        for other in [&bob, &carol, &mallory] {
            let path = format!("/messages/{id}/status");
            other.get(&server, &path).await.refused(404, "M_NOT_FOUND");
            assert_eq!(expired(&server, other).await, []);
        }
        let of_group = format!("/events?group={}", group.id());
        mallory.get(&server, &of_group).await.refused(404, "M_NOT_FOUND");
    }
}

#[tokio::test]
async fn the_inventory_of_keys_is_there_for_each_scheme() {
    for scheme in [Scheme::SenderKeys, Scheme::Pairwise, Scheme::SharedKey] {
        let server = Server::start().await;
        let (group, [alice, bob, _]) = group(&server, scheme, ["alice", "bob", "carol"]).await;
        let path = group.path("/sender-keys");
        let key = json!({ "tag": text_of(&[1; 4]), "sender": alice.device(), "epoch": 1 });
        let keys = json!({ "keys": [key], "failures": { "no_key": 1 } });
        let none = json!({ "keys": [], "failures": { "no_piece": 1 } });
        let has_keys = scheme != Scheme::Pairwise;
        let report = if has_keys { &keys } else { &none };
        bob.put(&server, &path, report).await.ok::<Value>();
        let kept: Value = alice.get(&server, &path).await.ok();
        assert_eq!(kept["scheme"], json!(scheme as u8));
        let [of_bob] = kept["reports"].as_array().unwrap().as_slice() else { panic!("{kept}") };
        assert_eq!(of_bob["reported_by"], json!(bob.device()));
        assert_eq!(of_bob["failures"], report["failures"]);
        assert_eq!(of_bob["keys"].as_array().unwrap().len(), usize::from(has_keys));
        if has_keys {
            bob.delete(&server, &path).await.refused(403, "M_FORBIDDEN");
            alice.delete(&server, &path).await.done();
            let asked: Value = bob.put(&server, &path, report).await.ok();
            assert_eq!(asked["rotate_asked_ms"], json!(server.now().0), "{scheme:?}");
        } else {
            bob.put(&server, &path, &keys).await.refused(400, "M_INVALID_PARAM");
            alice.delete(&server, &path).await.refused(400, "M_INVALID_PARAM");
        }
        // Who is not in it has none of the three; and what was said is there after a restart.
        let mallory = server.person("mallory").await;
        let server = server.restart().await;
        mallory.get(&server, &path).await.refused(404, "M_NOT_FOUND");
        mallory.put(&server, &path, report).await.refused(404, "M_NOT_FOUND");
        mallory.delete(&server, &path).await.refused(404, "M_NOT_FOUND");
        let again: Value = alice.get(&server, &path).await.ok();
        assert_eq!(again["reports"].as_array().unwrap().len(), 1, "{scheme:?}");
    }
}
