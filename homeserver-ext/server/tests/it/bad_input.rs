//! What no client that means well would send: each has its answer, and nothing changes.

use std::collections::BTreeMap;

use causeway_protocol::{
    api::{PREFIX, Registration},
    envelope::{Kind, Piece, SubmittedTo},
    ids::{CurveKey, DeviceId, InviteKey, Signature, Timestamp, text_of},
    roster::{Body, Devices, OpCore},
};
use causeway_server::{App, AppError, Clock, Config};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Group, Person, SERVER, Server, TOKEN, op_body, sign, signing_key};

/// Every route that takes a body, for a group and a caller that exist.
fn routes(group: &str) -> Vec<(Method, String)> {
    let group = |rest: &str| format!("/groups/{group}{rest}");
    vec![
        (Method::POST, "/register".into()),
        (Method::POST, "/login".into()),
        (Method::PUT, "/account/devices".into()),
        (Method::PUT, format!("/links/{}/answer", text_of(&[1; 16]))),
        (Method::PUT, format!("/links/{}/record", text_of(&[1; 16]))),
        (Method::POST, "/keys".into()),
        (Method::POST, "/keys/claim".into()),
        (Method::POST, "/groups".into()),
        (Method::POST, group("/roster")),
        (Method::POST, group("/invites")),
        (Method::POST, group("/join")),
        (Method::POST, group("/envelopes")),
        (Method::PUT, group("/sender-keys")),
        (Method::POST, group("/calls")),
        (Method::POST, group(&format!("/calls/{}/join", text_of(&[1; 16])))),
        (Method::POST, group(&format!("/calls/{}/report", text_of(&[1; 16])))),
    ]
}

/// Longest that a write waits for another process.
const WAIT: std::time::Duration = std::time::Duration::from_secs(30);

#[tokio::test]
async fn broken_bodies_are_refused_everywhere_and_change_nothing() {
    let server = Server::start().await;
    let (group, [alice]) = server.group(["alice"]).await;
    let before = server.rows().await;
    let nested = |open: &str, close: &str| {
        let deep = format!("{}{}", open.repeat(2_000), close.repeat(2_000));
        let fields = [
            "envelopes",
            "keys",
            "op",
            "list",
            "token",
            "devices",
            "device_id",
            "one_time_keys",
            "fallback_key",
            "ik_pub",
            "request",
        ];
        let fields: Vec<_> = fields.map(|name| format!("{name:?}:{deep}")).into();
        format!("{{{}}}", fields.join(",")).into_bytes()
    };
    let bodies: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "M_NOT_JSON"),
        (b"{".to_vec(), "M_NOT_JSON"),
        (b"{\"op\":\"AA".to_vec(), "M_NOT_JSON"),
        (b"{\"op\":\"\xff\xfe\"}".to_vec(), "M_NOT_JSON"),
        (b"\xff\xfe\x00".to_vec(), "M_NOT_JSON"),
        (nested("[", "]"), "M_NOT_JSON"),
        (nested("{\"a\":", "}"), "M_NOT_JSON"),
        (b"null".to_vec(), "M_BAD_JSON"),
        (b"[]".to_vec(), "M_BAD_JSON"),
        (b"\"x\"".to_vec(), "M_BAD_JSON"),
        (
            b"{\"envelopes\":7,\"keys\":7,\"op\":7,\"one_time_keys\":7,\"list\":7,\"uses\":{}}"
                .to_vec(),
            "M_BAD_JSON",
        ),
    ];
    for (method, path) in routes(&group.id().to_string()) {
        // Of an offer so much is not even read.
        let is_small = |body: &&(Vec<u8>, _)| !path.starts_with("/links") || body.0.len() < 8_192;
        for (body, code) in bodies.iter().filter(is_small) {
            let answer = server.send(method.clone(), &path, Some(&alice.token), body.clone()).await;
            assert_eq!(
                answer.status.as_u16(),
                400,
                "{method} {path} {} for {}",
                answer.text(),
                String::from_utf8_lossy(&body[..body.len().min(80)])
            );
            let code =
                if *code == "M_NOT_JSON" { ["M_NOT_JSON", "M_BAD_JSON"] } else { [*code; 2] };
            let refusal: Value = serde_json::from_slice(&answer.body).unwrap();
            assert!(code.contains(&refusal["errcode"].as_str().unwrap()), "{path} {refusal}");
        }
    }
    server.assert_unchanged(&before).await;
}

