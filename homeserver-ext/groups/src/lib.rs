//! The half of Causeway with keys.
//!
//! `sender_keys` → `vault` → `storage` → `machine` → `sdk`: each may import those before it. The
//! machine has no network and no clock; what moves a ratchet happens inside its caller's
//! transaction.

mod entropy;

pub mod sdk;
pub mod sender_keys;

pub use entropy::NoEntropy;
