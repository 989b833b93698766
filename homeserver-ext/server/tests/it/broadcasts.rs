//! What is said to a group is kept once, whoever reads it, and each reads what was said while it
//! counted.

use std::collections::BTreeMap;

use causeway_protocol::{
    api::{Accepted, DeliveryState, MessageStatus},
    envelope::{Kind, SubmittedTo},
    ids::{DeviceId, EnvelopeId},
    roster::Body,
};

use crate::harness::{Group, MONTH_MS, Person, Server, text};

/// How many rows of these tables there are.
async fn count(server: &Server, tables: &[&str]) -> usize {
    let rows = server.rows().await;
    rows.iter()
        .filter(|row| tables.iter().any(|table| row.starts_with(&format!("{table}:"))))
        .count()
}

#[tokio::test]
async fn what_is_said_to_many_makes_no_more_rows_than_to_one() {
    let tables = ["broadcasts", "envelopes", "mailbox", "accepted", "expired", "passed"];
    let mut grown = Vec::new();
    for others in [1, 12] {
        let server = Server::start().await;
        let alice = server.person("alice").await;
        let mut group = Group::create(&server, &alice).await;
        let mut entries = Vec::new();
        for n in 0..others {
            entries.push(server.person(&format!("p{n}")).await.entry(0));
        }
        let before = count(&server, &tables).await;
        group.post(&server, &alice, &Body::Add(entries)).await;
        let said = alice.say(&server, &group, &["one", "two"]).await;
        assert_eq!(said.accepted[0].recipients, others);
        grown.push(count(&server, &tables).await - before);
        // Nor does it when its time is over: who has not read it is told by numbers.
        server.pass_ms(MONTH_MS);
        server.app.upkeep().await.unwrap();
        assert_eq!(count(&server, &["envelopes", "mailbox", "expired"]).await, 1 + 1 + 2);
    }
    assert_eq!(grown[0], grown[1]);
}

async fn states(
    server: &Server,
    person: &Person,
    id: EnvelopeId,
) -> BTreeMap<DeviceId, DeliveryState> {
    let status: MessageStatus = person.get(server, &format!("/messages/{id}/status")).await.ok();
    status.recipients.into_iter().map(|row| (row.device, row.state)).collect()
}

/// Everything that is there for a person now, told apart by a last word of his own.
async fn all_of(server: &Server, group: &Group, from: &Person, reader: &Person) -> Vec<String> {
    let end = format!("the end for {}", reader.account);
    let to = SubmittedTo::Device(reader.device());
    let epoch = group.roster.epoch().0;
    let last = from.submission(group.id(), epoch, Kind::Direct, to, end.clone().into_bytes());
    let mut stream = reader.stream(server).await;
    let accepted: Accepted = from.submit(server, vec![last]).await.ok();
    assert_eq!(accepted.accepted[0].recipients, 1);
    let mut texts = Vec::new();
    loop {
        let row = stream.next().await;
        assert_eq!(row.envelope.check(), Ok(()));
        let said = if row.envelope.kind == Kind::Roster {
            format!("op {}", row.envelope.epoch.0)
        } else {
            text(&row.envelope)
        };
        if said == end {
            return texts;
        }
        texts.push(said);
    }
}

#[tokio::test]
async fn each_reads_what_was_said_while_it_counted_and_nothing_else() {
    let server = Server::start().await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let carol = server.person("carol").await;
    alice.say(&server, &group, &["before carol"]).await;
    group.post(&server, &alice, &Body::Add(vec![carol.entry(0)])).await;
    // Sealed under the roster of before: not for her, though it came after she did.
    let late: Accepted =
        alice.submit(&server, vec![alice.message(group.id(), 1, "late")]).await.ok();
    assert_eq!(late.accepted[0].recipients, 1);
    alice.say(&server, &group, &["with carol"]).await;
    group.post(&server, &alice, &Body::Remove(vec![carol.member()])).await;
    alice.say(&server, &group, &["after carol"]).await;
    group.post(&server, &alice, &Body::Add(vec![carol.entry(0)])).await;
    alice.say(&server, &group, &["carol again"]).await;
    assert_eq!(
        all_of(&server, &group, &alice, &carol).await,
        ["op 2", "with carol", "op 3", "op 4", "carol again"]
    );
    assert_eq!(
        all_of(&server, &group, &alice, &bob).await,
        [
            "op 1",
            "before carol",
            "op 2",
            "late",
            "with carol",
            "op 3",
            "after carol",
            "op 4",
            "carol again"
        ]
    );
    assert_eq!(
        all_of(&server, &group, &bob, &alice).await,
        ["op 0", "op 1", "op 2", "op 3", "op 4"]
    );
    let of_late = states(&server, &alice, late.accepted[0].id).await;
    assert_eq!(of_late.into_keys().collect::<Vec<_>>(), [bob.device()]);
}

#[tokio::test]
async fn who_is_taken_out_or_comes_in_while_he_listens_hears_of_it() {
    let server = Server::start().await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let carol = server.person("carol").await;
    let (mut hers, mut his) = (carol.stream(&server).await, bob.stream(&server).await);
    hers.hello().await;
    his.next().await;
    group.post(&server, &alice, &Body::Add(vec![carol.entry(0)])).await;
    assert_eq!(hers.next().await.envelope.epoch, group.roster.epoch());
    alice.say(&server, &group, &["both"]).await;
    assert_eq!(
        (hers.texts(1).await, his.texts(1).await),
        (vec!["both".into()], vec!["both".into()])
    );
    group.post(&server, &alice, &Body::Remove(vec![carol.member()])).await;
    assert_eq!(hers.next().await.envelope.epoch, group.roster.epoch());
    alice.say(&server, &group, &["one"]).await;
    assert_eq!(his.texts(1).await, ["one"]);
    group.post(&server, &alice, &Body::Add(vec![carol.entry(0)])).await;
    // Nothing between the two ops.
    assert_eq!(hers.next().await.envelope.epoch, group.roster.epoch());
}

