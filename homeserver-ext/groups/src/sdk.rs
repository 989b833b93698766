//! Transport around the machine: a device of the native API, ready to use.
//!
//! [`Client`] joins three things: the [`Machine`], which has the keys and no network; [`Http`] and
//! [`Stream`], which have the network and no keys; and the database, in which whatever moves a
//! ratchet is kept by the same commit as what it made. It starts no task: its caller drives it.
//!
//! Whatever comes to light on the way, a held message that an op lets open or a change of a roster,
//! goes to the [`Keep`] that the client was made with, inside the transaction that brought it about.
//!
//! To send: once, [`compare`](Client::compare); what is [on its way](Client::sending) already, or else [`prepare`](Client::prepare) → one
//! transaction { [`Machine::seal`], [`keep_sending`](Client::keep_sending) } → commit; then
//! [`post_kept`](Client::post_kept) → one transaction { [`settle`](Client::settle), the sender's own
//! rows }. After any transient error the kept batch goes again.
//!
//! To receive: [`Stream::next_rows`] → [`receive`](Client::receive), one transaction { [`Machine::receive`],
//! [`Keep::keep`] } → [`Stream::took`] with what it says; and [`chores`](Client::chores) now and then.

mod account;
mod backoff;
mod call;
mod calls;
mod deliver;
mod devices;
mod elsewhere;
mod events;
mod groups;
mod http;
mod identity;
mod invites;
mod kept;
mod key_rotation;
mod linking;
mod links;
mod offers;
mod parked;
mod posting;
mod recovery;
mod sending;
mod session;
mod sharing;
mod status;
mod stream;
mod sync;
mod untold;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64},
};

use causeway_protocol::{
    api::StreamRow,
    envelope::Sender,
    ids::{Epoch, Generation, GroupId, Seq, Timestamp},
    roster::Roster,
};
use causeway_store::{Db, Script, Tx};
use futures_util::future::BoxFuture;

pub use account::{OpenClientError, RegisterError, Registered};
pub use backoff::Backoff;
pub use call::CallError;
#[cfg(feature = "calls")]
pub(crate) use calls::INSISTS;
pub use calls::{Calls, News, SignalError};
pub use devices::DeviceError;
pub use events::{EventFeed, Followed};
pub use http::{AccessToken, BaseUrlError, Http, discover};
pub use kept::ReadingAgain;
pub use linking::{Linking, LinkingError};
pub use recovery::{Fill, RecoverError, Recovered};
pub use sending::{Answer, Sending};
pub use status::Reached;
pub use stream::Stream;

use crate::{
    machine::{
        AddedBy, InviteRefused, Machine, MachineError, Me, OpError, Receipts, Received, SealError,
    },
    storage,
    vault::Vault,
};

/// Where a client takes the time from.
pub type Clock = fn() -> Timestamp;

/// Why something could not be kept; the transaction is taken back.
pub type KeepError = Box<dyn std::error::Error + Send + Sync>;

/// Keeps what came in.
pub trait Keep: Send + Sync {
    /// Called inside the transaction that moved the machine: both are kept, or neither is. What nobody
    /// reads in it may be left to its [end](Tx::later). May be
    /// called for several groups at once, in the order in which things are to be shown.
    fn keep<'a>(
        &'a self,
        client: &'a Client,
        tx: &'a mut Tx,
        received: Vec<Received>,
    ) -> BoxFuture<'a, Result<(), KeepError>>;
}

/// What became of rows of the mailbox; both are in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The last of them that may be acknowledged.
    pub through: Option<Seq>,
    /// These are to be parked with that.
    pub parked: Vec<Seq>,
    /// Whose rows are parked from now on because there is no room to hold them: too much of this
    /// device's waits for a key that has not come.
    pub no_room: Option<Sender>,
}

/// One device that is logged in. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: Http,
    machine: Machine,
    db: Db,
    vault: Vault,
    keeper: Arc<dyn Keep>,
    clock: Clock,
    /// When old rows were let go of, in milliseconds.
    tidied_ms: Arc<AtomicU64>,
    /// Whether the server was asked how far it knows this device.
    compared: Arc<AtomicBool>,
    /// Under which generation the server numbers rows, where it keeps what is acknowledged.
    numbered: Arc<Mutex<Option<Generation>>>,
    /// Whether the server has said that something is parked, and was not asked what.
    has_parked: Arc<AtomicBool>,
    /// What was told of calls, and not asked for yet.
    calls: Calls,
    /// Whether the server was found to be of before there were postings in bytes.
    takes_no_bytes: Arc<AtomicBool>,
    /// Groups that cannot be told of the account's devices now.
    untold: Arc<untold::Untold>,
}

