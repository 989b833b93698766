//! LiveKit, the server that carries bigger calls: its rooms, who is in them, and what lets them in.
//!
//! Of two requests that fail, LiveKit is away: for 30 s nobody waits for it any more, and it is asked
//! every two seconds whether it is back. It is told names that mean nothing to it, and no account but
//! in calls where those of Matrix may come: those of ghosts.

mod tokens;
mod trial;
mod webhook;

use std::{
    collections::BTreeSet,
    panic::AssertUnwindSafe,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use causeway_protocol::{api::CallIntent, call::rules, ids::Timestamp};
use futures_util::FutureExt as _;
use livekit_api::services::{
    ServerError, ServerErrorCode, ServiceError, ServiceResult,
    room::{CreateRoomOptions, RoomClient},
};

pub use trial::TrialRoom;
pub(crate) use webhook::{Told, WebhookError};

use crate::config::LiveKit as Config;

/// For one answer of its API.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is asked whether it is back.
const PROBE_MS: u64 = 2_000;
/// How long LiveKit keeps a room that nobody came into, and one that all have left, in seconds. Which
/// rooms there are is for calls to say: one that is missing is made again.
const EMPTY_S: u32 = 60;
const LEFT_S: u32 = 60;

/// Why LiveKit did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SfuError {
    /// It failed twice just now: why.
    #[error("LiveKit did not answer as it should: {0}")]
    Failed(String),
    /// It failed lately, and is not asked; in how many ms it is.
    #[error("LiveKit failed lately, and is asked again in {0} ms")]
    Resting(u64),
    /// The configuration names none any more.
    #[error("no LiveKit is configured")]
    None,
}

/// One who is in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InRoom {
    pub(crate) identity: String,
    /// What LiveKit calls it this time: another one each time that it comes.
    pub(crate) visit: String,
    /// Whether it sends anything.
    pub(crate) publishes: bool,
    /// Whether that is sound, which is not muted.
    pub(crate) speaks: bool,
    /// What it sends.
    tracks: Vec<String>,
}

#[cfg(test)]
impl InRoom {
    /// Somebody who sends nothing.
    pub(crate) fn nobody(identity: &str, visit: &str) -> Self {
        let (identity, visit) = (identity.to_owned(), visit.to_owned());
        Self { identity, visit, publishes: false, speaks: false, tracks: Vec::new() }
    }
}

/// How LiveKit is, for metrics and the operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Health {
    /// Why it is away, and since when.
    away: Option<(String, Timestamp)>,
    /// Until when nobody waits for it.
    resting: Option<Timestamp>,
    /// When it is asked again whether it is back.
    probe: Option<Timestamp>,
}

/// The one LiveKit of this server.
#[derive(Debug)]
pub(crate) struct LiveKit {
    api: RoomClient,
    config: Config,
    health: Mutex<Health>,
    seen: webhook::Seen,
}

impl LiveKit {
    pub(crate) fn new(config: Config) -> Self {
        let Config { api_url, api_key, api_secret, .. } = &config;
        let api = RoomClient::with_api_key(api_url, api_key, api_secret.expose())
            .with_request_timeout(PATIENCE)
            // Other regions are LiveKit Cloud's.
            .with_failover(false);
        Self { api, config, health: Mutex::default(), seen: webhook::Seen::default() }
    }

    /// Where clients reach it.
    pub(crate) fn public_url(&self) -> &str {
        &self.config.public_url
    }

    /// In how many ms it is asked again, while it is away.
    pub(crate) fn rests(&self, now: Timestamp) -> Option<u64> {
        let resting = self.health().resting?;
        (resting > now).then(|| resting.0 - now.0)
    }

    /// Why it is away, if it is.
    pub(crate) fn why_away(&self) -> Option<String> {
        self.health().away.as_ref().map(|(why, _)| why.clone())
    }

    /// Makes a room, unless it is there.
    pub(crate) async fn open(&self, now: Timestamp, room: &str) -> Result<(), SfuError> {
        let options = || CreateRoomOptions {
            empty_timeout: EMPTY_S,
            departure_timeout: LEFT_S,
            ..CreateRoomOptions::default()
        };
        self.ask(now, "open", || self.api.create_room(room, options())).await.map(drop)
    }

    /// Closes a room, with whoever is in it; one that is not there is closed.
    pub(crate) async fn close(&self, now: Timestamp, room: &str) -> Result<(), SfuError> {
        self.ask(now, "close", || is_gone(self.api.delete_room(room))).await
    }

    /// Which of these rooms there are. It is asked even while it rests, every two seconds.
    pub(crate) async fn rooms(
        &self,
        now: Timestamp,
        names: &[String],
    ) -> Result<BTreeSet<String>, SfuError> {
        let rooms = self.ask(now, "rooms", || self.api.list_rooms(names.to_vec())).await?;
        Ok(rooms.into_iter().map(|room| room.name).collect())
    }

