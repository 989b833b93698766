//! What LiveKit tells this server of its own accord.

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    routing::post,
};
use serde_json::{Value, json};

use super::{Api, body::Verbatim, error::ApiError};
use crate::{gateway::livekit::WebhookError, services::calls};

/// Below which what concerns LiveKit is asked for.
pub(super) const PREFIX: &str = "/livekit/jwt";
/// Most bytes of what LiveKit tells.
const MAX_BYTES: usize = 64 << 10;

pub(super) fn router() -> Router<Api> {
    let webhook = post(webhook).layer(DefaultBodyLimit::max(MAX_BYTES));
    Router::new().route("/sfu_webhook", webhook)
}

/// `POST /livekit/jwt/sfu_webhook` – something happened in a room; it is looked into at once (LiveKit,
/// "Webhooks").
///
/// What it says decides nothing: the next look at LiveKit's own lists does.
async fn webhook(
    State(api): State<Api>,
    headers: HeaderMap,
    Verbatim(body): Verbatim,
) -> Result<Json<Value>, ApiError> {
    let Some(livekit) = api.livekit.as_deref() else {
        let why = "this server has no LiveKit";
        return Err(ApiError::new(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", why));
    };
    let signed = headers.get(AUTHORIZATION).and_then(|header| header.to_str().ok());
    let body = std::str::from_utf8(&body).map_err(|error| ApiError::bad("M_NOT_JSON", error))?;
    let told = livekit.told(api.clock.now(), body, signed.unwrap_or_default());
    let outcome = match &told {
        Ok(_) => "taken",
        Err(WebhookError::Forged) => "forged",
        Err(WebhookError::Replayed) => "replayed",
        Err(WebhookError::Unreadable) => "unreadable",
    };
    metrics::counter!("causeway_sfu_webhooks_total", "outcome" => outcome).increment(1);
    match told {
        Ok(told) => {
            calls::heard(&api.db, &api.live, &told).await?;
            Ok(Json(json!({})))
        }
        Err(error) => Err(match error {
            WebhookError::Forged => ApiError::forbidden(error),
            WebhookError::Replayed => ApiError::new(StatusCode::CONFLICT, "M_UNKNOWN", error),
            WebhookError::Unreadable => ApiError::bad("M_BAD_JSON", error),
        }),
    }
}
