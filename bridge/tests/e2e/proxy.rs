//! What stands between two parts of a story, and does to what passes what networks and homeservers do.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderValue, StatusCode},
    response::Response,
    serve::Listener,
};
use causeway_bridge::{demo::synapse::Synapse, domain::relay_room::MESSAGE};
use reqwest::Method;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

const MAX_BODY: usize = 4 << 20;
/// What agents say over the link.
const TO_DEVICE: &str = "/sendToDevice/dev.causeway.relay/";
/// What a homeserver tells its application service.
const TRANSACTIONS: &str = "/_matrix/app/v1/transactions/";
/// What a homeserver tells another.
const FEDERATION: &str = "/_matrix/federation/v1/send/";

/// One such place.
pub(crate) struct Proxy {
    upstream: String,
    http: reqwest::Client,
    /// What a bad day harms: requests whose path has this in it.
    harms: &'static str,
    /// Nothing of the agents passes.
    is_cut: AtomicBool,
    /// Of ten of those requests one is lost, one comes twice, and one after the next.
    is_bad: AtomicBool,
    /// Events of relay rooms are not shown to the agent.
    keeps: AtomicBool,
    /// Nor posted for it, though it is told that they were.
    swallows: AtomicBool,
    kept: AtomicU64,
    sent: AtomicU64,
    harmed: AtomicU64,
    held: Mutex<Option<Passing>>,
}

#[derive(Clone)]
struct Passing {
    method: Method,
    path: String,
    token: Option<HeaderValue>,
    body: Bytes,
}

impl Proxy {
    fn new(upstream: String, harms: &'static str) -> Arc<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Arc::new(Self {
            upstream,
            http: reqwest::Client::new(),
            harms,
            is_cut: AtomicBool::new(false),
            is_bad: AtomicBool::new(false),
            keeps: AtomicBool::new(false),
            swallows: AtomicBool::new(false),
            kept: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            harmed: AtomicU64::new(0),
            held: Mutex::new(None),
        })
    }

    /// Serves between a Causeway and its homeserver, which is there; at which address.
    pub(crate) async fn start(upstream: String) -> (Arc<Self>, String) {
        Self::new(upstream, TO_DEVICE).listen().await
    }

    /// Likewise between a homeserver and its Causeway, which is there.
    pub(crate) async fn of_transactions(upstream: String) -> (Arc<Self>, String) {
        Self::new(upstream, TRANSACTIONS).listen().await
    }

    /// Serves where others reach a homeserver that stopped, and that will listen for them without TLS there.
    pub(crate) async fn of_federation(upstream: String, synapse: &Synapse) -> Arc<Self> {
        let proxy = Self::new(upstream, FEDERATION);
        let (_, port) = synapse.server_name().rsplit_once(':').unwrap();
        let place = format!("127.0.0.1:{port}");
        let tcp = TcpListener::bind(place).await.unwrap();
        let certificates = synapse.dir().parent().unwrap().join("tls");
        let certificate = CertificateDer::from_pem_file(certificates.join("tls.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(certificates.join("tls.key")).unwrap();
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Arc::clone(&proxy).serve(Tls { tcp, acceptor });
        proxy
    }

    async fn listen(self: Arc<Self>) -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Arc::clone(&self).serve(listener);
        (self, url)
    }

    #[expect(clippy::disallowed_methods, reason = "a server beside the test")]
    fn serve<L: Listener<Addr = SocketAddr>>(self: Arc<Self>, listener: L) {
        let app = Router::new().fallback(carry).with_state(self);
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    }

    /// Whether nothing of the agents passes from now on.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
    }

    /// Whether it is a bad day from now on.
    pub(crate) fn harm(&self, is_bad: bool) {
        self.is_bad.store(is_bad, Ordering::SeqCst);
    }

    /// Whether events of relay rooms are kept from the agent from now on.
    pub(crate) fn keep(&self, keeps: bool) {
        self.keeps.store(keeps, Ordering::SeqCst);
    }

    /// Whether what it posts there is swallowed from now on.
    pub(crate) fn swallow(&self, swallows: bool) {
        self.swallows.store(swallows, Ordering::SeqCst);
    }

    /// Events of relay rooms that were kept from the agent, or swallowed.
    pub(crate) fn kept(&self) -> u64 {
        self.kept.load(Ordering::SeqCst)
    }

    async fn pass(&self, what: Passing) -> Response {
        let url = format!("{}{}", self.upstream, what.path);
        let mut request = self.http.request(what.method, url).body(what.body);
        request = request.header("content-type", "application/json");
        if let Some(token) = what.token {
            request = request.header("authorization", token);
        }
        let Ok(answer) = request.send().await else { return answer_of(StatusCode::BAD_GATEWAY) };
        let status = answer.status();
        let Ok(body) = answer.bytes().await else { return answer_of(StatusCode::BAD_GATEWAY) };
        let body = if what.path.contains("/v3/sync") { self.shown(body) } else { body };
        let response =
            Response::builder().status(status).header("content-type", "application/json");
        response.body(Body::from(body)).unwrap()
    }

    /// What the agent is shown of a `/sync`.
    fn shown(&self, body: Bytes) -> Bytes {
        if !self.keeps.load(Ordering::SeqCst) {
            return body;
        }
        let Ok(mut synced) = serde_json::from_slice::<Value>(&body) else { return body };
        let rooms = synced.pointer_mut("/rooms/join").and_then(Value::as_object_mut);
        for room in rooms.into_iter().flat_map(|rooms| rooms.values_mut()) {
            let Some(events) = room.pointer_mut("/timeline/events").and_then(Value::as_array_mut)
            else {
                continue;
            };
            let before = events.len();
            events.retain(|event| event["type"] != MESSAGE);
            self.kept.fetch_add((before - events.len()) as u64, Ordering::SeqCst);
        }
        Bytes::from(synced.to_string())
    }

    /// One that a bad day harms.
    async fn pass_badly(&self, what: Passing) -> Response {
        match self.sent.fetch_add(1, Ordering::SeqCst) % 10 {
            2 => {
                self.harmed.fetch_add(1, Ordering::SeqCst);
                answer_of(StatusCode::OK)
            }
            5 => {
                self.harmed.fetch_add(1, Ordering::SeqCst);
                let mut again = what.clone();
                if self.harms == TO_DEVICE {
                    // Under the same name a homeserver would not take it twice.
                    again.path.push_str("twice");
                }
                let _ = self.pass(again).await;
                self.pass(what).await
            }
            8 => {
                self.harmed.fetch_add(1, Ordering::SeqCst);
                *lock(&self.held) = Some(what);
                answer_of(StatusCode::OK)
            }
            _ => {
                let answer = self.pass(what).await;
                let held = lock(&self.held).take();
                if let Some(held) = held {
                    let _ = self.pass(held).await;
                }
                answer
            }
        }
    }
}

