//! Whom a server brings: by the name that it knows them by, their keys and their voices.
//!
//! A voice takes frames from a mesh and from a server alike, whichever is first; that of a server
//! is put where its sender says that it belongs, and opens for who has that sender's key.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use causeway_protocol::ids::DeviceId;

use super::{
    super::{
        frame_key::FrameKey,
        studio::{SharedVoice, with},
    },
    Named,
    frame::{Ring, Unopened, is_from_server},
};

/// Frames in a row, 100 ms, after which somebody is heard, or is not.
const RUN: u32 = 5;

/// Shared between the beat, which plays, and the connection, which puts in.
pub(super) type SharedFloor = Arc<Mutex<Floor>>;

/// The floor inside; nothing panics while it is held.
pub(super) fn on<T>(floor: &SharedFloor, what: impl FnOnce(&mut Floor) -> T) -> T {
    what(&mut floor.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Whom of the others a server brings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Brought {
    /// Those who are heard by it.
    pub heard: BTreeSet<DeviceId>,
    /// Those whose frames come and do not open: their key did not, or is not theirs.
    pub sealed: BTreeSet<DeviceId>,
}

/// How a frame came, as it came in the last packet.
pub(super) struct Packet<'a> {
    pub(super) timestamp: u32,
    pub(super) payload: &'a [u8],
    /// How those end that the server makes itself.
    pub(super) from_server: &'a [u8],
    /// Whether only what is sealed is played: here, or as its sender says of what he sends.
    pub(super) is_sealed: bool,
    /// Of the server that brought it, where it is another homeserver's.
    pub(super) focus: Option<&'a str>,
}

#[derive(Default)]
pub(super) struct Floor(BTreeMap<String, Ear>);

struct Ear {
    device: DeviceId,
    since: u64,
    /// Whose server alone brings it, where that is another homeserver's.
    focus: Option<String>,
    has_keys: bool,
    voice: SharedVoice,
    ring: Ring,
    opened: u32,
    unopened: u32,
}

impl Floor {
    /// Takes who takes part; who is back since has no keys here.
    pub(super) fn set(&mut self, who: &[Named], voice: impl Fn(DeviceId) -> Option<SharedVoice>) {
        let mut before = std::mem::take(&mut self.0);
        for named in who {
            let Some(voice) = voice(named.device) else { continue };
            let same = |ear: &Ear| {
                (ear.device, ear.since) == (named.device, named.since) && ear.focus == named.focus
            };
            let ear = before.remove(&named.identity).filter(same).unwrap_or_else(|| Ear {
                device: named.device,
                since: named.since,
                focus: named.focus.clone(),
                has_keys: named.has_keys,
                voice,
                ring: Ring::default(),
                opened: 0,
                unopened: 0,
            });
            self.0.insert(named.identity.clone(), ear);
        }
    }

    /// Takes the key of a device: it opens nobody else's frames.
    pub(super) fn give(&mut self, device: DeviceId, index: u8, key: &FrameKey) {
        for ear in self.0.values_mut().filter(|ear| ear.device == device) {
            ear.ring.give(index, key);
        }
    }

    pub(super) fn has(&self, device: DeviceId) -> bool {
        self.0.values().any(|ear| ear.device == device)
    }

    /// Whether who is known by that name is given keys: nobody whom the home did not name is.
    pub(super) fn has_keys(&self, identity: &str) -> bool {
        self.0.get(identity).is_some_and(|ear| ear.has_keys)
    }

    /// Takes what came from who is known by that name, where it came from: no server brings whoever speaks
    /// on another.
    pub(super) fn hear(&mut self, identity: &str, packet: &Packet<'_>) {
        let Some(ear) = self.ear(packet.focus, identity) else { return };
        let heard = if packet.is_sealed {
            let opened = ear.ring.open(packet.payload, packet.from_server);
            opened.map(|opened| (opened.timestamp, opened.opus))
        } else if is_from_server(packet.payload, packet.from_server) {
            Err(Unopened::FromServer)
        } else {
            Ok((packet.timestamp, packet.payload.to_vec()))
        };
        match heard {
            Ok((timestamp, opus)) => {
                with(&ear.voice, |voice| voice.push(timestamp, &opus));
                (ear.opened, ear.unopened) = (ear.opened.saturating_add(1), 0);
            }
            Err(Unopened::NoKey(_) | Unopened::Forged) => {
                (ear.opened, ear.unopened) = (0, ear.unopened.saturating_add(1));
            }
            Err(Unopened::FromServer | Unopened::Clear | Unopened::Replayed) => {}
        }
    }

    /// Who is known by that name says nothing there any more.
    pub(super) fn gone(&mut self, focus: Option<&str>, identity: &str) {
        if let Some(ear) = self.ear(focus, identity) {
            (ear.opened, ear.unopened) = (0, 0);
        }
    }

    /// Nobody does.
    pub(super) fn all_gone(&mut self, focus: Option<&str>) {
        let there = self.0.values_mut().filter(|ear| ear.focus.as_deref() == focus);
        there.for_each(|ear| (ear.opened, ear.unopened) = (0, 0));
    }

    fn ear(&mut self, focus: Option<&str>, identity: &str) -> Option<&mut Ear> {
        self.0.get_mut(identity).filter(|ear| ear.focus.as_deref() == focus)
    }

    pub(super) fn brought(&self) -> Brought {
        let those = |count: fn(&Ear) -> u32| {
            self.0.values().filter(|ear| count(ear) >= RUN).map(|ear| ear.device).collect()
        };
        Brought { heard: those(|ear| ear.opened), sealed: those(|ear| ear.unopened) }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{super::voice::Voice, frame::Sealer},
        *,
    };

    fn named(n: u8, since: u64) -> Named {
        Named {
            device: DeviceId::new([n; 32]),
            identity: format!("who {n}"),
            focus: None,
            since,
            has_keys: true,
        }
    }

    fn floor(who: &[Named]) -> Floor {
        let mut floor = Floor::default();
        floor.set(who, |_| Some(SharedVoice::new(Voice::new().into())));
        floor
    }

    fn hear(floor: &mut Floor, n: u8, payload: &[u8]) {
        let packet =
            Packet { timestamp: 0, payload, from_server: b"", is_sealed: true, focus: None };
        floor.hear(&format!("who {n}"), &packet);
    }

    #[test]
    fn a_key_opens_its_own_devices_frames_alone() {
        let mut floor = floor(&[named(1, 0), named(2, 0)]);
        let key = FrameKey::new([7; 16]);
        floor.give(named(1, 0).device, 0, &key);
        let mut sealer = Sealer::new(1);
        sealer.rekey(0, &key);
        for n in 0..10 {
            let frame = sealer.seal(n * 960, &[0x78, 1, 2]).unwrap();
            // The second has the first's key, and speaks under its own name.
            hear(&mut floor, 1, &frame);
            hear(&mut floor, 2, &frame);
            hear(&mut floor, 3, &frame);
        }
        let brought = floor.brought();
        assert_eq!(brought.heard, [named(1, 0).device].into());
        assert_eq!(brought.sealed, [named(2, 0).device].into());
    }

    #[test]
    fn clear_frames_are_neither_played_nor_counted() {
        let mut floor = floor(&[named(1, 0)]);
        (0..10).for_each(|_| hear(&mut floor, 1, &[0x78, 1, 2]));
        assert_eq!(floor.brought(), Brought::default());
    }

    #[test]
    fn no_server_brings_who_speaks_on_another() {
        let away = Named { focus: Some("https://b.example".to_owned()), ..named(2, 0) };
        let mut floor = floor(&[named(1, 0), away]);
        let clear = |focus| Packet {
            timestamp: 0,
            payload: &[0x78, 1, 2],
            from_server: b"",
            is_sealed: false,
            focus,
        };
        let hear = |floor: &mut Floor, focus| {
            for _ in 0..10 {
                floor.hear("who 1", &clear(focus));
                floor.hear("who 2", &clear(focus));
            }
            let heard = floor.brought().heard;
            floor.all_gone(None);
            floor.all_gone(Some("https://b.example"));
            heard
        };
        assert_eq!(hear(&mut floor, None), [named(1, 0).device].into());
        assert_eq!(hear(&mut floor, Some("https://b.example")), [named(2, 0).device].into());
        assert!(hear(&mut floor, Some("https://c.example")).is_empty());
    }

    #[test]
    fn who_is_back_gives_its_key_anew_and_who_stays_need_not() {
        let mut floor = floor(&[named(1, 0), named(2, 0)]);
        let key = FrameKey::new([7; 16]);
        for n in [1, 2] {
            floor.give(named(n, 0).device, 0, &key);
        }
        floor.set(&[named(1, 0), named(2, 5)], |_| Some(SharedVoice::new(Voice::new().into())));
        let mut sealer = Sealer::new(1);
        sealer.rekey(0, &key);
        for n in 0..10 {
            let frame = sealer.seal(n * 960, &[0x78, 1, 2]).unwrap();
            hear(&mut floor, 1, &frame);
            hear(&mut floor, 2, &frame);
        }
        assert_eq!(floor.brought().heard, [named(1, 0).device].into());
        floor.gone(None, "who 1");
        assert!(floor.brought().heard.is_empty());
        assert!(!floor.has(named(3, 0).device));
    }
}
