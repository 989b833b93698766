//! That a call rings in its room, where natives began it, and who of them does not come.

use std::{collections::BTreeSet, time::Duration};

use causeway_protocol::{
    api::{CallState, CallTopology},
    ids::{AccountId, CallId, GroupId, Timestamp},
};
use ruma::OwnedEventId;
use serde_json::{Value, value::to_raw_value};

use super::{Book, Spine, StepError, Wanted, place, show};
use crate::{
    domain::{
        caller::Caller,
        in_call::{
            DECLINE, NOTIFICATION, RINGS_MS, SLOT_STATE, decline, decline_txn, notification,
            ring_txn, slot,
        },
        portal::PortalState,
        rtc::SLOT,
    },
    gateway::matrix::MatrixError,
    storage::portals,
};

/// How old a call may be that rings: who comes back to what is long over calls nobody.
const FRESH_MS: u64 = 60_000;
/// How long it is remembered by which events a room rings, and how many.
const KNOWN: Duration = Duration::from_mins(3);
const MOST: usize = 8;

/// What rings in a group's room.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// The events by which it does, and until when they are remembered.
    events: Vec<(OwnedEventId, Duration)>,
    /// The call of natives that does.
    rung: Option<CallId>,
    /// Who of natives does not come to which, as the room has it.
    declined: BTreeSet<(CallId, AccountId)>,
}

impl Ring {
    pub(super) fn heard(&mut self, event: OwnedEventId, now: Duration) {
        self.events.retain(|(known, until)| *until > now && *known != event);
        let beyond = (self.events.len() + 1).saturating_sub(MOST);
        self.events.drain(..beyond);
        self.events.push((event, now + KNOWN));
    }

    pub(super) fn has(&self, event: &OwnedEventId, now: Duration) -> bool {
        self.events.iter().any(|(known, until)| known == event && *until > now)
    }

    /// Whether it may be of a call that is not heard of yet.
    pub(super) fn is_new(&self, now: Duration) -> bool {
        self.events.iter().any(|(_, until)| *until > now)
    }
}

/// Has rooms ring where natives began a call, and say who of natives does not come; `false`: the homeserver
/// is away.
///
/// # Errors
/// [`StepError`]: the rows'.
pub(super) async fn ring(
    spine: &Spine,
    book: &mut Book,
    wanted: &[Wanted],
) -> Result<bool, StepError> {
    let calls: Vec<_> = book.calls.values().filter(|state| is_on(state)).cloned().collect();
    for state in calls {
        let now = spine.now();
        if is_within(&state, now, FRESH_MS) && !rung(spine, book, &state, wanted).await {
            return Ok(false);
        }
        if is_within(&state, now, 2 * RINGS_MS) && !declines(spine, book, &state).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_on(state: &CallState) -> bool {
    state.bridged && state.topology != CallTopology::Ended
}

fn is_within(state: &CallState, now: Timestamp, ms: u64) -> bool {
    now.0.saturating_sub(state.started_ms.0) < ms
}

async fn rung(spine: &Spine, book: &mut Book, state: &CallState, wanted: &[Wanted]) -> bool {
    let Some(kind) = spine.calls.ring else { return true };
    let is_rung = book.rings.get(&state.group).is_some_and(|it| it.rung == Some(state.call));
    if is_rung || state.started_by.mirror.is_some() {
        return true;
    }
    let is_starter =
        |one: &&Wanted| one.caller.group == state.group && one.id == state.started_by.device;
    let starter = wanted.iter().find(is_starter);
    let shown = starter.and_then(|one| Some((one, book.shown.get(&place(&one.caller))?)));
    // Not shown yet, or gone again.
    let Some((one, shown)) = shown else { return true };
    let Caller { room, user, .. } = &one.caller;
    let content = notification(&shown.event, kind, state.intent, state.started_ms);
    let sent = async {
        let bot = spine.names.bot();
        // Clients do not ring in a room that does not say that it has calls; one that says it has none
        // is left as it is.
        if spine.matrix.state(bot, room, SLOT_STATE, SLOT).await?.is_none() {
            spine.matrix.send_state(bot, room, SLOT_STATE, SLOT, &slot()).await?;
        }
        send(spine, one, (NOTIFICATION, &ring_txn(&state.call)), &content).await
    };
    let now = spine.steady();
    let ring = book.rings.entry(state.group).or_default();
    match sent.await {
        Ok(event) => {
            ring.heard(event, now);
            metrics::counter!("causeway_call_rings_total").increment(1);
        }
        Err(error @ MatrixError::Refused(..)) => {
            tracing::warn!(%user, %error, "a call does not ring in its room");
        }
        Err(error) => {
            tracing::debug!(%error, "a call does not ring in its room yet");
            return false;
        }
    }
    ring.rung = Some(state.call);
    true
}

async fn send(
    spine: &Spine,
    one: &Wanted,
    (kind, txn): (&str, &str),
    content: &Value,
) -> Result<OwnedEventId, MatrixError> {
    say(spine, &one.caller, (kind, txn), content).await
}

/// As the ghost of somebody.
pub(super) async fn say(
    spine: &Spine,
    Caller { room, user, .. }: &Caller,
    (kind, txn): (&str, &str),
    content: &Value,
) -> Result<OwnedEventId, MatrixError> {
    let raw =
        to_raw_value(content).map_err(|error| MatrixError::Misunderstood(error.to_string()))?;
    spine.matrix.send(user, room, kind, txn, &raw, None).await
}

async fn declines(spine: &Spine, book: &mut Book, state: &CallState) -> Result<bool, StepError> {
    let group: GroupId = state.group;
    let Some(ring) = book.rings.get(&group) else { return Ok(true) };
    let Some((event, _)) = ring.events.last().cloned() else { return Ok(true) };
    let is_new = |who: &&AccountId| !ring.declined.contains(&(state.call, (*who).clone()));
    let new: Vec<_> = state.declined.iter().filter(is_new).cloned().collect();
    for account in new {
        let mut tx = spine.db.begin().await?;
        let portal = portals::of_group(&mut tx, &spine.names, &group).await?;
        drop(tx);
        let open = portal.filter(|portal| {
            portal.state == PortalState::Open && !portal.removed.contains_key(&account)
        });
        if let (Some(portal), Some(user)) = (open, spine.names.ghost(&account))
            && let Some(room) = portal.room
        {
            let key = String::new();
            let caller = Caller { room, key, user, group, began_at: spine.now() };
            show::bring_in(spine, portal.id, &account, &caller).await?;
            let txn = decline_txn(&state.call, caller.user.as_str());
            match say(spine, &caller, (DECLINE, &txn), &decline(&event)).await {
                Ok(_) => {}
                Err(error @ MatrixError::Refused(..)) => {
                    tracing::debug!(%error, "a room is not told who does not come to a call");
                }
                Err(_) => return Ok(false),
            }
        }
        let ring = book.rings.entry(group).or_default();
        ring.declined.retain(|(call, _)| *call == state.call);
        ring.declined.insert((state.call, account));
    }
    Ok(true)
}
