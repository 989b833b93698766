//! Requests that cross servers: what is asked of others, and what they ask here. Whichever way, the
//! request's body and answer are those of one server (protocol §7.2).

mod catch_up;

use std::collections::BTreeMap;

use axum::http::StatusCode;
use causeway_protocol::{
    api::{AccountAnswer, ClaimRequest, ClaimedKeys, ErrorBody, GroupHead, OpBytes, PostEnvelopes},
    device::verify_account,
    envelope::{Sender, Submission},
    ids::{AccountId, DeviceId, Epoch, GroupId, ItemId, Timestamp},
    json,
    link::{Answer, Ask, Call, Carried, Event, Item, Row, Tell},
    roster::{Body, Op},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

pub(super) use self::catch_up::look_ahead;
use super::{Api, auth::Caller, error::ApiError};
use crate::services::{
    accounts,
    groups::{
        self,
        replica::{self, Took},
    },
    keys,
    relay::{self, PostError, Posted},
    remote_accounts,
    servers::AskError,
};

/// Devices of one claim of another server.
const MAX_CLAIM: usize = 200;
/// How long what another server said of an account is good without asking again, milliseconds.
const FRESH_MS: u64 = 60_000;

/// Deals with the items of a frame, in their order; `false` where one has to wait, and those behind it
/// with it. What was dealt with before does nothing.
pub(super) async fn take(api: &Api, from: &str, items: Vec<Item>) -> Result<bool, ApiError> {
    let here = &*api.config.server_name;
    for item in items {
        match item {
            Item::Ask(to, ask) => answer_ask(api, from, (to, &ask)).await?,
            Item::Answer(_, answer) => {
                catch_up::answer(api, from, answer).await?;
            }
            Item::Tell(_, Tell::Heads(heads)) => catch_up::hear(api, from, heads).await?,
            Item::Tell(_, Tell::Accounts(shown)) => {
                if !show(api, from, &shown).await? {
                    return Ok(false);
                }
            }
            Item::Event(_, event) => {
                if !take_event(api, (here, from), event).await? {
                    return Ok(false);
                }
            }
            Item::Row(Row::Member(row)) => {
                let is_its = Row::Member(row.clone()).check(from);
                let taken = match is_its {
                    Ok(()) => put_down(api, row).await?,
                    Err(error) => refused(api, from, &error.to_string()).await?,
                };
                if !taken {
                    return Ok(false);
                }
            }
            // Of the rest this server needs nothing yet.
            Item::Row(Row::Home(_)) | Item::Tell(..) => {}
        }
    }
    Ok(true)
}

/// Carries an ask out, once, and answers it.
async fn answer_ask(api: &Api, from: &str, (to, ask): (ItemId, &Ask)) -> Result<(), ApiError> {
    if !api.servers.is_first(&api.db, from, to).await? {
        return Ok(());
    }
    let carried_out = match admit(api, from, ask).await {
        Err(refusal) => Err(refusal),
        Ok(()) if ask.call == Call::Ops => match catch_up::give(api, from, to, &ask.body).await {
            Ok(()) => return Ok(()),
            Err(refusal) => Err(refusal),
        },
        Ok(()) => carry_out(api, from, ask).await,
    };
    let (status, body) = match carried_out {
        Ok(body) => (StatusCode::OK, body),
        Err(refusal) => {
            let (status, body) = refusal.into_parts();
            (status, of(&body)?)
        }
    };
    let answer = Answer { to, status: status.as_u16(), body };
    Ok(api.servers.answer((&api.db, api.clock.now()), from, answer).await?)
}

/// Keeps what `from` shows of its accounts; `false` where that is too much now.
async fn show(api: &Api, from: &str, shown: &[Value]) -> Result<bool, ApiError> {
    let now = api.clock.now();
    if !api.servers.may_show(now, from, shown.len()) {
        api.servers.was_limited((&api.db, now), from, "accounts a minute").await?;
        return Ok(false);
    }
    let its = shown.iter().filter_map(|shown| json::from_value::<AccountAnswer>(shown).ok());
    // A server shows its own.
    let its: Vec<_> = its.filter(|it| it.list.account.server() == from).collect();
    remote_accounts::keep_shown(&api.db, now, its).await?;
    Ok(true)
}

async fn take_event(api: &Api, (here, from): (&str, &str), event: Event) -> Result<bool, ApiError> {
    match &event.carried {
        Carried::Ops(ops) => {
            let (now, of) = (api.clock.now(), (&api.db, &api.live));
            let is_new = !replica::is_known(&api.db, event.group).await?;
            if is_new && !api.servers.may_begin_group(now, from) {
                api.servers.was_limited((&api.db, now), from, "new groups an hour").await?;
                return Ok(false);
            }
            match replica::take(of, now, (here, from), event.group, ops).await? {
                Took::All => {}
                Took::Refused("second_history") => {
                    catch_up::second_history(api, from, event.group).await?;
                }
                Took::Refused(reason) => {
                    refused(api, from, reason).await?;
                }
                // They are asked for, and these with them.
                Took::Missing => api.servers.lack(&api.db, from, event.group).await?,
            }
        }
        Carried::Envelopes(envelopes) => {
            for envelope in envelopes {
                let taken = match event.check(envelope, from) {
                    Ok(()) => put_down(api, envelope.clone()).await?,
                    Err(error) => refused(api, from, &error.to_string()).await?,
                };
                if !taken {
                    return Ok(false);
                }
            }
        }
    }
    Ok(true)
}

/// Puts down what a device of another server has sent; `false` where that has to wait.
async fn put_down(api: &Api, envelope: Submission) -> Result<bool, ApiError> {
    let from = envelope.sender.account.server().to_owned();
    let (group, epoch) = (envelope.group, envelope.epoch);
    let Some(sender) = remote_accounts::device(&api.db, &envelope.sender).await? else {
        return wait_or_refuse(api, &from, (group, epoch), "unknown_sender").await;
    };
    let when = (api.clock.now(), api.config.max_message_ttl);
    let request = PostEnvelopes { envelopes: vec![envelope], count: None };
    let who = (&sender, Posted::Elsewhere);
    let posted =
        relay::post_of((&api.db, &api.live), when, &api.shares, who, group, &request).await;
    match posted.map_err(|refused| refused.why) {
        Ok(_) => Ok(true),
        // It is much that nobody has read: what comes of it is refused as it would be here, and nobody waits.
        Err(PostError::UsedUp(used_up)) if used_up.is_for_long() => {
            refused(api, &from, &used_up.to_string()).await
        }
        Err(PostError::UsedUp(_)) => Ok(false),
        Err(PostError::Storage(error)) => Err(error.into()),
        Err(why) => wait_or_refuse(api, &from, (group, epoch), &why.to_string()).await,
    }
}

/// What ops that are not here yet may let in waits for them; `true` where it is refused.
async fn wait_or_refuse(
    api: &Api,
    from: &str,
    (group, epoch): (GroupId, Epoch),
    reason: &str,
) -> Result<bool, ApiError> {
    Ok(match catch_up::waits(api, from, group, epoch).await? {
        Some(true) => false,
        Some(false) => refused(api, from, "ops_missing").await?,
        None => refused(api, from, reason).await?,
    })
}

/// Counts what another server should not have sent; nothing waits for it.
async fn refused(api: &Api, from: &str, reason: &str) -> Result<bool, ApiError> {
    tracing::warn!(server = from, reason, "refused what another server sent");
    metrics::counter!("causeway_servers_refused_total").increment(1);
    api.servers.was_refused((&api.db, api.clock.now()), from, reason).await?;
    Ok(true)
}

/// Whether `from` may ask this, now.
async fn admit(api: &Api, from: &str, ask: &Ask) -> Result<(), ApiError> {
    let now = api.clock.now();
    if !ask.is_by(from) {
        return Err(ApiError::forbidden("the caller is an account of another server"));
    }
    if !ask.is_in_time(now) {
        return Err(ApiError::invalid("this came too late to be carried out"));
    }
    if let Err(ms) = api.servers.may_ask(now, from) {
        api.servers.was_limited((&api.db, now), from, "asks a second").await?;
        return Err(ApiError::later("this server asks too much", ms));
    }
    Ok(())
}

async fn carry_out(api: &Api, from: &str, ask: &Ask) -> Result<Value, ApiError> {
    let now = api.clock.now();
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
        Call::Op => {
            let who = ask.caller.as_ref();
            let who = who.ok_or_else(|| ApiError::forbidden("an op has somebody who posts it"))?;
            let RemoteOp { group, op, mut accounts } = parsed(&ask.body)?;
            accounts.retain(|shown| shown.list.account.server() == from);
            remote_accounts::keep_shown(&api.db, now, accounts).await?;
            let caller = remote_accounts::device(&api.db, who).await?;
            let caller = caller.ok_or_else(|| ApiError::not_found("no such group"))?;
            let group = (&*api.config.server_name, group);
            let done = (&api.db, &api.live);
            of(&groups::post_op(done.0, done.1, now, &api.shares, &caller, group, &op.0).await?)
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
    // Who waits for another server takes no turn of those who ask this one.
    caller.turn.end();
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

/// An op, as it is carried to the group's home.
#[derive(Serialize, Deserialize)]
struct RemoteOp {
    group: GroupId,
    op: OpBytes,
    /// Of the asking server: the poster's, and those that the op names, who may be new to the home.
    accounts: Vec<AccountAnswer>,
}

/// Posts an op to the group's home. When this returns it is here as well.
pub(super) async fn post_op(
    api: &Api,
    caller: &Caller,
    home: &str,
    group: GroupId,
    op: &[u8],
) -> Result<GroupHead, ApiError> {
    let answer = ask_op(api, caller, home, group, op).await?;
    let answer = match catch_up::lost_by_home(api, group, &answer).await? {
        // The home has lost ops: it is given them, and then the op again.
        Some(lost) => {
            for lost in &lost {
                taken::<GroupHead>(&ask_op(api, caller, home, group, &lost.0).await?)?;
            }
            ask_op(api, caller, home, group, op).await?
        }
        None => answer,
    };
    let head: GroupHead = taken(&answer)?;
    let mut moved = api.live.moved();
    let here = &*api.config.server_name;
    let ops = [op.to_vec()];
    let of = (&api.db, &api.live);
    // What stands before it is on its way.
    let waiting = async {
        while let Took::Missing =
            replica::take(of, api.clock.now(), (here, home), group, &ops).await?
        {
            let _ = moved.changed().await;
        }
        Ok::<_, ApiError>(())
    };
    match tokio::time::timeout(api.config.relay_patience, waiting).await {
        Ok(done) => done.map(|()| head),
        Err(_) => {
            Err(AskError::Unreachable { server: home.to_owned(), since: api.clock.now() }.into())
        }
    }
}

async fn ask_op(
    api: &Api,
    caller: &Caller,
    home: &str,
    group: GroupId,
    op: &[u8],
) -> Result<Answer, ApiError> {
    let mut named = vec![caller.account.clone()];
    if let Ok(Body::Add(entries)) = Op::parse(op).and_then(|op| op.body()) {
        named.extend(entries.iter().filter_map(|entry| entry.account.parse().ok()));
    }
    named.retain(|account: &AccountId| account.server() == api.config.server_name);
    let mut accounts = Vec::new();
    for account in named {
        let shown = accounts::devices_of(&api.db, &account).await?;
        accounts.extend(shown.map(|shown| AccountAnswer { former: Vec::new(), ..shown }));
    }
    let body = of(&RemoteOp { group, op: OpBytes(op.to_vec()), accounts })?;
    Ok(ask(api, caller, home, Call::Op, body).await?)
}

/// Asks other servers for those of their accounts that an op brings in, where they are not known as it
/// names them.
pub(super) async fn look_up_named(api: &Api, caller: &Caller, op: &[u8]) -> Result<(), ApiError> {
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
