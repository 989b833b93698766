//! What a change of a call puts down, with whatever brings it: a request, an op that takes a device out,
//! time, a stream that is lost. The row is all that is known of a call; nothing is kept in memory.

use std::time::Duration;

use causeway_protocol::{
    api::{CallOut, CallState, CallTopology, CallWhom},
    call::{Call, Change, Effect, Event, Refused, Topology, Who},
    device::DeviceOf,
    envelope::{Envelope, Kind, MAX_CALL_TTL_MS, Recipient, compute_id},
    ids::{AccountId, Epoch, GroupId, Timestamp},
    roster::Roster,
};
use causeway_store::{Script, Tx};

use crate::{
    figures::SETUP_SECONDS,
    live::{Live, News},
    storage::{
        self, DeviceRow, GroupRow, call_rooms,
        calls::{self, Kept, Row},
        group_rooms,
        mailbox::{self, Boxes, Parcel, To},
    },
};

/// What sends a broadcast of the server, which goes to the group's other servers as well: no device has this
/// number.
const SERVER: DeviceRow = DeviceRow(0);
/// What sends one that the group's home, another server, told: no device has this number either.
const HOME: DeviceRow = DeviceRow(i64::MIN);

/// Has the rules take in what happens to a call, in memory alone.
///
/// # Errors
/// [`Refused`]: nothing changed.
pub(crate) fn apply(row: &mut Row, event: Event, now: Timestamp) -> Result<Change, Refused> {
    let kept = &mut row.kept;
    let (before, asked) = (kept.call.clone(), event.clone());
    let change = kept.call.apply(event, now)?;
    if !change.changed {
        return Ok(change);
    }
    if kept.call.topology != before.topology {
        kept.turned.push((word(kept.call.topology), why(&before, &asked, &kept.call)));
    }
    kept.out.clear();
    for effect in &change.effects {
        if let Effect::PutOut(Who::Native(device), why) = effect
            && let Some(person) = kept.people.get(device)
        {
            let (account, why) = (person.account.clone(), why.name().to_owned());
            kept.out.push(CallOut { account, device: *device, why });
        }
    }
    note_sound(kept, now);
    let call = &kept.call;
    kept.reactions.retain(|it| match &it.who {
        CallWhom::Native { device } => call.participants.contains_key(&Who::Native(*device)),
        CallWhom::Matrix { mirror, device } => {
            call.participants.contains_key(&Who::Matrix(mirror.clone(), device.clone()))
        }
    });
    kept.people.retain(|device, _| call.participants.contains_key(&Who::Native(*device)));
    kept.guests.retain(|_, guest| {
        let who = &guest.who;
        call.participants.contains_key(who) || call.awaited().any(|it| it == who)
    });
    if call.is_over() {
        kept.ended_ms = kept.ended_ms.or(Some(now));
    }
    Ok(change)
}

/// Puts a call down as it is now, and tells the group's devices, all of which count at `epoch`.
pub(crate) async fn put(
    (tx, live): (&mut Tx, &Live),
    now: Timestamp,
    epoch: Epoch,
    row: &Row,
) -> Result<(), storage::Error> {
    let due = row.kept.call.deadline(now);
    calls::put(tx.conn(), row, due).await?;
    if row.kept.call.has_room() {
        let room = row.room();
        call_rooms::put(tx.conn(), row.number, &room).await?;
        // From now on it is this call's alone.
        group_rooms::opened(tx.conn(), row.group, &room).await?;
    }
    let state = row.state();
    let payload = serde_json::to_vec(&state).map_err(|_| storage::Error::Row("state"))?;
    tell((tx, live), now, SERVER, (row.group, row.group_id, epoch), payload).await?;
    live.call_moved(tx, row.number);
    count(tx, &state, &row.kept);
    Ok(())
}

/// Tells the group's devices here what its home told: the state of a call.
pub(crate) async fn tell_of_home(
    of: (&mut Tx, &Live),
    now: Timestamp,
    group: (GroupRow, GroupId, Epoch),
    state: Vec<u8>,
) -> Result<(), storage::Error> {
    tell(of, now, HOME, group, state).await
}

