//! Which of our events a room has: read back once for all that may be out, instead of once for each.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use causeway_protocol::ids::Timestamp;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};
use tokio::sync::Mutex as AsyncMutex;

use crate::{
    domain::{
        ghost::Names,
        room::predecessor,
        to_matrix::{MARKER, SENT_AT},
    },
    gateway::matrix::{Direction, Matrix, MatrixError, MessagesPage},
};

/// How far homeservers' clocks may be apart from ours.
pub(super) const SKEW_MS: u64 = 15 * 60 * 1_000;
/// Events of one page.
const PAGE: u32 = 100;
/// Pages that are read of one room, as far back as they go.
const PAGES: usize = 1_000;
/// Pages that are read before something else may be done.
const AT_ONCE: usize = 20;
/// Pages in a row without one of ours that say how old they are: when an event was sent is what its
/// sender's server says, and a page is soon filled.
const STRANGERS: usize = 10;
/// Events that are remembered, of all rooms; beyond, rooms that were not asked for longest are
/// forgotten, but none that is just being searched.
const MAX_EVENTS: usize = 200_000;
/// Events that were sent since a room was asked for last.
const MAX_SENT: usize = 4_096;
/// Between two looks at a room that is being searched.
const SEARCHED: Duration = Duration::from_secs(30);
/// A room that nobody asks for is forgotten.
const UNUSED: Duration = Duration::from_mins(10);

/// What is known of each room.
#[derive(Debug, Clone, Default)]
pub struct Markers(Arc<Mutex<BTreeMap<OwnedRoomId, Known>>>);

#[derive(Debug, Default)]
struct Known {
    marks: Arc<AsyncMutex<Marks>>,
    events: usize,
    used: Duration,
    /// Something may be there that was not when it was read.
    is_behind: bool,
    /// What the homeserver has taken since.
    sent: Vec<(String, OwnedEventId)>,
}

/// How a look ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// This event bears the marker.
    Event(OwnedEventId),
    /// None does.
    Nothing(Rest),
    /// So many events were read, and none does; older ones are to be read yet.
    NotYet(usize),
    /// It may be further back than is read.
    TooFar,
}

/// What is in a room in which nothing was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rest {
    /// The room that was before it, if that may have it.
    pub(super) before: Option<OwnedRoomId>,
    /// What somebody has taken out of it, whose ever of ours it was: what it bore went with it.
    pub(super) removed: Vec<Removed>,
}

/// An event of ours that was taken out of the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Removed {
    pub(super) event: OwnedEventId,
    pub(super) sender: OwnedUserId,
    /// When it was sent, or the time that it bore.
    pub(super) at: Timestamp,
}

impl Markers {
    /// The event that bears `txn`, if the room has one that was not sent before `since`; as much of the
    /// room as is read at once.
    ///
    /// # Errors
    /// [`MatrixError`] of a page; what was read before is kept.
    pub(super) async fn find(
        &self,
        (matrix, names): (&Matrix, &Names),
        steady: Duration,
        (room, txn, since): (&RoomId, &str, Timestamp),
    ) -> Result<Found, MatrixError> {
        let marks = self.lend(room, steady);
        let mut marks = marks.lock().await;
        self.bring_up(room, &mut marks);
        let ended = marks.find(matrix, names, (room, txn, since)).await;
        if matches!(ended, Err(MatrixError::Refused(..))) {
            // A homeserver that was put back does not know its own tokens.
            *marks = Marks::default();
        }
        self.keep(room, marks.events.len() + marks.removed.len());
        ended
    }

    /// An event of ours that the homeserver has taken.
    pub(super) fn sent(&self, room: &RoomId, txn: &str, event: &OwnedEventId) {
        if let Some(known) = self.all().get_mut(room) {
            if known.sent.len() < MAX_SENT {
                known.sent.push((txn.to_owned(), event.clone()));
            } else {
                // Whoever asks next reads it in the room.
                (known.sent, known.is_behind) = (Vec::new(), true);
            }
        }
    }

    /// What was sent into the room may be there, or not.
    pub(super) fn doubt(&self, room: &RoomId) {
        if let Some(known) = self.all().get_mut(room) {
            known.is_behind = true;
        }
    }

    /// Forgets rooms that nobody asks for any more.
    pub(in crate::services) fn tidy(&self, steady: Duration) {
        self.all().retain(|_, known| steady.saturating_sub(known.used) < UNUSED);
    }

    fn lend(&self, room: &RoomId, steady: Duration) -> Arc<AsyncMutex<Marks>> {
        let mut all = self.all();
        let known = all.entry(room.to_owned()).or_default();
        known.used = steady;
        Arc::clone(&known.marks)
    }

    /// Whoever sends does not wait for who reads: what he said meanwhile is noted here.
    fn bring_up(&self, room: &RoomId, marks: &mut Marks) {
        if let Some(known) = self.all().get_mut(room) {
            marks.is_behind |= std::mem::take(&mut known.is_behind);
            marks.events.extend(known.sent.drain(..));
        }
    }

