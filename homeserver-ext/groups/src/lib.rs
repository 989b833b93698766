//! The half of Causeway with keys.
//!
//! `schemes` → `vault` → `storage` → `machine` → `sdk` → `calling` → `cli`: each may import those before it. The
//! machine has no network and no clock; what moves a ratchet happens inside its caller's
//! transaction.

mod entropy;
mod olm;
mod storage;

#[cfg(feature = "calls")]
pub mod calling;
#[cfg(feature = "calls")]
pub mod calls;
#[cfg(feature = "cli")]
pub mod cli;
pub mod machine;
pub mod public;
pub mod schemes;
pub mod sdk;
pub mod trial;
pub mod vault;

pub use entropy::NoEntropy;
pub use machine::Machine;
pub use storage::{Error as StorageError, SCHEMA, holds::WaitsFor};
pub use vault::Vault;

/// Has two try it in a room that there is, in less than a minute; nothing where this was built without calls.
#[cfg(feature = "calls")]
pub async fn try_sound(url: &str, who: [trial::One; 2]) -> Option<trial::Trial> {
    use crate::calls::{Access, Whose};
    let who = who.map(|one| {
        let (url, whose) = (url.to_owned(), Whose::Home);
        (Access { url, token: one.token, whose, is_sealed: true, speaks: true }, one.identity)
    });
    Some(crate::calls::trial(who).await)
}

/// Nothing: this was built without calls.
#[cfg(not(feature = "calls"))]
#[expect(clippy::unused_async, reason = "as the one that is built with calls")]
pub async fn try_sound(_url: &str, _who: [trial::One; 2]) -> Option<trial::Trial> {
    None
}
