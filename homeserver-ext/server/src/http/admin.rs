//! The operator's API, `/_causeway/admin/v1/…`: what the native server brings to it, and what its
//! nouns share, whoever brings them.
//!
//! Where it listens is for whoever serves it to say. Nothing of it is on the native listener.

mod calls;
mod door;
mod events;
mod groups;
mod limits;
mod page;
mod problem;
mod servers;
mod stats;

pub use door::{Admin, behind_token};
pub use page::{Path, Query, checked, next};
pub use problem::{Problem, ProblemBody};

use axum::{
    Router,
    routing::{get, post},
};
use utoipa::OpenApi;

use super::Api;
pub use super::openapi::say_ranges;

/// The native server's nouns.
pub(crate) fn router<S>(api: Api) -> Router<S> {
    Router::new()
        .route("/groups", get(groups::groups))
        .route("/calls", get(calls::calls))
        .route("/calls/{call}", get(calls::call))
        .route("/calls/{call}/move", post(calls::move_to))
        .route("/calls/{call}/kick", post(calls::kick))
        .route("/calls/{call}/mute", post(calls::mute))
        .route("/calls/{call}/end", post(calls::end))
        .route("/limits", get(limits::limits))
        .route("/groups/{group}/replicas", get(servers::replicas))
        .route("/servers", get(servers::servers))
        .route("/servers/{name}", get(servers::server))
        .route("/servers/{name}/pause", post(servers::pause))
        .route("/servers/{name}/resume", post(servers::resume))
        .route("/servers/{name}/reset", post(servers::reset))
        .route("/servers/{name}/ping", post(servers::ping))
        .route("/stats", get(stats::stats))
        .route("/events", get(events::events))
        .route("/events/stream", get(events::follow))
        .with_state(api)
}

/// They as an `OpenAPI` 3.1 document, to be merged into that of the whole.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Doc::openapi()
}

#[derive(OpenApi)]
#[openapi(paths(
    groups::groups,
    calls::calls,
    calls::call,
    calls::move_to,
    calls::kick,
    calls::mute,
    calls::end,
    limits::limits,
    servers::servers,
    servers::server,
    servers::pause,
    servers::resume,
    servers::reset,
    servers::ping,
    servers::replicas,
    stats::stats,
    events::events,
    events::follow
))]
struct Doc;
