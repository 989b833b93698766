//! The bridge crate's integration tests, one binary.
#![cfg(test)]

mod appservice;
mod deliver;
mod generated;
mod harness;
mod intake;
mod layers;
mod stub;
mod workspace;
