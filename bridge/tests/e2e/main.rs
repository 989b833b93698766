//! End-to-end tests: the real Synapse, real processes, real clients.
#![cfg(test)]

mod js;
mod js_client;
mod stack;
mod start;
mod story;
