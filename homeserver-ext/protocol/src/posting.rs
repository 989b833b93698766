//! Fan-outs as they are posted in bytes, each device named by its place in a roster (protocol §2).
//!
//! ```text
//! posting = 0x01 ‖ be64 count ‖ be32 epoch ‖ roster_hash 32 ‖ fan-outs, to the end
//! fan-out = id 16 ‖ be32 epoch ‖ be64 ttl_ms ‖ be32 length ‖ payload ‖ be16 n ‖
//!           n × (be16 place ‖ be16 length ‖ piece)
//! ```
//! 45 bytes, 34 for each envelope, and 4 for each piece, where JSON has a name of 43 and base64.

use std::collections::BTreeMap;

use crate::{
    envelope::{BadEnvelope, Kind, MAX_BATCH, Piece, Sender, Submission, SubmittedTo},
    fields::{Reader, Short, Writer},
    ids::{DeviceId, EnvelopeId, Epoch, GroupId, RosterHash},
    roster::Roster,
};

const VERSION: u8 = 1;

/// Fan-outs of one device in one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// How often the sender has sealed (protocol §2, putting back a device).
    pub count: u64,
    /// The epoch of the roster in which `pieces` name their devices.
    pub epoch: Epoch,
    /// That roster.
    pub roster: RosterHash,
    /// What is posted, in order.
    pub fan_outs: Vec<FanOut>,
}

/// One envelope of a [`Posting`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FanOut {
    /// As [`Submission::name`].
    pub id: EnvelopeId,
    /// Roster epoch under which it was sealed: that of [`Posting::epoch`], or one before.
    pub epoch: Epoch,
    /// How long it is to be kept.
    pub ttl_ms: u64,
    /// What the kind says.
    pub payload: Vec<u8>,
    /// By the place of the device among [`Roster::devices`], from 0; rising.
    pub pieces: Vec<(u16, Piece)>,
}

/// Why a posting is refused whatever the group says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPosting {
    /// It begins with another number; this is known.
    #[error("version {0} of the posting, only {VERSION} is known")]
    Version(u8),
    /// Bytes are missing at its end, or it has no envelope.
    #[error("the posting breaks off")]
    BrokenOff,
    /// Send fewer at once.
    #[error("more than {MAX_BATCH} envelopes")]
    TooMany,
    /// Of this envelope the places do not rise: one is there twice, or they are in another order.
    #[error("envelope {0}: places must rise, each once")]
    Order(usize),
    /// An envelope, a place that it names, and how many there are.
    #[error("envelope {0}: place {1}, the roster has {2} devices")]
    NoSuchPlace(usize, u16, usize),
    /// Of this envelope the id is another than that of its bytes and devices.
    #[error("envelope {0}: {why}", why = BadEnvelope::Id)]
    Id(usize),
}

impl From<Short> for BadPosting {
    fn from(_: Short) -> Self {
        Self::BrokenOff
    }
}

