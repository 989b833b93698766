//! Tells cargo that a new migration is a reason to build.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations/server");
}
