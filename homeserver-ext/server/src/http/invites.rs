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
};
use crate::services::{groups::replica, invites};

/// `POST groups/{id}/invites` – the public half of an invite; who may add members may do this.
#[utoipa::path(post, path = "/groups/{group}/invites", tag = "invites",
    params(("group" = GroupId, Path)), request_body = NewInvite,
    responses(
        (status = 204, description = "also for the same again"),
        (status = 400, body = ErrorBody, description = "`M_INVALID_PARAM`: no use, expired already, a key that is none or that has other terms; the group is closed"),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: the caller may not add members; the group's home is another server; `M_RESOURCE_LIMIT_EXCEEDED`: as many invites as it may have are open"),
        (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`"),
    ),
    security(("token" = [])))]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    One(group): One<GroupId>,
    Body(invite): Body<NewInvite>,
) -> Result<StatusCode, ApiError> {
    if let Some(home) = replica::other_home(&api.db, &api.config.server_name, group).await? {
        let error =
            format!("links into this group are made at {home}, its home: ask an admin there");
        return Err(ApiError::forbidden(error));
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
    ),
    security(("token" = [])))]
pub(super) async fn page(
    State(api): State<Api>,
    caller: Caller,
    One(group): One<GroupId>,
    page: Page<InviteKey>,
) -> Result<Json<InvitePage>, ApiError> {
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
    ),
    security(("token" = [])))]
pub(super) async fn revoke(
    State(api): State<Api>,
    caller: Caller,
    Two(group, ik_pub): Two<GroupId, InviteKey>,
) -> Result<StatusCode, ApiError> {
    invites::revoke(&api.db, api.clock.now(), &api.shares, &caller, group, ik_pub).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST groups/{id}/join` – a request by one who holds a link (protocol §3.4).
#[utoipa::path(post, path = "/groups/{group}/join", tag = "invites",
    params(("group" = GroupId, Path)), request_body = JoinRequest,
    responses(
        (status = 200, body = JoinPending, description = "also for the same request again"),
        (status = 400, body = ErrorBody, description = "`DEV_CAUSEWAY_BAD_REQUEST`, with the reason, to the holder of the link"),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: the request is another device's"),
        (status = 404, body = ErrorBody, description = "`M_NOT_FOUND`: the same for everything until the invite's signature verifies"),
        (status = 409, body = ErrorBody, description = "`DEV_CAUSEWAY_ALREADY_MEMBER`"),
        (status = 410, body = ErrorBody, description = "to the holder of the link: `DEV_CAUSEWAY_EXPIRED`, `DEV_CAUSEWAY_REVOKED`, `DEV_CAUSEWAY_USED`, `DEV_CAUSEWAY_CLOSED`"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`"),
    ), security(("token" = [])))]
pub(super) async fn join(
    State(api): State<Api>,
    caller: Caller,
    One(group): One<GroupId>,
    Body(request): Body<JoinRequest>,
) -> Result<Json<JoinPending>, ApiError> {
    let now = api.clock.now();
    Ok(Json(
        invites::join(&api.db, &api.live, now, &api.shares, &caller, group, &request.request)
            .await?,
    ))
}

/// `GET groups/{id}/requests` – those who asked to join and wait.
#[utoipa::path(get, path = "/groups/{group}/requests", tag = "invites",
    params(("group" = GroupId, Path), ("from" = Option<RequestId>, Query), ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000)),
    responses(
        (status = 200, body = RequestPage),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: the caller may not add members"),
        (status = 404, body = ErrorBody),
    ),
    security(("token" = [])))]
pub(super) async fn requests(
    State(api): State<Api>,
    caller: Caller,
    One(group): One<GroupId>,
    page: Page<RequestId>,
) -> Result<Json<RequestPage>, ApiError> {
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
    ), security(("token" = [])))]
pub(super) async fn drop_request(
    State(api): State<Api>,
    caller: Caller,
    Two(group, request): Two<GroupId, RequestId>,
) -> Result<StatusCode, ApiError> {
    let now = api.clock.now();
    invites::drop_request(&api.db, now, &api.shares, &caller, group, request).await?;
    Ok(StatusCode::NO_CONTENT)
}
