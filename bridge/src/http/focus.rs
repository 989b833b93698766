//! What clients of Matrix ask before they come into a call (MSC4195; as Element Call does it).
//!
//! Every answer may be read by a page from anywhere, refusals too: without that a client says only that
//! something went wrong.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State, rejection::BytesRejection},
    http::{
        HeaderValue, Method, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, CACHE_CONTROL, RETRY_AFTER,
        },
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use causeway_server::Asks;
use ruma::{OwnedRoomId, OwnedServerName};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    domain::rtc::SLOT,
    gateway::{
        door::{Given, NotLetIn},
        openid::OpenIdError,
    },
    services::focus::{Focus, FocusError, Leave, Wish},
};

/// Below which it is asked for.
pub(super) const PREFIX: &str = "/livekit/jwt";
/// Most bytes of a request.
const MAX_BODY: usize = 16 << 10;
/// What pages may send.
const HEADERS: &str = "Accept, Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token";

/// Everything below [`PREFIX`].
pub(super) fn router<S: Clone + Send + Sync + 'static>(focus: Arc<Focus>) -> Router<S> {
    Router::new()
        .route("/sfu/get", post(sfu_get))
        .route("/get_token", post(get_token))
        .route("/delegate_delayed_leave", any(delegate))
        .route("/healthz", get(healthz))
        .fallback(async || refused(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "no such endpoint"))
        .method_not_allowed_fallback(async || {
            let why = "not with this method";
            refused(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", why)
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(for_pages))
        .with_state(focus)
}

/// Answers who asks whether it may ask, and lets any page read what is answered.
async fn for_pages(request: Request, next: Next) -> Response {
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::OK.into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (ACCESS_CONTROL_ALLOW_METHODS, "POST"),
        (ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        (ACCESS_CONTROL_MAX_AGE, "86400"),
        (CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// `GET /livekit/jwt/healthz` – that it is there.
async fn healthz() -> StatusCode {
    StatusCode::OK
}

#[derive(Deserialize)]
struct OpenIdToken {
    access_token: String,
    matrix_server_name: OwnedServerName,
}

#[derive(Deserialize)]
struct SfuGet {
    room: OwnedRoomId,
    openid_token: OpenIdToken,
    device_id: String,
    delay_id: Option<String>,
    delay_timeout: Option<u64>,
}

#[derive(Deserialize)]
struct GetToken {
    room_id: OwnedRoomId,
    slot_id: String,
    openid_token: OpenIdToken,
    member: Member,
    delay_id: Option<String>,
    delay_timeout: Option<u64>,
}

#[derive(Deserialize)]
struct Member {
    id: String,
    claimed_user_id: String,
    claimed_device_id: String,
}

/// `POST /livekit/jwt/sfu/get` – what lets a device into the call of a room, by the name that all
/// clients of today have for it.
async fn sfu_get(
    State(focus): State<Arc<Focus>>,
    asks: Option<Extension<Asks>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Given>, Refused> {
    let SfuGet { room, openid_token, device_id, delay_id, delay_timeout } = read(body)?;
    let leave = leave(&focus, delay_id, delay_timeout)?;
    let OpenIdToken { access_token: token, matrix_server_name: server } = openid_token;
    let wish = Wish { room, server, token, device: device_id, claim: None, leave };
    Ok(Json(focus.token(address(asks), &wish).await?))
}

/// `POST /livekit/jwt/get_token` – likewise, by a name that tells the server for calls nothing of
/// whose it is (MSC4195).
async fn get_token(
    State(focus): State<Arc<Focus>>,
    asks: Option<Extension<Asks>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Given>, Refused> {
    let asked: GetToken = read(body)?;
    let wish = asked.wish(&focus)?;
    Ok(Json(focus.token(address(asks), &wish).await?))
}

impl GetToken {
    fn wish(self, focus: &Focus) -> Result<Wish, Refused> {
        let Self { room_id: room, slot_id, openid_token, member, delay_id, delay_timeout } = self;
        if slot_id != SLOT {
            return Err(Refused::Malformed(format!("the slot is {SLOT} here")));
        }
        let OpenIdToken { access_token: token, matrix_server_name: server } = openid_token;
        let Member { id, claimed_user_id, claimed_device_id: device } = member;
        let leave = leave(focus, delay_id, delay_timeout)?;
        Ok(Wish { room, server, token, device, claim: Some((claimed_user_id, id)), leave })
    }
}

/// `POST /livekit/jwt/delegate_delayed_leave` – takes over the leave of a call, so that its client need not
/// say all the time that it lives (MSC4195). Whoever looks whether this is there looks for 404.
async fn delegate(
    State(focus): State<Arc<Focus>>,
    method: Method,
    asks: Option<Extension<Asks>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    if !focus.takes_leaves() {
        return Ok(refused(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "no such endpoint"));
    }
    if method != Method::POST {
        let why = "not with this method";
        return Ok(refused(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", why));
    }
    let asked: GetToken = read(body)?;
    focus.delegate(address(asks), &asked.wish(&focus)?).await?;
    Ok(Json(json!({})).into_response())
}

fn address(asks: Option<Extension<Asks>>) -> Option<IpAddr> {
    asks.map(|Extension(Asks(address))| address)
}

fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Refused> {
    let body = body.map_err(|_| Refused::TooLarge)?;
    serde_json::from_slice(&body).map_err(|error| {
        // Where it is wrong, and never what stands there.
        let (line, column) = (error.line(), error.column());
        let place = format!("at line {line}, column {column}");
        if error.is_data() {
            Refused::Malformed(format!("a field is missing, or not what it should be, {place}"))
        } else {
            Refused::NotJson(format!("no JSON {place}"))
        }
    })
}

/// The leave that is left to us; whoever reads that it is not asks again without it, and clears away after
/// itself.
fn leave(
    focus: &Focus,
    delay: Option<String>,
    timeout_ms: Option<u64>,
) -> Result<Option<Leave>, Refused> {
    let malformed = |why: &str| Refused::Malformed(why.to_owned());
    match (delay, timeout_ms) {
        (None, _) => Ok(None),
        (Some(_), _) if !focus.takes_leaves() => {
            Err(malformed("delayed events are not taken over here: ask without delay_id"))
        }
        (Some(_), None) => Err(malformed("delay_timeout is missing")),
        (Some(delay), Some(timeout_ms)) => Ok(Some(Leave { delay, timeout_ms })),
    }
}

/// Why there is no token.
enum Refused {
    TooLarge,
    NotJson(String),
    Malformed(String),
    Focus(FocusError),
}

impl From<FocusError> for Refused {
    fn from(error: FocusError) -> Self {
        Self::Focus(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let bad = StatusCode::BAD_REQUEST;
        let error = match self {
            Self::TooLarge => {
                let why = format!("more than {MAX_BODY} bytes");
                return refused(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", &why);
            }
            Self::NotJson(why) => return refused(bad, "M_NOT_JSON", &why),
            Self::Malformed(why) => return refused(bad, "M_BAD_JSON", &why),
            Self::Focus(error) => error,
        };
        let (status, code) = match &error {
            FocusError::TooOften(ms) => return too_often(*ms, &error),
            FocusError::Malformed(_) | FocusError::TooManyLeaves => (bad, "M_BAD_JSON"),
            FocusError::OpenId(OpenIdError::Unknown(_) | OpenIdError::Foreign(_)) => {
                (StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED")
            }
            FocusError::OpenId(OpenIdError::Private(_))
            | FocusError::NotHis(_)
            | FocusError::OfGhost
            | FocusError::NotJoined
            | FocusError::NotBridged
            | FocusError::NotLetIn(NotLetIn::Refused(_)) => (StatusCode::FORBIDDEN, "M_FORBIDDEN"),
            FocusError::OpenId(OpenIdError::NoListener | OpenIdError::NoAnswer(..))
            | FocusError::NotLetIn(NotLetIn::Away(_))
            | FocusError::Homeserver => (StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN"),
            FocusError::Storage(error) => {
                let id = super::error::logged(error);
                let why = format!("internal error {id}");
                return refused(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", &why);
            }
        };
        refused(status, code, &error.to_string())
    }
}

fn too_often(ms: u64, error: &FocusError) -> Response {
    let body =
        json!({"errcode": "M_LIMIT_EXCEEDED", "error": error.to_string(), "retry_after_ms": ms});
    let mut response = (StatusCode::TOO_MANY_REQUESTS, Json(body)).into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
    response
}

fn refused(status: StatusCode, code: &str, why: &str) -> Response {
    (status, Json(json!({"errcode": code, "error": why}))).into_response()
}
