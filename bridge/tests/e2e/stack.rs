//! The homeserver that all other tests here stand on.

use causeway_bridge::{
    demo::{progress::Progress, synapse::Synapse},
    gateway::{
        matrix::{DEVICE, Direction, MatrixError, NewRoom},
        provision,
    },
};
use ruma::UserId;
use serde_json::{json, value::to_raw_value};

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

#[tokio::test]
async fn a_ghost_speaks_once_however_often_it_tries() {
    let mut synapse = Synapse::start(NOWHERE, &Progress::new()).await.unwrap();
    let matrix = synapse.matrix().clone();
    let bot = provision::bot_id(synapse.server_name()).unwrap();
    let ghost = provision::ghost_id("bob", synapse.server_name()).unwrap();
    for _ in 0..2 {
        provision::provision(&matrix, &bot, "Causeway").await.unwrap();
        provision::provision(&matrix, &ghost, "Bob").await.unwrap();
    }
    let alice = synapse.register("alice", "secret of alice").await.unwrap();

    let new = NewRoom {
        room_alias_name: Some("causeway_0123".to_owned()),
        preset: Some("private_chat".to_owned()),
        invite: vec![ghost.clone(), alice.user_id().clone()],
        ..NewRoom::default()
    };
    let room = matrix.create_room(&bot, &new).await.unwrap();
    assert!(matrix.create_room(&bot, &new).await.unwrap_err().is_code("M_ROOM_IN_USE"));
    let alias = format!("#causeway_0123:{}", synapse.server_name());
    let found = matrix.resolve_alias(alias.as_str().try_into().unwrap()).await.unwrap();
    assert_eq!(found.as_ref(), Some(&room));
    matrix.join(&ghost, (&*room).into()).await.unwrap();

    let text = to_raw_value(&json!({ "msgtype": "m.text", "body": "hello" })).unwrap();
    let send = || matrix.send(&ghost, &room, "m.room.message", "txn-1", &text);
    let first = send().await.unwrap();
    assert_eq!(send().await.unwrap(), first);
    synapse.kill().unwrap();
    assert!(send().await.unwrap_err().is_passing());
    synapse.start_again().await.unwrap();
    assert_eq!(send().await.unwrap(), first, "forgotten after a crash");

    let page = matrix.messages(&bot, &room, Direction::Backwards, None, 50).await.unwrap();
    let spoken = page.chunk.iter().filter(|event| event.get().contains("m.room.message")).count();
    assert_eq!(spoken, 1);
}

#[tokio::test]
async fn a_stranger_to_the_homeserver_is_told_so() {
    let synapse = Synapse::start(NOWHERE, &Progress::new()).await.unwrap();
    let matrix = synapse.matrix();
    let nobody = UserId::parse(format!("@causeway_no:{}", synapse.server_name())).unwrap();
    let error = matrix.put_device(&nobody).await.unwrap_err();
    assert!(matches!(error, MatrixError::Refused(403, ..)), "{error}");
    let error = matrix.register("somebody-else").await.unwrap_err();
    assert!(error.is_code("M_EXCLUSIVE"), "{error}");
    provision::provision(matrix, &nobody, "No").await.unwrap();
    assert_eq!(matrix.whoami(Some(&nobody)).await.unwrap().user_id, nobody);
    assert_eq!(DEVICE, "CAUSEWAY");

    let wrong = causeway_bridge::secret::Secret::new("wrong");
    let stranger = causeway_bridge::gateway::matrix::Matrix::new(&synapse.url(), wrong).unwrap();
    assert_eq!(stranger.whoami(None).await.unwrap_err(), MatrixError::UnknownToken);
}
