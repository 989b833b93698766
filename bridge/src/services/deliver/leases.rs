//! Who serves which lane. One worker at a time has a lane, and one at a time looks out for the next.
//!
//! In memory, because the process holds the database for its life: whatever a worker had that
//! panicked, or a process that died, is free again at once, and taking a lane costs no commit.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use causeway_protocol::ids::GroupId;
use causeway_store::{Agreed, Db, Listener, Script, Tx};
use futures_util::FutureExt as _;
use ruma::{OwnedRoomId, RoomId};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    Spine, StepError, TOGETHER,
    begun::Begun,
    slots::Slots,
    slow::Slow,
    waits::{BACK_EVERY, HURRIED_EVERY, Ready, Stop, Waits},
};
use crate::{
    domain::{
        lane::Lane,
        portal::{Portal, PortalId},
    },
    health::{Kind, Troubles},
    storage::{self, lanes},
};

/// Between looks at whether the rooms were looked at.
const UNLOOKED: Duration = Duration::from_millis(20);
/// After so long nobody waits for an invitation any more.
const UNASKED: Duration = Duration::from_hours(1);

/// The lanes that are being served.
#[derive(Clone)]
pub struct Leases(Arc<Inner>);

struct Inner {
    taken: Mutex<Taken>,
    /// One that somebody wanted is free again.
    freed: Notify,
    /// Lanes whose first rows were sealed where they were decided, for whoever serves next; they count as
    /// taken.
    handed: Mutex<VecDeque<Handed>>,
    /// There is one.
    handed_in: Notify,
    waits: Waits,
    slots: Slots,
    slow: Slow,
    /// Rooms that were seen to be replaced before an event said so.
    replaced: Mutex<BTreeSet<OwnedRoomId>>,
    /// The groups of portals, which have the same for ever.
    groups: Mutex<BTreeMap<PortalId, GroupId>>,
    /// Portals whose rooms were replaced, and since when they wait for the bot to be invited into the
    /// next one, whichever that is said to be.
    uninvited: Mutex<BTreeMap<PortalId, Duration>>,
    /// By which what waits has lived long enough.
    agreed: Agreed,
    /// Rows up to this may have been tried by the process before.
    before: AtomicI64,
    /// One worker's at a time: a wake is his who has it, not everybody's.
    lookout: tokio::sync::Mutex<Lookout>,
}

/// A lane with what was sealed of it.
struct Handed {
    ready: Ready,
    number: u64,
    begun: Begun,
}

/// What the last look showed.
struct Lookout {
    woken: Listener,
    hurried: Listener,
    back: Listener,
    /// Lanes that may be served, those first that have waited longest.
    free: VecDeque<Ready>,
    /// When to look again, by the steady clock, if nobody wakes us before.
    due: Option<Duration>,
    /// When we looked last.
    looked: Instant,
    /// What was handed over was served last, so that those who wait are looked at first.
    gave_way: bool,
}

/// Lanes that are somebody's.
#[derive(Default)]
struct Taken {
    lanes: BTreeMap<Lane, Held>,
    /// Leases that were given.
    leases: u64,
}

/// Whose a lane is.
struct Held {
    /// By which lease.
    lease: u64,
    /// Somebody wanted it meanwhile.
    is_wanted: bool,
    /// All that is left of it is the end of its rows, which comes to disk before whatever is begun from
    /// now on.
    ends: bool,
}

impl Taken {
    fn take(&mut self, lane: Lane, is_wanted: bool) -> u64 {
        self.leases += 1;
        let held = Held { lease: self.leases, is_wanted, ends: false };
        self.lanes.insert(lane, held);
        self.leases
    }
}

/// A lane that is ours until this is dropped.
pub(super) struct Lease {
    pub(super) ready: Ready,
    pub(super) leases: Leases,
    /// What is sealed already.
    pub(super) begun: Option<Begun>,
    /// Which of all.
    pub(super) number: u64,
    at_end: AtEnd,
}

