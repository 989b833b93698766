//! Whether a message may be opened: steps 2 to 5 of the receive order, and the channel rule of
//! step 8 (protocol §4.2). Pure, so that every device that has the same rows says the same.

use super::{log::Log, member::Role, state::Roster};
use crate::{
    content::ContentType,
    device::DeviceOf,
    ids::{AccountId, Epoch, Seq},
};

/// What is known of a message before it is opened.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The sending device, its record verified, of the account below.
    pub sender: DeviceOf,
    /// The account that the envelope names.
    pub account: &'a AccountId,
    /// Epoch in which the chain was made, or of the shared key; `None` where no key with the
    /// message's tag is held.
    pub key_epoch: Option<Epoch>,
    /// Epoch in the envelope.
    pub header_epoch: Epoch,
    /// First four bytes of the roster hash, from the message.
    pub hint: [u8; 4],
    /// The message's own row in this device's mailbox.
    pub place: Seq,
}

/// What is to be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Open it; `late`: sent before a removal was seen, to be shown as such.
    Open {
        /// A device was taken out after the roster that the message names.
        late: bool,
    },
    /// Keep it and ask for the key.
    HoldChain,
    /// Keep it and sync the roster.
    HoldRoster,
    /// The sending device does not count under the roster that it names.
    NotCounting,
    /// The key is younger than the roster that the message names.
    ChainTooNew,
    /// A device was taken out since the key was made, and the sender kept the key.
    NotRotated,
    /// The sender was taken out before the message's place.
    Removed,
    /// The group was closed before the message's place.
    Closed,
}

impl Verdict {
    /// One word for logs and test vectors.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Open { late: false } => "ok",
            Self::Open { late: true } => "ok_marked",
            Self::HoldChain => "hold_chain",
            Self::HoldRoster => "hold_roster",
            Self::NotCounting => "refused_not_counting",
            Self::ChainTooNew => "refused_chain_too_new",
            Self::NotRotated => "refused_not_rotated",
            Self::Removed => "failed_removed",
            Self::Closed => "failed_closed",
        }
    }
}

impl Log {
    /// Steps 2 to 5 of the receive order, and nothing else.
    pub fn judge(&self, message: &Arrival<'_>) -> Verdict {
        let Some(key_epoch) = message.key_epoch else { return Verdict::HoldChain };
        let Some(roster) = self.by_hint(message.header_epoch, message.hint) else {
            return Verdict::HoldRoster;
        };
        let member = roster.counts(&message.sender);
        if member.is_none_or(|member| member.account != *message.account) {
            return Verdict::NotCounting;
        }
        if key_epoch > roster.epoch() {
            return Verdict::ChainTooNew;
        }
        if self.cut_in(key_epoch, roster.epoch()) {
            return Verdict::NotRotated;
        }
        let head = self.head_at(message.place).max(roster.epoch());
        if self.taken_out_in(&message.sender, roster.epoch(), head) {
            return Verdict::Removed;
        }
        if self.closed_by(head) {
            return Verdict::Closed;
        }
        Verdict::Open { late: self.cut_in(roster.epoch(), head) }
    }

    /// Epoch of the last op whose row stands before `place`.
    fn head_at(&self, place: Seq) -> Epoch {
        let before = self.entries().iter().rev().find(|e| e.place.is_some_and(|p| p < place));
        before.map_or(Epoch(0), |entry| entry.epoch)
    }

    /// Whether the op of this epoch closed the group; nothing follows `close`.
    fn closed_by(&self, epoch: Epoch) -> bool {
        self.entry(epoch).is_some_and(|entry| entry.kind == super::Kind::Close)
    }
}

/// Whether a plaintext of the type `number` from `sender` is dropped after it was opened, because under
/// `roster` only admins may post. Receipts, typing, mirrors and roster sync are for everyone.
pub fn is_dropped_in_channel(roster: &Roster, sender: &DeviceOf, number: u8) -> bool {
    let admin = roster.counts(sender).is_some_and(|member| member.role == Role::Admin);
    roster.policy().is_channel() && !admin && !is_for_everyone(number)
}

const fn is_for_everyone(number: u8) -> bool {
    match ContentType::from_number(number) {
        Some(
            ContentType::Receipt
            | ContentType::Typing
            | ContentType::Mirrors
            | ContentType::RosterSync,
        ) => true,
        Some(
            ContentType::Text
            | ContentType::Edit
            | ContentType::Reaction
            | ContentType::Redaction
            | ContentType::Media
            | ContentType::BridgeRequest
            | ContentType::Call,
        )
        | None => false,
    }
}
