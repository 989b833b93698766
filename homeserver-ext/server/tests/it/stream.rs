use causeway_protocol::{
    api::{Accepted, DeliveryState, MessageStatus, Session},
    envelope::{Kind, SubmittedTo},
};
use reqwest::Method;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::harness::{Server, Stream, text};

/// Waits until the server has read the acknowledgement of the second who registered.
async fn bob_has_acked(server: &Server, seq: u64) {
    let row = format!("mailboxes: 2,{seq},");
    while !server.rows().await.iter().any(|line| line.starts_with(&row)) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stream_begins_with_the_databases_generation_which_is_new_with_every_start() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let before = bob.stream(&server).await.hello().await;
    alice.say(&server, &group, &["one", "two"]).await;
    let after = bob.stream(&server).await.hello().await;
    assert_eq!(after.generation, before.generation);
    assert_eq!(after.last_seq.0, before.last_seq.0 + 2);
    let server = server.restart().await;
    let anew = bob.stream(&server).await.hello().await;
    assert_ne!(anew.generation, before.generation);
    assert_eq!(anew.last_seq, after.last_seq);
}

#[tokio::test]
async fn a_stream_goes_on_where_the_acknowledgements_ended() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    alice.say(&server, &group, &["one", "two", "three"]).await;
    let mut stream = bob.stream(&server).await;
    let rows = stream.take(4).await;
    assert_eq!(rows.iter().map(|row| row.seq.0).collect::<Vec<_>>(), [2, 3, 4, 5]);
    stream.ack(3).await;
    drop(stream);
    // Acknowledgements are cumulative and may be repeated on the next connection.
    let mut stream = bob.stream(&server).await;
    stream.ack(3).await;
    let mut seqs = vec![stream.next().await.seq.0];
    while seqs.last() != Some(&5) {
        seqs.push(stream.next().await.seq.0);
    }
    // The connection may have broken before the server had read the acknowledgement.
    assert!(seqs == [4, 5] || seqs == [2, 3, 4, 5], "{seqs:?}");
    // What cannot have been seen is not acknowledged.
    stream.ack(99).await;
    bob_has_acked(&server, 5).await;
    alice.say(&server, &group, &["four"]).await;
    assert_eq!(stream.next().await.seq.0, 6);
    assert_eq!(bob.stream(&server).await.next().await.seq.0, 6);
}

#[tokio::test]
async fn much_is_acknowledged_a_little_at_a_time_and_what_ends_it_leaves_the_first_of_it() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let epoch = group.roster.epoch().0;
    let direct = (0..1_100).map(|n| {
        let to = SubmittedTo::Device(bob.device());
        alice.submission(group.id(), epoch, Kind::KeyAck, to, n.to_string().into_bytes())
    });
    let sent: Accepted = alice.submit(&server, direct.collect()).await.ok();
    let own =
        async || server.rows().await.iter().filter(|row| row.starts_with("mailbox: ")).count();
    let state = async |n: usize| {
        let path = format!("/messages/{}/status", sent.accepted[n].id);
        alice.get(&server, &path).await.ok::<MessageStatus>().recipients[0].state
    };
    let mut stream = bob.stream(&server).await;
    let last = stream.hello().await.last_seq.0;
    // The last step fails, as a kill would end it.
    let trigger = format!(
        "CREATE TRIGGER last BEFORE UPDATE ON mailboxes WHEN NEW.acked_seq = {last}
         BEGIN SELECT RAISE(ABORT, 'no more'); END"
    );
    server.change(&trigger).await;
    stream.ack(last).await;
    stream.broken().await;
    server.change("DROP TRIGGER last").await;
    assert_eq!(own().await, 1_100 - 2 * 512);
    for (n, is) in [(0, true), (1_023, true), (1_024, false), (1_099, false)] {
        assert_eq!(state(n).await == DeliveryState::Acked, is, "{n}");
    }
    let mut stream = bob.stream(&server).await;
    assert_eq!(text(&stream.next().await.envelope), "1024");
    stream.ack(last).await;
    bob_has_acked(&server, last).await;
    assert_eq!(own().await, 0);
    assert_eq!(state(1_099).await, DeliveryState::Acked);
}

#[tokio::test]
async fn rows_wait_through_a_restart() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    alice.say(&server, &group, &["one"]).await;
    let mut stream = bob.stream(&server).await;
    stream.take(2).await;
    let (server, code) = tokio::join!(server.restart(), stream.close_code());
    assert_eq!(code, 1001);
    alice.say(&server, &group, &["two"]).await;
    assert_eq!(bob.stream(&server).await.texts(2).await, ["one", "two"]);
}