/// A `call_changed` for each of the group's devices, all of which count at `epoch`.
async fn tell(
    (tx, live): (&mut Tx, &Live),
    now: Timestamp,
    by: DeviceRow,
    (group, group_id, epoch): (GroupRow, GroupId, Epoch),
    payload: Vec<u8>,
) -> Result<(), storage::Error> {
    let name = compute_id(Kind::CallChanged, None, &Recipient::Broadcast, &payload, None);
    let seq = mailbox::take_numbers(tx.conn(), 1).await?;
    let expires = now.plus_ms(MAX_CALL_TTL_MS);
    let parcel = Parcel {
        name,
        kind: Kind::CallChanged,
        group,
        epoch,
        sender: None,
        to: To::Server(by),
        at: now,
        ttl_ms: MAX_CALL_TTL_MS,
        expires: Some(expires),
        keep_until: expires,
        payload: &payload,
    };
    let mut script = Script::default();
    mailbox::put_at(&mut script, seq, &Boxes::default(), &[parcel]);
    script.run(tx.conn()).await?;
    let envelope = || Envelope {
        id: name,
        kind: Kind::CallChanged,
        group: group_id,
        epoch,
        sender: None,
        to: Recipient::Broadcast,
        ttl_ms: MAX_CALL_TTL_MS,
        payload: payload.clone(),
        piece: None,
    };
    let mut news = News::default();
    news.broadcast(live, seq, (group, by, now), envelope);
    live.tell(tx, news);
    Ok(())
}

/// Ends a call of a database that was put back, in memory alone.
pub(crate) fn put_back(row: &mut Row, now: Timestamp) {
    row.kept.call.put_back(now);
    row.kept.people.clear();
    row.kept.guests.clear();
    row.kept.out.clear();
    row.kept.ended_ms = row.kept.ended_ms.or(Some(now));
}

/// What carries a call, as a metric names it.
const fn word(topology: Topology) -> &'static str {
    match topology {
        Topology::Mesh => "mesh",
        Topology::Prepare => "prepare",
        Topology::Dual => "dual",
        Topology::Sfu => "sfu",
        Topology::Shrink => "shrink",
        Topology::Reconnecting => "reconnecting",
        Topology::Ended(_) => "ended",
    }
}

/// Why something else carries a call now.
fn why(before: &Call, event: &Event, after: &Call) -> &'static str {
    match (&before.topology, &after.topology, event) {
        (_, Topology::Ended(_), _) => "ended",
        (_, Topology::Prepare, Event::Join(Who::Native(_), _)) => "size",
        (_, Topology::Prepare, Event::Join(..) | Event::Expect(_)) => "matrix",
        (_, Topology::Prepare, Event::Upgrade(..)) => "pair",
        (_, Topology::Prepare, _) | (_, Topology::Shrink, Event::ToMesh) => "operator",
        (_, Topology::Shrink, _) => "few",
        (_, Topology::Dual, _)
        | (Topology::Dual, Topology::Sfu, _)
        | (Topology::Shrink, Topology::Mesh, _) => "ready",
        (_, Topology::Reconnecting, _)
        | (Topology::Sfu, Topology::Mesh, _)
        | (_, Topology::Mesh, Event::SfuDown) => "sfu_lost",
        (Topology::Reconnecting, Topology::Sfu, _) => "sfu_back",
        (_, Topology::Mesh, _) if before.misses_sfu() => "sfu_lost",
        (_, Topology::Sfu, Event::Join(..)) => "size",
        (_, Topology::Mesh | Topology::Sfu, _) => "not_ready",
    }
}

/// Notes who has sound for the first time since it came in: from when there was somebody whom it could
/// hear. Whoever lies about it spoils the figure, and nothing else.
fn note_sound(kept: &mut Kept, now: Timestamp) {
    let all = &kept.call.participants;
    for (device, person) in kept.people.iter_mut().filter(|(_, person)| !person.has_sound) {
        let who = Who::Native(*device);
        let Some(it) = all.get(&who) else { continue };
        let others = || all.iter().filter(|(other, _)| **other != who);
        let direct = others().filter(|(other, _)| it.said.connected.contains(*other));
        let direct = direct.map(|(_, other)| other.since).min();
        let served = others().filter(|(other, there)| there.is_on_sfu(other));
        let served = served.map(|(_, other)| other.since).min().filter(|_| it.is_on_sfu(&who));
        let first = match (direct, served) {
            (Some(since), _) => ("mesh", since),
            (None, Some(since)) => ("sfu", since),
            (None, None) => continue,
        };
        person.has_sound = true;
        kept.set_up.push((first.0, now.0.saturating_sub(first.1.max(it.since).0)));
    }
}

