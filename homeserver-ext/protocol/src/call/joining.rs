//! What an event does at once; what it leads to is in `steps`.

use std::collections::BTreeSet;

use super::{
    Call, Caps, Effect, Ended, Event, Out, Participant, Refused, Said, Topology, Who, after, rules,
};
use crate::ids::Timestamp;

impl Call {
    pub(super) fn take(
        &mut self,
        event: Event,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        if self.is_over() {
            // What comes late of a call that is over is no fault, except for who still wants in.
            return match event {
                Event::Join(..)
                | Event::Report(..)
                | Event::Upgrade(..)
                | Event::Expect(_)
                | Event::ToSfu
                | Event::ToMesh
                | Event::Kick(_) => Err(Refused::Ended),
                _ => Ok(()),
            };
        }
        match event {
            Event::Join(who, caps) => self.join(who, caps, now, effects)?,
            Event::Leave(who) => self.remove(&who, None, now, effects),
            Event::Lost(who) => {
                if let Some(it) = self.participants.get_mut(&who) {
                    it.lost = it.lost.or(Some(now));
                }
            }
            Event::Back(who) => self.back(&who, now),
            Event::Report(who, epoch, said) => self.report(&who, epoch, said, now)?,
            Event::Upgrade(who, with) => self.upgrade(who, with, now, effects)?,
            Event::Expect(who) => self.expect(who, now, effects)?,
            Event::Shown(those) => self.show(&those, now),
            Event::SfuDown => {
                self.sfu_down = self.sfu_down.or(Some(now));
                self.broken_until = Some(after(now, rules::BREAK));
            }
            Event::SfuUp => {
                if self.sfu_down.take().is_some() {
                    self.connect_anew(now);
                }
            }
            Event::NewRoom => self.go_anew(now),
            Event::End => self.end(Ended::ByHand, now, effects),
            Event::ToSfu => self.hold(now, effects)?,
            Event::ToMesh => self.let_go(now)?,
            Event::Kick(who) => {
                // Who was only awaited is so no more.
                let was_awaited = self.expected.remove(&who).is_some();
                if self.participants.contains_key(&who) {
                    self.remove(&who, Some(Out::Kicked), now, effects);
                } else if !was_awaited {
                    return Err(Refused::NotInCall);
                }
            }
            Event::Tick => {}
        }
        Ok(())
    }

    fn join(
        &mut self,
        who: Who,
        caps: Caps,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        if self.participants.contains_key(&who) {
            self.back(&who, now);
            return Ok(());
        }
        if self.participants.len() >= rules::MOST {
            return Err(Refused::Full(rules::MOST));
        }
        self.expected.remove(&who);
        let is_native = who.is_native();
        self.participants.insert(
            who.clone(),
            Participant {
                caps,
                since: now,
                said: Said::default(),
                shown: false,
                lost: None,
                in_mesh: false,
                late: true,
                connect_by: after(now, rules::CONNECT),
            },
        );
        (self.stable, self.empty) = (now, None);
        if self.topology == Topology::Mesh && self.fits_mesh() {
            self.place(&who, true, false);
            return Ok(());
        }
        // Where there is no SFU, that is what is in the way.
        if !caps.sfu && (self.has_sfu || !caps.mesh) {
            return Err(Refused::CannotUseSfu(vec![who]));
        }
        match self.topology {
            Topology::Mesh => {
                self.prepare(now, effects)?;
                self.place(&who, false, !is_native);
            }
            Topology::Prepare if is_native && !self.extended => {
                self.extended = true;
                // Where its time is over, as while one of Matrix is awaited, he has his own.
                self.until = self.until.map(|at| {
                    if at <= now { after(now, rules::READY) } else { after(at, rules::EXTENSION) }
                });
                self.place(&who, false, false);
            }
            // Whoever comes while all go back to the mesh stops that: the SFU still carries them.
            Topology::Shrink => self.turn(Topology::Sfu, now, None),
            _ if self.sfu_down.is_some() => return Err(self.unavailable(now)),
            _ => {}
        }
        Ok(())
    }

    fn place(&mut self, who: &Who, in_mesh: bool, late: bool) {
        if let Some(it) = self.participants.get_mut(who) {
            (it.in_mesh, it.late) = (in_mesh, late);
        }
    }

    fn back(&mut self, who: &Who, now: Timestamp) {
        let was_anybody_there = self.is_anybody_there();
        if let Some(it) = self.participants.get_mut(who)
            && it.lost.take().is_some()
        {
            it.connect_by = it.connect_by.max(after(now, rules::CONNECT));
            // Where all were lost it was their server that was away, to which nobody could say that he is
            // ready.
            if !was_anybody_there && matches!(self.topology, Topology::Prepare | Topology::Dual) {
                self.until = self.until.map(|until| until.max(after(now, rules::READY)));
            }
        }
    }

    fn report(
        &mut self,
        who: &Who,
        epoch: u32,
        mut said: Said,
        now: Timestamp,
    ) -> Result<(), Refused> {
        let others = self.others(who);
        let it = self.participants.get_mut(who).ok_or(Refused::NotInCall)?;
        if epoch != self.epoch {
            return Err(Refused::StaleEpoch(epoch, self.epoch));
        }
        // Only who was there has something to lose: words alone win nobody time.
        if it.is_on_sfu(who) && !said.ready {
            it.connect_by = after(now, rules::GRACE);
        }
        said.connected.retain(|peer| others.contains(peer));
        it.said = said;
        Ok(())
    }

