//! The half of a mesh that a server carries: whom it may bring, this device's keys, and the way there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use causeway_protocol::ids::DeviceId;
use futures_util::future::BoxFuture;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    super::{
        Settings,
        frame_key::FrameKey,
        signal::Signal,
        studio::{FRAMES, Frame, SharedVoice},
    },
    Access, Brought, Named,
    floor::{SharedFloor, on},
    frame::Sealer,
    keys::{Give, Giving, OwnKeys},
    leg::{self, Leg},
    spoken::Wish,
    tells::Tells,
};
use crate::entropy;

/// As many as a call has.
const NAMED: usize = 256;
/// Servers of other homeservers at once.
const ABROAD: usize = 5;

/// How long what is said goes to both, the sealed track and the other, at most after a turn: the connection
/// ends the former one sooner.
const TURNING: Duration = Duration::from_secs(30);

struct Way {
    frames: mpsc::Sender<leg::Said>,
    /// Letting go of it ends the connection.
    wish: watch::Sender<Wish>,
    turning: Option<Instant>,
}

pub(in crate::calls) struct Carried {
    floor: SharedFloor,
    devices: Vec<DeviceId>,
    keys: OwnKeys,
    sealer: Sealer,
    /// The index of the key that frames are sealed with.
    in_use: Option<u8>,
    brought: Brought,
    way: Option<Way>,
    /// Where this device only listens, by focus. Letting go of one ends its connection.
    abroad: BTreeMap<Arc<str>, watch::Sender<Wish>>,
    muted: bool,
}

/// What is to be signalled, to whom.
pub(in crate::calls) type Said = Vec<(DeviceId, Signal)>;

impl Carried {
    pub(in crate::calls) fn new() -> Self {
        // It stands in the IV of frames, where it need not be a secret: each key is this device's alone.
        let ssrc = entropy::bytes().map(u32::from_be_bytes).unwrap_or_default();
        Self {
            floor: SharedFloor::default(),
            devices: Vec::new(),
            keys: OwnKeys::default(),
            sealer: Sealer::new(ssrc),
            in_use: None,
            brought: Brought::default(),
            way: None,
            abroad: BTreeMap::new(),
            muted: false,
        }
    }

    /// Takes who takes part in this epoch, but for this device; says what keys are to be given.
    pub(in crate::calls) fn name(
        &mut self,
        epoch: u32,
        mut who: Vec<Named>,
        voice: impl Fn(DeviceId) -> Option<SharedVoice>,
    ) -> Said {
        who.truncate(NAMED);
        self.devices = who.iter().map(|named| named.device).collect();
        on(&self.floor, |floor| floor.set(&who, voice));
        let keyed = who.into_iter().filter(|named| named.has_keys);
        let who = keyed.map(|named| (named.device, named.since)).collect();
        let fresh = || FrameKey::fresh().ok();
        said(self.keys.update(epoch, who, Instant::now(), fresh))
    }

    /// Takes what became of giving one a key.
    pub(in crate::calls) fn given(&mut self, to: DeviceId, index: u8, giving: Giving) {
        self.keys.given(to, index, giving, Instant::now());
    }

    /// Whom a server may bring.
    pub(in crate::calls) fn devices(&self) -> &[DeviceId] {
        &self.devices
    }

    /// Takes another's key; whether that one takes part.
    pub(in crate::calls) fn give(&self, from: DeviceId, index: u8, key: &FrameKey) -> bool {
        on(&self.floor, |floor| {
            floor.give(from, index, key);
            floor.has(from)
        })
    }

    /// Connects to a server, in place of the one that there may be; not to one too many.
    pub(in crate::calls) fn connect(
        &mut self,
        access: Access,
        settings: Arc<Settings>,
        tells: Tells,
    ) -> Option<BoxFuture<'static, ()>> {
        // As many, each twice.
        let (to_frames, frames) = mpsc::channel(2 * FRAMES);
        let (to_wish, wish) = watch::channel(Wish::new(self.muted, access.is_sealed));
        match &tells.focus {
            None => self.way = Some(Way { frames: to_frames, wish: to_wish, turning: None }),
            Some(focus) => {
                if self.abroad.len() >= ABROAD && !self.abroad.contains_key(focus) {
                    return None;
                }
                self.abroad.insert(Arc::clone(focus), to_wish);
            }
        }
        let floor = Arc::clone(&self.floor);
        Some(Box::pin(Leg { access, settings, floor, frames, wish, tells }.run()))
    }

    /// Seals what is said there from now on, or does not any more; nobody misses any of it.
    pub(in crate::calls) fn seal(&mut self, is_sealed: bool) {
        let Some(way) = self.way.as_mut().filter(|way| way.is_sealed() != is_sealed) else {
            return;
        };
        way.turning = Some(Instant::now() + TURNING);
        way.wish.send_modify(|wish| wish.turn(is_sealed));
    }

    pub(in crate::calls) fn disconnect(&mut self, focus: Option<&str>) {
        match focus {
            None => self.way = None,
            Some(focus) => drop(self.abroad.remove(focus)),
        }
    }

    pub(in crate::calls) fn disconnect_all(&mut self) {
        self.way = None;
        self.abroad.clear();
    }

    pub(in crate::calls) fn mute(&mut self, muted: bool) {
        self.muted = muted;
        if let Some(way) = &self.way {
            way.wish.send_modify(|wish| wish.muted = muted);
        }
    }

    /// Sends what is said, sealed once whoever carries it.
    pub(in crate::calls) fn send(&mut self, frame: &Frame) {
        let Some(way) = &self.way else { return };
        let is_turning = way.turning.is_some_and(|until| Instant::now() < until);
        if is_turning || !way.is_sealed() {
            way.frames.try_send(leg::Said { is_sealed: false, frame: frame.clone() }).ok();
        }
        if !is_turning && !way.is_sealed() {
            return;
        }
        let Some((index, key)) = self.keys.in_use(Instant::now()) else { return };
        if self.in_use != Some(index) {
            self.sealer.rekey(index, key);
            self.in_use = Some(index);
        }
        if let Some(sealed) = self.sealer.seal(frame.timestamp, &frame.payload) {
            let frame = Frame { payload: sealed.into(), ..frame.clone() };
            way.frames.try_send(leg::Said { is_sealed: true, frame }).ok();
        }
    }

    /// Whom it brings, where that is others than when this was last asked.
    pub(in crate::calls) fn brings(&mut self) -> Option<Brought> {
        let brought = on(&self.floor, |floor| floor.brought());
        (brought != self.brought).then(|| {
            self.brought = brought.clone();
            brought
        })
    }
}

impl Way {
    fn is_sealed(&self) -> bool {
        self.wish.borrow().is_sealed
    }
}

fn said(give: Option<Give>) -> Said {
    let Some(Give { to, index, key }) = give else { return Vec::new() };
    to.into_iter().map(|to| (to, Signal::Key { index, key: key.clone() })).collect()
}
