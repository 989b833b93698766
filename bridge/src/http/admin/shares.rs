//! What accounts asked the bridge for.

use std::sync::Arc;

use axum::{Json, extract::State};
use causeway_server::admin::{Admin, Problem, ProblemBody, Query, checked, next};
use serde::Serialize;
use utoipa::ToSchema;

use super::page::Page;
use crate::{
    domain::share::day,
    http::Http,
    storage::shares::{self, ShareState},
};

/// A page of what accounts had today.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Shares {
    /// Who asked first is first.
    shares: Vec<ShareState>,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// `GET /_causeway/admin/v1/shares` – rooms and invitations that each account had of the bridge
/// today (UTC), and how often it did not get all that it asked for.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/shares", tag = "portals", params(Page),
    responses((status = 200, body = Shares), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(in crate::http) async fn shares(
    _: Admin,
    State(http): State<Arc<Http>>,
    Query(page): Query<Page>,
) -> Result<Json<Shares>, Problem> {
    let limit = checked(page.limit)?;
    let today = day((http.parts.clock)());
    let mut read = http.parts.db.read().await.map_err(crate::storage::Error::from)?;
    let shares = shares::list(&mut read, today, page.after, limit).await?;
    let next = next(shares.len(), limit, shares.last().map(|share| share.id));
    Ok(Json(Shares { shares, next }))
}
