//! Stands between two servers and notes what passes: when a transaction came by, and how many
//! events were sent.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Instant,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tokio::sync::watch;

use crate::{now, start};

/// Longest body that passes.
const MAX_BYTES: usize = 64 << 20;

/// One direction.
#[derive(Clone)]
pub(crate) struct Tap(Arc<Inner>);

struct Inner {
    client: reqwest::Client,
    target: Mutex<String>,
    pushed: Mutex<HashMap<String, Instant>>,
    sent: watch::Sender<u64>,
}

impl Tap {
    /// Listens, and says where; what comes before [`Self::lead_to`] is lost.
    pub(crate) async fn start() -> (Self, String) {
        let tap = Self(Arc::new(Inner {
            client: reqwest::Client::new(),
            target: Mutex::default(),
            pushed: Mutex::default(),
            sent: watch::channel(0).0,
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let app = Router::new().fallback(pass).with_state(tap.clone());
        start(async move { axum::serve(listener, app).await.expect("serves") });
        (tap, url)
    }

    /// Passes everything on to this server.
    pub(crate) fn lead_to(&self, url: &str) {
        url.clone_into(&mut self.0.target.lock().expect("not poisoned"));
    }

    /// When the transaction with this event came by.
    pub(crate) fn pushed(&self, event: &str) -> Option<Instant> {
        self.0.pushed.lock().expect("not poisoned").get(event).copied()
    }

    /// Events whose `PUT send` was answered with success so far.
    pub(crate) fn sent(&self) -> u64 {
        *self.0.sent.borrow()
    }

    /// Waits until there are `total`.
    pub(crate) async fn until_sent(&self, total: u64) {
        self.0.sent.subscribe().wait_for(|sent| *sent >= total).await.expect("open");
    }

    fn note(&self, body: &[u8]) {
        let now = now();
        let transaction: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut pushed = self.0.pushed.lock().expect("not poisoned");
        for event in transaction["events"].as_array().into_iter().flatten() {
            if let Some(id) = event["event_id"].as_str() {
                pushed.entry(id.to_owned()).or_insert(now);
            }
        }
    }
}

async fn pass(State(tap): State<Tap>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, MAX_BYTES).await.expect("it fits");
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    if path.contains("/transactions/") {
        tap.note(&body);
    }
    let is_send = head.method == Method::PUT && path.contains("/send/");
    let url = format!("{}{path}", tap.0.target.lock().expect("not poisoned"));
    let mut headers = HeaderMap::new();
    for name in [header::AUTHORIZATION, header::CONTENT_TYPE] {
        if let Some(value) = head.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    let request = tap.0.client.request(head.method, url).headers(headers).body(body);
    let Ok(answer) = request.send().await else {
        return axum::http::StatusCode::BAD_GATEWAY.into_response();
    };
    let status = answer.status();
    let body = answer.bytes().await.unwrap_or_default();
    if is_send && status.is_success() {
        tap.0.sent.send_modify(|sent| *sent += 1);
    }
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
