//! LiveKit goes, the server goes, and the configuration forgets LiveKit.

use causeway_protocol::api::{CallState, CallTopology};
use serde_json::json;

use super::{Five, let_in, livekit::Sfu, sfu};
use crate::{
    calls::{ask, devices, join, sorted},
    harness::Server,
};

#[tokio::test]
async fn livekit_killed_while_all_prepare_leaves_the_mesh_as_it_was() {
    let mut livekit = Sfu::start().await;
    let server = Server::start_with(|config| config.livekit = Some(livekit.config())).await;
    let five = Five::call(&server).await;
    five.fifth_joins(&server).await;
    livekit.server.kill().await;
    // Whoever asks finds it out, or the next look.
    let alice = &five.people[0];
    let refusal = sfu(&server, alice, &five.group, (five.call, 1)).await;
    assert!([503, 409].contains(&refusal.status.as_u16()), "{}", refusal.text());
    server.pass_ms(500);
    server.app.tick_rooms().await.unwrap();
    let after = five.state(&server).await;
    assert_eq!((after.topology, after.epoch), (CallTopology::Mesh, 2));
    let [alice, bob, carol, dave, erin] = &five.people;
    assert_eq!(devices(&after), sorted([alice, bob, carol, dave]));
    assert_eq!(
        (after.out[0].device, after.out[0].why.as_str()),
        (erin.device(), "sfu_unavailable")
    );
    // She reads why, and when to come again; nobody else notices.
    let refused = join(&server, erin, &five.group, five.call).await;
    let refused = refused.refused(503, "DEV_CAUSEWAY_SFU_UNAVAILABLE");
    let sentence = "This call has 4 people. The server that carries bigger calls is not reachable.";
    assert_eq!((refused.error.as_str(), refused.max), (sentence, Some(4)));
    assert!(refused.retry_after_ms.is_some_and(|ms| (1..=30_000).contains(&ms)));
    assert_eq!(five.state(&server).await, after);
    // LiveKit is back, and half a minute has passed.
    livekit.server.restart().await.unwrap();
    server.pass_ms(31_000);
    let prepared = five.fifth_joins(&server).await;
    assert_eq!((prepared.topology, prepared.epoch), (CallTopology::Prepare, 3));
    let_in(&server, erin, &five.group, (five.call, 3)).await;
    assert_eq!(livekit.rooms().await, [five.room()]);
}

#[tokio::test]
async fn whoever_needs_a_livekit_that_is_away_is_not_let_in_in_vain() {
    let mut livekit = Sfu::start().await;
    let server = Server::start_with(|config| config.livekit = Some(livekit.config())).await;
    let first = Five::call(&server).await;
    first.fifth_joins(&server).await;
    livekit.server.kill().await;
    server.pass_ms(500);
    server.app.tick_rooms().await.unwrap();
    // It is known by now: another call of four is not even moved.
    let names = ["gina", "hugo", "ines", "jack", "kim"];
    let (group, people) = server.group(names).await;
    let call = crate::calls::new_id();
    crate::calls::start(&server, &people[0], &group, call).await.ok::<CallState>();
    for who in &people[1..4] {
        join(&server, who, &group, call).await.ok::<CallState>();
    }
    let refused = join(&server, &people[4], &group, call).await;
    refused.refused(503, "DEV_CAUSEWAY_SFU_UNAVAILABLE");
    let after = crate::calls::state(&server, &people[0], &group, call).await;
    assert_eq!((after.topology, after.epoch, after.participants.len()), (CallTopology::Mesh, 0, 4));
}

#[tokio::test]
async fn a_livekit_that_was_started_again_gets_its_rooms_again() {
    let mut livekit = Sfu::start().await;
    let server = Server::start_with(|config| config.livekit = Some(livekit.config())).await;
    let five = Five::call(&server).await;
    five.fifth_joins(&server).await;
    livekit.until_rooms(&server, &[five.room()]).await;
    livekit.server.restart().await.unwrap();
    assert!(livekit.rooms().await.is_empty());
    livekit.until_rooms(&server, &[five.room()]).await;
    assert_eq!(five.state(&server).await.topology, CallTopology::Prepare);
}

/// Stops a server and starts it on what it has, as after a restore where it was put back.
async fn started_again(server: Server, livekit: &Sfu, put_back: bool) -> Server {
    let (folder, clock) = (server.folder(), server.clock());
    server.stop().await;
    let config = livekit.config();
    Server::start_in(folder, clock, |it| (it.livekit, it.put_back) = (Some(config), put_back)).await
}

#[tokio::test]
async fn a_server_that_was_started_again_knows_its_rooms() {
    let livekit = Sfu::start().await;
    let server = Server::start_with(|config| config.livekit = Some(livekit.config())).await;
    let five = Five::call(&server).await;
    let before = five.fifth_joins(&server).await;
    livekit.until_rooms(&server, &[five.room()]).await;
    let server = started_again(server, &livekit, false).await;
    assert_eq!(five.state(&server).await.epoch, before.epoch);
    // It ends while nobody serves it, so to speak: the room is closed by whoever comes after.
    let (group, call) = (&five.group, five.call);
    ask(&server, &five.people[0], group, (call, "end"), json!({})).await.ok::<CallState>();
    let server = started_again(server, &livekit, false).await;
    livekit.until_rooms(&server, &[]).await;
    assert!(server.rows().await.iter().all(|row| !row.starts_with("call_rooms")));
}

#[tokio::test]
async fn a_server_whose_configuration_forgot_livekit_goes_back_to_the_mesh() {
    let livekit = Sfu::start().await;
    let server = Server::start_with(|config| config.livekit = Some(livekit.config())).await;
    let five = Five::call(&server).await;
    five.fifth_joins(&server).await;
    let server = server.restart().await;
    server.app.tick_rooms().await.unwrap();
    let after = five.state(&server).await;
    assert_eq!((after.topology, after.participants.len()), (CallTopology::Mesh, 4));
    let refused = join(&server, five.fifth(), &five.group, five.call).await;
    refused.refused(503, "DEV_CAUSEWAY_SFU_UNAVAILABLE");
    server.app.tick_rooms().await.unwrap();
    assert!(server.rows().await.iter().all(|row| !row.starts_with("call_rooms")));
}

#[tokio::test]
async fn a_database_that_was_put_back_ends_its_calls_and_their_rooms() {
    let livekit = Sfu::start().await;
    let server = Server::start_with(|config| config.livekit = Some(livekit.config())).await;
    let five = Five::call(&server).await;
    let before = five.fifth_joins(&server).await;
    livekit.until_rooms(&server, &[five.room()]).await;
    let server = started_again(server, &livekit, true).await;
    let over = five.state(&server).await;
    assert_eq!((over.topology, over.reason.as_deref()), (CallTopology::Ended, Some("put_back")));
    assert!(over.version > before.version, "nobody can have seen it");
    livekit.until_rooms(&server, &[]).await;
    // Whoever calls again does, with a room of its own.
    let again = crate::calls::new_id();
    crate::calls::start(&server, &five.people[0], &five.group, again).await.ok::<CallState>();
}
