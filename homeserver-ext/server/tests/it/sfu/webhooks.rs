//! What LiveKit tells of its own accord, as it sent it, and as others would like to.

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use causeway_livekit::Settings;
use livekit_api::access_token::{AccessToken, VideoGrants};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{
    Five, let_in,
    livekit::{Connected, Sfu},
};
use crate::harness::Server;

/// What LiveKit sent: what it was signed with, and the body.
type Sent = (String, Bytes);

async fn take(State(told): State<mpsc::UnboundedSender<Sent>>, head: HeaderMap, body: Bytes) {
    let signed = head["authorization"].to_str().unwrap().to_owned();
    told.send((signed, body)).unwrap();
}

/// Somebody to whom LiveKit tells everything.
async fn recorder() -> (tokio::task::JoinSet<()>, String, mpsc::UnboundedReceiver<Sent>) {
    let (told, sent) = mpsc::unbounded_channel();
    let router = Router::new().route("/", post(take)).with_state(told);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (serving, url, sent)
}

/// Has the server told, and what it answers.
async fn tell(server: &Server, signed: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
    let url = format!("{}/livekit/jwt/sfu_webhook", server.base);
    let request = server.http.post(url).header("authorization", signed).body(body);
    let answer = request.header("content-type", "application/webhook+json").send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn livekit_is_believed_once_and_nobody_else_at_all() {
    let (_serving, webhook, mut sent) = recorder().await;
    let livekit = Sfu::start_with(Settings { webhook: Some(webhook), ..Settings::default() }).await;
    let server = Server::start_with(|config| config.livekit = Some(livekit.config())).await;
    let five = Five::call(&server).await;
    five.fifth_joins(&server).await;
    let sfu = let_in(&server, five.fifth(), &five.group, (five.call, 1)).await;
    let _inside = Connected::by(&sfu.url, &sfu.jwt).await;
    let stranger = livekit.token(&five.room(), "stranger");
    let mut stranger = Connected::by(&livekit.url(), &stranger).await;
    let (signed, body) = sent.recv().await.unwrap();
    let event: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&event["event"], &event["room"]["name"]),
        (&json!("room_started"), &json!(sfu.room))
    );
    let before = server.rows().await;
    // Changed, unsigned, signed as `Bearer`, by another key, for another body.
    let other = AccessToken::with_api_key(livekit.server.key(), "0".repeat(32).as_str());
    let other = other.with_sha256(&hash(&body)).to_jwt().unwrap();
    let changed =
        String::from_utf8(body.to_vec()).unwrap().replace("room_started", "room_finished");
    for (signed, body) in [
        (signed.as_str(), changed.clone()),
        ("", changed.clone()),
        (&format!("Bearer {signed}"), String::from_utf8(body.to_vec()).unwrap()),
        (other.as_str(), String::from_utf8(body.to_vec()).unwrap()),
        (sfu.jwt.as_str(), String::from_utf8(body.to_vec()).unwrap()),
    ] {
        let (status, said) = tell(&server, signed, body).await;
        assert_eq!((status, &said["errcode"]), (403, &json!("M_FORBIDDEN")), "{said}");
    }
    server.assert_unchanged(&before).await;
    // The hint alone, with no time passed, has the room looked into.
    assert_eq!(tell(&server, &signed, body.clone()).await.0, 200);
    stranger.is_put_out().await;
    let (status, said) = tell(&server, &signed, body).await;
    assert_eq!((status, &said["error"]), (409, &json!("this was said before")));
}

fn hash(body: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(Sha256::digest(body))
}

#[tokio::test]
async fn what_a_later_livekit_says_is_read_for_what_is_known() {
    let livekit = Sfu::start().await;
    let server = Server::start_with(|config| config.livekit = Some(livekit.config())).await;
    let sign = |body: &str| {
        let token = AccessToken::with_api_key(livekit.server.key(), livekit.server.secret());
        let token = token.with_grants(VideoGrants::default()).with_sha256(&hash(body.as_bytes()));
        token.to_jwt().unwrap()
    };
    for (body, status) in [
        (json!({ "event": "from_the_future", "id": "EV_1", "room": { "name": "none" } }), 200),
        (json!({ "id": "EV_2", "participant": { "disconnectReason": "BORED" } }), 200),
        (json!({ "id": "EV_3", "createdAt": "1763640000" }), 200),
        (json!({ "id": "EV_4", "createdAt": 1_763_640_000 }), 200),
        (json!({ "id": "EV_1" }), 409),
        (json!({ "event": "room_started" }), 400),
        (json!({ "id": "x".repeat(257) }), 400),
        (json!({ "id": 5 }), 400),
    ] {
        let body = body.to_string();
        assert_eq!(tell(&server, &sign(&body), body.clone()).await.0, status, "{body}");
    }
    // Somebody who could be anybody sends as much as he likes.
    let large = format!("{{\"id\":\"{}\"}}", "x".repeat(64 << 10));
    assert_eq!(tell(&server, &sign(&large), large.clone()).await.0, 413);
    let plain = Server::start().await;
    assert_eq!(tell(&plain, "", "{}").await.0, 404);
}
