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
use serde_json::{Value, json};

use super::{Api, auth::bearer, body::Body, error::ApiError, remote};
use crate::services::{
    calls::{Asked, Attends, Fetched, GuestAsks, GuestToken, Place, Says},
    servers::{Came, Leaving, Post, Report, Wishes},
};

/// Below which the door is.
pub(super) const PREFIX: &str = "/_causeway/relay/v1";
/// Frames that are handed in at once.
const MAX_FRAMES: usize = 128;
/// Those of Matrix who are asked for at once.
const MAX_PLACES: usize = 64;
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
    /// `moved` of the rooms that the agent knows of.
    #[serde(default)]
    moved: Option<u64>,
}

#[derive(Default, Serialize)]
struct Out {
    frames: Vec<OutFrame>,
    /// Events for relay rooms.
    posts: Vec<Post>,
    /// Another one than before: the rooms are asked for.
    moved: u64,
}

#[derive(Serialize)]
struct Back {
    frames: Vec<OutFrame>,
}

#[derive(Deserialize)]
struct Reports {
    rooms: Vec<Report>,
}

#[derive(Serialize)]
struct OutFrame {
    to: String,
    content: Value,
}

#[derive(Deserialize)]
struct Places {
    places: Vec<Place>,
}

#[derive(Deserialize)]
struct In {
    frames: Vec<InFrame>,
}

#[derive(Deserialize)]
struct InFrame {
    /// By the Matrix sender, who is its agent and nobody else.
    from: String,
    /// The relay room in which it stood; none: it is a to-device message's.
    #[serde(default)]
    room: Option<String>,
    content: Value,
}

pub(super) fn router() -> Router<Api> {
    let large = DefaultBodyLimit::max(MAX_FRAMES * 2 * MAX_CONTENT);
    Router::new()
        .route("/frames", get(fetch).post(hand_in).layer(large))
        .route("/rooms", get(rooms).post(report))
        .route("/calls/token", post(let_in))
        .route("/calls/member", post(attend))
        .route("/calls/abroad", get(asked_abroad).post(fetched_abroad))
        .route("/calls/said", post(says))
        .route("/calls/there", post(are_there))
}

/// What lets one of Matrix, whom the Matrix half has looked at, into the room of his group's calls.
async fn let_in(
    State(api): State<Api>,
    _: Agent,
    Body(asks): Body<GuestAsks>,
) -> Result<Json<GuestToken>, ApiError> {
    Ok(Json(remote::let_guest_in(&api, asks).await?))
}

/// What the room of a group says of one of Matrix: that he is in its call, or is not any more.
async fn attend(
    State(api): State<Api>,
    _: Agent,
    Body(says): Body<Attends>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(remote::attend(&api, says).await?))
}

/// What natives want to hear on other servers for calls, waited for a while.
async fn asked_abroad(
    State(api): State<Api>,
    _: Agent,
    Query(Wait { wait_ms, .. }): Query<Wait>,
) -> Json<Vec<Asked>> {
    let longest = Duration::from_millis(wait_ms.min(MAX_WAIT_MS));
    tokio::select! {
        asked = api.abroad.asked(longest) => Json(asked),
        () = api.stopping.cancelled() => Json(Vec::new()),
    }
}

/// What came of one of these.
async fn fetched_abroad(
    State(api): State<Api>,
    _: Agent,
    Body(fetched): Body<Fetched>,
) -> StatusCode {
    api.abroad.fetched(fetched);
    StatusCode::NO_CONTENT
}

/// What the room of a group says for one of Matrix of the moment.
async fn says(
    State(api): State<Api>,
    _: Agent,
    Body(says): Body<Says>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(remote::says(&api, says).await?))
}

/// Who of Matrix is in the rooms of calls.
async fn are_there(
    State(api): State<Api>,
    _: Agent,
    Body(Places { places }): Body<Places>,
) -> Result<Json<Value>, ApiError> {
    if places.len() > MAX_PLACES {
        return Err(ApiError::too_large(format!("at most {MAX_PLACES} at once")));
    }
    Ok(Json(json!({ "there": remote::are_there(&api, places).await? })))
}

