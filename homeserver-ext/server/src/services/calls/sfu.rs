//! Where a participant goes when the server for bigger calls carries the call, or is about to.

use causeway_protocol::{
    api::{AskSfu, CallSfu, CallSfus},
    call::{Call, Event, Refused, Topology, rules},
    ids::{CallId, Timestamp},
};

use super::{CallError, Of};
use crate::{
    gateway::livekit::LiveKit,
    quota::CallShares,
    storage::calls::{self, Row},
};

/// How often it is looked again where the call goes, if that has changed meanwhile.
const TRIES: usize = 3;
/// Who can read what passes there: the devices in the call alone.
const NATIVE: &str = "native";
/// LiveKit as well: those of Matrix who come have no keys, since their rooms are not encrypted.
pub(super) const CLEAR: &str = "none";

/// What lets the caller's device into the call's room, which is there from then on.
pub(crate) async fn sfu(
    of: Of<'_>,
    shares: &CallShares,
    livekit: Option<&LiveKit>,
    (call, asked): (CallId, &AskSfu),
) -> Result<CallSfus, CallError> {
    shares.word(of.now, (&of.caller.account, of.caller.device_id))?;
    let mut row = row_of(of, call).await?;
    for _ in 0..TRIES {
        let room = row.room();
        let given = given(of, livekit, &row, asked.epoch).await;
        // It may have got another one while LiveKit was asked.
        row = row_of(of, call).await?;
        if given.is_err() || row.room() == room {
            return given;
        }
    }
    Err(CallError::Refused(
        Refused::SfuUnavailable(row.kept.people.len(), rest()),
        Box::new(row.state()),
    ))
}

async fn row_of(of: Of<'_>, call: CallId) -> Result<Row, CallError> {
    let mut read = of.db.read().await?;
    let (group, _) = of.group(read.conn()).await?;
    calls::by_id(read.conn(), group.row, call).await?.ok_or(CallError::Unknown)
}

async fn given(
    of: Of<'_>,
    livekit: Option<&LiveKit>,
    row: &Row,
    epoch: u32,
) -> Result<CallSfus, CallError> {
    let kept = &row.kept;
    let refused = |why| Err(CallError::Refused(why, Box::new(row.state())));
    if kept.call.is_over() {
        return refused(Refused::Ended);
    }
    if !kept.people.contains_key(&of.caller.device_id) {
        return refused(Refused::NotInCall);
    }
    let away = |ms| Refused::SfuUnavailable(kept.people.len(), ms);
    let Some(livekit) = livekit else { return refused(away(rest())) };
    if epoch != kept.call.epoch {
        return refused(Refused::StaleEpoch(epoch, kept.call.epoch));
    }
    if !kept.call.may_use_sfu(&of.who()) {
        return refused(Refused::NoNeed);
    }
    let room = row.room();
    let mine = row.name_of(&of.caller.device_id);
    // Nobody is let into a room that is not there.
    let token = match livekit.open(of.now, &room).await {
        Ok(()) => livekit.token(&room, &mine, kept.intent),
        Err(error) => Err(error),
    };
    match token {
        Ok(jwt) => {
            let url = livekit.public_url().to_owned();
            let sfu = CallSfu { url, jwt, publish: true, room, mine };
            let e2ee = if row.is_clear() { CLEAR } else { NATIVE };
            Ok(CallSfus { sfus: vec![sfu], e2ee: e2ee.to_owned() })
        }
        Err(_) => refused(away(livekit.rests(of.now).unwrap_or_else(rest))),
    }
}

/// When to ask again for an SFU that is not there.
pub(super) fn rest() -> u64 {
    u64::try_from(rules::BREAK.as_millis()).unwrap_or(u64::MAX)
}

/// Tells the rules of an SFU that is known to be away, where what somebody wants would need it: he is
/// refused, and the others are not sent there in vain.
pub(super) fn note_away(
    call: &mut Call,
    now: Timestamp,
    livekit: Option<&LiveKit>,
    wanted: &Event,
) {
    let is_there = livekit.is_some_and(|livekit| livekit.rests(now).is_none());
    if is_there || call.topology != Topology::Mesh {
        return;
    }
    let mut trial = call.clone();
    if trial.apply(wanted.clone(), now).is_ok() && trial.topology != Topology::Mesh {
        // Never refused.
        let _ = call.apply(Event::SfuDown, now);
    }
}
