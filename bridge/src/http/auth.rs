//! Whether it is the homeserver that calls, as a value that an endpoint must hold.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header::AUTHORIZATION, request::Parts},
};

use super::{Http, error::MatrixError};

/// The homeserver called: its `hs_token` was right.
pub(super) struct Homeserver(());

impl FromRequestParts<Arc<Http>> for Homeserver {
    type Rejection = MatrixError;

    async fn from_request_parts(parts: &mut Parts, http: &Arc<Http>) -> Result<Self, MatrixError> {
        match bearer(&parts.headers) {
            Some(token) if http.parts.tokens.hs_token.is(token) => Ok(Self(())),
            Some(_) => Err(MatrixError::Forbidden),
            // A token in the query stands in every proxy's log: it was one, and does not count.
            None if asks_by_query(parts) => Err(MatrixError::Forbidden),
            None => Err(MatrixError::MissingToken),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn asks_by_query(parts: &Parts) -> bool {
    let query = parts.uri.query().unwrap_or_default();
    query.split('&').any(|pair| pair.starts_with("access_token="))
}
