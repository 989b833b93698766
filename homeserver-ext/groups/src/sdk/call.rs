//! How a call ends: four ways, and callers act on which.
//!
//! Answered and done, answered and refused, never sent, or *unknown*: the bytes may have arrived, so
//! only the same bytes may go out again. Every status and every broken connection is sorted here.

use causeway_protocol::{
    api::{ErrorBody, OpBytes},
    ids::{EnvelopeId, Epoch, Timestamp},
};
use reqwest::{RequestBuilder, Response, StatusCode, header};
use serde::de::DeserializeOwned;

/// The largest answer is a page of ops: 4 MiB, a third more in base64.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// What a server says of another one that does not answer (protocol §7.2).
const UNREACHABLE: &str = "DEV_CAUSEWAY_UNREACHABLE";
/// What a server answers that cannot use the answer of another one it had to ask.
const BAD_ANSWER: &str = "DEV_CAUSEWAY_BAD_ANSWER";
/// How long anybody is waited for who asks to wait, whatever he says: a day, in milliseconds.
const LONGEST_REST_MS: u64 = 24 * 3_600 * 1_000;

/// How a call ended that did not end well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Refused with `M_STALE_EPOCH`: install the ops, then make it anew.
    #[error("the group has moved on to epoch {epoch}")]
    Stale {
        /// Where the group stands.
        epoch: Epoch,
        /// What the caller lacks, in order.
        ops: Vec<OpBytes>,
    },
    /// Refused, and nothing changed but what is `taken`; the same again would be refused again.
    #[error("the server refused: {error} ({errcode}, HTTP {status})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Matrix code where one fits, else `DEV_CAUSEWAY_…`.
        errcode: String,
        /// What happened, why, and what to do, as the server says it.
        error: String,
        /// Of many envelopes, of which a later part is refused: those that are taken.
        taken: Vec<EnvelopeId>,
    },
    /// Too much at once, and nothing changed.
    #[error(
        "{} asks to wait for {}: {error}", .server.as_deref().unwrap_or("the server"), in_words(*.ms)
    )]
    RetryAfter {
        /// Milliseconds after which the same call may succeed; a day at most.
        ms: u64,
        /// Which limit it was, as the server says it.
        error: String,
        /// Another server that the server had to ask, where it is that one's limit.
        server: Option<String>,
    },
    /// There was no room for it on the server's disk, and nothing changed. Again later.
    #[error("the server has no room for it, and took nothing: {0}")]
    Full(String),
    /// Never sent: there was no connection. Again later.
    #[error("cannot reach the server: {0}")]
    Unreachable(String),
    /// Sent, and not answered as this API answers: it may have been done. Only the same bytes may
    /// be sent again.
    #[error("no answer that can be trusted, so the outcome is unknown: {0}")]
    Unknown(String),
    /// As [`CallError::Unknown`]: the server answers, and another that it had to ask does not, or not in a way
    /// that can be used.
    #[error("{error}")]
    Elsewhere {
        /// Which, and that to ask again is safe, as the server says it.
        error: String,
        /// When something was heard of that one last.
        since: Option<Timestamp>,
    },
    /// As [`CallError::Unknown`]: something else answered, which says nothing of the server behind it.
    #[error(
        "no answer that can be trusted, so the outcome is unknown: HTTP {status} from {from}, and not \
         in the words of this API: is the URL right, and is the server behind it running?"
    )]
    Foreign {
        /// HTTP status.
        status: StatusCode,
        /// Scheme, host and port of who answered.
        from: String,
    },
}

impl CallError {
    /// Whether the same call may succeed later without anyone changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::RetryAfter { .. }
            | Self::Full(_)
            | Self::Unreachable(_)
            | Self::Unknown(_)
            | Self::Elsewhere { .. }
            | Self::Foreign { .. } => true,
            Self::Stale { .. } | Self::Refused { .. } => false,
        }
    }

    /// Whether this client's own server cannot be reached, or has no room.
    #[cfg(feature = "calls")]
    pub(crate) const fn is_own_away(&self) -> bool {
        matches!(
            self,
            Self::Full(_) | Self::Unreachable(_) | Self::Unknown(_) | Self::Foreign { .. }
        )
    }

    /// Whether it is another server's doing, which this client's own had to ask: what does not concern that one
    /// goes on.
    pub fn is_of_another(&self) -> bool {
        matches!(self, Self::Elsewhere { .. } | Self::RetryAfter { server: Some(_), .. })
    }

    /// Whether rows of a mailbox wait, and the stream ends before they are through.
    pub fn is_stuck(&self) -> bool {
        matches!(self, Self::Unreachable(why) if why.starts_with(STUCK))
    }

    /// Whether it is a refusal with this Matrix code.
    pub fn is_refusal(&self, code: &str) -> bool {
        matches!(self, Self::Refused { errcode, .. } if errcode == code)
    }
}

/// How [`CallError::is_stuck`] begins.
pub(super) const STUCK: &str = "the mailbox does not get on";

/// A time that a person waits.
fn in_words(ms: u64) -> String {
    let seconds = ms.div_ceil(1_000);
    match seconds {
        0..=120 => format!("{seconds} s"),
        121..=7_200 => format!("{} minutes", seconds.div_ceil(60)),
        _ => format!("{} hours", seconds.div_ceil(3_600)),
    }
}

