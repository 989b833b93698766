//! The homeserver: whether it is there, knows us, and reaches us.

use std::{
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header::AUTHORIZATION},
    routing::any,
};
use reqwest::header::DATE;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::{Check, Options, json_of, key};
use crate::{
    app::is_new_enough,
    config::Config,
    domain::{ENCRYPTION, ghost::Names},
    gateway::{
        hint::hint,
        matrix::{Matrix, MatrixError},
    },
    registration::Registration,
    secret::Secret,
};

/// Longest that one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// From here on messages seem to come from another time, seconds.
const ODD_CLOCK: u64 = 10;
/// From here on people see what is expired, and nothing is delivered in time, seconds.
const WRONG_CLOCK: u64 = 60;

pub(super) async fn look(
    file: &Path,
    config: &Config,
    registration: Option<&Registration>,
    options: Options,
    show: &mut dyn FnMut(Check),
) {
    let address = &config.homeserver.address;
    let rest = ["clock", "as_token", "bot", "hs_token", "bot's /sync", "bot's to-device"];
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
    let is_bot = bot(&matrix, &names, show).await;
    show(reached(&matrix, config, registration).await);
    if is_bot {
        show(sync(&matrix, &names).await);
        show(to_device(&matrix, &names).await);
        if options.try_room {
            show(room(&matrix, &names).await);
        }
    } else {
        let why = "the bot is not there yet; the first run makes it";
        rest.iter().skip(4).for_each(|name| show(Check::skipped(name, why)));
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
    let (status, date) = (answer.status(), answer.headers().get(DATE).cloned());
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
    show(clock(date.as_ref().and_then(|date| date.to_str().ok())));
    true
}

fn clock(date: Option<&str>) -> Check {
    let name = "clock";
    let now = crate::clock::now().0 / 1_000;
    let Some(theirs) = date.and_then(seconds_of) else {
        return Check::skipped(name, "the homeserver does not say what time it is");
    };
    let off = now.abs_diff(theirs);
    let found = format!(
        "this machine is {off} s {} the homeserver",
        if now < theirs { "behind" } else { "ahead of" }
    );
    let fix = "set both clocks by NTP (`timedatectl`): what is old by a wrong clock is dropped";
    if off >= WRONG_CLOCK {
        Check::failed(name, found, fix)
    } else if off >= ODD_CLOCK {
        Check::warning(name, found, fix)
    } else {
        Check::ok(name, "this machine and the homeserver agree")
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7), in seconds since 1970.
fn seconds_of(date: &str) -> Option<u64> {
    let time = httpdate::parse_http_date(date).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
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
    let is_known = check.state == super::State::Ok;
    show(check);
    if is_known { Ok(()) } else { Err(why) }
}

/// Whether we may act as our bot, and it is there.
async fn bot(matrix: &Matrix, names: &Names, show: &mut dyn FnMut(Check)) -> bool {
    let name = "bot";
    let bot = names.bot();
    let check = match matrix.whoami(Some(bot)).await {
        Ok(me) if me.user_id == *bot => Check::ok(name, format!("we may act as {bot}")),
        Ok(me) => Check::failed(
            name,
            format!("acting as {bot} we are {}", me.user_id),
            "is the installed registration this one?",
        ),
        Err(MatrixError::Refused(403, _, text)) if text.contains("not registered") => {
            Check::skipped(name, format!("{bot} is not there yet; the first run makes it"))
        }
        Err(error) => Check::failed(
            name,
            format!("we may not act as {bot}: {error}"),
            "the registration's namespaces do not match: make it anew with `causeway \
             registration`, copy it to the homeserver, and restart that",
        ),
    };
    let is_there = check.state == super::State::Ok;
    show(check);
    is_there
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
    State(token): State<Secret>,
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
        Ok(synced) => Check::ok(name, format!("works; the bot is in {} rooms", synced.rooms.len())),
        Err(error) => Check::failed(
            name,
            format!("{} cannot read its own account: {error}", names.bot()),
            "look into the homeserver's log; without it what was missed is not found",
        ),
    }
}

async fn to_device(matrix: &Matrix, names: &Names) -> Check {
    let name = "bot's to-device";
    let txn = format!("doctor-{}", std::process::id());
    match matrix.send_to_self(names.bot(), &txn).await {
        Ok(()) => Check::ok(name, "the homeserver takes messages from device to device"),
        Err(error) => Check::warning(
            name,
            format!("the homeserver takes none: {error}"),
            "look into the homeserver's log; keys between servers will need it",
        ),
    }
}

/// Makes a room as for a group, and looks what the homeserver makes of it.
async fn room(matrix: &Matrix, names: &Names) -> Check {
    let (name, bot) = ("a room", names.bot());
    let request = json!({"preset": "private_chat", "name": "causeway doctor"});
    let made = match matrix.create_room(bot, &request).await {
        Ok(room) => room,
        Err(error) => {
            return Check::failed(
                name,
                format!("{bot} may make no room: {error}"),
                "look into the homeserver's log, and for modules that forbid it",
            );
        }
    };
    let encrypted = matrix.state(bot, &made, ENCRYPTION, "").await;
    let left = matrix.leave(bot, &made).await;
    match (encrypted, left) {
        (Ok(None), Ok(())) => Check::ok(name, "can be made, is not encrypted, and is left again"),
        (Ok(Some(_)), _) => Check::failed(
            name,
            "the homeserver makes every room encrypted, and the bridge cannot encrypt yet",
            "in homeserver.yaml write `encryption_enabled_by_default_for_room_type: \"off\"`: in an \
             encrypted room every portal pauses",
        ),
        (Err(error), _) | (_, Err(error)) => {
            Check::warning(name, format!("{made}: {error}"), "look into the homeserver's log")
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
    use crate::doctor::State;

    #[test]
    fn a_clock_that_is_off_is_said() {
        let now = UNIX_EPOCH + Duration::from_millis(crate::clock::now().0);
        let at = |ahead: i64| {
            let shift = Duration::from_secs(ahead.unsigned_abs());
            let time = if ahead < 0 { now - shift } else { now + shift };
            clock(Some(&httpdate::fmt_http_date(time)))
        };
        for (ahead, state) in
            [(0, State::Ok), (-30, State::Warning), (30, State::Warning), (300, State::Failed)]
        {
            assert_eq!(at(ahead).state, state, "{ahead}");
        }
        assert!(at(300).found.contains("behind") && at(-300).found.contains("ahead"));
        assert_eq!(clock(None).state, State::Skipped);
        assert_eq!(clock(Some("yesterday")).state, State::Skipped);
    }
}
