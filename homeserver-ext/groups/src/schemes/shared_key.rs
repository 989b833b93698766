//! Shared keys (protocol §5.2): one key for all of a group, for one window of time.
//!
//! ```text
//! K ── HKDF ─► commit_key ─► key_id      what the key is called
//!  └── HKDF(alg, group, key_id, sender) ─► sub ‖ commit
//!                    sub seals what one device says; commit stands in what that device signs
//! ```
//! Whoever has the key reads all that is sealed under it, so nothing is forward secret within its
//! window. Each device seals under a key of its own that all can derive, and signs with its own, so
//! none can speak for another. Nothing here knows a roster, a database or a clock.

mod key;
mod message;
mod window;

pub use key::{GroupKey, Rank, SenderKey};
pub use message::{OpenError, SealError, Verified, Wire};
pub use window::{Replay, Window};