#[tokio::test]
async fn oversized_bodies_are_refused_and_change_nothing() {
    let server = Server::start().await;
    let (group, [alice]) = server.group(["alice"]).await;
    let before = server.rows().await;
    for (method, path) in routes(&group.id().to_string()) {
        let limit = if path.ends_with("/envelopes") { 4 << 20 } else { 1 << 20 };
        let body = vec![b' '; limit + 1];
        let answer = server.send(method, &path, Some(&alice.token), body).await;
        answer.refused(413, "M_TOO_LARGE");
        let body = vec![b' '; limit];
        let answer = server.send(Method::POST, "/groups", Some(&alice.token), body).await;
        assert!(answer.status.is_client_error());
    }
    server.assert_unchanged(&before).await;
}

#[tokio::test]
async fn a_body_that_breaks_off_changes_nothing() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let before = server.rows().await;
    let body = serde_json::to_vec(&json!({
        "envelopes": [alice.message(group.id(), 1, "cut off")]
    }))
    .unwrap();
    let address = server.base.strip_prefix("http://").unwrap();
    let broken = async |method: &Method, path: &str, body: &[u8], sent: usize| {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "{method} {PREFIX}{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
            alice.token,
            body.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&body[..sent]).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
    };
    for sent in [0, 1, body.len() / 2, body.len() - 1] {
        broken(&Method::POST, &group.path("/envelopes"), &body, sent).await;
    }
    for (method, path) in routes(&group.id().to_string()) {
        broken(&method, &path, b"{\"op\":\"AAAA\"}", 9).await;
    }
    server.assert_unchanged(&before).await;
    alice.say(&server, &group, &["whole"]).await;
    assert_eq!(bob.stream(&server).await.texts(1).await, ["whole"]);
}

