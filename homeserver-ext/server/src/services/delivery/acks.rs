//! Acknowledgements of many devices in one transaction.
//!
//! Whoever acknowledges while nobody else does waits for nothing. Where much is acknowledged, it is
//! gathered for a moment: a device that acknowledges again meanwhile says both with one number.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use causeway_protocol::ids::{Seq, Timestamp};
use causeway_store::{Db, Script};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};

use crate::storage::{
    self, DeviceRow,
    events::{self, Event},
    mailbox,
};

/// From one of these transactions to the next at least, unless somebody is in a hurry. After a kill as
/// much is sent again, and known by its ids.
const PACE: Duration = Duration::from_millis(20);
/// Devices that acknowledge in one transaction at most, so that nobody waits for the writer long.
const MOST: usize = 512;

/// Where acknowledgements wait for each other: one of each stream at most.
#[derive(Default)]
pub(crate) struct Acks {
    asked: Mutex<Vec<Asked>>,
    heard: Notify,
    hurry: Notify,
}

struct Asked {
    device: DeviceRow,
    what: What,
    done: oneshot::Sender<bool>,
}

/// What a device has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    /// Everything up to and with this number, so many rows more than before.
    All(Seq, u64),
    /// It is known that it has to be done alone; it is gathered all the same.
    Alone,
}

impl Acks {
    /// Acknowledges with others; what comes of it says when it is on disk, or `false`: nothing was
    /// done, it has to be done alone.
    pub(crate) fn ack(&self, device: DeviceRow, what: What) -> oneshot::Receiver<bool> {
        let (done, answer) = oneshot::channel();
        self.asked().push(Asked { device, what, done });
        self.heard.notify_one();
        answer
    }

    /// What waits here is wanted now.
    pub(crate) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Does what is asked, for ever; `now` tells the time.
    pub(crate) async fn run(&self, db: &Db, now: impl Fn() -> Timestamp) -> Infallible {
        let mut due = Instant::now();
        loop {
            self.heard.notified().await;
            let hurries = tokio::select! {
                () = sleep_until(due) => false,
                () = self.hurry.notified() => true,
            };
            due = Instant::now() + PACE;
            self.commit(db, now(), hurries).await;
        }
    }

    /// One transaction of those who ask until it is their turn, which comes with whoever writes next
    /// unless one of them is in a hurry.
    async fn commit(&self, db: &Db, now: Timestamp, hurries: bool) {
        let mut some = Vec::new();
        let done = match self.take(db, now, hurries, &mut some).await {
            Ok(done) => done,
            // Each finds out for itself whether it is to blame.
            Err(error) => {
                tracing::debug!(%error, "acknowledgements are taken one by one");
                BTreeSet::new()
            }
        };
        for one in some {
            let _ = one.done.send(done.contains(&one.device));
        }
    }

    /// Takes `some` of those who ask; whose were taken.
    async fn take(
        &self,
        db: &Db,
        now: Timestamp,
        hurries: bool,
        some: &mut Vec<Asked>,
    ) -> Result<BTreeSet<DeviceRow>, storage::Error> {
        if self.asked().iter().all(|one| matches!(one.what, What::Alone)) {
            some.append(&mut self.asked());
            return Ok(BTreeSet::new());
        }
        let begun = if hurries {
            db.begin().await
        } else {
            tokio::select! {
                begun = db.begin_soon() => begun,
                () = self.hurry.notified() => db.begin().await,
            }
        };
        {
            let mut asked = self.asked();
            let count = asked.len().min(MOST);
            some.extend(asked.drain(..count));
            if !asked.is_empty() {
                self.heard.notify_one();
                self.hurry();
            }
        }
        let mut tx = begun?;
        let mut all: BTreeMap<DeviceRow, (Seq, u64)> = BTreeMap::new();
        for one in &*some {
            if let What::All(seq, count) = one.what {
                // Of two streams of one device, whichever acknowledges more.
                let most = all.entry(one.device).or_default();
                *most = (seq, count).max(*most);
            }
        }
        let numbers: Vec<_> = all.iter().map(|(device, (seq, _))| (*device, *seq)).collect();
        let mut script = Script::default();
        let done = mailbox::ack_all(tx.conn(), &mut script, &numbers).await?;
        if done.is_empty() {
            return Ok(done);
        }
        let counts = done.iter().filter_map(|device| all.get(device)).map(|(_, count)| count);
        events::add(&mut script, now, Event::MessageDelivered, counts.sum());
        tx.commit_with(script).await?;
        Ok(done)
    }

    fn asked(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
