//! Accounts of other servers, and their keys: asked for where they are.

use std::collections::BTreeMap;

use causeway_protocol::{
    api::{AccountAnswer, ClaimedKeys},
    device::verify_account,
    ids::{AccountId, DeviceId, ItemId, Timestamp},
    json::from_value,
    link::Call,
    roster::{Body, Op},
};
use serde_json::{Value, json};

use super::{Api, ApiError, Caller, ask, refused, taken};
use crate::services::remote_accounts;

/// Devices of one claim of another server.
pub(super) const MAX_CLAIM: usize = 200;
/// What is said of a server that shows a list which is not its account's, does not verify, or is an old one.
const BAD_LIST: &str = "device_list";
/// How long what another server said of an account is good without asking again, milliseconds.
const FRESH_MS: u64 = 60_000;

/// Keeps what `from` shows of its accounts; `false` where that is too much now. What it showed ahead of its turn
/// is not looked at again.
pub(super) async fn show(
    api: &Api,
    from: &str,
    (tell, shown): (ItemId, &[Value]),
) -> Result<bool, ApiError> {
    let now = api.clock.now();
    if api.servers.has_shown(&api.db, from, tell).await? {
        return Ok(true);
    }
    if !api.servers.may_show(now, from, shown.len()) {
        api.servers.was_limited((&api.db, now), from, "accounts a minute").await?;
        return Ok(false);
    }
    let its = shown.iter().filter_map(|shown| from_value::<AccountAnswer>(shown).ok());
    // A server shows its own.
    let its: Vec<_> = its.filter(|it| it.list.account.server() == from).collect();
    let others = shown.len().saturating_sub(its.len());
    let wrong = keep_shown(api, from, its).await?;
    if others > 0 || wrong > 0 {
        refused(api, from, BAD_LIST).await?;
    }
    api.servers.showed(&api.db, from, tell).await?;
    // It may have devices in a group now.
    api.servers.rooms_moved();
    Ok(true)
}

/// Keeps accounts that are `from`'s; how many are not as they should be.
pub(super) async fn keep_shown(
    api: &Api,
    from: &str,
    its: impl IntoIterator<Item = AccountAnswer>,
) -> Result<usize, ApiError> {
    let now = api.clock.now();
    let came = remote_accounts::keep_shown(&api.db, now, its).await?;
    if came.gone > 0 {
        api.servers.was_limited((&api.db, now), from, "accounts that are in no group").await?;
    }
    Ok(came.wrong)
}

/// The newest word of another server on an account of its own.
pub(in crate::http) async fn account(
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
    ask_for(api, caller, account, known).await
}

async fn ask_for(
    api: &Api,
    caller: &Caller,
    account: &AccountId,
    known: Option<(AccountAnswer, Timestamp)>,
) -> Result<AccountAnswer, ApiError> {
    let now = api.clock.now();
    let body = json!({ "account": account });
    let answer = ask(api, caller, account.server(), Call::Account, body).await?;
    let server = account.server();
    let said: AccountAnswer = taken(server, &answer)?;
    let newer = known.as_ref().is_none_or(|(known, _)| {
        known.list.version <= said.list.version && known.list.member_id == said.list.member_id
    });
    let is_theirs = said.list.account == *account;
    let is_whole = is_theirs && verify_account(&said.list, &said.devices).is_ok();
    if !is_whole || !newer {
        tracing::debug!(%account, server, "a device list that does not verify, or is an old one");
        refused(api, server, BAD_LIST).await?;
        let error = format!("{server} shows a device list that does not verify, or an old one");
        return Err(ApiError::bad_answer(server, error));
    }
    remote_accounts::keep(&api.db, now, &said).await?;
    Ok(said)
}

/// Keys of devices of other servers, as far as these answer.
pub(in crate::http) async fn claim(
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
            let keys = taken::<ClaimedKeys>(server, &answer)?.keys;
            // Of none that was not asked for. Whether it is the device's own is for who claims to see: he
            // believes his own server no more than this one does that.
            let asked = keys.into_iter().filter(|(device, _)| devices.contains(device));
            Ok::<BTreeMap<_, _>, ApiError>(asked.collect())
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

/// Asks other servers for those of their accounts that an op brings in, where they are not known as it
/// names them.
pub(in crate::http) async fn look_up_named(
    api: &Api,
    caller: &Caller,
    op: &[u8],
) -> Result<(), ApiError> {
    if api.config.relay_token.is_none() {
        // Nobody can be asked.
        return Ok(());
    }
    let Ok(Body::Add(entries)) = Op::parse(op).and_then(|op| op.body()) else { return Ok(()) };
    for entry in entries {
        let Ok(account) = entry.account.parse::<AccountId>() else { continue };
        if account.server() == api.config.server_name {
            continue;
        }
        api.servers.allowed(account.server())?;
        let known = remote_accounts::known(&api.db, &account).await?;
        let is_known = known.as_ref().is_some_and(|(known, _)| {
            known.list.member_id == entry.member_id && known.list.version == entry.devices.version
        });
        if !is_known {
            ask_for(api, caller, &account, known).await?;
        }
    }
    Ok(())
}
