//! Rooms come and go: that is noticed, said, and another one is made.

mod homeserver_back;

use causeway_bridge::{
    domain::portal::PortalId,
    health::Kind,
    services::{Step, deliver, rooms},
    steps::Steps,
    storage::{
        dead_letters, ghosts,
        stats::{self, PortalState},
    },
};
use causeway_protocol::ids::GroupId;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    errands::Room,
    harness::Bridge,
    people::Person,
    stub::{Fault, Rooms, Stub},
    world::{Running, World},
};

const BOB: &str = "@causeway_bob:b.example";
const BOT: &str = "@causewaybot:b.example";

/// Bob in a group that is bridged, and Al in its room.
struct Cast {
    stub: Stub,
    bob: Person,
    group: GroupId,
    room: String,
}

async fn begin() -> (World, Running, Cast) {
    let mut world = World::new().await;
    let bridge = world.begin(Steps::default()).await;
    let bob = world.person("bob").await;
    let group = bob.create_group("Walkers").await;
    let stub = world.stub.clone();
    let invited = async {
        bob.bridge(group, &["@al:x"]).await;
        stub.wait(|rooms| rooms.room_that_invites("@al:x")).await
    };
    let room = world.during(&bridge, invited).await;
    let cast = Cast { stub, bob, group, room };
    cast.joins(&cast.room, "@al:x");
    (world, bridge, cast)
}

impl Cast {
    fn joins(&self, room: &str, who: &str) {
        self.stub.change(|rooms| rooms.membership(room, who, who, "join").unwrap());
    }

    fn al_says(&self, room: &str, body: &str) {
        let text = json!({"msgtype": "m.text", "body": body});
        self.stub.change(|rooms| rooms.event(room, "@al:x", "m.room.message", None, text));
    }

    async fn is_read(&self, part: &str) {
        self.bob.wait(part, |read| read.iter().any(|read| read.body.contains(part))).await;
    }

    /// None of these is in the first room any more.
    fn is_left_by(&self, users: &[&str]) {
        for user in users {
            let place = (self.room.clone(), (*user).to_owned());
            assert_eq!(self.stub.look(|rooms| rooms.members[&place].clone()), "leave", "{user}");
        }
    }

    async fn bob_says(&self, body: &str) {
        self.bob.say(self.group, &[body.to_owned()]).await;
    }

    async fn is_said(&self, room: &str, sender: &str, body: &str) {
        let find = |event: &&Value| {
            event["room_id"] == room
                && event["sender"] == sender
                && event["content"]["body"].as_str().is_some_and(|said| said.contains(body))
        };
        self.stub.wait(|rooms| rooms.events.iter().find(find).cloned()).await;
    }

    /// The room to which Al is invited now, and into which he goes.
    async fn another_room(&self) -> String {
        let room = self.stub.wait(|rooms| rooms.room_that_invites("@al:x")).await;
        assert_ne!(room, self.room);
        self.joins(&room, "@al:x");
        room
    }
}

async fn portal(bridge: &Running) -> PortalState {
    let mut read = bridge.spine.db.read().await.unwrap();
    stats::portals(&mut read, 0, 1).await.unwrap().remove(0)
}

async fn recreate(bridge: &Running, id: i64) -> StatusCode {
    let url = format!("{}/_causeway/admin/v1/portals/{id}/recreate", bridge.url);
    reqwest::Client::new().post(url).bearer_auth("admin").send().await.unwrap().status()
}

#[tokio::test]
async fn a_purged_room_is_noticed_and_another_is_made_for_an_admin() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        cast.bob_says("before").await;
        cast.is_said(&cast.room, BOB, "before").await;
        cast.is_read("This group is bridged into the Matrix room #").await;
        cast.stub.change(|rooms| rooms.purge(&cast.room));
        cast.bob_says("into the void").await;
        cast.is_read("does not get into the Matrix room").await;
        while bridge.stats().await.dead_letters == 0 {
            tokio::task::yield_now().await;
        }
        assert!(portal(&bridge).await.lost.is_some());
        cast.bob.bridge(cast.group, &["@al:x"]).await;
        let room = cast.another_room().await;
        cast.bob_says("anybody there").await;
        cast.is_said(&room, BOB, "anybody there").await;
        cast.al_says(&room, "I am");
        cast.is_read("I am").await;
    };
    world.during(&bridge, told).await;
    let state = portal(&bridge).await;
    assert_eq!((state.state.as_str(), state.lost, state.ghosts), ("open", None, 1));
    bridge.drop_dead().await;
}

