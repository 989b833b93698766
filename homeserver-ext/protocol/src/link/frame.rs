//! Frames, as they stand in a to-device message.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ids::ServerLinkId, json};

use super::given::{Gives, Had};

/// Most bytes of one content, as canonical JSON.
pub const MAX_CONTENT: usize = 64_000;

/// Most bytes of one item, as canonical JSON.
pub const MAX_ITEM: usize = 62_000;

/// Most bytes of a frame's items with the commas between them: the rest is for the frame's own
/// fields, of which the longest take 404.
pub const MAX_ITEMS: usize = 63_500;

/// Highest number that JSON readers agree on.
pub(super) const MAX_NUMBER: u64 = (1 << 53) - 1;

/// The content that answers a version that is not ours.
pub const VERSION_REFUSED: &str = r#"{"error":"version","v":1}"#;

/// How much of one link is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The link of who reads this.
    pub link: ServerLinkId,
    /// The highest number up to which everything is committed.
    pub seq: u64,
}

/// One frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Its sender's present link.
    pub link: ServerLinkId,
    /// From 1, by one; without items the last one that was sent.
    pub seq: u64,
    /// Absent where nothing was taken of any link.
    pub ack: Option<Ack>,
    /// A link of the reader's, of which frames came that have no beginning.
    pub reset: Option<ServerLinkId>,
    /// What its sender has of the reader's stream; absent where it does not say.
    pub had: Option<Had>,
    /// What the items stand for in the sender's stream; absent where for nothing that is kept.
    pub gives: Option<Box<Gives>>,
    /// Read one by one ([`super::Item::parse`]): a bad one does not spoil the others.
    pub items: Vec<Value>,
}

/// What an agent's to-device message says.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A frame.
    Frame(Frame),
    /// A version that is not spoken here; answered with [`VERSION_REFUSED`].
    OtherVersion,
    /// The peer does not speak our version.
    VersionRefused,
}

/// Why a content is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// Bytes of the content, and the most that is read.
    #[error("content is {0} bytes, at most {1} are read")]
    TooLarge(usize, usize),
    /// Not JSON, not an object, or a field of the wrong type.
    #[error("not the JSON of a frame")]
    Json,
    /// Above what JSON readers agree on, or 0 with items.
    #[error("a number that no frame has")]
    Number,
}

impl Content {
    /// Reads a content.
    ///
    /// # Errors
    /// [`BadFrame`]; it counts as malformed.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadFrame> {
        if bytes.len() > MAX_CONTENT {
            return Err(BadFrame::TooLarge(bytes.len(), MAX_CONTENT));
        }
        let head: Head = json::from_slice(bytes).map_err(|_| BadFrame::Json)?;
        if head.v != 1 {
            return Ok(Self::OtherVersion);
        }
        if head.error.as_deref() == Some("version") {
            return Ok(Self::VersionRefused);
        }
        let read: FrameJson = json::from_slice(bytes).map_err(|_| BadFrame::Json)?;
        let FrameJson { link, seq, ack, reset, had, gives, items, .. } = read;
        let given =
            gives.as_ref().map_or([0; 3], |it| [it.after, it.seq, it.since.map_or(0, |it| it.seq)]);
        let said = [seq, ack.map_or(0, |ack| ack.seq), had.map_or(0, |had| had.seq)];
        let mut numbers = said.into_iter().chain(given);
        if numbers.any(|number| number > MAX_NUMBER) || (seq == 0 && !items.is_empty()) {
            return Err(BadFrame::Number);
        }
        Ok(Self::Frame(Frame { link, seq, ack, reset, had, gives, items }))
    }
}

impl Frame {
    /// The content, at most [`MAX_CONTENT`] bytes where the items were measured with [`fitting`].
    pub fn to_json(&self) -> Value {
        let Self { link, seq, ack, reset, had, gives, items } = self.clone();
        let frame = FrameJson { v: 1, link, seq, ack, reset, had, gives, items };
        // Strings, integers and JSON: nothing here that JSON cannot say.
        serde_json::to_value(frame).unwrap_or_default()
    }
}

/// How many of the first of these items, by their bytes, go in one frame: at least one, which its
/// maker keeps within [`MAX_ITEM`].
pub fn fitting(sizes: impl IntoIterator<Item = usize>) -> usize {
    let mut sum = 0;
    let within = sizes.into_iter().take_while(|size| {
        sum += size + 1;
        sum <= MAX_ITEMS
    });
    within.count().max(1)
}

#[derive(Deserialize)]
struct Head {
    v: u64,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct FrameJson {
    v: u64,
    link: ServerLinkId,
    seq: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ack: Option<Ack>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reset: Option<ServerLinkId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    had: Option<Had>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gives: Option<Box<Gives>>,
    #[serde(default, deserialize_with = "json::or_default")]
    items: Vec<Value>,
}
