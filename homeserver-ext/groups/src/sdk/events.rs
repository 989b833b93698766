//! What happened in groups, as a server notes it: a page, and as it happens.
//!
//! Events are no part of a group: nobody has signed them, and the machine knows nothing of them.
//! A feed that breaks off goes on behind the last event that it gave.

use std::time::Duration;

use causeway_protocol::{
    api::{EventPage, GroupEvent},
    ids::{GroupId, Seq},
};
use reqwest::{RequestBuilder, Response};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    backoff::Backoff,
    call::{CallError, broken_off, sent},
    http::Http,
};

/// Far more than a frame that is honest has.
const MAX_FRAME_BYTES: usize = 64 << 10;
/// Until the answer begins.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(30);
/// The server says something every 15 seconds: after so long nobody is there.
const SILENCE: Duration = Duration::from_mins(1);
/// The longest wait that is taken from a server.
const LONGEST_WAIT_MS: u64 = 60_000;

/// What a feed gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// Something happened.
    Event(GroupEvent),
    /// Of the events up to this one some are gone, or all: the server keeps them no longer, or its
    /// database was put back.
    Gone(Seq),
}

impl Http {
    /// `GET events`: one page of what happened in the caller's groups, or in one, from `from` on.
    pub async fn events(
        &self,
        group: Option<GroupId>,
        from: Seq,
        limit: u32,
    ) -> Result<EventPage, CallError> {
        let mut query = vec![("from", from.to_string()), ("limit", limit.to_string())];
        query.extend(of_group(group));
        self.get(&["events"], &query).await
    }

    /// `GET events/stream`: the same as they happen, behind `after`, else from now on. Nothing is sent
    /// yet.
    pub fn event_feed(
        &self,
        group: Option<GroupId>,
        after: Option<Seq>,
    ) -> Result<EventFeed, CallError> {
        let query: Vec<_> = of_group(group).into_iter().collect();
        Ok(EventFeed::new(self.endless(&["events", "stream"], &query)?, after))
    }
}

fn of_group(group: Option<GroupId>) -> Option<(&'static str, String)> {
    group.map(|group| ("group", group.to_string()))
}

/// Events as they happen, over a connection that comes back by itself. Reads only while it is polled.
#[derive(Debug)]
pub struct EventFeed {
    request: RequestBuilder,
    /// The last event that was given out, or the place from which on they come.
    last: Option<Seq>,
    answer: Option<Response>,
    frames: Frames,
    backoff: Backoff,
    connect_at: Option<Instant>,
}

impl EventFeed {
    /// What `request` asks for, without a body and without a limit on how long its answer takes, from
    /// behind `after` on.
    pub fn new(request: RequestBuilder, after: Option<Seq>) -> Self {
        Self {
            request,
            last: after,
            answer: None,
            frames: Frames::default(),
            backoff: Backoff::default(),
            connect_at: None,
        }
    }

    /// The next of them, when there is one. May be dropped at any await without losing any.
    ///
    /// # Errors
    /// For the caller to show. After a transient one ([`CallError::is_transient`]) the next call
    /// waits a moment, longer each time, and goes on behind the last event.
    pub async fn next(&mut self) -> Result<Followed, CallError> {
        loop {
            if let Some(frame) = self.frames.next() {
                if let Some(followed) = self.take(&frame)? {
                    return Ok(followed);
                }
                continue;
            }
            if let Err(error) = self.more().await {
                return Err(self.lost(error));
            }
        }
    }

    /// Reads on, and connects where there is no connection.
    async fn more(&mut self) -> Result<(), CallError> {
        let Some(answer) = &mut self.answer else {
            if let Some(at) = self.connect_at {
                sleep_until(at).await;
            }
            let begun = timeout(BEGIN_TIMEOUT, sent(self.request()?)).await;
            self.answer = Some(begun.map_err(|_| silent(BEGIN_TIMEOUT))??);
            return Ok(());
        };
        let read = timeout(SILENCE, answer.chunk()).await.map_err(|_| silent(SILENCE))?;
        match read.map_err(broken_off)? {
            Some(bytes) => self.frames.add(&bytes),
            None => Err(CallError::Unreachable("the stream ended".to_owned())),
        }
    }

