//! The places between two steps of the spine, where a process may die and nothing be lost.
//!
//! Empty in a build without the feature `failpoints`; with it a test can have the process image
//! dropped at any of them. The list is made by the macro that makes the names, so none is left out.

/// Where to die, and how often to pass by before.
#[cfg(feature = "failpoints")]
type Trap = (Step, u32, tokio::sync::oneshot::Sender<()>);

/// The traps of one process; does nothing without the feature `failpoints`.
#[derive(Clone, Default)]
pub struct Steps {
    #[cfg(feature = "failpoints")]
    trap: std::sync::Arc<std::sync::Mutex<Option<Trap>>>,
}

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
    /// Envelopes are committed, not yet posted.
    Sealed,
    /// The server has the envelopes, we do not know it yet.
    Posted,
    /// What became of envelopes is written, not yet committed.
    RecordingEnvelopes,
    /// What became of envelopes is committed.
    RecordedEnvelopes,
}

impl Steps {
    /// Passes by a place; never returns if the process is to die there.
    #[cfg_attr(
        not(feature = "failpoints"),
        expect(
            clippy::unused_async,
            clippy::unused_async_trait_impl,
            reason = "a place to wait only in tests"
        )
    )]
    pub async fn reached(&self, step: Step) {
        #[cfg(feature = "failpoints")]
        if let Some(sprung) = self.spring(step) {
            let _ = sprung.send(());
            std::future::pending::<()>().await;
        }
        #[cfg(not(feature = "failpoints"))]
        let _ = step;
    }

    /// Sets the one trap: whoever comes to `step` after it was passed `passes` times stays there
    /// for ever, and the answer says so.
    #[cfg(feature = "failpoints")]
    pub fn set(&self, step: Step, passes: u32) -> tokio::sync::oneshot::Receiver<()> {
        let (sprung, springs) = tokio::sync::oneshot::channel();
        *self.lock() = Some((step, passes, sprung));
        springs
    }

    #[cfg(feature = "failpoints")]
    fn spring(&self, step: Step) -> Option<tokio::sync::oneshot::Sender<()>> {
        let mut trap = self.lock();
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

    #[cfg(feature = "failpoints")]
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Trap>> {
        self.trap.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
