#![no_main]

#[path = "../receivers/moves.rs"]
mod moves;
#[path = "../receivers/sender_keys.rs"]
mod sender_keys;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sender_keys::sender_keys(bytes));
