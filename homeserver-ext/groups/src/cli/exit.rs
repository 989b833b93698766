//! How a command ends that does not end well: what happened, why, what to do next, and a code.

use std::{fmt, process::ExitCode};

use causeway_protocol::{invite::LinkRefused, roster::Invalid};

use super::{called::in_words, harmless::harmless, local_time::whole};
use crate::{
    machine::{InviteRefused, MachineError, OpError, SealError},
    sdk::{CallError, OpenClientError, SdkError},
    storage,
};

const SHOWS_ADMINS: &str = "`causeway-client member list` shows who is.";
const SHOWS_GROUPS: &str = "`causeway-client group list` shows your groups.";
const AGAIN: &str = "Run the same command again: it starts from the newest roster.";
const NOT_TWICE: &str = "Run the same command again: what was done already is not done twice.";
const STOPPED: &str = "A program of this home may have been stopped in the middle of a write (`fuser` on its \
                       client.db names them): let it go on (`fg`) or end it. Then run the same command again.";
/// Of what should not be.
const BROKEN: &str = "CAUSEWAY_LOG=debug says more. A home that is damaged comes back with \
                      `causeway-client backup restore`, or as a new device with `recover`.";

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

    /// The advice as it is for somebody who calls the program like this.
    pub(super) fn as_called(&self, called: &str) -> Self {
        let next = self.next.as_ref().map(|next| in_words(next, called));
        Self { next, ..self.clone() }
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
        self.next.iter().try_for_each(|next| write!(f, "\n  {}", harmless(next)))
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
            CallError::Elsewhere { since: Some(since), .. } => {
                Self::new(Exit::Unreachable, format!("{said} (last heard of: {})", whole(since)))
                    .next(NOT_TWICE)
            }
            CallError::Unknown(_) | CallError::Elsewhere { .. } | CallError::Foreign { .. } => {
                Self::new(Exit::Unreachable, said).next(NOT_TWICE)
            }
            CallError::Full(_) => Self::new(Exit::Unreachable, said).next(
                "Run the same command again later: the server's operator has to free room on its disk.",
            ),
            CallError::Stale { .. } => {
                Self::failed(said).next("Run the same command again: it starts from there.")
            }
            CallError::RetryAfter { .. } => {
                Self::failed(said).next("Run the same command again then.")
            }
            CallError::Refused { errcode, .. } => {
                let (what, next) = refusal(&errcode);
                Self::failed(what.unwrap_or(&said)).next(next)
            }
        }
    }
}

/// What a refusal is called, where the server's words do not say it better, and what to do next.
fn refusal(errcode: &str) -> (Option<&'static str>, &'static str) {
    match errcode {
        "DEV_CAUSEWAY_UNLISTED" => (
            None,
            "This home reads and sends nothing more. If you did that, go on with the other device. \
             If not, somebody has your recovery key or another device of yours: `causeway-client \
             --home NEW recover ACCOUNT` with the recovery key takes all others out.",
        ),
        "DEV_CAUSEWAY_USED" => (Some("this link is used up"), "Ask for another."),
        "DEV_CAUSEWAY_EXPIRED" => (Some("this link has expired"), "Ask for another."),
        "DEV_CAUSEWAY_REVOKED" => (Some("this link was taken back"), "Ask for another."),
        "DEV_CAUSEWAY_CLOSED" => {
            (Some("the group is closed: nobody comes in any more"), "Ask for a link to another.")
        }
        "DEV_CAUSEWAY_BAD_REQUEST" => (None, "Ask for another link."),
        "DEV_CAUSEWAY_UNREGISTERED" => {
            (None, "Run the same command again: it asks for their newest devices first.")
        }
        "M_RESOURCE_LIMIT_EXCEEDED" => {
            (None, "The server's operator sets that limit; what you do not need can be given back.")
        }
        "M_TOO_LARGE" => (None, "Do it in smaller parts."),
        "M_NOT_FOUND" => (None, SHOWS_GROUPS),
        "M_FORBIDDEN" => (None, "Ask the group's admins, or the server's operator."),
        "M_UNKNOWN" | "M_UNRECOGNIZED" => {
            (None, "Is --server the URL of the native API, and the server as new as this client?")
        }
        _ => (None, "The server's operator can say more."),
    }
}

impl From<causeway_store::Error> for Failure {
    fn from(error: causeway_store::Error) -> Self {
        let next = match error {
            causeway_store::Error::Busy => STOPPED,
            _ => BROKEN,
        };
        Self::failed(format!("this home's database: {error}")).next(next)
    }
}

impl From<storage::Error> for Failure {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::Store(error) => error.into(),
            storage::Error::Vault(_) | storage::Error::Broken(_) => {
                Self::failed(error).next(BROKEN)
            }
        }
    }
}

