//! Those who are in a call's room on the server for bigger calls and not in the call: how often they come, what is
//! said of it, and the room that the call gets in place of one into which somebody comes again and again.
//!
//! LiveKit gives everybody inside a new token, and takes none back: who was put out comes back by that for as long
//! as there is the room. What is counted is in memory: after a start it begins anew.

use std::collections::BTreeMap;

use causeway_protocol::{call::Event, ids::Timestamp};
use causeway_store::Db;

use super::{next_room, time};
use crate::{
    calls as change,
    gateway::livekit::{InRoom, LiveKit, SfuError},
    live::Live,
    storage::{self, call_rooms, calls, mailbox},
};

/// Times that one is put out of a room, after which the call gets another: who leaves is there once at most.
const MOST_TIMES: u32 = 3;
/// Likewise, of those in all who were put out of it before.
const MOST_RETURNS: u32 = 6;
/// Names that are counted of one call.
const MOST_NAMES: usize = 64;
/// How long a call stays in its second room at least, four times as long in each after that, up to the most: all
/// of it have to go, and who may come in could have it so again and again.
const STAYS_MS: u64 = 30_000;
const STAYS_MOST_MS: u64 = 600_000;
/// Lines of the log about one call within a minute.
const MOST_LINES: u32 = 3;
const MINUTE_MS: u64 = 60_000;

/// Who came into a call's room.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// By what LiveKit calls him: how often, and what it called that visit.
    times: BTreeMap<String, (u32, String)>,
    /// When the call got its present room, where that is not its first, and how long it stays there at least, ms.
    renewed: Option<(Timestamp, u64)>,
    /// Since when lines are counted, how many there were, and how many were not written.
    lines: (Timestamp, u32, u64),
}

impl Seen {
    /// Whether nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Whoever takes part is no stranger, whatever he was.
    pub(super) fn forget(&mut self, takes_part: impl Fn(&str) -> bool) {
        self.times.retain(|name, _| !takes_part(name));
    }

    /// Takes in who was put out; whether the call is to have another room.
    pub(super) fn note(&mut self, now: Timestamp, strangers: &[InRoom]) -> bool {
        for stranger in strangers {
            if !self.times.contains_key(&stranger.identity) && self.times.len() >= MOST_NAMES {
                let least = self.times.iter().min_by_key(|(_, (times, _))| *times);
                let least = least.map(|(name, _)| name.clone());
                self.times.retain(|name, _| Some(name) != least.as_ref());
            }
            let (times, visit) = self.times.entry(stranger.identity.clone()).or_default();
            // Where LiveKit failed to put him out it is the same visit.
            if *visit != stranger.visit {
                (*times, *visit) = (*times + 1, stranger.visit.clone());
            }
        }
        let often = self.times.values().any(|(times, _)| *times >= MOST_TIMES);
        let returns: u32 = self.times.values().map(|(times, _)| times.saturating_sub(1)).sum();
        let may = self.renewed.is_none_or(|(at, stays)| at.plus_ms(stays) <= now);
        !strangers.is_empty() && may && (often || returns >= MOST_RETURNS)
    }

    /// Who came most often, as LiveKit calls him.
    pub(super) fn most(&self) -> Option<&str> {
        self.times.iter().max_by_key(|(_, (times, _))| *times).map(|(name, _)| &**name)
    }

    /// It has another one, into which nobody has a token who may not.
    pub(super) fn renewed(&mut self, now: Timestamp) {
        self.times.clear();
        let stays = self.renewed.map_or(STAYS_MS, |(_, stays)| (4 * stays).min(STAYS_MOST_MS));
        self.renewed = Some((now, stays));
    }

    /// Whether a line is written now, and how many were not since the last.
    pub(super) fn says(&mut self, now: Timestamp) -> Option<u64> {
        let (since, lines, unsaid) = &mut self.lines;
        if since.plus_ms(MINUTE_MS) <= now {
            (*since, *lines) = (now, 0);
        }
        *lines += 1;
        if *lines > MOST_LINES {
            *unsaid += 1;
            return None;
        }
        Some(std::mem::take(unsaid))
    }
}

