//! Every rule of the bridge: what is done about an input, given the portal that it concerns.

mod announce;
mod asked;
mod readers;
mod room;

use causeway_protocol::ids::AccountId;
use ruma::{OwnedEventId, UserId};
use serde_json::Value;

use super::{
    ENCRYPTION, Input, RoomEvent, RosterChange, Skip, UNREAD,
    effect::{Effect, Here, InGroup, InRoom},
    expired::Expired,
    mirror::{Mirror, name_of},
    portal::{Portal, PortalState},
    said::{Relayed, Said, Spoken},
    to_native, unbridged,
};

/// What to do about `input`, in this order.
///
/// # Errors
/// [`Skip`]: nothing, and why.
pub fn route(portal: &Portal, input: &Input) -> Result<Vec<Effect>, Skip> {
    match input {
        Input::Roster(change) => roster(portal, change),
        Input::Overheard => Err(Skip::Overheard),
        Input::Room(news) => room::news(portal, news),
        Input::Event(event, false) if is_unheard(portal, event) => unheard(portal, event),
        Input::Event(..)
        | Input::Spoken(_)
        | Input::Unbridged(..)
        | Input::Changed(..)
        | Input::Expired(_)
            if portal.state == PortalState::Closed =>
        {
            Err(Skip::Closed)
        }
        Input::Event(event, true) if portal.hears_from.as_ref() != Some(&event.event_id) => {
            Err(Skip::Own)
        }
        Input::Event(event, _) => room_event(portal, event),
        Input::Spoken(spoken) => Ok(said(portal, spoken)),
        Input::Unbridged(spoken, number) => {
            let mut effects = said(portal, spoken);
            effects.push(notice(unbridged::answer_native(&spoken.account, *number)));
            Ok(effects)
        }
        Input::Changed(account, _) => Ok(vec![changed(account)]),
        Input::Request(request) => asked::requested(portal, request),
        Input::Expired(expired) => unread(portal, expired),
    }
}

/// Whether somebody says something in the room from where nothing gets into the group: the bridge is not in
/// it, or was not when that was said.
pub fn is_unheard(portal: &Portal, event: &RoomEvent) -> bool {
    let is_deaf = portal.state == PortalState::Closed || portal.hears_from.is_some();
    is_deaf
        && portal.room.as_ref() == Some(&event.room_id)
        && event.state_key.is_none()
        && to_native::is_said(&event.kind)
        && !event.content.is_empty()
        && !portal.names.is_ours(&event.sender)
        && portal.hears_from.as_ref() != Some(&event.event_id)
}

/// Whoever says it is told, where that may be said there.
fn unheard(portal: &Portal, event: &RoomEvent) -> Result<Vec<Effect>, Skip> {
    if portal.encrypted || portal.lost.is_some() || portal.is_out() {
        return Err(Skip::Closed);
    }
    let text = "This did not get into the native group: the bridge was not in it when this was said, or \
                read.";
    Ok(vec![Effect::InRoom(InRoom::Answer(text.to_owned(), event.event_id.clone()))])
}

/// Loops are prevented twice over: a link shows that the event is ours (above), or its sender is in
/// our namespace. What it bears says nothing: anybody may write our marker, and would be heard by
/// one side only.
fn room_event(portal: &Portal, event: &RoomEvent) -> Result<Vec<Effect>, Skip> {
    if portal.room.as_ref() != Some(&event.room_id) {
        return room::elsewhere(portal, event);
    }
    if event.kind == "m.room.member" {
        return member(portal, event);
    }
    if portal.hears_from.as_ref() == Some(&event.event_id) {
        return Ok(vec![Effect::Here(Here::Heard)]);
    }
    // How the room is then is read when the bot is back.
    if portal.is_out() {
        return Err(Skip::Closed);
    }
    // Whoever has set it: a homeserver may have us set it.
    if (event.kind.as_str(), event.state_key.as_deref()) == (ENCRYPTION, Some("")) {
        return if portal.encrypted { Err(Skip::Nothing) } else { Ok(encrypted().into()) };
    }
    if portal.names.is_ours(&event.sender) {
        return Err(Skip::Own);
    }
    match (event.kind.as_str(), event.state_key.as_deref()) {
        // Said where it was told that it goes nowhere.
        (_, None) if portal.hears_from.is_some() => Err(Skip::Closed),
        // The bridge has just given it that.
        ("m.room.name", Some("")) if is_named(event, &portal.name) => Err(Skip::Nothing),
        _ if let Some(kind) = unbridged::Kind::of(event) => {
            // How a room was set up that has just replaced another is no news.
            let is_new = kind == unbridged::Kind::Setting && portal.hears_from.is_some();
            if is_new { Err(Skip::Closed) } else { Ok(unbridged(portal, event, kind)) }
        }
        (kind, None) if to_native::is_said(kind) => message(portal, event),
        (UNREAD, None) if portal.lost.is_some() => Err(Skip::Encrypted),
        (UNREAD, None) => Ok(vec![Effect::InRoom(InRoom::Unread(event.event_id.clone()))]),
        ("m.room.tombstone", Some("")) => Ok(room::tombstone(event)),
        _ => Err(Skip::Type),
    }
}

