//! Olm as it is used here: vodozemac's sessions, and payloads `u8 type ‖ bytes` (protocol §2.2).

use causeway_protocol::{ids::CurveKey, olm_plaintext::OlmPayload};
use vodozemac::{
    Curve25519PublicKey,
    olm::{Account, MessageType, OlmMessage, PreKeyMessage, Session, SessionConfig},
};

/// Why an Olm payload does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Not an Olm message.
    Malformed,
    /// No session opens it, and it makes none: the two devices' sessions no longer fit.
    Wedged,
}

/// What opened a payload.
pub(crate) enum OpenedBy {
    /// The session at this place of the list.
    Known(usize),
    /// A new one, which used up a one-time key or the fallback key.
    New(Box<Session>),
}

pub(crate) fn curve(key: &CurveKey) -> Curve25519PublicKey {
    Curve25519PublicKey::from_bytes(*key.as_bytes())
}

/// Opens `payload` from the device with this Olm identity key. Only the session that opened it,
/// and the account if a new one was made, have changed.
pub(crate) fn open(
    sessions: &mut [Session],
    account: &mut Account,
    peer: &CurveKey,
    payload: &[u8],
) -> Result<(Vec<u8>, OpenedBy), Unreadable> {
    match OlmPayload::parse(payload).map_err(|_| Unreadable::Malformed)? {
        OlmPayload::Normal(bytes) => {
            let message = OlmMessage::from_parts(MessageType::Normal.into(), bytes)
                .map_err(|_| Unreadable::Malformed)?;
            for (at, session) in sessions.iter_mut().enumerate() {
                if let Ok(plaintext) = session.decrypt(&message) {
                    return Ok((plaintext, OpenedBy::Known(at)));
                }
            }
            Err(Unreadable::Wedged)
        }
        OlmPayload::PreKey(bytes) => {
            let message = PreKeyMessage::from_bytes(bytes).map_err(|_| Unreadable::Malformed)?;
            let id = message.session_id();
            let known = sessions.iter_mut().enumerate().find(|(_, s)| s.session_id() == id);
            if let Some((at, session)) = known {
                let plaintext = session
                    .decrypt(&OlmMessage::PreKey(message))
                    .map_err(|_| Unreadable::Wedged)?;
                return Ok((plaintext, OpenedBy::Known(at)));
            }
            let made = account
                .create_inbound_session(SessionConfig::version_1(), curve(peer), &message)
                .map_err(|_| Unreadable::Wedged)?;
            Ok((made.plaintext, OpenedBy::New(Box::new(made.session))))
        }
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
