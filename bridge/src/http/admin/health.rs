//! Health, for the operator.

use std::sync::Arc;

use axum::{Json, extract::State};
use causeway_server::admin::{Admin, ProblemBody};

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    health::{Report, Trouble},
    http::{Http, probes},
};

/// Most troubles that one answer names.
const NAMED: usize = 100;

/// How well everything is, and what is not.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Health {
    /// As `/ready` has it.
    #[serde(flatten)]
    report: Report,
    /// What stands still: those that have stood longest, at most 100.
    troubles: Vec<Trouble>,
}

/// `GET /_causeway/admin/v1/health` – what is well and what is not.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/health", tag = "operations",
    responses((status = 200, body = Health), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(in crate::http) async fn health(_: Admin, State(http): State<Arc<Http>>) -> Json<Health> {
    let now = (http.parts.clock)();
    let report = probes::report(&http).await;
    let troubles = http.parts.health.troubles.longest(NAMED, now);
    Json(Health { report, troubles })
}
