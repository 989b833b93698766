//! Calls: who takes part, and what carries them.

use axum::{Json, extract::State};
use causeway_protocol::{
    api::{
        AskSfu, AskUpgrade, CallMesh, CallPage, CallSfus, CallState, CallWhom, ErrorBody, JoinCall,
        ReportCall, SetCall, StartCall,
    },
    ids::{CallId, GroupId, Seq},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Api,
    auth::Caller,
    body::{Body, One, Page, Two},
    error::ApiError,
    remote::{self, About, What},
};
use crate::services::calls::{self, CallError, Of};

fn of<'a>(api: &'a Api, caller: &'a Caller, group: GroupId) -> Of<'a> {
    let (now, here) = (api.clock.now(), &*api.config.server_name);
    Of { db: &api.db, live: &api.live, now, here, caller, group }
}

/// What came of a request here, or, where another server keeps the group, there.
async fn or_there<T: DeserializeOwned>(
    api: &Api,
    caller: &Caller,
    (about, asked): (About, &(impl Serialize + Sync)),
    done: Result<T, CallError>,
) -> Result<Json<T>, ApiError> {
    match done {
        Err(CallError::OtherServer(home)) => {
            Ok(Json(remote::ask_calls(api, caller, &home, about, asked).await?))
        }
        done => Ok(Json(done?)),
    }
}

const fn about(group: GroupId, call: CallId, what: What) -> About {
    About { group, call: Some(call), what }
}

/// `POST groups/{id}/calls` – begins a call, with the caller in it (protocol §9).
#[utoipa::path(post, path = "/groups/{group}/calls", tag = "calls",
    params(("group" = GroupId, Path)), request_body = StartCall,
    responses(
        (status = 200, body = CallState, description = "also for a call that is known, as it stands"),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: the group is closed"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "`DEV_CAUSEWAY_CALL_EXISTS`: another runs, given in `call`; `DEV_CAUSEWAY_CANNOT_USE_SFU`: the device cannot talk directly, `who` names it"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`: starts and joins of the device"),
        (status = 503, body = ErrorBody, description = "`DEV_CAUSEWAY_SFU_UNAVAILABLE`: as of joining"),
    ), security(("token" = [])))]
pub(super) async fn start(
    State(api): State<Api>,
    caller: Caller,
    One(group): One<GroupId>,
    Body(asked): Body<StartCall>,
) -> Result<Json<CallState>, ApiError> {
    let of = of(&api, &caller, group);
    let carriers = (api.config.mesh_max, api.livekit.is_some());
    let done = calls::start(of, &api.calls, carriers, &asked).await;
    let about = About { group, call: None, what: What::Start };
    or_there(&api, &caller, (about, &asked), done).await
}

/// `GET groups/{id}/calls` – the call that runs, and those that ended in the last 30 days, the newest
/// first.
#[utoipa::path(get, path = "/groups/{group}/calls", tag = "calls",
    params(("group" = GroupId, Path), ("from" = Option<Seq>, Query), ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000)),
    responses((status = 200, body = CallPage), (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`: the account's traffic")),
    security(("token" = [])))]
pub(super) async fn page(
    State(api): State<Api>,
    caller: Caller,
    One(group): One<GroupId>,
    page: Page<Number>,
) -> Result<Json<CallPage>, ApiError> {
    let (from, limit) = (page.from.map(|from| from.0), page.limit);
    let done = calls::page(of(&api, &caller, group), &api.shares, from, limit).await;
    let about = About { group, call: None, what: What::Page };
    let asked = remote::PageOfCalls { from, limit: Some(limit) };
    or_there(&api, &caller, (about, &asked), done).await
}

/// A number in a query.
pub(super) struct Number(Seq);

impl std::str::FromStr for Number {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Seq).map(Self)
    }
}

/// `GET groups/{id}/calls/{call}` – how one call stands, or stood when it ended.
#[utoipa::path(get, path = "/groups/{group}/calls/{call}", tag = "calls",
    params(("group" = GroupId, Path), ("call" = CallId, Path)),
    responses((status = 200, body = CallState), (status = 404, body = ErrorBody)),
    security(("token" = [])))]
pub(super) async fn state(
    State(api): State<Api>,
    caller: Caller,
    Two(group, call): Two<GroupId, CallId>,
) -> Result<Json<CallState>, ApiError> {
    let done = calls::state(of(&api, &caller, group), call).await;
    or_there(&api, &caller, (about(group, call, What::State), &()), done).await
}

/// `POST groups/{id}/calls/{call}/join` – brings the caller's device into a call.
#[utoipa::path(post, path = "/groups/{group}/calls/{call}/join", tag = "calls",
    params(("group" = GroupId, Path), ("call" = CallId, Path)), request_body = JoinCall,
    responses(
        (status = 200, body = CallState, description = "also where it is in the call"),
        (status = 403, body = ErrorBody, description = "`M_RESOURCE_LIMIT_EXCEEDED`: the call is full"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "`DEV_CAUSEWAY_CANNOT_USE_SFU`: the call would have to move to the server for calls, and `who` cannot"),
        (status = 410, body = ErrorBody, description = "`DEV_CAUSEWAY_CALL_ENDED`: with the state in `call`"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`: starts and joins of the device"),
        (status = 503, body = ErrorBody, description = "`DEV_CAUSEWAY_SFU_UNAVAILABLE`: more than `max` need a server for calls, and there is none, or it does not answer; again after `retry_after_ms`"),
    ), security(("token" = [])))]
