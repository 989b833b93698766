//! What a device could not hold, and takes later.

use axum::{Json, extract::State};
use causeway_protocol::{
    api::{ErrorBody, ParkedPage, Unpark, Unparked},
    ids::Seq,
};

use super::{
    Api,
    auth::Caller,
    body::{Body, Page},
    error::ApiError,
};
use crate::services::delivery::parked;

/// `GET device/parked` – of whom rows are parked for the caller's device (protocol §2).
#[utoipa::path(get, path = "/device/parked", tag = "messages",
    params(("from" = Option<u64>, Query), ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000)),
    responses((status = 200, body = ParkedPage)), security(("token" = [])))]
pub(super) async fn page(
    State(api): State<Api>,
    caller: Caller,
    page: Page<u64>,
) -> Result<Json<ParkedPage>, ApiError> {
    let from = Seq(page.from.unwrap_or(0));
    Ok(Json(parked::page(&api.db, &caller, from, page.limit).await?))
}

/// `POST device/unpark` – hands out what is parked of one device in one group, and lets go of what
/// was taken (protocol §2).
#[utoipa::path(post, path = "/device/unpark", tag = "messages", request_body = Unpark,
    responses(
        (status = 200, body = Unparked, description = "at most 64 rows and about 1 MiB; they stay parked until they are `taken`"),
        (status = 413, body = ErrorBody, description = "`M_TOO_LARGE`: more than 256 rows are taken"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`: the account's traffic"),
    ), security(("token" = [])))]
pub(super) async fn unpark(
    State(api): State<Api>,
    caller: Caller,
    Body(request): Body<Unpark>,
) -> Result<Json<Unparked>, ApiError> {
    Ok(Json(parked::unpark(&api.db, api.clock.now(), &api.shares, &caller, &request).await?))
}
