//! The link between two servers: numbered frames over a channel that loses, repeats and reorders
//! (protocol §7.1).
//!
//! Rules only. What is to be sent stands in the caller's database; a [`Peer`] says which frame it is,
//! what is sent again, and which frame of the peer's is taken next. Time and randomness come in as
//! arguments, and nothing is held that has no bound.

mod event;
mod frame;
mod given;
mod incoming;
mod item;
mod outgoing;
mod peer;
mod room;
mod row;

pub use event::{Carried, Event, EventPlace};
pub use frame::{
    Ack, BadFrame, Content, Frame, MAX_CONTENT, MAX_ITEM, MAX_ITEMS, VERSION_REFUSED, fitting,
};
pub use given::{Gives, Had};
pub use incoming::{Fate, Place};
pub use item::{
    Answer, Ask, BadItem, Call, DeviceProgress, Head, Item, RowProgress, RowState, StreamProgress,
    Tell,
};
pub use outgoing::{WINDOW_BYTES, WINDOW_FRAMES};
pub use peer::{Peer, Received};
pub use room::{BadRoomEvent, FrameHead, MAX_ROOM_CONTENT, RoomEvent, joined};
pub use row::{BadRow, Row};
