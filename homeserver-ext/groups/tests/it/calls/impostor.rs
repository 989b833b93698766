//! Servers that are no LiveKit, or one that means harm: each is given up in time, and the mesh
//! beside it goes on.

use causeway_groups::calls::{Access, Happened, Input, Over, Served, Whose};
use futures_util::{SinkExt as _, StreamExt as _};
use livekit_protocol::{
    IceServer, JoinResponse, LeaveRequest, ParticipantInfo, ParticipantUpdate, SessionDescription,
    SignalResponse, TrickleRequest, signal_response::Message as Response,
};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use super::room::Room;

type Socket = WebSocketStream<TcpStream>;

/// What one says to whoever connects, to the first time, and to the later ones.
type Says = fn(usize) -> Vec<Message>;

fn said(message: Response) -> Message {
    Message::binary(SignalResponse { message: Some(message) }.encode_to_vec())
}

fn join() -> JoinResponse {
    JoinResponse { ping_interval: 1, ping_timeout: 2, ..Default::default() }
}

fn joined(then: Vec<Message>) -> Vec<Message> {
    std::iter::once(said(Response::Join(join()))).chain(then).collect()
}

fn offer(sdp: String) -> Message {
    said(Response::Offer(SessionDescription { r#type: "offer".into(), sdp, ..Default::default() }))
}

/// A server that says that, to each, and then nothing, until the other closes.
async fn impostor(says: Says) -> (Access, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut lines = JoinSet::new();
        let mut times = 0;
        while let Ok((stream, _)) = listener.accept().await {
            let time = times;
            times += 1;
            lines.spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                say(&mut socket, says(time)).await;
            });
        }
    });
    let token = "none".to_owned().into();
    (Access { url, token, whose: Whose::Home, is_sealed: true, speaks: true }, tasks)
}

async fn say(socket: &mut Socket, all: Vec<Message>) {
    for message in all {
        if socket.send(message).await.is_err() {
            return;
        }
    }
    while let Some(Ok(_)) = socket.next().await {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_no_livekit_is_given_up_and_the_mesh_goes_on() {
    let mut room = Room::default();
    for n in 0..2 {
        room.join(n).await;
    }
    room.name_all(1).await;
    room.until_all_hear(&[0, 1], 2).await;
    let cases: [(&str, Says, Over); 9] = [
        ("what is no message", |_| vec![Message::binary(vec![0xff; 100])], Over::Unreachable),
        ("text", |_| vec![Message::text("hello"), Message::Close(None)], Over::Unreachable),
        ("too much", |_| vec![Message::binary(vec![0; 3 << 20])], Over::Unreachable),
        (
            "another first answer",
            |_| vec![said(Response::Reconnect(livekit_protocol::ReconnectResponse::default()))],
            Over::NotUnderstood,
        ),
        (
            "goodbye at once",
            |_| vec![said(Response::Leave(LeaveRequest { reason: 4, ..Default::default() }))],
            Over::Removed,
        ),
        ("an offer of nothing", |_| joined(vec![offer(String::new())]), Over::NotUnderstood),
        (
            "an offer without end",
            |_| joined(vec![offer(format!("v=0\r\n{}", "a=x\r\n".repeat(200_000)))]),
            Over::NotUnderstood,
        ),
        (
            "keys without DTLS",
            |_| {
                joined(vec![offer("v=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n".into())])
            },
            Over::NotUnderstood,
        ),
        ("many of everything, then goodbye", many, Over::Ended),
    ];
    for (what, says, why) in cases {
        let (access, _serving) = impostor(says).await;
        room.happened.clear();
        room.tell(0, Input::Server(Some(access.into()))).await;
        let over = Happened::Served(Served::Over(why));
        room.until(&format!("{what}: {why}"), |room| room.has(0, &over)).await;
    }
    room.until_all_hear(&[0, 1], 3).await;
    for n in 0..2 {
        let broken = |(at, what): &(u8, Happened)| *at == n && matches!(what, Happened::Broken(_));
        assert!(!room.happened.iter().any(broken));
    }
}

/// Names, candidates and servers, more of each than anybody has.
fn many(_: usize) -> Vec<Message> {
    let info = |n: usize| ParticipantInfo {
        sid: format!("PA_{n}"),
        identity: "x".repeat(n % 600),
        ..Default::default()
    };
    let urls = vec!["stun:127.0.0.1:9".to_owned(); 100];
    let join = JoinResponse {
        other_participants: (0..2_000).map(info).collect(),
        ice_servers: vec![IceServer { urls, ..Default::default() }; 100],
        ..join()
    };
    let trickle = |n: usize| {
        let candidate = format!("candidate:{n} 1 udp 1 192.0.2.7 9 typ host");
        let candidate_init = serde_json::json!({"candidate": candidate}).to_string();
        said(Response::Trickle(TrickleRequest { candidate_init, target: 1, r#final: false }))
    };
    let update = ParticipantUpdate { participants: (0..2_000).map(info).collect() };
    let mut all = vec![said(Response::Join(join)), said(Response::Update(update))];
    all.extend((0..2_000).map(trickle));
    all.push(said(Response::Leave(LeaveRequest::default())));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_an_end_and_a_line_that_falls_at_once_is_not_made_for_ever() {
    let mut room = Room::default();
    room.join(0).await;
    let silent = impostor(|_| joined(Vec::new())).await;
    room.tell(0, Input::Server(Some(silent.0.into()))).await;
    // After two seconds; then its first answer to a resume is another join.
    room.until("it is missed", |room| room.has(0, &Happened::Served(Served::Cut))).await;
    let over = |why| Happened::Served(Served::Over(why));
    room.until("it is over", |room| room.has(0, &over(Over::NotUnderstood))).await;

    room.happened.clear();
    let falls = impostor(|time| {
        let again = said(Response::Reconnect(livekit_protocol::ReconnectResponse::default()));
        let first = if time == 0 { said(Response::Join(join())) } else { again };
        vec![first, said(Response::Leave(LeaveRequest { action: 1, ..Default::default() }))]
    })
    .await;
    room.tell(0, Input::Server(Some(falls.0.into()))).await;
    room.until("it is over", |room| room.has(0, &over(Over::Unreachable))).await;
    let resumed = |(_, what): &&(u8, Happened)| *what == Happened::Served(Served::Resumed);
    assert_eq!(room.happened.iter().filter(resumed).count(), 5);
}

/// What answers with neither yes nor no, or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_answer_is_not_waited_for() {
    let mut room = Room::default();
    room.join(0).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let access = |url| Access {
        url,
        token: "a".to_owned().into(),
        whose: Whose::Home,
        is_sealed: true,
        speaks: true,
    };
    let over = Happened::Served(Served::Over(Over::Unreachable));
    room.tell(0, Input::Server(Some(access(url.clone()).into()))).await;
    room.until("it is given up", |room| room.has(0, &over)).await;
    room.happened.clear();
    room.tell(0, Input::Server(Some(access(url).into()))).await;
    // The first was never taken; it is this one's turn after it.
    drop(listener.accept().await);
    let (mut stream, _) = listener.accept().await.unwrap();
    assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes").await.unwrap();
    let refused = Happened::Served(Served::Over(Over::Refused(200)));
    room.until("it is refused", |room| room.has(0, &refused)).await;
}
