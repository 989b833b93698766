//! The homeserver: whether it is there, knows us, and reaches us.

use std::{path::Path, time::Duration};

use axum::{
    Router, extract,
    http::{HeaderMap, Method, StatusCode, Uri, header::AUTHORIZATION},
    routing::any,
};
use ruma::UserId;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use super::{Check, Options, State, json_of, key, room};
use crate::{
    app::is_new_enough,
    config::Config,
    domain::ghost::Names,
    gateway::{
        clocks,
        hint::hint,
        matrix::{Matrix, MatrixError, TRIED},
    },
    registration::Registration,
    secret::Secret,
};

/// Longest that one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// From here on messages seem to come from another time, seconds.
const ODD_CLOCK: u64 = 10;

pub(super) async fn look(
    file: &Path,
    config: &Config,
    registration: Option<&Registration>,
    options: Options,
    show: &mut dyn FnMut(Check),
) {
    let address = &config.homeserver.address;
    let rest = ["clock", "as_token", "bot", "ghosts", "hs_token", "bot's /sync", "bot's to-device"];
    let is_there = there(file, address, show).await;
    let known = registration.filter(|_| is_there);
    let (Some(registration), Some(names)) = (known, Names::new(&config.homeserver.server_name))
    else {
        let why = if is_there { "there is no registration" } else { "the homeserver is not there" };
        rest.iter().skip(usize::from(is_there)).for_each(|name| show(Check::skipped(name, why)));
        return;
    };
    let matrix = match Matrix::new(address, registration.as_token.clone()) {
        Ok(matrix) => matrix,
        Err(error) => {
            show(Check::failed("as_token", error.to_string(), "mend `homeserver.address`"));
            return;
        }
    };
    if let Err(why) = token(&matrix, registration, &names, show).await {
        rest.iter().skip(2).for_each(|name| show(Check::skipped(name, why)));
        return;
    }
    let bot = may_act("bot", &matrix, names.bot()).await;
    let (is_there, is_ours) = (bot.state == State::Ok, bot.state != State::Failed);
    show(bot);
    let ghosts = match room::ghost(&names) {
        Some(ghost) => may_act("ghosts", &matrix, &ghost).await,
        None => Check::skipped("ghosts", "the server's name is too long for the one that is tried"),
    };
    let has_ghosts = ghosts.state == State::Ok;
    show(ghosts);
    show(reached(&matrix, config, registration).await);
    if is_there {
        show(sync(&matrix, &names).await);
        show(to_device(&matrix, &names).await);
        if options.try_room {
            room::look(&matrix, &names, has_ghosts, show).await;
        }
    } else {
        let why = if is_ours {
            "the bot is not there yet; the first run makes it"
        } else {
            "we may not act as the bot"
        };
        rest.iter().skip(5).for_each(|name| show(Check::skipped(name, why)));
    }
}

/// Whether a homeserver answers at the address, and by which clock.
async fn there(file: &Path, address: &str, show: &mut dyn FnMut(Check)) -> bool {
    let name = "homeserver";
    let url = format!("{}/_matrix/client/versions", address.trim_end_matches('/'));
    let fix = |error: &str| {
        let hint = hint(address, error).map(|hint| format!("{hint}; ")).unwrap_or_default();
        let line = key(file, "homeserver.address", "http://HOST:PORT");
        format!("{hint}{line}: where the homeserver's client API is, seen from here")
    };
    // One provider for the whole process; a second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(PATIENCE).build();
    let asked = match client {
        Ok(client) => client.get(&url).send().await,
        Err(error) => Err(error),
    };
    let answer = match asked {
        Ok(answer) => answer,
        Err(error) => {
            let error = chain(&error);
            show(Check::failed(name, format!("GET {url}: {error}"), fix(&error)));
            return false;
        }
    };
    let (status, date) = (answer.status(), clocks::date(answer.headers()));
    let versions = json_of(answer).await;
    let versions = versions.as_ref().and_then(|answer| answer["versions"].as_array());
    let versions: Vec<&str> = versions.into_iter().flatten().filter_map(Value::as_str).collect();
    if versions.is_empty() {
        let found = format!("GET {url} answers {status}, and not as a Matrix homeserver does");
        show(Check::failed(name, found, fix("")));
        return false;
    }
    if !versions.iter().any(|version| is_new_enough(version)) {
        let found = format!("{address} speaks {}", versions.join(", "));
        let fix = "update the homeserver: v1.7 of the Matrix specification or newer is needed";
        show(Check::failed(name, found, fix));
        return false;
    }
    show(Check::ok(name, format!("{address} answers")));
    show(clock(date));
    true
}