/// What is to leave now, waited for a while. Whatever is lost on its way goes again by the link's own
/// rules.
async fn fetch(
    State(api): State<Api>,
    _: Agent,
    Query(Wait { wait_ms, moved }): Query<Wait>,
) -> Result<Json<Out>, ApiError> {
    let longest = Duration::from_millis(wait_ms.min(MAX_WAIT_MS));
    let Leaving { frames, posts, moved } = tokio::select! {
        leaving = api.servers.outgoing(
            (&api.db, &api.live),
            || api.clock.now(),
            |device| api.streams.sent(device),
            (longest, moved),
        ) => leaving?,
        () = api.stopping.cancelled() => Leaving::default(),
    };
    let count = |name: &'static str, count: usize| {
        metrics::counter!(name, "way" => "out").increment(count as u64);
    };
    count("causeway_servers_frames_total", frames.len());
    count("causeway_servers_room_events_total", posts.len());
    let frames = frames.into_iter().map(|out| OutFrame { to: out.to, content: out.content });
    Ok(Json(Out { frames: frames.collect(), posts, moved }))
}

/// The relay rooms in which the agent is to be.
async fn rooms(State(api): State<Api>, _: Agent) -> Result<Json<Wishes>, ApiError> {
    Ok(Json(api.servers.wished_rooms(&api.db).await?))
}

/// What the agent found there.
async fn report(
    State(api): State<Api>,
    _: Agent,
    Json(Reports { rooms }): Json<Reports>,
) -> Result<StatusCode, ApiError> {
    api.servers.report_rooms((&api.db, api.clock.now()), rooms).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What came, in its order; committed when this is answered.
async fn hand_in(
    State(api): State<Api>,
    _: Agent,
    Json(In { frames }): Json<In>,
) -> Result<Json<Back>, ApiError> {
    if frames.len() > MAX_FRAMES {
        return Err(ApiError::too_large(format!("at most {MAX_FRAMES} frames at once")));
    }
    let mut back = Vec::new();
    for InFrame { from, room, content } in frames {
        if !is_server_name(&from) || from == api.config.server_name {
            continue;
        }
        // What is wrong with one server stops no other: its frame is not taken, and comes again.
        let taken = if let Some(room) = room {
            take_of_room(&api, &from, (&room, &content)).await
        } else {
            metrics::counter!("causeway_servers_frames_total", "way" => "in").increment(1);
            take(&api, &from, &content).await
        };
        match taken {
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
    Ok(Json(Back { frames: back }))
}

async fn take(api: &Api, from: &str, content: &Value) -> Result<Option<Value>, ApiError> {
    let said = api.servers.receive((&api.db, api.clock.now()), from, content).await?;
    go_on(api, from, content).await?;
    Ok(said)
}

/// Takes an event of a relay room as the frame of its link that it is.
async fn take_of_room(
    api: &Api,
    from: &str,
    (room, content): (&str, &Value),
) -> Result<Option<Value>, ApiError> {
    metrics::counter!("causeway_servers_room_events_total", "way" => "in").increment(1);
    match api.servers.of_room(&api.db, from, (room, content)).await? {
        Came::Frame(content) => take(api, from, &content).await,
        Came::Nothing => Ok(None),
        Came::Malformed => {
            api.servers.made_no_sense((&api.db, api.clock.now()), from).await?;
            Ok(None)
        }
        Came::OtherRoom => {
            remote::refused(api, from, "other_room").await?;
            Ok(None)
        }
    }
}

/// Takes what is of its turn; of what waits behind that, in `content`, what may help.
async fn go_on(api: &Api, from: &str, content: &Value) -> Result<(), ApiError> {
    loop {
        let next = api.servers.next((&api.db, api.clock.now()), from).await?;
        let Some(due) = next else { break };
        if remote::take(api, from, due).await? {
            api.servers.committed((&api.db, api.clock.now()), from).await?;
        } else if !remote::look_ahead(api, from, content).await? {
            // It comes again; meanwhile what it waits for may have come.
            break;
        }
    }
    Ok(())
}
