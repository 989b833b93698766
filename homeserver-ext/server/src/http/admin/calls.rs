//! Calls, for the operator: that they run and how many take part, and nothing of what is said.

use axum::{Json, extract::State, http::StatusCode};
use causeway_protocol::{
    api::{CallIntent, CallState, CallTopology},
    call::{Event, Refused, Who},
    ids::{AccountId, CallId, DeviceId, GroupId, Seq, Timestamp},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Admin, Path, Problem, ProblemBody, Query, checked, next};
use crate::{
    http::Api,
    services::calls::{self, WishError},
};

/// Where a call is moved.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Where {
    /// `sfu` or `mesh`.
    #[param(inline)]
    to: Carrier,
}

/// What may carry a call.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Carrier {
    /// LiveKit, until it is moved back.
    Sfu,
    /// Its devices themselves, where these are few enough.
    Mesh,
}

/// Whom it is about.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Whom {
    /// A device that takes part.
    #[param(value_type = Option<String>)]
    device: Option<DeviceId>,
    /// In its place a Matrix user's, as `@mia:example.org:PHONE`.
    guest: Option<String>,
}

impl Whom {
    fn who(self) -> Result<Who, Problem> {
        let of_matrix = self.guest.as_deref().and_then(|guest| guest.rsplit_once(':'));
        match (self.device, of_matrix) {
            (Some(device), None) if self.guest.is_none() => Ok(Who::Native(device)),
            (None, Some((user, device))) => Ok(Who::Matrix(user.to_owned(), device.to_owned())),
            _ => Err(Problem::BadRequest(
                "say either `device` or `guest`, which is `@user:server:DEVICE`".to_owned(),
            )),
        }
    }
}

impl From<WishError> for Problem {
    fn from(error: WishError) -> Self {
        match error {
            WishError::Unknown => Self::NotFound("call"),
            WishError::Refused(Refused::NotInCall) => Self::NotFound("device in this call"),
            WishError::Refused(Refused::Ended) => Self::Conflict("the call has ended"),
            WishError::Refused(Refused::SfuUnavailable(..)) | WishError::Sfu(_) => Self::Conflict(
                "there is no LiveKit, or it is away: `causeway doctor` says which; again in half a minute",
            ),
            WishError::Refused(Refused::CannotUseSfu(_)) => {
                Self::Conflict("a device in the call cannot go to LiveKit")
            }
            WishError::Refused(Refused::NoMesh(_)) => Self::Conflict(
                "more take part than talk directly, or one of Matrix, or the call is on its way: again when that is over",
            ),
            WishError::Refused(Refused::TooManyExpected(_)) => Self::Conflict(
                "somebody of Matrix is about to come into the call: again in half a minute",
            ),
            WishError::Refused(Refused::NoNeed | Refused::Full(_) | Refused::StaleEpoch(..)) => {
                Self::Conflict("the call is in no state for that: look at it again")
            }
            WishError::NotThere => Self::Conflict("nothing of that device passes LiveKit"),
            WishError::Storage(error) => error.into(),
        }
    }
}

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
        let lost = state.natives().filter(|it| it.lost).count() as u64;
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
            lost,
        }
    });
    Ok(Json(Calls { calls: calls.collect(), next }))
}

/// `GET /_causeway/admin/v1/calls/{call}` – one that runs, with who takes part by which device.
#[utoipa::path(
    get, path = "/_causeway/admin/v1/calls/{call}", tag = "calls", params(("call" = CallId, Path)),
    responses((status = 200, body = CallState), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn call(
    _: Admin,
    State(api): State<Api>,
    Path(call): Path<CallId>,
) -> Result<Json<CallState>, Problem> {
    Ok(Json(calls::shown(&api.db, call).await?.state()))
}

/// `POST /_causeway/admin/v1/calls/{call}/move` – has LiveKit carry a call, until it is moved back, or its
/// devices themselves; 204 when that is on its way.
#[utoipa::path(
    post, path = "/_causeway/admin/v1/calls/{call}/move", tag = "calls",
    params(("call" = CallId, Path), Where),
    responses((status = 204), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn move_to(
    _: Admin,
    State(api): State<Api>,
    Path(call): Path<CallId>,
    Query(Where { to }): Query<Where>,
) -> Result<StatusCode, Problem> {
    let event = match to {
        Carrier::Sfu => Event::ToSfu,
        Carrier::Mesh => Event::ToMesh,
    };
    let (livekit, now) = (api.livekit.as_deref(), api.clock.now());
    calls::wish(&api.db, &api.live, livekit, now, (call, event)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /_causeway/admin/v1/calls/{call}/kick` – takes somebody out of a call. A native device may come back; one of
/// Matrix not for ten minutes.
#[utoipa::path(
    post, path = "/_causeway/admin/v1/calls/{call}/kick", tag = "calls",
    params(("call" = CallId, Path), Whom),
    responses((status = 204), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn kick(
    _: Admin,
    State(api): State<Api>,
    Path(call): Path<CallId>,
    Query(whom): Query<Whom>,
) -> Result<StatusCode, Problem> {
    let event = Event::Kick(whom.who()?);
    let (livekit, now) = (api.livekit.as_deref(), api.clock.now());
    calls::wish(&api.db, &api.live, livekit, now, (call, event)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /_causeway/admin/v1/calls/{call}/mute` – mutes what somebody sends through LiveKit; he may unmute
/// himself. What devices send to each other nobody else can mute.
#[utoipa::path(
    post, path = "/_causeway/admin/v1/calls/{call}/mute", tag = "calls",
    params(("call" = CallId, Path), Whom),
    responses((status = 204), (status = "4XX", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn mute(
    _: Admin,
    State(api): State<Api>,
    Path(call): Path<CallId>,
    Query(whom): Query<Whom>,
) -> Result<StatusCode, Problem> {
    let (livekit, now) = (api.livekit.as_deref(), api.clock.now());
    calls::mute((&api.db, &api.live), livekit, now, (call, whom.who()?)).await?;
    Ok(StatusCode::NO_CONTENT)
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
