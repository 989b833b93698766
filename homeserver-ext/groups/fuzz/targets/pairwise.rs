#![no_main]

#[path = "../receivers/moves.rs"]
mod moves;
#[path = "../receivers/pairwise.rs"]
mod pairwise;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pairwise::pairwise(bytes));
