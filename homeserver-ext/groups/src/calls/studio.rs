//! The 20 ms beat: what is said here is encoded once for all, what the others say is mixed.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use causeway_protocol::ids::DeviceId;

use super::{
    FRAME, Settings,
    opus::Encoder,
    sound::{Sink, Source},
    voice::Voice,
};
use crate::entropy;

/// What a timestamp goes on by.
const SAMPLES: u32 = 960;
const _: () = assert!(FRAME == SAMPLES as usize);
/// 480 ms, more than the beat may be behind: that which a machine makes up for goes out. Whether it
/// is of use is seen where it arrives.
pub(super) const FRAMES: usize = 24;

/// 20 ms as they go out: Opus, or that sealed.
#[derive(Clone)]
pub(super) struct Frame {
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    /// Whether silence was before it.
    pub(super) begins: bool,
    pub(super) payload: Arc<[u8]>,
}

/// Shared between the beat, which plays, and a pair, which puts in.
pub(super) type SharedVoice = Arc<Mutex<Voice>>;

/// The voice inside; nothing panics while it is held.
pub(super) fn with<T>(voice: &SharedVoice, what: impl FnOnce(&mut Voice) -> T) -> T {
    what(&mut voice.lock().unwrap_or_else(PoisonError::into_inner))
}

pub(super) struct Studio {
    source: Source,
    sink: Sink,
    encoder: Encoder,
    muted: bool,
    /// When it is, by samples.
    time: u32,
    sent: u16,
    silent: bool,
    levels: BTreeMap<Option<DeviceId>, f32>,
}

impl Studio {
    pub(super) fn new(
        settings: &Settings,
        source: Source,
        sink: Sink,
    ) -> Result<Self, rusty_opus::Error> {
        let encoder = Encoder::new(settings.bitrate, settings.dtx)?;
        let levels = BTreeMap::new();
        // RFC 3550 §5.1: anywhere. Who begins anew is far from where it was, and so is not taken for
        // late. Where there is nothing random 0 does as well.
        let time = entropy::bytes().map(u32::from_be_bytes).unwrap_or_default();
        Ok(Self { source, sink, encoder, muted: false, time, sent: 0, silent: true, levels })
    }

    pub(super) fn mute(&mut self, muted: bool) {
        self.muted = muted;
    }

    /// What is said now; `None` where nothing is.
    pub(super) fn record(&mut self) -> Option<Frame> {
        let timestamp = self.time;
        self.time = timestamp.wrapping_add(SAMPLES);
        // The source goes on while one is muted, as speech does.
        let sound = self.source.next();
        if self.muted {
            self.silent = true;
            return None;
        }
        let sound = sound.unwrap_or([0.0; FRAME]);
        self.louder(None, &sound);
        let opus: Option<Arc<[u8]>> = self.encoder.encode(&sound).ok().flatten().map(Arc::from);
        let begins = std::mem::replace(&mut self.silent, opus.is_none());
        let payload = opus?;
        self.sent = self.sent.wrapping_add(1);
        Some(Frame { sequence: self.sent, timestamp, begins, payload })
    }

    /// Plays 20 ms of all `voices`.
    pub(super) fn play<'a>(
        &mut self,
        voices: impl Iterator<Item = (DeviceId, &'a SharedVoice)>,
    ) -> io::Result<()> {
        let mut mixed = [0.0_f32; FRAME];
        for (from, voice) in voices {
            let Some(sound) = with(voice, Voice::pull) else { continue };
            self.louder(Some(from), &sound);
            self.sink.one(from, &sound);
            mixed.iter_mut().zip(&sound).for_each(|(sum, sample)| *sum += sample);
        }
        self.sink.mixed(&mixed)
    }

    /// The loudest since this was last asked, 0 to 1, by device; `None` is this one.
    pub(super) fn take_levels(&mut self) -> BTreeMap<Option<DeviceId>, f32> {
        std::mem::take(&mut self.levels)
    }

    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.sink.finish()
    }

    /// From here on nothing is written, because it cannot be.
    pub(super) fn drop_sink(&mut self) {
        self.sink = Sink::Nowhere;
    }

    fn louder(&mut self, who: Option<DeviceId>, sound: &[f32; FRAME]) {
        let loudest = sound.iter().fold(0.0_f32, |loudest, sample| loudest.max(sample.abs()));
        let level = self.levels.entry(who).or_default();
        *level = level.max(loudest);
    }
}
