//! Calls of groups whose home is another server: its members' requests are carried there, and it asks who of
//! them is there (protocol §7.2, §9).

use std::{collections::BTreeSet, time::Duration};

use axum::http::StatusCode;
use causeway_protocol::{
    api::{AskSfu, CallSfus, ErrorBody},
    ids::{CallId, DeviceId, GroupId, Seq},
    json,
    link::{Answer, Ask, Call, MAX_ITEM},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Api, ApiError, Caller, ask, caller_of, field, must_be_home, of, parsed, taken};
use crate::services::{
    calls::{self, CallError, Of, Outcome, Wish},
    groups::{elsewhere, replica},
    servers::there,
};

/// Bytes that an answer may have beside what stands in it.
const FRAME: usize = 1_000;
/// Longest that the server of a group's bridge is waited for, which waits for a stranger itself.
const PATIENCE: Duration = Duration::from_secs(20);
/// Calls of one page, at first: fewer where they do not fit an item.
const PAGE: u32 = 64;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum What {
    Start,
    Join,
    Report,
    Set,
    Leave,
    Decline,
    End,
    Sfu,
    Upgrade,
    Mesh,
    Kick,
    Mute,
    State,
    Page,
}

/// What a request is about; with `body`, which is that of §9.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in crate::http) struct About {
    pub(in crate::http) group: GroupId,
    /// Absent where it is about no single one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::http) call: Option<CallId>,
    pub(in crate::http) what: What,
}

/// The whole of a request.
#[derive(Serialize)]
struct Asked<'a, T> {
    #[serde(flatten)]
    about: About,
    body: &'a T,
}

/// Which of a group's calls.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::http) struct PageOfCalls {
    /// The first that is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::http) from: Option<Seq>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::http) limit: Option<u32>,
}

/// Has `home` do what a request asks.
pub(in crate::http) async fn ask_calls<T: DeserializeOwned>(
    api: &Api,
    caller: &Caller,
    home: &str,
    about: About,
    asked: &(impl Serialize + Sync),
) -> Result<T, ApiError> {
    let asked = of(&Asked { about, body: asked })?;
    // Noted before it is known what comes of it: who wants to be in a call may be seen there.
    let call = match about.what {
        What::Start => Some(field(asked.get("body").unwrap_or(&Value::Null), "call")?),
        What::Join | What::Report => about.call,
        What::Set
        | What::Leave
        | What::Decline
        | What::End
        | What::Sfu
        | What::Upgrade
        | What::Mesh
        | What::Kick
        | What::Mute
        | What::State
        | What::Page => None,
    };
    if call.is_some() || about.what == What::Leave {
        let who = (caller.row, about.group);
        calls::takes_part(&api.db, api.clock.now(), who, call).await?;
    }
    calls_taken(home, &ask(api, caller, home, Call::Calls, asked).await?)
}

/// What a home answered about calls; that it has no server for them is the caller's to know.
pub(super) fn calls_taken<T: DeserializeOwned>(home: &str, answer: &Answer) -> Result<T, ApiError> {
    if answer.status == StatusCode::SERVICE_UNAVAILABLE.as_u16() {
        let body: Option<ErrorBody> = json::from_value(&answer.body).ok();
        let is_known = |body: &ErrorBody| body.errcode == "DEV_CAUSEWAY_SFU_UNAVAILABLE";
        if let Some(body) = body.filter(is_known) {
            return Err(ApiError::as_there(home, StatusCode::SERVICE_UNAVAILABLE, body));
        }
    }
    taken(home, answer)
}

/// Does what a member elsewhere asks about calls, or says who is there.
pub(super) async fn calls_of(api: &Api, from: &str, ask: &Ask) -> Result<Value, ApiError> {
    if ask.caller.is_none() {
        return who_is_there(api, from, &ask.body).await;
    }
    let about: About = parsed(&ask.body)?;
    must_be_home(api, about.group).await?;
    let device = caller_of(api, ask, about.group).await?;
    let (now, here) = (api.clock.now(), &*api.config.server_name);
    let (group, body) = (about.group, ask.body.get("body").unwrap_or(&Value::Null));
    let it = Of { db: &api.db, live: &api.live, now, here, caller: &device, group };
    let (shares, livekit) = (&api.calls, api.livekit.as_deref());
    let call = || about.call.ok_or_else(|| ApiError::invalid("`call` is missing"));
    match about.what {
        What::Start => {
            let carriers = (api.config.mesh_max, livekit.is_some());
            of(&calls::start(it, shares, carriers, &parsed(body)?).await?)
        }
        What::Join => of(&calls::join(it, shares, livekit, (call()?, &parsed(body)?)).await?),
        What::Report => of(&calls::report(it, shares, call()?, &parsed(body)?).await?),
        What::Set => of(&calls::set(it, shares, call()?, &parsed(body)?).await?),
        What::Leave => of(&calls::leave(it, call()?).await?),
        What::Decline => of(&calls::decline(it, shares, call()?).await?),
        What::End => of(&calls::end(it, call()?).await?),
        What::Sfu => of(&access(api, it, (call()?, &parsed(body)?)).await?),
        What::Upgrade => of(&calls::upgrade(it, shares, livekit, (call()?, &parsed(body)?)).await?),
        What::Mesh => of(&calls::mesh(it, shares, &api.config.mesh, call()?).await?),
        What::Kick => of(&calls::kick(it, shares, (call()?, &parsed(body)?)).await?),
        What::Mute => of(&calls::mute_other(it, shares, livekit, (call()?, &parsed(body)?)).await?),
        What::State => of(&calls::state(it, call()?).await?),
        What::Page => page(api, it, &parsed(body)?).await,
    }
}

