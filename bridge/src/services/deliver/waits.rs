//! Which lanes wait, until when, and what for: in memory, and by a clock that only goes forth, so
//! that nobody's clock is in the way of what waits.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::domain::{lane::Lane, portal::PortalId};

/// A lane is hurried once in so long: what goes well elsewhere must not take its wait from it.
pub(super) const HURRIED_EVERY: Duration = Duration::from_mins(1);
/// The same where a homeserver is back that was away, and may come and go.
pub(super) const BACK_EVERY: Duration = Duration::from_secs(5);
/// For so long a success shows that the homeserver does what it is asked.
const SHOWN_FOR: Duration = Duration::from_mins(5);
/// For so long that what fails there is no reason to let the room alone.
const JUST_TOOK: Duration = Duration::from_mins(1);

/// A lane to be served, and how it has fared. Times are of the steady clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ready {
    /// Which.
    pub(super) lane: Lane,
    /// Failures since something last went well.
    pub(super) failures: u32,
    /// Its first row, if that has failed, and since when.
    failing: Option<(i64, Duration)>,
    /// Since when nothing of it went well.
    since: Option<Duration>,
    hurried: Option<Duration>,
    /// Which of its waits this was, if it waited.
    stamp: u64,
}

impl Ready {
    /// A lane that nothing is known of.
    pub(super) fn new(lane: Lane) -> Self {
        Self { lane, failures: 0, failing: None, since: None, hurried: None, stamp: 0 }
    }

    /// The same after one of its rows was done with: waits begin anew.
    #[must_use]
    pub(super) fn went_on(&self) -> Self {
        Self { since: None, ..self.is_rid() }
    }

    /// The same after nothing but rows that are given up.
    #[must_use]
    pub(super) fn is_rid(&self) -> Self {
        Self { failures: 0, failing: None, ..self.clone() }
    }

    /// Another lane, whose first row has fared as this one's.
    #[must_use]
    pub(super) fn of(&self, lane: Lane) -> Self {
        Self { lane, since: None, hurried: None, stamp: 0, ..self.clone() }
    }

    /// For how long this row has failed.
    pub(super) fn stood(&self, row: i64, now: Duration) -> Duration {
        match self.failing {
            Some((failing, since)) if failing == row => now.saturating_sub(since),
            Some(_) | None => Duration::ZERO,
        }
    }

    /// For how long nothing of it has gone well.
    pub(super) fn failed_for(&self, now: Duration) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }
}

/// Why a lane waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stop {
    /// For how long.
    pub(super) wait: Duration,
    /// Only for the other side to be there.
    pub(super) away: bool,
    /// The row that failed, if it is one's fault.
    pub(super) row: Option<i64>,
}

#[derive(Debug)]
struct Wait {
    until: Duration,
    away: bool,
    ready: Ready,
}

/// Lanes that wait.
#[derive(Debug, Default)]
pub(super) struct Waits(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    lanes: BTreeMap<Lane, Wait>,
    stamps: u64,
    /// When rooms last took something, of those of the last minutes.
    taken: BTreeMap<PortalId, Duration>,
    /// Portals that are to be closed after what waits aside: by which row, and since when the
    /// homeserver answers.
    closing: BTreeMap<PortalId, (i64, Duration)>,
}

impl Waits {
    /// The lane has failed once more than `ready` says.
    pub(super) fn put(&self, now: Duration, ready: &Ready, stop: Stop) {
        let mut all = self.all();
        all.stamps += 1;
        let since = stop.row.map(|row| (row, now.saturating_sub(ready.stood(row, now))));
        let ready = Ready {
            failures: ready.failures.saturating_add(1),
            failing: since,
            since: ready.since.or(Some(now)),
            stamp: all.stamps,
            ..ready.clone()
        };
        let wait = Wait { until: now + stop.wait, away: stop.away, ready };
        all.lanes.insert(wait.ready.lane.clone(), wait);
    }

    /// A lane gives way in which nothing has gone well: that is known when its turn comes again.
    pub(super) fn gives_way(&self, now: Duration, ready: &Ready) {
        if ready.since.is_none() {
            return;
        }
        let mut all = self.all();
        all.stamps += 1;
        let ready = Ready { stamp: all.stamps, ..ready.clone() };
        let wait = Wait { until: now, away: false, ready };
        all.lanes.insert(wait.ready.lane.clone(), wait);
    }

