//! What is outside the process and not the database: the homeserver, and the native side.

pub mod clocks;
pub mod door;
mod federation;
pub mod hint;
pub mod matrix;
pub mod native;
pub mod openid;
pub mod provision;
pub mod public;
