//! What happened in the caller's groups.

mod follow;

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::request::Parts,
    response::{IntoResponse, Response},
};
use causeway_protocol::{
    api::{ErrorBody, EventPage},
    ids::{GroupId, Seq},
};

use super::{
    Api,
    auth::Caller,
    body::{Page, queried},
    error::ApiError,
};
use crate::services::events::{self, Who};

pub(super) use follow::{Asker, Follow, LastSeen};

/// Streams of events that one account, and the operator, have open at most.
pub(super) const STREAMS: usize = 4;
/// What a look counts for at least, and each event that it may show: bytes of traffic.
const LOOK: usize = 16 << 10;
const EVENT: usize = 512;

/// Which group, if it is to be one.
pub(super) struct InGroup(Option<GroupId>);

impl FromRequestParts<Api> for InGroup {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        queried(parts, "group").map(Self)
    }
}

/// `GET events` – what happened in the caller's groups while its device counted there, from the event
/// `from` on (protocol §8).
#[utoipa::path(get, path = "/events", tag = "events",
    params(("from" = Option<u64>, Query), ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000),
        ("group" = Option<GroupId>, Query)),
    responses((status = 200, body = EventPage), (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`: the account's traffic")),
    security(("token" = [])))]
pub(super) async fn page(
    State(api): State<Api>,
    caller: Caller,
    InGroup(group): InGroup,
    page: Page<u64>,
) -> Result<Json<EventPage>, ApiError> {
    let cost = EVENT.saturating_mul(page.limit as usize).max(LOOK);
    api.shares.traffic(api.clock.now(), &caller.account, cost)?;
    let from = Seq(page.from.unwrap_or(0));
    let page = events::page(&api.db, Who::Device(&caller), group, from, page.limit).await?;
    page.map(Json).ok_or_else(unknown)
}

/// `GET events/stream` – the same as they happen, as server-sent events: from the one behind
/// `Last-Event-ID`, else from `from` on, else from now on (protocol §8).
#[utoipa::path(get, path = "/events/stream", tag = "events",
    params(("from" = Option<u64>, Query), ("group" = Option<GroupId>, Query),
        ("Last-Event-ID" = Option<u64>, Header)),
    responses(
        (status = 200, content_type = "text/event-stream", body = String, description = "first `begin`; then each event under its kind, with a `GroupEvent`; `gone` where some are"),
        (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`: the account's traffic, or four streams of it are open"),
    ), security(("token" = [])))]
pub(super) async fn follow(
    State(api): State<Api>,
    caller: Caller,
    InGroup(group): InGroup,
    LastSeen(last): LastSeen,
    page: Page<u64>,
) -> Result<Response, ApiError> {
    api.shares.traffic(api.clock.now(), &caller.account, LOOK)?;
    let watching = api.live.feed.watch(caller.account.as_str(), STREAMS);
    let watching = watching.ok_or_else(|| {
        ApiError::later(format_args!("{STREAMS} streams of events are open already"), 30_000)
    })?;
    // A stream is no request that is being answered.
    caller.turn.end();
    let from = last.map(|last| Seq(last.0.saturating_add(1))).or(page.from.map(Seq));
    let follow = Follow { asker: Asker::Device(caller.token), group, from };
    let stream = follow.open(api, watching).await?;
    stream.map(IntoResponse::into_response).ok_or_else(unknown)
}

fn unknown() -> ApiError {
    ApiError::not_found("no such group")
}
