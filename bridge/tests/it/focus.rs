//! The focus: what clients of Matrix are answered before they come into a call, on a stub homeserver.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header::CONTENT_TYPE},
    response::Response,
};
use causeway_server::Asks;
use serde_json::{Value, json};

use crate::appservice::Listener;

const ROOM: &str = "!room:b.example";

fn sfu_get(token: &str, server: &str) -> Value {
    json!({
        "room": ROOM, "device_id": "PHONE",
        "openid_token": {
            "access_token": token, "token_type": "Bearer", "matrix_server_name": server,
            "expires_in": 3600,
        },
    })
}

fn get_token(token: &str, claims: (&str, &str)) -> Value {
    json!({
        "room_id": ROOM, "slot_id": "m.call#ROOM",
        "openid_token": sfu_get(token, "b.example")["openid_token"],
        "member": { "id": "abc", "claimed_user_id": claims.0, "claimed_device_id": claims.1 },
    })
}

async fn ask(bridge: &Listener, method: Method, path: &str, body: impl ToString) -> Response {
    let request = Request::builder().method(method).uri(format!("/livekit/jwt{path}"));
    let request = request.header(CONTENT_TYPE, "application/json");
    bridge.answer(request.body(Body::from(body.to_string())).unwrap()).await
}

async fn refusal(response: Response) -> (u16, String, String) {
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 64 << 10).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    (status, text("errcode"), text("error"))
}

async fn is_refused(bridge: &Listener, body: &Value, status: u16, code: &str) -> String {
    let path = if body.get("slot_id").is_some() { "/get_token" } else { "/sfu/get" };
    let (found, errcode, error) = refusal(ask(bridge, Method::POST, path, body).await).await;
    assert_eq!((found, &*errcode), (status, code), "{error}: {body}");
    error
}

