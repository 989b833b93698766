//! Invites, and those who use them.

use axum::{Json, extract::State, http::StatusCode};
use causeway_protocol::{
    api::{ErrorBody, InvitePage, JoinPending, JoinRequest, NewInvite, RequestPage},
    ids::{GroupId, InviteKey, RequestId},
};

use super::{
    Api,
    auth::Caller,
    body::{Body, One, Page, Two},
    error::ApiError,
    remote,
};
use crate::services::{
    groups::replica,
    invites::{self, Asker},
};

/// The server that keeps the group, where that is another.
async fn other_home(api: &Api, group: GroupId) -> Result<Option<String>, ApiError> {
    Ok(replica::other_home(&api.db, &api.config.server_name, group).await?)
}

/// `POST groups/{id}/invites` – the public half of an invite; who may add members may do this.
#[utoipa::path(post, path = "/groups/{group}/invites", tag = "invites",
    params(("group" = GroupId, Path)), request_body = NewInvite,
    responses(
        (status = 204, description = "also for the same again"),
        (status = 400, body = ErrorBody, description = "`M_INVALID_PARAM`: no use, expired already, a key that is none or that has other terms; the group is closed"),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: the caller may not add members; `M_RESOURCE_LIMIT_EXCEEDED`: as many invites as it may have are open"),
        (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`"),
        (status = 504, body = ErrorBody, description = "`DEV_CAUSEWAY_UNREACHABLE` with `server` and `since_ms`: the group's home is another server, and does not answer; the same again is safe"),
    ),
    security(("token" = [])))]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    One(group): One<GroupId>,
    Body(invite): Body<NewInvite>,
) -> Result<StatusCode, ApiError> {
    if let Some(home) = other_home(&api, group).await? {
        remote::create_invite(&api, &caller, &home, group, &invite).await?;
        return Ok(StatusCode::NO_CONTENT);
    }
    invites::create(&api.db, api.clock.now(), &api.shares, &caller, group, &invite).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET groups/{id}/invites` – all of the group, by key.
#[utoipa::path(get, path = "/groups/{group}/invites", tag = "invites",
    params(("group" = GroupId, Path), ("from" = Option<InviteKey>, Query), ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000)),
    responses(
        (status = 200, body = InvitePage),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: the caller may not add members"),
        (status = 404, body = ErrorBody),
        (status = 504, body = ErrorBody, description = "`DEV_CAUSEWAY_UNREACHABLE` with `server` and `since_ms`: the group's home is another server, and does not answer; the same again is safe"),
    ),
    security(("token" = [])))]
pub(super) async fn page(
    State(api): State<Api>,
    caller: Caller,
    One(group): One<GroupId>,
    page: Page<InviteKey>,
) -> Result<Json<InvitePage>, ApiError> {
    if let Some(home) = other_home(&api, group).await? {
        let of = (page.from, page.limit);
        return remote::invites(&api, &caller, &home, group, of).await.map(Json);
    }
    Ok(Json(invites::page(&api.db, &caller, group, page.from, page.limit).await?))
}

