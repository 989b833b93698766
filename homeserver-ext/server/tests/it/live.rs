//! What is put down while somebody listens is handed on without being looked up: it is what the
//! database would have said.

use causeway_protocol::{
    api::Accepted,
    envelope::{Kind, SubmittedTo},
    roster::Body,
};
use futures_util::future::join_all;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Group, Person, Server, Stream};

/// The next frames as they came.
async fn frames(stream: &mut Stream, count: usize) -> Vec<String> {
    let mut frames = Vec::new();
    while frames.len() < count {
        match stream.frame().await {
            Message::Text(text) => frames.push(text.to_string()),
            other => panic!("not a row: {other:?}"),
        }
    }
    frames
}

async fn key(server: &Server, group: &Group, from: &Person, to: &[&Person], n: usize) -> usize {
    let epoch = group.roster.epoch().0;
    let keys = to.iter().map(|to| {
        let to = SubmittedTo::Device(to.device());
        from.submission(group.id(), epoch, Kind::KeyDistribution, to, format!("{n}").into())
    });
    let taken: Accepted = from.submit(server, keys.collect()).await.ok();
    taken.accepted.iter().filter(|one| one.recipients == 1).count()
}

/// Everything that can be put down, in two groups, while Bob listens and comes and goes: each time he
/// is given what a stream is given that begins only then.
#[tokio::test]
async fn whoever_listens_is_given_what_he_would_read() {
    let server = Server::start().await;
    let (mut one, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let mut other = Group::create(&server, &carol).await;
    other.post(&server, &carol, &Body::Add(vec![alice.entry(0), bob.entry(0)])).await;
    let mut live = bob.stream(&server).await;
    // Two ops.
    let (mut said, mut rows) = (frames(&mut live, 2).await, 2);
    let mut is_in = true;
    for n in 0..60 {
        let before = rows;
        match n % 10 {
            0 | 5 => {
                alice.say(&server, &one, &[&format!("one {n}")]).await;
                rows += usize::from(is_in);
            }
            1 => {
                let three = [format!("{n} 1"), format!("{n} 2"), format!("{n} 3")];
                carol.say(&server, &other, &three.each_ref().map(String::as_str)).await;
                rows += 3;
            }
            2 => rows += key(&server, &other, &alice, &[&bob, &carol], n).await - 1,
            3 => {
                // What one says twice in the same words is the same envelope.
                let said = ["a", "b", "c", "d"].map(|word| format!("{n} {word}"));
                let said = said.each_ref().map(|said| [said.as_str()]);
                bob.say(&server, &other, &said[0]).await;
                let first = alice.say(&server, &one, &said[1]);
                let second = carol.say(&server, &other, &said[2]);
                let third = carol.say(&server, &one, &said[3]);
                tokio::join!(first, second, third);
                rows += 1 + 2 * usize::from(is_in);
            }
            4 => {
                let body = Body::Remove(vec![bob.member()]);
                one.post(&server, &alice, &body).await;
                (rows, is_in) = (rows + 1, false);
            }
            6 => {
                // From before he went: not for him, who is back in a later epoch.
                let late = alice.message(one.id(), one.roster.epoch().0, &format!("late {n}"));
                one.post(&server, &alice, &Body::Add(vec![bob.entry(0)])).await;
                alice.submit(&server, vec![late]).await.ok::<Accepted>();
                (rows, is_in) = (rows + 1, true);
            }
            7 => {
                // More than is held for a stream.
                let many: Vec<String> = (0..70).map(|m| format!("{n} {m}")).collect();
                if n == 27 {
                    let many: Vec<&str> = many.iter().map(String::as_str).collect();
                    alice.say(&server, &one, &many).await;
                    rows += 70;
                }
            }
            _ => {
                alice.say(&server, &other, &[&format!("{n}")]).await;
                rows += 1;
            }
        }
        // Some steps come together.
        if n % 3 == 0 {
            said.extend(frames(&mut live, rows - said.len()).await);
        }
        assert!(rows >= before && rows < 256, "all of it is in flight");
    }
    said.extend(frames(&mut live, rows - said.len()).await);
    live.send(Message::Ping(vec![1].into())).await;
    assert!(matches!(live.any().await, Message::Pong(_)), "and no more");
    // Nothing was acknowledged: all of it comes again.
    let read = frames(&mut bob.stream(&server).await, rows).await;
    assert_eq!(said, read);
}

#[tokio::test]
async fn who_reads_slowly_keeps_nobody_waiting_and_gets_all() {
    let server = Server::start().await;
    let (group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let (mut slow, mut quick) = (bob.stream(&server).await, carol.stream(&server).await);
    quick.next().await;
    slow.next().await;
    let texts: Vec<String> = (0..600).map(|n| format!("{n:04}{}", "x".repeat(8_000))).collect();
    for some in texts.chunks(20) {
        alice.say(&server, &group, &some.iter().map(String::as_str).collect::<Vec<_>>()).await;
        for text in some {
            let row = quick.next().await;
            assert_eq!(crate::harness::text(&row.envelope), *text);
            quick.ack(row.seq.0).await;
        }
    }
    let (mut seen, mut last) = (Vec::new(), 0);
    while seen.len() < texts.len() {
        // On a slow machine it was told to come back meanwhile.
        let Some(row) = slow.row().await else {
            slow = bob.stream(&server).await;
            continue;
        };
        slow.try_ack(row.seq.0).await;
        if row.seq.0 > last && row.envelope.kind == Kind::Message {
            last = row.seq.0;
            seen.push(crate::harness::text(&row.envelope));
        }
    }
    assert_eq!(seen, texts);
}

/// However posting and opening a stream fall together, nothing is passed over.
#[tokio::test]
async fn a_stream_that_opens_while_something_is_said_lacks_nothing() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let mut all = bob.stream(&server).await;
    let first = all.next().await.seq.0;
    all.ack(first).await;
    drop(all);
    for delay in 0..60 {
        let said = [format!("{delay} one"), format!("{delay} two")];
        let saying = async {
            for _ in 0..delay {
                tokio::task::yield_now().await;
            }
            alice.say(&server, &group, &[&said[0]]).await;
            alice.say(&server, &group, &[&said[1]]).await;
        };
        let reading = async {
            let mut stream = bob.stream(&server).await;
            let mut texts = Vec::new();
            while texts.last() != Some(&said[1]) {
                let row = stream.next().await;
                stream.ack(row.seq.0).await;
                if row.envelope.kind == Kind::Message {
                    texts.push(crate::harness::text(&row.envelope));
                }
            }
            stream.send(Message::Close(None)).await;
            stream.broken().await;
            texts
        };
        let ((), texts) = tokio::join!(saying, reading);
        assert!(texts.ends_with(&said), "{texts:?}");
    }
}

#[tokio::test]
async fn acknowledgements_of_many_are_one_transaction_and_each_counts() {
    const PEOPLE: usize = 40;
    let server = Server::start().await;
    let (mut group, [alice]) = server.group(["alice"]).await;
    let mut people = Vec::new();
    for n in 0..PEOPLE {
        people.push(server.person(&format!("p{n}")).await);
    }
    let entries = people.iter().map(|person| person.entry(0)).collect();
    group.post(&server, &alice, &Body::Add(entries)).await;
    let mut streams = Vec::new();
    for person in &people {
        let mut stream = person.stream(&server).await;
        stream.next().await;
        streams.push(stream);
    }
    let last = alice.say(&server, &group, &["x"]).await;
    let mut seq = 0;
    for stream in &mut streams {
        seq = stream.next().await.seq.0;
    }
    let before = server.app.figures().await.unwrap().transactions;
    join_all(streams.iter_mut().map(|stream| stream.ack(seq))).await;
    let path = format!("/messages/{}/status", last.accepted[0].id);
    loop {
        let status: causeway_protocol::api::MessageStatus = alice.get(&server, &path).await.ok();
        let acked = |one: &&causeway_protocol::api::RecipientStatus| {
            one.state == causeway_protocol::api::DeliveryState::Acked
        };
        if status.recipients.iter().filter(acked).count() == PEOPLE {
            break;
        }
    }
    let transactions = server.app.figures().await.unwrap().transactions - before;
    assert!(transactions <= 5, "{transactions} for {PEOPLE}");
}