#[tokio::test]
async fn what_comes_while_one_listens_is_pushed() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let mut stream = bob.stream(&server).await;
    stream.next().await;
    for n in 0..50 {
        alice.say(&server, &group, &[&format!("{n}")]).await;
        let row = stream.next().await;
        assert_eq!(text(&row.envelope), format!("{n}"));
        stream.ack(row.seq.0).await;
    }
}

#[tokio::test]
async fn at_most_256_rows_are_in_flight() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let texts: Vec<String> = (0..300).map(|n| format!("{n}")).collect();
    alice.say(&server, &group, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut stream = bob.stream(&server).await;
    let rows = stream.take(256).await;
    // An answer to a ping shows that nothing else was on the way.
    stream.send(Message::Ping(vec![7].into())).await;
    assert!(matches!(stream.any().await, Message::Pong(_)));
    stream.ack(rows[99].seq.0).await;
    assert_eq!(text(&stream.take(45).await.last().unwrap().envelope), "299");
}

#[tokio::test]
async fn at_most_a_mebibyte_is_in_flight() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let large = "x".repeat(44_990);
    for n in 0..40 {
        alice.say(&server, &group, &[&format!("{n:08}{large}")]).await;
    }
    let mut stream = bob.stream(&server).await;
    // 60 kB each in base64: seventeen and the op fit, the eighteenth would go over the edge.
    let bytes: usize = frames(&mut stream, 18).await.iter().sum();
    assert!((bytes..bytes + 60_000).contains(&(1 << 20)), "{bytes}");
    stream.send(Message::Ping(vec![7].into())).await;
    assert!(matches!(stream.any().await, Message::Pong(_)));
    // The op has number 2.
    stream.ack(19).await;
    assert!(frames(&mut stream, 17).await.iter().sum::<usize>() <= 1 << 20);
}

/// How long the next frames are.
async fn frames(stream: &mut Stream, count: usize) -> Vec<usize> {
    let mut lengths = Vec::new();
    while lengths.len() < count {
        lengths.push(stream.frame().await.len());
    }
    lengths
}

#[tokio::test]
async fn who_does_not_read_is_not_waited_for_and_loses_nothing() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    for n in 0..100 {
        alice.say(&server, &group, &[&format!("{n:08}{}", "x".repeat(44_990))]).await;
    }
    let mut stream = bob.stream(&server).await;
    stream.next().await;
    // The clock goes on, and this end reads nothing more.
    stream.pause_time();
    tokio::time::sleep(std::time::Duration::from_mins(1)).await;
    tokio::time::resume();
    stream.broken().await;
    assert_eq!(server.app.figures().await.unwrap().mailbox_rows, 100);
    let mut stream = bob.stream(&server).await;
    assert_eq!(stream.next().await.seq.0, 2);
}

/// An acknowledgement that makes too little room starts the ten seconds anew, and no more.
#[tokio::test]
async fn who_acknowledges_too_little_is_told_to_come_back() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    for n in 0..20 {
        alice.say(&server, &group, &[&format!("{n:08}{}", "x".repeat(44_990))]).await;
    }
    let mut stream = bob.stream(&server).await;
    stream.take(18).await;
    stream.ack(2).await;
    bob_has_acked(&server, 2).await;
    // An answer shows that the next row was looked at, too, and has to wait.
    stream.send(Message::Ping(vec![7].into())).await;
    assert!(matches!(stream.any().await, Message::Pong(_)));
    stream.pause_time();
    assert_eq!(stream.close_code().await, 1013);
    tokio::time::resume();
    assert_eq!(bob.stream(&server).await.next().await.seq.0, 3);
}

#[tokio::test]
async fn a_socket_behind_which_nobody_is_left_is_given_up() {
    let server = Server::start().await;
    let (_, [_, bob]) = server.group(["alice", "bob"]).await;
    let mut silent = bob.stream(&server).await;
    silent.next().await;
    silent.settle().await;
    // Nobody reads it, so that no ping is answered; only the clock moves.
    silent.pause_time();
    tokio::time::sleep(std::time::Duration::from_secs(100)).await;
    tokio::time::resume();
    silent.broken().await;
    // Who answers stays.
    let mut alive = bob.stream(&server).await;
    alive.next().await;
    alive.settle().await;
    alive.pause_time();
    for _ in 0..4 {
        tokio::time::sleep(std::time::Duration::from_secs(30)).await;
        assert!(matches!(alive.any().await, Message::Ping(_)));
        alive.send(Message::Ping(vec![].into())).await;
        assert!(matches!(alive.any().await, Message::Pong(_)));
    }
}

