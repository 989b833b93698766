//! One-time keys and the fallback key: made, topped up, rotated, and handed to the server.
//!
//! The fallback key is given to everybody for whom no one-time key is left, so what it opens is worth
//! more than what one message does: it is replaced weekly, and when it was used, at most daily.

use causeway_protocol::{
    api::{KeyCount, UploadKeys},
    device::OneTimeKey,
    ids::{CurveKey, KeyId, Signature, Timestamp},
};
use causeway_store::{Conn, Tx};
use vodozemac::olm::Account;

use super::{Machine, MachineError};
use crate::storage::{accounts, fallback, own};

/// One-time keys that are to be at the server.
pub(super) const ONE_TIME_KEYS: u32 = 50;
/// More than are made before the next commit that counts.
pub(super) const KEYS_IN_A_COMMIT: u64 = 1 << 20;
const HOUR_MS: u64 = 3_600_000;
/// For how long a fallback key that nobody has used is given out.
const FALLBACK_MS: u64 = 7 * 24 * HOUR_MS;
/// For how long the one before it is kept: who was given it has said something by then.
const FORMER_MS: u64 = 24 * HOUR_MS;

impl Machine {
    /// Makes a whole set of keys, with numbers that were never given: of those that lie at the
    /// server, the ones made since the copy cannot be opened here.
    pub(super) async fn replace_keys(&self, tx: &mut Tx) -> Result<(), MachineError> {
        let counted = own::commits(tx.conn()).await?;
        own::published(tx.conn(), None).await?;
        own::skip_key_ids(tx.conn(), counted.saturating_mul(KEYS_IN_A_COMMIT)).await?;
        let mut olm = own::olm(tx.conn(), self.vault()).await?;
        fallback::set_replaces(tx.conn(), true).await?;
        // Without a clock: the fallback key counts as old, and is replaced once its day is over.
        self.make_keys(tx.conn(), &mut olm, Timestamp(0), ONE_TIME_KEYS, true).await
    }

