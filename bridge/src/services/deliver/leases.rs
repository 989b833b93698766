//! Who serves which lane. One worker at a time has a lane, and one at a time looks out for the next.
//!
//! In memory, because the process holds the database for its life: whatever a worker had that
//! panicked, or a process that died, is free again at once, and taking a lane costs no commit.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use causeway_protocol::ids::Timestamp;
use causeway_store::{Db, Listener};
use tokio::sync::Notify;

use super::{Spine, StepError};
use crate::{
    domain::lane::Lane,
    storage::lanes::{self, Ready},
};

/// A time that has come.
const AT_ANY_TIME: Timestamp = Timestamp(0);

/// The lanes that are being served.
#[derive(Clone)]
pub struct Leases(Arc<Inner>);

struct Inner {
    /// With whether somebody wanted it meanwhile.
    taken: Mutex<BTreeMap<Lane, bool>>,
    /// One that somebody wanted is free again.
    freed: Notify,
    /// One worker's at a time: a wake is his who has it, not everybody's.
    lookout: tokio::sync::Mutex<Lookout>,
}

/// What the last look showed.
struct Lookout {
    woken: Listener,
    /// Lanes that may be served, those first that have waited longest.
    free: VecDeque<Ready>,
    /// When to look again, if nobody wakes us before.
    due: Option<Timestamp>,
}

/// A lane that is ours until this is dropped.
pub(super) struct Lease {
    pub(super) ready: Ready,
    leases: Leases,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.leases.taken().remove(&self.ready.lane) == Some(true) {
            self.leases.0.freed.notify_one();
        }
    }
}

impl Leases {
    /// No lane is served yet.
    pub fn new(db: &Db) -> Self {
        let (woken, free) = (db.listen(lanes::TOPIC), VecDeque::new());
        Self(Arc::new(Inner {
            taken: Mutex::default(),
            freed: Notify::new(),
            lookout: tokio::sync::Mutex::new(Lookout { woken, free, due: Some(AT_ANY_TIME) }),
        }))
    }

    /// Waits for a lane to serve.
    pub(super) async fn wait(&self, spine: &Spine) -> Result<Lease, StepError> {
        let mut lookout = self.0.lookout.lock().await;
        loop {
            if let Some(ready) = lookout.free.pop_front() {
                return Ok(self.lend(ready));
            }
            let Lookout { woken, due, .. } = &mut *lookout;
            tokio::select! {
                () = woken.changed() => {}
                () = self.0.freed.notified() => {}
                () = at(spine, *due) => {}
            }
            self.look(spine, &mut lookout).await?;
        }
    }

    /// The lane that has waited longest, or until when there is none.
    pub(super) async fn next(
        &self,
        spine: &Spine,
    ) -> Result<Result<Lease, Option<Timestamp>>, StepError> {
        let mut lookout = self.0.lookout.lock().await;
        self.look(spine, &mut lookout).await?;
        Ok(lookout.free.pop_front().map(|ready| self.lend(ready)).ok_or(lookout.due))
    }

    fn lend(&self, ready: Ready) -> Lease {
        self.taken().insert(ready.lane, false);
        Lease { ready, leases: self.clone() }
    }

    async fn look(&self, spine: &Spine, lookout: &mut Lookout) -> Result<(), StepError> {
        // Whoever comes after a look that failed looks again.
        lookout.due = Some(AT_ANY_TIME);
        lookout.free.clear();
        if let Err(until) = super::token_is_taken(spine).await {
            lookout.due = Some(until);
            return Ok(());
        }
        let mut read = spine.db.read().await?;
        loop {
            // Who is not among them has committed how it fared before we look.
            let before: Vec<Lane> = self.taken().keys().copied().collect();
            let now = spine.now();
            let mut lanes = lanes::in_turn(&mut read).await?;
            let later = lanes.split_off(lanes.partition_point(|ready| ready.not_before <= now));
            let (taken, free): (Vec<_>, Vec<_>) =
                lanes.into_iter().partition(|ready| before.contains(&ready.lane));
            if self.want(&taken) {
                lookout.free = free.into();
                lookout.due = later.first().map(|ready| ready.not_before);
                return Ok(());
            }
        }
    }

    /// Has whoever serves these say when they are free; `false` if one of them is already.
    fn want(&self, lanes: &[Ready]) -> bool {
        let mut taken = self.taken();
        lanes.iter().all(|ready| match taken.get_mut(&ready.lane) {
            Some(is_wanted) => {
                *is_wanted = true;
                true
            }
            None => false,
        })
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<Lane, bool>> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn at(spine: &Spine, when: Option<Timestamp>) {
    match when.map(|when| when.0.saturating_sub(spine.now().0)) {
        Some(0) => {}
        Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}
