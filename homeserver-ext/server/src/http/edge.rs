//! The edge of a listener: how long a connection may take, how many there may be, and how often an
//! address may ask, before anything of what it sends is looked at.
//!
//! HTTP/1.1 only: whoever wants HTTP/2 or TLS puts a proxy before it, which then speaks HTTP/1.1.

mod door;
mod patience;

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    http::{HeaderValue, StatusCode, header::CONNECTION},
    response::{IntoResponse as _, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{Clock, error::ApiError, guest::client};
use crate::{
    config::Proxies,
    quota::{Buckets, EdgeLimits, Hits, Household},
};
use door::{Door, Place};
use patience::{Busy, Patience, Patient};

/// Longest that the head of a request takes: from when the connection is there, or from its first
/// byte where another came before it.
const HEAD: Duration = Duration::from_secs(10);
/// Longest that a connection says nothing between two requests.
const IDLE: Duration = Duration::from_secs(75);
/// Longest that a request takes, its body included: 35 KiB/s for the largest.
const REQUEST: Duration = Duration::from_mins(2);
/// Longest that nothing of an answer is read, where more of it waits to be written. Streams have a
/// shorter patience of their own.
const READER: Duration = Duration::from_secs(30);
/// Longest that somebody is listened to who is not let in, and is told so.
const OUTSIDE: Duration = Duration::from_secs(2);
/// So many of them at once; further ones are told nothing.
const MOST_OUTSIDE: usize = 32;
/// When whoever was not let in may try again, milliseconds.
const LATER_MS: u64 = 2_000;
/// Most bytes of a head.
const HEAD_BYTES: usize = 64 * 1_024;
/// Before the next look at a listener that takes nobody, for want of descriptors as a rule.
const NOBODY: Duration = Duration::from_millis(200);

/// Who asks, behind the proxies that are believed: an extension of each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asks(pub IpAddr);

/// What stands before a router.
#[derive(Debug)]
pub struct Edge {
    limits: watch::Receiver<EdgeLimits>,
    trusted_proxies: Proxies,
    requests: Buckets<Household>,
    clock: Clock,
    door: Arc<Door>,
    hits: Hits,
}

impl Edge {
    /// The edge of the listener that is called `name` in metrics; what it bears is what `limits` has
    /// at each connection and request.
    pub fn new(
        name: &'static str,
        limits: watch::Receiver<EdgeLimits>,
        trusted_proxies: Proxies,
        clock: Clock,
    ) -> Self {
        let door = Arc::new(Door::new(name, limits.clone()));
        let (requests, hits) = (Buckets::default(), Hits::default());
        Self { limits, trusted_proxies, requests, clock, door, hits }
    }

    /// Notes there who met a limit.
    pub(crate) fn with_hits(self, hits: Hits) -> Self {
        Self { hits, ..self }
    }

    /// Serves `router` on `listener` until `stop`, then ends connections in order. What `connected`
    /// makes of each connection is its [`ConnectInfo`].
    ///
    /// Whoever drops this cuts off what is still served.
    pub async fn serve<C: Clone + Send + Sync + 'static>(
        self,
        listener: TcpListener,
        router: Router,
        connected: impl Fn(SocketAddr) -> C,
        stop: CancellationToken,
    ) {
        let edge = Arc::new(self);
        let mut connections = JoinSet::new();
        let outside = Arc::new(Semaphore::new(MOST_OUTSIDE));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    tracing::warn!(%error, listener = edge.door.name(), "nobody can be let in");
                    sleep(NOBODY).await;
                    continue;
                }
            };
            let is_proxy = edge.trusted_proxies.trusts(peer.ip());
            let place = match Door::enter(&edge.door, peer.ip(), is_proxy) {
                Ok(place) => place,
                Err(limit) => {
                    edge.hits.note(edge.clock.now(), limit, &Household::from(peer.ip()));
                    tracing::debug!(listener = edge.door.name(), %peer, limit, "not let in");
                    if let Ok(place) = Arc::clone(&outside).try_acquire_owned() {
                        connections.spawn(turned_away(socket, limit, place));
                    }
                    while connections.try_join_next().is_some() {}
                    continue;
                }
            };
            if let Err(error) = socket.set_nodelay(true) {
                tracing::debug!(%error, "a socket stays slow");
            }
            let info = ConnectInfo(connected(peer));
            let (edge, router, stop) = (Arc::clone(&edge), router.clone(), stop.clone());
            connections.spawn(edge.connection(socket, place, (peer, info), router, stop));
            while connections.try_join_next().is_some() {}
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    async fn connection<C: Clone + Send + Sync + 'static>(
        self: Arc<Self>,
        socket: TcpStream,
        place: Place,
        (peer, info): (SocketAddr, ConnectInfo<C>),
        router: Router,
        stop: CancellationToken,
    ) {
        let busy = Busy::default();
        let patience = Patience { head: HEAD, reader: READER };
        let socket = Patient::new(socket, place, busy.clone(), patience);
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let (edge, router, info, busy) =
                (Arc::clone(&self), router.clone(), info.clone(), busy.begin());
            async move {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(info);
                let answer = edge.answer(router, peer, request).await;
                let is_other = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
                let busy = if is_other { busy.for_good() } else { busy };
                Ok::<_, Infallible>(answer.map(|body| Body::new(busy.until_sent(body))))
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_header_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(socket), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::trace!(%error, "a connection broke off");
        }
    }

    async fn answer(&self, router: Router, peer: SocketAddr, mut request: Request) -> Response {
        let asks = client(&self.trusted_proxies, request.headers(), peer.ip());
        let quota = self.limits.borrow().requests;
        let taken = self.requests.take_from(self.clock.now(), asks, quota, 1);
        if let Err((household, ms)) = taken {
            self.hits.note(self.clock.now(), "limits.requests", &household);
            let text = "this address asks too often (`limits.requests`)";
            return ApiError::later(text, ms).into_response();
        }
        request.extensions_mut().insert(Asks(asks));
        match timeout(REQUEST, router.oneshot(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => {
                let text = format!("the request took longer than {} s", REQUEST.as_secs());
                let slow = ApiError::new(StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", text);
                let mut response = slow.into_response();
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                response
            }
        }
    }
}

/// Answers whatever is asked that nobody more is let in.
async fn turned_away(socket: TcpStream, limit: &'static str, _place: OwnedSemaphorePermit) {
    let service = service_fn(move |_: hyper::Request<Incoming>| async move {
        let text = format!(
            "so many connections are open that no more are let in for now (`{limit}` of the server)"
        );
        Ok::<_, Infallible>(ApiError::later(text, LATER_MS).into_response())
    });
    let mut told = http1::Builder::new();
    let told = told.keep_alive(false).max_header_size(HEAD_BYTES);
    if let Ok(Err(error)) =
        timeout(OUTSIDE, told.serve_connection(TokioIo::new(socket), service)).await
    {
        tracing::trace!(%error, "a connection broke off");
    }
}

/// Whether only the connection that was to be is lost.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        time::Instant,
    };

    use super::*;

    /// More than fits between the two ends of a connection.
    const MUCH: usize = 32 << 20;

    /// A listener that lets in one of an address, and its door. Its clock stands while anything is
    /// done.
    async fn served() -> (SocketAddr, Arc<Door>, JoinSet<()>) {
        let clock = Clock::new(|| causeway_protocol::ids::Timestamp(1));
        let limits = EdgeLimits { per_address: 1, ..EdgeLimits::default() };
        let limits = watch::Sender::new(limits).subscribe();
        let edge = Edge::new("test", limits, Proxies::default(), clock);
        let door = Arc::clone(&edge.door);
        let router = Router::new().route("/", get(|| async { vec![b'a'; MUCH] }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(edge.serve(listener, router, |peer| peer, CancellationToken::new()));
        (address, door, tasks)
    }

    const ASKED: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    /// Everything until the connection ends, a little of it at a time.
    async fn drain(mut socket: TcpStream) -> usize {
        let (mut all, mut some) = (0, vec![0; 64 << 10]);
        while let Ok(length @ 1..) = socket.read(&mut some).await {
            all += length;
        }
        all
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_nothing_of_what_it_asked_for_is_let_go() {
        let (address, door, _tasks) = served().await;
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(&ASKED.repeat(100)).await.unwrap();
        let is_free = || Door::enter(&door, address.ip(), false).is_ok();
        while is_free() {
            tokio::task::yield_now().await;
        }
        let began = Instant::now();
        while !is_free() {
            sleep(Duration::from_secs(1)).await;
            assert!(began.elapsed() < READER + HEAD, "it is held for ever");
        }
        assert!(began.elapsed() >= READER, "{:?}", began.elapsed());
        drop(socket);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_is_waited_for() {
        let (address, _door, _tasks) = served().await;
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let began = Instant::now();
        let mut some = vec![0; 8 << 20];
        let mut first = 0;
        for _ in 0..3 {
            sleep(READER.mul_f64(0.9)).await;
            first += socket.read_exact(&mut some).await.unwrap();
        }
        assert!(began.elapsed() > READER);
        assert!(first + drain(socket).await >= MUCH);
    }
}
