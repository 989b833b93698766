//! A new device that becomes one of an account, by the text that it shows to the first one.
//!
//! ```text
//! begin ─▶ text shown ─▶ answer ─▶ a person's yes ─▶ accept: record left, listed, logged in
//! ```
//! Each step may be begun again, in another process too, for ten minutes from the first; and a server
//! that was restarted in between is given again what it has forgotten.

use std::sync::Arc;

use causeway_protocol::{
    api::{AccountDevices, LinkState},
    device::verify_account,
    device_link::{DeviceLink, LinkAnswer},
    ids::{AccountId, Timestamp},
};
use causeway_store::Db;
use tokio::time::sleep;

use super::{
    BaseUrlError, CallError, Client, Clock, Http, Keep, OpenClientError,
    account::LogInError,
    devices::POLL,
    elsewhere::told_apart,
    session::{self, Login},
};
use crate::{
    machine::{DeviceOffer, Machine, MachineError, NotLinked},
    vault::{Vault, VaultError},
};

/// In every so many polls the device tries to log in.
const LOG_IN_EVERY: u32 = 2;

/// Why a device became nobody's.
#[derive(Debug, thiserror::Error)]
pub enum LinkingError {
    /// This database belongs to somebody.
    #[error("this is already the home of {0}")]
    Already(AccountId),
    /// A registration is not finished here.
    #[error("it is not known yet whether {0} was registered from here")]
    Unfinished(AccountId),
    /// Nobody answered, or nobody listed the device, in time.
    #[error("no device of an account has let this one in within ten minutes")]
    Ended,
    /// Who has put another record there has the text.
    #[error("another device has taken this place: somebody else has the text")]
    Taken,
    /// The answer is not one, or not for this device.
    #[error(transparent)]
    NotLinked(#[from] NotLinked),
    /// It does not name this device, or is older than what the answer held.
    #[error("the server shows a device list that does not name this device, or an old one")]
    OldList,
    /// What comes after: the device is there, and the same command goes on.
    #[error(transparent)]
    Open(#[from] OpenClientError),
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

/// A device that is on its way to be one of an account.
pub struct Linking {
    http: Http,
    db: Db,
    vault: Vault,
    offer: DeviceOffer,
    /// Once a person has said yes.
    machine: Option<Machine>,
    has_token: bool,
    keeper: Arc<dyn Keep>,
    clock: Clock,
}

impl Linking {
    /// Offers the device of this database, which is nobody's yet, at a server; goes on with what was
    /// begun here less than ten minutes ago.
    ///
    /// # Errors
    /// [`LinkingError`].
    pub async fn begin(
        db: Db,
        vault: Vault,
        server_url: &str,
        keeper: Arc<dyn Keep>,
        clock: Clock,
    ) -> Result<Self, LinkingError> {
        let http = Http::new(server_url)?;
        let machine = Machine::load(&db, vault.clone()).await?;
        let login = session::load(db.read().await?.conn(), &vault).await?;
        let has_token = login.is_some_and(|login| login.token.is_some());
        let mut tx = db.begin().await?;
        let offer = DeviceOffer::load(&mut tx, &vault).await?;
        drop(tx);
        let (offer, machine) = match (offer, machine) {
            (None, Some(machine)) if has_token => {
                return Err(LinkingError::Already(machine.me().account.clone()));
            }
            (None, Some(machine)) => {
                return Err(LinkingError::Unfinished(machine.me().account.clone()));
            }
            // Whatever the time is: it may have been listed at the end.
            (Some(offer), Some(machine)) => (offer, Some(machine)),
            (Some(offer), None) if offer.ends > clock() && offer.server_url == http.base() => {
                (offer, None)
            }
            (Some(_) | None, None) => {
                let server = match http.server().await {
                    Ok(info) => info.server,
                    Err(error) => return Err(told_apart(&http, error).await.into()),
                };
                let mut tx = db.begin().await?;
                let at = (server, http.base().to_owned());
                let offer = DeviceOffer::make(&mut tx, &vault, at, clock()).await?;
                tx.commit().await?;
                (offer, None)
            }
        };
        if machine.is_none() {
            http.put_offer(&offer.link.secret.id()).await?;
        }
        Ok(Self { http, db, vault, offer, machine, has_token, keeper, clock })
    }

    /// What is to be shown.
    pub const fn link(&self) -> &DeviceLink {
        &self.offer.link
    }

    /// When it is over.
    pub const fn ends(&self) -> Timestamp {
        self.offer.ends
    }

    /// The account that a person has said yes to before: nothing is to be shown, only
    /// [finished](Self::finish).
    pub fn account(&self) -> Option<&AccountId> {
        self.machine.as_ref().map(|machine| &machine.me().account)
    }

    /// Waits for an answer that makes this a device of its account.
    ///
    /// # Errors
    /// [`LinkingError::NotLinked`], [`LinkingError::Ended`]: another text is to be made. Others: again.
    pub async fn answer(&self) -> Result<LinkAnswer, LinkingError> {
        let id = self.offer.link.secret.id();
        loop {
            match self.http.link(&id).await {
                Ok(LinkState { answer: Some(answer), .. }) => match self.offer.open(&answer.0) {
                    Ok(answer) => return Ok(answer),
                    Err(error) => {
                        self.give_up().await?;
                        return Err(error.into());
                    }
                },
                Ok(_) => {}
                Err(error) => self.offer_again(error).await?,
            }
            if (self.clock)() >= self.offer.ends {
                self.give_up().await?;
                return Err(LinkingError::Ended);
            }
            sleep(POLL).await;
        }
    }

    /// Becomes the device that the answer says, to which a person has said yes.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub async fn accept(mut self, answer: LinkAnswer) -> Result<Client, LinkingError> {
        let mut tx = self.db.begin().await?;
        // Another process may have been quicker, or given up.
        let offer = DeviceOffer::load(&mut tx, &self.vault).await?;
        let offer = offer.filter(|offer| offer.link == self.offer.link);
        let offer = offer.ok_or(LinkingError::Taken)?;
        let vault = self.vault.clone();
        let machine = offer.become_device(&mut tx, vault, answer, (self.clock)()).await?;
        let login = Login { server_url: self.http.base().to_owned(), token: None };
        session::save(&mut tx, &self.vault, &login).await?;
        tx.commit().await?;
        self.machine = Some(machine);
        self.finish().await
    }

    /// Leaves this device's record, waits until the account's list names it, and logs in.
    ///
    /// # Errors
    /// [`LinkingError::Ended`], [`LinkingError::Taken`]: this is nobody's device again. Others: again.
    pub async fn finish(self) -> Result<Client, LinkingError> {
        let machine = self.machine.clone().ok_or(LinkingError::Ended)?;
        let (http, db, vault) = (self.http.clone(), self.db.clone(), self.vault.clone());
        let client = Client::new(http, machine, db, vault, Arc::clone(&self.keeper), self.clock);
        if !self.has_token {
            self.be_listed(&client).await?;
        }
        let shown: AccountDevices = self.http.account(&client.me().account).await?.into();
        let me = client.me().device();
        let mut tx = self.db.begin().await?;
        let known = client.machine.own_list(&mut tx).await?;
        let is_listed = verify_account(&shown.list, &shown.devices).is_ok()
            && shown.list.account == known.account
            && shown.list.member_id == me.member_id
            && shown.list.version > known.version
            && shown.devices.contains(&client.me().record);
        if !is_listed {
            return Err(LinkingError::OldList);
        }
        client.machine.listed(&mut tx, &shown, client.now()).await?;
        DeviceOffer::forget(&mut tx).await?;
        tx.commit().await?;
        Ok(client)
    }

    /// Forgets the keys: nobody wants this device.
    ///
    /// # Errors
    /// The database's.
    pub async fn give_up(&self) -> Result<(), LinkingError> {
        let mut tx = self.db.begin().await?;
        DeviceOffer::forget(&mut tx).await?;
        if self.machine.is_some() {
            session::delete(&mut tx).await?;
            Machine::forget_device(&mut tx).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn be_listed(&self, client: &Client) -> Result<(), LinkingError> {
        for round in 0_u32.. {
            match self.leave_record(client).await {
                Err(LinkingError::Call(error)) => self.offer_again(error).await?,
                Err(error) => {
                    self.give_up().await?;
                    return Err(error);
                }
                Ok(()) => {}
            }
            let is_over = (self.clock)() >= self.offer.ends;
            if is_over || round % LOG_IN_EVERY == 0 {
                match client.log_in_once().await {
                    Ok(()) => return Ok(()),
                    // Not listed yet.
                    Err(LogInError::Call(error)) if error.is_refusal("M_FORBIDDEN") => {}
                    Err(LogInError::Call(error)) if error.is_transient() && !is_over => {}
                    Err(error) => return Err(LinkingError::Open(error.into())),
                }
            }
            if is_over {
                break;
            }
            sleep(POLL).await;
        }
        self.give_up().await?;
        Err(LinkingError::Ended)
    }

    async fn leave_record(&self, client: &Client) -> Result<(), LinkingError> {
        let (id, mine) = (self.offer.link.secret.id(), &client.me().record);
        match self.http.link(&id).await?.record {
            Some(record) if record == *mine => Ok(()),
            Some(_) => Err(LinkingError::Taken),
            None => match self.http.put_record(&id, mine).await {
                Err(error) if error.is_refusal("DEV_CAUSEWAY_LINK_TAKEN") => {
                    Err(LinkingError::Taken)
                }
                ended => Ok(ended?),
            },
        }
    }

    /// Offers the device again where the server was restarted, and passes over what may pass by itself.
    async fn offer_again(&self, error: CallError) -> Result<(), LinkingError> {
        if matches!(error, CallError::Refused { status: 404, .. })
            && (self.clock)() < self.offer.ends
        {
            match self.http.put_offer(&self.offer.link.secret.id()).await {
                Err(error) if error.is_transient() => Ok(()),
                ended => Ok(ended?),
            }
        } else if error.is_transient() || matches!(error, CallError::Refused { status: 404, .. }) {
            Ok(())
        } else {
            Err(error.into())
        }
    }
}
