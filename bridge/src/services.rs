//! The spine: what comes in is routed, what was decided is carried out. In, in, and out.
//!
//! Services never call each other; they meet in the rows. Each has a `step` that does one piece of
//! work and says whether there is more, and a `run` that steps until it is stopped.

pub mod agent;
pub mod calls;
pub mod chores;
pub mod delegated;
pub mod deliver;
pub mod encryption;
pub mod errands;
pub mod expired;
pub mod focus;
pub mod from_matrix;
pub mod from_native;
pub mod late;
pub mod reconcile;
pub mod restored;
pub mod rooms;
pub mod session;
pub mod standing;
pub mod tidy;

use std::{
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

use causeway_groups::{
    machine::{MachineError, SealError},
    sdk::{Client, SdkError},
};
use causeway_protocol::ids::Timestamp;
use causeway_store::{Db, Script};
use ruma::OwnedEventId;
use tokio::sync::watch;

use crate::{
    domain::{asks::Asks, ghost::Names},
    gateway::{door::Door, matrix::Matrix},
    health::Troubles,
    steps::Steps,
    storage,
    storage::sealed::Sealer,
};

/// Woken when rows of the native stream were taken in: the machine may owe others something.
const NATIVE_TOPIC: &str = "native";

/// What time it is.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The time since some moment, by a clock that only goes forth: for whatever waits.
pub type Steady = Arc<dyn Fn() -> Duration + Send + Sync>;

/// What every service works with.
#[derive(Clone)]
pub struct Spine {
    /// `bridge.db`.
    pub db: Db,
    /// Seals what waits in it.
    pub sealer: Sealer,
    /// The homeserver.
    pub matrix: Matrix,
    /// The native side, where the bridge is an ordinary device.
    pub native: Client,
    /// Who is who on our server.
    pub names: Names,
    /// What time it is.
    pub clock: Clock,
    /// How long it takes.
    pub steady: Steady,
    /// Answered refusals after which an effect is given up.
    pub delivery_limit: u32,
    /// Who serves which lane.
    pub leases: deliver::Leases,
    /// Which rooms are encrypted.
    pub encryption: encryption::Encryption,
    /// Which of our events the rooms have.
    pub markers: deliver::Markers,
    /// Whether the homeserver takes our token; while it does not, all lanes stand still.
    pub token_taken: watch::Sender<bool>,
    /// Why the native server does not know our session, while it does not; lanes into groups stand
    /// still until it is renewed.
    pub locked_out: watch::Sender<Option<String>>,
    /// Whether the portals' rooms were looked at in this process, and since the homeserver was put back:
    /// before that, a room that nobody knows may be one of them, made after the copy that this database
    /// was put back from, or theirs at the time of the homeserver's copy.
    pub rooms_known: Arc<AtomicBool>,
    /// Whether it was tried in this process to look at them: nothing goes into a room before, since a
    /// database that was put back may have the one before.
    pub rooms_looked: Arc<AtomicBool>,
    /// What was heard last and the homeserver did not have when it was asked: that was dealt with.
    pub forgotten: Arc<Mutex<Option<OwnedEventId>>>,
    /// Who has asked the bot how much lately.
    pub asks: Arc<Mutex<Asks>>,
    /// What the mailbox told of calls.
    pub calls_told: calls::Told,
    /// What rooms said of theirs.
    pub calls_said: calls::Said,
    /// How calls are in rooms.
    pub calls: calls::InRooms,
    /// The native server's door, where there is a token for it.
    pub door: Option<Door>,
    /// What does not go on, for people to see.
    pub troubles: Troubles,
    /// Where tests let the process die.
    pub steps: Steps,
}

impl Spine {
    /// Takes the rows over from the process that had them before: to be called once, before
    /// anything runs. What the homeserver sent while nobody listened may never come.
    ///
    /// # Errors
    /// [`storage::Error`]
    pub async fn take_over(&self) -> Result<(), storage::Error> {
        let mut tx = self.db.begin().await?;
        storage::lanes::void_waits(&mut tx).await?;
        storage::inbox::route_early(&mut tx).await?;
        storage::portals::heard(&mut tx).await?;
        self.leases.begin_behind(storage::outbox::newest(tx.conn()).await?);
        let mut script = Script::default();
        storage::reading::doubt(&mut script);
        tx.wake(storage::reading::TOPIC);
        tx.commit_with(script).await?;
        Ok(())
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The time by the clock that only goes forth.
    pub fn steady(&self) -> Duration {
        (self.steady)()
    }
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Something was done; there may be more.
    Did,
    /// There is nothing to do before this moment, if nobody wakes us.
    Idle(Option<Timestamp>),
}

/// Why a step could not be made; nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The rows.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The client machine's.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// Nothing can be sealed, for no fault of the message.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The native side's, where trying again is all there is.
    #[error(transparent)]
    Native(#[from] SdkError),
    /// No randomness.
    #[error("no random bytes from the operating system")]
    Entropy,
}

impl StepError {
    /// A row that holds what was never written there.
    fn row(place: &'static str) -> Self {
        Self::Storage(storage::Error::Row(place))
    }
}

impl From<causeway_groups::StorageError> for StepError {
    fn from(error: causeway_groups::StorageError) -> Self {
        Self::Native(error.into())
    }
}

impl From<causeway_store::Error> for StepError {
    fn from(error: causeway_store::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// How long to wait after a step that failed.
const AFTER_FAULT: Duration = Duration::from_secs(1);

/// Shortest time between two looks for what is to be routed, or for lanes: what comes in between is
/// dealt with together. Nobody waits for it whom nobody came just before.
const TOGETHER: Duration = Duration::from_millis(3);

/// Done after this long; never, where nothing waits.
async fn after(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// A uniform number, for jitter.
pub(crate) fn random() -> Result<u64, StepError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|_| StepError::Entropy)?;
    Ok(u64::from_be_bytes(bytes))
}
