//! Asking for the server for bigger calls, where there is no way to another device: one request at a
//! time, not for ever, and beside everything else that is asked.

use std::{collections::BTreeSet, time::Duration};

use causeway_protocol::{
    api::{CallState, CallTopology},
    ids::{CallId, DeviceId, GroupId},
};
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::asking::{running, within};
use crate::sdk::{CallError, Client};

/// After this it may be asked for again: the home gives each two as long as they give themselves, and
/// may have begun to count later.
const AGAIN: Duration = Duration::from_secs(5);
/// After this where the server is not there.
const AWAY: Duration = Duration::from_secs(30);
/// How often it is asked for while the others are not heard.
const MOST: u8 = 8;

/// With whom all were to move, and what the home says.
pub(super) type Moved = (DeviceId, Result<CallState, CallError>);

/// To whom there was no way, and what is done about it.
pub(super) struct Moving {
    failed: BTreeSet<DeviceId>,
    going: Option<BoxFuture<'static, Moved>>,
    at: Instant,
    tries: u8,
    /// Whether it was told why all do not move.
    is_told: bool,
}

impl Moving {
    pub(super) fn new() -> Self {
        Self { failed: BTreeSet::new(), going: None, at: Instant::now(), tries: 0, is_told: false }
    }

    pub(super) fn failed(&mut self, device: DeviceId) {
        self.failed.insert(device);
    }

    pub(super) fn connected(&mut self, device: DeviceId) {
        self.failed.remove(&device);
    }

    /// Whoever left need not be reached, and what a server carries needs no way.
    pub(super) fn hear(&mut self, state: &CallState) {
        if state.topology == CallTopology::Mesh {
            self.failed.retain(|device| state.natives().any(|it| it.device == *device));
        } else {
            self.failed.clear();
        }
        if self.failed.is_empty() {
            (self.tries, self.is_told) = (0, false);
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let is_wanted = !self.failed.is_empty() && self.tries < MOST && self.going.is_none();
        is_wanted.then_some(self.at)
    }

    /// Asks, where that is due.
    pub(super) fn ask(&mut self, client: &Client, call: (GroupId, CallId)) {
        let (Some(with), true) =
            (self.failed.first().copied(), self.due().is_some_and(|at| at <= Instant::now()))
        else {
            return;
        };
        (self.at, self.tries) = (Instant::now() + AGAIN, self.tries + 1);
        let client = client.clone();
        self.going =
            Some(Box::pin(
                async move { (with, within(client.http().move_call(call, with)).await) },
            ));
    }

    /// What came of it; nothing is lost when this is given up.
    pub(super) async fn next(&mut self) -> Moved {
        let moved = running(self.going.as_mut()).await;
        self.going = None;
        moved
    }

    /// It was refused; the words of that, where they are to be shown: once, and not those that only say
    /// that it is too early.
    pub(super) fn refused(&mut self, error: &CallError) -> Option<String> {
        if let CallError::RetryAfter { ms, .. } = error {
            self.at = Instant::now() + Duration::from_millis(*ms);
        }
        if error.is_transient() {
            return None;
        }
        if error.is_refusal("DEV_CAUSEWAY_NO_NEED") && self.tries < MOST {
            return None;
        }
        if error.is_refusal("DEV_CAUSEWAY_SFU_UNAVAILABLE") {
            self.at = Instant::now() + AWAY;
        } else {
            // It will be no other.
            self.tries = MOST;
        }
        (!std::mem::replace(&mut self.is_told, true)).then(|| match error {
            CallError::Refused { error, .. } => error.clone(),
            other => other.to_string(),
        })
    }
}
