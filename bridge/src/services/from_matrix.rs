//! Inbox → rules → outbox: events of the homeserver, some at a time, in one transaction.

mod straight;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{PoisonError, atomic::Ordering},
};

use causeway_protocol::ids::Timestamp;
use causeway_store::{Rows, Script, Tx};
use ruma::OwnedRoomId;
use tokio::time::{Instant, sleep_until};

pub use straight::Straight;

use super::{AFTER_FAULT, Spine, Step, StepError, TOGETHER};
use crate::{
    domain::{
        Input, RoomEvent, Skip, UNREAD,
        asks::{Answered, MOST_WAITING},
        attending::Attending,
        caller::CALLER,
        command::{Asked, Command, errand},
        effect::{Effect, InRoom},
        in_call::{InCall, Moment, NOTIFICATION, is_hand},
        lane::Lane,
        mirror::client_id,
        portal::{Portal, PortalId},
        route::{is_unheard, route},
        share::day,
        unbridged,
    },
    steps,
    storage::{
        self, answered,
        effects::{Cause, Decided},
        errands,
        inbox::{self, Looked, Waiting},
        late, links, outbox, portals, quarantine,
    },
};

/// How long what was said in a room is of use to the group: the longest that a group keeps.
const TTL_MS: u64 = 30 * 24 * 60 * 60 * 1_000;
/// Shortest between two answers of the bot to one person in a room, but where it divides them.
const ANSWERS_MS: u64 = 10_000;

/// Routes until `stop` is done.
pub async fn run(spine: &Spine, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    let mut woken = spine.db.listen(inbox::TOPIC);
    loop {
        let began = Instant::now();
        match step(spine).await {
            Ok(Step::Did) => {}
            Ok(Step::Idle(_)) => tokio::select! {
                () = async {
                    woken.changed().await;
                    sleep_until(began + TOGETHER).await;
                } => {}
                () = &mut stop => return,
            },
            Err(error) => {
                tracing::error!(%error, "events could not be routed; trying again");
                tokio::select! {
                    () = tokio::time::sleep(AFTER_FAULT) => {}
                    () = &mut stop => return,
                }
            }
        }
    }
}

/// Routes the oldest events that wait.
///
/// # Errors
/// [`StepError`]: they still wait.
pub async fn step(spine: &Spine) -> Result<Step, StepError> {
    let mut script = Script::default();
    inbox::select_waiting(&mut script);
    let (mut tx, rows) = spine.db.begin_with(script).await?;
    let waiting = inbox::read_waiting(&spine.sealer, &rows)?;
    if waiting.is_empty() {
        return Ok(Step::Idle(None));
    }
    let is_all = waiting.len() < inbox::AT_ONCE;
    let known = known(spine, &mut tx, &waiting).await?;
    let (looked, _) = decide(spine, &mut tx, waiting, known).await?;
    inbox::looked(&mut tx, looked);
    spine.steps.reached(steps::Step::RoutingEvents).await;
    tx.commit().await?;
    spine.steps.reached(steps::Step::RoutedEvents).await;
    // Whatever came meanwhile has woken us.
    Ok(if is_all { Step::Idle(None) } else { Step::Did })
}

/// Decides about events that wait, in their order, and keeps what was decided; what becomes of their
/// rows is still to be written down. The lane into a group, if all that is to be done is in one.
async fn decide(
    spine: &Spine,
    tx: &mut Tx,
    waiting: Vec<Waiting>,
    (portals, ours): (Portals, BTreeSet<String>),
) -> Result<(Looked, Option<Lane>), StepError> {
    let now = spine.now();
    let (followed, decided, attending) = (BTreeSet::new(), Decided::default(), Vec::new());
    let mut round = Round { spine, now, ours, portals, followed, decided, attending };
    let mut looked = Looked::default();
    // What comes behind a damaged row of its room stays behind it.
    let mut stopped = BTreeSet::new();
    for row in waiting {
        if stopped.contains(&row.room) {
            continue;
        }
        let Some(event) = row.event else {
            tracing::error!(row = row.seq, "an event in the inbox does not open; it is fetched");
            looked.damaged.push(row.seq);
            stopped.insert(row.room);
            continue;
        };
        let stays = round.event(tx, event, row.received_at).await?;
        if stays { looked.early.push(row.seq) } else { looked.routed.push(row.seq) }
    }
    let attending = std::mem::take(&mut round.attending);
    let lane = round.decided.into_one_group();
    let changed = round.portals.values_mut().flatten();
    round.decided.keep_last(tx, &spine.sealer, now, changed).await?;
    if !attending.is_empty() {
        let said = spine.calls_said.clone();
        tx.once_committed(move || said.put(attending));
    }
    Ok((looked, lane))
}

