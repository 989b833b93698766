//! The one place where an error becomes a status: Matrix's shape for the homeserver, RFC 9457 for
//! the operator. What is ours alone to know is logged under an id, and only the id is answered.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use causeway_server::admin::Problem;
use serde_json::json;

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
    /// A native client at the wrong listener.
    #[error(
        "this is where the homeserver and the operator come in (appservice.listen); native clients go \
         to native.listen, or to where a proxy leads to it"
    )]
    NotNative,
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
            Self::NotNative => (StatusCode::NOT_FOUND, "M_UNRECOGNIZED"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE"),
            Self::Incomplete => (StatusCode::BAD_REQUEST, "M_NOT_JSON"),
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN"),
            // Said in the log when it began.
            Self::Storage(storage::Error::Store(causeway_store::Error::Full)) => {
                (StatusCode::INSUFFICIENT_STORAGE, "M_RESOURCE_LIMIT_EXCEEDED")
            }
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

impl From<storage::Error> for Problem {
    fn from(error: storage::Error) -> Self {
        Self::Internal(logged(&error))
    }
}

/// There is nothing at `path`, said in the manner of its API.
pub(super) fn unrecognized(path: &str, status: StatusCode) -> Response {
    if path.starts_with("/_causeway/admin/") {
        Problem::Unrecognized(status).into_response()
    } else if path.starts_with("/_causeway/native/") {
        MatrixError::NotNative.into_response()
    } else {
        MatrixError::Unrecognized(status).into_response()
    }
}

/// Logs an internal error under an id, which it returns.
pub(super) fn logged(error: &storage::Error) -> String {
    let mut bytes = [0_u8; 6];
    // Without randomness the id is all zeros, which still finds the line.
    let _ = getrandom::fill(&mut bytes);
    let id = hex::encode(bytes);
    tracing::error!(%id, %error, "internal error");
    id
}