    /// Who is in a room; nobody, where there is none.
    pub(crate) async fn participants(
        &self,
        now: Timestamp,
        room: &str,
    ) -> Result<Vec<InRoom>, SfuError> {
        let those = self.ask(now, "participants", || self.api.list_participants(room)).await?;
        Ok(those
            .into_iter()
            .map(|it| InRoom {
                publishes: !it.tracks.is_empty(),
                speaks: it.tracks.iter().any(|track| {
                    // By the name that LiveKit's protocol has for sound.
                    track.r#type().as_str_name() == "AUDIO" && !track.muted
                }),
                tracks: it.tracks.into_iter().map(|track| track.sid).collect(),
                identity: it.identity,
                visit: it.sid,
            })
            .collect())
    }

    /// Takes somebody out of a room; nobody is out who is not in it. He may come back for as long as
    /// his token lasts.
    pub(crate) async fn remove(
        &self,
        now: Timestamp,
        room: &str,
        identity: &str,
    ) -> Result<(), SfuError> {
        self.ask(now, "remove", || is_gone(self.api.remove_participant(room, identity))).await
    }

    /// Mutes what somebody sends; he may go on by himself.
    pub(crate) async fn mute(
        &self,
        now: Timestamp,
        room: &str,
        who: &InRoom,
    ) -> Result<(), SfuError> {
        for track in &who.tracks {
            let mute = || self.api.mute_published_track(room, &who.identity, track, true);
            self.ask(now, "mute", || is_gone(mute().map(|done| done.map(drop)))).await?;
        }
        Ok(())
    }

    /// Asks twice at most; who cannot be asked, or does not answer, is away from then on.
    async fn ask<T, F: Future<Output = ServiceResult<T>> + Send>(
        &self,
        now: Timestamp,
        what: &'static str,
        request: impl Fn() -> F + Send + Sync,
    ) -> Result<T, SfuError> {
        if let Some(ms) = self.rests(now)
            && !self.may_probe(now, what)
        {
            return Err(SfuError::Resting(ms));
        }
        let mut why = String::new();
        for _ in 0..2 {
            // The library may panic at what it does not expect, and is no reason for us to.
            match AssertUnwindSafe(request()).catch_unwind().await {
                Ok(Ok(done)) => {
                    self.is_back();
                    return Ok(done);
                }
                Ok(Err(error)) => why = in_words(&error),
                Err(_) => "its answer is none".clone_into(&mut why),
            }
        }
        metrics::counter!("causeway_sfu_failures_total", "request" => what).increment(1);
        self.is_away(now, &why);
        Err(SfuError::Failed(why))
    }

    /// Whether this request may ask a LiveKit that rests whether it is back.
    fn may_probe(&self, now: Timestamp, what: &str) -> bool {
        let mut health = self.health();
        let may = what == "rooms" && health.probe.is_none_or(|at| at <= now);
        if may {
            health.probe = Some(now.plus_ms(PROBE_MS));
        }
        may
    }

    fn is_back(&self) {
        let before = std::mem::take(&mut *self.health());
        if before.away.is_some() {
            tracing::info!("LiveKit answers again");
        }
        metrics::gauge!("causeway_sfu_up").set(1.0);
    }

    fn is_away(&self, now: Timestamp, why: &str) {
        let mut health = self.health();
        if health.away.is_none() {
            tracing::warn!(why, "LiveKit is away: calls that need it wait, or go back to the mesh");
        }
        let since = health.away.take().map_or(now, |(_, since)| since);
        health.away = Some((why.to_owned(), since));
        let rest = u64::try_from(rules::BREAK.as_millis()).unwrap_or(u64::MAX);
        health.resting = Some(now.plus_ms(rest));
        health.probe = Some(now.plus_ms(PROBE_MS));
        drop(health);
        metrics::gauge!("causeway_sfu_up").set(0.0);
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether LiveKit is there and takes our key, or why not; it changes nothing there.
///
/// # Errors
/// Why not, for the operator.
pub async fn try_livekit(config: &Config) -> Result<(), String> {
    let livekit = LiveKit::new(config.clone());
    let asked = livekit.rooms(Timestamp(0), &["none".to_owned()]).await;
    asked.map(drop).map_err(|error| error.to_string())
}

/// A token for a room that is never there: whether LiveKit is reached elsewhere, too, and takes it.
pub fn livekit_probe(config: &Config) -> Option<String> {
    LiveKit::new(config.clone()).token("none", "doctor", CallIntent::Audio).ok()
}

/// Takes it for done where the one it is about is not there.
async fn is_gone(done: impl Future<Output = ServiceResult<()>> + Send) -> ServiceResult<()> {
    match done.await {
        Err(ServiceError::Twirp(ServerError::Twirp(error)))
            if error.code == ServerErrorCode::NOT_FOUND =>
        {
            Ok(())
        }
        done => done,
    }
}

/// Why, for the log and the operator: no header and no body is in it.
fn in_words(error: &ServiceError) -> String {
    match error {
        ServiceError::Twirp(ServerError::Twirp(error)) => format!("{}: {}", error.code, error.msg),
        // What answers to a wrong key is no JSON.
        ServiceError::Twirp(ServerError::Request(error)) if error.is_decode() => {
            "what answers is no LiveKit, or does not take our api_key and secret".to_owned()
        }
        ServiceError::Twirp(ServerError::Request(error)) if error.is_timeout() => {
            format!("no answer within {} s", PATIENCE.as_secs())
        }
        ServiceError::Twirp(ServerError::Request(_)) => "nobody answers at its api_url".to_owned(),
        error => error.to_string(),
    }
}
