//! Refusals of the operator's API, as RFC 9457 has them.

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
use utoipa::ToSchema;

use crate::{http::error::logged, storage};

/// Why the operator did not get what he asked for.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
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
    /// Of what as many are there as may be.
    #[error("as many {0} are open as may be")]
    TooMany(&'static str),
    /// A parameter, and what it should be.
    #[error("{0}")]
    BadRequest(String),
    /// Ours, logged under this id.
    #[error("internal error {0}")]
    Internal(String),
}

/// Body of every refusal of the admin API (RFC 9457, `application/problem+json`).
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody {
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

impl From<storage::Error> for Problem {
    fn from(error: storage::Error) -> Self {
        Self::Internal(logged(&error).to_string())
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
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let body = ProblemBody {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: self.to_string(),
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