#[tokio::test]
async fn a_page_from_anywhere_may_ask_and_read_what_it_is_answered() {
    let bridge = Listener::new().await;
    for path in ["/sfu/get", "/get_token", "/healthz", "/delegate_delayed_leave", "/none", ""] {
        for method in ["OPTIONS", "GET", "POST", "HEAD", "DELETE"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = ask(&bridge, method.clone(), path, "").await;
            let headers = answer.headers();
            assert_eq!(headers["access-control-allow-origin"], "*", "{method} {path}");
            assert_eq!(headers["access-control-allow-methods"], "POST");
            let may = headers["access-control-allow-headers"].to_str().unwrap();
            assert!(may.contains("Content-Type"), "{may}");
            let is_token = ["/sfu/get", "/get_token"].contains(&path);
            let expected = match (method.as_str(), path) {
                ("OPTIONS", _) | ("GET" | "HEAD", "/healthz") => 200,
                ("POST", _) if is_token => 400,
                (_, "/healthz") => 405,
                _ if is_token => 405,
                // Of whoever delegates: 404 and nothing else says that nobody takes it over.
                _ => 404,
            };
            assert_eq!(answer.status(), expected, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused_by_what_is_wrong_with_it() {
    let bridge = Listener::new().await;
    for (body, code) in [("{", "M_NOT_JSON"), ("", "M_NOT_JSON"), ("[]", "M_BAD_JSON")] {
        let answer = ask(&bridge, Method::POST, "/sfu/get", body).await;
        let (status, errcode, _) = refusal(answer).await;
        assert_eq!((status, &*errcode), (400, code), "{body}");
    }
    let long = ask(&bridge, Method::POST, "/sfu/get", "x".repeat(20_000)).await;
    assert_eq!(refusal(long).await.0, 413);
    let good = sfu_get("canary", "b.example");
    for key in ["room", "device_id", "openid_token"] {
        for value in [Value::Null, json!(7), json!("no id")] {
            let mut body = good.clone();
            body[key] = value;
            if key != "device_id" || body[key] != "no id" {
                let said = is_refused(&bridge, &body, 400, "M_BAD_JSON").await;
                assert!(!said.contains("canary"), "{said}");
            }
        }
    }
    for device in ["", "1:X", "ä", "a b"] {
        let mut body = good.clone();
        body["device_id"] = json!(device);
        is_refused(&bridge, &body, 400, "M_BAD_JSON").await;
        is_refused(&bridge, &get_token("mia", ("@mia:b.example", device)), 400, "M_BAD_JSON").await;
    }
    let mut slot = get_token("mia", ("@mia:b.example", "PHONE"));
    slot["slot_id"] = json!("m.call#OTHER");
    is_refused(&bridge, &slot, 400, "M_BAD_JSON").await;
    // Who would leave its clearing away to us asks again without that.
    let mut delegates = good.clone();
    delegates["delay_id"] = json!("abc");
    is_refused(&bridge, &delegates, 400, "M_BAD_JSON").await;
}

#[tokio::test]
async fn whoever_is_not_who_he_says_is_refused() {
    let bridge = Listener::new().await;
    bridge.bridge.stub.look(|rooms| {
        rooms.openid.insert("mia".to_owned(), "@mia:b.example".to_owned());
        rooms.openid.insert("foreign".to_owned(), "@mia:c.example".to_owned());
        rooms.openid.insert("nobody".to_owned(), "mia".to_owned());
    });
    // Expired, or never given; asked of the homeserver once.
    for _ in 0..3 {
        is_refused(&bridge, &sfu_get("expired", "b.example"), 401, "M_UNAUTHORIZED").await;
    }
    assert_eq!(bridge.bridge.stub.look(|rooms| rooms.asked_whose), 1);
    // A homeserver that speaks for another one's users, or says nothing of anybody.
    for token in ["foreign", "nobody"] {
        is_refused(&bridge, &sfu_get(token, "b.example"), 401, "M_UNAUTHORIZED").await;
    }
    // Another's name with one's own token.
    let other = get_token("mia", ("@eve:b.example", "PHONE"));
    let said = is_refused(&bridge, &other, 403, "M_FORBIDDEN").await;
    assert!(said.contains("@mia:b.example's"), "{said}");
    // A focus elsewhere was shown this by the bridge itself; nobody comes by it as the native.
    bridge.bridge.stub.look(|rooms| {
        rooms.openid.insert("ghost".to_owned(), "@causeway_alice:b.example".to_owned());
    });
    let said = is_refused(&bridge, &sfu_get("ghost", "b.example"), 403, "M_FORBIDDEN").await;
    assert!(said.contains("ghost"), "{said}");
    // A server that only this machine reaches.
    let asked = bridge.bridge.stub.look(|rooms| rooms.asked_whose);
    let stub = bridge.bridge.stub.url.trim_start_matches("http://").to_owned();
    for server in [&*stub, "127.0.0.1", "[::1]:8448", "169.254.169.254:80", "10.0.0.1"] {
        is_refused(&bridge, &sfu_get("mia", server), 403, "M_FORBIDDEN").await;
    }
    assert_eq!(bridge.bridge.stub.look(|rooms| rooms.asked_whose), asked);
    // A room that is nobody's.
    let mine = get_token("mia", ("@mia:b.example", "PHONE"));
    is_refused(&bridge, &mine, 403, "M_FORBIDDEN").await;
    is_refused(&bridge, &sfu_get("mia", "b.example"), 403, "M_FORBIDDEN").await;
}

#[tokio::test]
async fn a_homeserver_without_openid_is_named_as_the_fault() {
    let bridge = Listener::new().await;
    let answer = json!({"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"});
    bridge.bridge.stub.fail("openid", crate::stub::Fault::Answer(404, answer));
    let said = is_refused(&bridge, &sfu_get("mia", "b.example"), 503, "M_UNKNOWN").await;
    assert!(said.contains("add `openid` to the `resources` of its listener"), "{said}");
}

#[tokio::test]
async fn those_who_ask_at_once_are_one_question() {
    let bridge = Arc::new(Listener::new().await);
    bridge.bridge.stub.look(|rooms| {
        rooms.openid.insert("mia".to_owned(), "@mia:b.example".to_owned());
    });
    let body = sfu_get("mia", "b.example");
    let all = (0..10).map(|_| ask(&bridge, Method::POST, "/sfu/get", &body));
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    }
    assert_eq!(bridge.bridge.stub.look(|rooms| rooms.asked_whose), 1);
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again() {
    let bridge = Listener::new().await;
    bridge.bridge.stub.look(|rooms| {
        rooms.openid.insert("mia".to_owned(), "@mia:b.example".to_owned());
    });
    let asks = async |address: &str, token: &str| {
        let body = sfu_get(token, "b.example").to_string();
        let request =
            Request::post("/livekit/jwt/sfu/get").extension(Asks(address.parse().unwrap()));
        bridge.answer(request.body(Body::from(body)).unwrap()).await
    };
    // One user, from wherever he asks.
    for n in 0..12 {
        assert_eq!(asks(&format!("1.1.1.{n}"), "mia").await.status(), 403);
    }
    let late = asks("1.1.1.99", "mia").await;
    assert_eq!(
        (late.status().as_u16(), &late.headers()["retry-after"]),
        (429, &"5".parse().unwrap())
    );
    assert_eq!(refusal(late).await.1, "M_LIMIT_EXCEEDED");
    // One address, whoever he says that he is; others are not in his way.
    for n in 0..60 {
        assert_eq!(asks("2001:db8:1:1::1", &format!("guess {n}")).await.status(), 401);
    }
    assert_eq!(asks("2001:db8:1:1::2", "another").await.status(), 429);
    assert_eq!(asks("2001:db8:1:2::1", "another").await.status(), 401);
}
