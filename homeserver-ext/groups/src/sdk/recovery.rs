//! Coming back to an account whose devices are lost, by its recovery key.

use std::sync::Arc;

use causeway_protocol::{
    api::AccountDevices,
    ids::{AccountId, DeviceId, ParseError},
};
use causeway_store::{Db, Tx};
use futures_util::future::BoxFuture;

use super::{
    BaseUrlError, CallError, Client, Clock, Http, Keep, KeepError, OpenClientError, SdkError,
    account::LogInError,
    backoff::insistently,
    discover,
    session::{self, Login},
};
use crate::{
    machine::{Machine, MachineError, OldDevices, RecoveryKey},
    vault::{Vault, VaultError},
};

/// How often a list is signed anew because another took its place.
const TRIES: usize = 4;

/// Fills the database of a new device, in the transaction that makes it: both are kept, or neither is.
pub type Fill =
    Box<dyn for<'a> FnOnce(&'a Machine, &'a mut Tx) -> BoxFuture<'a, Result<(), KeepError>> + Send>;

/// Why nobody came back.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// Neither the arguments nor the account's server say where the account is.
    #[error("it is not said on which server the account is")]
    NoServer,
    /// The account's name is not one.
    #[error("`{0}` cannot be the name of an account: {1}")]
    Name(String, ParseError),
    /// This database belongs to somebody.
    #[error("this is already the home of {0}")]
    Already(AccountId),
    /// No account there has this key: at which server.
    #[error(
        "no account at {0} has this recovery key: a character of it is wrong, or the account is \
         another server's"
    )]
    NobodysKey(String),
    /// Whose key it is, and whose it was said to be.
    #[error("this is the recovery key of {0}, not of {1}")]
    AnothersKey(AccountId, AccountId),
    /// Others kept changing the account's devices: try again.
    #[error("the account's devices kept changing; nothing was done")]
    Contended,
    /// What comes after: the device is there, and the same command goes on.
    #[error(transparent)]
    Open(#[from] OpenClientError),
    /// The server, or the way to it. Again: what was made is used again.
    #[error(transparent)]
    Call(#[from] CallError),
    /// What the new device was to begin with: nothing was made.
    #[error("what was there cannot be put in here: {0}")]
    Fill(KeepError),
    /// Not a URL.
    #[error(transparent)]
    BaseUrl(#[from] BaseUrlError),
    /// The machine's rows.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The database.
    #[error(transparent)]
    Store(#[from] causeway_store::Error),
}

impl From<LogInError> for RecoverError {
    fn from(error: LogInError) -> Self {
        Self::Open(error.into())
    }
}

/// An account that has a device again.
pub struct Recovered {
    /// The new device, logged in; [`Client::bring_in`] brings it into the account's groups.
    pub client: Client,
    /// The account's other devices, which were kept or removed; none where this was known before.
    pub others: Vec<DeviceId>,
}

impl Client {
    /// Makes this database's device a device of the account that has this recovery key, which begins
    /// with what `begins` puts there.
    ///
    /// May be called again after any error: the keys made the first time are used again.
    ///
    /// # Errors
    /// [`RecoverError`].
    #[expect(clippy::too_many_arguments, reason = "as `register`, with a key and a decision")]
    pub async fn recover(
        db: Db,
        vault: Vault,
        server_url: Option<&str>,
        name: &str,
        key: &RecoveryKey,
        old: OldDevices,
        begins: Option<Fill>,
        keeper: Arc<dyn Keep>,
        clock: Clock,
    ) -> Result<Recovered, RecoverError> {
        let base = match (server_url, name.split_once(':')) {
            (Some(url), _) => url.to_owned(),
            (None, Some((_, server))) => discover(server).await?,
            (None, None) => return Err(RecoverError::NoServer),
        };
        let http = Http::new(&base)?;
        let full = if name.contains(':') {
            name.to_owned()
        } else {
            format!("{name}:{}", http.server().await?.server)
        };
        let account: AccountId =
            full.parse().map_err(|e| RecoverError::Name(name.to_owned(), e))?;
        let machine = Machine::load(&db, vault.clone()).await?;
        let login = session::load(db.read().await?.conn(), &vault).await?;
        if let Some(machine) = &machine {
            let me = machine.me();
            let is_same = me.account == account && me.record.member_id == key.member_id();
            let is_begun = is_same && machine.is_recovering(&mut db.begin().await?).await?;
            if !is_begun {
                return Err(RecoverError::Already(me.account.clone()));
            }
            if login.as_ref().is_some_and(|login| login.token.is_some()) {
                let client = Self::open(db, vault, server_url, keeper, clock).await?;
                return Ok(Recovered { client, others: Vec::new() });
            }
        }
        let newest = prove(&http, key, &account).await?;
        let machine = if let Some(machine) = machine {
            machine
        } else {
            let mut tx = db.begin().await?;
            let made = Machine::recover(&mut tx, vault.clone(), key, &newest, clock()).await?;
            let login = Login { server_url: http.base().to_owned(), token: None };
            session::save(&mut tx, &vault, &login).await?;
            if let Some(fills) = begins {
                fills(&made, &mut tx).await.map_err(RecoverError::Fill)?;
            }
            tx.commit().await?;
            made
        };
        let client = Self::new(http, machine, db, vault, keeper, clock);
        let others = client.relist(key, &account, newest, old).await?;
        client.log_in().await?;
        Ok(Recovered { client, others })
    }

    /// Puts a list that names this device, and says which others there were.
    async fn relist(
        &self,
        key: &RecoveryKey,
        account: &AccountId,
        mut newest: AccountDevices,
        old: OldDevices,
    ) -> Result<Vec<DeviceId>, RecoverError> {
        let mine = self.me().record.device_id;
        for _ in 0..TRIES {
            if newest.list.devices.contains(&mine) {
                // It was put before, and that answer was lost.
                return Ok(Vec::new());
            }
            let mut tx = self.db.begin().await?;
            let list = self.machine.relisted(&mut tx, &newest, old, self.now()).await?;
            tx.commit().await?;
            match insistently(async || self.http.put_recovered(&list).await).await {
                Ok(()) => return Ok(newest.list.devices),
                Err(error) if error.is_refusal("DEV_CAUSEWAY_OLD_VERSION") => {
                    newest = prove(&self.http, key, account).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(RecoverError::Contended)
    }

    /// Tells every group that its account is in which devices it has now, by ops that the identity
    /// signs: after one came back, was linked, or was taken out. May be called again after any error; so
    /// does [`Self::chores`], for the groups that are known here.
    ///
    /// # Errors
    /// [`SdkError::Contended`]: not into all of them.
    pub async fn bring_in(&self) -> Result<(), SdkError> {
        let mut tx = self.db.begin().await?;
        let is_recovering = self.machine.is_recovering(&mut tx).await?;
        drop(tx);
        if !is_recovering {
            return Ok(());
        }
        // Where the answer was lost, the server has a newer list than is known here.
        match self.learn(&self.me().account).await {
            Err(error) if error.is_transient() => return Err(error),
            _ => {}
        }
        self.sync().await?;
        self.chores().await?;
        let mut tx = self.db.begin().await?;
        let outside = self.untold.outside(self.now());
        if !self.machine.all_are_told(&mut tx, self.now(), &outside).await? {
            return Err(SdkError::Contended);
        }
        Ok(tx.commit().await?)
    }
}

/// What the server says of the account that has this key; it must be the one that is meant.
async fn prove(
    http: &Http,
    key: &RecoveryKey,
    account: &AccountId,
) -> Result<AccountDevices, RecoverError> {
    let server = http.server().await?.server;
    let nonce = http.login_nonce().await?.nonce;
    let newest = match http.recover(&key.proof(&server, nonce)).await {
        Ok(newest) if newest.list.member_id == key.member_id() => newest,
        Ok(_) | Err(CallError::Refused { status: 403, .. }) => {
            return Err(RecoverError::NobodysKey(http.base().to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    if newest.list.account == *account {
        Ok(newest)
    } else {
        Err(RecoverError::AnothersKey(newest.list.account, account.clone()))
    }
}
