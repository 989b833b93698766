//! How a call stands as far as this device knows, and what it has to say to the server next. No network.

use std::collections::BTreeSet;

use causeway_protocol::{
    api::{CallParticipant, CallReady, CallState, CallTopology},
    ids::DeviceId,
};

use super::carrying::Carrying;

/// Whom the mesh can connect to is what a report has room for.
const MAX_CONNECTED: usize = 16;

/// What is known.
#[derive(Debug)]
pub(super) struct Known {
    me: DeviceId,
    state: CallState,
    /// Whom sound goes to and comes from directly.
    connected: BTreeSet<DeviceId>,
    pub(super) muted: bool,
    pub(super) hand: bool,
    pub(super) standing: Standing,
    pub(super) carrying: Carrying,
    /// In which epoch it last said of itself on the server for calls: ready, or why it never is.
    said: Option<(u32, OnServer)>,
}

/// What a device says of itself on the server for calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OnServer {
    /// That what it says arrives there, or does no longer.
    Ready(bool),
    /// Why it does not go there.
    Declined(String),
}

impl OnServer {
    pub(super) const fn ready(&self) -> Option<CallReady> {
        match self {
            Self::Ready(published) => Some(CallReady { published: *published }),
            Self::Declined(_) => None,
        }
    }

    pub(super) fn decline(&self) -> Option<String> {
        match self {
            Self::Ready(_) => None,
            Self::Declined(why) => Some(why.clone()),
        }
    }
}

/// How it stands between this device and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It takes part.
    In,
    /// The server has put it out, though it did not go.
    Out,
    /// Nothing but to leave is left to do.
    Leaves,
    /// The server has it no more, and nothing more is asked.
    Gone,
}

/// What the server is to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    /// How the call stands.
    Look,
    /// To be let in again.
    Join,
    /// To know from whom there is sound, in which epoch, and how it is with the server for calls.
    Report(u32, Vec<DeviceId>, Option<OnServer>),
    /// To show microphone and hand.
    Set(bool, bool),
    /// To be let go.
    Leave,
}

/// What a state says that is newer than the one before.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It goes on, with these.
    On,
    /// It is over for everybody.
    Over,
    /// This device went, by its own wish.
    Left,
    /// This device was put out, and would be again.
    Out(String),
}

impl Known {
    /// As the server answered when this device came in.
    pub(super) fn new(me: DeviceId, state: CallState, muted: bool) -> Self {
        let connected = BTreeSet::new();
        let (standing, carrying) = (Standing::In, Carrying::new(me));
        Self { me, state, connected, muted, hand: false, standing, carrying, said: None }
    }

    pub(super) const fn state(&self) -> &CallState {
        &self.state
    }

    /// The server has taken this in.
    pub(super) fn reported(&mut self, ask: &Ask) {
        if let Ask::Report(epoch, _, Some(said)) = ask {
            self.said = Some((*epoch, said.clone()));
        }
    }

    /// What of the server for calls is to be said, and whether it was not said yet.
    fn on_server(&self) -> (Option<OnServer>, bool) {
        let epoch = self.state.epoch;
        let now = match (self.carrying.decline(), self.carrying.ready(&self.state)) {
            (_, None) => return (None, false),
            (Some(why), _) => OnServer::Declined(why),
            (None, Some(ready)) => OnServer::Ready(ready),
        };
        let is_new = match &self.said {
            Some((said_in, said)) if *said_in == epoch => *said != now,
            // Until it says so nobody takes it for ready.
            Some(_) | None => now != OnServer::Ready(false),
        };
        (Some(now), is_new)
    }

    pub(super) fn connected(&mut self, device: DeviceId, is: bool) {
        if is {
            self.connected.insert(device);
        } else {
            self.connected.remove(&device);
        }
    }