type Portals = BTreeMap<OwnedRoomId, Option<Portal>>;

/// The portals of the rooms that events are of, and which of the events are our own.
async fn known(
    spine: &Spine,
    tx: &mut Tx,
    waiting: &[Waiting],
) -> Result<(Portals, BTreeSet<String>), StepError> {
    let events = || waiting.iter().filter_map(|row| row.event.as_ref());
    let rooms: BTreeSet<&OwnedRoomId> = events().map(|event| &event.room_id).collect();
    let mut script = Script::default();
    select_known(&mut script, &rooms, events());
    let mut rows = script.run(tx.conn()).await?;
    read_known(spine, rooms, &mut rows)
}

/// Asks for what [`read_known`] reads.
fn select_known<'a>(
    script: &mut Script,
    rooms: &BTreeSet<&OwnedRoomId>,
    events: impl Iterator<Item = &'a RoomEvent>,
) {
    portals::select_of_rooms(script, rooms.iter().map(|room| room.as_str()));
    inbox::select_linked(script, events.map(|event| &event.event_id));
}

/// The portals of these rooms, and which of the events that were asked for are our own.
fn read_known(
    spine: &Spine,
    rooms: BTreeSet<&OwnedRoomId>,
    rows: &mut Rows,
) -> Result<(Portals, BTreeSet<String>), StepError> {
    let mut portals = portals::read_of_rooms(&spine.names, rows)?;
    let portals = rooms.into_iter().map(|room| (room.clone(), portals.remove(room))).collect();
    Ok((portals, inbox::read_linked(&rows.take())?))
}

/// What one transaction has come to know.
struct Round<'a> {
    spine: &'a Spine,
    now: Timestamp,
    ours: BTreeSet<String>,
    portals: Portals,
    /// Rooms that have replaced others, as this transaction has it.
    followed: BTreeSet<OwnedRoomId>,
    decided: Decided,
    /// What rooms say of their calls.
    attending: Vec<InCall>,
}

/// Whether the message that a redaction takes back has a counterpart in the group, or will have one. It is not
/// sealed anew for those who had it too late, or will have.
async fn is_known(
    tx: &mut Tx,
    portal: &Portal,
    decided: &mut Decided,
    redaction: &RoomEvent,
) -> Result<bool, storage::Error> {
    let (_, about) = unbridged::line(unbridged::Kind::Redaction, redaction);
    let Some(event) = about else { return Ok(false) };
    let txn = client_id(&portal.group, event.as_bytes(), 0).to_string();
    late::take_back(tx, &txn).await?;
    if decided.has(&txn) || outbox::lane_of(tx.conn(), &txn).await?.is_some() {
        decided.take_back(txn);
        return Ok(true);
    }
    Ok(links::message_of(tx.conn(), &event).await?.is_some())
}

/// Whether it is about a call and nothing else.
async fn is_of_call(tx: &mut Tx, event: &RoomEvent) -> Result<bool, storage::Error> {
    if !is_hand(event) {
        return Ok(event.kind == NOTIFICATION);
    }
    let (_, about) = unbridged::line(unbridged::Kind::Reaction, event);
    let Some(about) = about else { return Ok(false) };
    // What is about a message is no hand.
    Ok(links::message_of(tx.conn(), &about).await?.is_none())
}

