//! The one place where an error becomes a status and a code.
//!
//! What is the caller's fault says what was expected; what is ours is logged with a number, and the
//! caller gets the number only.

mod calls;

use std::{
    any::Any,
    sync::atomic::{AtomicU64, Ordering},
};

use axum::{
    Json,
    http::{StatusCode, Uri, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use causeway_protocol::{
    api::ErrorBody, envelope::BadEnvelope, invite::JoinRefused, posting::BadPosting,
};

use crate::{
    quota::UsedUp,
    services::{
        Behind,
        accounts::{LoginError, RegisterError},
        delivery::parked::UnparkError,
        device_lists::PutDevicesError,
        groups::PostOpError,
        invites::{InviteError, JoinError},
        kept::KeptError,
        keys::{ClaimError, UploadError},
        links::LinkError,
        relay::{PostError, Refused},
        sender_keys::SenderKeysError,
        servers::AskError,
    },
    storage,
};

/// What a flood of asks has to wait at most; who was asked once in an hour says more.
const MOMENT_MS: u64 = 5_000;

/// A refusal, ready to be answered.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    body: Box<ErrorBody>,
}

impl ApiError {
    pub(super) fn new(
        status: StatusCode,
        errcode: &'static str,
        error: impl std::fmt::Display,
    ) -> Self {
        let body = ErrorBody {
            errcode: errcode.to_owned(),
            error: error.to_string(),
            retry_after_ms: None,
            epoch: None,
            ops: None,
            server: None,
            since_ms: None,
            call: None,
            max: None,
            who: Vec::new(),
            accepted: Vec::new(),
        };
        Self { status, body: Box::new(body) }
    }

    pub(super) fn bad(errcode: &'static str, error: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, errcode, error)
    }

    pub(super) fn invalid(error: impl std::fmt::Display) -> Self {
        Self::bad("M_INVALID_PARAM", error)
    }

    pub(super) fn forbidden(error: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, "M_FORBIDDEN", error)
    }

    pub(super) fn not_found(error: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", error)
    }

    pub(super) fn too_large(error: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", error)
    }

    pub(super) fn later(error: impl std::fmt::Display, ms: u64) -> Self {
        let mut refusal = Self::new(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", error);
        refusal.body.retry_after_ms = Some(ms);
        refusal
    }

    /// As many as one may have: waiting changes nothing.
    fn limit(error: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::FORBIDDEN, "M_RESOURCE_LIMIT_EXCEEDED", error)
    }

    fn behind(error: impl std::fmt::Display, behind: Behind) -> Self {
        let mut refusal = Self::new(StatusCode::CONFLICT, "M_STALE_EPOCH", error);
        refusal.body.epoch = Some(behind.epoch);
        refusal.body.ops = Some(behind.ops);
        refusal
    }

    fn gone(errcode: &'static str, error: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::GONE, errcode, error)
    }

    /// What `server` answered to the same request.
    pub(super) fn as_there(server: &str, status: StatusCode, mut body: ErrorBody) -> Self {
        body.server = Some(server.to_owned());
        Self { status, body: Box::new(body) }
    }

    /// What `server` answered cannot be used.
    pub(super) fn bad_answer(server: &str, error: impl std::fmt::Display) -> Self {
        let mut refusal = Self::new(StatusCode::BAD_GATEWAY, "DEV_CAUSEWAY_BAD_ANSWER", error);
        refusal.body.server = Some(server.to_owned());
        refusal
    }

    /// Whether it is a limit that waiting a moment does not open.
    pub(super) fn is_for_long(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS
            && self.body.retry_after_ms.is_some_and(|ms| ms > MOMENT_MS)
    }

    /// What another server is answered that asked.
    pub(super) fn into_parts(self) -> (StatusCode, ErrorBody) {
        (self.status, *self.body)
    }

    /// Something of ours: logged with its causes, not told.
    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        Self::unknown(logged(error))
    }

    fn unknown(number: u64) -> Self {
        let text = format!("internal error {number}; the server's log says more");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", text)
    }
}

/// Logs something of ours with its causes, under the number that it returns.
pub(super) fn logged(error: &dyn std::error::Error) -> u64 {
    let number = next_number();
    let causes = std::iter::successors(Some(error), |error| error.source());
    let chain: Vec<String> = causes.map(ToString::to_string).collect();
    tracing::error!(number, error = chain.join(": "), "a request failed");
    number
}

/// Numbers the faults of this process, so that a report can be found in the log.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, errcode) = (self.status.as_str().to_owned(), self.body.errcode.clone());
        metrics::counter!("causeway_refused_total", "status" => status, "errcode" => errcode)
            .increment(1);
        // Whole seconds; who reads the body knows it more exactly.
        let seconds = self.body.retry_after_ms.map(|ms| ms.div_ceil(1_000).to_string());
        let retry_after = seconds.map(|seconds| [(RETRY_AFTER, seconds)]);
        (self.status, retry_after, Json(self.body)).into_response()
    }
}

