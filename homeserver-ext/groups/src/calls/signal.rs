//! What two devices tell each other so that they can connect, and why it is refused.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::frame_key::FrameKey;

/// Bytes of a signal's JSON.
const SIGNAL_MAX: usize = 24 * 1024;

/// What one device of a call tells another; JSON of `docs/protocol.md` §9, sealed by others.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t")]
pub enum Signal {
    /// A description by the side that offers.
    #[serde(rename = "group_call_offer")]
    Offer {
        /// Without candidates.
        sdp: String,
        /// Whether the connection that there is goes on, by another path.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        restart: bool,
    },
    /// The description that answers it.
    #[serde(rename = "group_call_answer")]
    Answer {
        /// Without candidates.
        sdp: String,
        /// Which offer it answers, by its `ice-ufrag`: another may have been made since. Without it, the one
        /// that there is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offer: Option<String>,
    },
    /// Ways on which the sender may be reached.
    #[serde(rename = "group_call_ice")]
    Ice {
        /// `candidate:…`, RFC 8839.
        candidates: Vec<String>,
    },
    /// What the sender's frames are sealed with where a server carries the call.
    #[serde(rename = "group_call_key")]
    Key {
        /// By which frames name it.
        index: u8,
        /// 16 bytes.
        key: FrameKey,
    },
    /// The sender has no connection with the receiver, or no longer.
    #[serde(rename = "group_call_bye")]
    Bye {
        /// Why.
        reason: Reason,
    },
}

/// Why a device says goodbye to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It leaves the call.
    Left,
    /// It has no connection with the receiver, or not the one that was spoken of: offer anew.
    Unknown,
    /// It could not be connected in time.
    Failed,
    /// Anything that this version does not know.
    #[serde(other)]
    Other,
}

impl Signal {
    /// Reads a signal.
    ///
    /// # Errors
    /// [`Refused::TooLarge`] and [`Refused::Unreadable`].
    pub fn from_json(json: &[u8]) -> Result<Self, Refused> {
        if json.len() > SIGNAL_MAX {
            return Err(Refused::TooLarge(json.len(), SIGNAL_MAX));
        }
        serde_json::from_slice(json).map_err(|_| Refused::Unreadable)
    }

    /// Writes it.
    pub fn to_json(&self) -> String {
        serde_json::json!(self).to_string()
    }
}

// Descriptions have keys and addresses in them.
impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offer { restart: false, .. } => f.write_str("Offer"),
            Self::Offer { restart: true, .. } => f.write_str("Offer(restart)"),
            Self::Answer { .. } => f.write_str("Answer"),
            Self::Ice { candidates } => write!(f, "Ice({})", candidates.len()),
            Self::Key { index, .. } => write!(f, "Key({index})"),
            Self::Bye { reason } => write!(f, "Bye({reason:?})"),
        }
    }
}

/// Why a signal was refused; nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not JSON of a known form.
    #[error("the signal is of no form that this version knows")]
    Unreadable,
    /// Bytes, and how many fit.
    #[error("the signal is {0} bytes, at most {1} fit")]
    TooLarge(usize, usize),
    /// Sent in a former epoch of the call: it was said in, the call is in.
    #[error("the signal is of epoch {0}, the call is in {1}")]
    Stale(u32, u32),
    /// The sender does not take part, and was not said to within 10 seconds.
    #[error("the sender does not take part in the call")]
    Stranger,
    /// More waits to be looked at than is kept.
    #[error("more signals came than are kept")]
    TooMany,
    /// More new connections or restarts than anybody needs.
    #[error("more connections were begun than ten in a minute")]
    TooOften,
    /// The other side's part, or an answer to nothing.
    #[error("it was not the sender's turn to say that")]
    OutOfTurn,
    /// A restart of a connection that is not there.
    #[error("there is no connection that it could be about")]
    NoConnection,
    /// Not a description as RFC 8866 and 8829 have it.
    #[error("the description is not well formed")]
    Description,
    /// Something else than one section of sound by Opus.
    #[error("the description has other media than one section of Opus")]
    Media,
    /// None, several, by another hash than SHA-256, or not that of the connection.
    #[error("the description's fingerprint is not the one that the connection has")]
    Fingerprint,
    /// Not a candidate for UDP with an address.
    #[error("a candidate is not an address that may be reached by UDP")]
    Candidate,
    /// More candidates than a device has addresses.
    #[error("more candidates came than 64 for a connection")]
    Candidates,
    /// What the WebRTC library says no to.
    #[error("the WebRTC library refuses the description")]
    Library,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_written_as_the_protocol_has_them() {
        let signals = [
            (
                Signal::Offer { sdp: "v=0".into(), restart: false },
                r#"{"sdp":"v=0","t":"group_call_offer"}"#,
            ),
            (
                Signal::Offer { sdp: "v=0".into(), restart: true },
                r#"{"restart":true,"sdp":"v=0","t":"group_call_offer"}"#,
            ),
            (
                Signal::Answer { sdp: "v=0".into(), offer: Some("Uf4g".into()) },
                r#"{"offer":"Uf4g","sdp":"v=0","t":"group_call_answer"}"#,
            ),
            (
                Signal::Answer { sdp: "v=0".into(), offer: None },
                r#"{"sdp":"v=0","t":"group_call_answer"}"#,
            ),
            (
                Signal::Ice { candidates: vec!["candidate:1".into()] },
                r#"{"candidates":["candidate:1"],"t":"group_call_ice"}"#,
            ),
            (
                Signal::Key { index: 200, key: FrameKey::new([7; 16]) },
                r#"{"index":200,"key":"BwcHBwcHBwcHBwcHBwcHBw","t":"group_call_key"}"#,
            ),
            (Signal::Bye { reason: Reason::Left }, r#"{"reason":"left","t":"group_call_bye"}"#),
        ];
        for (signal, json) in signals {
            assert_eq!(signal.to_json(), json);
            assert_eq!(Signal::from_json(json.as_bytes()), Ok(signal));
        }
    }

    #[test]
    fn what_is_too_large_or_unknown_is_refused() {
        let huge = Signal::Answer { sdp: "a".repeat(SIGNAL_MAX), offer: None }.to_json();
        assert_eq!(
            Signal::from_json(huge.as_bytes()),
            Err(Refused::TooLarge(huge.len(), SIGNAL_MAX))
        );
        for json in [
            "",
            "{}",
            r#"{"t":"group_call_key","index":1}"#,
            r#"{"t":"group_call_key","index":256,"key":"BwcHBwcHBwcHBwcHBwcHBw"}"#,
            r#"{"t":"group_call_key","index":1,"key":"BwcHBwcHBwcHBwcHBwcH"}"#,
            r#"{"t":"group_call_offer"}"#,
        ] {
            assert_eq!(Signal::from_json(json.as_bytes()), Err(Refused::Unreadable), "{json}");
        }
        let other = Signal::from_json(br#"{"t":"group_call_bye","reason":"of 2030"}"#);
        assert_eq!(other, Ok(Signal::Bye { reason: Reason::Other }));
    }

    #[test]
    fn nothing_of_a_description_is_shown_for_debugging() {
        let offer = Signal::Offer { sdp: "a=ice-pwd:secret".into(), restart: true };
        let ice =
            Signal::Ice { candidates: vec!["candidate:1 1 udp 1 192.0.2.7 9 typ host".into()] };
        let key = Signal::Key { index: 9, key: FrameKey::new([7; 16]) };
        assert_eq!(format!("{offer:?} {ice:?} {key:?}"), "Offer(restart) Ice(1) Key(9)");
    }
}
