//! A portal, the pair room ↔ group, as far as the rules look at it; and the room that it asks for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use causeway_protocol::{
    ids::{AccountId, GroupId},
    roster::Roster,
};
use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::{Value, json};

use super::{effect::Here, ghost::Names, looks::Taken, mirror::Mirror};

/// Names a portal in our rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortalId(pub i64);

/// Those of a room who are remembered as invited: anybody with the power may invite there.
const MOST_INVITED: usize = 1_000;

/// Stands in [`Portal::hears_from`] for an event that never comes.
pub const NEVER: &str = "$out";

/// How far a portal has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortalState {
    /// The bridge is in the group, the room is being made.
    Making,
    /// Both ends stand.
    Open,
    /// The bridge was taken out of the group, or the group is over.
    Closed,
}

/// A portal with everyone in it. Only [`Self::apply`] changes one, and what it changed is what is
/// saved: the rows cannot come to say anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portal {
    /// Which.
    pub id: PortalId,
    /// The native end.
    pub group: GroupId,
    /// The Matrix end, once it is made.
    pub room: Option<OwnedRoomId>,
    /// The group's name.
    pub name: String,
    /// How far it has come.
    pub state: PortalState,
    /// The room is encrypted: nothing goes into it.
    pub encrypted: bool,
    /// Why nothing gets into the room any more: the bot is out of it, or it is not there.
    pub lost: Option<String>,
    /// The room that has replaced it, while the bridge is not there.
    pub successor: Option<OwnedRoomId>,
    /// The event that told the room that it is bridged again, until it comes by: what was said
    /// before it goes nowhere. While the bot is out of the room ([`Portal::is_out`]), one that never
    /// comes.
    pub hears_from: Option<OwnedEventId>,
    /// Why it is closed though the bridge is in the group: whoever asked for it may not, or not now.
    pub refused: Option<String>,
    /// Matrix users whom the group knows, with the names it knows them by.
    pub mirrors: BTreeMap<OwnedUserId, String>,
    /// Matrix users who are invited into the room, and have not come.
    pub invited: BTreeSet<OwnedUserId>,
    /// Ghosts that were put out of the room, and by whom.
    pub removed: BTreeMap<AccountId, OwnedUserId>,
    /// Who is in the group, where that was looked up.
    pub natives: Option<Arc<Roster>>,
    /// How all of these look, once somebody is named.
    pub taken: OnceLock<Taken>,
    /// Who is who on our server.
    pub names: Names,
    /// What is not in its rows yet.
    pub unsaved: Unsaved,
}

/// Which rows of a portal no longer say what it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unsaved {
    /// Its own.
    pub place: bool,
    /// Those of these mirrors.
    pub mirrors: BTreeSet<OwnedUserId>,
    /// Those of these who are invited.
    pub invited: BTreeSet<OwnedUserId>,
    /// Those of these ghosts.
    pub ghosts: BTreeSet<AccountId>,
    /// Those of all ghosts: they were in another room.
    pub all_ghosts: bool,
}

impl Portal {
    /// Takes in what is so from now on, so that the next input of the same transaction is judged by
    /// it.
    pub fn apply(&mut self, fact: &Here) {
        match fact {
            Here::Opened(name) => {
                self.name.clone_from(name);
                if self.lost.is_some() {
                    self.give_up_room();
                }
                self.state = PortalState::Making;
                self.refused = None;
                self.unsaved.place = true;
            }
            Here::Named(name) => {
                self.name.clone_from(name);
                self.unsaved.place = true;
            }
            Here::Refused(name, why) => {
                self.name.clone_from(name);
                self.refused = Some(why.clone());
                self.unsaved.place = true;
            }
            // One that was closed meanwhile stays so, and has its room all the same: what was said
            // before still goes there.
            Here::Made(room) => {
                if self.room.is_none() || self.state == PortalState::Making {
                    self.is_in(room);
                }
                if self.state == PortalState::Making {
                    self.state = PortalState::Open;
                }
                self.unsaved.place = true;
            }
            Here::Moved(room) => self.is_in(room),
            Here::Lost(why) => {
                // It was to come back into one that it had.
                if self.state == PortalState::Making && self.room.is_some() {
                    self.state = PortalState::Open;
                }
                self.lost = Some(why.clone());
                self.unsaved.place = true;
            }
            Here::Replaced(room) => {
                self.successor = Some(room.clone());
                self.unsaved.place = true;
            }
            Here::Out => {
                self.hears_from = <&EventId>::try_from(NEVER).ok().map(ToOwned::to_owned);
                self.unsaved.place = true;
            }
            Here::Back => {
                self.lost = None;
                self.state = PortalState::Making;
                self.unsaved.place = true;
            }
            Here::Told(event) => {
                self.hears_from = Some(event.clone());
                self.unsaved.place = true;
            }
            Here::Heard => {
                self.hears_from = None;
                self.unsaved.place = true;
            }
            Here::GivenUp => {
                self.give_up_room();
                self.state = PortalState::Making;
            }
            Here::Closed => {
                self.state = PortalState::Closed;
                self.refused = None;
                self.unsaved.place = true;
            }
            Here::Encrypted => {
                self.encrypted = true;
                self.unsaved.place = true;
            }
            Here::Met(mirrors) => {
                for mirror in mirrors {
                    self.meets(mirror);
                }
            }
            Here::Parted(user) => {
                self.mirrors.remove(user);
                if let Some(taken) = self.taken.get_mut() {
                    taken.let_go(user);
                }
                self.unsaved.mirrors.insert(user.clone());
            }
            Here::Invited(user) => {
                if self.invited.len() < MOST_INVITED && self.invited.insert(user.clone()) {
                    self.unsaved.invited.insert(user.clone());
                }
            }
            Here::Uninvited(user) => self.is_invited_no_more(user),
            Here::Standing(account, by) => {
                match by {
                    Some(by) => self.removed.insert(account.clone(), by.clone()),
                    None => self.removed.remove(account),
                };
                self.unsaved.ghosts.insert(account.clone());
            }
            Here::Unsaid(..) | Here::Given(_) => {}
        }
    }

