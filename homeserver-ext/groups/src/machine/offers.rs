//! Being added is an offer: a group that a stranger has put this account into gets nothing of it, and
//! nothing that comes from there is opened, until a person takes it.

use causeway_protocol::{
    api::StreamRow,
    device::DeviceOf,
    envelope::{Kind as EnvelopeKind, Piece},
    ids::{AccountId, GroupId, Seq, Timestamp},
    roster::{Kind, Op, Role, Roster},
};
use causeway_store::Tx;
use zeroize::Zeroize as _;

use super::{
    AddedBy, Machine, MachineError, OfferShown, OpError, Received, Trust, What,
    work::{Again, Work},
};
use crate::storage::{
    accounts::KnownDevice,
    groups::{self as rows, Offer},
    joins, offers, own, parked, settings,
};

/// The name of the setting.
const ADDED_BY: &str = "added_by";

/// A group that this account is in, and takes no part in yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferView {
    /// Who has added it.
    pub by: Option<AccountId>,
    /// How many rows wait there, unopened.
    pub waiting: u64,
}

impl Machine {
    /// Who may add this account to groups.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn added_by(&self, tx: &mut Tx) -> Result<AddedBy, MachineError> {
        if let Some(added_by) = self.0.added_by {
            return Ok(added_by);
        }
        let set = settings::get(tx.conn(), ADDED_BY).await?;
        Ok(set.and_then(|set| AddedBy::from_name(&set)).unwrap_or_default())
    }

    /// From now on these may.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn set_added_by(&self, tx: &mut Tx, added_by: AddedBy) -> Result<(), MachineError> {
        Ok(settings::put(tx.conn(), ADDED_BY, added_by.name()).await?)
    }

    /// The offer that a group is; `None` where this account takes part in it, or is not in it.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn offer(
        &self,
        tx: &mut Tx,
        group: GroupId,
    ) -> Result<Option<OfferView>, MachineError> {
        let row = rows::group(tx.conn(), &group).await?;
        let Some(row) = row.filter(|row| row.offer == Some(Offer::Offered)) else {
            return Ok(None);
        };
        let waiting = offers::count(tx.conn(), &group).await?;
        Ok(Some(OfferView { by: row.offered_by, waiting: u64::try_from(waiting).unwrap_or(0) }))
    }

    /// Takes part in a group that was offered: what came there is opened now, in its order.
    ///
    /// # Errors
    /// [`OpError::UnknownGroup`].
    pub async fn take_offer(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        group: GroupId,
    ) -> Result<Vec<Received>, OpError> {
        let mut work = Work::new(self, tx, now);
        let log = work.log(&group).await?.ok_or(OpError::UnknownGroup(group))?;
        if work.is_offered(&group).await? {
            work.take_part(&group, log.head()).await?;
            work.judge_again().await?;
        }
        Ok(work.finish().await?)
    }

    /// Notes that this account asks to be let into a group: being let in is no offer then.
    pub(super) async fn asks_for(&self, tx: &mut Tx, group: &GroupId) -> Result<(), MachineError> {
        rows::hear_of(tx.conn(), group, crate::entropy::bytes()?).await?;
        Ok(rows::set_offer(tx.conn(), group, Some(Offer::Asked), None).await?)
    }
}