#[tokio::test]
async fn who_does_not_acknowledge_is_told_to_come_back_and_loses_nothing() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let texts: Vec<String> = (0..300).map(|n| format!("{n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    alice.say(&server, &group, &texts).await;
    let mut stream = bob.stream(&server).await;
    stream.take(256).await;
    stream.pause_time();
    assert_eq!(stream.close_code().await, 1013);
    tokio::time::resume();
    let mut stream = bob.stream(&server).await;
    let mut seen = Vec::new();
    while seen.len() < 300 {
        let row = stream.next().await;
        stream.ack(row.seq.0).await;
        if row.envelope.kind == causeway_protocol::envelope::Kind::Message {
            seen.push(crate::harness::text(&row.envelope));
        }
    }
    assert_eq!(seen, texts);
}

#[tokio::test]
async fn a_newer_stream_of_the_same_device_replaces_the_older() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let mut older = bob.stream(&server).await;
    older.next().await;
    let mut newer = bob.stream(&server).await;
    newer.next().await;
    assert_eq!(older.close_code().await, 4_000);
    alice.say(&server, &group, &["x"]).await;
    assert_eq!(newer.texts(1).await, ["x"]);
}

#[tokio::test]
async fn logging_out_and_in_ends_the_former_stream() {
    let server = Server::start().await;
    let (_, [alice, bob]) = server.group(["alice", "bob"]).await;
    let mut stream = alice.stream(&server).await;
    stream.next().await;
    alice.post(&server, "/logout", &serde_json::json!({})).await.done();
    assert_eq!(stream.close_code().await, 4_001);
    let mut stream = bob.stream(&server).await;
    stream.next().await;
    bob.login(&server).await.ok::<Session>();
    assert_eq!(stream.close_code().await, 4_001);
}

/// However logging out falls together with opening a stream, no stream outlives the token.
#[tokio::test]
async fn a_stream_that_opens_while_its_device_is_logged_out_ends() {
    let server = Server::start().await;
    let mut bob = server.person("bob").await;
    let mut ended = 0;
    for delay in 0..100 {
        let open = async {
            for _ in 0..delay {
                tokio::task::yield_now().await;
            }
            Stream::open(&server, &bob.token).await
        };
        let nothing = serde_json::json!({});
        let (logged_out, opened) = tokio::join!(bob.post(&server, "/logout", &nothing), open);
        logged_out.done();
        if let Ok(mut stream) = opened {
            assert_eq!(stream.close_code().await, 4_001, "opened after {delay}");
            ended += 1;
        }
        let token = bob.login(&server).await.ok::<Session>().access_token;
        bob = bob.with_token(token);
    }
    assert!(ended > 0, "none was opened in time");
}

#[tokio::test]
async fn what_is_no_acknowledgement_ends_the_stream() {
    let server = Server::start().await;
    let bob = server.person("bob").await;
    for (bad, code) in [
        (Message::text("hello"), 1007),
        (Message::text(r#"{"ack":-1}"#), 1007),
        (Message::text(r#"{"ack":"1"}"#), 1007),
        (Message::text("[".repeat(10_000)), 1007),
        (Message::binary(vec![1, 2, 3]), 1003),
    ] {
        let mut stream = bob.stream(&server).await;
        stream.send(bad).await;
        assert_eq!(stream.close_code().await, code);
    }
    let mut stream = bob.stream(&server).await;
    stream.send(Message::text("x".repeat(300 << 10))).await;
    stream.broken().await;
}

#[tokio::test]
async fn a_stream_needs_a_token_and_a_websocket() {
    let server = Server::start().await;
    let refused = Stream::open(&server, "guess").await.err().unwrap();
    let tungstenite::Error::Http(answer) = *refused else { panic!("{refused}") };
    assert_eq!(answer.status().as_u16(), 401);
    let bob = server.person("bob").await;
    bob.get(&server, "/stream").await.refused(400, "M_INVALID_PARAM");
    server.send(Method::GET, "/stream", None, vec![]).await.refused(401, "M_MISSING_TOKEN");
}
