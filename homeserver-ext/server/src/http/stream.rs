//! `GET stream`: the caller's mailbox over a WebSocket, from the first unacknowledged row on.
//!
//! The rows are the truth and stay until they are acknowledged; the socket is a wake-up with the
//! rows already in it. It can break at any byte and costs nothing.
//!
//! A restored database has given numbers to other rows than a client may remember. It is put back
//! while no process has it open, so a generation drawn at each start is new after each restore; after
//! an ordinary start the unacknowledged rows come again, and are known by their ids.

mod acking;
mod in_flight;

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::{
        State,
        ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code},
    },
    response::{IntoResponse as _, Response},
};
use causeway_protocol::{
    api::{StreamAck, StreamHello},
    ids::{Generation, Seq},
    json,
};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use self::{
    acking::{Acked, Acking},
    in_flight::{InFlight, MAX_BYTES},
};
use super::{Api, auth::Caller, error::ApiError};
use crate::{
    live::Frame,
    services::delivery::{self, Ahead},
    storage::{self, DeviceRow, devices::Device, mailbox::Ends},
};

/// How long the server waits for an acknowledgement when nothing more may be in flight.
const PATIENCE: Duration = Duration::from_secs(10);
/// What opening a stream counts for at least, bytes of traffic: it may look past very much that is the
/// account's own.
const OPENING: usize = 256 << 10;
/// How often a socket is asked whether anybody is there; who has not answered the next time is not.
const PING: Duration = Duration::from_secs(45);
/// Largest message that a client may send.
const MAX_MESSAGE_BYTES: usize = 256 << 10;
const MAX_WRITE_BUFFER_BYTES: usize = 1 << 20;
/// Filled with zeros before each look whether something has come, and kept for each stream: no larger
/// than what comes as a rule.
const READ_BUFFER_BYTES: usize = 1 << 10;
/// Of our own: this device has opened a newer stream.
const CLOSE_REPLACED: u16 = 4_000;
/// Of our own: this device was logged out.
const CLOSE_LOGGED_OUT: u16 = 4_001;

/// The open streams, one for each device at most.
pub(crate) struct Streams {
    generation: Generation,
    open: Mutex<HashMap<DeviceRow, Open>>,
}

struct Open {
    /// Highest row that was written to the socket.
    sent: Arc<AtomicU64>,
    replaced: CancellationToken,
    logged_out: CancellationToken,
}

impl Streams {
    /// None yet, of a database that lives on under this name.
    pub(crate) fn new(generation: Generation) -> Self {
        Self { generation, open: Mutex::default() }
    }

    /// Under which rows are numbered since this start.
    pub(crate) const fn generation(&self) -> Generation {
        self.generation
    }

    fn open(&self, device: DeviceRow) -> (Arc<AtomicU64>, CancellationToken, CancellationToken) {
        let mut streams = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = streams.get(&device).map(|open| Arc::clone(&open.sent)).unwrap_or_default();
        let (replaced, logged_out) = (CancellationToken::new(), CancellationToken::new());
        let open = Open {
            sent: Arc::clone(&sent),
            replaced: replaced.clone(),
            logged_out: logged_out.clone(),
        };
        if let Some(older) = streams.insert(device, open) {
            older.replaced.cancel();
        }
        (sent, replaced, logged_out)
    }

    /// Forgets a stream that has ended, unless a newer one took its place.
    fn ended(&self, device: DeviceRow, replaced: &CancellationToken) {
        let mut streams = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !replaced.is_cancelled() {
            streams.remove(&device);
        }
    }

    /// Up to which row a device's open stream was written.
    pub(crate) fn sent(&self, device: DeviceRow) -> Seq {
        let streams = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        Seq(streams.get(&device).map_or(0, |open| open.sent.load(Ordering::Relaxed)))
    }

    /// Whether a device has an open stream.
    pub(crate) fn has(&self, device: DeviceRow) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&device)
    }

    /// Ends the stream of a device that was logged out.
    pub(crate) fn end(&self, device: DeviceRow) {
        let streams = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = streams.get(&device) {
            open.logged_out.cancel();
        }
    }
}

