//! What is kept for the bridge, and read again.

use axum::{Json, extract::State};
use causeway_protocol::api::{Again, ErrorBody, Kept, ReadAgain};

use super::{Api, auth::Caller, body::Body, error::ApiError};
use crate::services::kept;

/// `PUT device/kept` – what the caller's device acknowledges from now on is kept (protocol §2).
#[utoipa::path(put, path = "/device/kept", tag = "messages",
    responses(
        (status = 200, body = Kept, description = "the same when it was asked before"),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: it is kept for the server's bridge alone"),
    ), security(("token" = [])))]
pub(super) async fn keep(State(api): State<Api>, caller: Caller) -> Result<Json<Kept>, ApiError> {
    let keep = api.config.keep_read;
    kept::keep(&api.db, keep, &caller).await?;
    Ok(Json(Kept { generation: api.streams.generation(), keep_ms: keep.time_ms() }))
}

/// `POST device/kept` – what the caller's device has acknowledged comes again (protocol §2).
#[utoipa::path(post, path = "/device/kept", tag = "messages", request_body = ReadAgain,
    responses(
        (status = 200, body = Again, description = "the next stream begins with it"),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: it is kept for the server's bridge alone"),
    ), security(("token" = [])))]
pub(super) async fn read_again(
    State(api): State<Api>,
    caller: Caller,
    Body(request): Body<ReadAgain>,
) -> Result<Json<Again>, ApiError> {
    Ok(Json(kept::read_again(&api.db, &api.streams.generation(), &caller, request).await?))
}