/// Those of `effects` that are carried out of what somebody asks the bot; `true`: he is told that it is
/// too much.
async fn in_budget(
    spine: &Spine,
    tx: &mut Tx,
    portal: PortalId,
    event: &RoomEvent,
    effects: Vec<Effect>,
) -> Result<(Vec<Effect>, bool), storage::Error> {
    let is_asked =
        |effect: &Effect| matches!(effect, Effect::InRoom(InRoom::Members(..) | InRoom::Asked(..)));
    if !effects.iter().any(is_asked) {
        return Ok((effects, false));
    }
    // Whoever may end it all does so however much others ask.
    let ends =
        |effect: &Effect| matches!(effect, Effect::InRoom(InRoom::Asked(_, _, Asked::Unbridge)));
    let is_his = effects.iter().any(ends);
    let answered = {
        let mut asks = spine.asks.lock().unwrap_or_else(PoisonError::into_inner);
        asks.take(spine.steady(), portal, &event.sender, is_his)
    };
    let most = if is_his { 2 * MOST_WAITING } else { MOST_WAITING };
    let is_full = outbox::in_bots(tx.conn(), portal, most).await? >= most;
    Ok(match answered {
        Answered::Yes if !is_full => (effects, false),
        Answered::Told(words) if !is_full => {
            let (id, by) = (event.event_id.clone(), event.sender.clone());
            (vec![Effect::InRoom(InRoom::Asked(id, by, Asked::Words(words)))], true)
        }
        Answered::InSilence if !is_full => {
            let (id, by) = (event.event_id.clone(), event.sender.clone());
            let asked = InRoom::Asked(id, by, Asked::UnbridgeInSilence);
            (vec![Effect::InRoom(asked)], false)
        }
        Answered::Yes | Answered::InSilence | Answered::Told(_) | Answered::No => {
            // Somebody who means harm writes no log with it.
            tracing::debug!(by = %event.sender, "asks for too much at once, and is not answered");
            (Vec::new(), false)
        }
    })
}