/// Why a client's work did not get on.
#[derive(Debug, thiserror::Error)]
pub enum SdkError {
    /// The server, or the way to it.
    #[error(transparent)]
    Call(#[from] CallError),
    /// This group may not be sent to now.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The machine's rows.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The database.
    #[error(transparent)]
    Store(#[from] causeway_store::Error),
    /// What came in could not be kept, so it did not come in.
    #[error("what came in cannot be kept: {0}")]
    Keep(KeepError),
    /// Others kept changing the group: try again.
    #[error("the group kept changing; nothing was done")]
    Contended,
    /// No op was signed, or no decision taken.
    #[error(transparent)]
    Op(#[from] OpError),
    /// The link is not followed.
    #[error(transparent)]
    Invite(#[from] InviteRefused),
    /// The group is not known here.
    #[error("this device is not in group {0}")]
    UnknownGroup(GroupId),
}

impl From<storage::Error> for SdkError {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::Store(error) => Self::Store(error),
            error => Self::Machine(error.into()),
        }
    }
}

impl SdkError {
    /// Whether the same may succeed later without anyone changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Call(error) => error.is_transient(),
            Self::Contended | Self::Seal(SealError::NoKey) => true,
            Self::Seal(_)
            | Self::Machine(_)
            | Self::Store(_)
            | Self::Keep(_)
            | Self::Op(_)
            | Self::Invite(_)
            | Self::UnknownGroup(_) => false,
        }
    }
}

impl Client {
    /// A client of parts that are there already: for a program that keeps its token elsewhere.
    pub fn new(
        http: Http,
        machine: Machine,
        db: Db,
        vault: Vault,
        keeper: Arc<dyn Keep>,
        clock: Clock,
    ) -> Self {
        Self {
            http,
            machine,
            db,
            vault,
            keeper,
            clock,
            tidied_ms: Arc::default(),
            compared: Arc::default(),
            numbered: Arc::default(),
            has_parked: Arc::default(),
            calls: Calls::default(),
            takes_no_bytes: Arc::default(),
            untold: Arc::default(),
        }
    }

    /// The same where no person decides about identities: see [`Machine::that_follows_its_server`].
    #[must_use]
    pub fn that_follows_its_server(mut self) -> Self {
        self.machine = self.machine.that_follows_its_server();
        self
    }

    /// The same, which these may add to groups, whatever is set in the database.
    #[must_use]
    pub fn added_by_these(mut self, added_by: AddedBy) -> Self {
        self.machine = self.machine.added_by_these(added_by);
        self
    }

    /// Who this is.
    pub fn me(&self) -> &Me {
        self.machine.me()
    }

    /// The half with keys.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The half with the network.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// Where everything is kept.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// What seals rows.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// This moment, by the client's clock.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The mailbox; it connects when it is first asked for rows.
    pub fn stream(&self) -> Stream {
        Stream::new(self.http.clone())
            .that_tells(Arc::clone(&self.has_parked))
            .that_hurries(self.calls.clone())
    }

    /// Opens rows of the mailbox and keeps what was in them, in one commit.
    ///
    /// Says up to where they may be acknowledged, to be handed to [`Stream::took`] as it is.
    pub async fn receive(&self, rows: &[StreamRow]) -> Result<Taken, SdkError> {
        let mut script = Script::default();
        Machine::look_for(&mut script, rows);
        let (mut tx, mut looked) = self.db.begin_growing_with(script).await?;
        let looked = self.machine.looked_for(&mut looked, rows)?;
        let Receipts { received, through, parked, no_room, calls } =
            self.machine.receive_looked(&mut tx, self.now(), rows, looked).await?;
        let (received, signals) = calls::apart(received);
        if !received.is_empty() {
            self.keeper.keep(self, &mut tx, received).await.map_err(SdkError::Keep)?;
        }
        self.is_at(tx.later(), through);
        tx.commit().await?;
        self.calls.put(calls, signals);
        Ok(Taken { through, parked, no_room })
    }

    /// Hands on what came in, in the transaction that brought it about.
    async fn keep(&self, tx: &mut Tx, received: Vec<Received>) -> Result<(), SdkError> {
        let (received, signals) = calls::apart(received);
        self.calls.put(Vec::new(), signals);
        if received.is_empty() {
            return Ok(());
        }
        self.keeper.keep(self, tx, received).await.map_err(SdkError::Keep)?;
        Ok(tx.write_now().await?)
    }

    /// The head rosters of all groups that are known here, former ones too.
    pub async fn rosters(&self) -> Result<Vec<Arc<Roster>>, SdkError> {
        let mut tx = self.db.begin().await?;
        Ok(self.machine.rosters(&mut tx).await?)
    }

    /// Whether what another server has too late may be sealed anew, which was sealed under `epoch`: somebody was
    /// taken out since, and nobody has come who is to read nothing of before.
    pub async fn may_seal_anew(&self, group: GroupId, epoch: Epoch) -> Result<bool, SdkError> {
        let mut tx = self.db.begin().await?;
        Ok(self.machine.may_seal_anew(&mut tx, self.now(), (group, epoch)).await?)
    }

    /// The head roster of one group.
    pub async fn roster(&self, group: GroupId) -> Result<Arc<Roster>, SdkError> {
        let mut tx = self.db.begin().await?;
        let roster = self.machine.roster(&mut tx, group).await?;
        roster.ok_or(SdkError::UnknownGroup(group))
    }
}
