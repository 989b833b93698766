//! What another server had behind a cut of a group that shares a key, and nobody there opens: sealed anew under the
//! epoch of now, with the same client id, once per epoch (`docs/protocol.md` §7.3).

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use causeway_groups::sdk::{CallError, SdkError};

use super::{AFTER_FAULT, Spine, StepError, after};
use crate::{
    domain::late::{Becomes, becomes},
    storage::{
        expired,
        late::{self, Late},
        portals,
    },
};

/// How soon it is looked again for an op that has not come.
const AGAIN: Duration = Duration::from_secs(5);

/// Looks after them until `stop` is done.
pub async fn run(spine: &Spine, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let (mut woken, mut waits) = (spine.db.listen(late::TOPIC), Waits::default());
    loop {
        let again = match step(spine, &mut waits).await {
            Ok(again) => again,
            Err(error) => {
                tracing::warn!(%error, "what came too late elsewhere is not sealed anew yet");
                Some(AFTER_FAULT)
            }
        };
        tokio::select! {
            () = woken.changed() => {}
            () = after(again) => {}
            () = &mut stop => return,
        }
    }
}

/// Those that came too late elsewhere, as the server has said, and whose op is not here. Another server may say so
/// of all that is kept, and the server is not asked about each again until there is an op.
pub type Waits = BTreeSet<i64>;

/// Looks at each once; how long until some are to be looked at again.
///
/// Nothing of it ends in silence: of what is over, and of what is more than may wait, the rooms are told.
///
/// # Errors
/// [`StepError`]: what was not looked at is still noted.
pub async fn step(spine: &Spine, waits: &mut Waits) -> Result<Option<Duration>, StepError> {
    let (mut still, mut behind) = (VecDeque::new(), 0);
    loop {
        let mut read = spine.db.read().await?;
        let some = late::failed(read.conn(), behind).await?;
        drop(read);
        let is_last = some.len() < late::AT_ONCE;
        for of in some {
            behind = of.n;
            match look(spine, &of, waits.contains(&of.n)).await? {
                Becomes::Waits => {
                    still.push_back(of);
                    let oldest = (still.len() > late::MOST_WAITING).then(|| still.pop_front());
                    if let Some(oldest) = oldest.flatten() {
                        metrics::counter!("causeway_late_given_up_total").increment(1);
                        tell(spine, &oldest).await?;
                    }
                }
                Becomes::Anew => {
                    let mut tx = spine.db.begin().await?;
                    late::again(&mut tx, &of).await?;
                    tx.commit().await?;
                }
                Becomes::Told => tell(spine, &of).await?,
            }
        }
        if is_last {
            *waits = still.iter().map(|of| of.n).collect();
            return Ok((!waits.is_empty()).then_some(AGAIN));
        }
    }
}

/// It is not sealed anew, and its room is told as of what was not read in time.
async fn tell(spine: &Spine, of: &Late) -> Result<(), StepError> {
    let mut tx = spine.db.begin().await?;
    expired::note(&mut tx, of.message).await?;
    late::forget(&mut tx, of).await?;
    tx.commit().await?;
    Ok(())
}

async fn look(spine: &Spine, of: &Late, waits: bool) -> Result<Becomes, StepError> {
    if of.ends_at <= spine.now() {
        return Ok(Becomes::Told);
    }
    let mut read = spine.db.read().await?;
    let group = portals::place(read.conn(), &spine.names, of.portal).await?.group;
    drop(read);
    let roster = match spine.native.roster(group).await {
        Ok(roster) => roster,
        Err(SdkError::UnknownGroup(_)) => return Ok(Becomes::Told),
        Err(error) => return Err(error.into()),
    };
    let me = spine.native.me().record.member_id;
    if roster.closed() || roster.member(&me).is_none() {
        return Ok(Becomes::Told);
    }
    if waits && roster.epoch() <= of.epoch {
        return Ok(Becomes::Waits);
    }
    let recipients = match spine.native.http().status(of.message).await {
        Ok(status) => status.recipients,
        Err(CallError::Refused { status: 404, .. }) => Vec::new(),
        Err(error) => {
            let error = SdkError::from(error);
            spine.is_locked_out_by(&error);
            return Err(error.into());
        }
    };
    let may = spine.native.may_seal_anew(group, of.epoch).await?;
    Ok(becomes(&recipients, of.anew, (of.epoch, roster.epoch()), may))
}
