//! Coming into a call: what a device brings, and what its home names so that the others are reached.

use causeway_protocol::{
    api::{CallCap, CallMesh, CallState, JoinCall},
    ids::GroupId,
};
use rtc::ice::url::Url;
use tokio::sync::mpsc;

use super::{
    asking::within,
    words::{JoinError, Wish},
};
use crate::{
    calls::{Happened, IceServer, Input, Mesh, Settings, Sink, Source},
    sdk::{CallError, Client, News},
};

/// STUN and TURN servers that a home may name, URLs of one, and bytes of one.
const SERVERS: usize = 8;
const URL_MAX: usize = 256;

/// What there is before a device is in the call.
pub(super) struct Coming {
    settings: Settings,
    source: Source,
    sink: Sink,
    pub(super) news: mpsc::Receiver<News>,
    pub(super) caps: JoinCall,
    pub(super) muted: bool,
}

/// What carries its sound, the way into it and the way out of it.
pub(super) type Sound = (Mesh, mpsc::Sender<Input>, mpsc::Receiver<Happened>);

/// What comes with the device beside its sound.
pub(super) type Rest = (mpsc::Receiver<News>, JoinCall, bool);

impl Coming {
    pub(super) fn new(client: &Client, group: GroupId, wish: Wish) -> Self {
        let Wish { settings, source, sink, muted, may_degrade } = wish;
        let caps = JoinCall { caps: vec![CallCap::Mesh, CallCap::Sfu], may_degrade };
        // Before it is in the call, so that nothing is missed.
        let news = client.calls().attend(group);
        Self { settings, source, sink, news, caps, muted }
    }

    pub(super) const fn private_servers(&self) -> bool {
        self.settings.private_servers
    }

    /// Once it is in the call; where there is no sound for it, it goes again.
    pub(super) async fn sound(
        self,
        client: &Client,
        state: &CallState,
    ) -> Result<(Sound, Rest), JoinError> {
        let Self { settings, source, sink, news, caps, muted } = self;
        let sound = match named_by_home(client, state).await {
            Ok(named) => {
                let me = client.me().record.device_id;
                let settings = named.map_or(settings.clone(), |named| with(settings, named));
                Mesh::new(me, settings, source, sink).map_err(JoinError::from)
            }
            Err(error) => Err(error.into()),
        };
        match sound {
            Ok(sound) => Ok((sound, (news, caps, muted))),
            Err(error) => {
                go_again(client, state).await;
                Err(error)
            }
        }
    }
}

/// What the home names; nothing where it is of before there was anything to name.
async fn named_by_home(client: &Client, state: &CallState) -> Result<Option<CallMesh>, CallError> {
    match within(client.http().ways_of_call((state.group, state.call))).await {
        Ok(named) => Ok(Some(named)),
        Err(error) if error.is_refusal("M_UNRECOGNIZED") => Ok(None),
        Err(error) => Err(error),
    }
}

/// A call that only this device was to be in is not one for the others to find.
async fn go_again(client: &Client, state: &CallState) {
    let me = client.me().record.device_id;
    let http = client.http();
    // As it is now: others may have come meanwhile, and this device be none of them any more.
    let now = http.call(state.group, state.call).await;
    let is_alone = now.is_ok_and(|now| {
        now.natives().count() == 1
            && now.natives().all(|it| it.device == me)
            && now.guests().count() == 0
    });
    // Who cannot be told finds out by its stream.
    if is_alone && state.started_by.device == me {
        http.end_call(state.group, state.call).await.ok();
    } else {
        http.leave_call(state.group, state.call).await.ok();
    }
}

/// What the person named goes before what the home names, of STUN, of TURN, and of whether addresses
/// are told.
fn with(mut settings: Settings, named: CallMesh) -> Settings {
    let has = |of: fn(&str) -> bool| {
        settings.servers.iter().flat_map(|server| &server.urls).any(|url| of(url))
    };
    let (has_stun, has_turn) = (has(is_stun), has(is_turn));
    for server in named.ice.into_iter().take(SERVERS) {
        let (username, credential) = (server.username, server.credential);
        let may_relay = username.is_some() && credential.is_some();
        let wanted = |url: &String| {
            url.len() <= URL_MAX
                && Url::parse_url(url).is_ok()
                && (is_stun(url) && !has_stun || is_turn(url) && !has_turn && may_relay)
        };
        let urls: Vec<_> = server.urls.into_iter().filter(wanted).take(SERVERS).collect();
        if !urls.is_empty() {
            let (username, credential) =
                (username.unwrap_or_default(), credential.unwrap_or_default());
            settings.servers.push(IceServer { urls, username, credential });
        }
    }
    settings.relay_only = settings.relay_only.or(Some(named.relay_only));
    settings
}

fn is_stun(url: &str) -> bool {
    url.starts_with("stun:") || url.starts_with("stuns:")
}

fn is_turn(url: &str) -> bool {
    url.starts_with("turn:") || url.starts_with("turns:")
}

#[cfg(test)]
mod tests {
    use causeway_protocol::api::CallIce;

    use super::*;

    fn home(urls: &[&str]) -> CallMesh {
        let named = |url: &&str| CallIce {
            urls: vec![(*url).to_owned()],
            username: Some("who".to_owned()),
            credential: Some("secret".to_owned()),
        };
        CallMesh { relay_only: true, ice: urls.iter().map(named).collect(), until_ms: None }
    }

    fn mine(urls: &[&str], relay_only: Option<bool>) -> Settings {
        let named = |url: &&str| IceServer {
            urls: vec![(*url).to_owned()],
            username: String::new(),
            credential: String::new(),
        };
        let servers = urls.iter().map(named).collect();
        Settings { servers, relay_only, ..Settings::default() }
    }

    #[test]
    fn what_the_person_named_goes_before_what_the_home_names() {
        let (stun, turn) = ("stun:home.example:3478", "turn:home.example:3478?transport=udp");
        for (named, is, relay_only) in [
            (mine(&[], None), vec![stun, turn], true),
            (mine(&["stun:a.example:1"], None), vec!["stun:a.example:1", turn], true),
            (mine(&["turn:a.example:1"], Some(false)), vec!["turn:a.example:1", stun], false),
        ] {
            let settings = with(named, home(&[stun, turn]));
            let urls: Vec<_> = settings.servers.iter().flat_map(|it| &it.urls).collect();
            assert_eq!(urls, is);
            assert_eq!(settings.relay_only, Some(relay_only));
        }
    }

    #[test]
    fn what_is_no_server_is_passed_over_and_there_are_not_too_many() {
        let long = format!("stun:{}.example:1", "a".repeat(300));
        for junk in ["", "stun:", "http://a.example", "stun:a.example:99999", &long] {
            assert!(with(mine(&[], None), home(&[junk])).servers.is_empty(), "{junk}");
        }
        let many = vec!["stun:a.example:1"; 100];
        assert_eq!(with(mine(&[], None), home(&many)).servers.len(), SERVERS);
        let mut turn = home(&["turn:a.example:1"]);
        turn.ice[0].credential = None;
        assert!(with(mine(&[], None), turn).servers.is_empty());
    }
}
