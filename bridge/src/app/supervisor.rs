//! What systemd is told (`sd_notify(3)`); without it, nothing is told to anybody.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use sd_notify::NotifyState;

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// Whether [`ready`] was said: before that a reload is a part of the start.
static IS_READY: AtomicBool = AtomicBool::new(false);

/// Both listeners serve. That the homeserver is away keeps no start waiting.
pub(super) fn ready() {
    IS_READY.store(true, Ordering::Relaxed);
    tell(&[NotifyState::Ready]);
}

/// The configuration was read again.
pub(super) fn reloaded() {
    if IS_READY.load(Ordering::Relaxed) {
        tell(&[NotifyState::Ready]);
    }
}

/// The configuration is being read again; [`reloaded`] when it was.
pub(super) fn reloading() {
    if !IS_READY.load(Ordering::Relaxed) {
        return;
    }
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The process is ending.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says that the runtime lives, as often as systemd wants to hear it; for ever.
pub(super) async fn keep_alive() {
    let Some(longest) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let every = (longest / 3).max(Duration::from_millis(100));
    loop {
        tell(&[NotifyState::Watchdog]);
        tokio::time::sleep(every).await;
    }
}
