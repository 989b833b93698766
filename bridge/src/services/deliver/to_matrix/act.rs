//! One effect after the other, as requests to the homeserver; each is safe to make twice.

use std::collections::BTreeMap;

use causeway_protocol::ids::{AccountId, Timestamp};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomAliasId, RoomId, UserId};
use serde::Deserialize;
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};

use super::{Facts, Failure, Link, Spine, Standing, StepError, Stored, relations, steps};
use crate::{
    domain::{
        MessageRef,
        effect::{Here, InRoom},
        portal::{Portal, room_request},
        said::Spoken,
        to_matrix,
    },
    gateway::{
        matrix::{Direction, MatrixError},
        provision::provision,
    },
    storage::ghosts,
};

/// After so long with an unknown outcome a homeserver may have forgotten the transaction id.
const FORGOTTEN_MS: u64 = 12 * 60 * 60 * 1_000;
/// How far homeservers' clocks may be apart from ours.
const SKEW_MS: u64 = 15 * 60 * 1_000;
/// Events of one page when looking for one.
const PAGE: u32 = 100;

/// Shown in an encrypted room, whose state is never encrypted.
const PAUSED: &str = "The bridge is paused: this room is encrypted, and the bridge cannot encrypt \
                      yet. Nothing is sent in clear; what is said in the group waits.";
const CLOSED: &str = "The bridge was taken out of the group: nothing goes from here to there any \
                      more, nor back.";

/// Rows that are carried out in one go, and what was learnt.
pub(super) struct Round<'a> {
    pub(super) spine: &'a Spine,
    pub(super) portal: Portal,
    pub(super) facts: Facts,
    /// What the rows say of accounts that this round has met.
    pub(super) met: BTreeMap<AccountId, (Standing, bool)>,
}

/// `Ok(Err(_))`: it failed, and what follows is to be judged.
type Tried = Result<Result<(), Failure>, StepError>;

