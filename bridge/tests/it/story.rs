//! What people in a bridged group and its room see of one another, on the real native server and a
//! stub homeserver.

use causeway_bridge::steps::Steps;
use causeway_groups::{machine::OpError, schemes::legacy::Suite, sdk::SdkError};
use causeway_protocol::{
    content::{Content, MessageRef, Text, TextKind},
    ids::{DeviceId, GroupId},
    roster::{Policy, Scheme},
};
use serde_json::{Value, json};

use crate::{
    people::{Person, Read, new_group},
    stub::{Fault, Stub},
    world::{Running, World},
};

const BOB: &str = "@causeway_bob:b.example";

/// Alice and Bob in a group that is bridged, and Al in its room.
struct Cast {
    stub: Stub,
    alice: Person,
    bob: Person,
    group: GroupId,
    room: String,
}

impl Person {
    async fn remove(&self, group: GroupId, account: &str) {
        self.client.remove(group, &account.parse().unwrap()).await.unwrap();
    }

    /// How many keys were given that this device has not said to have.
    async fn unacknowledged_by(&self, device: DeviceId) -> i64 {
        let mut read = self.client.db().read().await.unwrap();
        sqlx::query_scalar("SELECT COUNT(*) FROM given WHERE acked = FALSE AND device_id = $1")
            .bind(device.as_ref())
            .fetch_one(read.conn())
            .await
            .unwrap()
    }

    /// How to refer to the message that says `body`.
    fn reference_of(&self, body: &str) -> MessageRef {
        self.read().iter().find(|read| read.body == body).unwrap().reference
    }
}

async fn begin() -> (World, Running, Cast) {
    begin_as(Scheme::SenderKeys).await
}

async fn begin_as(scheme: Scheme) -> (World, Running, Cast) {
    let mut world = World::new().await;
    let bridge = world.begin(Steps::default()).await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let group = alice.create_group_as("Walkers", scheme).await;
    alice.add(group, "bob:b.example").await;
    let stub = world.stub.clone();
    let invited = async {
        alice.bridge(group, &["@al:x"]).await;
        stub.wait(|rooms| rooms.room_that_invites("@al:x")).await
    };
    let room = world.during(&bridge, invited).await;
    let cast = Cast { stub, alice, bob, group, room };
    cast.member("@al:x", "@al:x", "join");
    (world, bridge, cast)
}

impl Cast {
    fn member(&self, by: &str, who: &str, to: &str) {
        self.stub.change(|rooms| rooms.membership(&self.room, by, who, to).unwrap());
    }

    fn al(&self, kind: &str, key: Option<&str>, content: Value) -> String {
        self.stub.change(|rooms| rooms.event(&self.room, "@al:x", kind, key, content))
    }

    fn al_says(&self, body: &str) -> String {
        self.al("m.room.message", None, json!({"msgtype": "m.text", "body": body}))
    }

    async fn is_read(&self, person: &Person, part: &str) {
        person.wait(part, |read| read.iter().any(|read| read.body.contains(part))).await;
    }

    async fn is_said(&self, sender: &str, body: &str) -> Value {
        let find = |event: &&Value| {
            event["type"] == "m.room.message"
                && event["sender"] == sender
                && event["content"]["body"] == body
        };
        self.stub.wait(|rooms| rooms.events.iter().find(find).cloned()).await
    }

    async fn bob_says(&self, body: &str) {
        self.bob.say(self.group, &[body.to_owned()]).await;
        self.is_said(BOB, body).await;
    }

    async fn leaves(&self, ghost: &str) {
        let place = (self.room.clone(), ghost.to_owned());
        let is_gone = |to: &String| (to == "leave").then_some(());
        self.stub.wait(|rooms| rooms.members.get(&place).and_then(is_gone)).await;
    }
}

#[tokio::test]
async fn a_pairwise_group_is_bridged_as_any_other() {
    is_bridged(Scheme::Pairwise).await;
}

#[tokio::test]
async fn a_group_that_shares_a_key_is_bridged_as_any_other() {
    is_bridged(Scheme::SharedKey).await;
}

