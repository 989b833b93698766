//! What waits of one account, kept within its share: counted now and then, never while it posts.
//!
//! Nobody's absence stops somebody else, so that nothing is refused because one device is away: of
//! what one account has in one mailbox, or has broadcast in one group, the oldest ends early.

use causeway_protocol::ids::{AccountId, Timestamp};
use causeway_store::Db;

use super::{BATCH, let_go_in_next};
use crate::{
    quota::{BRIDGE, ROW_BYTES, Shares},
    storage::{
        self, GroupRow,
        mailbox::{self, Place},
    },
};

/// Counts what waits of those who are due at `now`, and lets end early what is beyond their share of
/// a mailbox or a group. `certain` is by what envelopes end: [`purge`](super::purge) ends them.
pub(crate) async fn count(
    db: &Db,
    now: Timestamp,
    certain: Timestamp,
    shares: &Shares,
) -> Result<(), storage::Error> {
    for (account, posted) in shares.to_count(now) {
        let bytes = if account.localpart() == BRIDGE {
            // It posts under its limits only where it bridges nothing.
            0
        } else {
            if bound(db, certain, &account, shares.of_a_mailbox()).await? {
                shares.ends_early(now, &account);
            }
            mailbox::waits(db.read().await?.conn(), &account, certain, ROW_BYTES).await?
        };
        shares.counted(now, &account, posted, bytes);
    }
    Ok(())
}

/// Lets the oldest of an account end where there is more than `most`; whether anything was.
async fn bound(
    db: &Db,
    now: Timestamp,
    account: &AccountId,
    most: u64,
) -> Result<bool, storage::Error> {
    let mut is_any = false;
    let places =
        mailbox::places_beyond(db.read().await?.conn(), account, now, ROW_BYTES, most).await?;
    for place in places {
        if let Place::Group(GroupRow(group)) = place {
            // What all have read does not wait.
            let_go_in_next(db, GroupRow(group - 1)).await?;
        }
        let mut read = db.read().await?;
        let beyond = mailbox::beyond(read.conn(), account, place, now, ROW_BYTES, most).await?;
        drop(read);
        is_any |= !beyond.is_empty();
        for some in beyond.chunks(BATCH as usize) {
            let mut tx = db.begin().await?;
            mailbox::end_early(tx.conn(), some, now).await?;
            tx.commit().await?;
        }
    }
    Ok(is_any)
}
