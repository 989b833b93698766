//! How long another server is waited for: a person waits behind it.

use std::time::Duration;

use causeway_protocol::{ids::Timestamp, link::Call};

/// For what a message stands behind, which goes to all others without it. A frame that is lost each way, and goes
/// again after 5 s, is waited for.
const BEFORE_A_MESSAGE: Duration = Duration::from_secs(15);
/// The same of a server that takes nothing anyway: it may just have come back.
const OF_WHO_IS_SILENT: Duration = Duration::from_secs(2);
/// A frame that is lost goes again after 5 s, so who has taken nothing for longer is silent.
const SILENT_MS: u64 = 8_000;

/// How long the answer to `call` is waited for, of a server that is waited for `longest`.
pub(super) fn patience(call: Call, is_silent: bool, longest: Duration) -> Duration {
    match call {
        Call::Account | Call::Claim if is_silent => longest.min(OF_WHO_IS_SILENT),
        Call::Account | Call::Claim => longest.min(BEFORE_A_MESSAGE),
        Call::Ping
        | Call::Ops
        | Call::Op
        | Call::Join
        | Call::Invites
        | Call::Requests
        | Call::SenderKeys
        | Call::Events
        | Call::Calls => longest,
    }
}

/// Whether a server for which something has waited since then is silent.
pub(super) fn is_silent(waits_since: Option<Timestamp>, now: Timestamp) -> bool {
    waits_since.is_some_and(|since| now.0.saturating_sub(since.0) >= SILENT_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_message_stands_behind_is_waited_for_less_and_least_of_who_is_silent() {
        let rows = [
            (Call::Claim, false, 30, 15),
            (Call::Account, false, 30, 15),
            (Call::Claim, true, 30, 2),
            (Call::Account, true, 30, 2),
            (Call::Claim, true, 1, 1),
            (Call::Op, false, 30, 30),
            (Call::Join, true, 30, 30),
        ];
        for (call, is_silent, longest, waits) in rows {
            let waited = patience(call, is_silent, Duration::from_secs(longest));
            assert_eq!(waited, Duration::from_secs(waits), "{call:?}, silent: {is_silent}");
        }
    }

    #[test]
    fn a_server_is_silent_when_something_has_waited_for_longer_than_a_lost_frame_does() {
        let rows =
            [(None, 1_000_000, false), (Some(1_000), 8_999, false), (Some(1_000), 9_000, true)];
        for (since, now, silent) in rows {
            assert_eq!(is_silent(since.map(Timestamp), Timestamp(now)), silent, "{since:?}, {now}");
        }
    }
}