    fn keep(&self, room: &RoomId, events: usize) {
        let mut all = self.all();
        let Some(known) = all.get_mut(room) else { return };
        known.events = events;
        let now = known.used;
        while all.values().map(|known| known.events).sum::<usize>() > MAX_EVENTS {
            let is_over = |known: &Known| now.saturating_sub(known.used) >= SEARCHED;
            let others = all.iter().filter(|(_, known)| is_over(known));
            let unused = others.min_by_key(|(_, known)| known.used).map(|(room, _)| room.clone());
            let Some(unused) = unused else { return };
            all.remove(&unused);
        }
    }

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<OwnedRoomId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of one room.
#[derive(Debug)]
struct Marks {
    /// Ours, by the marker.
    events: HashMap<String, OwnedEventId>,
    /// Ours that were taken out.
    removed: Vec<Removed>,
    /// The room that it says it follows.
    before: Option<OwnedRoomId>,
    /// Where what came since is read from, once anything was read.
    newer: Option<String>,
    is_behind: bool,
    older: Older,
    /// All of ours that was sent after this is read.
    down_to: Timestamp,
    /// The newest of each of the last pages, if there was none of ours among them.
    strangers: VecDeque<Timestamp>,
    pages: usize,
}

#[derive(Debug)]
enum Older {
    Newest,
    From(String),
    /// The room has none.
    End,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            events: HashMap::new(),
            removed: Vec::new(),
            before: None,
            newer: None,
            is_behind: false,
            older: Older::Newest,
            down_to: Timestamp(u64::MAX),
            strangers: VecDeque::new(),
            pages: 0,
        }
    }
}

impl Marks {
    async fn find(
        &mut self,
        matrix: &Matrix,
        names: &Names,
        (room, txn, since): (&RoomId, &str, Timestamp),
    ) -> Result<Found, MatrixError> {
        let bot = names.bot();
        for _ in 0..AT_ONCE {
            if let Some(event) = self.events.get(txn) {
                return Ok(Found::Event(event.clone()));
            }
            if self.is_behind && self.newer.is_some() {
                let from = self.newer.as_deref();
                let page = matrix.messages(bot, room, Direction::Forwards, from, PAGE).await?;
                self.take_newer(names, page);
                continue;
            }
            let from = match &self.older {
                _ if self.down_to.plus_ms(SKEW_MS) < since => {
                    return Ok(Found::Nothing(self.rest(None)));
                }
                Older::End => return Ok(Found::Nothing(self.rest(self.before.clone()))),
                Older::Newest => None,
                Older::From(_) if self.pages >= PAGES => return Ok(Found::TooFar),
                Older::From(from) => Some(from.as_str()),
            };
            let page = matrix.messages(bot, room, Direction::Backwards, from, PAGE).await?;
            self.take_older(names, page);
        }
        Ok(self.events.get(txn).cloned().map_or_else(|| Found::NotYet(self.read()), Found::Event))
    }

    fn rest(&self, before: Option<OwnedRoomId>) -> Rest {
        Rest { before, removed: self.removed.clone() }
    }

    /// Events that were read, or nearly so many.
    fn read(&self) -> usize {
        self.pages * PAGE as usize
    }

    fn take_newer(&mut self, names: &Names, page: MessagesPage) {
        // At its newest event a room may name a next page, which is where this one began.
        self.is_behind = page.end.is_some() && page.end != self.newer;
        self.note(names, &page);
        if page.end.is_some() {
            self.newer = page.end;
        }
    }

    fn take_older(&mut self, names: &Names, page: MessagesPage) {
        let (ours, others) = self.note(names, &page);
        if self.newer.is_none() {
            (self.newer, self.is_behind) = (page.start.clone(), false);
        }
        self.pages += 1;
        if let Some(newest) = ours {
            self.down_to = self.down_to.min(newest);
            self.strangers.clear();
        } else if let Some(newest) = others {
            self.strangers.push_back(newest);
            if self.strangers.len() >= STRANGERS {
                self.down_to =
                    self.strangers.iter().copied().max().unwrap_or(newest).min(self.down_to);
                self.strangers.pop_front();
            }
        }
        // A page may be empty, and not the last: what is on it is not for us.
        self.older = match page.end {
            Some(end) if Some(&end) != page.start.as_ref() => Older::From(end),
            Some(_) | None => Older::End,
        };
    }

