//! What one device says to another over Olm (protocol §2.2).
//!
//! `0x02 ‖ ASCII type ‖ …`, parsed to its exact length. Every type names group and both devices;
//! that `from` is the session's peer and `to` the reader, the reader checks with [`Route`].

mod distribution;
mod history;
mod shared_key;

pub use distribution::{Distribution, Node, Refused};
pub use history::{HistoryPage, MAX_PAGE, MAX_PAGES, PastText};
pub use shared_key::KeyRefused;

use zeroize::Zeroizing;

use crate::{
    envelope::Kind,
    fields::{Reader, Short, TooLong, Writer},
    ids::{CallId, ChainId, DeviceId, Epoch, GroupId, RosterHash, Timestamp},
};

/// Not a plaintext of a known type, of the length that its fields say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an Olm plaintext of this protocol")]
pub struct Malformed;

/// In which group, from whom, to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The group.
    pub group: GroupId,
    /// The Olm peer, if it says the truth.
    pub from: DeviceId,
    /// The reader.
    pub to: DeviceId,
}

/// One plaintext; its `Debug` form says only what kind it is, and between whom.
#[derive(Clone, PartialEq, Eq)]
pub enum OlmPlaintext {
    /// `D`: a sender-key chain.
    Distribution(Distribution),
    /// `A`: chains that have arrived, each with the first index that it opens.
    Acknowledgement(Route, Vec<(ChainId, u32)>),
    /// `R`: a key that is missing.
    KeyRequest(Route, Missing),
    /// `K`: a shared key.
    SharedKey(Route, SharedKey),
    /// `I`: an invite link, so that another admin can admit too, or what became of one; the text is
    /// a [`LinkWord`](crate::invite::LinkWord)'s.
    Invite(Route, String),
    /// `W`: nothing, after a wedged session was healed.
    Dummy(Route),
    /// `L`: a chain of a legacy suite.
    Legacy(Route, LegacyKey),
    /// `H`: texts of before, which a member gives to one who came later.
    History(Route, HistoryPage),
    /// `C`: what two devices of a call tell each other so that they can connect.
    Call(Route, CallSignal),
    /// `F`: the content key of a fan-out message.
    Piece(Piece),
}

impl std::fmt::Debug for OlmPlaintext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OlmPlaintext")
            .field("kind", &self.kind())
            .field("route", &self.route())
            .finish_non_exhaustive()
    }
}

/// What could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// First four bytes of the chain's or the shared key's id.
    pub tag: [u8; 4],
    /// Index or counter of the message.
    pub index: u32,
    /// Epoch of the message.
    pub epoch: Epoch,
}

/// A shared key as it is given to one device (protocol §5.2).
#[derive(Clone, PartialEq, Eq)]
pub struct SharedKey {
    /// Which AEAD.
    pub alg: u8,
    /// 0 with the epoch's op, higher by the timer.
    pub generation: u8,
    /// The epoch that it is for.
    pub epoch: Epoch,
    /// The roster of that epoch.
    pub roster_hash: RosterHash,
    /// When it was made.
    pub created_ms: Timestamp,
    /// From when on nobody sends under it.
    pub not_after_ms: Timestamp,
    /// The key.
    pub key: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedKey")
            .field("epoch", &self.epoch)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// A chain of a legacy suite, as its seed writes it (protocol §6). The text names nobody, so what stands
/// around it does.
#[derive(Clone, PartialEq, Eq)]
pub struct LegacyKey {
    /// The suite that it is for.
    pub suite: u8,
    /// The highest `min_version` that the device which gives it can follow.
    pub version: u8,
    /// The seed's text.
    pub text: Zeroizing<String>,
}

impl std::fmt::Debug for LegacyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LegacyKey").field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// Bytes of the JSON of a [`CallSignal`].
pub const MAX_SIGNAL: usize = 24 * 1_024;

/// What one device of a call tells another (protocol §9): descriptions, with keys and addresses in them.
#[derive(Clone, PartialEq, Eq)]
pub struct CallSignal {
    /// Which call.
    pub call: CallId,
    /// The call's epoch, as the sender knows it.
    pub epoch: u32,
    /// JSON, at most [`MAX_SIGNAL`] bytes; what it says is for those who carry sound.
    pub json: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for CallSignal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallSignal")
            .field("call", &self.call)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

/// One device's key to a fan-out message (protocol §5.1), 65 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Piece {
    /// One-shot content key.
    pub key: Zeroizing<[u8; 32]>,
    /// What binds it to message, group, sender and recipient.
    pub binding: [u8; 32],
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Piece").field("binding", &self.binding).finish_non_exhaustive()
    }
}

