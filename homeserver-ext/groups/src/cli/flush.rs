//! What waits goes out, through trouble that passes; and what is said of trouble that does not.

use std::time::Duration;

use causeway_protocol::ids::GroupId;
use tokio::time::{Instant, timeout_at};

use super::{
    exit::Failure,
    outbox::{self, OutboxError},
};
use crate::{
    machine::SealError,
    sdk::{Backoff, CallError, Client, SdkError},
};

/// How long trouble with the server is sat out, unless something else is said. It is longer than the server
/// itself waits for others (15 s).
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A server that comes back while somebody waits is found so soon.
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// Sends what waits in `group`, through trouble that passes, for as long as `patience` lasts.
pub(super) async fn flush(
    client: &Client,
    group: GroupId,
    patience: Duration,
) -> Result<(), Failure> {
    match outbox_of(client, group, patience).await {
        Err(Trouble::Outbox(error)) if error.waits_for_a_person() => {
            Err(waiting_for_a_person(error, group))
        }
        sent => Ok(sent?),
    }
}

/// Why what waits does not go out.
pub(super) enum Trouble {
    /// The outbox's.
    Outbox(OutboxError),
    /// It did not pass in time.
    Pending(String),
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Outbox(error) => error.into(),
            Trouble::Pending(why) => {
                Self::pending(format!("kept, and not accepted yet: {why}")).next(
                    "It goes out with the next `send`, `send --flush` or `tail`, in order and once.",
                )
            }
        }
    }
}

/// Whether it is refused until a person decides, and so not kept: a member is not who it is called,
/// or the group is only offered.
pub(super) fn is_refused(error: &OutboxError) -> bool {
    let (OutboxError::Seal(error) | OutboxError::Sdk(SdkError::Seal(error))) = error else {
        return false;
    };
    matches!(error, SealError::Changed(_) | SealError::Offered)
}

fn is_offered(error: &OutboxError) -> bool {
    matches!(
        error,
        OutboxError::Seal(SealError::Offered)
            | OutboxError::Sdk(SdkError::Seal(SealError::Offered))
    )
}

/// What happened, why, and what a person can do about it.
pub(super) fn refused(error: &OutboxError, group: GroupId) -> Failure {
    if is_offered(error) {
        return Failure::failed(format!("nothing was sent: {error}")).next(format!(
            "Take it with `causeway-client group accept {group}`, or go with `causeway-client \
             group leave {group}`.",
        ));
    }
    Failure::failed(format!("nothing was sent: {error}")).next(format!(
        "It may be a new key of theirs, or somebody else under their name. Ask them by another way; \
         then `causeway-client verify ACCOUNT`, or `causeway-client member accept {group} ACCOUNT`, \
         or `causeway-client group leave {group}`. `member list {group}` shows who it is.",
    ))
}

/// What waits in a group about which a person has to decide.
pub(super) fn waiting_for_a_person(error: OutboxError, group: GroupId) -> Failure {
    if is_refused(&error) { refused(&error, group) } else { error.into() }
}

/// As [`flush`], with what went wrong as it is.
pub(super) async fn outbox_of(
    client: &Client,
    group: GroupId,
    patience: Duration,
) -> Result<(), Trouble> {
    let give_up = Instant::now() + patience;
    let mut backoff = Backoff::default();
    loop {
        let mut again = Instant::now() + backoff.failed().min(LONGEST_WAIT);
        let trouble = match timeout_at(give_up, outbox::flush(client, group)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(trouble)) if trouble.is_transient() => {
                if let Some(wait) = trouble.asked_to_wait() {
                    again = Instant::now() + wait;
                    if again >= give_up {
                        return Err(Trouble::Pending(trouble.to_string()));
                    }
                }
                trouble.to_string()
            }
            Ok(Err(trouble)) => return Err(Trouble::Outbox(trouble)),
            Err(_) => "the server has not answered in time".to_owned(),
        };
        tokio::time::sleep_until(again.min(give_up)).await;
        if Instant::now() >= give_up {
            return Err(Trouble::Pending(trouble));
        }
    }
}

impl From<OutboxError> for Failure {
    fn from(error: OutboxError) -> Self {
        match error {
            OutboxError::Sdk(SdkError::Call(error @ CallError::Refused { status: 401, .. })) => {
                Self::from(error).next(
                    "The message is kept: log in again with `causeway-client login`, then \
                     `causeway-client send --flush`.",
                )
            }
            OutboxError::Sdk(error) => error.into(),
            OutboxError::Seal(SealError::Forked) => Self::pending(error).next(
                "The message is kept, and goes out when you have decided: see `causeway-client \
                 group fork show`.",
            ),
            OutboxError::Seal(error) => error.into(),
            OutboxError::Rows(error) => error.into(),
            OutboxError::TooLarge(..) => Self::usage(error).next("Send it in parts."),
            OutboxError::Content(_) => Self::failed(error).next(
                "The home is damaged: `causeway-client backup restore` puts a backup in its place.",
            ),
        }
    }
}
