//! The bridge crate's integration tests, one binary.
#![cfg(test)]

mod workspace;
