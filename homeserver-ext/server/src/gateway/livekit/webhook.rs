//! What LiveKit says of its own accord: a hint to look, and no more.
//!
//! It is signed, and counts once. What a later LiveKit says in words that are not known is read for
//! what is.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use causeway_protocol::ids::Timestamp;
use livekit_api::{
    access_token::TokenVerifier,
    webhooks::{self, WebhookReceiver},
};
use serde::Deserialize;

use super::LiveKit;

/// How long what was said is known again: signatures last five minutes, and clocks differ by one.
const KNOWN_MS: u64 = 6 * 60_000;
/// How many are.
const MOST_KNOWN: usize = 4_096;
/// Longest id of an event.
const MAX_ID: usize = 256;

/// Why it is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WebhookError {
    /// It is not LiveKit's, or was changed on its way.
    #[error("not signed with the key of this server's LiveKit: look at `webhook.api_key` there")]
    Forged,
    /// It counted then.
    #[error("this was said before")]
    Replayed,
    /// Nothing is known of it.
    #[error("this is no event of LiveKit's")]
    Unreadable,
}

/// What LiveKit says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// Of which room, if of one.
    pub(crate) room: Option<String>,
    /// How many ms ago, as its clock has it, if it says so.
    pub(crate) lag_ms: Option<u64>,
}

/// What was said lately, and until when that is known.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<HashMap<String, Timestamp>>);

impl Seen {
    fn is_new(&self, id: &str, now: Timestamp) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MOST_KNOWN {
            seen.retain(|_, until| *until > now);
        }
        if seen.len() >= MOST_KNOWN {
            // A look more than is needed is all that a replay is then worth.
            seen.clear();
        }
        seen.insert(id.to_owned(), now.plus_ms(KNOWN_MS)).is_none_or(|until| until <= now)
    }
}

/// Of an event what is needed here.
#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    id: String,
    room: Option<Room>,
    #[serde(rename = "createdAt")]
    created_at: Option<Seconds>,
}

#[derive(Deserialize)]
struct Room {
    #[serde(default)]
    name: String,
}

/// Protobuf's JSON has 64 bits as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(u64),
    Text(String),
}

impl LiveKit {
    /// Takes an event with the `Authorization` that came with it, which has no `Bearer`.
    pub(crate) fn told(
        &self,
        now: Timestamp,
        body: &str,
        authorization: &str,
    ) -> Result<Told, WebhookError> {
        let key = &self.config.api_key;
        let verifier = TokenVerifier::with_api_key(key, self.config.api_secret.expose());
        match WebhookReceiver::new(verifier).receive(body, authorization) {
            // Signed, with a word that the library does not know.
            Ok(_) | Err(webhooks::WebhookError::InvalidData(_)) => {}
            Err(_) => return Err(WebhookError::Forged),
        }
        let event: Event = serde_json::from_str(body).map_err(|_| WebhookError::Unreadable)?;
        if event.id.is_empty() || event.id.len() > MAX_ID {
            return Err(WebhookError::Unreadable);
        }
        if !self.seen.is_new(&event.id, now) {
            return Err(WebhookError::Replayed);
        }
        let seconds = event.created_at.and_then(|seconds| match seconds {
            Seconds::Number(seconds) => Some(seconds),
            Seconds::Text(text) => text.parse().ok(),
        });
        let lag_ms = seconds.map(|seconds| now.0.saturating_sub(seconds.saturating_mul(1_000)));
        Ok(Told { room: event.room.map(|room| room.name), lag_ms })
    }
}