/// Gives a call another room, where it still has this one and is heard by LiveKit: what is sealed a stranger cannot
/// open. All who may be in it are put out with the old one, and ask where to go.
pub(super) async fn renew(
    (db, live): (&Db, &Live),
    livekit: &LiveKit,
    now: Timestamp,
    (call, room, by): (i64, &str, &str),
) -> Result<bool, storage::Error> {
    let fresh = next_room::drawn()?;
    // Whoever asks finds it, and nobody has to wait for it.
    let opened: Result<(), SfuError> = livekit.open(now, &fresh).await;
    if opened.is_err() {
        return Ok(false);
    }
    let mut tx = db.begin().await?;
    let row = calls::by_number(tx.conn(), call).await?;
    let is_so = |row: &calls::Row| row.kept.call.has_room() && row.is_clear() && row.room() == room;
    let Some(mut row) = row.filter(is_so) else { return Ok(false) };
    let before = row.kept.call.version;
    change::of_itself(&mut row, Event::NewRoom, now);
    row.kept.room = Some(fresh);
    if row.kept.call.version == before {
        row.kept.call.version += 1;
        row.kept.out.clear();
    }
    // The old one stands by itself until it is closed, as that of a call that is no more.
    call_rooms::forget(tx.conn(), call).await?;
    let number = mailbox::take_numbers(tx.conn(), 1).await?;
    call_rooms::put(tx.conn(), number, room).await?;
    time::put(tx, live, now, (&row, before)).await?;
    metrics::counter!("causeway_sfu_rooms_renewed_total").increment(1);
    tracing::warn!(
        room,
        by,
        "somebody came back into a room of LiveKit's again and again: its call has another"
    );
    // If that fails the next look does it.
    let _ = livekit.close(now, room).await;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger(name: &str, visit: u32) -> InRoom {
        InRoom::nobody(name, &format!("PA_{visit}"))
    }

    #[test]
    fn who_comes_a_third_time_costs_the_call_its_room_and_who_left_once_does_not() {
        let mut seen = Seen::default();
        let now = Timestamp(1_000_000);
        for n in 0..40 {
            assert!(!seen.note(now, &[stranger(&format!("left-{n}"), n)]));
        }
        assert!(!seen.note(now, &[stranger("eve", 1)]));
        // LiveKit did not put her out.
        assert!(!seen.note(now, &[stranger("eve", 1)]));
        assert!(!seen.note(now, &[stranger("eve", 2)]));
        // She was let in meanwhile.
        seen.forget(|name| name == "eve");
        assert!(!seen.note(now, &[stranger("eve", 3)]));
        assert!(!seen.note(now, &[stranger("eve", 4)]));
        assert!(seen.note(now, &[stranger("eve", 5)]));
        assert_eq!(seen.most(), Some("eve"));
        seen.renewed(now);
        let (mut renewed, mut visit) = (now, 6);
        for stays in [30_000, 120_000, 480_000, 600_000, 600_000] {
            let later = renewed.plus_ms(stays);
            for _ in 0..3 {
                assert!(!seen.note(later.minus_ms(1), &[stranger("eve", visit)]));
                visit += 1;
            }
            assert!(seen.note(later, &[stranger("eve", visit)]));
            visit += 1;
            seen.renewed(later);
            renewed = later;
        }
    }

    #[test]
    fn many_who_each_come_twice_do_as_well_and_few_are_remembered() {
        let mut seen = Seen::default();
        let now = Timestamp(0);
        let twice = |n: u32| {
            [stranger(&format!("eve-{n}"), 2 * n), stranger(&format!("eve-{n}"), 2 * n + 1)]
        };
        for n in 0..MOST_RETURNS - 1 {
            assert!(!seen.note(now, &twice(n)));
        }
        assert!(seen.note(now, &twice(MOST_RETURNS)));
        for n in 0..200 {
            seen.note(now, &[stranger(&format!("one-{n}"), n)]);
        }
        assert_eq!(seen.times.len(), MOST_NAMES);
    }

    #[test]
    fn the_log_has_three_lines_a_minute_and_how_many_it_has_not() {
        let mut seen = Seen::default();
        let at = |ms| Timestamp(100_000 + ms);
        let said: Vec<_> = (0..10).map(|n| seen.says(at(n))).collect();
        assert_eq!(said[..4], [Some(0), Some(0), Some(0), None]);
        assert_eq!(seen.says(at(MINUTE_MS)), Some(7));
        assert_eq!(seen.says(at(MINUTE_MS + 1)), Some(0));
    }
}
