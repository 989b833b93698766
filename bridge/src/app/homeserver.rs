//! Whether the homeserver knows us and reaches us: asked at the start, with a cause for each way
//! it can fail, and again every so often.

use std::time::Duration;

use causeway_store::Db;
use tokio::time::{sleep, timeout};

use crate::{
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
    /// The homeserver answers, and not as one does.
    #[error("{0} does not answer as a Matrix homeserver: {1}; is homeserver.address right?")]
    NoHomeserver(String, MatrixError),
    /// It is too old: what it says it speaks.
    #[error("the homeserver speaks {0}; v1.7 of the Matrix specification or newer is needed")]
    TooOld(String),
    /// `M_UNKNOWN_TOKEN`.
    #[error(
        "the homeserver does not accept our as_token. Is the registration installed \
         (Synapse: app_service_config_files), is it this one, and was the homeserver restarted?"
    )]
    UnknownToken,
    /// Whom it takes us for, and who we are by our registration.
    #[error(
        "the homeserver takes our as_token for that of {0}; by our registration it is {1}. Where what \
         comes after the colon differs, that is the homeserver's name: set homeserver.server_name to it, \
         and make the registration anew; else the homeserver has another registration than this one"
    )]
    SomebodyElse(String, String),
    /// `M_EXCLUSIVE` or alike for our own bot.
    #[error(
        "the homeserver accepts our token and refuses our bot {0}: {1}. Do server_name and the \
         registration's namespaces match?"
    )]
    NotOurBot(String, MatrixError),
    /// Where it should reach us, and what it says.
    #[error(
        "the homeserver does not reach us at {0}: {1}. Is appservice.address right as seen from \
         the homeserver, and does the registration it has say the same?"
    )]
    NotReached(String, MatrixError),
    /// It reaches somebody who does not know its `hs_token`.
    #[error(
        "who answers the homeserver at {0} refuses its hs_token: {1}. Is the installed \
         registration this one, and is it our Causeway that listens there?"
    )]
    WrongListener(String, MatrixError),
}

impl StartError {
    /// The exit code, as the mautrix bridges have it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotReached(..) | Self::WrongListener(..) => 13,
            Self::NoHomeserver(..) | Self::UnknownToken => 16,
            Self::SomebodyElse(..) | Self::NotOurBot(..) => 17,
            Self::TooOld(_) => 18,
        }
    }
}

/// Runs the checks in their order. A homeserver that is away is waited for, since it may well
/// start after us; one that answers wrongly is an error.
///
/// # Errors
/// [`StartError`]
pub(super) async fn check(
    matrix: &Matrix,
    address: &str,
    names: &Names,
    registration: &Registration,
    health: &Health,
) -> Result<(), StartError> {
    let known = patiently((health, address), || matrix.versions())
        .await
        .map_err(|error| StartError::NoHomeserver(address.to_owned(), error))?;
    if !known.versions.iter().any(|version| is_new_enough(version)) {
        return Err(StartError::TooOld(known.versions.join(", ")));
    }

    let sender = format!("@{}:{}", registration.sender_localpart, names.server());
    match patiently((health, address), || matrix.whoami(None)).await {
        Ok(me) if me.user_id == sender => {}
        Ok(me) => return Err(StartError::SomebodyElse(me.user_id.to_string(), sender)),
        Err(MatrixError::UnknownToken) => return Err(StartError::UnknownToken),
        Err(error) => return Err(StartError::NoHomeserver(address.to_owned(), error)),
    }

    let bot = names.bot();
    let refused = |error| StartError::NotOurBot(bot.to_string(), error);
    // Registering is the question whether the namespace is ours; that it is done already is well.
    patiently((health, address), || provision::provision(matrix, bot, "Causeway"))
        .await
        .map_err(refused)?;
    let me = patiently((health, address), || matrix.whoami(Some(bot))).await.map_err(refused)?;
    if me.user_id != *bot {
        return Err(StartError::SomebodyElse(me.user_id.to_string(), bot.to_string()));
    }

    first_ping(matrix, registration, health).await
}

async fn first_ping(
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
        tracing::warn!(%error, tries, "the homeserver does not reach us");
        let url = || registration.url.clone();
        if is_refused(&error) {
            return Err(StartError::WrongListener(url(), error));
        }
        if tries == PINGS {
            return Err(StartError::NotReached(url(), error));
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
    (health, address): (&Health, &str),
    ask: impl AsyncFn() -> Result<T, MatrixError>,
) -> Result<T, MatrixError> {
    let (mut tries, mut last) = (0_u32, None);
    loop {
        match ask().await {
            Err(error) if error.is_passing() => {
                // Once a minute, and whenever it is something else.
                if tries.is_multiple_of(12) || last.as_ref() != Some(&error) {
                    let hint = hint(address, &error.to_string()).unwrap_or_default();
                    tracing::warn!(%error, address, hint, "waiting for the homeserver (homeserver.address)");
                }
                tries = tries.wrapping_add(1);
                last = Some(error.clone());
                health.set_homeserver(Err(error.to_string()), AWAY);
                sleep(AWAY).await;
            }
            other => return other,
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
