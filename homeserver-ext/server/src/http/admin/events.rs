//! What happened in all groups, for the operator: nothing that was said.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use causeway_protocol::{
    api::EventPage,
    ids::{GroupId, Seq},
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Admin, Problem, ProblemBody, Query, checked};
use crate::{
    http::{
        Api,
        events::{Asker, Follow, LastSeen, STREAMS},
    },
    services::events::{self, Who},
};

/// Which events.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Begin behind this one.
    after: Option<u64>,
    /// At most this many, 1 to 1,000; 100 if not given. A stream has no end.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
    /// Of this group alone.
    group: Option<GroupId>,
}

/// `GET /_causeway/admin/v1/events` – what happened in the groups of this server, in its order; no
/// content.
///
/// `next` is the first event of the next page: `after` is one less. Where the native server runs in
/// another process this one has no list: 404.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/events", tag = "events", params(Asked),
    responses((status = 200, body = EventPage), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn events(
    _: Admin,
    State(api): State<Api>,
    Query(asked): Query<Asked>,
) -> Result<Json<EventPage>, Problem> {
    let limit = checked(asked.limit)?;
    let from = Seq(asked.after.map_or(0, |after| after.saturating_add(1)));
    let page = events::page(&api.db, Who::Operator, asked.group, from, limit).await?;
    page.map(Json).ok_or(Problem::NotFound("group"))
}

/// `GET /_causeway/admin/v1/events/stream` – the same as they happen, as server-sent events: behind
/// `Last-Event-ID`, else `after`, else from now on.
///
/// First `begin`; then each event under its kind; `gone` where some are. At most four are open: 429.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/events/stream", tag = "events",
    params(Asked, ("Last-Event-ID" = Option<u64>, Header)),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn follow(
    _: Admin,
    State(api): State<Api>,
    LastSeen(last): LastSeen,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    let after = last.map(|last| last.0).or(asked.after);
    let from = after.map(|after| Seq(after.saturating_add(1)));
    // No account has this name.
    let watching = api.live.feed.watch("", STREAMS).ok_or(Problem::TooMany("streams of events"))?;
    let follow = Follow { asker: Asker::Operator, group: asked.group, from };
    let stream = follow.open(api, watching).await?;
    stream.map(IntoResponse::into_response).ok_or(Problem::NotFound("group"))
}
