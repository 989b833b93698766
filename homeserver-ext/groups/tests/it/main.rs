//! Tests of the half with keys, one binary.
#![cfg(test)]

mod sender_keys;
