//! Taking part in a group's call: what a device asks its server, what it tells the others, and its sound.
//!
//! [`Participant`] joins three things: the requests of protocol §9, by which a device comes and goes and
//! says how it is; the signals that devices of a call tell each other over Olm; and what carries sound,
//! which is [`calls::Mesh`](crate::calls::Mesh), directly or by a server for bigger calls. It keeps nothing and reads no mailbox: whoever
//! takes part follows that beside it, or is lost to the others after 15 s.
//!
//! Sound waits for nothing of this: while the server is away, everybody goes on talking.

mod abroad;
mod asking;
mod carrying;
mod coming;
mod giving;
mod guest;
mod known;
mod moving;
mod participant;
mod saying;
mod words;

pub use guest::{guest_of, stand_in};
pub(crate) use known::is_muted_by_another;
pub use participant::Participant;
pub use words::{Command, Ending, JoinError, Told, Wish};