/// Whether something may be said in the room now.
fn is_told(portal: &Portal) -> bool {
    portal.state == PortalState::Open && portal.lost.is_none() && !portal.encrypted
}

fn is_named(event: &RoomEvent, name: &str) -> bool {
    event.content.get("name").and_then(Value::as_str) == Some(name)
}

fn encrypted() -> [Effect; 3] {
    [
        Effect::Here(Here::Encrypted),
        Effect::InRoom(InRoom::Pause),
        notice(
            "The room is encrypted now, and this bridge cannot encrypt yet: what is said here \
             waits, and nothing is sent in clear.",
        ),
    ]
}

fn notice(text: impl Into<String>) -> Effect {
    Effect::InGroup(InGroup::Notice(text.into()))
}

/// Said once, in the group: who is in the room knows names only.
fn changed(account: &AccountId) -> Effect {
    notice(format!(
        "{account} has another identity than the one that the bridge knew. What they say is carried, \
         and they are given what is said in the room, only if {} has registered that identity for \
         them. Ask them by another way whether it is theirs.",
        account.server()
    ))
}

fn message(portal: &Portal, event: &RoomEvent) -> Result<Vec<Effect>, Skip> {
    if let Some(effects) = readers::command(portal, event) {
        return effects;
    }
    Ok(says(portal, event, to_native::said(&portal.names, &event.content)?))
}

/// A mirror must be announced before it speaks (protocol §2.1).
fn says(portal: &Portal, event: &RoomEvent, parts: Vec<Said<OwnedEventId>>) -> Vec<Effect> {
    let mut effects = Vec::with_capacity(parts.len() + 2);
    if !portal.mirrors.contains_key(&event.sender) {
        effects.extend(met(portal, &event.sender, None));
    }
    effects.extend(parts.into_iter().map(|said| {
        let (mirror, event_id) = (event.sender.clone(), event.event_id.clone());
        Effect::InGroup(InGroup::Say(Relayed { mirror, event_id, said }))
    }));
    effects
}

/// The group reads a line, and who did it is told.
fn unbridged(portal: &Portal, event: &RoomEvent, kind: unbridged::Kind) -> Vec<Effect> {
    let (line, about) = unbridged::line(kind, event);
    // Clients show no reaction and no removal as what is answered, but what it is about.
    let answered = about.clone().unwrap_or_else(|| event.event_id.clone());
    let mut effects = says(portal, event, to_native::notice(line, about));
    if !portal.encrypted {
        effects.push(Effect::InRoom(InRoom::Answer(kind.answer(), answered)));
    }
    effects
}

fn member(portal: &Portal, event: &RoomEvent) -> Result<Vec<Effect>, Skip> {
    let target = event.state_key.as_deref().and_then(|key| UserId::parse(key).ok());
    let target = target.ok_or(Skip::Malformed)?;
    let membership = room::membership(event)?;
    if target == *portal.names.bot() {
        return room::bot_standing(portal, event, membership);
    }
    if portal.is_out() {
        return Err(Skip::Closed);
    }
    if portal.names.is_ours(&target) {
        if portal.names.is_ours(&event.sender) {
            return Err(Skip::Own);
        }
        return ghost_standing(portal, event, &target, membership);
    }
    match membership {
        "join" => {
            let shown = event.content.get("displayname").and_then(Value::as_str);
            let name = name_of(&target, shown, portal.taken());
            if portal.mirrors.get(&target) == Some(&name) {
                return Err(Skip::Nothing);
            }
            let mut effects = Vec::from(met(portal, &target, shown));
            if portal.mirrors.is_empty() && is_told(portal) {
                effects.push(Effect::InRoom(InRoom::Introduce));
            }
            Ok(effects)
        }
        "leave" | "ban" if portal.mirrors.contains_key(&target) => {
            let removed = (event.sender != target).then(|| {
                notice(format!("{} removed {target} from the Matrix room.", event.sender))
            });
            let mut effects = vec![Effect::Here(Here::Parted(target.clone()))];
            effects.extend(removed);
            effects.push(Effect::InGroup(InGroup::Announce(Vec::new(), vec![target])));
            Ok(effects)
        }
        "leave" | "ban" if portal.invited.contains(&target) => {
            Ok(vec![Effect::Here(Here::Uninvited(target))])
        }
        "invite" if !portal.invited.contains(&target) && !portal.mirrors.contains_key(&target) => {
            Ok(vec![Effect::Here(Here::Invited(target))])
        }
        _ => Err(Skip::Nothing),
    }
}

