//! One of Matrix who speaks on another homeserver's server for calls: natives are let in there by what the
//! bridge fetches, and nowhere else.

use causeway_protocol::{
    api::{CallSfus, CallState},
    ids::CallId,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    guests::{DOOR, asks, attend, bridged, let_in, looks, says, server, start},
    livekit::{Connected, Sfu},
};
use crate::{
    calls::{ask, listening, new_id, state},
    harness::{Group, Person, Server},
};

const FOCUS: &str = "https://c.example/livekit/jwt";

/// What the bridge asks the door for, and what it says there.
async fn door(server: &Server, method: Method, body: &Value) -> (u16, Value) {
    let url = format!("{}/_causeway/relay/v1/calls/abroad?wait_ms=30000", server.base);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.request(method, url).bearer_auth(DOOR).json(body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

/// A call of one native and of Mia, whose room says that she speaks there.
async fn with_mia(server: &Server, livekit: &Sfu) -> (Group, Person, CallId, Connected) {
    let (group, [alice, _]) = bridged(server, ["alice", "ferry"]).await;
    let call = new_id();
    start(server, &alice, &group, call).await.ok::<CallState>();
    let (_, given) = let_in(server, DOOR, &asks(Some(group.id()), "PHONE")).await;
    let phone = Connected::by(&livekit.url(), given["jwt"].as_str().unwrap()).await;
    looks(server).await;
    let mut says = says(&group, true, None);
    says["focus"] = json!(FOCUS);
    assert_eq!(attend(server, DOOR, &says).await.0, 200);
    (group, alice, call, phone)
}

#[tokio::test]
async fn natives_are_let_in_where_one_of_matrix_speaks_by_what_the_bridge_fetches() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (group, alice, call, _phone) = with_mia(&server, &livekit).await;
    let _streams = listening(&server, [&alice]).await;
    let now = state(&server, &alice, &group, call).await;
    let mia = now.guests().next().unwrap();
    assert_eq!((mia.focus.as_deref(), mia.muted), (Some(FOCUS), false));
    let sfu = async |focus: &str| {
        let asked = json!({"epoch": now.epoch, "focus": focus});
        ask(&server, &alice, &group, (call, "sfu"), asked).await
    };
    // Nobody speaks there: nothing is fetched.
    sfu("https://d.example/livekit/jwt").await.refused(409, "DEV_CAUSEWAY_NO_NEED");
    let fetch = async |given: Value| {
        let (status, asked) = door(&server, Method::GET, &Value::Null).await;
        assert_eq!((status, asked.as_array().unwrap().len()), (200, 1), "{asked}");
        let of = json!({
            "id": asked[0]["id"], "group": group.id(), "account": alice.account,
            "device": alice.device(), "focus": FOCUS,
        });
        assert_eq!(asked[0], of);
        let mut said = given;
        said["id"] = asked[0]["id"].clone();
        assert_eq!(door(&server, Method::POST, &said).await.0, 204);
    };
    let given = json!({"given": {"url": "wss://sfu.c.example", "jwt": "a token"}});
    let (answer, ()) = tokio::join!(sfu(FOCUS), fetch(given));
    let CallSfus { sfus, e2ee } = answer.ok();
    let it = &sfus[0];
    assert_eq!((it.url.as_str(), it.jwt.as_str()), ("wss://sfu.c.example", "a token"));
    assert_eq!((sfus.len(), it.publish, e2ee.as_str()), (1, false, "none"));
    // It lets nobody in; why is said.
    let (answer, ()) = tokio::join!(sfu(FOCUS), fetch(json!({"why": "it answers 403"})));
    let refused = answer.refused(503, "DEV_CAUSEWAY_SFU_UNAVAILABLE");
    assert!(refused.error.contains("it answers 403"), "{}", refused.error);
    // What nobody waits for is nobody's.
    let late = json!({"id": 77, "given": {"url": "wss://sfu.c.example", "jwt": "a token"}});
    assert_eq!(door(&server, Method::POST, &late).await.0, 204);
    // She goes, and with her the way.
    let mut gone = says(&group, false, None);
    gone["focus"] = Value::Null;
    attend(&server, DOOR, &gone).await;
    let after = state(&server, &alice, &group, call).await;
    let asked = json!({"epoch": after.epoch, "focus": FOCUS});
    let refused = ask(&server, &alice, &group, (call, "sfu"), asked).await;
    refused.refused(409, "DEV_CAUSEWAY_NO_NEED");
}

#[tokio::test]
async fn who_is_not_in_the_call_is_let_in_nowhere() {
    let livekit = Sfu::start().await;
    let server = server(Some(&livekit)).await;
    let (group, alice, call, _phone) = with_mia(&server, &livekit).await;
    let epoch = state(&server, &alice, &group, call).await.epoch;
    let sfu = async |who: &Person, epoch: u32| {
        let asked = json!({"epoch": epoch, "focus": FOCUS});
        ask(&server, who, &group, (call, "sfu"), asked).await
    };
    let before = server.rows().await;
    sfu(&alice, epoch + 1).await.refused(409, "DEV_CAUSEWAY_STALE_EPOCH");
    let stranger = server.person("stranger").await;
    sfu(&stranger, epoch).await.refused(404, "M_NOT_FOUND");
    let without = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/_causeway/relay/v1/calls/abroad", server.base);
    assert_eq!(without.get(&url).send().await.unwrap().status().as_u16(), 401);
    assert_eq!(door(&server, Method::POST, &json!({"given": 1})).await.0, 400);
    // A sixth place is one too many: who speaks there is heard by nobody, and is in the call.
    for n in 0..6 {
        let user = format!("@mia{n}:b.example");
        let mut says = says(&group, true, None);
        says["user"] = json!(user);
        says["identities"] = json!([format!("{user}:PHONE")]);
        says["focus"] = json!(format!("https://{n}.example/livekit/jwt"));
        assert_eq!(attend(&server, DOOR, &says).await.0, 200);
    }
    let rows = server.rows().await.join(" ");
    let there = (0..6).filter(|n| rows.contains(&format!("https://{n}.example"))).count();
    assert_eq!(there, 4, "beside the one of her phone");
    assert!(before.iter().all(|row| !row.contains("https://0.example")));
}
