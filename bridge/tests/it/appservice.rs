//! What the homeserver may send, and what comes of it: bad input changes nothing else.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, StatusCode, header::AUTHORIZATION},
};
use causeway_bridge::{
    domain::{
        effect::{Effect, Here, InRoom},
        said::{Said, Spoken, Text},
    },
    health::{Health, Kind},
    http::{Connection, Http, Parts, Tokens, router},
    secret::Secret,
    services::{from_matrix::Straight, tidy},
    storage::quarantine::{self, Limits},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{
    harness::{Bridge, focus},
    prometheus::Page,
};

pub(crate) const HS_TOKEN: &str = "token of the homeserver";
pub(crate) const ADMIN_TOKEN: &str = "token of the operator";

/// The endpoints, on the harness's spine.
pub(crate) struct Listener {
    router: Router,
    pub(crate) bridge: Bridge,
    health: Health,
}

impl Listener {
    pub(crate) async fn new() -> Self {
        let bridge = Bridge::start().await;
        let tokens = Tokens { hs_token: Secret::new(HS_TOKEN), admin: Secret::new(ADMIN_TOKEN) };
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let spine = &bridge.spine;
        let health = Health::default();
        let http = Http::new(Parts {
            db: spine.db.clone(),
            sealer: spine.sealer.clone(),
            names: spine.names.clone(),
            clock: spine.clock.clone(),
            token_taken: spine.token_taken.subscribe(),
            locked_out: spine.locked_out.subscribe(),
            leases: spine.leases.clone(),
            encryption: spine.encryption.clone(),
            straight: Straight::default(),
            steps: spine.steps.clone(),
            tokens,
            health: health.clone(),
            server: None,
            focus: focus(spine, None),
            metrics,
        });
        Self { router: router(http), bridge, health }
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: impl Into<Body>,
    ) -> (StatusCode, Value) {
        let header = token.map(|token| format!("Bearer {token}"));
        self.called(method, path, header.as_deref(), body).await
    }

    /// As [`Listener::call`], with this `Authorization`.
    pub(crate) async fn called(
        &self,
        method: &str,
        path: &str,
        header: Option<&str>,
        body: impl Into<Body>,
    ) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(header) = header {
            request = request.header(AUTHORIZATION, header);
        }
        let response =
            self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// The whole answer.
    pub(crate) async fn answer(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// A page that is not JSON.
    async fn page(&self, path: &str) -> String {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    /// Pushes an empty transaction with `token` on a connection.
    pub(crate) async fn push_on(&self, connection: &Connection, token: &str) -> StatusCode {
        let request = Request::put("/_matrix/app/v1/transactions/1")
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .extension(ConnectInfo(connection.clone()))
            .body(Body::from(r#"{"events": []}"#));
        self.router.clone().oneshot(request.unwrap()).await.unwrap().status()
    }

    /// Pushes a transaction with the right token.
    async fn push(&self, body: impl Into<Body>) -> StatusCode {
        self.call("PUT", "/_matrix/app/v1/transactions/1", Some(HS_TOKEN), body).await.0
    }

    /// Events that wait, and what was put aside.
    async fn stored(&self) -> (i64, i64) {
        let stats = self.bridge.stats().await;
        (stats.inbox, stats.quarantine)
    }
}

fn event(n: u32) -> Value {
    json!({
        "event_id": format!("$event-{n}"), "room_id": "!room:example.org",
        "sender": "@alice:example.org", "type": "m.room.message", "origin_server_ts": 1,
        "content": { "msgtype": "m.text", "body": format!("message {n}") },
    })
}

fn transaction(events: impl IntoIterator<Item = u32>) -> String {
    json!({ "events": events.into_iter().map(event).collect::<Vec<_>>() }).to_string()
}

#[tokio::test]
async fn an_event_is_stored_once_whatever_the_transaction_is_called() {
    let bridge = Listener::new().await;
    for txn in ["1", "2", "1"] {
        let path = format!("/_matrix/app/v1/transactions/{txn}");
        let (status, body) =
            bridge.call("PUT", &path, Some(HS_TOKEN), transaction([1, 2, 2])).await;
        assert_eq!((status, body), (StatusCode::OK, json!({})));
    }
    // The same id with other events (Synapse starts again after a crash): those are new.
    assert_eq!(bridge.push(transaction([3])).await, StatusCode::OK);
    assert_eq!(bridge.stored().await, (3, 0));
}

#[tokio::test]
async fn eight_copies_at_once_are_one() {
    let bridge = Listener::new().await;
    let body = transaction(0..50);
    let pushed = futures_util::future::join_all((0..8).map(|_| bridge.push(body.clone()))).await;
    assert!(pushed.iter().all(|status| *status == StatusCode::OK), "{pushed:?}");
    assert_eq!(bridge.stored().await, (50, 0));
}

#[tokio::test]
async fn one_bad_event_among_a_thousand_is_put_aside_alone() {
    let bad: [&[u8]; 9] = [
        b"{\"event_id\": NaN}",
        b"{\"event_id\": \"\xff\xfe\"}",
        b"null",
        b"[]",
        b"{}",
        b"\"text\"",
        b"{\"event_id\":7,\"room_id\":\"!r:x\",\"sender\":\"@a:x\",\"type\":\"m\"}",
        b"{\"event_id\":\"$a\",\"room_id\":\"!r:x\",\"sender\":\"no id\",\"type\":\"m\"}",
        b"{\"event_id\":\"$a\" \"room_id\":1}",
    ];
    for bad in bad {
        let bridge = Listener::new().await;
        let mut events: Vec<Vec<u8>> = (0..1_000).map(|n| event(n).to_string().into()).collect();
        events.insert(500, bad.to_vec());
        let body = [b"{\"events\":[".as_slice(), &events.join(&b","[..]), b"]}"].concat();
        assert_eq!(bridge.push(body).await, StatusCode::OK);
        assert_eq!(bridge.stored().await, (1_000, 1), "{}", String::from_utf8_lossy(bad));
    }
}

#[tokio::test]
async fn what_cannot_be_parsed_is_answered_with_200_and_kept() {
    let deep = format!("{{\"events\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let bodies: [&[u8]; 6] =
        [b"", b"nonsense", b"\xff\xfe\xfd", b"{\"events\":[{\"a\":", b"[1,2", deep.as_bytes()];
    let bridge = Listener::new().await;
    for body in bodies {
        assert_eq!(bridge.push(body.to_vec()).await, StatusCode::OK);
    }
    assert_eq!(bridge.stored().await, (0, 6));
    // Cut off in the middle: what is whole is taken.
    let mut cut = transaction([1, 2, 3]);
    cut.truncate(cut.len() - 10);
    assert_eq!(bridge.push(cut).await, StatusCode::OK);
    assert_eq!(bridge.stored().await, (2, 7));
    // Fields of the wrong type, or unknown: nobody's business.
    for body in [r#"{"events":{}}"#, r#"{"events":null,"ephemeral":7}"#, "{}"] {
        assert_eq!(bridge.push(body).await, StatusCode::OK);
    }
    assert_eq!(bridge.stored().await, (2, 7));
}

#[tokio::test]
async fn only_the_homeserver_gets_in() {
    let bridge = Listener::new().await;
    let query =
        format!("/_matrix/app/v1/transactions/1?access_token={HS_TOKEN}").replace(' ', "%20");
    let path = "/_matrix/app/v1/transactions/1";
    let rows = [
        (path, None, StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN"),
        (path, Some("wrong"), StatusCode::FORBIDDEN, "M_FORBIDDEN"),
        (path, Some(""), StatusCode::FORBIDDEN, "M_FORBIDDEN"),
        (path, Some(ADMIN_TOKEN), StatusCode::FORBIDDEN, "M_FORBIDDEN"),
        (query.as_str(), None, StatusCode::FORBIDDEN, "M_FORBIDDEN"),
        (query.as_str(), Some("wrong"), StatusCode::FORBIDDEN, "M_FORBIDDEN"),
    ];
    for (path, token, status, errcode) in rows {
        let (got, body) = bridge.call("PUT", path, token, transaction([1])).await;
        assert_eq!((got, body["errcode"].as_str()), (status, Some(errcode)), "{path} {token:?}");
    }
    // The paths of before 2019 are nobody's, whatever the token.
    for path in ["/transactions/1", "/_matrix/app/unstable/transactions/1"] {
        let (got, body) = bridge.call("PUT", path, Some(HS_TOKEN), transaction([1])).await;
        assert_eq!((got, &body["errcode"]), (StatusCode::NOT_FOUND, &json!("M_UNRECOGNIZED")));
    }
    assert_eq!(bridge.stored().await, (0, 0));
    // Some homeservers still send it twice; the header is what counts.
    let (status, _) = bridge.call("PUT", &query, Some(HS_TOKEN), transaction([])).await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = bridge.call("POST", "/_matrix/app/v1/ping", Some(HS_TOKEN), "{}").await;
    assert_eq!(status, StatusCode::OK);
    for path in ["/_matrix/app/v1/users/@causeway_x:y", "/_matrix/app/v1/rooms/%23causeway_x:y"] {
        let (status, body) = bridge.call("GET", path, Some(HS_TOKEN), "").await;
        assert_eq!((status, &body["errcode"]), (StatusCode::NOT_FOUND, &json!("M_NOT_FOUND")));
    }
    let (status, body) = bridge.call("GET", "/_matrix/app/v1/nothing", Some(HS_TOKEN), "").await;
    assert_eq!((status, &body["errcode"]), (StatusCode::NOT_FOUND, &json!("M_UNRECOGNIZED")));
    let (status, body) = bridge.call("GET", path, Some(HS_TOKEN), "").await;
    assert_eq!(
        (status, &body["errcode"]),
        (StatusCode::METHOD_NOT_ALLOWED, &json!("M_UNRECOGNIZED")),
    );
}

#[tokio::test]
async fn a_body_beyond_64_mib_is_refused_and_a_large_one_is_not() {
    let bridge = Listener::new().await;
    let filler = " ".repeat(30 * 1024 * 1024);
    let large = format!("{{\"filler\":\"{filler}\",{}", &transaction([1])[1..]);
    assert_eq!(bridge.push(large).await, StatusCode::OK);
    assert_eq!(bridge.stored().await, (1, 0));
    let (status, body) = bridge
        .call(
            "PUT",
            "/_matrix/app/v1/transactions/1",
            Some(HS_TOKEN),
            vec![b' '; 64 * 1024 * 1024 + 1],
        )
        .await;
    assert_eq!((status, &body["errcode"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("M_TOO_LARGE")));
    assert_eq!(bridge.stored().await, (1, 0));
}

#[tokio::test]
async fn probes_tell_live_from_ready() {
    let bridge = Listener::new().await;
    for path in ["/live", "/_matrix/mau/live"] {
        assert_eq!(bridge.call("GET", path, None, "").await.0, StatusCode::OK);
    }
    for path in ["/ready", "/health", "/_matrix/mau/ready"] {
        let (status, body) = bridge.call("GET", path, None, "").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!((&body["database"], &body["homeserver"]), (&json!(true), &json!(false)));
    }
    assert_eq!(bridge.call("GET", "/metrics", None, "").await.0, StatusCode::OK);
}

/// Reading works where nothing can be written: that is not enough.
#[tokio::test]
async fn a_database_that_takes_nothing_is_not_ready_and_what_stands_is_named_to_the_operator_only()
{
    let bridge = Listener::new().await;
    let health = &bridge.health;
    health.set_homeserver(Ok(()), Duration::ZERO);
    health.set_native(Ok(()), Duration::ZERO);
    assert_eq!(bridge.call("GET", "/ready", None, "").await.0, StatusCode::OK);
    health.troubles.stands(Kind::Room, "!r:x", "500", None);
    let admin = "/_causeway/admin/v1/health";
    let (_, body) = bridge.call("GET", admin, Some(ADMIN_TOKEN), "").await;
    assert_eq!(body["ready"], true);
    let trouble = &body["troubles"][0];
    assert_eq!((&trouble["kind"], &trouble["name"]), (&json!("room"), &json!("!r:x")));
    let (_, body) = bridge.call("GET", "/ready", None, "").await;
    assert!(!body.to_string().contains("!r:x"), "{body}");
    health.troubles.stands(Kind::Lane, "portal/1/to_matrix/bob:b.example", "500", None);
    let page = bridge.page("/metrics").await;
    assert!(!page.contains("!r:x") && !page.contains("bob"), "{page}");
    for name in ["kind=\"room\",name=\"\"", "kind=\"lane\",name=\"portal/1/to_matrix/*\""] {
        Page::read(&page).value(&format!("causeway_standing_seconds{{{name}}}"));
    }

    let closed = Listener::new().await;
    closed.health.set_homeserver(Ok(()), Duration::ZERO);
    closed.health.set_native(Ok(()), Duration::ZERO);
    closed.bridge.spine.db.close().await;
    let (status, body) = closed.call("GET", "/ready", None, "").await;
    assert_eq!((status, &body["database"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(false)));
}

#[tokio::test]
async fn only_the_operator_sees_the_admin_api() {
    let bridge = Listener::new().await;
    let paths = ["health", "portals", "shares", "queues", "quarantine", "dead-letters"];
    for path in paths.map(|path| format!("/_causeway/admin/v1/{path}")) {
        let (status, body) = bridge.call("GET", &path, None, "").await;
        assert_eq!((status, &body["status"]), (StatusCode::UNAUTHORIZED, &json!(401)), "{path}");
        for wrong in [HS_TOKEN, "wrong"] {
            let (status, _) = bridge.call("GET", &path, Some(wrong), "").await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
        }
        let (status, _) = bridge.call("GET", &path, Some(ADMIN_TOKEN), "").await;
        assert_eq!(status, StatusCode::OK, "{path}");
    }
    let bad = "/_causeway/admin/v1/portals?limit=0";
    assert_eq!(bridge.call("GET", bad, Some(ADMIN_TOKEN), "").await.0, StatusCode::BAD_REQUEST);
    for (method, path, status) in [
        ("GET", "nothing", 404),
        ("PUT", "portals", 405),
        ("GET", "dead-letters/x", 405),
        ("DELETE", "dead-letters/x", 400),
    ] {
        let path = format!("/_causeway/admin/v1/{path}");
        let (got, body) = bridge.call(method, &path, Some(ADMIN_TOKEN), "").await;
        assert_eq!((got.as_u16(), &body["status"]), (status, &json!(status)), "{method} {path}");
        assert!(body["title"].is_string() && body["detail"].is_string(), "{body}");
    }
}

#[tokio::test]
async fn dead_letters_are_listed_tried_again_and_dropped() {
    let mut bridge = Listener::new().await;
    let portal = bridge.bridge.portal(1).await;
    for body in ["canary-1", "canary-2", "canary-3"] {
        let spoken = bridge.bridge.say(portal, "bob:b.example", "unsaid").await;
        let Said::Text(text, _) = &spoken.said;
        let said = Said::Text(Text { body: body.to_owned(), ..text.clone() }, None);
        let reason = format!("because of {}", body.len());
        let unsaid = Effect::Here(Here::Unsaid(Spoken { said, ..spoken.clone() }, reason));
        bridge.bridge.keep(portal, spoken.message_id.as_bytes(), vec![unsaid]).await;
    }
    let get = async |path: &str| {
        let path = format!("/_causeway/admin/v1/dead-letters{path}");
        let (status, body) = bridge.call("GET", &path, Some(ADMIN_TOKEN), "").await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(!body.to_string().contains("canary"), "a text is in {body}");
        let ids =
            body["dead_letters"].as_array().unwrap().iter().map(|l| l["id"].as_i64().unwrap());
        (ids.collect::<Vec<_>>(), body["next"].as_i64())
    };
    let all = get("").await.0;
    assert_eq!(all.len(), 3);
    // Pages of two: the last says so by having no next.
    let (first, next) = get("?limit=2").await;
    assert_eq!((&first[..], next), (&all[..2], Some(all[1])));
    assert_eq!(get(&format!("?limit=2&after={}", next.unwrap())).await, (all[2..].to_vec(), None));

    let act = async |method: &str, path: String| {
        let path = format!("/_causeway/admin/v1/dead-letters/{path}");
        let (status, body) = bridge.call(method, &path, Some(ADMIN_TOKEN), "").await;
        (status.as_u16(), body["title"].clone())
    };
    assert_eq!(act("POST", format!("{}/retry", all[0])).await.0, 202);
    assert_eq!(act("POST", format!("{}/retry", all[0])).await, (404, json!("Not Found")));
    assert_eq!(act("DELETE", all[1].to_string()).await.0, 204);
    assert_eq!(act("DELETE", all[1].to_string()).await.0, 204, "also the second time");
    assert_eq!(get("").await.0, all[2..]);
    assert_eq!(bridge.bridge.stats().await.dead_letters, 1);
    // It is kept as long as it was to live, and then no longer.
    assert_eq!(tidy::step(&bridge.bridge.spine, bridge.bridge.spine.now()).await.unwrap(), (0, 0));
    bridge.bridge.pass(31 * 24 * 60 * 60 * 1_000);
    assert_eq!(tidy::step(&bridge.bridge.spine, bridge.bridge.spine.now()).await.unwrap(), (1, 0));
    assert!(get("").await.0.is_empty());
}

#[tokio::test]
async fn whoever_drops_the_same_twice_does_not_mean_what_came_later() {
    let mut bridge = Listener::new().await;
    let portal = bridge.bridge.portal(1).await;
    let ids = async |bridge: &Listener, what: &str| {
        let path = format!("/_causeway/admin/v1/{what}");
        let (_, body) = bridge.call("GET", &path, Some(ADMIN_TOKEN), "").await;
        let rows = body[what.replace('-', "_")].as_array().unwrap();
        rows.iter().map(|row| row["id"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    let mut gone = None;
    for n in 0..2 {
        let spoken = bridge.bridge.say(portal, "bob:b.example", "unsaid").await;
        let unsaid = Effect::Here(Here::Unsaid(spoken.clone(), "why".to_owned()));
        bridge.bridge.keep(portal, spoken.message_id.as_bytes(), vec![unsaid]).await;
        bridge.push(json!({"events": [{"junk": n}]}).to_string()).await;
        let (letters, aside) =
            (ids(&bridge, "dead-letters").await, ids(&bridge, "quarantine").await);
        assert_eq!((letters.len(), aside.len()), (1, 1));
        let (letter, row) = *gone.get_or_insert((letters[0], aside[0]));
        for path in [format!("dead-letters/{letter}"), format!("quarantine/{row}")] {
            let path = format!("/_causeway/admin/v1/{path}");
            let (status, _) = bridge.call("DELETE", &path, Some(ADMIN_TOKEN), "").await;
            assert_eq!(status, StatusCode::NO_CONTENT);
        }
    }
    assert_eq!(ids(&bridge, "dead-letters").await.len(), 1);
    assert_eq!(ids(&bridge, "quarantine").await.len(), 1);
}

#[tokio::test]
async fn what_was_put_aside_is_listed_and_ends() {
    let bridge = Listener::new().await;
    let junk: Vec<Value> = (0..3).map(|n| json!({"canary": n})).collect();
    assert_eq!(bridge.push(json!({"events": junk}).to_string()).await, StatusCode::OK);
    let get = async |path: &str| {
        let path = format!("/_causeway/admin/v1/quarantine{path}");
        let (status, body) = bridge.call("GET", &path, Some(ADMIN_TOKEN), "").await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(!body.to_string().contains("canary"), "a text is in {body}");
        let rows = body["quarantine"].as_array().unwrap();
        assert!(rows.iter().all(|row| row["bytes"].as_i64().unwrap() > 10), "{body}");
        (
            rows.iter().map(|row| row["id"].as_i64().unwrap()).collect::<Vec<_>>(),
            body["next"].as_i64(),
        )
    };
    let all = get("").await.0;
    assert_eq!(all.len(), 3);
    assert_eq!(get("?limit=2").await, (all[..2].to_vec(), Some(all[1])));
    assert_eq!(get(&format!("?limit=2&after={}", all[1])).await, (all[2..].to_vec(), None));
    for _ in 0..2 {
        let path = format!("/_causeway/admin/v1/quarantine/{}", all[0]);
        let (status, _) = bridge.call("DELETE", &path, Some(ADMIN_TOKEN), "").await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
    assert_eq!(tidy::step(&bridge.bridge.spine, bridge.bridge.spine.now()).await.unwrap(), (0, 0));
    assert_eq!(get("").await.0, all[1..]);
    bridge.bridge.pass(quarantine::LIMITS.ms + 1);
    assert_eq!(tidy::step(&bridge.bridge.spine, bridge.bridge.spine.now()).await.unwrap(), (0, 2));
    assert!(get("").await.0.is_empty());
}

#[tokio::test]
async fn what_waits_in_a_lane_is_listed_without_its_text() {
    let mut bridge = Listener::new().await;
    let portal = bridge.bridge.portal(1).await;
    for _ in 0..3 {
        let spoken = bridge.bridge.say(portal, "bob:b.example", "canary").await;
        let said = vec![Effect::InRoom(InRoom::Say(spoken.clone()))];
        bridge.bridge.keep(portal, spoken.message_id.as_bytes(), said).await;
    }
    let get = async |query: String| {
        let path = format!("/_causeway/admin/v1/queues/rows?{query}");
        let (status, body) = bridge.call("GET", &path, Some(ADMIN_TOKEN), "").await;
        assert!(!body.to_string().contains("canary"), "a text is in {body}");
        (status, body)
    };
    let lane = format!("lane=portal/{}/to_matrix", portal.0);
    let (status, body) = get(format!("{lane}&limit=3")).await;
    assert_eq!(status, StatusCode::OK);
    let rows = body["rows"].as_array().unwrap();
    let kinds: Vec<&str> = rows.iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["make", "say", "say"]);
    let (_, body) = get(format!("{lane}&after={}", body["next"])).await;
    assert_eq!((body["rows"].as_array().unwrap().len(), &body["next"]), (1, &Value::Null));
    assert_eq!(body["rows"][0]["author"], "bob:b.example");
    for lane in ["lane=nothing", "lane=portal/x/to_matrix"] {
        assert_eq!(get(lane.to_owned()).await.0, StatusCode::NOT_FOUND);
    }
}

/// The oldest go first.
#[tokio::test]
async fn the_quarantine_has_an_end() {
    let bridge = Listener::new().await;
    let spine = &bridge.bridge.spine;
    let mut tx = spine.db.begin().await.unwrap();
    let put = async |tx: &mut causeway_store::Tx, bytes: &[u8]| {
        quarantine::put(tx, &spine.sealer, spine.now(), None, "of no use", bytes).await.unwrap();
    };
    let limits = Limits { rows: 10, bytes: 4_000, ..quarantine::LIMITS };
    for n in 0..11_u8 {
        put(&mut tx, &[n]).await;
    }
    assert_eq!(quarantine::prune(&mut tx, spine.now(), limits).await.unwrap(), 1);
    for n in 0..5 {
        put(&mut tx, &[n; 1_000]).await;
    }
    // Three and what seals them; with a fourth it is more.
    assert_eq!(quarantine::prune(&mut tx, spine.now(), limits).await.unwrap(), 12);
    tx.commit().await.unwrap();
    assert_eq!(bridge.bridge.stats().await.quarantine, 3);
}
