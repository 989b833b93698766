//! LiveKit's frame encryption, for Opus: what an SFU carries opens for those in the call alone.
//!
//! A sealed frame is 30 bytes longer than what is in it:
//! first byte, in the clear and authenticated ‖ AES-128-GCM of the rest ‖ tag 16 ‖ IV 12 ‖ `0C` ‖
//! index of the key. The IV is SSRC ‖ RTP timestamp ‖ count, and the timestamp of a frame is taken from there:
//! whoever carries it can change the one in the RTP header.

use std::collections::VecDeque;

use aes_gcm::{
    Aes128Gcm, KeyInit as _, Nonce,
    aead::{Aead as _, Payload},
};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::super::frame_key::FrameKey;

const CLEAR: usize = 1;
const TAG: usize = 16;
const IV: usize = 12;
const IV_LENGTH: u8 = 12;
/// The length of the IV, and the index of the key.
const TRAILER: usize = 2;
/// Bytes of a sealed frame at most: more fit into no datagram.
const FRAME_MAX: usize = 1500;
/// Keys that a sender has given and not used yet. While so many wait, who leaves is kept out by the
/// next.
pub(super) const WAITING: usize = 16;
/// Keys of one sender that are kept: the one in use, those to come, and those of frames under way.
const KEPT: usize = 2 * WAITING;
/// How far behind the newest frame under its key one may be, in samples: 2 s. What is older was
/// recorded by somebody.
const LATE: u32 = 2 * 48_000;

fn cipher(key: &FrameKey) -> Option<Aes128Gcm> {
    let mut derived = Zeroizing::new([0; 16]);
    // livekit-client's constants. The expansion refuses longer outputs than this one alone.
    Hkdf::<Sha256>::new(Some(b"LKFrameEncryptionKey"), key.material())
        .expand(&[0; 128], derived.as_mut_slice())
        .ok()?;
    Aes128Gcm::new_from_slice(derived.as_slice()).ok()
}

/// This device's side: seals each frame once.
pub(super) struct Sealer {
    ssrc: u32,
    count: u32,
    key: Option<(u8, Aes128Gcm)>,
}

impl Sealer {
    /// One that has no key yet.
    pub(super) fn new(ssrc: u32) -> Self {
        Self { ssrc, count: 0, key: None }
    }

    /// From the next frame on with this key; frames are counted on.
    pub(super) fn rekey(&mut self, index: u8, key: &FrameKey) {
        self.key = cipher(key).map(|cipher| (index, cipher));
    }

    /// Seals an Opus packet; `None` where there is no key, nothing to seal, or no IV left: nothing
    /// may be sent then.
    pub(super) fn seal(&mut self, timestamp: u32, opus: &[u8]) -> Option<Vec<u8>> {
        let (index, cipher) = self.key.as_ref()?;
        let (clear, secret) = opus.split_at_checked(CLEAR)?;
        let count = self.count;
        self.count = count.checked_add(1)?;
        let iv = [self.ssrc, timestamp, count].map(u32::to_be_bytes).concat();
        let payload = Payload { msg: secret, aad: clear };
        let sealed = cipher.encrypt(Nonce::from_slice(&iv), payload).ok()?;
        Some([clear, &sealed, &iv, &[IV_LENGTH, *index]].concat())
    }
}

/// An Opus packet, and when it was said by its sender's samples.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) timestamp: u32,
    pub(super) opus: Vec<u8>,
}

/// Why a frame is not played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unopened {
    /// Made by the server, in the place of somebody who says nothing.
    FromServer,
    /// Not sealed, or not so that anything could open it.
    Clear,
    /// Under a key that was not given, or is not kept any more.
    NoKey(u8),
    /// Not by who has the key.
    Forged,
    /// It was said long ago.
    Replayed,
}

/// Another device's side: its last keys, by the index that frames name.
#[derive(Default)]
pub(super) struct Ring(VecDeque<Known>);

struct Known {
    index: u8,
    cipher: Aes128Gcm,
    /// The newest timestamp that was opened.
    latest: Option<u32>,
}

