//! What load balancers, containers and Prometheus ask, without a token.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use metrics::{counter, gauge};

use super::{Http, Parts};
use crate::{
    figures::standing,
    health::{Found, Kind, Report},
    storage,
};

/// Most that the metrics name of what stands.
const NAMED: usize = 20;

/// `GET /live` – the process answers; says nothing about anything else.
pub(super) async fn live() -> StatusCode {
    StatusCode::OK
}

/// `GET /ready` – 200 if messages can pass, else 503; what is missing in the body.
pub(super) async fn ready(State(http): State<Arc<Http>>) -> impl IntoResponse {
    let report = report(&http).await;
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report))
}

/// What is known of our own state and of our neighbours'.
pub(super) async fn report(http: &Http) -> Report {
    let Parts { health, token_taken, locked_out, server, .. } = &http.parts;
    let ours = http.probe.is_well(&http.parts.db, "bridge").await;
    let theirs = match server {
        Some(server) => server.is_well().await,
        None => true,
    };
    health.report(Found {
        database: ours && theirs,
        token_taken: *token_taken.borrow(),
        locked_out: locked_out.borrow().clone(),
    })
}

/// `GET /metrics` – counters since the start, and how full everything is now.
pub(super) async fn metrics(State(http): State<Arc<Http>>) -> String {
    if let Err(error) = gauges(&http).await {
        tracing::warn!(%error, "the queues cannot be counted");
    }
    http.parts.metrics.run_upkeep();
    let stood = http.parts.health.troubles.stood(NAMED);
    let stood = stood.iter().map(|(kind, name, stood)| (kind.name(), name.as_str(), *stood));
    http.parts.metrics.render() + &standing(stood)
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows only floats")]
async fn gauges(http: &Http) -> Result<(), storage::Error> {
    let mut read = http.parts.db.read().await?;
    let stats = storage::stats::read(&mut read).await?;
    let lanes = storage::stats::lanes(&mut read).await?;
    drop(read);
    for (name, count) in [
        ("causeway_inbox_events", stats.inbox),
        ("causeway_outbox_effects", stats.outbox),
        ("causeway_dead_letters", stats.dead_letters),
        ("causeway_quarantined", stats.quarantine),
        ("causeway_portals", stats.portals),
        ("causeway_ghosts", stats.ghosts),
        ("causeway_lanes_paused", stats.paused_lanes),
    ] {
        gauge!(name).set(count as f64);
    }
    gauge!("causeway_lanes_waiting").set(lanes.len() as f64);
    if let Some(server) = &http.parts.server {
        server.measure().await?;
    }
    let (sizes, counts) = (http.parts.db.sizes(), http.parts.db.counts());
    gauge!("causeway_db_bytes", "db" => "bridge").set(sizes.db_bytes as f64);
    gauge!("causeway_wal_bytes", "db" => "bridge").set(sizes.wal_bytes as f64);
    counter!("causeway_db_transactions_total", "db" => "bridge").absolute(counts.transactions);
    counter!("causeway_db_commits_total", "db" => "bridge").absolute(counts.commits);
    counter!("causeway_db_long_transactions_total", "db" => "bridge").absolute(counts.long);
    gauge!("causeway_ready").set(f64::from(u8::from(report(http).await.ready)));
    for kind in Kind::ALL {
        let count = http.parts.health.troubles.count(kind);
        gauge!("causeway_troubles", "kind" => kind.name()).set(count as f64);
    }
    Ok(())
}
