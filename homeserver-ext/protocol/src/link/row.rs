//! An envelope for devices of another server, as it stands in an item.

use serde_json::Value;

use crate::{
    envelope::{BadEnvelope, Envelope, Kind, Recipient, Submission, SubmittedTo},
    ids::{AccountId, EnvelopeId},
    json,
};

/// What is for devices of the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// A member's, as submitted; of a `fanout` the pieces of the receiver's devices alone.
    Member(Submission),
    /// `join` or `call_changed` of the group's home, of which the receiver makes its devices' rows.
    Home(Envelope),
}

/// Why a row is refused whatever the group says; reported to its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRow {
    /// Only the server of an account speaks for it.
    #[error("the sender is an account of another server")]
    Foreign,
    /// The link carries what is for single devices, and what a home tells all.
    #[error("this kind, or what is for all, does not come over a link")]
    Kind,
    /// As on one server.
    #[error(transparent)]
    Envelope(#[from] BadEnvelope),
}

impl Row {
    pub(super) fn read(envelope: &Value) -> Option<Self> {
        let has_sender = envelope.get("sender").is_some_and(|sender| !sender.is_null());
        if has_sender {
            json::from_value(envelope).ok().map(Self::Member)
        } else {
            json::from_value(envelope).ok().map(Self::Home)
        }
    }

    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Member(submission) => serde_json::to_value(submission),
            Self::Home(envelope) => serde_json::to_value(envelope),
        }
        .unwrap_or_default()
    }

    /// What it is taken once by.
    pub fn id(&self) -> EnvelopeId {
        match self {
            Self::Member(submission) => submission.name(),
            Self::Home(envelope) => envelope.id,
        }
    }

    /// Checks it as `peer`'s. That a home's row comes from the group's home is asked later.
    ///
    /// # Errors
    /// [`BadRow`].
    pub fn check(&self, peer: &str) -> Result<(), BadRow> {
        match self {
            Self::Member(submission) => check_member(submission, peer),
            Self::Home(envelope) => check_home(envelope),
        }
    }
}

/// Whether `peer` speaks for `account`.
pub(super) fn is_of(account: &AccountId, peer: &str) -> bool {
    account.server() == peer
}

fn check_member(submission: &Submission, peer: &str) -> Result<(), BadRow> {
    if !is_of(&submission.sender.account, peer) {
        return Err(BadRow::Foreign);
    }
    if submission.to == SubmittedTo::Broadcast {
        return Err(BadRow::Kind);
    }
    Ok(submission.check()?)
}

fn check_home(envelope: &Envelope) -> Result<(), BadRow> {
    let is_home = matches!(envelope.kind, Kind::Join | Kind::CallChanged);
    if !is_home || envelope.to != Recipient::Broadcast {
        return Err(BadRow::Kind);
    }
    // On one server a `join` is for one device; here the receiver says for which.
    Ok(envelope.check_for(true)?)
}
