//! Accounts, devices, sessions; and what the server says of itself.

use axum::{Json, extract::State, http::StatusCode};
use causeway_protocol::{
    api::{
        AccountAnswer, AccountDevices, ErrorBody, Limits, LoginNonce, LoginRequest,
        RegisterRequest, ServerInfo, Session,
    },
    envelope::{MAX_BATCH, MAX_BATCH_BYTES, MAX_PAYLOAD, MAX_TTL_MS},
    ids::{AccountId, Nonce, text_of},
};

use super::{
    Api,
    auth::Caller,
    body::{Body, One},
    error::ApiError,
    guest::{LoggingIn, Registering},
    remote,
};
use crate::{
    config::TokenHash,
    services::{accounts, device_lists, keys::MAX_KEPT},
};

/// `GET /ready` – 200 while the database takes what is written, else 503; for whoever watches over
/// the process. However often it is asked, something is written every 5 s at most.
pub(super) async fn ready(State(api): State<Api>) -> StatusCode {
    if api.probe.is_well(&api.db, "server").await {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

/// `GET server` – its name, its bridge, what it takes.
#[utoipa::path(get, path = "/server", tag = "server", responses((status = 200, body = ServerInfo)))]
pub(super) async fn server(State(api): State<Api>) -> Result<Json<ServerInfo>, ApiError> {
    let limit = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
    let max_ttl = u64::try_from(api.config.max_message_ttl.as_millis()).ok();
    Ok(Json(ServerInfo {
        server: api.config.server_name.clone(),
        bridge: accounts::bridge(&api.db, &api.config.server_name).await?,
        registration: api.config.registration,
        limits: Limits {
            max_payload_bytes: limit(MAX_PAYLOAD),
            max_envelopes: limit(MAX_BATCH),
            max_body_bytes: limit(MAX_BATCH_BYTES),
            max_ttl_ms: max_ttl.unwrap_or(MAX_TTL_MS).min(MAX_TTL_MS),
            max_one_time_keys: MAX_KEPT,
        },
    }))
}

/// `POST register` – an account with its first device.
#[utoipa::path(post, path = "/register", tag = "accounts", request_body = RegisterRequest,
    responses(
        (status = 200, body = Session),
        (status = 400, body = ErrorBody, description = "`M_USER_IN_USE`, `M_EXCLUSIVE` (reserved name), `M_INVALID_PARAM`"),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: closed, or the token is missing or wrong"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED`: too many from this address, with `retry_after_ms`"),
    ))]
pub(super) async fn register(
    State(api): State<Api>,
    _: Registering,
    Body(request): Body<RegisterRequest>,
) -> Result<Json<Session>, ApiError> {
    let access_token = text_of(&random()?);
    let token = TokenHash::of(&access_token);
    let now = api.clock.now();
    accounts::register(&api.db, now, &api.config, (&api.shares, &api.sessions), &token, &request)
        .await?;
    let (account, device_id) = (request.list.account, request.device.device_id);
    tracing::info!(%account, device = super::short(&device_id), "registered");
    Ok(Json(Session { account, device_id, access_token }))
}

/// `POST login/nonce` – what a device signs to log in; good once, for 60 s.
#[utoipa::path(post, path = "/login/nonce", tag = "accounts",
    responses(
        (status = 200, body = LoginNonce),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED`: too many from this address, with `retry_after_ms`"),
    ))]
pub(super) async fn login_nonce(
    State(api): State<Api>,
    _: LoggingIn,
) -> Result<Json<LoginNonce>, ApiError> {
    let nonce = Nonce::new(random()?);
    accounts::login_nonce(&api.db, api.clock.now(), &nonce).await?;
    Ok(Json(LoginNonce { nonce }))
}

/// `POST login` – a token for a device that signed a nonce; its former token ends.
#[utoipa::path(post, path = "/login", tag = "accounts", request_body = LoginRequest,
    responses(
        (status = 200, body = Session),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: nonce, device or signature; `DEV_CAUSEWAY_UNLISTED`: the device is no more on its account's list"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED`: too many from this address, with `retry_after_ms`"),
    ))]
pub(super) async fn login(
    State(api): State<Api>,
    _: LoggingIn,
    Body(request): Body<LoginRequest>,
) -> Result<Json<Session>, ApiError> {
    let access_token = text_of(&random()?);
    let token = TokenHash::of(&access_token);
    let server = &api.config.server_name;
    let device =
        accounts::login(&api.db, &api.sessions, api.clock.now(), server, &token, &request).await?;
    api.streams.end(device.row);
    Ok(Json(Session { account: device.account, device_id: device.device_id, access_token }))
}

/// `POST logout` – ends the caller's session.
#[utoipa::path(post, path = "/logout", tag = "accounts", responses((status = 204, description = "its token and its stream are over")),
    security(("token" = [])))]
pub(super) async fn logout(State(api): State<Api>, caller: Caller) -> Result<StatusCode, ApiError> {
    accounts::logout(&api.db, &api.sessions, &caller).await?;
    api.streams.end(caller.row);
    Ok(StatusCode::NO_CONTENT)
}

/// `GET accounts/{account}` – the newest device list, the records of its devices, and of those that it
/// has had.
#[utoipa::path(get, path = "/accounts/{account}", tag = "accounts",
    params(("account" = AccountId, Path, description = "`localpart:server`, percent-encoded")),
    responses((status = 200, body = AccountAnswer), (status = 404, body = ErrorBody),
        (status = 502, body = ErrorBody, description = "`DEV_CAUSEWAY_BAD_ANSWER`: the account's server shows what does not verify, or an older list than before"),
        (status = 504, body = ErrorBody, description = "`DEV_CAUSEWAY_UNREACHABLE` with `server` and `since_ms`: the account's server does not answer; asking again is safe")),
    security(("token" = [])))]
pub(super) async fn account(
    State(api): State<Api>,
    caller: Caller,
    One(account): One<AccountId>,
) -> Result<Json<AccountAnswer>, ApiError> {
    if account.server() != api.config.server_name {
        return remote::account(&api, &caller, &account).await.map(Json);
    }
    let found = accounts::devices_of(&api.db, &account).await?;
    found.map(Json).ok_or_else(|| ApiError::not_found("no such account on this server"))
}

/// `PUT account/devices` – the caller's newer device list; devices that it lacks are logged out.
#[utoipa::path(put, path = "/account/devices", tag = "accounts", request_body = AccountDevices,
    responses(
        (status = 204),
        (status = 400, body = ErrorBody, description = "`M_INVALID_PARAM`: something does not verify; `M_USER_IN_USE`: a device of the list is another account's"),
        (status = 403, body = ErrorBody, description = "`M_FORBIDDEN`: the list is of another account or identity"),
        (status = 409, body = ErrorBody, description = "`DEV_CAUSEWAY_OLD_VERSION`: versions never go back"),
        (status = 429, body = ErrorBody, description = "`M_LIMIT_EXCEEDED` with `retry_after_ms`"),
    ), security(("token" = [])))]
pub(super) async fn put_devices(
    State(api): State<Api>,
    caller: Caller,
    Body(request): Body<AccountDevices>,
) -> Result<StatusCode, ApiError> {
    for device in
        device_lists::put(&api.db, api.clock.now(), (&api.shares, &api.sessions), &caller, &request)
            .await?
    {
        api.streams.end(device);
    }
    Ok(StatusCode::NO_CONTENT)
}

fn random() -> Result<[u8; 32], ApiError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| ApiError::internal(&error))?;
    Ok(bytes)
}
