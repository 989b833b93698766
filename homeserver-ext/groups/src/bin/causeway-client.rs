//! The native client of Causeway.
fn main() {}
