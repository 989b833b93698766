#![no_main]

#[path = "../receivers/every.rs"]
mod receivers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| receivers::sender_keys(bytes));
