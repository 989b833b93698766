//! Who may call, as a value that an endpoint must hold.

use std::sync::Arc;

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderMap, header::AUTHORIZATION, request::Parts},
};

use super::{
    Http,
    error::{MatrixError, Problem},
};
use crate::secret::Secret;

/// The homeserver called: its `hs_token` was right.
pub(super) struct Homeserver(());

/// The operator called: the admin token was right.
pub(super) struct Admin(());

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

/// Knows the operator.
pub(super) struct AdminToken(pub(super) Secret);

impl FromRef<Arc<Http>> for AdminToken {
    fn from_ref(http: &Arc<Http>) -> Self {
        Self(http.parts.tokens.admin.clone())
    }
}

impl<S: Sync> FromRequestParts<S> for Admin
where
    AdminToken: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let AdminToken(admin) = AdminToken::from_ref(state);
        match bearer(&parts.headers) {
            Some(token) if admin.is(token) => Ok(Self(())),
            Some(_) => Err(Problem::Forbidden),
            None => Err(Problem::NoToken),
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
