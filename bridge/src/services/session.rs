//! Our session on the native side: made again where the server does not know it any more.
//!
//! Whoever is refused says so in [`Spine::locked_out`] and waits; this alone logs in, by the
//! device's key, and lets everybody go on. Where the server refuses the device as well, the reason
//! stands in `/ready`, and what is on its way into groups stays where it is.

use std::time::Duration;

use causeway_groups::sdk::{OpenClientError, SdkError};
use tokio::time::sleep;

use super::Spine;
use crate::storage::{self, lanes};

/// Before the next try at a server that is not there, or refuses us.
const AGAIN: Duration = Duration::from_secs(5);

/// Keeps us logged in until `stop` is done.
pub async fn run(spine: &Spine, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut locked_out = spine.locked_out.subscribe();
    loop {
        tokio::select! {
            _ = locked_out.wait_for(Option::is_some) => {}
            () = &mut stop => return,
        }
        if let Err(error) = renew(spine).await {
            tracing::error!(error, "not logged in on the native side; trying again");
            spine.locked_out.send_replace(Some(error));
            tokio::select! {
                () = sleep(AGAIN) => {}
                () = &mut stop => return,
            }
        }
    }
}

async fn renew(spine: &Spine) -> Result<(), String> {
    spine.native.renew().await.map_err(|error| match error {
        OpenClientError::Call(error) if !error.is_transient() => {
            format!("the native server does not take the bridge's device any more: {error}")
        }
        other => other.to_string(),
    })?;
    tracing::info!("logged in again on the native side");
    spine.locked_out.send_replace(None);
    hurry(spine).await.map_err(|error| error.to_string())
}

/// Nobody needs to wait any longer.
async fn hurry(spine: &Spine) -> Result<(), storage::Error> {
    let mut tx = spine.db.begin().await?;
    lanes::hurry(&mut tx);
    Ok(tx.commit().await?)
}

impl Spine {
    /// Whether `error` says that the native server does not know our session; then it is renewed.
    pub(super) fn is_locked_out_by(&self, error: &SdkError) -> bool {
        let SdkError::Call(error) = error else { return false };
        let is_unknown = error.is_refusal("M_UNKNOWN_TOKEN");
        if is_unknown {
            self.locked_out.send_if_modified(|why| {
                let is_news = why.is_none();
                why.get_or_insert_with(|| error.to_string());
                is_news
            });
        }
        is_unknown
    }

    /// Done when the native server knows our session.
    pub(super) async fn is_let_in(&self) {
        let mut locked_out = self.locked_out.subscribe();
        // It is ours, so somebody can always send.
        let _ = locked_out.wait_for(Option::is_none).await;
    }
}
