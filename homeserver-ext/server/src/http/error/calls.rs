//! Refusals about calls.

use axum::http::StatusCode;
use causeway_protocol::{
    api::CallState,
    call::{Refused, Who},
    ids::DeviceId,
};

use super::ApiError;
use crate::services::calls::{CallError, GuestError};

/// When one of those who are awaited has come, or is not awaited any more, milliseconds.
const AWAITED_MS: u64 = 30_000;

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::UnknownGroup | CallError::Unknown => Self::not_found(error),
            CallError::OtherServer(_)
            | CallError::Closed
            | CallError::MayNotEnd
            | CallError::MayNotRule => Self::forbidden(error),
            CallError::TooManyNamed | CallError::NoEmoji | CallError::Taken => Self::invalid(error),
            CallError::Sfu(error) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "DEV_CAUSEWAY_SFU_UNAVAILABLE", error)
            }
            CallError::Abroad(_) => {
                let away = StatusCode::SERVICE_UNAVAILABLE;
                Self::new(away, "DEV_CAUSEWAY_SFU_UNAVAILABLE", error)
            }
            CallError::NotThere => Self::new(StatusCode::CONFLICT, "DEV_CAUSEWAY_NO_NEED", error),
            CallError::Exists(ref state) => {
                with(StatusCode::CONFLICT, "DEV_CAUSEWAY_CALL_EXISTS", &error, state.clone())
            }
            CallError::Refused(refused, state) => of(&refused, state),
            CallError::TooOften(too_often) => Self::later(error, too_often.again_ms()),
            CallError::UsedUp(used_up) => Self::later(error, used_up.again_ms),
            CallError::Storage(error) => error.into(),
        }
    }
}

impl From<GuestError> for ApiError {
    fn from(error: GuestError) -> Self {
        let away = StatusCode::SERVICE_UNAVAILABLE;
        match error {
            GuestError::Away => Self::new(away, "DEV_CAUSEWAY_SFU_UNAVAILABLE", error),
            GuestError::Refused(Refused::SfuUnavailable(..)) => {
                Self::new(away, "DEV_CAUSEWAY_SFU_UNAVAILABLE", error)
            }
            GuestError::Refused(refused @ Refused::TooManyExpected(_)) => {
                Self::later(refused, AWAITED_MS)
            }
            GuestError::Refused(_) | GuestError::NotBridged | GuestError::Kicked(_) => {
                Self::forbidden(error)
            }
            GuestError::TooOften(too_often) => Self::later(error, too_often.again_ms()),
            GuestError::Name => Self::invalid(error),
            GuestError::Storage(error) => error.into(),
        }
    }
}

/// What the rules of calls refuse.
fn of(refused: &Refused, state: Box<CallState>) -> ApiError {
    match refused {
        Refused::NotInCall => ApiError::forbidden(refused),
        Refused::StaleEpoch(..) => {
            with(StatusCode::CONFLICT, "DEV_CAUSEWAY_STALE_EPOCH", refused, state)
        }
        Refused::Ended => with(StatusCode::GONE, "DEV_CAUSEWAY_CALL_ENDED", refused, state),
        Refused::SfuUnavailable(max, again_ms) => {
            let (status, code) = (StatusCode::SERVICE_UNAVAILABLE, "DEV_CAUSEWAY_SFU_UNAVAILABLE");
            let mut refusal = ApiError::new(status, code, refused);
            refusal.body.max = u32::try_from(*max).ok();
            refusal.body.retry_after_ms = Some(*again_ms);
            refusal
        }
        Refused::CannotUseSfu(those) => {
            let mut refusal =
                ApiError::new(StatusCode::CONFLICT, "DEV_CAUSEWAY_CANNOT_USE_SFU", refused);
            refusal.body.who = those.iter().filter_map(native).collect();
            refusal
        }
        Refused::Full(_) => ApiError::limit(refused),
        Refused::TooManyExpected(_) => ApiError::later(refused, AWAITED_MS),
        Refused::NoNeed | Refused::NoMesh(_) => {
            ApiError::new(StatusCode::CONFLICT, "DEV_CAUSEWAY_NO_NEED", refused)
        }
    }
}

fn with(
    status: StatusCode,
    code: &'static str,
    error: impl std::fmt::Display,
    state: Box<CallState>,
) -> ApiError {
    let mut refusal = ApiError::new(status, code, error);
    refusal.body.call = Some(state);
    refusal
}

const fn native(who: &Who) -> Option<DeviceId> {
    match who {
        Who::Native(device) => Some(*device),
        Who::Matrix(..) => None,
    }
}