    fn meets(&mut self, Mirror { id, name }: &Mirror) {
        let before = self.mirrors.insert(id.clone(), name.clone());
        if let Some(taken) = self.taken.get_mut() {
            if before.is_some() {
                taken.let_go(id);
            }
            taken.take(id, name);
        }
        self.unsaved.mirrors.insert(id.clone());
        self.is_invited_no_more(id);
    }

    /// How the people of the group and the room look.
    pub fn taken(&self) -> &Taken {
        self.taken.get_or_init(|| Taken::of(&self.mirrors, self.natives.clone()))
    }

    /// Whether its room is being made or entered, so that what comes from rooms that nobody knows
    /// may be from there.
    pub fn is_in_making(&self) -> bool {
        self.state == PortalState::Making && self.lost.is_none()
    }

    /// Whether the bot is out of its room, so that nothing that is said there is heard: the homeserver may
    /// hand it over all the same, since the room's alias is the bridge's.
    pub fn is_out(&self) -> bool {
        self.hears_from.as_ref().is_some_and(|event| event.as_str() == NEVER)
    }

    /// Whether its room was replaced, and the bot goes into the one that did.
    pub fn is_about_to_follow(&self) -> bool {
        self.state == PortalState::Open && self.lost.is_none() && self.successor.is_some()
    }

    /// Another room is another place: who is in it is not known, nor what it is like.
    fn is_in(&mut self, room: &OwnedRoomId) {
        if self.room.as_ref().is_some_and(|known| known != room) {
            self.encrypted = false;
            self.removed.clear();
            self.unsaved.all_ghosts = true;
        }
        self.room = Some(room.clone());
        self.lost = None;
        self.successor = None;
        self.hears_from = None;
        self.unsaved.place = true;
    }

    fn is_invited_no_more(&mut self, user: &OwnedUserId) {
        if self.invited.remove(user) {
            self.unsaved.invited.insert(user.clone());
        }
    }

    fn give_up_room(&mut self) {
        self.room = None;
        self.lost = None;
        self.successor = None;
        self.hears_from = None;
        self.refused = None;
        self.encrypted = false;
        self.removed.clear();
        self.taken = OnceLock::new();
        self.unsaved.mirrors.extend(std::mem::take(&mut self.mirrors).into_keys());
        self.unsaved.invited.extend(std::mem::take(&mut self.invited));
        self.unsaved.all_ghosts = true;
        self.unsaved.place = true;
    }
}

/// Body of `POST /createRoom` for a group's room; `before` is the one that it had, where what was sent may
/// be found.
///
/// `users` is absent from the power levels: the homeserver puts its default there, the bot at 100,
/// and in room version 12 nobody, because the creator stands above all of them.
/// Client-server API v1.16, "Creation"; MSC4289.
pub fn room_request(names: &Names, group: &GroupId, name: &str, before: Option<&RoomId>) -> Value {
    let (kind, state_key, bridge) = bridge_state(names, group, name);
    let content = before.map_or(json!({}), |room| json!({"predecessor": {"room_id": room}}));
    json!({
        "creation_content": content,
        "name": name,
        "preset": "private_chat",
        "visibility": "private",
        "room_alias_name": Names::alias_localpart(group),
        "power_level_content_override": {
            "users_default": 0, "events_default": 0, "state_default": 50,
            "invite": 50, "kick": 50, "ban": 50, "redact": 50,
            "events": {
                "m.room.encryption": 100,
                "m.room.power_levels": 100,
                "m.room.tombstone": 100,
                "m.room.server_acl": 100,
                // Everybody may be in calls.
                "org.matrix.msc3401.call.member": 0,
            },
        },
        "initial_state": [
            {"type": "m.room.history_visibility", "state_key": "",
             "content": {"history_visibility": "joined"}},
            {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "invite"}},
            {"type": "m.room.guest_access", "state_key": "",
             "content": {"guest_access": "forbidden"}},
            {"type": kind, "state_key": state_key, "content": bridge},
            {"type": "uk.half-shot.bridge", "state_key": state_key, "content": bridge},
            {"type": FUNCTIONAL_MEMBERS, "state_key": "",
             "content": with_service_member(None, names.bot())},
        ],
    })
}