#[tokio::test]
async fn what_is_for_one_and_what_is_for_all_comes_in_the_order_of_acceptance() {
    let server = Server::start().await;
    let (one, [alice, bob]) = server.group(["alice", "bob"]).await;
    let mut other = Group::create(&server, &alice).await;
    other.post(&server, &alice, &Body::Add(vec![bob.entry(0)])).await;
    let mut expected = Vec::new();
    for n in 0..300 {
        let group = if n % 3 == 0 { &one } else { &other };
        let said = format!("{n}");
        let submission = if n % 5 == 0 {
            let to = SubmittedTo::Device(bob.device());
            alice.submission(group.id(), 1, Kind::Direct, to, said.clone().into_bytes())
        } else {
            alice.message(group.id(), 1, &said)
        };
        alice.submit(&server, vec![submission]).await.ok::<Accepted>();
        expected.push(said);
    }
    let mut stream = bob.stream(&server).await;
    let (mut seen, mut last) = (Vec::new(), 0);
    while seen.len() < expected.len() {
        let row = stream.next().await;
        assert!(row.seq.0 > last);
        last = row.seq.0;
        stream.ack(last).await;
        if row.envelope.kind != Kind::Roster {
            seen.push(text(&row.envelope));
        }
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_device_in_very_many_groups_reads_the_same() {
    let server = Server::start_with(|config| config.accounts.groups = None).await;
    let (mut groups, mut expected) = (Vec::new(), Vec::new());
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    for _ in 0..70 {
        let mut group = Group::create(&server, &alice).await;
        group.post(&server, &alice, &Body::Add(vec![bob.entry(0)])).await;
        groups.push(group);
    }
    for (n, group) in groups.iter().enumerate() {
        alice.say(&server, group, &[&format!("{n}")]).await;
        expected.push(format!("{n}"));
    }
    assert_eq!(bob.stream(&server).await.texts(70).await, expected);
}

#[tokio::test]
async fn what_expired_stays_so_when_it_is_acknowledged_past() {
    use DeliveryState::{Acked, Expired};
    let server = Server::start().await;
    let (group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let mut short = alice.message(group.id(), 1, "short");
    short.ttl_ms = 60_000;
    let short: Accepted = alice.submit(&server, vec![short]).await.ok();
    let short = short.accepted[0].id;
    let long = alice.say(&server, &group, &["long"]).await.accepted[0].id;
    let read = async |who: &Person, id: EnvelopeId, expected: &[&str]| {
        let mut stream = who.stream(&server).await;
        stream.next().await;
        let mut last = 0;
        for expected in expected {
            let row = stream.next().await;
            assert_eq!(text(&row.envelope), *expected);
            last = row.seq.0;
        }
        stream.ack(last).await;
        while states(&server, &alice, id).await[&who.device()] != Acked {
            tokio::task::yield_now().await;
        }
    };
    read(&bob, long, &["short", "long"]).await;
    server.pass_ms(60_000);
    server.app.upkeep().await.unwrap();
    let expected = BTreeMap::from([(bob.device(), Acked), (carol.device(), Expired)]);
    assert_eq!(states(&server, &alice, short).await, expected);
    // Carol's number goes past it now; it stays what it was.
    read(&carol, long, &["long"]).await;
    assert_eq!(states(&server, &alice, short).await, expected);
    assert!(states(&server, &alice, long).await.values().all(|state| *state == Acked));
    // Nothing is left of either when nobody may ask any more.
    server.app.upkeep().await.unwrap();
    assert_eq!(count(&server, &["envelopes"]).await, 1, "the news for alice");
    server.pass_ms(MONTH_MS + 86_400_000);
    server.app.upkeep().await.unwrap();
    let ops = group.ops.len();
    assert_eq!(count(&server, &["broadcasts", "passed", "accepted"]).await, ops);
}

#[tokio::test]
async fn what_all_who_counted_have_read_goes_whoever_came_later_or_sent_it() {
    let server = Server::start().await;
    let (mut group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    alice.say(&server, &group, &["one"]).await;
    bob.say(&server, &group, &["two"]).await;
    group.post(&server, &alice, &Body::Remove(vec![carol.member()])).await;
    let dave = server.person("dave").await;
    group.post(&server, &alice, &Body::Add(vec![dave.entry(0)])).await;
    let kept = async || {
        server.app.upkeep().await.unwrap();
        count(&server, &["envelopes"]).await
    };
    // Devices are numbered as they were registered.
    let read = async |who: &Person, device: u32, count: usize| {
        let mut stream = who.stream(&server).await;
        let row = stream.take(count).await.pop().unwrap();
        stream.ack(row.seq.0).await;
        let acked = format!("mailboxes: {device},{},", row.seq.0);
        while !server.rows().await.iter().any(|line| line.starts_with(&acked)) {
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(kept().await, 2);
    // Two ops, Bob's word, two ops; an op, Alice's word, two ops.
    read(&alice, 1, 5).await;
    read(&bob, 2, 4).await;
    assert_eq!(kept().await, 2, "Carol has not read them, though she is out");
    read(&carol, 3, 4).await;
    assert_eq!(kept().await, 0);
}
