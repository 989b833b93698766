//! How messages are sealed and opened: constructions, and nothing else.
//!
//! No rows and no roster: where keys are kept and who may speak is the affair of
//! [`crate::machine`], which does with rows what a folder here does with bytes.

pub mod export_file;
pub mod legacy;
pub mod link_answer;
pub mod pairwise;
pub mod sender_keys;
pub mod shared_key;
