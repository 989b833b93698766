//! Who may add this account to groups.

/// Whose adding needs no word of a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AddedBy {
    /// Those whom this account has verified, or shares a group with that it takes part in; what
    /// others add it to is offered.
    #[default]
    Known,
    /// Everybody's.
    All,
    /// Nobody's: every group is offered, unless this account has asked to be let in.
    Nobody,
}

impl AddedBy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Known, Self::All, Self::Nobody];

    /// In a word, as it is shown and written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::All => "all",
            Self::Nobody => "none",
        }
    }

    /// The one with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|added_by| added_by.name() == name)
    }
}