/// What becomes of a lane when its lease ends.
#[derive(PartialEq, Eq)]
enum AtEnd {
    /// It is free.
    Frees,
    /// It is free, and whatever has come into it was seen by nobody.
    Looks,
    /// It is another's.
    HandedOver,
}

impl Lease {
    /// Once `tx` is committed somebody looks for lanes, should whoever has this one be gone by then: a
    /// caller that is cancelled while he waits for the commit lets go of it before.
    pub(super) fn looks_if_left(&self, tx: &mut Tx) {
        let (leases, lane, number) = (self.leases.clone(), self.ready.lane.clone(), self.number);
        tx.once_committed(move || {
            if leases.taken().lanes.get(&lane).is_none_or(|held| held.lease != number) {
                leases.0.freed.notify_one();
            }
        });
    }

    /// The lane is his who serves next, with what was sealed of it.
    pub(super) fn hand_over(mut self, begun: Begun) {
        self.at_end = AtEnd::HandedOver;
        self.leases.handed().push_back(Handed {
            ready: self.ready.clone(),
            number: self.number,
            begun,
        });
        self.leases.0.handed_in.notify_one();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.at_end == AtEnd::HandedOver {
            return;
        }
        let mut taken = self.leases.taken();
        let is_ours = |held: &&Held| held.lease == self.number;
        let Some(held) = taken.lanes.get(&self.ready.lane).filter(is_ours) else { return };
        let is_wanted = held.is_wanted;
        taken.lanes.remove(&self.ready.lane);
        drop(taken);
        if is_wanted || self.at_end == AtEnd::Looks {
            self.leases.0.freed.notify_one();
        }
    }
}

impl Leases {
    /// No lane is served yet.
    pub fn new(db: &Db) -> Self {
        let lookout = Lookout {
            woken: db.listen(lanes::TOPIC),
            hurried: db.listen(lanes::HURRY),
            back: db.listen(lanes::BACK),
            free: VecDeque::new(),
            due: Some(Duration::ZERO),
            looked: Instant::now(),
            gave_way: false,
        };
        Self(Arc::new(Inner {
            taken: Mutex::default(),
            freed: Notify::new(),
            handed: Mutex::default(),
            handed_in: Notify::new(),
            waits: Waits::default(),
            slots: Slots::default(),
            slow: Slow::default(),
            replaced: Mutex::default(),
            groups: Mutex::default(),
            uninvited: Mutex::default(),
            agreed: Agreed::default(),
            before: AtomicI64::new(0),
            lookout: tokio::sync::Mutex::new(lookout),
        }))
    }

    /// Places for those that are served.
    pub(super) fn slots(&self) -> &Slots {
        &self.0.slots
    }

    /// Who is slow in which room.
    pub(super) fn slow(&self) -> &Slow {
        &self.0.slow
    }

    /// Whether a room was seen to be replaced before, as it is now.
    pub(super) fn is_replaced(&self, room: &RoomId) -> bool {
        let mut replaced = self.0.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        !replaced.insert(room.to_owned())
    }

    /// The bridge has gone on from a room.
    pub(super) fn has_left(&self, room: &RoomId) {
        self.0.replaced.lock().unwrap_or_else(PoisonError::into_inner).remove(room);
    }

    /// The group of a portal, once it was found.
    pub(super) fn group(&self, portal: PortalId) -> Option<GroupId> {
        let groups = self.0.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.get(&portal).copied()
    }

    /// Remembers it.
    pub(super) fn has_group(&self, portal: &Portal) {
        let mut groups = self.0.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.insert(portal.id, portal.group);
    }

    /// Since when a portal waits for an invitation into its next room; `None`: from `now` on.
    pub(super) fn uninvited(&self, portal: PortalId, now: Duration) -> Option<Duration> {
        let mut uninvited = self.0.uninvited.lock().unwrap_or_else(PoisonError::into_inner);
        let since = uninvited.get(&portal).copied();
        if since.is_none() {
            // Of a portal that is closed meanwhile nobody asks again.
            uninvited.retain(|_, since| now.saturating_sub(*since) < UNASKED);
            uninvited.insert(portal, now);
        }
        since
    }

