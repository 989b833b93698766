//! Whether the homeserver knows us and reaches us: asked at the start, with a cause for each way
//! it can fail, and again every so often.

use std::time::Duration;

use causeway_store::Db;
use ruma::{OwnedUserId, UserId};
use tokio::time::{sleep, timeout};

use crate::{
    config::Config,
    domain::ghost::Names,
    gateway::{
        hint::hint,
        matrix::{Matrix, MatrixError},
        provision,
    },
    health::Health,
    registration::Registration,
    storage::lanes,
};

/// Between two looks at a homeserver that is away.
const AWAY: Duration = Duration::from_secs(5);
/// Between two pings while all is well.
const WELL: Duration = Duration::from_mins(1);
/// Longest that a ping takes: one that hangs is no answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two pings while the homeserver does not reach us.
const UNREACHED: Duration = Duration::from_secs(2);
/// Pings before the start is given up.
const PINGS: u32 = 6;
/// Oldest version of the specification that will do: whoami, ping and device masquerading by
/// transaction scope came with or before it.
const OLDEST: (u32, u32) = (1, 7);

/// Why we must not run with this homeserver, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody answers, and not as a homeserver does: what was asked, the answer, and the key that
    /// says whom to ask.
    #[error(
        "{0} is not answered as a Matrix homeserver does: {1}. Is {2} where the client-server API of \
         the homeserver is?"
    )]
    NoHomeserver(String, MatrixError, String),
    /// It is too old: what was asked, and what it says it speaks.
    #[error(
        "{0}: the homeserver speaks {1}; v1.7 of the Matrix specification or newer is needed: update it"
    )]
    TooOld(String, String),
    /// `M_UNKNOWN_TOKEN`: what was asked, and the registration.
    #[error(
        "{0}: the homeserver does not know the as_token of {1}. Is the registration installed there \
         (Synapse: app_service_config_files), is it this one, and was the homeserver restarted since?"
    )]
    UnknownToken(String, String),
    /// What was asked, the server that answers, whom it takes us for, and the key that names another.
    #[error(
        "{0}: the homeserver there is {1} (it takes us for {2}), and by {3} it is another. If that is \
         the right one, write `{1}` there, write the registration anew with `causeway registration`, \
         copy it to the homeserver, and restart that; else mend homeserver.address"
    )]
    OtherServer(String, String, String, String),
    /// What was asked, the registration, whom the homeserver takes us for, and who we are by it.
    #[error(
        "{0}: the homeserver takes the as_token of {1} for that of {2}; by that file it is {3}: it has \
         another registration of ours. Copy that file to the homeserver, and restart that"
    )]
    SomebodyElse(String, String, String, String),
    /// `M_EXCLUSIVE` or alike for our own bot: the bot, the answer, and the registration.
    #[error(
        "the homeserver takes our as_token, and not our bot {0}: {1}. Do the namespaces of the \
         registration that it has cover it? Copy {2} to the homeserver, and restart that"
    )]
    NotOurBot(String, MatrixError, String),
    /// Where it should reach us, what it says, and who says where.
    #[error(
        "the homeserver does not reach us at {0}: {1}. {2}. In a container or on another host that is \
         not 127.0.0.1: where it is wrong, change it, write the registration anew with `causeway \
         registration`, copy it to the homeserver, and restart that"
    )]
    NotReached(String, MatrixError, String),
    /// It reaches somebody who does not know its `hs_token`: where, what that one says, the
    /// registration, and the key that says where we listen.
    #[error(
        "who answers the homeserver at {0} refuses its hs_token: {1}. Is {2} the registration that is \
         installed there, and is it our Causeway, with {3}, that is reached there?"
    )]
    WrongListener(String, MatrixError, String, String),
}

