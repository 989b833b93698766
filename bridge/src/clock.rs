//! The one place where the bridge asks what time it is; everything else is told.

use std::time::SystemTime;

use causeway_protocol::ids::Timestamp;

/// Now.
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the clock of this binary")]
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
