//! The mailbox over a connection that breaks.

use causeway_groups::sdk::{AccessToken, CallError, Http, Stream, Taken};
use causeway_protocol::{
    api::{StreamHello, StreamRow},
    envelope::{Envelope, Kind, Recipient},
    ids::{EnvelopeId, Epoch, Generation, GroupId, Seq},
};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};

async fn listening() -> (TcpListener, Stream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http = Http::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    (listener, Stream::new(http.with_token(AccessToken::new("secret".to_owned()))))
}

async fn accepted(listener: &TcpListener) -> WebSocketStream<TcpStream> {
    accepted_as(listener, 1, 1_000).await
}

async fn accepted_as(
    listener: &TcpListener,
    generation: u8,
    last: u64,
) -> WebSocketStream<TcpStream> {
    let generation = Generation::new([generation; 16]);
    greeted(listener, StreamHello { generation, last_seq: Seq(last), parked: Some(false) }).await
}

async fn greeted(listener: &TcpListener, hello: StreamHello) -> WebSocketStream<TcpStream> {
    let (peer, _) = listener.accept().await.unwrap();
    let mut socket = accept_async(peer).await.unwrap();
    let frame = serde_json::to_string(&hello).unwrap();
    socket.send(Message::Text(frame.into())).await.unwrap();
    socket
}

fn row(seq: u64) -> StreamRow {
    let envelope = Envelope {
        id: EnvelopeId::new([0; 16]),
        kind: Kind::Roster,
        group: GroupId::new([1; 32]),
        epoch: Epoch(0),
        sender: None,
        to: Recipient::Broadcast,
        ttl_ms: 1_000,
        payload: Vec::new(),
        piece: None,
    };
    StreamRow { seq: Seq(seq), envelope }
}

async fn send_rows(socket: &mut WebSocketStream<TcpStream>, seqs: impl Iterator<Item = u64>) {
    for seq in seqs {
        let frame = serde_json::to_string(&row(seq)).unwrap();
        socket.send(Message::Text(frame.into())).await.unwrap();
    }
}

fn seqs(rows: &[StreamRow]) -> Vec<u64> {
    rows.iter().map(|row| row.seq.0).collect()
}

