//! What systemd is told (`sd_notify(3)`); without it, nothing is told to anybody.

use std::time::Duration;

use sd_notify::NotifyState;

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// Both listeners serve. That the homeserver is away keeps no start waiting.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being read again; [`ready`] when it was.
pub(super) fn reloading() {
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
