//! A socket that waits for the head of a request, and for who reads, for so long and no longer.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use super::door::Place;

/// Whether a request is being answered on a connection, or what came of it is spoken there.
#[derive(Debug, Clone, Default)]
pub(super) struct Busy(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_busy: AtomicBool,
    /// Heads that were read.
    heads: AtomicU64,
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Answering(Option<Busy>);

/// The answer on its way.
pub(super) struct Answer {
    body: Body,
    _answering: Answering,
}

impl Busy {
    pub(super) fn begin(&self) -> Answering {
        self.0.heads.fetch_add(1, Ordering::Relaxed);
        self.0.is_busy.store(true, Ordering::Relaxed);
        Answering(Some(self.clone()))
    }
}

impl Answering {
    /// Until all of `body` is sent, or nobody wants more of it.
    pub(super) fn until_sent(self, body: Body) -> Answer {
        Answer { body, _answering: self }
    }

    /// No head will come any more: something else is spoken from here on.
    pub(super) fn for_good(mut self) -> Self {
        self.0 = None;
        self
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(Busy(state)) = &self.0 {
            state.is_busy.store(false, Ordering::Relaxed);
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How long a connection may take for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For the head of a request.
    pub(super) head: Duration,
    /// To read something of what is written, where nothing more fits into it.
    pub(super) reader: Duration,
}

/// The socket, and its place among the connections for as long as it is there.
pub(super) struct Patient {
    socket: TcpStream,
    busy: Busy,
    patience: Patience,
    /// When the head must be there. Not set between two requests.
    until: Option<Pin<Box<Sleep>>>,
    /// Heads that were read when that was set.
    heads: u64,
    /// Until when something must have been read. Set while a write is held up.
    read_until: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl Patient {
    pub(super) fn new(socket: TcpStream, place: Place, busy: Busy, patience: Patience) -> Self {
        let until = Some(Box::pin(sleep(patience.head)));
        Self { socket, busy, patience, until, heads: 0, read_until: None, _place: place }
    }

    /// What came of a write; that it failed, where it was held up for too long.
    fn written(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.read_until = None;
            return written;
        }
        let reader = self.patience.reader;
        let until = self.read_until.get_or_insert_with(|| Box::pin(sleep(reader)));
        if until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        let heads = self.busy.0.heads.load(Ordering::Relaxed);
        if heads != self.heads {
            (self.heads, self.until) = (heads, None);
        }
        if self.busy.0.is_busy.load(Ordering::Relaxed) {
            return read;
        }
        let Some(until) = &mut self.until else {
            if read.is_ready() {
                self.until = Some(Box::pin(sleep(self.patience.head)));
            }
            return read;
        };
        if until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.written(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
