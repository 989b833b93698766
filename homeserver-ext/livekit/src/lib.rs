//! A real LiveKit on loopback, for the demo and for tests.
//!
//! It is built from its Go module once, into a folder that is kept ([`Binary`]); each [`LiveKit`]
//! is one server with ports, a key and a room of its own, which ends with the process that
//! started it, however that one ends. Nothing that an operator runs uses this crate.

mod binary;
pub mod ports;
mod server;

pub use binary::{Binary, BuildError, VERSION};
pub use server::{LiveKit, Settings, StartError};
