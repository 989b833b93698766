//! Rules about what the room is told of who reads it in the group.

use super::is_told;
use crate::domain::{
    RoomEvent, RosterChange, Skip,
    command::{Asked, Command},
    effect::{Effect, InRoom},
    portal::Portal,
    readers::{came, went, who_here},
};

/// Who came into the group and who went: said in the room, where one may be said there.
pub(super) fn told(portal: &Portal, change: &RosterChange) -> Vec<Effect> {
    let (by, server) = (change.by.as_ref(), portal.names.server());
    let mut effects = Vec::new();
    for account in &change.left {
        effects.push(Effect::InRoom(if by == Some(account) {
            InRoom::Leave(account.clone())
        } else {
            let by = who_here(by, server);
            InRoom::PutOut(account.clone(), format!("removed from the group by {by}"))
        }));
    }
    if !is_told(portal) || change.let_in.is_some() {
        return effects;
    }
    let say = |text| Effect::InRoom(InRoom::Notice(text));
    if !change.joined.is_empty() {
        effects.push(say(came(by, &change.joined, server)));
    }
    if !change.left.is_empty() {
        effects.push(say(went(by, &change.left, server)));
    }
    if change.policy.is_some() || !change.joined.is_empty() || !change.left.is_empty() {
        effects.push(Effect::InRoom(InRoom::Topic));
    }
    effects
}

/// What somebody in the room says to the bot; `None` where it is said to all.
pub(super) fn command(portal: &Portal, event: &RoomEvent) -> Option<Result<Vec<Effect>, Skip>> {
    let command = Command::of(event)?;
    // There is no answer in an encrypted room.
    if portal.encrypted {
        return Some(Err(Skip::Nothing));
    }
    let id = event.event_id.clone();
    let answer = match command {
        Command::Members(page) => InRoom::Members(id, page),
        Command::Asked(asked) => InRoom::Asked(id, event.sender.clone(), asked),
        Command::Words(words) => InRoom::Asked(id, event.sender.clone(), Asked::Words(words)),
    };
    Some(Ok(vec![Effect::InRoom(answer)]))
}

#[cfg(test)]
#[path = "readers_table.rs"]
mod table;
