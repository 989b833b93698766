//! Who calls: a device, known by its bearer token.

use std::ops::Deref;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, header::AUTHORIZATION, request::Parts},
};

use causeway_protocol::ids::AccountId;
use tokio::sync::OwnedSemaphorePermit;

use super::{Api, error::ApiError};
use crate::{config::TokenHash, services::accounts, storage::devices::Device};

/// The device that calls; holding one is being let in.
pub(super) struct Caller {
    device: Device,
    /// By which it was known.
    pub(super) token: TokenHash,
    /// Of its account no more than a few requests are answered at once.
    pub(super) turn: Option<OwnedSemaphorePermit>,
}

/// Whose request it is, for those who have not seen the [`Caller`].
#[derive(Clone)]
pub(super) struct Who(pub(super) AccountId);

impl Deref for Caller {
    type Target = Device;

    fn deref(&self) -> &Device {
        &self.device
    }
}

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let unauthorized =
            |errcode, error: &str| ApiError::new(StatusCode::UNAUTHORIZED, errcode, error);
        // In the header only: an address ends up in logs.
        let token = bearer(&parts.headers).ok_or_else(|| {
            unauthorized("M_MISSING_TOKEN", "give the access token: Authorization: Bearer …")
        })?;
        let token = TokenHash::of(token);
        let device = accounts::by_token(&api.db, &token).await?;
        let device = device.ok_or_else(|| {
            unauthorized("M_UNKNOWN_TOKEN", "this access token is not good any more; log in")
        })?;
        parts.extensions.insert(Who(device.account.clone()));
        let turn = api.shares.turn(&device.account).await;
        Ok(Self { device, token, turn })
    }
}

/// The token of the `Authorization` header.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
