//! The operator's API, `/_causeway/admin/v1/…`: what there is, what waits, what was given up.
//!
//! Texts of messages are nowhere in it.

use std::sync::Arc;

use axum::{
    Json,
    extract::{self, FromRequestParts, State},
    http::StatusCode,
};
use causeway_protocol::{api::GroupHead, ids::GroupId};
use serde::{Deserialize, Serialize};
use utoipa::{
    IntoParams, Modify, OpenApi, ToSchema,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use super::{
    Http,
    auth::Admin,
    error::{Problem, ProblemBody},
    probes,
};
use crate::{
    health::Report,
    storage::{
        dead_letters::{self, Replayed},
        stats::{self, LaneState, PortalState, Stats},
    },
};

/// Rows of one page, unless asked otherwise.
const PAGE: u32 = 100;
/// Most rows of one page.
const MAX_PAGE: u32 = 1_000;
/// How long a dead letter is tried once more.
const REPLAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// A query, whose faults are answered as all others are.
#[derive(FromRequestParts)]
#[from_request(via(extract::Query), rejection(Problem))]
pub(super) struct Query<T>(pub(super) T);

/// A part of the path, likewise.
#[derive(FromRequestParts)]
#[from_request(via(extract::Path), rejection(Problem))]
pub(super) struct Path<T>(T);

/// Which page.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
pub(super) struct Page {
    /// Begin after this id: `next` of the page before.
    #[serde(default)]
    after: i64,
    /// At most this many, 1 to 1,000; 100 if not given.
    limit: Option<u32>,
}

/// A page of portals.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Portals {
    /// Oldest first.
    portals: Vec<PortalState>,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// A page of dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLetters {
    /// Oldest first.
    dead_letters: Vec<dead_letters::DeadLetter>,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// Which page of groups.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
pub(super) struct GroupsPage {
    /// Begin after this id: `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<GroupId>,
    /// At most this many, 1 to 1,000; 100 if not given.
    limit: Option<u32>,
}

/// A page of groups.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Groups {
    /// By id.
    groups: Vec<GroupHead>,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<GroupId>,
}

/// How full the queues are.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Queues {
    /// In numbers.
    totals: Stats,
    /// Lanes that have something in them, or stand still.
    lanes: Vec<LaneState>,
}

/// `GET /_causeway/admin/v1/health` – what is well and what is not.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/health", tag = "operations",
    responses((status = 200, body = Report), (status = "4XX", body = ProblemBody))
)]
pub(super) async fn health(_: Admin, State(http): State<Arc<Http>>) -> Json<Report> {
    Json(probes::report(&http).await)
}

/// `GET /_causeway/admin/v1/portals` – the pairs of group and room, oldest first.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/portals", tag = "portals", params(Page),
    responses((status = 200, body = Portals), (status = "4XX", body = ProblemBody))
)]
pub(super) async fn portals(
    _: Admin,
    State(http): State<Arc<Http>>,
    Query(page): Query<Page>,
) -> Result<Json<Portals>, Problem> {
    let limit = checked(page.limit)?;
    let mut read = http.parts.db.read().await.map_err(crate::storage::Error::from)?;
    let portals = stats::portals(&mut read, page.after, limit).await?;
    let next = next(portals.len(), limit, portals.last().map(|portal| portal.id));
    Ok(Json(Portals { portals, next }))
}

/// `GET /_causeway/admin/v1/groups` – the native groups of this server, by id.
///
/// Where the native server runs in another process this one has no list: 404.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/groups", tag = "groups", params(GroupsPage),
    responses((status = 200, body = Groups), (status = "4XX", body = ProblemBody))
)]
pub(super) async fn groups(
    _: Admin,
    State(http): State<Arc<Http>>,
    Query(page): Query<GroupsPage>,
) -> Result<Json<Groups>, Problem> {
    let server = http.parts.server.as_ref();
    let server = server.ok_or(Problem::NotFound("list of groups here: ask the native server"))?;
    page_of_groups(server, page).await
}

/// One page of the groups of `server`.
pub(super) async fn page_of_groups(
    server: &causeway_server::App,
    page: GroupsPage,
) -> Result<Json<Groups>, Problem> {
    let limit = checked(page.limit)?;
    let groups = server.groups(page.after, limit).await.map_err(crate::storage::Error::from)?;
    let next = next(groups.len(), limit, groups.last().map(|group| group.group));
    Ok(Json(Groups { groups, next }))
}

