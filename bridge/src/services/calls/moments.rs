//! Hands and signs of natives, as their ghosts say them in the room.

use causeway_protocol::api::{CallState, CallWhom};

use super::{Book, Spine, Timestamp, Wanted, place, ring::say};
use crate::{
    domain::{
        caller::Caller,
        in_call::{REACTION, hand, sign, sign_txn},
    },
    gateway::matrix::MatrixError,
};

/// How old a sign may be that a room is shown.
const FRESH_MS: u64 = 10_000;

/// Shows hands and signs of those who are shown; `false`: the homeserver is away.
pub(super) async fn show(spine: &Spine, book: &mut Book, wanted: &[Wanted]) -> bool {
    for one in wanted {
        let Some(state) = book.calls.get(&one.caller.group).cloned() else { continue };
        let done = async {
            raise(spine, book, one, &state).await?;
            give_sign(spine, book, one, &state).await
        };
        match done.await {
            Ok(()) => {}
            Err(error @ MatrixError::Refused(..)) => {
                tracing::debug!(%error, "a room is not shown somebody's hand or sign");
            }
            Err(_) => return false,
        }
    }
    true
}

async fn raise(
    spine: &Spine,
    book: &mut Book,
    one: &Wanted,
    state: &CallState,
) -> Result<(), MatrixError> {
    let is_up = state.natives().any(|it| it.device == one.id && it.hand);
    let Some(shown) = book.shown.get_mut(&place(&one.caller)) else { return Ok(()) };
    let Caller { room, user, .. } = &one.caller;
    let (member, version) = (shown.event.clone(), state.version);
    match shown.hand.clone() {
        // As another event it is nobody's any more.
        before if is_up && before.as_ref().is_none_or(|(_, of)| *of != member) => {
            // Refused it is not tried again before it is another.
            let txn = format!("hand-{member}-{version}");
            shown.hand = Some((member.clone(), member.clone()));
            let raised = say(spine, &one.caller, ("m.reaction", &txn), &hand(&member)).await;
            match raised {
                Ok(event) => shown.hand = Some((event, member)),
                Err(error @ MatrixError::Refused(..)) => return Err(error),
                Err(error) => {
                    shown.hand = before;
                    return Err(error);
                }
            }
        }
        Some((event, _)) if !is_up => {
            if event != member {
                let txn = format!("lower-{event}");
                match spine.matrix.redact(user, room, &event, &txn).await {
                    Ok(()) | Err(MatrixError::Refused(..)) => {}
                    Err(error) => return Err(error),
                }
            }
            shown.hand = None;
        }
        _ => {}
    }
    Ok(())
}

async fn give_sign(
    spine: &Spine,
    book: &mut Book,
    one: &Wanted,
    state: &CallState,
) -> Result<(), MatrixError> {
    let Some(shown) = book.shown.get_mut(&place(&one.caller)) else { return Ok(()) };
    let mine = CallWhom::Native { device: one.id };
    let fresh = Timestamp(spine.now().0.saturating_sub(FRESH_MS));
    let is_new = |at: Timestamp| at > shown.sign && at > fresh;
    let new = state.reactions.iter().find(|it| it.who == mine && is_new(it.at_ms));
    let Some(new) = new else { return Ok(()) };
    let txn = sign_txn(&state.call, &one.id, new.at_ms);
    let said = sign(&shown.event, &new.emoji);
    match say(spine, &one.caller, (REACTION, &txn), &said).await {
        Err(error) if !matches!(error, MatrixError::Refused(..)) => Err(error),
        done => {
            shown.sign = new.at_ms;
            done.map(drop)
        }
    }
}