/// No such path.
pub(super) async fn unrecognized(uri: Uri) -> ApiError {
    let text = format!("there is no {}", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", text)
}

/// The path is there, and does not take this.
pub(super) async fn method_not_allowed() -> ApiError {
    let text = "this path does not take this method";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", text)
}

/// A fault in the code ends one request, not the process.
#[expect(clippy::needless_pass_by_value, reason = "what the layer calls")]
pub(super) fn after_panic(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let number = next_number();
    tracing::error!(number, panic = text, "a request panicked");
    ApiError::unknown(number).into_response()
}

impl From<UsedUp> for ApiError {
    fn from(used_up: UsedUp) -> Self {
        Self::later(used_up, used_up.again_ms)
    }
}

impl From<storage::Error> for ApiError {
    fn from(error: storage::Error) -> Self {
        match error {
            // Said in the log when it began.
            storage::Error::Store(error @ causeway_store::Error::Full) => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "M_RESOURCE_LIMIT_EXCEEDED", error)
            }
            error => Self::internal(&error),
        }
    }
}

impl From<RegisterError> for ApiError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Closed | RegisterError::Token => Self::forbidden(error),
            RegisterError::Reserved(_) => Self::bad("M_EXCLUSIVE", error),
            RegisterError::Taken => Self::bad("M_USER_IN_USE", error),
            RegisterError::OtherServer(..)
            | RegisterError::FirstList
            | RegisterError::Untrusted(_)
            | RegisterError::Keys(_) => Self::invalid(error),
            RegisterError::Storage(error) => error.into(),
        }
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Nonce | LoginError::Device | LoginError::Identity => Self::forbidden(error),
            LoginError::Unlisted => {
                Self::new(StatusCode::FORBIDDEN, "DEV_CAUSEWAY_UNLISTED", error)
            }
            LoginError::Storage(error) => error.into(),
        }
    }
}

impl From<PutDevicesError> for ApiError {
    fn from(error: PutDevicesError) -> Self {
        match error {
            PutDevicesError::NotYours => Self::forbidden(error),
            PutDevicesError::Untrusted(_) => Self::invalid(error),
            PutDevicesError::Version(..) => {
                Self::new(StatusCode::CONFLICT, "DEV_CAUSEWAY_OLD_VERSION", error)
            }
            PutDevicesError::Taken => Self::bad("M_USER_IN_USE", error),
            PutDevicesError::UsedUp(used_up) => Self::later(error, used_up.again_ms),
            PutDevicesError::TooMany(_) => Self::limit(error),
            PutDevicesError::Storage(error) => error.into(),
        }
    }
}

impl From<UploadError> for ApiError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Untrusted(_) | UploadError::Fallback => Self::invalid(error),
            UploadError::TooMany => Self::too_large(error),
            UploadError::UsedUp(used_up) => Self::later(error, used_up.again_ms),
            UploadError::Storage(error) => error.into(),
        }
    }
}

impl From<ClaimError> for ApiError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::TooMany(_) => Self::too_large(error),
            ClaimError::UsedUp(used_up) => Self::later(error, used_up.again_ms),
            ClaimError::Storage(error) => error.into(),
        }
    }
}

impl From<LinkError> for ApiError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Unknown => Self::not_found(error),
            LinkError::Other(_) => {
                Self::new(StatusCode::CONFLICT, "DEV_CAUSEWAY_LINK_TAKEN", error)
            }
            LinkError::TooLarge(_) => Self::too_large(error),
            LinkError::TooMany => Self::limit(error),
            LinkError::Full(ms) => Self::later(error, ms),
        }
    }
}

impl From<KeptError> for ApiError {
    fn from(error: KeptError) -> Self {
        match error {
            KeptError::NotTheBridge => Self::forbidden(error),
            KeptError::Storage(error) => error.into(),
        }
    }
}

impl From<UnparkError> for ApiError {
    fn from(error: UnparkError) -> Self {
        match error {
            UnparkError::TooMany(_) => Self::too_large(error),
            UnparkError::UsedUp(used_up) => used_up.into(),
            UnparkError::Storage(error) => error.into(),
        }
    }
}

impl From<PostOpError> for ApiError {
    fn from(error: PostOpError) -> Self {
        match error {
            PostOpError::Invalid(_) => Self::bad("DEV_CAUSEWAY_INVALID_OP", error),
            PostOpError::Behind(ref what) => Self::behind(&error, what.clone()),
            PostOpError::Unknown => Self::not_found(error),
            PostOpError::OtherServer(_) | PostOpError::TooManyServers(_) => Self::forbidden(error),
            PostOpError::UsedUp(used_up) => Self::later(error, used_up.again_ms),
            PostOpError::TooMany(_) => Self::limit(error),
            PostOpError::Devices(_) => Self::invalid(error),
            PostOpError::Moves(_) => Self::too_large(error),
            PostOpError::Unregistered(_) => Self::bad("DEV_CAUSEWAY_UNREGISTERED", error),
            PostOpError::Storage(error) => error.into(),
        }
    }
}