/// Its suite can say neither for whom a bridge speaks nor what one is asked for, and its own clients show
/// nobody that there is one.
#[tokio::test]
async fn a_legacy_group_has_no_bridge_before_it_is_upgraded() {
    for suite in [Suite::OpusV1, Suite::RenA] {
        let mut world = World::new().await;
        let bridge = world.begin(Steps::default()).await;
        let alice = world.person("alice").await;
        let new = new_group("Walkers", Scheme::SenderKeys);
        let group = alice.client.create_legacy_group(suite, new).await.unwrap();
        let stub = world.stub.clone();
        let story = async {
            let info = alice.client.http().server().await.unwrap().bridge.unwrap();
            let refused = alice.client.add_bridge(group, &info).await;
            assert!(matches!(refused, Err(SdkError::Op(OpError::NoBridge(_)))), "{refused:?}");
            assert!(alice.client.roster(group).await.unwrap().bridge().is_none());
            let upgrade = |policy: &mut Policy| policy.min_version = 2;
            alice.client.change_policy(group, &upgrade).await.unwrap();
            alice.bridge(group, &["@al:x"]).await;
            let room = stub.wait(|rooms| rooms.room_that_invites("@al:x")).await;
            stub.change(|rooms| rooms.membership(&room, "@al:x", "@al:x", "join").unwrap());
            alice.say(group, &["hi Al".to_owned()]).await;
            let is_said = |event: &&Value| event["content"]["body"] == "hi Al";
            stub.wait(|rooms| rooms.events.iter().find(is_said).map(|_| ())).await;
        };
        world.during(&bridge, story).await;
    }
}

async fn is_bridged(scheme: Scheme) {
    let (mut world, bridge, cast) = begin_as(scheme).await;
    let told = async {
        for n in 0..3 {
            let (native, matrix) = (format!("hi Al {n}"), format!("hi all {n}"));
            cast.bob_says(&native).await;
            cast.al_says(&matrix);
            cast.is_read(&cast.bob, &matrix).await;
        }
        let read = cast.bob.read().into_iter().find(|read| read.body == "hi all 0").unwrap();
        assert_eq!(read.sender, "bridge:b.example");
        assert_eq!(read.mirror.as_deref(), Some("@al:x"));
        cast.is_read(&cast.alice, "hi all 2").await;

        cast.alice.remove(cast.group, "bob:b.example").await;
        cast.leaves(BOB).await;
        cast.al_says("without Bob");
        cast.is_read(&cast.alice, "without Bob").await;
        assert!(!cast.bob.read().iter().any(|read| read.body == "without Bob"));
        cast.alice.say(cast.group, &["so it is".to_owned()]).await;
        cast.is_said("@causeway_alice:b.example", "so it is").await;
    };
    world.during(&bridge, told).await;
}

#[tokio::test]
async fn they_talk_answer_and_see_who_is_who() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        let first = cast.al_says("hello");
        cast.is_read(&cast.bob, "hello").await;
        let read = cast.bob.read().into_iter().find(|read| read.body == "hello").unwrap();
        assert_eq!(read.sender, "bridge:b.example");
        assert_eq!(read.mirror.as_deref(), Some("@al:x"));

        cast.bob.say(cast.group, &["hi Al".to_owned()]).await;
        let event = cast.is_said(BOB, "hi Al").await;
        let reply = json!({"msgtype": "m.text", "body": "> <@x> hi Al\n\nhow are you",
            "m.relates_to": {"m.in_reply_to": {"event_id": event["event_id"]}}});
        cast.al("m.room.message", None, reply);
        cast.is_read(&cast.bob, "how are you").await;
        let read = cast.bob.read().into_iter().find(|read| read.body == "how are you").unwrap();
        assert!(read.replies);

        cast.bob.say(cast.group, &["over here, @al".to_owned()]).await;
        let event = cast.is_said(BOB, "over here, @al").await;
        assert_eq!(event["content"]["m.mentions"], json!({"user_ids": ["@al:x"]}));

        let device = cast.alice.client.me().record.device_id;
        let linked = cast.al_says("who comes along?");
        cast.is_read(&cast.alice, "who comes along?").await;
        let reply_to = cast.alice.reference_of("who comes along?");
        assert_ne!(reply_to.device, device);
        let answer = Text {
            kind: TextKind::Emote,
            body: "does".to_owned(),
            html: Some("<b>does</b><img src=x onerror=alert(1)>".to_owned()),
            reply_to: Some(MessageRef { ..reply_to }),
            mirror: None,
        };
        cast.alice.send(cast.group, vec![Content::Text(answer)]).await;
        let event = cast.is_said("@causeway_alice:b.example", "does").await;
        assert_eq!(event["content"]["msgtype"], "m.emote");
        assert_eq!(event["content"]["formatted_body"], "<b>does</b>");
        assert_eq!(event["content"]["m.relates_to"]["m.in_reply_to"]["event_id"], linked.as_str());
        assert_ne!(first, linked);
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
}

