//! What carries a call for this device: who talks to it directly, and how far it is on the server for
//! bigger calls. No network.
//!
//! The home says what carries a call; here it becomes what the sound is told. Newcomers do not enter
//! a mesh that is about to be left.

use std::collections::BTreeSet;

use causeway_protocol::{
    api::{CallParticipant, CallState, CallTopology},
    ids::DeviceId,
};

use super::guest::stand_in;
use crate::calls::{Input, Named, Over, Served};

/// Why it does not go to a server where others than the devices hear what is said.
pub(super) const E2EE: &str = "e2ee";

/// How it stands between this device and the server for calls.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// There is none.
    None,
    /// There is one, or one is being made.
    Made(Made),
    /// There will be none any more, and why.
    Refused(String),
}

/// How a way was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Made {
    /// Whether what passes there is sealed for those in the call.
    is_sealed: bool,
    /// Whether the home said then that the server hears what is said.
    was_clear: bool,
}

/// What becomes of a way where others can hear what is said than before.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It stays; whether what is said there is sealed from now on.
    To(bool),
    /// It is left: its person did not agree to that.
    Away,
}

/// What carries the call for this device.
#[derive(Debug)]
pub(super) struct Carrying {
    me: DeviceId,
    /// Who was there when the mesh last carried it alone.
    mesh: BTreeSet<DeviceId>,
    way: Way,
    published: bool,
}

impl Carrying {
    pub(super) const fn new(me: DeviceId) -> Self {
        Self { me, mesh: BTreeSet::new(), way: Way::None, published: false }
    }

    /// Takes a state in, and says what the sound has to be told.
    pub(super) fn hear(&mut self, state: &CallState) -> Vec<Input> {
        let there: BTreeSet<_> = state.natives().map(|it| it.device).collect();
        let devices = match state.topology {
            CallTopology::Mesh | CallTopology::Shrink => {
                self.mesh.clone_from(&there);
                there
            }
            CallTopology::Prepare | CallTopology::Dual => {
                self.mesh.retain(|device| there.contains(device));
                // Who has just come talks to nobody directly.
                if self.mesh.contains(&self.me) { self.mesh.clone() } else { BTreeSet::new() }
            }
            CallTopology::Sfu | CallTopology::Reconnecting | CallTopology::Ended => {
                self.mesh.clear();
                BTreeSet::new()
            }
            // What it is nobody here knows: what there is stays.
            CallTopology::Unknown => return Vec::new(),
        };
        let epoch = state.epoch;
        let guests = state.guests().map(|guest| Named {
            device: stand_in(guest),
            // Where he speaks he is called so; MSC3401's state says no other name.
            identity: match guest.focus {
                Some(_) => format!("{}:{}", guest.mirror, guest.device),
                None => guest.sfu.clone(),
            },
            focus: guest.focus.clone(),
            since: guest.since_ms.0,
            has_keys: false,
        });
        let mut inputs = vec![
            Input::Participants { epoch, devices: devices.into_iter().collect() },
            Input::Named { epoch, who: state.natives().filter_map(named).chain(guests).collect() },
        ];
        if !is_served(state.topology) && matches!(self.way, Way::Made(_)) {
            inputs.push(Input::Server(None));
        }
        if !is_served(state.topology) {
            (self.way, self.published) = (Way::None, false);
        }
        inputs
    }

    /// Whether access to the server is to be asked for.
    pub(super) fn wants_access(&self, state: &CallState) -> bool {
        let is_in = state.natives().any(|it| it.device == self.me);
        let is_asked = is_served(state.topology) && state.topology != CallTopology::Reconnecting;
        is_in && is_asked && self.way == Way::None
    }

    /// It was given, and is used.
    pub(super) fn goes(&mut self, is_sealed: bool, state: &CallState) {
        // What was given sealed was given before the state that is clear.
        self.way = Way::Made(Made { is_sealed, was_clear: state.clear && !is_sealed });
        self.published = false;
    }

    /// It was given, and is not used.
    pub(super) fn refuse(&mut self, why: &str) {
        self.published = false;
        self.way = Way::Refused(why.to_owned());
    }

    /// What becomes of the way that there is, once others can hear what is said.
    pub(super) fn turn(&mut self, state: &CallState, may_degrade: bool) -> Option<Turn> {
        let Way::Made(made) = &mut self.way else { return None };
        if made.was_clear == state.clear {
            return None;
        }
        if state.clear && !may_degrade {
            self.refuse(E2EE);
            return Some(Turn::Away);
        }
        made.was_clear = state.clear;
        let was_sealed = std::mem::replace(&mut made.is_sealed, !state.clear);
        (was_sealed != made.is_sealed).then_some(Turn::To(made.is_sealed))
    }