impl Ring {
    /// Takes a key, in place of the one that may have had its index.
    pub(super) fn give(&mut self, index: u8, key: &FrameKey) {
        let Some(cipher) = cipher(key) else { return };
        self.0.retain(|known| known.index != index);
        if self.0.len() >= KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Known { index, cipher, latest: None });
    }

    /// Opens a frame; `from_server` is how those end that the server makes itself.
    pub(super) fn open(&mut self, frame: &[u8], from_server: &[u8]) -> Result<Opened, Unopened> {
        if is_from_server(frame, from_server) {
            return Err(Unopened::FromServer);
        }
        let (sealed, iv, index) = parts(frame).ok_or(Unopened::Clear)?;
        let known = self.0.iter_mut().find(|known| known.index == index);
        let known = known.ok_or(Unopened::NoKey(index))?;
        let (clear, secret) = sealed.split_at_checked(CLEAR).ok_or(Unopened::Clear)?;
        let payload = Payload { msg: secret, aad: clear };
        let opened = known.cipher.decrypt(Nonce::from_slice(iv), payload);
        let opened = opened.map_err(|_| Unopened::Forged)?;
        let timestamp = timestamp(iv).ok_or(Unopened::Clear)?;
        // Counted around: half of all timestamps are before any one.
        let behind = known.latest.map_or(0, |latest| latest.wrapping_sub(timestamp).cast_signed());
        if behind > LATE.cast_signed() {
            return Err(Unopened::Replayed);
        }
        if behind <= 0 {
            known.latest = Some(timestamp);
        }
        Ok(Opened { timestamp, opus: [clear, &opened].concat() })
    }
}

/// Whether the server made this frame itself; `trailer` is what it said of that when it was joined.
pub(super) fn is_from_server(frame: &[u8], trailer: &[u8]) -> bool {
    !trailer.is_empty() && frame.ends_with(trailer)
}

/// What is sealed with the byte before it, the IV, and the index of the key.
fn parts(frame: &[u8]) -> Option<(&[u8], &[u8; IV], u8)> {
    let (rest, [length, index]) = frame.split_last_chunk::<TRAILER>()?;
    let (sealed, iv) = rest.split_last_chunk::<IV>()?;
    let fits = *length == IV_LENGTH && sealed.len() >= CLEAR + TAG && frame.len() <= FRAME_MAX;
    fits.then_some((sealed, iv, *index))
}

