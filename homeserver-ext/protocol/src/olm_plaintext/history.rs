//! What a member gives on purpose to one who came later (protocol §2.2, type `H`): texts of before, in the words
//! of whoever gives them.

use std::fmt;

use super::Route;
use crate::{
    content::TextKind,
    fields::{Reader, Short, Writer},
    ids::{ClientId, DeviceId, ShareId, Timestamp},
};

/// Pages of one share, at most.
pub const MAX_PAGES: u16 = 32;
/// Bytes of a plaintext with one page, at most: over Olm it is a payload below 45,000.
pub const MAX_PAGE: usize = 44_000;

/// One page of a share: whole texts, oldest first, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPage {
    /// Of which share.
    pub share: ShareId,
    /// Which page, from 0.
    pub page: u16,
    /// How many there are, at most [`MAX_PAGES`].
    pub pages: u16,
    /// What was said.
    pub texts: Vec<PastText>,
}

/// A text of before, as it is passed on. What it says is no part of its `Debug` form.
#[derive(Clone, PartialEq, Eq)]
pub struct PastText {
    /// Which device is said to have said it.
    pub device: DeviceId,
    /// What that device is said to call it.
    pub client_id: ClientId,
    /// When it is said to have been sent.
    pub sent_at: Timestamp,
    /// How it is meant.
    pub kind: TextKind,
    /// The Matrix user that the bridge spoke for.
    pub mirror: Option<String>,
    /// The text.
    pub body: String,
}

impl fmt::Debug for PastText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PastText")
            .field("device", &self.device)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

impl PastText {
    /// Its bytes on a page.
    fn len(&self) -> usize {
        const FIXED: usize = DeviceId::LEN + ClientId::LEN + 8 + 1 + 1 + 2;
        FIXED + self.mirror.as_ref().map_or(0, String::len) + self.body.len()
    }

    fn write(&self, to: Writer) -> Writer {
        let kind = match self.kind {
            TextKind::Text => 0,
            TextKind::Notice => 1,
            TextKind::Emote => 2,
        };
        to.raw(self.device)
            .raw(self.client_id)
            .be64(self.sent_at.0)
            .u8(kind)
            .str8(self.mirror.as_deref().unwrap_or_default())
            .str16(&self.body)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Short> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| Short);
        Ok(Self {
            device: DeviceId::new(from.array()?),
            client_id: ClientId::new(from.array()?),
            sent_at: Timestamp(from.be64()?),
            kind: match from.u8()? {
                0 => TextKind::Text,
                1 => TextKind::Notice,
                2 => TextKind::Emote,
                _ => return Err(Short),
            },
            mirror: Some(text(from.str8()?)?).filter(|mirror| !mirror.is_empty()),
            body: text(from.str16()?)?,
        })
    }
}

impl HistoryPage {
    /// Bytes of a page without texts.
    const EMPTY: usize = 2 + 3 * 32 + ShareId::LEN + 2 + 2 + 2;

    /// Lays texts out on pages in their order, and says how many are too long for one and left out; there
    /// may be more pages than a share has.
    pub fn lay_out(texts: Vec<PastText>) -> (Vec<Vec<PastText>>, usize) {
        let (mut pages, mut page, mut bytes, mut left_out) = (Vec::new(), Vec::new(), 0, 0);
        for text in texts {
            let len = text.len();
            if Self::EMPTY + len > MAX_PAGE {
                left_out += 1;
                continue;
            }
            if Self::EMPTY + bytes + len > MAX_PAGE {
                pages.push(std::mem::take(&mut page));
                bytes = 0;
            }
            bytes += len;
            page.push(text);
        }
        if !page.is_empty() {
            pages.push(page);
        }
        (pages, left_out)
    }

    pub(super) fn write(&self, to: Writer, route: &Route) -> Writer {
        super::write_route(to, b'H', route)
            .raw(self.share)
            .be16(self.page)
            .be16(self.pages)
            .count16(self.texts.len())
            .each(&self.texts, |to, text| text.write(to))
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, Short> {
        let share = ShareId::new(from.array()?);
        let (page, pages, count) = (from.be16()?, from.be16()?, from.be16()?);
        if page >= pages || pages > MAX_PAGES || count == 0 {
            return Err(Short);
        }
        let texts = (0..count).map(|_| PastText::read(from)).collect::<Result<_, _>>()?;
        Ok(Self { share, page, pages, texts })
    }
}
