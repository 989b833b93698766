//! What is asked of the bot and of ghosts where there is no portal, on a stub homeserver.

use causeway_bridge::{services::errands, steps::Steps};
use serde_json::{Value, json};

use crate::{
    stub::{Fault, Rooms, Stub},
    world::{Running, World},
};

pub(crate) const BOT: &str = "@causewaybot:b.example";
pub(crate) const GHOST: &str = "@causeway_bob:b.example";
pub(crate) const AL: &str = "@al:b.example";

/// A room of somebody's.
pub(crate) struct Room {
    pub(crate) stub: Stub,
    id: String,
}

impl Room {
    pub(crate) fn made_by(stub: &Stub, id: &str, by: &str) -> Self {
        stub.change(|rooms| {
            rooms.event(id, by, "m.room.create", Some(""), json!({}));
            rooms.membership(id, by, by, "join").unwrap();
        });
        Self { stub: stub.clone(), id: id.to_owned() }
    }

    pub(crate) fn invites(&self, by: &str, who: &str, is_direct: bool) {
        self.stub.change(|rooms| {
            rooms.members.insert((self.id.clone(), who.to_owned()), "invite".to_owned());
            let content = json!({"membership": "invite", "is_direct": is_direct});
            rooms.event(&self.id, by, "m.room.member", Some(who), content);
        });
    }

    pub(crate) fn says(&self, by: &str, body: &str) {
        let content = json!({"msgtype": "m.text", "body": body});
        self.stub.change(|rooms| rooms.event(&self.id, by, "m.room.message", None, content));
    }

    pub(crate) fn place(&self, who: &str) -> Option<String> {
        let place = (self.id.clone(), who.to_owned());
        self.stub.look(|rooms| rooms.members.get(&place).cloned())
    }

    /// Somebody comes in, or goes.
    pub(crate) fn member(&self, who: &str, to: &str) {
        let place = (self.id.clone(), who.to_owned());
        self.stub.change(|rooms| {
            rooms.members.insert(place, to.to_owned());
            let content = json!({"membership": to});
            rooms.event(&self.id, who, "m.room.member", Some(who), content);
        });
    }

    /// What the bot has said here.
    pub(crate) fn answers(&self) -> Vec<String> {
        self.stub.look(|rooms| answers(rooms, &self.id))
    }

    pub(crate) async fn is_left_by(&self, who: &str) -> String {
        let place = (self.id.clone(), who.to_owned());
        self.stub
            .wait(|rooms| {
                let is_out = rooms.members.get(&place).is_some_and(|to| to == "leave");
                is_out.then(|| rooms.reasons.get(&place).cloned().unwrap_or_default())
            })
            .await
    }

    pub(crate) async fn has_answers(&self, count: usize) -> Vec<String> {
        let all = |answers: &Vec<String>| answers.len() >= count;
        self.stub.wait(|rooms| Some(answers(rooms, &self.id)).filter(all)).await
    }
}

