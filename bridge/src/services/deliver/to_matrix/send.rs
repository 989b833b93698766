//! One event into a room: never into an encrypted one, and never a second time.

use causeway_protocol::ids::{AccountId, Timestamp};
use ruma::{OwnedEventId, RoomId, UserId};
use serde_json::{Value, json, value::to_raw_value};

use super::{Failure, Meaning, Place, Round, Spine, Standing, Stored, at, meaning, steps};
use crate::{
    domain::{News, effect::InRoom, to_matrix::SENT_AT},
    gateway::matrix::{DEVICE, MatrixError},
};

/// After so long with an unknown outcome a homeserver may have forgotten the transaction id.
const FORGOTTEN_MS: u64 = 12 * 60 * 60 * 1_000;

impl Round<'_> {
    /// Sends, never into an encrypted room, and not again what is there already where the homeserver
    /// may have forgotten that.
    pub(super) async fn send(
        &mut self,
        room: &RoomId,
        user: &UserId,
        row: &Stored<InRoom>,
        event: &(&'static str, serde_json::Value),
    ) -> Result<OwnedEventId, Failure> {
        self.is_clear(room).await?;
        self.send_anyway(room, user, row, event).await
    }

    /// Sends what may stand in an encrypted room too.
    pub(super) async fn send_anyway(
        &mut self,
        room: &RoomId,
        user: &UserId,
        row: &Stored<InRoom>,
        (kind, content): &(&'static str, serde_json::Value),
    ) -> Result<OwnedEventId, Failure> {
        let txn = &row.entry.txn;
        if let Some(since) = self.may_be_there_since(row) {
            // Nobody else waits for that.
            if row.entry.deed.who().and_then(|who| row.entry.lane.aside(who)).is_some() {
                return Err(Failure::Aside);
            }
            if let Some(event) = self.find(room, user, row, since).await? {
                return Ok(event);
            }
        }
        let at_time = match &row.entry.deed {
            InRoom::Say(spoken) => spoken.own_time(row.entry.accepted_at, self.spine.now()),
            InRoom::Notice(_)
            | InRoom::Answer(..)
            | InRoom::Make
            | InRoom::Return
            | InRoom::Invite(_)
            | InRoom::InviteFor(..)
            | InRoom::Leave(_)
            | InRoom::PutOut(..)
            | InRoom::Topic
            | InRoom::Rename
            | InRoom::Asked(..)
            | InRoom::Introduce
            | InRoom::Members(..)
            | InRoom::Unread(_)
            | InRoom::Pause
            | InRoom::Close
            | InRoom::MakeAnew
            | InRoom::MakeInstead(_)
            | InRoom::Follow(_) => None,
        };
        let mut content = content.clone();
        if let (Some(_), Some(fields)) = (at_time, content.as_object_mut()) {
            // By its time it would seem to have been here for long.
            fields.insert(SENT_AT.to_owned(), json!(self.spine.now()));
        }
        let content =
            to_raw_value(&content).map_err(|error| Failure::Refused(error.to_string()))?;
        let matrix = &self.spine.matrix;
        let mut sent = matrix.send(user, room, kind, txn, &content, at_time).await;
        if let Err(MatrixError::Refused(status, errcode, _)) = &sent {
            let meaning = meaning(Place::Message, *status, errcode);
            if self.is_mended(room, user, meaning).await? {
                sent = matrix.send(user, room, kind, txn, &content, at_time).await;
                // He is in it now: it is the room that does not let him speak.
                if matches!(sent, Err(MatrixError::Refused(..))) && meaning == Meaning::Standing {
                    self.is_the_last(room).await?;
                }
            }
        }
        let event_id = sent.map_err(at(Place::Message)).inspect_err(|failure| {
            if failure.is_unknown() {
                self.spine.markers.doubt(room);
            }
        })?;
        self.spine.markers.sent(room, txn, &event_id);
        self.spine.steps.reached(steps::Step::SentEvent).await;
        Ok(event_id)
    }

    /// Since when what a row says may be there already, though it is asked for by its old name: what was
    /// never tried is not.
    fn may_be_there_since(&self, row: &Stored<InRoom>) -> Option<Timestamp> {
        let is_of_before = row.id <= self.spine.leases.before();
        match row.tried_at {
            Some(since) => {
                let is_forgotten = since.plus_ms(FORGOTTEN_MS) < self.spine.now();
                (row.replayed || self.facts.moved || is_forgotten).then_some(since)
            }
            // The process before may have died over it.
            None if self.facts.moved && is_of_before => row.entry.accepted_at,
            None => None,
        }
    }

    /// Does what a refusal of this meaning asks for; `false` if there is nothing to do.
    async fn is_mended(
        &mut self,
        room: &RoomId,
        user: &UserId,
        meaning: Meaning,
    ) -> Result<bool, Failure> {
        let Spine { matrix, names, .. } = self.spine;
        match meaning {
            Meaning::Device => {
                matrix.put_device(user, DEVICE).await.map_err(at(Place::Ghost))?;
                Ok(true)
            }
            Meaning::Standing => {
                // The bot is where it made the room, or nobody can bring it back.
                let Some(account) = names.account(user) else { return Ok(false) };
                match self.membership(room, user).await {
                    Ok(Some(Membership::Ban)) => {
                        // Where it cannot be read now, the next message shows it again.
                        let _noted = self.note_who_put_out(room, &account).await;
                        Ok(false)
                    }
                    // Whoever put it out does not want it back; it may have gone by itself.
                    Ok(Some(Membership::Other))
                        if self.note_who_put_out(room, &account).await? =>
                    {
                        Ok(false)
                    }
                    // It is the room that does not let it speak: one that was replaced lets nobody.
                    Ok(Some(Membership::Join)) => {
                        self.is_the_last(room).await?;
                        Ok(false)
                    }
                    // Nobody may look.
                    Err(Failure::Gone(_)) => Ok(false),
                    // A homeserver that was put back may not even know the ghost.
                    Ok(Some(Membership::Invite | Membership::Other) | None) => {
                        self.bring_in(room, &account, user, false).await?;
                        Ok(true)
                    }
                    Err(failure) => Err(failure),
                }
            }
            Meaning::Final | Meaning::Passing | Meaning::Unclear => Ok(false),
        }
    }

    /// Notes who put the account's ghost out of the room, if somebody did: no event of that came, or
    /// none yet.
    pub(super) async fn note_who_put_out(
        &mut self,
        room: &RoomId,
        account: &AccountId,
    ) -> Result<bool, Failure> {
        let found = self.read(room).await?;
        let Some(by) = found.as_ref().and_then(|found| found.put_out.get(account)) else {
            return Ok(false);
        };
        self.facts.standing.insert(account.clone(), Standing::Removed(by.clone()));
        self.facts.news.push(News::PutOut(account.clone(), by.clone()));
        Ok(true)
    }

    /// What the room's state says of somebody.
    pub(super) async fn membership(
        &self,
        room: &RoomId,
        user: &UserId,
    ) -> Result<Option<Membership>, Failure> {
        let Spine { matrix, names, .. } = self.spine;
        let member = matrix.state(names.bot(), room, "m.room.member", user.as_str()).await;
        let member = member.map_err(at(Place::Ghost))?;
        Ok(member.map(|member| match member.get("membership").and_then(Value::as_str) {
            Some("join") => Membership::Join,
            Some("invite") => Membership::Invite,
            Some("ban") => Membership::Ban,
            _ => Membership::Other,
        }))
    }
}

/// Where somebody is, as the room's state says.
pub(super) enum Membership {
    Join,
    Invite,
    Ban,
    /// Out, by whatever way.
    Other,
}
