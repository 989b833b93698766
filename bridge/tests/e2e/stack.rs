//! The homeserver that all other tests here stand on.

use causeway_bridge::{
    demo::{matrix_user::UserError, progress::Progress, synapse::Synapse},
    domain::{ghost::Names, portal::room_request},
    gateway::{
        matrix::{DEVICE, Direction, MatrixError},
        provision,
    },
};
use causeway_protocol::ids::GroupId;
use reqwest::Method;
use ruma::UserId;
use serde_json::{json, value::to_raw_value};

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

#[tokio::test]
async fn a_ghost_speaks_once_however_often_it_tries() {
    let mut synapse = Synapse::start(NOWHERE, &Progress::new()).await.unwrap();
    let matrix = synapse.matrix().clone();
    let names = Names::new(synapse.server_name()).unwrap();
    let bot = names.bot();
    let ghost = names.ghost(&format!("bob:{}", names.server()).parse().unwrap()).unwrap();
    for _ in 0..2 {
        provision::provision(&matrix, bot, "Causeway").await.unwrap();
        provision::provision(&matrix, &ghost, "Bob").await.unwrap();
    }
    let alice = synapse.register("alice", "secret of alice").await.unwrap();

    let new = json!({
        "room_alias_name": "causeway_0123",
        "preset": "private_chat",
        "invite": [ghost, alice.user_id()],
    });
    let room = matrix.create_room(bot, &new).await.unwrap();
    assert!(matrix.create_room(bot, &new).await.unwrap_err().is_code("M_ROOM_IN_USE"));
    let alias = format!("#causeway_0123:{}", synapse.server_name());
    let found = matrix.resolve_alias(alias.as_str().try_into().unwrap()).await.unwrap();
    assert_eq!(found.as_ref(), Some(&room));
    matrix.join(&ghost, (&*room).into()).await.unwrap();

    let text = to_raw_value(&json!({ "msgtype": "m.text", "body": "hello" })).unwrap();
    let send = || matrix.send(&ghost, &room, "m.room.message", "txn-1", &text, None);
    let first = send().await.unwrap();
    assert_eq!(send().await.unwrap(), first);
    synapse.kill().unwrap();
    assert!(send().await.unwrap_err().is_passing());
    synapse.start_again().await.unwrap();
    assert_eq!(send().await.unwrap(), first, "forgotten after a crash");

    let page = matrix.messages(bot, &room, Direction::Backwards, None, 50).await.unwrap();
    let spoken = page.chunk.iter().filter(|event| event.get().contains("m.room.message")).count();
    assert_eq!(spoken, 1);
}

/// Both kinds of rooms: since version 12 the creator stands above all power levels, and is not
/// named in them.
#[tokio::test]
async fn a_portals_room_is_as_the_design_says_in_old_and_new_versions() {
    let synapse = Synapse::start(NOWHERE, &Progress::new()).await.unwrap();
    let (matrix, server_name) = (synapse.matrix(), synapse.server_name());
    let names = Names::new(server_name).unwrap();
    let bot = names.bot();
    provision::provision(matrix, bot, "Causeway").await.unwrap();
    let person = synapse.register("alice", "secret of alice").await.unwrap();
    for (number, version) in [(1, "11"), (2, "12")] {
        let group = GroupId::new([number; 32]);
        let mut request = room_request(&names, &group, "Walkers", None);
        request["room_version"] = json!(version);
        let room = matrix.create_room(bot, &request).await.unwrap();
        let state = async |kind: &str, key: &str| {
            matrix.state(bot, &room, kind, key).await.unwrap().unwrap_or_default()
        };
        let create = state("m.room.create", "").await;
        assert_eq!(create["room_version"], version);
        let powers = state("m.room.power_levels", "").await;
        let users = if version == "12" { json!({}) } else { json!({bot.as_str(): 100}) };
        assert_eq!(powers["users"], users, "{version}");
        for key in ["state_default", "invite", "kick", "ban", "redact"] {
            assert_eq!(powers[key], 50, "{version} {key}");
        }
        for kind in ["encryption", "power_levels", "tombstone", "server_acl"] {
            assert_eq!(powers["events"][format!("m.room.{kind}")], 100, "{version} {kind}");
        }
        assert_eq!((&powers["users_default"], &powers["events_default"]), (&json!(0), &json!(0)));
        let rows = [
            ("m.room.history_visibility", "history_visibility", "joined"),
            ("m.room.join_rules", "join_rule", "invite"),
            ("m.room.guest_access", "guest_access", "forbidden"),
            ("m.room.name", "name", "Walkers"),
        ];
        for (kind, key, value) in rows {
            assert_eq!(state(kind, "").await[key], value, "{version} {kind}");
        }
        let alias = state("m.room.canonical_alias", "").await;
        assert_eq!(alias["alias"], names.alias(&group));
        let members = state("io.element.functional_members", "").await;
        assert_eq!(members["service_members"], json!([bot]));
        let key = format!("dev.causeway://{server_name}/{group}");
        let bridge = state("m.bridge", &key).await;
        assert_eq!(bridge["channel"]["id"], json!(group));
        assert_eq!(state("uk.half-shot.bridge", &key).await, bridge);

        // What the levels mean: the bot may all, a member none of it.
        matrix.invite(bot, &room, person.user_id(), None).await.unwrap();
        person.join(&room).await.unwrap();
        for (kind, content) in [
            ("m.room.encryption", json!({"algorithm": "m.megolm.v1.aes-sha2"})),
            ("m.room.topic", json!({"topic": "mine"})),
        ] {
            let path = ["rooms", room.as_str(), "state", kind];
            let error = person.request(Method::PUT, &path, content).await.unwrap_err();
            assert!(matches!(error, UserError::Refused(403, _)), "{error}");
        }
        matrix.send_state(bot, &room, "m.room.topic", "", &json!({"topic": "x"})).await.unwrap();
    }
}

#[tokio::test]
async fn a_stranger_to_the_homeserver_is_told_so() {
    let synapse = Synapse::start(NOWHERE, &Progress::new()).await.unwrap();
    let matrix = synapse.matrix();
    let nobody = UserId::parse(format!("@causeway_no:{}", synapse.server_name())).unwrap();
    let error = matrix.put_device(&nobody, DEVICE).await.unwrap_err();
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
