//! What lets a participant into servers for calls: the home's own, or the one that another focus leads to.

use causeway_protocol::{
    api::{AskSfu, CallSfus},
    ids::CallId,
};

use super::{
    CallError, Of,
    abroad::{Abroad, abroad},
    sfu::sfu,
};
use crate::{gateway::livekit::LiveKit, quota::CallShares, services::servers::Servers};

/// What lets the caller's device in where it asks to go.
pub(crate) async fn access(
    of: Of<'_>,
    shares: &CallShares,
    (livekit, abroad_by): (Option<&LiveKit>, (&Abroad, &Servers)),
    (call, asked): (CallId, &AskSfu),
) -> Result<CallSfus, CallError> {
    match asked.focus.as_deref() {
        Some(focus) => abroad(of, shares, abroad_by, (call, asked.epoch, focus)).await,
        None => sfu(of, shares, livekit, (call, asked)).await,
    }
}
