//! Requests that cross servers: what is asked of others, and what they ask here. Whichever way, the
//! request's body and answer are those of one server (protocol §7.2).

mod accounts;
mod asked;
mod beside;
mod calls;
mod catch_up;
mod guests;
mod letting_in;
mod ops;
mod rotation;
mod steps;
mod taking;
mod thirds;

use axum::http::StatusCode;
use causeway_protocol::{
    api::ErrorBody,
    envelope::Sender,
    ids::{GroupId, ItemId},
    json,
    link::{Answer, Ask, Call, Item, Row, Tell},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use self::{
    accounts::show,
    steps::{Step, steps},
    taking::{put_down, put_down_all, take_event, take_home_row},
};
pub(super) use self::{
    accounts::{account, claim, look_up_named},
    beside::Beside,
    calls::{About, PageOfCalls, What, access, ask_calls},
    catch_up::look_ahead,
    guests::{are_there, attend, let_guest_in, says},
    letting_in::{create_invite, drop_request, invites, join, requests, revoke_invite},
    ops::post_op,
    rotation::ask_rotation,
};
use super::{Api, auth::Caller, error::ApiError};
use crate::{
    services::{
        groups::{elsewhere, replica},
        remote_accounts,
        servers::{AskError, Due, telling},
    },
    storage::devices::Device,
};

/// What comes to its limit when a home gives more than is kept of its groups.
const LOGS: &str = "what is kept of the groups of its";

/// Deals with the items of a frame, in their order; `false` where one has to wait, and those behind it
/// with it. Those before it are not dealt with again.
pub(super) async fn take(api: &Api, from: &str, due: Due) -> Result<bool, ApiError> {
    let Due { items, mut done, behind } = due;
    let taken = take_behind(api, from, items, &mut done).await;
    if !matches!(taken, Ok(true)) {
        api.servers.dealt_with(&api.db, from, (behind, done)).await?;
    }
    taken
}

/// Likewise, of what is behind the first `done` things, which were dealt with.
async fn take_behind(
    api: &Api,
    from: &str,
    items: Vec<Item>,
    done: &mut usize,
) -> Result<bool, ApiError> {
    let here = &*api.config.server_name;
    for step in steps(from, items, *done) {
        let item = match step {
            Step::Said(said) => {
                if !put_down_all(api, said, done).await? {
                    return Ok(false);
                }
                continue;
            }
            Step::Item(item) => item,
        };
        match item {
            Item::Ask(to, ask) => answer_ask(api, from, (to, &ask)).await?,
            Item::Answer(_, answer) => {
                catch_up::answer(api, from, answer).await?;
            }
            Item::Tell(_, Tell::Heads(heads)) => catch_up::hear(api, from, heads).await?,
            Item::Tell(tell, Tell::Accounts(shown)) => {
                if !show(api, from, (tell, &shown)).await? {
                    return Ok(false);
                }
            }
            Item::Event(_, event) => {
                if !take_event(api, (here, from), event, done).await? {
                    return Ok(false);
                }
                continue;
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
            Item::Row(Row::Home(row)) => {
                let taken = match Row::Home(row.clone()).check(from) {
                    Ok(()) => take_home_row(api, from, &row).await?,
                    Err(error) => refused(api, from, &error.to_string()).await?,
                };
                if !taken {
                    return Ok(false);
                }
            }
            Item::Tell(_, Tell::Progress(_, rows)) => {
                let done = (&api.db, &api.live);
                if telling::hear(done, api.clock.now(), from, rows).await? > 0 {
                    refused(api, from, "took_back").await?;
                }
            }
            Item::Tell(_, Tell::Room(group, room)) => {
                hear_room(api, from, (group, Some(room))).await?;
            }
            Item::Tell(_, Tell::Leave(group)) => hear_room(api, from, (group, None)).await?,
            // Of the rest this server needs nothing yet.
            Item::Tell(..) => {}
        }
        *done += 1;
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
        Ok(()) if ask.call == Call::Op => match thirds::put_aside(api, from, to, ask).await {
            Ok(true) => return Ok(()),
            Ok(false) => asked::carry_out(api, from, ask).await,
            Err(refusal) => Err(refusal),
        },
        Ok(()) => match beside::answered(api, from, (to, ask)) {
            Ok(true) => return Ok(()),
            Ok(false) => asked::carry_out(api, from, ask).await,
            Err(refusal) => Err(refusal),
        },
    };
    say(api, from, to, carried_out).await
}

/// Carries out what was put aside, and answers it.
async fn carry_out(api: &Api, from: &str, (to, ask): (ItemId, &Ask)) -> Result<(), ApiError> {
    let done = asked::carry_out(api, from, ask).await;
    say(api, from, to, done).await
}

/// Answers with what came of an ask.
async fn say(
    api: &Api,
    from: &str,
    to: ItemId,
    carried_out: Result<Value, ApiError>,
) -> Result<(), ApiError> {
    let (status, body) = match carried_out {
        Ok(Value::Null) => (StatusCode::NO_CONTENT, Value::Null),
        Ok(body) => (StatusCode::OK, body),
        Err(refusal) => {
            let (status, body) = refusal.into_parts();
            (status, of(&body)?)
        }
    };
    let answer = Answer { to, status: status.as_u16(), body };
    Ok(api.servers.answer((&api.db, api.clock.now()), from, answer).await?)
}

/// Takes a server's word on the relay room of a group.
async fn hear_room(api: &Api, from: &str, said: (GroupId, Option<String>)) -> Result<(), ApiError> {
    let now = api.clock.now();
    if !api.servers.may_tell_heads(now, from, 1) {
        return Ok(api.servers.was_limited((&api.db, now), from, "heads an hour").await?);
    }
    if !api.servers.hear_room(&api.db, from, said).await? {
        refused(api, from, "not_its_home").await?;
    }
    Ok(())
}

/// Counts what another server should not have sent; nothing waits for it.
pub(super) async fn refused(api: &Api, from: &str, reason: &str) -> Result<bool, ApiError> {
    metrics::counter!("causeway_servers_refused_total").increment(1);
    if let Some(unsaid) = api.servers.was_refused((&api.db, api.clock.now()), from, reason).await? {
        tracing::warn!(server = from, reason, unsaid, "refused what another server sent");
    }
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

/// What the home alone decides is asked of it alone.
async fn must_be_home(api: &Api, group: GroupId) -> Result<(), ApiError> {
    let home = replica::other_home(&api.db, &api.config.server_name, group).await?;
    let Some(home) = home else { return Ok(()) };
    Err(ApiError::forbidden(format!("the group is kept by {home}: ask there")))
}

/// Who asks about a group, as far as this server knows the account to have that device. Of a server that has
/// nobody in the group nothing new is noted.
async fn caller_of(api: &Api, ask: &Ask, group: GroupId) -> Result<Device, ApiError> {
    let who = ask.caller.as_ref();
    let who = who.ok_or_else(|| ApiError::forbidden("this is asked for somebody"))?;
    let mut caller = remote_accounts::device(&api.db, who).await?;
    if caller.is_none() && elsewhere::is_in(&api.db, who.account.server(), group).await? {
        caller = remote_accounts::note_device(&api.db, who).await?;
    }
    caller.ok_or_else(no_such_group)
}

fn no_such_group() -> ApiError {
    ApiError::not_found("no such group")
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
    api.servers.ask((&api.db, api.clock.now()), server, Some(&who), (call, body)).await
}

/// What `server` answered; its refusal is the caller's.
fn taken<T: DeserializeOwned>(server: &str, answer: &Answer) -> Result<T, ApiError> {
    let unreadable = |_| unreadable(server);
    if answer.status == 200 {
        return json::from_value(&answer.body).map_err(unreadable);
    }
    let body: ErrorBody = json::from_value(&answer.body).map_err(unreadable)?;
    let status = StatusCode::from_u16(answer.status).map_err(|_| self::unreadable(server))?;
    // Whose session it is this server alone says: a client would take it for the end of its own.
    if !status.is_client_error() || status == StatusCode::UNAUTHORIZED {
        return Err(self::unreadable(server));
    }
    Err(ApiError::as_there(server, status, body))
}

/// That `server` did what answers nothing; its refusal is the caller's.
fn done(server: &str, answer: &Answer) -> Result<(), ApiError> {
    if answer.status == 204 { Ok(()) } else { taken(server, answer) }
}

fn unreadable(server: &str) -> ApiError {
    ApiError::bad_answer(server, format!("the answer of {server} makes no sense"))
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