    /// Takes a state in; `None` of an old one.
    pub(super) fn hear(&mut self, now: CallState) -> Option<Heard> {
        if now.call != self.state.call || now.version <= self.state.version {
            return None;
        }
        let was_next = now.version == self.state.version + 1;
        let was_in = self.mine().is_some();
        let was_muted = self.mine().map(|it| it.muted);
        self.state = now;
        let mine = self.mine();
        self.muted |=
            mine.is_some_and(|mine| is_muted_by_another(was_muted, self.muted, mine.muted));
        if self.state.topology == CallTopology::Ended {
            return Some(Heard::Over);
        }
        if self.mine().is_some() {
            if self.standing == Standing::Out {
                self.standing = Standing::In;
            }
            return Some(Heard::On);
        }
        let out = self.state.out.iter().find(|out| out.device == self.me);
        Some(match out.map(|out| out.why.as_str()) {
            _ if self.standing == Standing::Leaves => Heard::Left,
            // Its stream was; it comes back with it.
            Some("lost") => self.comes_back(),
            Some(why) => Heard::Out(why.to_owned()),
            // Nothing happened but that it went: another program of the same home asked for it.
            None if was_in && was_next => Heard::Left,
            // What happened meanwhile was not seen.
            None => self.comes_back(),
        })
    }

    fn comes_back(&mut self) -> Heard {
        if self.standing == Standing::In {
            self.standing = Standing::Out;
        }
        Heard::On
    }

    /// What is to be asked now, as everything stands.
    pub(super) fn ask(&self) -> Option<Ask> {
        match self.standing {
            _ if self.state.topology == CallTopology::Ended => return None,
            Standing::Gone => return None,
            Standing::Leaves => return self.mine().is_some().then_some(Ask::Leave),
            Standing::Out => return Some(Ask::Join),
            Standing::In => {}
        }
        let mine = self.mine()?;
        let there = |device: &&DeviceId| self.state.natives().any(|it| it.device == **device);
        let known: BTreeSet<_> = mine.connected.iter().filter(there).collect();
        let connected: BTreeSet<_> = self.connected.iter().filter(there).collect();
        let (on_server, is_new) = self.on_server();
        if known != connected || is_new {
            let connected = connected.into_iter().copied().take(MAX_CONNECTED).collect();
            return Some(Ask::Report(self.state.epoch, connected, on_server));
        }
        ((mine.muted, mine.hand) != (self.muted, self.hand))
            .then_some(Ask::Set(self.muted, self.hand))
    }

    fn mine(&self) -> Option<&CallParticipant> {
        self.state.natives().find(|it| it.device == self.me)
    }
}

/// Whether somebody who may has muted this device: it was not, as it wished, and now it is.
pub(crate) fn is_muted_by_another(was: Option<bool>, wished: bool, now: bool) -> bool {
    was == Some(false) && !wished && now
}

#[cfg(test)]
mod tests {
    use causeway_protocol::{
        api::{CallMember, CallOut},
        ids::CallId,
    };

    use super::*;
    use crate::calling::carrying::tests::state;

    fn device(n: u8) -> DeviceId {
        DeviceId::new([n; 32])
    }

    fn out(version: u64, why: &str) -> CallState {
        let mut state = state(version, &[2]);
        let account = state.started_by.account.clone();
        state.out = vec![CallOut { account, device: device(1), why: why.to_owned() }];
        state
    }

    #[test]
    fn who_is_lost_comes_back_and_who_left_or_was_put_out_does_not() {
        let known = || Known::new(device(1), state(4, &[1, 2]), false);
        for (now, heard, ask) in [
            (state(5, &[2]), Heard::Left, None),
            (state(7, &[2]), Heard::On, Some(Ask::Join)),
            (out(5, "lost"), Heard::On, Some(Ask::Join)),
            (out(9, "lost"), Heard::On, Some(Ask::Join)),
            (out(5, "could_not_connect"), Heard::Out("could_not_connect".to_owned()), None),
        ] {
            let mut known = known();
            assert_eq!(known.hear(now), Some(heard));
            if ask.is_some() {
                assert_eq!(known.ask(), ask);
                assert_eq!(known.hear(state(10, &[1, 2])), Some(Heard::On));
                assert_eq!(known.ask(), None);
            }
        }
    }

