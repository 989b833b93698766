//! A few events that the homeserver hands over are taken in and routed in one transaction, and sealed for
//! their group where nothing of it waits: what all of that writes is written once, and comes to disk once.
//!
//! Nothing is weakened by it. The homeserver is answered after the commit, as always; where the rules
//! cannot be asked, the events are taken in alone, and wait.

use std::{
    collections::BTreeSet,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
};

use causeway_protocol::ids::Timestamp;
use causeway_store::{Script, Tx};
use futures_util::FutureExt as _;
use serde_json::value::RawValue;

use super::{Spine, StepError, decide, known, read_known, select_known};
use crate::{
    domain::RoomEvent,
    steps,
    storage::{
        inbox::{self, Accepted, Looked, Waiting},
        lanes,
    },
};

/// The way from the homeserver's hand to the rules, once there is a spine. Cheap to clone.
#[derive(Clone, Default)]
pub struct Straight(Arc<OnceLock<Spine>>);

impl Straight {
    /// From now on events may go this way: the spine has its rows.
    pub fn open(&self, spine: &Spine) {
        // Who opens it twice has the same spine.
        _ = self.0.set(spine.clone());
    }

    /// Takes in events and routes them, and whatever waited before them; they are committed when this
    /// returns. `None`: they are to be taken in the ordinary way, nothing of them was kept.
    pub async fn accept(&self, now: Timestamp, raw: &[Box<RawValue>]) -> Option<Accepted> {
        let spine = self.0.get()?;
        if !(1..=inbox::FEW).contains(&raw.len()) {
            return None;
        }
        let parsed = raw.iter().map(|event| serde_json::from_str(event.get()));
        let events: Vec<RoomEvent> = parsed.collect::<Result<_, _>>().ok()?;
        // Whatever is wrong with an event, the homeserver is not kept waiting for it.
        match AssertUnwindSafe(at_once(spine, now, events)).catch_unwind().await {
            Ok(Ok(accepted)) => Some(accepted),
            Ok(Err(error)) => {
                tracing::error!(%error, "events could not be routed at once; they are taken in");
                None
            }
            Err(_) => None,
        }
    }
}

async fn at_once(
    spine: &Spine,
    now: Timestamp,
    events: Vec<RoomEvent>,
) -> Result<Accepted, StepError> {
    let mut script = Script::default();
    inbox::put_routed(&mut script, now, &events);
    inbox::select_unlevel(&mut script);
    let rooms: BTreeSet<_> = events.iter().map(|event| &event.room_id).collect();
    select_known(&mut script, &rooms, events.iter());
    let (mut tx, mut rows) = spine.db.begin_growing_with(script).await?;
    let mut places = inbox::read_places(&rows.take())?;
    let is_level = rows.take().is_empty();
    let known_now = read_known(spine, rooms, &mut rows)?;
    let count = events.len() as u64;
    let new = places.len() as u64;
    // One that came twice in a transaction has its place once.
    let rows = events.into_iter().filter_map(|event| {
        let seq = places.remove(event.event_id.as_str())?;
        let room = event.room_id.to_string();
        Some(Waiting { seq, received_at: now, room, event: Some(event) })
    });
    let came: Vec<Waiting> = rows.collect();
    let mut lane = None;
    if is_level {
        let held = came.clone();
        let (Looked { early, .. }, into) = decide(spine, &mut tx, came, known_now).await?;
        lane = into;
        // Of the others it stands in their rows already.
        let early = held.iter().filter(|row| early.contains(&row.seq));
        inbox::put_back(tx.later(), &spine.sealer, inbox::EARLY, early)?;
    } else {
        wait_in_turn(spine, &mut tx, &came).await?;
    }
    // That the homeserver calls at all means it is back.
    lanes::hurry(&mut tx);
    spine.steps.reached(steps::Step::RoutingAtOnce).await;
    match lane {
        Some(lane) => spine.leases.commit_sealed(spine, tx, lane).await?,
        None => tx.commit().await?,
    }
    Ok(Accepted { new, repeated: count - new, quarantined: 0 })
}

/// Puts events behind those that wait, and routes as many of them all as may go.
async fn wait_in_turn(spine: &Spine, tx: &mut Tx, came: &[Waiting]) -> Result<(), StepError> {
    let mut script = Script::default();
    inbox::put_back(&mut script, &spine.sealer, inbox::WAITS, came.iter())?;
    script.asks();
    inbox::select_waiting(&mut script);
    let rows = script.run(tx.conn()).await?;
    let waiting = inbox::read_waiting(&spine.sealer, &rows)?;
    // What is behind these, or came to wait, is looked at by whoever routes.
    tx.wake(inbox::TOPIC);
    if waiting.is_empty() {
        return Ok(());
    }
    let known = known(spine, tx, &waiting).await?;
    let (looked, _) = decide(spine, tx, waiting, known).await?;
    inbox::looked(tx, looked);
    Ok(())
}