    /// It does not wait for that any more.
    pub(super) fn is_decided(&self, portal: PortalId) {
        self.0.uninvited.lock().unwrap_or_else(PoisonError::into_inner).remove(&portal);
    }

    /// Rows up to `row` were there when the process began.
    pub(in crate::services) fn begin_behind(&self, row: i64) {
        self.0.before.store(row, Ordering::Relaxed);
    }

    /// The last row that the process before may have tried.
    pub(super) fn before(&self) -> i64 {
        self.0.before.load(Ordering::Relaxed)
    }

    /// Which lanes wait.
    pub(super) fn waits(&self) -> &Waits {
        &self.0.waits
    }

    /// Waits for a lane to serve.
    pub(super) async fn wait(&self, spine: &Spine) -> Result<Lease, StepError> {
        let mut lookout = self.0.lookout.lock().await;
        loop {
            if let Some(lease) = self.first_of(&mut lookout) {
                return Ok(lease);
            }
            let Lookout { woken, hurried, back, due, .. } = &mut *lookout;
            let is_any = tokio::select! {
                biased;
                () = woken.changed() => true,
                () = hurried.changed() => self.0.waits.hurry(spine.steady(), HURRIED_EVERY),
                () = back.changed() => self.0.waits.hurry(spine.steady(), BACK_EVERY),
                () = self.0.freed.notified() => true,
                () = at(spine, *due) => true,
                () = self.is_handed() => false,
            };
            if is_any {
                // What is handed over meanwhile does not wait for it.
                lookout.due = Some(Duration::ZERO);
                tokio::select! {
                    biased;
                    () = sleep_until(lookout.looked + TOGETHER) => {
                        lookout.looked = Instant::now();
                        self.look(spine, &mut lookout).await?;
                    }
                    () = self.is_handed() => {}
                }
            }
            lookout.gave_way = false;
        }
    }

    /// Something that was handed over, or a lane that waits, in turns where there are both.
    fn first_of(&self, lookout: &mut Lookout) -> Option<Lease> {
        let handed = if lookout.gave_way { None } else { self.handed().pop_front() };
        lookout.gave_way = handed.is_some();
        match handed {
            Some(Handed { ready, number, begun }) => {
                let (leases, begun) = (self.clone(), Some(begun));
                Some(Lease { ready, leases, begun, number, at_end: AtEnd::Frees })
            }
            None => self.lend_one(&mut lookout.free),
        }
    }

    /// Waits for something that is handed over.
    async fn is_handed(&self) {
        while self.handed().is_empty() {
            self.0.handed_in.notified().await;
        }
    }

    fn handed(&self) -> MutexGuard<'_, VecDeque<Handed>> {
        self.0.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lane that has waited longest, or until when there is none, by the steady clock.
    pub(super) async fn next(
        &self,
        spine: &Spine,
    ) -> Result<Result<Lease, Option<Duration>>, StepError> {
        let mut lookout = self.0.lookout.lock().await;
        if lookout.hurried.changed().now_or_never().is_some() {
            self.0.waits.hurry(spine.steady(), HURRIED_EVERY);
        }
        if lookout.back.changed().now_or_never().is_some() {
            self.0.waits.hurry(spine.steady(), BACK_EVERY);
        }
        self.look(spine, &mut lookout).await?;
        lookout.gave_way = false;
        Ok(self.first_of(&mut lookout).ok_or(lookout.due))
    }

    /// The first of these that nobody has.
    fn lend_one(&self, free: &mut VecDeque<Ready>) -> Option<Lease> {
        std::iter::from_fn(|| free.pop_front()).find_map(|ready| self.lend(ready))
    }

    /// A lane; `None` if somebody has it, who says then when it is free.
    fn lend(&self, ready: Ready) -> Option<Lease> {
        let mut taken = self.taken();
        if let Some(held) = taken.lanes.get_mut(&ready.lane) {
            held.is_wanted = true;
            return None;
        }
        let number = taken.take(ready.lane.clone(), false);
        let leases = self.clone();
        Some(Lease { ready, leases, begun: None, number, at_end: AtEnd::Frees })
    }

