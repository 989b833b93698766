//! Who calls: a device, known by its bearer token.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, Method, StatusCode, header::AUTHORIZATION, request::Parts},
};

use causeway_protocol::ids::AccountId;
use tokio::sync::OwnedSemaphorePermit;

use super::{Api, error::ApiError};
use crate::{config::TokenHash, storage::devices::Device};

/// The device that calls; holding one is being let in.
pub(super) struct Caller {
    device: Device,
    /// By which it was known.
    pub(super) token: TokenHash,
    /// Of its account no more than a few requests are answered at once.
    pub(super) turn: Turn,
}

/// A request's turn among those of its account, until the last of these is dropped. It begins when all
/// of the request is there: who sends slowly keeps nobody else of his account waiting.
#[derive(Clone, Default)]
pub(super) struct Turn(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Turn {
    fn begin(&self, permit: Option<OwnedSemaphorePermit>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = permit;
    }

    /// It is no request that is being answered any more.
    pub(super) fn end(&self) {
        self.begin(None);
    }
}

/// Whose request it is, for those who have not seen the [`Caller`].
#[derive(Clone)]
pub(super) struct Who {
    pub(super) account: AccountId,
    token: TokenHash,
    turn: Turn,
}

impl Who {
    /// Waits for the request's turn. Who was logged out meanwhile, or while a body came slowly, gets
    /// none.
    pub(super) async fn take_turn(&self, api: &Api, was_slow: bool) -> Result<(), ApiError> {
        let (permit, has_waited) = api.shares.turn(&self.account).await;
        if (has_waited || was_slow) && api.sessions.device(&api.db, &self.token).await?.is_none() {
            return Err(logged_out());
        }
        self.turn.begin(permit);
        Ok(())
    }
}

impl Deref for Caller {
    type Target = Device;

    fn deref(&self) -> &Device {
        &self.device
    }
}

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        // In the header only: an address ends up in logs.
        let token = bearer(&parts.headers).ok_or_else(|| {
            let error = "give the access token: Authorization: Bearer …";
            ApiError::new(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", error)
        })?;
        let token = TokenHash::of(token);
        let device = api.sessions.device(&api.db, &token).await?.ok_or_else(logged_out)?;
        let turn = Turn::default();
        let who = Who { account: device.account.clone(), token, turn: turn.clone() };
        // Of these the body is read, and then it is their turn; what logs out waits for none.
        if !matches!(parts.method, Method::POST | Method::PUT) {
            who.take_turn(api, false).await?;
        }
        parts.extensions.insert(who);
        Ok(Self { device, token, turn })
    }
}

fn logged_out() -> ApiError {
    let error = "this access token is not good any more; log in";
    ApiError::new(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN", error)
}

/// The token of the `Authorization` header.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
