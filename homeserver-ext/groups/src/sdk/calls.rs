//! What the mailbox tells of calls, and what devices of a call tell each other: for whoever shows calls, or
//! takes part. Nothing of it is kept on disk, since a call that was not heard of within a minute is asked
//! for anew, and a connection that did not come about is begun anew.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use causeway_protocol::{
    api::CallState,
    ids::{DeviceId, GroupId},
    olm_plaintext::CallSignal,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{CallError, Client, SdkError, backoff::Backoff};
use crate::machine::{Batch, Received, Signalled, Signalling, What};

/// States that wait to be shown; beyond, the oldest gives way, and a newer one says more.
const MAX_STATES: usize = 256;
/// News that wait for one who takes part; beyond, what comes is left out: who lacks a signal begins anew,
/// and a state is asked for now and then.
const MAX_NEWS: usize = 512;
/// How often what is to be told is sealed anew because the group moved on, or keys were missing.
const TRIES: usize = 4;
/// How long a server that does not answer is asked: the other side gives a connection 30 s.
pub(crate) const INSISTS: Duration = Duration::from_secs(20);

/// What the mailbox has brought of calls. A clone is another handle of the same.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    states: VecDeque<CallState>,
    attending: Vec<(GroupId, mpsc::Sender<News>)>,
}

/// What one who takes part in a call hears of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// How a call of the group stands; one of a lower version than one before is old.
    State(Box<CallState>),
    /// What a device said. It counts in the group; whether it takes part, and in which epoch of the call
    /// it said that, is to be looked at.
    Signal(Signalled),
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

#[cfg(feature = "calls")]
impl SignalError {
    /// Whether this device's own server cannot be reached, or takes nothing.
    pub(crate) fn is_away(&self) -> bool {
        let Self::Sdk(SdkError::Call(error)) = self else { return false };
        error.is_own_away()
    }

    /// How long this device's own server asks to be left alone, if it does.
    pub(crate) fn asked_to_wait(&self) -> Option<Duration> {
        match self {
            Self::Sdk(SdkError::Call(CallError::RetryAfter { ms, server: None, .. })) => {
                Some(Duration::from_millis(*ms))
            }
            Self::Nobody | Self::Contended | Self::Sdk(_) => None,
        }
    }
}

impl Calls {
    pub(super) fn put(&self, states: Vec<CallState>, signals: Vec<Signalled>) {
        if states.is_empty() && signals.is_empty() {
            return;
        }
        let mut waiting = self.waiting();
        let news = states.iter().map(|state| (state.group, News::State(Box::new(state.clone()))));
        let signals = signals.into_iter().map(|signal| (signal.group, News::Signal(signal)));
        for (group, news) in news.chain(signals) {
            for (_, to) in waiting.attending.iter().filter(|(of, _)| *of == group) {
                to.try_send(news.clone()).ok();
            }
        }
        waiting.states.extend(states);
        let beyond = waiting.states.len().saturating_sub(MAX_STATES);
        waiting.states.drain(..beyond);
    }

    /// States that came since this was asked last; one of a lower version than one before is old.
    pub fn take(&self) -> Vec<CallState> {
        self.waiting().states.drain(..).collect()
    }

    /// From now on, what comes of this group's calls, in the order in which it comes: for who takes part.
    pub fn attend(&self, group: GroupId) -> mpsc::Receiver<News> {
        let (to, news) = mpsc::channel(MAX_NEWS);
        let mut waiting = self.waiting();
        waiting.attending.retain(|(_, to)| !to.is_closed());
        waiting.attending.push((group, to));
        news
    }

    /// Whether this device takes part in one.
    pub(super) fn is_attended(&self) -> bool {
        self.waiting().attending.iter().any(|(_, to)| !to.is_closed())
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be kept, and what devices of calls said, which is not.
pub(super) fn apart(received: Vec<Received>) -> (Vec<Received>, Vec<Signalled>) {
    let (mut kept, mut signals) = (Vec::with_capacity(received.len()), Vec::new());
    for one in received {
        match one.what {
            What::Signal(signalled) => signals.push(signalled),
            _ => kept.push(one),
        }
    }
    (kept, signals)
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
        self.signal_within(INSISTS, (group, to), signal, &mut None).await
    }

    /// As [`Client::signal`]; a server that does not answer is asked for so long. What is `sealed` is kept
    /// then, to be said as it is another time: each that is sealed anew takes a key of the Olm session.
    pub(crate) async fn signal_within(
        &self,
        insists: Duration,
        (group, to): (GroupId, DeviceId),
        signal: &CallSignal,
        sealed: &mut Option<Batch>,
    ) -> Result<(), SignalError> {
        self.compare().await?;
        for _ in 0..TRIES {
            let batch = match sealed.take() {
                Some(batch) => batch,
                None => match self.seal_signal((group, to), signal).await? {
                    Signalling::Nobody => return Err(SignalError::Nobody),
                    Signalling::Sealed(batch) => batch,
                    Signalling::Unprepared(needs) => {
                        self.provide(needs).await?;
                        continue;
                    }
                },
            };
            match self.post_signal(&batch, insists).await {
                Ok(()) => return Ok(()),
                Err(SdkError::Call(CallError::Stale { .. })) => self.sync_group(group).await?,
                Err(error) => {
                    *sealed = Some(batch);
                    return Err(error.into());
                }
            }
        }
        Err(SignalError::Contended)
    }

    /// As the same bytes until the server has them, so that nothing is said twice.
    async fn post_signal(&self, batch: &Batch, insists: Duration) -> Result<(), SdkError> {
        let (began, mut backoff) = (Instant::now(), Backoff::default());
        loop {
            let error = match self.post_once(batch).await {
                Err(SdkError::Call(error)) if error.is_transient() => error,
                ended => return ended.map(drop),
            };
            let (wait, most) = match error {
                // A server that asks to wait is there.
                CallError::RetryAfter { ms, .. } => (Duration::from_millis(ms), INSISTS),
                _ => (backoff.failed(), insists),
            };
            if Instant::now() + wait >= began + most {
                return Err(error.into());
            }
            sleep(wait).await;
        }
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