    /// A lane for whoever puts something into it that he carries out himself, in a transaction that is
    /// begun; `None` where somebody has it, or it waits. Where the end of its rows is on its way, that may
    /// be seen in the transaction, or not yet.
    pub(super) fn lend_ahead(&self, lane: &Lane) -> Option<Lease> {
        let mut taken = self.taken();
        let held = taken.lanes.get(lane);
        if held.is_some_and(|held| !held.ends) || self.0.waits.has(lane) {
            return None;
        }
        let is_wanted = held.is_some_and(|held| held.is_wanted);
        let number = taken.take(lane.clone(), is_wanted);
        drop(taken);
        let (ready, leases) = (Ready::new(lane.clone()), self.clone());
        Some(Lease { ready, leases, begun: None, number, at_end: AtEnd::Looks })
    }

    /// This lane for whoever does something with its rows by hand; `None` while they are being
    /// tried.
    pub(super) fn lend_by_hand(&self, lane: &Lane) -> Option<Lease> {
        self.lend(Ready::new(lane.clone()))
    }

    /// What is left of what this lease, if it still is one, was given for is the end of its rows, which is
    /// asked for.
    pub(super) fn ends(&self, lane: &Lane, lease: u64) {
        if let Some(held) = self.taken().lanes.get_mut(lane).filter(|held| held.lease == lease) {
            held.ends = true;
        }
    }

    /// Ends the wait of a lane, once `tx` is committed.
    pub(super) fn goes_on(&self, tx: &mut Tx, lane: &Lane) {
        self.0.waits.end_now(lane);
        lanes::look(tx);
    }

    /// Gives a lane back that did well.
    pub(super) fn release(spine: &Spine, script: &mut Script, lane: &Lane) {
        let turn = u64::try_from(spine.steady().as_micros()).unwrap_or(u64::MAX);
        lanes::release(script, turn, lane);
    }

    /// Gives a lane back that has to wait, for this reason.
    pub(super) async fn postpone(
        &self,
        spine: &Spine,
        tx: &mut Tx,
        ready: &Ready,
        stop: Stop,
        why: &str,
    ) -> Result<(), storage::Error> {
        // Before the commit: a wait that is not in the rows costs a try, the other way round nobody
        // would know when it ends.
        self.0.waits.put(spine.steady(), ready, stop);
        spine.troubles.stands(Kind::Lane, &ready.lane.to_string(), why, Some(stop.wait));
        let ms = u64::try_from(stop.wait.as_millis()).unwrap_or(u64::MAX);
        let until = spine.now().plus_ms(ms);
        lanes::waits(tx, &ready.lane, ready.failures.saturating_add(1), until).await
    }

    /// What was done with a lane is committed.
    pub(super) fn served(&self, troubles: &Troubles, ready: &Ready) {
        if self.0.waits.end(ready) {
            troubles.goes(Kind::Lane, &ready.lane.to_string());
        }
    }

    /// What time it is for what ends by the clock.
    pub(in crate::services) fn agreed(&self, spine: &Spine) -> causeway_protocol::ids::Timestamp {
        let agreed = self.0.agreed.now_ms(spine.steady(), spine.now().0);
        causeway_protocol::ids::Timestamp(agreed)
    }

