//! The half of Causeway with keys.
//!
//! `schemes` → `vault` → `storage` → `machine` → `sdk` → `calling` → `cli`: each may import those before it. The
//! machine has no network and no clock; what moves a ratchet happens inside its caller's
//! transaction.

mod entropy;
mod olm;
mod storage;

#[cfg(feature = "calls")]
pub mod calling;
#[cfg(feature = "calls")]
pub mod calls;
#[cfg(feature = "cli")]
pub mod cli;
pub mod machine;
pub mod public;
pub mod schemes;
pub mod sdk;
pub mod vault;

pub use entropy::NoEntropy;
pub use machine::Machine;
pub use storage::{Error as StorageError, SCHEMA, holds::WaitsFor};
pub use vault::Vault;
