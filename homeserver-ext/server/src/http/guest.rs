//! Who calls without a token: known by the address it calls from, and limited by that.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, request::Parts},
};

use super::{Api, error::ApiError};
use crate::{
    config::Proxies,
    quota::{Buckets, GuestQuotas, Household, Quota},
};

const FORWARDED_FOR: &str = "x-forwarded-for";

/// What every household has left.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    register: Buckets<Household>,
    login: Buckets<Household>,
    link: Buckets<Household>,
    /// Whether the log says already that a proxy is not believed.
    warned: AtomicBool,
}

/// A guest who may register; holding one is having taken it from the address's quota.
pub(super) struct Registering;

/// A guest who may log in, or ask for a nonce; likewise.
pub(super) struct LoggingIn;

/// A guest of whom nothing was taken yet.
pub(super) struct Visitor(IpAddr);

impl FromRequestParts<Api> for Visitor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        address_of(parts, api).await.map(Self)
    }
}

impl Visitor {
    /// Who shares its limits: a whole site, where it is one of many networks.
    pub(super) fn household(&self) -> Household {
        Household::site(self.0).unwrap_or_else(|| self.0.into())
    }

    /// Takes a device's offer from the address's quota.
    pub(super) fn takes_offer(&self, api: &Api) -> Result<(), ApiError> {
        let GuestQuotas { link, .. } = *api.limits.guests.borrow();
        take_from(self.0, api, &api.guests.link, (link, "limits.links"))
    }
}

impl FromRequestParts<Api> for Registering {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let GuestQuotas { register, .. } = *api.limits.guests.borrow();
        take(parts, api, &api.guests.register, (register, "limits.registrations"))
            .await
            .map(|()| Self)
    }
}

impl FromRequestParts<Api> for LoggingIn {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let GuestQuotas { login, .. } = *api.limits.guests.borrow();
        take(parts, api, &api.guests.login, (login, "limits.logins")).await.map(|()| Self)
    }
}

async fn take(
    parts: &mut Parts,
    api: &Api,
    buckets: &Buckets<Household>,
    quota: (Option<Quota>, &'static str),
) -> Result<(), ApiError> {
    take_from(address_of(parts, api).await?, api, buckets, quota)
}

async fn address_of(parts: &mut Parts, api: &Api) -> Result<IpAddr, ApiError> {
    let peer = ConnectInfo::<SocketAddr>::from_request_parts(parts, api).await;
    let ConnectInfo(peer) = peer.map_err(|error| ApiError::internal(&error))?;
    Ok(known_client(parts, api, peer.ip()))
}

fn take_from(
    address: IpAddr,
    api: &Api,
    buckets: &Buckets<Household>,
    (quota, limit): (Option<Quota>, &'static str),
) -> Result<(), ApiError> {
    let now = api.clock.now();
    buckets.take_from(now, address, quota, 1).map_err(|(household, ms)| {
        api.hits.note(now, limit, &household);
        ApiError::later(format!("this address asks too often (`{limit}`)"), ms)
    })
}

fn known_client(parts: &Parts, api: &Api, peer: IpAddr) -> IpAddr {
    let proxies: &Proxies = &api.config.trusted_proxies;
    let is_forwarded = parts.headers.contains_key(FORWARDED_FOR);
    if is_forwarded && !proxies.trusts(peer) && !api.guests.warned.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            %peer,
            "a proxy that is not among the trusted ones says for whom it asks: all who come \
             through it share one limit"
        );
    }
    client(proxies, &parts.headers, peer)
}

/// Who asks: `peer`, or for whom it does, if it is one of these proxies.
pub(super) fn client(proxies: &Proxies, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
    proxies.client(peer, forwarded(headers))
}

/// Whom the proxies on the way say to have asked them, the nearest first; up to what is no address.
fn forwarded(headers: &HeaderMap) -> impl Iterator<Item = IpAddr> {
    let values = headers.get_all(FORWARDED_FOR).iter().rev();
    let names = values.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
    names.map_while(|name| address(name.trim()))
}

/// Some proxies write the port, too.
fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}
