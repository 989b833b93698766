//! What the server asks of others over the network, apart from other servers of its kind.

pub(crate) mod livekit;
