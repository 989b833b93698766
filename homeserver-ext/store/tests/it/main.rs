//! What the store promises, on real files.
#![cfg(test)]

mod commit;
mod harness;
mod open;