#[tokio::test]
async fn one_who_is_removed_goes_and_one_who_is_kicked_is_not_heard() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        cast.bob.say(cast.group, &["here".to_owned()]).await;
        cast.is_said(BOB, "here").await;
        cast.member("@al:x", BOB, "ban");
        cast.is_read(&cast.alice, "@al:x removed bob:b.example from the room").await;
        cast.bob.say(cast.group, &["unheard".to_owned()]).await;
        cast.alice.say(cast.group, &["bob is out".to_owned()]).await;
        cast.is_said("@causeway_alice:b.example", "bob is out").await;
        cast.member("@al:x", BOB, "leave");
        cast.member("@al:x", BOB, "invite");
        cast.is_read(&cast.alice, "@al:x invited bob:b.example").await;
        cast.bob.say(cast.group, &["back".to_owned()]).await;
        cast.is_said(BOB, "back").await;
        cast.alice.remove(cast.group, "bob:b.example").await;
        cast.leaves(BOB).await;
    };
    world.during(&bridge, told).await;
    assert!(!cast.stub.said().iter().any(|(_, body)| body == "unheard"));
    assert_eq!(bridge.stats().await.dead_letters, 1);
    bridge.drop_dead().await;
}

#[tokio::test]
async fn an_encrypted_room_gets_nothing_in_clear() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        cast.bob.say(cast.group, &["before".to_owned()]).await;
        cast.is_said(BOB, "before").await;
        // What greets Al in the room would wait, too.
        while bridge.stats().await.outbox != 0 {
            tokio::task::yield_now().await;
        }
        cast.al("m.room.encryption", Some(""), json!({"algorithm": "m.megolm.v1.aes-sha2"}));
        cast.is_read(&cast.alice, "The room is encrypted now").await;
        cast.bob.say(cast.group, &["after".to_owned()]).await;
        cast.al("m.room.encrypted", None, json!({"ciphertext": "x"}));
        cast.al_says("plainly");
        cast.is_read(&cast.alice, "plainly").await;
        let is_paused = |event: &&Value| event["type"] == "m.room.topic";
        cast.stub.wait(|rooms| rooms.events.iter().find(is_paused).cloned()).await;
        // What bob said waits, and all else is done.
        while bridge.stats().await.outbox != 1 || !bridge.is_waiting("portal/1/to_matrix").await {
            tokio::task::yield_now().await;
        }
    };
    world.during(&bridge, told).await;
    assert!(!cast.stub.said().iter().any(|(_, body)| body == "after"));
    let stats = bridge.stats().await;
    assert_eq!((stats.paused_lanes, stats.quarantine, stats.outbox), (1, 1, 1));
    bridge.drop_dead().await;
}