impl Posting {
    /// Names the devices of `submissions` by their places in `roster`; `None` where one is no fan-out, or
    /// for a device that this roster does not have.
    pub fn of<'a>(
        submissions: impl IntoIterator<Item = &'a Submission>,
        count: u64,
        roster: &Roster,
    ) -> Option<Self> {
        let places: BTreeMap<DeviceId, usize> =
            roster.devices().enumerate().map(|(place, of)| (of.device_id, place)).collect();
        let fan_out = |submission: &Submission| {
            let SubmittedTo::Devices(devices) = &submission.to else { return None };
            let place = |(device, piece): (&DeviceId, &Piece)| {
                let place = u16::try_from(*places.get(device)?).ok()?;
                Some((place, piece.clone()))
            };
            let mut pieces = devices.iter().map(place).collect::<Option<Vec<_>>>()?;
            pieces.sort_unstable_by_key(|(place, _)| *place);
            Some(FanOut {
                id: submission.name(),
                epoch: submission.epoch,
                ttl_ms: submission.ttl_ms,
                payload: submission.payload.clone(),
                pieces,
            })
        };
        let fan_outs = submissions.into_iter().map(fan_out).collect::<Option<_>>()?;
        Some(Self { count, epoch: roster.epoch(), roster: roster.hash(), fan_outs })
    }

    /// Its bytes; `None` where a piece or payload is longer than can be said.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let begun = Writer::new().u8(VERSION).be64(self.count).be32(self.epoch.0).raw(self.roster);
        let mut to = begun;
        for fan_out in &self.fan_outs {
            let length = u32::try_from(fan_out.payload.len()).ok()?;
            to = to.raw(fan_out.id).be32(fan_out.epoch.0).be64(fan_out.ttl_ms).be32(length);
            to = to.raw(&fan_out.payload).count16(fan_out.pieces.len());
            to = to.each(&fan_out.pieces, |to, (place, Piece(piece))| {
                to.be16(*place).count16(piece.len()).raw(piece)
            });
        }
        to.finish().ok()
    }

    /// Reads them.
    ///
    /// # Errors
    /// [`BadPosting`], all but [`BadPosting::NoSuchPlace`] and [`BadPosting::Id`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BadPosting> {
        let mut from = Reader::new(bytes);
        let version = from.u8()?;
        if version != VERSION {
            return Err(BadPosting::Version(version));
        }
        let (count, epoch) = (from.be64()?, Epoch(from.be32()?));
        let roster = RosterHash::new(from.array()?);
        let mut fan_outs = Vec::new();
        while !from.rest().is_empty() {
            if fan_outs.len() >= MAX_BATCH {
                return Err(BadPosting::TooMany);
            }
            fan_outs.push(FanOut::read(&mut from, fan_outs.len())?);
        }
        if fan_outs.is_empty() {
            return Err(BadPosting::BrokenOff);
        }
        Ok(Self { count, epoch, roster, fan_outs })
    }

    /// What it stands for, by the roster that it names.
    ///
    /// # Errors
    /// [`BadPosting::NoSuchPlace`], [`BadPosting::Id`].
    pub fn submissions(
        self,
        group: GroupId,
        sender: &Sender,
        roster: &Roster,
    ) -> Result<Vec<Submission>, BadPosting> {
        let devices: Vec<DeviceId> = roster.devices().map(|of| of.device_id).collect();
        let submission = |(n, fan_out): (usize, FanOut)| {
            let FanOut { id, epoch, ttl_ms, payload, pieces } = fan_out;
            let to = |(place, piece): (u16, Piece)| {
                let unknown = BadPosting::NoSuchPlace(n, place, devices.len());
                let device = devices.get(usize::from(place)).ok_or(unknown);
                device.map(|device| (*device, piece))
            };
            let to = pieces.into_iter().map(to).collect::<Result<BTreeMap<_, _>, BadPosting>>()?;
            let submission = Submission {
                id: None,
                kind: Kind::Fanout,
                group,
                epoch,
                sender: sender.clone(),
                to: SubmittedTo::Devices(to),
                ttl_ms,
                payload,
            };
            if submission.name() == id { Ok(submission) } else { Err(BadPosting::Id(n)) }
        };
        self.fan_outs.into_iter().enumerate().map(submission).collect()
    }
}

impl FanOut {
    fn read(from: &mut Reader<'_>, n: usize) -> Result<Self, BadPosting> {
        let id = EnvelopeId::new(from.array()?);
        let (epoch, ttl_ms) = (Epoch(from.be32()?), from.be64()?);
        let length = usize::try_from(from.be32()?).map_err(|_| BadPosting::BrokenOff)?;
        let payload = from.take(length)?.to_vec();
        let mut pieces: Vec<(u16, Piece)> = Vec::new();
        for _ in 0..from.be16()? {
            let (place, length) = (from.be16()?, from.be16()?);
            if pieces.last().is_some_and(|(last, _)| *last >= place) {
                return Err(BadPosting::Order(n));
            }
            pieces.push((place, Piece(from.take(length.into())?.to_vec())));
        }
        Ok(Self { id, epoch, ttl_ms, payload, pieces })
    }
}
