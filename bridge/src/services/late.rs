//! What another server had behind a cut of a group that shares a key, and nobody there opens: sealed anew under the
//! epoch of now, with the same client id, once per epoch (`docs/protocol.md` §7.3).

use std::{collections::BTreeSet, time::Duration};

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
/// # Errors
/// [`StepError`]: what was not looked at is still noted.
pub async fn step(spine: &Spine, waits: &mut Waits) -> Result<Option<Duration>, StepError> {
    let (mut still, mut behind) = (Waits::default(), 0);
    loop {
        let mut read = spine.db.read().await?;
        let some = late::failed(read.conn(), behind).await?;
        drop(read);
        for of in &some {
            behind = of.n;
            let becomes = look(spine, of, waits.contains(&of.n)).await?;
            if becomes == Becomes::Waits {
                still.insert(of.n);
                continue;
            }
            let mut tx = spine.db.begin().await?;
            if becomes == Becomes::Anew {
                late::again(&mut tx, of).await?;
            } else {
                expired::note(&mut tx, of.message).await?;
                late::forget(&mut tx, of).await?;
            }
            tx.commit().await?;
        }
        if some.len() < late::AT_ONCE {
            *waits = still;
            return Ok((!waits.is_empty()).then_some(AGAIN));
        }
    }
}

async fn look(spine: &Spine, of: &Late, waits: bool) -> Result<Becomes, StepError> {
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
