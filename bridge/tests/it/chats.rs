//! Invitations and chats with the bot where something goes wrong on the way, on a stub homeserver.

use std::sync::Arc;

use causeway_bridge::{services::reconcile, steps::Steps, storage::errands};
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    errands::{AL, BOT, Room, begin},
    stub::Fault,
    world::Running,
};

const BO: &str = "@bo:b.example";

async fn waiting(bridge: &Running) -> Vec<errands::Waiting> {
    errands::waiting(&mut bridge.spine.db.read().await.unwrap()).await.unwrap()
}

/// Synapse forgets what it was sending when it stops.
#[tokio::test]
async fn an_invitation_that_no_transaction_brought_is_found_in_the_bots_account() {
    let (mut world, bridge) = begin().await;
    let room = Room::made_by(&world.stub, "!chat:b.example", AL);
    let crowd = Room::made_by(&world.stub, "!crowd:b.example", AL);
    room.invites(AL, BOT, true);
    crowd.invites(AL, BOT, false);
    world.lose();
    let told = async {
        reconcile::look(&bridge.spine).await.unwrap();
        room.has_answers(1).await;
        crowd.is_left_by(BOT).await;
        reconcile::look(&bridge.spine).await.unwrap();
        room.says(AL, "version");
        assert_eq!(room.has_answers(2).await.len(), 2, "invited once");
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
}

#[tokio::test]
async fn what_was_begun_before_a_restart_is_answered_once() {
    let (mut world, bridge) = begin().await;
    let room = Room::made_by(&world.stub, "!chat:b.example", AL);
    // Said, and the bridge dies before it hears so.
    room.stub.fail("send/m.room.message", Fault::Held(Arc::new(Notify::new())));
    room.invites(AL, BOT, true);
    world.during(&bridge, room.has_answers(1)).await;
    bridge.drop_dead().await;
    let bridge = world.begin(Steps::default()).await;
    room.says(AL, "version");
    let answers = world.during(&bridge, room.has_answers(2)).await;
    assert!(answers.len() == 2 && answers[1].starts_with("Causeway "), "{answers:?}");
    bridge.drop_dead().await;
}

#[tokio::test]
async fn a_chat_that_was_begun_since_the_backup_is_one() {
    let (mut world, bridge) = begin().await;
    bridge.drop_dead().await;
    world.copy_bridge("bridge.db", "copy.db");
    let bridge = world.begin(Steps::default()).await;
    let room = Room::made_by(&world.stub, "!chat:b.example", AL);
    let empty = Room::made_by(&world.stub, "!empty:b.example", BO);
    let told = async {
        room.invites(AL, BOT, true);
        empty.invites(BO, BOT, true);
        room.has_answers(1).await;
        empty.has_answers(1).await;
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
    world.copy_bridge("copy.db", "bridge.db");
    let bridge = world.begin(Steps::default()).await;
    let told = async {
        room.says(AL, "status");
        assert!(room.has_answers(2).await[1].starts_with("You are in no bridged room"));
        empty.member(BO, "leave");
        empty.is_left_by(BOT).await;
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
}

#[tokio::test]
async fn a_thousand_invitations_of_one_user_hold_nobody_up() {
    let (mut world, bridge) = begin().await;
    for n in 0..1_000 {
        let room = Room::made_by(&world.stub, &format!("!{n}:b.example"), "@loud:b.example");
        let ghost = format!("@causeway_g{n}:b.example");
        room.invites("@loud:b.example", if n % 2 == 0 { BOT } else { &ghost }, true);
    }
    let quiet = Room::made_by(&world.stub, "!quiet:b.example", AL);
    quiet.invites(AL, BOT, true);
    world.during(&bridge, quiet.has_answers(1)).await;
    let of_loud = waiting(&bridge).await;
    let of_loud = of_loud.iter().filter(|known| known.errand.by == "@loud:b.example").count();
    assert!(of_loud <= 50, "{of_loud}");
    bridge.drop_dead().await;
}

#[tokio::test]
async fn who_invites_a_whole_group_is_answered_by_each() {
    let (mut world, bridge) = begin().await;
    let room = Room::made_by(&world.stub, "!room:b.example", AL);
    let ghosts: Vec<String> = (0..30).map(|n| format!("@causeway_g{n}:b.example")).collect();
    room.stub.look(|rooms| rooms.users.extend(ghosts.iter().cloned()));
    for ghost in &ghosts {
        room.invites(AL, ghost, false);
    }
    let told = async {
        for ghost in &ghosts {
            assert!(room.is_left_by(ghost).await.contains("(native)"), "{ghost}");
        }
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
}

/// Ghosts are made when they first speak, and anybody may invite one before.
#[tokio::test]
async fn a_ghost_that_is_not_made_yet_declines_too() {
    let (mut world, bridge) = begin().await;
    let alice = world.person("alice").await;
    let group = alice.create_group("Walkers").await;
    let room = Room::made_by(&world.stub, "!chat:b.example", AL);
    let ghost = "@causeway_alice:b.example";
    let told = async {
        alice.bridge(group, &[AL]).await;
        room.stub.wait(|rooms| rooms.room_that_invites(AL)).await;
        room.invites(AL, ghost, true);
        assert!(room.is_left_by(ghost).await.contains("alice (native)"));
    };
    world.during(&bridge, told).await;
    bridge.drop_dead().await;
}

#[tokio::test]
async fn who_says_the_same_again_and_again_is_answered_once_for_what_waits() {
    let (mut world, bridge) = begin().await;
    let room = Room::made_by(&world.stub, "!chat:b.example", AL);
    // Twice, before anybody comes.
    room.invites(AL, BOT, true);
    room.invites(AL, BOT, true);
    world.during(&bridge, room.has_answers(1)).await;
    for _ in 0..300 {
        room.says(AL, "!causeway help");
    }
    room.says(AL, "version");
    let is_last = |answers: &[String]| answers.last().is_some_and(|last| last.contains("0.1"));
    let told = async {
        let mut count = 2;
        loop {
            let answers = room.has_answers(count).await;
            if is_last(&answers) {
                return answers.len();
            }
            count = answers.len() + 1;
        }
    };
    let answers = world.during(&bridge, told).await;
    assert!(answers <= 10, "{answers} answers");
    bridge.drop_dead().await;
}

#[tokio::test]
async fn the_bot_stays_in_no_room_that_was_left_before_it_came() {
    let (mut world, bridge) = begin().await;
    let room = Room::made_by(&world.stub, "!chat:b.example", AL);
    room.invites(AL, BOT, true);
    room.member(AL, "leave");
    world.during(&bridge, room.is_left_by(BOT)).await;
    assert_eq!(room.answers(), [""; 0]);

    let gone = Room::made_by(&world.stub, "!gone:b.example", AL);
    let refusal = json!({"errcode": "M_UNKNOWN", "error": "no servers that are in the room"});
    gone.stub.fail("join/!gone", Fault::Answer(404, refusal));
    gone.invites(AL, BOT, true);
    world.during(&bridge, gone.is_left_by(BOT)).await;
    bridge.drop_dead().await;
}

#[tokio::test]
async fn a_chat_goes_on_when_a_second_person_goes_and_ends_when_one_stays() {
    let (mut world, bridge) = begin().await;
    let room = Room::made_by(&world.stub, "!chat:b.example", AL);
    let told = async {
        room.invites(AL, BOT, true);
        room.has_answers(1).await;
        room.member(BO, "join");
        room.member(BO, "leave");
        room.says(AL, "version");
        room.has_answers(2).await;
        assert_eq!(room.place(BOT).as_deref(), Some("join"));
        // Where the first goes, the second is alone with the bot.
        room.member(BO, "join");
        room.member(AL, "leave");
        room.says(BO, "version");
        room.has_answers(3).await;
        room.member(AL, "join");
        room.says(AL, "version");
        assert!(room.is_left_by(BOT).await.contains("direct chats only"));
    };
    world.during(&bridge, told).await;
    assert_eq!(room.answers().len(), 3);
    bridge.drop_dead().await;
}

#[tokio::test]
async fn a_bot_that_is_put_out_in_the_middle_comes_again_when_it_is_asked() {
    let (mut world, bridge) = begin().await;
    let room = Room::made_by(&world.stub, "!chat:b.example", AL);
    let held = Arc::new(Notify::new());
    let told = async {
        room.stub.fail("!chat:b.example/state", Fault::Held(Arc::clone(&held)));
        room.invites(AL, BOT, true);
        room.stub.wait(|rooms| rooms.faults.is_empty().then_some(())).await;
        // By what it has read it is in.
        room.stub.change(|rooms| rooms.membership("!chat:b.example", AL, BOT, "leave").unwrap());
        held.notify_one();
        room.invites(AL, BOT, true);
        room.has_answers(1).await;
        room.says(AL, "version");
        room.has_answers(2).await;
    };
    world.during(&bridge, told).await;
    assert_eq!(room.answers().len(), 2);
    bridge.drop_dead().await;
}
