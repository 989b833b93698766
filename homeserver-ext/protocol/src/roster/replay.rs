//! A roster from an earlier one and the ops between, which were judged when they were installed.
//!
//! So nobody has to keep every roster whole: ops are the truth, and this is how they are read.

use super::{body::Body, kind::Kind, member::Scheme, op::Op, state::Roster};
use crate::ids::Epoch;

impl Roster {
    /// The roster that `ops` make of `base`, one after the other; of nothing, where the first of them
    /// is a `create`. `None` where they do not follow it and each other.
    ///
    /// For ops that are installed: neither signatures nor rights are looked at again, and one hash
    /// is made, at the end. The caller compares it with [`super::LogEntry::roster_hash`].
    pub fn replay(base: Option<Self>, ops: impl IntoIterator<Item = Op>) -> Option<Self> {
        let mut ops = ops.into_iter();
        let mut roster = match base {
            Some(base) => base,
            None => begun(&ops.next()?)?,
        };
        for op in ops {
            let follows = op.group() == roster.group() && Some(op.epoch()) == roster.epoch().next();
            let body = op.body().ok().filter(|body| follows && body.kind() != Kind::Create)?;
            roster.change(&op, body);
        }
        Some(roster.hashed())
    }
}

fn begun(op: &Op) -> Option<Roster> {
    let Ok(Body::Create(create)) = op.body() else { return None };
    let scheme = Scheme::from_number(create.scheme).filter(|_| op.epoch() == Epoch(0))?;
    Some(Roster::begin(op, create, scheme))
}
