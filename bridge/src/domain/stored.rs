//! A deed as it is kept until it is done: JSON that says which version wrote it.
//!
//! `{"v": 1, "deed": …}`. What a version changes in a kind of [`Deed`] raises the number, and the
//! form before it is read here for as long as rows of it may wait; a new kind does not, and a version
//! that does not know it cannot read it, as it cannot read another number; a row that cannot be read becomes a dead
//! letter, and those behind it go on.

mod v0;

use serde::{Deserialize, Serialize};

use super::effect::Deed;

/// The version that is written.
const VERSION: u32 = 1;

/// Why a row cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Its bytes are not those that were sealed, or were sealed under another key.
    #[error("what was kept of it is damaged")]
    Damaged,
    /// It is not what this version, or one before it, writes.
    #[error("it was kept by another version of the bridge")]
    Version,
}

#[derive(Serialize)]
struct Writes<'a> {
    v: u32,
    deed: &'a Deed,
}

#[derive(Deserialize)]
struct Reads {
    deed: Deed,
}

#[derive(Deserialize)]
struct Version {
    #[serde(default)]
    v: u32,
}

/// The bytes that are kept of `deed`.
///
/// # Errors
/// [`serde_json::Error`], which no deed comes to.
pub fn write(deed: &Deed) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Writes { v: VERSION, deed })
}

/// The deed that `bytes` are kept of.
///
/// # Errors
/// [`Unreadable::Version`]
pub fn read(bytes: &[u8]) -> Result<Deed, Unreadable> {
    // What the first version wrote says no number, and `"Pause"` is not even an object.
    let version = serde_json::from_slice(bytes).map_or(0, |version: Version| version.v);
    match version {
        0 => serde_json::from_slice::<v0::Effect>(bytes).map(Deed::from),
        VERSION => serde_json::from_slice::<Reads>(bytes).map(|reads| reads.deed),
        _ => return Err(Unreadable::Version),
    }
    .map_err(|_| Unreadable::Version)
}

#[cfg(test)]
#[path = "stored_table.rs"]
mod table;
