//! The sender-key inventory, as clients report it.

use axum::{Json, extract::State, http::StatusCode};
use causeway_protocol::{
    api::{ErrorBody, PutSenderKeys, SenderKeyInventory, SenderKeysNoted},
    ids::{DeviceId, GroupId},
};

use super::{
    Api,
    auth::Caller,
    body::{Body, One, Page},
    error::ApiError,
    remote,
};
use crate::services::sender_keys::{self, SenderKeysError};

/// `GET groups/{id}/sender-keys` – what the group's devices said last.
#[utoipa::path(get, path = "/groups/{group}/sender-keys", tag = "sender keys",
    params(("group" = GroupId, Path), ("from" = Option<DeviceId>, Query), ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000)),
    responses((status = 200, body = SenderKeyInventory), (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`")),
    security(("token" = [])))]
pub(super) async fn inventory(
    State(api): State<Api>,
    caller: Caller,
    One(group): One<GroupId>,
    page: Page<DeviceId>,
) -> Result<Json<SenderKeyInventory>, ApiError> {
    let (now, shares) = (api.clock.now(), &api.shares);
    let page = sender_keys::inventory(&api.db, now, shares, &caller, group, page.from, page.limit);
    Ok(Json(page.await?))
}

/// `PUT groups/{id}/sender-keys` – what the caller's device holds, in place of what it said before: of a
/// pairwise group what it could not open alone, since no key lives on there.
#[utoipa::path(put, path = "/groups/{group}/sender-keys", tag = "sender keys",
    params(("group" = GroupId, Path)), request_body = PutSenderKeys,
    responses((status = 200, body = SenderKeysNoted), (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`: the account's reports")),
    security(("token" = [])))]
pub(super) async fn report(
    State(api): State<Api>,
    caller: Caller,
    One(group): One<GroupId>,
    Body(report): Body<PutSenderKeys>,
) -> Result<Json<SenderKeysNoted>, ApiError> {
    let now = api.clock.now();
    let rotate_asked_ms =
        sender_keys::report(&api.db, &api.live, now, &api.shares, &caller, group, &report).await?;
    Ok(Json(SenderKeysNoted { rotate_asked_ms }))
}

/// `DELETE groups/{id}/sender-keys` – asks the owners to rotate, those of other servers through
/// these; honoured once an hour.
#[utoipa::path(delete, path = "/groups/{group}/sender-keys", tag = "sender keys",
    params(("group" = GroupId, Path)),
    responses(
        (status = 204, description = "the owners are told with the answer to their next report"),
        (status = 400, body = ErrorBody, description = "`M_INVALID_PARAM`: a pairwise group has no keys that live on"),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: only admins may"),
        (status = 404, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED`: asked within the last hour, with `retry_after_ms`"),
        (status = 504, body = ErrorBody, description = "`DEV_CAUSEWAY_UNREACHABLE` with `server` and `since_ms`: devices of that server may not have been asked, those of others are; the same again asks it alone"),
    ),
    security(("token" = [])))]
pub(super) async fn ask_rotation(
    State(api): State<Api>,
    caller: Caller,
    One(group): One<GroupId>,
) -> Result<StatusCode, ApiError> {
    let (of, now) = ((&api.db, &api.live), api.clock.now());
    let here = sender_keys::ask_rotation(of.0, of.1, now, &caller, group).await;
    match here {
        // Another server may not have been reached then.
        Ok(()) | Err(SenderKeysError::TooSoon(_)) => {
            let any = remote::ask_rotation(&api, &caller, group).await?;
            if !any {
                here?;
            }
        }
        Err(_) => here?,
    }
    Ok(StatusCode::NO_CONTENT)
}
