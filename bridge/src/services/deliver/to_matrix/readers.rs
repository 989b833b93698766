//! What the bot tells a room of who reads it in the group: as it is when it is told.

use ruma::{EventId, RoomId};
use serde_json::{Value, json};

use super::{
    Failure, Place, Round, StepError, Stored, Tried,
    act::{CLOSED, PAUSED},
    at,
};
use crate::{
    domain::{
        News, Ornament,
        effect::InRoom,
        readers::{Natives, may_be_replaced},
    },
    gateway::matrix::MatrixError,
};

impl Round<'_> {
    /// The topic and, at first, the words.
    pub(super) async fn introduce(&mut self, room: &RoomId, row: &Stored<InRoom>) -> Tried {
        let Some(natives) = self.natives().await? else { return Ok(Ok(())) };
        if let Err(failure) = self.topic(room, &natives.topic()).await {
            return Ok(Err(failure));
        }
        self.notice(room, row, &natives.introduction(), None).await
    }

    /// The topic alone.
    pub(super) async fn retitle(&mut self, room: &RoomId) -> Tried {
        let Some(natives) = self.natives().await? else { return Ok(Ok(())) };
        Ok(self.topic(room, &natives.topic()).await)
    }

    /// One page of those who read.
    pub(super) async fn members(
        &mut self,
        room: &RoomId,
        row: &Stored<InRoom>,
        about: &EventId,
        page: usize,
    ) -> Tried {
        let Some(natives) = self.natives().await? else { return Ok(Ok(())) };
        self.notice(room, row, &natives.page(page), Some(about)).await
    }

    /// The room and what is said of its bridge bear the group's name.
    pub(super) async fn rename(&mut self, room: &RoomId) -> Result<(), Failure> {
        let name = json!({"name": self.portal.name});
        if !self.ornament(room, "m.room.name", "", &name).await? {
            self.facts.news.push(News::NotSet(Ornament::Name));
        }
        self.mark(room).await
    }

    pub(super) async fn natives(&self) -> Result<Option<Natives>, StepError> {
        let spine = self.spine;
        let mut tx = spine.db.begin().await?;
        let roster = spine.native.machine().roster(&mut tx, self.portal.group).await?;
        Ok(roster.map(|roster| Natives::of(&roster, spine.names.server())))
    }

    /// Sets the topic, where it is not one that people wrote, and not that already.
    pub(super) async fn topic(&mut self, room: &RoomId, text: &str) -> Result<(), Failure> {
        let (matrix, bot) = (&self.spine.matrix, self.spine.names.bot());
        let known = match matrix.state(bot, room, "m.room.topic", "").await {
            Err(error @ MatrixError::Refused(..)) => {
                tracing::warn!(%room, %error, "the topic cannot be read, and is left as it is");
                return Ok(());
            }
            known => known.map_err(at(Place::Room))?,
        };
        let known = known.as_ref().and_then(|topic| topic.get("topic")).and_then(Value::as_str);
        let known = known.unwrap_or_default();
        if known == text || !may_be_replaced(known, &[CLOSED, PAUSED]) {
            return Ok(());
        }
        if !self.ornament(room, "m.room.topic", "", &json!({"topic": text})).await? {
            self.facts.news.push(News::NotSet(Ornament::Topic));
        }
        Ok(())
    }
}
