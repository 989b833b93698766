//! What the mailbox tells of calls, and what devices of a call tell each other: for whoever shows calls, or
//! takes part. Nothing of it is kept on disk, since a call that was not heard of within a minute is asked
//! for anew, and a connection that did not come about is begun anew.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use causeway_protocol::{
    api::CallState,
    ids::{DeviceId, GroupId},
    olm_plaintext::CallSignal,
};
use tokio::sync::Notify;

use super::{CallError, Client, SdkError};
use crate::machine::{Signalled, Signalling};

/// States that wait to be asked for, and signals; beyond, the oldest gives way. A newer state says more,
/// and who lacks a signal begins anew.
const MAX_STATES: usize = 256;
const MAX_SIGNALS: usize = 512;
/// How often what is to be told is sealed anew because the group moved on, or keys were missing.
const TRIES: usize = 4;

/// States of calls and signals of their devices, in the order in which they came. A clone is another
/// handle of the same.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: Mutex<Waiting>,
    heard: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    states: VecDeque<CallState>,
    signals: VecDeque<Signalled>,
}

/// Why a device was not told something.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// It is not in the group, is not who it is called, or has no key.
    #[error("that device cannot be told anything about a call of this group")]
    Nobody,
    /// The group kept moving on, or keys kept being missing: try again.
    #[error("the group kept changing; nothing was told")]
    Contended,
    /// The server, the way to it, or the database.
    #[error(transparent)]
    Sdk(#[from] SdkError),
}

impl Calls {
    pub(super) fn put(&self, states: Vec<CallState>, signals: Vec<Signalled>) {
        if states.is_empty() && signals.is_empty() {
            return;
        }
        let mut waiting = self.waiting();
        add(&mut waiting.states, states, MAX_STATES);
        add(&mut waiting.signals, signals, MAX_SIGNALS);
        drop(waiting);
        self.0.heard.notify_one();
    }

    /// States that came since this was asked last; one of a lower version than one before is old.
    pub fn take(&self) -> Vec<CallState> {
        self.waiting().states.drain(..).collect()
    }

    /// Signals that came since this was asked last. Who said one counts in the group; whether he takes
    /// part, and in which epoch of the call he said it, is to be looked at.
    pub fn take_signals(&self) -> Vec<Signalled> {
        self.waiting().signals.drain(..).collect()
    }

    /// Returns when something came since the last time; for one at a time.
    pub async fn heard(&self) {
        self.0.heard.notified().await;
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add<T>(to: &mut VecDeque<T>, new: Vec<T>, most: usize) {
    to.extend(new);
    let beyond = to.len().saturating_sub(most);
    to.drain(..beyond);
}

impl Client {
    /// What was told of calls.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Tells one device of a group's call something, over Olm. It is not kept: who does not know whether
    /// it arrived says it again, or something newer.
    ///
    /// # Errors
    /// [`SignalError`]
    pub async fn signal(
        &self,
        group: GroupId,
        to: DeviceId,
        signal: &CallSignal,
    ) -> Result<(), SignalError> {
        self.compare().await?;
        for _ in 0..TRIES {
            match self.seal_signal((group, to), signal).await? {
                Signalling::Nobody => return Err(SignalError::Nobody),
                Signalling::Unprepared(needs) => self.provide(needs).await?,
                Signalling::Sealed(batch) => match self.post_once(&batch).await {
                    Ok(_) => return Ok(()),
                    Err(SdkError::Call(CallError::Stale { .. })) => {
                        self.sync_group(group).await.map(drop)?
                    }
                    Err(error) => return Err(error.into()),
                },
            }
        }
        Err(SignalError::Contended)
    }

    async fn seal_signal(
        &self,
        to: (GroupId, DeviceId),
        signal: &CallSignal,
    ) -> Result<Signalling, SdkError> {
        let mut tx = self.db.begin().await?;
        let sealed = self.machine.seal_signal(&mut tx, self.now(), to, signal).await?;
        tx.commit().await?;
        Ok(sealed)
    }
}
