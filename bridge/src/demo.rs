//! The demo: a real homeserver, real clients, and the story that they play.
//!
//! The end-to-end tests use the same homeserver and the same Matrix user; nothing in here is
//! used by `causeway run`.

pub mod files;
pub mod matrix_user;
pub mod progress;
pub mod synapse;
pub mod venv;
