//! What the store promises, on real files.
#![cfg(test)]

mod backup;
mod commit;
mod harness;
mod open;
mod script;
mod soon;
