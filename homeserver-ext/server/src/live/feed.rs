//! Who watches events: told that there are new ones, and counted.
//!
//! Only the last number is told, so that nobody who looks slowly holds anything: what it is, each looks
//! up for itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use causeway_store::Tx;
use tokio::sync::watch;

/// Those who watch. A clone is another handle of the same.
#[derive(Clone)]
pub(crate) struct Feed {
    last: watch::Sender<i64>,
    counts: Arc<Mutex<HashMap<String, usize>>>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { last: watch::Sender::new(0), counts: Arc::default() }
    }
}

impl Feed {
    /// Tells them when `tx` is committed that it put down events up to this one.
    pub(crate) fn tell(&self, tx: &mut Tx, event: i64) {
        let last = self.last.clone();
        tx.once_committed(move || {
            last.send_if_modified(|last| {
                let is_new = event > *last;
                *last = event.max(*last);
                is_new
            });
        });
    }

    /// Watches from now on, for `who`; `None` where he does so `most` times already.
    pub(crate) fn watch(&self, who: &str, most: usize) -> Option<Watching> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(who.to_owned()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(counts);
        metrics::gauge!("causeway_event_streams").increment(1.0);
        let last = self.last.subscribe();
        Some(Watching { last, who: who.to_owned(), counts: Arc::clone(&self.counts) })
    }
}

/// One who watches, until it is dropped.
pub(crate) struct Watching {
    last: watch::Receiver<i64>,
    who: String,
    counts: Arc<Mutex<HashMap<String, usize>>>,
}

impl Watching {
    /// Returns when events were put down since the last time.
    pub(crate) async fn told(&mut self) {
        if self.last.changed().await.is_err() {
            // Nobody is left to tell.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        metrics::gauge!("causeway_event_streams").decrement(1.0);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.who) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                counts.remove(&self.who);
            }
        }
    }
}