/// What lets the caller's device into a server for calls: the home's own, or one on which somebody of Matrix
/// speaks.
pub(in crate::http) async fn access(
    api: &Api,
    it: Of<'_>,
    (call, asked): (CallId, &AskSfu),
) -> Result<CallSfus, CallError> {
    let Some(focus) = asked.focus.as_deref() else {
        return calls::sfu(it, &api.calls, api.livekit.as_deref(), (call, asked)).await;
    };
    let (wish, bridge) = calls::wish_abroad(it, &api.calls, (call, asked.epoch, focus)).await?;
    calls::let_in_abroad(match bridge {
        Some(server) => fetched_there(api, &server, &wish).await,
        None => api.abroad.fetch(wish).await,
    })
}

/// Has the server fetch it whose bridge shows the call.
async fn fetched_there(api: &Api, server: &str, wish: &Wish) -> Outcome {
    let asked = (Call::Calls, json!({ "hear": wish }));
    let answer = api.servers.ask((&api.db, api.clock.now()), server, None, asked);
    let why = match timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) if answer.status == 200 => {
            return json::from_value(&answer.body).unwrap_or_default();
        }
        Ok(Ok(answer)) => format!("answers {}", answer.status),
        Ok(Err(error)) => return Outcome::none(error),
        Err(_) => "does not answer".to_owned(),
    };
    Outcome::none(format!("{server}, whose bridge the group has, {why}"))
}

/// What the Matrix half here fetches for a member of a group, as its home asks since the bridge is of this
/// server.
pub(super) async fn hear(api: &Api, from: &str, wish: &Value) -> Result<Value, ApiError> {
    let (wish, here): (Wish, _) = (parsed(wish)?, &*api.config.server_name);
    let home = replica::other_home(&api.db, here, wish.group).await?;
    if home.as_deref() != Some(from) {
        return Err(ApiError::forbidden("a group's home alone asks for those in its calls"));
    }
    if !calls::serves(&api.db, wish.group, here).await? {
        return Err(ApiError::forbidden("the group's bridge is not of this server"));
    }
    if !elsewhere::names(&api.db, wish.group, &wish.who).await? {
        return Err(ApiError::forbidden("he is not in the group"));
    }
    // A home could have tokens of ghosts shown to whomever it names.
    if !api.abroad.was_said(&wish) {
        return Err(ApiError::forbidden("nobody in the group's room is known to speak there"));
    }
    of(&api.abroad.fetch(wish).await)
}

/// As many of the calls that are asked for as fit an answer.
async fn page(api: &Api, it: Of<'_>, asked: &PageOfCalls) -> Result<Value, ApiError> {
    let mut limit = asked.limit.unwrap_or(PAGE).clamp(1, PAGE);
    loop {
        let page = of(&calls::page(it, &api.shares, asked.from, limit).await?)?;
        if limit == 1 || page.to_string().len() <= MAX_ITEM - FRAME {
            return Ok(page);
        }
        limit /= 2;
    }
}

/// Which devices of this server are there, as the home of a group asks of those who take part in a call.
async fn who_is_there(api: &Api, from: &str, body: &Value) -> Result<Value, ApiError> {
    let (group, named): (GroupId, Vec<DeviceId>) = (field(body, "group")?, field(body, "there")?);
    if named.len() > there::MOST {
        return Err(ApiError::too_large(format!("at most {} devices", there::MOST)));
    }
    let (here, has_stream) = (&*api.config.server_name, |device| api.streams.has(device));
    let there = calls::who_is_there(&api.db, (here, from), group, &named, has_stream).await?;
    Ok(json!({ "there": there }))
}

/// Takes an answer in; whether it is one to a question of who is there.
pub(super) fn answer(api: &Api, from: &str, answer: &Answer) -> bool {
    let there: Option<BTreeSet<DeviceId>> = field(&answer.body, "there").ok();
    let there = there.filter(|_| answer.status == 200);
    api.servers.said_who_is_there(from, answer.to, there.as_ref())
}
