//! The device's mailbox as it comes in: `GET stream`, a WebSocket that comes back by itself.
//!
//! It reads only while it is polled and starts no task. The server keeps every row until it is
//! acknowledged, so a lost connection costs nothing: the rows come again, and those that were
//! handed out already are skipped. That holds as long as it is the same database: where the first
//! frame names another generation, or a last row before one that has been here, the server was
//! restored, and everything is read anew; what is known of it is known by its id.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use causeway_protocol::{
    api::{StreamAck, StreamHello, StreamRow},
    ids::{Generation, Seq},
};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use reqwest::Upgraded;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{
    Taken,
    backoff::Backoff,
    call::{CallError, STUCK, chain},
    calls::Calls,
    http::Http,
};

/// Rows of one batch.
const MAX_ROWS: usize = 64;
/// Far more than a frame has that is honest, 61 kB for an envelope: what is refused here stops all that
/// is behind it.
const MAX_FRAME_BYTES: usize = 2 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Silence after which a ping asks whether anybody is there, and as long again for the answer.
const QUIET: Duration = Duration::from_secs(30);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Quiet after which rows that could not be kept are asked for again.
const LOOK_ON: Duration = Duration::from_millis(500);
/// Longest wait before it connects again where its device is in a call: after 15 s it is put out of that.
const IN_A_CALL: Duration = Duration::from_secs(4);

type Socket = WebSocketStream<Upgraded>;

/// Whether rows can be parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parking {
    /// The server is one of before: what cannot be held stays in the way.
    Never,
    Possible,
    /// Some were: nothing says that the server has heard of it.
    Done,
}

/// The mailbox of the device that `http` is logged in as.
pub struct Stream {
    http: Http,
    socket: Option<Socket>,
    connect_at: Option<Instant>,
    connected_at: Instant,
    backoff: Backoff,
    heard: Instant,
    pinged: bool,
    /// Whose numbers the next three are.
    generation: Option<Generation>,
    /// Last row that came, and last that was handed out.
    seen: Seq,
    handed_out: Seq,
    acked: Seq,
    /// Whether a row that was handed out could not be kept. Then nothing more is acknowledged, and
    /// rows are read on only because what is missing may be among them.
    stuck: bool,
    /// What can be parked, or was, on this connection.
    parking: Parking,
    /// Set where the server says that something is parked.
    told: Arc<AtomicBool>,
    /// How long to wait before rows that could not be kept are asked for again.
    stalls: Backoff,
    calls: Calls,
}

impl Stream {
    /// A mailbox that nobody has asked for yet; connects with the first call of
    /// [`next_rows`](Self::next_rows).
    pub fn new(http: Http) -> Self {
        Self {
            http,
            socket: None,
            connect_at: None,
            connected_at: Instant::now(),
            backoff: Backoff::default(),
            heard: Instant::now(),
            pinged: false,
            generation: None,
            seen: Seq(0),
            handed_out: Seq(0),
            acked: Seq(0),
            stuck: false,
            parking: Parking::Never,
            told: Arc::default(),
            stalls: Backoff::default(),
            calls: Calls::default(),
        }
    }

    /// The same, which comes back sooner while these are attended.
    #[must_use]
    pub(super) fn that_hurries(mut self, calls: Calls) -> Self {
        self.calls = calls;
        self
    }

    /// The same, which sets this where the server says that something is parked.
    #[must_use]
    pub(super) fn that_tells(mut self, told: Arc<AtomicBool>) -> Self {
        self.told = told;
        self
    }

    /// Since when there is a connection; `None` while there is none.
    pub fn connected_since(&self) -> Option<Instant> {
        self.socket.as_ref().map(|_| self.connected_at)
    }

    /// The next rows in order, at least one: with the first come those that are here already, up to
    /// 64. Nothing is waited for that may not come; what comes while a batch is worked on makes the
    /// next one.
    ///
    /// Waits as long as there is none; may be dropped at any await without losing a row. Each row
    /// is handed out once, unless [`ack`](Self::ack) says that it was not kept.
    ///
    /// # Errors
    /// For the caller to show. After a transient one ([`CallError::is_transient`]) the next call
    /// waits a moment, longer each time and with full jitter, and connects again.
    /// [`CallError::Refused`] is final: the token is not good any more.
    pub async fn next_rows(&mut self) -> Result<Vec<StreamRow>, CallError> {
        loop {
            let was_stuck = self.stuck;
            let first = if was_stuck {
                let Ok(row) = timeout(LOOK_ON, self.next_row()).await else {
                    self.again();
                    continue;
                };
                row?
            } else {
                self.next_row().await?
            };
            let mut rows = vec![first];
            // The connection's end is told by the next call; these rows are good.
            while rows.len() < MAX_ROWS
                && let Some(Ok(row)) = self.next_row().now_or_never()
            {
                rows.push(row);
            }
            // But where earlier ones could not be kept, all come again with the next connection.
            if was_stuck && !self.stuck {
                continue;
            }
            self.handed_out = self.seen;
            return Ok(rows);
        }
    }

