//! The blind half of Causeway: accounts, groups, mailboxes, the native API.
//!
//! It relays what it cannot read: the code to decrypt is not in this crate, and a test keeps it so.
//! `docs/protocol.md` §2, §3 and §8 are what it does. Imports go one way:
//! `storage → live, sessions, gateway → calls → services → http → app`, each file of a layer on its own.

mod app;
mod calls;
mod config;
mod figures;
mod gateway;
mod http;
mod live;
mod quota;
mod services;
mod sessions;
mod storage;

pub use app::{App, AppError};
pub use config::{
    ApiSecret, Config, KeepRead, LiveKit, Mesh, NoServerPattern, OtherServers, Proxies, Proxy,
    ServerPattern, TokenHash, Turn, TurnCredentials,
};
pub use figures::{
    DELIVERY_BUCKETS, DELIVERY_SECONDS, Figures, SETUP_BUCKETS, SETUP_SECONDS, WEBHOOK_BUCKETS,
    WEBHOOK_SECONDS,
};
pub use gateway::livekit::{TrialRoom, livekit_probe, try_livekit};
pub use http::{
    Clock, admin, document as openapi,
    edge::{Asks, Edge},
};
pub use quota::{AccountQuotas, EdgeLimits, GuestQuotas, Quota};
pub use services::servers::Silent;
pub use storage::SCHEMA;
