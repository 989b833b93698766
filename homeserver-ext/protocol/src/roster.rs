//! The roster: who is in a group, as a hash-chained log of signed ops (protocol §3).
//!
//! Server and clients run the same rules: [`Op::parse`] is step 1, [`Roster::create`] and
//! [`Roster::apply`] are the rest. [`Log`] is what one client has installed, and never unlearns.

mod body;
mod log;
mod op;
mod receive;
mod state;
mod validity;

pub use body::{Body, Create, Devices, Entry, Policy};
pub use log::{Fork, Installed, Log, LogEntry, Offer, Removed};
pub use op::{Kind, MAX_OP, Op, OpCore};
pub use receive::{Arrival, Verdict, is_dropped_in_channel};
pub use state::{BadRow, Member, Role, Roster, Scheme, hash_bytes};
pub use validity::Invalid;
