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
