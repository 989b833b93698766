//! Tests of the half with keys, one binary.
#![cfg(test)]

mod machine;
mod sender_keys;
mod vault;
mod vectors;
mod world;
