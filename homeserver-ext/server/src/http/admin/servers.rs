//! Other servers, for the operator: how the links with them stand.

use axum::{Json, extract::State};
use causeway_protocol::ids::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Admin, Problem, ProblemBody, Query, checked, next};
use crate::http::Api;

/// Which page of servers.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ServersPage {
    /// Begin after this name: `next` of the page before.
    after: Option<String>,
    /// At most this many, 1 to 1,000; 100 if not given.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
}

/// A page of servers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Servers {
    /// By name.
    servers: Vec<OtherServer>,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// How the link with one server stands.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OtherServer {
    /// Its name.
    name: String,
    /// When something came of it last; absent where nothing has.
    #[serde(skip_serializing_if = "Option::is_none")]
    heard_ms: Option<Timestamp>,
    /// Since when something waits there that it has not taken; absent where nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_since_ms: Option<Timestamp>,
    /// Items that it has not taken.
    waiting: u64,
    /// Bytes of what came of it before its turn.
    held_bytes: u64,
    /// Items of it that made no sense, since the server was begun.
    malformed: u64,
}

/// `GET /_causeway/admin/v1/servers` – the other servers that were spoken with since this one was begun, by
/// name.
///
/// Where the native server runs in another process this one has no list: 404.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/servers", tag = "servers", params(ServersPage),
    responses((status = 200, body = Servers), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn servers(
    _: Admin,
    State(api): State<Api>,
    Query(page): Query<ServersPage>,
) -> Result<Json<Servers>, Problem> {
    let limit = checked(page.limit)?;
    let known = api.servers.known(page.after.as_deref(), limit as usize).await;
    let next = next(known.len(), limit, known.last().map(|known| known.name.clone()));
    let servers = known.into_iter().map(|known| OtherServer {
        name: known.name,
        heard_ms: (known.heard.0 > 0).then_some(known.heard),
        waits_since_ms: known.waits_since,
        waiting: known.queued as u64,
        held_bytes: known.held_bytes as u64,
        malformed: known.malformed,
    });
    Ok(Json(Servers { servers: servers.collect(), next }))
}
