//! Invites: the link, the request of one who holds it, and who is let in (protocol §3.4).
//!
//! The server never sees the link's secret, so it cannot let itself in: it counts uses of a public
//! key, and a device that holds the link checks everything again before it signs an `add`.

mod admission;
mod join;
mod link;
mod word;

pub use admission::{Admission, Held, NotAdmitted, NowListed};
pub use join::{InviteFacts, Join, JoinRefused, MAX_CLOCK_SKEW_MS};
pub use link::{Link, LinkRefused, LinkSecret, Terms, invite_name};
pub use word::LinkWord;
