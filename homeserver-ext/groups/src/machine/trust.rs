//! Whether name and key of a member belong together.

/// Who a member of a roster is, as far as is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// This account itself.
    Me,
    /// Not met yet: the account's list is asked for before anything goes there.
    Unmet,
    /// The identity that its account is pinned to.
    Pinned,
    /// The same, and a person has compared safety numbers.
    Verified,
    /// Another identity than the one that its account is pinned to.
    Changed,
    /// The identity of another account.
    Borrowed,
    /// An identity that a person has decided not to be its account's.
    Former,
}

impl Trust {
    /// Whether something may be given to it.
    pub const fn is_trusted(self) -> bool {
        matches!(self, Self::Me | Self::Pinned | Self::Verified)
    }

    /// Whether name and key do not belong together, whatever a person has decided.
    pub const fn is_wrong(self) -> bool {
        matches!(self, Self::Changed | Self::Borrowed | Self::Former)
    }

    /// Whether a person must decide before anything is sent there.
    pub const fn is_undecided(self) -> bool {
        matches!(self, Self::Changed | Self::Borrowed)
    }

    /// In a word, as it is shown and written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Me => "you",
            Self::Unmet => "unmet",
            Self::Pinned => "pinned",
            Self::Verified => "verified",
            Self::Changed => "changed",
            Self::Borrowed => "borrowed",
            Self::Former => "former",
        }
    }
}
