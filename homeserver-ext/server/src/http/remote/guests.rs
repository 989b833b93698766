//! Those of Matrix in calls of a group that is kept by another server than its bridge's: what the Matrix half
//! says of them, and asks for them, is carried to the home (protocol §7.2, §9).

use std::{collections::BTreeMap, time::Duration};

use causeway_protocol::{ids::GroupId, link::Call};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Api, ApiError, calls::calls_taken, field, of, parsed};
use crate::services::{
    calls::{self, Attended, Attends, GuestAsks, GuestToken, Place, Says, With},
    groups::replica,
};

/// Places of one question to a home.
const MOST_PLACES: usize = 16;
/// How long it is waited for who is there: whoever asks has others to ask about.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the server of a group's bridge asks the group's home.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Guests {
    Token(GuestAsks),
    Member(Attends),
    Said(Says),
    There(Vec<Place>),
}

/// What lets one of Matrix, whom the Matrix half here has looked at, into the room of his group's calls.
pub(in crate::http) async fn let_guest_in(
    api: &Api,
    asks: GuestAsks,
) -> Result<GuestToken, ApiError> {
    match elsewhere(api, asks.group).await? {
        Some(home) => ask_home(api, &home, &Guests::Token(asks)).await,
        None => token(api, &api.config.server_name, &asks).await,
    }
}

/// What the room of a group says of one of Matrix: that he is in its call, or is not any more.
pub(in crate::http) async fn attend(api: &Api, says: Attends) -> Result<Value, ApiError> {
    match elsewhere(api, Some(says.group)).await? {
        Some(home) => {
            if let Some(focus) = says.focus.as_deref().filter(|_| says.is_in) {
                api.abroad.note_said(says.group, focus);
            }
            Ok(say_there(api, &home, &Guests::Member(says)).await)
        }
        None => member(api, &api.config.server_name, &says).await,
    }
}

/// What the room of a group says for one of Matrix of the moment.
pub(in crate::http) async fn says(api: &Api, says: Says) -> Result<Value, ApiError> {
    match elsewhere(api, Some(says.group)).await? {
        Some(home) => Ok(say_there(api, &home, &Guests::Said(says)).await),
        None => said(api, &api.config.server_name, &says).await,
    }
}

/// Who of Matrix is in the rooms of calls, in this order; none of whom that is not known.
pub(in crate::http) async fn are_there(
    api: &Api,
    places: Vec<Place>,
) -> Result<Vec<Option<bool>>, ApiError> {
    let mut there = vec![None; places.len()];
    let mut by_home: BTreeMap<Option<String>, Vec<(usize, Place)>> = BTreeMap::new();
    for (nth, place) in places.into_iter().enumerate() {
        by_home.entry(elsewhere(api, place.group).await?).or_default().push((nth, place));
    }
    let looks = by_home.into_iter().map(|(home, those)| async move {
        let (at, places): (Vec<_>, Vec<_>) = those.into_iter().unzip();
        let seen = match home {
            None => seen_here(api, &places).await?,
            Some(home) => seen_there(api, &home, places).await,
        };
        Ok::<_, ApiError>((at, seen))
    });
    for (at, seen) in try_join_all(looks).await? {
        for (nth, seen) in at.into_iter().zip(seen) {
            if let Some(place) = there.get_mut(nth) {
                *place = seen;
            }
        }
    }
    Ok(there)
}

/// Does what the server of a group's bridge asks, which may speak of its own groups alone, and give nobody a
/// native's name.
pub(super) async fn of_bridge(api: &Api, from: &str, asked: &Value) -> Result<Value, ApiError> {
    match parsed(asked)? {
        Guests::Token(asks) => {
            let group = asks.group.ok_or_else(|| ApiError::invalid("`group` is missing"))?;
            must_serve(api, from, group).await?;
            must_be_guest(from, (&asks.user, &asks.device), std::slice::from_ref(&asks.identity))?;
            of(&token(api, from, &asks).await?)
        }
        Guests::Member(says) => {
            must_serve(api, from, says.group).await?;
            let device = says.device.as_deref().unwrap_or_default();
            must_be_guest(from, (&says.user, device), &says.identities)?;
            if says.begins.as_ref().is_some_and(|it| it.by.account.server() != from) {
                return Err(ApiError::forbidden("a call begins by the bridge's device"));
            }
            member(api, from, &says).await
        }
        Guests::Said(says) => {
            must_serve(api, from, says.group).await?;
            said(api, from, &says).await
        }
        Guests::There(places) => {
            if places.len() > MOST_PLACES {
                return Err(ApiError::too_large(format!("at most {MOST_PLACES} at once")));
            }
            let mut seen = Vec::with_capacity(places.len());
            for place in &places {
                let serves = match place.group {
                    Some(group) => calls::serves(&api.db, group, from).await?,
                    None => false,
                };
                let its = if serves { std::slice::from_ref(place) } else { &[] };
                seen.push(seen_here(api, its).await?.first().copied().flatten());
            }
            Ok(json!({ "seen": seen }))
        }
    }
}

