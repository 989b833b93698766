//! Rules about what people of the group ask the bridge for: to come in, a room, invitations. Who may,
//! and how much of it in a day, is the operator's to say.

use causeway_protocol::ids::AccountId;
use ruma::OwnedUserId;

use super::{notice, room};
use crate::domain::{
    BridgeRequest, RosterChange, Skip,
    effect::{Effect, Here, InRoom},
    portal::{Portal, PortalState},
    readers::who,
    share::{Given, Refusal, Used},
};

/// Somebody has let the bridge into the group of this name.
pub(super) fn let_in(portal: &Portal, name: &str, change: &RosterChange) -> Vec<Effect> {
    let by = who(change.by.as_ref());
    let is_lost = portal.lost.is_some();
    let needs_room = is_lost || portal.room.is_none();
    let refusal = change.share.refuses(needs_room);
    let rooms = u32::from(needs_room && refusal.is_none());
    let mut effects = Vec::new();
    effects.extend(change.by.clone().map(|to| given(to, rooms, 0, refusal)));
    if let Some(refusal) = refusal {
        let text = format!(
            "{by} let the bridge in, and it carries nothing out of this group, nor into it. \
             {refusal} `group bridge` asks again. Until then the bridge can read what is said here \
             all the same; `member remove` takes it out."
        );
        let why = format!("{by} met {}", refusal.key());
        effects.extend([Effect::Here(Here::Refused(name.to_owned(), why)), notice(text)]);
        return effects;
    }
    if is_lost {
        effects.extend(room::parted_from_all(portal));
    }
    effects.push(Effect::Here(Here::Opened(name.to_owned())));
    if is_lost {
        effects.push(Effect::InRoom(room::make_other(portal)));
        effects.extend(room::all_invited(portal, &[], None));
    } else {
        effects.push(Effect::InRoom(InRoom::Make));
    }
    effects.push(notice(format!(
        "{by} let the bridge in: from now on {} can read what is said. Its Matrix room comes next.",
        portal.names.server()
    )));
    effects
}

/// Somebody asks for a room, if the group has none that is of use, and for invitations.
pub(super) fn requested(portal: &Portal, request: &BridgeRequest) -> Result<Vec<Effect>, Skip> {
    let is_refused = portal.refused.is_some();
    if portal.state == PortalState::Closed && !is_refused {
        return Err(Skip::Closed);
    }
    if !request.from_admin {
        return Err(Skip::NotAdmin);
    }
    let (by, share) = (&request.by, request.share);
    let needs_room = is_refused || portal.lost.is_some();
    if needs_room && let Some(refusal) = share.refuses(true) {
        let text = format!("No Matrix room is made for this group, as {by} asked. {refusal}");
        return Ok(vec![given(by.clone(), 0, 0, Some(refusal)), notice(text)]);
    }
    let wanted: Vec<OwnedUserId> = request
        .invite
        .iter()
        .filter(|user| !portal.names.is_ours(user))
        .filter(|user| needs_room || !portal.mirrors.contains_key(*user))
        .cloned()
        .collect();
    let (count, refusal) = share.invites_of(wanted.len());
    let (invited, not_invited) = wanted.split_at_checked(count).unwrap_or((&wanted, &[]));
    let mut effects: Vec<Effect> = Vec::new();
    if needs_room || !wanted.is_empty() {
        effects.push(given(by.clone(), u32::from(needs_room), invited.len(), refusal));
    }
    if let Some(refusal) = refusal {
        let people = not_invited.len();
        effects.push(notice(format!(
            "{people} of those whom {by} asked for are not invited. {refusal}"
        )));
    }
    if needs_room {
        effects.extend(room::anew(portal, invited, Some(by)));
        return Ok(effects);
    }
    if let Some(room) = &request.room {
        effects.push(notice(format!(
            "This bridge does not link rooms that exist, so {room} is not used; it made {}.",
            portal.names.alias(&portal.group)
        )));
    }
    effects.extend(invited.iter().flat_map(|user| room::invitation_for(user, by)));
    if effects.is_empty() { Err(Skip::Nothing) } else { Ok(effects) }
}

fn given(to: AccountId, rooms: u32, invites: usize, refused: Option<Refusal>) -> Effect {
    let used = Used { rooms, invites: u32::try_from(invites).unwrap_or(u32::MAX) };
    Effect::Here(Here::Given(Given { to, used, refused }))
}

#[cfg(test)]
#[path = "asked_table.rs"]
mod table;
