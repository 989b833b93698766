//! The rules of a call: what carries it, and how it moves from one carrier to the other without a gap.
//!
//! Up to [`rules::MESH_MAX`] natives talk directly; one more, or one of Matrix, and everybody goes to an
//! SFU: `MESH → PREPARE → DUAL → SFU → SHRINK → MESH`. The way that is left is kept until the
//! other is confirmed. Pure: no clock and no network; who keeps a call gives it events and the time,
//! does what [`Change::effects`] says, and comes again at [`Call::deadline`].

mod event;
mod glare;
mod joining;
mod row;
pub mod rules;
mod steps;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::ids::Timestamp;

pub use event::{Caps, Change, Effect, Ended, Event, Out, Refused, Said, Who};
pub use glare::{offers, prevails, sfu_identity, sfu_room};

/// What carries a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Topology {
    /// Each talks to each.
    Mesh,
    /// The mesh carries it; all go to the SFU.
    Prepare,
    /// Both carry it.
    Dual,
    /// The SFU carries it.
    Sfu,
    /// The SFU carries it; all go to the mesh.
    Shrink,
    /// The SFU is away, and no mesh carries so many.
    Reconnecting,
    /// It is over.
    Ended(Ended),
}

/// One who takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    /// What it can do.
    pub caps: Caps,
    /// Since when.
    pub since: Timestamp,
    /// What it said last, in this epoch or one before.
    pub said: Said,
    /// Whether the SFU's own list shows it.
    pub shown: bool,
    /// Since when its stream is lost.
    pub lost: Option<Timestamp>,
    /// Whether the mesh has a place for it: it is not put out when the way to the SFU fails.
    pub in_mesh: bool,
    /// Whether nobody waits for it: it goes to the SFU on its own, until `connect_by`.
    pub late: bool,
    /// When it has to be connected.
    pub connect_by: Timestamp,
}

impl Participant {
    /// Whether its way to the SFU is confirmed: its own word is not enough.
    pub fn is_on_sfu(&self, who: &Who) -> bool {
        self.shown && (self.said.ready || !who.is_native())
    }

    /// Whether the others wait for it.
    fn counts(&self) -> bool {
        self.lost.is_none() && !self.late
    }

    fn is_hopeless(&self) -> bool {
        self.said.declined || !self.caps.sfu
    }
}

/// A call; as JSON it is what a server keeps of it.
#[expect(clippy::struct_excessive_bools, reason = "each is a matter of its own")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Rises with each change.
    pub version: u64,
    /// Rises with each step of the topology.
    pub epoch: u32,
    /// What carries it.
    pub topology: Topology,
    /// Since when.
    pub since: Timestamp,
    /// Until when this step may last.
    pub until: Option<Timestamp>,
    /// Who takes part.
    #[serde(with = "row::pairs")]
    pub participants: BTreeMap<Who, Participant>,
    mesh_max: usize,
    has_sfu: bool,
    extended: bool,
    confirmed: Option<Timestamp>,
    asked: Option<(Who, Who)>,
    #[serde(with = "row::pairs")]
    expected: BTreeMap<Who, Timestamp>,
    empty: Option<Timestamp>,
    stable: Timestamp,
    switches: Vec<Timestamp>,
    sfu_down: Option<Timestamp>,
    broken_until: Option<Timestamp>,
    is_room_open: bool,
    close_room: Option<Timestamp>,
    /// Whether an operator keeps it on the SFU.
    #[serde(default)]
    held: bool,
}

impl Call {
    /// A call without anybody, which a mesh of at most `mesh_max` carries, and an SFU where there is one.
    pub fn new(mesh_max: usize, has_sfu: bool, now: Timestamp) -> Self {
        Self {
            version: 0,
            epoch: 0,
            topology: Topology::Mesh,
            since: now,
            until: None,
            participants: BTreeMap::new(),
            mesh_max,
            has_sfu,
            extended: false,
            confirmed: None,
            asked: None,
            expected: BTreeMap::new(),
            empty: Some(now),
            stable: now,
            switches: Vec::new(),
            sfu_down: None,
            broken_until: None,
            is_room_open: false,
            close_room: None,
            held: false,
        }
    }

