//! The roster: who is in a group, as a hash-chained log of signed ops (protocol §3).
//!
//! Server and clients run the same rules: [`Op::parse`] is step 1, [`Roster::create`] and
//! [`Roster::apply`] are the rest. [`Log`] is what one client has installed, and never unlearns.

mod at_hand;
mod body;
mod invalid;
mod kind;
mod log;
mod member;
mod op;
mod receive;
mod replay;
mod sign;
mod state;
mod validity;

pub use body::{Body, Create, Devices, Entry, Policy};
pub use invalid::Invalid;
pub use kind::Kind;
pub use log::{Fork, Installed, Log, LogEntry, Offer, Removed};
pub use member::{Member, Role, Scheme};
pub use op::{MAX_OP, Op, OpCore};
pub use receive::{Arrival, Verdict, is_dropped_in_channel};
pub use state::{BadRow, Roster, hash_bytes};
