//! What one client has installed of a group's history, in order, and never unlearns.
//!
//! The group's server orders ops, so a second valid op on one `prev` proves that it lied or lost
//! data. The branch installed first stays (protocol §3.3); a person decides, never this code.

use std::{collections::BTreeMap, sync::Arc};

use super::{invalid::Invalid, kind::Kind, op::Op, state::Roster};
use crate::{
    device::DeviceOf,
    ids::{AccountId, Epoch, MemberId, OpHash, RosterHash, Seq},
};

/// What is remembered of one installed op.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// The epoch that it made.
    pub epoch: Epoch,
    /// The roster there.
    pub roster_hash: RosterHash,
    /// The op.
    pub op_hash: OpHash,
    /// Which op.
    pub kind: Kind,
    /// Devices that it took out; an op is a cut iff there are some.
    pub taken_out: Vec<DeviceOf>,
    /// Whom a `remove` named.
    pub removed: Vec<Removed>,
    /// Its `roster` row in this device's mailbox: 0 for ops from before this device joined, `None`
    /// while the op was learnt elsewhere and its row has not come.
    pub place: Option<Seq>,
}

/// Whom a `remove` named: never let in again without a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The identity.
    pub member_id: MemberId,
    /// The account that it had.
    pub account: AccountId,
}

/// A group's history: an entry for each epoch, and the rosters that are kept.
#[derive(Debug, Clone)]
pub struct Log {
    entries: Vec<LogEntry>,
    rosters: BTreeMap<Epoch, Arc<Roster>>,
    head: Arc<Roster>,
}

/// What became of an op that was offered.
#[derive(Debug, Clone)]
pub enum Offer {
    /// It is the new head.
    Installed(Installed),
    /// It was installed before, at this epoch; perhaps under another signature.
    Known(Epoch),
    /// It is valid on a `prev` that another op follows already: the server lied or lost data.
    /// Nothing changed.
    Fork(Fork),
    /// It stands after epochs that are not here: fetch those from the one named.
    Ahead(Epoch),
    /// The roster that it builds on is not kept any more, so it cannot be judged.
    Forgotten,
    /// It is not valid.
    Invalid(Invalid),
}

/// What an installed op did.
#[derive(Debug, Clone)]
pub struct Installed {
    /// The roster before; none for `create`.
    pub before: Option<Arc<Roster>>,
    /// The roster now.
    pub after: Arc<Roster>,
    /// Whether a device was taken out: every sender must rotate.
    pub cut: bool,
}

/// Two valid ops on one `prev`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fork {
    /// The epoch that both make.
    pub epoch: Epoch,
    /// The one that stays.
    pub installed: OpHash,
    /// The one that was offered.
    pub offered: OpHash,
    /// The roster that the offered one would have made.
    pub would_be: RosterHash,
}