    /// Takes what happens with the server.
    pub(super) fn served(&mut self, served: &Served) {
        match served {
            Served::Published => self.published = true,
            Served::Over(why) if *why != Over::Left => {
                self.published = false;
                // The home takes out who was lost, and he may be back in the call by now; who was put out of that
                // is given no access.
                let may = why.may_come_back() || *why == Over::Removed;
                self.way = if may { Way::None } else { Way::Refused(why.to_string()) };
            }
            // Where it left there is none to be made.
            Served::Over(_)
            | Served::NotLetSpeak
            | Served::Joined
            | Served::Cut
            | Served::Resumed
            | Served::Brings(_) => {}
        }
    }

    /// Whether what is said here arrives at the server, while one is there to carry it.
    pub(super) fn ready(&self, state: &CallState) -> Option<bool> {
        is_served(state.topology).then_some(self.published)
    }

    /// Why this device will not go there.
    pub(super) fn decline(&self) -> Option<String> {
        match &self.way {
            Way::Refused(why) => Some(why.clone()),
            Way::None | Way::Made(_) => None,
        }
    }
}

/// Whether the server carries the call, or is about to, or still does.
pub(super) const fn is_served(topology: CallTopology) -> bool {
    match topology {
        CallTopology::Prepare
        | CallTopology::Dual
        | CallTopology::Sfu
        | CallTopology::Shrink
        | CallTopology::Reconnecting => true,
        CallTopology::Mesh | CallTopology::Ended | CallTopology::Unknown => false,
    }
}

fn named(it: &CallParticipant) -> Option<Named> {
    let identity = it.sfu.clone()?;
    Some(Named { device: it.device, identity, focus: None, since: it.since_ms.0, has_keys: true })
}

#[cfg(test)]
pub(super) mod tests {
    use causeway_protocol::{
        api::{CallDevice, CallGuest, CallIntent, CallMember},
        ids::{CallId, GroupId, Timestamp},
    };

    use super::*;

    fn device(n: u8) -> DeviceId {
        DeviceId::new([n; 32])
    }

    /// A call of these, in a mesh.
    pub(in crate::calling) fn state(version: u64, devices: &[u8]) -> CallState {
        let account = || "a:b.example".parse::<causeway_protocol::ids::AccountId>().unwrap();
        let native = |n: &u8| CallParticipant {
            account: account(),
            device: device(*n),
            since_ms: Timestamp(0),
            muted: false,
            hand: false,
            connected: Vec::new(),
            lost: false,
            via: "native".to_owned(),
            sfu: Some(format!("who-{n}")),
        };
        let participants = devices.iter().map(|n| CallMember::Native(native(n)));
        CallState {
            call: CallId::new([7; 16]),
            group: GroupId::new([8; 32]),
            version,
            epoch: 1,
            topology: CallTopology::Mesh,
            intent: CallIntent::Audio,
            bridged: false,
            clear: false,
            started_by: CallDevice { account: account(), device: device(1), mirror: None },
            started_ms: Timestamp(0),
            deadline_ms: None,
            ended_ms: None,
            reason: None,
            ended_by: None,
            participants: participants.collect(),
            accounts: Vec::new(),
            declined: Vec::new(),
            declined_mirrors: Vec::new(),
            out: Vec::new(),
            reactions: Vec::new(),
            kicked: Vec::new(),
        }
    }

    fn carried(topology: CallTopology, epoch: u32, devices: &[u8]) -> CallState {
        let mut state = state(u64::from(epoch), devices);
        (state.topology, state.epoch) = (topology, epoch);
        state
    }

    /// Whom the mesh has then, who is named, and whether the server is left.
    fn hear(carrying: &mut Carrying, state: &CallState) -> (Vec<u8>, usize, bool) {
        let (mut mesh, mut names, mut leaves) = (Vec::new(), 0, false);
        for input in carrying.hear(state) {
            match input {
                Input::Participants { devices, .. } => {
                    mesh = devices.iter().map(|device| device.as_bytes()[0]).collect();
                }
                Input::Named { who, .. } => names = who.len(),
                Input::Server(None) => leaves = true,
                other => panic!("{other:?}"),
            }
        }
        (mesh, names, leaves)
    }

