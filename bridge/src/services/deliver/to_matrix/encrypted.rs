//! Rooms that are encrypted: nothing is said there in clear, and who says what cannot be read is
//! answered.

use ruma::{EventId, RoomId};

use super::{Failure, Place, Round, Stored, at};
use crate::domain::{ENCRYPTION, News, effect::InRoom, to_matrix};

/// Beside what cannot be read in an encrypted room: a mark, for words would stand there in clear. The
/// topic says why; Element cuts off what is longer.
const MARK: &str = "not bridged";
/// The same in words, where only the event is.
const ANSWER: &str =
    "This is encrypted and the bridge cannot read it, so it does not go into the group.";

impl Round<'_> {
    /// Makes sure that the room is not encrypted: looked at once in a process, before the first word.
    pub(super) async fn is_clear(&mut self, room: &RoomId) -> Result<(), Failure> {
        let known = self.spine.encryption.of(room, self.spine.matrix.breaks());
        if known.is_none() && !self.portal.encrypted {
            self.is_the_last(room).await?;
        }
        if self.is_encrypted(room).await? {
            return Err(Failure::NotNow("the room is encrypted".to_owned(), None));
        }
        Ok(())
    }

    /// Whether it is, looked at once in a process.
    pub(super) async fn is_encrypted(&mut self, room: &RoomId) -> Result<bool, Failure> {
        match self.spine.encryption.of(room, self.spine.matrix.breaks()) {
            _ if self.portal.encrypted => Ok(true),
            Some(known) => Ok(known),
            None => self.look(room).await,
        }
    }

    /// Answers an event that cannot be read; that the room is encrypted may have been missed.
    pub(super) async fn unread(
        &mut self,
        room: &RoomId,
        row: &Stored<InRoom>,
        about: &EventId,
    ) -> Result<(), Failure> {
        let is_encrypted = self.portal.encrypted || self.look(room).await?;
        let bot = self.spine.names.bot().to_owned();
        let sent = if is_encrypted {
            let mark = to_matrix::reaction(about, MARK, &row.entry.txn);
            self.send_anyway(room, &bot, row, &mark).await
        } else {
            let answer = to_matrix::notice(ANSWER, Some(about), &row.entry.txn);
            self.send(room, &bot, row, &answer).await
        };
        sent.map(drop)
    }

    /// Whether the room's state says that it is encrypted; what it says is known from then on.
    async fn look(&mut self, room: &RoomId) -> Result<bool, Failure> {
        let (matrix, bot) = (&self.spine.matrix, self.spine.names.bot());
        let breaks = matrix.breaks();
        let turn = matrix.state(bot, room, ENCRYPTION, "").await.map_err(at(Place::Room))?;
        let is_encrypted = turn.is_some();
        self.spine.encryption.found(room, is_encrypted, breaks);
        if is_encrypted && !self.portal.encrypted {
            self.facts.news.push(News::Encrypted(room.to_owned()));
        }
        Ok(is_encrypted)
    }
}
