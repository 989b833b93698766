//! Relay rooms, as the agent keeps them: how one is made, who is to be in it, and whom the agent lets in or
//! follows (protocol §7.4).

use std::collections::{BTreeMap, BTreeSet};

use causeway_protocol::ids::GroupId;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::room::StateEvent;
use crate::registration::AGENT;

/// Type of a room's events that carry something.
pub const MESSAGE: &str = "dev.causeway.group.message";
/// What the room's create event says that it is.
const TYPE: &str = "dev.causeway.relay";
/// Of which group, in the same place.
const GROUP: &str = "dev.causeway.group";

/// Invitations of one server's agent at once.
const AT_ONCE: u32 = 4;
/// Then one each.
const EACH_MS: u64 = 360_000;
/// How long after an invitation that was refused the next one is made, milliseconds.
pub const REFUSED_MS: u64 = 3_600_000;
/// How long an agent has for leaving by itself once it was told.
const LEAVES_MS: u64 = 60_000;
/// How long an invitation may stand: whoever has not come by then may not have seen it, and is invited anew.
const UNANSWERED_MS: u64 = 3_600_000;
/// How long an agent's invitation is kept while nobody has told of its room.
const UNTOLD_MS: u64 = 600_000;
/// How long one waits to invite an agent again that did not come into a room, twice as long each time, and at most.
const AGAIN_MS: u64 = 600_000;
const MAX_AGAIN_MS: u64 = 86_400_000;
/// Servers of which that is known at once.
const MAX_SERVERS: usize = 4_096;

/// A room in which the agent is to be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Wish {
    /// Of which group.
    pub group: GroupId,
    /// Absent where it is to be made.
    pub room: Option<OwnedRoomId>,
    /// The server whose agent makes it, and lets in.
    pub home: OwnedServerName,
    /// The other servers with members; none where the room is over: it is left once nobody else is there.
    pub servers: Vec<OwnedServerName>,
}

/// What is to be done about a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// To make it, or to find what was made.
    Make,
    /// To go in.
    Join(OwnedRoomId),
    /// To look who is in it.
    Look(OwnedRoomId),
    /// To wait for an invitation.
    Wait,
    /// To say that nobody is there any more: the room is over.
    Over(OwnedRoomId),
}

/// Who is in a room, and who is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tended {
    /// Servers whose agents are there.
    pub joined: BTreeSet<OwnedServerName>,
    /// Servers whose agents are to be invited.
    pub invite: Vec<OwnedServerName>,
    /// Agents who are invited and have not come.
    pub invited: Vec<OwnedUserId>,
    /// Agents of servers without members now, who are to leave, and are put out later.
    pub leaving: Vec<OwnedUserId>,
    /// Who is to be put out.
    pub put_out: Vec<OwnedUserId>,
}

impl Tended {
    /// Whether nobody is missing, and nobody is there who should not be.
    pub fn is_settled(&self, wish: &Wish) -> bool {
        let is_full = self.joined.len() == wish.servers.len();
        is_full && self.leaving.is_empty() && self.put_out.is_empty()
    }
}

/// What to do about a room first, by the rooms that the agent is in, and who invited it into which.
pub fn next(
    wish: &Wish,
    agent: &UserId,
    joined: &[OwnedRoomId],
    invites: &BTreeMap<OwnedRoomId, OwnedUserId>,
) -> Next {
    let is_home = wish.home == *agent.server_name();
    match &wish.room {
        Some(room) if joined.contains(room) => Next::Look(room.clone()),
        Some(room) if is_home && wish.servers.is_empty() => Next::Over(room.clone()),
        Some(_) | None if is_home => Next::Make,
        Some(room) if invites.get(room).is_some_and(|by| is_agent_of(by, &wish.home)) => {
            Next::Join(room.clone())
        }
        Some(_) | None => Next::Wait,
    }
}

