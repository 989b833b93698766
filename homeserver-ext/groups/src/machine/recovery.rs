//! The way back: a new device of an account whose devices are lost, by the recovery key.
//!
//! The identity stays, so nobody is warned of anybody; the ops that name the new device are signed by
//! the identity itself, since no device of the account counts any more.

use std::collections::BTreeSet;

use causeway_protocol::{
    api::{AccountDevices, LoginRequest, OpBytes},
    device::{DeviceList, login_bytes, verify_account},
    ids::{DeviceId, GroupId, Nonce, Signature, Timestamp},
    roster::{Devices, OpCore, Roster},
};
use causeway_store::Tx;

use super::{
    Machine, MachineError, OpError, RecoveryKey,
    own::{sign, signed_list},
    work::Work,
};
use crate::{
    storage::{accounts, groups as rows, own},
    vault::Vault,
};

/// What becomes of the devices that the account has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldDevices {
    /// They read and write as before.
    Keep,
    /// They are logged out, and taken out of all groups.
    Remove,
}

impl RecoveryKey {
    /// Body of `POST recover`: the identity signs the server's nonce, as a device does to log in.
    pub fn proof(&self, server: &str, nonce: Nonce) -> LoginRequest {
        let device_id = DeviceId::new(*self.member_id().as_bytes());
        let signature = sign(&self.signing(), &login_bytes(server, &device_id, &nonce));
        LoginRequest { device_id, nonce, signature }
    }
}

impl Machine {
    /// Makes a new device of the account that has these, which are the newest, and keeps it; the
    /// server is to be told by [`Self::relisted`].
    ///
    /// # Errors
    /// [`MachineError`]; nothing was made then.
    pub async fn recover(
        tx: &mut Tx,
        vault: Vault,
        key: &RecoveryKey,
        newest: &AccountDevices,
        now: Timestamp,
    ) -> Result<Self, MachineError> {
        let account = newest.list.account.clone();
        // Until it is listed: what its list is then is said by `relisted`.
        let version = newest.list.version;
        let machine = Self::make_device(tx, vault, account, key, version, now).await?;
        own::set_listed(tx.conn(), false).await?;
        Ok(machine)
    }

    /// Body of `PUT recover/devices`: the list after the newest, with this device on it, and the
    /// others or not. It counts here as the account's own from now on.
    ///
    /// # Errors
    /// [`MachineError`]; also where this device does not have the identity's key.
    pub async fn relisted(
        &self,
        tx: &mut Tx,
        newest: &AccountDevices,
        old: OldDevices,
        now: Timestamp,
    ) -> Result<AccountDevices, MachineError> {
        verify_account(&newest.list, &newest.devices).map_err(|_| MachineError::Own("lists"))?;
        let me = self.me();
        let key = self.recovery_key(tx).await?.ok_or(MachineError::Own("keys"))?;
        let mut devices = vec![me.record.clone()];
        if old == OldDevices::Keep {
            let others = newest.devices.iter().filter(|d| d.device_id != me.record.device_id);
            devices.extend(others.cloned());
        }
        devices.sort_by_key(|record| record.device_id);
        let ids = devices.iter().map(|record| record.device_id).collect();
        let version = newest.list.version.checked_add(1).ok_or(MachineError::Own("lists"))?;
        let list = signed_list(&me.account, &key, version, ids, now);
        own::set_list(tx.conn(), &list).await?;
        accounts::save_list(tx.conn(), &list, now).await?;
        for record in &devices {
            accounts::insert_device(tx.conn(), &me.account, record).await?;
        }
        Ok(AccountDevices { list, devices })
    }

