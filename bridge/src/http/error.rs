//! The one place where an error becomes a status: Matrix's shape for the homeserver, RFC 9457 for
//! the operator. What is ours alone to know is logged under an id, and only the id is answered.

use axum::{
    Json,
    extract::rejection::{PathRejection, QueryRejection},
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::storage;

/// Why the homeserver did not get what it asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum MatrixError {
    /// No `Authorization` header.
    #[error("no hs_token in the Authorization header")]
    MissingToken,
    /// Not our `hs_token`, or not in the header.
    #[error("not the hs_token of this registration")]
    Forbidden,
    /// No such user or room of ours.
    #[error("not here")]
    NotFound,
    /// No such endpoint, or not with this method.
    #[error("no such endpoint")]
    Unrecognized(StatusCode),
    /// Bytes that fit.
    #[error("more than {0} bytes")]
    TooLarge(usize),
    /// The body did not arrive.
    #[error("the body did not arrive")]
    Incomplete,
    /// This process is about to end.
    #[error("stopping")]
    Stopping,
    /// Ours to log; the homeserver tries again.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

impl IntoResponse for MatrixError {
    fn into_response(self) -> Response {
        let (status, errcode) = match &self {
            Self::MissingToken => (StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "M_FORBIDDEN"),
            Self::NotFound => (StatusCode::NOT_FOUND, "M_NOT_FOUND"),
            Self::Unrecognized(status) => (*status, "M_UNRECOGNIZED"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE"),
            Self::Incomplete => (StatusCode::BAD_REQUEST, "M_NOT_JSON"),
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN"),
            Self::Storage(error) => {
                let id = logged(error);
                let text = format!("internal error {id}");
                let body = Json(json!({ "errcode": "M_UNKNOWN", "error": text }));
                return (StatusCode::INTERNAL_SERVER_ERROR, body).into_response();
            }
        };
        let body = Json(json!({ "errcode": errcode, "error": self.to_string() }));
        (status, body).into_response()
    }
}

/// Why the operator did not get what he asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// No `Authorization` header.
    #[error("no admin token in the Authorization header")]
    NoToken,
    /// Not the admin token.
    #[error("not the admin token")]
    Forbidden,
    /// What was asked for, which is not there.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// No such endpoint, or not with this method.
    #[error("no such endpoint")]
    Unrecognized(StatusCode),
    /// What stands against it, and what can be done.
    #[error("{0}")]
    Conflict(&'static str),
    /// A parameter, and what it should be.
    #[error("{0}")]
    BadRequest(String),
    /// Ours to log.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

/// Body of every refusal of the admin API (RFC 9457, `application/problem+json`).
#[derive(Serialize, ToSchema)]
pub(super) struct ProblemBody {
    /// `about:blank`: the status says it all.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// What happened, and what to do.
    detail: String,
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::BadRequest(rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::BadRequest(rejection.body_text())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::NoToken => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Unrecognized(status) => *status,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Storage(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let detail = match &self {
            Self::Storage(error) => format!("internal error {}", logged(error)),
            other => other.to_string(),
        };
        let body = ProblemBody {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail,
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// There is nothing at `path`, said in the manner of its API.
pub(super) fn unrecognized(path: &str, status: StatusCode) -> Response {
    if path.starts_with("/_causeway/admin/") {
        Problem::Unrecognized(status).into_response()
    } else {
        MatrixError::Unrecognized(status).into_response()
    }
}

/// Logs an internal error under an id, which it returns.
fn logged(error: &storage::Error) -> String {
    let mut bytes = [0_u8; 6];
    // Without randomness the id is all zeros, which still finds the line.
    let _ = getrandom::fill(&mut bytes);
    let id = hex::encode(bytes);
    tracing::error!(%id, %error, "internal error");
    id
}
