//! Opus, behind two small types, so that the codec may be another one some day.

use rusty_opus::{Application, Error, OpusDecoder, OpusEncoder};

use super::{FRAME, RATE};

/// Bytes of one Opus frame at most, RFC 6716 §3.4.
const PACKET_MAX: usize = 1275;
/// Samples in the longest packet: 120 ms.
const LONGEST: usize = 6 * FRAME;
pub(super) const RATE_HZ: i32 = 48_000;
const _: () = assert!(RATE == RATE_HZ as usize);

pub(super) struct Encoder {
    opus: OpusEncoder,
    packet: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(bitrate: u32, dtx: bool) -> Result<Self, Error> {
        let mut opus = OpusEncoder::new(RATE_HZ, 1, Application::Voip)?;
        opus.bitrate_bps = i32::try_from(bitrate.clamp(6_000, 128_000)).unwrap_or(24_000);
        opus.use_dtx = dtx;
        opus.use_inband_fec = true;
        opus.packet_loss_perc = 5;
        Ok(Self { opus, packet: vec![0; PACKET_MAX] })
    }

    /// The packet for 20 ms of sound; `None` where nothing need be sent.
    pub(super) fn encode(&mut self, sound: &[f32; FRAME]) -> Result<Option<&[u8]>, Error> {
        let len = self.opus.encode(sound, FRAME, &mut self.packet)?;
        // A packet that is its first byte alone says that nothing is said, as not coming does.
        Ok(self.packet.get(..len).filter(|packet| packet.len() > 2))
    }
}

pub(super) struct Decoder {
    opus: OpusDecoder,
    sound: Vec<f32>,
}

impl Decoder {
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self { opus: OpusDecoder::new(RATE_HZ, 1)?, sound: vec![0.0; LONGEST] })
    }

    /// The sound of a packet, 2.5 to 120 ms.
    pub(super) fn decode(&mut self, packet: &[u8]) -> Result<&[f32], Error> {
        if packet.is_empty() {
            return Err(Error::InvalidPacket("a packet has at least one byte"));
        }
        let len = self.opus.decode(packet, LONGEST, &mut self.sound)?;
        Ok(self.sound.get(..len).unwrap_or_default())
    }

    /// 20 ms that did not come, from what came before and, where it is there, what comes next.
    pub(super) fn conceal(&mut self, next: Option<&[u8]>) -> Result<&[f32], Error> {
        let len = self.opus.decode_fec(next.unwrap_or_default(), FRAME, &mut self.sound)?;
        Ok(self.sound.get(..len).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets, and their bits, of a second of a sound, after one to settle.
    fn sent(bitrate: u32, dtx: bool, mut sound: impl FnMut() -> f32) -> (usize, usize) {
        let mut encoder = Encoder::new(bitrate, dtx).unwrap();
        let mut lengths = Vec::new();
        for _ in 0..100 {
            let frame: [f32; FRAME] = std::array::from_fn(|_| sound());
            lengths.push(encoder.encode(&frame).unwrap().map(<[u8]>::len));
        }
        let second = || lengths.iter().skip(50).flatten();
        (second().count(), 8 * second().sum::<usize>())
    }

    /// Much like a vowel, four syllables a second: what is steady may be taken for the room's noise.
    fn voice() -> impl FnMut() -> f32 {
        let mut at = 0.0_f32;
        move || {
            at += 1.0 / 48_000.0;
            let turns = |hertz: f32| (std::f32::consts::TAU * hertz * at).sin();
            let pitch = |n: u8| turns(140.0 * f32::from(n)) / f32::from(n);
            let tone: f32 = (1..=12).map(pitch).sum();
            0.2 * tone * (1.1 + turns(4.0)) / 2.1
        }
    }

    #[test]
    fn a_voice_takes_what_it_may_and_silence_next_to_nothing() {
        let (packets, bits) = sent(24_000, true, voice());
        assert!(packets == 50 && bits <= 36_000, "{packets} of {bits}");
        let (few, many) = (sent(12_000, true, voice()).1, sent(64_000, true, voice()).1);
        assert!(many > 2 * few, "{few} and {many}");
        // A packet now and then has the silence sound as it does there.
        let (packets, bits) = sent(24_000, true, || 0.0);
        assert!(packets <= 5 && bits <= 2_400, "{packets} of {bits}");
        assert_eq!(sent(24_000, false, voice()).0, 50);
    }
}