impl Round<'_> {
    pub(super) async fn carry_out(&mut self, row: &Stored<InRoom>) -> Tried {
        if let InRoom::Make = row.entry.deed {
            return Ok(self.make_room().await);
        }
        let Some(room) = self.portal.room.clone() else {
            return Ok(Err(Failure::Refused("the portal has no room".to_owned())));
        };
        match &row.entry.deed {
            InRoom::Say(spoken) => self.say(&room, row, spoken).await,
            InRoom::Notice(text) => self.notice(&room, row, text).await,
            InRoom::Invite(user) => Ok(self.invite(&room, user).await),
            InRoom::Leave(account) => self.leave(&room, account).await,
            InRoom::Pause => Ok(self.topic(&room, PAUSED).await),
            InRoom::Close => self.close(&room, row).await,
            // Above: it alone needs no room.
            InRoom::Make => Ok(Ok(())),
        }
    }

    async fn say(&mut self, room: &RoomId, row: &Stored<InRoom>, spoken: &Spoken) -> Tried {
        let Some(ghost) = self.spine.names.ghost(&spoken.account) else {
            return Ok(Err(Failure::Refused(format!("{} has no ghost", spoken.account))));
        };
        if let Err(failure) = self.ensure_joined(room, &spoken.account, &ghost, row).await? {
            return Ok(Err(failure));
        }
        let found = match spoken.said.about() {
            None => None,
            Some(message) => self.event_of(*message).await?,
        };
        let event = to_matrix::event(&spoken.said.across(found), &row.entry.txn);
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

    async fn notice(&mut self, room: &RoomId, row: &Stored<InRoom>, text: &str) -> Tried {
        let event = to_matrix::notice(text, &row.entry.txn);
        let bot = self.spine.names.bot().to_owned();
        Ok(self.send(room, &bot, row, &event).await.map(|_| ()))
    }

    /// Sends, never into an encrypted room, and not again what is there already where the homeserver
    /// may have forgotten that.
    async fn send(
        &self,
        room: &RoomId,
        user: &UserId,
        row: &Stored<InRoom>,
        (kind, content): &(&'static str, serde_json::Value),
    ) -> Result<OwnedEventId, Failure> {
        if self.portal.encrypted || self.spine.encrypted.borrow().contains(&self.portal.id) {
            return Err(Failure::NotNow("the room is encrypted".to_owned(), None));
        }
        let txn = &row.entry.txn;
        // What was never tried is not there.
        if let Some(since) = row.tried_at
            && (row.replayed || since.plus_ms(FORGOTTEN_MS) < self.spine.now())
            && let Some(event) = self.find(room, txn, since).await?
        {
            return Ok(event);
        }
        let content = to_raw_value(content).map_err(|error| Failure::Refused(error.to_string()))?;
        let matrix = &self.spine.matrix;
        let event_id = matrix.send(user, room, kind, txn, &content).await?;
        self.spine.steps.reached(steps::Step::SentEvent).await;
        Ok(event_id)
    }

    /// The event that bears `txn`, if the room has one that is not older than `since`.
    async fn find(
        &self,
        room: &RoomId,
        txn: &str,
        since: Timestamp,
    ) -> Result<Option<OwnedEventId>, Failure> {
        let (matrix, bot) = (&self.spine.matrix, self.spine.names.bot());
        let mut from: Option<String> = None;
        loop {
            let page =
                matrix.messages(bot, room, Direction::Backwards, from.as_deref(), PAGE).await?;
            for raw in &page.chunk {
                let Some(event) = Marked::of(raw) else { continue };
                // Anybody in the room may write our marker.
                let is_ours = UserId::parse(&*event.sender)
                    .is_ok_and(|sender| self.spine.names.is_ours(&sender));
                if is_ours && event.content.txn.as_deref() == Some(txn) {
                    return Ok(EventId::parse(event.event_id).ok());
                }
                if event.origin_server_ts.plus_ms(SKEW_MS) < since {
                    return Ok(None);
                }
            }
            match page.end {
                Some(end) if !page.chunk.is_empty() => from = Some(end),
                _ => return Ok(None),
            }
        }
    }

    /// Makes and brings in the ghost, lazily: at its first word.
    async fn ensure_joined(
        &mut self,
        room: &RoomId,
        account: &AccountId,
        ghost: &UserId,
        row: &Stored<InRoom>,
    ) -> Tried {
        let (standing, is_made) = self.standing(account).await?;
        match standing {
            // A refusal may mean that the ghost is not where we think; the second try looks.
            Standing::Joined if row.refused == 0 => return Ok(Ok(())),
            Standing::Removed(by) => {
                return Ok(Err(Failure::Gone(format!("removed from the room by {by}"))));
            }
            Standing::Joined | Standing::Absent => {}
        }
        Ok(self.bring_in(room, account, ghost, is_made).await)
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
        let standing = ghosts::standing(&mut read, self.portal.id, account).await?;
        let is_made = ghosts::is_made(&mut read, account).await?;
        self.met.insert(account.clone(), (standing.clone(), is_made));
        Ok((standing, is_made))
    }

    async fn bring_in(
        &mut self,
        room: &RoomId,
        account: &AccountId,
        ghost: &UserId,
        is_made: bool,
    ) -> Result<(), Failure> {
        let Spine { matrix, names, steps, .. } = self.spine;
        if !is_made {
            provision(matrix, ghost, account.localpart()).await?;
            steps.reached(steps::Step::MadeGhost).await;
            self.facts.made.insert(account.clone(), account.localpart().to_owned());
        }
        match matrix.invite(names.bot(), room, ghost).await {
            // It is in already, or invited.
            Ok(()) | Err(MatrixError::Refused(403, ..)) => {}
            Err(error) => return Err(error.into()),
        }
        matrix.join(ghost, room.into()).await?;
        steps.reached(steps::Step::JoinedGhost).await;
        self.facts.standing.insert(account.clone(), Standing::Joined);
        Ok(())
    }

    /// A room that the bot made before and did not live to tell is adopted.
    async fn make_room(&mut self) -> Result<(), Failure> {
        let Spine { matrix, names, steps, .. } = self.spine;
        if let Some(room) = &self.portal.room {
            self.facts.room = Some(room.clone());
            return Ok(());
        }
        let request = room_request(names, &self.portal.group, &self.portal.name);
        let room = match matrix.create_room(names.bot(), &request).await {
            Ok(room) => room,
            Err(error) if error.is_code("M_ROOM_IN_USE") => self.adopt().await?,
            Err(error) => return Err(error.into()),
        };
        steps.reached(steps::Step::MadeRoom).await;
        self.portal.apply(&Here::Made(room.clone()));
        self.facts.room = Some(room);
        Ok(())
    }

    async fn adopt(&self) -> Result<OwnedRoomId, Failure> {
        let Spine { matrix, names, .. } = self.spine;
        let alias = names.alias(&self.portal.group);
        let not_ours = || Failure::Refused(format!("{alias} is a room that the bot did not make"));
        let parsed = RoomAliasId::parse(&alias).map_err(|_| not_ours())?;
        let room = matrix.resolve_alias(&parsed).await?.ok_or_else(not_ours)?;
        let first = matrix.messages(names.bot(), &room, Direction::Forwards, None, 1).await?;
        let create = first.chunk.first().and_then(|raw| Marked::of(raw)).ok_or_else(not_ours)?;
        if create.kind == "m.room.create" && create.sender == names.bot().as_str() {
            Ok(room)
        } else {
            Err(not_ours())
        }
    }

    async fn invite(&self, room: &RoomId, user: &UserId) -> Result<(), Failure> {
        let Spine { matrix, names, .. } = self.spine;
        match matrix.invite(names.bot(), room, user).await {
            Err(error @ MatrixError::Refused(403, ..)) => {
                let key = user.as_str();
                let member = matrix.state(names.bot(), room, "m.room.member", key).await?;
                let membership = member.as_ref().and_then(|member| member.get("membership"));
                let membership = membership.and_then(serde_json::Value::as_str);
                if matches!(membership, Some("join" | "invite")) {
                    Ok(())
                } else {
                    Err(error.into())
                }
            }
            other => Ok(other?),
        }
    }

    async fn leave(&mut self, room: &RoomId, account: &AccountId) -> Tried {
        let (standing, _) = self.standing(account).await?;
        match standing {
            Standing::Joined => Ok(self.take_out(room, account).await),
            Standing::Absent | Standing::Removed(_) => Ok(Ok(())),
        }
    }

    async fn take_out(&mut self, room: &RoomId, account: &AccountId) -> Result<(), Failure> {
        if let Some(ghost) = self.spine.names.ghost(account) {
            match self.spine.matrix.leave(&ghost, room).await {
                // It is not in the room: somebody was quicker.
                Ok(()) | Err(MatrixError::Refused(403 | 404, ..)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.facts.standing.insert(account.clone(), Standing::Absent);
        Ok(())
    }

    async fn topic(&self, room: &RoomId, text: &str) -> Result<(), Failure> {
        let Spine { matrix, names, .. } = self.spine;
        matrix.send_state(names.bot(), room, "m.room.topic", "", &json!({"topic": text})).await?;
        Ok(())
    }

    async fn close(&mut self, room: &RoomId, row: &Stored<InRoom>) -> Tried {
        let told = if self.portal.encrypted {
            self.topic(room, CLOSED).await
        } else {
            self.notice(room, row, CLOSED).await?
        };
        if told.is_err() {
            return Ok(told);
        }
        let mut read = self.spine.db.read().await?;
        let mut inside = ghosts::joined(&mut read, self.portal.id).await?;
        drop(read);
        inside.extend(self.facts.standing.keys().cloned());
        inside.sort();
        inside.dedup();
        for account in inside {
            if let Err(failure) = self.take_out(room, &account).await {
                return Ok(Err(failure));
            }
        }
        Ok(Ok(()))
    }
}

/// As much of an event of ours as is needed to know it again.
#[derive(Deserialize)]
struct Marked {
    event_id: String,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    sender: String,
    #[serde(default)]
    origin_server_ts: Timestamp,
    #[serde(default)]
    content: Marker,
}

#[derive(Default, Deserialize)]
struct Marker {
    #[serde(rename = "dev.causeway.txn", default)]
    txn: Option<String>,
}

impl Marked {
    fn of(raw: &RawValue) -> Option<Self> {
        serde_json::from_str(raw.get()).ok()
    }
}
