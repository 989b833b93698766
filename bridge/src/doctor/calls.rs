//! LiveKit, where one is configured: whether it is there, and takes our key, from here and as clients
//! reach it.

use std::{path::Path, time::Duration};

use reqwest::{Client, StatusCode, Url};

use super::{Check, State, key, sound};
use crate::{
    app, config::Config, domain::ghost::Names, gateway::matrix::Matrix, registration::Registration,
};

/// As devices reach it.
const OUTSIDE: &str = "LiveKit, for clients";
/// Longest that one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn look(
    file: &Path,
    config: &Config,
    registration: Option<&Registration>,
    show: &mut dyn FnMut(Check),
) {
    if !config.calls.focus_url.is_empty() {
        show(for_matrix(config, registration).await);
    }
    let checked = app::check_secrets(config).and_then(|()| app::livekit(config));
    let livekit = match checked {
        Ok(Some(livekit)) => livekit,
        Ok(None) => return,
        Err(error) => {
            let fix = "write the secret into that file, which only Causeway may read: chmod 600";
            show(Check::failed("LiveKit", error.to_string(), fix));
            return;
        }
    };
    let Some(token) = causeway_server::livekit_probe(&livekit) else { return };
    let address = &config.calls.livekit.api_url;
    if let Err(why) = causeway_server::try_livekit(&livekit).await {
        let fix = key(file, "calls.livekit", "…");
        if status(address, &token).await.ok().flatten() == Some(StatusCode::UNAUTHORIZED) {
            let found = format!("{address} is a LiveKit that does not take our api_key and secret");
            let fix = format!("{fix} as LiveKit's own configuration has it under `keys`");
            show(Check::failed("LiveKit", found, fix));
            // Whatever is in front of it says the same of our tokens.
            show(Check::skipped(OUTSIDE, "it is looked at when the key is right"));
            return;
        }
        let fix = format!("{fix} as LiveKit's own configuration has it (`port`, `keys`)");
        show(Check::failed("LiveKit", format!("{address}: {why}"), fix));
        show(outside(&config.calls.livekit.public_url, &token).await);
        return;
    }
    show(Check::ok("LiveKit", format!("{address} answers, and takes our key")));
    let outside = outside(&config.calls.livekit.public_url, &token).await;
    let is_reached = outside.state == State::Ok;
    show(outside);
    if is_reached {
        sound::look(&livekit, show).await;
    }
}

/// Whether the homeserver has what its users need to come into calls.
async fn for_matrix(config: &Config, registration: Option<&Registration>) -> Check {
    let (name, url) = ("calls of Matrix users", &config.calls.focus_url);
    let fix = "`causeway registration --homeserver-snippet` prints what the homeserver's configuration \
               needs; restart it then (docs/calls.md)";
    let names = Names::new(&config.homeserver.server_name);
    let (Some(registration), Some(names)) = (registration, names) else {
        return Check::skipped(name, "there is no registration");
    };
    let matrix = match Matrix::new(&config.homeserver.address, registration.as_token.clone()) {
        Ok(matrix) => matrix,
        Err(error) => return Check::skipped(name, error.to_string()),
    };
    match matrix.lacks_for_calls(names.bot(), url).await {
        Ok(lacks) if lacks.is_empty() => {
            Check::ok(name, format!("the homeserver sends them to {url}, and has what they need"))
        }
        Ok(lacks) => {
            let lacks: Vec<_> = lacks.iter().map(ToString::to_string).collect();
            Check::failed(name, format!("the homeserver: {}", lacks.join("; ")), fix)
        }
        Err(error) => Check::skipped(name, format!("the homeserver does not say: {error}")),
    }
}

/// As clients reach it: with a token of ours for a room that is not there.
async fn outside(public: &str, token: &str) -> Check {
    let name = OUTSIDE;
    let fix = "have the proxy that answers there pass everything below it on to LiveKit's `port`, \
               WebSockets too (docs/calls.md)";
    match status(public, token).await {
        Ok(None) => Check::skipped(name, "its address is none"),
        Ok(Some(StatusCode::NOT_FOUND | StatusCode::OK)) => {
            Check::ok(name, format!("{public} answers, and takes our tokens"))
        }
        Ok(Some(StatusCode::UNAUTHORIZED)) => Check::failed(
            name,
            format!("{public} takes no token of ours: it is another LiveKit"),
            fix,
        ),
        Ok(Some(status)) => {
            Check::failed(name, format!("{public} answers {status}, and not as LiveKit"), fix)
        }
        Err(error) => {
            Check::warning(name, format!("{public} cannot be reached from here: {error}"), fix)
        }
    }
}

/// What LiveKit makes of a token; nothing where the address is none.
async fn status(address: &str, token: &str) -> Result<Option<StatusCode>, reqwest::Error> {
    let Some(url) = validate(address) else { return Ok(None) };
    let client = Client::builder().timeout(PATIENCE).no_proxy().build()?;
    let answer = client.get(url).query(&[("access_token", token)]).send().await;
    // The token is in no message: neither is the URL that carries it.
    answer.map(|answer| Some(answer.status())).map_err(reqwest::Error::without_url)
}

/// Where LiveKit says what it makes of a token.
fn validate(public: &str) -> Option<Url> {
    let is_ws = public.starts_with("ws");
    let http = if is_ws { public.replacen("ws", "http", 1) } else { public.to_owned() };
    Url::parse(&format!("{}/rtc/validate", http.trim_end_matches('/'))).ok()
}
