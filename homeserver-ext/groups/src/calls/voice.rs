//! One peer's sound: what came is put in order, decoded, and given out 20 ms at a time.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::{
    FRAME,
    jitter::{Jitter, Next},
    opus::Decoder,
    quality::{Quality, Watch},
};

/// Bytes of a packet that are looked at; more fit into no datagram.
const PACKET_MAX: usize = 1500;

pub(super) struct Voice {
    jitter: Jitter,
    /// `None` when the codec could not be made: nothing is heard then.
    decoder: Option<Decoder>,
    sound: VecDeque<f32>,
    watch: Watch,
}

impl Voice {
    pub(super) fn new() -> Self {
        Self {
            jitter: Jitter::default(),
            decoder: Decoder::new().ok(),
            sound: VecDeque::new(),
            watch: Watch::default(),
        }
    }

    /// How it came since this was last asked.
    pub(super) fn take_quality(&mut self) -> Quality {
        self.watch.take()
    }

    pub(super) fn push(&mut self, timestamp: u32, packet: &[u8]) {
        if !packet.is_empty() && packet.len() <= PACKET_MAX {
            self.watch.came(timestamp, Instant::now());
            self.jitter.push(timestamp, packet);
        }
    }

    /// The next 20 ms; `None` in silence.
    pub(super) fn pull(&mut self) -> Option<[f32; FRAME]> {
        while self.sound.len() < FRAME {
            match self.jitter.next() {
                Next::Packet(packet) => {
                    self.watch.played();
                    self.decode(&packet);
                }
                Next::Lost(next) => {
                    self.watch.missed();
                    self.conceal(next.as_deref());
                }
                Next::Silence => {
                    self.watch.silent();
                    break;
                }
            }
        }
        if self.sound.is_empty() {
            return None;
        }
        let mut frame = [0.0; FRAME];
        let there = self.sound.len().min(FRAME);
        frame.iter_mut().zip(self.sound.drain(..there)).for_each(|(to, from)| *to = from);
        Some(frame)
    }

    fn decode(&mut self, packet: &[u8]) {
        let decoded = self.decoder.as_mut().and_then(|decoder| decoder.decode(packet).ok());
        if let Some(sound) = decoded.filter(|sound| !sound.is_empty()) {
            self.jitter.played(sound.len());
            self.sound.extend(sound);
        } else {
            // Not Opus: as if it had not come.
            self.jitter.played(FRAME);
            self.conceal(None);
        }
    }

    fn conceal(&mut self, next: Option<&[u8]>) {
        let concealed = self.decoder.as_mut().and_then(|decoder| decoder.conceal(next).ok());
        match concealed.filter(|sound| !sound.is_empty()) {
            Some(sound) => self.sound.extend(sound),
            None => self.sound.extend([0.0; FRAME]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::opus::Encoder, *};

    #[test]
    fn what_is_not_opus_is_heard_as_nothing_and_stops_nothing() {
        let mut voice = Voice::new();
        let mut encoder = Encoder::new(24_000, false).unwrap();
        let mut random = 7_u32;
        for n in 0..3_000_u32 {
            let packet: Vec<u8> = (0..n % 90)
                .map(|_| {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    random.to_be_bytes()[0]
                })
                .collect();
            voice.push(n * 960, &packet);
            voice.pull();
            assert!(voice.sound.len() <= 7 * FRAME);
        }
        voice.push(0, &[0; 2000]);
        let sound: [f32; FRAME] = std::array::from_fn(|n| if n % 48 < 24 { 0.2 } else { -0.2 });
        let mut loudest = 0.0_f32;
        for n in 3_000..3_100_u32 {
            voice.push(n * 960, encoder.encode(&sound).unwrap().unwrap());
            let heard = voice.pull().unwrap_or([0.0; FRAME]);
            loudest = heard.iter().fold(loudest, |loudest, sample| loudest.max(sample.abs()));
        }
        assert!(loudest > 0.1, "{loudest}");
    }
}
