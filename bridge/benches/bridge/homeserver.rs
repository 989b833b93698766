//! As little of a homeserver as the bridge can be run against.

use std::{
    env,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{OriginalUri, State},
    http::{Method, StatusCode},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};
use tokio::sync::watch;

#[derive(Default)]
struct Homeserver {
    sent: watch::Sender<usize>,
    rooms: Mutex<Vec<String>>,
}

/// Serves until it is killed; says its port on standard output.
pub(super) fn serve() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(answer).with_state(Arc::new(Homeserver::default()));
        axum::serve(listener, app).await.unwrap();
    });
}

async fn answer(
    State(own): State<Arc<Homeserver>>,
    method: Method,
    OriginalUri(uri): OriginalUri,
) -> Response {
    let path = uri.path().to_owned();
    let user = uri.query().unwrap_or_default().split('&').find_map(|q| q.strip_prefix("user_id="));
    if path.contains("/send/") {
        let mut n = 0;
        own.sent.send_modify(|sent| {
            *sent += 1;
            n = *sent;
        });
        return Json(json!({"event_id": format!("$sent{n}")})).into_response();
    }
    if let Some((room, event)) =
        path.split_once("/rooms/").and_then(|(_, of)| of.split_once("/event/"))
    {
        // It has whatever it said.
        return Json(
            json!({"type": "m.room.message", "room_id": decoded(room), "sender": "@x:b.example",
            "event_id": decoded(event), "origin_server_ts": 1, "content": {}}),
        )
        .into_response();
    }
    let value = match path.rsplit('/').next().unwrap_or_default() {
        "versions" => json!({"versions": ["v1.17"]}),
        "whoami" => json!({"user_id": whoami(user)}),
        "ping" => {
            ping_back().await;
            json!({"duration_ms": 1})
        }
        "createRoom" => {
            let mut rooms = own.rooms.lock().unwrap();
            let room = format!("!room{}:b.example", rooms.len());
            rooms.push(room.clone());
            json!({"room_id": room})
        }
        "state" => {
            let bot = whoami(user);
            let content = json!({"membership": "join"});
            json!([{"type": "m.room.member", "state_key": bot, "sender": bot, "event_id": "$joined",
                "origin_server_ts": 1, "content": content}])
        }
        "messages" => json!({"chunk": []}),
        "sync" => {
            // Nothing comes; a homeserver that answered at once would be asked again at once.
            let wait = uri.query().and_then(|query| {
                query.split('&').find_map(|q| q.strip_prefix("timeout=")?.parse().ok())
            });
            tokio::time::sleep(Duration::from_millis(wait.unwrap_or(0))).await;
            json!({"next_batch": "s"})
        }
        "count" => {
            let goal = uri.query().and_then(|goal| goal.parse().ok()).unwrap_or(0);
            let sent = *own.sent.subscribe().wait_for(|sent| *sent >= goal).await.unwrap();
            json!({"sent": sent, "rooms": own.rooms.lock().unwrap().len()})
        }
        _ if method == Method::GET => {
            return (StatusCode::NOT_FOUND, Json(json!({"errcode": "M_NOT_FOUND"})))
                .into_response();
        }
        _ => json!({"room_id": "!room0:b.example", "user_id": "@x:b.example", "event_id": "$x"}),
    };
    Json(value).into_response()
}

/// What stood in a path, as far as ids have it.
fn decoded(text: &str) -> String {
    [("%40", "@"), ("%3A", ":"), ("%21", "!"), ("%24", "$")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn whoami(user: Option<&str>) -> String {
    let bot = || format!("@{}:b.example", env::var("SENDER_LOCALPART").unwrap());
    user.map_or_else(bot, decoded)
}

async fn ping_back() {
    let url = format!("{}/_matrix/app/v1/ping", env::var("BRIDGE_URL").unwrap());
    let body: Value = json!({});
    let token = env::var("HS_TOKEN").unwrap();
    let _ = reqwest::Client::new().post(url).bearer_auth(token).json(&body).send().await;
}