    #[test]
    fn the_mesh_is_kept_until_the_server_carries_it_and_nobody_new_enters_it() {
        use CallTopology::{Dual, Mesh, Prepare, Sfu, Shrink};

        let mut old = Carrying::new(DeviceId::new([1; 32]));
        let mut new = Carrying::new(DeviceId::new([5; 32]));
        let four = [1, 2, 3, 4];
        let five = [1, 2, 3, 4, 5];
        assert_eq!(hear(&mut old, &carried(Mesh, 1, &four)).0, four);
        assert!(!old.wants_access(&carried(Mesh, 1, &four)));
        for (epoch, topology) in [(2, Prepare), (3, Dual)] {
            let state = carried(topology, epoch, &five);
            assert_eq!(hear(&mut old, &state), (four.to_vec(), 5, false));
            assert_eq!(hear(&mut new, &state), (vec![], 5, false));
            assert!(old.wants_access(&state) || epoch == 3);
            old.goes(true, &state);
            assert!(!old.wants_access(&state));
        }
        assert_eq!(hear(&mut old, &carried(Sfu, 4, &five)), (vec![], 5, false));
        assert_eq!(hear(&mut old, &carried(Shrink, 5, &four)), (four.to_vec(), 4, false));
        let state = carried(Mesh, 6, &four);
        assert_eq!(hear(&mut old, &state), (four.to_vec(), 4, true));
        assert_eq!(old.ready(&state), None);
    }

    #[test]
    fn who_came_with_the_move_is_in_the_mesh_when_it_comes_to_nothing() {
        let mut new = Carrying::new(DeviceId::new([3; 32]));
        let prepare = carried(CallTopology::Prepare, 2, &[1, 2, 3]);
        hear(&mut new, &prepare);
        new.goes(true, &prepare);
        let state = carried(CallTopology::Mesh, 3, &[1, 2, 3]);
        assert_eq!(hear(&mut new, &state), (vec![1, 2, 3], 3, true));
    }

    #[test]
    fn access_is_asked_for_again_where_that_may_help() {
        let state = carried(CallTopology::Sfu, 2, &[1, 2]);
        for (over, again) in [
            (Over::RoomGone, true),
            (Over::Unreachable, true),
            (Over::Removed, true),
            (Over::NotUnderstood, false),
        ] {
            let mut it = Carrying::new(DeviceId::new([1; 32]));
            hear(&mut it, &state);
            it.goes(true, &state);
            it.served(&Served::Published);
            assert_eq!(it.ready(&state), Some(true));
            it.served(&Served::Over(over));
            assert_eq!((it.ready(&state), it.wants_access(&state)), (Some(false), again));
            assert_eq!(it.decline().is_some(), !again);
        }
    }

    #[test]
    fn what_is_said_turns_to_the_clear_when_somebody_of_matrix_comes_and_back_when_he_went() {
        let native = carried(CallTopology::Sfu, 2, &[1, 2]);
        let mut mixed = native.clone();
        mixed.clear = true;
        mixed.participants.push(CallMember::Matrix(CallGuest {
            mirror: "@mia:b.example".to_owned(),
            name: "Mia".to_owned(),
            device: "PHONE".to_owned(),
            since_ms: Timestamp(0),
            muted: false,
            hand: false,
            sfu: "@mia:b.example:PHONE".to_owned(),
            focus: None,
            via: "matrix".to_owned(),
        }));
        let mut it = Carrying::new(DeviceId::new([1; 32]));
        assert_eq!(hear(&mut it, &native).1, 2);
        it.goes(true, &native);
        it.served(&Served::Published);
        assert!(!it.wants_access(&native) && !it.wants_access(&mixed));
        assert_eq!(it.turn(&native, true), None);
        // He is named, and has no keys.
        let named = it.hear(&mixed).into_iter().find_map(|input| match input {
            Input::Named { who, .. } => Some(who),
            _ => None,
        });
        let keys: Vec<_> = named.unwrap().into_iter().map(|it| it.has_keys).collect();
        assert_eq!(keys, [true, true, false]);
        // By the same way, on which it is heard all the time.
        assert_eq!((it.turn(&mixed, true), it.turn(&mixed, true)), (Some(Turn::To(false)), None));
        assert_eq!((it.ready(&mixed), it.wants_access(&mixed)), (Some(true), false));
        assert_eq!(it.turn(&native, false), Some(Turn::To(true)), "he went: it is sealed again");
        assert_eq!(it.turn(&mixed, false), Some(Turn::Away), "who did not agree leaves");
        assert!(!it.wants_access(&mixed) && it.decline().is_some());
        // What was given before the state that says so was seen.
        let mut it = Carrying::new(DeviceId::new([1; 32]));
        it.goes(false, &native);
        assert_eq!((it.turn(&native, true), it.turn(&mixed, true)), (None, None));
        assert_eq!(it.turn(&native, true), Some(Turn::To(true)));
        it.goes(true, &mixed);
        assert_eq!(it.turn(&mixed, true), Some(Turn::To(false)));
    }
}