    #[test]
    fn old_states_and_those_of_other_calls_change_nothing() {
        let mut known = Known::new(device(1), state(4, &[1, 2]), false);
        let mut another = state(9, &[]);
        another.call = CallId::new([9; 16]);
        for old in [state(4, &[1]), state(3, &[]), another] {
            assert_eq!(known.hear(old), None);
        }
        let mut over = state(5, &[]);
        over.topology = CallTopology::Ended;
        assert_eq!(known.hear(over), Some(Heard::Over));
    }

    #[test]
    fn the_server_is_told_what_it_does_not_know_and_nothing_else() {
        let mut known = Known::new(device(1), state(4, &[1, 2]), true);
        assert_eq!(known.ask(), Some(Ask::Set(true, false)));
        known.connected(device(2), true);
        // Of one who is not in the call it wants to hear nothing.
        known.connected(device(3), true);
        assert_eq!(known.ask(), Some(Ask::Report(1, vec![device(2)], None)));
        let mut now = state(5, &[1, 2]);
        let CallMember::Native(mine) = &mut now.participants[0] else { panic!("a guest") };
        mine.connected = vec![device(2), device(3)];
        mine.muted = true;
        known.hear(now);
        assert_eq!(known.ask(), None);
        known.standing = Standing::Leaves;
        assert_eq!(known.ask(), Some(Ask::Leave));
        assert_eq!(known.hear(state(6, &[2])), Some(Heard::Left));
        assert_eq!(known.ask(), None);
    }

    #[test]
    fn whom_somebody_mutes_he_holds_to_it_until_he_says_otherwise() {
        let said = |version, muted| {
            let mut state = state(version, &[1, 2]);
            let CallMember::Native(mine) = &mut state.participants[0] else { panic!("a guest") };
            mine.muted = muted;
            state
        };
        let mut known = Known::new(device(1), said(4, false), false);
        known.hear(said(5, true));
        assert!(known.muted);
        assert_eq!(known.ask(), None);
        known.muted = false;
        assert_eq!(known.ask(), Some(Ask::Set(false, false)));
        // Which is on its way.
        known.hear(said(6, true));
        assert!(!known.muted);
        known.hear(said(7, false));
        assert_eq!(known.ask(), None);
        let rows = [
            (None, false, true, false),
            (Some(false), false, true, true),
            (Some(false), false, false, false),
            (Some(false), true, true, false),
            (Some(true), false, true, false),
            (Some(true), true, true, false),
        ];
        for (was, wished, now, is) in rows {
            assert_eq!(is_muted_by_another(was, wished, now), is, "{was:?} {wished} {now}");
        }
    }

    #[test]
    fn the_server_for_calls_is_spoken_of_once_in_each_epoch() {
        use crate::calls::Served;

        let prepare = |version, epoch| {
            let mut state = state(version, &[1, 2]);
            (state.topology, state.epoch) = (CallTopology::Prepare, epoch);
            state
        };
        let mut known = Known::new(device(1), state(4, &[1, 2]), false);
        known.carrying.served(&Served::Published);
        assert_eq!(known.ask(), None);
        known.hear(prepare(5, 2));
        let ready = |epoch, is| Ask::Report(epoch, Vec::new(), Some(OnServer::Ready(is)));
        assert_eq!(known.ask(), Some(ready(2, true)));
        known.reported(&ready(2, true));
        assert_eq!(known.ask(), None);
        known.hear(prepare(6, 3));
        assert_eq!(known.ask(), Some(ready(3, true)));
        known.reported(&ready(3, true));
        known.carrying.served(&Served::Over(crate::calls::Over::RoomGone));
        assert_eq!(known.ask(), Some(ready(3, false)));
        known.carrying.served(&Served::Over(crate::calls::Over::NotUnderstood));
        let Some(Ask::Report(3, _, Some(OnServer::Declined(_)))) = known.ask() else {
            panic!("{:?}", known.ask());
        };
    }
}
