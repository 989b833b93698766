//! Becoming somebody: registration, login, and finding oneself again.

use std::sync::{Arc, atomic::Ordering};

use causeway_protocol::{
    api::KeyCount,
    ids::{AccountId, ParseError},
};
use causeway_store::Db;

use super::{
    AccessToken, BaseUrlError, CallError, Client, Clock, Http, Keep, discover,
    elsewhere::told_apart,
    session::{self, Login},
};
use crate::{
    machine::{Machine, MachineError, RecoveryKey},
    vault::{Vault, VaultError},
};

/// Why a client could not be opened, or not be logged in again.
#[derive(Debug, thiserror::Error)]
pub enum OpenClientError {
    /// There is no device here, or it has no session: register, or log in.
    #[error("nobody is logged in here")]
    NotLoggedIn,
    /// The server, or the way to it.
    #[error(transparent)]
    Call(#[from] CallError),
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

/// Why nobody was registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Neither the arguments nor the account's server say where to register.
    #[error("it is not said on which server to register")]
    NoServer,
    /// The account's name is not one.
    #[error("`{0}` cannot be the name of an account: {1}")]
    Name(String, ParseError),
    /// This database belongs to somebody.
    #[error("this is already the home of {0}")]
    Already(AccountId),
    /// Whether this account was registered is not known: register it again, which tells.
    #[error("it is not known yet whether {0} was registered from here")]
    Unfinished(AccountId),
    /// Somebody else has this name.
    #[error("the name {0} is taken")]
    Taken(AccountId),
    /// The server, or the way to it. Register again: what was made is used again.
    #[error(transparent)]
    Call(#[from] CallError),
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

/// A new account.
pub struct Registered {
    /// Its first device.
    pub client: Client,
    /// The private identity key in a form for people; to be shown once.
    pub recovery_key: RecoveryKey,
}

impl Client {
    /// The client that is logged in with this database; at `server_url`, if one is given.
    ///
    /// # Errors
    /// [`OpenClientError::NotLoggedIn`]; others where the database or the URL are not good.
    pub async fn open(
        db: Db,
        vault: Vault,
        server_url: Option<&str>,
        keeper: Arc<dyn Keep>,
        clock: Clock,
    ) -> Result<Self, OpenClientError> {
        let machine = Machine::load(&db, vault.clone()).await?;
        let login = session::load(db.read().await?.conn(), &vault).await?;
        let (Some(machine), Some(Login { server_url: known, token: Some(token) })) =
            (machine, login)
        else {
            return Err(OpenClientError::NotLoggedIn);
        };
        let http = Http::new(server_url.unwrap_or(&known))?.with_token(token);
        Ok(Self::new(http, machine, db, vault, keeper, clock))
    }

    /// A new session for the device of this database.
    ///
    /// # Errors
    /// [`OpenClientError::NotLoggedIn`]: there is no device here. See the others.
    pub async fn login(
        db: Db,
        vault: Vault,
        server_url: Option<&str>,
        keeper: Arc<dyn Keep>,
        clock: Clock,
    ) -> Result<Self, OpenClientError> {
        let machine = Machine::load(&db, vault.clone()).await?;
        let login = session::load(db.read().await?.conn(), &vault).await?;
        let (Some(machine), Some(login)) = (machine, login) else {
            return Err(OpenClientError::NotLoggedIn);
        };
        let http = Http::new(server_url.unwrap_or(&login.server_url))?;
        let client = Self::new(http, machine, db, vault, keeper, clock);
        match client.log_in().await {
            Ok(()) => Ok(client),
            Err(LogInError::Call(error)) => Err(told_apart(&client.http, error).await.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Logs in again where the server no longer knows this session, which then goes on as it was:
    /// for clones and streams too. Does nothing where it does.
    ///
    /// # Errors
    /// [`OpenClientError::Call`]: a refusal is final, the server does not take this device.
    pub async fn renew(&self) -> Result<(), OpenClientError> {
        match self.http.groups(None).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_refusal("M_UNKNOWN_TOKEN") => Ok(self.log_in().await?),
            Err(error) => Err(error.into()),
        }
    }

    /// Registers `name` (`bob`, or `bob:b.example`) with this database's first device.
    ///
    /// May be called again after any error: the keys made the first time are used again, and if
    /// the server had registered them, though its answer was lost, they log in.
    pub async fn register(
        db: Db,
        vault: Vault,
        server_url: Option<&str>,
        name: &str,
        token: Option<String>,
        keeper: Arc<dyn Keep>,
        clock: Clock,
    ) -> Result<Registered, RegisterError> {
        let base = match (server_url, name.split_once(':')) {
            (Some(url), _) => url.to_owned(),
            (None, Some((_, server))) => discover(server).await?,
            (None, None) => return Err(RegisterError::NoServer),
        };
        let http = Http::new(&base)?;
        match Self::registered(http.clone(), db, vault, name, token, keeper, clock).await {
            Err(RegisterError::Call(error)) => Err(told_apart(&http, error).await.into()),
            ended => ended,
        }
    }

    async fn registered(
        http: Http,
        db: Db,
        vault: Vault,
        name: &str,
        token: Option<String>,
        keeper: Arc<dyn Keep>,
        clock: Clock,
    ) -> Result<Registered, RegisterError> {
        let full = if name.contains(':') {
            name.to_owned()
        } else {
            format!("{name}:{}", http.server().await?.server)
        };
        let account: AccountId =
            full.parse().map_err(|e| RegisterError::Name(name.to_owned(), e))?;
        let (machine, recovery_key) = identity(&db, &vault, http.base(), &account, clock).await?;
        let client = Self::new(http, machine, db, vault, keeper, clock);
        let client = client.sign_up(token).await?;
        Ok(Registered { client, recovery_key })
    }

    async fn sign_up(self, token: Option<String>) -> Result<Self, RegisterError> {
        let mut tx = self.db.begin().await?;
        let request = self.machine.register_request(&mut tx, token).await?;
        drop(tx);
        match self.http.register(&request).await {
            Ok(session) => {
                self.keep_token(AccessToken::new(session.access_token)).await?;
                let uploaded = u32::try_from(request.one_time_keys.len()).unwrap_or(u32::MAX);
                let mut tx = self.db.begin().await?;
                let count = KeyCount { one_time_keys: uploaded };
                self.machine.uploaded(&mut tx, self.now(), count).await?;
                tx.commit().await?;
                Ok(self)
            }
            // By these very keys, when an answer was lost; or by somebody else.
            Err(error) if error.is_refusal("M_USER_IN_USE") => {
                let account = self.me().account.clone();
                match self.log_in().await {
                    Ok(()) => Ok(self),
                    Err(LogInError::Call(CallError::Refused { .. })) => {
                        self.give_up().await?;
                        Err(RegisterError::Taken(account))
                    }
                    Err(LogInError::Call(error)) => Err(error.into()),
                    Err(LogInError::Vault(error)) => Err(error.into()),
                }
            }
            Err(error) => {
                if matches!(error, CallError::Refused { .. }) {
                    self.give_up().await?;
                }
                Err(error.into())
            }
        }
    }

    /// The server has said that these keys are nobody's: the next attempt may take another name.
    async fn give_up(&self) -> Result<(), causeway_store::Error> {
        let mut tx = self.db.begin().await?;
        session::delete(&mut tx).await?;
        tx.commit().await
    }

    /// Signs the server's nonce, and keeps the new token.
    pub(super) async fn log_in(&self) -> Result<(), LogInError> {
        match self.log_in_once().await {
            Err(LogInError::Call(error)) if error.is_refusal("M_FORBIDDEN") => {}
            ended => return ended,
        }
        // The nonce may have been too old.
        match self.log_in_once().await {
            Err(LogInError::Call(error)) if error.is_refusal("M_FORBIDDEN") => {
                if self.is_listed_again().await? {
                    self.log_in_once().await
                } else {
                    Err(error.into())
                }
            }
            ended => ended,
        }
    }

    /// Whether a server that does not know this device takes the list that names it: it was put back
    /// to before that. One that knows a newer list takes none.
    async fn is_listed_again(&self) -> Result<bool, LogInError> {
        let listing = async {
            let mut tx = self.db.begin().await?;
            let listed = self.machine.listed_again(&mut tx).await?;
            drop(tx);
            let Some(listed) = listed else { return Ok(false) };
            self.http.put_recovered(&listed).await?;
            Ok::<_, OpenClientError>(true)
        };
        match listing.await {
            // Later again: that is not what it says of the device.
            Err(OpenClientError::Call(error)) if error.is_transient() => Err(error.into()),
            ended => Ok(ended.unwrap_or_else(|error| {
                tracing::debug!(%error, "the server does not take this device's list");
                false
            })),
        }
    }

    pub(super) async fn log_in_once(&self) -> Result<(), LogInError> {
        let server = self.http.server().await?.server;
        let nonce = self.http.login_nonce().await?.nonce;
        let session = self.http.login(&self.machine.login(&server, nonce)).await?;
        self.keep_token(AccessToken::new(session.access_token)).await?;
        // It may have forgotten this device's keys with the session.
        self.compared.store(false, Ordering::Relaxed);
        Ok(())
    }

    async fn keep_token(&self, token: AccessToken) -> Result<(), VaultError> {
        self.http.set_token(token.clone());
        let login = Login { server_url: self.http.base().to_owned(), token: Some(token) };
        let mut tx = self.db.begin().await?;
        session::save(&mut tx, &self.vault, &login).await?;
        Ok(tx.commit().await?)
    }
}

/// Why there is no new session.
pub(super) enum LogInError {
    Call(CallError),
    Vault(VaultError),
}

impl From<LogInError> for OpenClientError {
    fn from(error: LogInError) -> Self {
        match error {
            LogInError::Call(error) => error.into(),
            LogInError::Vault(error) => error.into(),
        }
    }
}

impl From<CallError> for LogInError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<VaultError> for LogInError {
    fn from(error: VaultError) -> Self {
        Self::Vault(error)
    }
}

/// The keys to register with: those of an attempt whose outcome is unknown, or new ones, kept before
/// they are used.
async fn identity(
    db: &Db,
    vault: &Vault,
    server_url: &str,
    account: &AccountId,
    clock: Clock,
) -> Result<(Machine, RecoveryKey), RegisterError> {
    let machine = Machine::load(db, vault.clone()).await?;
    let login = session::load(db.read().await?.conn(), vault).await?;
    match (machine, login) {
        (Some(machine), Some(Login { token: Some(_), .. })) => {
            Err(RegisterError::Already(machine.me().account.clone()))
        }
        (Some(machine), Some(Login { token: None, .. })) => {
            if machine.me().account != *account {
                return Err(RegisterError::Unfinished(machine.me().account.clone()));
            }
            let mut tx = db.begin().await?;
            let recovery_key = machine.recovery_key(&mut tx).await?;
            // It was linked, and waits to be listed.
            let recovery_key =
                recovery_key.ok_or_else(|| RegisterError::Already(account.clone()))?;
            Ok((machine, recovery_key))
        }
        (_, None) | (None, Some(_)) => {
            let mut tx = db.begin().await?;
            let made = Machine::create(&mut tx, vault.clone(), account.clone(), clock()).await?;
            let login = Login { server_url: server_url.to_owned(), token: None };
            session::save(&mut tx, vault, &login).await?;
            tx.commit().await?;
            Ok(made)
        }
    }
}
