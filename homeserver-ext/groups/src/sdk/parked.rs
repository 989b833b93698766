//! Asking for what was parked, when something came for which it may have waited.

use std::{sync::atomic::Ordering, time::Duration};

use causeway_protocol::{
    api::{ParkedPage, Unpark, Unparked},
    ids::Seq,
};

use super::{CallError, Client, SdkError};
use crate::{
    machine::{Looked, Receipts, ToUnpark},
    storage::parked,
};

/// How long, and how often, an acknowledgement is waited for that parks something.
const WAIT: Duration = Duration::from_millis(100);
const WAITS: u32 = 10;

impl Client {
    /// Takes in what is parked and may be dealt with now; says whether there was any.
    pub(super) async fn unpark(&self) -> Result<bool, SdkError> {
        if self.has_parked.swap(false, Ordering::Relaxed)
            && let Err(error) = self.hear_of_parked().await
        {
            self.has_parked.store(true, Ordering::Relaxed);
            return Err(error);
        }
        let due = parked::due_now(self.db.read().await?.conn(), self.now()).await?;
        for of in &due {
            self.unpark_all_of(of).await?;
        }
        Ok(!due.is_empty())
    }

    /// Learns of whom rows are parked: a database that was put back may not know.
    async fn hear_of_parked(&self) -> Result<(), SdkError> {
        let mut from = None;
        loop {
            let ParkedPage { parked: page, next } = self.http.parked(from).await?;
            let mut tx = self.db.begin().await?;
            for of in &page {
                let (group, sender) = (&of.group, &of.sender.device);
                parked::hear_of(tx.conn(), (group, sender), self.now()).await?;
            }
            tx.commit().await?;
            from = next;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    async fn unpark_all_of(&self, of: &ToUnpark) -> Result<(), SdkError> {
        let (group, sender) = (of.group, of.sender);
        let (mut after, mut taken) = (Seq(0), Vec::new());
        let (mut handed, mut left, mut waits) = (0, 0, 0);
        loop {
            let request = Unpark { group, sender, after, taken: std::mem::take(&mut taken) };
            let Unparked { rows, acked, last_seq } = match self.http.unpark(&request).await {
                // A server of before: nothing is parked there.
                Err(CallError::Refused { status: 404 | 405, .. }) => {
                    Unparked { rows: Vec::new(), acked: of.last, last_seq: of.last }
                }
                answer => answer?,
            };
            let mut tx = self.db.begin_growing().await?;
            let Some(last) = rows.last() else {
                let is_enough = waits >= WAITS;
                let looked = Looked { acked, given: last_seq, handed, left, is_enough };
                let is_done = self.machine.unparked(&mut tx, self.now(), of, looked).await?;
                tx.commit().await?;
                if is_done {
                    return Ok(());
                }
                waits += 1;
                // What was parked last may be on its way to the server.
                tokio::time::sleep(WAIT).await;
                continue;
            };
            after = last.seq;
            let Receipts { received, parked, .. } =
                self.machine.receive_parked(&mut tx, self.now(), &rows).await?;
            self.keep(&mut tx, received).await?;
            tx.commit().await?;
            (handed, left) = (handed + rows.len(), left + parked.len());
            taken = rows.iter().map(|row| row.seq).filter(|seq| !parked.contains(seq)).collect();
        }
    }
}
