//! Wake-ups inside the process: a hint to look, never the news itself.
//!
//! The rows are the truth. Whoever sleeps on a topic looks first, then waits; a wake between
//! [`Db::listen`](crate::Db::listen) and [`Listener::changed`] is not lost.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

/// Topics that somebody listens to.
#[derive(Default)]
pub(crate) struct Topics(Mutex<HashMap<String, watch::Sender<()>>>);

impl Topics {
    pub(crate) fn listen(self: &Arc<Self>, topic: &str) -> Listener {
        let mut topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = if let Some(sender) = topics.get(topic) {
            sender.subscribe()
        } else {
            let (sender, heard) = watch::channel(());
            topics.insert(topic.to_owned(), sender);
            heard
        };
        Listener { topic: topic.to_owned(), heard: Some(heard), topics: Arc::clone(self) }
    }

    pub(crate) fn wake(&self, touched: &[String]) {
        let topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for topic in touched {
            if let Some(sender) = topics.get(topic) {
                sender.send_replace(());
            }
        }
    }
}

/// Hears when a transaction that touched its topic was committed.
pub struct Listener {
    topic: String,
    heard: Option<watch::Receiver<()>>,
    topics: Arc<Topics>,
}

impl Listener {
    /// Returns at the first commit since the last call (or since it began to listen) that touched
    /// the topic; several commits are one wake.
    pub async fn changed(&mut self) {
        let heard = match &mut self.heard {
            Some(heard) => heard.changed().await.is_ok(),
            None => false,
        };
        if !heard {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut topics = self.topics.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.heard = None;
        if topics.get(&self.topic).is_some_and(|sender| sender.receiver_count() == 0) {
            topics.remove(&self.topic);
        }
    }
}
