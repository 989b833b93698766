//! Calls, for the operator: that they run and how many take part, and nothing of what is said.

use axum::{Json, extract::State, http::StatusCode};
use causeway_protocol::{
    api::{CallIntent, CallTopology},
    ids::{AccountId, CallId, GroupId, Seq, Timestamp},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Admin, Path, Problem, ProblemBody, Query, checked, next};
use crate::{http::Api, services::calls};

/// Which page of calls.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CallsPage {
    /// Begin after this number: `next` of the page before.
    after: Option<u64>,
    /// At most this many, 1 to 1,000; 100 if not given.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<u32>,
}

/// A page of calls.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Calls {
    /// In the order in which they began.
    calls: Vec<RunningCall>,
    /// `after` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Seq>,
}

/// A call that runs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RunningCall {
    /// Its place among all of the server.
    number: Seq,
    /// Which.
    call: CallId,
    /// Where.
    group: GroupId,
    /// What for.
    intent: CallIntent,
    /// What carries it.
    topology: CallTopology,
    /// Steps of that so far.
    epoch: u32,
    /// Who began it.
    started_by: AccountId,
    /// When.
    started_ms: Timestamp,
    /// Devices that take part.
    participants: u64,
    /// Of these, whose connection is lost.
    lost: u64,
}

/// `GET /_causeway/admin/v1/calls` – the calls that run in groups of this server.
///
/// Where the native server runs in another process this one has no list: 404.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/calls", tag = "calls", params(CallsPage),
    responses((status = 200, body = Calls), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn calls(
    _: Admin,
    State(api): State<Api>,
    Query(page): Query<CallsPage>,
) -> Result<Json<Calls>, Problem> {
    let limit = checked(page.limit)?;
    let after = i64::try_from(page.after.unwrap_or(0)).unwrap_or(i64::MAX);
    let rows = calls::running(&api.db, after, limit).await?;
    let number = |number: i64| Seq(u64::try_from(number).unwrap_or(0));
    let next = next(rows.len(), limit, rows.last().map(|row| number(row.number)));
    let calls = rows.iter().map(|row| {
        let state = row.state();
        RunningCall {
            number: number(row.number),
            call: state.call,
            group: state.group,
            intent: state.intent,
            topology: state.topology,
            epoch: state.epoch,
            started_by: state.started_by.account,
            started_ms: state.started_ms,
            participants: state.participants.len() as u64,
            lost: state.participants.iter().filter(|it| it.lost).count() as u64,
        }
    });
    Ok(Json(Calls { calls: calls.collect(), next }))
}

/// `POST /_causeway/admin/v1/calls/{call}/end` – ends a call for everybody in it; 204, also where it has
/// ended.
#[utoipa::path(
    post, path = "/_causeway/admin/v1/calls/{call}/end", tag = "calls", params(("call" = CallId, Path)),
    responses((status = 204), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn end(
    _: Admin,
    State(api): State<Api>,
    Path(call): Path<CallId>,
) -> Result<StatusCode, Problem> {
    if calls::end_by_operator(&api.db, &api.live, api.clock.now(), call).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::NotFound("call"))
    }
}
