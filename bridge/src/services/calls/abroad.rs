//! Natives hear those of Matrix who speak on another homeserver's server for calls: that one's focus is
//! shown an OpenID token of the native's ghost, and gives what lets him in.
//!
//! Which focus that is a member of the room says, so that it is a stranger's: see [`Public`]. The native
//! server asks for those alone that somebody in the call speaks on.

use std::time::Duration;

use causeway_protocol::ghost;
use reqwest::Url;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{AFTER_FAULT, Spine};
use crate::{
    domain::rtc::{SLOT, identity},
    gateway::{
        door::{Abroad, FromAbroad, Given},
        public::Public,
    },
    storage::portals,
};

/// How long the native server has us wait for somebody who asks.
const WAIT: Duration = Duration::from_secs(25);
/// Those for whom it is asked at once.
const AT_ONCE: usize = 16;
/// Longest address of a focus, in bytes.
const MAX_URL: usize = 256;

/// Fetches what natives ask for until it is dropped.
pub async fn run(spine: &Spine, public: &Public) {
    let Some(door) = &spine.door else { return std::future::pending().await };
    let (mut going, at_once) = (JoinSet::new(), std::sync::Arc::new(Semaphore::new(AT_ONCE)));
    loop {
        let asked = match door.abroad(WAIT).await {
            Ok(asked) => asked,
            Err(error) => {
                tracing::debug!(%error, "it is not known which servers for calls natives go to");
                tokio::time::sleep(AFTER_FAULT).await;
                continue;
            }
        };
        while going.try_join_next().is_some() {}
        for abroad in asked {
            let (spine, public, door) = (spine.clone(), public.clone(), door.clone());
            let at_once = std::sync::Arc::clone(&at_once);
            going.spawn(async move {
                let Ok(_place) = at_once.acquire().await else { return };
                let id = abroad.id;
                let fetched = match fetch(&spine, &public, &abroad).await {
                    Ok(given) => FromAbroad { id, given: Some(given), why: String::new() },
                    Err(why) => FromAbroad { id, given: None, why: why.to_string() },
                };
                if let Err(error) = door.fetched(&fetched).await {
                    tracing::debug!(%error, "a native does not hear somebody of another homeserver yet");
                }
            });
        }
    }
}

/// Why a native is not let in there.
#[derive(Debug, thiserror::Error)]
enum NotFetched {
    #[error("it is at no address that a stranger may name")]
    Address,
    #[error("the group has no room")]
    NoRoom,
    #[error("this homeserver does not say who the native's ghost is")]
    NoToken,
    #[error("it answers {0}")]
    Refused(u16),
    #[error("it does not answer, or in no way that is understood")]
    NoAnswer,
    #[error("the bridge's rows could not be read")]
    Rows,
}

async fn fetch(spine: &Spine, public: &Public, abroad: &Abroad) -> Result<Given, NotFetched> {
    let of = |path: &str| address(&abroad.focus, path).ok_or(NotFetched::Address);
    let (new, old) = (of("get_token")?, of("sfu/get")?);
    let rows = |_| NotFetched::Rows;
    let mut tx = spine.db.begin().await.map_err(|_| NotFetched::Rows)?;
    let portal = portals::of_group(&mut tx, &spine.names, &abroad.group).await.map_err(rows)?;
    drop(tx);
    let room = portal.and_then(|portal| portal.room).ok_or(NotFetched::NoRoom)?;
    let user = spine.names.ghost(&abroad.account).ok_or(NotFetched::NoRoom)?;
    let device = ghost::device(&abroad.device);
    let token = spine.matrix.openid_token(&user).await.map_err(|error| {
        tracing::warn!(%error, "no OpenID token for a ghost: natives do not hear all of Matrix");
        NotFetched::NoToken
    })?;
    let member = json!({
        "id": identity(user.as_str(), &device, None), "claimed_user_id": user,
        "claimed_device_id": device,
    });
    let asked = json!({
        "room_id": room, "slot_id": SLOT, "openid_token": token, "member": member,
    });
    if let Ok(given) = ask(public, new, &asked).await {
        return Ok(given);
    }
    // Of before MSC4195 had the other.
    let asked = json!({"room": room, "openid_token": token, "device_id": device});
    ask(public, old, &asked).await
}

async fn ask(public: &Public, url: Url, asked: &Value) -> Result<Given, NotFetched> {
    let (status, said) = public.post(url, asked).await.map_err(|_| NotFetched::NoAnswer)?;
    if status != 200 {
        return Err(NotFetched::Refused(status));
    }
    serde_json::from_slice(&said).map_err(|_| NotFetched::NoAnswer)
}

/// Below a focus, as somebody wrote it.
fn address(focus: &str, path: &str) -> Option<Url> {
    let is_plain = |url: &Url| url.query().is_none() && url.fragment().is_none();
    let url = Url::parse(focus).ok().filter(|url| focus.len() <= MAX_URL && is_plain(url))?;
    Url::parse(&format!("{}/{path}", url.as_str().trim_end_matches('/'))).ok()
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn a_focus_is_asked_below_what_somebody_wrote() {
        for (focus, url) in [
            ("https://b.example/livekit/jwt", "https://b.example/livekit/jwt/sfu/get"),
            ("https://b.example/livekit/jwt/", "https://b.example/livekit/jwt/sfu/get"),
            ("https://b.example", "https://b.example/sfu/get"),
        ] {
            assert_eq!(address(focus, "sfu/get").unwrap().as_str(), url);
        }
        let long = format!("https://b.example/{}", "a".repeat(256));
        for focus in ["", "b.example", "https://b.example/?a", "https://b.example/#a", &long] {
            assert!(address(focus, "get_token").is_none(), "{focus}");
        }
    }
}