/// `GET /_causeway/admin/v1/queues` – what waits, and where something stands still.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/queues", tag = "queues",
    responses((status = 200, body = Queues), (status = "4XX", body = ProblemBody))
)]
pub(super) async fn queues(
    _: Admin,
    State(http): State<Arc<Http>>,
) -> Result<Json<Queues>, Problem> {
    let mut read = http.parts.db.read().await.map_err(crate::storage::Error::from)?;
    let totals = stats::read(&mut read).await?;
    let lanes = stats::lanes(&mut read).await?;
    Ok(Json(Queues { totals, lanes }))
}

/// `GET /_causeway/admin/v1/dead-letters` – what was given up and why, oldest first.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/dead-letters", tag = "queues", params(Page),
    responses((status = 200, body = DeadLetters), (status = "4XX", body = ProblemBody))
)]
pub(super) async fn dead_letters(
    _: Admin,
    State(http): State<Arc<Http>>,
    Query(page): Query<Page>,
) -> Result<Json<DeadLetters>, Problem> {
    let limit = checked(page.limit)?;
    let mut read = http.parts.db.read().await.map_err(crate::storage::Error::from)?;
    let dead_letters = dead_letters::list(&mut read, page.after, limit).await?;
    let next = next(dead_letters.len(), limit, dead_letters.last().map(|letter| letter.id));
    Ok(Json(DeadLetters { dead_letters, next }))
}

/// `POST /_causeway/admin/v1/dead-letters/{id}/retry` – puts it back at the end of its lane; 202.
///
/// Whoever delivers it looks first whether it arrived after all.
#[utoipa::path(
    post, path = "/_causeway/admin/v1/dead-letters/{id}/retry", tag = "queues",
    params(("id" = i64, Path, description = "Its id in the list")),
    responses((status = 202), (status = "4XX", body = ProblemBody))
)]
pub(super) async fn retry_dead_letter(
    _: Admin,
    State(http): State<Arc<Http>>,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    let until = (http.parts.clock)().plus_ms(REPLAY_MS);
    let mut tx = http.parts.db.begin().await.map_err(crate::storage::Error::from)?;
    match dead_letters::replay(&mut tx, &http.parts.sealer, id, until).await? {
        Replayed::Yes => {}
        Replayed::Unknown => return Err(Problem::NotFound("dead letter")),
        Replayed::Damaged => {
            return Err(Problem::Conflict(
                "what was kept of it is damaged and cannot be tried again; it can be dropped",
            ));
        }
    }
    tx.commit().await.map_err(crate::storage::Error::from)?;
    Ok(StatusCode::ACCEPTED)
}

/// `DELETE /_causeway/admin/v1/dead-letters/{id}` – forgets it for good; 204, also the second
/// time.
#[utoipa::path(
    delete, path = "/_causeway/admin/v1/dead-letters/{id}", tag = "queues",
    params(("id" = i64, Path, description = "Its id in the list")),
    responses((status = 204), (status = "4XX", body = ProblemBody))
)]
pub(super) async fn drop_dead_letter(
    _: Admin,
    State(http): State<Arc<Http>>,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    let mut tx = http.parts.db.begin().await.map_err(crate::storage::Error::from)?;
    dead_letters::drop(&mut tx, id).await?;
    tx.commit().await.map_err(crate::storage::Error::from)?;
    Ok(StatusCode::NO_CONTENT)
}

fn checked(limit: Option<u32>) -> Result<u32, Problem> {
    match limit {
        None => Ok(PAGE),
        Some(limit @ 1..=MAX_PAGE) => Ok(limit),
        Some(_) => Err(Problem::BadRequest(format!("limit is 1 to {MAX_PAGE}"))),
    }
}

fn next<T>(got: usize, limit: u32, last: Option<T>) -> Option<T> {
    if got == limit as usize { last } else { None }
}

/// The API as an `OpenAPI` 3.1 document, made from the code above.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Doc::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Causeway: admin API", description = "What the operator sees and may do."),
    paths(health, groups, portals, queues, dead_letters, retry_dead_letter, drop_dead_letter),
    modifiers(&Token),
    security(("admin token" = []))
)]
struct Doc;

struct Token;

impl Modify for Token {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The text in data_dir/admin.token"))
            .build();
        api.components
            .get_or_insert_default()
            .add_security_scheme("admin token", SecurityScheme::Http(bearer));
    }
}