    /// A lane did well: it has nothing to wait for, unless it has failed again since it was lent.
    /// Whether it had waited.
    pub(super) fn end(&self, ready: &Ready) -> bool {
        let mut all = self.all();
        let is_same =
            all.lanes.get(&ready.lane).is_some_and(|wait| wait.ready.stamp == ready.stamp);
        if is_same {
            all.lanes.remove(&ready.lane);
        }
        is_same
    }

    /// A portal's room took something.
    pub(super) fn taken(&self, now: Duration, portal: PortalId) {
        let mut all = self.all();
        all.taken.retain(|_, at| now.saturating_sub(*at) <= SHOWN_FOR);
        all.taken.insert(portal, now);
    }

    /// Whether some room took something lately; or this one, if one is named.
    pub(super) fn rooms_take(&self, now: Duration, portal: Option<PortalId>) -> bool {
        let all = self.all();
        let is_shown = |at: &Duration| now.saturating_sub(*at) <= SHOWN_FOR;
        match portal {
            Some(portal) => all.taken.get(&portal).is_some_and(is_shown),
            None => all.taken.values().any(is_shown),
        }
    }

    /// This row is to close the portal, and the homeserver answers: for how long now.
    pub(super) fn closes(&self, now: Duration, portal: PortalId, row: i64) -> Duration {
        let mut all = self.all();
        let place = all.closing.entry(portal).or_insert((row, now));
        if place.0 != row {
            *place = (row, now);
        }
        now.saturating_sub(place.1)
    }

    /// It is closed, or the homeserver does not answer: the time begins anew when it does.
    pub(super) fn closes_no_more(&self, portal: PortalId) {
        self.all().closing.remove(&portal);
    }

    /// Whether this portal's room took something just now.
    pub(super) fn just_took(&self, now: Duration, portal: PortalId) -> bool {
        let all = self.all();
        all.taken.get(&portal).is_some_and(|at| now.saturating_sub(*at) <= JUST_TOOK)
    }

    /// Those of `lanes` that do not wait, then those whose time has come; and when the next one's
    /// comes.
    pub(super) fn over(&self, now: Duration, lanes: Vec<Lane>) -> (Vec<Ready>, Option<Duration>) {
        let all = self.all();
        let fresh = lanes.into_iter().filter(|lane| !all.lanes.contains_key(lane)).map(Ready::new);
        let mut ready: Vec<Ready> = fresh.collect();
        let (over, later): (Vec<&Wait>, Vec<&Wait>) =
            all.lanes.values().partition(|wait| wait.until <= now);
        ready.extend(over.into_iter().map(|wait| wait.ready.clone()));
        (ready, later.into_iter().map(|wait| wait.until).min())
    }

    /// Whether a lane waits.
    pub(super) fn has(&self, lane: &Lane) -> bool {
        self.all().lanes.contains_key(lane)
    }

    /// Ends the wait of one lane.
    pub(super) fn end_now(&self, lane: &Lane) {
        if let Some(wait) = self.all().lanes.get_mut(lane) {
            wait.until = Duration::ZERO;
        }
    }

