//! What listens beside the native API: for the homeserver, for probes and for the operator.
//!
//! The whole of it stands on this page; what an endpoint does, in its own file.

mod admin;
mod appservice;
mod auth;
mod error;
mod focus;
mod probes;
mod server_alone;

pub use admin::openapi;
pub use appservice::Connection;
pub use server_alone::ServerAlone;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::{
    Router,
    http::{StatusCode, Uri, header::AUTHORIZATION},
    routing::{delete, get, post, put},
};
use causeway_server::{TokenHash, admin::behind_token};
use causeway_store::{Db, WriteProbe};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{Semaphore, watch};
use tower_http::{
    catch_panic::CatchPanicLayer,
    sensitive_headers::SetSensitiveRequestHeadersLayer,
    trace::{DefaultOnFailure, TraceLayer},
};
use tracing::Level;

use crate::{
    domain::ghost::Names,
    health::Health,
    secret::Secret,
    services::{
        Clock, deliver::Leases, encryption::Encryption, focus::Focus, from_matrix::Straight,
    },
    steps::Steps,
    storage::sealed::Sealer,
};

/// What the endpoints work with.
pub struct Http {
    parts: Parts,
    readers: Semaphore,
    probe: WriteProbe,
    /// The transaction that was taken in last. Of this process, since the one before it had other
    /// connections, and what comes first on a connection is doubted anyway.
    last: Mutex<Option<String>>,
}

/// What the endpoints work with, from outside. None of it needs the native side to be there: what
/// the homeserver sends is taken in from the first moment.
pub struct Parts {
    /// `bridge.db`.
    pub db: Db,
    /// Seals what waits in it.
    pub sealer: Sealer,
    /// Who is who on our server.
    pub names: Names,
    /// What time it is.
    pub clock: Clock,
    /// Whether the homeserver takes our token.
    pub token_taken: watch::Receiver<bool>,
    /// Why the native server does not know our session, while it does not.
    pub locked_out: watch::Receiver<Option<String>>,
    /// Who serves which lane.
    pub leases: Leases,
    /// Which rooms are encrypted.
    pub encryption: Encryption,
    /// The way to the rules, which opens once there is a spine.
    pub straight: Straight,
    /// Where tests let the process die.
    pub steps: Steps,
    /// Who may call.
    pub tokens: Tokens,
    /// How well things are.
    pub health: Health,
    /// The native server, where it runs in this process.
    pub server: Option<causeway_server::App>,
    /// Who of Matrix is let into calls.
    pub focus: Arc<Focus>,
    /// What was counted.
    pub metrics: PrometheusHandle,
}

impl Http {
    /// Ready to be served.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            parts,
            readers: Semaphore::new(appservice::MAX_READERS),
            probe: WriteProbe::default(),
            last: Mutex::default(),
        })
    }

    fn last(&self) -> MutexGuard<'_, Option<String>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who may call.
#[derive(Debug, Clone)]
pub struct Tokens {
    /// The homeserver's.
    pub hs_token: Secret,
    /// The operator's.
    pub admin: Secret,
}

/// Everything that listens at `appservice.listen`.
pub fn router(http: Arc<Http>) -> Router {
    let appservice = Router::new()
        .route("/transactions/{txn}", put(appservice::push_events))
        .route("/users/{user}", get(appservice::query_user))
        .route("/rooms/{alias}", get(appservice::query_alias))
        .route("/ping", post(appservice::ping));
    let ours = Router::new()
        .route("/health", get(admin::health::health))
        .route("/portals", get(admin::portals::portals))
        .route("/portals/{id}/recreate", post(admin::portals::recreate_portal))
        .route("/shares", get(admin::shares::shares))
        .route("/queues", get(admin::queues::queues))
        .route("/queues/rows", get(admin::queues::rows))
        .route("/queues/rows/{name}", delete(admin::queues::drop_row))
        .route("/queues/rows/{name}/retry", post(admin::queues::retry_row))
        .route("/quarantine", get(admin::quarantine::list))
        .route("/quarantine/{id}", delete(admin::quarantine::drop_one))
        .route("/dead-letters", get(admin::dead_letters::dead_letters))
        .route("/dead-letters/{id}", delete(admin::dead_letters::drop_dead_letter))
        .route("/dead-letters/{id}/retry", post(admin::dead_letters::retry_dead_letter));
    let theirs = match &http.parts.server {
        Some(server) => server.admin(),
        None => Router::new().route("/groups", get(admin::groups::elsewhere)),
    };
    let router = operators(ours.merge(theirs), &http.parts.tokens.admin)
        .nest("/_matrix/app/v1", appservice)
        .nest(focus::PREFIX, focus::router(Arc::clone(&http.parts.focus)))
        .route("/openapi.json", get(|| async { axum::Json(openapi()) }))
        .route("/live", get(probes::live))
        .route("/_matrix/mau/live", get(probes::live))
        .route("/ready", get(probes::ready))
        .route("/_matrix/mau/ready", get(probes::ready))
        .route("/health", get(probes::ready))
        .route("/metrics", get(probes::metrics));
    finished(router, http)
}

/// Everything that listens there where only the native server runs.
pub fn server_router(alone: ServerAlone) -> Router {
    let ours = Router::new().route("/health", get(server_alone::health));
    let router = operators(ours.merge(alone.server.admin()), &alone.admin)
        .route("/live", get(probes::live))
        .route("/_matrix/mau/live", get(probes::live))
        .route("/ready", get(server_alone::ready))
        .route("/_matrix/mau/ready", get(server_alone::ready))
        .route("/health", get(server_alone::ready))
        .route("/metrics", get(server_alone::metrics));
    finished(router, Arc::new(alone))
}

/// The operator's API, for whoever has his token.
fn operators<S: Clone + Send + Sync + 'static>(nouns: Router<S>, token: &Secret) -> Router<S> {
    let token = TokenHash::of(token.expose());
    Router::new().nest("/_causeway/admin/v1", behind_token(nouns, token))
}

/// What holds for every endpoint.
fn finished<S: Clone + Send + Sync + 'static>(router: Router<S>, state: S) -> Router {
    router
        .fallback(async |uri: Uri| error::unrecognized(uri.path(), StatusCode::NOT_FOUND))
        .method_not_allowed_fallback(async |uri: Uri| {
            error::unrecognized(uri.path(), StatusCode::METHOD_NOT_ALLOWED)
        })
        .with_state(state)
        .layer(CatchPanicLayer::new())
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(span)
                .on_failure(DefaultOnFailure::new().level(Level::DEBUG)),
        )
        .layer(SetSensitiveRequestHeadersLayer::new([AUTHORIZATION]))
}

/// Method and path, never the query: a token may stand in it.
fn span<B>(request: &axum::http::Request<B>) -> tracing::Span {
    tracing::debug_span!("request", method = %request.method(), path = request.uri().path())
}
