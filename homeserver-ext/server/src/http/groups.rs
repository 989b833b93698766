//! Groups and their op logs.

use axum::{Json, extract::State, response::Response};
use causeway_protocol::{
    api::{ErrorBody, GroupHead, GroupPage, GroupServers, OpPage, PostOp},
    ids::{Epoch, GroupId},
};

use super::{
    Api,
    auth::Caller,
    body::{self, Body, EpochText, One, Page},
    error::ApiError,
    remote,
};
use crate::{
    quota::PAGE_BYTES,
    services::{delivery::parked, groups},
};

/// `POST groups` – a group's `create`.
#[utoipa::path(post, path = "/groups", tag = "groups", request_body = PostOp,
    responses(
        (status = 200, body = GroupHead, description = "also for the same op again"),
        (status = 400, body = ErrorBody, description = "`DEV_CAUSEWAY_INVALID_OP`, with the reason; `DEV_CAUSEWAY_UNREGISTERED`: an account that is not registered as the op names it"),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: the creator's account is of another server"),
        (status = 404, body = ErrorBody, description = "`M_NOT_FOUND`: there already, and the caller is not in it"),
        (status = 409, body = ErrorBody, description = "`M_STALE_EPOCH`: the id has another beginning, given in `ops`"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`: the account's new groups, or bytes of ops"),
    ), security(("token" = [])))]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Body(request): Body<PostOp>,
) -> Result<Json<GroupHead>, ApiError> {
    let (now, server) = (api.clock.now(), &api.config.server_name);
    let op = &request.op;
    Ok(Json(groups::create(&api.db, &api.live, now, &api.shares, &caller, server, op).await?))
}

/// `GET groups` – those that the caller's account is in.
#[utoipa::path(get, path = "/groups", tag = "groups",
    params(("from" = Option<GroupId>, Query), ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000)),
    responses((status = 200, body = GroupPage)), security(("token" = [])))]
pub(super) async fn mine(
    State(api): State<Api>,
    caller: Caller,
    page: Page<GroupId>,
) -> Result<Json<GroupPage>, ApiError> {
    Ok(Json(groups::mine(&api.db, &caller, page.from, page.limit).await?))
}

/// `GET groups/{id}` – where it stands.
#[utoipa::path(get, path = "/groups/{group}", tag = "groups", params(("group" = GroupId, Path)),
    responses((status = 200, body = GroupHead), (status = 404, body = ErrorBody)),
    security(("token" = [])))]
pub(super) async fn head(
    State(api): State<Api>,
    caller: Caller,
    One(group): One<GroupId>,
) -> Result<Json<GroupHead>, ApiError> {
    let head = groups::head(&api.db, &caller, group).await?;
    head.map(Json).ok_or_else(unknown)
}

/// `GET groups/{id}/servers` – on which other servers members of it are, and what waits for those.
#[utoipa::path(get, path = "/groups/{group}/servers", tag = "groups", params(("group" = GroupId, Path)),
    responses((status = 200, body = GroupServers), (status = 404, body = ErrorBody)),
    security(("token" = [])))]
pub(super) async fn servers(
    State(api): State<Api>,
    caller: Caller,
    One(group): One<GroupId>,
) -> Result<Json<GroupServers>, ApiError> {
    groups::head(&api.db, &caller, group).await?.ok_or_else(unknown)?;
    Ok(Json(api.servers.of_group((&api.db, api.clock.now()), group).await?))
}

/// `GET groups/{id}/roster` – its ops from epoch `from` on; those taken out see up to the op that
/// took them out.
#[utoipa::path(get, path = "/groups/{group}/roster", tag = "groups",
    params(("group" = GroupId, Path), ("from" = Option<Epoch>, Query), ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000)),
    responses((status = 200, body = OpPage), (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`: the account's traffic")),
    security(("token" = [])))]
pub(super) async fn ops(
    State(api): State<Api>,
    caller: Caller,
    One(group): One<GroupId>,
    page: Page<EpochText>,
) -> Result<Response, ApiError> {
    let from = page.from.map_or(Epoch(0), |from| from.0);
    api.shares.traffic(api.clock.now(), &caller.account, PAGE_BYTES)?;
    let page = groups::ops(&api.db, &caller, group, from, page.limit).await?;
    let bytes = page.iter().flat_map(|page| &page.ops).map(|op| op.0.len()).sum();
    api.shares.was_less(&caller.account, PAGE_BYTES, bytes);
    body::long(&api, &caller.account, bytes, page.ok_or_else(unknown)?).await
}

/// `POST groups/{id}/roster` – the next op, the caller's own or not.
#[utoipa::path(post, path = "/groups/{group}/roster", tag = "groups",
    params(("group" = GroupId, Path)), request_body = PostOp,
    responses(
        (status = 200, body = GroupHead, description = "also for an op that is in the log already"),
        (status = 400, body = ErrorBody, description = "`DEV_CAUSEWAY_INVALID_OP`, with the reason; `DEV_CAUSEWAY_UNREGISTERED`: an account that is not registered as the op names it"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "`M_STALE_EPOCH`: made on another roster than the newest. `ops` begin with the epoch of the refused op; where that is right after `epoch`, with `epoch` itself (the histories differ there); they are empty where the server is behind"),
        (status = 413, body = ErrorBody, description = "`M_TOO_LARGE`: an op that takes more than 512 devices in or out"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`: the account's ops, or bytes of ops"),
    ), security(("token" = [])))]
pub(super) async fn post_op(
    State(api): State<Api>,
    caller: Caller,
    One(group): One<GroupId>,
    Body(request): Body<PostOp>,
) -> Result<Json<GroupHead>, ApiError> {
    let (now, here) = (api.clock.now(), &*api.config.server_name);
    if let Some(home) = groups::replica::other_home(&api.db, here, group).await? {
        return remote::post_op(&api, &caller, &home, group, &request.op).await.map(Json);
    }
    remote::look_up_named(&api, &caller, &request.op).await?;
    let of = (here, group);
    let head =
        groups::post_op(&api.db, &api.live, now, &api.shares, &caller, of, &request.op).await?;
    // The op is taken. A little that was parked for who left goes at once, the rest with the upkeep.
    if let Err(error) = parked::drop_left(&api.db, now).await {
        tracing::warn!(%error, "what is parked for those who left goes later");
    }
    Ok(Json(head))
}

fn unknown() -> ApiError {
    ApiError::not_found("no such group")
}