/// `GET stream` – a WebSocket: the server sends a `StreamHello` and then `StreamRow`s, the client
/// `StreamAck`s (protocol §2).
///
/// At most 256 unacknowledged rows or 1 MiB are in flight; where that stops the server and nothing of
/// it is acknowledged for 10 s, it closes with 1013. A newer stream of the same device closes the
/// older with 4000, logging out with 4001, the end of the server with 1001.
#[utoipa::path(get, path = "/stream", tag = "messages",
    responses(
        (status = 101, description = "text frames: first `StreamHello`, then `StreamRow`s from the server, `StreamAck` from the client"),
        (status = 400, body = causeway_protocol::api::ErrorBody, description = "`M_INVALID_PARAM`: not the handshake of a WebSocket"),
        (status = 429, body = causeway_protocol::api::ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`: the account's traffic; what a stream has sent counts once more where it ends before that is acknowledged"),
    ), security(("token" = [])))]
pub(super) async fn stream(
    State(api): State<Api>,
    caller: Caller,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(error) => return ApiError::invalid(error).into_response(),
    };
    if let Err(error) = api.shares.traffic(api.clock.now(), &caller.account, MAX_BYTES) {
        return ApiError::from(error).into_response();
    }
    let token = api.sockets.token();
    // A stream is no request that is being answered.
    caller.turn.end();
    upgrade
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
        .read_buffer_size(READ_BUFFER_BYTES)
        .on_upgrade(move |socket| async move {
            metrics::gauge!("causeway_streams").increment(1.0);
            run(&api, &caller, socket).await;
            metrics::gauge!("causeway_streams").decrement(1.0);
            drop(token);
        })
}

/// Why a stream ends.
enum End {
    /// The socket is gone.
    Gone,
    /// Say why, and close.
    Close(u16, &'static str),
    /// Ours.
    Fault(storage::Error),
}

impl From<storage::Error> for End {
    fn from(error: storage::Error) -> Self {
        Self::Fault(error)
    }
}

impl From<axum::Error> for End {
    fn from(_: axum::Error) -> Self {
        Self::Gone
    }
}

async fn run(api: &Api, caller: &Caller, mut socket: WebSocket) {
    let device: &Device = caller;
    let (sent, replaced, logged_out) = api.streams.open(device.row);
    // Whoever was logged out before the stream could be told is told now.
    match api.sessions.device(&api.db, &caller.token).await {
        Ok(Some(_)) => {}
        Ok(None) => logged_out.cancel(),
        Err(error) => tracing::warn!(%error, "a stream's token could not be looked at again"),
    }
    let mut in_flight = InFlight::default();
    let end = tokio::select! {
        biased;
        () = logged_out.cancelled() => End::Close(CLOSE_LOGGED_OUT, "this device was logged out"),
        () = replaced.cancelled() => End::Close(CLOSE_REPLACED, "this device opened a newer stream"),
        end = serve(api, device, &sent, &mut in_flight, &mut socket) => end,
        () = api.stopping.cancelled() => End::Close(close_code::AWAY, "the server stops"),
    };
    // What was not acknowledged is sent again, and counts; so does to look where to begin.
    let cost = in_flight.bytes().max(OPENING);
    api.shares.was_less(&caller.account, MAX_BYTES, cost);
    let sent = Seq(sent.load(Ordering::Relaxed));
    let (noted, ()) =
        tokio::join!(delivery::ended(&api.db, device, sent), say(end, device, socket));
    if let Err(error) = noted {
        tracing::warn!(%error, "what was sent last will count as waiting");
    }
    api.streams.ended(device.row, &replaced);
}

/// Says why a stream ends, where anybody is left to hear it.
async fn say(end: End, device: &Device, mut socket: WebSocket) {
    let (code, reason) = match end {
        End::Gone => return,
        End::Close(code, reason) => (code, reason),
        End::Fault(error) => {
            tracing::error!(%error, device = super::short(&device.device_id), "a stream failed");
            (close_code::ERROR, "internal error")
        }
    };
    let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
    // Whoever reads as slowly as this will see the connection end without a reason.
    let _ = timeout(PATIENCE, socket.send(Message::Close(Some(frame)))).await;
}

/// Sends what waits and takes what is acknowledged, until something ends it.
async fn serve(
    api: &Api,
    device: &Device,
    sent: &AtomicU64,
    in_flight: &mut InFlight,
    socket: &mut WebSocket,
) -> End {
    let mut acking = Acking::of(api, device);
    let end = match go_on(api, device, sent, in_flight, &mut acking, socket).await {
        Ok(never) => match never {},
        Err(end) => end,
    };
    match acking.finish(in_flight).await {
        Ok(()) => {
            api.servers.has_read(device.row);
            end
        }
        Err(error) => End::Fault(error),
    }
}

async fn go_on(
    api: &Api,
    device: &Device,
    sent: &AtomicU64,
    in_flight: &mut InFlight,
    acking: &mut Acking<'_>,
    socket: &mut WebSocket,
) -> Result<Infallible, End> {
    let Ends { acked, last: known, is_parked } = delivery::ends(&api.db, device).await?;
    let mut ahead = Ahead::of(&api.db, &api.live, device, acked).await?;
    let generation = api.streams.generation;
    let hello = StreamHello { generation, last_seq: known, parked: Some(is_parked) };
    let hello = serde_json::to_string(&hello).map_err(|_| storage::Error::Row("hello"))?;
    written(socket.send(Message::text(hello))).await?;
    in_flight.known = known;
    let mut quiet = tokio::time::interval_at(Instant::now() + PING, PING);
    let (mut is_dry, mut was_heard) = (false, true);
    loop {
        acking.begin(in_flight);
        if let Some(is_done) = acking.turn().now_or_never() {
            let acked = acking.settle(is_done).await?;
            in_flight.ack(acked);
            ahead.done(acked);
            api.servers.has_read(device.row);
        }
        if !is_dry && !in_flight.is_held() {
            let rows = ahead.rows(&api.db, device).await?;
            is_dry = rows.is_empty();
            if let Some(written) = send(socket, in_flight, rows).await? {
                ahead.done(written);
                sent.fetch_max(written.0, Ordering::Relaxed);
                api.servers.has_read(device.row);
            }
            // Acknowledgements are read between two reads of rows, too.
            if let Some(frame) = socket.next().now_or_never() {
                was_heard = true;
                take(api, socket, in_flight, acking, frame)?;
            }
            continue;
        }
        let patience = in_flight.held_since.map(|since| since + PATIENCE);
        tokio::select! {
            frame = socket.next() => {
                was_heard = true;
                take(api, socket, in_flight, acking, frame)?;
            }
            is_done = acking.turn() => {
                let acked = acking.settle(is_done).await?;
                in_flight.ack(acked);
                ahead.done(acked);
                api.servers.has_read(device.row);
            }
            () = ahead.changed() => is_dry = false,
            () = at(patience) => {
                return Err(End::Close(close_code::AGAIN, "no acknowledgement for 10 s"));
            }
            _ = quiet.tick() => {
                // Not even the last ping was answered: nobody is there.
                if !std::mem::take(&mut was_heard) {
                    return Err(End::Gone);
                }
                written(socket.send(Message::Ping(Vec::new().into()))).await?;
            }
        }
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Writes as many rows as may be in flight; returns the last of them.
async fn send(
    socket: &mut WebSocket,
    in_flight: &mut InFlight,
    rows: Vec<Frame>,
) -> Result<Option<Seq>, End> {
    let mut last = None;
    for Frame { seq, at, text } in rows {
        if in_flight.is_held() || !in_flight.push((seq, text.len(), at)) {
            break;
        }
        last = Some(seq);
        written(socket.feed(Message::text(text))).await?;
    }
    if last.is_some() {
        written(socket.flush()).await?;
    }
    Ok(last)
}

/// A client that does not read is like one that does not acknowledge.
async fn written(writing: impl Future<Output = Result<(), axum::Error>>) -> Result<(), End> {
    match timeout(PATIENCE, writing).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(End::Close(close_code::AGAIN, "nothing was read for 10 s")),
    }
}

/// Takes one frame, and every acknowledgement behind it that is there already: the last one counts.
fn take(
    api: &Api,
    socket: &mut WebSocket,
    in_flight: &mut InFlight,
    acking: &mut Acking<'_>,
    frame: Option<Result<Message, axum::Error>>,
) -> Result<(), End> {
    let (mut acked, mut end) = (Acked::default(), None);
    let mut next = Some(frame);
    while let Some(frame) = next.take() {
        match ack_of(frame) {
            Ok(ack) => {
                if let Some(StreamAck { ack, park }) = ack {
                    acked.seq = acked.seq.max(Some(ack.min(in_flight.known)));
                    // Of others it says nothing: only what was sent can be lacked.
                    acked.park.extend(park.into_iter().filter(|seq| in_flight.has(*seq)));
                }
                next = socket.next().now_or_never();
            }
            // What was acknowledged before the end counts.
            Err(why) => end = Some(why),
        }
    }
    if let Some(seq) = acked.seq {
        acked.took = in_flight.took(seq, &acked.park, api.clock.now());
        acking.add(acked);
    }
    end.map_or(Ok(()), Err)
}

fn ack_of(frame: Option<Result<Message, axum::Error>>) -> Result<Option<StreamAck>, End> {
    match frame {
        None | Some(Err(_) | Ok(Message::Close(_))) => Err(End::Gone),
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
        Some(Ok(Message::Text(text))) => match json::from_slice::<StreamAck>(text.as_bytes()) {
            Ok(ack) => Ok(Some(ack)),
            Err(_) => Err(End::Close(close_code::INVALID, "not an acknowledgement")),
        },
        Some(Ok(Message::Binary(_))) => {
            Err(End::Close(close_code::UNSUPPORTED, "acknowledgements are text"))
        }
    }
}
