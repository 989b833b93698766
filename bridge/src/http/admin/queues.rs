//! Queues: what waits, and where something stands still.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use causeway_server::admin::{Admin, Path, Problem, ProblemBody, Query, checked, next};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    domain::lane::Lane,
    http::Http,
    services::deliver::{Bench, ByHandError},
    storage::{
        rows::{self, WaitingRow},
        stats::{self, LaneState, Stats},
    },
};

/// How full the queues are.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Queues {
    /// In numbers.
    totals: Stats,
    /// Lanes that have something in them, or stand still.
    lanes: Vec<LaneState>,
}

/// `GET /_causeway/admin/v1/queues` – what waits, and where something stands still.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/queues", tag = "queues",
    responses((status = 200, body = Queues), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(in crate::http) async fn queues(
    _: Admin,
    State(http): State<Arc<Http>>,
) -> Result<Json<Queues>, Problem> {
    let mut read = http.parts.db.read().await.map_err(crate::storage::Error::from)?;
    let totals = stats::read(&mut read).await?;
    let lanes = stats::lanes(&mut read).await?;
    Ok(Json(Queues { totals, lanes }))
}

/// Which rows.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct OfLane {
    /// A lane's name, as `GET queues` has it.
    lane: String,
    /// Begin after this id: `next` of the page before.
    #[serde(default)]
    after: i64,
    /// At most this many, 1 to 1,000; 100 if not given.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
}

/// A page of a lane's rows.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Rows {
    /// In the lane's order.
    rows: Vec<WaitingRow>,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// `GET /_causeway/admin/v1/queues/rows` – what waits in one lane, in its order; never the text.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/queues/rows", tag = "queues", params(OfLane),
    responses((status = 200, body = Rows), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(in crate::http) async fn rows(
    _: Admin,
    State(http): State<Arc<Http>>,
    Query(of): Query<OfLane>,
) -> Result<Json<Rows>, Problem> {
    let limit = checked(of.limit)?;
    if of.lane.parse::<Lane>().is_err() {
        return Err(Problem::NotFound("lane of this name"));
    }
    let mut read = http.parts.db.read().await.map_err(crate::storage::Error::from)?;
    let rows = rows::list(&mut read, &http.parts.sealer, &of.lane, of.after, limit).await?;
    let next = next(rows.len(), limit, rows.last().map(|row| row.id));
    Ok(Json(Rows { rows, next }))
}

/// `POST /_causeway/admin/v1/queues/rows/{name}/retry` – has its lane tried now, from the first row
/// on; 202, or 409 while it is being tried, or is paused.
#[utoipa::path(
    post, path = "/_causeway/admin/v1/queues/rows/{name}/retry", tag = "queues",
    params(("name" = String, Path, description = "Its name in the list")),
    responses((status = 202), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(in crate::http) async fn retry_row(
    _: Admin,
    State(http): State<Arc<Http>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    bench(&http).retry(&name).await.map_err(problem)?;
    Ok(StatusCode::ACCEPTED)
}

/// `DELETE /_causeway/admin/v1/queues/rows/{name}` – gives it up: it becomes a dead letter, and who
/// said it is told; 204, also the second time, or 409 while its lane is being tried.
#[utoipa::path(
    delete, path = "/_causeway/admin/v1/queues/rows/{name}", tag = "queues",
    params(("name" = String, Path, description = "Its name in the list")),
    responses((status = 204), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(in crate::http) async fn drop_row(
    _: Admin,
    State(http): State<Arc<Http>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    bench(&http).give_up(&name).await.map_err(problem)?;
    Ok(StatusCode::NO_CONTENT)
}

fn bench(http: &Http) -> Bench<'_> {
    let parts = &http.parts;
    Bench {
        db: &parts.db,
        sealer: &parts.sealer,
        names: &parts.names,
        leases: &parts.leases,
        now: (parts.clock)(),
    }
}

fn problem(error: ByHandError) -> Problem {
    match error {
        ByHandError::Gone => Problem::NotFound("row that waits: it was carried out or given up"),
        ByHandError::Busy => Problem::Conflict(
            "its lane is being tried right now; look in a moment whether it still waits",
        ),
        ByHandError::Paused => {
            Problem::Conflict("its lane stands still until somebody acts; `GET queues` says why")
        }
        ByHandError::Storage(error) => error.into(),
    }
}