fn answers(rooms: &Rooms, room: &str) -> Vec<String> {
    let is_answer = |event: &&Value| {
        event["room_id"] == room && event["sender"] == BOT && event["type"] == "m.room.message"
    };
    let answers = rooms.events.iter().filter(is_answer);
    answers.map(|event| event["content"]["body"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the bot has said something in `room` that begins like this.
async fn is_answered(stub: &Stub, room: &str, begin: &str) {
    let is = |answer: &String| answer.starts_with(begin);
    stub.wait(|rooms| answers(rooms, room).iter().any(is).then_some(())).await;
}

pub(crate) async fn begin() -> (World, Running) {
    let world = World::new().await;
    let bridge = world.begin(Steps::default()).await;
    (world, bridge)
}

#[tokio::test]
async fn who_is_alone_with_the_bot_is_answered() {
    let (mut world, bridge) = begin().await;
    let room = Room::made_by(&world.stub, "!chat:b.example", AL);
    let told = async {
        room.invites(AL, BOT, true);
        assert!(room.has_answers(1).await[0].contains("`status`"));
        for (turn, (said, part)) in [
            ("version", "Causeway "),
            ("status", "You are in no bridged room."),
            ("!causeway bridge", "group bridge"),
            ("what?", "This is no command."),
            ("members", "say it there"),
        ]
        .iter()
        .enumerate()
        {
            room.says(AL, said);
            let answers = room.has_answers(turn + 2).await;
            assert!(answers[turn + 1].contains(part), "{answers:?}");
        }
        // Who goes is not kept company by a bot.
        room.member(AL, "leave");
        room.is_left_by(BOT).await;
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
}

#[tokio::test]
async fn a_status_names_the_rooms_of_who_asks() {
    let (mut world, bridge) = begin().await;
    let alice = world.person("alice").await;
    let group = alice.create_group("Walkers").await;
    let stub = world.stub.clone();
    let chat = Room::made_by(&world.stub, "!chat:x", "@al:x");
    let told = async {
        alice.bridge(group, &["@al:x"]).await;
        let room = stub.wait(|rooms| rooms.room_that_invites("@al:x")).await;
        stub.change(|rooms| rooms.membership(&room, "@al:x", "@al:x", "join").unwrap());
        let say = |by: &str, body: &str| {
            let content = json!({"msgtype": "m.text", "body": body});
            stub.change(|rooms| rooms.event(&room, by, "m.room.message", None, content));
        };
        say("@al:x", "hello");
        alice.wait("hello", |read| read.iter().any(|read| read.body == "hello")).await;
        // Of another server, and known by the room.
        chat.invites("@al:x", BOT, true);
        chat.has_answers(1).await;
        chat.says("@al:x", "status");
        let answers = chat.has_answers(2).await;
        let expected = format!("You are in 1 bridged room:\n“Walkers”: https://matrix.to/#/{room}");
        assert_eq!(answers[1], expected);

        say("@al:x", "!causeway status");
        let status = "Bridged to the native group “Walkers”: 1 native member, 1 Matrix user.";
        is_answered(&stub, &room, status).await;
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
}

#[tokio::test]
async fn who_has_the_power_invites_and_takes_the_bridge_out() {
    let (mut world, bridge) = begin().await;
    let alice = world.person("alice").await;
    let group = alice.create_group("Walkers").await;
    let stub = world.stub.clone();
    let told = async {
        alice.bridge(group, &["@al:x", "@boss:x"]).await;
        let room = stub.wait(|rooms| rooms.room_that_invites("@boss:x")).await;
        for user in ["@al:x", "@boss:x"] {
            stub.wait(|rooms| rooms.members.get(&(room.clone(), user.to_owned())).cloned()).await;
            stub.change(|rooms| rooms.membership(&room, user, user, "join").unwrap());
        }
        let reason = |who: &str| {
            let place = (room.clone(), who.to_owned());
            stub.look(|rooms| rooms.reasons.get(&place).cloned().unwrap_or_default())
        };
        let by = "Invited by alice. This room is bridged to the native group “Walkers”";
        assert!(reason("@al:x").starts_with(by), "{}", reason("@al:x"));
        let levels = json!({"users": {"@boss:x": 100}, "invite": 50,
            "events": {"m.room.tombstone": 100}});
        stub.change(|rooms| rooms.event(&room, BOT, "m.room.power_levels", Some(""), levels));
        let say = |by: &str, body: &str| {
            let content = json!({"msgtype": "m.text", "body": body});
            stub.change(|rooms| rooms.event(&room, by, "m.room.message", None, content));
        };
        say("@al:x", "!causeway invite @bo:x");
        is_answered(&stub, &room, "Only who may invite (power 50)").await;
        say("@al:x", "!causeway unbridge");
        is_answered(&stub, &room, "Only who may close this room (power 100)").await;
        say("@boss:x", "!causeway invite @bo:x");
        is_answered(&stub, &room, "@bo:x is invited.").await;
        assert!(
            reason("@bo:x").starts_with("Invited by @boss:x. This room"),
            "{}",
            reason("@bo:x")
        );
        say("@boss:x", "!causeway invite @causeway_eve:b.example");
        is_answered(&stub, &room, "Native people come by themselves").await;
        alice.say(group, &["hello".to_owned()]).await;
        let ghost = (room.clone(), "@causeway_alice:b.example".to_owned());
        stub.wait(|rooms| (rooms.members.get(&ghost)? == "join").then_some(())).await;

        say("@boss:x", "!causeway unbridge");
        for who in [BOT, "@causeway_alice:b.example"] {
            let place = (room.clone(), who.to_owned());
            stub.wait(|rooms| (rooms.members.get(&place)? == "leave").then_some(())).await;
        }
        is_answered(&stub, &room, "@boss:x takes the bridge out of this room").await;
        let part = "@boss:x took the bridge out of it";
        alice.wait(part, |read| read.iter().any(|read| read.body.contains(part))).await;
        // The homeserver hands it over all the same: the room's alias is the bridge's.
        say("@boss:x", "between us");
        stub.change(|rooms| {
            rooms.membership(&room, "@boss:x", "@late:x", "invite").unwrap();
            rooms.membership(&room, "@late:x", "@late:x", "join").unwrap();
        });
        stub.change(|rooms| rooms.membership(&room, "@boss:x", BOT, "invite").unwrap());
        is_answered(&stub, &room, "This room is bridged again").await;
        say("@boss:x", "welcome back");
        let part = "welcome back";
        alice.wait(part, |read| read.iter().any(|read| read.body.contains(part))).await;
    };
    world.during(&bridge, told).await;
    let read = alice.read();
    for part in ["between us", "late", "removed the bridge"] {
        assert!(!read.iter().any(|read| read.body.contains(part)), "{part}: {read:?}");
    }
    bridge.drop_dead().await;
}

#[tokio::test]
async fn who_cannot_be_answered_where_he_asks_is_told_why() {
    let (mut world, bridge) = begin().await;
    let direct = Room::made_by(&world.stub, "!ghost:b.example", AL);
    let crowd = Room::made_by(&world.stub, "!crowd:b.example", AL);
    let sealed = Room::made_by(&world.stub, "!sealed:b.example", AL);
    let foreign = Room::made_by(&world.stub, "!far:x", "@eve:x");
    let three = Room::made_by(&world.stub, "!three:b.example", AL);
    world.stub.change(|rooms| {
        rooms.event(&sealed.id, AL, "m.room.encryption", Some(""), json!({}));
        rooms.users.insert(GHOST.to_owned());
    });
    three.member("@bo:x", "join");
    let told = async {
        direct.invites(AL, GHOST, true);
        assert!(direct.is_left_by(GHOST).await.contains("bob (native)"));
        crowd.invites(AL, BOT, false);
        assert!(crowd.is_left_by(BOT).await.contains("direct chats only"));
        // A stranger's room may be of any size: nobody goes in to look.
        foreign.invites("@eve:x", BOT, true);
        assert!(foreign.is_left_by(BOT).await.contains("direct chats only"));
        sealed.invites(AL, BOT, true);
        assert!(sealed.is_left_by(BOT).await.contains("encrypted"));
        three.invites(AL, BOT, true);
        assert!(three.is_left_by(BOT).await.contains("direct chats only"));
    };
    world.during(&bridge, told).await;
    for room in [&direct, &crowd, &sealed, &foreign, &three] {
        assert_eq!(room.answers(), [""; 0], "{}", room.id);
        assert_eq!(room.place(BOT).as_deref().unwrap_or("leave"), "leave");
    }
    bridge.drop_dead().await;
}

/// Whoever invites a name that nobody has is told so, and makes no more than a few accounts by it.
#[tokio::test]
async fn a_name_that_nobody_has_declines_a_few_times_and_not_for_strangers() {
    let (mut world, bridge) = begin().await;
    let stub = world.stub.clone();
    let ghost = |name: &str| format!("@causeway_{name}:b.example");
    let invite = |id: &str, by: &str, names: &[&str]| {
        let room = Room::made_by(&stub, id, by);
        for name in names {
            room.invites(by, &ghost(name), true);
        }
        room
    };
    let far = invite("!far:x", "@eve:x", &["mallory"]);
    let own = invite("!own:b.example", AL, &["n1", "n2", "n3", "n4"]);
    let told = async {
        for name in ["n1", "n2", "n3"] {
            let why = own.is_left_by(&ghost(name)).await;
            assert!(why.contains("nobody of that name is in a bridged group"), "{why}");
        }
        // One that is there declines as often as it is invited.
        own.member(&ghost("n1"), "leave");
        own.invites(AL, &ghost("n1"), true);
        let why = own.is_left_by(&ghost("n1")).await;
        assert!(why.contains("nobody of that name is in a bridged group"), "{why}");
        // His errands go in their order: those before it are done.
        let last = Room::made_by(&stub, "!last:b.example", AL);
        last.invites(AL, BOT, true);
        last.has_answers(1).await;
        let of_eve = Room::made_by(&stub, "!last:x", "@eve:x");
        of_eve.invites("@eve:x", BOT, true);
        of_eve.is_left_by(BOT).await;
    };
    world.during(&bridge, told).await;
    assert_eq!(own.place(&ghost("n4")).as_deref(), Some("invite"));
    assert_eq!(far.place(&ghost("mallory")).as_deref(), Some("invite"));
    let made = |rooms: &mut Rooms| rooms.users.iter().filter(|user| user.contains("_n")).count();
    assert_eq!(stub.look(made), 3);
    assert!(!stub.look(|rooms| rooms.users.contains(&ghost("mallory"))));
    bridge.drop_dead().await;
}

/// One homeserver that does not answer, and one user who asks without end, hold nobody up.
#[tokio::test]
async fn who_asks_too_much_waits_alone() {
    let (mut world, bridge) = begin().await;
    let loud = Room::made_by(&world.stub, "!loud:b.example", "@loud:b.example");
    let quiet = Room::made_by(&world.stub, "!quiet:b.example", AL);
    let told = async {
        loud.invites("@loud:b.example", BOT, true);
        loud.has_answers(1).await;
        for _ in 0..3 {
            world_fails(&loud.stub);
        }
        for _ in 0..50 {
            loud.says("@loud:b.example", "version");
        }
        quiet.invites(AL, BOT, true);
        quiet.has_answers(1).await;
    };
    world.during(&bridge, told).await;
    let mut read = bridge.spine.db.read().await.unwrap();
    let waiting = causeway_bridge::storage::errands::waiting(&mut read).await.unwrap();
    let of_loud = waiting.iter().filter(|known| known.errand.by == "@loud:b.example").count();
    assert!(of_loud <= 1, "{of_loud}: what waits is asked once");
    drop(read);
    let mut waits = errands::Waits::new();
    drop(errands::step(&bridge.spine, &mut waits).await);
    bridge.drop_dead().await;
}

fn world_fails(stub: &Stub) {
    stub.fail("!loud:b.example/state", Fault::Answer(502, json!({})));
}

/// Found by an attack: the bot stayed, and said nothing.
#[tokio::test]
async fn a_chat_that_turns_encrypted_is_left_with_the_reason() {
    let (mut world, bridge) = begin().await;
    let own = Room::made_by(&world.stub, "!own:b.example", AL);
    let told = async {
        own.invites(AL, BOT, true);
        own.has_answers(1).await;
        let turn = json!({"algorithm": "m.megolm.v1.aes-sha2"});
        own.stub.change(|rooms| rooms.event(&own.id, AL, "m.room.encryption", Some(""), turn));
        assert!(own.is_left_by(BOT).await.contains("encrypted"));
    };
    world.during(&bridge, told).await;
    assert_eq!(own.answers().len(), 1);
    bridge.drop_dead().await;
}

/// Found by an attack: a dozen accounts whose homeservers did not answer kept everybody waiting for
/// minutes.
#[tokio::test]
async fn whose_homeservers_do_not_answer_keep_nobody_else_waiting() {
    let (mut world, bridge) = begin().await;
    let stub = world.stub.clone();
    let never = std::sync::Arc::new(tokio::sync::Notify::new());
    let told = async {
        let others: Vec<Room> = (0..16)
            .map(|number| {
                stub.fail("/leave", Fault::Late(std::sync::Arc::clone(&never), json!({})));
                let by = format!("@m{number}:far.example");
                let room = Room::made_by(&stub, &format!("!m{number}:far.example"), &by);
                room.invites(&by, BOT, true);
                room
            })
            .collect();
        stub.wait(|rooms| rooms.faults.is_empty().then_some(())).await;
        let own = Room::made_by(&stub, "!own:b.example", AL);
        own.invites(AL, BOT, true);
        own.has_answers(1).await;
        assert!(others.iter().all(|room| room.place(BOT).as_deref() == Some("invite")));
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
}
