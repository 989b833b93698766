//! Messages of clients that know only a legacy suite: the seed's JSON, in the envelope that they do not
//! make (protocol §6).

use std::time::Duration;

use causeway_protocol::{
    api::{Accepted, PostEnvelopes},
    envelope::{Kind, Recipient, Sender, Submission, SubmittedTo, compute_id},
    ids::{GroupId, Timestamp},
};
use causeway_store::Db;

use super::{PostError, Refused};
use crate::{
    live::Live,
    quota::Shares,
    storage::{devices::Device, groups},
};

/// How often the group may move on before the client is told.
const TRIES: u32 = 3;

/// Takes a message in as if its client had put it into an envelope under the newest epoch, with the bytes
/// as they are. A group that does not speak the suite, or any more, is none.
pub(crate) async fn post(
    db: &Db,
    live: &Live,
    when: (Timestamp, Duration),
    shares: &Shares,
    caller: &Device,
    (group, suite): (GroupId, u8),
    text: &[u8],
) -> Result<Accepted, Refused> {
    let mut tries = TRIES;
    loop {
        tries -= 1;
        let mut read = db.read().await?;
        let found = groups::by_id(read.conn(), group).await?.ok_or(PostError::Unknown)?;
        let roster = groups::roster(read.conn(), found.row).await?;
        drop(read);
        if roster.effective_suite() != suite {
            return Err(PostError::Unknown.into());
        }
        let id =
            compute_id(Kind::Message, Some(&caller.device_id), &Recipient::Broadcast, text, None);
        let submission = Submission {
            id: Some(id),
            kind: Kind::Message,
            group,
            epoch: roster.epoch(),
            sender: Sender { account: caller.account.clone(), device: caller.device_id },
            to: SubmittedTo::Broadcast,
            ttl_ms: u64::from(roster.policy().ttl_s) * 1_000,
            payload: text.to_vec(),
        };
        let request = PostEnvelopes { envelopes: vec![submission], count: None };
        match super::post((db, live), when, shares, caller, group, &request).await {
            Err(Refused { why: PostError::Behind(_), .. }) if tries > 0 => {}
            posted => return posted,
        }
    }
}