#[tokio::test]
async fn what_is_not_carried_has_a_line_and_an_answer() {
    let (mut world, bridge, cast) = begin().await;
    let sticker = || json!({"body": "A cat", "url": "mxc://x/y", "info": {}});
    let told = async {
        let hello = cast.al_says("hello");
        cast.is_read(&cast.alice, "hello").await;
        cast.al("m.sticker", None, sticker());
        cast.al("m.sticker", None, sticker());
        let relates = json!({"rel_type": "m.annotation", "event_id": hello, "key": "👍"});
        let reaction = cast.al("m.reaction", None, json!({"m.relates_to": relates}));
        cast.al("m.room.redaction", None, json!({"redacts": reaction}));
        cast.al("m.room.redaction", None, json!({"redacts": hello}));
        // What is on its way will be there.
        let hasty = cast.al_says("hasty");
        cast.al("m.room.redaction", None, json!({"redacts": hasty}));
        cast.al_says("end");
        cast.is_read(&cast.alice, "end").await;
        while bridge.stats().await.outbox != 0 {
            tokio::task::yield_now().await;
        }
    };
    world.during(&bridge, told).await;
    let read = cast.alice.read();
    let lines = read.iter().skip_while(|read| read.body != "hello");
    let lines: Vec<_> = lines.map(|read| (read.body.as_str(), read.replies)).collect();
    let sticker = ("sent a sticker, which is not bridged yet: A cat", false);
    let expected = [
        ("hello", false),
        sticker,
        sticker,
        ("reacted with 👍", true),
        ("took back this message", true),
        ("took back this message", true),
        ("hasty", false),
        ("took back this message", true),
        ("end", false),
    ];
    assert_eq!(lines, expected);
    let said = cast.stub.said();
    let answers = said.iter().filter(|(_, body)| body.contains("do not get into the native group"));
    let whats: Vec<&str> = answers.map(|(_, body)| body.split(" do not").next().unwrap()).collect();
    assert_eq!(whats, ["Stickers", "Reactions", "Removals of messages"], "each once");
    bridge.drop_dead().await;
}

#[tokio::test]
async fn a_bridge_that_is_removed_says_so_and_its_ghosts_leave() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        cast.bob.say(cast.group, &["here".to_owned()]).await;
        cast.is_said(BOB, "here").await;
        cast.alice.remove(cast.group, "bridge:b.example").await;
        cast.leaves(BOB).await;
    };
    world.during(&bridge, told).await;
    let said = cast.stub.said();
    assert_eq!(said.last().unwrap().0, "@causewaybot:b.example");
    bridge.drop_dead().await;
}

/// As a member like another it reads, since an admin let it, and the group says so; into the room
/// goes nothing, whatever else comes in the same transaction.
#[tokio::test]
async fn a_bridge_that_comes_back_as_a_member_carries_nothing() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        cast.bob.say(cast.group, &["bridged".to_owned()]).await;
        cast.is_said(BOB, "bridged").await;
        cast.alice.remove(cast.group, "bridge:b.example").await;
        cast.leaves(BOB).await;
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
    cast.alice.add(cast.group, "bridge:b.example").await;
    let secrets: Vec<String> = (0..3).map(|n| format!("SECRET {n}")).collect();
    cast.alice.say(cast.group, &secrets).await;
    cast.alice.remove(cast.group, "bridge:b.example").await;
    cast.alice.bridge(cast.group, &[]).await;
    cast.alice.say(cast.group, &["bridged again".to_owned()]).await;
    let bridge = world.begin(Steps::default()).await;
    let told = cast.is_said("@causeway_alice:b.example", "bridged again");
    world.during(&bridge, told).await;
    let said = cast.stub.said();
    assert!(!said.iter().any(|(_, body)| body.contains("SECRET")), "{said:?}");
    bridge.drop_dead().await;
}

#[tokio::test]
async fn one_bad_event_among_a_thousand_good_ones_and_a_thousand_arrive() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        for n in 0..1_000 {
            if n == 500 {
                cast.al("m.room.message", None, json!({"msgtype": 5, "body": {"deep": []}}));
            }
            cast.al_says(&format!("m{n}"));
        }
        let all = |read: &[_]| count(read) == 1_000;
        cast.bob.wait("a thousand", all).await;
    };
    world.during(&bridge, told).await;
    let expected: Vec<String> = (0..1_000).map(|n| format!("m{n}")).collect();
    assert_eq!(cast.bob.mirrored(), expected);
    assert_eq!(bridge.stats().await.quarantine, 1);
    bridge.drop_dead().await;
}

