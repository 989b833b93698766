//! The quarantine: what could not be parsed or read.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use causeway_server::admin::{Admin, Path, Problem, ProblemBody, Query, checked, next};
use serde::Serialize;
use utoipa::ToSchema;

use super::page::Page;
use crate::{
    http::Http,
    storage::quarantine::{self, Aside},
};

/// A page of the quarantine.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Quarantine {
    /// Oldest first.
    quarantine: Vec<Aside>,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// `GET /_causeway/admin/v1/quarantine` – what could not be parsed or read and why, oldest first;
/// at most 10,000 rows, 256 MiB and 30 days of it are kept.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/quarantine", tag = "queues", params(Page),
    responses((status = 200, body = Quarantine), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(in crate::http) async fn list(
    _: Admin,
    State(http): State<Arc<Http>>,
    Query(page): Query<Page>,
) -> Result<Json<Quarantine>, Problem> {
    let limit = checked(page.limit)?;
    let mut read = http.parts.db.read().await.map_err(crate::storage::Error::from)?;
    let quarantine = quarantine::list(&mut read, page.after, limit).await?;
    let next = next(quarantine.len(), limit, quarantine.last().map(|aside| aside.id));
    Ok(Json(Quarantine { quarantine, next }))
}

/// `DELETE /_causeway/admin/v1/quarantine/{id}` – forgets one row for good; 204, also the second
/// time.
#[utoipa::path(
    delete, path = "/_causeway/admin/v1/quarantine/{id}", tag = "queues",
    params(("id" = i64, Path, description = "Its id in the list")),
    responses((status = 204), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(in crate::http) async fn drop_one(
    _: Admin,
    State(http): State<Arc<Http>>,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    let mut tx = http.parts.db.begin().await.map_err(crate::storage::Error::from)?;
    quarantine::drop(&mut tx, id).await?;
    tx.commit().await.map_err(crate::storage::Error::from)?;
    Ok(StatusCode::NO_CONTENT)
}
