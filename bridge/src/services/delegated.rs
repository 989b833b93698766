//! Leaves of calls that clients have left to us: put off at the homeserver while their device is on the server
//! for calls, sent when it is gone. So a client that is killed is out of the call within seconds, and none has
//! to say every few seconds that it lives.

use std::time::Duration;

use super::{AFTER_FAULT, Spine, StepError, after};
use crate::{
    domain::{
        delegated::{Act, Delegated},
        rtc::{SLOT, alias},
    },
    gateway::{door::Place, matrix::MatrixError},
    storage::delegated,
};

/// How often it is seen who is there.
const EVERY: Duration = Duration::from_secs(3);
/// Devices that are asked for at once.
const TOGETHER: usize = 64;

/// Looks after them until `stop` is done.
pub async fn run(spine: &Spine, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut woken = spine.db.listen(delegated::TOPIC);
    loop {
        let wait = match step(spine).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::warn!(%error, "leaves of calls are not looked after; trying again");
                Some(AFTER_FAULT)
            }
        };
        tokio::select! {
            // Those that are there are looked at anyway.
            () = woken.changed(), if wait.is_none() => {}
            () = after(wait) => {}
            () = &mut stop => return,
        }
    }
}

/// Looks once; how long until again.
///
/// # Errors
/// [`StepError`]: the rows'.
pub async fn step(spine: &Spine) -> Result<Option<Duration>, StepError> {
    let all = delegated::all(&mut spine.db.read().await?).await?;
    let Some(door) = spine.door.as_ref().filter(|_| !all.is_empty()) else { return Ok(None) };
    for some in all.chunks(TOGETHER) {
        let places = some.iter().map(|one| Place {
            group: one.group,
            room: alias(one.room.as_str(), SLOT),
            identity: one.identity.clone(),
        });
        // Where that is not known nobody has gone.
        let there = door.who_is_there(&places.collect::<Vec<_>>()).await.unwrap_or_default();
        for (n, one) in some.iter().enumerate() {
            look(spine, one, there.get(n).copied().flatten()).await?;
        }
    }
    Ok(Some(EVERY))
}

async fn look(spine: &Spine, one: &Delegated, is_there: Option<bool>) -> Result<(), StepError> {
    let (matrix, bot) = (&spine.matrix, spine.names.bot());
    let mut now = one.clone();
    let is_over = match now.look(is_there, spine.now()) {
        Act::Wait => false,
        Act::PutOff => match matrix.restart_delayed(bot, &one.delay).await {
            Ok(()) => {
                now.put_off = spine.now();
                false
            }
            Err(error) => is_none(&error),
        },
        Act::Send => match matrix.send_delayed(bot, &one.delay).await {
            Ok(()) => {
                metrics::counter!("causeway_focus_leaves_total", "outcome" => "sent").increment(1);
                true
            }
            Err(error) => is_none(&error),
        },
    };
    if !is_over && now == *one {
        return Ok(());
    }
    let mut tx = spine.db.begin().await?;
    // It may be another by now, that the device left to us meanwhile.
    delegated::forget(&mut tx, one).await?;
    if !is_over {
        delegated::put_if_none(&mut tx, &now).await?;
    }
    Ok(tx.commit().await?)
}

/// Whether the homeserver does not have it any more: it was sent, or its client took it back.
fn is_none(error: &MatrixError) -> bool {
    let is_none = matches!(error, MatrixError::Refused(..));
    if !is_none {
        tracing::debug!(%error, "a leave of a call can be neither put off nor sent; trying again");
    }
    is_none
}
