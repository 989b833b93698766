//! What a server has once it has taken what is on its way.

use crate::storage::{GroupRow, servers::progress::Cut};

/// What the server has once it has taken an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// All that is for its devices, up to and with this number.
    Rows(i64),
    /// Likewise, the last being its part of a fan-out.
    Part(i64, Cut),
    /// A group's ops, up to and with this epoch.
    Ops(GroupRow, i64),
    /// What it is owed of what did not arrive, up to and with this number.
    Progress(i64),
}

impl Mark {
    /// The number here of what is kept for it, where it is such.
    pub(super) const fn row(self) -> Option<i64> {
        match self {
            Self::Rows(seq) | Self::Part(seq, _) => Some(seq),
            Self::Ops(..) | Self::Progress(_) => None,
        }
    }
}