#[tokio::test]
async fn a_bot_that_is_kicked_says_so_and_comes_back_when_it_is_invited() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        cast.bob_says("before").await;
        cast.is_said(&cast.room, BOB, "before").await;
        let kick = |rooms: &mut Rooms| rooms.membership(&cast.room, "@al:x", BOT, "leave").unwrap();
        cast.stub.change(kick);
        cast.is_read("does not get into the Matrix room").await;
        cast.bob_says("unheard").await;
        cast.is_read("What bob:b.example said is not in the room: @al:x removed the bridge").await;
        while bridge.stats().await.dead_letters == 0 {
            tokio::task::yield_now().await;
        }
        // Who comes meanwhile comes by no event.
        cast.stub.change(|rooms| {
            rooms.membership(&cast.room, "@al:x", "@bea:x", "invite").unwrap();
            rooms.membership(&cast.room, "@bea:x", "@bea:x", "join").unwrap();
            rooms.membership(&cast.room, "@al:x", BOT, "invite").unwrap();
        });
        cast.is_said(&cast.room, BOT, "bridged again").await;
        cast.bob_says("after").await;
        cast.is_said(&cast.room, BOB, "after").await;
        cast.al_says(&cast.room, "welcome");
        cast.is_read("welcome").await;
    };
    world.during(&bridge, told).await;
    assert!(!cast.stub.said().iter().any(|(_, body)| body == "unheard"));
    assert_eq!(portal(&bridge).await.mirrors, 2);
    bridge.drop_dead().await;
}

#[tokio::test]
async fn the_operator_has_another_room_made() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        cast.al_says(&cast.room, "here");
        cast.is_read("here").await;
        assert_eq!(recreate(&bridge, 2).await, StatusCode::NOT_FOUND);
        let kick = |rooms: &mut Rooms| rooms.membership(&cast.room, "@al:x", BOT, "leave").unwrap();
        cast.stub.change(kick);
        cast.is_read("does not get into the Matrix room").await;
        assert_eq!(recreate(&bridge, 1).await, StatusCode::ACCEPTED);
        let room = cast.another_room().await;
        cast.al_says(&room, "moved over");
        cast.is_read("moved over").await;
        cast.bob.client.remove(cast.group, &"bridge:b.example".parse().unwrap()).await.unwrap();
        cast.is_said(&room, BOT, "taken out of the group").await;
        assert_eq!(recreate(&bridge, 1).await, StatusCode::CONFLICT);
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
}

/// Found by an attack: an operator who asked twice had everybody left behind.
#[tokio::test]
async fn who_has_not_come_into_another_room_yet_is_invited_into_the_next() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        cast.al_says(&cast.room, "before");
        cast.is_read("before").await;
        assert_eq!(recreate(&bridge, 1).await, StatusCode::ACCEPTED);
        let second = cast.stub.wait(|rooms| rooms.room_that_invites("@al:x")).await;
        while portal(&bridge).await.state != "open" {
            tokio::task::yield_now().await;
        }
        assert_eq!(recreate(&bridge, 1).await, StatusCode::ACCEPTED);
        let invited = |rooms: &Rooms| {
            let all = rooms.members.iter();
            let mut all = all.filter(|((_, who), to)| who == "@al:x" && *to == "invite");
            all.find(|((room, _), _)| *room != second).map(|((room, _), _)| room.clone())
        };
        let third = cast.stub.wait(invited).await;
        cast.joins(&third, "@al:x");
        cast.al_says(&third, "here at last");
        cast.is_read("here at last").await;
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
}

#[tokio::test]
async fn who_went_from_the_group_while_the_bot_was_out_goes_from_the_room_when_it_is_back() {
    let (mut world, bridge, cast) = begin().await;
    let ghost = "@causeway_dora:b.example";
    // She spoke there, and is no member any more.
    let mut tx = bridge.spine.db.begin().await.unwrap();
    let dora = "dora:b.example".parse().unwrap();
    ghosts::has_joined(&mut tx, PortalId(1), &dora).await.unwrap();
    tx.commit().await.unwrap();
    let told = async {
        cast.bob_says("before").await;
        cast.is_said(&cast.room, BOB, "before").await;
        cast.stub.change(|rooms| {
            rooms.users.insert(ghost.to_owned());
            rooms.membership(&cast.room, BOT, ghost, "invite").unwrap();
            rooms.membership(&cast.room, ghost, ghost, "join").unwrap();
            rooms.membership(&cast.room, "@al:x", BOT, "leave").unwrap();
        });
        cast.is_read("does not get into the Matrix room").await;
        cast.stub.change(|rooms| rooms.membership(&cast.room, "@al:x", BOT, "invite").unwrap());
        let place = (cast.room.clone(), ghost.to_owned());
        let is_out = |rooms: &Rooms| (rooms.members[&place] == "leave").then_some(());
        cast.stub.wait(is_out).await;
    };
    world.during(&bridge, told).await;
    let bob = (cast.room.clone(), BOB.to_owned());
    assert_eq!(cast.stub.look(|rooms| rooms.members[&bob].clone()), "join");
    bridge.drop_dead().await;
}

/// The one that is there is none that anything may be said in; what waits is said in the other.
#[tokio::test]
async fn another_room_is_made_instead_of_an_encrypted_one() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        cast.bob_says("before").await;
        cast.is_said(&cast.room, BOB, "before").await;
        let content = json!({"algorithm": "m.megolm.v1.aes-sha2"});
        cast.stub.change(|rooms| {
            rooms.event(&cast.room, "@al:x", "m.room.encryption", Some(""), content);
        });
        cast.is_read("encrypted").await;
        cast.bob_says("waits").await;
        while bridge.stats().await.outbox == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(recreate(&bridge, 1).await, StatusCode::ACCEPTED);
        let room = cast.another_room().await;
        cast.is_said(&room, BOB, "waits").await;
        cast.al_says(&room, "moved over");
        cast.is_read("moved over").await;
    };
    world.during(&bridge, told).await;
    assert!(!portal(&bridge).await.encrypted);
    cast.is_left_by(&[BOB, BOT]);
    bridge.drop_dead().await;
}