/// The home of a group, where that is another server.
async fn elsewhere(api: &Api, group: Option<GroupId>) -> Result<Option<String>, ApiError> {
    let Some(group) = group else { return Ok(None) };
    Ok(replica::other_home(&api.db, &api.config.server_name, group).await?)
}

async fn ask_home<T: DeserializeOwned>(
    api: &Api,
    home: &str,
    asked: &Guests,
) -> Result<T, ApiError> {
    let (now, body) = (api.clock.now(), json!({ "guests": asked }));
    let answer = api.servers.ask((&api.db, now), home, None, (Call::Calls, body)).await?;
    calls_taken(home, &answer)
}

/// Says it to the home, in its order, without waiting: one that does not answer holds up nothing of other
/// groups. What does not get there in time is left out; LiveKit shows the same, only later.
async fn say_there(api: &Api, home: &str, said: &Guests) -> Value {
    let (now, body) = (api.clock.now(), json!({ "guests": said }));
    if let Err(error) = api.servers.say((&api.db, now), home, (Call::Calls, body)).await {
        tracing::debug!(%error, home, "what a room says of its call is not said to its home");
    }
    json!({ "said_to": home })
}

async fn must_serve(api: &Api, from: &str, group: GroupId) -> Result<(), ApiError> {
    super::must_be_home(api, group).await?;
    if calls::serves(&api.db, group, from).await? {
        return Ok(());
    }
    Err(ApiError::forbidden("the group's bridge is not of that server"))
}

fn must_be_guest(from: &str, who: (&str, &str), identities: &[String]) -> Result<(), ApiError> {
    if identities.iter().all(|identity| calls::may_be_called(from, who, identity)) {
        return Ok(());
    }
    Err(ApiError::forbidden("nobody of Matrix is called so"))
}

async fn token(api: &Api, bridge: &str, asks: &GuestAsks) -> Result<GuestToken, ApiError> {
    let (livekit, when) = (api.livekit.as_deref(), (api.clock.now(), bridge));
    Ok(calls::let_in((&api.db, &api.live), livekit, when, asks).await?)
}

async fn member(api: &Api, bridge: &str, says: &Attends) -> Result<Value, ApiError> {
    let with =
        With { shares: &api.calls, mesh_max: api.config.mesh_max, livekit: api.livekit.as_deref() };
    let when = (api.clock.now(), bridge);
    let outcome: Attended = calls::attend((&api.db, &api.live), with, when, says).await?;
    Ok(json!({ "outcome": outcome }))
}

async fn said(api: &Api, bridge: &str, says: &Says) -> Result<Value, ApiError> {
    let when = (api.clock.now(), bridge);
    let is_taken = calls::says((&api.db, &api.live), &api.calls, when, says).await?;
    Ok(json!({ "taken": is_taken }))
}

async fn seen_here(api: &Api, places: &[Place]) -> Result<Vec<Option<bool>>, ApiError> {
    let livekit = api.livekit.as_deref();
    Ok(calls::are_there(&api.db, livekit, api.clock.now(), places).await?)
}

/// As the home says; of whom it says nothing in time nothing is known.
async fn seen_there(api: &Api, home: &str, places: Vec<Place>) -> Vec<Option<bool>> {
    let mut seen = Vec::with_capacity(places.len());
    let mut places = places.into_iter().peekable();
    while places.peek().is_some() {
        let some: Vec<_> = places.by_ref().take(MOST_PLACES).collect();
        let (count, asked) = (some.len(), Guests::There(some));
        let said = timeout(PATIENCE, ask_home::<Value>(api, home, &asked)).await;
        let said = said.ok().and_then(Result::ok);
        let said = said.and_then(|said| field::<Vec<Option<bool>>>(&said, "seen").ok());
        let mut said = said.unwrap_or_else(|| {
            tracing::debug!(home, "who of Matrix is in its calls is not known");
            Vec::new()
        });
        said.resize(count, None);
        seen.append(&mut said);
    }
    seen
}
