//! Microphone and speaker of this machine, by the system's own way to them (ALSA on Linux).
//!
//! A stream is opened at [`RATE`] in one of two formats, and the system converts; between it and the beat of
//! 20 ms stands what is at most [`MOST`] late. No echo is taken out: whoever hears by a speaker has it come
//! back by the microphone.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use cpal::{
    Device, FromSample, Sample as _, SampleFormat, SizedSample, Stream, StreamConfig,
    SupportedStreamConfig, SupportedStreamConfigRange,
    traits::{DeviceTrait as _, HostTrait as _, StreamTrait as _},
};

use super::{FRAME, RATE};

/// Samples that wait at most: 200 ms; the oldest go.
const MOST: usize = 10 * FRAME;
/// Samples that there have to be before the speaker begins, also after it ran dry: 40 ms.
const BEFORE: usize = 2 * FRAME;
/// [`RATE`], as the system counts.
const HERTZ: u32 = 48_000;
const _: () = assert!(HERTZ as usize == RATE);

/// Why there is no microphone, or no speaker.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// None is there.
    #[error("this machine has none")]
    None,
    /// In no form that is used here.
    #[error("it does not go at {RATE} samples a second")]
    Rate,
    /// What the system says.
    #[error("{0}")]
    System(#[from] cpal::Error),
    /// No thread for it.
    #[error("{0}")]
    Thread(#[from] std::io::Error),
}

type Samples = Arc<Mutex<VecDeque<f32>>>;

/// What is recorded, until it is dropped.
pub struct Microphone(Running);

/// What plays, until it is dropped.
pub struct Speaker(Running);

/// A stream, in a thread of its own, since not every system lets it leave that; it ends with the other end of
/// the queue.
struct Running {
    samples: Samples,
    _ends: mpsc::Sender<()>,
}

impl Microphone {
    /// The system's own.
    ///
    /// # Errors
    /// [`DeviceError`]
    pub fn open() -> Result<Self, DeviceError> {
        Ok(Self(Running::start(|samples| {
            let device = cpal::default_host().default_input_device().ok_or(DeviceError::None)?;
            let (format, config) = chosen(device.supported_input_configs()?)?;
            match format {
                SampleFormat::I16 => recording::<i16>(&device, config, samples),
                _ => recording::<f32>(&device, config, samples),
            }
        })?))
    }

    /// The next 20 ms; `None` while it has not recorded as much.
    pub(super) fn next(&mut self) -> Option<[f32; FRAME]> {
        let mut samples = self.0.samples();
        (samples.len() >= FRAME).then(|| {
            let mut all = samples.drain(..FRAME);
            std::array::from_fn(|_| all.next().unwrap_or_default())
        })
    }
}

impl Speaker {
    /// The system's own.
    ///
    /// # Errors
    /// [`DeviceError`]
    pub fn open() -> Result<Self, DeviceError> {
        Ok(Self(Running::start(|samples| {
            let device = cpal::default_host().default_output_device().ok_or(DeviceError::None)?;
            let (format, config) = chosen(device.supported_output_configs()?)?;
            match format {
                SampleFormat::I16 => playing::<i16>(&device, config, samples),
                _ => playing::<f32>(&device, config, samples),
            }
        })?))
    }

    pub(super) fn play(&self, frame: &[f32; FRAME]) {
        put(&mut self.0.samples(), frame);
    }
}

impl Running {
    fn start(
        open: impl FnOnce(Samples) -> Result<Stream, DeviceError> + Send + 'static,
    ) -> Result<Self, DeviceError> {
        let samples = Samples::default();
        let (given, (to_opened, opened), (ends, end)) =
            (Arc::clone(&samples), mpsc::channel(), mpsc::channel::<()>());
        thread::Builder::new().name("sound".to_owned()).spawn(move || {
            let stream = open(given).and_then(|stream| {
                stream.play()?;
                Ok(stream)
            });
            match stream {
                Ok(_stream) => {
                    to_opened.send(Ok(())).ok();
                    end.recv().ok();
                }
                Err(why) => drop(to_opened.send(Err(why))),
            }
        })?;
        opened.recv().map_err(|_| DeviceError::None)??;
        Ok(Self { samples, _ends: ends })
    }

    fn samples(&self) -> std::sync::MutexGuard<'_, VecDeque<f32>> {
        locked(&self.samples)
    }
}

/// Nothing panics while it is held.
fn locked(samples: &Samples) -> std::sync::MutexGuard<'_, VecDeque<f32>> {
    samples.lock().unwrap_or_else(PoisonError::into_inner)
}

fn put(samples: &mut VecDeque<f32>, more: &[f32]) {
    samples.extend(more);
    let beyond = samples.len().saturating_sub(MOST);
    samples.drain(..beyond);
}

/// One with few channels, at our rate and in a form that we have.
fn chosen(
    all: impl Iterator<Item = SupportedStreamConfigRange>,
) -> Result<(SampleFormat, StreamConfig), DeviceError> {
    let known = |it: &SupportedStreamConfig| {
        matches!(it.sample_format(), SampleFormat::F32 | SampleFormat::I16)
    };
    let ours = all.filter_map(|it| it.try_with_sample_rate(HERTZ)).filter(known);
    let best = ours.min_by_key(|it| (it.channels(), it.sample_format() != SampleFormat::F32));
    best.map(|it| (it.sample_format(), it.config())).ok_or(DeviceError::Rate)
}

/// Each of its channels is a part of what is said.
fn recording<T: SizedSample + Send + 'static>(
    device: &Device,
    config: StreamConfig,
    samples: Samples,
) -> Result<Stream, DeviceError>
where
    f32: FromSample<T>,
{
    let channels = usize::from(config.channels).max(1);
    let mut frame = Vec::new();
    let take = move |data: &[T], _: &_| {
        frame.clear();
        frame.extend(data.chunks(channels).map(|all| {
            let sum: f32 = all.iter().map(|sample| f32::from_sample(*sample)).sum();
            sum / f32::from(u16::try_from(channels).unwrap_or(1))
        }));
        put(&mut locked(&samples), &frame);
    };
    Ok(device.build_input_stream(config, take, |error| failed(&error), None)?)
}

/// The same on each of its channels.
fn playing<T: SizedSample + FromSample<f32> + Send + 'static>(
    device: &Device,
    config: StreamConfig,
    samples: Samples,
) -> Result<Stream, DeviceError> {
    let channels = usize::from(config.channels).max(1);
    let mut is_dry = true;
    let give = move |data: &mut [T], _: &_| {
        let mut samples = locked(&samples);
        is_dry &= samples.len() < BEFORE;
        for all in data.chunks_mut(channels) {
            let next = if is_dry { None } else { samples.pop_front() };
            is_dry |= next.is_none();
            all.fill(T::from_sample(next.unwrap_or_default()));
        }
    };
    Ok(device.build_output_stream(config, give, |error| failed(&error), None)?)
}

/// It goes on where it can: what did not come is silence.
fn failed(error: &cpal::Error) {
    tracing::debug!(%error, "the sound system missed something");
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::{FRAME, MOST, put};

    #[test]
    fn what_nobody_takes_is_let_go_of_from_its_beginning() {
        let mut samples = VecDeque::new();
        for n in 0..100_u16 {
            put(&mut samples, &[f32::from(n); FRAME]);
        }
        assert_eq!(samples.len(), MOST);
        assert_eq!((samples.front(), samples.back()), (Some(&90.0), Some(&99.0)));
    }
}
