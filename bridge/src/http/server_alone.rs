//! What listens beside the native API where the bridge is another process: probes, metrics, and as
//! much of the admin API as the native server can answer. Nothing of it is on the native listener.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use causeway_server::{App, admin::Admin};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;

use crate::secret::Secret;

/// What these endpoints work with.
pub struct ServerAlone {
    /// The native server of this process.
    pub server: App,
    /// The operator's token.
    pub admin: Secret,
    /// What was counted.
    pub metrics: PrometheusHandle,
}

/// How well the native server is: there is nobody else that it needs.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    ready: bool,
    database: bool,
}

/// `GET /ready` – 200 if the native side can serve, else 503.
pub(super) async fn ready(State(alone): State<Arc<ServerAlone>>) -> impl IntoResponse {
    let report = report(&alone).await;
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report))
}

async fn report(alone: &ServerAlone) -> Report {
    let database = alone.server.is_well().await;
    Report { ready: database, database }
}

/// `GET /metrics` – the native side's.
pub(super) async fn metrics(State(alone): State<Arc<ServerAlone>>) -> String {
    let measured = alone.server.measure().await;
    if let Err(error) = &measured {
        tracing::warn!(%error, "the mailboxes cannot be counted");
    }
    metrics::gauge!("causeway_ready").set(f64::from(u8::from(measured.is_ok())));
    alone.metrics.run_upkeep();
    alone.metrics.render()
}

/// `GET /_causeway/admin/v1/health` – as `/ready`, for the operator.
pub(super) async fn health(_: Admin, State(alone): State<Arc<ServerAlone>>) -> Json<Report> {
    Json(report(&alone).await)
}
