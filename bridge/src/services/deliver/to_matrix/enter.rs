//! Into the room itself: it is made, found again, come back to, or followed into; and what is so
//! there is read before anything is said.

use std::time::Duration;

use ruma::{OwnedEventId, OwnedRoomId, RoomAliasId, RoomId};

use super::{Failure, Place, Round, Spine, Stored, Tried, at, failed, steps};
use crate::{
    domain::{
        News,
        effect::{Here, InRoom},
        portal::{
            FUNCTIONAL_MEMBERS, PortalState, bridge_state, room_request, with_service_member,
        },
        room::{Found, not_followed},
        to_matrix,
    },
    gateway::matrix::MatrixError,
    storage::portals,
};

/// For how long it is waited that the bot is invited into the room that replaced the group's.
const INVITED_IN: Duration = Duration::from_mins(1);

/// Said where the room was told before that nothing goes from there to the group.
const AGAIN: &str =
    "This room is bridged again: what is said here from now on goes into the group.";

/// Which room is to be made.
#[derive(Clone, Copy)]
pub(super) enum Anew<'a> {
    /// The group's first.
    No,
    /// One in place of one that is gone.
    Yes,
    /// One in place of this, which may be there.
    Instead(&'a RoomId),
}

/// Said where the group was bridged into until now.
const ELSEWHERE: &str = "The group is bridged into another room now: nothing goes from here to there \
                         any more, nor back. What was said here last may not have got there.";

/// What an alias of ours leads to.
enum Behind {
    /// A room that the bot made and is in.
    Ours(Found),
    /// A room that the bot is not in any more, that another has replaced, or that is half made.
    Left,
    /// A room that the bot has nothing to do with, or none.
    Theirs,
}