/// Also where nothing is wrong with the one that is there, which nobody of ours stays in.
#[tokio::test]
async fn another_room_is_another_room() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        cast.bob_says("before").await;
        cast.is_said(&cast.room, BOB, "before").await;
        assert_eq!(recreate(&bridge, 1).await, StatusCode::ACCEPTED);
        let room = cast.another_room().await;
        cast.bob_says("after").await;
        cast.is_said(&room, BOB, "after").await;
        cast.is_said(&cast.room, BOT, "bridged into another room").await;
    };
    world.during(&bridge, told).await;
    cast.is_left_by(&[BOB, BOT]);
    bridge.drop_dead().await;
}

/// Puts a room into the world that says it comes after `room`, or after none.
fn upgraded(rooms: &mut Rooms, room: Option<&str>, invites: bool) -> String {
    upgraded_to(rooms, "!next:b.example", room, invites)
}

fn upgraded_to(rooms: &mut Rooms, next: &str, room: Option<&str>, invites: bool) -> String {
    let next = next.to_owned();
    rooms.membership(&next, "@al:x", "@al:x", "join").unwrap();
    let create = room.map_or(json!({}), |room| json!({"predecessor": {"room_id": room}}));
    rooms.event(&next, "@al:x", "m.room.create", Some(""), create);
    let others = json!({"service_members": ["@other:x"]});
    rooms.event(&next, "@al:x", "io.element.functional_members", Some(""), others);
    if invites {
        rooms.membership(&next, "@al:x", BOT, "invite").unwrap();
    }
    next
}

fn tombstone(rooms: &mut Rooms, room: &str, next: &str) {
    let content = json!({"body": "moved", "replacement_room": next});
    rooms.event(room, "@al:x", "m.room.tombstone", Some(""), content);
}

#[tokio::test]
async fn an_upgraded_room_is_followed() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        cast.bob_says("before").await;
        cast.is_said(&cast.room, BOB, "before").await;
        let next = cast.stub.change(|rooms| {
            let next = upgraded(rooms, Some(&cast.room), true);
            tombstone(rooms, &cast.room, &next);
            next
        });
        cast.is_said(&next, BOT, "came along").await;
        // What the bot's own rooms have from the start.
        let set = |kind: &str| {
            let is_it = |event: &&Value| {
                event["room_id"] == *next && event["type"] == kind && event["sender"] == BOT
            };
            let content = |event: &Value| event["content"].clone();
            cast.stub.look(|rooms| rooms.events.iter().find(is_it).map(content))
        };
        let bridge = set("m.bridge").unwrap();
        assert_eq!(bridge["channel"]["displayname"], "Walkers");
        assert_eq!(set("uk.half-shot.bridge"), Some(bridge));
        let members = json!({"service_members": ["@other:x", BOT]});
        assert_eq!(set("io.element.functional_members"), Some(members));
        cast.al_says(&next, "new walls");
        cast.is_read("new walls").await;
        cast.bob_says("nice").await;
        cast.is_said(&next, BOB, "nice").await;
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
}

#[tokio::test]
async fn a_room_that_cannot_be_followed_is_said_on_both_sides_and_followed_when_it_can_be() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        let next = cast.stub.change(|rooms| {
            let next = upgraded(rooms, Some(&cast.room), false);
            tombstone(rooms, &cast.room, &next);
            next
        });
        cast.is_said(&cast.room, BOT, "as soon as somebody there invites").await;
        bridge.pass(60_000);
        cast.is_read("replaced by !next:b.example").await;
        cast.is_said(&cast.room, BOT, "does not follow").await;
        // Upgraded once more, perhaps: the bot cannot see that.
        let last = Room::made_by(&cast.stub, "!last:b.example", "@al:x");
        last.invites("@al:x", BOT, false);
        let why = last.is_left_by(BOT).await;
        assert!(why.contains("was replaced by !next:b.example"), "{why}");
        cast.al_says(&next, "nobody listens");
        let said = cast.stub.look(|rooms| rooms.events.last().unwrap()["event_id"].clone());
        while !is_looked_at(&bridge, said.as_str().unwrap()).await {
            tokio::task::yield_now().await;
        }
        cast.stub.change(|rooms| rooms.membership(&next, "@al:x", BOT, "invite").unwrap());
        cast.is_said(&next, BOT, "came along").await;
        cast.bob_says("there you are").await;
        cast.is_said(&next, BOB, "there you are").await;
        cast.al_says(&next, "all of us");
        cast.is_read("all of us").await;
        assert_eq!(cast.bob.mirrored(), ["all of us"]);
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
}

