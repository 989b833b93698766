//! The native groups, for the operator: where they stand, and nothing that is said in them.

use axum::{Json, extract::State};
use causeway_protocol::{api::GroupHead, ids::GroupId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Admin, Problem, ProblemBody, Query, checked, next};
use crate::{http::Api, services::operator};

/// Which page of groups.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct GroupsPage {
    /// Begin after this id: `next` of the page before.
    after: Option<GroupId>,
    /// At most this many, 1 to 1,000; 100 if not given.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
}

/// A page of groups.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Groups {
    /// By id.
    groups: Vec<GroupHead>,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<GroupId>,
}

/// `GET /_causeway/admin/v1/groups` – the native groups of this server, by id.
///
/// Where the native server runs in another process this one has no list: 404.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/groups", tag = "groups", params(GroupsPage),
    responses((status = 200, body = Groups), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn groups(
    _: Admin,
    State(api): State<Api>,
    Query(page): Query<GroupsPage>,
) -> Result<Json<Groups>, Problem> {
    let limit = checked(page.limit)?;
    let groups = operator::groups(&api.db, page.after, limit).await?;
    let next = next(groups.len(), limit, groups.last().map(|group| group.group));
    Ok(Json(Groups { groups, next }))
}
