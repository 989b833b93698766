//! The homeserver's account in parts: an event of it, what was missed, and why it could not be had.

use causeway_protocol::ids::{Timestamp, text_of};
use ruma::{RoomId, UserId};
use serde_json::{Map, Value, value::RawValue};

use crate::{
    domain::{RoomEvent, ghost::digest},
    gateway::matrix::MatrixError,
    services::StepError,
    storage,
};

/// Why the homeserver's account could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The homeserver's.
    #[error(transparent)]
    Matrix(#[from] MatrixError),
    /// No randomness.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The rows'.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl From<causeway_store::Error> for LookError {
    fn from(error: causeway_store::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// Counts events that were read before any transaction brought them; most come by one later, too.
/// Whatever a homeserver forgot to send is among them.
pub(super) fn count(missed: u64) {
    if missed > 0 {
        tracing::info!(missed, "events were read that no transaction has brought yet");
        metrics::counter!("causeway_events_fetched_total").increment(missed);
    }
}

/// An event as a transaction has it; what cannot be parsed could not be routed either.
pub(super) fn event(room: &RoomId, raw: &RawValue) -> Option<RoomEvent> {
    let mut event: Map<String, Value> = serde_json::from_str(raw.get()).ok()?;
    event.insert("room_id".to_owned(), Value::String(room.to_string()));
    serde_json::from_value(Value::Object(event)).ok()
}

/// The invitation of `user` among what is shown of a room; where it is shown without an id, by one that
/// is the same each time.
pub(super) fn invitation(
    room: &RoomId,
    user: &UserId,
    shown: &[Box<RawValue>],
    now: Timestamp,
) -> Option<RoomEvent> {
    let mut found = shown.iter().filter_map(|raw| {
        let event: Map<String, Value> = serde_json::from_str(raw.get()).ok()?;
        let is_invite = event.get("type").is_some_and(|kind| kind == "m.room.member")
            && event.get("state_key").is_some_and(|key| key == user.as_str());
        is_invite.then_some(event)
    });
    let mut event = found.next_back()?;
    event.entry("event_id").or_insert_with(|| {
        let id = digest(&[b"invitation", room.as_bytes(), user.as_bytes()]);
        Value::String(format!("${}", text_of(&id)))
    });
    event.entry("origin_server_ts").or_insert_with(|| now.0.into());
    event.insert("room_id".to_owned(), Value::String(room.to_string()));
    serde_json::from_value(Value::Object(event)).ok()
}
