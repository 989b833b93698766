//! The agent beside others that do not do as they are asked.

use std::sync::Arc;

use axum::{Json, Router, extract::State, http::Uri};
use causeway_bridge::{
    domain::ghost::Names,
    gateway::{door::Door, matrix::Matrix},
    health::Troubles,
    secret::Secret,
    services::agent::{self, Agent, EMPTY_EVERY},
    steps::Steps,
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::watch::Sender,
    time::{Instant, timeout},
};

use crate::{harness::database, people::PATIENCE};

/// Requests to the homeserver for what came, and to the door for what leaves.
type Asked = Arc<Sender<[u32; 2]>>;

async fn nothing(State(asked): State<Asked>, uri: Uri) -> Json<Value> {
    let (syncs, frames) = (uri.path().ends_with("/sync"), uri.path().ends_with("/frames"));
    asked.send_modify(|asked| {
        asked[0] += u32::from(syncs);
        asked[1] += u32::from(frames);
    });
    Json(json!({"next_batch": "s1", "frames": []}))
}

#[tokio::test]
async fn who_answers_at_once_with_nothing_is_not_asked_again_at_once() {
    let asked = Asked::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(nothing).with_state(Arc::clone(&asked));
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent {
        db: database(folder.path()).await,
        matrix: Matrix::new(&url, Secret::new("token")).unwrap(),
        door: Door::new(&url, Secret::new("token")).unwrap(),
        names: Names::new("b.example").unwrap(),
        troubles: Troubles::default(),
        steps: Steps::default(),
    };
    let began = Instant::now();
    let enough = async {
        let mut seen = asked.subscribe();
        // The first look at what came waits for nothing.
        seen.wait_for(|asked| asked[0] >= 4 && asked[1] >= 3).await.unwrap();
    };
    let all = async {
        tokio::select! {
            () = agent::run(&agent, enough) => {}
            served = async { axum::serve(listener, app).await } => served.unwrap(),
        }
    };
    timeout(PATIENCE, all).await.unwrap();
    let most = began.elapsed().as_millis() / EMPTY_EVERY.as_millis() + 2;
    let asked = *asked.borrow();
    assert!(asked.iter().all(|asked| u128::from(*asked) <= most), "{asked:?}, more than {most}");
}
