//! The whole native API on one screen (protocol §8).
//!
//! An endpoint parses, calls one service and answers; nothing is decided here. How a refusal looks
//! is said in `error`, once.

mod accounts;
pub mod admin;
mod auth;
mod body;
mod calls;
mod door;
pub(crate) mod edge;
mod error;
mod events;
mod groups;
mod guest;
mod invites;
mod kept;
mod keys;
mod links;
mod livekit;
mod openapi;
mod parked;
mod recovery;
mod relay;
mod remote;
mod sender_keys;
mod stream;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{any, delete, get, post, put},
};
use causeway_protocol::{
    api::PREFIX,
    device_link::MAX_LINK_BYTES,
    envelope::MAX_BATCH_BYTES,
    ids::{DeviceId, Timestamp},
};
use causeway_store::{Agreed, Db, WriteProbe};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    config::Config,
    gateway::livekit::LiveKit,
    live::Live,
    quota::{CallShares, Hits, Present, Shares},
    services::{calls::Abroad, delivery::acks::Acks, links::Links, servers::Servers},
    sessions::Sessions,
};

pub(crate) use guest::Guests;
pub use openapi::document;
pub(crate) use stream::Streams;

/// Most bytes of a body that is not a batch of envelopes.
const MAX_BODY_BYTES: usize = 1 << 20;

/// What the endpoints share.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) db: Db,
    pub(crate) probe: Arc<WriteProbe>,
    pub(crate) config: Arc<Config>,
    pub(crate) clock: Clock,
    /// By which what waits has lived long enough.
    pub(crate) agreed: Arc<Agreed>,
    pub(crate) shares: Arc<Shares>,
    pub(crate) calls: Arc<CallShares>,
    /// The server for bigger calls, if there is one.
    pub(crate) livekit: Option<Arc<LiveKit>>,
    /// What natives want to hear on other servers for calls.
    pub(crate) abroad: Arc<Abroad>,
    /// What of other servers' asks is being answered.
    pub(crate) beside: Arc<remote::Beside>,
    pub(crate) hits: Hits,
    pub(crate) limits: Arc<Present>,
    pub(crate) guests: Arc<Guests>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) live: Live,
    pub(crate) sessions: Sessions,
    pub(crate) acks: Arc<Acks>,
    pub(crate) links: Arc<Links>,
    pub(crate) servers: Arc<Servers>,
    /// Tracks sockets, which outlive their request.
    pub(crate) sockets: TaskTracker,
    /// Says that they should end.
    pub(crate) stopping: CancellationToken,
}

/// Tells the time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The clock that `now` reads.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

pub(crate) fn router(api: Api) -> Router {
    let envelopes = post(relay::post_envelopes).layer(DefaultBodyLimit::max(MAX_BATCH_BYTES));
    let fan_outs = post(relay::post_fan_outs).layer(DefaultBodyLimit::max(MAX_BATCH_BYTES));
    // What no offer needs is not even read.
    let small = DefaultBodyLimit::max(2 * MAX_LINK_BYTES);
    let native = Router::new()
        .route("/server", get(accounts::server))
        .route("/register", post(accounts::register))
        .route("/login/nonce", post(accounts::login_nonce))
        .route("/login", post(accounts::login))
        .route("/logout", post(accounts::logout))
        .route("/recover", post(recovery::prove))
        .route("/recover/devices", put(recovery::put_devices))
        .route("/accounts/{account}", get(accounts::account))
        .route("/account/devices", put(accounts::put_devices))
        .route("/links/{id}", get(links::state).put(links::begin))
        .route("/links/{id}/answer", put(links::answer).layer(small))
        .route("/links/{id}/record", put(links::record).layer(small))
        .route("/keys", post(keys::upload))
        .route("/keys/claim", post(keys::claim))
        .route("/groups", get(groups::mine).post(groups::create))
        .route("/groups/{group}", get(groups::head))
        .route("/groups/{group}/servers", get(groups::servers))
        .route("/groups/{group}/roster", get(groups::ops).post(groups::post_op))
        .route("/groups/{group}/invites", get(invites::page).post(invites::create))
        .route("/groups/{group}/invites/{ik_pub}", delete(invites::revoke))
        .route("/groups/{group}/join", post(invites::join))
        .route("/groups/{group}/requests", get(invites::requests))
        .route("/groups/{group}/requests/{request}", delete(invites::drop_request))
        .route("/groups/{group}/envelopes", envelopes)
        .route("/groups/{group}/fan-outs", fan_outs)
        .route("/groups/{group}/legacy/{suite}/messages", post(relay::post_legacy))
        .route(
            "/groups/{group}/sender-keys",
            get(sender_keys::inventory).put(sender_keys::report).delete(sender_keys::ask_rotation),
        )
        .merge(calls())
        .route("/messages/{id}/status", get(relay::status))
        .route("/device", get(relay::device))
        .route("/device/kept", put(kept::keep).post(kept::read_again))
        .route("/device/parked", get(parked::page))
        .route("/device/unpark", post(parked::unpark))
        .route("/stream", any(stream::stream))
        .route("/events", get(events::page))
        .route("/events/stream", get(events::follow));
    Router::new()
        .nest(PREFIX, native)
        .nest(door::PREFIX, door::router())
        .nest(livekit::PREFIX, livekit::router())
        .route("/ready", get(accounts::ready))
        .fallback(error::unrecognized)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(CatchPanicLayer::custom(error::after_panic))
        .with_state(api)
}

fn calls() -> Router<Api> {
    Router::new()
        .route("/groups/{group}/calls", get(calls::page).post(calls::start))
        .route("/groups/{group}/calls/{call}", get(calls::state))
        .route("/groups/{group}/calls/{call}/join", post(calls::join))
        .route("/groups/{group}/calls/{call}/report", post(calls::report))
        .route("/groups/{group}/calls/{call}/mesh", get(calls::mesh))
        .route("/groups/{group}/calls/{call}/sfu", post(calls::sfu))
        .route("/groups/{group}/calls/{call}/upgrade", post(calls::upgrade))
        .route("/groups/{group}/calls/{call}/set", post(calls::set))
        .route("/groups/{group}/calls/{call}/leave", post(calls::leave))
        .route("/groups/{group}/calls/{call}/decline", post(calls::decline))
        .route("/groups/{group}/calls/{call}/kick", post(calls::kick))
        .route("/groups/{group}/calls/{call}/mute", post(calls::mute))
        .route("/groups/{group}/calls/{call}/end", post(calls::end))
}

/// Which device a path or a log line means.
fn short(device: &DeviceId) -> String {
    device.to_string().chars().take(8).collect()
}
