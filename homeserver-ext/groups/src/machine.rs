//! The client without a network: rows of the mailbox in, envelopes and ops to post out.
//!
//! Everything that moves a ratchet happens inside the caller's transaction, and is on disk with
//! whatever else the caller put there; nothing is kept between transactions that another process
//! could have changed. What may be believed is judged by `causeway_protocol`; this file and its
//! children only carry those judgements out.
//!
//! ```text
//! prepare: needs → claimed, learn     seal → Batch → commit → POST → accepted
//! rows → receive → commit → ack       chores → commit → POST → accepted, install_ops, uploaded
//! ```

mod added_by;
mod batch;
mod chores;
mod devices;
mod direct;
mod forgotten;
mod forks;
mod groups;
mod identity;
mod inventory;
mod invites;
mod joins;
mod key_rotation;
mod keys;
mod known;
mod link_words;
mod linking;
mod needs;
mod offers;
mod opening;
mod own;
mod parked;
mod reach;
mod receive;
mod received;
mod recovery;
mod recovery_key;
mod roster;
mod schemes;
mod seal;
mod seen;
mod shared;
mod shares;
mod signals;
mod trust;
mod work;

use causeway_store::Conn;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use causeway_protocol::{
    device::{DeviceOf, DeviceRecord},
    envelope::Sender,
    ids::{AccountId, GroupId},
    roster::Log,
};
use ed25519_dalek::SigningKey;

pub use added_by::AddedBy;
pub use batch::{Age, Batch, Chores, Envelopes, Needs, Outgoing, SealError};
pub use devices::{DeviceAnswer, DevicesError};
pub use forks::ForkView;
pub use groups::{NewGroup, OpError};
pub use identity::Pin;
pub use invites::InviteView;
pub use joins::{InviteRefused, JoinView};
pub use key_rotation::{DEFAULT_KEY_ROTATION_S, KEY_ROTATION_S};
pub use linking::{DeviceOffer, NotLinked};
pub use offers::OfferView;
pub use own::{MOST_COMMITS, is_behind, put_back};
pub use parked::{Looked, ToUnpark};
pub use received::{
    Fork, ForkedOp, IdentityShown, Incoming, OfferShown, Past, PolicyChange, Receipts, Received,
    RosterChange, Signalled, What,
};
pub use recovery::OldDevices;
pub use recovery_key::{NotARecoveryKey, RecoveryKey};
pub use seal::ToSeal;
pub use shares::{ShareError, Sharing};
pub use signals::Signalling;
pub use trust::Trust;
pub use work::ToReceive;

pub use crate::storage::fan_outs::{Lacking, SentIn};

use crate::{
    entropy::NoEntropy,
    storage::{self, groups as rows, ops},
    vault::{Vault, VaultError},
};

/// Groups whose logs are kept in memory.
const MAX_LOGS: usize = 256;

/// The machine itself failed; content never makes it fail.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The database's, or a damaged row.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The vault's.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// The count beside the database cannot be written.
    #[error("the count beside the database: {0}")]
    Generation(#[from] std::io::Error),
    /// What this device keeps of itself is damaged.
    #[error("this device's own {0} are damaged")]
    Own(&'static str),
}

impl From<causeway_store::Error> for MachineError {
    fn from(error: causeway_store::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// Who this device is.
#[derive(Debug, Clone)]
pub struct Me {
    /// Its account.
    pub account: AccountId,
    /// Its record, which names identity, device and Olm key.
    pub record: DeviceRecord,
}

impl Me {
    /// Identity and device.
    pub const fn device(&self) -> DeviceOf {
        self.record.device()
    }

    /// As whom it sends.
    pub fn sender(&self) -> Sender {
        Sender { account: self.account.clone(), device: self.record.device_id }
    }
}

/// One device's half with keys. Cloning shares it.
#[derive(Clone)]
pub struct Machine(Arc<Inner>);

struct Inner {
    vault: Vault,
    me: Me,
    signing: SigningKey,
    /// Histories by the revision of their group's row, which no two states share.
    logs: Mutex<Logs>,
    /// Who is who, as it was read last.
    identities: Mutex<known::Cache>,
    /// Nobody is there to decide: the server's word about an account is taken.
    follows_server: bool,
    /// Who may add this account, whatever is set in the database.
    added_by: Option<AddedBy>,
}

/// By group: the revision, and the history that it names.
type Logs = HashMap<GroupId, ([u8; 8], Arc<Log>)>;

impl Machine {
    /// Who this device is.
    pub fn me(&self) -> &Me {
        &self.0.me
    }

    fn new(vault: Vault, me: Me, signing: SigningKey) -> Self {
        Self(Arc::new(Inner {
            vault,
            me,
            signing,
            logs: Mutex::default(),
            identities: Mutex::default(),
            follows_server: false,
            added_by: None,
        }))
    }

    /// The same device where no person decides, a bridge's: an account's identity is what its server
    /// says now, and one that the server does not confirm is given nothing and stops nothing.
    /// Nor does it wait for a person to take part in a group.
    #[must_use]
    pub fn that_follows_its_server(&self) -> Self {
        self.with(true, Some(AddedBy::All))
    }

    /// The same device, which these may add to groups, whatever is set in the database.
    #[must_use]
    pub fn added_by_these(&self, added_by: AddedBy) -> Self {
        self.with(self.0.follows_server, Some(added_by))
    }

    fn with(&self, follows_server: bool, added_by: Option<AddedBy>) -> Self {
        let inner = &*self.0;
        Self(Arc::new(Inner {
            vault: inner.vault.clone(),
            me: inner.me.clone(),
            signing: inner.signing.clone(),
            logs: Mutex::default(),
            identities: Mutex::default(),
            follows_server,
            added_by,
        }))
    }

    fn signing(&self) -> &SigningKey {
        &self.0.signing
    }

    fn vault(&self) -> &Vault {
        &self.0.vault
    }

    /// A group's history, if any of it is known, and its row.
    async fn log(
        &self,
        conn: &mut Conn,
        group: &GroupId,
    ) -> Result<Option<(rows::Group, Option<Arc<Log>>)>, MachineError> {
        let Some(row) = rows::group(conn, group).await? else { return Ok(None) };
        let log = self.log_of(conn, group, &row).await?;
        Ok(Some((row, log)))
    }

    /// As [`Self::log`], where the row is known.
    async fn log_of(
        &self,
        conn: &mut Conn,
        group: &GroupId,
        row: &rows::Group,
    ) -> Result<Option<Arc<Log>>, MachineError> {
        if row.head.is_none() {
            return Ok(None);
        }
        let cached = self.logs().get(group).cloned();
        if let Some((_, log)) = cached.filter(|(revision, _)| *revision == row.revision) {
            return Ok(Some(log));
        }
        let log = ops::log(conn, group).await?.map(Arc::new);
        if let Some(log) = &log {
            self.remember(*group, row.revision, log);
        }
        Ok(log)
    }

    fn remember(&self, group: GroupId, revision: [u8; 8], log: &Arc<Log>) {
        let mut logs = self.logs();
        if logs.len() >= MAX_LOGS {
            logs.clear();
        }
        logs.insert(group, (revision, Arc::clone(log)));
    }

    fn logs(&self) -> MutexGuard<'_, Logs> {
        // A cache of values that are whole whenever the lock is free.
        self.0.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