/// Sends it; whatever was answered.
pub(super) async fn asked(request: RequestBuilder) -> Result<Response, CallError> {
    request.send().await.map_err(|e| {
        if e.is_connect() || e.is_builder() {
            CallError::Unreachable(not_sent(&e))
        } else {
            CallError::Unknown(chain(&e.without_url()))
        }
    })
}

/// Sends it, and sorts the ends that are not a success.
pub(super) async fn sent(request: RequestBuilder) -> Result<Response, CallError> {
    let answer = asked(request).await?;
    let status = answer.status();
    if status.is_success() { Ok(answer) } else { Err(refusal(status, answer).await) }
}

pub(super) async fn answer<A: DeserializeOwned>(answer: Response) -> Result<A, CallError> {
    let bytes = body(answer, MAX_ANSWER_BYTES).await?;
    causeway_protocol::json::from_slice(&bytes)
        .map_err(|e| CallError::Unknown(format!("the answer is not what this API answers: {e}")))
}

pub(super) async fn body(mut answer: Response, max_bytes: usize) -> Result<Vec<u8>, CallError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(broken_off)? {
        if bytes.len() + chunk.len() > max_bytes {
            return Err(CallError::Unknown(format!("the answer is longer than {max_bytes} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

pub(super) fn broken_off(error: reqwest::Error) -> CallError {
    CallError::Unknown(chain(&error.without_url()))
}

pub(super) async fn refusal(status: StatusCode, answer: Response) -> CallError {
    let wait = retry_after_ms(&answer);
    let from = answer.url().origin().ascii_serialization();
    let body = body(answer, MAX_ANSWER_BYTES).await.ok();
    let error = body.and_then(|bytes| serde_json::from_slice::<ErrorBody>(&bytes).ok());
    match (status, error) {
        (StatusCode::TOO_MANY_REQUESTS, said) => {
            let server = said.as_ref().and_then(|said| said.server.clone());
            let (said, text) = said.map(|said| (said.retry_after_ms, said.error)).unzip();
            let ms = said.flatten().or(wait).unwrap_or(1_000).min(LONGEST_REST_MS);
            let error = text.unwrap_or_else(|| "too much at once".to_owned());
            CallError::RetryAfter { ms, error, server }
        }
        // Of a server of ours only: a gateway whose own disk is full knows nothing of what was done.
        (StatusCode::INSUFFICIENT_STORAGE, Some(said)) => CallError::Full(said.error),
        (StatusCode::REQUEST_TIMEOUT, _) => CallError::Unknown(format!("HTTP {status}")),
        (StatusCode::GATEWAY_TIMEOUT, Some(said)) if said.errcode == UNREACHABLE => {
            CallError::Elsewhere { error: said.error, since: said.since_ms }
        }
        (StatusCode::BAD_GATEWAY, Some(said)) if said.errcode == BAD_ANSWER => {
            CallError::Elsewhere { error: said.error, since: None }
        }
        // A refusal in its own words, and not a fault.
        (StatusCode::SERVICE_UNAVAILABLE, Some(said))
            if said.errcode == "DEV_CAUSEWAY_SFU_UNAVAILABLE" =>
        {
            refused(status, said)
        }
        (status, Some(said)) if status.is_server_error() => {
            CallError::Unknown(format!("HTTP {status} from {from}: {}", said.error))
        }
        (_, Some(ErrorBody { epoch: Some(epoch), ops, errcode, .. }))
            if errcode == "M_STALE_EPOCH" =>
        {
            CallError::Stale { epoch, ops: ops.unwrap_or_default() }
        }
        (status, Some(error)) => refused(status, error),
        // Whoever says it has looked at the size and at nothing else.
        (StatusCode::PAYLOAD_TOO_LARGE, None) => CallError::Refused {
            status: status.as_u16(),
            errcode: "M_TOO_LARGE".to_owned(),
            error: format!("HTTP {status}, by whoever stands before the server"),
            taken: Vec::new(),
        },
        (status, None) => CallError::Foreign { status, from },
    }
}

fn refused(status: StatusCode, said: ErrorBody) -> CallError {
    let error = match said.server {
        Some(server) => format!("{server} says: {}", said.error),
        None => said.error,
    };
    CallError::Refused {
        status: status.as_u16(),
        errcode: said.errcode,
        error,
        taken: said.accepted.into_iter().map(|one| one.id).collect(),
    }
}

/// Whole seconds are what is written here; dates are not worth a parser.
fn retry_after_ms(answer: &Response) -> Option<u64> {
    let seconds = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    seconds.parse::<u64>().ok().map(|s| s.saturating_mul(1_000))
}

/// Where nobody was, and the innermost cause: what lies between says how the libraries are made.
pub(super) fn not_sent(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let server = error.url().map(|url| url.origin().ascii_serialization());
    server.map_or_else(|| cause.to_string(), |server| format!("{server}: {cause}"))
}

/// An error and its causes in one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    let mut said: Vec<String> = causes.map(ToString::to_string).collect();
    said.dedup();
    said.join(": ")
}
