//! The frame whose turn it is, which may wait for something: what stands before that is dealt with once, and what
//! is wrong with it counts once, however often the frame is looked at.

use causeway_protocol::{
    ids::{ItemId, Timestamp},
    link::{Ack, Item},
};

use super::{Line, remember};

/// The frame whose turn it is.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) items: Vec<Item>,
    /// How many things in it were dealt with before; those behind them wait.
    pub(crate) done: usize,
    /// Behind which frame it stands.
    pub(crate) behind: Option<Ack>,
}

/// Behind which frame that stands which was looked at last, and how many things in it were dealt with.
pub(super) type Done = Option<(Option<Ack>, usize)>;

impl Line {
    /// The frame whose turn it is.
    pub(in super::super) fn next(&mut self, now: Timestamp, now_ms: u64) -> Option<Due> {
        let found = self.peer.next()?;
        let behind = self.peer.place().present;
        let before = self.done.filter(|(it, _)| *it == behind).map(|(_, done)| done);
        let mut items = Vec::new();
        for item in found.iter().map(Item::parse) {
            match item {
                Ok(item) => items.push(item),
                Err(_) if before.is_some() => {}
                Err(_) => self.conduct.made_no_sense(now, now_ms),
            }
        }
        let done = before.unwrap_or(0);
        self.done = Some((behind, done));
        Some(Due { items, done, behind })
    }

    /// So many things in the frame behind `behind` are dealt with.
    pub(in super::super) fn dealt_with(&mut self, behind: Option<Ack>, done: usize) {
        if let Some((it, before)) = &mut self.done
            && *it == behind
        {
            *before = done.max(*before);
        }
    }

    /// Whether it has shown this; then that is not looked at again.
    pub(in super::super) fn has_shown(&self, tell: ItemId) -> bool {
        self.shown.1.contains(&tell)
    }

    /// It has shown this.
    pub(in super::super) fn showed(&mut self, tell: ItemId) {
        remember(&mut self.shown, tell);
    }
}