    fn upgrade(
        &mut self,
        who: Who,
        with: Who,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        let it = self.participants.get(&who).ok_or(Refused::NotInCall)?;
        let peer = self.participants.get(&with).ok_or(Refused::NotInCall)?;
        let tried = it.connect_by.max(peer.connect_by) <= now;
        if self.topology != Topology::Mesh
            || who == with
            || !tried
            || self.are_connected(&who, &with)
            || self.shrinks_too_often(now)
        {
            return Err(Refused::NoNeed);
        }
        self.asked = Some((who, with));
        self.prepare(now, effects)
    }

    /// Keeps the call on the SFU, and moves it there.
    fn hold(&mut self, now: Timestamp, effects: &mut Vec<Effect>) -> Result<(), Refused> {
        match self.topology {
            Topology::Mesh => self.prepare(now, effects)?,
            Topology::Shrink => self.turn(Topology::Sfu, now, None),
            _ => {}
        }
        self.held = true;
        Ok(())
    }

    /// Moves the call back to the mesh, where that can carry it, whoever came or went just now.
    fn let_go(&mut self, now: Timestamp) -> Result<(), Refused> {
        self.held = false;
        match self.topology {
            Topology::Mesh | Topology::Shrink => {}
            // For them it would stay, or come back at once.
            Topology::Prepare | Topology::Sfu if !self.needs_sfu() && !self.expected.is_empty() => {
                return Err(Refused::TooManyExpected(self.expected.len()));
            }
            // It falls back by itself.
            Topology::Prepare if !self.needs_sfu() => {}
            Topology::Sfu if !self.needs_sfu() && self.sfu_down.is_none() => self.shrink(now),
            _ => return Err(Refused::NoMesh(self.participants.len())),
        }
        Ok(())
    }

    fn expect(
        &mut self,
        who: Who,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        if self.participants.contains_key(&who) || self.expected.contains_key(&who) {
            return Ok(());
        }
        // One user's newest: he is at one device, whatever he calls others.
        let (mut its, mut oldest) = (0, None);
        for (other, until) in &self.expected {
            if other.is_device_of(&who) {
                its += 1;
                oldest = oldest.filter(|(_, at)| *at <= *until).or(Some((other.clone(), *until)));
            }
        }
        if its >= rules::MOST_EXPECTED_OF_ONE {
            if let Some((other, _)) = oldest {
                self.expected.remove(&other);
            }
        } else if self.expected.len() >= rules::MOST_EXPECTED {
            return Err(Refused::TooManyExpected(rules::MOST_EXPECTED));
        }
        match self.topology {
            Topology::Mesh => self.prepare(now, effects)?,
            _ if self.sfu_down.is_some() => return Err(self.unavailable(now)),
            _ => {}
        }
        self.expected.insert(who, after(now, rules::EXPECTED));
        Ok(())
    }

    fn show(&mut self, those: &BTreeSet<Who>, now: Timestamp) {
        for (who, it) in &mut self.participants {
            let shown = those.contains(who);
            if it.shown && !shown {
                it.connect_by = after(now, rules::GRACE);
            }
            it.shown = shown;
        }
    }

    /// Everybody has the time that a newcomer has, and what all wait for that of its step.
    fn go_anew(&mut self, now: Timestamp) {
        if !self.is_room_open {
            return;
        }
        for it in self.participants.values_mut() {
            it.shown = false;
        }
        self.connect_anew(now);
        for until in self.expected.values_mut() {
            *until = after(now, rules::EXPECTED);
        }
        if matches!(self.topology, Topology::Prepare | Topology::Dual) {
            self.until = self.until.map(|until| until.max(after(now, rules::READY)));
        }
    }

    /// Begins the move to the SFU, unless it is known that it cannot end well.
    fn prepare(&mut self, now: Timestamp, effects: &mut Vec<Effect>) -> Result<(), Refused> {
        if !self.has_sfu || self.broken_until.is_some_and(|until| until > now) {
            return Err(self.unavailable(now));
        }
        let unable = |it: &Participant| !it.caps.sfu && !it.caps.may_degrade;
        let those: Vec<_> = self.participants.iter().filter(|(_, it)| unable(it)).collect();
        if !those.is_empty() {
            return Err(Refused::CannotUseSfu(
                those.into_iter().map(|(who, _)| who.clone()).collect(),
            ));
        }
        for it in self.participants.values_mut() {
            (it.said.ready, it.said.declined, it.shown) = (false, false, false);
        }
        (self.extended, self.sfu_down, self.close_room) = (false, None, None);
        self.turn(Topology::Prepare, now, Some(rules::READY));
        self.is_room_open = true;
        effects.push(Effect::OpenRoom);
        Ok(())
    }

    fn unavailable(&self, now: Timestamp) -> Refused {
        let wait = self.broken_until.map_or(0, |until| until.0.saturating_sub(now.0));
        let least = u64::try_from(rules::BREAK.as_millis()).unwrap_or(u64::MAX);
        let others = self.participants.values().filter(|it| it.in_mesh).count();
        Refused::SfuUnavailable(others.max(1), if wait == 0 { least } else { wait })
    }

    /// Takes somebody out: `why` where that was not his own doing.
    pub(super) fn remove(
        &mut self,
        who: &Who,
        why: Option<Out>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        self.expected.remove(who);
        if self.participants.remove(who).is_none() {
            return;
        }
        for it in self.participants.values_mut() {
            it.said.connected.remove(who);
        }
        self.asked.take_if(|(one, other)| one == who || other == who);
        self.stable = now;
        self.empty = self.participants.is_empty().then_some(now);
        if self.is_room_open {
            effects.push(Effect::Remove(who.clone()));
        }
        effects.extend(why.map(|why| Effect::PutOut(who.clone(), why)));
    }
}
