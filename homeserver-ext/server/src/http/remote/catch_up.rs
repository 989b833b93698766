//! What one server lacks that another has: where groups stand, and the ops that are asked for (protocol
//! §7.2, §7.3).

use causeway_protocol::{
    api::{ErrorBody, OpBytes, OpPage},
    ids::{Epoch, GroupId, ItemId},
    json,
    link::{Answer, Ask, Call, Head, Item, Tell},
};
use serde_json::Value;

use super::{Api, ApiError, LOGS, answer_ask, calls, field, refused, show, thirds};
use crate::services::groups::{
    elsewhere::{self, Heard},
    given_back,
    replica::{self, Took},
};

/// Ops that a home is given back with one request; more come by themselves.
const GIVEN: u32 = 64;

/// Deals with where `from` says that groups stand.
pub(super) async fn hear(api: &Api, from: &str, heads: Vec<Head>) -> Result<(), ApiError> {
    let now = api.clock.now();
    if !api.servers.may_tell_heads(now, from, heads.len()) {
        return Ok(api.servers.was_limited((&api.db, now), from, "heads an hour").await?);
    }
    for head in heads {
        match elsewhere::hear(&api.db, from, &head).await? {
            Heard::Nothing => {}
            Heard::Ask => api.servers.lack(&api.db, from, head.group).await?,
            Heard::Tell(mine) => api.servers.tell_head((&api.db, now), from, mine).await?,
            Heard::SecondHistory => second_history(api, from, head.group).await?,
            Heard::Stranger => {
                refused(api, from, "not_in_group").await?;
            }
        }
    }
    Ok(())
}

/// Shows that a group has two histories; it changes nothing. People are told by each other (protocol §3.3).
pub(super) async fn second_history(api: &Api, from: &str, group: GroupId) -> Result<(), ApiError> {
    metrics::counter!("causeway_servers_second_histories_total").increment(1);
    let when = (&api.db, api.clock.now());
    if let Some(unsaid) = api.servers.was_refused(when, from, "second_history").await? {
        tracing::warn!(
            server = from,
            %group,
            unsaid,
            "the group has another history there: it lied, or one of the two lost data. Each server keeps its own"
        );
    }
    Ok(())
}

/// Deals with an answer: it is somebody's who waits for it, or brings ops or an account. Whether it brought
/// such, or told that there are none.
pub(super) async fn answer(api: &Api, from: &str, answer: Answer) -> Result<bool, ApiError> {
    if let Some(account) = api.servers.looked_up(from, answer.to) {
        thirds::came(api, account, &answer).await?;
        // What it said may be what a frame waits for.
        return Ok(true);
    }
    if calls::answer(api, from, &answer) {
        return Ok(false);
    }
    let asked = api.servers.ops_answered(&api.db, from, answer.to).await?;
    let Some(group) = asked else {
        api.servers.answered(from, answer);
        return Ok(false);
    };
    let page = match answer.status {
        200 => json::from_value::<OpPage>(&answer.body).ok(),
        // It is asked again, when it says again where it stands.
        429 | 500.. => return Ok(false),
        _ => None,
    };
    let before = elsewhere::epoch(&api.db, group).await?;
    if let (None, Some(page)) = (before, &page)
        && let Some(home) = thirds::other_home(api, from, page)
    {
        // Its home alone may begin it.
        api.servers.lack(&api.db, &home, group).await?;
        return Ok(false);
    }
    if let Some(page) = &page
        && thirds::put_ops_aside(api, from, group, page).await?
    {
        return Ok(false);
    }
    let took = match &page {
        Some(page) => take(api, from, group, page, before).await?,
        None => None,
    };
    match took {
        Some(Took::Refused("second_history")) => second_history(api, from, group).await?,
        Some(Took::Refused(reason)) => {
            refused(api, from, reason).await?;
        }
        Some(Took::Full) => {
            api.servers.was_limited((&api.db, api.clock.now()), from, LOGS).await?;
        }
        Some(Took::All | Took::Missing) | None => {}
    }
    // A server that says the same again and again is not asked for ever.
    let has_moved = elsewhere::epoch(&api.db, group).await? > before;
    if has_moved && page.is_some_and(|page| page.next.is_some()) {
        api.servers.lack(&api.db, from, group).await?;
    } else {
        api.servers.has_no_more(&api.db, from, group).await?;
    }
    Ok(true)
}

