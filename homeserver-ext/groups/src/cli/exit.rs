//! How a command ends that does not end well: what happened, why, what to do next, and a code.

use std::{fmt, process::ExitCode};

use causeway_protocol::roster::Invalid;

use super::harmless::harmless;
use crate::{
    machine::{InviteRefused, OpError},
    sdk::{CallError, OpenClientError, SdkError},
    storage,
};

const SHOWS_ADMINS: &str = "`causeway-client member list` shows who is.";

/// The codes that scripts may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// The server or this client's rules refused, or something broke.
    Failed = 1,
    /// The arguments do not mean anything here; `clap` ends with it too.
    Usage = 2,
    /// `register` or `login` first.
    NotLoggedIn = 3,
    /// No server; nothing was changed.
    Unreachable = 4,
    /// Kept here, and not accepted by the server yet.
    Pending = 5,
}

impl Exit {
    fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotLoggedIn => "not_logged_in",
            Self::Unreachable => "unreachable",
            Self::Pending => "pending",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What a person is told, and the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    exit: Exit,
    what: String,
    next: Option<String>,
}

impl Failure {
    /// Refused or broken: `what` happened, and why.
    pub(super) fn failed(what: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, what)
    }

    /// The arguments name something that is not there.
    pub(super) fn usage(what: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// Nobody is logged in here.
    pub(super) fn not_logged_in(what: impl fmt::Display) -> Self {
        Self::new(Exit::NotLoggedIn, what)
    }

    /// Kept, and not accepted yet.
    pub(super) fn pending(what: impl fmt::Display) -> Self {
        Self::new(Exit::Pending, what)
    }

    fn new(exit: Exit, what: impl fmt::Display) -> Self {
        Self { exit, what: what.to_string(), next: None }
    }

    /// And what to do next.
    pub(super) fn next(mut self, next: impl fmt::Display) -> Self {
        self.next = Some(next.to_string());
        self
    }

    /// With which code the process ends.
    pub(super) fn exit(&self) -> Exit {
        self.exit
    }

    /// What happened and what to do, in one line.
    pub(super) fn to_text(&self) -> String {
        [Some(self.what.as_str()), self.next.as_deref()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(". ")
    }

    /// The same as a JSON object.
    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({"error": {
            "code": self.exit.name(), "exit": self.exit as u8, "what": self.what, "next": self.next,
        }})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A server's words may stand in it.
        write!(f, "error: {}", harmless(&self.what))?;
        self.next.iter().try_for_each(|next| write!(f, "\n  {next}"))
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let said = error.to_string();
        match error {
            CallError::Refused { status: 401, .. } => {
                Self::not_logged_in(said).next("Log in again with `causeway-client login`.")
            }
            CallError::Unreachable(_) => Self::new(Exit::Unreachable, said)
                .next("Nothing was changed. Is the server running, and --server right, http or https included?"),
            CallError::Unknown(_) => Self::new(Exit::Unreachable, said)
                .next("Run the same command again: what was done already is not done twice."),
            CallError::Stale { .. } => {
                Self::failed(said).next("Run the same command again: it starts from there.")
            }
            CallError::RetryAfter { .. } => {
                Self::failed(said).next("Run the same command again then.")
            }
            CallError::Refused { errcode, .. } if errcode == "DEV_CAUSEWAY_UNLISTED" => {
                Self::failed(said).next(
                    "This home reads and sends nothing more. If you did that, go on with the other \
                     device. If not, somebody has your recovery key or another device of yours: \
                     `causeway-client --home NEW recover ACCOUNT` with the recovery key takes all \
                     others out.",
                )
            }
            CallError::Refused { .. } => Self::failed(said),
        }
    }
}

impl From<causeway_store::Error> for Failure {
    fn from(error: causeway_store::Error) -> Self {
        Self::failed(format!("this home's database: {error}"))
    }
}

impl From<storage::Error> for Failure {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::Store(error) => error.into(),
            storage::Error::Vault(_) | storage::Error::Broken(_) => Self::failed(error),
        }
    }
}

impl From<SdkError> for Failure {
    fn from(error: SdkError) -> Self {
        let said = error.to_string();
        match error {
            SdkError::Call(error) => error.into(),
            SdkError::Contended => Self::failed(said).next("Run the same command again."),
            SdkError::Op(OpError::Invalid(invalid)) => Self::from(invalid),
            SdkError::Op(OpError::TooLong(_)) => Self::usage("a name or a description is too long")
                .next("255 bytes of UTF-8 fit in a name, 44,000 in a description."),
            SdkError::Op(OpError::OtherIdentity(_)) => Self::failed(said)
                .next("Nothing was changed. Ask the server's operator which identity is right."),
            SdkError::Op(OpError::ChangedIdentity(account)) => Self::failed(said).next(format!(
                "Nothing was changed. Ask them by another way, then `causeway-client verify {account}`."
            )),
            SdkError::Op(OpError::Open) => Self::failed(said).next(
                "Nothing was changed. Leave it first (`causeway-client group leave`), or end it for \
                 everyone (`causeway-client group close`).",
            ),
            SdkError::Op(OpError::NotMember(_)) => {
                Self::failed(said).next("`causeway-client member list` shows who is.")
            }
            SdkError::Invite(InviteRefused::Link(_)) => {
                Self::failed(said).next("Ask for a new one.")
            }
            SdkError::Invite(InviteRefused::Changed(account)) => Self::failed(said).next(format!(
                "Nothing was sent. Ask them by another way, then `causeway-client verify {account}`."
            )),
            SdkError::UnknownGroup(_) => {
                Self::failed(said).next("`causeway-client group list` shows your groups.")
            }
            SdkError::Seal(_)
            | SdkError::Op(_)
            | SdkError::Invite(InviteRefused::Machine(_))
            | SdkError::Machine(_)
            | SdkError::Store(_)
            | SdkError::Keep(_) => Self::failed(said),
        }
    }
}

/// What the group's rules say against an op, where a person can do something about it.
impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::NotAdmin => {
                Self::failed("only admins of the group may do this").next(SHOWS_ADMINS)
            }
            Invalid::SignerNotMember | Invalid::DeviceNotCounting => {
                Self::failed("you are not in this group any more")
                    .next("`causeway-client group list` shows your groups.")
            }
            Invalid::NoAdminLeft => Self::failed("the group would have no admin left").next(
                "Make somebody else an admin first (`causeway-client member role`), or end the \
                 group (`causeway-client group close`).",
            ),
            Invalid::Closed => Self::failed("the group is closed; nothing follows"),
            invalid => Self::failed(format!("the group's rules refuse this: {}", invalid.reason())),
        }
    }
}

impl From<OpenClientError> for Failure {
    fn from(error: OpenClientError) -> Self {
        match error {
            OpenClientError::Call(error) => error.into(),
            OpenClientError::BaseUrl(error) => Self::usage(error),
            error => Self::failed(error),
        }
    }
}
