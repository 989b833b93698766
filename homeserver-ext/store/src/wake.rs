//! Wake-ups inside the process: a hint to look, never the news itself.
//!
//! The rows are the truth. Whoever sleeps on a topic looks first, then waits; a wake between
//! [`Db::listen`](crate::Db::listen) and [`Listener::changed`] is not lost.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

/// Topics that somebody listens to.
#[derive(Default)]
pub(crate) struct Topics(Mutex<Ears>);

#[derive(Default)]
struct Ears {
    next: u64,
    by_topic: HashMap<String, BTreeMap<u64, Arc<Notify>>>,
}

impl Topics {
    pub(crate) fn listen(self: &Arc<Self>, topics: BTreeSet<String>) -> Listener {
        let mut ears = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ears.next += 1;
        let (number, heard) = (ears.next, Arc::new(Notify::new()));
        for topic in &topics {
            let listeners = ears.by_topic.entry(topic.clone()).or_default();
            listeners.insert(number, Arc::clone(&heard));
        }
        drop(ears);
        Listener { number, topics, heard, all: Arc::clone(self) }
    }

    pub(crate) fn wake(&self, touched: &[String]) {
        let ears = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let listeners = touched.iter().filter_map(|topic| ears.by_topic.get(topic));
        for heard in listeners.flat_map(BTreeMap::values) {
            heard.notify_one();
        }
    }
}

/// Hears when a transaction that touched one of its topics was committed.
pub struct Listener {
    number: u64,
    topics: BTreeSet<String>,
    heard: Arc<Notify>,
    all: Arc<Topics>,
}

impl Listener {
    /// Returns at the first commit since the last call (or since it began to listen) that touched
    /// a topic; several commits are one wake.
    pub async fn changed(&mut self) {
        self.heard.notified().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut ears = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        for topic in &self.topics {
            if let Some(listeners) = ears.by_topic.get_mut(topic) {
                listeners.remove(&self.number);
                if listeners.is_empty() {
                    ears.by_topic.remove(topic);
                }
            }
        }
    }
}