    /// Makes a whole set of keys where this is not the fallback key that the server was given last: it
    /// was put back, so it has no keys of this device, or those that were spent since.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn compare_keys(
        &self,
        tx: &mut Tx,
        at_server: Option<&CurveKey>,
    ) -> Result<(), MachineError> {
        if !fallback::is_other(tx.conn(), at_server).await? {
            return Ok(());
        }
        // One that is to be uploaded, or was and the answer got lost.
        let waiting = waiting(tx.conn()).await?;
        if waiting.is_some_and(|waiting| waiting.fallback_key.is_some()) {
            return Ok(());
        }
        tracing::warn!("the server does not have this device's newest keys: new ones are made");
        self.replace_keys(tx).await?;
        // A copy of before has lost what belongs to these.
        Ok(own::count(tx).await?)
    }

    /// The whole set of keys that is to take the place of all that are at the server, where one was
    /// made and the server has not said that it has it.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn replacement(&self, tx: &mut Tx) -> Result<Option<UploadKeys>, MachineError> {
        let upload = waiting(tx.conn()).await?;
        Ok(upload.filter(|upload| upload.replace))
    }

    /// The server has every key that [`Self::register_request`] or [`super::Chores::keys`] named.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn uploaded(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        count: KeyCount,
    ) -> Result<(), MachineError> {
        let has_fallback = own::unpublished(tx.conn()).await?.iter().any(|key| key.fallback);
        if has_fallback {
            fallback::published(tx.conn(), now.plus_ms(FORMER_MS)).await?;
        }
        fallback::set_replaces(tx.conn(), false).await?;
        let mut olm = own::olm(tx.conn(), self.vault()).await?;
        olm.mark_keys_as_published();
        own::save_olm(tx.conn(), self.vault(), &olm).await?;
        own::published(tx.conn(), Some(count.one_time_keys)).await?;
        accounts::answered(tx.conn(), accounts::Ask::Count, &[], now).await?;
        Ok(())
    }

    /// Makes `count` one-time keys, and a fallback key if asked, and keeps them for upload.
    pub(super) async fn make_keys(
        &self,
        conn: &mut Conn,
        olm: &mut Account,
        now: Timestamp,
        count: u32,
        with_fallback: bool,
    ) -> Result<(), MachineError> {
        let made = olm.generate_one_time_keys(usize::try_from(count).unwrap_or(0)).created;
        let fallback_key = if with_fallback {
            olm.generate_fallback_key();
            olm.fallback_key().into_values().next()
        } else {
            None
        };
        let keys = made.iter().map(|key| (*key, false)).chain(fallback_key.map(|key| (key, true)));
        let keys: Vec<_> = keys.collect();
        let first = own::take_key_ids(conn, u64::try_from(keys.len()).unwrap_or(0)).await?;
        for (number, (key, is_fallback)) in (first..).zip(keys) {
            let mut key = OneTimeKey {
                key_id: KeyId::new(number.to_be_bytes()),
                fallback: is_fallback,
                curve25519: CurveKey::new(key.to_bytes()),
                signature: Signature::new([0; 64]),
            };
            key.signature = self.sign(&key.signed_bytes(&self.me().record.device_id));
            own::insert_key(conn, &key).await?;
            if is_fallback {
                fallback::made(conn, &key.curve25519, now).await?;
            }
        }
        own::save_olm(conn, self.vault(), olm).await?;
        Ok(())
    }

    /// Keys to upload: tops up if the server has few, makes a new fallback key if it is time, or
    /// asks how many there are.
    pub(super) async fn refill(
        &self,
        tx: &mut Tx,
        now: Timestamp,
    ) -> Result<Option<UploadKeys>, MachineError> {
        let upload = waiting(tx.conn()).await?;
        if upload.is_some() {
            return Ok(upload);
        }
        let left = own::keys_left(tx.conn()).await?;
        let left = left.filter(|left| *left < ONE_TIME_KEYS / 2);
        let missing = left.map_or(0, |left| ONE_TIME_KEYS - left);
        let is_due = fallback::is_due(tx.conn(), now.minus_ms(FALLBACK_MS)).await?;
        if missing > 0 || is_due {
            let mut olm = own::olm(tx.conn(), self.vault()).await?;
            self.make_keys(tx.conn(), &mut olm, now, missing, is_due).await?;
            // A copy of before has lost what belongs to these.
            own::count(tx).await?;
            return waiting(tx.conn()).await;
        }
        let counted =
            accounts::was_asked(tx.conn(), accounts::Ask::Count, &[], now.minus_ms(HOUR_MS))
                .await?;
        let ask = UploadKeys { one_time_keys: Vec::new(), fallback_key: None, replace: false };
        Ok((!counted).then_some(ask))
    }

    /// Lets go of the fallback key of before, when its day is over.
    pub(super) async fn forget_former_fallback(
        &self,
        tx: &mut Tx,
        now: Timestamp,
    ) -> Result<(), MachineError> {
        if fallback::former_ends(tx.conn(), now).await? {
            let mut olm = own::olm(tx.conn(), self.vault()).await?;
            if olm.forget_fallback_key() {
                own::save_olm(tx.conn(), self.vault(), &olm).await?;
            }
        }
        Ok(())
    }
}

/// What waits to be uploaded; `None` if nothing does.
async fn waiting(conn: &mut Conn) -> Result<Option<UploadKeys>, MachineError> {
    let keys = own::unpublished(conn).await?;
    if keys.is_empty() {
        return Ok(None);
    }
    let (mut fallback_keys, one_time_keys): (Vec<_>, Vec<_>) =
        keys.into_iter().partition(|key| key.fallback);
    let replace = fallback::replaces(conn).await?;
    Ok(Some(UploadKeys { one_time_keys, replace, fallback_key: fallback_keys.pop() }))
}