/// A 33-byte Ed25519 key panics vodozemac 0.10; here none comes as far as any library.
#[tokio::test]
async fn keys_of_a_wrong_length_are_refused_wherever_one_enters() {
    let server = Server::start().await;
    let (group, [alice]) = server.group(["alice"]).await;
    let before = server.rows().await;
    let registration = serde_json::to_value(Person::new("mallory").registration(TOKEN)).unwrap();
    let devices: Value = alice.get(&server, "/accounts/alice:a.example").await.ok();
    let one = serde_json::to_value(alice.one_time_key(77, false)).unwrap();
    let invite =
        json!({ "ik_pub": text_of(&[1; 32]), "expires_ms": server.now().0 + 9, "uses": 1 });
    let envelope = serde_json::to_value(alice.message(group.id(), 1, "x")).unwrap();
    let mut to_device = envelope.clone();
    to_device["to"] = json!({ "device": text_of(&[1; 32]) });
    let mut fanout = envelope.clone();
    fanout["kind"] = json!("fanout");
    fanout.as_object_mut().unwrap().remove("id");
    fanout["to"] = json!({ "devices": { text_of(&[1; 33]): "AA" } });
    let nonce = json!({
        "device_id": text_of(&[1; 32]), "nonce": text_of(&[1; 32]), "signature": text_of(&[1; 64])
    });
    let group = group.id().to_string();
    let bodies = [
        (Method::POST, "/register".to_owned(), registration),
        (Method::PUT, "/account/devices".to_owned(), devices),
        (Method::POST, "/login".to_owned(), nonce),
        (Method::PUT, format!("/links/{}/record", text_of(&[1; 16])), json!(alice.record)),
        (Method::POST, "/keys".to_owned(), json!({ "one_time_keys": [one], "fallback_key": one })),
        (Method::POST, "/keys/claim".to_owned(), json!({ "devices": [text_of(&[1; 32])] })),
        (Method::POST, format!("/groups/{group}/invites"), invite),
        (
            Method::POST,
            format!("/groups/{group}/envelopes"),
            json!({ "envelopes": [envelope, to_device] }),
        ),
        (
            Method::PUT,
            format!("/groups/{group}/sender-keys"),
            json!({ "keys": [{ "tag": "AAAAAA", "sender": text_of(&[1; 32]), "epoch": 1 }] }),
        ),
    ];
    let posted = format!("/groups/{group}/envelopes");
    let named = json!({ "envelopes": [fanout] });
    alice.post(&server, &posted, &named).await.refused(400, "M_BAD_JSON");
    let mut tried = 0;
    for (method, path, body) in bodies {
        for pointer in byte_strings(&body, String::new()) {
            for length in [0, 31, 33, 63, 65] {
                let mut bad = body.clone();
                *bad.pointer_mut(&pointer).unwrap() = json!(text_of(&vec![1; length]));
                let body = serde_json::to_vec(&bad).unwrap();
                let answer = server.send(method.clone(), &path, Some(&alice.token), body).await;
                assert!(answer.status.is_client_error(), "{path} {pointer} {}", answer.text());
                tried += 1;
            }
            for spelling in ["AA==", "+/+/", " AAA", "AAB"] {
                let mut bad = body.clone();
                *bad.pointer_mut(&pointer).unwrap() = json!(spelling);
                let body = serde_json::to_vec(&bad).unwrap();
                let answer = server.send(method.clone(), &path, Some(&alice.token), body).await;
                assert!(answer.status.is_client_error(), "{path} {pointer} {}", answer.text());
            }
        }
    }
    assert!(tried > 100, "{tried}");
    for id in [&text_of(&[1; 15]), &text_of(&[1; 31]), &text_of(&[1; 33]), "AA==", "%ff", "..", "x"]
    {
        for path in [
            format!("/groups/{id}"),
            format!("/groups/{id}/roster"),
            format!("/groups/{id}/invites"),
            format!("/groups/{id}/requests"),
            format!("/groups/{id}/sender-keys"),
            format!("/messages/{id}/status"),
            format!("/accounts/{id}"),
            format!("/links/{id}"),
            format!("/groups?from={id}"),
            format!("/groups/{group}/roster?from={id}"),
            format!("/groups/{group}/invites?from={id}"),
            format!("/groups/{group}/requests?from={id}"),
            format!("/groups/{group}/sender-keys?from={id}"),
            format!("/groups/{group}/roster?limit={id}"),
        ] {
            let answer = alice.get(&server, &path).await;
            assert!(answer.status.is_client_error(), "{path}: {}", answer.text());
        }
        for path in [
            format!("/groups/{group}/invites/{id}"),
            format!("/groups/{group}/requests/{id}"),
            format!("/groups/{id}/sender-keys"),
        ] {
            let answer = alice.delete(&server, &path).await;
            assert!(answer.status.is_client_error(), "{path}: {}", answer.text());
        }
    }
    server.assert_unchanged(&before).await;
}

/// In ops and join requests keys stand among other bytes: one more, wherever it is, is one too many.
#[tokio::test]
async fn a_byte_more_or_less_anywhere_in_an_op_or_a_request_is_refused() {
    // More than one account may ask for in an hour.
    let server = Server::start_with(|config| config.accounts.joins = None).await;
    let (group, [alice]) = server.group(["alice"]).await;
    let carol = server.person("carol").await;
    let ik = signing_key();
    let terms = json!({
        "ik_pub": InviteKey::new(ik.verifying_key().to_bytes()),
        "expires_ms": server.now().0 + 60_000,
        "uses": 1,
    });
    alice.post(&server, &group.path("/invites"), &terms).await.done();
    let op = group.op(&alice, &Body::Add(vec![carol.entry(0)]));
    let join = carol.join(&server, group.id(), &ik).to_bytes().unwrap();
    let before = server.rows().await;
    for (bytes, field, path, poster) in
        [(op.as_bytes(), "op", "/roster", &alice), (&join[..], "request", "/join", &carol)]
    {
        for at in 0..bytes.len() {
            let (front, back) = bytes.split_at(at);
            let longer = [front, &[0], back].concat();
            let shorter = [front, &back[1..]].concat();
            for changed in [longer, shorter] {
                let body = json!({ field: text_of(&changed) });
                let answer = poster.post(&server, &group.path(path), &body).await;
                assert!(
                    matches!(answer.status.as_u16(), 400 | 404),
                    "{path} {at}: {}",
                    answer.text()
                );
            }
        }
    }
    server.assert_unchanged(&before).await;
}

