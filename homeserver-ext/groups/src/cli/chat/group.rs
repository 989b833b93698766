//! A group as the list shows it.

use causeway_protocol::ids::{AccountId, GroupId};

/// A group as the list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) name: String,
    /// The beginning of its id, where another looks as if it had the same name.
    pub(crate) handle: Option<String>,
    pub(crate) standing: Standing,
    /// Messages of others that were not on the screen yet.
    pub(crate) unread: usize,
    pub(crate) members: usize,
    /// Who can read, in a word.
    pub(crate) readers: String,
    /// Who asks to be let in, and waits for a person.
    pub(crate) asks: Vec<AccountId>,
    /// Who is not who that account is known to be.
    pub(crate) changed: Option<AccountId>,
}

/// What one is in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    In,
    /// Put there by somebody; nothing goes there yet.
    Offered(Option<AccountId>),
    /// Left, or put out of it.
    Out,
    /// Nothing follows, for anybody.
    Closed,
}
