//! Rows that there was no room to hold: they stand apart at the server, and are asked for when
//! something comes for which they may wait. Until then nothing else waits for them; while they are
//! asked for, what their senders say goes behind them, so that each is heard in order.

use std::collections::HashSet;

use causeway_protocol::{
    api::StreamRow,
    envelope::Sender,
    ids::{DeviceId, GroupId, Timestamp},
};
use causeway_store::Tx;

use super::{
    Machine, MachineError,
    work::{Judged, Work},
};
use crate::storage::parked::{self, Due, For};

pub use crate::storage::parked::Looked;

/// What stands apart at the server and may be dealt with now.
pub type ToUnpark = Due;

impl Machine {
    /// What is to be asked for now: all rows of each, in order, to
    /// [`receive_parked`](Self::receive_parked), then [`unparked`](Self::unparked).
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn to_unpark(
        &self,
        tx: &mut Tx,
        now: Timestamp,
    ) -> Result<Vec<ToUnpark>, MachineError> {
        Ok(parked::due_now(tx.conn(), now).await?)
    }

    /// All that was parked of one was handed out. `false`: more of it is on its way to the server.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn unparked(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        of: &ToUnpark,
        looked: Looked,
    ) -> Result<bool, MachineError> {
        Ok(parked::looked_at(tx.conn(), of, looked, now).await?)
    }
}

impl Work<'_> {
    /// Whether rows of this sender are being asked for: then the next ones wait for that.
    pub(super) async fn is_behind_parked(
        &mut self,
        group: GroupId,
        sender: DeviceId,
    ) -> Result<bool, MachineError> {
        if self.is_parked {
            return Ok(false);
        }
        if self.due.is_none() {
            let due = parked::due(self.conn()).await?;
            self.due = Some(due.into_iter().map(|due| (due.group, due.sender)).collect());
        }
        Ok(self.due.as_ref().is_some_and(|due: &HashSet<_>| due.contains(&(group, sender))))
    }

    /// Whether rows of this sender stand apart, so that what he says goes behind them.
    pub(super) async fn is_any_parked(
        &mut self,
        group: &GroupId,
        sender: &DeviceId,
    ) -> Result<bool, MachineError> {
        // What was held before goes before what is parked.
        Ok(self.judged == Judged::First
            && (self.is_parked || parked::is_known(self.conn(), (group, sender)).await?))
    }

    /// Something came for which parked rows may wait.
    pub(super) async fn ask_for_parked(&mut self, of: For<'_>) -> Result<(), MachineError> {
        parked::set_due(self.conn(), of).await?;
        self.due = None;
        Ok(())
    }

    /// Leaves a row at the server, to be asked for later. A row that was asked for stays there.
    pub(super) async fn park(
        &mut self,
        row: &StreamRow,
        sender: &Sender,
    ) -> Result<(), MachineError> {
        if !self.is_parked {
            let (of, now) = ((&row.envelope.group, &sender.device), self.now);
            if parked::park(self.conn(), of, row.seq, now).await? && self.no_room.is_none() {
                self.no_room = Some(sender.clone());
            }
        }
        self.parked.push(row.seq);
        Ok(())
    }
}
