//! Rules about the room itself: that it is there, that the bridge is in it, and how it is.

use std::collections::BTreeSet;

use causeway_protocol::ids::AccountId;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde_json::Value;

use super::{announce::announced, encrypted, notice, put_out};
use crate::domain::{
    News, Ornament, RoomEvent, Skip,
    effect::{Effect, Here, InRoom},
    looks::Taken,
    mirror::{Mirror, name_of},
    portal::{Portal, PortalState},
    room::{Found, not_followed, successor},
};

/// Why nothing gets into a room that the bot is not in.
const OUT: &str = "the bridge is not in the room any more, or the room is gone";

/// What a group is told whose room is given up for another.
const ANOTHER: &str = "A new Matrix room is being made for this group. What is said in the one that it had \
    does not get here from now on.";

/// What a group is told whose alias leads to another room: a database was put back, or the homeserver's.
const ELSEWHERE: &str = "The Matrix room of this group is another than the bridge had, as it is after \
    something was put back from a backup: it goes on there. What was said last may be missing here or \
    there.";

pub(super) fn news(portal: &Portal, news: &News) -> Result<Vec<Effect>, Skip> {
    let is_open = portal.state == PortalState::Open;
    match news {
        // What was said before still goes there.
        News::Entered(found, _) if portal.state == PortalState::Closed => {
            Ok(vec![Effect::Here(Here::Made(found.room.clone()))])
        }
        _ if portal.state == PortalState::Closed => Err(Skip::Closed),
        // It has gone on to another meanwhile.
        News::Entered(found, _) if is_open && is_other(portal, found) => Err(Skip::Nothing),
        News::Entered(found, told) => Ok(entered(portal, found, told.as_ref())),
        News::Followed(found) => Ok(followed(portal, found)),
        News::NotFollowed(room, why) => Ok(lost(portal, not_followed(room, why))),
        // Whoever is gone by the time that the bot comes back has not let it in.
        News::Out if portal.room.is_some() && portal.lost.is_none() => {
            Ok(lost(portal, OUT.to_owned()))
        }
        News::In
            if is_open
                && (portal.lost.is_some() || portal.is_out())
                && portal.successor.is_none() =>
        {
            Ok(back())
        }
        News::Elsewhere if is_open => {
            let mut effects = back();
            effects.push(notice(ELSEWHERE.to_owned()));
            Ok(effects)
        }
        News::Encrypted(room) if !portal.encrypted && portal.room.as_ref() == Some(room) => {
            Ok(encrypted().into())
        }
        News::Replaced(next) if is_open && portal.lost.is_none() && portal.successor.is_none() => {
            Ok(replaced(next.clone()))
        }
        // Whoever gave up making it has said why.
        News::Unmade if portal.is_in_making() || portal.is_about_to_follow() => {
            let why = match portal.room {
                Some(_) if is_open => "the bridge does not get into the one that replaced it",
                Some(_) => "the bridge does not get back into it",
                None => "its room could not be made",
            };
            Ok(vec![Effect::Here(Here::Lost(why.to_owned()))])
        }
        News::PutOut(account, by) if !portal.removed.contains_key(account) => {
            Ok(put_out(portal, account, by).into())
        }
        News::NotSet(ornament) if is_open && portal.lost.is_none() => {
            Ok(vec![not_set(portal, *ornament)])
        }
        News::Recreate if !portal.is_in_making() => Ok(anew(portal, &[], None)),
        News::Unbridged(by) if is_open => {
            let mut effects = parted_from_all(portal);
            effects.push(Effect::Here(Here::Out));
            effects.extend(lost(portal, format!("{by} took the bridge out of it")));
            Ok(effects)
        }
        News::Out
        | News::In
        | News::Elsewhere
        | News::Encrypted(_)
        | News::Replaced(_)
        | News::Unmade
        | News::PutOut(..)
        | News::NotSet(_)
        | News::Recreate
        | News::Unbridged(_) => Err(Skip::Nothing),
    }
}

fn not_set(portal: &Portal, ornament: Ornament) -> Effect {
    let what = match ornament {
        Ornament::Name => "name",
        Ornament::Topic => "topic",
    };
    notice(format!(
        "The Matrix room keeps the {what} that it has: {} may not set it there. Somebody with the power \
         has to set it, or give the bot the power to.",
        portal.names.bot()
    ))
}

/// Another room, to which everybody is invited who was in the one before, or invited there, and these, as
/// somebody has asked.
pub(super) fn anew(portal: &Portal, invite: &[OwnedUserId], by: Option<&AccountId>) -> Vec<Effect> {
    let mut effects = parted_from_all(portal);
    effects.extend([
        Effect::Here(Here::GivenUp),
        notice(match &portal.room {
            Some(_) => ANOTHER,
            None => "A new Matrix room is being made for this group.",
        }),
        Effect::InRoom(make_other(portal)),
    ]);
    effects.extend(all_invited(portal, invite, by));
    effects
}

