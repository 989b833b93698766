//! A device's stream.

use std::time::Duration;

use causeway_protocol::{
    api::{PREFIX, StreamAck, StreamHello, StreamRow},
    envelope::{Envelope, Kind},
    ids::Seq,
};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use super::{Server, json};

/// Longer than anything takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A device's stream.
pub(crate) struct Stream {
    socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
    patience: Duration,
    /// Whether the first frame was read.
    is_begun: bool,
}

impl Stream {
    pub(crate) async fn open(
        server: &Server,
        token: &str,
    ) -> Result<Self, Box<tokio_tungstenite::tungstenite::Error>> {
        Self::open_at(&server.base, token).await
    }

    pub(crate) async fn open_at(
        base: &str,
        token: &str,
    ) -> Result<Self, Box<tokio_tungstenite::tungstenite::Error>> {
        let url = format!("{base}{PREFIX}/stream").replace("http", "ws");
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let (socket, _) = tokio_tungstenite::connect_async(request).await?;
        Ok(Self { socket, patience: PATIENCE, is_begun: false })
    }

    /// From here on only timers move the clock. It runs on while the server's database works, so
    /// that this end must wait longer than it would.
    pub(crate) fn pause_time(&mut self) {
        self.patience = Duration::from_hours(1);
        tokio::time::pause();
    }

    /// Returns when the server has nothing more to look up for this stream: while its database works,
    /// a paused clock would run away. Frames that come meanwhile are lost.
    pub(crate) async fn settle(&mut self) {
        // The first two may be answered between two looks.
        for _ in 0..3 {
            self.send(Message::Ping(vec![].into())).await;
            while !matches!(self.any().await, Message::Pong(_)) {}
        }
    }

    /// All rows that the server has for this stream now.
    pub(crate) async fn settled(&mut self) -> Vec<StreamRow> {
        let mut rows = Vec::new();
        for _ in 0..3 {
            self.send(Message::Ping(vec![].into())).await;
            loop {
                match self.any().await {
                    Message::Pong(_) => break,
                    // The first frame is no row.
                    Message::Text(text) => rows.extend(serde_json::from_str::<StreamRow>(&text)),
                    other => panic!("not a row: {other:?}"),
                }
            }
        }
        rows
    }

    /// The first frame; the others read past it.
    pub(crate) async fn hello(&mut self) -> StreamHello {
        assert!(!std::mem::replace(&mut self.is_begun, true));
        match self.frame().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("not a hello: {other:?}"),
        }
    }

    /// The next row; skips pings.
    pub(crate) async fn next(&mut self) -> StreamRow {
        match self.frame().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("not a row: {other:?}"),
        }
    }

    pub(crate) async fn take(&mut self, count: usize) -> Vec<StreamRow> {
        let mut rows = Vec::new();
        while rows.len() < count {
            rows.push(self.next().await);
        }
        rows
    }

    /// The payloads of the next messages as text; rows of other kinds are passed over.
    pub(crate) async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            let StreamRow { envelope, .. } = self.next().await;
            assert_eq!(envelope.check(), Ok(()), "{envelope:?}");
            if envelope.kind == Kind::Message {
                texts.push(text(&envelope));
            }
        }
        texts
    }

    pub(crate) async fn frame(&mut self) -> Message {
        loop {
            let frame = tokio::time::timeout(self.patience, self.socket.next()).await;
            match frame.expect("the stream is silent").expect("the stream ended").unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Text(_) if !std::mem::replace(&mut self.is_begun, true) => {}
                frame => return frame,
            }
        }
    }

    /// The next row, as long as there is a connection.
    pub(crate) async fn row(&mut self) -> Option<StreamRow> {
        loop {
            let frame = tokio::time::timeout(self.patience, self.socket.next()).await;
            match frame.expect("the stream is silent")?.ok()? {
                Message::Text(_) if !std::mem::replace(&mut self.is_begun, true) => {}
                Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    /// Acknowledges, as long as there is a connection.
    pub(crate) async fn try_ack(&mut self, seq: u64) {
        let ack = String::from_utf8(json(&StreamAck::from(Seq(seq)))).unwrap();
        let _ = self.socket.send(Message::text(ack)).await;
    }

    /// The next frame of any kind.
    pub(crate) async fn any(&mut self) -> Message {
        tokio::time::timeout(self.patience, self.socket.next()).await.unwrap().unwrap().unwrap()
    }

    /// Waits until the connection is no more, in whatever way.
    pub(crate) async fn broken(&mut self) {
        let end = async { while let Some(Ok(_)) = self.socket.next().await {} };
        tokio::time::timeout(self.patience, end).await.expect("the stream goes on");
    }

    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            match self.frame().await {
                Message::Close(frame) => return frame.unwrap().code.into(),
                Message::Text(_) => {}
                other => panic!("neither row nor end: {other:?}"),
            }
        }
    }

    pub(crate) async fn ack(&mut self, seq: u64) {
        self.send(Message::text(String::from_utf8(json(&StreamAck::from(Seq(seq)))).unwrap()))
            .await;
    }

    pub(crate) async fn send(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }
}

pub(crate) fn text(envelope: &Envelope) -> String {
    String::from_utf8(envelope.payload.clone()).unwrap()
}