/// Whoever runs the server can make accounts and write ops; none of these gets anybody in.
#[tokio::test]
async fn the_server_gets_in_by_no_op_that_it_can_make() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let mallory = server.person("mallory").await;
    let before = server.rows().await;
    let body = Body::Add(vec![mallory.entry(0)]);
    let next =
        |signer: &Person| OpCore::next(&group.roster, &signer.record, Timestamp(2), &body).unwrap();
    let sealed = |core: OpCore, certificate, key: &Person| {
        let signature = sign(&key.key, &core.signed_bytes().unwrap());
        core.sealed(certificate, signature).unwrap()
    };
    let mut in_her_name = next(&mallory);
    in_her_name.signer_member = alice.member();
    let own = mallory.record.certificate;
    // A device of the server's in the name of bob, said by the server's own identity.
    let mut ids = vec![bob.device(), mallory.device()];
    ids.sort();
    let list = Body::Devices(Devices { version: 2, ids });
    let mut as_bob = OpCore::next(&group.roster, &bob.record, Timestamp(2), &list).unwrap();
    let forged_device = sealed(as_bob.clone(), bob.record.certificate, &mallory);
    as_bob.signer_device = DeviceId::new(*bob.member().as_bytes());
    as_bob.signer_curve25519 = CurveKey::new([0; 32]);
    let forged_identity = sealed(as_bob, Signature::new([0; 64]), &mallory);
    for (op, reason) in [
        (sealed(next(&mallory), own, &mallory), "signer_not_member"),
        (sealed(in_her_name.clone(), own, &mallory), "bad_certificate"),
        (sealed(in_her_name, alice.record.certificate, &mallory), "bad_certificate"),
        (sealed(next(&alice), alice.record.certificate, &mallory), "bad_signature"),
        (sealed(next(&bob), bob.record.certificate, &bob), "not_admin"),
        (forged_device, "bad_signature"),
        (forged_identity, "bad_signature"),
    ] {
        let answer = mallory.post(&server, &group.path("/roster"), &op_body(&op)).await;
        let refusal = answer.refused(400, "DEV_CAUSEWAY_INVALID_OP");
        assert!(refusal.error.contains(reason), "{reason}: {}", refusal.error);
        // Every client judges it again, whatever its server says.
        assert_eq!(group.roster.apply(&op).unwrap_err().reason(), reason);
    }
    server.assert_unchanged(&before).await;
}