/// Whoever was in the room before, or invited there, is invited, and `invite` besides, for whom `by`
/// has asked.
pub(super) fn all_invited<'a>(
    portal: &'a Portal,
    invite: &'a [OwnedUserId],
    by: Option<&'a AccountId>,
) -> impl Iterator<Item = Effect> + 'a {
    let known = portal.mirrors.keys().chain(&portal.invited);
    let invited: BTreeSet<&OwnedUserId> = known.chain(invite).collect();
    let invited = invited.into_iter().filter(|user| !portal.names.is_ours(user));
    invited.flat_map(move |user| match by.filter(|_| invite.contains(user)) {
        Some(by) => invitation_for(user, by),
        None => invitation(user),
    })
}

/// Whoever was in the room before this one, or invited there, is invited, unless he is here already.
fn invited_too<'a>(portal: &'a Portal, found: &'a Found) -> impl Iterator<Item = Effect> + 'a {
    let before: BTreeSet<&OwnedUserId> = portal.mirrors.keys().chain(&portal.invited).collect();
    let is_here =
        |user: &&OwnedUserId| found.people.contains_key(*user) || found.invited.contains(*user);
    before.into_iter().filter(move |user| !is_here(user)).flat_map(invitation)
}

/// Somebody is invited; until he comes it is known that he is.
pub(super) fn invitation(user: &OwnedUserId) -> [Effect; 2] {
    [Effect::Here(Here::Invited(user.clone())), Effect::InRoom(InRoom::Invite(user.clone()))]
}

/// The same, as somebody has asked.
pub(super) fn invitation_for(user: &OwnedUserId, by: &AccountId) -> [Effect; 2] {
    let invites = InRoom::InviteFor(user.clone(), by.clone());
    [Effect::Here(Here::Invited(user.clone())), Effect::InRoom(invites)]
}

/// Another room; nobody of ours stays in the one before.
pub(super) fn make_other(portal: &Portal) -> InRoom {
    match &portal.room {
        Some(room) => InRoom::MakeInstead(room.clone()),
        None => InRoom::MakeAnew,
    }
}

/// Nobody is in a room that is not there.
pub(super) fn parted_from_all(portal: &Portal) -> Vec<Effect> {
    let gone: Vec<OwnedUserId> = portal.mirrors.keys().cloned().collect();
    announced(&[], &gone)
}

/// The bot was put out of the room, or is welcome again.
pub(super) fn bot_standing(
    portal: &Portal,
    event: &RoomEvent,
    membership: &str,
) -> Result<Vec<Effect>, Skip> {
    let by = &event.sender;
    match membership {
        // Of before it came back.
        "leave" | "ban" if portal.hears_from.is_some() => Err(Skip::Nothing),
        "leave" | "ban" => {
            let mut effects = vec![Effect::Here(Here::Out)];
            // Where it went by itself, what made it go says so; else that it is out is seen.
            if portal.lost.is_none() && !portal.names.is_ours(by) {
                effects.extend(lost(portal, format!("{by} removed the bridge from the room")));
            }
            Ok(effects)
        }
        "invite" if (portal.lost.is_some() || portal.is_out()) && portal.successor.is_none() => {
            Ok(back())
        }
        _ => Err(Skip::Nothing),
    }
}

/// In the room that has replaced the portal's nothing counts but that the bot is invited there.
pub(super) fn elsewhere(portal: &Portal, event: &RoomEvent) -> Result<Vec<Effect>, Skip> {
    let is_of_bot = event.state_key.as_deref() == Some(portal.names.bot().as_str());
    let is_next = portal.successor.as_ref() == Some(&event.room_id);
    if event.kind == "m.room.member" && is_of_bot && is_next && membership(event)? == "invite" {
        return Ok(vec![Effect::InRoom(InRoom::Follow(event.room_id.clone()))]);
    }
    Err(Skip::Elsewhere)
}

/// Client-server API v1.16, "Room Upgrades": whoever could send a tombstone had the power for it.
pub(super) fn tombstone(event: &RoomEvent) -> Vec<Effect> {
    match successor(&event.content) {
        Some(next) => replaced(next),
        None => vec![notice(format!(
            "{} closed the Matrix room, and named none that comes after it: whether anybody can still \
             speak there is for its power levels to say.",
            event.sender
        ))],
    }
}

fn replaced(next: OwnedRoomId) -> Vec<Effect> {
    vec![Effect::Here(Here::Replaced(next.clone())), Effect::InRoom(InRoom::Follow(next))]
}

fn lost(portal: &Portal, why: String) -> Vec<Effect> {
    let text = format!(
        "What is said here does not get into the Matrix room: {why}. What is said there may not get \
         here either. An admin can have a new room made (`group bridge`), or somebody there can invite {}.",
        portal.names.bot()
    );
    vec![Effect::Here(Here::Lost(why)), notice(text)]
}

fn back() -> Vec<Effect> {
    vec![Effect::Here(Here::Back), Effect::InRoom(InRoom::Return)]
}

