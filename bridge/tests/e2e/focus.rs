//! The focus on a real Synapse and a real LiveKit: a Matrix user's client asks, as Element Call does.

use causeway_bridge::{
    demo::matrix_user::MatrixUser,
    domain::rtc::{SLOT, alias},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    bridged::Bridged,
    sfu::{Sfu, joined},
};

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

pub(crate) async fn openid(user: &MatrixUser) -> Value {
    let path = ["user", user.user_id().as_str(), "openid", "request_token"];
    let said = user.request(Method::POST, &path, json!({})).await.unwrap();
    serde_json::from_slice(&said).unwrap()
}

pub(crate) async fn ask(all: &Bridged, path: &str, body: &Value) -> (u16, Value) {
    let url = format!("{}/livekit/jwt/{path}", all.causeway.appservice_url());
    let answer = http().post(url).json(body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn claims(given: &Value) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let payload = given["jwt"].as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn who_is_in_the_room_is_let_in_and_nobody_else() {
    let mut all = Bridged::start().await;
    let livekit = Sfu::start().await;
    let room = joined(&all.carol).await;
    let old = |token: Value| json!({"room": room, "openid_token": token, "device_id": "PHONE"});
    let carol = all.carol.user_id().to_string();
    // Without a LiveKit nobody is, and reads why.
    let (status, said) = ask(&all, "sfu/get", &old(openid(&all.carol).await)).await;
    assert_eq!((status, &said["errcode"]), (503, &json!("M_UNKNOWN")), "{said}");
    assert_eq!(said["error"], "The server that carries calls is not reachable.");
    livekit.beside(&mut all.causeway).await;

    let (status, by_old) = ask(&all, "sfu/get", &old(openid(&all.carol).await)).await;
    assert_eq!((status, &by_old["url"]), (200, &json!(livekit.server.url())), "{by_old}");
    let member = json!({"id": "m1", "claimed_user_id": carol, "claimed_device_id": "PHONE"});
    let new = json!({
        "room_id": room, "slot_id": "m.call#ROOM", "openid_token": openid(&all.carol).await,
        "member": member,
    });
    let (status, by_new) = ask(&all, "get_token", &new).await;
    assert_eq!(status, 200, "{by_new}");
    // Both lead into one room, under the two names that a device has.
    let (one, other) = (claims(&by_old), claims(&by_new));
    assert_eq!(one["video"]["room"], other["video"]["room"]);
    assert_eq!(one["sub"], json!(format!("{carol}:PHONE")));
    let hashed = causeway_bridge::domain::rtc::identity(&carol, "PHONE", Some("m1"));
    assert_eq!(other["sub"], json!(hashed));
    assert_eq!(one["video"]["roomCreate"], Value::Null);
    for given in [&by_old, &by_new] {
        assert_eq!(livekit.takes(given).await, 200);
    }

    // Somebody who is not in the room, with a token of his own; and with another's name.
    let dora = all.synapse.register("dora", "secret of dora").await.unwrap();
    let (status, said) = ask(&all, "sfu/get", &old(openid(&dora).await)).await;
    assert_eq!((status, &said["errcode"]), (403, &json!("M_FORBIDDEN")), "{said}");
    let mut forged = new.clone();
    forged["openid_token"] = openid(&dora).await;
    assert_eq!(ask(&all, "get_token", &forged).await.0, 403);
    // A token that the homeserver never gave; a room of his that is not bridged.
    let mut unknown = openid(&dora).await;
    unknown["access_token"] = json!("none");
    let (status, said) = ask(&all, "sfu/get", &old(unknown)).await;
    assert_eq!((status, &said["errcode"]), (401, &json!("M_UNAUTHORIZED")), "{said}");
    let own = dora.create_room(json!({})).await.unwrap();
    let body = json!({"room": own, "openid_token": openid(&dora).await, "device_id": "X"});
    assert_eq!(ask(&all, "sfu/get", &body).await.0, 403);
    // Where the operator wants it she is, once the bot sees that she is in it.
    all.causeway.set_env("CAUSEWAY__CALLS__OTHER_ROOMS", "true");
    all.causeway.stop().await.unwrap();
    all.causeway.start().await.unwrap();
    assert_eq!(ask(&all, "sfu/get", &body).await.0, 403);
    let bot = format!("@causewaybot:{}", all.synapse.server_name());
    let path = ["rooms", own.as_str(), "invite"];
    dora.request(Method::POST, &path, json!({"user_id": bot})).await.unwrap();
    let is_let_in = async {
        loop {
            match ask(&all, "sfu/get", &body).await {
                (200, given) => return given,
                // The bot is not there yet, or was asked too often.
                _ => tokio::task::yield_now().await,
            }
        }
    };
    let given = tokio::time::timeout(crate::people::PATIENCE, is_let_in).await.unwrap();
    assert_eq!(claims(&given)["video"]["room"], json!(alias(own.as_str(), SLOT)));
    // Whoever has left is let in no more.
    all.carol.leave(&room).await.unwrap();
    let of_carol = old(openid(&all.carol).await);
    let answered = async {
        loop {
            match ask(&all, "sfu/get", &of_carol).await {
                // Dora has asked from the same address.
                (429, _) => tokio::task::yield_now().await,
                answer => return answer,
            }
        }
    };
    let (status, said) = tokio::time::timeout(crate::people::PATIENCE, answered).await.unwrap();
    assert_eq!((status, &said["errcode"]), (403, &json!("M_FORBIDDEN")), "{said}");
    // No token of anybody is in the log.
    let log = std::fs::read_to_string(all.causeway.log_file()).unwrap();
    for token in [&by_old["jwt"], &new["openid_token"]["access_token"]] {
        assert!(!log.contains(token.as_str().unwrap()));
    }
}

#[tokio::test]
async fn what_is_printed_for_the_homeserver_is_what_calls_need() {
    let mut all = Bridged::start().await;
    let focus = "https://causeway.example.org/livekit/jwt";
    all.causeway.set_env("CAUSEWAY__CALLS__FOCUS_URL", focus);
    let config = all.causeway.dir().join("causeway.yaml");
    let causeway = async |words: &[&str]| {
        let mut command = tokio::process::Command::new(crate::start::binary());
        command.args(words).arg("--config").arg(&config).env("CAUSEWAY__CALLS__FOCUS_URL", focus);
        let done = command.output().await.unwrap();
        serde_json::from_slice::<Value>(&done.stdout).unwrap()
    };
    let look = async || {
        let said = causeway(&["doctor", "--output", "json"]).await;
        let checks = said["checks"].as_array().unwrap().clone();
        checks.into_iter().find(|check| check["name"] == "calls of Matrix users").unwrap()
    };
    all.causeway.stop().await.unwrap();
    all.causeway.start().await.unwrap();
    let before = look().await;
    assert_eq!(before["state"], "failed", "{before}");
    let found = before["found"].as_str().unwrap();
    assert!(found.contains("nowhere") && found.contains("no delayed events"), "{found}");
    let log = std::fs::read_to_string(all.causeway.log_file()).unwrap();
    assert!(log.contains("not ready for calls: it has no delayed events"), "{log}");

    let snippet = causeway(&["registration", "--homeserver-snippet", "--output", "json"]).await;
    for (key, value) in snippet.as_object().unwrap() {
        all.synapse.set(key, value.clone());
    }
    all.synapse.start_again().await.unwrap();
    let after = look().await;
    assert_eq!(after["state"], "ok", "{after}");
}
