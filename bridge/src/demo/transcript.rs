//! What one person has seen, in the order in which it was shown.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

/// Longest that anything in the story may take; a slow and busy machine needs a while.
const PATIENCE: Duration = Duration::from_mins(2);

/// Lines, and who waits for them. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Transcript(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Vec<Line>>,
    changed: watch::Sender<()>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Who said it, as this person's client shows it.
    pub(super) who: String,
    /// What.
    pub(super) text: String,
    /// Whether this person said it.
    pub(super) own: bool,
}

/// What did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("waited in vain for {0}")]
pub(super) struct InVain(String);

impl Transcript {
    /// Something was shown.
    pub(super) fn show(&self, who: impl Into<String>, text: impl Into<String>, own: bool) {
        let line = Line { who: who.into(), text: text.into(), own };
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        self.0.changed.send_replace(());
    }

    /// Everything so far.
    pub(super) fn lines(&self) -> Vec<Line> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many lines others have said.
    pub(super) fn heard(&self) -> usize {
        self.lines().iter().filter(|line| !line.own).count()
    }

    /// Of `texts`, how many were heard, and how many times too often.
    pub(super) fn tally(&self, texts: &[String]) -> (u64, u64) {
        let lines = self.lines();
        let mut received = 0;
        let mut doubled = 0;
        for text in texts {
            match lines.iter().filter(|line| !line.own && line.text == *text).count() as u64 {
                0 => {}
                times => {
                    received += 1;
                    doubled += times - 1;
                }
            }
        }
        (received, doubled)
    }

    /// Waits until all of `texts` were heard; `what` they are is for the error.
    pub(super) async fn hear_all(&self, texts: &[String], what: &str) -> Result<(), InVain> {
        let mut changed = self.0.changed.subscribe();
        let heard = async {
            while self.tally(texts).0 < texts.len() as u64 {
                if changed.changed().await.is_err() {
                    break;
                }
            }
        };
        let late = || {
            let (heard, _) = self.tally(texts);
            InVain(format!("{what}: {heard} of {} have come", texts.len()))
        };
        timeout(PATIENCE, heard).await.map_err(|_| late())
    }

    /// Hears of every change from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }
}

/// Waits until `is_so`, looking again and again.
pub(super) async fn until(what: &str, is_so: impl AsyncFn() -> bool) -> Result<(), InVain> {
    let so = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, so).await.map_err(|_| InVain(what.to_owned()))
}