/// Who is in a room by its state, and what its home's agent does about that.
pub fn tend(wish: &Wish, agent: &UserId, state: &[StateEvent]) -> Tended {
    let mut tended = Tended::default();
    let mut known = BTreeSet::new();
    for event in state.iter().filter(|event| event.kind == "m.room.member") {
        let membership = event.content.get("membership").and_then(Value::as_str);
        let is_in = membership == Some("join");
        if !is_in && membership != Some("invite") {
            continue;
        }
        let Ok(user) = OwnedUserId::try_from(event.state_key.as_str()) else { continue };
        if user == *agent {
            continue;
        }
        let server = wish.servers.iter().find(|server| is_agent_of(&user, server));
        match server {
            Some(server) => {
                known.insert(server.clone());
                if is_in {
                    tended.joined.insert(server.clone());
                } else {
                    tended.invited.push(user);
                }
            }
            None if user.localpart() == AGENT => tended.leaving.push(user),
            None => tended.put_out.push(user),
        }
    }
    if wish.home == *agent.server_name() {
        let missing = wish.servers.iter().filter(|server| !known.contains(*server));
        tended.invite = missing.cloned().collect();
    } else {
        tended.leaving.clear();
        tended.put_out.clear();
        tended.invited.clear();
    }
    tended
}

/// Since when something of agents stands in rooms, and for how long it may.
#[derive(Debug)]
pub struct Leaving {
    may_ms: u64,
    of: BTreeMap<OwnedRoomId, BTreeMap<OwnedUserId, u64>>,
}

impl Leaving {
    /// Agents that are to leave by themselves. Who has not in time is put out.
    pub const fn told() -> Self {
        Self { may_ms: LEAVES_MS, of: BTreeMap::new() }
    }

    /// Agents that are invited. Who has not come in time may have lost the invitation, which is taken back then,
    /// and made anew.
    pub const fn invited() -> Self {
        Self { may_ms: UNANSWERED_MS, of: BTreeMap::new() }
    }

    /// Those of `leaving` whose time is over; of others nothing is remembered.
    pub fn overdue(
        &mut self,
        room: &RoomId,
        leaving: &[OwnedUserId],
        now_ms: u64,
    ) -> Vec<OwnedUserId> {
        let before = self.of.remove(room).unwrap_or_default();
        let since = |who: &OwnedUserId| before.get(who).copied().unwrap_or(now_ms);
        let all: BTreeMap<_, _> = leaving.iter().map(|who| (who.clone(), since(who))).collect();
        let over = all.iter().filter(|(_, since)| now_ms.saturating_sub(**since) >= self.may_ms);
        let over = over.map(|(who, _)| who.clone()).collect();
        if !all.is_empty() {
            self.of.insert(room.to_owned(), all);
        }
        over
    }

    /// Forgets all rooms but these.
    pub fn keep(&mut self, rooms: &BTreeSet<OwnedRoomId>) {
        self.of.retain(|room, _| rooms.contains(room));
    }
}

/// Notes who invited the agent into a room; of `most` that are known one gives way that is of whoever
/// invited most, so that nobody keeps others out.
pub fn remember(
    invites: &mut BTreeMap<OwnedRoomId, OwnedUserId>,
    most: usize,
    room: OwnedRoomId,
    by: OwnedUserId,
) {
    invites.insert(room, by);
    if invites.len() <= most {
        return;
    }
    let mut of_each: BTreeMap<&OwnedUserId, (usize, &OwnedRoomId)> = BTreeMap::new();
    for (room, by) in &*invites {
        of_each.entry(by).or_insert((0, room)).0 += 1;
    }
    let busiest = of_each.into_values().max_by_key(|(count, _)| *count);
    if let Some(room) = busiest.map(|(_, room)| room.clone()) {
        invites.remove(&room);
    }
}

/// Since when agents' invitations are known into rooms of which nobody has told.
#[derive(Debug, Default)]
pub struct Untold(BTreeMap<OwnedRoomId, u64>);

impl Untold {
    /// The rooms whose invitations are declined: their home has not told of them in time. One that it still tells
    /// of it invites into again.
    pub fn overdue(
        &mut self,
        invites: &BTreeMap<OwnedRoomId, OwnedUserId>,
        told: &BTreeSet<(OwnedRoomId, OwnedServerName)>,
        now_ms: u64,
    ) -> Vec<OwnedRoomId> {
        let untold = invites.iter().filter(|(room, by)| !is_told(room, Some(by), told));
        let since = |room: &OwnedRoomId| self.0.get(room).copied().unwrap_or(now_ms);
        let untold: BTreeMap<_, _> = untold.map(|(room, _)| (room.clone(), since(room))).collect();
        self.0 = untold;
        let over = self.0.iter().filter(|(_, since)| now_ms.saturating_sub(**since) >= UNTOLD_MS);
        over.map(|(room, _)| room.clone()).collect()
    }
}

