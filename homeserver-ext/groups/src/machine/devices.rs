//! The account's devices, as the device sees to it that has the identity's key: it lets others in and
//! takes them out (protocol §1).
//!
//! What it has answered to a new device is kept for ten minutes, so that the same bytes go again.

use causeway_protocol::{
    api::{AccountDevices, SealedAnswer},
    device::{DeviceOf, DeviceRecord, verify_account},
    device_link::{DeviceLink, LINK_MS, LinkAnswer},
    ids::{AccountId, CurveKey, DeviceId, LinkId, Signature, Timestamp},
};
use causeway_store::Tx;
use serde::{Deserialize, Serialize};

use super::{
    Machine, MachineError, RecoveryKey,
    own::{sign, signed_list},
};
use crate::{
    entropy,
    schemes::link_answer::{self, TooLong},
    storage::{Whole as _, accounts, own, settings},
};

/// The name of the setting that answers are kept as.
const ANSWERED: &str = "device_answers";

/// What this device has answered to a new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAnswer {
    id: LinkId,
    device: DeviceId,
    curve25519: CurveKey,
    certificate: Signature,
    /// What is to be put, and to be there.
    pub sealed: SealedAnswer,
    /// When this device gives up.
    pub ends: Timestamp,
}

/// Why nothing was signed about the account's devices.
#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    /// Another device has it, or the recovery key brings it.
    #[error("this device does not have the account's identity key, so it lets no device in or out")]
    NoIdentity,
    /// A device takes itself out where no key is left to sign with.
    #[error("this device has the account's identity key: nobody else would be left to sign")]
    Itself,
    /// Who put the record there is not the device that the text was made by.
    #[error("the device that came is not the one whose text this is: somebody else has the text")]
    OtherRecord,
    /// The server shows something that this account's identity has not signed.
    #[error("what the server says of this account is not what its identity has signed")]
    Untrusted,
    /// Too many devices for an answer.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// The machine's rows.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

impl From<causeway_store::Error> for DevicesError {
    fn from(error: causeway_store::Error) -> Self {
        Self::Machine(error.into())
    }
}

impl From<crate::storage::Error> for DevicesError {
    fn from(error: crate::storage::Error) -> Self {
        Self::Machine(error.into())
    }
}

impl DeviceAnswer {
    /// Whether a record that came is that of the device whose text was answered.
    ///
    /// # Errors
    /// [`DevicesError::OtherRecord`].
    pub fn check(&self, me: &DeviceOf, record: &DeviceRecord) -> Result<(), DevicesError> {
        let is_theirs = record.member_id == me.member_id
            && record.device_id == self.device
            && record.curve25519 == self.curve25519
            && record.certificate == self.certificate;
        if is_theirs && record.verify().is_ok() { Ok(()) } else { Err(DevicesError::OtherRecord) }
    }
}

