//! Requests that cross servers: what is asked of others, and what they ask here. Whichever way, the
//! request's body and answer are those of one server (protocol §7.2).

use std::collections::BTreeMap;

use axum::http::StatusCode;
use causeway_protocol::{
    api::{AccountAnswer, ClaimRequest, ClaimedKeys, ErrorBody},
    device::verify_account,
    envelope::Sender,
    ids::{AccountId, DeviceId},
    json,
    link::{Answer, Call},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Api, auth::Caller, error::ApiError};
use crate::services::{
    accounts, keys, remote_accounts,
    servers::{AskError, Asked},
};

/// Devices of one claim of another server.
const MAX_CLAIM: usize = 200;
/// How long what another server said of an account is good without asking again, milliseconds.
const FRESH_MS: u64 = 60_000;

/// Carries out what another server asks: its answer's status and body.
pub(super) async fn carry_out(api: &Api, asked: &Asked) -> (StatusCode, Value) {
    let done = match answer(api, asked).await {
        Ok(body) => return (StatusCode::OK, body),
        Err(refusal) => refusal.into_parts(),
    };
    let (status, body) = done;
    (status, serde_json::to_value(body).unwrap_or_default())
}

async fn answer(api: &Api, Asked { from, ask, .. }: &Asked) -> Result<Value, ApiError> {
    let now = api.clock.now();
    if !ask.is_by(from) {
        return Err(ApiError::forbidden("the caller is an account of another server"));
    }
    if !ask.is_in_time(now) {
        return Err(ApiError::invalid("this came too late to be carried out"));
    }
    if let Err(ms) = api.servers.may_ask(now, from) {
        return Err(ApiError::later("this server asks too much", ms));
    }
    match ask.call {
        Call::Ping => Ok(json!({
            "v": 1,
            "software": concat!("Causeway ", env!("CARGO_PKG_VERSION")),
            "server": api.config.server_name,
        })),
        Call::Account => {
            let account: AccountId = field(&ask.body, "account")?;
            if account.server() != api.config.server_name {
                return Err(ApiError::not_found("that is an account of another server"));
            }
            let found = accounts::devices_of(&api.db, &account).await?;
            of(&found.ok_or_else(|| ApiError::not_found("no such account on this server"))?)
        }
        Call::Claim => {
            let ClaimRequest { devices } = parsed(&ask.body)?;
            if devices.len() > MAX_CLAIM {
                let error = format!("at most {MAX_CLAIM} devices in one claim of another server");
                return Err(ApiError::too_large(error));
            }
            let who = keys::Claimer::Server(from);
            let per_hour = api.config.claims_per_hour;
            of(&keys::claim(&api.db, now, &api.shares, who, per_hour, &devices).await?)
        }
        _ => {
            let error = "this server does not take this from others";
            Err(ApiError::new(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", error))
        }
    }
}

/// The newest word of another server on an account of its own.
pub(super) async fn account(
    api: &Api,
    caller: &Caller,
    account: &AccountId,
) -> Result<AccountAnswer, ApiError> {
    let now = api.clock.now();
    let known = remote_accounts::known(&api.db, account).await?;
    if let Some((known, asked)) = &known
        && now.0.saturating_sub(asked.0) < FRESH_MS
    {
        return Ok(known.clone());
    }
    let body = json!({ "account": account });
    let answer = ask(api, caller, account.server(), Call::Account, body).await?;
    let said: AccountAnswer = taken(&answer)?;
    let newer = known.as_ref().is_none_or(|(known, _)| {
        known.list.version <= said.list.version && known.list.member_id == said.list.member_id
    });
    let is_theirs = said.list.account == *account;
    let is_whole = is_theirs && verify_account(&said.list, &said.devices).is_ok();
    if !is_whole || !newer {
        let server = account.server();
        tracing::warn!(%account, server, "a device list that does not verify, or is an old one");
        let error = format!("{server} shows a device list that does not verify, or an old one");
        return Err(ApiError::new(StatusCode::BAD_GATEWAY, "DEV_CAUSEWAY_BAD_ANSWER", error));
    }
    remote_accounts::keep(&api.db, now, &said).await?;
    Ok(said)
}

/// Keys of devices of other servers, as far as these answer.
pub(super) async fn claim(
    api: &Api,
    caller: &Caller,
    devices: &[DeviceId],
    claimed: &mut ClaimedKeys,
) -> Result<(), ApiError> {
    let missing: Vec<DeviceId> =
        devices.iter().filter(|device| !claimed.keys.contains_key(device)).copied().collect();
    let by_server = remote_accounts::servers_of(&api.db, &missing).await?;
    let asks = by_server.iter().flat_map(|(server, devices)| {
        devices.chunks(MAX_CLAIM).map(move |devices| async move {
            let body = json!({ "devices": devices });
            let answer = ask(api, caller, server, Call::Claim, body).await?;
            let keys = taken::<ClaimedKeys>(&answer)?.keys;
            // Of none that was not asked for, and none that is not the device's own.
            let good = keys
                .into_iter()
                .filter(|(device, key)| devices.contains(device) && key.verify(device).is_ok());
            Ok::<BTreeMap<_, _>, ApiError>(good.collect())
        })
    });
    for keys in futures_util::future::join_all(asks).await {
        match keys {
            Ok(keys) => claimed.keys.extend(keys),
            // As of a device that has none: who asks does so again.
            Err(error) => tracing::debug!(?error, "no keys of another server"),
        }
    }
    Ok(())
}

async fn ask(
    api: &Api,
    caller: &Caller,
    server: &str,
    call: Call,
    body: Value,
) -> Result<Answer, AskError> {
    let who = Sender { account: caller.account.clone(), device: caller.device_id };
    api.servers.ask((&api.db, api.clock.now()), server, &who, (call, body)).await
}

/// What another server answered; its refusal is the caller's.
fn taken<T: DeserializeOwned>(answer: &Answer) -> Result<T, ApiError> {
    if answer.status == 200 {
        return json::from_value(&answer.body).map_err(|_| unreadable());
    }
    let body: ErrorBody = json::from_value(&answer.body).map_err(|_| unreadable())?;
    let status = StatusCode::from_u16(answer.status).map_err(|_| unreadable())?;
    if !status.is_client_error() {
        return Err(unreadable());
    }
    Err(ApiError::as_there(status, body))
}

fn unreadable() -> ApiError {
    let error = "the other server's answer makes no sense";
    ApiError::new(StatusCode::BAD_GATEWAY, "DEV_CAUSEWAY_BAD_ANSWER", error)
}

fn field<T: DeserializeOwned>(body: &Value, name: &str) -> Result<T, ApiError> {
    let value = body.get(name).unwrap_or(&Value::Null);
    json::from_value(value).map_err(|error| ApiError::invalid(format!("`{name}`: {error}")))
}

fn parsed<T: DeserializeOwned>(body: &Value) -> Result<T, ApiError> {
    json::from_value(body).map_err(ApiError::invalid)
}

fn of(body: &impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(body).map_err(|error| ApiError::internal(&error))
}
