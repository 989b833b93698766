//! The bridge crate's integration tests, one binary.
#![cfg(test)]

mod deliver;
mod harness;
mod intake;
mod stub;
mod workspace;