impl From<InviteError> for ApiError {
    fn from(error: InviteError) -> Self {
        match error {
            InviteError::UnknownGroup | InviteError::UnknownInvite => Self::not_found(error),
            InviteError::MayNotAdd => Self::forbidden(error),
            InviteError::Bad(_) => Self::invalid(error),
            InviteError::TooMany(_) => Self::limit(error),
            InviteError::UsedUp(used_up) => Self::later(error, used_up.again_ms),
            InviteError::Storage(error) => error.into(),
        }
    }
}

impl From<JoinError> for ApiError {
    fn from(error: JoinError) -> Self {
        match error {
            // The same for all who have not shown that they hold the link.
            JoinError::Refused(reason) if !reason.may_be_told() => {
                Self::not_found("no such group, or no invite to it with this key")
            }
            JoinError::Refused(JoinRefused::Expired) => Self::gone("DEV_CAUSEWAY_EXPIRED", error),
            JoinError::Refused(JoinRefused::Revoked) => Self::gone("DEV_CAUSEWAY_REVOKED", error),
            JoinError::Refused(JoinRefused::Used) => Self::gone("DEV_CAUSEWAY_USED", error),
            JoinError::Closed => Self::gone("DEV_CAUSEWAY_CLOSED", error),
            JoinError::Refused(_) => Self::bad("DEV_CAUSEWAY_BAD_REQUEST", error),
            JoinError::NotYours | JoinError::TooManyServers(_) => Self::forbidden(error),
            JoinError::UsedUp(used_up) => Self::later(error, used_up.again_ms),
            JoinError::Member => {
                Self::new(StatusCode::CONFLICT, "DEV_CAUSEWAY_ALREADY_MEMBER", error)
            }
            JoinError::Storage(error) => error.into(),
        }
    }
}

impl From<PostError> for ApiError {
    fn from(error: PostError) -> Self {
        match error {
            PostError::Bad(_, BadEnvelope::TooLarge(..))
            | PostError::TooMany(_)
            | PostError::Form(BadPosting::TooMany) => Self::too_large(error),
            PostError::Bad(..) | PostError::Form(_) => Self::invalid(error),
            PostError::OtherRoster(_, head) => {
                let mut refusal =
                    Self::new(StatusCode::CONFLICT, "DEV_CAUSEWAY_OTHER_ROSTER", error);
                refusal.body.epoch = Some(head);
                refusal
            }
            PostError::NotYours(_)
            | PostError::NotCounting(_)
            | PostError::Closed
            | PostError::StaleKey => Self::forbidden(error),
            PostError::Unknown => Self::not_found(error),
            PostError::Behind(ref what) => Self::behind(&error, what.clone()),
            PostError::UsedUp(used_up) => Self::later(error, used_up.again_ms),
            PostError::Storage(error) => error.into(),
        }
    }
}

impl From<Refused> for ApiError {
    fn from(Refused { why, taken }: Refused) -> Self {
        let mut refusal = Self::from(why);
        refusal.body.accepted = taken;
        refusal
    }
}

impl From<SenderKeysError> for ApiError {
    fn from(error: SenderKeysError) -> Self {
        match error {
            SenderKeysError::Unknown => Self::not_found(error),
            SenderKeysError::NotAdmin => Self::forbidden(error),
            SenderKeysError::TooSoon(ms) => Self::later(error, ms),
            SenderKeysError::Bad | SenderKeysError::NoKeys => Self::invalid(error),
            SenderKeysError::UsedUp(used_up) => Self::later(error, used_up.again_ms),
            SenderKeysError::Storage(error) => error.into(),
        }
    }
}

impl From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::NoDoor(_) => Self::not_found(error),
            AskError::Denied(ref server) => {
                let mut refusal = Self::forbidden(&error);
                refusal.body.server = Some(server.clone());
                refusal
            }
            AskError::Unreachable { ref server, since }
            | AskError::Paused { ref server, since } => {
                let code = "DEV_CAUSEWAY_UNREACHABLE";
                let mut refusal = Self::new(StatusCode::GATEWAY_TIMEOUT, code, &error);
                refusal.body.server = Some(server.clone());
                refusal.body.since_ms = Some(since);
                refusal
            }
            AskError::TooLarge { .. } => Self::too_large(error),
            AskError::TooMuch(ms) => Self::later(error, ms),
            AskError::Storage(error) => error.into(),
            AskError::Entropy(error) => Self::internal(&error),
        }
    }
}
