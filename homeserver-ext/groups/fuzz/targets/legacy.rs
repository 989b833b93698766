#![no_main]

#[path = "../receivers/legacy.rs"]
mod legacy;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| legacy::legacy(bytes));
