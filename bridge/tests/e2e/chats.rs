//! Chats with the bot on a real homeserver.

use ruma::{RoomId, UserId};
use serde_json::json;

use crate::bridged::Bridged;

/// What Synapse was about to hand over when it stopped it may never hand over.
#[tokio::test]
async fn invitations_over_a_restart_of_both_sides_are_answered() {
    let Bridged { mut causeway, carol, mut synapse, alice: _alice, .. } = Bridged::start().await;
    let bot = format!("@causewaybot:{}", synapse.server_name());
    let ghost = format!("@causeway_alice:{}", synapse.server_name());
    let room_of = async |who: &str, is_direct: bool| {
        let body = json!({"preset": "private_chat", "is_direct": is_direct, "invite": [who]});
        carol.create_room(body).await.unwrap()
    };
    causeway.kill().unwrap();
    let (chat, direct) = (room_of(&bot, true).await, room_of(&ghost, true).await);
    synapse.kill().unwrap();
    synapse.start_again().await.unwrap();
    causeway.start().await.unwrap();

    let (mut is_helped, mut is_declined) = (false, false);
    while !(is_helped && is_declined) {
        for seen in carol.sync().await.unwrap().events {
            let has = |pointer: &str, part: &str| {
                seen.text(pointer).is_some_and(|text| text.contains(part))
            };
            is_helped |= seen.room == chat && has("/content/body", "`status`");
            is_declined |= seen.room == direct
                && has("/state_key", &ghost)
                && has("/content/membership", "leave")
                && has("/content/reason", "alice (native)");
        }
    }
    carol.leave(&chat).await.unwrap();
    while is_in(&synapse, &bot, &chat).await {
        tokio::task::yield_now().await;
    }
}

async fn is_in(
    synapse: &causeway_bridge::demo::synapse::Synapse,
    who: &str,
    room: &RoomId,
) -> bool {
    let who = UserId::parse(who).unwrap();
    synapse.matrix().joined_rooms(&who).await.unwrap().iter().any(|known| known == room)
}
