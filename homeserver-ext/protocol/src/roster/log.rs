//! What one client has installed of a group's history, in order, and never unlearns.
//!
//! The group's server orders ops, so a second valid op on one `prev` proves that it lied or lost
//! data. The branch installed first stays (protocol §3.3); a person decides, never this code.

use std::sync::Arc;

use super::{at_hand::AtHand, invalid::Invalid, kind::Kind, op::Op, state::Roster};
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

impl LogEntry {
    /// Whether a group that shares a key has another one from this op on: somebody went, who has the
    /// one of before, or may have come, whom it would open what was said before (protocol §5.2).
    pub const fn is_new_window(&self) -> bool {
        matches!(self.kind, Kind::Create | Kind::Add | Kind::Devices) || !self.taken_out.is_empty()
    }
}

/// Whom a `remove` named: never let in again without a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The identity.
    pub member_id: MemberId,
    /// The account that it had.
    pub account: AccountId,
}

/// A group's history: an entry for each epoch, the newest roster, and a few others at hand.
///
/// Any that is not forgotten may be asked for, and most of them have to be made again from ops that
/// only the caller has: he looks whether one is lacking ([`Log::lacks`]), makes it
/// ([`Roster::replay`]), and puts it at hand ([`Log::keep`]).
#[derive(Debug, Clone)]
pub struct Log {
    entries: Arc<Vec<LogEntry>>,
    head: Arc<Roster>,
    at_hand: AtHand,
    /// Rosters of epochs before are forgotten.
    kept_from: Epoch,
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
    /// The roster that it builds on is not kept any more, or not at hand, so it cannot be judged.
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
        Ok(Self::at(vec![entry], head, Epoch(0)))
    }

    /// A history from rows: entries of all epochs from 0 on, the head, and from which epoch on
    /// rosters are kept. `None` where the entries do not lead to the head.
    pub fn from_rows(entries: Vec<LogEntry>, head: Arc<Roster>, kept_from: Epoch) -> Option<Self> {
        let numbered = (0_u32..).zip(&entries).all(|(n, entry)| entry.epoch == Epoch(n));
        let last = entries.last()?;
        let whole = numbered && last.epoch == head.epoch() && last.roster_hash == head.hash();
        whole.then(|| Self::at(entries, head, kept_from))
    }

    fn at(entries: Vec<LogEntry>, head: Arc<Roster>, kept_from: Epoch) -> Self {
        let kept_from = kept_from.min(head.epoch());
        Self { entries: Arc::new(entries), head, at_hand: AtHand::default(), kept_from }
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

    /// The roster at this epoch, if it is at hand ([`Log::lacks`]).
    pub fn roster(&self, epoch: Epoch) -> Option<&Arc<Roster>> {
        if epoch == self.head.epoch() { Some(&self.head) } else { self.at_hand.at(epoch) }
    }

    /// The roster with this hash, if it is at hand ([`Log::lacks`]).
    pub fn by_hash(&self, hash: &RosterHash) -> Option<&Arc<Roster>> {
        self.roster(self.epoch_of(hash)?)
    }

    /// The roster that a message header means, if it is at hand ([`Log::lacks`]).
    pub fn by_hint(&self, epoch: Epoch, hint: [u8; 4]) -> Option<&Arc<Roster>> {
        self.roster(epoch).filter(|roster| roster.hint() == hint)
    }

    /// The epoch whose roster has this hash.
    pub fn epoch_of(&self, hash: &RosterHash) -> Option<Epoch> {
        let entry = self.entries.iter().rev().find(|entry| entry.roster_hash == *hash)?;
        Some(entry.epoch)
    }

    /// Whether a message header with this epoch and hint means a roster of this history.
    pub fn is_meant(&self, epoch: Epoch, hint: [u8; 4]) -> bool {
        self.entry(epoch).is_some_and(|entry| entry.roster_hash.as_bytes().starts_with(&hint))
    }

    /// Whether the roster at this epoch is one of those that may be asked for, and not at hand.
    pub fn lacks(&self, epoch: Epoch) -> bool {
        epoch >= self.kept_from && epoch < self.head.epoch() && self.roster(epoch).is_none()
    }

    /// Takes a roster at hand, in the place of others; `false` where it is none of this history.
    pub fn keep(&mut self, roster: Arc<Roster>) -> bool {
        let ours = self.entry(roster.epoch()).is_some_and(|e| e.roster_hash == roster.hash());
        if ours && self.lacks(roster.epoch()) {
            self.at_hand.put(roster);
        }
        ours
    }

    /// Whether a device was taken out by an op in `(from, to]`.
    pub fn cut_in(&self, from: Epoch, to: Epoch) -> bool {
        self.span(from, to).iter().any(|entry| !entry.taken_out.is_empty())
    }

    /// Whether what another server has too late may be sealed anew under the head (protocol §7.3), which was
    /// sealed under `then`, a roster of this history: a device was taken out since, and none has come, which
    /// is to read nothing of before.
    pub fn may_seal_anew(&self, then: &Roster) -> bool {
        let head = self.head();
        self.cut_in(then.epoch(), head.epoch())
            && head.devices().all(|device| then.counts(&device).is_some())
    }

    /// The last epoch up to this one that began with another shared key (protocol §5.2).
    pub fn window(&self, epoch: Epoch) -> Epoch {
        let mut until = self.entries.iter().rev().skip_while(|entry| entry.epoch > epoch);
        until.find(|entry| entry.is_new_window()).map_or(Epoch(0), |entry| entry.epoch)
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
        if self.entry(epoch).is_none_or(|entry| entry.place.is_some()) {
            return;
        }
        let at = usize::try_from(epoch.0).ok();
        if let Some(entry) = at.and_then(|at| Arc::make_mut(&mut self.entries).get_mut(at)) {
            entry.place = Some(place);
        }
    }

    /// Drops rosters below `epoch`; their entries stay. The head is always kept.
    pub fn forget_before(&mut self, epoch: Epoch) {
        self.kept_from = self.kept_from.max(epoch).min(self.head.epoch());
        self.at_hand.forget_before(self.kept_from);
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
        Arc::make_mut(&mut self.entries).push(LogEntry {
            epoch: after.epoch(),
            roster_hash: after.hash(),
            op_hash: op.hash(),
            kind: op.kind(),
            taken_out,
            removed,
            place: None,
        });
        self.at_hand.put(Arc::clone(&before));
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