impl StartError {
    /// The exit code, as the mautrix bridges have it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotReached(..) | Self::WrongListener(..) => 13,
            Self::NoHomeserver(..) | Self::UnknownToken(..) => 16,
            Self::OtherServer(..) | Self::SomebodyElse(..) | Self::NotOurBot(..) => 17,
            Self::TooOld(..) => 18,
        }
    }
}

/// Runs the checks in their order. A homeserver that is away is waited for, since it may well
/// start after us; one that answers wrongly is an error.
///
/// # Errors
/// [`StartError`]
pub(super) async fn check(
    config: &Config,
    matrix: &Matrix,
    names: &Names,
    registration: &Registration,
    health: &Health,
) -> Result<(), StartError> {
    let base = config.homeserver.address.trim_end_matches('/');
    let file = || config.appservice.registration.display().to_string();
    let asked = |path: &str| format!("GET {base}/_matrix/client/{path}");
    let odd = |path: &str, error| {
        StartError::NoHomeserver(asked(path), error, config.key("homeserver.address"))
    };
    let known = patiently((config, health), || matrix.versions())
        .await
        .map_err(|error| odd("versions", error))?;
    if !known.versions.iter().any(|version| is_new_enough(version)) {
        return Err(StartError::TooOld(asked("versions"), known.versions.join(", ")));
    }

    let whoami = "v3/account/whoami";
    let is_not = |me: OwnedUserId, wanted: String| {
        let (url, theirs) = (asked(whoami), me.server_name().to_string());
        if me.server_name() == names.server() {
            StartError::SomebodyElse(url, file(), me.to_string(), wanted)
        } else {
            let key = config.key("homeserver.server_name");
            StartError::OtherServer(url, theirs, me.to_string(), key)
        }
    };
    let sender = format!("@{}:{}", registration.sender_localpart, names.server());
    match patiently((config, health), || matrix.whoami(None)).await {
        Ok(me) if me.user_id == sender => {}
        Ok(me) => return Err(is_not(me.user_id, sender)),
        Err(MatrixError::UnknownToken) => {
            return Err(StartError::UnknownToken(asked(whoami), file()));
        }
        Err(error) => return Err(odd(whoami, error)),
    }

    let bot = names.bot();
    let refused = |error| StartError::NotOurBot(bot.to_string(), error, file());
    // Registering is the question whether the namespace is ours; that it is done already is well.
    patiently((config, health), || provision::provision(matrix, bot, "Causeway"))
        .await
        .map_err(refused)?;
    let me = patiently((config, health), || matrix.whoami(Some(bot))).await.map_err(refused)?;
    if me.user_id != *bot {
        return Err(is_not(me.user_id, bot.to_string()));
    }

    first_ping(config, matrix, registration, health).await?;
    say_what_calls_lack(config, matrix, bot).await;
    Ok(())
}

/// Says what the homeserver lacks for calls of its users, where these are to come here; all else goes
/// on without.
async fn say_what_calls_lack(config: &Config, matrix: &Matrix, bot: &UserId) {
    let url = &config.calls.focus_url;
    if url.is_empty() {
        return;
    }
    match matrix.lacks_for_calls(bot, url).await {
        Ok(lacks) => {
            for lack in lacks {
                tracing::warn!(
                    "the homeserver is not ready for calls: {lack}. `causeway registration \
                     --homeserver-snippet` prints what its configuration needs"
                );
            }
        }
        Err(error) => {
            tracing::info!(%error, "whether the homeserver is ready for calls is not known");
        }
    }
}

