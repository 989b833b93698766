//! How long to wait before trying again: full jitter, so that a thousand clients that lost one
//! server do not come back at one moment.

use std::time::Duration;

use super::call::CallError;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// Failures in a row that are sat out where a person waits for the end.
const TRIES: usize = 5;
/// The longest wait that a server may ask for there.
const PATIENCE_MS: u64 = 5_000;

/// Counts failures in a row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed: how long to wait, anything between nothing and a bound that doubles each time.
    pub fn failed(&mut self) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(fraction())
    }
}

/// Makes a call that may be made again with the same bytes, through a few lost answers.
///
/// # Errors
/// The last; one that never reached a server at once, since there is nobody to be waited for, and so one for
/// which the server has waited itself.
pub(super) async fn insistently<A>(
    mut call: impl AsyncFnMut() -> Result<A, CallError>,
) -> Result<A, CallError> {
    let mut backoff = Backoff::default();
    for _ in 1..TRIES {
        let wait = match call().await {
            Err(CallError::Unknown(_) | CallError::Foreign { .. }) => backoff.failed(),
            Err(CallError::RetryAfter { ms, .. }) if ms <= PATIENCE_MS => Duration::from_millis(ms),
            ended => return ended,
        };
        tokio::time::sleep(wait).await;
    }
    call().await
}

/// Anything from 0 up to 1; without entropy the whole wait, which is only less polite.
fn fraction() -> f64 {
    getrandom::u32().map_or(1.0, |random| f64::from(random) / (f64::from(u32::MAX) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_wait_is_longer_than_its_bound() {
        let mut backoff = Backoff::default();
        let mut bound = FIRST;
        for _ in 0..40 {
            assert!(backoff.failed() <= bound);
            bound = (bound * 2).min(LONGEST);
        }
        backoff.reset();
        assert!(backoff.failed() <= FIRST);
    }
}