fn timestamp(iv: &[u8; IV]) -> Option<u32> {
    let (_, rest) = iv.split_first_chunk::<4>()?;
    Some(u32::from_be_bytes(*rest.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRAILER: &[u8] = b"made by the server";

    fn key(n: u8) -> FrameKey {
        FrameKey::new([n; 16])
    }

    fn sealer(n: u8, index: u8) -> Sealer {
        let mut sealer = Sealer::new(7);
        sealer.rekey(index, &key(n));
        sealer
    }

    fn ring(n: u8, index: u8) -> Ring {
        let mut ring = Ring::default();
        ring.give(index, &key(n));
        ring
    }

    /// `../shared/calls.md` §1.7, checked there against livekit-client: what HKDF makes of the bytes 00 to 0f.
    #[test]
    fn the_key_is_derived_as_livekit_does() {
        let derived: [u8; 16] =
            hex::decode("4086b4641064e1ae8b63d4eb83ad3e7e").unwrap().try_into().unwrap();
        let expected = Aes128Gcm::new(&derived.into());
        let ours = FrameKey::new(std::array::from_fn(|n| u8::try_from(n).unwrap()));
        let mut sealer = Sealer::new(0x0102_0304);
        sealer.rekey(200, &ours);
        let frame = sealer.seal(960, &[0x78, 1, 2, 3]).unwrap();
        let iv = [1, 2, 3, 4, 0, 0, 3, 0xc0, 0, 0, 0, 0];
        let secret = Payload { msg: &[1, 2, 3], aad: &[0x78] };
        let rest = expected.encrypt(Nonce::from_slice(&iv), secret).unwrap();
        assert_eq!(frame, [&[0x78], rest.as_slice(), &iv, &[12, 200]].concat());
        assert_eq!(frame.len(), 4 + 30);
    }

    #[test]
    fn only_the_right_key_at_its_index_opens() {
        let frame = sealer(1, 200).seal(960, &[0x78, 1, 2]).unwrap();
        let opened = Opened { timestamp: 960, opus: vec![0x78, 1, 2] };
        assert_eq!(ring(1, 200).open(&frame, TRAILER), Ok(opened));
        assert_eq!(ring(2, 200).open(&frame, TRAILER), Err(Unopened::Forged));
        assert_eq!(ring(1, 201).open(&frame, TRAILER), Err(Unopened::NoKey(200)));
        assert_eq!(Ring::default().open(&frame, TRAILER), Err(Unopened::NoKey(200)));
    }

    #[test]
    fn nothing_is_sent_without_a_key_and_nothing_clear_is_played() {
        assert_eq!(Sealer::new(7).seal(0, &[1, 2, 3]), None);
        assert_eq!(sealer(1, 0).seal(0, &[]), None);
        let mut ring = ring(1, 0);
        for clear in [&[][..], &[0x78], &[0x78; 80], &[12; 30]] {
            assert_eq!(ring.open(clear, TRAILER), Err(Unopened::Clear), "{clear:?}");
        }
        let made = [&[0x78; 9], TRAILER].concat();
        assert_eq!(ring.open(&made, TRAILER), Err(Unopened::FromServer));
        // Without a trailer every frame would end in it.
        assert_eq!(ring.open(&made, b""), Err(Unopened::Clear));
    }

    #[test]
    fn what_was_said_long_ago_is_not_played_again_under_its_key() {
        let (mut sealer, mut ring) = (sealer(1, 0), ring(1, 0));
        let before_the_wrap = u32::MAX - LATE / 2;
        let early = sealer.seal(before_the_wrap, &[0x78, 1]).unwrap();
        let late = sealer.seal(before_the_wrap.wrapping_add(LATE + 960), &[0x78, 2]).unwrap();
        let between = sealer.seal(before_the_wrap.wrapping_add(960), &[0x78, 3]).unwrap();
        assert!(ring.open(&early, TRAILER).is_ok());
        assert!(ring.open(&late, TRAILER).is_ok());
        assert!(ring.open(&between, TRAILER).is_ok());
        assert_eq!(ring.open(&early, TRAILER), Err(Unopened::Replayed));
    }

    #[test]
    fn the_indices_go_around_and_few_keys_are_kept() {
        let mut ring = Ring::default();
        for n in 0..600_u32 {
            let index = n.to_le_bytes()[0];
            ring.give(index, &key(index));
            let frame = sealer(index, index).seal(n, &[0x78, 1]).unwrap();
            assert!(ring.open(&frame, TRAILER).is_ok());
            assert!(ring.0.len() <= KEPT);
        }
    }

    #[test]
    fn the_key_in_use_is_kept_while_as_many_wait_as_may() {
        let mut ring = Ring::default();
        (0..=16).for_each(|n| ring.give(n, &key(n)));
        let frame = sealer(0, 0).seal(0, &[0x78, 1]).unwrap();
        assert!(ring.open(&frame, TRAILER).is_ok());
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_and_changed_it_does_not(
            opus in prop::collection::vec(any::<u8>(), 1..1275),
            index: u8, timestamp: u32, at: prop::sample::Index, bit in 0..8_u8,
        ) {
            let frame = sealer(1, index).seal(timestamp, &opus).unwrap();
            prop_assert_eq!(
                ring(1, index).open(&frame, TRAILER),
                Ok(Opened { timestamp, opus })
            );
            let mut changed = frame.clone();
            changed[at.index(frame.len())] ^= 1 << bit;
            prop_assert!(ring(1, index).open(&changed, TRAILER).is_err());
        }

        #[test]
        fn nothing_hostile_opens(
            frame in prop::collection::vec(any::<u8>(), 0..2000), index: u8, cut: prop::sample::Index,
        ) {
            let mut ring = ring(1, index);
            prop_assert!(ring.open(&frame, TRAILER).is_err());
            let with_trailer = [&frame, &[12, index][..]].concat();
            prop_assert!(ring.open(&with_trailer, TRAILER).is_err());
            let good = sealer(1, index).seal(0, &[&[0x78][..], &frame].concat()).unwrap();
            prop_assert!(ring.open(&good[..cut.index(good.len())], TRAILER).is_err());
        }
    }
}