/// Reads rows until this many have come.
async fn read(stream: &mut Stream, count: usize) -> Vec<u64> {
    let mut read = Vec::new();
    while read.len() < count {
        match stream.next_rows().await {
            Ok(rows) => read.extend(seqs(&rows)),
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
    read
}

#[tokio::test]
async fn rows_that_come_again_after_a_break_are_handed_out_once() {
    let (listener, mut stream) = listening().await;
    let server = async {
        let mut first = accepted(&listener).await;
        send_rows(&mut first, 1..=5).await;
        drop(first);
        let mut second = accepted(&listener).await;
        send_rows(&mut second, 1..=9).await;
        second
    };
    let (_socket, read) = tokio::join!(server, read(&mut stream, 9));
    assert_eq!(read, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[tokio::test]
async fn an_acknowledgement_that_a_break_swallowed_is_said_again_first() {
    let (listener, mut stream) = listening().await;
    let mut socket = {
        let server = async {
            let mut socket = accepted(&listener).await;
            send_rows(&mut socket, 1..=3).await;
            socket
        };
        tokio::join!(server, read(&mut stream, 3)).0
    };
    stream.ack(Some(Seq(3))).await;
    let said = socket.next().await.unwrap().unwrap();
    assert_eq!(said.into_text().unwrap().as_str(), r#"{"ack":3}"#);
    drop(socket);
    let server = async {
        let mut socket = accepted(&listener).await;
        let said = socket.next().await.unwrap().unwrap();
        assert_eq!(said.into_text().unwrap().as_str(), r#"{"ack":3}"#);
        send_rows(&mut socket, 4..=4).await;
        socket
    };
    let (_socket, read) = tokio::join!(server, read(&mut stream, 1));
    assert_eq!(read, [4]);
}

#[tokio::test]
async fn rows_that_could_not_be_kept_come_again() {
    let (listener, mut stream) = listening().await;
    let server = async {
        let mut socket = accepted(&listener).await;
        send_rows(&mut socket, 1..=4).await;
        socket
    };
    let (first, rows) = tokio::join!(server, read(&mut stream, 4));
    assert_eq!(rows, [1, 2, 3, 4]);
    stream.ack(Some(Seq(2))).await;
    drop(first);
    let server = async {
        let mut socket = accepted(&listener).await;
        send_rows(&mut socket, 3..=5).await;
        socket
    };
    let (_second, rows) = tokio::join!(server, read(&mut stream, 3));
    assert_eq!(rows, [3, 4, 5]);
}

#[tokio::test]
async fn a_database_that_was_put_back_is_read_anew_and_nothing_of_it_acknowledged_unseen() {
    // Another generation, though it has given more numbers by now; or fewer than were seen.
    for (generation, last) in [(2, 1_000), (1, 3)] {
        let (listener, mut stream) = listening().await;
        let server = async {
            let mut socket = accepted(&listener).await;
            send_rows(&mut socket, 1..=5).await;
            socket
        };
        let (first, rows) = tokio::join!(server, read(&mut stream, 5));
        assert_eq!(rows, [1, 2, 3, 4, 5]);
        stream.ack(Some(Seq(5))).await;
        drop(first);
        let server = async {
            let mut socket = accepted_as(&listener, generation, last).await;
            send_rows(&mut socket, 2..=3).await;
            socket
        };
        let (mut second, rows) = tokio::join!(server, read(&mut stream, 2));
        assert_eq!(rows, [2, 3]);
        stream.ack(Some(Seq(3))).await;
        let said = second.next().await.unwrap().unwrap();
        assert_eq!(said.into_text().unwrap().as_str(), r#"{"ack":3}"#);
    }
}

#[tokio::test]
async fn a_stream_that_does_not_begin_with_its_hello_is_tried_again() {
    let (listener, mut stream) = listening().await;
    let server = async {
        let (peer, _) = listener.accept().await.unwrap();
        let mut first = accept_async(peer).await.unwrap();
        send_rows(&mut first, 7..=7).await;
        let mut second = accepted(&listener).await;
        send_rows(&mut second, 1..=1).await;
        (first, second)
    };
    let (_sockets, read) = tokio::join!(server, read(&mut stream, 1));
    assert_eq!(read, [1]);
}

#[tokio::test]
async fn a_batch_has_at_most_64_rows() {
    let (listener, mut stream) = listening().await;
    let server = async {
        let mut socket = accepted(&listener).await;
        send_rows(&mut socket, 1..=150).await;
        socket
    };
    let reader = async {
        let mut sizes = Vec::new();
        while sizes.iter().sum::<usize>() < 150 {
            sizes.push(stream.next_rows().await.unwrap().len());
        }
        sizes
    };
    let (_socket, sizes) = tokio::join!(server, reader);
    assert!(sizes.iter().all(|size| *size <= 64), "{sizes:?}");
}

#[tokio::test]
async fn a_token_that_is_not_good_any_more_is_final() {
    let (listener, mut stream) = listening().await;
    let server = async {
        let (mut peer, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let n = peer.read(&mut request).await.unwrap();
        assert!(String::from_utf8_lossy(&request[..n]).contains("Bearer secret"));
        let body = r#"{"errcode":"M_UNKNOWN_TOKEN","error":"log in again"}"#;
        let head = format!("HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\n\r\n", body.len());
        peer.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await.unwrap();
        peer
    };
    let (_peer, ended) = tokio::join!(server, stream.next_rows());
    assert!(matches!(ended, Err(CallError::Refused { status: 401, .. })), "{ended:?}");
}

#[tokio::test]
async fn what_is_no_row_ends_the_connection_and_not_the_stream() {
    let (listener, mut stream) = listening().await;
    let server = async {
        let mut first = accepted(&listener).await;
        first.send(Message::Text("{\"seq\":1}".into())).await.unwrap();
        let mut second = accepted(&listener).await;
        let huge = "x".repeat(300 << 10);
        // The client may hang up before all of it is written.
        let _ = second.send(Message::Text(huge.into())).await;
        let mut third = accepted(&listener).await;
        send_rows(&mut third, 1..=1).await;
        (first, second, third)
    };
    let (_sockets, read) = tokio::join!(server, read(&mut stream, 1));
    assert_eq!(read, [1]);
}

#[tokio::test]
async fn behind_a_row_that_could_not_be_kept_rows_are_read_and_not_acknowledged() {
    let (listener, mut stream) = listening().await;
    let mut first = {
        let server = async {
            let mut socket = accepted(&listener).await;
            send_rows(&mut socket, 1..=3).await;
            socket
        };
        tokio::join!(server, read(&mut stream, 3)).0
    };
    stream.ack(None).await;
    assert!(stream.is_stuck());
    send_rows(&mut first, 4..=5).await;
    assert_eq!(read(&mut stream, 2).await, [4, 5]);
    stream.ack(Some(Seq(5))).await;
    assert!(stream.is_stuck());
    // After a while of quiet everything is asked for again, on another connection.
    let server = async {
        let mut socket = accepted(&listener).await;
        send_rows(&mut socket, 1..=5).await;
        socket
    };
    let (mut second, rows) = tokio::join!(server, read(&mut stream, 5));
    assert_eq!(rows, [1, 2, 3, 4, 5]);
    assert!(!matches!(first.next().await, Some(Ok(Message::Text(_)))), "acknowledged too early");
    stream.ack(Some(Seq(5))).await;
    assert!(!stream.is_stuck());
    let said = second.next().await.unwrap().unwrap();
    assert_eq!(said.into_text().unwrap().as_str(), r#"{"ack":5}"#);
}

fn taken(through: u64, parked: &[u64]) -> Taken {
    let parked = parked.iter().map(|seq| Seq(*seq)).collect();
    Taken { through: Some(Seq(through)), parked, no_room: None }
}

/// The next frame of the client.
async fn said(socket: &mut WebSocketStream<TcpStream>) -> String {
    socket.next().await.unwrap().unwrap().into_text().unwrap().to_string()
}

#[tokio::test]
async fn what_was_parked_on_a_connection_that_broke_comes_again_if_the_server_had_not_heard() {
    let (listener, mut stream) = listening().await;
    let server = async {
        let mut socket = accepted(&listener).await;
        send_rows(&mut socket, 1..=4).await;
        socket
    };
    let (mut first, rows) = tokio::join!(server, read(&mut stream, 4));
    assert_eq!(rows, [1, 2, 3, 4]);
    stream.took(&taken(4, &[2, 3])).await;
    assert!(!stream.is_stuck());
    assert_eq!(said(&mut first).await, r#"{"ack":4,"park":[2,3]}"#);
    drop(first);
    // Acknowledged again without them, they would be lost.
    let server = async {
        let mut socket = accepted(&listener).await;
        send_rows(&mut socket, 1..=5).await;
        socket
    };
    let (mut second, rows) = tokio::join!(server, read(&mut stream, 5));
    assert_eq!(rows, [1, 2, 3, 4, 5]);
    stream.took(&taken(5, &[2, 3])).await;
    assert_eq!(said(&mut second).await, r#"{"ack":5,"park":[2,3]}"#);
}

#[tokio::test]
async fn a_server_that_parks_nothing_is_asked_to_park_nothing() {
    let (listener, mut stream) = listening().await;
    let generation = Generation::new([1; 16]);
    let server = async {
        let hello = StreamHello { generation, last_seq: Seq(9), parked: None };
        let mut socket = greeted(&listener, hello).await;
        send_rows(&mut socket, 1..=4).await;
        socket
    };
    let (mut socket, _) = tokio::join!(server, read(&mut stream, 4));
    stream.took(&taken(4, &[3, 4])).await;
    assert_eq!(said(&mut socket).await, r#"{"ack":2}"#);
    assert!(stream.is_stuck());
}