async fn take(
    api: &Api,
    from: &str,
    group: GroupId,
    page: &OpPage,
    known: Option<Epoch>,
) -> Result<Option<Took>, ApiError> {
    let (now, here) = (api.clock.now(), &*api.config.server_name);
    if page.ops.is_empty() || known.is_none() && !api.servers.may_begin_group(now, from) {
        return Ok(None);
    }
    let unknown = replica::unknown_servers(&api.db, here, &bytes(page)).await?;
    if unknown > 0 && !api.servers.may_name(now, from, unknown) {
        api.servers.was_limited((&api.db, now), from, "new servers an hour").await?;
        return Ok(None);
    }
    let of = (&api.db, &api.live);
    let took =
        given_back::take(of, now, (here, from, api.servers.logs()), group, &bytes(page)).await?;
    api.servers.rooms_moved();
    Ok(Some(took))
}

/// Whether what `from` sent of this epoch needs ops that are not here: then they are asked for, and it waits
/// for them, if they may still come. `None`: they are here.
pub(super) async fn waits(
    api: &Api,
    from: &str,
    group: GroupId,
    epoch: Epoch,
) -> Result<Option<bool>, ApiError> {
    if elsewhere::epoch(&api.db, group).await?.is_some_and(|known| epoch <= known) {
        return Ok(None);
    }
    // Another server's word that there are no more does not end it: its home may have some.
    let home = replica::other_home(&api.db, &api.config.server_name, group).await?;
    let other = home.filter(|home| home != from);
    let is_known = elsewhere::epoch(&api.db, group).await?.is_some();
    let is_over = api.servers.has_waited(&api.db, from).await?
        || is_known && other.is_none() && api.servers.is_in_vain(&api.db, from, group).await?;
    if !is_over {
        for server in other.iter().map(String::as_str).chain([from]) {
            if api.servers.allowed(server).is_ok() {
                api.servers.lack(&api.db, server, group).await?;
            }
        }
    }
    Ok(Some(!is_over))
}

/// Of a content behind a frame that waits: what it may wait for, and what the other server may wait for.
/// Whether something came that was asked for.
pub(in crate::http) async fn look_ahead(
    api: &Api,
    from: &str,
    content: &Value,
) -> Result<bool, ApiError> {
    let items = content.get("items").and_then(Value::as_array);
    let mut came = false;
    for item in items.into_iter().flatten().filter_map(|item| Item::parse(item).ok()) {
        match item {
            Item::Answer(_, said) => came |= answer(api, from, said).await?,
            Item::Tell(tell, Tell::Accounts(shown)) => {
                show(api, from, (tell, &shown)).await?;
            }
            Item::Ask(to, ask) if is_ops(&ask) => answer_ask(api, from, (to, &ask)).await?,
            Item::Row(_) | Item::Event(..) | Item::Ask(..) | Item::Tell(..) => {}
        }
    }
    Ok(came)
}

fn is_ops(ask: &Ask) -> bool {
    ask.call == Call::Ops
}

fn bytes(page: &OpPage) -> Vec<Vec<u8>> {
    page.ops.iter().map(|op| op.0.clone()).collect()
}

/// The ops that a group's home lost, by its refusal of one: its epoch is below that of here.
pub(super) async fn lost_by_home(
    api: &Api,
    group: GroupId,
    answer: &Answer,
) -> Result<Option<Vec<OpBytes>>, ApiError> {
    let body = json::from_value::<ErrorBody>(&answer.body).ok();
    let refusal = body.filter(|body| answer.status == 409 && body.errcode == "M_STALE_EPOCH");
    let Some(theirs) = refusal.and_then(|body| body.epoch) else { return Ok(None) };
    let lost = elsewhere::behind(&api.db, group, theirs, GIVEN).await?;
    Ok((!lost.is_empty()).then_some(lost))
}

/// Answers a question for a group's ops, as `GET groups/{id}/roster` would.
pub(super) async fn give(api: &Api, from: &str, to: ItemId, body: &Value) -> Result<(), ApiError> {
    let group: GroupId = field(body, "group")?;
    let page = elsewhere::ops(&api.db, from, group, field(body, "from")?).await?;
    let page = page.ok_or_else(|| ApiError::not_found("no such group"))?;
    let answer = Answer { to, status: 200, body: super::of(&page)? };
    let of = (&api.db, api.clock.now());
    Ok(api.servers.answer_ops(of, from, group, (&bytes(&page), answer)).await?)
}