fn clock(theirs: Option<u64>) -> Check {
    let name = "clock";
    let now = crate::clock::now().0 / 1_000;
    let Some(theirs) = theirs else {
        return Check::skipped(name, "the homeserver does not say what time it is");
    };
    let off = now.abs_diff(theirs);
    let found = clocks::difference(now, theirs);
    if off >= clocks::WRONG {
        Check::failed(name, found, clocks::REMEDY)
    } else if off >= ODD_CLOCK {
        Check::warning(name, found, clocks::REMEDY)
    } else {
        Check::ok(name, "this machine and the homeserver agree")
    }
}

/// Whether the homeserver knows our token for ours; why nothing more can be asked of it where it does not,
/// or does not say.
async fn token(
    matrix: &Matrix,
    registration: &Registration,
    names: &Names,
    show: &mut dyn FnMut(Check),
) -> Result<(), &'static str> {
    let name = "as_token";
    let refused = "the homeserver does not take our as_token";
    let unknown = "the homeserver does not say whether it takes our as_token";
    let between = "look into the homeserver's log, and at what stands between it and here (a proxy, \
                   another program at this address): `homeserver.address` is to lead to the homeserver \
                   itself";
    let mut why = refused;
    let install = "copy the registration to the homeserver, name it there (Synapse: \
                   `app_service_config_files` in homeserver.yaml), and restart it";
    let sender = format!("@{}:{}", registration.sender_localpart, names.server());
    let check = match matrix.whoami(None).await {
        Ok(me) if me.user_id == sender => Check::ok(name, format!("we are {sender}")),
        Ok(me) if me.user_id.server_name() != names.server() => Check::failed(
            name,
            format!("the homeserver is {}, not {}", me.user_id.server_name(), names.server()),
            "write its name under `homeserver.server_name`, and make the registration anew",
        ),
        Ok(me) => Check::failed(
            name,
            format!(
                "the homeserver takes us for {}; by our registration we are {sender}",
                me.user_id
            ),
            format!("it has another registration of ours: {install}"),
        ),
        Err(MatrixError::UnknownToken) => {
            Check::failed(name, "the homeserver does not know our token", install)
        }
        Err(error @ MatrixError::Refused(401 | 403, ..)) => {
            Check::failed(name, error.to_string(), install)
        }
        // Whoever answered has not looked at the token.
        Err(error) => {
            why = unknown;
            Check::failed(name, error.to_string(), between)
        }
    };
    let is_known = check.state == State::Ok;
    show(check);
    if is_known { Ok(()) } else { Err(why) }
}

/// Whether we may act as the bot, which is there then, or as a ghost, who need not be.
async fn may_act(name: &'static str, matrix: &Matrix, user: &UserId) -> Check {
    let fix = "the homeserver's registration has other namespaces: make it anew with `causeway \
               registration`, copy it to the homeserver, and restart that";
    match matrix.whoami(Some(user)).await {
        Ok(me) if me.user_id == *user && name == "bot" => {
            Check::ok(name, format!("we may act as {user}"))
        }
        Ok(me) if me.user_id == *user => Check::ok(name, "their names are ours"),
        Ok(me) => Check::failed(name, format!("acting as {user} we are {}", me.user_id), fix),
        Err(MatrixError::Refused(403, _, text)) if text.contains("not registered") => {
            if name == "bot" {
                Check::skipped(name, format!("{user} is not there yet; the first run makes it"))
            } else {
                Check::ok(name, "their names are ours")
            }
        }
        Err(error) => Check::failed(name, format!("we may not act as {user}: {error}"), fix),
    }
}