    /// Says that of the rows that were handed out last everything up to and with this one is kept
    /// here, nothing if `None`: the server may forget it.
    ///
    /// Rows beyond it come again, but not at once: what follows them is handed out first, as far as
    /// the server sends it unacknowledged, because the key that they wait for may be among it. All
    /// of that comes again too.
    ///
    /// Does not fail: what a broken connection swallowed is said again by the next one.
    pub async fn ack(&mut self, through: Option<Seq>) {
        self.ack_but(through, Vec::new()).await;
    }

    /// [`ack`](Self::ack)s what was taken in, and parks what could not be.
    ///
    /// What was parked on a connection that broke may come again: it is not known whether the server
    /// has heard of it. Where the server does not park, those rows could not be kept.
    pub async fn took(&mut self, taken: &Taken) {
        let Taken { through, parked, no_room: _ } = taken;
        match parked.first() {
            Some(first) if self.parking == Parking::Never => {
                let before = first.0.checked_sub(1).map(Seq);
                self.ack_but(before.filter(|seq| seq.0 > 0), Vec::new()).await;
            }
            _ => self.ack_but(*through, parked.clone()).await,
        }
    }

    async fn ack_but(&mut self, through: Option<Seq>, park: Vec<Seq>) {
        if self.stuck {
            return;
        }
        if let Some(through) = through.filter(|through| *through > self.acked) {
            self.acked = through;
            self.stalls.reset();
            if !park.is_empty() {
                self.parking = Parking::Done;
            }
            let frame = frame(&StreamAck { ack: self.acked, park });
            if let Some(socket) = &mut self.socket
                && socket.send(frame).await.is_err()
            {
                self.socket = None;
            }
        }
        self.stuck = self.acked < self.handed_out;
    }

    /// Rows that were handed out and not acknowledged come again, after a moment.
    fn again(&mut self) {
        self.drop_connection();
        self.connect_at = Some(Instant::now() + self.stalls.failed());
    }

    fn drop_connection(&mut self) {
        self.socket = None;
        if std::mem::take(&mut self.stuck) {
            self.seen = self.acked;
            self.handed_out = self.acked;
        }
    }

    /// Whether rows that could not be kept hold up the acknowledgement of all that follows them.
    pub const fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// Ends the connection in good order, so that the last acknowledgement arrives.
    pub async fn close(mut self) {
        if let Some(mut socket) = self.socket.take()
            && socket.close(None).await.is_ok()
        {
            let rest = async { while let Some(Ok(_)) = socket.next().await {} };
            // A server that does not answer has the acknowledgement all the same.
            let _ = timeout(CLOSE_TIMEOUT, rest).await;
        }
    }

