//! What can become of a request to the homeserver, by what the caller does about it.

use std::time::Duration;

/// Why a request did not do what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatrixError {
    /// No connection, so nothing was asked: try again.
    #[error("the homeserver cannot be reached: {0}")]
    NotReached(String),
    /// The outcome is unknown: try again, with the same transaction id.
    #[error("the homeserver did not answer: {0}")]
    NoAnswer(String),
    /// Nothing was done; try again after this long, where the homeserver said so.
    #[error("the homeserver limits our rate")]
    RateLimited(Option<Duration>),
    /// 408 or 5xx, with `errcode` (empty where a gateway speaks) and `error`; the outcome is
    /// unknown: try again, with the same transaction id.
    #[error("the homeserver answered {}", in_words(*.0, .1, .2))]
    Server(u16, String, String),
    /// The homeserver does not know our token: no request can work until a person acts.
    #[error("as_token not accepted; is the registration installed?")]
    UnknownToken,
    /// Status, `errcode` and `error` of any other refusal: asking again will not help.
    #[error("the homeserver refused with {}", in_words(*.0, .1, .2))]
    Refused(u16, String, String),
    /// A good status with an answer that is not what the specification says; done, presumably.
    #[error("the homeserver's answer is not understood: {0}")]
    Misunderstood(String),
    /// A good status with an answer longer than so many bytes: less may be asked for. Of a `/sync`, if it
    /// begins with that as Synapse's does, its `next_batch`.
    #[error("the homeserver's answer is longer than {0} bytes")]
    TooLong(usize, Option<String>),
}

/// An answer that is no success, as far as it says anything.
fn in_words(status: u16, code: &str, text: &str) -> String {
    match (status, code, text) {
        (507, code, text) => format!("507 {code}: its disk is full. {text}"),
        (status, "", "") => format!("{status}, and not in the words of Matrix: a gateway, perhaps"),
        (status, code, text) => format!("{status} {code}: {text}"),
    }
}

impl MatrixError {
    /// Whether the homeserver refused with this `errcode`.
    pub fn is_code(&self, code: &str) -> bool {
        matches!(self, Self::Refused(_, errcode, _) if errcode == code)
    }

    /// Whether nobody answered who knows: there may be no homeserver just now.
    pub const fn is_away(&self) -> bool {
        match self {
            Self::NotReached(_) | Self::NoAnswer(_) => true,
            // A gateway in front of it.
            Self::Server(_, code, _) => code.is_empty(),
            Self::RateLimited(_)
            | Self::UnknownToken
            | Self::Refused(..)
            | Self::Misunderstood(_)
            | Self::TooLong(..) => false,
        }
    }

    /// Whether the same request may work later, without anybody doing anything.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::NotReached(_) | Self::NoAnswer(_) | Self::RateLimited(_) | Self::Server(..) => {
                true
            }
            Self::UnknownToken | Self::Refused(..) | Self::Misunderstood(_) | Self::TooLong(..) => {
                false
            }
        }
    }
}