async fn first_ping(
    config: &Config,
    matrix: &Matrix,
    registration: &Registration,
    health: &Health,
) -> Result<(), StartError> {
    let mut tries = 1;
    loop {
        let Err(error) = matrix.ping(&registration.id, "causeway-start").await else {
            health.set_homeserver(Ok(()), WELL);
            return Ok(());
        };
        health.set_homeserver(Err(error.to_string()), UNREACHED);
        let url = registration.url.clone();
        if tries == 1 {
            tracing::warn!(%error, url, "the homeserver does not reach us; it is asked to try again");
        }
        let file = config.appservice.registration.display();
        if is_refused(&error) {
            let listen = config.key("appservice.listen");
            return Err(StartError::WrongListener(url, error, file.to_string(), listen));
        }
        if tries == PINGS {
            let (key, wanted) = (config.key("appservice.address"), &config.appservice.address);
            let whence = if *wanted == url {
                format!("That is {key}, and the `url` of {file}")
            } else {
                format!("That is the `url` of {file}, and by {key} it should be {wanted}")
            };
            return Err(StartError::NotReached(url, error, whence));
        }
        tries += 1;
        sleep(UNREACHED).await;
    }
}

/// Whether somebody answered the homeserver, and did not know its token.
fn is_refused(error: &MatrixError) -> bool {
    matches!(error, MatrixError::Refused(_, code, text)
        if code == "M_BAD_STATUS" && (text.contains("401") || text.contains("403")))
}

/// Asks until the homeserver answers, whatever it answers.
async fn patiently<T>(
    (config, health): (&Config, &Health),
    ask: impl AsyncFn() -> Result<T, MatrixError>,
) -> Result<T, MatrixError> {
    let (mut tries, mut last) = (0_u32, None);
    let (address, key) = (&config.homeserver.address, config.key("homeserver.address"));
    loop {
        match ask().await {
            Err(error) if error.is_passing() => {
                // Once a minute, and whenever it is something else.
                if tries.is_multiple_of(12) || last.as_ref() != Some(&error) {
                    let hint = hint(address, &error.to_string()).unwrap_or_default();
                    tracing::warn!(%error, address, hint, "waiting for the homeserver: {key}");
                }
                tries = tries.wrapping_add(1);
                last = Some(error.clone());
                health.set_homeserver(Err(error.to_string()), AWAY);
                sleep(AWAY).await;
            }
            answered => {
                if last.is_some() {
                    tracing::info!(address, "the homeserver answers");
                }
                return answered;
            }
        }
    }
}

/// Pings now and then and whenever a request met no homeserver, for ever: that says how well the
/// homeserver and we reach one another, and ends its back-off when they do again, and ours.
pub(super) async fn keep_pinging(
    db: Db,
    matrix: Matrix,
    registration: Registration,
    health: Health,
) {
    let mut was_well = true;
    loop {
        if was_well {
            let _ = timeout(WELL, matrix.trouble()).await;
        } else {
            sleep(UNREACHED).await;
        }
        let pinged = timeout(PATIENCE, matrix.ping(&registration.id, "causeway-alive")).await;
        let outcome = pinged
            .map_err(|_| format!("the homeserver did not answer for {} s", PATIENCE.as_secs()))
            .and_then(|outcome| outcome.map_err(|error| error.to_string()));
        let is_back = outcome.is_ok() && !was_well;
        was_well = outcome.is_ok();
        health.set_homeserver(outcome, UNREACHED);
        if is_back && let Err(error) = tell_back(&db).await {
            tracing::warn!(%error, "what waits for the homeserver was not told that it is back");
        }
        if was_well {
            // One that answers some requests and not others is not pinged without a pause.
            sleep(UNREACHED).await;
        }
    }
}

async fn tell_back(db: &Db) -> Result<(), causeway_store::Error> {
    let mut tx = db.begin().await?;
    lanes::back(&mut tx);
    tx.commit().await
}

/// Whether a version of the specification is one that will do.
pub fn is_new_enough(version: &str) -> bool {
    number(version).is_some_and(|version| version >= OLDEST)
}

/// `v1.12` as numbers; the old `r0.6.1` is none.
fn number(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.strip_prefix('v')?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(number("v1.12") > number("v1.7"));
        assert_eq!((number("v1.7"), number("r0.6.1"), number("v1")), (Some((1, 7)), None, None));
    }
}
