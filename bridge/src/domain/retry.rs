//! What a failed try means for what comes next (design §3, "Retries").

use std::time::Duration;

use super::Outcome;

/// Longest wait before another try, milliseconds; full jitter makes it half of that on average.
const MAX_WAIT_MS: u64 = 120_000;
/// The same where the room took something in the last minute: what fails there may as well be luck.
const MAX_WAIT_WHERE_TAKEN_MS: u64 = 15_000;
/// Longest wait before the first repeat, milliseconds.
const FIRST_WAIT_MS: u64 = 250;

/// Between looks whether what stands before is done, milliseconds.
const LATER_MS: u64 = 1_000;

/// How long a row that the homeserver cannot do is tried while it does others.
const OWN_PATIENCE: Duration = Duration::from_mins(5);
/// How long somebody is invited whose homeserver does not answer: who asked hears it in a minute,
/// with the time that the last try takes.
const INVITE_PATIENCE: Duration = Duration::from_secs(25);

/// Who is kept waiting for so long lets others go before him.
const LONG: Duration = Duration::from_secs(5);

/// What was asked of the homeserver: one refusal means different things in different places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// To send what somebody said.
    Message,
    /// To make a ghost, or to bring it into a room or out of one.
    Ghost,
    /// To invite somebody.
    Invite,
    /// To make, find or read a room, or to change its state.
    Room,
}

/// What an answered refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// It will be refused whenever it is asked.
    Final,
    /// Final where the ghost is in the room; it may not be where we think, which is looked at once.
    Standing,
    /// The user's device is gone: made again, it goes on.
    Device,
    /// Nothing was said of the request: a gateway speaks, or somebody has to make room first.
    Passing,
    /// Nothing that is known; it is tried a few times.
    Unclear,
}

/// The table of refusals; `errcode` is empty where the answer had none.
///
/// Client-server API v1.16, "Standard error response"; MSC4326 has `M_UNKNOWN_DEVICE`.
pub fn meaning(place: Place, status: u16, errcode: &str) -> Meaning {
    match (errcode, place) {
        ("M_TOO_LARGE" | "M_BAD_JSON" | "M_NOT_JSON" | "M_USER_DEACTIVATED", _) => Meaning::Final,
        // Whoever says it has looked at the size and at nothing else.
        _ if status == 413 => Meaning::Final,
        ("" | "M_RESOURCE_LIMIT_EXCEEDED", _) => Meaning::Passing,
        ("M_FORBIDDEN", Place::Message) => Meaning::Standing,
        ("M_FORBIDDEN", Place::Ghost | Place::Invite) => Meaning::Final,
        ("M_UNKNOWN_DEVICE", Place::Message) => Meaning::Device,
        _ => Meaning::Unclear,
    }
}

/// How a try failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No answer, or a gateway's: it may have been done all the same.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The homeserver itself says that it could not; it may have been done all the same.
    #[error("outcome unknown: {0}")]
    Fault(String),
    /// Not reached, or 429: it was not done; after how many milliseconds to come back.
    #[error("not now: {0}")]
    NotNow(String, Option<u64>),
    /// The homeserver does not take our token.
    #[error("the homeserver does not take the token of the application service")]
    Token,
    /// Answered, and refused for itself, nobody knows why.
    #[error("{0}")]
    Refused(String),
    /// It was not tried: first it is to be looked for in the room, beside the others.
    #[error("it may be there already, and is looked for")]
    Aside,
    /// It was not tried: the room's last so many events do not have it, and older ones are looked at.
    #[error("it may be there already: {0} events of the room were read, and older ones are next")]
    Searching(usize),
    /// It was not tried: what stands before it is not done, and will be.
    #[error("not yet: {0}")]
    Later(String),
    /// Final, whenever it would be asked.
    #[error("{0}")]
    Gone(String),
}

impl Failure {
    /// What a refusal of this meaning comes to where nothing mends it.
    pub fn refused(meaning: Meaning, text: String) -> Self {
        match meaning {
            Meaning::Final | Meaning::Standing => Self::Gone(text),
            Meaning::Passing => Self::Unknown(text),
            Meaning::Device | Meaning::Unclear => Self::Refused(text),
        }
    }

