//! How a batch goes to the server: fan-outs in bytes, and everything else as JSON.

use std::sync::atomic::Ordering;

use causeway_protocol::{
    api::{Accepted, AcceptedEnvelope, PostEnvelopes},
    envelope::{Kind, Submission},
    ids::GroupId,
    posting::Posting,
};

use super::{CallError, Client, SdkError};
use crate::machine::Batch;

/// How often devices are named anew before they are named in full.
const TRIES: usize = 4;

impl Client {
    pub(super) async fn post_once(&self, batch: &Batch) -> Result<Accepted, SdkError> {
        let count = self.machine.count(&self.db).await?;
        let mut accepted = Vec::with_capacity(batch.submissions.len());
        for envelopes in batch.posts() {
            match self.post_some(batch.group, envelopes, count).await {
                Ok(taken) => accepted.extend(taken.accepted),
                Err(SdkError::Call(error)) => return Err(beside(accepted, error).into()),
                Err(error) => return Err(error),
            }
        }
        Ok(Accepted { accepted })
    }

    async fn post_some(
        &self,
        group: GroupId,
        envelopes: &[Submission],
        count: u64,
    ) -> Result<Accepted, SdkError> {
        if envelopes.iter().all(|envelope| envelope.kind == Kind::Fanout)
            && let Some(accepted) = self.post_in_bytes(group, envelopes, count).await?
        {
            return Ok(accepted);
        }
        let envelopes = PostEnvelopes { envelopes: envelopes.to_vec(), count: Some(count) };
        Ok(self.http.post_envelopes(group, &envelopes).await?)
    }

    /// By places in the newest roster; where the server has another, it is fetched, and what is sealed goes
    /// as it is. `None` where that leads nowhere: a device is not in it, a server of before, or one that has
    /// lost ops. Then the same goes with names, and is judged by its epoch.
    async fn post_in_bytes(
        &self,
        group: GroupId,
        envelopes: &[Submission],
        count: u64,
    ) -> Result<Option<Accepted>, SdkError> {
        for _ in 0..TRIES {
            if self.takes_no_bytes.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let roster = match self.roster(group).await {
                Err(SdkError::UnknownGroup(_)) => return Ok(None),
                roster => roster?,
            };
            let posting = Posting::of(envelopes, count, &roster);
            let Some(bytes) = posting.and_then(|posting| posting.to_bytes()) else {
                return Ok(None);
            };
            match self.http.post_fan_outs(group, bytes).await {
                Err(error) if error.is_refusal("DEV_CAUSEWAY_OTHER_ROSTER") => {
                    self.sync_group(group).await?;
                }
                Err(error) if error.is_refusal("M_UNRECOGNIZED") => {
                    self.takes_no_bytes.store(true, Ordering::Relaxed);
                }
                posted => return Ok(Some(posted?)),
            }
        }
        Ok(None)
    }
}

/// What a refusal says of the whole, of which these were taken before.
fn beside(before: Vec<AcceptedEnvelope>, error: CallError) -> CallError {
    match error {
        CallError::Refused { status, errcode, error, taken } => {
            let taken = before.into_iter().map(|one| one.id).chain(taken).collect();
            CallError::Refused { status, errcode, error, taken }
        }
        error => error,
    }
}
