//! Olm as it is used here: vodozemac's sessions, and payloads `u8 type ‖ bytes` (protocol §2.2).

use causeway_protocol::{ids::CurveKey, olm_plaintext::OlmPayload};
use vodozemac::{
    Curve25519PublicKey,
    olm::{Account, MessageType, OlmMessage, PreKeyMessage, Session, SessionConfig},
};
use zeroize::Zeroizing;

/// Not an Olm message, or none that a session opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

fn curve(key: &CurveKey) -> Curve25519PublicKey {
    Curve25519PublicKey::from_bytes(*key.as_bytes())
}

/// An Olm message that was parsed.
pub(crate) struct Payload(OlmMessage);

/// What was inside, and which session opened it.
pub(crate) type OpenedBy = (Zeroizing<Vec<u8>>, usize);

impl Payload {
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Unreadable> {
        let message = match OlmPayload::parse(payload).map_err(|_| Unreadable)? {
            OlmPayload::Normal(bytes) => OlmMessage::from_parts(MessageType::Normal.into(), bytes),
            OlmPayload::PreKey(bytes) => PreKeyMessage::from_bytes(bytes).map(OlmMessage::PreKey),
        };
        message.map(Self).map_err(|_| Unreadable)
    }

    /// Opens it with one of the sessions; says which, and only that one has changed. `None` where
    /// it may begin a new one ([`Self::begin`]).
    pub(crate) fn open(&self, sessions: &mut [Session]) -> Result<Option<OpenedBy>, Unreadable> {
        let fits = |session: &Session| match &self.0 {
            OlmMessage::PreKey(message) => message.session_id() == session.session_id(),
            OlmMessage::Normal(_) => true,
        };
        let mut tried = matches!(self.0, OlmMessage::Normal(_));
        for (at, session) in sessions.iter_mut().enumerate().filter(|(_, s)| fits(s)) {
            tried = true;
            if let Ok(text) = session.decrypt(&self.0) {
                return Ok(Some((Zeroizing::new(text), at)));
            }
        }
        if tried { Err(Unreadable) } else { Ok(None) }
    }

    /// The one-time or fallback key with which it begins a session; `None` if it begins none.
    pub(crate) fn one_time_key(&self) -> Option<CurveKey> {
        match &self.0 {
            OlmMessage::PreKey(message) => {
                Some(CurveKey::new(message.session_keys().one_time_key.to_bytes()))
            }
            OlmMessage::Normal(_) => None,
        }
    }

    /// Opens it as the beginning of a session with the device that has this Olm identity key. The
    /// account loses the one-time key that was used.
    pub(crate) fn begin(
        &self,
        account: &mut Account,
        peer: &CurveKey,
    ) -> Result<(Zeroizing<Vec<u8>>, Session), Unreadable> {
        let OlmMessage::PreKey(message) = &self.0 else { return Err(Unreadable) };
        let made = account
            .create_inbound_session(SessionConfig::version_1(), curve(peer), message)
            .map_err(|_| Unreadable)?;
        Ok((Zeroizing::new(made.plaintext), made.session))
    }
}

/// Seals `plaintext` in this session; `None` if the session cannot send.
pub(crate) fn seal(session: &mut Session, plaintext: &[u8]) -> Option<Vec<u8>> {
    Some(match session.encrypt(plaintext).ok()? {
        OlmMessage::PreKey(message) => OlmPayload::PreKey(&message.to_bytes()).to_bytes(),
        OlmMessage::Normal(message) => OlmPayload::Normal(&message.to_bytes()).to_bytes(),
    })
}

/// A session with the device that offers this one-time key; `None` if a key is unusable.
pub(crate) fn outbound(
    account: &Account,
    peer: &CurveKey,
    one_time_key: &CurveKey,
) -> Option<Session> {
    account
        .create_outbound_session(SessionConfig::version_1(), curve(peer), curve(one_time_key))
        .ok()
}
