//! A Matrix user of another homeserver, who speaks on that one's `LiveKit`: two Synapses that federate,
//! two of `LiveKit`, and natives who hear him.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::post,
};
use causeway_bridge::{
    demo::matrix_user::MatrixUser,
    domain::{
        caller::CALLER,
        rtc::{SLOT, alias, identity},
    },
};
use causeway_groups::calling::Command;
use causeway_protocol::api::CallTopology;
use reqwest::Method;
use ruma::RoomId;
use serde_json::{Value, json};

use crate::{
    focus::openid,
    home::Home,
    line::{Line, OFTEN, TONES},
    matrix_caller::MatrixCaller,
    servers::{Side, two},
    sfu::{Sfu, has_calls, joined},
};

/// The other homeserver's focus, which looks whose a token is, as `lk-jwt-service` does.
#[derive(Clone)]
struct Other {
    home: Arc<Home>,
    /// Where the first homeserver says whose its tokens are.
    synapse: String,
    /// Whether it is of before `get_token`.
    is_old: Arc<AtomicBool>,
    given: Arc<AtomicUsize>,
}

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn give(
    State(other): State<Other>,
    Path(path): Path<String>,
    Json(asked): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    let is_new = path == "get_token";
    if is_new && other.is_old.load(Ordering::Relaxed) {
        return Err(StatusCode::NOT_FOUND);
    }
    let token = asked["openid_token"]["access_token"].as_str().unwrap();
    let url = format!("{}/_matrix/federation/v1/openid/userinfo", other.synapse);
    let said = http().get(url).query(&[("access_token", token)]).send().await;
    let said: Value = said.unwrap().json().await.unwrap();
    let user = said["sub"].as_str().ok_or(StatusCode::UNAUTHORIZED)?;
    let (room, name) = if is_new {
        assert_eq!(asked["slot_id"], SLOT);
        let member = &asked["member"];
        assert_eq!(member["claimed_user_id"], user);
        let of = |key: &str| member[key].as_str().unwrap();
        (&asked["room_id"], identity(user, of("claimed_device_id"), Some(of("id"))))
    } else {
        (&asked["room"], identity(user, asked["device_id"].as_str().unwrap(), None))
    };
    let room = alias(room.as_str().unwrap(), SLOT);
    let access = other.home.access_with(&room, &name, &json!({"canPublish": false}));
    other.given.fetch_add(1, Ordering::Relaxed);
    Ok(Json(json!({"url": access.url, "jwt": access.token.as_str()})))
}

/// It says in the room that it is in the call, and where it speaks; or is not any more.
async fn says(dave: &MatrixUser, room: &RoomId, focus: Option<&str>) {
    let user = dave.user_id().as_str();
    let content = focus.map_or(json!({}), |focus| {
        json!({
            "application": "m.call", "call_id": "", "scope": "m.room", "device_id": "PHONE",
            "membershipID": format!("{user}:PHONE"), "expires": 14_400_000,
            "m.call.intent": "audio",
            "focus_active": {"type": "livekit", "focus_selection": "multi_sfu"},
            "foci_preferred": [
                {"type": "livekit", "livekit_service_url": focus, "livekit_alias": room},
            ],
        })
    });
    let key = format!("_{user}_PHONE_m.call");
    let path = ["rooms", room.as_str(), "state", CALLER, &key];
    dave.request(Method::PUT, &path, content).await.unwrap();
}

/// Has the first homeserver's users call by a LiveKit of its own, and believe the other one's certificate.
async fn ready(here: &mut Side, livekit: &Sfu) {
    let focus = format!("{}/livekit/jwt", here.causeway.appservice_url());
    has_calls(&mut here.synapse, &focus).await;
    here.causeway.set_env("CAUSEWAY__CALLS__PRIVATE_SERVERS", "true");
    let ca = here.synapse.dir().parent().unwrap().join("tls/ca.pem");
    here.causeway.set_env("SSL_CERT_FILE", ca.to_str().unwrap());
    livekit.beside(&mut here.causeway).await;
}

#[expect(clippy::disallowed_methods, reason = "the other homeserver's focus, beside the test")]
#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_on_his_own_homeservers_livekit_is_heard_by_natives() {
    let [mut here, there] = two().await;
    let (alice, bob) = (here.person("alice").await, here.person("bob").await);
    let group = alice.create_group("Walkers").await;
    alice.add(group, &format!("bob:{}", here.name())).await;
    let dave = there.synapse.register("dave", "secret of dave").await.unwrap();
    alice.bridge(group, &[dave.user_id().as_str()]).await;
    let room = joined(&dave).await;
    let livekit = Sfu::start().await;
    ready(&mut here, &livekit).await;

    let other = Other {
        home: Arc::new(Home::with_room(&alias(room.as_str(), SLOT)).await),
        synapse: here.synapse.url(),
        is_old: Arc::default(),
        given: Arc::default(),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let focus = format!("http://{}/livekit/jwt", listener.local_addr().unwrap());
    let router = Router::new().route("/livekit/jwt/{*path}", post(give)).with_state(other.clone());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });

    let mut line = Line::new();
    line.call(&alice, group).await;
    // Dave's client hears natives on their LiveKit, and speaks on its own.
    let asked = json!({"room": room, "openid_token": openid(&dave).await, "device_id": "PHONE"});
    let url = format!("{}/livekit/jwt/sfu/get", here.causeway.appservice_url());
    let given: Value = http().post(url).json(&asked).send().await.unwrap().json().await.unwrap();
    let ear = MatrixCaller::listen(&given, &TONES).await;
    says(&dave, &room, Some(&focus)).await;
    let name = identity(dave.user_id().as_str(), "PHONE", None);
    let access = other.home.access(&alias(room.as_str(), SLOT), &name);
    let own = json!({"url": access.url, "jwt": access.token.as_str()});
    let mouth = MatrixCaller::join(&own, TONES[2], &TONES).await;
    line.until("he is in it", |line| {
        line.states.get(&0).is_some_and(|it| {
            it.topology == CallTopology::Sfu
                && it.guests().any(|guest| guest.focus.as_deref() == Some(&*focus) && !guest.muted)
        })
    })
    .await;
    line.until_all_hear(line.guest()).await;
    // One who comes later finds a focus of before.
    other.is_old.store(true, Ordering::Relaxed);
    line.call(&bob, group).await;
    line.until("both are in it", |line| line.states.len() == 2).await;
    line.until_all_hear(line.guest()).await;
    assert_eq!(other.given.load(Ordering::Relaxed), 2, "one token for each");
    line.until("he hears both", |_| {
        let heard = ear.heard();
        let of = |tone| heard.iter().filter(move |((_, it), _)| *it == tone);
        [TONES[0], TONES[1]].into_iter().all(|tone| of(tone).any(|(_, times)| *times >= OFTEN))
    })
    .await;
    assert!(mouth.heard().is_empty(), "natives speak on their own LiveKit alone");

    // He goes, and nobody stays there for his sake.
    drop((ear, mouth));
    says(&dave, &room, None).await;
    line.until("he is out", |line| line.states.values().all(|it| it.guests().count() == 0)).await;
    other.home.until_empty(&alias(room.as_str(), SLOT)).await;
    line.until_all_hear(None).await;
    for commands in &line.commands {
        commands.send(Command::Leave).await.unwrap();
    }
    while line.talking.join_next().await.is_some() {}
    serving.abort();
}