impl Round<'_> {
    /// The room that the group had, where the bot gets in; else one that is made, or was made by a
    /// process that did not live to tell. `anew`: whatever its alias leads to now.
    pub(super) async fn make_room(
        &mut self,
        row: &Stored<InRoom>,
        anew: Anew<'_>,
    ) -> Result<(), Failure> {
        // It was let in more often than the room heard of: the first time has opened it.
        if matches!(anew, Anew::No)
            && self.portal.state == PortalState::Open
            && self.portal.lost.is_none()
            && self.portal.room.is_some()
        {
            return Ok(());
        }
        let again = match self.portal.room.clone() {
            Some(room) => self.enter(&room).await?,
            None => None,
        };
        let (found, told) = match again {
            Some(found) => {
                let told = self.open_again(row, &found).await?;
                (found, told)
            }
            None => (self.make(anew).await?, None),
        };
        if let Anew::Instead(old) = anew {
            self.leave_behind(row, old).await?;
            self.facts.moved = true;
        }
        self.spine.steps.reached(steps::Step::MadeRoom).await;
        self.is_in(found, told);
        Ok(())
    }

    fn is_in(&mut self, found: Found, told: Option<OwnedEventId>) {
        self.portal.apply(&Here::Made(found.room.clone()));
        if found.encrypted {
            self.portal.apply(&Here::Encrypted);
        }
        self.facts.news.push(News::Entered(found, told));
    }

    /// Back into the group's room, or the one that its alias leads to; makes none, since people are
    /// in the one that there is.
    pub(super) async fn return_to_room(&mut self, row: &Stored<InRoom>) -> Result<(), Failure> {
        let Some(room) = self.portal.room.clone() else { return Ok(()) };
        if let Some(found) = self.enter(&room).await? {
            let told = self.open_again(row, &found).await?;
            self.is_in(found, told);
            return Ok(());
        }
        let alias = RoomAliasId::parse(self.spine.names.alias(&self.portal.group));
        let alias = alias.map_err(|error| Failure::Refused(error.to_string()))?;
        match self.behind(&alias).await? {
            Behind::Ours(found) => self.is_in(found, None),
            Behind::Left | Behind::Theirs => self.facts.news.push(News::Out),
        }
        Ok(())
    }

    /// Takes back what the room was told when the portal was closed; the event that does so.
    async fn open_again(
        &mut self,
        row: &Stored<InRoom>,
        found: &Found,
    ) -> Result<Option<OwnedEventId>, Failure> {
        if found.encrypted {
            return Ok(None);
        }
        let bot = self.spine.names.bot().to_owned();
        let event = to_matrix::notice(AGAIN, None, &row.entry.txn);
        self.send(&found.room, &bot, row, &event).await.map(Some)
    }

    /// Nobody of ours stays in a room that is the group's no more.
    async fn leave_behind(&mut self, row: &Stored<InRoom>, old: &RoomId) -> Result<(), Failure> {
        let Some(found) = self.read(old).await? else { return Ok(()) };
        let Spine { matrix, names, .. } = self.spine;
        if found.is_in && !found.encrypted {
            let event = to_matrix::notice(ELSEWHERE, None, &row.entry.txn);
            let told = self.send_anyway(old, names.bot(), row, &event).await;
            // That it may not be said there keeps nobody in the room.
            if let Err(failure) = told
                && !matches!(failure, Failure::Refused(_) | Failure::Gone(_))
            {
                return Err(failure);
            }
        }
        let ghosts = found.ghosts.iter().filter_map(|account| names.ghost(account));
        let bot = found.is_in.then(|| names.bot().to_owned());
        for user in ghosts.chain(bot) {
            match matrix.leave(&user, old).await {
                Ok(()) | Err(MatrixError::Refused(..)) => {}
                Err(error) => return Err(failed(Place::Room, &error)),
            }
        }
        Ok(())
    }

    async fn make(&self, anew: Anew<'_>) -> Result<Found, Failure> {
        let is_other = |room: &RoomId| !matches!(anew, Anew::Instead(old) if old == room);
        let may_take = self.portal.room.is_some() || !matches!(anew, Anew::No);
        let Spine { matrix, names, .. } = self.spine;
        let before = if let Anew::Instead(room) = anew { Some(room) } else { None };
        let request = room_request(names, &self.portal.group, &self.portal.name, before);
        let room = match matrix.create_room(names.bot(), &request).await {
            Err(error) if error.is_code("M_ROOM_IN_USE") => {
                let alias = names.alias(&self.portal.group);
                let parsed = RoomAliasId::parse(&alias);
                let parsed = parsed.map_err(|error| Failure::Refused(error.to_string()))?;
                match self.behind(&parsed).await? {
                    Behind::Ours(found) if is_other(&found.room) => return Ok(found),
                    Behind::Theirs if !may_take => {
                        let text = format!("{alias} is a room that the bot did not make");
                        return Err(Failure::Refused(text));
                    }
                    Behind::Ours(_) | Behind::Left | Behind::Theirs => {}
                }
                match matrix.drop_alias(names.bot(), &parsed).await {
                    Ok(()) | Err(MatrixError::Refused(404, ..)) => {}
                    // It is of somebody who had it before we were there.
                    Err(MatrixError::Refused(403, ..)) => {
                        let text = format!("{alias} is a room that the bot did not make");
                        return Err(Failure::Refused(text));
                    }
                    Err(error) => return Err(failed(Place::Room, &error)),
                }
                matrix.create_room(names.bot(), &request).await.map_err(at(Place::Room))?
            }
            made => made.map_err(at(Place::Room))?,
        };
        let found = self.enter(&room).await?;
        found.ok_or_else(|| Failure::Refused("the room that was made is not there".to_owned()))
    }

    async fn behind(&self, alias: &RoomAliasId) -> Result<Behind, Failure> {
        let room = self.spine.matrix.resolve_alias(alias).await.map_err(at(Place::Room))?;
        let Some(room) = room else {
            return Ok(Behind::Theirs);
        };
        Ok(match self.read(&room).await? {
            Some(found) if found.is_in && found.is_made && found.successor.is_none() => {
                Behind::Ours(found)
            }
            Some(found) if found.is_made => Behind::Left,
            Some(_) => Behind::Theirs,
            // Nobody else may take such an alias: the homeserver died over making the room.
            None => Behind::Left,
        })
    }

    /// Reads how a room is, as one who is in it; `None` where the bot does not get in.
    async fn enter(&self, room: &RoomId) -> Result<Option<Found>, Failure> {
        let Spine { matrix, names, .. } = self.spine;
        if let Some(found) = self.read(room).await?
            && found.is_in
        {
            return Ok(Some(found));
        }
        match matrix.join(names.bot(), room.into()).await {
            Ok(_) => Ok(self.read(room).await?.filter(|found| found.is_in)),
            Err(MatrixError::Refused(403 | 404, ..)) => Ok(None),
            Err(error) => Err(failed(Place::Room, &error)),
        }
    }

    /// How a room is, or was when the bot left it; `None` where it may not be seen.
    pub(super) async fn read(&self, room: &RoomId) -> Result<Option<Found>, Failure> {
        let Spine { matrix, names, .. } = self.spine;
        let breaks = matrix.breaks();
        match matrix.whole_state(names.bot(), room).await {
            Ok(state) => {
                let found = Found::of(names, room, &state);
                self.spine.encryption.found(room, found.encrypted, breaks);
                Ok(Some(found))
            }
            Err(MatrixError::Refused(403 | 404, ..)) => Ok(None),
            Err(error) => Err(failed(Place::Room, &error)),
        }
    }

    /// Writes into a room that others made what those have from the start that the bot made.
    pub(super) async fn mark(&self, room: &RoomId) -> Result<(), Failure> {
        let Spine { matrix, names, .. } = self.spine;
        let (kind, key, bridge) = bridge_state(names, &self.portal.group, &self.portal.name);
        for kind in [kind, "uk.half-shot.bridge"] {
            self.ornament(room, kind, &key, &bridge).await?;
        }
        let known = matrix.state(names.bot(), room, FUNCTIONAL_MEMBERS, "").await;
        let known = known.map_err(at(Place::Room))?;
        match with_service_member(known.as_ref(), names.bot()) {
            Some(members) => self.ornament(room, FUNCTIONAL_MEMBERS, "", &members).await.map(drop),
            None => Ok(()),
        }
    }

    /// Goes into the room that has replaced the group's, if it says so itself; else that is said.
    pub(super) async fn follow(&mut self, row: &Stored<InRoom>, next: &OwnedRoomId) -> Tried {
        let mut read = self.spine.db.read().await?;
        let others = portals::others_before(&mut read, self.portal.id, next).await?;
        drop(read);
        Ok(self.follow_beside(row, next, &others).await)
    }

    /// `others`: rooms of other groups that it may have replaced.
    async fn follow_beside(
        &mut self,
        row: &Stored<InRoom>,
        next: &OwnedRoomId,
        others: &[OwnedRoomId],
    ) -> Result<(), Failure> {
        // It has gone there, and perhaps on from there, meanwhile.
        let Some(room) = self.portal.room.clone().filter(|room| room != next) else {
            return Ok(());
        };
        if self.portal.successor.as_ref() != Some(next) {
            return Ok(());
        }
        let was_in = self.read(next).await?.is_some_and(|found| found.is_in);
        let why = match self.enter(next).await? {
            Some(found) if found.predecessor.as_ref() == Some(&room) => {
                self.portal.apply(&Here::Moved(next.clone()));
                self.facts.moved = true;
                self.spine.leases.has_left(&room);
                self.spine.leases.is_decided(self.portal.id);
                if found.encrypted {
                    self.portal.apply(&Here::Encrypted);
                }
                self.mark(next).await?;
                self.facts.news.push(News::Followed(found));
                return Ok(());
            }
            Some(found) => {
                // It is somebody's who says so of a room that is not his. Where the bot was before, it
                // is for another group.
                if !was_in && !found.predecessor.is_some_and(|room| others.contains(&room)) {
                    let Spine { matrix, names, .. } = self.spine;
                    matrix.leave(names.bot(), next).await.map_err(at(Place::Room))?;
                }
                "it does not say that it comes after this room".to_owned()
            }
            None => {
                self.is_waited_for(row, &room, next).await?;
                format!("it is not invited; it needs an invitation of {}", self.spine.names.bot())
            }
        };
        self.spine.leases.is_decided(self.portal.id);
        let lost = not_followed(next, &why);
        if self.portal.lost.as_ref() == Some(&lost) {
            return Ok(());
        }
        let text = format!("The bridge does not follow into the new room: {why}.");
        self.tell_in(&room, row, &text, "").await?;
        self.portal.apply(&Here::Lost(lost));
        self.facts.news.push(News::NotFollowed(next.clone(), why));
        Ok(())
    }

    /// Who upgrades a room invites people into the new one after that: what is said waits for it,
    /// which is said in the room.
    async fn is_waited_for(
        &mut self,
        row: &Stored<InRoom>,
        room: &RoomId,
        next: &RoomId,
    ) -> Result<(), Failure> {
        if self.portal.lost.is_some() {
            return Ok(());
        }
        let (now, bot) = (self.spine.steady(), self.spine.names.bot());
        match self.spine.leases.uninvited(self.portal.id, now) {
            Some(since) if now.saturating_sub(since) >= INVITED_IN => return Ok(()),
            Some(_) => {}
            None => {
                let text = format!(
                    "The bridge goes into the new room as soon as somebody there invites {bot}. What \
                     native people say waits for that, for a minute."
                );
                self.tell_in(room, row, &text, "-waits").await?;
            }
        }
        Err(Failure::Later(format!(
            "the bridge is not invited yet into {next}, which replaced the room"
        )))
    }

    /// Says something in a room that may not let it; `part` tells apart what one row says.
    async fn tell_in(
        &mut self,
        room: &RoomId,
        row: &Stored<InRoom>,
        text: &str,
        part: &str,
    ) -> Result<(), Failure> {
        let mut row = row.clone();
        row.entry.txn.push_str(part);
        let bot = self.spine.names.bot().to_owned();
        let event = to_matrix::notice(text, None, &row.entry.txn);
        match self.send(room, &bot, &row, &event).await {
            Err(failure) if failure.is_unknown() => Err(failure),
            _ => Ok(()),
        }
    }
}
