//! The way back to an account whose devices are lost, by its recovery key.

use axum::{Json, extract::State, http::StatusCode};
use causeway_protocol::api::{AccountDevices, ErrorBody, LoginRequest};

use super::{Api, body::Body, error::ApiError, guest::LoggingIn};
use crate::services::{accounts, device_lists};

/// `POST recover` – the devices of the account whose identity key signed a nonce, as a device signs
/// to log in: `device_id` is the identity key.
#[utoipa::path(post, path = "/recover", tag = "accounts", request_body = LoginRequest,
    responses(
        (status = 200, body = AccountDevices),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: nonce, identity or signature"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED`: too many from this address, with `retry_after_ms`"),
    ))]
pub(super) async fn prove(
    State(api): State<Api>,
    _: LoggingIn,
    Body(request): Body<LoginRequest>,
) -> Result<Json<AccountDevices>, ApiError> {
    let (now, server) = (api.clock.now(), &api.config.server_name);
    Ok(Json(accounts::prove_identity(&api.db, now, server, &request).await?))
}

/// `PUT recover/devices` – as `PUT account/devices`, by nothing but the identity's signature: who has
/// no device any more names a new one, which logs in then.
#[utoipa::path(put, path = "/recover/devices", tag = "accounts", request_body = AccountDevices,
    responses(
        (status = 204),
        (status = 400, body = ErrorBody, description = "`M_INVALID_PARAM`: something does not verify; `M_USER_IN_USE`: a device of the list is another account's"),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: no such account, or of another identity"),
        (status = 409, body = ErrorBody, description = "`DEV_CAUSEWAY_OLD_VERSION`: versions never go back"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`"),
    ))]
pub(super) async fn put_devices(
    State(api): State<Api>,
    _: LoggingIn,
    Body(request): Body<AccountDevices>,
) -> Result<StatusCode, ApiError> {
    let now = api.clock.now();
    if let Some(out) =
        device_lists::recover(&api.db, now, (&api.shares, &api.sessions), &request).await?
    {
        for device in out {
            api.streams.end(device);
        }
        let account = &request.list.account;
        tracing::info!(%account, version = request.list.version, "recovered");
    }
    Ok(StatusCode::NO_CONTENT)
}
