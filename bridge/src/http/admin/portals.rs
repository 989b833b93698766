//! Portals: the pairs of group and room.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use causeway_server::admin::{Admin, Path, Problem, ProblemBody, Query, checked, next};
use serde::Serialize;
use utoipa::ToSchema;

use super::page::Page;
use crate::{
    domain::portal::PortalId,
    http::Http,
    services::rooms::{self, RecreateError},
    storage::stats::{self, PortalState},
};

/// A page of portals.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Portals {
    /// Oldest first.
    portals: Vec<PortalState>,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// `GET /_causeway/admin/v1/portals` – the pairs of group and room, oldest first.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/portals", tag = "portals", params(Page),
    responses((status = 200, body = Portals), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(in crate::http) async fn portals(
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

/// `POST /_causeway/admin/v1/portals/{id}/recreate` – has another room made, and everybody invited
/// who was in the one before; 202, also while one is being made.
#[utoipa::path(
    post, path = "/_causeway/admin/v1/portals/{id}/recreate", tag = "portals",
    params(("id" = i64, Path, description = "Its id in the list")),
    responses((status = 202), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(in crate::http) async fn recreate_portal(
    _: Admin,
    State(http): State<Arc<Http>>,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    let parts = &http.parts;
    let now = (parts.clock)();
    match rooms::recreate(&parts.db, &parts.sealer, &parts.names, now, PortalId(id)).await {
        Ok(()) => Ok(StatusCode::ACCEPTED),
        Err(RecreateError::Unknown) => Err(Problem::NotFound("portal")),
        Err(RecreateError::Closed) => Err(Problem::Conflict(
            "the bridge is not in the group; an admin of it lets it in with `group bridge`",
        )),
        Err(RecreateError::Storage(error)) => Err(error.into()),
    }
}
