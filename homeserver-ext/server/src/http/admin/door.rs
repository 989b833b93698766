//! Who may call, as a value that an endpoint must hold.

use axum::{
    Router,
    extract::{FromRequestParts, Request, State},
    http::request::Parts,
    middleware::{Next, from_fn_with_state},
    response::Response,
};

use super::Problem;
use crate::{config::TokenHash, http::auth::bearer};

/// The operator called: the admin token was right.
#[derive(Debug, Clone)]
pub struct Admin(());

impl<S: Sync> FromRequestParts<S> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // An endpoint that stands outside the door is closed to everybody.
        parts.extensions.get::<Self>().cloned().ok_or(Problem::NoToken)
    }
}

/// Lets only those in to `admin` who show this token.
pub fn behind_token<S>(admin: Router<S>, token: TokenHash) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    admin.route_layer(from_fn_with_state(token, let_in))
}

async fn let_in(
    State(admin): State<TokenHash>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let token = bearer(request.headers()).ok_or(Problem::NoToken)?;
    if !admin.is(token) {
        return Err(Problem::Forbidden);
    }
    request.extensions_mut().insert(Admin(()));
    Ok(next.run(request).await)
}