/// Found by an attack: whoever upgrades a room invites people after that, and what was said meanwhile was
/// given up.
#[tokio::test]
async fn what_is_said_before_the_bot_is_invited_into_the_next_room_waits_for_it() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        let next = cast.stub.change(|rooms| {
            let next = upgraded(rooms, Some(&cast.room), false);
            tombstone(rooms, &cast.room, &next);
            next
        });
        cast.is_said(&cast.room, BOT, "as soon as somebody there invites").await;
        cast.bob_says("meanwhile").await;
        bridge.pass(50_000);
        // Another that is named begins no other minute.
        cast.stub.change(|rooms| tombstone(rooms, &cast.room, "!nowhere:b.example"));
        cast.stub.change(|rooms| tombstone(rooms, &cast.room, &next));
        while bridge.failures("portal/1/to_matrix").await == 0 {
            tokio::task::yield_now().await;
        }
        cast.stub.change(|rooms| rooms.membership(&next, "@al:x", BOT, "invite").unwrap());
        cast.is_said(&next, BOB, "meanwhile").await;
    };
    world.during(&bridge, told).await;
    assert_eq!(bridge.stats().await.dead_letters, 0);
    let said = |part: &str| cast.stub.said().iter().filter(|(_, body)| body.contains(part)).count();
    assert_eq!([said("as soon as"), said("does not follow")], [1, 0]);
    bridge.drop_dead().await;
}

/// Found by an attack: killed over a word as its room was upgraded, the bridge said it in both.
#[tokio::test]
async fn what_a_killed_bridge_had_sent_into_the_room_before_is_not_said_in_the_next() {
    let (mut world, bridge, cast) = begin().await;
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let told = async {
        cast.bob_says("before").await;
        cast.is_said(&cast.room, BOB, "before").await;
        cast.stub.fail("send", Fault::Held(std::sync::Arc::clone(&gate)));
        cast.bob_says("under way").await;
        cast.is_said(&cast.room, BOB, "under way").await;
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
    let next = cast.stub.change(|rooms| {
        let next = upgraded(rooms, Some(&cast.room), true);
        tombstone(rooms, &cast.room, &next);
        next
    });
    let bridge = world.begin(Steps::default()).await;
    let told = async {
        cast.bob_says("after").await;
        cast.is_said(&next, BOB, "after").await;
    };
    world.during(&bridge, told).await;
    let said = cast.stub.said().into_iter().filter(|(sender, _)| sender == BOB);
    let said: Vec<String> = said.map(|(_, body)| body).collect();
    assert_eq!(said, ["before", "under way", "after"]);
    bridge.drop_dead().await;
}

/// Found by an attack: the same where another room was made instead.
#[tokio::test]
async fn what_a_killed_bridge_had_sent_is_not_said_in_a_room_that_is_made_instead() {
    let (mut world, bridge, cast) = begin().await;
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let told = async {
        cast.bob_says("before").await;
        cast.is_said(&cast.room, BOB, "before").await;
        cast.stub.fail("send", Fault::Held(std::sync::Arc::clone(&gate)));
        cast.bob_says("under way").await;
        cast.is_said(&cast.room, BOB, "under way").await;
        assert_eq!(recreate(&bridge, 1).await, StatusCode::ACCEPTED);
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
    let bridge = world.begin(Steps::default()).await;
    let told = async {
        let room = cast.another_room().await;
        cast.bob_says("after").await;
        cast.is_said(&room, BOB, "after").await;
    };
    world.during(&bridge, told).await;
    let said = cast.stub.said().into_iter().filter(|(sender, _)| sender == BOB);
    let said: Vec<String> = said.map(|(_, body)| body).collect();
    assert_eq!(said, ["before", "under way", "after"]);
    bridge.drop_dead().await;
}

/// Found by an attack: no transaction has what was said there before the bot came, and what it has came
/// first.
#[tokio::test]
async fn what_was_said_in_the_next_room_before_the_bot_came_goes_first() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        let next = cast.stub.change(|rooms| {
            let next = upgraded(rooms, Some(&cast.room), false);
            tombstone(rooms, &cast.room, &next);
            next
        });
        cast.is_said(&cast.room, BOT, "as soon as somebody there invites").await;
        next
    };
    let next = world.during(&bridge, told).await;
    cast.al_says(&next, "early");
    world.lose();
    let told = async {
        cast.stub.change(|rooms| rooms.membership(&next, "@al:x", BOT, "invite").unwrap());
        cast.is_said(&next, BOT, "came along").await;
        cast.al_says(&next, "late");
        cast.is_read("late").await;
    };
    world.during(&bridge, told).await;
    assert_eq!(cast.bob.mirrored(), ["early", "late"]);
    bridge.drop_dead().await;
}

#[tokio::test]
async fn a_room_that_does_not_say_that_it_comes_after_ours_is_left() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        let next = cast.stub.change(|rooms| {
            let next = upgraded(rooms, Some("!other:x"), true);
            tombstone(rooms, &cast.room, &next);
            next
        });
        cast.is_read("it does not say that it comes after").await;
        let place = (next, BOT.to_owned());
        assert_eq!(cast.stub.look(|rooms| rooms.members.get(&place).cloned()).unwrap(), "leave");
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
}

/// Found by an attack: it stayed in the one between.
#[tokio::test]
async fn a_room_that_was_upgraded_twice_is_followed_to_its_end() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        let last = cast.stub.change(|rooms| {
            let next = upgraded(rooms, Some(&cast.room), true);
            let last = upgraded_to(rooms, "!last:b.example", Some(&next), true);
            tombstone(rooms, &cast.room, &next);
            tombstone(rooms, &next, &last);
            last
        });
        cast.is_said(&last, BOT, "came along").await;
        cast.al_says(&last, "here we are");
        cast.is_read("here we are").await;
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
}

