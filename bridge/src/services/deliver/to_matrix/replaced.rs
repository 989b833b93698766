//! A room that was replaced by another: that is gone into before anything more is said in this one,
//! and after what was said here before was read.
//!
//! An event says it, and is routed in its turn. Where it has not come yet, because `bridge.db` was put
//! back or the homeserver was away, the room's own state says it.

use causeway_store::Script;
use ruma::{OwnedRoomId, RoomId};
use serde_json::Value;

use super::{Failure, Place, Round, Spine, StepError, Stored, at};
use crate::{
    domain::{
        News,
        effect::InRoom,
        lane::Lane,
        portal::{Portal, PortalState},
        room::successor,
    },
    storage::{self, lanes, reading},
};

impl Round<'_> {
    /// Where a row is to be carried out that says something: in the portal's room, or in the one that
    /// has replaced it, into which the bot goes first.
    pub(super) async fn place(
        &mut self,
        room: OwnedRoomId,
        row: &Stored<InRoom>,
    ) -> Result<Result<OwnedRoomId, Failure>, StepError> {
        let Portal { successor: Some(next), state: PortalState::Open, encrypted: false, .. } =
            &self.portal
        else {
            return Ok(Ok(room));
        };
        let (next, own) = (next.clone(), Lane::ToMatrix(self.portal.id));
        if next == room {
            return Ok(Ok(room));
        }
        if row.entry.lane != own {
            // Who goes there stands in the room's own lane.
            let mut read = self.spine.db.read().await?;
            let is_next = lanes::has_more(read.conn(), &own).await?;
            let later = || Failure::Later("the room that replaced this one is next".to_owned());
            return Ok(if is_next { Err(later()) } else { Ok(room) });
        }
        if let Err(failure) = self.follow(&before(row, &next), &next).await? {
            return Ok(Err(failure));
        }
        // What is known of it is of the room before.
        self.met.clear();
        self.facts.standing.clear();
        Ok(match &self.portal {
            Portal { lost: Some(why), .. } => Err(Failure::Gone(why.clone())),
            Portal { room: now, .. } => Ok(now.clone().unwrap_or(room)),
        })
    }

    /// Makes sure that nothing has replaced the room that the bridge has not heard of: what was said
    /// before is read first, and then it is known.
    pub(super) async fn is_the_last(&mut self, room: &RoomId) -> Result<(), Failure> {
        let Portal { successor: None, state: PortalState::Open, room: Some(own), .. } =
            &self.portal
        else {
            return Ok(());
        };
        if *own != *room {
            return Ok(());
        }
        let Spine { matrix, names, .. } = self.spine;
        let stone = matrix.state(names.bot(), room, "m.room.tombstone", "").await;
        let stone = stone.map_err(at(Place::Room))?;
        let next = stone.as_ref().and_then(Value::as_object).and_then(successor);
        let Some(next) = next.filter(|next| *next != *room) else { return Ok(()) };
        match self.is_read(room).await {
            // Its event came long ago, and could not be read.
            Ok(true) => self.facts.news.push(News::Replaced(next)),
            Ok(false) => {}
            Err(error) => return Err(Failure::Later(error.to_string())),
        }
        let why = "the room was replaced by another, and what was said here before is read first";
        Err(Failure::Later(why.to_owned()))
    }

    /// Whether all of the room was read and routed since it was first seen to be replaced.
    async fn is_read(&self, room: &RoomId) -> Result<bool, storage::Error> {
        let Spine { db, leases, .. } = self.spine;
        if leases.is_replaced(room) {
            return reading::is_level(&mut db.read().await?, room).await;
        }
        let mut script = Script::default();
        reading::doubt(&mut script);
        db.write(script, vec![reading::TOPIC.to_owned()]).await?;
        Ok(false)
    }
}

/// The row that goes into the next room before `row`: it says what it says by a name of its own.
fn before(row: &Stored<InRoom>, next: &RoomId) -> Stored<InRoom> {
    let mut before = row.clone().with(InRoom::Follow(next.to_owned()));
    before.entry.txn.push_str("-follow");
    before.tried_at = None;
    before
}
