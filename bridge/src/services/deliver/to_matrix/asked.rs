//! What somebody in the room asks of the bot, where it has to look something up or to do it: who may is
//! for the room's own power levels to say.

use causeway_protocol::roster::Role;
use ruma::{EventId, OwnedUserId, RoomId, UserId};

use super::{
    Failure, Place, Round, Spine, StepError, Stored, Tried, at, failed, outbox, send::Membership,
};
use crate::{
    domain::{
        News,
        command::{Asked, Status},
        effect::InRoom,
        lane::Lane,
        readers::invited,
        room::Powers,
    },
    gateway::matrix::MatrixError,
    storage::{ghosts, portals},
};

impl Round<'_> {
    pub(super) async fn asked(
        &mut self,
        room: &RoomId,
        row: &Stored<InRoom>,
        (event, by): (&EventId, &OwnedUserId),
        asked: &Asked,
    ) -> Tried {
        let text = match asked {
            Asked::Status => self.status().await?,
            Asked::Words(words) => words.here(),
            Asked::Invite(user) => match self.invite_for(room, by, user).await {
                Ok(text) => text,
                Err(failure) => return Ok(Err(failure)),
            },
            Asked::Unbridge | Asked::UnbridgeInSilence => match self.powers(room).await {
                Ok(powers) if powers.of(by) >= powers.to_close() => {
                    return self.unbridge(room, row, by).await;
                }
                Ok(_) if *asked == Asked::UnbridgeInSilence => return Ok(Ok(())),
                Ok(powers) => format!(
                    "Only who may close this room (power {}) takes the bridge out of it. An admin \
                     of the native group can: `causeway-client member remove`.",
                    powers.to_close()
                ),
                Err(failure) => return Ok(Err(failure)),
            },
        };
        self.notice(room, row, &text, Some(event)).await
    }

    async fn status(&mut self) -> Result<String, StepError> {
        let spine = self.spine;
        let mut tx = spine.db.begin().await?;
        let roster = spine.native.machine().roster(&mut tx, self.portal.group).await?;
        drop(tx);
        let natives = roster.map_or(0, |roster| {
            let members = roster.members().values();
            members.filter(|member| member.role != Role::Bridge).count()
        });
        let mut read = spine.db.read().await?;
        let id = self.portal.id;
        let to_native = outbox::said_in(&mut read, &Lane::ToNative(id)).await?;
        let to_matrix = outbox::said_in(&mut read, &Lane::ToMatrix(id)).await?;
        let status = Status {
            group: &self.portal.name,
            natives,
            mirrors: portals::mirrors(&mut read, id).await?.len(),
            to_native,
            to_matrix,
            removed: ghosts::count_removed(&mut read, id).await?,
        };
        Ok(status.text())
    }

    async fn invite_for(
        &mut self,
        room: &RoomId,
        by: &UserId,
        user: &UserId,
    ) -> Result<String, Failure> {
        let powers = self.powers(room).await?;
        if user == self.spine.names.bot() {
            return Ok("It is here.".to_owned());
        }
        if self.spine.names.is_ours(user) {
            return Ok(
                "Native people come by themselves, when they first say something. An admin \
                       of the native group lets people into it: `causeway-client member add`."
                    .to_owned(),
            );
        }
        if powers.of(by) < powers.to_invite() {
            return Ok(format!(
                "Only who may invite (power {}) has the bot invite somebody. An admin of the native \
                 group can: `causeway-client group bridge GROUP --invite {user}`.",
                powers.to_invite()
            ));
        }
        match self.invite(room, user, Some(by.as_str())).await {
            Ok(()) => Ok(format!("{user} is invited.")),
            Err(Failure::Refused(why)) => Ok(format!("{user} is not invited: {why}.")),
            Err(failure) => Err(failure),
        }
    }

    /// Somebody is invited, and reads by whom, and what the room is.
    pub(super) async fn invite(
        &self,
        room: &RoomId,
        user: &UserId,
        by: Option<&str>,
    ) -> Result<(), Failure> {
        let Spine { matrix, names, .. } = self.spine;
        let why = invited(by, &self.portal.name);
        let Err(error) = matrix.invite(names.bot(), room, user, Some(&why)).await else {
            return Ok(());
        };
        if error.is_code("M_FORBIDDEN")
            && let Ok(Some(Membership::Join | Membership::Invite)) =
                self.membership(room, user).await
        {
            return Ok(());
        }
        Err(failed(Place::Invite, &error))
    }

    async fn powers(&self, room: &RoomId) -> Result<Powers, Failure> {
        let Spine { matrix, names, .. } = self.spine;
        let state = matrix.whole_state(names.bot(), room).await.map_err(at(Place::Room))?;
        Ok(Powers::of_room(&state))
    }

    /// The bot goes, and all ghosts before it.
    async fn unbridge(&mut self, room: &RoomId, row: &Stored<InRoom>, by: &OwnedUserId) -> Tried {
        let text = format!(
            "{by} takes the bridge out of this room: nothing goes from here to the native group any \
             more, nor back."
        );
        // That it may not be said there keeps nobody in the room.
        if let Err(failure) = self.notice(room, row, &text, None).await?
            && !matches!(failure, Failure::Refused(_) | Failure::Gone(_))
        {
            return Ok(Err(failure));
        }
        if let Err(failure) = self.all_out(room).await? {
            return Ok(Err(failure));
        }
        let Spine { matrix, names, .. } = self.spine;
        match matrix.leave(names.bot(), room).await {
            Ok(()) | Err(MatrixError::Refused(..)) => {}
            Err(error) => return Ok(Err(failed(Place::Room, &error))),
        }
        self.facts.news.push(News::Unbridged(by.clone()));
        Ok(Ok(()))
    }
}
