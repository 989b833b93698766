//! A portal, the pair room ↔ group, as far as the rules look at it; and the room that it asks for.

use std::collections::BTreeMap;

use causeway_protocol::ids::{AccountId, Epoch, GroupId};
use ruma::{OwnedRoomId, OwnedUserId};
use serde_json::{Value, json};

use super::{Effect, ghost::Names};

/// Names a portal in our rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortalId(pub i64);

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

/// A portal with everyone in it.
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
    /// Members of this epoch know all mirrors.
    pub announced: Epoch,
    /// Matrix users whom the group knows, with the names it knows them by.
    pub mirrors: BTreeMap<OwnedUserId, String>,
    /// Ghosts that were put out of the room, and by whom.
    pub removed: BTreeMap<AccountId, OwnedUserId>,
    /// Who is who on our server.
    pub names: Names,
}

impl Portal {
    /// Takes in what an effect changes here, so that the next input of the same transaction is
    /// judged by it.
    pub fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Announce(mirrors, gone) => {
                self.mirrors.extend(mirrors.iter().map(|m| (m.id.clone(), m.name.clone())));
                self.mirrors.retain(|id, _| !gone.contains(id));
            }
            Effect::Standing(account, Some(by)) => {
                self.removed.insert(account.clone(), by.clone());
            }
            Effect::Standing(account, None) => {
                self.removed.remove(account);
            }
            Effect::Pause => self.encrypted = true,
            Effect::MakeRoom => self.state = PortalState::Making,
            Effect::Close => self.state = PortalState::Closed,
            Effect::ToMatrix(_)
            | Effect::ToNative(_)
            | Effect::NoticeNative(_)
            | Effect::NoticeMatrix(_)
            | Effect::Invite(_)
            | Effect::Leave(_)
            | Effect::Fail(..) => {}
        }
    }
}

/// Body of `POST /createRoom` for a group's room.
///
/// `users` is absent from the power levels: the homeserver puts its default there, the bot at 100,
/// and in room version 12 nobody, because the creator stands above all of them.
/// Client-server API v1.16, "Creation"; MSC4289.
pub fn room_request(names: &Names, group: &GroupId, name: &str) -> Value {
    let (kind, state_key, bridge) = bridge_state(names, group, name);
    json!({
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
            {"type": "io.element.functional_members", "state_key": "",
             "content": {"service_members": [names.bot()]}},
        ],
    })
}

/// Type, state key and content of MSC2346's bridge information.
fn bridge_state(names: &Names, group: &GroupId, name: &str) -> (&'static str, String, Value) {
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
        let request = room_request(&names, &GroupId::new([0; 32]), "Walkers");
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
}