impl From<MachineError> for Failure {
    fn from(error: MachineError) -> Self {
        SdkError::from(error).into()
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
                .next("255 bytes of UTF-8 fit in a name, about 44,000 in a description."),
            SdkError::Op(OpError::Blank(_)) => {
                Self::usage(said).next("Give it characters that can be seen.")
            }
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
            SdkError::Invite(InviteRefused::Link(refused)) => refused.into(),
            SdkError::Invite(InviteRefused::Changed(account)) => Self::failed(said).next(format!(
                "Nothing was sent. Ask them by another way, then `causeway-client verify {account}`."
            )),
            SdkError::UnknownGroup(_) | SdkError::Op(OpError::UnknownGroup(_)) => {
                Self::failed(said).next(SHOWS_GROUPS)
            }
            SdkError::Op(OpError::UnknownAccount(_)) => {
                Self::failed(said).next("Run the same command again: it asks for them first.")
            }
            SdkError::Op(OpError::NoBridge(_)) => Self::usage(said).next(
                "`causeway-client group upgrade` makes it one that can have one. Nothing was changed.",
            ),
            SdkError::Op(OpError::Unchanged) => Self::failed(said).next("Nothing was changed."),
            SdkError::Op(OpError::NoFork) => {
                Self::failed(said).next("Nothing was changed: there is nothing to decide.")
            }
            SdkError::Op(OpError::OtherUnknown) => {
                Self::failed(said).next("Run the same command again when the server has shown it.")
            }
            SdkError::Seal(error) => error.into(),
            SdkError::Store(causeway_store::Error::Busy) => Self::failed(said).next(STOPPED),
            SdkError::Op(OpError::Machine(_))
            | SdkError::Invite(InviteRefused::Machine(_))
            | SdkError::Machine(_)
            | SdkError::Store(_)
            | SdkError::Keep(_) => Self::failed(said).next(BROKEN),
        }
    }
}

/// Why a link is not followed.
impl From<LinkRefused> for Failure {
    fn from(refused: LinkRefused) -> Self {
        match refused {
            LinkRefused::Malformed => Self::usage("this link cannot be used: it is not whole")
                .next("Copy it whole: it begins with causeway://join/."),
            LinkRefused::BadCertificate => {
                Self::failed("this link cannot be used: its maker is nobody that this server knows")
                    .next("It is of another server, or of a device that is gone. Ask for another.")
            }
            LinkRefused::BadSignature => {
                Self::failed("this link cannot be used: it is not as its maker made it")
                    .next("Ask for another, by another way.")
            }
            LinkRefused::Expired => Self::failed("this link has expired").next("Ask for another."),
        }
    }
}

/// Why nothing is said in a group.
impl From<SealError> for Failure {
    fn from(error: SealError) -> Self {
        Self::failed(&error).next(match error {
            SealError::NotMember(_) => SHOWS_GROUPS,
            SealError::Closed => "Nothing follows. `causeway-client group forget` lets go of it.",
            SealError::Forked => "`causeway-client group fork show` shows both.",
            SealError::Offered => "Take it with `causeway-client group accept`, or leave it.",
            SealError::Changed(_) => "`causeway-client group show` shows who; ask them.",
            SealError::Channel => "An admin can say it, or make you one.",
            SealError::TooLarge(..) | SealError::TooMany(..) => "Send it in parts.",
            SealError::Scheme => "A newer causeway-client may know it.",
            SealError::NoKey => "`causeway-client tail` takes it when it comes, and asks for it.",
            SealError::Unprepared(_) => "Run the same command again.",
            SealError::Machine(_) => BROKEN,
        })
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
                Self::failed("you are not in this group any more").next(SHOWS_GROUPS)
            }
            Invalid::AlreadyMember => {
                Self::failed("they are in this group already").next(SHOWS_ADMINS)
            }
            Invalid::TargetAbsent => Self::failed("they are not in this group").next(SHOWS_ADMINS),
            Invalid::OverMaxMembers => Self::failed("the group is full")
                .next("Somebody has to go first (`causeway-client member remove`). A pairwise group has at most \
                       500 members, a Sender Keys group 1,000."),
            Invalid::SecondBridge => Self::failed("the group has a bridge already")
                .next("`causeway-client group show` shows it."),
            Invalid::BridgeRole => Self::failed("a bridge has no other role")
                .next("`causeway-client member remove` takes it out."),
            Invalid::NoAdminLeft => Self::failed("the group would have no admin left").next(
                "Make somebody else an admin first (`causeway-client member role`), or end the \
                 group (`causeway-client group close`).",
            ),
            Invalid::Closed => Self::failed("the group is closed; nothing follows")
                .next("`causeway-client group forget` lets go of it."),
            invalid => Self::failed(format!("the group's rules refuse this: {}", invalid.reason()))
                .next(AGAIN),
        }
    }
}

impl From<OpenClientError> for Failure {
    fn from(error: OpenClientError) -> Self {
        match error {
            OpenClientError::Call(error) => error.into(),
            OpenClientError::BaseUrl(error) => {
                Self::usage(error).next("Name it as --server https://host.")
            }
            error => Self::failed(error).next(BROKEN),
        }
    }
}
