//! The native protocol of Causeway: what two independent implementations must agree on.
//!
//! No secrets, no I/O, no async. `docs/protocol.md` is the text that this crate is.

mod fields;

pub mod api;
pub mod call;
pub mod content;
pub mod device;
pub mod device_link;
pub mod envelope;
pub mod fanout;
pub mod ghost;
pub mod ids;
pub mod invite;
pub mod json;
pub mod keys;
pub mod link;
pub mod olm_plaintext;
pub mod posting;
pub mod roster;
pub mod sender_key;
pub mod shared_key;
pub mod visible;

pub use fields::TooLong;