/// Found by an attack: whoever had the power in the room of an older group kept the bot out of where
/// another group's room had gone.
#[tokio::test]
async fn a_room_is_followed_though_another_group_is_said_to_go_there_too() {
    let (mut world, bridge, cast) = begin().await;
    let other = cast.bob.create_group("Runners").await;
    let told = async {
        cast.bob.bridge(other, &["@bo:x"]).await;
        let room = cast.stub.wait(|rooms| rooms.room_that_invites("@bo:x")).await;
        cast.joins(&room, "@bo:x");
        let next = cast.stub.change(|rooms| {
            let next = upgraded(rooms, Some(&room), false);
            tombstone(rooms, &cast.room, &next);
            tombstone(rooms, &room, &next);
            next
        });
        for room in [&cast.room, &room] {
            cast.is_said(room, BOT, "as soon as somebody there invites").await;
        }
        bridge.pass(60_000);
        for room in [&cast.room, &room] {
            cast.is_said(room, BOT, "does not follow").await;
        }
        cast.stub.change(|rooms| rooms.membership(&next, "@al:x", BOT, "invite").unwrap());
        cast.is_said(&next, BOT, "came along").await;
        while bridge.stats().await.outbox != 0 {
            tokio::task::yield_now().await;
        }
        cast.al_says(&next, "all of us");
        cast.is_read("all of us").await;
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
}

/// Found by an attack: the group went alone into a room that nobody had asked for.
#[tokio::test]
async fn a_bot_that_is_put_out_again_before_it_is_back_makes_no_room() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        let stands = |rooms: &mut Rooms, membership| {
            rooms.membership(&cast.room, "@al:x", BOT, membership).unwrap();
        };
        cast.stub.change(|rooms| stands(rooms, "leave"));
        cast.is_read("does not get into the Matrix room").await;
        cast.stub.change(|rooms| {
            stands(rooms, "invite");
            stands(rooms, "leave");
        });
        let part = "the bridge is not in the room any more";
        cast.bob.wait(part, |read| read.iter().any(|read| read.body.contains(part))).await;
        cast.stub.change(|rooms| stands(rooms, "invite"));
        cast.is_said(&cast.room, BOT, "bridged again").await;
        cast.al_says(&cast.room, "welcome");
        cast.is_read("welcome").await;
    };
    world.during(&bridge, told).await;
    assert_eq!(cast.stub.look(|rooms| rooms.made), 1);
    bridge.drop_dead().await;
}

/// Found by an attack: what was said meanwhile was given up.
#[tokio::test]
async fn a_room_that_takes_long_to_be_made_is_waited_for() {
    let (mut world, bridge, cast) = begin().await;
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let told = async {
        cast.bob_says("before").await;
        cast.is_said(&cast.room, BOB, "before").await;
        cast.stub.fail("createRoom", Fault::Held(std::sync::Arc::clone(&gate)));
        assert_eq!(recreate(&bridge, 1).await, StatusCode::ACCEPTED);
        cast.stub.wait(|rooms| (rooms.made == 2).then_some(())).await;
        rooms::look(&bridge.spine, &mut rooms::Seen::default()).await.unwrap();
        assert_eq!(portal(&bridge).await.lost, None);
        cast.bob_says("waits").await;
        gate.notify_one();
        let room = cast.another_room().await;
        cast.is_said(&room, BOB, "waits").await;
    };
    world.during(&bridge, told).await;
    assert_eq!(bridge.stats().await.dead_letters, 0);
    bridge.drop_dead().await;
}

/// Found by an attack: those who had been in the room before were taken for being in the new one.
#[tokio::test]
async fn who_was_in_the_room_before_is_invited_into_the_one_that_comes_after_it() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        cast.al_says(&cast.room, "here");
        cast.is_read("here").await;
        cast.bob.client.remove(cast.group, &"bridge:b.example".parse().unwrap()).await.unwrap();
        while portal(&bridge).await.state != "closed" {
            tokio::task::yield_now().await;
        }
        cast.stub.change(|rooms| rooms.membership(&cast.room, "@al:x", BOT, "leave").unwrap());
        cast.bob.bridge(cast.group, &["@al:x"]).await;
        let is_other = |(room, who): &(String, String)| *room != cast.room && who == "@al:x";
        let invited = |rooms: &Rooms| rooms.members.keys().any(is_other).then_some(());
        cast.stub.wait(invited).await;
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
}