    fn request(&self) -> Result<RequestBuilder, CallError> {
        let request = self.request.try_clone().ok_or_else(|| {
            CallError::Unreachable("a request with a body cannot be made again".to_owned())
        })?;
        Ok(match self.last {
            Some(last) => request.header("Last-Event-ID", last.to_string()),
            None => request,
        })
    }

    fn lost(&mut self, error: CallError) -> CallError {
        self.answer = None;
        self.frames = Frames::default();
        let wait = match error {
            CallError::RetryAfter { ms, .. } => Duration::from_millis(ms.min(LONGEST_WAIT_MS)),
            _ => self.backoff.failed(),
        };
        self.connect_at = Some(Instant::now() + wait);
        error
    }

    fn take(&mut self, frame: &Frame) -> Result<Option<Followed>, CallError> {
        self.backoff.reset();
        if let Some(id) = frame.id {
            self.last = Some(id);
        }
        Ok(match frame.name.as_str() {
            "begin" => None,
            "gone" => {
                #[derive(Deserialize)]
                struct Gone {
                    gone: Seq,
                }
                let Gone { gone } = parsed(&frame.data)?;
                Some(Followed::Gone(gone))
            }
            _ if frame.data.is_empty() => None,
            _ => Some(Followed::Event(parsed(&frame.data)?)),
        })
    }
}

fn parsed<A: for<'a> Deserialize<'a>>(data: &str) -> Result<A, CallError> {
    causeway_protocol::json::from_slice(data.as_bytes())
        .map_err(|e| CallError::Unknown(format!("an event that is not one: {e}")))
}

fn silent(after: Duration) -> CallError {
    CallError::Unreachable(format!("silent for {} s", after.as_secs()))
}

/// One server-sent event (WHATWG HTML, 9.2.6), as far as this API uses them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Frame {
    name: String,
    id: Option<Seq>,
    data: String,
}

/// Bytes that have come, and what of them is whole.
#[derive(Debug, Default)]
struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    fn add(&mut self, bytes: &[u8]) -> Result<(), CallError> {
        self.bytes.extend_from_slice(bytes);
        // What is whole is taken out before more is read: these are of one frame, but for the last
        // chunk.
        if self.bytes.len() > MAX_FRAME_BYTES + bytes.len() {
            return Err(CallError::Unknown(format!(
                "an event is longer than {MAX_FRAME_BYTES} bytes"
            )));
        }
        Ok(())
    }

    /// The next frame that is whole; comments are none.
    fn next(&mut self) -> Option<Frame> {
        loop {
            let end = self.bytes.windows(2).position(|two| two == b"\n\n")?;
            let whole: Vec<u8> = self.bytes.drain(..end.saturating_add(2)).collect();
            let frame = frame(&String::from_utf8_lossy(&whole));
            if frame != Frame::default() {
                return Some(frame);
            }
        }
    }
}

fn frame(text: &str) -> Frame {
    let mut frame = Frame::default();
    for line in text.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut frame.name),
            "id" => frame.id = value.parse().ok().map(Seq),
            "data" if frame.data.is_empty() => value.clone_into(&mut frame.data),
            "data" => frame.data.extend(["\n", value]),
            _ => {}
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&str]) -> Vec<Frame> {
        let mut frames = Frames::default();
        let mut all = Vec::new();
        for chunk in chunks {
            frames.add(chunk.as_bytes()).unwrap();
            all.extend(std::iter::from_fn(|| frames.next()));
        }
        all
    }

    #[test]
    fn frames_are_whole_however_they_are_cut() {
        let text =
            ":\n\nevent: begin\nid: 6\ndata: {}\n\nevent: a\ndata: 1\ndata: 2\n\n:\n\nid: 8\n";
        let whole = read(&[text]);
        let of = |name: &str, id: Option<u64>, data: &str| Frame {
            name: name.to_owned(),
            id: id.map(Seq),
            data: data.to_owned(),
        };
        assert_eq!(whole, [of("begin", Some(6), "{}"), of("a", None, "1\n2")]);
        for cut in 1..text.len() {
            let (first, second) = text.split_at(cut);
            assert_eq!(read(&[first, second]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_frame_without_an_end_is_refused() {
        let mut frames = Frames::default();
        let chunk = [b'x'; 1 << 10];
        let taken = (0..1_000).take_while(|_| frames.add(&chunk).is_ok()).count();
        assert!(taken << 10 <= MAX_FRAME_BYTES + 1_024, "{taken}");
    }
}
