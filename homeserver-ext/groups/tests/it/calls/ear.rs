//! Tells tones apart: which of some known ones a stream of sound is.
//!
//! That something is heard proves nothing: noise is loud as well. What counts is that one frequency
//! stands far above the others, over and over.

use causeway_groups::calls::{FRAME, RATE};

/// 200 ms.
const WINDOW: usize = 10 * FRAME;

#[derive(Default)]
pub(crate) struct Ear {
    sound: Vec<f32>,
    /// Windows in which that one of the known tones stood out; and those in which none did.
    pub(crate) heard: Vec<(u32, usize)>,
    pub(crate) unclear: usize,
}

impl Ear {
    pub(crate) fn hear(&mut self, sound: &[f32], tones: &[u32]) {
        self.sound.extend(sound);
        while self.sound.len() >= WINDOW {
            let window: Vec<_> = self.sound.drain(..WINDOW).collect();
            match dominant(&window, tones) {
                Some(tone) => match self.heard.iter_mut().find(|(heard, _)| *heard == tone) {
                    Some((_, times)) => *times += 1,
                    None => self.heard.push((tone, 1)),
                },
                None => self.unclear += 1,
            }
        }
    }

    pub(crate) fn times(&self, tone: u32) -> usize {
        self.heard.iter().find(|(heard, _)| *heard == tone).map_or(0, |(_, times)| *times)
    }
}

/// The tone that stands three times above each other one.
pub(crate) fn dominant(window: &[f32], tones: &[u32]) -> Option<u32> {
    let mut levels: Vec<_> = tones.iter().map(|tone| (level(window, *tone), *tone)).collect();
    levels.sort_by(|one, other| other.0.total_cmp(&one.0));
    let (first, second) = (levels[0], levels.get(1).map_or(0.0, |second| second.0));
    (first.0 > 0.02 && first.0 > 3.0 * second).then_some(first.1)
}

/// The amplitude of a tone, by Goertzel.
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
pub(crate) fn level(window: &[f32], tone: u32) -> f32 {
    let w = std::f32::consts::TAU * tone as f32 / RATE as f32;
    let k = 2.0 * w.cos();
    let (one, two) =
        window.iter().fold((0.0, 0.0), |(one, two), sample| (sample + k * one - two, one));
    2.0 * (one * one + two * two - k * one * two).max(0.0).sqrt() / window.len() as f32
}
