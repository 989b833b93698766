//! LiveKit's signalling: its messages, one in each frame of a WebSocket.
//!
//! All that comes is a stranger's: messages are bounded in size, and silence is an end. Nothing is
//! told about this machine. The handshake is made here, as for the mailbox: the WebSocket library
//! would write the token to its log.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use livekit_protocol::{
    DisconnectReason, Ping, SignalRequest, SignalResponse, signal_request::Message as Request,
    signal_response::Message as Response,
};
use prost::Message as _;
use reqwest::{StatusCode, Upgraded, header};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};

use super::{Access, address};

/// What this client follows: refusals by `RequestResponse`, actions of `Leave`; above it are trailers
/// of packets and negotiated data channels, which it has not.
const PROTOCOL: &str = "16";
/// Bytes of a message: LiveKit's own limit.
const MESSAGE_MAX: usize = 2 << 20;
/// For the connection, and again for the first answer.
const OPENING: Duration = Duration::from_secs(5);
/// What the other side does not take in so long, it does not take.
const SENDING: Duration = Duration::from_secs(5);
const CLOSING: Duration = Duration::from_millis(500);
const BUSY_PING: Duration = Duration::from_secs(1);

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NotOpened {
    /// It may not be connected to.
    Address,
    /// It cannot be reached, or is not what it should be.
    Unreachable,
    /// By HTTP: 401 the token, 404 no such room, 500 the room is full, 503 no room on the server.
    Refused(StatusCode),
    /// It let this device in, and out again.
    Left(DisconnectReason),
}

/// The connection is gone.
#[derive(Debug)]
pub(super) struct Lost;

/// What comes of a connection.
pub(super) enum Came {
    Message(Box<Response>),
    /// [`Wire::ping`] is to be called.
    PingDue,
}

pub(super) struct Wire {
    socket: WebSocketStream<Upgraded>,
    /// How often to ask whether the other is there, and how long it may be silent.
    every: Duration,
    silence: Duration,
    heard: Instant,
    ping_at: Instant,
    began: Instant,
    rtt: i64,
}

impl Wire {
    /// Connects, as a new participant or, with what that one was called, as one that was there; and
    /// what is answered first.
    pub(super) async fn open(
        access: &Access,
        token: &str,
        was: Option<&str>,
    ) -> Result<(Self, Response), NotOpened> {
        let opening = timeout(OPENING, upgrade(access, token, was)).await;
        let upgraded = opening.map_err(|_| NotOpened::Unreachable)??;
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_MAX))
            .max_frame_size(Some(MESSAGE_MAX));
        let socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(limits)).await;
        let now = Instant::now();
        let mut wire = Self {
            socket,
            every: OPENING,
            silence: OPENING,
            heard: now,
            // Nothing is to be asked before the first answer.
            ping_at: now + 2 * OPENING,
            began: now,
            rtt: 0,
        };
        let first = timeout(OPENING, wire.first()).await.map_err(|_| NotOpened::Unreachable)?;
        match first.map_err(|Lost| NotOpened::Unreachable)? {
            Response::Leave(leave) => Err(NotOpened::Left(leave.reason())),
            first => {
                if let Response::Join(join) = &first {
                    wire.every = seconds(join.ping_interval, 5);
                    wire.silence = seconds(join.ping_timeout, 15).max(2 * wire.every);
                }
                wire.ping_at = Instant::now() + wire.every;
                Ok((wire, first))
            }
        }
    }

    async fn first(&mut self) -> Result<Response, Lost> {
        loop {
            if let Came::Message(message) = self.next().await?
                && let Response::Join(_) | Response::Reconnect(_) | Response::Leave(_) = *message
            {
                return Ok(*message);
            }
        }
    }

    /// As before a resume, whose answer does not say how often to ask.
    pub(super) fn as_before(&mut self, other: &Self) {
        (self.every, self.silence) = (other.every, other.silence);
        self.ping_at = Instant::now() + self.every;
    }

    /// What comes next; nothing is lost when this is given up.
    pub(super) async fn next(&mut self) -> Result<Came, Lost> {
        loop {
            let frame = tokio::select! {
                frame = self.socket.next() => frame,
                () = sleep_until(self.ping_at) => return Ok(Came::PingDue),
                () = sleep_until(self.heard + self.silence) => return Err(Lost),
            };
            self.heard = Instant::now();
            match frame {
                Some(Ok(Message::Binary(bytes))) => {
                    let message = SignalResponse::decode(bytes).map_err(|_| Lost)?.message;
                    // One that this version does not know is none.
                    let Some(message) = message else { continue };
                    if let Response::PongResp(pong) = &message {
                        self.rtt = self.now().saturating_sub(pong.last_ping_timestamp).max(0);
                    }
                    return Ok(Came::Message(Box::new(message)));
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Lost),
                Some(Ok(_)) => {}
            }
        }
    }

    pub(super) async fn ping(&mut self) -> Result<(), Lost> {
        self.ping_at = Instant::now() + self.every;
        self.send(Request::PingReq(Ping { timestamp: self.now(), rtt: self.rtt })).await
    }

    pub(super) async fn send(&mut self, request: Request) -> Result<(), Lost> {
        let bytes = SignalRequest { message: Some(request) }.encode_to_vec();
        match timeout(SENDING, self.socket.send(Message::binary(bytes))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Lost),
        }
    }

    pub(super) async fn close(mut self) {
        timeout(CLOSING, self.socket.close(None)).await.ok();
    }

    /// Milliseconds since the connection began: only this side reads them.
    fn now(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

async fn upgrade(access: &Access, token: &str, was: Option<&str>) -> Result<Upgraded, NotOpened> {
    let base = address::base(&access.url, access.whose).ok_or(NotOpened::Address)?;
    let url = base.join("rtc").map_err(|_| NotOpened::Address)?;
    let mut query = vec![
        ("protocol", PROTOCOL),
        ("sdk", "rust"),
        ("auto_subscribe", "0"),
        ("adaptive_stream", "0"),
    ];
    if let Some(was) = was {
        query.extend([("reconnect", "1"), ("sid", was), ("reconnect_reason", "1")]);
    }
    // Answers with an error when another part of the process was first; then that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .http1_only();
    if let Some(resolver) = address::resolver(access.whose) {
        client = client.dns_resolver(resolver);
    }
    let key = generate_key();
    let answer = client
        .build()
        .map_err(|_| NotOpened::Unreachable)?
        .get(url)
        .query(&query)
        .bearer_auth(token)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, &key)
        .send()
        .await
        .map_err(|_| NotOpened::Unreachable)?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(NotOpened::Refused(answer.status()));
    }
    let accept = answer.headers().get(header::SEC_WEBSOCKET_ACCEPT);
    if accept.is_none_or(|accept| accept != &derive_accept_key(key.as_bytes())) {
        return Err(NotOpened::Unreachable);
    }
    answer.upgrade().await.map_err(|_| NotOpened::Unreachable)
}

/// What the server asks for, where that is something that one can do.
fn seconds(said: i32, or: u64) -> Duration {
    let said = u64::try_from(said).ok().filter(|said| (1..=60).contains(said));
    Duration::from_secs(said.unwrap_or(or)).max(BUSY_PING)
}