    /// This account's own newest list, as far as this device knows.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn own_list(&self, tx: &mut Tx) -> Result<DeviceList, MachineError> {
        let own = own::load(tx.conn(), self.vault()).await?;
        Ok(own.ok_or(MachineError::Own("rows"))?.list)
    }

    /// What a server is to be told that was put back to before this device was listed: the list, as the
    /// identity signed it, with its devices. None where this device is not on it, or not all are known.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn listed_again(&self, tx: &mut Tx) -> Result<Option<AccountDevices>, MachineError> {
        let list = self.own_list(tx).await?;
        let mine = &self.me().record;
        if !list.devices.contains(&mine.device_id) {
            return Ok(None);
        }
        let mut devices = Vec::new();
        for id in &list.devices {
            let record = match accounts::device(tx.conn(), id).await? {
                _ if *id == mine.device_id => mine.clone(),
                Some(known) => known.record,
                None => return Ok(None),
            };
            devices.push(record);
        }
        Ok(Some(AccountDevices { list, devices }))
    }

    /// Whether all groups have heard of the account's devices, as the newest list here names them, but for
    /// those that it is outside of: then it is noted that they have.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn all_are_told(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        outside: &BTreeSet<GroupId>,
    ) -> Result<bool, MachineError> {
        let list = self.own_list(tx).await?;
        let mut work = Work::new(self, tx, now);
        for group in rows::all(work.conn()).await? {
            let Some(log) = work.log(&group).await? else { continue };
            let is_told = outside.contains(&group);
            if !is_told && !work.is_told(&group, log.head(), &list).await? {
                return Ok(false);
            }
        }
        own::set_listed(tx.conn(), true).await?;
        Ok(true)
    }

    /// Whether there may be groups whose ops do not name the account's devices yet.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn is_recovering(&self, tx: &mut Tx) -> Result<bool, MachineError> {
        Ok(!own::is_listed(tx.conn()).await?)
    }
}

impl Work<'_> {
    /// Signs, as the identity, that these are the account's devices now, in every group that it is in
    /// and that does not say so yet.
    pub(super) async fn relist(&mut self) -> Result<Vec<(GroupId, Vec<u8>)>, MachineError> {
        if own::is_listed(self.conn()).await? {
            return Ok(Vec::new());
        }
        let (machine, now) = (self.machine, self.now);
        let Some(key) = machine.recovery_key(self.tx).await? else { return Ok(Vec::new()) };
        let list = machine.own_list(self.tx).await?;
        let mut ops = Vec::new();
        for group in rows::all(self.conn()).await? {
            let Some(log) = self.log(&group).await? else { continue };
            let head = log.head();
            if self.is_told(&group, head, &list).await? {
                continue;
            }
            let devices = Devices { version: list.version, ids: list.devices.clone() };
            match machine.sign_devices(head, &key, devices, now) {
                Ok(OpBytes(op)) => ops.push((group, op)),
                Err(error) => tracing::warn!(%group, %error, "this device is not brought in"),
            }
        }
        Ok(ops)
    }
}

impl Work<'_> {
    /// Whether a group has nothing to hear of the account's devices. One that a person has not taken
    /// part in yet hears of a new device when he does, which is how that device knows.
    async fn is_told(
        &mut self,
        group: &GroupId,
        head: &Roster,
        list: &DeviceList,
    ) -> Result<bool, MachineError> {
        let Some(member) = head.member(&list.member_id) else { return Ok(true) };
        if head.closed() || member.list_version >= list.version {
            return Ok(true);
        }
        let me = self.machine.me().device();
        let takes_out = head.devices().any(|device| {
            device.member_id == me.member_id && !list.devices.contains(&device.device_id)
        });
        Ok(!takes_out && head.counts(&me).is_some() && self.is_offered(group).await?)
    }
}

impl Machine {
    fn sign_devices(
        &self,
        head: &Roster,
        key: &RecoveryKey,
        devices: Devices,
        now: Timestamp,
    ) -> Result<OpBytes, OpError> {
        let core = OpCore::by_identity(head, self.me().record.member_id, now, devices)?;
        let signature = sign(&key.signing(), &core.signed_bytes()?);
        let op = core.sealed(Signature::new([0; 64]), signature)?;
        head.apply(&op).map_err(OpError::Invalid)?;
        Ok(OpBytes(op.as_bytes().to_vec()))
    }
}
