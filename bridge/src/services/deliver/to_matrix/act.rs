//! One effect after the other, as requests to the homeserver; each is safe to make twice.

use std::{collections::BTreeMap, time::Duration};

use causeway_protocol::ids::AccountId;
use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::Value;

use super::{
    Failure, Link, Place, Round, Spine, Standing, StepError, Stored, Tried, at, enter::Anew,
    failed, relations, send::Membership, steps,
};
use crate::{
    domain::{
        MessageRef,
        effect::InRoom,
        lane::Lane,
        portal::{Portal, PortalState},
        readers::who_here,
        said::Spoken,
        to_matrix,
    },
    gateway::{matrix::MatrixError, provision::provision},
    storage::{ghosts, lanes, outbox, portals},
};

/// Shown in an encrypted room, whose state is never encrypted.
pub(super) const PAUSED: &str = "The bridge is paused: this room is encrypted, and the bridge cannot encrypt \
                      yet. Nothing is sent in clear; what is said in the group waits.";
pub(super) const CLOSED: &str = "The bridge was taken out of the group: nothing goes from here to there any \
                      more, nor back.";

/// For how long a portal that is closed waits for words that fail alone, while the homeserver answers.
const CLOSING_PATIENCE: Duration = Duration::from_mins(5);

impl Round<'_> {
    pub(super) async fn carry_out(&mut self, row: &Stored<InRoom>) -> Tried {
        let room = match (&row.entry.deed, &self.portal) {
            (InRoom::Make, _) => return Ok(self.make_room(row, Anew::No).await),
            (InRoom::Return, _) => return Ok(self.return_to_room(row).await),
            (InRoom::MakeAnew, _) => return Ok(self.make_room(row, Anew::Yes).await),
            (InRoom::MakeInstead(old), _) => {
                return Ok(self.make_room(row, Anew::Instead(old)).await);
            }
            (InRoom::Follow(next), _) => return self.follow(row, next).await,
            // Said where the bot is when it is back.
            (
                InRoom::Say(_) | InRoom::Notice(_) | InRoom::Answer(..),
                portal @ Portal { room: Some(_), .. },
            ) if portal.is_in_making()
                && !matches!(row.entry.lane, Lane::Bot(_))
                && self.bot_has_more().await? =>
            {
                let why = "the bridge is on its way back into the room";
                return Ok(Err(Failure::NotNow(why.to_owned(), None)));
            }
            // It was let in again before this came to its turn.
            (InRoom::Close, portal) if portal.state != PortalState::Closed => return Ok(Ok(())),
            (_, Portal { room: Some(room), lost: None, .. }) => room.clone(),
            // The room that is being made is still to be closed.
            (InRoom::Close, Portal { room: None, lost: None, .. })
                if self.bot_has_more().await? =>
            {
                let why = "the portal's room is being made";
                return Ok(Err(Failure::Later(why.to_owned())));
            }
            // There is nothing to leave or to say it in.
            (
                InRoom::Leave(_)
                | InRoom::PutOut(..)
                | InRoom::Pause
                | InRoom::Close
                | InRoom::Topic
                | InRoom::Rename
                | InRoom::Introduce,
                _,
            ) => return Ok(Ok(())),
            (
                InRoom::Invite(_) | InRoom::InviteFor(..),
                Portal { room: None, state: PortalState::Closed, .. },
            ) => {
                let why = "the bridge was taken out of the group before it had a room";
                return Ok(Err(Failure::Gone(why.to_owned())));
            }
            // What makes it may stand behind who is invited.
            (InRoom::Invite(_) | InRoom::InviteFor(..), Portal { room: None, lost: None, .. })
                if matches!(row.entry.lane, Lane::Bot(_)) =>
            {
                return Ok(Err(Failure::Aside));
            }
            (InRoom::Invite(_) | InRoom::InviteFor(..), Portal { room: None, lost: None, .. }) => {
                return Ok(Err(Failure::NotNow("the portal has no room".to_owned(), None)));
            }
            // Nobody waits for its answer in a room that is given up, and another may be made behind it.
            (InRoom::Members(..) | InRoom::Asked(..), portal @ Portal { room: None, .. })
                if portal.is_in_making() =>
            {
                return Ok(Ok(()));
            }
            // What was said before another room was asked for is said there.
            (_, portal @ Portal { room: None, .. }) if portal.is_in_making() => {
                return Ok(Err(Failure::NotNow(
                    "the portal's room is being made".to_owned(),
                    None,
                )));
            }
            (
                InRoom::Say(_)
                | InRoom::Notice(_)
                | InRoom::Answer(..)
                | InRoom::Members(..)
                | InRoom::Unread(_)
                | InRoom::Asked(..)
                | InRoom::Invite(_)
                | InRoom::InviteFor(..),
                portal,
            ) => {
                let why = portal.lost.clone();
                let why = why.unwrap_or_else(|| "the room that it was for is not there".to_owned());
                return Ok(Err(Failure::Gone(why)));
            }
        };
        let says = matches!(
            row.entry.deed,
            InRoom::Say(_)
                | InRoom::Notice(_)
                | InRoom::Answer(..)
                | InRoom::Introduce
                | InRoom::Members(..)
        );
        let placed = if says { self.place(room, row).await? } else { Ok(room) };
        let room = match placed {
            Ok(room) => room,
            Err(failure) => return Ok(Err(failure)),
        };
        self.carry_out_in(room, row).await
    }

    async fn carry_out_in(&mut self, room: OwnedRoomId, row: &Stored<InRoom>) -> Tried {
        // Nobody is answered in a room that has turned encrypted.
        if let InRoom::Members(..) | InRoom::Asked(..) = &row.entry.deed {
            match self.is_encrypted(&room).await {
                Ok(true) => return Ok(Ok(())),
                Ok(false) => {}
                Err(failure) => return Ok(Err(failure)),
            }
        }
        match &row.entry.deed {
            InRoom::Say(spoken) => self.say(&room, row, spoken).await,
            InRoom::Notice(text) => self.notice(&room, row, text, None).await,
            InRoom::Answer(text, event) => self.notice(&room, row, text, Some(event)).await,
            InRoom::Invite(user) => Ok(self.invite(&room, user, None).await),
            InRoom::InviteFor(user, by) => {
                let by = who_here(Some(by), self.spine.names.server());
                Ok(self.invite(&room, user, Some(by)).await)
            }
            InRoom::Leave(account) => self.leave(&room, account, None).await,
            InRoom::PutOut(account, why) => self.leave(&room, account, Some(why)).await,
            InRoom::Unread(event) => Ok(self.unread(&room, row, event).await),
            InRoom::Topic => self.retitle(&room).await,
            InRoom::Rename => Ok(self.rename(&room).await),
            InRoom::Asked(event, by, asked) => self.asked(&room, row, (event, by), asked).await,
            InRoom::Introduce => self.introduce(&room, row).await,
            InRoom::Members(event, page) => self.members(&room, row, event, *page).await,
            InRoom::Pause => Ok(self.topic(&room, PAUSED).await),
            InRoom::Close => self.close(&room, row).await,
            // Above: they need no room.
            InRoom::Make
            | InRoom::Return
            | InRoom::MakeAnew
            | InRoom::MakeInstead(_)
            | InRoom::Follow(_) => Ok(Ok(())),
        }
    }

    async fn say(&mut self, room: &RoomId, row: &Stored<InRoom>, spoken: &Spoken) -> Tried {
        let Some(ghost) = self.spine.names.ghost(&spoken.account) else {
            return Ok(Err(Failure::Refused(format!("{} has no ghost", spoken.account))));
        };
        // Nobody comes in who may say nothing.
        if let Err(failure) = self.is_clear(room).await {
            return Ok(Err(failure));
        }
        let is_aside = matches!(row.entry.lane, Lane::Aside(..));
        if let Err(failure) = self.ensure_joined(room, &spoken.account, &ghost, is_aside).await? {
            return Ok(Err(failure));
        }
        let found = match spoken.said.about() {
            None => None,
            Some(message) => self.event_of(*message).await?,
        };
        let said = spoken.said.across(found);
        let nobody = BTreeMap::new();
        let people = if said.may_name_people() { self.people().await? } else { &nobody };
        let event = to_matrix::event(&said, people, &row.entry.txn);
        let sent = self.send(room, &ghost, row, &event).await;
        Ok(sent.map(|event_id| {
            self.facts.links.push(Link {
                portal: self.portal.id,
                event_id,
                message: spoken.reference,
                message_id: spoken.message_id,
            });
        }))
    }

    /// Whom a message may name, looked up once in a round.
    async fn people(&mut self) -> Result<&BTreeMap<OwnedUserId, String>, StepError> {
        if self.people.is_none() {
            let mut read = self.spine.db.read().await?;
            self.people = Some(portals::mirrors(&mut read, self.portal.id).await?);
        }
        Ok(self.people.get_or_insert_default())
    }

    /// The event that says what `message` says, also if it is of this round.
    async fn event_of(&self, message: MessageRef) -> Result<Option<OwnedEventId>, StepError> {
        let links = &self.facts.links;
        let round = links.iter().map(|link| (&*link.event_id, link.message));
        if let Some(event) = relations::event_here(round, message) {
            return Ok(Some(event));
        }
        let mut read = self.spine.db.read().await?;
        Ok(relations::event_of(read.conn(), self.portal.id, message).await?)
    }

    pub(super) async fn notice(
        &mut self,
        room: &RoomId,
        row: &Stored<InRoom>,
        text: &str,
        about: Option<&EventId>,
    ) -> Tried {
        let event = to_matrix::notice(text, about, &row.entry.txn);
        let bot = self.spine.names.bot().to_owned();
        Ok(self.send(room, &bot, row, &event).await.map(|_| ()))
    }

    /// Makes and brings in the ghost, lazily: at its first word.
    async fn ensure_joined(
        &mut self,
        room: &RoomId,
        account: &AccountId,
        ghost: &UserId,
        is_aside: bool,
    ) -> Tried {
        let (standing, is_made) = self.standing(account).await?;
        match standing {
            Standing::Joined if is_made => Ok(Ok(())),
            Standing::Joined => Ok(self.provide(account, ghost).await),
            Standing::Removed(by) => {
                Ok(Err(Failure::Gone(format!("removed from the room by {by}"))))
            }
            // It left when the room was told that the bridge is gone.
            Standing::Absent if is_aside && self.portal.state == PortalState::Closed => {
                let why = "the bridge was taken out of the group before it could be said";
                Ok(Err(Failure::Gone(why.to_owned())))
            }
            Standing::Absent => Ok(self.bring_in(room, account, ghost, is_made).await),
        }
    }

    /// Where the account's ghost is, and whether the homeserver has it.
    async fn standing(&mut self, account: &AccountId) -> Result<(Standing, bool), StepError> {
        if let Some(standing) = self.facts.standing.get(account) {
            return Ok((standing.clone(), true));
        }
        if let Some(met) = self.met.get(account) {
            return Ok(met.clone());
        }
        let mut read = self.spine.db.read().await?;
        let met =
            ghosts::standing(&mut read, self.portal.id, account, &self.spine.names.shown(account))
                .await?;
        self.met.insert(account.clone(), met.clone());
        Ok(met)
    }

    pub(super) async fn bring_in(
        &mut self,
        room: &RoomId,
        account: &AccountId,
        ghost: &UserId,
        is_made: bool,
    ) -> Result<(), Failure> {
        if !is_made {
            self.provide(account, ghost).await?;
        }
        let Spine { matrix, names, steps, .. } = self.spine;
        match matrix.invite(names.bot(), room, ghost, None).await {
            // It is in already, or invited.
            Err(error) if !error.is_code("M_FORBIDDEN") => {
                return Err(failed(Place::Ghost, &error));
            }
            Ok(()) | Err(_) => {}
        }
        if let Err(error) = matrix.join(ghost, room.into()).await {
            if error.is_code("M_FORBIDDEN")
                && let Ok(Some(Membership::Ban)) = self.membership(room, ghost).await
            {
                let _noted = self.note_who_put_out(room, account).await;
            }
            return Err(failed(Place::Ghost, &error));
        }
        steps.reached(steps::Step::JoinedGhost).await;
        self.facts.standing.insert(account.clone(), Standing::Joined);
        Ok(())
    }

    /// The homeserver has the ghost, under the name that it is shown by.
    async fn provide(&mut self, account: &AccountId, ghost: &UserId) -> Result<(), Failure> {
        let name = self.spine.names.shown(account);
        let made = provision(&self.spine.matrix, ghost, &name).await;
        made.map_err(at(Place::Ghost))?;
        self.spine.steps.reached(steps::Step::MadeGhost).await;
        self.facts.made.insert(account.clone(), name);
        Ok(())
    }

    async fn leave(&mut self, room: &RoomId, account: &AccountId, why: Option<&str>) -> Tried {
        let (standing, _) = self.standing(account).await?;
        match standing {
            Standing::Joined => Ok(self.take_out(room, account, why).await),
            Standing::Absent | Standing::Removed(_) => Ok(Ok(())),
        }
    }

    /// With a reason the bot puts it out, where it has the power; else the ghost goes.
    async fn take_out(
        &mut self,
        room: &RoomId,
        account: &AccountId,
        why: Option<&str>,
    ) -> Result<(), Failure> {
        let Spine { matrix, names, .. } = self.spine;
        if let Some(ghost) = names.ghost(account) {
            let put_out = match why {
                Some(why) => matrix.kick(names.bot(), room, &ghost, why).await.map(|()| true),
                None => Ok(false),
            };
            let gone = match put_out {
                Ok(true) => Ok(()),
                Ok(false) => matrix.leave(&ghost, room).await,
                Err(error) if error.is_code("M_FORBIDDEN") => matrix.leave(&ghost, room).await,
                Err(error) => Err(error),
            };
            match gone {
                // It is not in the room: somebody was quicker.
                Ok(()) => {}
                Err(error) if error.is_code("M_FORBIDDEN") || error.is_code("M_NOT_FOUND") => {}
                Err(error) => return Err(failed(Place::Ghost, &error)),
            }
        }
        self.facts.standing.insert(account.clone(), Standing::Absent);
        Ok(())
    }

    /// State that nothing depends on: where it may not be set, everything else goes on; whether it was.
    pub(super) async fn ornament(
        &self,
        room: &RoomId,
        kind: &str,
        key: &str,
        content: &Value,
    ) -> Result<bool, Failure> {
        let Spine { matrix, names, .. } = self.spine;
        match matrix.send_state(names.bot(), room, kind, key, content).await {
            Err(error @ MatrixError::Refused(..)) => {
                tracing::warn!(%room, kind, %error, "an ornament is not set");
                Ok(false)
            }
            sent => sent.map(|_| true).map_err(at(Place::Room)),
        }
    }

    /// Whether the bot has something to do, which may be to make the room.
    async fn bot_has_more(&self) -> Result<bool, StepError> {
        let mut read = self.spine.db.read().await?;
        Ok(lanes::has_more(read.conn(), &Lane::Bot(self.portal.id)).await?)
    }

    async fn close(&mut self, room: &RoomId, row: &Stored<InRoom>) -> Tried {
        let mut read = self.spine.db.read().await?;
        let others_wait = outbox::any_aside(read.conn(), self.portal.id).await?;
        drop(read);
        if others_wait && !self.portal.encrypted {
            let waits = self.spine.leases.waits();
            // While the homeserver is away it is nobody's own trouble that his words are not there.
            match self.membership(room, self.spine.names.bot()).await {
                Err(failure) if !matches!(failure, Failure::Refused(_) | Failure::Gone(_)) => {
                    waits.closes_no_more(self.portal.id);
                    return Ok(Err(failure));
                }
                Ok(_) | Err(_) => {}
            }
            if waits.closes(self.spine.steady(), self.portal.id, row.id) < CLOSING_PATIENCE {
                let why = "something that was said before is not there yet";
                return Ok(Err(Failure::Later(why.to_owned())));
            }
        }
        let titled = self.topic(room, CLOSED).await;
        let told = match titled {
            Ok(()) if !self.portal.encrypted => self.notice(room, row, CLOSED, None).await?,
            titled => titled,
        };
        // That it may not be said there keeps nobody in the room.
        if let Err(failure) = told
            && !matches!(failure, Failure::Refused(_) | Failure::Gone(_))
        {
            return Ok(Err(failure));
        }
        let out = self.all_out(room).await;
        if matches!(out, Ok(Ok(()))) {
            self.spine.leases.waits().closes_no_more(self.portal.id);
        }
        out
    }

    /// No ghost stays in the room.
    pub(super) async fn all_out(&mut self, room: &RoomId) -> Tried {
        let mut read = self.spine.db.read().await?;
        let mut inside = ghosts::joined(&mut read, self.portal.id).await?;
        drop(read);
        inside.extend(self.facts.standing.keys().cloned());
        inside.sort();
        inside.dedup();
        for account in inside {
            if let Err(failure) = self.take_out(room, &account, None).await {
                return Ok(Err(failure));
            }
        }
        Ok(Ok(()))
    }
}
