//! Envelopes in, and what became of them.

use std::str::FromStr;

use axum::{Json, extract::State};
use causeway_protocol::{
    api::{Accepted, ErrorBody, MessageStatus, OwnDevice, PostEnvelopes},
    ids::{EnvelopeId, GroupId},
};

use super::{
    Api,
    auth::Caller,
    body::{Body, InBytes, One, Two, Verbatim},
    error::ApiError,
};
use crate::services::{
    delivery,
    relay::{self, fan_outs, legacy},
};

/// `POST groups/{id}/envelopes` – in order, all or nothing up to 512 rows (protocol §2).
#[utoipa::path(post, path = "/groups/{group}/envelopes", tag = "messages",
    params(("group" = GroupId, Path)), request_body = PostEnvelopes,
    responses(
        (status = 200, body = Accepted, description = "an id that was accepted before is answered as it was then"),
        (status = 400, body = ErrorBody, description = "`M_INVALID_PARAM`: an envelope's form, id or time to live"),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: another's envelope; an epoch from before the device counted; the group is closed"),
        (status = 404, body = ErrorBody, description = "`M_NOT_FOUND`: there is no such group, or the device does not count in it, and knows of the op that took it out"),
        (status = 409, body = ErrorBody, description = "`M_STALE_EPOCH`: install `ops` (from the epoch after the one stated) and seal again what is not in `accepted`; where `epoch` is below the one stated it is the server that lacks ops"),
        (status = 413, body = ErrorBody, description = "`M_TOO_LARGE`: a payload with its pieces, or too many envelopes"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`"),
    ), security(("token" = [])))]
pub(super) async fn post_envelopes(
    State(api): State<Api>,
    caller: Caller,
    One(group): One<GroupId>,
    Body(request): Body<PostEnvelopes>,
) -> Result<Json<Accepted>, ApiError> {
    let when = (api.clock.now(), api.config.max_message_ttl);
    let of = (&api.db, &api.live);
    Ok(Json(relay::post(of, when, &api.shares, &caller, group, &request).await?))
}

/// `POST groups/{id}/fan-outs` – fan-outs in bytes, each device named by its place in the newest roster
/// (protocol §2).
#[utoipa::path(post, path = "/groups/{group}/fan-outs", tag = "messages",
    params(("group" = GroupId, Path)),
    request_body(content = String, content_type = "application/octet-stream", description = "a posting, as the protocol lays it out: count, the roster by which devices are named, and each envelope with its pieces"),
    responses(
        (status = 200, body = Accepted, description = "an id that was accepted before is answered as it was then"),
        (status = 400, body = ErrorBody, description = "`M_INVALID_PARAM`: the bytes break off, a place is there twice or is no device's, an id or a time to live"),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: an epoch from before the device counted; the group is closed"),
        (status = 404, body = ErrorBody, description = "`M_NOT_FOUND`: there is no such group, or the device does not count in it, and knows of the op that took it out"),
        (status = 409, body = ErrorBody, description = "`M_STALE_EPOCH`: as for envelopes; `DEV_CAUSEWAY_OTHER_ROSTER`: devices are named by another roster than the newest, of `epoch`: get the ops, and name them anew, with what is sealed as it is"),
        (status = 413, body = ErrorBody, description = "`M_TOO_LARGE`: a payload with its pieces, or too many envelopes"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`"),
    ), security(("token" = [])))]
pub(super) async fn post_fan_outs(
    State(api): State<Api>,
    caller: Caller,
    One(group): One<GroupId>,
    InBytes(posting): InBytes,
) -> Result<Json<Accepted>, ApiError> {
    let when = (api.clock.now(), api.config.max_message_ttl);
    let of = (&api.db, &api.live);
    Ok(Json(fan_outs::post(of, when, &api.shares, &caller, group, posting).await?))
}

/// A legacy suite in a path.
pub(super) struct Suite(u8);

impl FromStr for Suite {
    type Err = UnknownSuite;

    fn from_str(text: &str) -> Result<Self, UnknownSuite> {
        match text {
            "opus_v1" => Ok(Self(0x81)),
            "ren_a" => Ok(Self(0x82)),
            _ => Err(UnknownSuite),
        }
    }
}

/// No suite that groups speak.
#[derive(Debug, thiserror::Error)]
#[error("no legacy suite that is spoken here")]
pub(super) struct UnknownSuite;

/// `POST groups/{id}/legacy/{suite}/messages` – the seed's JSON as it is, for all (protocol §6).
#[utoipa::path(post, path = "/groups/{group}/legacy/{suite}/messages", tag = "messages",
    params(("group" = GroupId, Path), ("suite" = String, Path, description = "`opus_v1` or `ren_a`")),
    request_body(content = serde_json::Value, description = "the seed's envelope: an object, with nothing before it; its bytes are the payload of a `message`"),
    responses(
        (status = 200, body = Accepted, description = "the same bytes again are answered as they were then"),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: the device does not count yet; the group is closed"),
        (status = 404, body = ErrorBody, description = "`M_NOT_FOUND`: there is no such group, it does not speak this suite, or not any more, or the device does not count in it"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`"),
    ), security(("token" = [])))]
pub(super) async fn post_legacy(
    State(api): State<Api>,
    caller: Caller,
    Two(group, Suite(suite)): Two<GroupId, Suite>,
    Verbatim(text): Verbatim,
) -> Result<Json<Accepted>, ApiError> {
    let when = (api.clock.now(), api.config.max_message_ttl);
    let of = (group, suite);
    Ok(Json(legacy::post(&api.db, &api.live, when, &api.shares, &caller, of, &text).await?))
}

/// `GET device` – the highest count that the caller's device has posted with, and its fallback key
/// (protocol §2).
#[utoipa::path(get, path = "/device", tag = "messages",
    responses((status = 200, body = OwnDevice)), security(("token" = [])))]
pub(super) async fn device(
    State(api): State<Api>,
    caller: Caller,
) -> Result<Json<OwnDevice>, ApiError> {
    Ok(Json(delivery::own(&api.db, &caller).await?))
}

/// `GET messages/{id}/status` – how far an envelope of the caller's device came, per recipient.
#[utoipa::path(get, path = "/messages/{id}/status", tag = "messages", params(("id" = EnvelopeId, Path)),
    responses((status = 200, body = MessageStatus), (status = 404, body = ErrorBody)),
    security(("token" = [])))]
pub(super) async fn status(
    State(api): State<Api>,
    caller: Caller,
    One(id): One<EnvelopeId>,
) -> Result<Json<MessageStatus>, ApiError> {
    let sent = |device| api.streams.sent(device);
    let status = delivery::status(&api.db, &caller, id, sent).await?;
    status.map(Json).ok_or_else(|| ApiError::not_found("no such envelope of this device"))
}
