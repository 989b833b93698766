//! Events as they happen, as server-sent events: looked up in the database, so that a stream holds
//! nothing that its reader is slow to take.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    extract::FromRequestParts,
    http::request::Parts,
    response::sse::{Event, Sse},
};
use causeway_protocol::{
    api::{EventPage, GroupEvent},
    ids::{GroupId, Seq},
};
use futures_util::{Stream, stream};
use tokio::time::{Instant, sleep_until};

use crate::{
    config::TokenHash,
    http::Api,
    live::Watching,
    services::events::{self, Who},
    storage,
};

/// Events of one look.
const LOOK: u32 = 100;
/// Between two looks of one stream, however much happens.
const PAUSE: Duration = Duration::from_secs(1);
/// After so long without a word a comment goes, so that the connection is seen to be there.
const QUIET: Duration = Duration::from_secs(15);

/// Where a stream goes on that broke off: `Last-Event-ID`, as browsers send it.
pub(in crate::http) struct LastSeen(pub(in crate::http) Option<Seq>);

impl<S: Sync> FromRequestParts<S> for LastSeen {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let last = parts.headers.get("last-event-id");
        let last = last.and_then(|last| last.to_str().ok()?.trim().parse().ok());
        Ok(Self(last.map(Seq)))
    }
}

/// For whom a stream looks.
pub(in crate::http) enum Asker {
    /// The device with this token, for as long as the token is good.
    Device(TokenHash),
    /// The operator.
    Operator,
}

/// What is followed: from where on, in one group or in all.
pub(in crate::http) struct Follow {
    pub(in crate::http) asker: Asker,
    pub(in crate::http) group: Option<GroupId>,
    /// The first number to be shown; `None`: what happens from now on.
    pub(in crate::http) from: Option<Seq>,
}

/// A stream, between two of its frames.
struct Open {
    api: Api,
    follow: Follow,
    watching: Watching,
    from: Seq,
    frames: VecDeque<Event>,
    /// More is there than the last look showed.
    is_behind: bool,
    next_look: Instant,
}

impl Follow {
    /// The stream; `None` where there is no such group for who asks.
    pub(in crate::http) async fn open(
        self,
        api: Api,
        watching: Watching,
    ) -> Result<Option<Sse<impl Stream<Item = Result<Event, Infallible>>>>, storage::Error> {
        let first = self.from.unwrap_or(Seq(u64::MAX));
        let Some(page) = self.look(&api, first).await? else { return Ok(None) };
        let next = Seq(page.last.0.saturating_add(1));
        let mut frames = VecDeque::new();
        let from = match self.from {
            None => next,
            // The database was put back: what had these numbers is not known here.
            Some(from) if from > next => {
                frames.push_back(gone(Seq(from.0 - 1)));
                Seq(0)
            }
            Some(from) => from,
        };
        let before = Seq(from.0.saturating_sub(1));
        frames.push_front(framed("begin", Some(before), &serde_json::json!({"last": page.last})));
        let next_look = Instant::now();
        let open = Open { api, follow: self, watching, from, frames, is_behind: true, next_look };
        Ok(Some(Sse::new(stream::unfold(open, Open::next))))
    }

    async fn look(&self, api: &Api, from: Seq) -> Result<Option<EventPage>, storage::Error> {
        let (db, group) = (&api.db, self.group);
        match &self.asker {
            Asker::Operator => events::page(db, Who::Operator, group, from, LOOK).await,
            // Looked up anew each time: it may have been logged out.
            Asker::Device(token) => match api.sessions.device(db, token).await? {
                Some(device) => events::page(db, Who::Device(&device), group, from, LOOK).await,
                None => Ok(None),
            },
        }
    }
}

impl Open {
    /// The next frame, when there is one; `None` ends the stream.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some((Ok(frame), self));
            }
            if !self.is_behind {
                let quiet = Instant::now() + QUIET;
                tokio::select! {
                    () = self.api.stopping.cancelled() => return None,
                    () = self.watching.told() => sleep_until(self.next_look).await,
                    () = sleep_until(quiet) => self.frames.push_back(Event::default().comment("")),
                }
            }
            self.is_behind = false;
            self.next_look = Instant::now() + PAUSE;
            match self.follow.look(&self.api, self.from).await {
                Ok(Some(page)) => self.take(&page),
                Ok(None) => return None,
                Err(error) => {
                    tracing::warn!(%error, "events could not be looked up");
                    return None;
                }
            }
        }
    }

    fn take(&mut self, page: &EventPage) {
        self.frames.extend(page.gone.map(gone));
        self.frames.extend(page.events.iter().map(event));
        self.is_behind = page.next.is_some();
        self.from = page.next.unwrap_or(Seq(page.last.0.saturating_add(1))).max(self.from);
    }
}

fn event(event: &GroupEvent) -> Event {
    let kind = serde_json::to_value(event.kind).unwrap_or_default();
    framed(kind.as_str().unwrap_or_default(), Some(event.id), event)
}

/// Some events up to this one are gone.
fn gone(until: Seq) -> Event {
    framed("gone", None, &serde_json::json!({"gone": until}))
}

fn framed(name: &str, id: Option<Seq>, data: &impl serde::Serialize) -> Event {
    let event = Event::default().event(name).data(serde_json::to_string(data).unwrap_or_default());
    match id {
        Some(id) => event.id(id.to_string()),
        None => event,
    }
}