impl OlmPlaintext {
    /// In which kind of envelope it travels.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Distribution(_) | Self::SharedKey(..) | Self::Legacy(..) => Kind::KeyDistribution,
            Self::KeyRequest(..) => Kind::KeyRequest,
            Self::Acknowledgement(..) => Kind::KeyAck,
            Self::Invite(..) | Self::Dummy(_) | Self::History(..) => Kind::Direct,
            Self::Call(..) => Kind::Call,
            Self::Piece(_) => Kind::Fanout,
        }
    }

    /// Who says it to whom; a fan-out piece says so in its binding instead.
    pub const fn route(&self) -> Option<Route> {
        match self {
            Self::Distribution(distribution) => Some(distribution.route),
            Self::Acknowledgement(route, _)
            | Self::KeyRequest(route, _)
            | Self::SharedKey(route, _)
            | Self::Invite(route, _)
            | Self::Legacy(route, _)
            | Self::History(route, _)
            | Self::Call(route, _)
            | Self::Dummy(route) => Some(*route),
            Self::Piece(_) => None,
        }
    }

    /// Its bytes.
    ///
    /// # Errors
    /// [`TooLong`]: a list or link does not fit its length field.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, TooLong> {
        let to = Writer::with_capacity(600);
        let to = match self {
            Self::Distribution(distribution) => distribution.write(to),
            Self::Acknowledgement(route, chains) => write_route(to, b'A', route)
                .count16(chains.len())
                .each(chains, |to, (chain, start)| to.raw(chain).be32(*start)),
            Self::KeyRequest(route, missing) => write_route(to, b'R', route)
                .raw(missing.tag)
                .be32(missing.index)
                .be32(missing.epoch.0),
            Self::SharedKey(route, key) => {
                let to = to.raw(*b"\x02K").u8(key.alg).u8(key.generation).be32(key.epoch.0);
                to.raw(route.group)
                    .raw(route.from)
                    .raw(route.to)
                    .raw(key.roster_hash)
                    .be64(key.created_ms.0)
                    .be64(key.not_after_ms.0)
                    .raw(*key.key)
            }
            Self::Invite(route, link) => write_route(to, b'I', route).str16(link),
            Self::Dummy(route) => write_route(to, b'W', route),
            Self::History(route, page) => page.write(to, route),
            Self::Legacy(route, key) => {
                write_route(to, b'L', route).u8(key.suite).u8(key.version).str16(&key.text)
            }
            Self::Call(_, signal) if signal.json.len() > MAX_SIGNAL => return Err(TooLong),
            Self::Call(route, signal) => {
                write_route(to, b'C', route).raw(signal.call).be32(signal.epoch).raw(&*signal.json)
            }
            Self::Piece(piece) => to.u8(b'F').raw(*piece.key).raw(piece.binding),
        };
        to.finish().map(Zeroizing::new)
    }

    /// Reads what another device said.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(bytes);
        let plaintext = Self::read(&mut from).map_err(|Short| Malformed)?;
        if from.rest().is_empty() { Ok(plaintext) } else { Err(Malformed) }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Short> {
        match from.u8()? {
            2 => {}
            b'F' => {
                return Ok(Self::Piece(Piece {
                    key: Zeroizing::new(from.array()?),
                    binding: from.array()?,
                }));
            }
            _ => return Err(Short),
        }
        Ok(match from.u8()? {
            b'D' => Self::Distribution(Distribution::read(from)?),
            b'A' => {
                let route = read_route(from)?;
                let count = from.be16()?;
                let chain = |_| Ok((ChainId::new(from.array()?), from.be32()?));
                Self::Acknowledgement(route, (0..count).map(chain).collect::<Result<_, _>>()?)
            }
            b'R' => Self::KeyRequest(
                read_route(from)?,
                Missing { tag: from.array()?, index: from.be32()?, epoch: Epoch(from.be32()?) },
            ),
            b'K' => {
                let (alg, generation, epoch) = (from.u8()?, from.u8()?, Epoch(from.be32()?));
                let route = read_route(from)?;
                let roster_hash = RosterHash::new(from.array()?);
                let (created_ms, not_after_ms) = (Timestamp(from.be64()?), Timestamp(from.be64()?));
                let key = Zeroizing::new(from.array()?);
                let key = SharedKey {
                    alg,
                    generation,
                    epoch,
                    roster_hash,
                    created_ms,
                    not_after_ms,
                    key,
                };
                Self::SharedKey(route, key)
            }
            b'I' => {
                let route = read_route(from)?;
                let link = std::str::from_utf8(from.str16()?).map_err(|_| Short)?;
                Self::Invite(route, link.to_owned())
            }
            b'W' => Self::Dummy(read_route(from)?),
            b'C' => {
                let (route, call) = (read_route(from)?, CallId::new(from.array()?));
                let (epoch, length) = (from.be32()?, from.rest().len());
                if length > MAX_SIGNAL {
                    return Err(Short);
                }
                let json = Zeroizing::new(from.take(length)?.to_vec());
                Self::Call(route, CallSignal { call, epoch, json })
            }
            b'H' => Self::History(read_route(from)?, HistoryPage::read(from)?),
            b'L' => {
                let (route, suite, version) = (read_route(from)?, from.u8()?, from.u8()?);
                let text = std::str::from_utf8(from.str16()?).map_err(|_| Short)?;
                let text = Zeroizing::new(text.to_owned());
                Self::Legacy(route, LegacyKey { suite, version, text })
            }
            _ => return Err(Short),
        })
    }
}

/// An Olm message as an envelope carries it: u8 (0 pre-key, 1 normal) ‖ Olm bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OlmPayload<'a> {
    /// Opens a session.
    PreKey(&'a [u8]),
    /// Within a session.
    Normal(&'a [u8]),
}

impl<'a> OlmPayload<'a> {
    /// Splits an envelope's payload or a fan-out piece.
    ///
    /// # Errors
    /// [`Malformed`]: neither 0 nor 1 stands first, or nothing follows.
    pub const fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        match payload {
            [0, message @ ..] if !message.is_empty() => Ok(Self::PreKey(message)),
            [1, message @ ..] if !message.is_empty() => Ok(Self::Normal(message)),
            _ => Err(Malformed),
        }
    }

    /// The payload.
    pub fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::PreKey(message) => [&[0], message].concat(),
            Self::Normal(message) => [&[1], message].concat(),
        }
    }
}

fn write_route(to: Writer, letter: u8, route: &Route) -> Writer {
    to.u8(2).u8(letter).raw(route.group).raw(route.from).raw(route.to)
}

fn read_route(from: &mut Reader<'_>) -> Result<Route, Short> {
    Ok(Route {
        group: GroupId::new(from.array()?),
        from: DeviceId::new(from.array()?),
        to: DeviceId::new(from.array()?),
    })
}
