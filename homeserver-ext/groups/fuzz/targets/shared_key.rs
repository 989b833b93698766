#![no_main]

#[path = "../receivers/moves.rs"]
mod moves;
#[path = "../receivers/shared_key.rs"]
mod shared_key;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| shared_key::shared_key(bytes));
