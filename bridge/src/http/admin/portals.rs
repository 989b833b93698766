//! Portals: the pairs of group and room.

use std::sync::Arc;

use axum::{Json, extract::State};
use causeway_server::admin::{Admin, Problem, ProblemBody, Query, checked, next};
use serde::Serialize;
use utoipa::ToSchema;

use super::page::Page;
use crate::{
    http::Http,
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
    responses((status = 200, body = Portals), (status = "4XX", body = ProblemBody))
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
