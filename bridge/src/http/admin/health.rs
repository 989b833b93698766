//! Health, for the operator.

use std::sync::Arc;

use axum::{Json, extract::State};
use causeway_server::admin::{Admin, ProblemBody};

use crate::{
    health::Report,
    http::{Http, probes},
};

/// `GET /_causeway/admin/v1/health` – what is well and what is not.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/health", tag = "operations",
    responses((status = 200, body = Report), (status = "4XX", body = ProblemBody))
)]
pub(in crate::http) async fn health(_: Admin, State(http): State<Arc<Http>>) -> Json<Report> {
    Json(probes::report(&http).await)
}