    /// What `event` and the time change.
    ///
    /// # Errors
    /// [`Refused`]: nothing changed, not even by the time; [`Event::Tick`] is never refused.
    pub fn apply(&mut self, event: Event, now: Timestamp) -> Result<Change, Refused> {
        let mut next = self.clone();
        let mut change = Change::default();
        next.take(event, now, &mut change.effects)?;
        while next.step(now, &mut change.effects) {}
        if next != *self {
            next.version += 1;
            change.changed = true;
            *self = next;
        }
        Ok(change)
    }

    /// Ends a call whose server's database was put back from a copy: its version is one that nobody
    /// can have seen of before, so that nobody takes it for an old one.
    pub fn put_back(&mut self, now: Timestamp) {
        if !self.is_over() {
            self.end(Ended::PutBack, now, &mut Vec::new());
            self.version += rules::BEYOND_A_COPY;
        }
    }

    /// When something happens that nobody does; [`Event::Tick`] then.
    pub fn deadline(&self, now: Timestamp) -> Option<Timestamp> {
        if self.is_over() {
            return None;
        }
        let those = self.participants.values();
        let lost = those.clone().filter_map(|it| it.lost.map(|at| after(at, rules::GRACE)));
        let mut due: Vec<_> = lost.chain(those.map(|it| it.connect_by)).collect();
        due.extend(self.expected.values().copied());
        due.extend(self.until);
        due.extend(self.close_room);
        due.extend(self.empty.map(|at| after(at, rules::EMPTY)));
        due.extend(self.sfu_down.map(|at| after(at, rules::SFU_AWAY)));
        due.extend(self.confirmed.map(|at| after(at, rules::OVERLAP)));
        match self.topology {
            Topology::Prepare => due.push(after(self.since, rules::EXPECTED)),
            Topology::Dual => {
                due.push(after(self.since, rules::OVERLAP));
                let lost = self.participants.values().filter_map(|it| it.lost);
                due.extend(lost.map(|at| after(at, rules::READY)));
            }
            Topology::Sfu => due.push(self.shrinks_at()),
            _ => {}
        }
        due.into_iter().filter(|at| *at > now).min()
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        matches!(self.topology, Topology::Ended(_))
    }

    /// Who may have a token for the SFU now.
    pub fn may_use_sfu(&self, who: &Who) -> bool {
        let open = !matches!(self.topology, Topology::Mesh | Topology::Ended(_));
        open && (self.participants.contains_key(who) || self.expected.contains_key(who))
    }

    /// Whether that one asked for a token, and has not come yet.
    #[must_use]
    pub fn is_awaited(&self, who: &Who) -> bool {
        self.expected.contains_key(who)
    }

    /// Matrix users who asked for a token, and have not come yet.
    pub fn awaited(&self) -> impl Iterator<Item = &Who> {
        self.expected.keys()
    }

    /// Whether the SFU is to have a room for it.
    pub const fn has_room(&self) -> bool {
        self.is_room_open
    }

    /// Whether it was told that the SFU is away, and not yet that it is back.
    pub const fn misses_sfu(&self) -> bool {
        self.sfu_down.is_some()
    }

    /// Whether `one` and `other` both say that they have each other's media in the mesh.
    pub fn are_connected(&self, one: &Who, other: &Who) -> bool {
        let says =
            |from, of| self.participants.get(from).is_some_and(|it| it.said.connected.contains(of));
        says(one, other) && says(other, one)
    }

    fn fits_mesh(&self) -> bool {
        self.participants.len() <= self.mesh_max
            && self.participants.iter().all(|(who, it)| who.is_native() && it.caps.mesh)
    }

    fn needs_sfu(&self) -> bool {
        !self.fits_mesh() || self.asked.is_some() || self.held
    }

    fn shrinks_at(&self) -> Timestamp {
        let switch = self.switches.last().map_or(self.since, |at| after(*at, rules::SINCE_SWITCH));
        let third = self.switches.len().checked_sub(rules::SWITCHES);
        let third = third.and_then(|index| self.switches.get(index));
        let calm = third.map_or(self.since, |at| after(*at, rules::SWITCH_WINDOW));
        after(self.stable, rules::STABLE).max(switch).max(calm)
    }

    fn others(&self, who: &Who) -> BTreeSet<Who> {
        self.participants.keys().filter(|it| *it != who).cloned().collect()
    }
}

fn after(at: Timestamp, wait: Duration) -> Timestamp {
    Timestamp(at.0.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
}
