//! What a stranger may hold of a listener.

use std::time::Duration;

use causeway_server::{EdgeLimits, Quota};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use crate::harness::Server;

const HALF: &[u8] = b"GET /_causeway/v1/server HTTP/1.1\r\nX: ";
const WHOLE: &[u8] = b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n";

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.base.strip_prefix("http://").unwrap()).await.unwrap()
}

/// What is answered until the connection ends.
async fn rest(mut socket: TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What is answered to one whole request, on a connection that stays.
async fn ask(socket: &mut TcpStream) -> String {
    socket.write_all(WHOLE).await.unwrap();
    let mut bytes = [0; 1_024];
    let length = socket.read(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

async fn limited(change: impl FnOnce(&mut EdgeLimits)) -> Server {
    Server::start_with(|config| change(&mut config.edge)).await
}

#[tokio::test]
async fn a_head_that_does_not_end_ends_its_connection() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let mut stream = bob.stream(&server).await;
    let (mut idle, mut dripping, mut later, mut kept) = (
        connect(&server).await,
        connect(&server).await,
        connect(&server).await,
        connect(&server).await,
    );
    // One that was idle, one that says a byte now and then, one that has asked before; and one that
    // has asked, and says nothing.
    assert!(ask(&mut later).await.starts_with("HTTP/1.1 200"));
    assert!(ask(&mut kept).await.starts_with("HTTP/1.1 200"));
    later.write_all(HALF).await.unwrap();
    dripping.write_all(HALF).await.unwrap();
    let began = Instant::now();
    let drip = async {
        while dripping.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let mut byte = [0];
    let ((), _, _) = tokio::join!(drip, idle.read(&mut byte), rest(later));
    assert!(began.elapsed() >= Duration::from_secs(9), "{:?}", began.elapsed());
    assert!(ask(&mut kept).await.starts_with("HTTP/1.1 200"));
    // What else is spoken on a connection, and for how long, is another matter.
    alice.say(&server, &group, &["late"]).await;
    assert_eq!(stream.texts(1).await, ["late"]);
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_leaves_the_rest_to_others() {
    let server = limited(|edge| (edge.per_address, edge.connections) = (3, 5)).await;
    let mut held: Vec<_> = Vec::new();
    for _ in 0..3 {
        let mut socket = connect(&server).await;
        assert!(ask(&mut socket).await.starts_with("HTTP/1.1 200"));
        held.push(socket);
    }
    let mut one_more = connect(&server).await;
    let _ = one_more.write_all(WHOLE).await;
    let told = rest(one_more).await;
    assert!(told.starts_with("HTTP/1.1 429"), "{told}");
    assert!(told.contains("retry_after_ms") && told.contains("connections_per_address"), "{told}");
    // Who holds a place for that, too, is told nothing.
    let waiting: Vec<_> = futures_util::future::join_all((0..32).map(|_| connect(&server))).await;
    assert_eq!(rest(connect(&server).await).await, "");
    drop(waiting);
    // A place is free as soon as its connection is gone.
    drop(held.pop());
    loop {
        let mut socket = connect(&server).await;
        let _ = socket.write_all(WHOLE).await;
        let mut bytes = [0; 1_024];
        let length = socket.read(&mut bytes).await.unwrap_or_default();
        if bytes[..length].starts_with(b"HTTP/1.1 200") {
            break;
        }
    }
}

#[tokio::test]
async fn one_address_asks_so_often_and_is_told_when_again() {
    let quota = Quota::per_minute(60, 5);
    let server = limited(|edge| edge.requests = Some(quota)).await;
    let mut socket = connect(&server).await;
    for _ in 0..5 {
        assert!(ask(&mut socket).await.starts_with("HTTP/1.1 200"));
    }
    // Whatever it asks for, and before it is looked at.
    socket.write_all(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n{{{").await.unwrap();
    let mut bytes = [0; 1_024];
    let length = socket.read(&mut bytes).await.unwrap();
    let answer = String::from_utf8_lossy(&bytes[..length]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    assert!(answer.contains("retry_after_ms") && answer.contains("limits.requests"), "{answer}");
}

#[tokio::test]
async fn what_is_no_http_of_ours_is_refused_and_nobody_else_notices() {
    let server = Server::start().await;
    let long =
        [&b"GET / HTTP/1.1\r\nHost: x\r\nX: "[..], &vec![b'a'; 100_000], b"\r\n\r\n"].concat();
    for (bytes, answer) in [
        (&b"\0\x01\x02hello\r\n\r\n"[..], "HTTP/1.1 400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", ""),
        (
            b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nabcde",
            "HTTP/1.1 400",
        ),
        (&long, "HTTP/1.1 431"),
    ] {
        let mut socket = connect(&server).await;
        let _ = socket.write_all(bytes).await;
        let said = rest(socket).await;
        assert!(said.starts_with(answer), "{said}");
        assert!(!said.starts_with("HTTP/1.1 2"), "{said}");
    }
    assert!(ask(&mut connect(&server).await).await.starts_with("HTTP/1.1 200"));
}