    /// Ends the waits of those that wait for the other side to be there, of each once in so long; whether
    /// there is one.
    pub(super) fn hurry(&self, now: Duration, every: Duration) -> bool {
        let mut is_any = false;
        for wait in self.all().lanes.values_mut().filter(|wait| wait.away && wait.until > now) {
            let is_late = |at: Duration| now.saturating_sub(at) >= every;
            if wait.ready.hurried.is_none_or(is_late) {
                wait.ready.hurried = Some(now);
                wait.until = now;
                is_any = true;
            }
        }
        is_any
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: Lane = Lane::ToMatrix(PortalId(1));
    const AWAY: Stop = Stop { wait: s(100), away: true, row: Some(7) };

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn over(waits: &Waits, now: Duration) -> Option<Ready> {
        waits.over(now, vec![LANE]).0.pop()
    }

    #[test]
    fn a_lane_waits_and_keeps_count_until_it_does_well() {
        let waits = Waits::default();
        waits.put(s(10), &Ready::new(LANE), AWAY);
        assert_eq!(waits.over(s(109), vec![LANE]), (vec![], Some(s(110))));
        let ready = over(&waits, s(110)).unwrap();
        assert_eq!(
            (ready.failures, ready.stood(7, s(110)), ready.stood(8, s(110))),
            (1, s(100), s(0))
        );
        waits.put(s(110), &ready, AWAY);
        let again = over(&waits, s(210)).unwrap();
        assert_eq!((again.failures, again.stood(7, s(210))), (2, s(200)));
        // It did well before it failed again, which is what counts.
        waits.put(s(210), &again.went_on(), Stop { row: Some(8), ..AWAY });
        assert!(!waits.end(&again));
        let ready = over(&waits, s(310)).unwrap();
        assert_eq!((ready.failures, ready.stood(8, s(310))), (1, s(100)));
        assert!(waits.end(&ready) && !waits.end(&ready));
        assert_eq!(over(&waits, s(310)), Some(Ready::new(LANE)));
    }

    #[test]
    fn a_success_shows_for_five_minutes_that_rooms_take_something() {
        let (waits, [one, two]) = (Waits::default(), [Some(PortalId(1)), Some(PortalId(2))]);
        assert!(!waits.rooms_take(s(0), None));
        waits.taken(s(10), PortalId(1));
        assert!(waits.rooms_take(s(310), None) && !waits.rooms_take(s(311), None));
        assert!(waits.rooms_take(s(310), one) && !waits.rooms_take(s(310), two));
        assert!(waits.just_took(s(70), PortalId(1)) && !waits.just_took(s(71), PortalId(1)));
        assert!(!waits.just_took(s(70), PortalId(2)));
    }

    #[test]
    fn what_is_closed_waits_while_the_homeserver_answers() {
        let (waits, [one, two]) = (Waits::default(), [PortalId(1), PortalId(2)]);
        assert_eq!((waits.closes(s(10), one, 7), waits.closes(s(70), one, 7)), (s(0), s(60)));
        assert_eq!((waits.closes(s(80), two, 9), waits.closes(s(90), one, 7)), (s(0), s(80)));
        waits.closes_no_more(one);
        assert_eq!((waits.closes(s(95), one, 7), waits.closes(s(99), two, 9)), (s(0), s(19)));
        // Let in and taken out again meanwhile.
        assert_eq!((waits.closes(s(99), one, 8), waits.closes(s(100), one, 8)), (s(0), s(1)));
    }

    #[test]
    fn what_is_given_up_is_nothing_that_went_well() {
        let waits = Waits::default();
        waits.put(s(10), &Ready::new(LANE), AWAY);
        let ready = over(&waits, s(110)).unwrap();
        waits.put(s(110), &ready.is_rid(), Stop { row: Some(8), ..AWAY });
        let ready = over(&waits, s(210)).unwrap();
        assert_eq!((ready.failed_for(s(210)), ready.stood(8, s(210))), (s(200), s(100)));
        assert_eq!(ready.went_on().failed_for(s(210)), s(0));
        assert_eq!(ready.of(Lane::Bot(PortalId(1))).failed_for(s(210)), s(0));
    }

    #[test]
    fn a_lane_that_gives_way_after_what_is_given_up_has_failed_as_long_as_before() {
        let waits = Waits::default();
        waits.put(s(10), &Ready::new(LANE), AWAY);
        let ready = over(&waits, s(110)).unwrap();
        waits.gives_way(s(110), &ready.is_rid());
        assert!(!waits.end(&ready));
        let again = over(&waits, s(110)).unwrap();
        assert_eq!((again.failures, again.failed_for(s(120))), (0, s(110)));
        assert!(waits.end(&again));
        // Where something went well there is nothing to know.
        waits.gives_way(s(130), &again.went_on());
        assert_eq!(over(&waits, s(130)), Some(Ready::new(LANE)));
    }

    #[test]
    fn who_waits_for_the_other_side_is_hurried_once_a_minute() {
        let waits = Waits::default();
        waits.put(s(0), &Ready::new(LANE), AWAY);
        waits.hurry(s(1), s(60));
        let ready = over(&waits, s(1)).unwrap();
        waits.put(s(1), &ready, AWAY);
        for (now, is_over) in [(2, false), (60, false), (61, true)] {
            waits.hurry(s(now), s(60));
            assert_eq!(over(&waits, s(now)).is_some(), is_over, "{now}");
        }
        let busy = Waits::default();
        busy.put(s(0), &Ready::new(LANE), Stop { away: false, ..AWAY });
        busy.hurry(s(1), s(60));
        assert_eq!(over(&busy, s(1)), None);
    }
}