impl Log {
    /// A history that begins with `op`, a `create`.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn begin(op: &Op) -> Result<Self, Invalid> {
        let head = Arc::new(Roster::create(op)?);
        let entry = LogEntry {
            epoch: Epoch(0),
            roster_hash: head.hash(),
            op_hash: op.hash(),
            kind: op.kind(),
            taken_out: Vec::new(),
            removed: Vec::new(),
            place: None,
        };
        let rosters = BTreeMap::from([(Epoch(0), Arc::clone(&head))]);
        Ok(Self { entries: vec![entry], rosters, head })
    }

    /// A history from rows: entries of all epochs from 0 on, the head, and other rosters as kept.
    /// `None` where the entries do not lead to the head.
    pub fn from_rows(
        entries: Vec<LogEntry>,
        head: Arc<Roster>,
        kept: impl IntoIterator<Item = Arc<Roster>>,
    ) -> Option<Self> {
        let numbered = (0_u32..).zip(&entries).all(|(n, entry)| entry.epoch == Epoch(n));
        let last = entries.last()?;
        if !numbered || last.epoch != head.epoch() || last.roster_hash != head.hash() {
            return None;
        }
        let mut rosters: BTreeMap<_, _> = kept.into_iter().map(|r| (r.epoch(), r)).collect();
        rosters.insert(head.epoch(), Arc::clone(&head));
        Some(Self { entries, rosters, head })
    }

    /// The newest roster.
    pub const fn head(&self) -> &Arc<Roster> {
        &self.head
    }

    /// Every installed op, by epoch.
    pub fn entries(&self) -> &[LogEntry] {
        &self.entries
    }

    /// The op that made this epoch.
    pub fn entry(&self, epoch: Epoch) -> Option<&LogEntry> {
        self.entries.get(usize::try_from(epoch.0).ok()?)
    }

    /// The roster at this epoch, if it is kept.
    pub fn roster(&self, epoch: Epoch) -> Option<&Arc<Roster>> {
        self.rosters.get(&epoch)
    }

    /// The roster with this hash, if it is kept.
    pub fn by_hash(&self, hash: &RosterHash) -> Option<&Arc<Roster>> {
        let entry = self.entries.iter().rev().find(|entry| entry.roster_hash == *hash)?;
        self.roster(entry.epoch)
    }

    /// The roster that a message header means, if it is kept.
    pub fn by_hint(&self, epoch: Epoch, hint: [u8; 4]) -> Option<&Arc<Roster>> {
        self.roster(epoch).filter(|roster| roster.hint() == hint)
    }

    /// Whether a device was taken out by an op in `(from, to]`.
    pub fn cut_in(&self, from: Epoch, to: Epoch) -> bool {
        self.span(from, to).iter().any(|entry| !entry.taken_out.is_empty())
    }

    /// Whether this device was taken out by an op in `(from, to]`.
    pub fn taken_out_in(&self, device: &DeviceOf, from: Epoch, to: Epoch) -> bool {
        self.span(from, to).iter().any(|entry| entry.taken_out.contains(device))
    }

    /// Whether a `remove` ever named this identity or this account.
    pub fn was_removed(&self, member_id: &MemberId, account: &AccountId) -> bool {
        let named = |r: &Removed| r.member_id == *member_id || r.account == *account;
        self.entries.iter().any(|entry| entry.removed.iter().any(named))
    }

    /// Notes the mailbox row in which an installed op came. The first one said stays.
    pub fn put_place(&mut self, epoch: Epoch, place: Seq) {
        let entry = usize::try_from(epoch.0).ok().and_then(|at| self.entries.get_mut(at));
        if let Some(entry) = entry {
            entry.place.get_or_insert(place);
        }
    }

    /// Drops rosters below `epoch`; their entries stay. The head is always kept.
    pub fn forget_before(&mut self, epoch: Epoch) {
        let head = self.head.epoch();
        self.rosters.retain(|at, _| *at >= epoch || *at == head);
    }

    /// Installs `op` if it is the next one; says what it is otherwise, and changes nothing.
    pub fn offer(&mut self, op: &Op) -> Offer {
        if op.group() != self.head.group() {
            return Offer::Invalid(Invalid::WrongGroup);
        }
        if let Some(entry) = self.entry(op.epoch()) {
            return if entry.op_hash == op.hash() {
                Offer::Known(entry.epoch)
            } else {
                self.second(op, entry.op_hash)
            };
        }
        if self.head.closed() || op.kind() == Kind::Create {
            return Offer::Invalid(self.head.apply(op).err().unwrap_or(Invalid::Closed));
        }
        match self.head.epoch().next() {
            Some(next) if next == op.epoch() => self.extend(op),
            Some(next) => Offer::Ahead(next),
            None => Offer::Invalid(Invalid::WrongEpoch),
        }
    }

    fn extend(&mut self, op: &Op) -> Offer {
        let before = Arc::clone(&self.head);
        let after = match before.apply(op) {
            Ok(after) => Arc::new(after),
            Err(invalid) => return Offer::Invalid(invalid),
        };
        let taken_out = before.taken_out(&after);
        let cut = !taken_out.is_empty();
        let removed = if op.kind() == Kind::Remove { removed(&before, &after) } else { Vec::new() };
        self.entries.push(LogEntry {
            epoch: after.epoch(),
            roster_hash: after.hash(),
            op_hash: op.hash(),
            kind: op.kind(),
            taken_out,
            removed,
            place: None,
        });
        self.rosters.insert(after.epoch(), Arc::clone(&after));
        self.head = Arc::clone(&after);
        Offer::Installed(Installed { before: Some(before), after, cut })
    }

    /// Judges an op whose epoch another op made, against the state of its own `prev`.
    fn second(&self, op: &Op, installed: OpHash) -> Offer {
        let judged = match op.epoch().0.checked_sub(1) {
            None => Roster::create(op),
            Some(before) => match self.roster(Epoch(before)) {
                Some(roster) => roster.apply(op),
                None => return Offer::Forgotten,
            },
        };
        match judged {
            Ok(other) => Offer::Fork(Fork {
                epoch: op.epoch(),
                installed,
                offered: op.hash(),
                would_be: other.hash(),
            }),
            Err(invalid) => Offer::Invalid(invalid),
        }
    }

    /// Entries of `(from, to]`.
    pub(super) fn span(&self, from: Epoch, to: Epoch) -> &[LogEntry] {
        let first = usize::try_from(from.0).map_or(usize::MAX, |n| n.saturating_add(1));
        let end = usize::try_from(to.0).map_or(usize::MAX, |n| n.saturating_add(1));
        self.entries.get(first..end.min(self.entries.len())).unwrap_or_default()
    }
}

fn removed(before: &Roster, after: &Roster) -> Vec<Removed> {
    let gone = before.members().iter().filter(|(id, _)| after.member(id).is_none());
    gone.map(|(id, m)| Removed { member_id: *id, account: m.account.clone() }).collect()
}
