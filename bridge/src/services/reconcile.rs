//! The homeserver's own account of its rooms decides what happened: what no transaction brought is
//! fetched, and put at its place before anything goes on.
//!
//! Synapse forgets what it was sending when it stops, and counts on as if nothing were missing. So
//! the bot's `/sync` is read on whenever there is doubt, and now and then without. A room with more
//! than an answer holds is paged through by itself, and one that cannot be read waits alone.

mod account;
mod gap;
mod look;
mod waits;

pub use account::LookError;
pub use gap::fill;
pub use look::look;

use super::Spine;

/// Reconciles until `stop` is done.
pub async fn run(spine: &Spine, stop: impl Future<Output = ()>) {
    tokio::select! {
        () = look::keep_looking(spine) => {}
        () = gap::keep_filling(spine) => {}
        () = stop => {}
    }
}
