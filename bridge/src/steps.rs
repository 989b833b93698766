//! The places between two steps of the spine, where a process may die and nothing be lost.
//!
//! A test can have the process image dropped at any of them; outside tests nobody sets a trap, and
//! a place is a look at an empty cell. The list is made by the macro that makes the names, so none
//! is left out.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::oneshot;

/// Where to die, and how often to pass by before.
type Trap = (Step, u32, oneshot::Sender<()>);

/// The traps of one process.
#[derive(Clone, Default)]
pub struct Steps(Arc<OnceLock<Mutex<Option<Trap>>>>);

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// A place between two steps of the spine.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Step {
            $($(#[$doc])* $name,)+
        }

        impl Step {
            /// All of them, in the order of the spine.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];
        }
    };
}

steps! {
    /// Events are in the inbox, not yet committed.
    Accepting,
    /// Events are committed, not yet answered.
    Accepted,
    /// Events are in the inbox and routed, in one transaction that is not yet committed.
    RoutingAtOnce,
    /// What the homeserver has is put at its place, not yet committed.
    ReadingBack,
    /// What the homeserver has is at its place.
    ReadBack,
    /// Events are routed, not yet committed.
    RoutingEvents,
    /// Routed events are committed.
    RoutedEvents,
    /// Mailbox rows are opened and routed, not yet committed.
    RoutingRows,
    /// Mailbox rows are committed, not yet acknowledged.
    RoutedRows,
    /// Mailbox rows are acknowledged.
    AcknowledgedRows,
    /// A lane is ours, nothing is tried yet.
    Claimed,
    /// The homeserver has the room, we do not know it yet.
    MadeRoom,
    /// The homeserver has the ghost, we do not know it yet.
    MadeGhost,
    /// The ghost is in the room, we do not know it yet.
    JoinedGhost,
    /// The homeserver has the event, we do not know it yet.
    SentEvent,
    /// What became of events is written, not yet committed.
    RecordingEvents,
    /// What became of events is committed.
    RecordedEvents,
    /// Keys for the recipients are there, nothing is sealed yet.
    Prepared,
    /// Envelopes are sealed, not yet committed.
    Sealing,
    /// Envelopes are sealed in the transaction that decided about them, not yet committed.
    SealingAtOnce,
    /// Envelopes are committed, not yet posted.
    Sealed,
    /// The server has the envelopes, we do not know it yet.
    Posted,
    /// What became of envelopes is written, not yet committed.
    RecordingEnvelopes,
    /// What became of envelopes is committed.
    RecordedEnvelopes,
    /// The end of rows is asked for, and comes to disk with whatever is committed next.
    Ending,
    /// A caller is noted, the homeserver knows nothing yet.
    NotedCaller,
    /// The homeserver will take the caller out by itself, and does not show it yet.
    ArmedCaller,
    /// The homeserver shows the caller.
    ShowedCaller,
    /// The homeserver shows the caller no more, we do not know it yet.
    ClearedCaller,
    /// Frames for other servers are fetched, and not sent yet.
    FetchedFrames,
    /// The homeserver has frames for other servers.
    SentFrames,
    /// Rooms of agents have events of ours.
    PostedFrames,
    /// Frames of other servers came, and are not handed in yet.
    CameFrames,
    /// The native server has them, and the homeserver keeps them still.
    HandedInFrames,
    /// The homeserver has a room of agents, the native server does not know it yet.
    MadeAgentsRoom,
    /// The agent is in a room, the native server does not know it yet.
    JoinedAgentsRoom,
    /// The native server knows the rooms of agents, nobody is invited or put out yet.
    ReportedAgentsRooms,
    /// Whoever was missing is invited, we do not know it yet.
    InvitedAgents,
}

impl Step {
    /// Those at which only calls pass by.
    pub const OF_CALLS: [Self; 4] =
        [Self::NotedCaller, Self::ArmedCaller, Self::ShowedCaller, Self::ClearedCaller];

    /// Those between servers, at which only the agent passes by.
    pub const OF_SERVERS: [Self; 9] = [
        Self::FetchedFrames,
        Self::SentFrames,
        Self::PostedFrames,
        Self::CameFrames,
        Self::HandedInFrames,
        Self::MadeAgentsRoom,
        Self::JoinedAgentsRoom,
        Self::ReportedAgentsRooms,
        Self::InvitedAgents,
    ];
}

impl Steps {
    /// Passes by a place; never returns if the process is to die there.
    pub async fn reached(&self, step: Step) {
        if let Some(sprung) = self.spring(step) {
            let _ = sprung.send(());
            std::future::pending::<()>().await;
        }
    }

    /// Sets the one trap: whoever comes to `step` after it was passed `passes` times stays there
    /// for ever, and the answer says so.
    pub fn set(&self, step: Step, passes: u32) -> oneshot::Receiver<()> {
        let (sprung, springs) = oneshot::channel();
        let trap = self.0.get_or_init(Mutex::default);
        *trap.lock().unwrap_or_else(PoisonError::into_inner) = Some((step, passes, sprung));
        springs
    }

    fn spring(&self, step: Step) -> Option<oneshot::Sender<()>> {
        let mut trap = self.0.get()?.lock().unwrap_or_else(PoisonError::into_inner);
        match trap.take() {
            Some((at, 0, sprung)) if at == step => Some(sprung),
            Some((at, passes, sprung)) if at == step => {
                *trap = Some((at, passes - 1, sprung));
                None
            }
            other => {
                *trap = other;
                None
            }
        }
    }
}
