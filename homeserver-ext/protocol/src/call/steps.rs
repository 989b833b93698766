//! What time and the state lead to: one step of the topology, or one who is put out, at a time.

use super::{Call, Effect, Ended, Out, Topology, Who, after, rules};
use crate::ids::Timestamp;
use std::time::Duration;

impl Call {
    /// Takes one step that is due; false when there is none.
    pub(super) fn step(&mut self, now: Timestamp, effects: &mut Vec<Effect>) -> bool {
        if self.is_over() {
            return false;
        }
        if self.close_room.is_some_and(|at| at <= now) {
            self.shut_room(effects);
        }
        self.expected.retain(|_, until| *until > now);
        if self.empty.is_some_and(|at| after(at, rules::EMPTY) <= now) {
            self.end(Ended::Empty, now, effects);
            return true;
        }
        if let Some((who, why)) = self.whose_time_is_up(now) {
            self.remove(&who, Some(why), now, effects);
            return true;
        }
        match self.topology {
            Topology::Mesh | Topology::Ended(_) => false,
            Topology::Prepare => self.step_of_prepare(now, effects),
            Topology::Dual => self.step_of_dual(now, effects),
            Topology::Sfu => self.step_of_sfu(now, effects),
            Topology::Shrink => self.step_of_shrink(now),
            Topology::Reconnecting => self.step_of_reconnecting(now, effects),
        }
    }

    fn whose_time_is_up(&self, now: Timestamp) -> Option<(Who, Out)> {
        let on_sfu = match self.topology {
            Topology::Sfu | Topology::Shrink => self.sfu_down.is_none(),
            _ => false,
        };
        let found = self.participants.iter().find_map(|(who, it)| {
            if it.lost.is_some_and(|at| after(at, rules::GRACE) <= now) {
                return Some((who, Out::Lost));
            }
            // Before the SFU carries the call only those are let go whom nobody waits for.
            let must =
                on_sfu || it.late && matches!(self.topology, Topology::Prepare | Topology::Dual);
            let is_late = must && it.lost.is_none() && it.connect_by <= now && !it.is_on_sfu(who);
            is_late.then_some((who, Out::CouldNotConnect))
        });
        found.map(|(who, why)| (who.clone(), why))
    }

    /// Those whom the others wait for and who are not on the SFU.
    fn missing(&self) -> Vec<Who> {
        let missing =
            self.participants.iter().filter(|(who, it)| it.counts() && !it.is_on_sfu(who));
        missing.map(|(who, _)| who.clone()).collect()
    }

    /// Whether one of them is not lost. Where the streams of all are, as after a new start of the server,
    /// nobody is missing, and nobody is ready either.
    pub(super) fn is_anybody_there(&self) -> bool {
        self.participants.values().any(|it| it.lost.is_none())
    }

    fn step_of_prepare(&mut self, now: Timestamp, effects: &mut Vec<Effect>) -> bool {
        if self.sfu_down.is_some() {
            return self.roll_back(Out::SfuUnavailable, now, effects);
        }
        // A Matrix user who asked for a token is a reason to prepare, and none to move.
        let is_awaited = !self.expected.is_empty() && now < after(self.since, rules::EXPECTED);
        if !self.needs_sfu() && !is_awaited {
            return self.roll_back(Out::CannotUseSfu, now, effects);
        }
        let missing = self.missing();
        if missing.is_empty() && self.needs_sfu() && self.is_anybody_there() {
            self.turn(Topology::Dual, now, Some(rules::READY));
            for (who, it) in &mut self.participants {
                it.late |= !(it.shown && (it.said.ready || !who.is_native()));
            }
            return true;
        }
        self.go_without(missing, now, effects)
    }

    fn step_of_dual(&mut self, now: Timestamp, effects: &mut Vec<Effect>) -> bool {
        if self.sfu_down.is_some() {
            return self.roll_back(Out::SfuUnavailable, now, effects);
        }
        let missing = self.missing();
        // The mesh is not taken from who lost his own server, as all do with its start, and is back in a moment.
        let mut lost = self.participants.values().filter(|it| it.in_mesh).filter_map(|it| it.lost);
        let is_waited = lost.any(|at| after(at, rules::READY) > now);
        let is_confirmed = missing.is_empty() && self.is_anybody_there() && !is_waited;
        if is_confirmed && after(self.since, rules::OVERLAP) <= now {
            self.switched(now);
            self.turn(Topology::Sfu, now, None);
            for it in self.participants.values_mut() {
                it.in_mesh = false;
            }
            return true;
        }
        self.go_without(missing, now, effects)
    }

    /// Whoever holds the others up past the deadline goes, if he came last or agreed to it; else all
    /// stay in the mesh.
    fn go_without(&mut self, missing: Vec<Who>, now: Timestamp, effects: &mut Vec<Effect>) -> bool {
        let is_due = self.until.is_some_and(|at| at <= now);
        let of = |who: &Who| self.participants.get(who);
        let hopeless = |who: &Who| of(who).is_some_and(super::Participant::is_hopeless);
        let goes = |who: &Who| of(who).is_some_and(|it| it.caps.may_degrade || !it.in_mesh);
        let stuck = if is_due || missing.iter().all(hopeless) {
            missing
        } else {
            missing.into_iter().filter(|who| hopeless(who) && !goes(who)).collect()
        };
        if stuck.is_empty() {
            return false;
        }
        if !stuck.iter().all(goes) {
            return self.roll_back(Out::CannotUseSfu, now, effects);
        }
        for who in stuck {
            let is_newcomer = of_mesh(self, &who);
            self.remove(
                &who,
                Some(if is_newcomer { Out::CannotUseSfu } else { Out::MovedToSfu }),
                now,
                effects,
            );
        }
        true
    }