    /// Notes ours; when the newest of them was sent, and the newest of others' says that it was.
    fn note(
        &mut self,
        names: &Names,
        page: &MessagesPage,
    ) -> (Option<Timestamp>, Option<Timestamp>) {
        let (mut ours, mut others) = (None, None);
        for raw in &page.chunk {
            let Ok(event) = serde_json::from_str::<Marked>(raw.get()) else { continue };
            let Marked { event_id, sender, kind, state_key, at, content } = event;
            if kind == "m.room.create" && state_key.is_some() {
                self.before = predecessor(&content);
            }
            // Anybody in the room may write our marker.
            let sender = UserId::parse(sender).ok().filter(|sender| names.is_ours(sender));
            let Some(sender) = sender else {
                others = others.max(Some(at));
                continue;
            };
            let Ok(id) = OwnedEventId::try_from(event_id) else { continue };
            // When it was sent is not there either.
            if state_key.is_none() && content.is_empty() {
                self.removed.push(Removed { event: id, sender, at });
                continue;
            }
            let sent_at = content.get(SENT_AT).and_then(Value::as_u64).map(Timestamp);
            ours = ours.max(Some(sent_at.unwrap_or(at)));
            if let Some(txn) = content.get(MARKER).and_then(Value::as_str) {
                self.events.insert(txn.to_owned(), id);
            }
        }
        (ours, others)
    }
}

/// As much of an event as is needed to know one of ours again.
#[derive(Deserialize)]
struct Marked {
    event_id: String,
    #[serde(default)]
    sender: String,
    #[serde(rename = "type", default)]
    kind: String,
    state_key: Option<IgnoredAny>,
    #[serde(rename = "origin_server_ts", default)]
    at: Timestamp,
    #[serde(default)]
    content: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new("b.example").unwrap()
    }

    /// Who sent it, when it says, and when it was really sent.
    type Event<'a> = (&'a str, u64, Option<u64>);

    fn page(events: &[Event<'_>], end: Option<&str>) -> MessagesPage {
        let chunk = events.iter().enumerate().map(|(n, (sender, at, sent_at))| {
            let mut content = serde_json::json!({"dev.causeway.txn": format!("t{at}-{n}")});
            if let Some(sent_at) = sent_at {
                content["dev.causeway.sent_at"] = (*sent_at).into();
            }
            let event = serde_json::json!({
                "event_id": format!("$e{at}-{n}"), "sender": sender, "origin_server_ts": at,
                "content": content,
            });
            serde_json::value::to_raw_value(&event).unwrap()
        });
        let end = end.map(ToOwned::to_owned);
        MessagesPage { chunk: chunk.collect(), start: Some("start".to_owned()), end }
    }

    #[test]
    fn how_far_back_all_of_ours_is_known() {
        let (bob, al) = ("@causeway_bob:b.example", "@al:x");
        // Pages from the newest on; down to when all of ours is known after each.
        let none = u64::MAX;
        let table: &[(&[Event<'_>], u64)] = &[
            (&[(al, 900, None)], none),
            (&[(bob, 800, None), (bob, 790, None), (al, 1, None)], 800),
            // One that was said long ago, and sent just now.
            (&[(bob, 5, Some(780))], 780),
            // One whose clock was wrong hides none of the others.
            (&[(bob, 6, None), (bob, 770, None)], 770),
        ];
        let mut marks = Marks::default();
        for (events, expected) in table {
            marks.take_older(&names(), page(events, Some("more")));
            assert_eq!(marks.down_to, Timestamp(*expected), "{events:?}");
        }
        assert_eq!(marks.events.len(), 5, "others' count for nothing: {:?}", marks.events);
        for n in 1..=STRANGERS {
            marks.take_older(&names(), page(&[(al, 300 + n as u64, None)], Some("more")));
            let expected = if n == STRANGERS { 310 } else { 770 };
            assert_eq!(marks.down_to, Timestamp(expected), "{n}");
        }
        marks.take_older(&names(), page(&[], Some("more")));
        assert!(matches!(marks.older, Older::From(_)), "an empty page is not the last");
        for end in [Some("start"), None] {
            marks.take_older(&names(), page(&[], end));
            assert!(matches!(marks.older, Older::End));
        }
    }

    #[test]
    fn rooms_that_nobody_asks_for_are_forgotten_and_events_are_bounded() {
        let markers = Markers::default();
        let room = |n: u64| OwnedRoomId::try_from(format!("!r{n}:x")).unwrap();
        for (n, at) in [(0, 0), (1, 1), (2, 2), (3, 30)] {
            markers.lend(&room(n), Duration::from_secs(at));
            markers.keep(&room(n), MAX_EVENTS / 3);
        }
        // Room 0 was searched too long ago, the others are being searched still.
        let known = || markers.all().keys().cloned().collect::<Vec<_>>();
        assert_eq!(known(), [room(1), room(2), room(3)]);
        markers.lend(&room(4), SEARCHED);
        markers.keep(&room(4), MAX_EVENTS);
        assert_eq!(known(), [room(1), room(2), room(3), room(4)]);
        markers.tidy(UNUSED + Duration::from_secs(1));
        assert_eq!(known(), [room(2), room(3), room(4)]);
        markers.tidy(UNUSED + Duration::from_secs(2));
        assert_eq!(known(), [room(3), room(4)]);
    }
}
