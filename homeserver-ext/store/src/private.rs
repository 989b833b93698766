//! Who may read what this process writes.

/// Whatever is written from here on is its owner's alone, whatever the umask was: databases and what
/// SQLite puts beside them, locks, tokens. For a binary's first line.
#[cfg(unix)]
pub fn write_for_the_owner_alone() {
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}