impl Machine {
    /// Whose a device is or was, if it was ever met here.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn account_of(
        &self,
        tx: &mut Tx,
        device: DeviceId,
    ) -> Result<Option<AccountId>, MachineError> {
        Ok(accounts::device(tx.conn(), &device).await?.map(|known| known.account))
    }

    /// The newest of what the server shows of this account and what is known here: a server that was put
    /// back, or shows an old list on purpose, brings no device back.
    ///
    /// # Errors
    /// [`DevicesError::Untrusted`].
    pub async fn newest_devices(
        &self,
        tx: &mut Tx,
        shown: AccountDevices,
    ) -> Result<AccountDevices, DevicesError> {
        let me = self.me();
        let is_mine =
            shown.list.account == me.account && shown.list.member_id == me.record.member_id;
        if !is_mine || verify_account(&shown.list, &shown.devices).is_err() {
            return Err(DevicesError::Untrusted);
        }
        if own::list_version(tx.conn()).await? <= shown.list.version {
            return Ok(shown);
        }
        // Not all records are known: then nothing is signed upon it.
        self.listed_again(tx).await?.ok_or(DevicesError::Untrusted)
    }

    /// Answers a new device's text, which a person wants in; the same bytes each time. `newest` are the
    /// account's devices.
    ///
    /// # Errors
    /// [`DevicesError`]; nothing was signed then.
    pub async fn answer_device(
        &self,
        tx: &mut Tx,
        link: &DeviceLink,
        newest: &AccountDevices,
        now: Timestamp,
    ) -> Result<DeviceAnswer, DevicesError> {
        let key = self.identity_key(tx).await?;
        let mut answers = answers(tx, now).await?;
        let id = link.secret.id();
        if let Some(known) = answers.iter().find(|known| known.id == id) {
            return Ok(known.clone());
        }
        let member_id = key.member_id();
        let device = DeviceOf { member_id, device_id: link.device };
        let bytes = DeviceRecord::certificate_bytes(&device, &link.curve25519);
        let certificate = sign(&key.signing(), &bytes);
        let account = self.me().account.clone();
        let answer = LinkAnswer { account, member_id, certificate, list: newest.list.clone() };
        let nonce = entropy::bytes().map_err(MachineError::from)?;
        let answer = DeviceAnswer {
            id,
            device: link.device,
            curve25519: link.curve25519,
            certificate,
            sealed: SealedAnswer(link_answer::seal(&link.secret, &answer, nonce)?),
            ends: now.plus_ms(LINK_MS),
        };
        answers.push(answer.clone());
        keep(tx, &answers).await?;
        Ok(answer)
    }

    /// The list after `newest`, with another device on it.
    ///
    /// # Errors
    /// [`DevicesError`].
    pub async fn list_with(
        &self,
        tx: &mut Tx,
        newest: AccountDevices,
        record: DeviceRecord,
        now: Timestamp,
    ) -> Result<AccountDevices, DevicesError> {
        let key = self.identity_key(tx).await?;
        let AccountDevices { list, mut devices } = newest;
        devices.push(record);
        self.signed_devices(&key, list.version, devices, now)
    }

    /// The list after `newest`, without this device.
    ///
    /// # Errors
    /// [`DevicesError::Itself`], and others.
    pub async fn list_without(
        &self,
        tx: &mut Tx,
        newest: AccountDevices,
        device: &DeviceId,
        now: Timestamp,
    ) -> Result<AccountDevices, DevicesError> {
        let key = self.identity_key(tx).await?;
        if *device == self.me().record.device_id {
            return Err(DevicesError::Itself);
        }
        let AccountDevices { list, mut devices } = newest;
        devices.retain(|record| record.device_id != *device);
        self.signed_devices(&key, list.version, devices, now)
    }

    /// Groups are to be told which devices the account has: before its list is put, so that a kill in
    /// between is made good.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn tells_groups(&self, tx: &mut Tx) -> Result<(), MachineError> {
        Ok(own::set_listed(tx.conn(), false).await?)
    }

    /// The server has this list of the account: it counts here too, unless a newer one does.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn listed(
        &self,
        tx: &mut Tx,
        put: &AccountDevices,
        now: Timestamp,
    ) -> Result<(), MachineError> {
        own::renew_list(tx.conn(), &put.list).await?;
        accounts::save_list(tx.conn(), &put.list, now).await?;
        for record in &put.devices {
            accounts::insert_device(tx.conn(), &self.me().account, record).await?;
        }
        Ok(())
    }

    /// Whether this device has the key of the account's identity.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn signs(&self, tx: &mut Tx) -> Result<bool, MachineError> {
        Ok(self.recovery_key(tx).await?.is_some())
    }

    async fn identity_key(&self, tx: &mut Tx) -> Result<RecoveryKey, DevicesError> {
        self.recovery_key(tx).await?.ok_or(DevicesError::NoIdentity)
    }

    fn signed_devices(
        &self,
        key: &RecoveryKey,
        version: u32,
        mut devices: Vec<DeviceRecord>,
        now: Timestamp,
    ) -> Result<AccountDevices, DevicesError> {
        devices.sort_by_key(|record| record.device_id);
        devices.dedup_by_key(|record| record.device_id);
        let ids = devices.iter().map(|record| record.device_id).collect();
        let version = version.checked_add(1).ok_or(MachineError::Own("lists"))?;
        let list = signed_list(&self.me().account, key, version, ids, now);
        Ok(AccountDevices { list, devices })
    }
}

/// Those that have not ended.
async fn answers(tx: &mut Tx, now: Timestamp) -> Result<Vec<DeviceAnswer>, MachineError> {
    let Some(text) = settings::get(tx.conn(), ANSWERED).await? else { return Ok(Vec::new()) };
    let mut answers: Vec<DeviceAnswer> = serde_json::from_str(&text).whole(ANSWERED)?;
    answers.retain(|answer| answer.ends > now);
    Ok(answers)
}

async fn keep(tx: &mut Tx, answers: &[DeviceAnswer]) -> Result<(), MachineError> {
    let text = serde_json::to_string(answers).whole(ANSWERED)?;
    Ok(settings::put(tx.conn(), ANSWERED, &text).await?)
}
