//! LiveKit, where one is configured: whether it is there, and takes our key, from here and as clients
//! reach it.

use std::{path::Path, time::Duration};

use reqwest::{Client, StatusCode, Url};

use super::{Check, key};
use crate::{
    app, config::Config, domain::ghost::Names, gateway::matrix::Matrix, registration::Registration,
};

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
    let livekit = match app::livekit(config) {
        Ok(Some(livekit)) => livekit,
        Ok(None) => return,
        Err(error) => {
            let fix = "write the key's secret into that file, which only Causeway may read";
            show(Check::failed("LiveKit", error.to_string(), fix));
            return;
        }
    };
    let address = &config.calls.livekit.api_url;
    show(match causeway_server::try_livekit(&livekit).await {
        Ok(()) => Check::ok("LiveKit", format!("{address} answers, and takes our key")),
        Err(why) => {
            let fix = key(file, "calls.livekit", "…");
            let fix = format!("{fix} as LiveKit's own configuration has it (`port`, `keys`)");
            Check::failed("LiveKit", format!("{address}: {why}"), fix)
        }
    });
    let Some(token) = causeway_server::livekit_probe(&livekit) else { return };
    show(outside(&config.calls.livekit.public_url, &token).await);
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
    let name = "LiveKit, for clients";
    let fix = "have the proxy that answers there pass everything below it on to LiveKit's `port`, \
               WebSockets too (docs/calls.md)";
    let client = Client::builder().timeout(PATIENCE).no_proxy().build();
    let Ok(client) = client else {
        return Check::skipped(name, "no HTTP client can be made");
    };
    let Some(url) = validate(public) else {
        return Check::skipped(name, "its address is none");
    };
    // The token is in no message: neither is the URL that carries it.
    let answer = client.get(url).query(&[("access_token", token)]).send().await;
    match answer.map(|answer| answer.status()) {
        Ok(StatusCode::NOT_FOUND | StatusCode::OK) => {
            Check::ok(name, format!("{public} answers, and takes our tokens"))
        }
        Ok(StatusCode::UNAUTHORIZED) => Check::failed(
            name,
            format!("{public} takes no token of ours: it is another LiveKit"),
            fix,
        ),
        Ok(status) => {
            Check::failed(name, format!("{public} answers {status}, and not as LiveKit"), fix)
        }
        Err(error) => {
            let error = error.without_url();
            Check::warning(name, format!("{public} cannot be reached from here: {error}"), fix)
        }
    }
}

/// Where LiveKit says what it makes of a token.
fn validate(public: &str) -> Option<Url> {
    let http = public.replacen("ws", "http", 1);
    Url::parse(&format!("{}/rtc/validate", http.trim_end_matches('/'))).ok()
}
