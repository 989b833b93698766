//! A batch's life: kept by the commit that moved the ratchet, posted as it is until the server
//! answers, and gone with the commit that writes the answer down.
//!
//! ```text
//! queue ──seal──▶ kept ──POST──▶ taken: its rows are done
//!   ▲              │  ▲──────────── no answer: the same bytes again
//!   └──────────────┘ 409: the group has moved on; or given up
//! ```
//! A group has at most one, so that messages keep their order whoever posts them, and as often as
//! need be, because the server takes each id once. Whose queue the rows are in is their sender's own
//! affair; one database has one sender.

use causeway_protocol::{api::OpBytes, ids::GroupId};
use causeway_store::{Conn, Rows, Script, Tx};

use super::{CallError, Client, SdkError};
use crate::{
    machine::{Age, Batch, Machine, ToSeal},
    storage::{Error, batches},
};

/// A batch whose end is not known.
#[derive(Debug)]
pub struct Sending {
    /// Another process may have ended it, and begun the next.
    id: i64,
    /// What is posted.
    pub batch: Batch,
    /// Rows of the sender's queue, one for each of the batch's messages, in their order.
    pub rows: Vec<i64>,
}

/// What the server said to a batch.
#[derive(Debug)]
pub enum Answer {
    /// It has it.
    Taken,
    /// The group has moved on, by these ops or without any.
    Behind(Vec<OpBytes>),
}

impl Client {
    /// The batch of a group whose end is not known: it goes before anything else is sealed.
    pub async fn sending(&self, conn: &mut Conn, group: GroupId) -> Result<Option<Sending>, Error> {
        let stored = batches::get(conn, &self.vault, &group).await?;
        Ok(stored.map(|batches::Stored { id, batch, rows }| Sending { id, batch, rows }))
    }

    /// Asks for what [`sending`](Self::sending) tells and for what is sealed by, to be read by
    /// [`looked`](Self::looked).
    pub fn look(&self, script: &mut Script, group: GroupId) {
        batches::select(script, &group);
        Machine::look(script, &group);
    }

    /// Reads what [`look`](Self::look) asked for.
    pub fn looked(
        &self,
        rows: &mut Rows,
        group: GroupId,
    ) -> Result<(Option<Sending>, ToSeal), SdkError> {
        let stored = batches::read(&self.vault, &group, rows.take().first())?;
        let sending = stored.map(|batches::Stored { id, batch, rows }| Sending { id, batch, rows });
        Ok((sending, self.machine.looked(rows, group)?))
    }

    /// Keeps a batch that carries these rows, in the transaction that sealed it. Its group must have
    /// none.
    pub async fn keep_sending(
        &self,
        tx: &mut Tx,
        batch: Batch,
        rows: Vec<i64>,
    ) -> Result<Sending, Error> {
        let mut script = Script::default();
        self.keep_sending_last(&mut script, &batch, &rows)?;
        Sending::kept(batch, rows, &script.run(tx.conn()).await?)
    }

    /// The same, once the script is run, whose rows are for [`Sending::kept`].
    pub fn keep_sending_last(
        &self,
        script: &mut Script,
        batch: &Batch,
        rows: &[i64],
    ) -> Result<(), Error> {
        batches::insert(script, &self.vault, &batch.group, batch, rows)
    }

    /// Posts a batch; it stays kept. One that nobody could open for much longer is to be sealed anew.
    ///
    /// # Errors
    /// [`CallError::Refused`]: it will never be taken, see [`Sending::give_up`]. All others: later
    /// again, with the same bytes.
    pub async fn post_kept(&self, sending: &Sending) -> Result<Answer, SdkError> {
        let is_outdated = match self.machine.age(&self.db, self.now(), &sending.batch).await? {
            Age::Current => false,
            Age::Over => self.may_lack_a_key().await?,
            Age::Outdated => true,
        };
        if is_outdated {
            return Ok(Answer::Behind(Vec::new()));
        }
        match self.post(&sending.batch).await {
            Ok(_) => Ok(Answer::Taken),
            Err(SdkError::Call(CallError::Stale { ops, .. })) => Ok(Answer::Behind(ops)),
            Err(error) => Err(error),
        }
    }

    /// Writes the answer down: the batch is gone, and its rows are done if it was taken. If not,
    /// what the group lacked is installed, and they are to be sealed again with the same client ids.
    pub async fn settle(
        &self,
        tx: &mut Tx,
        sending: &Sending,
        answer: &Answer,
    ) -> Result<(), SdkError> {
        if let Answer::Behind(ops) = answer {
            self.install(tx, sending.batch.group, ops).await?;
        }
        Ok(sending.give_up(tx).await?)
    }
}

impl Sending {
    /// What [`keep_sending_last`](Client::keep_sending_last) has kept, by what its script returned.
    pub fn kept(batch: Batch, rows: Vec<i64>, returned: &Rows) -> Result<Self, Error> {
        Ok(Self { id: batches::inserted(returned)?, batch, rows })
    }

    /// Drops the batch of a group unseen: a row that it carries is given up. Only for whoever sends
    /// alone, since it may be another's next batch.
    pub async fn drop_of(tx: &mut Tx, group: GroupId) -> Result<(), causeway_store::Error> {
        batches::delete_of(tx.conn(), &group).await
    }

    /// The server has it: as [`Client::settle`] with [`Answer::Taken`], together with what else is
    /// written down.
    pub fn taken(&self, script: &mut Script) {
        batches::end(script, self.id);
    }

    /// Drops a batch that was refused, or whose rows are given up; what is left of them is free.
    pub async fn give_up(&self, tx: &mut Tx) -> Result<(), Error> {
        batches::delete(tx.conn(), self.id).await
    }
}
