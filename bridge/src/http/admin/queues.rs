//! Queues: what waits, and where something stands still.

use std::sync::Arc;

use axum::{Json, extract::State};
use causeway_server::admin::{Admin, Problem, ProblemBody};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    http::Http,
    storage::stats::{self, LaneState, Stats},
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
    responses((status = 200, body = Queues), (status = "4XX", body = ProblemBody))
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