impl Round<'_> {
    /// Decides about one event; `true`: its room may be one that is just being made, so it stays.
    async fn event(
        &mut self,
        tx: &mut Tx,
        event: RoomEvent,
        received_at: Timestamp,
    ) -> Result<bool, StepError> {
        if self.followed.contains(&event.room_id) {
            return Ok(true);
        }
        let Some(Some(portal)) = self.portals.get_mut(&event.room_id) else {
            if let Some(stays) = self.next(tx, &event, received_at).await? {
                return Ok(stays);
            }
            let are_known = self.spine.rooms_known.load(Ordering::Relaxed);
            if !are_known || portals::any_in_making(tx).await? {
                return Ok(true);
            }
            self.elsewhere(tx, &event).await?;
            return Ok(false);
        };
        // How the room is now is read first.
        if portal.is_in_making() {
            return Ok(true);
        }
        // Whom the group meets by it is called by a name that none of its members has.
        let meets = event.kind == "m.room.member" || !portal.mirrors.contains_key(&event.sender);
        if meets && portal.natives.is_none() {
            let machine = self.spine.native.machine();
            portal.natives = machine.roster(tx, portal.group).await?;
        }
        let attends = matches!(event.kind.as_str(), CALLER | "m.room.member");
        let is_theirs = !portal.encrypted && !self.spine.names.is_ours(&event.sender);
        if attends && is_theirs {
            self.attending.extend(Attending::of(portal.group, &event).map(InCall::Attends));
        }
        if is_theirs && let Some(moment) = Moment::of(portal.group, &event) {
            self.attending.push(InCall::Moment(moment));
            // Where calls are carried the group has it as its own, and no line of it.
            if self.spine.calls.are_carried && is_of_call(tx, &event).await? {
                return Ok(false);
            }
        }
        let kind = unbridged::Kind::of(&event);
        // What never came.
        let is_nothing = kind == Some(unbridged::Kind::Redaction)
            && !is_known(tx, portal, &mut self.decided, &event).await?;
        let is_ours = self.ours.contains(event.event_id.as_str());
        let once = match kind {
            Some(kind) => Some(kind.name()),
            None => is_unheard(portal, &event).then_some("unheard"),
        };
        let input = Input::Event(event, is_ours);
        let decided = if is_nothing { Err(Skip::Nothing) } else { route(portal, &input) };
        let Input::Event(event, _) = input else { return Ok(false) };
        match decided {
            Ok(effects) => {
                // Who says many is answered once a day.
                let of_day = format!("unread {} {}", day(self.now), event.sender);
                let is_unread = event.kind == UNREAD;
                if is_unread {
                    self.spine.encryption.read(&event);
                }
                // Who asks the bot again and again is answered once in ten seconds.
                let command = Command::of(&event);
                let slot = self.now.0 / ANSWERS_MS;
                let of_slot = format!("asked {slot} {} {command:?}", event.sender);
                let id = match event.kind.as_str() {
                    UNREAD => of_day.as_str(),
                    _ if command.is_some() => of_slot.as_str(),
                    _ => event.event_id.as_str(),
                };
                let cause = Cause {
                    id: id.as_bytes(),
                    author: event.sender.as_str(),
                    accepted_at: received_at,
                    expires_at: self.now.plus_ms(TTL_MS),
                };
                // Who did something that is not carried is told once.
                let is_answer = |effect: &Effect| {
                    once.is_some() && matches!(effect, Effect::InRoom(InRoom::Answer(..)))
                };
                let (answers, effects) = effects.into_iter().partition(is_answer);
                let (effects, is_told) =
                    in_budget(self.spine, tx, portal.id, &event, effects).await?;
                // The answer that he has had may bear the slot's name.
                let of_told = format!("asked too much {}", event.event_id);
                let id = if is_told { of_told.as_bytes() } else { cause.id };
                self.decided.take(portal, Cause { id, ..cause }, effects);
                if portal.is_about_to_follow() {
                    self.followed.extend(portal.successor.clone());
                }
                if let Some(kind) = once.filter(|_| !answers.is_empty())
                    && answered::is_first(tx, portal.id, event.sender.as_str(), kind).await?
                {
                    let id = format!("unbridged {}", event.event_id);
                    self.decided.take(portal, Cause { id: id.as_bytes(), ..cause }, answers);
                }
                if let (true, Some(room)) = (portal.encrypted, &portal.room) {
                    self.spine.encryption.found(room, true, 0);
                }
                if is_unread {
                    self.put_aside(tx, &event, Skip::Encrypted).await?;
                }
            }
            Err(skip @ (Skip::Encrypted | Skip::Malformed)) => {
                self.put_aside(tx, &event, skip).await?;
            }
            Err(skip) => tracing::debug!(event = %event.event_id, %skip, "nothing to do"),
        }
        metrics::counter!("causeway_events_routed_total").increment(1);
        Ok(false)
    }

    /// Whether an event stays whose room is said to have replaced that of a portal, where the bridge
    /// is not yet; `None` where nobody says so. Whose room it is, it says itself.
    async fn next(
        &mut self,
        tx: &mut Tx,
        event: &RoomEvent,
        received_at: Timestamp,
    ) -> Result<Option<bool>, StepError> {
        let mut waiting = Vec::new();
        for id in portals::replaced_by(tx, &event.room_id).await? {
            waiting.push(portals::get(tx, &self.spine.names, id).await?);
        }
        // What is said there is the group's once the bot has gone into it.
        if waiting.iter().any(Portal::is_about_to_follow) {
            return Ok(Some(true));
        }
        let is_next = !waiting.is_empty();
        for mut portal in waiting {
            let Ok(effects) = route(&portal, &Input::Event(event.clone(), false)) else { continue };
            let id = format!("{} {}", event.event_id, portal.id.0);
            let cause = Cause {
                id: id.as_bytes(),
                author: event.sender.as_str(),
                accepted_at: received_at,
                expires_at: self.now.plus_ms(TTL_MS),
            };
            self.decided.take(&mut portal, cause, effects);
        }
        Ok(is_next.then_some(false))
    }

    /// Whoever asks the bot or a ghost for something where there is no portal is answered.
    async fn elsewhere(&self, tx: &mut Tx, event: &RoomEvent) -> Result<(), StepError> {
        let Some(errand) = errand(&self.spine.names, event) else { return Ok(()) };
        if !errands::put(tx, self.now, &event.event_id, &errand).await? {
            // Somebody who means harm writes no log with it.
            tracing::debug!(by = %errand.by, "asks for too much at once, and is not answered");
        }
        Ok(())
    }

    /// Keeps what cannot be read.
    async fn put_aside(
        &self,
        tx: &mut Tx,
        event: &RoomEvent,
        why: Skip,
    ) -> Result<(), storage::Error> {
        let bytes = serde_json::to_vec(event).unwrap_or_default();
        let (sealer, id) = (&self.spine.sealer, Some(&*event.event_id));
        quarantine::put(tx, sealer, self.now, id, &why.to_string(), &bytes).await
    }
}