pub(super) async fn join(
    State(api): State<Api>,
    caller: Caller,
    Two(group, call): Two<GroupId, CallId>,
    Body(asked): Body<JoinCall>,
) -> Result<Json<CallState>, ApiError> {
    let (of, livekit) = (of(&api, &caller, group), api.livekit.as_deref());
    let done = calls::join(of, &api.calls, livekit, (call, &asked)).await;
    or_there(&api, &caller, (about(group, call, What::Join), &asked), done).await
}

/// `POST groups/{id}/calls/{call}/report` – what the caller's device says about itself, in place of what
/// it said before.
#[utoipa::path(post, path = "/groups/{group}/calls/{call}/report", tag = "calls",
    params(("group" = GroupId, Path), ("call" = CallId, Path)), request_body = ReportCall,
    responses(
        (status = 200, body = CallState),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: the device is not in the call"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "`DEV_CAUSEWAY_STALE_EPOCH`: the call is in another epoch; its state is in `call`"),
        (status = 410, body = ErrorBody, description = "`DEV_CAUSEWAY_CALL_ENDED`: with the state in `call`"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`: what the device says in calls"),
    ), security(("token" = [])))]
pub(super) async fn report(
    State(api): State<Api>,
    caller: Caller,
    Two(group, call): Two<GroupId, CallId>,
    Body(asked): Body<ReportCall>,
) -> Result<Json<CallState>, ApiError> {
    let done = calls::report(of(&api, &caller, group), &api.calls, call, &asked).await;
    or_there(&api, &caller, (about(group, call, What::Report), &asked), done).await
}

/// `POST groups/{id}/calls/{call}/set` – whether the caller's device sends nothing, and its hand is
/// raised; and a sign of the moment.
#[utoipa::path(post, path = "/groups/{group}/calls/{call}/set", tag = "calls",
    params(("group" = GroupId, Path), ("call" = CallId, Path)), request_body = SetCall,
    responses(
        (status = 200, body = CallState),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: the device is not in the call"),
        (status = 404, body = ErrorBody),
        (status = 410, body = ErrorBody, description = "`DEV_CAUSEWAY_CALL_ENDED`: with the state in `call`"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`: what the device says in calls"),
    ), security(("token" = [])))]
pub(super) async fn set(
    State(api): State<Api>,
    caller: Caller,
    Two(group, call): Two<GroupId, CallId>,
    Body(asked): Body<SetCall>,
) -> Result<Json<CallState>, ApiError> {
    let done = calls::set(of(&api, &caller, group), &api.calls, call, &asked).await;
    or_there(&api, &caller, (about(group, call, What::Set), &asked), done).await
}

/// `POST groups/{id}/calls/{call}/leave` – takes the caller's device out of a call.
#[utoipa::path(post, path = "/groups/{group}/calls/{call}/leave", tag = "calls",
    params(("group" = GroupId, Path), ("call" = CallId, Path)),
    responses((status = 200, body = CallState, description = "also where it is not in the call"), (status = 404, body = ErrorBody)),
    security(("token" = [])))]
