//! Bytes as what a network, a thief or a neighbour does to messages on their way: at the receiver of
//! each scheme. Whatever they do, a text is shown once or not at all, it is the one that was sealed, and
//! what is refused has changed nothing.
//!
//! Fuzzing and the tests of the crate play the same.

mod legacy;
mod moves;
mod pairwise;
mod sender_keys;
mod shared_key;
mod stored;

pub(crate) use legacy::legacy;
pub(crate) use pairwise::pairwise;
pub(crate) use sender_keys::sender_keys;
pub(crate) use shared_key::shared_key;
pub(crate) use stored::stored;
