//! What a device owes its groups: acknowledgements, answers, one-time keys, level rosters.

use std::time::Duration;

use super::{NATIVE_TOPIC, Spine};

/// Longest between two rounds.
const EVERY: Duration = Duration::from_secs(30);
/// Shortest between two rounds.
const REST: Duration = Duration::from_millis(100);

/// Does chores until `stop` is done: now, when rows came in, and now and then.
pub async fn run(spine: &Spine, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut woken = spine.db.listen(NATIVE_TOPIC);
    let mut is_level = false;
    loop {
        if !is_level {
            is_level = match spine.native.sync().await {
                Ok(()) => true,
                Err(error) => {
                    spine.is_locked_out_by(&error);
                    tracing::warn!(%error, "the groups are not level with the server yet");
                    false
                }
            };
        }
        if let Err(error) = spine.native.chores().await {
            spine.is_locked_out_by(&error);
            tracing::warn!(%error, "chores are not done; trying again");
        }
        tokio::select! {
            () = async {
                tokio::time::sleep(REST).await;
                woken.changed().await;
            } => {}
            () = tokio::time::sleep(EVERY) => {}
            () = &mut stop => return,
        }
    }
}