/// Found by an attack: whoever had the power in one room put the bot out of another group's.
#[tokio::test]
async fn a_room_of_another_group_is_not_left_because_somebody_names_it() {
    let (mut world, bridge, cast) = begin().await;
    let other = cast.bob.create_group("Runners").await;
    let told = async {
        cast.bob.bridge(other, &["@bo:x"]).await;
        let room = cast.stub.wait(|rooms| rooms.room_that_invites("@bo:x")).await;
        cast.stub.change(|rooms| tombstone(rooms, &cast.room, &room));
        cast.is_read("it does not say that it comes after").await;
        cast.joins(&room, "@bo:x");
        let text = json!({"msgtype": "m.text", "body": "still here"});
        cast.stub.change(|rooms| rooms.event(&room, "@bo:x", "m.room.message", None, text));
        cast.is_read("still here").await;
        let place = (room, BOT.to_owned());
        assert_eq!(cast.stub.look(|rooms| rooms.members[&place].clone()), "join");
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
}

/// Whether the bridge has looked at an event, be it that it keeps it for a room in the making.
async fn is_looked_at(bridge: &Running, event: &str) -> bool {
    let mut read = bridge.spine.db.read().await.unwrap();
    let done = "SELECT count(*) FROM inbox WHERE event_id = ? AND state IN (1, 2)";
    let done: i64 = sqlx::query_scalar(done).bind(event).fetch_one(read.conn()).await.unwrap();
    done == 1
}

/// Found by an attack: what was said in the room went nowhere from then on, without a word.
#[tokio::test]
async fn a_bridge_that_is_let_in_twice_before_the_room_hears_of_it_hears_the_room() {
    let (mut world, bridge, cast) = begin().await;
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let told = async {
        cast.bob_says("before").await;
        cast.is_said(&cast.room, BOB, "before").await;
        // The first word that the room is told holds the rest up, until all four are decided; each
        // is answered after the bridge has read it itself.
        for _ in 0..8 {
            cast.stub.fail("/send/", Fault::Held(std::sync::Arc::clone(&gate)));
        }
        // One at a time, since what comes at once may be read as one.
        let is_in = "let the bridge in: from now on";
        let account = "bridge:b.example".parse().unwrap();
        for times in 2..=3 {
            cast.bob.client.remove(cast.group, &account).await.unwrap();
            while portal(&bridge).await.state != "closed" {
                tokio::task::yield_now().await;
            }
            cast.bob.bridge(cast.group, &[]).await;
            let is_told = |body: &String| body.contains(is_in);
            cast.bob
                .wait(is_in, |read| read.iter().filter(|read| is_told(&read.body)).count() == times)
                .await;
        }
        while bridge.stats().await.outbox != 0 {
            let last = cast.stub.look(|rooms| {
                let mut said = rooms.events.iter().rev();
                let last = said.find(|event| event["type"] == "m.room.message").unwrap();
                last["event_id"].as_str().unwrap().to_owned()
            });
            if is_looked_at(&bridge, &last).await {
                gate.notify_waiters();
            }
            tokio::task::yield_now().await;
        }
        cast.stub.look(|rooms| rooms.faults.clear());
        cast.al_says(&cast.room, "do you hear me?");
        cast.is_read("do you hear me?").await;
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
}

/// Found by an attack: what was said before the bridge was taken out, and not read yet, went nowhere
/// without a word.
#[tokio::test]
async fn who_says_what_the_bridge_reads_too_late_is_told() {
    let (mut world, bridge, cast) = begin().await;
    bridge.drop_dead().await;
    for body in ["one", "two"] {
        cast.al_says(&cast.room, body);
    }
    cast.bob.client.remove(cast.group, &"bridge:b.example".parse().unwrap()).await.unwrap();
    let bridge = world.begin(Steps::default()).await;
    while portal(&bridge).await.state != "closed" {
        tokio::task::yield_now().await;
    }
    // What is read before the group's news is on its way then, and ends there.
    let words = ["did not get into the native group", "is not in the group"];
    let is_told = |event: &Value| {
        let body = event["content"]["body"].as_str().unwrap_or_default();
        event["sender"] == BOT && words.iter().any(|part| body.contains(part))
    };
    let told = cast.stub.wait(|rooms| rooms.events.iter().any(is_told).then_some(()));
    world.during(&bridge, told).await;
    let said = cast.stub.said();
    let answers = said.iter().filter(|(_, body)| body.contains(words[0])).count();
    assert!(answers <= 1, "{said:?}");
    bridge.drop_dead().await;
}

/// Found by an attack: a homeserver that is killed while it makes a room has its alias, and no room.
#[tokio::test]
async fn a_room_that_is_half_made_is_made_anew() {
    let mut world = World::new().await;
    let bridge = world.begin(Steps::default()).await;
    let bob = world.person("bob").await;
    let group = bob.create_group("Walkers").await;
    let stub = world.stub.clone();
    let alias = bridge.spine.names.alias(&group);
    stub.change(|rooms| rooms.half_made(&alias));
    let told = async {
        bob.bridge(group, &["@al:x"]).await;
        stub.wait(|rooms| rooms.room_that_invites("@al:x")).await
    };
    assert_ne!(world.during(&bridge, told).await, "!half:b.example");
    bridge.drop_dead().await;
}

/// A room that was upgraded still has the alias, and the bot in it: that is not where the group is.
#[tokio::test]
async fn a_bot_that_is_kicked_from_an_upgraded_room_makes_none_by_itself() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        let next = cast.stub.change(|rooms| {
            let next = upgraded(rooms, Some(&cast.room), true);
            tombstone(rooms, &cast.room, &next);
            next
        });
        cast.is_said(&next, BOT, "came along").await;
        cast.stub.change(|rooms| rooms.membership(&next, "@al:x", BOT, "leave").unwrap());
        cast.is_read("does not get into the Matrix room").await;
        // However often it is looked at.
        let mut seen = rooms::Seen::default();
        for _ in 0..3 {
            rooms::look(&bridge.spine, &mut seen).await.unwrap();
        }
    };
    world.during(&bridge, told).await;
    let state = portal(&bridge).await;
    assert!(state.lost.is_some(), "{state:?}");
    bridge.drop_dead().await;
}