/// Whether an invitation is into a room of which a group's home has told, by the home's agent.
pub fn is_told(
    room: &RoomId,
    by: Option<&OwnedUserId>,
    told: &BTreeSet<(OwnedRoomId, OwnedServerName)>,
) -> bool {
    by.is_some_and(|by| {
        by.localpart() == AGENT && told.contains(&(room.to_owned(), by.server_name().to_owned()))
    })
}

/// Whether an invitation may be one into a relay room: an agent's.
pub fn may_be_relayed(by: Option<&OwnedUserId>) -> bool {
    by.is_some_and(|by| by.localpart() == AGENT)
}

/// Whether a user is the agent of this server.
fn is_agent_of(user: &UserId, server: &OwnedServerName) -> bool {
    user.localpart() == AGENT && user.server_name() == server
}

/// The request that makes a group's room, under the alias with this localpart.
pub fn make(group: &GroupId, alias: &str) -> Value {
    let state =
        |kind: &str, content: Value| json!({"type": kind, "state_key": "", "content": content});
    json!({
        "preset": "private_chat",
        "visibility": "private",
        "room_alias_name": alias,
        "creation_content": {"type": TYPE, GROUP: group, "m.federate": true},
        "initial_state": [
            state("m.room.join_rules", json!({"join_rule": "invite"})),
            state("m.room.history_visibility", json!({"history_visibility": "joined"})),
            state("m.room.guest_access", json!({"guest_access": "forbidden"})),
        ],
        // Its maker has all power, in each room version as that says it.
        "power_level_content_override": {
            "users_default": 0, "events_default": 100, "state_default": 100, "invite": 100,
            "kick": 100, "ban": 100, "redact": 100, "events": {MESSAGE: 0},
        },
    })
}

/// Whether a room's state says that it is this group's, made by `agent`.
pub fn is_its(group: &GroupId, agent: &UserId, state: &[StateEvent]) -> bool {
    let create = state.iter().find(|event| event.kind == "m.room.create");
    create.is_some_and(|create| {
        create.sender == *agent
            && create.content.get("type").and_then(Value::as_str) == Some(TYPE)
            && create.content.get(GROUP) == Some(&json!(group))
            && !state.iter().any(|event| event.kind == "m.room.tombstone")
    })
}

/// Whether an event is one that only the agent reads, by its own account.
pub fn is_carried(event: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Typed {
        #[serde(rename = "type")]
        kind: String,
    }
    serde_json::from_str(event.get()).is_ok_and(|Typed { kind }| kind == MESSAGE)
}

/// The rooms that the agent is in and should not be.
pub fn unwanted<'a>(
    joined: &'a [OwnedRoomId],
    wanted: &BTreeSet<OwnedRoomId>,
) -> impl Iterator<Item = &'a RoomId> {
    joined.iter().filter(|room| !wanted.contains(*room)).map(|room| &**room)
}

/// How often each server's agent is invited: a receiving homeserver lets few invitations through, and a refusal
/// makes one's own give that server up for a while.
#[derive(Debug, Default)]
pub struct Invites(BTreeMap<OwnedServerName, Invited>);

#[derive(Debug, Clone, Copy)]
struct Invited {
    left: u32,
    /// Since when one more has been growing.
    since_ms: u64,
    /// Not before.
    until_ms: u64,
}

