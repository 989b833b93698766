//! The account's devices, from the one that has the identity's key: letting another in by the text
//! that it shows, and taking one out.

use std::time::Duration;

use causeway_protocol::{
    api::{AccountDevices, LinkState},
    device::DeviceRecord,
    device_link::DeviceLink,
    ids::{DeviceId, LinkId},
};
use tokio::time::sleep;

use super::{CallError, Client, SdkError, backoff::insistently};
use crate::machine::{DeviceAnswer, DevicesError};

/// How often the server is asked what a device has left there.
pub(super) const POLL: Duration = Duration::from_secs(2);
/// In so many polls on end a new device that is there has offered itself again.
const PATIENCE: u32 = 10;
/// How often a list is signed anew because another took its place.
const TRIES: usize = 8;

/// Why the account's devices are as they were.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Which server the text is of, and which the account.
    #[error("the new device is at {0}, and this account is of {1}")]
    OtherServer(String, String),
    /// Somebody else has the text.
    #[error(
        "this text was answered by somebody else, too: they have it, and the new device may be theirs"
    )]
    Taken,
    /// It ended, or nobody waits there.
    #[error(
        "no new device waits with this text: it is older than ten minutes, or `device link` was ended there"
    )]
    Gone,
    /// Others kept changing the account's devices: try again.
    #[error("the account's devices kept changing; nothing was done")]
    Contended,
    /// Nothing was signed.
    #[error(transparent)]
    Devices(#[from] DevicesError),
    /// The server, the way to it, or the database.
    #[error(transparent)]
    Sdk(#[from] SdkError),
}

impl From<CallError> for DeviceError {
    fn from(error: CallError) -> Self {
        Self::Sdk(error.into())
    }
}

impl From<causeway_store::Error> for DeviceError {
    fn from(error: causeway_store::Error) -> Self {
        Self::Sdk(error.into())
    }
}

impl From<crate::machine::MachineError> for DeviceError {
    fn from(error: crate::machine::MachineError) -> Self {
        Self::Sdk(error.into())
    }
}

/// What is done to the account's list.
enum Change<'a> {
    With(&'a DeviceRecord),
    Without(&'a DeviceId),
}

impl Client {
    /// The account's devices, by the newest list that its identity has signed, as far as the server or
    /// this device know; a server that shows an older one is given that.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn own_devices(&self) -> Result<AccountDevices, DeviceError> {
        let shown: AccountDevices = self.http.account(&self.me().account).await?.into();
        let version = shown.list.version;
        let mut tx = self.db.begin().await?;
        let newest = self.machine.newest_devices(&mut tx, shown).await?;
        drop(tx);
        if newest.list.version > version {
            // Ops that name it are taken only of an account that has had it.
            insistently(async || self.http.put_devices(&newest).await).await?;
        }
        Ok(newest)
    }

    /// Whether this device lets others in and takes them out.
    ///
    /// # Errors
    /// The database's.
    pub async fn signs(&self) -> Result<bool, SdkError> {
        let mut tx = self.db.begin().await?;
        Ok(self.machine.signs(&mut tx).await?)
    }

    /// Whether the device of this text may become one of this account, whatever a person says.
    ///
    /// # Errors
    /// [`DeviceError::OtherServer`], [`DevicesError::NoIdentity`].
    pub async fn may_link(&self, link: &DeviceLink) -> Result<(), DeviceError> {
        let ours = self.me().account.server();
        if link.server != ours {
            return Err(DeviceError::OtherServer(link.server.clone(), ours.to_owned()));
        }
        if self.signs().await? { Ok(()) } else { Err(DevicesError::NoIdentity.into()) }
    }

    /// Makes the device of this text one of this account, to which a person has said yes: answers it,
    /// waits for its record, and puts the list that names it. [`Self::bring_in`] tells the groups.
    ///
    /// May be called again after any error, within ten minutes of the first time.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn link_device(&self, link: &DeviceLink) -> Result<(), DeviceError> {
        self.may_link(link).await?;
        let newest = self.own_devices().await?;
        if newest.list.devices.contains(&link.device) {
            return self.keep_list(&newest).await;
        }
        let mut tx = self.db.begin().await?;
        let answer = self.machine.answer_device(&mut tx, link, &newest, self.now()).await?;
        tx.commit().await?;
        let record = self.record_of(&link.secret.id(), &answer).await?;
        self.put_list(&Change::With(&record)).await
    }

    /// Takes a device out of the account: it is logged out. [`Self::bring_in`] takes it out of the groups.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn remove_device(&self, device: &DeviceId) -> Result<(), DeviceError> {
        self.put_list(&Change::Without(device)).await
    }

    /// Waits for the new device's record; puts the answer for as long as it is not there.
    async fn record_of(
        &self,
        id: &LinkId,
        answer: &DeviceAnswer,
    ) -> Result<DeviceRecord, DeviceError> {
        let mut missing = 0;
        while self.now() < answer.ends && missing < PATIENCE {
            match self.http.link(id).await {
                Ok(LinkState { answer: Some(there), .. }) if there != answer.sealed => {
                    return Err(DeviceError::Taken);
                }
                Ok(LinkState { answer: Some(_), record: Some(record) }) => {
                    answer.check(&self.me().device(), &record)?;
                    return Ok(record);
                }
                Ok(LinkState { answer: Some(_), record: None }) => missing = 0,
                Ok(LinkState { answer: None, .. }) => match self.answer(id, answer).await {
                    Err(DeviceError::Sdk(error)) if error.is_transient() => {}
                    ended => ended?,
                },
                // Where the server was restarted the new device offers itself again.
                Err(CallError::Refused { status: 404, .. }) => missing += 1,
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error.into()),
            }
            sleep(POLL).await;
        }
        Err(DeviceError::Gone)
    }

    async fn answer(&self, id: &LinkId, answer: &DeviceAnswer) -> Result<(), DeviceError> {
        match self.http.put_answer(id, &answer.sealed).await {
            Err(CallError::Refused { status: 404, .. }) => Ok(()),
            Err(error) if error.is_refusal("DEV_CAUSEWAY_LINK_TAKEN") => Err(DeviceError::Taken),
            ended => Ok(ended?),
        }
    }

    async fn put_list(&self, change: &Change<'_>) -> Result<(), DeviceError> {
        for _ in 0..TRIES {
            let newest = self.own_devices().await?;
            let is_done = match change {
                Change::With(record) => newest.list.devices.contains(&record.device_id),
                Change::Without(device) => !newest.list.devices.contains(device),
            };
            if is_done {
                return self.keep_list(&newest).await;
            }
            let (machine, now) = (&self.machine, self.now());
            let mut tx = self.db.begin().await?;
            let list = match *change {
                Change::With(record) => {
                    machine.list_with(&mut tx, newest, record.clone(), now).await?
                }
                Change::Without(device) => {
                    machine.list_without(&mut tx, newest, device, now).await?
                }
            };
            machine.tells_groups(&mut tx).await?;
            tx.commit().await?;
            match insistently(async || self.http.put_devices(&list).await).await {
                Ok(()) => return self.keep_list(&list).await,
                Err(error) if error.is_refusal("DEV_CAUSEWAY_OLD_VERSION") => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(DeviceError::Contended)
    }

    /// What the server has is what counts here; groups are to hear of it.
    async fn keep_list(&self, list: &AccountDevices) -> Result<(), DeviceError> {
        let mut tx = self.db.begin().await?;
        self.machine.listed(&mut tx, list, self.now()).await?;
        self.machine.tells_groups(&mut tx).await?;
        Ok(tx.commit().await?)
    }
}
