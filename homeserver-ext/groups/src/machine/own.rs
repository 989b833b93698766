//! How a device comes to be, and what it says of itself.

use causeway_protocol::{
    api::{LoginRequest, RegisterRequest},
    device::{DeviceList, DeviceOf, DeviceRecord, login_bytes},
    ids::{AccountId, CurveKey, DeviceId, Nonce, Signature, Timestamp},
};
use causeway_store::{Conn, Db, Tx};
use ed25519_dalek::{Signer as _, SigningKey};
use vodozemac::olm::Account;
use zeroize::Zeroizing;

use super::{
    Machine, MachineError, Me,
    keys::{KEYS_IN_A_COMMIT, ONE_TIME_KEYS},
    recovery_key::RecoveryKey,
    schemes,
};
use crate::{
    entropy,
    storage::{accounts, identities, olm as sessions, own, settings},
    vault::Vault,
};

/// A database that begins anew counts on from so far beyond what is known: how often one began anew
/// since a copy was taken is told by how far the copy is behind. More than anybody commits in a week.
const APART: u64 = 1 << 24;
/// The most commits that anybody is believed to know of: a thousand in a second for 34 years. Who
/// says more must leave no count that ends.
pub const MOST_COMMITS: u64 = 1 << 40;

pub(super) fn sign(key: &SigningKey, bytes: &[u8]) -> Signature {
    Signature::new(key.sign(bytes).to_bytes())
}

/// A list of these devices, which are sorted, signed by the identity.
pub(super) fn signed_list(
    account: &AccountId,
    key: &RecoveryKey,
    version: u32,
    devices: Vec<DeviceId>,
    now: Timestamp,
) -> DeviceList {
    let mut list = DeviceList {
        account: account.clone(),
        member_id: key.member_id(),
        version,
        created_ms: now,
        devices,
        signature: Signature::new([0; 64]),
    };
    list.signature = sign(&key.signing(), &list.signed_bytes());
    list
}

/// The count beside a database that is older than it, or 0 if it has none: the database was put back
/// from a copy, or copied. `None` where all is well, or nothing was begun.
///
/// # Errors
/// [`MachineError`].
pub async fn put_back(db: &Db) -> Result<Option<u64>, MachineError> {
    put_back_in(db, db.read().await?.conn()).await
}

async fn put_back_in(db: &Db, conn: &mut Conn) -> Result<Option<u64>, MachineError> {
    // First: what another process commits meanwhile is in the database before it is in the file.
    let beside = db.beside()?;
    if !own::is_there(conn).await? {
        return Ok(None);
    }
    let Some(beside) = beside else { return Ok(Some(0)) };
    let here = own::commits(conn).await?;
    Ok(beside.is_ahead_of(here).then_some(beside.committed))
}

/// Somebody else knows of `known` commits of this database, more than it had: notes that beside it,
/// so that [`put_back`] says so, in this process and the next, until [`Machine::load`] began new keys.
///
/// # Errors
/// [`MachineError`]: it is not noted.
pub async fn is_behind(db: &Db, known: u64) -> Result<(), MachineError> {
    let mut tx = db.begin().await?;
    let here = own::commits(tx.conn()).await?;
    tx.counted(known.max(here).saturating_add(KEYS_IN_A_COMMIT));
    Ok(tx.commit().await?)
}

impl Machine {
    /// Makes an identity, its first device and its first one-time keys, and keeps them sealed.
    /// One that is there already must have been refused by the server: it is replaced.
    ///
    /// # Errors
    /// [`MachineError`]; nothing was made then.
    pub async fn create(
        tx: &mut Tx,
        vault: Vault,
        account: AccountId,
        now: Timestamp,
    ) -> Result<(Self, RecoveryKey), MachineError> {
        let key = RecoveryKey::new(entropy::secret()?);
        Ok((Self::make_device(tx, vault, account, &key, 1, now).await?, key))
    }

    /// Makes a device of the identity that `key` is the key of, alone on a list of this version.
    pub(super) async fn make_device(
        tx: &mut Tx,
        vault: Vault,
        account: AccountId,
        key: &RecoveryKey,
        version: u32,
        now: Timestamp,
    ) -> Result<Self, MachineError> {
        let identity = key.signing();
        let signing = SigningKey::from_bytes(&*entropy::secret()?);
        let mut olm = Account::new();
        let curve25519 = CurveKey::new(olm.curve25519_key().to_bytes());
        let device = DeviceOf {
            member_id: key.member_id(),
            device_id: DeviceId::new(signing.verifying_key().to_bytes()),
        };
        let record = DeviceRecord {
            member_id: device.member_id,
            device_id: device.device_id,
            curve25519,
            signature: sign(&signing, &DeviceRecord::record_bytes(&device, &curve25519)),
            certificate: sign(&identity, &DeviceRecord::certificate_bytes(&device, &curve25519)),
        };
        let list = signed_list(&account, key, version, vec![device.device_id], now);
        // What this folder was to become it is not.
        settings::delete(tx.conn(), settings::DEVICE_OFFER).await?;
        let row = own::Own {
            account,
            record,
            list,
            identity: Some(Zeroizing::new(key.as_bytes().to_vec())),
            device: Zeroizing::new(signing.as_bytes().to_vec()),
        };
        Self::keep_device(tx, vault, row, signing, &mut olm, now).await
    }