impl Invites {
    /// Whether the agent of `server` may be invited now; then it counts.
    pub fn take(&mut self, server: &OwnedServerName, now_ms: u64) -> bool {
        if self.0.len() >= MAX_SERVERS {
            // Those of which nothing is remembered that matters.
            self.0.retain(|_, invited| {
                invited.until_ms > now_ms || now_ms.saturating_sub(invited.since_ms) < EACH_MS * 4
            });
        }
        let fresh = Invited { left: AT_ONCE, since_ms: now_ms, until_ms: 0 };
        let invited = self.0.entry(server.clone()).or_insert(fresh);
        let grown = now_ms.saturating_sub(invited.since_ms) / EACH_MS;
        if grown > 0 {
            let grown_u32 = u32::try_from(grown).unwrap_or(AT_ONCE);
            invited.left = invited.left.saturating_add(grown_u32).min(AT_ONCE);
            invited.since_ms += grown * EACH_MS;
        }
        if invited.until_ms > now_ms || invited.left == 0 {
            return false;
        }
        if invited.left == AT_ONCE {
            invited.since_ms = now_ms;
        }
        invited.left -= 1;
        true
    }

    /// An invitation did not get there.
    pub fn refused(&mut self, server: &OwnedServerName, now_ms: u64) {
        if let Some(invited) = self.0.get_mut(server) {
            invited.until_ms = now_ms + REFUSED_MS;
        }
    }
}

/// When an agent that was invited, and did not come or is gone, is invited into the same room again: sooner it
/// may have lost the invitation, later it does not want to come.
#[derive(Debug, Default)]
pub struct Again(BTreeMap<(OwnedRoomId, OwnedServerName), Once>);

/// An invitation.
#[derive(Debug, Clone, Copy)]
struct Once {
    /// The next not before.
    next_ms: u64,
    wait_ms: u64,
}

impl Again {
    /// Whether it may be now.
    pub fn may(&self, room: &RoomId, server: &ServerName, now_ms: u64) -> bool {
        let once = self.0.get(&(room.to_owned(), server.to_owned()));
        once.is_none_or(|once| once.next_ms <= now_ms)
    }

    /// It is; how long is waited now, milliseconds.
    pub fn invited(&mut self, room: &RoomId, server: &ServerName, now_ms: u64) -> u64 {
        let fresh = Once { next_ms: 0, wait_ms: AGAIN_MS / 2 };
        let once = self.0.entry((room.to_owned(), server.to_owned())).or_insert(fresh);
        once.wait_ms = (once.wait_ms * 2).min(MAX_AGAIN_MS);
        once.next_ms = now_ms + once.wait_ms;
        once.wait_ms
    }

    /// Nobody took the invitation: it is made again as after any that is refused, and waited for no longer then
    /// than it would have been; how long that was before, milliseconds.
    pub fn refused(&mut self, room: &RoomId, server: &ServerName, now_ms: u64) -> u64 {
        let once = self.0.get_mut(&(room.to_owned(), server.to_owned()));
        once.map_or(0, |once| {
            *once = Once { next_ms: now_ms + REFUSED_MS, wait_ms: once.wait_ms / 2 };
            once.wait_ms
        })
    }

    /// It was before a start, which has left so much of what is waited; a clock that was put back leaves no more
    /// than that, or than after a refusal.
    pub fn put_back(
        &mut self,
        (room, server): (&RoomId, &ServerName),
        now_ms: u64,
        (left_ms, wait_ms): (u64, u64),
    ) {
        let wait_ms = wait_ms.clamp(AGAIN_MS / 2, MAX_AGAIN_MS);
        let once = Once { next_ms: now_ms + left_ms.min(wait_ms.max(REFUSED_MS)), wait_ms };
        self.0.insert((room.to_owned(), server.to_owned()), once);
    }

    /// Whether something is remembered of it.
    pub fn has(&self, room: &RoomId, server: &ServerName) -> bool {
        self.0.contains_key(&(room.to_owned(), server.to_owned()))
    }

    /// Of a room only those are remembered whose agents are missing there.
    pub fn keep_missing(&mut self, room: &RoomId, missing: &BTreeSet<OwnedServerName>) {
        self.0.retain(|(of, server), _| of != room || missing.contains(server));
    }

    /// Of other rooms nothing is remembered.
    pub fn keep(&mut self, rooms: &BTreeSet<OwnedRoomId>) {
        self.0.retain(|(room, _), _| rooms.contains(room));
    }
}

#[cfg(test)]
#[path = "relay_room_table.rs"]
mod tests;