#[tokio::test]
async fn what_is_sealed_together_is_given_up_together() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        cast.al_says("heard");
        cast.is_read(&cast.alice, "heard").await;
    };
    world.during(&bridge, told).await;
    world.end_server().await;
    cast.al_says("first");
    cast.al_says("second");
    assert!(world.push(&bridge).await);
    let ends = async |rows: i64| {
        let failures = bridge.failures("portal/1/to_native").await;
        let mut tx = bridge.spine.db.begin().await.unwrap();
        let first = "UPDATE portal_outbox SET expires_at = 0 WHERE id IN
             (SELECT id FROM portal_outbox ORDER BY id LIMIT $1)";
        sqlx::query(first).bind(rows).execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
        failures
    };
    while bridge.failures("portal/1/to_native").await == 0 {
        tokio::task::yield_now().await;
    }
    let failures = ends(1).await;
    while bridge.failures("portal/1/to_native").await < failures + 2 {
        tokio::task::yield_now().await;
    }
    let stats = bridge.stats().await;
    assert_eq!((stats.outbox, stats.dead_letters), (2, 0));
    ends(2).await;
    while bridge.stats().await.dead_letters < 2 {
        tokio::task::yield_now().await;
    }
    bridge.drop_dead().await;
}

const BACKUP: &str = "The bridge was restored from a backup";
const DAY_MS: u64 = 86_400_000;

/// Bob is heard before a copy of `bridge.db` is made and after it, and said something that only the
/// database has that is lost then: the copy takes its place.
async fn put_back() -> (World, Cast) {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        cast.bob.say(cast.group, &["one".to_owned()]).await;
        cast.is_said(BOB, "one").await;
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
    world.copy_bridge("bridge.db", "copy.db");
    let bridge = world.begin(Steps::default()).await;
    let told = async {
        cast.bob.say(cast.group, &["two".to_owned()]).await;
        cast.is_said(BOB, "two").await;
        cast.al_says("from Al");
        cast.is_read(&cast.bob, "from Al").await;
        // An answer that never comes, of nothing done.
        let never = std::sync::Arc::default();
        cast.stub.fail("/send/", Fault::Late(never, json!({})));
        cast.bob.say(cast.group, &["three".to_owned(), "four".to_owned()]).await;
        while bridge.stats().await.outbox < 2 {
            tokio::task::yield_now().await;
        }
    };
    world.during(&bridge, told).await;
    world.all_is_read().await;
    bridge.drop_dead().await;
    world.copy_bridge("copy.db", "bridge.db");
    cast.stub.forget_txns();
    (world, cast)
}

fn said_by_bob(cast: &Cast) -> Vec<String> {
    let said = cast.stub.said().into_iter();
    said.filter(|(sender, _)| sender == BOB).map(|(_, body)| body).collect()
}

#[tokio::test]
async fn what_the_bridge_acknowledged_after_a_backup_is_neither_lost_nor_said_twice() {
    let (mut world, cast) = put_back().await;
    let bridge = world.begin(Steps::default()).await;
    let told = async {
        cast.is_said(BOB, "four").await;
        cast.bob.say(cast.group, &["five".to_owned()]).await;
        cast.is_said(BOB, "five").await;
        cast.al_says("from Al again");
        cast.is_read(&cast.bob, "from Al again").await;
    };
    world.during(&bridge, told).await;
    world.all_is_read().await;
    assert_eq!(said_by_bob(&cast), ["one", "two", "three", "four", "five"]);
    assert_eq!(cast.bob.mirrored(), ["from Al", "from Al again"]);
    let read = cast.bob.read();
    assert!(!read.iter().any(|read| read.body.contains(BACKUP)), "nothing is missing");
    bridge.drop_dead().await;
}

