//! The half of a mesh that a server carries: whom it may bring, this device's keys, and the way there.

use std::{collections::BTreeMap, sync::Arc};

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
    keys::{Give, OwnKeys},
    leg::Leg,
    tells::Tells,
};
use crate::entropy;

/// As many as a call has.
const NAMED: usize = 256;
/// Servers of other homeservers at once.
const ABROAD: usize = 5;

struct Way {
    frames: mpsc::Sender<Frame>,
    /// Letting go of it ends the connection.
    muted: watch::Sender<bool>,
    is_sealed: bool,
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
    abroad: BTreeMap<Arc<str>, watch::Sender<bool>>,
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
        let (to_frames, frames) = mpsc::channel(FRAMES);
        let (to_muted, muted) = watch::channel(self.muted);
        match &tells.focus {
            None => {
                let is_sealed = access.is_sealed;
                self.way = Some(Way { frames: to_frames, muted: to_muted, is_sealed });
            }
            Some(focus) => {
                if self.abroad.len() >= ABROAD && !self.abroad.contains_key(focus) {
                    return None;
                }
                self.abroad.insert(Arc::clone(focus), to_muted);
            }
        }
        let floor = Arc::clone(&self.floor);
        Some(Box::pin(Leg { access, settings, floor, frames, muted, tells }.run()))
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
            way.muted.send_replace(muted);
        }
    }

    /// Sends what is said, sealed once whoever carries it.
    pub(in crate::calls) fn send(&mut self, frame: &Frame) {
        let Some(way) = &self.way else { return };
        if !way.is_sealed {
            way.frames.try_send(frame.clone()).ok();
            return;
        }
        let Some((index, key)) = self.keys.in_use(Instant::now()) else { return };
        if self.in_use != Some(index) {
            self.sealer.rekey(index, key);
            self.in_use = Some(index);
        }
        if let Some(sealed) = self.sealer.seal(frame.timestamp, &frame.payload) {
            way.frames.try_send(Frame { payload: sealed.into(), ..frame.clone() }).ok();
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

fn said(give: Option<Give>) -> Said {
    let Some(Give { to, index, key }) = give else { return Vec::new() };
    to.into_iter().map(|to| (to, Signal::Key { index, key: key.clone() })).collect()
}
