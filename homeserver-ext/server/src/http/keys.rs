//! One-time keys.

use axum::{Json, extract::State};
use causeway_protocol::api::{ClaimRequest, ClaimedKeys, ErrorBody, KeyCount, UploadKeys};

use super::{Api, auth::Caller, body::Body, error::ApiError, remote};
use crate::services::keys;

/// `POST keys` – the caller's one-time keys, and its fallback key; in place of those that there are,
/// if it says so.
#[utoipa::path(post, path = "/keys", tag = "keys", request_body = UploadKeys,
    responses(
        (status = 200, body = KeyCount),
        (status = 400, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`: the account's keys"),
    ),
    security(("token" = [])))]
pub(super) async fn upload(
    State(api): State<Api>,
    caller: Caller,
    Body(request): Body<UploadKeys>,
) -> Result<Json<KeyCount>, ApiError> {
    let now = api.clock.now();
    Ok(Json(keys::upload(&api.db, now, &api.shares, &caller, &request).await?))
}

/// `POST keys/claim` – one key of each device, given once; the fallback key when there is none left
/// or the caller's account has claimed too many of that device.
#[utoipa::path(post, path = "/keys/claim", tag = "keys", request_body = ClaimRequest,
    responses((status = 200, body = ClaimedKeys), (status = 413, body = ErrorBody),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`")),
    security(("token" = [])))]
pub(super) async fn claim(
    State(api): State<Api>,
    caller: Caller,
    Body(request): Body<ClaimRequest>,
) -> Result<Json<ClaimedKeys>, ApiError> {
    let (now, per_hour) = (api.clock.now(), api.config.claims_per_hour);
    let (who, devices) = (keys::Claimer::Device(&caller), &request.devices);
    let mut claimed = keys::claim(&api.db, now, &api.shares, who, per_hour, devices).await?;
    remote::claim(&api, &caller, devices, &mut claimed).await?;
    Ok(Json(claimed))
}