    fn step_of_sfu(&mut self, now: Timestamp, effects: &mut Vec<Effect>) -> bool {
        if let Some(down) = self.sfu_down {
            if after(down, rules::SFU_AWAY) > now {
                return false;
            }
            if self.fits_mesh() {
                self.switched(now);
                self.turn_to_mesh(now);
                self.shut_room(effects);
            } else {
                self.turn(Topology::Reconnecting, now, Some(rules::RECONNECT));
            }
            return true;
        }
        let few = self.participants.len() < self.mesh_max && !self.needs_sfu();
        let calm =
            self.expected.is_empty() && self.participants.values().all(|it| it.lost.is_none());
        if few && calm && !self.participants.is_empty() && self.shrinks_at() <= now {
            self.shrink(now);
            return true;
        }
        false
    }

    pub(super) fn shrink(&mut self, now: Timestamp) {
        self.turn(Topology::Shrink, now, Some(rules::READY));
        for it in self.participants.values_mut() {
            it.said.connected.clear();
        }
    }

    fn step_of_shrink(&mut self, now: Timestamp) -> bool {
        let all: Vec<_> = self.participants.iter().collect();
        let confirmed = all.iter().all(|(one, it)| {
            it.lost.is_none()
                && all.iter().all(|(other, _)| one == other || self.are_connected(one, other))
        });
        self.confirmed = confirmed.then(|| self.confirmed.unwrap_or(now));
        if self.confirmed.is_some_and(|at| after(at, rules::OVERLAP) <= now) {
            self.switched(now);
            self.turn_to_mesh(now);
            self.close_room = Some(after(now, rules::LINGER));
            return true;
        }
        let is_late = self.until.is_some_and(|at| at <= now);
        if is_late || self.sfu_down.is_some() || !self.expected.is_empty() {
            // The SFU never stopped to carry it; whether it is away is for that step to say.
            self.stable = now;
            self.turn(Topology::Sfu, now, None);
            return true;
        }
        false
    }

    fn step_of_reconnecting(&mut self, now: Timestamp, effects: &mut Vec<Effect>) -> bool {
        if self.sfu_down.is_none() {
            self.turn(Topology::Sfu, now, None);
            return true;
        }
        if self.fits_mesh() {
            self.switched(now);
            self.turn_to_mesh(now);
            self.shut_room(effects);
            return true;
        }
        let is_due = self.until.is_some_and(|at| at <= now);
        if is_due {
            self.end(Ended::MediaServerLost, now, effects);
        }
        is_due
    }

    /// Back to the mesh, which still stands; whoever it has no place for is told `why`.
    fn roll_back(&mut self, why: Out, now: Timestamp, effects: &mut Vec<Effect>) -> bool {
        let natives = self.participants.keys().filter(|who| who.is_native()).count();
        let stays = |who: &Who, in_mesh: bool, mesh: bool| {
            who.is_native() && mesh && (in_mesh || natives <= self.mesh_max)
        };
        let those = self.participants.iter();
        let out: Vec<_> = those
            .filter(|(who, it)| !stays(who, it.in_mesh, it.caps.mesh))
            .map(|(who, _)| who.clone())
            .collect();
        for who in out {
            self.remove(&who, Some(why), now, effects);
        }
        self.turn_to_mesh(now);
        self.shut_room(effects);
        true
    }

    fn turn_to_mesh(&mut self, now: Timestamp) {
        self.turn(Topology::Mesh, now, None);
        self.expected.clear();
        (self.asked, self.sfu_down, self.held) = (None, None, false);
        for it in self.participants.values_mut() {
            (it.said.ready, it.said.declined, it.shown) = (false, false, false);
            (it.in_mesh, it.late) = (true, false);
        }
        self.connect_anew(now);
    }

    pub(super) fn connect_anew(&mut self, now: Timestamp) {
        for it in self.participants.values_mut() {
            it.connect_by = after(now, rules::CONNECT);
        }
    }

    pub(super) fn turn(&mut self, to: Topology, now: Timestamp, within: Option<Duration>) {
        self.epoch += 1;
        (self.topology, self.since) = (to, now);
        self.until = within.map(|wait| after(now, wait));
        self.confirmed = None;
    }

    pub(super) fn end(&mut self, why: Ended, now: Timestamp, effects: &mut Vec<Effect>) {
        self.turn(Topology::Ended(why), now, None);
        self.participants.clear();
        self.expected.clear();
        (self.asked, self.empty, self.sfu_down) = (None, None, None);
        self.shut_room(effects);
    }

    fn shut_room(&mut self, effects: &mut Vec<Effect>) {
        self.close_room = None;
        if std::mem::take(&mut self.is_room_open) {
            effects.push(Effect::CloseRoom);
        }
    }

    fn switched(&mut self, now: Timestamp) {
        self.switches.push(now);
        if self.switches.len() > rules::SWITCHES {
            self.switches.remove(0);
        }
    }

    pub(super) fn shrinks_too_often(&self, now: Timestamp) -> bool {
        let first = self.switches.first().filter(|_| self.switches.len() >= rules::SWITCHES);
        first.is_some_and(|at| after(*at, rules::SWITCH_WINDOW) > now)
    }
}

/// Whether the mesh has no place for `who`.
fn of_mesh(call: &Call, who: &Who) -> bool {
    call.participants.get(who).is_some_and(|it| !it.in_mesh)
}