    async fn next_row(&mut self) -> Result<StreamRow, CallError> {
        self.connected().await?;
        loop {
            let row = match self.next_message().await {
                Ok(Message::Text(text)) => {
                    causeway_protocol::json::from_slice::<StreamRow>(text.as_bytes())
                        .map_err(|e| CallError::Unknown(format!("a row that is not one: {e}")))
                }
                Ok(Message::Close(frame)) => Err(ended(frame)),
                Ok(
                    Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_),
                ) => {
                    continue;
                }
                Err(e) => Err(e),
            };
            match row {
                Ok(row) if row.seq <= self.seen => {}
                Ok(row) => {
                    self.seen = row.seq;
                    return Ok(row);
                }
                Err(e) => return Err(self.lost(e)),
            }
        }
    }

    async fn next_message(&mut self) -> Result<Message, CallError> {
        let Some(socket) = &mut self.socket else {
            return Err(CallError::Unreachable("the connection is gone".to_owned()));
        };
        loop {
            let quiet = if self.pinged { QUIET * 2 } else { QUIET };
            match timeout_at(self.heard + quiet, socket.next()).await {
                Ok(Some(Ok(message))) => {
                    self.heard = Instant::now();
                    self.pinged = false;
                    if !message.is_close() {
                        self.backoff.reset();
                    }
                    return Ok(message);
                }
                Ok(Some(Err(e @ Error::Capacity(_)))) => {
                    return Err(CallError::Unreachable(format!("{STUCK}: {}", chain(&e))));
                }
                Ok(Some(Err(e))) => return Err(CallError::Unreachable(chain(&e))),
                Ok(None) => return Err(CallError::Unreachable("the stream ended".to_owned())),
                Err(_) if self.pinged => {
                    let why = format!("silent for {} s", quiet.as_secs());
                    return Err(CallError::Unreachable(why));
                }
                Err(_) => {
                    self.pinged = true;
                    let ping = socket.send(Message::Ping(Vec::new().into())).await;
                    ping.map_err(|e| CallError::Unreachable(chain(&e)))?;
                }
            }
        }
    }

    async fn connected(&mut self) -> Result<(), CallError> {
        if self.socket.is_some() {
            return Ok(());
        }
        if let Some(at) = self.connect_at {
            tokio::time::sleep_until(at).await;
        }
        let connecting = timeout(CONNECT_TIMEOUT, self.connect());
        let connected = connecting.await.unwrap_or_else(|_| {
            let why = format!("no connection within {} s", CONNECT_TIMEOUT.as_secs());
            Err(CallError::Unreachable(why))
        });
        match connected {
            Ok(socket) => {
                self.socket = Some(socket);
                self.connect_at = None;
                self.connected_at = Instant::now();
                self.heard = self.connected_at;
                self.pinged = false;
                Ok(())
            }
            Err(e) => Err(self.lost(e)),
        }
    }

    async fn connect(&mut self) -> Result<Socket, CallError> {
        let (mut socket, hello) = greeted(&self.http).await?;
        if self.parking == Parking::Done {
            // The server knows its place: what it has not heard of comes again.
            self.seen = Seq(0);
            self.handed_out = Seq(0);
            self.acked = Seq(0);
        }
        self.parking = hello.parked.map_or(Parking::Never, |_| Parking::Possible);
        if hello.parked == Some(true) {
            self.told.store(true, Ordering::Relaxed);
        }
        let is_other = self.generation.is_some_and(|known| known != hello.generation);
        if is_other || hello.last_seq < self.seen {
            tracing::info!("the server's database was opened anew: the mailbox is read again");
            self.seen = Seq(0);
            self.handed_out = Seq(0);
            self.acked = Seq(0);
        }
        self.generation = Some(hello.generation);
        if self.acked > Seq(0) {
            let sent = socket.send(frame(&self.acked.into())).await;
            sent.map_err(|e| CallError::Unreachable(chain(&e)))?;
        }
        Ok(socket)
    }

    /// Drops the connection, and remembers not to come back at once.
    fn lost(&mut self, error: CallError) -> CallError {
        self.drop_connection();
        let wait = self.backoff.failed();
        let wait = if self.calls.is_attended() { wait.min(IN_A_CALL) } else { wait };
        self.connect_at = Some(Instant::now() + wait);
        error
    }
}

/// Connects, and reads the first frame.
async fn greeted(http: &Http) -> Result<(Socket, StreamHello), CallError> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_FRAME_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES))
        .max_write_buffer_size(1 << 20);
    let stream = http.open_stream().await?;
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await;
    match socket.next().await {
        Some(Ok(Message::Text(text))) => {
            let hello = causeway_protocol::json::from_slice(text.as_bytes());
            let hello =
                hello.map_err(|e| CallError::Unknown(format!("no stream begins so: {e}")))?;
            Ok((socket, hello))
        }
        Some(Ok(Message::Close(frame))) => Err(ended(frame)),
        Some(Ok(_)) => Err(CallError::Unknown("no stream begins so".to_owned())),
        Some(Err(e)) => Err(CallError::Unreachable(chain(&e))),
        None => Err(CallError::Unreachable("the stream ended".to_owned())),
    }
}

fn ended(frame: Option<CloseFrame>) -> CallError {
    let is_stuck = frame.as_ref().is_some_and(|frame| frame.code == CloseCode::Again);
    let why = frame.map_or_else(String::new, |f| format!(" ({} {})", f.code, f.reason));
    let stuck = if is_stuck { format!("{STUCK}: ") } else { String::new() };
    CallError::Unreachable(format!("{stuck}the server ended the stream{why}"))
}

fn frame(ack: &StreamAck) -> Message {
    Message::Text(serde_json::json!(ack).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_the_frame_that_the_server_reads() {
        for park in [vec![], vec![Seq(3), Seq(5)]] {
            let ack = StreamAck { ack: Seq(7), park };
            let text = frame(&ack).into_text().unwrap();
            assert_eq!(serde_json::from_str::<StreamAck>(&text).unwrap(), ack);
        }
    }
}