/// Type of the state that names those in a room who are no people: clients leave them out of its
/// name.
pub const FUNCTIONAL_MEMBERS: &str = "io.element.functional_members";

/// The content that names the bot beside those whom `known` names; `None` if it does.
pub fn with_service_member(known: Option<&Value>, bot: &UserId) -> Option<Value> {
    let known = known.and_then(|content| content.get("service_members")).and_then(Value::as_array);
    let mut members = known.cloned().unwrap_or_default();
    if members.iter().any(|member| member == bot.as_str()) {
        return None;
    }
    members.push(json!(bot));
    Some(json!({"service_members": members}))
}

/// Type, state key and content of MSC2346's bridge information.
pub fn bridge_state(names: &Names, group: &GroupId, name: &str) -> (&'static str, String, Value) {
    let content = json!({
        "bridgebot": names.bot(),
        "creator": names.bot(),
        "protocol": {"id": "causeway", "displayname": "Causeway"},
        "network": {"id": names.server(), "displayname": names.server()},
        "channel": {"id": group, "displayname": name},
    });
    ("m.bridge", format!("dev.causeway://{}/{group}", names.server()), content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_as_the_design_says() {
        let names = Names::new("b.example").unwrap();
        let request = room_request(&names, &GroupId::new([0; 32]), "Walkers", None);
        let powers = &request["power_level_content_override"];
        assert_eq!(powers.get("users"), None);
        for key in ["state_default", "invite", "kick", "ban", "redact"] {
            assert_eq!(powers[key], 50, "{key}");
        }
        for kind in ["encryption", "power_levels", "tombstone", "server_acl"] {
            assert_eq!(powers["events"][format!("m.room.{kind}")], 100, "{kind}");
        }
        let state: Vec<&str> = request["initial_state"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["type"].as_str().unwrap())
            .collect();
        assert_eq!(state.len(), 6);
        assert!(state.contains(&"m.bridge") && state.contains(&"uk.half-shot.bridge"));
        assert_eq!(request["room_alias_name"], "causeway_66687aadf862bd77");
    }

    #[test]
    fn the_bot_is_named_once_beside_others() {
        let bot = UserId::parse("@bot:x").unwrap();
        let named = |members: &[&str]| json!({"service_members": members});
        let table = [
            (None, Some(named(&["@bot:x"]))),
            (Some(json!({"service_members": 5})), Some(named(&["@bot:x"]))),
            (Some(named(&["@other:x"])), Some(named(&["@other:x", "@bot:x"]))),
            (Some(named(&["@bot:x", "@other:x"])), None),
        ];
        for (known, expected) in table {
            assert_eq!(with_service_member(known.as_ref(), &bot), expected);
        }
    }

    fn portal(state: PortalState) -> Portal {
        Portal {
            id: PortalId(1),
            group: GroupId::new([7; 32]),
            room: None,
            name: "Walkers".to_owned(),
            state,
            encrypted: false,
            lost: None,
            successor: None,
            hears_from: None,
            refused: None,
            mirrors: BTreeMap::new(),
            invited: BTreeSet::new(),
            removed: BTreeMap::new(),
            natives: None,
            taken: OnceLock::new(),
            names: Names::new("b.example").unwrap(),
            unsaved: Unsaved::default(),
        }
    }

    #[test]
    fn a_room_opens_a_portal_that_waits_for_it_and_no_other() {
        let room = |name: &str| OwnedRoomId::try_from(name).unwrap();
        let table = [
            (PortalState::Making, None, PortalState::Open, "!new:x"),
            (PortalState::Making, Some("!old:x"), PortalState::Open, "!new:x"),
            (PortalState::Open, Some("!old:x"), PortalState::Open, "!old:x"),
            (PortalState::Closed, None, PortalState::Closed, "!new:x"),
            (PortalState::Closed, Some("!old:x"), PortalState::Closed, "!old:x"),
        ];
        for (before, had, after, has) in table {
            let mut portal = Portal { room: had.map(room), ..portal(before) };
            portal.apply(&Here::Made(room("!new:x")));
            assert_eq!((portal.state, portal.room), (after, Some(room(has))), "{before:?} {had:?}");
        }
    }

    #[test]
    fn another_room_is_another_place() {
        let full = || Portal {
            room: Some("!old:x".try_into().unwrap()),
            encrypted: true,
            lost: Some("gone".to_owned()),
            mirrors: [("@al:x".try_into().unwrap(), "Al".to_owned())].into(),
            removed: [("eve:b.example".parse().unwrap(), "@al:x".try_into().unwrap())].into(),
            ..portal(PortalState::Open)
        };
        let new = || OwnedRoomId::try_from("!new:x").unwrap();
        let (opened, moved) = (Here::Opened("Walkers".to_owned()), Here::Moved(new()));
        let table = [
            (Here::GivenUp, PortalState::Making, None, 0),
            (opened, PortalState::Making, None, 0),
            (moved, PortalState::Open, Some(new()), 1),
        ];
        for (fact, state, room, mirrors) in table {
            let mut portal = full();
            portal.apply(&fact);
            assert_eq!((portal.state, &portal.room), (state, &room), "{fact:?}");
            assert!(!portal.encrypted && portal.removed.is_empty() && portal.lost.is_none());
            assert_eq!(portal.mirrors.len(), mirrors, "{fact:?}");
            assert!(portal.unsaved.all_ghosts && portal.unsaved.place);
        }
        let mut portal = full();
        portal.apply(&Here::Back);
        assert!(portal.is_in_making() && portal.encrypted && !portal.unsaved.all_ghosts);
        portal.apply(&Here::Lost("again".to_owned()));
        assert!(!portal.is_in_making());
    }

    #[test]
    fn who_is_invited_is_known_until_he_comes_or_goes_or_the_room_is_given_up() {
        let user = |id: &str| OwnedUserId::try_from(id).unwrap();
        let mut portal = portal(PortalState::Open);
        let invited = |portal: &Portal| -> Vec<String> {
            portal.invited.iter().map(ToString::to_string).collect()
        };
        for id in ["@al:x", "@bea:x", "@cy:x"] {
            portal.apply(&Here::Invited(user(id)));
        }
        portal.apply(&Here::Uninvited(user("@bea:x")));
        portal.apply(&Here::Met(vec![Mirror { id: user("@al:x"), name: "Al".to_owned() }]));
        assert_eq!(invited(&portal), ["@cy:x"]);
        portal.unsaved = Unsaved::default();
        portal.apply(&Here::Invited(user("@cy:x")));
        assert_eq!(portal.unsaved, Unsaved::default(), "nothing new");
        portal.apply(&Here::GivenUp);
        assert!(portal.invited.is_empty() && portal.unsaved.invited.contains(&user("@cy:x")));
        for n in 0..2 * MOST_INVITED {
            portal.apply(&Here::Invited(user(&format!("@u{n}:x"))));
        }
        assert_eq!(portal.invited.len(), MOST_INVITED);
    }

    #[test]
    fn what_changed_is_what_is_to_be_saved() {
        let user = |id: &str| OwnedUserId::try_from(id).unwrap();
        let al = Mirror { id: user("@al:x"), name: "Al".to_owned() };
        let bob: AccountId = "bob:b.example".parse().unwrap();
        let place = Unsaved { place: true, ..Unsaved::default() };
        let mirrors = Unsaved { mirrors: [user("@al:x")].into(), ..Unsaved::default() };
        let ghosts = Unsaved { ghosts: [bob.clone()].into(), ..Unsaved::default() };
        let table = [
            (Here::Opened("Hikers".to_owned()), &place),
            (Here::Made("!r:x".try_into().unwrap()), &place),
            (Here::Refused("Hikers".to_owned(), "no".to_owned()), &place),
            (Here::Closed, &place),
            (Here::Lost("gone".to_owned()), &place),
            (Here::Replaced("!next:x".try_into().unwrap()), &place),
            (Here::Back, &place),
            (Here::Told("$t".try_into().unwrap()), &place),
            (Here::Heard, &place),
            (Here::Moved("!r:x".try_into().unwrap()), &place),
            (Here::Closed, &place),
            (Here::Encrypted, &place),
            (Here::Met(vec![al.clone()]), &mirrors),
            (Here::Parted(user("@al:x")), &mirrors),
            (Here::Standing(bob.clone(), Some(user("@al:x"))), &ghosts),
            (Here::Standing(bob, None), &ghosts),
        ];
        let mut portal = portal(PortalState::Closed);
        for (fact, unsaved) in table {
            portal.unsaved = Unsaved::default();
            portal.apply(&fact);
            assert_eq!(portal.unsaved, *unsaved, "{fact:?}");
        }
        assert!(portal.encrypted && portal.mirrors.is_empty() && portal.removed.is_empty());
        assert_eq!((portal.name.as_str(), portal.state), ("Hikers", PortalState::Closed));
    }
}