fn entered(portal: &Portal, found: &Found, told: Option<&OwnedEventId>) -> Vec<Effect> {
    let mut effects = vec![Effect::Here(Here::Made(found.room.clone()))];
    effects.extend(told.map(|event| Effect::Here(Here::Told(event.clone()))));
    effects.extend(read(portal, found));
    let room = room_name(portal, found);
    effects.push(notice(format!("This group is bridged into the Matrix room {room}.")));
    if !found.encrypted {
        // Who comes later sees nothing of what was said before: `joined` in the room's request.
        let is_read = !found.people.is_empty();
        effects.push(Effect::InRoom(if is_read { InRoom::Introduce } else { InRoom::Topic }));
    }
    if is_other(portal, found) && found.successor.is_none() {
        effects.extend(invited_too(portal, found));
    }
    effects.extend(found.successor.iter().flat_map(|next| replaced(next.clone())));
    effects
}

fn is_other(portal: &Portal, found: &Found) -> bool {
    portal.room.as_ref().is_some_and(|known| *known != found.room)
}

fn followed(portal: &Portal, found: &Found) -> Vec<Effect> {
    let mut effects = vec![Effect::Here(Here::Moved(found.room.clone()))];
    effects.extend(read(portal, found));
    effects.push(notice(format!(
        "The Matrix room was replaced by another, and the bridge is there: {}.",
        found.room
    )));
    if !found.encrypted {
        let text = "The bridge came along: what is said here goes into the group.";
        effects.push(Effect::InRoom(InRoom::Notice(text.to_owned())));
        effects.push(Effect::InRoom(InRoom::Introduce));
    }
    // Replaced itself by now.
    effects.extend(found.successor.iter().flat_map(|next| replaced(next.clone())));
    effects
}

/// The alias is the room's that the bot made; another one is called by its id.
fn room_name(portal: &Portal, found: &Found) -> String {
    if is_other(portal, found) && !found.is_made {
        found.room.to_string()
    } else {
        portal.names.alias(&portal.group)
    }
}

/// How a room is, before the first word from there: who is in it, and whether one may speak.
fn read(portal: &Portal, found: &Found) -> Vec<Effect> {
    let mut known = portal.mirrors.clone();
    known.retain(|user, _| found.people.contains_key(user));
    let mut taken = Taken::of(&known, portal.natives.clone());
    for (user, shown) in &found.people {
        let name = name_of(user, shown.as_deref(), &taken);
        taken.take(user, &name);
        known.insert(user.clone(), name);
    }
    let gone: Vec<OwnedUserId> =
        portal.mirrors.keys().filter(|user| !known.contains_key(*user)).cloned().collect();
    let present: Vec<Mirror> =
        known.iter().map(|(id, name)| Mirror { id: id.clone(), name: name.clone() }).collect();
    let is_news = |mirror: &&Mirror| portal.mirrors.get(&mirror.id) != Some(&mirror.name);
    let news: Vec<Mirror> = present.iter().filter(is_news).cloned().collect();

    let mut effects: Vec<Effect> =
        gone.iter().map(|user| Effect::Here(Here::Parted(user.clone()))).collect();
    if !news.is_empty() {
        effects.push(Effect::Here(Here::Met(news)));
    }
    let invited = found.invited.difference(&portal.invited);
    effects.extend(invited.map(|user| Effect::Here(Here::Invited(user.clone()))));
    // All of them: some in the group may not have heard of anybody.
    effects.extend(announced(&present, &gone));
    effects.extend(standings(portal, found));
    if found.encrypted {
        effects.extend(encrypted());
    } else if found.muted {
        effects.push(notice(
            "Only people with power may speak in the Matrix room: what is said here does not get \
             there until its power levels are changed.",
        ));
    }
    if !found.may_invite {
        let text = format!(
            "{} may not invite anybody into the Matrix room, so native people who are not there yet do \
             not get in, nor does what they say. Somebody with the power there has to give it the \
             power to invite.",
            portal.names.bot()
        );
        effects.push(notice(text.clone()));
        if !found.encrypted {
            effects.push(Effect::InRoom(InRoom::Notice(text)));
        }
    }
    effects
}

fn standings(portal: &Portal, found: &Found) -> Vec<Effect> {
    let is_same = portal.room.as_ref() == Some(&found.room);
    let mut effects = Vec::new();
    for (account, by) in &found.put_out {
        if !is_same || !portal.removed.contains_key(account) {
            effects.extend(put_out(portal, account, by));
        }
    }
    // Whoever went from the group while the bridge was not there is still in the room.
    if let Some(natives) = &portal.natives {
        let gone = found
            .ghosts
            .iter()
            .filter(|ghost| !natives.members().values().any(|member| member.account == **ghost));
        effects.extend(gone.map(|ghost| Effect::InRoom(InRoom::Leave(ghost.clone()))));
    }
    let welcome = portal.removed.keys().filter(|account| !found.put_out.contains_key(*account));
    effects.extend(
        welcome
            .filter(|_| is_same)
            .map(|account| Effect::Here(Here::Standing(account.clone(), None))),
    );
    effects
}

/// `membership` of a member event's content.
pub(super) fn membership(event: &RoomEvent) -> Result<&str, Skip> {
    event.content.get("membership").and_then(Value::as_str).ok_or(Skip::Malformed)
}

#[cfg(test)]
#[path = "room_table.rs"]
mod table;