/// The second chain after the copy was given in a session of which the copy has not the end.
#[tokio::test]
async fn a_key_that_came_after_a_backup_is_asked_for_and_what_it_opens_is_said_once() {
    let (mut world, bridge, cast) = begin().await;
    let _carol = world.person("carol").await;
    world.during(&bridge, cast.bob_says("one")).await;
    bridge.drop_dead().await;
    world.copy_bridge("bridge.db", "copy.db");
    let bridge = world.begin(Steps::default()).await;
    let device = bridge.spine.native.me().record.device_id;
    for said in ["two", "three"] {
        cast.alice.add(cast.group, "carol:b.example").await;
        cast.alice.remove(cast.group, "carol:b.example").await;
        world.during(&bridge, cast.bob_says(said)).await;
        // Until it is acknowledged, it is kept for anybody.
        while cast.bob.unacknowledged_by(device).await > 0 {
            bridge.spine.native.chores().await.unwrap();
        }
    }
    world.all_is_read().await;
    bridge.drop_dead().await;
    world.copy_bridge("copy.db", "bridge.db");
    cast.stub.forget_txns();
    let bridge = world.begin(Steps::default()).await;
    world.during(&bridge, cast.bob_says("four")).await;
    world.all_is_read().await;
    assert_eq!(said_by_bob(&cast), ["one", "two", "three", "four"]);
    bridge.drop_dead().await;
}

#[tokio::test]
async fn a_group_is_told_where_what_was_acknowledged_is_kept_no_more() {
    let (mut world, cast) = put_back().await;
    world.pass_on_server(3 * DAY_MS).await;
    let bridge = world.begin(Steps::default()).await;
    let told = async {
        cast.is_read(&cast.bob, BACKUP).await;
        cast.bob.say(cast.group, &["five".to_owned()]).await;
        cast.is_said(BOB, "five").await;
    };
    world.during(&bridge, told).await;
    assert_eq!(said_by_bob(&cast), ["one", "two", "five"]);
    bridge.drop_dead().await;
}

fn count(read: &[crate::people::Read]) -> usize {
    read.iter().filter(|read| read.mirror.is_some()).count()
}

/// As the room's state has it.
async fn is_titled(cast: &Cast, part: &str) {
    cast.stub
        .wait(|rooms| {
            let mut topics = rooms.events.iter().filter(|event| event["type"] == "m.room.topic");
            let topic = topics.next_back()?["content"]["topic"].as_str()?;
            topic.contains(part).then_some(())
        })
        .await;
}

#[tokio::test]
async fn the_room_knows_who_reads_it_in_the_group() {
    let (mut world, bridge, cast) = begin().await;
    let bot = "@causewaybot:b.example";
    let cal = world.person("cal").await;
    let told = async {
        let both = "alice and bob";
        cast.is_said(
            bot,
            &format!(
                "This room is bridged to the native group “Walkers”. What is said here is read \
                 there by {both}. `!causeway members` names all of them."
            ),
        )
        .await;
        let topic = "Bridged to the native group “Walkers”; read by";
        is_titled(&cast, &format!("{topic} {both}: !causeway members")).await;

        cast.alice.add(cast.group, "cal:b.example").await;
        let came = "alice let cal into the group: what is said here from now on \
                    reaches them.";
        cast.is_said(bot, came).await;
        is_titled(&cast, "alice, bob and cal:").await;

        cast.bob.say(cast.group, &["here".to_owned()]).await;
        cast.is_said(BOB, "here").await;
        cast.alice.remove(cast.group, "bob:b.example").await;
        let went = "alice removed bob from the group: what is said here from \
                    now on does not reach them.";
        cast.is_said(bot, went).await;
        // It reads as what it is.
        let put_out = |event: &&Value| {
            event["type"] == "m.room.member"
                && event["state_key"] == BOB
                && event["content"]["membership"] == "leave"
        };
        let put_out = cast.stub.wait(|rooms| rooms.events.iter().find(put_out).cloned()).await;
        assert_eq!(put_out["sender"], bot);
        cal.client.sync_group(cast.group).await.unwrap();
        cal.client.leave(cast.group).await.unwrap();
        let left = "cal left the group: what is said here from now on does not reach \
                    them.";
        cast.is_said(bot, left).await;
        is_titled(&cast, "read by alice: ").await;

        let asked = cast.al_says("!causeway members");
        let answer = cast
            .is_said(
                bot,
                "What is said here is read in the native group “Walkers”, 1 to 1 of 1: \
                 alice",
            )
            .await;
        assert_eq!(answer["content"]["m.relates_to"]["m.in_reply_to"]["event_id"], asked.as_str());
        // And who is put out of the room does not read there.
        cast.member("@mod:x", "@al:x", "ban");
        cast.is_read(&cast.alice, "@mod:x removed @al:x from the Matrix room.").await;
        // What people wrote stays.
        cast.al("m.room.topic", Some(""), json!({"topic": "Tea at five"}));
        cast.alice.add(cast.group, "bob:b.example").await;
        cast.is_said(bot, &came.replace("cal", "bob")).await;
        cast.alice.say(cast.group, &["last".to_owned()]).await;
        cast.is_said("@causeway_alice:b.example", "last").await;
        is_titled(&cast, "Tea at five").await;
    };
    world.during(&bridge, told).await;
    assert!(!cast.alice.mirrored().iter().any(|body| body.contains("!causeway")));
    bridge.drop_dead().await;
}

