use causeway_protocol::{
    api::{
        AccountDevices, ClaimedKeys, KeyCount, LoginNonce, LoginRequest, OwnDevice, OwnKeys,
        Registration, ServerInfo, Session, UploadKeys,
    },
    device::login_bytes,
};
use reqwest::Method;
use serde_json::json;

use crate::harness::{
    BRIDGE_TOKEN, Person, SERVER, Server, TOKEN, json, list, record, sign, signing_key,
};

async fn register(server: &Server, person: &Person, token: Option<&str>) -> crate::harness::Answer {
    let mut request = person.registration("");
    request.token = token.map(str::to_owned);
    server.send(Method::POST, "/register", None, json(&request)).await
}

#[tokio::test]
async fn registration_follows_the_policy() {
    let closed = Server::start_with(|config| config.registration = Registration::Closed).await;
    register(&closed, &Person::new("alice"), Some(TOKEN)).await.refused(403, "M_FORBIDDEN");
    register(&closed, &Person::new("bridge"), Some(BRIDGE_TOKEN)).await.ok::<Session>();

    let token = Server::start().await;
    for wrong in [None, Some(""), Some("guess"), Some(BRIDGE_TOKEN)] {
        register(&token, &Person::new("alice"), wrong).await.refused(403, "M_FORBIDDEN");
    }
    let session: Session = register(&token, &Person::new("alice"), Some(TOKEN)).await.ok();
    assert_eq!(session.account.as_str(), "alice:a.example");

    let open = Server::start_with(|config| config.registration = Registration::Open).await;
    register(&open, &Person::new("alice"), None).await.ok::<Session>();
}

#[tokio::test]
async fn reserved_names_are_the_bridge_s_or_nobody_s() {
    let server = Server::start_with(|config| config.registration = Registration::Open).await;
    for name in ["bot", "bridge", "causeway", "_x", "_"] {
        for token in [None, Some(TOKEN)] {
            register(&server, &Person::new(name), token).await.refused(400, "M_EXCLUSIVE");
        }
    }
    for name in ["bot", "causeway", "_x"] {
        register(&server, &Person::new(name), Some(BRIDGE_TOKEN)).await.refused(400, "M_EXCLUSIVE");
    }
    let info: ServerInfo = server.send(Method::GET, "/server", None, vec![]).await.ok();
    assert_eq!((info.server.as_str(), info.bridge), (SERVER, None));
    let bridge = Person::new("bridge");
    register(&server, &bridge, Some(BRIDGE_TOKEN)).await.ok::<Session>();
    let info: ServerInfo = server.send(Method::GET, "/server", None, vec![]).await.ok();
    let shown = info.bridge.unwrap();
    assert_eq!((shown.account, shown.member_id), (bridge.account.clone(), bridge.member()));
    assert_eq!(shown.fingerprint, causeway_protocol::keys::fingerprint(&bridge.member()));
}