/// Found by an attack: after a restore to before the room was made, that room was nobody's.
#[tokio::test]
async fn a_room_that_was_made_since_the_backup_is_found_again() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        cast.al_says(&cast.room, "before");
        cast.is_read("before").await;
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
    world.copy_bridge("bridge.db", "copy.db");
    let bridge = world.begin(Steps::default()).await;
    let told = async {
        assert_eq!(recreate(&bridge, 1).await, StatusCode::ACCEPTED);
        let room = cast.another_room().await;
        cast.al_says(&room, "in the new room");
        cast.is_read("in the new room").await;
        room
    };
    let room = world.during(&bridge, told).await;
    bridge.drop_dead().await;
    world.copy_bridge("copy.db", "bridge.db");
    cast.al_says(&room, "while it was down");
    for n in 0..5 {
        cast.bob_says(&format!("waits {n}")).await;
    }
    let bridge = world.begin(Steps::default()).await;
    let told = async {
        cast.al_says(&room, "after the restore");
        cast.is_read("after the restore").await;
        for n in 0..5 {
            cast.is_said(&room, BOB, &format!("waits {n}")).await;
        }
        cast.bob_says("and back").await;
        cast.is_said(&room, BOB, "and back").await;
    };
    world.during(&bridge, told).await;
    let read = cast.bob.mirrored();
    assert_eq!(read, ["before", "in the new room", "while it was down", "after the restore"]);
    bridge.drop_dead().await;
}

/// Found by an attack: what natives said was said again, in the room that everybody had left.
#[tokio::test]
async fn a_room_that_was_replaced_since_the_backup_is_left_before_a_word_goes_there() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        cast.bob_says("before").await;
        cast.is_said(&cast.room, BOB, "before").await;
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
    world.copy_bridge("bridge.db", "copy.db");
    let bridge = world.begin(Steps::default()).await;
    let told = async {
        cast.bob_says("here").await;
        cast.is_said(&cast.room, BOB, "here").await;
        let next = cast.stub.change(|rooms| {
            let next = upgraded(rooms, Some(&cast.room), true);
            tombstone(rooms, &cast.room, &next);
            next
        });
        cast.is_said(&next, BOT, "came along").await;
        cast.bob_says("there").await;
        cast.is_said(&next, BOB, "there").await;
        next
    };
    let next = world.during(&bridge, told).await;
    bridge.drop_dead().await;
    world.copy_bridge("copy.db", "bridge.db");
    cast.stub.forget_txns();
    cast.al_says(&next, "meanwhile");
    // What happened is not known for a while.
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    cast.stub.fail("sync", Fault::Held(std::sync::Arc::clone(&gate)));
    let bridge = world.begin(Steps::default()).await;
    let told = async {
        cast.bob_says("after").await;
        while bridge.failures("portal/1/to_matrix").await == 0 {
            assert!(!cast.stub.said().iter().any(|(_, body)| body == "after"));
            tokio::task::yield_now().await;
        }
        gate.notify_one();
        cast.is_said(&next, BOB, "after").await;
        cast.al_says(&next, "and now");
        cast.is_read("and now").await;
    };
    world.during(&bridge, told).await;
    let said = cast.stub.said().into_iter().filter(|(sender, _)| sender == BOB);
    let said: Vec<String> = said.map(|(_, body)| body).collect();
    assert_eq!(said, ["before", "here", "there", "after"]);
    assert_eq!(cast.bob.mirrored(), ["meanwhile", "and now"]);
    bridge.drop_dead().await;
}

#[tokio::test]
async fn a_room_that_was_told_it_is_over_is_told_before_a_word_goes_over_again() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        cast.bob_says("before").await;
        cast.is_said(&cast.room, BOB, "before").await;
        cast.bob.client.remove(cast.group, &"bridge:b.example".parse().unwrap()).await.unwrap();
        cast.is_said(&cast.room, BOT, "taken out of the group").await;
        let place = (cast.room.clone(), BOB.to_owned());
        let is_gone = |to: &String| (to == "leave").then_some(());
        cast.stub.wait(|rooms| rooms.members.get(&place).and_then(is_gone)).await;
    };
    world.during(&bridge, told).await;
    // One who joins while nobody listens.
    cast.stub.change(|rooms| {
        rooms.membership(&cast.room, "@al:x", "@bea:x", "invite").unwrap();
        rooms.membership(&cast.room, "@bea:x", "@bea:x", "join").unwrap();
    });
    cast.al_says(&cast.room, "among ourselves");
    assert!(world.push(&bridge).await);
    let told = async {
        cast.bob.bridge(cast.group, &[]).await;
        cast.is_said(&cast.room, BOT, "This room is bridged again").await;
        cast.is_read("This group is bridged into").await;
        cast.al_says(&cast.room, "for all");
        cast.is_read("for all").await;
    };
    world.during(&bridge, told).await;
    assert_eq!(cast.bob.mirrored(), ["for all"]);
    assert_eq!(portal(&bridge).await.mirrors, 2);
    bridge.drop_dead().await;
}