    /// Keeps a device that was made, and makes its first one-time keys.
    pub(super) async fn keep_device(
        tx: &mut Tx,
        vault: Vault,
        row: own::Own,
        signing: SigningKey,
        olm: &mut Account,
        now: Timestamp,
    ) -> Result<Self, MachineError> {
        own::delete(tx.conn()).await?;
        own::insert(tx.conn(), &vault, &row, olm).await?;
        identities::set_revision(tx.conn(), entropy::bytes()?).await?;
        own::count(tx).await?;
        let own::Own { account, record, list, .. } = row;
        accounts::insert_device(tx.conn(), &account, &record).await?;
        accounts::save_list(tx.conn(), &list, now).await?;
        let machine = Self::new(vault, Me { account, record }, signing);
        machine.make_keys(tx.conn(), olm, now, ONE_TIME_KEYS, true).await?;
        Ok(machine)
    }

    /// The machine of this database; `None` before [`Self::create`].
    ///
    /// A database that was put back or copied loses its own chains here, and its Olm sessions seal
    /// nothing more: the next message of each group begins a new chain, given in new sessions.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn load(db: &Db, vault: Vault) -> Result<Option<Self>, MachineError> {
        let Some(own) = own::load(db.read().await?.conn(), &vault).await? else { return Ok(None) };
        let device: &[u8; 32] =
            own.device.as_slice().try_into().map_err(|_| MachineError::Own("keys"))?;
        let signing = SigningKey::from_bytes(device);
        if signing.verifying_key().as_bytes() != own.record.device_id.as_bytes() {
            return Err(MachineError::Own("keys"));
        }
        let machine = Self::new(vault, Me { account: own.account, record: own.record }, signing);
        if put_back(db).await?.is_some() {
            tracing::warn!(
                "own ratchets may have gone on without this database (put back or copied): new \
                 ones begin"
            );
            let mut tx = db.begin().await?;
            // Another process may have been quicker.
            let known = put_back_in(db, tx.conn()).await?;
            if let Some(known) = known {
                machine.begin_anew(&mut tx, known).await?;
                tx.commit().await?;
            }
        }
        Ok(Some(machine))
    }

    /// Begins anew if somebody knows of more than this database does: `known`, by the same count, of
    /// which no more is believed than can be.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn catch_up(&self, tx: &mut Tx, known: u64) -> Result<(), MachineError> {
        let known = known.min(MOST_COMMITS);
        if known > own::commits(tx.conn()).await? {
            tracing::warn!(
                "the server has more of this device than is known here: the folder was put back; new keys begin"
            );
            self.begin_anew(tx, known).await?;
        }
        Ok(())
    }

    /// How many commits this database has counted.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn count(&self, db: &Db) -> Result<u64, MachineError> {
        match db.counted() {
            Some(count) => Ok(count),
            None => Ok(own::commits(db.read().await?.conn()).await?),
        }
    }

    /// Drops own chains, seals nothing more in the sessions that there are, makes new one-time keys in
    /// place of all, and counts on from `known`: what they may have sealed beyond what this database
    /// knows counted up to that.
    async fn begin_anew(&self, tx: &mut Tx, known: u64) -> Result<(), MachineError> {
        let here = own::commits(tx.conn()).await?;
        let before = known.saturating_sub(here) / APART;
        schemes::drop_all_own(tx.conn(), before.saturating_add(1)).await?;
        sessions::retire_all(tx.conn()).await?;
        accounts::forget_answers(tx.conn()).await?;
        own::count_from(tx, known.max(here).saturating_add(APART)).await?;
        self.replace_keys(tx).await
    }

    /// Body of `POST register`; re-runnable until the server said yes.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn register_request(
        &self,
        tx: &mut Tx,
        token: Option<String>,
    ) -> Result<RegisterRequest, MachineError> {
        let own = own::load(tx.conn(), self.vault()).await?;
        let list = own.ok_or(MachineError::Own("rows"))?.list;
        let keys = own::unpublished(tx.conn()).await?;
        let (mut fallback, one_time_keys): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|key| key.fallback);
        let fallback_key = fallback.pop().ok_or(MachineError::Own("keys"))?;
        Ok(RegisterRequest {
            token,
            list,
            device: self.me().record.clone(),
            one_time_keys,
            fallback_key,
        })
    }

    /// The account's private identity key, where this is its first device, or one that was made
    /// with that key.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn recovery_key(&self, tx: &mut Tx) -> Result<Option<RecoveryKey>, MachineError> {
        let own = own::load(tx.conn(), self.vault()).await?;
        let Some(key) = own.and_then(|own| own.identity) else { return Ok(None) };
        let key = key.as_slice().try_into().map_err(|_| MachineError::Own("keys"))?;
        Ok(Some(RecoveryKey::new(Zeroizing::new(key))))
    }

    /// Body of `POST login`: signs the server's nonce.
    pub fn login(&self, server: &str, nonce: Nonce) -> LoginRequest {
        let device_id = self.me().record.device_id;
        let signature = self.sign(&login_bytes(server, &device_id, &nonce));
        LoginRequest { device_id, nonce, signature }
    }

    /// Signs bytes that this program made; never any that another party chose.
    pub(super) fn sign(&self, bytes: &[u8]) -> Signature {
        sign(&self.0.signing, bytes)
    }
}