pub(super) async fn leave(
    State(api): State<Api>,
    caller: Caller,
    Two(group, call): Two<GroupId, CallId>,
) -> Result<Json<CallState>, ApiError> {
    let done = calls::leave(of(&api, &caller, group), call).await;
    or_there(&api, &caller, (about(group, call, What::Leave), &()), done).await
}

/// `POST groups/{id}/calls/{call}/decline` – the caller's account does not come, and none of its devices
/// rings any more.
#[utoipa::path(post, path = "/groups/{group}/calls/{call}/decline", tag = "calls",
    params(("group" = GroupId, Path), ("call" = CallId, Path)),
    responses((status = 200, body = CallState), (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`: what the device says in calls")),
    security(("token" = [])))]
pub(super) async fn decline(
    State(api): State<Api>,
    caller: Caller,
    Two(group, call): Two<GroupId, CallId>,
) -> Result<Json<CallState>, ApiError> {
    let done = calls::decline(of(&api, &caller, group), &api.calls, call).await;
    or_there(&api, &caller, (about(group, call, What::Decline), &()), done).await
}

/// `POST groups/{id}/calls/{call}/kick` – takes somebody out of a call. A native may come back; one of
/// Matrix not for ten minutes.
#[utoipa::path(post, path = "/groups/{group}/calls/{call}/kick", tag = "calls",
    params(("group" = GroupId, Path), ("call" = CallId, Path)), request_body = CallWhom,
    responses(
        (status = 200, body = CallState),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: only admins of the group may, and only who is in the call"),
        (status = 404, body = ErrorBody),
        (status = 410, body = ErrorBody, description = "`DEV_CAUSEWAY_CALL_ENDED`: with the state in `call`"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`: what the device says in calls"),
    ), security(("token" = [])))]
pub(super) async fn kick(
    State(api): State<Api>,
    caller: Caller,
    Two(group, call): Two<GroupId, CallId>,
    Body(asked): Body<CallWhom>,
) -> Result<Json<CallState>, ApiError> {
    let done = calls::kick(of(&api, &caller, group), &api.calls, (call, &asked)).await;
    or_there(&api, &caller, (about(group, call, What::Kick), &asked), done).await
}

/// `POST groups/{id}/calls/{call}/mute` – mutes what somebody sends through the server for bigger calls; he
/// may go on by himself. What devices send to each other nobody else can mute.
#[utoipa::path(post, path = "/groups/{group}/calls/{call}/mute", tag = "calls",
    params(("group" = GroupId, Path), ("call" = CallId, Path)), request_body = CallWhom,
    responses(
        (status = 200, body = CallState),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: only admins of the group may, and only who is in the call"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "`DEV_CAUSEWAY_NO_NEED`: nothing of his passes that server"),
        (status = 410, body = ErrorBody, description = "`DEV_CAUSEWAY_CALL_ENDED`: with the state in `call`"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`: what the device says in calls"),
        (status = 503, body = ErrorBody, description = "`DEV_CAUSEWAY_SFU_UNAVAILABLE`: that server does not answer"),
    ), security(("token" = [])))]
pub(super) async fn mute(
    State(api): State<Api>,
    caller: Caller,
    Two(group, call): Two<GroupId, CallId>,
    Body(asked): Body<CallWhom>,
) -> Result<Json<CallState>, ApiError> {
    let (of, livekit) = (of(&api, &caller, group), api.livekit.as_deref());
    let done = calls::mute_other(of, &api.calls, livekit, (call, &asked)).await;
    or_there(&api, &caller, (about(group, call, What::Mute), &asked), done).await
}

/// `POST groups/{id}/calls/{call}/end` – ends a call for everybody.
#[utoipa::path(post, path = "/groups/{group}/calls/{call}/end", tag = "calls",
    params(("group" = GroupId, Path), ("call" = CallId, Path)),
    responses(
        (status = 200, body = CallState, description = "also where it has ended"),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: only who began it and admins of the group may"),
        (status = 404, body = ErrorBody),
    ), security(("token" = [])))]
pub(super) async fn end(
    State(api): State<Api>,
    caller: Caller,
    Two(group, call): Two<GroupId, CallId>,
) -> Result<Json<CallState>, ApiError> {
    let done = calls::end(of(&api, &caller, group), call).await;
    or_there(&api, &caller, (about(group, call, What::End), &()), done).await
}

/// `POST groups/{id}/calls/{call}/sfu` – what lets the caller's device into the call's room on the server
/// for bigger calls, while that carries the call or is about to; with `focus` into the one on which somebody
/// of Matrix speaks.
#[utoipa::path(post, path = "/groups/{group}/calls/{call}/sfu", tag = "calls",
    params(("group" = GroupId, Path), ("call" = CallId, Path)), request_body = AskSfu,
    responses(
        (status = 200, body = CallSfus),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: the device is not in the call"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "`DEV_CAUSEWAY_STALE_EPOCH`: the call is in another epoch; its state is in `call`; `DEV_CAUSEWAY_NO_NEED`: the mesh carries it"),
        (status = 410, body = ErrorBody, description = "`DEV_CAUSEWAY_CALL_ENDED`: with the state in `call`"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`: what the device says in calls"),
        (status = 503, body = ErrorBody, description = "`DEV_CAUSEWAY_SFU_UNAVAILABLE`: there is none, or it does not answer; again after `retry_after_ms`; of another focus, that it lets nobody in"),
    ), security(("token" = [])))]
