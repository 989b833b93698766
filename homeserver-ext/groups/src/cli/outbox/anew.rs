//! Messages that another server had too late: sealed anew, once per epoch.
//!
//! In a group with a shared key nobody opens what was sealed before an op that took somebody out and
//! comes behind it, so that other server does not put it down (protocol §7.3). Under the same client id it
//! is sealed under the epoch of now; whoever has read it knows it by that.

use std::collections::BTreeMap;

use causeway_protocol::ids::{Epoch, GroupId, Timestamp};

use super::OutboxError;
use crate::{
    sdk::{Client, Reached, SdkError},
    storage::not_taken::{self as rows, NotTaken},
};

/// How the server says that it came behind a cut.
const LATE: &str = "stale_epoch";
/// How often one message is sealed anew at most: so many cuts in a row are no accident.
const MOST: i64 = 8;
/// Messages that are read in one go.
const AT_ONCE: u32 = 64;
/// How long an op is waited for: another server may say of all that is kept that it came behind one.
const WAITS_MS: u64 = 7 * 24 * 60 * 60 * 1_000;

/// What becomes of a message that not all have, by what is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Becomes {
    /// The server is asked why.
    Asked,
    /// Nothing; it is as it is.
    Nothing,
    /// It is not known yet: the op is not here.
    Later,
}

/// Has those wait again that came to another server behind a cut. Whether there were any.
///
/// Each is looked at in each go, and of those whose op is not here the server is not asked.
///
/// # Errors
/// The server's, which is asked why; they are looked at again.
pub(in crate::cli) async fn seal_anew(client: &Client) -> Result<bool, OutboxError> {
    let (mut were_any, mut behind) = (false, 0);
    let mut epochs: BTreeMap<GroupId, Option<Epoch>> = BTreeMap::new();
    loop {
        let some = rows::some(client.db().read().await?.conn(), behind, AT_ONCE).await?;
        for of in &some {
            behind = of.row;
            let known = epochs.get(&of.group).copied();
            let now = if let Some(known) = known { known } else { epoch(client, of.group).await? };
            epochs.insert(of.group, now);
            let is_anew = match becomes(of, now, client.now()) {
                Becomes::Later => continue,
                Becomes::Nothing => false,
                Becomes::Asked => look(client, of).await?,
            };
            let mut tx = client.db().begin().await?;
            rows::looked_at(tx.conn(), of, is_anew).await?;
            tx.commit().await?;
            were_any |= is_anew;
        }
        if some.len() < AT_ONCE as usize {
            return Ok(were_any);
        }
    }
}

/// In which epoch a group is; none of one that is not known any more.
async fn epoch(client: &Client, group: GroupId) -> Result<Option<Epoch>, OutboxError> {
    match client.roster(group).await {
        Ok(roster) => Ok(Some(roster.epoch())),
        Err(SdkError::UnknownGroup(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What becomes of a message whose group is in `epoch` now; none is known of a group that is gone.
fn becomes(of: &NotTaken, epoch: Option<Epoch>, now: Timestamp) -> Becomes {
    let Some(epoch) = epoch.filter(|_| of.anew < MOST) else { return Becomes::Nothing };
    if epoch > of.epoch {
        Becomes::Asked
    } else if now < of.said.plus_ms(WAITS_MS) {
        Becomes::Later
    } else {
        Becomes::Nothing
    }
}

/// Whether the server says that it came behind a cut, and it may be sealed anew.
async fn look(client: &Client, of: &NotTaken) -> Result<bool, OutboxError> {
    let reached = client.reached(of.group, of.client_id, of.id).await?;
    let is_late = |reached: &Reached| matches!(reached, Reached::Failed(Some(why)) if why == LATE);
    if !reached.is_some_and(|reached| reached.values().any(is_late)) {
        return Ok(false);
    }
    // Another server's word is none for those who came since.
    Ok(client.may_seal_anew(of.group, of.epoch).await?)
}

#[cfg(test)]
mod tests {
    use causeway_protocol::ids::{ClientId, EnvelopeId};

    use super::*;

    #[test]
    fn what_waits_for_an_op_costs_no_question_and_has_its_end() {
        let of = |anew| NotTaken {
            group: GroupId::new([1; 32]),
            id: EnvelopeId::new([2; 16]),
            client_id: ClientId::new([3; 16]),
            epoch: Epoch(4),
            anew,
            said: Timestamp(1_000),
            row: 1,
        };
        let table = [
            (of(0), None, 1_000, Becomes::Nothing),
            (of(0), Some(4), 1_000, Becomes::Later),
            (of(0), Some(4), 999 + WAITS_MS, Becomes::Later),
            (of(0), Some(4), 1_000 + WAITS_MS, Becomes::Nothing),
            (of(0), Some(5), 1_000 + WAITS_MS, Becomes::Asked),
            (of(MOST - 1), Some(5), 1_000, Becomes::Asked),
            (of(MOST), Some(5), 1_000, Becomes::Nothing),
        ];
        for (of, epoch, now, expected) in table {
            let what = format!("{of:?} {epoch:?} {now}");
            assert_eq!(becomes(&of, epoch.map(Epoch), Timestamp(now)), expected, "{what}");
        }
    }
}
