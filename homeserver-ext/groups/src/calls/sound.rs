//! Where sound comes from and where it goes.

use std::{io, path::Path};

use causeway_protocol::ids::DeviceId;
use tokio::sync::mpsc;

use super::{
    FRAME,
    wav::{Reader, WavError, Writer},
};

/// Why a source cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Only what people hear, and Opus carries at such a rate.
    #[error("a tone has 50 to 8000 Hz, not {0}")]
    Hertz(u32),
    /// The file.
    #[error(transparent)]
    Wav(#[from] WavError),
}

/// What this device says.
pub enum Source {
    /// Nothing.
    Silence,
    /// A tone, 200 ms of it and 300 ms of silence in turn: a steady one is taken for noise.
    Tone(Tone),
    /// A file, once; silence after it.
    Wav(Box<Reader>),
    /// A microphone.
    #[cfg(feature = "audio")]
    Microphone(super::Microphone),
}

/// A sine wave that comes and goes.
pub struct Tone {
    step: f32,
    frame: usize,
}

/// Frames of a tone, of them and silence, and samples in which it comes and goes.
const ON: usize = 10;
const ROUND: usize = 25;
const RAMP: usize = 240;

impl Source {
    /// A tone of that frequency.
    ///
    /// # Errors
    /// [`SourceError::Hertz`].
    #[expect(clippy::cast_precision_loss, reason = "few digits")]
    pub fn tone(hertz: u32) -> Result<Self, SourceError> {
        if !(50..=8_000).contains(&hertz) {
            return Err(SourceError::Hertz(hertz));
        }
        let step = std::f32::consts::TAU * hertz as f32 / super::RATE as f32;
        Ok(Self::Tone(Tone { step, frame: 0 }))
    }

    /// A WAV file.
    ///
    /// # Errors
    /// [`SourceError::Wav`].
    pub fn wav(path: &Path) -> Result<Self, SourceError> {
        Ok(Self::Wav(Box::new(Reader::open(path)?)))
    }

    /// The next 20 ms; `None` in silence. A file that cannot be read on ends.
    pub(super) fn next(&mut self) -> Option<[f32; FRAME]> {
        match self {
            Self::Silence => None,
            Self::Tone(tone) => tone.next(),
            Self::Wav(reader) => {
                let mut frame = [0.0; FRAME];
                if matches!(reader.read(&mut frame), Ok(true)) {
                    return Some(frame);
                }
                *self = Self::Silence;
                None
            }
            #[cfg(feature = "audio")]
            Self::Microphone(microphone) => microphone.next(),
        }
    }
}

impl Tone {
    #[expect(clippy::cast_precision_loss, reason = "below 2^14")]
    fn next(&mut self) -> Option<[f32; FRAME]> {
        let at = self.frame % ROUND;
        self.frame = (self.frame + 1) % ROUND;
        (at < ON).then(|| {
            std::array::from_fn(|n| {
                let n = at * FRAME + n;
                let edge = n.min(ON * FRAME - n).min(RAMP) as f32 / RAMP as f32;
                0.25 * edge * (self.step * n as f32).sin()
            })
        })
    }
}

/// 20 ms of what one device said, as it is heard here.
pub struct Heard {
    /// Whose.
    pub from: DeviceId,
    /// At [`super::RATE`], between -1 and 1.
    pub sound: [f32; FRAME],
}

/// Where goes what the others say.
pub enum Sink {
    /// Nowhere; it is decoded all the same, so that levels are known.
    Nowhere,
    /// All of them together, into a file.
    Wav(Box<Writer>),
    /// Each for itself, for whoever mixes them; what is not taken in time is left out.
    Each(mpsc::Sender<Heard>),
    /// All of them together, to be heard.
    #[cfg(feature = "audio")]
    Speaker(super::Speaker),
}

impl Sink {
    /// A WAV file, which is made or emptied.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn wav(path: &Path) -> io::Result<Self> {
        Ok(Self::Wav(Box::new(Writer::create(path)?)))
    }

    pub(super) fn mixed(&mut self, frame: &[f32; FRAME]) -> io::Result<()> {
        match self {
            Self::Wav(writer) => writer.write(frame),
            #[cfg(feature = "audio")]
            Self::Speaker(speaker) => {
                speaker.play(frame);
                Ok(())
            }
            Self::Nowhere | Self::Each(_) => Ok(()),
        }
    }

    pub(super) fn one(&self, from: DeviceId, sound: &[f32; FRAME]) {
        if let Self::Each(to) = self {
            to.try_send(Heard { from, sound: *sound }).ok();
        }
    }

    pub(super) fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Wav(writer) => writer.finish(),
            #[cfg(feature = "audio")]
            Self::Speaker(_) => Ok(()),
            Self::Nowhere | Self::Each(_) => Ok(()),
        }
    }
}
