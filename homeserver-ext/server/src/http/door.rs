//! The door between servers: where the Matrix half of this installation fetches the frames that are to
//! leave, and hands in those that came (protocol §7.1), and has those of Matrix let into calls. With a
//! token of its own; people have none.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, FromRequestParts, Query, State},
    http::{StatusCode, request::Parts},
    routing::{get, post},
};
use causeway_protocol::{ids::is_server_name, link::MAX_CONTENT};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Api, auth::bearer, body::Body, error::ApiError, remote};
use crate::services::calls::{self, GuestAsks, GuestToken};

/// Below which the door is.
pub(super) const PREFIX: &str = "/_causeway/relay/v1";
/// Frames that are handed in at once.
const MAX_FRAMES: usize = 128;
/// Longest that the door has who fetches wait, milliseconds.
const MAX_WAIT_MS: u64 = 50_000;

/// The agent: whoever holds the token.
struct Agent;

impl FromRequestParts<Api> for Agent {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let token = bearer(&parts.headers);
        let expected = api.config.relay_token.as_ref();
        if expected.zip(token).is_some_and(|(expected, token)| expected.is(token)) {
            return Ok(Self);
        }
        let error = "this door is for the Matrix side of this server alone";
        Err(ApiError::new(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN", error))
    }
}

#[derive(Deserialize)]
struct Wait {
    #[serde(default)]
    wait_ms: u64,
}

#[derive(Serialize)]
struct Out {
    frames: Vec<OutFrame>,
}

#[derive(Serialize)]
struct OutFrame {
    to: String,
    content: Value,
}

#[derive(Deserialize)]
struct In {
    frames: Vec<InFrame>,
}

#[derive(Deserialize)]
struct InFrame {
    /// By the Matrix sender, who is its agent and nobody else.
    from: String,
    content: Value,
}

pub(super) fn router() -> Router<Api> {
    let large = DefaultBodyLimit::max(MAX_FRAMES * 2 * MAX_CONTENT);
    Router::new()
        .route("/frames", get(fetch).post(hand_in).layer(large))
        .route("/calls/token", post(let_in))
}

/// What lets one of Matrix, whom the Matrix half has looked at, into the room of his group's calls.
async fn let_in(
    State(api): State<Api>,
    _: Agent,
    Body(asks): Body<GuestAsks>,
) -> Result<Json<GuestToken>, ApiError> {
    let livekit = api.livekit.as_deref();
    let when = (api.clock.now(), api.config.server_name.as_str());
    Ok(Json(calls::let_in((&api.db, &api.live), livekit, when, &asks).await?))
}

/// What is to leave now, waited for a while. Whatever is lost on its way goes again by the link's own
/// rules.
async fn fetch(
    State(api): State<Api>,
    _: Agent,
    Query(Wait { wait_ms }): Query<Wait>,
) -> Result<Json<Out>, ApiError> {
    let longest = Duration::from_millis(wait_ms.min(MAX_WAIT_MS));
    let outgoing = tokio::select! {
        outgoing = api.servers.outgoing(
            (&api.db, &api.live),
            || api.clock.now(),
            |device| api.streams.sent(device),
            longest,
        ) => outgoing?,
        () = api.stopping.cancelled() => Vec::new(),
    };
    metrics::counter!("causeway_servers_frames_total", "way" => "out")
        .increment(outgoing.len() as u64);
    let frames = outgoing.into_iter().map(|out| OutFrame { to: out.to, content: out.content });
    Ok(Json(Out { frames: frames.collect() }))
}

/// What came, in its order; committed when this is answered.
async fn hand_in(
    State(api): State<Api>,
    _: Agent,
    Json(In { frames }): Json<In>,
) -> Result<Json<Out>, ApiError> {
    if frames.len() > MAX_FRAMES {
        return Err(ApiError::too_large(format!("at most {MAX_FRAMES} frames at once")));
    }
    let mut back = Vec::new();
    for InFrame { from, content } in frames {
        if !is_server_name(&from) || from == api.config.server_name {
            continue;
        }
        metrics::counter!("causeway_servers_frames_total", "way" => "in").increment(1);
        // What is wrong with one server stops no other: its frame is not taken, and comes again.
        match take(&api, &from, &content).await {
            Ok(said) => back.extend(said.map(|content| OutFrame { to: from, content })),
            Err(error) => tracing::warn!(?error, server = from, "a frame was not taken"),
        }
    }
    // What waited for something may wait no longer: another server may have brought it.
    for from in api.servers.stuck() {
        if let Err(error) = go_on(&api, &from, &Value::Null).await {
            tracing::warn!(?error, server = from, "a frame was not taken");
        }
    }
    Ok(Json(Out { frames: back }))
}

async fn take(api: &Api, from: &str, content: &Value) -> Result<Option<Value>, ApiError> {
    let said = api.servers.receive((&api.db, api.clock.now()), from, content).await?;
    go_on(api, from, content).await?;
    Ok(said)
}

/// Takes what is of its turn; of what waits behind that, in `content`, what may help.
async fn go_on(api: &Api, from: &str, content: &Value) -> Result<(), ApiError> {
    loop {
        let next = api.servers.next((&api.db, api.clock.now()), from).await?;
        let Some(items) = next else { break };
        if remote::take(api, from, items).await? {
            api.servers.committed((&api.db, api.clock.now()), from).await?;
        } else if !remote::look_ahead(api, from, content).await? {
            // It comes again; meanwhile what it waits for may have come.
            break;
        }
    }
    Ok(())
}