pub(super) async fn sfu(
    State(api): State<Api>,
    caller: Caller,
    Two(group, call): Two<GroupId, CallId>,
    Body(asked): Body<AskSfu>,
) -> Result<Json<CallSfus>, ApiError> {
    if asked.focus.is_some() {
        // Who waits for strangers takes no turn of those who ask this server.
        caller.turn.end();
    }
    let done = remote::access(&api, of(&api, &caller, group), (call, &asked)).await;
    or_there(&api, &caller, (about(group, call, What::Sfu), &asked), done).await
}

/// `POST groups/{id}/calls/{call}/upgrade` – has the server for bigger calls carry a call of the mesh,
/// since the caller's device and another did not reach each other.
#[utoipa::path(post, path = "/groups/{group}/calls/{call}/upgrade", tag = "calls",
    params(("group" = GroupId, Path), ("call" = CallId, Path)), request_body = AskUpgrade,
    responses(
        (status = 200, body = CallState),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: the device, or the other, is not in the call"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "`DEV_CAUSEWAY_NO_NEED`: they are connected, or have not tried for long enough, or the call is not carried by the mesh, or it switched too often; `DEV_CAUSEWAY_CANNOT_USE_SFU`: `who` cannot"),
        (status = 410, body = ErrorBody, description = "`DEV_CAUSEWAY_CALL_ENDED`: with the state in `call`"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`: what the device says in calls"),
        (status = 503, body = ErrorBody, description = "`DEV_CAUSEWAY_SFU_UNAVAILABLE`: there is none, or it does not answer; again after `retry_after_ms`"),
    ), security(("token" = [])))]
pub(super) async fn upgrade(
    State(api): State<Api>,
    caller: Caller,
    Two(group, call): Two<GroupId, CallId>,
    Body(asked): Body<AskUpgrade>,
) -> Result<Json<CallState>, ApiError> {
    let (of, livekit) = (of(&api, &caller, group), api.livekit.as_deref());
    let done = calls::upgrade(of, &api.calls, livekit, (call, &asked)).await;
    or_there(&api, &caller, (about(group, call, What::Upgrade), &asked), done).await
}

/// `GET groups/{id}/calls/{call}/mesh` – what helps the caller's device to reach the others directly.
#[utoipa::path(get, path = "/groups/{group}/calls/{call}/mesh", tag = "calls",
    params(("group" = GroupId, Path), ("call" = CallId, Path)),
    responses(
        (status = 200, body = CallMesh),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: the device is not in the call"),
        (status = 404, body = ErrorBody),
        (status = 410, body = ErrorBody, description = "`DEV_CAUSEWAY_CALL_ENDED`: with the state in `call`"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`: what the device says in calls"),
    ), security(("token" = [])))]
pub(super) async fn mesh(
    State(api): State<Api>,
    caller: Caller,
    Two(group, call): Two<GroupId, CallId>,
) -> Result<Json<CallMesh>, ApiError> {
    let of = of(&api, &caller, group);
    let done = calls::mesh(of, &api.calls, &api.config.mesh, call).await;
    or_there(&api, &caller, (about(group, call, What::Mesh), &()), done).await
}
