//! What a request brings, parsed: JSON bodies, path segments, pages.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, RawPathParams, Request, rejection::BytesRejection},
    http::{
        StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
        request::Parts,
    },
    response::{IntoResponse as _, Response},
};
use causeway_protocol::{ids::AccountId, json, posting::Posting};
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use tokio::time::{Instant, timeout};

use super::{Api, auth::Who, error::ApiError};
use crate::{quota::PAGE_BYTES, services::relay::PostError};

/// How long a body may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// After so long who sends it may have been logged out.
const SLOW: Duration = Duration::from_secs(1);
/// A longer body is parsed off the threads that serve everybody.
const LARGE: usize = 32 * 1_024;

/// A JSON body; unknown fields are ignored, wrong types and lengths refused.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<Api> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let (who, bytes) = read(request, api).await?;
        match who {
            Some(Who { account, .. }) if bytes.len() > LARGE => {
                api.shares.read(&account, move || parsed(&bytes)).await
            }
            _ => parsed(&bytes),
        }
        .map(Self)
    }
}

/// A JSON answer of about so many bytes: a long one is written off the threads that serve everybody, one of an
/// account at a time.
pub(super) async fn long<T: Serialize + Send + 'static>(
    api: &Api,
    account: &AccountId,
    bytes: usize,
    answer: T,
) -> Result<Response, ApiError> {
    if bytes <= LARGE {
        return Ok(Json(answer).into_response());
    }
    let written = api.shares.read(account, move || serde_json::to_vec(&answer)).await;
    let written = written.map_err(|error| ApiError::internal(&error))?;
    Ok(([(CONTENT_TYPE, "application/json")], written).into_response())
}

/// A JSON object as it came, byte by byte.
pub(super) struct Verbatim(pub(super) Bytes);

impl FromRequest<Api> for Verbatim {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let (who, bytes) = read(request, api).await?;
        let looked = bytes.clone();
        let look = move || parsed::<BTreeMap<String, IgnoredAny>>(&looked).map(drop);
        match who {
            Some(Who { account, .. }) if bytes.len() > LARGE => {
                api.shares.read(&account, look).await?;
            }
            _ => look()?,
        }
        if bytes.first() == Some(&b'{') {
            Ok(Self(bytes))
        } else {
            Err(ApiError::bad("M_BAD_JSON", "something stands before the object"))
        }
    }
}

/// Fan-outs in bytes.
pub(super) struct InBytes(pub(super) Posting);

impl FromRequest<Api> for InBytes {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let (who, bytes) = read(request, api).await?;
        let posting = match who {
            Some(Who { account, .. }) if bytes.len() > LARGE => {
                api.shares.read(&account, move || Posting::parse(&bytes)).await
            }
            _ => Posting::parse(&bytes),
        };
        posting.map(Self).map_err(|bad| PostError::Form(bad).into())
    }
}

/// The bytes of a body, and whose it is.
async fn read(request: Request, api: &Api) -> Result<(Option<Who>, Bytes), ApiError> {
    // Whoever has used up his share is not even read; what does not say its length may be long.
    let who = request.extensions().get::<Who>().cloned();
    let length = request.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if let Some(Who { account, .. }) = &who {
        api.shares.traffic(api.clock.now(), account, length.unwrap_or(PAGE_BYTES))?;
    }
    let began = Instant::now();
    let bytes = timeout(PATIENCE, Bytes::from_request(request, api)).await;
    let bytes = bytes.map_err(|_| {
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN", "the body came too slowly")
    })?;
    let bytes = bytes.map_err(|error| refusal(&error))?;
    if let (None, Some(Who { account, .. })) = (length, &who) {
        api.shares.was_less(account, PAGE_BYTES, bytes.len());
    }
    if let Some(who) = &who {
        who.take_turn(api, began.elapsed() >= SLOW).await?;
    }
    Ok((who, bytes))
}

fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // All of it, because serde_json does not look into strings that nobody asks for.
    let text = std::str::from_utf8(bytes).map_err(|e| ApiError::bad("M_NOT_JSON", e))?;
    // How deep it nests costs nothing: what is in a field that is not known is passed over without
    // recursion, and one that is known has few levels.
    json::from_slice(text.as_bytes()).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => ApiError::bad("M_BAD_JSON", error),
        _ => ApiError::bad("M_NOT_JSON", error),
    })
}

fn refusal(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        ApiError::too_large("the body is larger than this path takes")
    } else {
        ApiError::bad("M_NOT_JSON", "the body broke off")
    }
}

/// The path's one parameter, parsed.
pub(super) struct One<A>(pub(super) A);

impl<A: FromStr> FromRequestParts<Api> for One<A>
where
    A::Err: std::fmt::Display,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let params = params(parts, api).await?;
        let mut params = params.iter();
        Ok(Self(parse(params.next())?))
    }
}

/// The path's two parameters, parsed.
pub(super) struct Two<A, B>(pub(super) A, pub(super) B);

impl<A: FromStr, B: FromStr> FromRequestParts<Api> for Two<A, B>
where
    A::Err: std::fmt::Display,
    B::Err: std::fmt::Display,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let params = params(parts, api).await?;
        let mut params = params.iter();
        Ok(Self(parse(params.next())?, parse(params.next())?))
    }
}

async fn params(parts: &mut Parts, api: &Api) -> Result<RawPathParams, ApiError> {
    let params = RawPathParams::from_request_parts(parts, api).await;
    params.map_err(|_| ApiError::invalid("the path is not UTF-8"))
}

fn parse<T: FromStr>(param: Option<(&str, &str)>) -> Result<T, ApiError>
where
    T::Err: std::fmt::Display,
{
    let (name, text) = param.unwrap_or_default();
    text.parse().map_err(|error| ApiError::invalid(format_args!("{name}: {error}")))
}

/// `?from=…&limit=…`: at most `limit` (default 100, at most 1,000) from `from` on.
pub(super) struct Page<F> {
    pub(super) from: Option<F>,
    pub(super) limit: u32,
}

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1_000;

impl<F: FromStr> FromRequestParts<Api> for Page<F>
where
    F::Err: std::fmt::Display,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, ApiError> {
        let mut page = Self { from: None, limit: DEFAULT_LIMIT };
        let query = parts.uri.query().unwrap_or_default();
        for (name, text) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "from" => page.from = Some(parse(Some((name, text)))?),
                "limit" => page.limit = limit(parse(Some((name, text)))?)?,
                _ => {}
            }
        }
        Ok(page)
    }
}

/// What the query says under this name, parsed.
pub(super) fn queried<T: FromStr>(parts: &Parts, name: &str) -> Result<Option<T>, ApiError>
where
    T::Err: std::fmt::Display,
{
    let pairs = parts.uri.query().unwrap_or_default().split('&');
    let of_name = |pair: &str| pair.split_once('=').is_some_and(|(found, _)| found == name);
    let found = pairs.rev().find(|pair| of_name(pair)).and_then(|pair| pair.split_once('='));
    found.map(|pair| parse(Some(pair))).transpose()
}

fn limit(limit: u32) -> Result<u32, ApiError> {
    let is_fit = (1..=MAX_LIMIT).contains(&limit);
    let wrong = || ApiError::invalid(format_args!("limit in the query: 1 to {MAX_LIMIT}"));
    is_fit.then_some(limit).ok_or_else(wrong)
}

/// An epoch in a query.
pub(super) struct EpochText(pub(super) causeway_protocol::ids::Epoch);

impl FromStr for EpochText {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(causeway_protocol::ids::Epoch).map(Self)
    }
}
