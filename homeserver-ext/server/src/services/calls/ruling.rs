//! What an admin of a group does about others in its call: takes one out, or mutes what he sends through the
//! server for bigger calls.

use causeway_protocol::{
    api::{CallState, CallWhom},
    call::{Event, Refused, Who},
    ids::CallId,
    roster::Role,
};

use super::{CallError, Of, operator};
use crate::{gateway::livekit::LiveKit, quota::CallShares, storage::calls};

/// Who that is.
pub(super) fn who(whom: &CallWhom) -> Who {
    match whom {
        CallWhom::Matrix { mirror, device } => Who::Matrix(mirror.clone(), device.clone()),
        CallWhom::Native { device } => Who::Native(*device),
    }
}

/// Takes somebody out of the call, by an admin. A native may come back; one of Matrix not for a while, since
/// his client asks again by itself.
pub(crate) async fn kick(
    of: Of<'_>,
    shares: &CallShares,
    (call, whom): (CallId, &CallWhom),
) -> Result<CallState, CallError> {
    shares.word(of.now, (&of.caller.account, of.caller.device_id))?;
    let mut tx = of.db.begin().await?;
    let (group, role, mut row) = of.call(&mut tx, call).await?;
    if role != Role::Admin {
        return Err(CallError::MayNotRule);
    }
    let who = who(whom);
    if row.kept.call.participants.contains_key(&who) || row.kept.call.is_awaited(&who) {
        operator::note_kicked(&mut row, &who, of.now);
    }
    of.change(tx, &group, row, (Event::Kick(who), false)).await
}

/// Mutes what somebody sends, by an admin; he may go on by himself.
pub(crate) async fn mute(
    of: Of<'_>,
    shares: &CallShares,
    livekit: Option<&LiveKit>,
    (call, whom): (CallId, &CallWhom),
) -> Result<CallState, CallError> {
    shares.word(of.now, (&of.caller.account, of.caller.device_id))?;
    let mut tx = of.db.begin().await?;
    let (_, role, row) = of.call(&mut tx, call).await?;
    drop(tx);
    if role != Role::Admin {
        return Err(CallError::MayNotRule);
    }
    let refused = |why| Err(CallError::Refused(why, Box::new(row.state())));
    if row.kept.call.is_over() {
        return refused(Refused::Ended);
    }
    let who = who(whom);
    if !row.kept.call.participants.contains_key(&who) {
        return refused(Refused::NotInCall);
    }
    let livekit = livekit.filter(|_| row.kept.call.has_room()).ok_or(CallError::NotThere)?;
    if !operator::mute_there(livekit, of.now, &row, &who).await? {
        return Err(CallError::NotThere);
    }
    operator::note_muted((of.db, of.live), of.now, (row.number, &who)).await?;
    let now = calls::by_number(of.db.read().await?.conn(), row.number).await?;
    Ok(now.unwrap_or(row).state())
}