    /// Whether it was not even tried.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Searching(_) | Self::Later(_))
    }

    /// Whether the other side may have done it all the same.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Fault(_))
    }

    /// Whether it says nothing of what others ask: an answered refusal, and somebody far away who
    /// cannot be invited.
    pub fn is_own(&self, is_invite: bool) -> bool {
        match self {
            Self::Refused(_) | Self::Gone(_) | Self::Aside => true,
            Self::Unknown(_) | Self::Fault(_) => is_invite,
            Self::NotNow(..) | Self::Token | Self::Searching(_) | Self::Later(_) => false,
        }
    }

    /// Whether others may be better off, after so many failures before it, and so long for an answer.
    /// Once is an accident, and no reason to let others go first, unless it took long.
    pub fn may_be_own(&self, failures: u32, took: Duration) -> bool {
        match self {
            Self::NotNow(_, Some(after)) if Duration::from_millis(*after) >= LONG => true,
            Self::Unknown(_) | Self::Fault(_) | Self::NotNow(_, Some(_)) => {
                failures > 0 || took >= LONG
            }
            Self::NotNow(_, None)
            | Self::Token
            | Self::Refused(_)
            | Self::Aside
            | Self::Searching(_)
            | Self::Later(_)
            | Self::Gone(_) => false,
        }
    }

    /// Whether the other side was not there, rather than busy with us.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::NotNow(_, None))
    }
}

/// Where a row stands when a try has failed.
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of its own")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tries {
    /// Answered refusals before this one.
    pub refused: u32,
    /// At how many of them it is given up.
    pub limit: u32,
    /// Failures of its lane in a row before this one.
    pub failures: u32,
    /// For how long it has failed.
    pub stood: Duration,
    /// The homeserver does what others ask meanwhile.
    pub others_do_well: bool,
    /// Its own room took something in the last minute.
    pub room_takes: bool,
    /// It is of somebody whose rows have failed while those of others in the room did not.
    pub is_alone: bool,
    /// Somebody is to be invited.
    pub is_invite: bool,
    /// It has ended being of use.
    pub is_over: bool,
}

/// What follows from `failure`; `random` is a uniform 64-bit number.
///
/// Only answered refusals count; whatever may pass by itself is tried until the message's end,
/// unless the trouble is the row's own.
pub fn judge(failure: &Failure, tries: Tries, random: u64) -> Outcome {
    let most = if tries.room_takes { MAX_WAIT_WHERE_TAKEN_MS } else { MAX_WAIT_MS };
    let jittered = wait_ms(tries.failures, most, random);
    let is_own = match failure {
        Failure::Token => return Outcome::Halt,
        Failure::Aside | Failure::Searching(_) => return Outcome::Again(0, false),
        Failure::Later(_) => return Outcome::Again(LATER_MS, false),
        Failure::Gone(reason) => return Outcome::Dead(reason.clone()),
        Failure::Refused(_) if tries.refused + 1 >= tries.limit => {
            return Outcome::Dead(failure.to_string());
        }
        Failure::Refused(_) => return Outcome::Again(jittered, true),
        // Who is invited again and again is limited too.
        Failure::Fault(_) | Failure::Unknown(_) | Failure::NotNow(_, Some(_))
            if tries.is_invite =>
        {
            tries.stood >= INVITE_PATIENCE
        }
        Failure::Unknown(_) if !tries.is_alone => false,
        Failure::Fault(_) | Failure::Unknown(_) => {
            tries.others_do_well && tries.stood >= OWN_PATIENCE
        }
        Failure::NotNow(..) => false,
    };
    if is_own {
        return Outcome::Dead(failure.to_string());
    }
    if tries.is_over {
        return Outcome::Dead(format!("its time has passed; last: {failure}"));
    }
    // Only what ends by that patience is tried when it ends.
    let ends = tries.is_invite && !matches!(failure, Failure::NotNow(_, None));
    let wait = if ends { jittered.min(left_ms(tries.stood)) } else { jittered };
    let told = if let Failure::NotNow(_, Some(after)) = failure { *after } else { 0 };
    let told = if ends { told.min(left_ms(tries.stood)) } else { told };
    Outcome::Again(told.min(MAX_WAIT_MS).max(wait), false)
}

/// Until somebody has been invited for long enough, milliseconds.
fn left_ms(stood: Duration) -> u64 {
    u64::try_from(INVITE_PATIENCE.saturating_sub(stood).as_millis()).unwrap_or(u64::MAX)
}

/// Full jitter: anything from a millisecond, which is not at once, to twice as long as the last time,
/// and never longer than `most`.
fn wait_ms(failures: u32, most: u64, random: u64) -> u64 {
    let ceiling = FIRST_WAIT_MS.saturating_mul(1 << failures.min(16)).min(most);
    (random % (ceiling + 1)).max(1)
}

#[cfg(test)]
#[path = "retry_table.rs"]
mod table;