/// How many requests were harmed, and of how many.
pub(crate) fn harmed_of(proxies: &[Arc<Proxy>]) -> [u64; 2] {
    let sum = |of: fn(&Proxy) -> &AtomicU64| {
        proxies.iter().map(|proxy| of(proxy).load(Ordering::SeqCst)).sum()
    };
    [sum(|proxy| &proxy.harmed), sum(|proxy| &proxy.sent)]
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer_of(status: StatusCode) -> Response {
    answer(status, "{}")
}

fn answer(status: StatusCode, body: &'static str) -> Response {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Body::from(body)).unwrap()
}

async fn carry(State(proxy): State<Arc<Proxy>>, request: Request) -> Response {
    let path = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
    let method = request.method().clone();
    let token = request.headers().get("authorization").cloned();
    let Ok(body) = to_bytes(request.into_body(), MAX_BODY).await else {
        return answer_of(StatusCode::BAD_REQUEST);
    };
    let is_agents = path.contains(TO_DEVICE) || path.contains("/v3/sync");
    if is_agents && proxy.is_cut.load(Ordering::SeqCst) {
        return answer_of(StatusCode::BAD_GATEWAY);
    }
    if path.contains(&format!("/send/{MESSAGE}/")) && proxy.swallows.load(Ordering::SeqCst) {
        proxy.kept.fetch_add(1, Ordering::SeqCst);
        return answer(StatusCode::OK, r#"{"event_id":"$swallowed"}"#);
    }
    let is_harmed = path.contains(proxy.harms) && proxy.is_bad.load(Ordering::SeqCst);
    let what = Passing { method, path, token, body };
    if is_harmed { proxy.pass_badly(what).await } else { proxy.pass(what).await }
}

/// A port with TLS.
struct Tls {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((peer, address)) = self.tcp.accept().await else { continue };
            // Whoever is killed in the middle of it comes again.
            if let Ok(stream) = self.acceptor.accept(peer).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}