/// Whether the homeserver reaches us with its token: a running Causeway, or us in its place.
async fn reached(matrix: &Matrix, config: &Config, registration: &Registration) -> Check {
    let listen = config.appservice.listen;
    match TcpListener::bind(listen).await {
        Ok(listener) => {
            // Nothing is taken in: what the homeserver sends meanwhile it sends again.
            let app =
                Router::new().fallback(any(stand_in)).with_state(registration.hs_token.clone());
            let serving = async { axum::serve(listener, app).await };
            tokio::select! {
                _ = serving => Check::skipped("hs_token", format!("cannot serve at {listen}")),
                check = pinged(matrix, registration, false) => check,
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            if TcpStream::connect(listen).await.is_err() {
                return Check::skipped("hs_token", format!("{listen} is taken: {error}"));
            }
            pinged(matrix, registration, true).await
        }
        Err(error) => Check::failed(
            "hs_token",
            format!("cannot listen at {listen}: {error}"),
            "change `appservice.listen` to an address of this machine",
        ),
    }
}

async fn stand_in(
    extract::State(token): extract::State<Secret>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> (StatusCode, &'static str) {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let is_known = bearer.and_then(|value| value.strip_prefix("Bearer ")) == Some(token.expose());
    match (method == Method::POST, uri.path()) {
        (true, "/_matrix/app/v1/ping") if is_known => (StatusCode::OK, "{}"),
        (true, "/_matrix/app/v1/ping") => (StatusCode::FORBIDDEN, r#"{"errcode":"M_FORBIDDEN"}"#),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "{}"),
    }
}

async fn pinged(matrix: &Matrix, registration: &Registration, is_taken: bool) -> Check {
    let name = "hs_token";
    let url = &registration.url;
    let who = if is_taken { "who listens there" } else { "this program" };
    let asked = tokio::time::timeout(PATIENCE, matrix.ping(&registration.id, "causeway-doctor"));
    let error = match asked.await {
        Ok(Ok(())) => return Check::ok(name, format!("the homeserver reaches us at {url}")),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer in {} s", PATIENCE.as_secs()),
    };
    let is_refused =
        error.contains("M_BAD_STATUS") && (error.contains("401") || error.contains("403"));
    if is_refused {
        let found =
            format!("the homeserver reaches {url}, where {who} refuses its hs_token: {error}");
        let fix = "copy this registration to the homeserver and restart that; where another \
                   program listens there, change `appservice.listen` and `appservice.address`";
        return Check::failed(name, found, fix);
    }
    let fix = "`appservice.address` is where the homeserver finds us: in a container or on another \
               host that is not 127.0.0.1. Change it, write the registration anew with `causeway \
               registration`, copy it to the homeserver, and restart that";
    Check::failed(name, format!("the homeserver does not reach us at {url}: {error}"), fix)
}

async fn sync(matrix: &Matrix, names: &Names) -> Check {
    let name = "bot's /sync";
    let nonce = u64::from(std::process::id());
    match matrix.sync(names.bot(), None, 1, nonce).await {
        Ok(synced) => Check::ok(name, format!("works; rooms of the bot: {}", synced.rooms.len())),
        Err(error) => Check::failed(
            name,
            format!("{} cannot read its own account: {error}", names.bot()),
            "look into the homeserver's log; without it what was missed is not found",
        ),
    }
}

/// A device of the bot's is made, written to, read as, and taken away.
async fn to_device(matrix: &Matrix, names: &Names) -> Check {
    let (name, bot) = ("bot's to-device", names.bot());
    let device = format!("CAUSEWAY_DOCTOR_{}", std::process::id());
    let tried = async {
        matrix.put_device(bot, &device).await?;
        let (since, _) = matrix.to_device(bot, &device, None).await?;
        matrix.send_to_self(bot, &device, &device).await?;
        let (_, kinds) = matrix.to_device(bot, &device, Some(&since)).await?;
        Ok(kinds.iter().any(|kind| kind == TRIED))
    };
    let tried: Result<bool, MatrixError> = tried.await;
    let gone = matrix.delete_device(bot, &device).await;
    let fix = "look into the homeserver's log; keys between devices will need it";
    match (tried, gone) {
        (Ok(true), Ok(())) => Check::ok(name, "messages from device to device arrive"),
        (Ok(false), _) => Check::warning(name, "the homeserver takes one, and shows it not", fix),
        (Err(error), _) => Check::warning(name, format!("none arrive: {error}"), fix),
        (Ok(true), Err(error)) => {
            Check::warning(name, format!("they arrive, and {device} stays: {error}"), fix)
        }
    }
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_said() {
        let now = crate::clock::now().0 / 1_000;
        let at = |ahead: i64| clock(now.checked_add_signed(ahead));
        for (ahead, state) in
            [(0, State::Ok), (-30, State::Warning), (30, State::Warning), (300, State::Failed)]
        {
            assert_eq!(at(ahead).state, state, "{ahead}");
        }
        assert!(at(300).found.contains("behind") && at(-300).found.contains("ahead"));
        assert_eq!(clock(None).state, State::Skipped);
    }
}
