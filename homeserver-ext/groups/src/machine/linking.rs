//! A new device that is to be one of an account: what it offers, and how it becomes one
//! (protocol §1, linking).
//!
//! Until an account has answered there is no device here, but its keys and a secret, sealed, for ten
//! minutes: whoever runs the same command again shows the same text.

use causeway_protocol::{
    device::{DeviceOf, DeviceRecord},
    device_link::{AnswerRefused, DeviceLink, LINK_MS, LinkAnswer, OfferSecret},
    ids::{CurveKey, DeviceId, Timestamp, base64url},
};
use causeway_store::Tx;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use vodozemac::olm::{Account, AccountPickle};
use zeroize::{Zeroize, Zeroizing};

use super::{Machine, MachineError, own::sign};
use crate::{
    entropy,
    schemes::link_answer::{self, NotAnAnswer},
    storage::{
        Whole as _, own,
        settings::{self, DEVICE_OFFER as OFFER},
    },
    vault::{Class, Vault},
};

/// What a new device shows, and the keys that belong to it.
pub struct DeviceOffer {
    /// What is shown.
    pub link: DeviceLink,
    /// Where the offer is.
    pub server_url: String,
    /// When all of it is forgotten.
    pub ends: Timestamp,
    signing: SigningKey,
    olm: Account,
}

/// Why an answer makes nobody of this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotLinked {
    /// Somebody who does not have the text put it there.
    #[error(transparent)]
    NotAnAnswer(#[from] NotAnAnswer),
    /// It says something else than that this is the account's device.
    #[error("the answer makes this no device of its account: {0}")]
    Refused(#[from] AnswerRefused),
}

/// As it is kept, sealed.
#[derive(Serialize, Deserialize)]
struct Kept {
    server: String,
    server_url: String,
    began: Timestamp,
    #[serde(with = "base64url")]
    secret: Vec<u8>,
    #[serde(with = "base64url")]
    signing: Vec<u8>,
    olm: AccountPickle,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.secret.zeroize();
        self.signing.zeroize();
    }
}

impl DeviceOffer {
    /// Makes keys and secret of a new device that is to be one of an account of `server`, in place of
    /// any that were made before, and keeps them sealed.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn make(
        tx: &mut Tx,
        vault: &Vault,
        (server, server_url): (String, String),
        now: Timestamp,
    ) -> Result<Self, MachineError> {
        let (signing, olm, secret) = (entropy::secret()?, Account::new(), entropy::secret()?);
        let kept = Kept {
            server,
            server_url,
            began: now,
            secret: secret.to_vec(),
            signing: signing.to_vec(),
            olm: olm.pickle(),
        };
        let bytes = Zeroizing::new(serde_json::to_vec(&kept).whole(OFFER)?);
        let sealed = vault.seal(Class::Signing, "settings", "value", OFFER.as_bytes(), &bytes)?;
        settings::put(tx.conn(), OFFER, &causeway_protocol::ids::text_of(&sealed)).await?;
        Self::of(kept)
    }

    /// The offer that was made here, also one that has ended; `None` where there is none.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn load(tx: &mut Tx, vault: &Vault) -> Result<Option<Self>, MachineError> {
        let Some(text) = settings::get(tx.conn(), OFFER).await? else { return Ok(None) };
        let sealed = causeway_protocol::ids::bytes_of(&text).whole(OFFER)?;
        let bytes = vault.unseal(Class::Signing, "settings", "value", OFFER.as_bytes(), &sealed)?;
        Self::of(serde_json::from_slice(&bytes).whole(OFFER)?).map(Some)
    }

    /// Forgets it: it has ended, nobody wanted it, or it was taken.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn forget(tx: &mut Tx) -> Result<(), MachineError> {
        Ok(settings::delete(tx.conn(), OFFER).await?)
    }

    fn of(mut kept: Kept) -> Result<Self, MachineError> {
        let broken = || MachineError::Own("keys");
        let seed = kept.signing.as_slice().try_into().map(Zeroizing::new).map_err(|_| broken())?;
        let secret = kept.secret.as_slice().try_into().map(Zeroizing::new).map_err(|_| broken())?;
        let signing = SigningKey::from_bytes(&seed);
        let pickle = std::mem::replace(&mut kept.olm, Account::new().pickle());
        let olm = Account::from(pickle);
        let link = DeviceLink {
            server: kept.server.clone(),
            device: DeviceId::new(signing.verifying_key().to_bytes()),
            curve25519: CurveKey::new(olm.curve25519_key().to_bytes()),
            secret: OfferSecret::new(secret),
        };
        let (server_url, ends) = (kept.server_url.clone(), kept.began.plus_ms(LINK_MS));
        Ok(Self { link, server_url, ends, signing, olm })
    }

    /// Opens what was answered, and checks that it makes this a device of its account.
    ///
    /// # Errors
    /// [`NotLinked`]: whoever put it there is not who was given the text, or means another device.
    pub fn open(&self, sealed: &[u8]) -> Result<LinkAnswer, NotLinked> {
        let answer = link_answer::open(&self.link.secret, sealed)?;
        answer.check(&self.link)?;
        Ok(answer)
    }

    /// Makes this the device that the answer says: its record is signed, and its first one-time keys
    /// are made. The account's list does not name it yet.
    ///
    /// # Errors
    /// [`MachineError`]; nothing was made then.
    pub async fn become_device(
        mut self,
        tx: &mut Tx,
        vault: Vault,
        answer: LinkAnswer,
        now: Timestamp,
    ) -> Result<Machine, MachineError> {
        let LinkAnswer { account, member_id, certificate, list } = answer;
        let device = DeviceOf { member_id, device_id: self.link.device };
        let curve25519 = self.link.curve25519;
        let record = DeviceRecord {
            member_id,
            device_id: device.device_id,
            curve25519,
            signature: sign(&self.signing, &DeviceRecord::record_bytes(&device, &curve25519)),
            certificate,
        };
        let row = own::Own {
            account,
            record,
            list,
            identity: None,
            device: Zeroizing::new(self.signing.as_bytes().to_vec()),
        };
        Machine::keep_device(tx, vault, row, self.signing.clone(), &mut self.olm, now).await
    }
}

impl Machine {
    /// Forgets a device that no account has listed.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn forget_device(tx: &mut Tx) -> Result<(), MachineError> {
        Ok(own::delete(tx.conn()).await?)
    }
}
