//! What a scheme makes of a message, and of a key.

use std::sync::Arc;

use causeway_protocol::roster::Roster;
use zeroize::Zeroizing;

/// What came of trying to open a message.
pub(super) enum Opening {
    /// It opened, once: the keys that did it are gone, or have moved on.
    Opened {
        /// The roster that it names.
        roster: Arc<Roster>,
        /// Its plaintext.
        text: Zeroizing<Vec<u8>>,
        /// Sent before a removal was seen.
        late: bool,
    },
    /// The key that it names is not held.
    NoKey,
    /// The roster that it names is not known.
    NoRoster,
    /// The keys that would open it have been used.
    Spent,
    /// What it says was shown already.
    Known,
    /// It will never be opened, for this reason.
    Refused(&'static str),
}

/// What became of a key that another device gave.
pub(super) enum Taken {
    /// It is kept, and may open what waited for it.
    New,
    /// The same, of whoever has sent it.
    NewForAll,
    /// It was here before; nothing has changed.
    Known,
    /// Group or roster that it names are not known yet.
    NoRoster,
    /// It is not taken, for this reason.
    Refused(&'static str),
}