/// Whatever stands in a field, the answer is never a fault of the server's.
#[tokio::test]
async fn no_value_of_any_field_is_a_fault() {
    let server = Server::start_with(|config| config.registration = Registration::Open).await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let (ik, carol) = (signing_key(), server.person("carol").await);
    let terms = json!({
        "ik_pub": InviteKey::new(ik.verifying_key().to_bytes()),
        "expires_ms": server.now().0 + 60_000,
        "uses": 1,
    });
    let join = carol.join(&server, group.id(), &ik).to_bytes().unwrap();
    let mut to_device = alice.message(group.id(), 1, "x");
    to_device.kind = Kind::Direct;
    to_device.to = SubmittedTo::Device(bob.device());
    let pieces = BTreeMap::from([(bob.device(), Piece(vec![1]))]);
    let to = SubmittedTo::Devices(pieces);
    let fanout = alice.submission(group.id(), 1, Kind::Fanout, to, vec![1]);
    let envelopes = json!({ "envelopes": [alice.message(group.id(), 1, "y"), to_device, fanout] });
    let key = json!({ "tag": "AAAAAA", "sender": bob.device(), "epoch": 1, "next_index": 1,
        "unacknowledged": 1 });
    let keys = json!({
        "one_time_keys": [alice.one_time_key(9, false)],
        "fallback_key": alice.one_time_key(10, true),
    });
    let bodies = [
        (Method::POST, "/register".to_owned(), json!(Person::new("dave").registration(TOKEN))),
        (
            Method::PUT,
            "/account/devices".to_owned(),
            alice.get(&server, "/accounts/alice:a.example").await.ok(),
        ),
        (
            Method::POST,
            "/login".to_owned(),
            json!({ "device_id": alice.device(), "nonce": text_of(&[1; 32]),
                "signature": text_of(&[1; 64]) }),
        ),
        (Method::POST, "/keys".to_owned(), keys),
        (Method::POST, "/keys/claim".to_owned(), json!({ "devices": [bob.device()] })),
        (Method::POST, "/groups".to_owned(), op_body(&group.ops[0])),
        (Method::POST, group.path("/roster"), op_body(&group.ops[1])),
        (Method::POST, group.path("/invites"), terms),
        (Method::POST, group.path("/join"), json!({ "request": text_of(&join) })),
        (Method::POST, group.path("/envelopes"), envelopes),
        (
            Method::PUT,
            group.path("/sender-keys"),
            json!({ "keys": [key], "failures": { "no_key": 1 } }),
        ),
    ];
    let odd = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(u32::MAX),
        json!(u64::from(u32::MAX) + 1),
        json!(""),
        json!("\u{0}\u{202e}\u{10ffff}"),
        json!("AAAA"),
        json!([]),
        json!({}),
        json!([[[[]]]]),
    ];
    let mut tried = 0;
    for (method, path, body) in bodies.into_iter().chain(about_calls(&group, &bob)) {
        for pointer in pointers(&body, String::new()) {
            for value in &odd {
                let mut bad = body.clone();
                *bad.pointer_mut(&pointer).unwrap() = value.clone();
                let bad = serde_json::to_vec(&bad).unwrap();
                let answer = server.send(method.clone(), &path, Some(&alice.token), bad).await;
                let status = answer.status.as_u16();
                assert!(status < 500, "{path} {pointer} {value}: {status} {}", answer.text());
                tried += 1;
            }
        }
    }
    assert!(tried > 1_000, "{tried}");
    // And all goes on.
    alice.say(&server, &group, &["still here"]).await;
    server.app.upkeep().await.unwrap();
    let mut stream = bob.stream(&server).await;
    while stream.texts(1).await != ["still here"] {}
}

/// Requests about a call, the first of which begins it.
fn about_calls(group: &Group, other: &Person) -> Vec<(Method, String, Value)> {
    let call = text_of(&[3; 16]);
    let of = |what: &str| group.path(&format!("/calls/{call}/{what}"));
    let begin = json!({ "call": call, "intent": "audio", "caps": ["mesh"], "may_degrade": true });
    let report = json!({ "epoch": 0, "connected": [other.device()],
        "ready": { "published": true }, "decline": "e2ee" });
    vec![
        (Method::POST, group.path("/calls"), begin),
        (Method::POST, of("report"), report),
        (Method::POST, of("set"), json!({ "muted": true, "hand": false })),
        (Method::POST, of("upgrade"), json!({ "with": other.device() })),
    ]
}

/// Pointers to everything inside.
fn pointers(value: &Value, at: String) -> Vec<String> {
    let inner: Vec<String> = match value {
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.flat_map(|(n, item)| pointers(item, format!("{at}/{n}"))).collect()
        }
        Value::Object(fields) => {
            let fields = fields.iter();
            fields.flat_map(|(name, field)| pointers(field, format!("{at}/{name}"))).collect()
        }
        _ => Vec::new(),
    };
    if at.is_empty() { inner } else { [vec![at], inner].concat() }
}

