//! Fan-outs in bytes: what names its devices by their places in a roster (protocol §2).

use std::time::Duration;

use causeway_protocol::{
    api::{Accepted, AcceptedEnvelope, PostEnvelopes},
    envelope::Sender,
    ids::{EnvelopeId, GroupId, Timestamp},
    posting::Posting,
};
use causeway_store::{Conn, Db};

use super::{Denied, PostError, Refused, admit};
use crate::{
    live::Live,
    quota::Shares,
    storage::{
        self,
        devices::Device,
        groups::{self, Group},
        mailbox,
        standing::Standing,
    },
};

/// Takes them in as if the devices were named. By another roster than the newest nobody is found: what was
/// accepted before is answered as it was then, and the rest is to be named anew.
pub(crate) async fn post(
    (db, live): (&Db, &Live),
    when: (Timestamp, Duration),
    shares: &Shares,
    caller: &Device,
    group: GroupId,
    posting: Posting,
) -> Result<Accepted, Refused> {
    let mut read = db.read().await?;
    let found = groups::by_id(read.conn(), group).await?;
    let is_newest = found.as_ref().is_some_and(|found| found.head.roster_hash == posting.roster);
    if let Some(found) = found.as_ref().filter(|_| is_newest) {
        let roster = groups::roster(read.conn(), found.row).await?;
        // There may have been an op since.
        if roster.hash() == posting.roster {
            drop(read);
            let sender = Sender { account: caller.account.clone(), device: caller.device_id };
            let count = Some(posting.count);
            let envelopes =
                posting.submissions(group, &sender, &roster).map_err(PostError::Form)?;
            let request = PostEnvelopes { envelopes, count };
            return super::post((db, live), when, shares, caller, group, &request).await;
        }
    }
    let taken = taken(read.conn(), caller, &posting).await?;
    if taken.len() == posting.fan_outs.len() {
        return Ok(Accepted { accepted: taken });
    }
    let why = otherwise(read.conn(), caller, found, &posting).await;
    drop(read);
    let why = why.told(db, when.0, shares, caller).await;
    Err(Refused { why, taken })
}

/// Those of them that were accepted before.
async fn taken(
    conn: &mut Conn,
    caller: &Device,
    posting: &Posting,
) -> Result<Vec<AcceptedEnvelope>, storage::Error> {
    let ids: Vec<EnvelopeId> = posting.fan_outs.iter().map(|fan_out| fan_out.id).collect();
    let known = mailbox::accepted(conn, caller.row, &ids).await?;
    let answer = |id: EnvelopeId| {
        known.get(&id).map(|places| AcceptedEnvelope { id, recipients: places.recipients() })
    };
    Ok(ids.into_iter().filter_map(answer).collect())
}

/// Why it is refused: what it would be refused for anyway, or else the roster.
async fn otherwise(
    conn: &mut Conn,
    caller: &Device,
    found: Option<Group>,
    posting: &Posting,
) -> Denied {
    let head = found.as_ref().map(|found| found.head.epoch).unwrap_or_default();
    let found = found.map(|found| (found, Standing::None));
    let epochs = posting.fan_outs.iter().map(|fan_out| fan_out.epoch);
    match admit(conn, caller, found, epochs).await {
        Ok(_) => PostError::OtherRoster(posting.epoch, head).into(),
        Err(why) => why,
    }
}