#[tokio::test]
async fn a_room_that_was_encrypted_while_nobody_listened_gets_nothing_in_clear() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        cast.bob.client.remove(cast.group, &"bridge:b.example".parse().unwrap()).await.unwrap();
        cast.is_said(&cast.room, BOT, "taken out of the group").await;
    };
    world.during(&bridge, told).await;
    cast.stub.change(|rooms| {
        let content = json!({"algorithm": "m.megolm.v1.aes-sha2"});
        rooms.event(&cast.room, "@al:x", "m.room.encryption", Some(""), content)
    });
    assert!(world.push(&bridge).await);
    let told = async {
        cast.bob.bridge(cast.group, &[]).await;
        cast.bob_says("in clear").await;
        cast.is_read("The room is encrypted now").await;
        while !bridge.is_waiting("portal/1/to_matrix").await {
            tokio::task::yield_now().await;
        }
    };
    world.during(&bridge, told).await;
    assert!(!cast.stub.said().iter().any(|(_, body)| body == "in clear"));
    bridge.drop_dead().await;
}

fn elsewhere(number: usize) -> Value {
    json!({"event_id": format!("$m{number}"), "room_id": "!elsewhere:x", "sender": "@al:x",
           "type": "m.room.message", "origin_server_ts": 5,
           "content": {"msgtype": "m.text", "body": "hi"}})
}

/// Rows of the inbox that still hold an event.
async fn kept(bridge: &Bridge) -> i64 {
    let mut read = bridge.spine.db.read().await.unwrap();
    let kept = "SELECT count(*) FROM inbox WHERE sealed IS NOT NULL";
    sqlx::query_scalar(kept).fetch_one(read.conn()).await.unwrap()
}

#[tokio::test]
async fn events_of_nobodys_room_are_let_go_when_the_making_has_failed() {
    let bridge = Bridge::start().await;
    for _ in 0..3 {
        let refusal = json!({"errcode": "M_FORBIDDEN", "error": "no"});
        bridge.stub.fail("createRoom", Fault::Answer(403, refusal));
    }
    let portal = bridge.portal(1).await;
    bridge.push(&[elsewhere(1)]).await;
    bridge.drain().await;
    assert_eq!(kept(&bridge).await, 1);
    let mut seen = rooms::Seen::default();
    rooms::look(&bridge.spine, &mut seen).await.unwrap();
    assert_eq!(kept(&bridge).await, 1, "it is still tried");
    for _ in 0..3 {
        while deliver::step(&bridge.spine).await.unwrap() == Step::Did {}
        bridge.pass(130_000);
    }
    rooms::look(&bridge.spine, &mut seen).await.unwrap();
    bridge.drain().await;
    assert_eq!(kept(&bridge).await, 0);
    bridge.push(&[elsewhere(2)]).await;
    bridge.drain().await;
    assert_eq!(kept(&bridge).await, 0);
    let failed = bridge.portal_now(portal).await;
    assert_eq!(failed.lost.as_deref(), Some("its room could not be made"));
    assert_eq!(bridge.spine.troubles.count(Kind::Portal), 1);
}

/// Found by an attack: a room that was upgraded lets nobody speak, before the bridge has heard why.
#[tokio::test]
async fn what_a_replaced_room_refuses_waits_until_the_bridge_has_heard_why() {
    // Whether his ghost is in the room, or is brought in first.
    for is_in in [true, false] {
        let mut bridge = Bridge::start().await;
        let portal = bridge.portal(1).await;
        bridge.say(portal, "bob:b.example", "0").await;
        bridge.drain().await;
        let room = bridge.portal_now(portal).await.room.unwrap().to_string();
        bridge.stub.change(|rooms| {
            let next = upgraded(rooms, Some(&room), true);
            tombstone(rooms, &room, &next);
            if !is_in {
                rooms.membership(&room, BOB, BOB, "leave").unwrap();
            }
        });
        bridge.say(portal, "bob:b.example", "1").await;
        for _ in 0..3 {
            let refusal =
                json!({"errcode": "M_FORBIDDEN", "error": "user_level (0) < send_level (50)"});
            for _ in 0..if is_in { 1 } else { 2 } {
                bridge.stub.fail("send", Fault::Answer(403, refusal.clone()));
            }
            while deliver::step(&bridge.spine).await.unwrap() == Step::Did {}
            bridge.stub.look(|rooms| rooms.faults.clear());
            bridge.pass(130_000);
        }
        let mut read = bridge.spine.db.read().await.unwrap();
        let dead = dead_letters::list(&mut read, 0, 100).await.unwrap();
        assert!(!dead.iter().any(|letter| letter.lane.ends_with("to_matrix")), "{dead:?}");
        let lanes = stats::lanes(&mut read).await.unwrap();
        let waits =
            lanes.iter().find(|lane| lane.lane == "portal/1/to_matrix").map(|lane| lane.rows);
        assert_eq!(waits, Some(1));
    }
}