    async fn look(&self, spine: &Spine, lookout: &mut Lookout) -> Result<(), StepError> {
        // Whoever comes after a look that failed looks again.
        lookout.due = Some(Duration::ZERO);
        lookout.free.clear();
        if let Err(until) = super::token_is_taken(spine).await {
            lookout.due = Some(until);
            return Ok(());
        }
        let mut read = spine.db.read().await?;
        loop {
            // Who is not among them has committed how it fared before we look.
            let before: Vec<Lane> = self.taken().lanes.keys().cloned().collect();
            let in_turn = lanes::in_turn(&mut read).await?;
            let is_full = in_turn.len() >= lanes::AT_ONCE;
            let (mut ready, mut due) = self.0.waits.over(spine.steady(), in_turn);
            // The bot's way into a room, and what is for groups, waits for no look at the rooms.
            let waits = |ready: &Ready| matches!(ready.lane, Lane::ToMatrix(_) | Lane::Aside(..));
            if !spine.rooms_looked.load(Ordering::Relaxed) && ready.iter().any(waits) {
                ready.retain(|ready| !waits(ready));
                let soon = spine.steady() + UNLOOKED;
                due = Some(due.map_or(soon, |due| due.min(soon)));
            }
            let (taken, free): (Vec<_>, Vec<_>) =
                ready.into_iter().partition(|ready| before.contains(&ready.lane));
            if self.want(&taken) {
                // There may be more, of which nobody will say anything; where all of these are
                // taken, whoever gives one back does.
                let is_next = is_full && !free.is_empty();
                lookout.free = free.into();
                lookout.due = if is_next { Some(Duration::ZERO) } else { due };
                return Ok(());
            }
        }
    }

    /// Has whoever serves these say when they are free; `false` if one of them is already.
    fn want(&self, lanes: &[Ready]) -> bool {
        let mut taken = self.taken();
        lanes.iter().all(|ready| match taken.lanes.get_mut(&ready.lane) {
            Some(held) => {
                held.is_wanted = true;
                true
            }
            None => false,
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn at(spine: &Spine, when: Option<Duration>) {
    match when.map(|when| when.saturating_sub(spine.steady())) {
        Some(Duration::ZERO) => {}
        Some(left) => tokio::time::sleep(left).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use causeway_store::{Lock, Options};

    use super::*;

    const LANE: Lane = Lane::ToNative(PortalId(1));

    #[tokio::test]
    async fn who_lets_go_of_a_lane_before_the_commit_has_it_looked_at_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        let schemas = &[causeway_groups::SCHEMA, crate::storage::SCHEMA];
        let db = Db::open(Options { path, lock: Lock::Exclusive, schemas }).await.unwrap();
        let leases = Leases::new(&db);
        let looks = || leases.0.freed.notified().now_or_never().is_some();
        for is_left in [true, false] {
            let mut tx = db.begin().await.unwrap();
            let lease = leases.lend_ahead(&LANE).unwrap();
            lease.looks_if_left(&mut tx);
            let lease = (!is_left).then_some(lease);
            assert_eq!(looks(), is_left);
            tx.commit().await.unwrap();
            // Who still has it serves it, or lets go of it now.
            assert_eq!(looks(), is_left);
            drop(lease);
            assert_eq!(looks(), !is_left);
        }
    }

    #[tokio::test]
    async fn a_lane_whose_end_is_on_its_way_goes_to_who_is_ahead_and_to_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        let schemas = &[causeway_groups::SCHEMA, crate::storage::SCHEMA];
        let db = Db::open(Options { path, lock: Lock::Exclusive, schemas }).await.unwrap();
        let leases = Leases::new(&db);
        let first = leases.lend(Ready::new(LANE)).unwrap();
        assert!(leases.lend_ahead(&LANE).is_none(), "it is being served");
        leases.ends(&LANE, first.number);
        assert!(leases.lend_by_hand(&LANE).is_none(), "its end is not on disk");
        let ahead = leases.lend_ahead(&LANE).unwrap();
        assert!(leases.lend_ahead(&LANE).is_none(), "somebody is ahead");
        // What ended says nothing of whose it is now.
        leases.ends(&LANE, first.number);
        drop(first);
        assert!(leases.lend_ahead(&LANE).is_none() && leases.lend(Ready::new(LANE)).is_none());
        drop(ahead);
        leases.waits().put(
            Duration::ZERO,
            &Ready::new(LANE),
            Stop { wait: Duration::from_secs(1), away: true, row: None },
        );
        assert!(leases.lend_ahead(&LANE).is_none(), "it waits");
    }
}