/// Counts what carries a call now, and that it ended, once it is written down.
fn count(tx: &mut Tx, state: &CallState, kept: &Kept) {
    let (turned, set_up) = (kept.turned.clone(), kept.set_up.clone());
    tx.once_committed(move || {
        for (by, ms) in set_up {
            let after = Duration::from_millis(ms);
            metrics::histogram!(SETUP_SECONDS, "by" => by).record(after);
        }
        for (to, why) in turned {
            metrics::counter!("causeway_call_switches_total", "to" => to, "reason" => why)
                .increment(1);
        }
    });
    if state.topology != CallTopology::Ended {
        return;
    }
    let reason = state.reason.clone().unwrap_or_default();
    tx.once_committed(move || {
        metrics::counter!("causeway_calls_ended_total", "reason" => reason).increment(1);
    });
}

/// Closes the room in which those of Matrix wait for the group's next call, which gets another: one of them may
/// not wait there any more, and LiveKit takes no token back. Whether there was one.
pub(crate) async fn close_waiting(
    (tx, live): (&mut Tx, &Live),
    group: GroupRow,
) -> Result<bool, storage::Error> {
    let Some(room) = group_rooms::of(tx.conn(), group).await? else { return Ok(false) };
    group_rooms::forget(tx.conn(), group).await?;
    let number = mailbox::take_numbers(tx.conn(), 1).await?;
    call_rooms::put(tx.conn(), number, &room).await?;
    live.call_moved(tx, number);
    Ok(true)
}

/// An op went through: whoever does not count any more leaves the call, and a group that is closed has
/// none. `by` signed it.
pub(crate) async fn follow_op(
    of: (&mut Tx, &Live),
    now: Timestamp,
    group: GroupRow,
    (changed, (before, after), by): (&[DeviceOf], (&Roster, &Roster), Option<&AccountId>),
) -> Result<(), storage::Error> {
    let bridge = |roster: &Roster| roster.bridge().map(|(member, _)| *member);
    if bridge(before).is_some() && (bridge(before) != bridge(after) || after.closed()) {
        // Whoever waits there may not be of a room of the group's any more.
        close_waiting((&mut *of.0, of.1), group).await?;
    }
    let Some(mut row) = calls::running(of.0.conn(), group).await? else { return Ok(()) };
    let before = row.kept.call.version;
    if after.closed() {
        row.kept.ended_by = by.cloned();
        of_itself(&mut row, Event::End, now);
    } else {
        let is_in = |it: &&DeviceOf| row.kept.people.contains_key(&it.device_id);
        let counts = |it: &DeviceOf| after.devices().any(|device| device == *it);
        let gone: Vec<_> = changed.iter().filter(is_in).filter(|it| !counts(it)).collect();
        for gone in gone {
            of_itself(&mut row, Event::Leave(Who::Native(gone.device_id)), now);
        }
    }
    // Without the bridge the room is the group's no more, and those in it may not hear what is said.
    let is_theirs = |server: &String| {
        after.bridge().is_some_and(|(_, bridge)| bridge.account.server() == server)
    };
    if row.kept.ghosts.as_ref().is_some_and(|server| !is_theirs(server)) {
        for guest in row.guests() {
            of_itself(&mut row, Event::Leave(guest), now);
        }
    }
    if row.kept.call.version == before {
        return Ok(());
    }
    put(of, now, after.epoch(), &row).await
}

/// Likewise, of what is never refused: nobody asked for it.
pub(crate) fn of_itself(row: &mut Row, event: Event, now: Timestamp) {
    if let Err(refused) = apply(row, event, now) {
        tracing::error!(%refused, "the rules of calls refused what nobody asked for");
    }
}