#[tokio::test]
async fn the_room_takes_the_groups_new_name_and_topic() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        let client = &cast.alice.client;
        let rename = |policy: &mut Policy| "Strollers".clone_into(&mut policy.name);
        client.change_policy(cast.group, &rename).await.unwrap();
        let named = |event: &&Value| {
            event["type"] == "m.room.name" && event["content"]["name"] == "Strollers"
        };
        cast.stub.wait(|rooms| rooms.events.iter().find(named).map(|_| ())).await;
        let say = |policy: &mut Policy| "We meet at 9.".clone_into(&mut policy.description);
        client.change_policy(cast.group, &say).await.unwrap();
        let topic = "Bridged to the native group “Strollers”; read by alice and bob: \
                     !causeway members; its topic: “We meet at 9.”";
        is_titled(&cast, topic).await;
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
}

#[tokio::test]
async fn a_name_and_a_topic_that_the_bot_may_not_set_are_told_the_group() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        let refusal = || Fault::Answer(403, json!({"errcode": "M_FORBIDDEN", "error": "no"}));
        let client = &cast.alice.client;
        for name in ["Strollers", "Ramblers"] {
            cast.stub.fail("state/m.room.name", refusal());
            cast.stub.fail("state/m.room.topic", Fault::Answer(200, json!({"topic": ""})));
            cast.stub.fail("state/m.room.topic", refusal());
            let rename = |policy: &mut Policy| name.clone_into(&mut policy.name);
            client.change_policy(cast.group, &rename).await.unwrap();
            cast.stub.wait(|rooms| rooms.faults.is_empty().then_some(())).await;
        }
        let count =
            |read: &[Read], part: &str| read.iter().filter(|read| read.body.contains(part)).count();
        let is_told = |read: &[Read]| {
            // Each name; the topic, which names people too, once.
            count(read, "keeps the name") == 2 && count(read, "keeps the topic") == 1
        };
        cast.alice.wait("keeps the name", is_told).await;
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
}

#[tokio::test]
async fn whoever_asks_the_bot_again_and_again_is_answered_once() {
    let (mut world, bridge, cast) = begin().await;
    let answers = async {
        for _ in 0..5 {
            cast.al_says("!causeway members");
        }
        let answer = "What is said here is read in the native group “Walkers”, 1 to 2 of 2: \
                      alice, bob";
        cast.is_said("@causewaybot:b.example", answer).await;
        cast.al_says("!causeway members");
        cast.al_says("that is all");
        cast.is_read(&cast.bob, "that is all").await;
        cast.bob_says("thanks").await;
        let said = cast.stub.said();
        said.into_iter().filter(|(_, body)| body == answer).count()
    };
    let answers = world.during(&bridge, answers).await;
    assert!((1..=2).contains(&answers), "{answers} answers to six");
}