/// `DELETE groups/{id}/invites/{ik_pub}` – takes an invite back; 204, also the second time.
#[utoipa::path(delete, path = "/groups/{group}/invites/{ik_pub}", tag = "invites",
    params(("group" = GroupId, Path), ("ik_pub" = InviteKey, Path)),
    responses(
        (status = 204, description = "also the second time"),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: it is another's, and the caller no admin"),
        (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`"),
        (status = 504, body = ErrorBody, description = "`DEV_CAUSEWAY_UNREACHABLE` with `server` and `since_ms`: the group's home is another server, and does not answer; the same again is safe"),
    ),
    security(("token" = [])))]
pub(super) async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    Two(group, ik_pub): Two<GroupId, InviteKey>,
) -> Result<StatusCode, ApiError> {
    if let Some(home) = other_home(&api, group).await? {
        remote::revoke_invite(&api, &caller, &home, group, ik_pub).await?;
        return Ok(StatusCode::NO_CONTENT);
    }
    invites::revoke(&api.db, api.clock.now(), &api.shares, &caller, group, ik_pub).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST groups/{id}/join` – a request by one who holds a link (protocol §3.4).
#[utoipa::path(post, path = "/groups/{group}/join", tag = "invites",
    params(("group" = GroupId, Path)), request_body = JoinRequest,
    responses(
        (status = 200, body = JoinPending, description = "also for the same request again"),
        (status = 400, body = ErrorBody, description = "`DEV_CAUSEWAY_BAD_REQUEST`, with the reason, to the holder of the link"),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: the request is another device's; its account would be of one server more than a group may have members of"),
        (status = 404, body = ErrorBody, description = "`M_NOT_FOUND`: the same for everything until the invite's signature verifies"),
        (status = 409, body = ErrorBody, description = "`DEV_CAUSEWAY_ALREADY_MEMBER`"),
        (status = 410, body = ErrorBody, description = "to the holder of the link: `DEV_CAUSEWAY_EXPIRED`, `DEV_CAUSEWAY_REVOKED`, `DEV_CAUSEWAY_USED`, `DEV_CAUSEWAY_CLOSED`"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`"),
        (status = 504, body = ErrorBody, description = "`DEV_CAUSEWAY_UNREACHABLE` with `server` and `since_ms`: the group's home is another server, and does not answer; the same again is safe"),
    ), security(("token" = [])))]
pub(super) async fn join(
    State(api): State<Api>,
    caller: Caller,
    One(group): One<GroupId>,
    Body(request): Body<JoinRequest>,
) -> Result<Json<JoinPending>, ApiError> {
    let (now, here) = (api.clock.now(), &*api.config.server_name);
    let elsewhere = match other_home(&api, group).await? {
        Some(home) => Some(home),
        None if replica::is_known(&api.db, group).await? => None,
        // The link says where it is kept.
        None => request.server.filter(|server| server != here),
    };
    if let Some(home) = elsewhere {
        api.shares.join(now, &caller.account)?;
        return remote::join(&api, &caller, &home, group, &request.request).await.map(Json);
    }
    let (of, asker) = ((&api.db, &api.live), (here, Asker::Here(&caller)));
    Ok(Json(invites::join(of, now, &api.shares, asker, group, &request.request).await?))
}

/// `GET groups/{id}/requests` – those who asked to join and wait.
#[utoipa::path(get, path = "/groups/{group}/requests", tag = "invites",
    params(("group" = GroupId, Path), ("from" = Option<RequestId>, Query), ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000)),
    responses(
        (status = 200, body = RequestPage),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: the caller may not add members"),
        (status = 404, body = ErrorBody),
        (status = 504, body = ErrorBody, description = "`DEV_CAUSEWAY_UNREACHABLE` with `server` and `since_ms`: the group's home is another server, and does not answer; the same again is safe"),
    ),
    security(("token" = [])))]
pub(super) async fn requests(
    State(api): State<Api>,
    caller: Caller,
    One(group): One<GroupId>,
    page: Page<RequestId>,
) -> Result<Json<RequestPage>, ApiError> {
    if let Some(home) = other_home(&api, group).await? {
        let of = (page.from, page.limit);
        return remote::requests(&api, &caller, &home, group, of).await.map(Json);
    }
    Ok(Json(invites::requests(&api.db, &caller, group, page.from, page.limit).await?))
}

/// `DELETE groups/{id}/requests/{id}` – drops a request; 204, also the second time.
#[utoipa::path(delete, path = "/groups/{group}/requests/{request}", tag = "invites",
    params(("group" = GroupId, Path), ("request" = RequestId, Path)),
    responses(
        (status = 204, description = "also the second time"),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: the caller may not add members"),
        (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`"),
        (status = 504, body = ErrorBody, description = "`DEV_CAUSEWAY_UNREACHABLE` with `server` and `since_ms`: the group's home is another server, and does not answer; the same again is safe"),
    ), security(("token" = [])))]
pub(super) async fn drop_request(
    State(api): State<Api>,
    caller: Caller,
    Two(group, request): Two<GroupId, RequestId>,
) -> Result<StatusCode, ApiError> {
    let now = api.clock.now();
    if let Some(home) = other_home(&api, group).await? {
        remote::drop_request(&api, &caller, &home, group, request).await?;
        return Ok(StatusCode::NO_CONTENT);
    }
    invites::drop_request(&api.db, now, &api.shares, &caller, group, request).await?;
    Ok(StatusCode::NO_CONTENT)
}