/// Protocol §3.5: a kick changes no roster; the group is told, and the account's messages fail until
/// somebody in the room invites it again.
fn ghost_standing(
    portal: &Portal,
    event: &RoomEvent,
    target: &UserId,
    membership: &str,
) -> Result<Vec<Effect>, Skip> {
    let account = portal.names.account(target).ok_or(Skip::Nothing)?;
    let by = &event.sender;
    match membership {
        "leave" | "ban" if !portal.removed.contains_key(&account) => {
            Ok(put_out(portal, &account, by).into())
        }
        "invite" if portal.removed.contains_key(&account) => {
            let text = format!("{by} invited {account} to the room again.");
            Ok(vec![Effect::Here(Here::Standing(account, None)), notice(text)])
        }
        _ => Err(Skip::Nothing),
    }
}

fn put_out(portal: &Portal, account: &AccountId, by: &UserId) -> [Effect; 2] {
    let ghost = portal.names.ghost(account).map(|ghost| ghost.to_string());
    let text = format!(
        "{by} removed {account} from the room: what {account} says does not get there until \
         somebody in the room invites {} again.",
        ghost.unwrap_or_default()
    );
    [Effect::Here(Here::Standing(account.clone(), Some(by.to_owned()))), notice(text)]
}

fn met(portal: &Portal, user: &UserId, display_name: Option<&str>) -> [Effect; 2] {
    let name = name_of(user, display_name, portal.taken());
    let mirrors = vec![Mirror { id: user.to_owned(), name }];
    [
        Effect::Here(Here::Met(mirrors.clone())),
        Effect::InGroup(InGroup::Announce(mirrors, Vec::new())),
    ]
}

fn said(portal: &Portal, spoken: &Spoken) -> Vec<Effect> {
    let account = &spoken.account;
    let unsaid = |reason| vec![Effect::Here(Here::Unsaid(spoken.clone(), reason))];
    if let Some(why) = &portal.lost {
        return unsaid(why.clone());
    }
    if let Some(by) = portal.removed.get(account) {
        return unsaid(format!("removed from the room by {by}"));
    }
    if portal.names.ghost(account).is_none() {
        return unsaid(format!("{account} has no ghost on {}", portal.names.server()));
    }
    let mut effects = vec![Effect::InRoom(InRoom::Say(spoken.clone()))];
    if spoken.late {
        effects.push(Effect::InRoom(InRoom::Leave(account.clone())));
    }
    effects
}

/// Who said it reads it where he said it; a room that gets nothing is not told that either.
fn unread(portal: &Portal, expired: &Expired) -> Result<Vec<Effect>, Skip> {
    if portal.lost.is_some() || portal.encrypted {
        return Err(Skip::Nothing);
    }
    Ok(vec![Effect::InRoom(InRoom::Answer(expired.to_string(), expired.first.clone()))])
}

fn roster(portal: &Portal, change: &RosterChange) -> Result<Vec<Effect>, Skip> {
    let is_closed = portal.state == PortalState::Closed;
    if change.put_out || change.closed {
        if portal.refused.is_some() {
            return Ok(vec![Effect::Here(Here::Closed)]);
        }
        if is_closed {
            return Err(Skip::Closed);
        }
        return Ok(vec![Effect::Here(Here::Closed), Effect::InRoom(InRoom::Close)]);
    }
    let mut effects = Vec::new();
    if let Some(name) = &change.let_in {
        effects.extend(asked::let_in(portal, name, change));
    } else if is_closed {
        return Err(Skip::Closed);
    }
    if let Some(name) = change.policy.as_ref().filter(|name| **name != portal.name) {
        effects.push(Effect::Here(Here::Named(name.clone())));
        if portal.state == PortalState::Open && portal.lost.is_none() && !portal.encrypted {
            effects.push(Effect::InRoom(InRoom::Rename));
        }
    }
    effects.extend(readers::told(portal, change));
    // Where the room is entered first, all of them are announced then.
    if change.let_in.is_none() && !change.joined.is_empty() && !portal.is_in_making() {
        effects.extend(announce::introduced(portal, &change.joined));
    }
    if effects.is_empty() { Err(Skip::Nothing) } else { Ok(effects) }
}

#[cfg(test)]
#[path = "route_table.rs"]
mod table;