impl Work<'_> {
    /// Whether a group is offered, and not taken.
    pub(super) async fn is_offered(&mut self, group: &GroupId) -> Result<bool, MachineError> {
        let row = self.group(group).await?;
        Ok(row.is_some_and(|(row, _)| row.offer == Some(Offer::Offered)))
    }

    /// Whether what a group's ops say concerns this account: they are no stranger's.
    pub(super) async fn takes_part(&mut self, group: &GroupId) -> Result<bool, MachineError> {
        let row = self.group(group).await?;
        let is = row.is_some_and(|(row, _)| matches!(row.offer, Some(Offer::Asked | Offer::Taken)));
        Ok(is || self.machine.added_by(self.tx).await? == AddedBy::All)
    }

    /// Decides how this account came into, or out of, a group by an op; says whether the group is an
    /// offer now.
    pub(super) async fn weigh(
        &mut self,
        op: &Op,
        (was_in, after): (bool, &Roster),
        seq: Seq,
    ) -> Result<bool, MachineError> {
        let (group, me) = (op.group(), self.machine.me().record.member_id);
        let is_in = after.member(&me).is_some();
        let known = self.group(&group).await?.and_then(|(row, _)| row.offer);
        let is_linked = self.machine.recovery_key(self.tx).await?.is_none();
        let counts = after.counts(&self.machine.me().device()).is_some();
        if is_linked && counts && op.kind() == Kind::Devices && op.signer().member_id == me {
            // The account's other device brings this one in where it takes part.
            if known == Some(Offer::Offered) {
                self.take_part(&group, after).await?;
            }
            return Ok(false);
        }
        if was_in == is_in {
            return Ok(is_in && known == Some(Offer::Offered));
        }
        if !is_in {
            offers::drop_of(self.conn(), &group).await?;
            let left = op.kind() == Kind::Leave || known == Some(Offer::Offered);
            // Whoever was put out and is taken back did not go.
            if left {
                parked::drop_of(self.conn(), &group).await?;
                self.set_offer(&group, None, None).await?;
            }
            return Ok(known == Some(Offer::Offered));
        }
        let signer = op.signer();
        let by = after.member(&signer.member_id).map(|member| member.account.clone());
        let is_mine = signer.member_id == me
            || matches!(known, Some(Offer::Asked | Offer::Taken))
            || match self.machine.added_by(self.tx).await? {
                AddedBy::All => true,
                AddedBy::Known => self.knows(&signer, by.as_ref(), &group).await?,
                AddedBy::Nobody => false,
            };
        if is_mine {
            self.set_offer(&group, Some(Offer::Taken), None).await?;
            return Ok(false);
        }
        self.set_offer(&group, Some(Offer::Offered), by.as_ref()).await?;
        if is_linked && !counts {
            // It was said to the devices of then.
            return Ok(true);
        }
        let trust = match &by {
            Some(by) => self.trust(by, &signer.member_id).await?,
            None => Trust::Unmet,
        };
        if let Some(by) = by.as_ref().filter(|_| trust == Trust::Unmet) {
            self.ask_account(by).await?;
        }
        let members = after.members().len();
        self.say(seq, group, What::Offered(OfferShown { by, trust, members }));
        Ok(true)
    }

    /// Whether somebody is known: verified, or in another group that this account takes part in.
    async fn knows(
        &mut self,
        signer: &DeviceOf,
        account: Option<&AccountId>,
        but: &GroupId,
    ) -> Result<bool, MachineError> {
        let Some(account) = account else { return Ok(false) };
        let trust = self.trust(account, &signer.member_id).await?;
        if trust.is_wrong() {
            return Ok(false);
        }
        if trust == Trust::Verified {
            return Ok(true);
        }
        let me = self.machine.me().device();
        for group in rows::taken(self.conn()).await? {
            if group == *but {
                continue;
            }
            let Some(log) = self.log(&group).await? else { continue };
            let head = log.head();
            let them = head.member(&signer.member_id);
            let is_there = them.is_some_and(|m| m.account == *account && m.role != Role::Bridge);
            if is_there && head.counts(&me).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn set_offer(
        &mut self,
        group: &GroupId,
        offer: Option<Offer>,
        by: Option<&AccountId>,
    ) -> Result<(), MachineError> {
        rows::set_offer(self.conn(), group, offer, by).await?;
        self.reload(group);
        Ok(())
    }

    async fn take_part(&mut self, group: &GroupId, head: &Roster) -> Result<(), MachineError> {
        let vault = self.vault();
        self.set_offer(group, Some(Offer::Taken), None).await?;
        let list = own::list_version(self.conn()).await?;
        let me = head.member(&self.machine.me().record.member_id);
        if me.is_some_and(|me| me.list_version < list)
            && self.machine.recovery_key(self.tx).await?.is_some()
        {
            // Of the account's devices it has not heard yet.
            own::set_listed(self.conn(), false).await?;
        }
        self.ask_for_strangers(None, head).await?;
        self.say_who_is_not(Seq(0), None, head).await?;
        if head.may_add(&self.machine.me().record.member_id) {
            rows::set_fetch_requests(self.conn(), group, true).await?;
            joins::may_add_now(self.conn(), group).await?;
        }
        let waited = offers::take(self.conn(), vault, group).await?;
        self.again.extend(waited.into_iter().map(Again::from));
        Ok(())
    }

    /// Opens the pieces of a device that came before `seq` in groups which are offered, and nothing else
    /// of them: what follows in the same session leaves few keys for what it passes over, and nobody
    /// gives them again after a day.
    pub(super) async fn open_what_waits(
        &mut self,
        device: &KnownDevice,
        seq: Seq,
    ) -> Result<(), MachineError> {
        if self.unopened.is_none() {
            self.unopened = Some(offers::with_unopened(self.conn()).await?);
        }
        let (vault, peer) = (self.vault(), device.record.device_id);
        if !self.unopened.as_ref().is_some_and(|unopened| unopened.contains(&peer)) {
            return Ok(());
        }
        for mut row in offers::unopened(self.conn(), vault, &peer, seq).await? {
            let Some(Piece(piece)) = &mut row.envelope.piece else { continue };
            let bytes = self.open_in_session(device, piece).await?;
            if let Ok(bytes) = &bytes {
                *piece = bytes.to_vec();
            }
            offers::looked_at(self.conn(), vault, &row, bytes.is_ok()).await?;
            row.envelope.piece.iter_mut().for_each(|piece| piece.0.zeroize());
            self.unopened = None;
        }
        Ok(())
    }

    /// Keeps a row of a group that is offered, unopened; whether it was one. What is over the bound
    /// is let go of: nothing waits for it.
    pub(super) async fn keep_unopened(&mut self, row: &StreamRow) -> Result<bool, MachineError> {
        let envelope = &row.envelope;
        let is_said = match envelope.kind {
            EnvelopeKind::Message
            | EnvelopeKind::Fanout
            | EnvelopeKind::KeyDistribution
            | EnvelopeKind::KeyRequest
            | EnvelopeKind::KeyAck
            | EnvelopeKind::Direct => true,
            // Asked for again when the group is taken.
            EnvelopeKind::Join => false,
            EnvelopeKind::Roster
            | EnvelopeKind::Expired
            | EnvelopeKind::Call
            | EnvelopeKind::CallChanged => return Ok(false),
        };
        if !self.is_offered(&envelope.group).await? {
            return Ok(false);
        }
        let (vault, now) = (self.vault(), self.now);
        self.unopened = None;
        if is_said && !offers::keep(self.conn(), vault, row, now).await? {
            tracing::debug!(group = %envelope.group, "more than is kept of a group that is offered");
        }
        self.say(row.seq, envelope.group, What::Keys);
        Ok(true)
    }
}
