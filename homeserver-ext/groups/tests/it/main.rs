//! Tests of the half with keys, one binary.
#![cfg(test)]

mod cli_http;
mod sender_keys;
