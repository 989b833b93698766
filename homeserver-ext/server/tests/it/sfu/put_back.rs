//! A `server.db` that is put back from a copy under a call in which one of Matrix is.

use causeway_protocol::api::{CallState, CallTopology};
use causeway_server::TokenHash;

use super::{
    guests::{DOOR, asks, bridged, join, let_in, looks, room_of, server, start},
    livekit::{Connected, Sfu},
};
use crate::{
    calls::{listening, new_id, state},
    harness::{Group, Person, Server},
};

/// Stops a server and starts it on what it has, or on a copy; with what it had.
async fn started_on(server: Server, livekit: &Sfu, copy: Option<&[u8]>) -> (Server, Vec<u8>) {
    let (folder, clock) = (server.folder(), server.clock());
    server.stop().await;
    let file = folder.path().join("server.db");
    let had = std::fs::read(&file).unwrap();
    if let Some(copy) = copy {
        std::fs::write(&file, copy).unwrap();
    }
    let config = livekit.config();
    let change = |it: &mut causeway_server::Config| {
        it.livekit = Some(config);
        it.relay_token = Some(TokenHash::of(DOOR));
        it.put_back = copy.is_some();
    };
    (Server::start_in(folder, clock, change).await, had)
}

/// Mia's phone asks, and is in the call.
async fn comes(
    server: &Server,
    livekit: &Sfu,
    (group, alice): (&Group, &Person),
    call: causeway_protocol::ids::CallId,
) -> (Connected, String) {
    let (status, given) = let_in(server, DOOR, &asks(Some(group.id()), "PHONE")).await;
    assert_eq!(status, 200, "{given}");
    let phone = Connected::by(&livekit.url(), given["jwt"].as_str().unwrap()).await;
    looks(server).await;
    let with = state(server, alice, group, call).await;
    assert_eq!((with.guests().count(), with.clear), (1, true));
    (phone, room_of(&given))
}

#[tokio::test]
async fn what_a_copy_from_before_a_call_knows_nothing_of_is_closed_and_all_come_again() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (group, [alice, bob, _]) = bridged(&server, ["alice", "bob", "ferry"]).await;
    let (server, before) = started_on(server, &livekit, None).await;
    let streams = listening(&server, [&alice, &bob]).await;
    let call = new_id();
    start(&server, &alice, &group, call).await.ok::<CallState>();
    join(&server, &bob, &group, call).await.ok::<CallState>();
    let (mut phone, before_it) = comes(&server, &livekit, (&group, &alice), call).await;
    // A room that is no group's is none of its business.
    let other = asks(None, "PHONE");
    assert_eq!(let_in(&server, DOOR, &other).await.0, 200);
    drop(streams);

    let (server, _) = started_on(server, &livekit, Some(&before)).await;
    let path = group.path(&format!("/calls/{call}"));
    alice.get(&server, &path).await.refused(404, "M_NOT_FOUND");
    server.app.tick_rooms().await.unwrap();
    phone.is_put_out().await;
    let left = other["room"].as_str().unwrap().to_owned();
    assert_eq!(livekit.rooms().await, [left]);
    // They call again, and she comes again.
    let _streams = listening(&server, [&alice, &bob]).await;
    let call = new_id();
    start(&server, &alice, &group, call).await.ok::<CallState>();
    let (_phone, room) = comes(&server, &livekit, (&group, &alice), call).await;
    assert_ne!(room, before_it);
    // The room of this one is known.
    server.app.tick_rooms().await.unwrap();
    assert!(livekit.rooms().await.contains(&room));
}

#[tokio::test]
async fn a_call_that_moved_after_the_copy_is_over_and_its_room_closed() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (group, [alice, bob, _]) = bridged(&server, ["alice", "bob", "ferry"]).await;
    let call = new_id();
    start(&server, &alice, &group, call).await.ok::<CallState>();
    join(&server, &bob, &group, call).await.ok::<CallState>();
    // In the copy they talk directly.
    let (server, copy) = started_on(server, &livekit, None).await;
    let streams = listening(&server, [&alice, &bob]).await;
    let (mut phone, _) = comes(&server, &livekit, (&group, &alice), call).await;
    drop(streams);
    let (server, _) = started_on(server, &livekit, Some(&copy)).await;
    let over = state(&server, &alice, &group, call).await;
    assert_eq!((over.topology, over.reason.as_deref()), (CallTopology::Ended, Some("put_back")));
    livekit.until_rooms(&server, &[]).await;
    phone.is_put_out().await;
    assert!(server.rows().await.iter().all(|row| !row.starts_with("call_rooms")));
}