#[tokio::test]
async fn names_identities_and_devices_are_registered_once() {
    let server = Server::start().await;
    let alice = server.person("alice").await;
    register(&server, &Person::new("alice"), Some(TOKEN)).await.refused(400, "M_USER_IN_USE");
    register(&server, &alice, Some(TOKEN)).await.refused(400, "M_USER_IN_USE");
    // Another name with the same identity, and with the same device.
    let mut twin = Person::new("bob");
    twin.identity = alice.identity.clone();
    twin.record = record(&twin.identity, &twin.key);
    twin.list = list(&twin.identity, &twin.account, 1, vec![twin.device()]);
    register(&server, &twin, Some(TOKEN)).await.refused(400, "M_USER_IN_USE");
    let mut thief = Person::new("carol");
    thief.key = alice.key.clone();
    thief.record = record(&thief.identity, &thief.key);
    thief.list = list(&thief.identity, &thief.account, 1, vec![thief.device()]);
    register(&server, &thief, Some(TOKEN)).await.refused(400, "M_USER_IN_USE");
    alice.get(&server, "/accounts/bob:a.example").await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn what_does_not_verify_is_not_registered() {
    let server = Server::start().await;
    let change = |change: &dyn Fn(&mut causeway_protocol::api::RegisterRequest)| {
        let mut request = Person::new("alice").registration(TOKEN);
        change(&mut request);
        json(&request)
    };
    let other = Person::new("alice");
    let bad = [
        change(&|request| request.list.signature = other.list.signature),
        change(&|request| request.list.version = 2),
        change(&|request| request.list.devices.push(other.device())),
        change(&|request| request.list.created_ms.0 += 1),
        change(&|request| request.device.signature = other.record.signature),
        change(&|request| request.device.certificate = other.record.certificate),
        change(&|request| request.device.curve25519 = other.record.curve25519),
        change(&|request| request.fallback_key = other.one_time_key(9, true)),
        change(&|request| request.fallback_key.fallback = false),
        change(&|request| request.one_time_keys[1] = other.one_time_key(2, false)),
        change(&|request| request.one_time_keys[1].fallback = true),
        change(&|request| request.list.account = "alice:b.example".parse().unwrap()),
    ];
    for body in bad {
        server.send(Method::POST, "/register", None, body).await.refused(400, "M_INVALID_PARAM");
    }
    server.person("alice").await;
}

#[tokio::test]
async fn a_device_logs_in_with_a_nonce_that_it_signs_once() {
    let server = Server::start().await;
    let alice = server.person("alice").await;
    let session: Session = alice.login(&server).await.ok();
    assert_eq!(session.device_id, alice.device());
    alice.get(&server, "/groups").await.refused(401, "M_UNKNOWN_TOKEN");
    let alice = alice.with_token(session.access_token);
    alice.get(&server, "/groups").await.ok::<serde_json::Value>();

    let nonce = async || -> LoginNonce {
        server.send(Method::POST, "/login/nonce", None, b"{}".to_vec()).await.ok()
    };
    let request = |nonce: LoginNonce, signer: &Person, server: &str| {
        let bytes = login_bytes(server, &alice.device(), &nonce.nonce);
        let signature = sign(&signer.key, &bytes);
        LoginRequest { device_id: alice.device(), nonce: nonce.nonce, signature }
    };
    let post = async |request: &LoginRequest| {
        server.send(Method::POST, "/login", None, json(request)).await
    };
    let used = request(nonce().await, &alice, SERVER);
    let token = post(&used).await.ok::<Session>().access_token;
    post(&used).await.refused(403, "M_FORBIDDEN");
    // For another server, by another key, by nobody's device, with a made-up nonce.
    post(&request(nonce().await, &alice, "b.example")).await.refused(403, "M_FORBIDDEN");
    post(&request(nonce().await, &Person::new("x"), SERVER)).await.refused(403, "M_FORBIDDEN");
    let mut unknown = request(nonce().await, &alice, SERVER);
    unknown.device_id = Person::new("x").device();
    post(&unknown).await.refused(403, "M_FORBIDDEN");
    let invented = LoginNonce { nonce: causeway_protocol::ids::Nonce::new([7; 32]) };
    post(&request(invented, &alice, SERVER)).await.refused(403, "M_FORBIDDEN");
    let old = request(nonce().await, &alice, SERVER);
    server.pass_ms(60_001);
    post(&old).await.refused(403, "M_FORBIDDEN");
    let good = request(nonce().await, &alice, SERVER);
    server.pass_ms(60_000);
    post(&good).await.ok::<Session>();

    // The token of the login before is over with it.
    alice.with_token(token).get(&server, "/groups").await.refused(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn a_token_is_taken_from_the_header_and_ends_with_logout() {
    let server = Server::start().await;
    let alice = server.person("alice").await;
    let missing = server.send(Method::GET, "/groups", None, vec![]).await;
    missing.refused(401, "M_MISSING_TOKEN");
    let in_query = format!("/groups?access_token={}", alice.token);
    server.send(Method::GET, &in_query, None, vec![]).await.refused(401, "M_MISSING_TOKEN");
    let wrong = server.send(Method::GET, "/groups", Some("x"), vec![]).await;
    wrong.refused(401, "M_UNKNOWN_TOKEN");
    alice.post(&server, "/logout", &json!({})).await.done();
    alice.get(&server, "/groups").await.refused(401, "M_UNKNOWN_TOKEN");
    alice.login(&server).await.ok::<Session>();
}

#[tokio::test]
async fn tokens_are_not_in_the_database() {
    let server = Server::start().await;
    let alice = server.person("alice").await;
    let token = alice.token.clone();
    let dir = server.database().to_owned();
    let bytes: Vec<u8> = ["server.db", "server.db-wal"]
        .iter()
        .flat_map(|file| std::fs::read(dir.join(file)).unwrap_or_default())
        .collect();
    for secret in [token.as_bytes(), TOKEN.as_bytes(), BRIDGE_TOKEN.as_bytes()] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_device_list_only_goes_forward() {
    let server = Server::start().await;
    let [alice, bob] = [server.person("alice").await, server.person("bob").await];
    let phone = alice.second_device(&server).await;
    let session: Session = phone.login(&server).await.ok();
    let phone = phone.with_token(session.access_token);
    let both: AccountDevices = bob.get(&server, "/accounts/alice:a.example").await.ok();
    assert_eq!((both.list.version, both.devices.len()), (2, 2));
    causeway_protocol::device::verify_account(&both.list, &both.devices).unwrap();

    // The same again is fine; the former one is not, nor another of the same version.
    alice.put(&server, "/account/devices", &both).await.done();
    let former = AccountDevices { list: alice.list.clone(), devices: vec![alice.record.clone()] };
    alice.put(&server, "/account/devices", &former).await.refused(409, "DEV_CAUSEWAY_OLD_VERSION");
    let other = list(&alice.identity, &alice.account, 2, vec![alice.device()]);
    let other = AccountDevices { list: other, devices: vec![alice.record.clone()] };
    alice.put(&server, "/account/devices", &other).await.refused(409, "DEV_CAUSEWAY_OLD_VERSION");
    bob.put(&server, "/account/devices", &both).await.refused(403, "M_FORBIDDEN");

    // Without the phone: it is logged out at once, and cannot come back.
    let alone = list(&alice.identity, &alice.account, 3, vec![alice.device()]);
    let alone = AccountDevices { list: alone, devices: vec![alice.record.clone()] };
    let mut stream = phone.stream(&server).await;
    alice.put(&server, "/account/devices", &alone).await.done();
    assert_eq!(stream.close_code().await, 4_001);
    phone.get(&server, "/groups").await.refused(401, "M_UNKNOWN_TOKEN");
    phone.login(&server).await.refused(403, "DEV_CAUSEWAY_UNLISTED");

    // A device of somebody else's, and a list with a record too few.
    let key = signing_key();
    let mut ids = vec![alice.device(), bob.device()];
    ids.sort();
    let stolen = list(&alice.identity, &alice.account, 4, ids.clone());
    let mut records = vec![alice.record.clone(), record(&alice.identity, &bob.key)];
    records.sort_by_key(|record| record.device_id);
    let stolen = AccountDevices { list: stolen, devices: records };
    alice.put(&server, "/account/devices", &stolen).await.refused(400, "M_USER_IN_USE");
    let mut ids = vec![alice.device(), record(&alice.identity, &key).device_id];
    ids.sort();
    let short = list(&alice.identity, &alice.account, 4, ids);
    let short = AccountDevices { list: short, devices: vec![alice.record.clone()] };
    alice.put(&server, "/account/devices", &short).await.refused(400, "M_INVALID_PARAM");
    let now: AccountDevices = bob.get(&server, "/accounts/alice:a.example").await.ok();
    assert_eq!(now, alone);
}

#[tokio::test]
async fn one_time_keys_are_claimed_once_then_the_fallback() {
    let server = Server::start().await;
    let [alice, bob, carol] =
        [server.person("alice").await, server.person("bob").await, server.person("carol").await];
    let nobody = Person::new("x").device();
    let claim = async |person: &Person| -> ClaimedKeys {
        let body = json!({ "devices": [alice.device(), nobody] });
        person.post(&server, "/keys/claim", &body).await.ok()
    };
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..5 {
        let claimed = claim(if n % 2 == 0 { &bob } else { &carol }).await;
        assert_eq!(claimed.keys.len(), 1, "unknown devices are absent");
        let key = &claimed.keys[&alice.device()];
        key.verify(&alice.device()).unwrap();
        assert!(!key.fallback && seen.insert(key.key_id));
    }
    for _ in 0..2 {
        assert!(claim(&bob).await.keys[&alice.device()].fallback);
    }
    // What was claimed does not come back with an upload repeated; a new one does.
    let upload = async |numbers: &[u64]| -> KeyCount {
        let one_time_keys = numbers.iter().map(|n| alice.one_time_key(*n, false)).collect();
        let body = UploadKeys { one_time_keys, fallback_key: None, replace: false };
        alice.post(&server, "/keys", &body).await.ok()
    };
    assert_eq!(upload(&[1, 2, 3]).await.one_time_keys, 0);
    assert_eq!(upload(&[3, 6, 7]).await.one_time_keys, 2);
    assert_eq!(claim(&carol).await.keys[&alice.device()].key_id.as_bytes()[7], 6);
    let one_time_keys = vec![bob.one_time_key(8, false)];
    let foreign = UploadKeys { one_time_keys, fallback_key: None, replace: false };
    alice.post(&server, "/keys", &foreign).await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn of_many_each_is_claimed_by_itself() {
    let server = Server::start_with(|config| config.claims_per_hour = 2).await;
    let bob = server.person("bob").await;
    let mut all = Vec::new();
    for n in 0..30 {
        all.push(server.person(&format!("p{n}")).await);
    }
    let claim = async |some: &[Person]| -> ClaimedKeys {
        // Who is named twice is claimed once.
        let devices: Vec<_> = some.iter().chain(&some[..1]).map(Person::device).collect();
        bob.post(&server, "/keys/claim", &json!({ "devices": devices })).await.ok()
    };
    // Of the first there is none but the fallback; of the second two were claimed within the hour.
    let none = UploadKeys { one_time_keys: vec![], fallback_key: None, replace: true };
    all[0].post(&server, "/keys", &none).await.ok::<KeyCount>();
    for _ in 0..2 {
        assert!(!claim(&all[1..2]).await.keys[&all[1].device()].fallback);
    }
    for number in 1..=2 {
        let claimed = claim(&all).await.keys;
        assert_eq!(claimed.len(), all.len());
        for (n, one) in all.iter().enumerate() {
            let key = &claimed[&one.device()];
            key.verify(&one.device()).unwrap();
            assert_eq!(key.fallback, n < 2, "{n}");
            assert!(key.fallback || key.key_id.as_bytes()[7] == number, "{n}: each once");
        }
    }
}

/// Protocol §1: a one-time key and the fallback key may have one number, which nobody takes for one key.
#[tokio::test]
async fn one_time_keys_and_fallback_keys_are_counted_apart() {
    let server = Server::start().await;
    let [alice, bob] = [server.person("alice").await, server.person("bob").await];
    let one_time_keys = vec![alice.one_time_key(0, false)];
    let fallback_key = Some(alice.one_time_key(0, true));
    let body = UploadKeys { one_time_keys, fallback_key, replace: true };
    let count: KeyCount = alice.post(&server, "/keys", &body).await.ok();
    assert_eq!(count.one_time_keys, 1);
    for expected in [&body.one_time_keys[0], body.fallback_key.as_ref().unwrap()] {
        let asked = json!({ "devices": [alice.device()] });
        let claimed: ClaimedKeys = bob.post(&server, "/keys/claim", &asked).await.ok();
        assert_eq!(&claimed.keys[&alice.device()], expected);
    }
}

#[tokio::test]
async fn keys_that_a_device_has_lost_are_given_to_nobody() {
    let server = Server::start().await;
    let [alice, bob] = [server.person("alice").await, server.person("bob").await];
    let claim = async || -> (u8, bool) {
        let body = json!({ "devices": [alice.device()] });
        let claimed: ClaimedKeys = bob.post(&server, "/keys/claim", &body).await.ok();
        let key = &claimed.keys[&alice.device()];
        (key.key_id.as_bytes()[7], key.fallback)
    };
    assert_eq!(claim().await, (1, false));
    // The first has been claimed, and stays so whoever names it again.
    let one_time_keys = [1, 71, 72].map(|n| alice.one_time_key(n, false)).to_vec();
    let fallback_key = Some(alice.one_time_key(73, true));
    let body = UploadKeys { one_time_keys, fallback_key, replace: true };
    for _ in 0..2 {
        let count: KeyCount = alice.post(&server, "/keys", &body).await.ok();
        assert_eq!(count.one_time_keys, 2);
    }
    assert_eq!([claim().await, claim().await], [(71, false), (72, false)]);
    assert_eq!(claim().await, (73, true));
    // Whoever owns them is told which they are.
    let own: OwnDevice = alice.get(&server, "/device").await.ok();
    assert_eq!(
        own.keys,
        Some(OwnKeys { fallback_key: body.fallback_key.map(|key| key.curve25519) })
    );
}

#[tokio::test]
async fn nobody_can_use_up_another_s_keys() {
    let server = Server::start_with(|config| config.claims_per_hour = 2).await;
    let [alice, bob, carol] =
        [server.person("alice").await, server.person("bob").await, server.person("carol").await];
    let claim = async |person: &Person| -> bool {
        let body = json!({ "devices": [alice.device()] });
        let claimed: ClaimedKeys = person.post(&server, "/keys/claim", &body).await.ok();
        claimed.keys[&alice.device()].fallback
    };
    assert_eq!([claim(&bob).await, claim(&bob).await, claim(&bob).await], [false, false, true]);
    assert!(!claim(&carol).await, "others' are still there");
    server.pass_ms(3_600_000);
    assert!(!claim(&bob).await);
}

#[tokio::test]
async fn a_hundred_claims_at_once_get_each_key_once() {
    let server = Server::start_with(|config| config.claims_per_hour = 1_000).await;
    let alice = server.person("alice").await;
    let bob = server.person("bob").await;
    let body = json!({ "devices": [alice.device()] });
    let claims = (0..100).map(|_| bob.post(&server, "/keys/claim", &body));
    let mut seen = std::collections::BTreeSet::new();
    for answer in futures_util::future::join_all(claims).await {
        let key = answer.ok::<ClaimedKeys>().keys[&alice.device()].clone();
        assert!(key.fallback || seen.insert(key.key_id));
    }
    assert_eq!(seen.len(), 5);
}
