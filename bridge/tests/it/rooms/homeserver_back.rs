//! The homeserver is put back to before an upgrade that the bridge has followed.

use causeway_bridge::services::reconcile;

use super::*;

/// Found by an attack: what was said in the room that everybody was in again got nowhere, and nobody
/// was told, until somebody native spoke.
#[tokio::test]
async fn a_room_that_the_homeserver_was_put_back_to_is_gone_back_to() {
    // Behind our place in its rooms, or already beyond it.
    for since in [1, 60] {
        let (mut world, bridge, cast) = begin().await;
        let told = async {
            cast.bob_says("before").await;
            cast.is_said(&cast.room, BOB, "before").await;
            cast.al_says(&cast.room, "here");
            cast.is_read("here").await;
        };
        world.during(&bridge, told).await;
        let then = cast.stub.look(|rooms| rooms.clone());
        let told = async {
            let next = cast.stub.change(|rooms| {
                let next = upgraded(rooms, Some(&cast.room), true);
                tombstone(rooms, &cast.room, &next);
                next
            });
            cast.is_said(&next, BOT, "came along").await;
            cast.al_says(&next, "said in the next");
            cast.is_read("said in the next").await;
        };
        world.during(&bridge, told).await;
        cast.stub.change(|rooms| rooms.put_back(then));
        world.lose();
        let told = async {
            for n in 1..=since {
                cast.al_says(&cast.room, &format!("again {n}"));
            }
            cast.is_read(&format!("again {since}")).await;
            cast.is_read("put back from a backup").await;
            cast.bob_says("after").await;
            cast.is_said(&cast.room, BOB, "after").await;
        };
        world.during(&bridge, told).await;
        let again = (1..=since).map(|n| format!("again {n}"));
        let all: Vec<String> =
            ["here", "said in the next"].map(str::to_owned).into_iter().chain(again).collect();
        assert_eq!(cast.bob.mirrored(), all);
        assert_eq!(bridge.stats().await.dead_letters, 0);
        bridge.drop_dead().await;
    }
}

/// Found by an attack: a homeserver hands over what is said in a room with ghosts of ours in it, and does
/// not show it to a bot that was put out.
#[tokio::test]
async fn what_is_said_where_the_bot_was_put_out_says_nothing_of_the_homeserver() {
    let (mut world, bridge, cast) = begin().await;
    let told = async {
        cast.bob_says("before").await;
        cast.is_said(&cast.room, BOB, "before").await;
        cast.stub.change(|rooms| rooms.membership(&cast.room, "@al:x", BOT, "leave").unwrap());
        cast.is_read("does not get into the Matrix room").await;
        cast.al_says(&cast.room, "among ourselves");
        let said = cast.stub.look(|rooms| rooms.events.last().unwrap()["event_id"].clone());
        while !is_looked_at(&bridge, said.as_str().unwrap()).await {
            tokio::task::yield_now().await;
        }
        reconcile::look(&bridge.spine).await.unwrap();
    };
    world.during(&bridge, told).await;
    assert_eq!(*bridge.spine.forgotten.lock().unwrap(), None);
    bridge.drop_dead().await;
}

/// Found by an attack: who had been put out was in the room again and read, and the group was not told; and
/// what a native said whom somebody had put out was given up, though he was back.
#[tokio::test]
async fn who_is_in_a_room_that_was_put_back_is_read_from_it() {
    let (mut world, bridge, cast) = begin().await;
    cast.stub.change(|rooms| {
        rooms.membership(&cast.room, "@al:x", "@vi:x", "invite").unwrap();
        rooms.membership(&cast.room, "@vi:x", "@vi:x", "join").unwrap();
    });
    let told = async {
        cast.bob_says("before").await;
        cast.is_said(&cast.room, BOB, "before").await;
        while portal(&bridge).await.mirrors < 2 {
            tokio::task::yield_now().await;
        }
    };
    world.during(&bridge, told).await;
    let then = cast.stub.look(|rooms| rooms.clone());
    let told = async {
        cast.stub.change(|rooms| {
            rooms.membership(&cast.room, "@al:x", "@vi:x", "ban").unwrap();
            rooms.membership(&cast.room, "@al:x", BOB, "leave").unwrap();
        });
        cast.is_read("removed").await;
        while portal(&bridge).await.mirrors > 1 {
            tokio::task::yield_now().await;
        }
    };
    world.during(&bridge, told).await;
    cast.stub.change(|rooms| rooms.put_back(then));
    world.lose();
    let told = async {
        cast.al_says(&cast.room, "again");
        cast.is_read("put back to an earlier state").await;
        while portal(&bridge).await.mirrors < 2 {
            tokio::task::yield_now().await;
        }
        cast.bob_says("here I am").await;
        cast.is_said(&cast.room, BOB, "here I am").await;
    };
    world.during(&bridge, told).await;
    assert_eq!(bridge.stats().await.dead_letters, 0);
    bridge.drop_dead().await;
}
