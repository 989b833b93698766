//! Linking a device: the place where the new one and the first leave what is for the other.

use axum::{Json, extract::State, http::StatusCode};
use causeway_protocol::{
    api::{ErrorBody, LinkState, PutAnswer},
    device::DeviceRecord,
    ids::LinkId,
};

use super::{
    Api,
    auth::Caller,
    body::{Body, One},
    error::ApiError,
    guest::Visitor,
};
use crate::services::links::LinkError;

/// `PUT links/{id}` – a new device's offer, for ten minutes; no body is read.
#[utoipa::path(put, path = "/links/{id}", tag = "accounts",
    params(("id" = LinkId, Path, description = "made of the secret in the text, protocol §1")),
    responses(
        (status = 204, description = "it is there; asked again, it ends when it would have"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED`: too many from this address, or in all, with `retry_after_ms`"),
    ))]
pub(super) async fn begin(
    State(api): State<Api>,
    visitor: Visitor,
    One(id): One<LinkId>,
) -> Result<StatusCode, ApiError> {
    let now = api.clock.now();
    if !api.links.has(now, &id) {
        visitor.takes_offer(&api)?;
    }
    api.links.begin(now, visitor.household(), id)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET links/{id}` – what was left there.
#[utoipa::path(get, path = "/links/{id}", tag = "accounts",
    params(("id" = LinkId, Path)),
    responses((status = 200, body = LinkState), (status = 404, body = ErrorBody)))]
pub(super) async fn state(
    State(api): State<Api>,
    One(id): One<LinkId>,
) -> Result<Json<LinkState>, ApiError> {
    let state = api.links.state(api.clock.now(), &id);
    Ok(Json(state.ok_or(LinkError::Unknown)?))
}

/// `PUT links/{id}/answer` – what a device of an account says to the new one, sealed; one per offer.
#[utoipa::path(put, path = "/links/{id}/answer", tag = "accounts", request_body = PutAnswer,
    params(("id" = LinkId, Path)),
    responses(
        (status = 204, description = "it is there, or this very one was"),
        (status = 403, body = ErrorBody, description = "`M_RESOURCE_LIMIT_EXCEEDED`: the account answers as many as it may"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "`DEV_CAUSEWAY_LINK_TAKEN`: another answer was there"),
    ), security(("token" = [])))]
pub(super) async fn answer(
    State(api): State<Api>,
    caller: Caller,
    One(id): One<LinkId>,
    Body(request): Body<PutAnswer>,
) -> Result<StatusCode, ApiError> {
    api.links.answer(api.clock.now(), &caller.account, &id, request.answer)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT links/{id}/record` – the new device's record, once it was answered; one per offer.
#[utoipa::path(put, path = "/links/{id}/record", tag = "accounts", request_body = DeviceRecord,
    params(("id" = LinkId, Path)),
    responses(
        (status = 204, description = "it is there, or this very one was; nothing in it was verified"),
        (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "`DEV_CAUSEWAY_LINK_TAKEN`: another record was there"),
    ))]
pub(super) async fn record(
    State(api): State<Api>,
    One(id): One<LinkId>,
    Body(record): Body<DeviceRecord>,
) -> Result<StatusCode, ApiError> {
    api.links.record(api.clock.now(), &id, record)?;
    Ok(StatusCode::NO_CONTENT)
}
