//! Who met which limit, for the operator.

use axum::{Json, extract::State};
use causeway_protocol::ids::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Admin, Problem, ProblemBody, Query, checked, next};
use crate::{
    http::Api,
    quota::{Hit, place},
};

/// Which page of limits that were met.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LimitsPage {
    /// Begin after this place: `next` of the page before.
    after: Option<String>,
    /// At most this many, 1 to 1,000; 100 if not given.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
}

/// A limit, and who met it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Met {
    /// Its name in the configuration.
    limit: &'static str,
    /// An account, or an address (of IPv6 its network).
    who: String,
    /// How often something was refused for it.
    times: u64,
    /// When first.
    first_ms: Timestamp,
    /// When last.
    last_ms: Timestamp,
}

/// A page of limits that were met.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Limits {
    /// By limit and by whom.
    limits: Vec<Met>,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// `GET /_causeway/admin/v1/limits` – who met which limit of the native server since it started: the
/// thousand that did so last.
///
/// Where the native server runs in another process this one has no list: 404.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/limits", tag = "limits", params(LimitsPage),
    responses((status = 200, body = Limits), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn limits(
    _: Admin,
    State(api): State<Api>,
    Query(page): Query<LimitsPage>,
) -> Result<Json<Limits>, Problem> {
    let limit = checked(page.limit)?;
    let found = api.hits.page(page.after.as_deref(), limit);
    let last = found.last().map(|(limit, who, _)| place(limit, who));
    let next = next(found.len(), limit, last);
    let met = |(limit, who, Hit { times, first, last })| Met {
        limit,
        who,
        times,
        first_ms: first,
        last_ms: last,
    };
    Ok(Json(Limits { limits: found.into_iter().map(met).collect(), next }))
}
