#![no_main]

#[path = "../receivers/stored.rs"]
mod stored;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| stored::stored(bytes));
