//! Whether a room has what may have been sent: by its marker, and where somebody has taken that out
//! since, by whose it was and when.

use causeway_protocol::ids::Timestamp;
use ruma::{OwnedEventId, RoomId, UserId};

use super::{
    super::markers::{Removed, SKEW_MS},
    Failure, Found, Place, Round, Spine, Stored, at,
};
use crate::{
    domain::{effect::InRoom, said::OLD_MS},
    gateway::matrix::MatrixError,
    storage::{self, links},
};

/// Rooms that came one after the other and are looked through.
const MOST_ROOMS: usize = 8;

impl Round<'_> {
    /// The event that says what `row` does, if the room or one that it follows has one that was not
    /// sent before `since`.
    pub(super) async fn find(
        &self,
        room: &RoomId,
        user: &UserId,
        row: &Stored<InRoom>,
        since: Timestamp,
    ) -> Result<Option<OwnedEventId>, Failure> {
        let Spine { matrix, names, markers, .. } = self.spine;
        let (mut rooms, mut removed) = (vec![room.to_owned()], Vec::new());
        while let Some(room) = rooms.last() {
            let about = (&**room, row.entry.txn.as_str(), since);
            let found = match markers.find((matrix, names), self.spine.steady(), about).await {
                // The bridge was not there.
                Err(MatrixError::Refused(403 | 404, ..)) if rooms.len() > 1 => break,
                found => found.map_err(at(Place::Room))?,
            };
            let rest = match found {
                Found::Event(event) => return Ok(Some(event)),
                Found::Nothing(rest) => rest,
                Found::NotYet(read) => return Err(Failure::Searching(read)),
                Found::TooFar => {
                    let text = "whether the room has it already is too far back to be found out";
                    return Err(Failure::Gone(text.to_owned()));
                }
            };
            removed.extend(rest.removed.into_iter().filter(|removed| removed.sender == *user));
            match rest.before {
                Some(before) if rooms.len() < MOST_ROOMS && !rooms.contains(&before) => {
                    rooms.push(before);
                }
                Some(_) | None => break,
            }
        }
        let removed = self.not_known(removed).await;
        let removed = removed.map_err(|error| Failure::Later(error.to_string()))?;
        among_removed(row, &removed)
    }

    /// Those of `removed` of which it is not known what they said.
    async fn not_known(&self, removed: Vec<Removed>) -> Result<Vec<Removed>, storage::Error> {
        let mut unknown = Vec::new();
        if removed.is_empty() {
            return Ok(unknown);
        }
        let mut read = self.spine.db.read().await?;
        for removed in removed {
            let is_of_round = self.facts.links.iter().any(|link| link.event_id == removed.event);
            if !is_of_round && links::message_of(read.conn(), &removed.event).await?.is_none() {
                unknown.push(removed);
            }
        }
        Ok(unknown)
    }
}

/// What is left of an event that was taken out is whose it was, and when: the time that it bore, where
/// that was its own, is as good as its marker. Where one may be it, nobody can tell, and it is not said
/// again.
fn among_removed(
    row: &Stored<InRoom>,
    removed: &[Removed],
) -> Result<Option<OwnedEventId>, Failure> {
    let InRoom::Say(spoken) = &row.entry.deed else { return Ok(None) };
    let said = spoken.own_time(row.entry.accepted_at, Timestamp(u64::MAX));
    let Some(said) = said else { return Ok(None) };
    if let Some(same) = removed.iter().find(|removed| removed.at == said) {
        return Ok(Some(same.event.clone()));
    }
    let may_be = said.0.saturating_sub(SKEW_MS)..=said.plus_ms(OLD_MS + SKEW_MS).0;
    if removed.iter().any(|removed| may_be.contains(&removed.at.0)) {
        let text = "something that they said at that time was removed from the room, and may be this; it \
                    is not said there again";
        return Err(Failure::Gone(text.to_owned()));
    }
    Ok(None)
}
