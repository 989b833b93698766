//! Letting in and being let in where a group's home is another server (protocol §3.4, §7.2).

use causeway_protocol::{
    api::{InvitePage, JoinPending, JoinRequest, NewInvite, RequestPage},
    ids::{GroupId, InviteKey, RequestId, is_server_name, text_of},
    link::{Ask, Call},
};
use serde_json::{Value, json};

use super::{Api, ApiError, Caller, ask, caller_of, done, field, must_be_home, of, parsed, taken};
use crate::services::invites::{self, Asker};

/// Invites of one answer, which fit an item with the longest names.
const INVITES: u32 = 128;
/// Requests of one answer, likewise with as many devices as one may name.
const REQUESTS: u32 = 16;

/// Asks to be let in at `home`.
pub(in crate::http) async fn join(
    api: &Api,
    caller: &Caller,
    home: &str,
    group: GroupId,
    request: &[u8],
) -> Result<JoinPending, ApiError> {
    if !is_server_name(home) {
        return Err(ApiError::invalid("`server` is not a server's name"));
    }
    let body = json!({ "group": group, "request": text_of(request) });
    taken(home, &ask(api, caller, home, Call::Join, body).await?)
}

/// Takes the request of an account of `from` in.
pub(super) async fn join_of(api: &Api, from: &str, ask: &Ask) -> Result<Value, ApiError> {
    let who = ask.caller.as_ref();
    let who = who.ok_or_else(|| ApiError::forbidden("a request to join has somebody who asks"))?;
    let (group, JoinRequest { request, .. }) = (field(&ask.body, "group")?, parsed(&ask.body)?);
    let now = api.clock.now();
    if !api.servers.may_join(now, from) {
        api.servers.was_limited((&api.db, now), from, "requests to join a minute").await?;
        return Err(ApiError::later("too many of this server ask to join", 1_000));
    }
    let asker = (&*api.config.server_name, Asker::There(who));
    let done = (&api.db, &api.live);
    of(&invites::join(done, now, &api.shares, asker, group, &request).await?)
}

/// Has `home` take an invite's public half in.
pub(in crate::http) async fn create_invite(
    api: &Api,
    caller: &Caller,
    home: &str,
    group: GroupId,
    invite: &NewInvite,
) -> Result<(), ApiError> {
    let body = json!({ "group": group, "create": invite });
    done(home, &ask(api, caller, home, Call::Invites, body).await?)
}

/// A page of the invites that `home` counts.
pub(in crate::http) async fn invites(
    api: &Api,
    caller: &Caller,
    home: &str,
    group: GroupId,
    (from, limit): (Option<InviteKey>, u32),
) -> Result<InvitePage, ApiError> {
    let body = json!({ "group": group, "from": from, "limit": limit });
    taken(home, &ask(api, caller, home, Call::Invites, body).await?)
}

/// Has `home` take an invite back.
pub(in crate::http) async fn revoke_invite(
    api: &Api,
    caller: &Caller,
    home: &str,
    group: GroupId,
    ik_pub: InviteKey,
) -> Result<(), ApiError> {
    let body = json!({ "group": group, "revoke": ik_pub });
    done(home, &ask(api, caller, home, Call::Invites, body).await?)
}

/// Does what a member elsewhere asks about invites.
pub(super) async fn invites_of(api: &Api, ask: &Ask) -> Result<Value, ApiError> {
    let (db, now) = (&api.db, api.clock.now());
    let group = field(&ask.body, "group")?;
    must_be_home(api, group).await?;
    let by = caller_of(api, ask, group).await?;
    if let Some(invite) = field::<Option<NewInvite>>(&ask.body, "create")? {
        invites::create(db, now, &api.shares, &by, group, &invite).await?;
        return Ok(Value::Null);
    }
    if let Some(ik_pub) = field(&ask.body, "revoke")? {
        invites::revoke(db, now, &api.shares, &by, group, ik_pub).await?;
        return Ok(Value::Null);
    }
    let (from, limit) = page(&ask.body, INVITES)?;
    of(&invites::page(db, &by, group, from, limit).await?)
}

/// A page of the requests that wait at `home`.
pub(in crate::http) async fn requests(
    api: &Api,
    caller: &Caller,
    home: &str,
    group: GroupId,
    (from, limit): (Option<RequestId>, u32),
) -> Result<RequestPage, ApiError> {
    let body = json!({ "group": group, "from": from, "limit": limit });
    taken(home, &ask(api, caller, home, Call::Requests, body).await?)
}

/// Has `home` drop a request.
pub(in crate::http) async fn drop_request(
    api: &Api,
    caller: &Caller,
    home: &str,
    group: GroupId,
    request: RequestId,
) -> Result<(), ApiError> {
    let body = json!({ "group": group, "drop": request });
    done(home, &ask(api, caller, home, Call::Requests, body).await?)
}

/// Does what a member elsewhere asks about requests.
pub(super) async fn requests_of(api: &Api, ask: &Ask) -> Result<Value, ApiError> {
    let (db, now) = (&api.db, api.clock.now());
    let group = field(&ask.body, "group")?;
    must_be_home(api, group).await?;
    let by = caller_of(api, ask, group).await?;
    if let Some(request) = field(&ask.body, "drop")? {
        invites::drop_request(db, now, &api.shares, &by, group, request).await?;
        return Ok(Value::Null);
    }
    let (from, limit) = page(&ask.body, REQUESTS)?;
    of(&invites::requests(db, &by, group, from, limit).await?)
}

/// Where a page begins, and how long it is: as asked for, and as fits an item.
fn page<F: serde::de::DeserializeOwned>(
    body: &Value,
    most: u32,
) -> Result<(Option<F>, u32), ApiError> {
    let limit: Option<u32> = field(body, "limit")?;
    Ok((field(body, "from")?, limit.unwrap_or(most).clamp(1, most)))
}
