//! Calls that have moved: who is shown by LiveKit carries them on, and what becomes of them when it goes.

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode, Uri, header::CONTENT_TYPE},
    response::IntoResponse as _,
};
use causeway_protocol::api::{CallState, CallTopology};
use causeway_server::TokenHash;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Five, livekit::Sfu, talkers::Talker};
use crate::{
    admin::served,
    calls::{ask, listening},
    harness::{Person, Server, Stream},
};

/// A call of five that everybody is ready to move.
async fn dual(server: &Server) -> (Five, Vec<Talker>) {
    let five = Five::call(server).await;
    five.fifth_joins(server).await;
    let talkers = five.all_talk(server).await;
    server.pass_ms(500);
    server.app.tick_rooms().await.unwrap();
    let state = five.state(server).await;
    assert_eq!((state.topology, state.epoch), (CallTopology::Dual, 2));
    (five, talkers)
}

/// One that LiveKit carries.
async fn moved(server: &Server) -> (Five, Vec<Talker>) {
    let (five, talkers) = dual(server).await;
    server.pass_ms(2_000);
    server.app.tick_calls().await.unwrap();
    let state = five.state(server).await;
    assert_eq!((state.topology, state.epoch), (CallTopology::Sfu, 3));
    (five, talkers)
}

/// Until nobody is taken for lost, as all are after a start until their streams are known to be open.
async fn all_are_back(server: &Server, five: &Five) {
    loop {
        server.app.tick_calls().await.unwrap();
        if five.state(server).await.natives().all(|it| !it.lost) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// So much later, seen by both.
async fn later(server: &Server, ms: u64) {
    // Who was taken for lost until his stream was open is back before that.
    server.app.tick_calls().await.unwrap();
    server.pass_ms(ms);
    server.app.tick_rooms().await.unwrap();
    server.app.tick_calls().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn livekit_killed_while_both_carry_the_call_costs_only_who_came_last() {
    let mut livekit = Sfu::start().await;
    let server = Server::start_with(|config| config.livekit = Some(livekit.config())).await;
    let (five, _talkers) = dual(&server).await;
    livekit.server.kill().await;
    later(&server, 500).await;
    let after = five.state(&server).await;
    assert_eq!((after.topology, after.participants.len()), (CallTopology::Mesh, 4));
    assert_eq!(after.out[0].why, "sfu_unavailable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn livekit_killed_under_five_is_waited_for_and_under_four_left() {
    let mut livekit = Sfu::start().await;
    let server = Server::start_with(|config| config.livekit = Some(livekit.config())).await;
    let (five, _talkers) = moved(&server).await;
    let other = Server::start_with(|config| config.livekit = Some(livekit.config())).await;
    let (four, _others) = moved(&other).await;
    ask(&other, four.fifth(), &four.group, (four.call, "leave"), json!({})).await.ok::<CallState>();
    assert_eq!(four.state(&other).await.topology, CallTopology::Sfu);
    livekit.server.kill().await;
    for (server, call) in [(&server, &five), (&other, &four)] {
        later(server, 2_000).await;
        assert_eq!(call.state(server).await.topology, CallTopology::Sfu);
        later(server, 30_000).await;
    }
    assert_eq!(five.state(&server).await.topology, CallTopology::Reconnecting);
    let left = four.state(&other).await;
    assert_eq!((left.topology, left.participants.len()), (CallTopology::Mesh, 4));
    later(&server, 60_000).await;
    let over = five.state(&server).await;
    assert_eq!(over.reason.as_deref(), Some("media_server_lost"));
    // Nothing waits for a room of theirs, once LiveKit is back.
    livekit.server.restart().await.unwrap();
    for server in [&server, &other] {
        later(server, 2_000).await;
        livekit.until_rooms(server, &[]).await;
        assert!(server.rows().await.iter().all(|row| !row.starts_with("call_rooms")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_started_again_goes_on_with_a_call_that_moved() {
    let livekit = Sfu::start().await;
    let server = Server::start_with(|config| config.livekit = Some(livekit.config())).await;
    let (five, _talkers) = dual(&server).await;
    let (folder, clock) = (server.folder(), server.clock());
    server.stop().await;
    let config = livekit.config();
    let server = Server::start_in(folder, clock, |it| it.livekit = Some(config)).await;
    let [alice, bob, carol, dave, erin] = &five.people;
    let _streams = listening(&server, [alice, bob, carol, dave, erin]).await;
    all_are_back(&server, &five).await;
    later(&server, 2_000).await;
    let state = five.state(&server).await;
    assert_eq!((state.topology, state.epoch), (CallTopology::Sfu, 3));
    assert_eq!(livekit.people(&five.room()).await.len(), 5);
    let (folder, clock) = (server.folder(), server.clock());
    server.stop().await;
    let config = livekit.config();
    let server = Server::start_in(folder, clock, |it| it.livekit = Some(config)).await;
    let _streams = listening(&server, [alice, bob, carol, dave, erin]).await;
    all_are_back(&server, &five).await;
    // Nobody is missed, however long it goes on.
    for _ in 0..10 {
        later(&server, 5_000).await;
    }
    let state = five.state(&server).await;
    assert_eq!((state.topology, state.epoch, state.participants.len()), (CallTopology::Sfu, 3, 5));
}

/// Stops it, and starts it on what it has; all open their streams again.
async fn started_again(server: Server, livekit: &Sfu, people: &[&Person]) -> (Server, Vec<Stream>) {
    let (folder, clock) = (server.folder(), server.clock());
    server.stop().await;
    let config = livekit.config();
    let server = Server::start_in(folder, clock, |it| it.livekit = Some(config)).await;
    let mut streams = Vec::new();
    for who in people {
        let mut stream = who.stream(&server).await;
        stream.hello().await;
        streams.push(stream);
    }
    (server, streams)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_started_again_while_it_waits_for_livekit_goes_on_to_wait_and_to_end() {
    let mut livekit = Sfu::start().await;
    let server = Server::start_with(|config| config.livekit = Some(livekit.config())).await;
    let (five, _talkers) = moved(&server).await;
    let people: Vec<_> = five.people.iter().collect();
    livekit.server.kill().await;
    later(&server, 2_000).await;
    later(&server, 30_000).await;
    let before = five.state(&server).await;
    assert_eq!(before.topology, CallTopology::Reconnecting);
    let (server, _streams) = started_again(server, &livekit, &people).await;
    let after = five.state(&server).await;
    assert_eq!((after.topology, after.epoch), (CallTopology::Reconnecting, before.epoch));
    assert_eq!(after.deadline_ms, before.deadline_ms, "it does not wait longer for that");
    // LiveKit comes back: so does the call, with everybody.
    livekit.server.restart().await.unwrap();
    later(&server, 2_000).await;
    let back = five.state(&server).await;
    assert_eq!((back.topology, back.participants.len()), (CallTopology::Sfu, 5));
    livekit.until_rooms(&server, &[five.room()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_started_again_on_the_way_back_to_the_mesh_goes_on_with_that() {
    let livekit = Sfu::start().await;
    let server = Server::start_with(|config| config.livekit = Some(livekit.config())).await;
    let (five, _talkers) = moved(&server).await;
    let people: Vec<_> = five.people.iter().take(3).collect();
    for who in &five.people[3..] {
        ask(&server, who, &five.group, (five.call, "leave"), json!({})).await.ok::<CallState>();
    }
    // LiveKit shows who is left; nobody came or went for long.
    later(&server, 500).await;
    for _ in 0..25 {
        later(&server, 5_000).await;
    }
    let shrinks = five.state(&server).await;
    assert_eq!((shrinks.topology, shrinks.participants.len()), (CallTopology::Shrink, 3));
    let (server, _streams) = started_again(server, &livekit, &people).await;
    let after = five.state(&server).await;
    assert_eq!((after.topology, after.epoch), (CallTopology::Shrink, shrinks.epoch));
    for who in &people {
        let others = people.iter().filter(|it| it.device() != who.device());
        let connected: Vec<_> = others.map(|it| it.device()).collect();
        let body = json!({
            "epoch": after.epoch, "connected": connected, "ready": {"published": true},
        });
        let said = ask(&server, who, &five.group, (five.call, "report"), body).await;
        said.ok::<CallState>();
    }
    later(&server, 2_000).await;
    let state = five.state(&server).await;
    assert_eq!((state.topology, state.participants.len()), (CallTopology::Mesh, 3));
    // The room stays for 5 s, for who is still on his way.
    later(&server, 6_000).await;
    livekit.until_rooms(&server, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_mutes_takes_out_and_moves() {
    let livekit = Sfu::start().await;
    let server = Server::start_with(|config| config.livekit = Some(livekit.config())).await;
    let (five, mut talkers) = moved(&server).await;
    let admin = causeway_server::admin::behind_token(server.app.admin(), TokenHash::of("right"));
    let (_serving, base) = served(admin).await;
    let send = async |path: String| {
        let url = format!("{base}/calls/{}/{path}", five.call);
        let answer = server.http.request(Method::POST, url).bearer_auth("right").send();
        let answer = answer.await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap_or_default())
    };
    let (fifth, other) = (five.fifth().device(), five.other.device());
    assert_eq!(livekit.muted(&five.room()).await, 0);
    assert_eq!(send(format!("mute?device={fifth}")).await.0, 204);
    assert_eq!(livekit.muted(&five.room()).await, 1);
    // All know it, and his client holds to it.
    let state = five.state(&server).await;
    let muted = state.natives().filter(|it| it.muted).map(|it| it.device);
    assert_eq!(muted.collect::<Vec<_>>(), [fifth]);
    for what in ["mute", "kick"] {
        assert_eq!(send(format!("{what}?device={other}")).await.0, 404, "{what}");
    }
    // Five are too many for a mesh.
    let (status, why) = send("move?to=mesh".to_owned()).await;
    assert_eq!(status, 409, "{why}");
    assert_eq!(send("move?to=moon".to_owned()).await.0, 400);
    assert_eq!(send(format!("kick?device={fifth}")).await.0, 204);
    talkers[4].is_put_out().await;
    let state = five.state(&server).await;
    assert_eq!((state.participants.len(), state.out[0].why.as_str()), (4, "kicked"));
    assert_eq!(send("move?to=mesh".to_owned()).await.0, 204);
    assert_eq!(five.state(&server).await.topology, CallTopology::Shrink);
    assert_eq!(send("move?to=sfu".to_owned()).await.0, 204);
    assert_eq!(five.state(&server).await.topology, CallTopology::Sfu);
    assert_eq!(send("end".to_owned()).await.0, 204);
    assert_eq!(send("move?to=sfu".to_owned()).await.0, 409);
}

/// A way to a LiveKit on which the answers to this are empty.
async fn emptied(livekit: &Sfu, what: &'static str) -> (JoinSet<()>, String) {
    let upstream = livekit.config().api_url;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let pass = move |uri: Uri, headers: HeaderMap, body: Bytes| {
        let asked = http.post(format!("{upstream}{}", uri.path())).body(body);
        let head = ["authorization", "content-type"].into_iter();
        let head = head.filter_map(|key| Some((key, headers.get(key)?.clone())));
        let asked = head.fold(asked, |asked, (key, value)| asked.header(key, value));
        async move {
            let kind = [(CONTENT_TYPE, "application/protobuf")];
            if uri.path().ends_with(what) {
                return (StatusCode::OK, kind, Bytes::new()).into_response();
            }
            let answer = asked.send().await.unwrap();
            (answer.status(), kind, answer.bytes().await.unwrap()).into_response()
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut serving = JoinSet::new();
    let router = Router::new().fallback(pass);
    serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (serving, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_livekits_library_panics_at_ends_no_call() {
    let livekit = Sfu::start().await;
    // It takes for granted that the track comes with the answer.
    let (_serving, api_url) = emptied(&livekit, "/MutePublishedTrack").await;
    let config = causeway_server::LiveKit { api_url, ..livekit.config() };
    let server = Server::start_with(|it| it.livekit = Some(config)).await;
    let (five, _talkers) = moved(&server).await;
    let whom = json!({ "device": five.fifth().device() });
    let muted = ask(&server, &five.people[0], &five.group, (five.call, "mute"), whom).await;
    muted.refused(503, "DEV_CAUSEWAY_SFU_UNAVAILABLE");
    for _ in 0..2 {
        later(&server, 2_000).await;
    }
    let state = five.state(&server).await;
    assert_eq!((state.topology, state.participants.len()), (CallTopology::Sfu, 5));
    assert_eq!(server.app.livekit_away(), None);
}