/// Pointers to every string that is bytes of at least 32 in base64.
fn byte_strings(value: &Value, at: String) -> Vec<String> {
    match value {
        Value::String(text) if text.len() >= 43 && !text.contains(':') && at != "/token" => {
            vec![at]
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(n, item)| byte_strings(item, format!("{at}/{n}")))
            .collect(),
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, field)| byte_strings(field, format!("{at}/{name}")))
            .collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn every_route_asks_who_calls() {
    let server = Server::start().await;
    let (group, [alice]) = server.group(["alice"]).await;
    let public = ["/register", "/login"];
    for (method, path) in routes(&group.id().to_string()) {
        if !public.contains(&path.as_str()) && !path.ends_with("/record") {
            server.send(method.clone(), &path, None, vec![]).await.refused(401, "M_MISSING_TOKEN");
            let wrong = text_of(&[3; 32]);
            server.send(method, &path, Some(&wrong), vec![]).await.refused(401, "M_UNKNOWN_TOKEN");
        }
    }
    alice.get(&server, "/nothing/here").await.refused(404, "M_UNRECOGNIZED");
    alice.delete(&server, "/register").await.refused(405, "M_UNRECOGNIZED");
    let ready = server.http.get(format!("{}/ready", server.base)).send().await.unwrap();
    assert_eq!(ready.status().as_u16(), 200);
}

#[tokio::test]
async fn a_list_of_fields_is_no_structure_at_any_depth() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let before = server.rows().await;
    let mut envelope = serde_json::to_value(alice.message(group.id(), 1, "x")).unwrap();
    envelope["sender"] = json!([alice.account, alice.device()]);
    let body = json!({ "envelopes": [envelope] });
    alice.post(&server, &group.path("/envelopes"), &body).await.refused(400, "M_BAD_JSON");
    let op = text_of(group.op(&alice, &Body::Close).as_bytes());
    alice.post(&server, &group.path("/roster"), &json!([op])).await.refused(400, "M_BAD_JSON");
    server.assert_unchanged(&before).await;
    let mut stream = bob.stream(&server).await;
    stream.send(Message::text("[1]")).await;
    assert_eq!(stream.close_code().await, 1007);
}

#[tokio::test]
async fn unknown_fields_and_odd_but_right_json_are_taken() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let mut envelope = serde_json::to_value(alice.message(group.id(), 1, "x")).unwrap();
    envelope["extra"] = json!({ "a": [1, 2, null] });
    let body = json!({ "later": true, "envelopes": [envelope] }).to_string();
    let body = format!("\n\t {} \r\n", body.replace(':', " : "));
    let body = body.replace(" : a.example", ":a.example");
    let path = group.path("/envelopes");
    let answer = server.send(Method::POST, &path, Some(&alice.token), body.into_bytes()).await;
    answer.ok::<Value>();
    assert_eq!(bob.stream(&server).await.texts(1).await, ["x"]);
}

/// Protocol §0: nothing is built of what nobody asks for.
#[tokio::test]
async fn a_field_that_is_not_known_may_be_as_deep_as_it_is_long() {
    let server = Server::start().await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let envelope = serde_json::to_string(&alice.message(group.id(), 1, "x")).unwrap();
    let deep = format!("{}{}", "[".repeat(400_000), "]".repeat(400_000));
    let body = format!("{{\"later\":{deep},\"envelopes\":[{envelope}]}}").into_bytes();
    let path = group.path("/envelopes");
    server.send(Method::POST, &path, Some(&alice.token), body).await.ok::<Value>();
    assert_eq!(bob.stream(&server).await.texts(1).await, ["x"]);
}

#[tokio::test]
async fn a_second_server_on_the_database_is_refused_and_told_who_holds_it() {
    let server = Server::start().await;
    let config = Config::new(SERVER, server.database().join("server.db"));
    let clock = Clock::new(|| causeway_protocol::ids::Timestamp(1));
    let refused = App::open(config, clock.clone()).await.err().unwrap();
    assert!(matches!(refused, AppError::Open(_)));
    assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
    let config = Config::new("Not A Name", server.database().join("other.db"));
    assert!(matches!(App::open(config, clock).await, Err(AppError::ServerName(_))));
    assert!(!server.database().join("other.db").exists());
}

#[tokio::test]
async fn a_database_that_takes_nothing_makes_ready_say_no() {
    let server = Server::start().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(server.database().join("server.db"))
        .busy_timeout(WAIT);
    let mut other = sqlx::ConnectOptions::connect(&options).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let ask = || server.http.get(format!("{}/ready", server.base)).send();
    assert_eq!(ask().await.unwrap().status().as_u16(), 503);
    // Whoever asks at once makes no further write: the answer holds for a while.
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    while ask().await.unwrap().status().as_u16() != 200 {
        // Not so often that the address is told to come later.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
