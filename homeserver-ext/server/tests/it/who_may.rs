//! Who may do what: every endpoint by every kind of caller.

use causeway_protocol::{
    api::{
        AccountDevices, ClaimRequest, JoinPending, NewInvite, OpBytes, PutSenderKeys, Session,
        UploadKeys,
    },
    envelope::Submission,
    ids::{InviteKey, text_of},
    roster::Body,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{BRIDGE_TOKEN, Group, Person, Server, TOKEN, op_body, signing_key};

/// Callers, in the order of the table's columns.
const CALLERS: [&str; 12] = [
    "nobody",         // no token
    "made up",        // a token of nobody
    "logged out",     // a token that was ended
    "people's token", // that opens registration
    "bridge's token", // that registers the bridge
    "off the list",   // a device that its account has taken off its list
    "stranger",       // in no group
    "asks",           // in no group, with a request to join that waits
    "taken out",      // of the group
    "other device",   // of the admin, on her list and in no roster yet
    "member",
    "admin",
];

/// What each is answered: first the six without a device behind their token, then a stranger, who asks,
/// who was taken out, the other device, a member, an admin.
const TABLE: [(&str, [u16; 7]); 52] = [
    ("GET /server", [200, 200, 200, 200, 200, 200, 200]),
    ("POST /login/nonce", [200, 200, 200, 200, 200, 200, 200]),
    ("POST /login", [403, 403, 403, 403, 403, 403, 403]),
    ("POST /recover", [403, 403, 403, 403, 403, 403, 403]),
    // By the identity's signature alone, whoever posts it; this list is the one that is known.
    ("PUT /recover/devices", [204, 204, 204, 204, 204, 204, 204]),
    // Whoever has the text knows the place; an answer is somebody's who has a session.
    ("PUT /links/{id}", [204, 204, 204, 204, 204, 204, 204]),
    ("GET /links/{id}", [200, 200, 200, 200, 200, 200, 200]),
    ("PUT /links/{id}/answer", [401, 204, 204, 204, 204, 204, 204]),
    ("PUT /links/{id}/record", [204, 204, 204, 204, 204, 204, 204]),
    ("GET /accounts/{alice}", [401, 200, 200, 200, 200, 200, 200]),
    ("POST /keys", [401, 400, 400, 400, 400, 400, 200]),
    ("POST /keys/claim", [401, 200, 200, 200, 200, 200, 200]),
    ("GET /groups", [401, 200, 200, 200, 200, 200, 200]),
    ("POST /groups", [401, 404, 404, 200, 200, 200, 200]),
    ("GET /device", [401, 200, 200, 200, 200, 200, 200]),
    // For the bridge's device alone.
    ("PUT /device/kept", [401, 403, 403, 403, 403, 403, 403]),
    ("POST /device/kept", [401, 403, 403, 403, 403, 403, 403]),
    ("GET /device/parked", [401, 200, 200, 200, 200, 200, 200]),
    ("POST /device/unpark", [401, 200, 200, 200, 200, 200, 200]),
    ("GET /stream", [401, 400, 400, 400, 400, 400, 400]),
    ("GET /groups/{g}", [401, 404, 404, 404, 200, 200, 200]),
    ("GET /groups/{g}/servers", [401, 404, 404, 404, 200, 200, 200]),
    ("GET /groups/{g}/roster", [401, 404, 404, 200, 200, 200, 200]),
    ("POST /groups/{g}/roster", [401, 404, 404, 200, 200, 200, 200]),
    ("GET /groups/{g}/invites", [401, 404, 404, 404, 404, 403, 200]),
    ("POST /groups/{g}/invites", [401, 404, 404, 404, 404, 403, 204]),
    ("DELETE /groups/{g}/invites/{none}", [401, 404, 404, 404, 404, 403, 404]),
    ("POST /groups/{g}/join", [401, 403, 200, 403, 403, 403, 403]),
    ("GET /groups/{g}/requests", [401, 404, 404, 404, 404, 403, 200]),
    ("DELETE /groups/{g}/requests/{none}", [401, 404, 404, 404, 404, 403, 204]),
    ("POST /groups/{g}/envelopes", [401, 404, 404, 404, 404, 200, 200]),
    ("GET /groups/{g}/sender-keys", [401, 404, 404, 404, 404, 200, 200]),
    ("PUT /groups/{g}/sender-keys", [401, 404, 404, 404, 404, 200, 200]),
    ("DELETE /groups/{g}/sender-keys", [401, 404, 404, 404, 404, 403, 204]),
    // Bob begins it, and alice is in it with him.
    ("POST /groups/{g}/calls", [401, 404, 404, 404, 404, 200, 200]),
    ("GET /groups/{g}/calls", [401, 404, 404, 404, 404, 200, 200]),
    ("GET /groups/{g}/calls/{id}", [401, 404, 404, 404, 404, 200, 200]),
    ("POST /groups/{g}/calls/{id}/join", [401, 404, 404, 404, 404, 200, 200]),
    ("POST /groups/{g}/calls/{id}/report", [401, 404, 404, 404, 404, 200, 200]),
    ("POST /groups/{g}/calls/{id}/set", [401, 404, 404, 404, 404, 200, 200]),
    ("GET /groups/{g}/calls/{id}/mesh", [401, 404, 404, 404, 404, 200, 200]),
    // There is no server for calls.
    ("POST /groups/{g}/calls/{id}/sfu", [401, 404, 404, 404, 404, 503, 503]),
    // Alone in the call.
    ("POST /groups/{g}/calls/{id}/upgrade", [401, 404, 404, 404, 404, 403, 403]),
    ("POST /groups/{g}/calls/{id}/decline", [401, 404, 404, 404, 404, 200, 200]),
    ("POST /groups/{g}/calls/{id}/leave", [401, 404, 404, 404, 404, 200, 200]),
    ("POST /groups/{g}/calls/{id}/end", [401, 404, 404, 404, 404, 200, 200]),
    ("GET /messages/{alice's}/status", [401, 404, 404, 404, 404, 404, 200]),
    ("GET /events", [401, 200, 200, 200, 200, 200, 200]),
    // Who was taken out sees what was his.
    ("GET /events?group={g}", [401, 404, 404, 200, 200, 200, 200]),
    ("GET /events/stream?group={none}", [401, 404, 404, 404, 404, 404, 404]),
    ("GET /groups/{none}", [401, 404, 404, 404, 404, 404, 404]),
    // Last: the list that it puts has no other device.
    ("PUT /account/devices", [401, 403, 403, 403, 204, 403, 204]),
];

struct Stage {
    server: Server,
    group: Group,
    alice: Person,
    invite: ed25519_dalek::SigningKey,
    said: String,
    callers: Vec<(Option<String>, Option<Person>)>,
}

async fn logged_in(server: &Server, person: &Person) -> Person {
    let session: Session = person.login(server).await.ok();
    person.clone().with_token(session.access_token)
}

async fn stage() -> Stage {
    let server = Server::start().await;
    let (mut group, [alice, bob, carol]) = server.group(["alice", "bob", "carol"]).await;
    let (stranger, asks) = (server.person("stranger").await, server.person("asks").await);
    group.post(&server, &alice, &Body::Remove(vec![carol.member()])).await;
    let gone = server.person("gone").await;
    gone.post(&server, "/logout", &json!({})).await.done();
    // Her second device is listed; of another account a device was, and is not any more.
    let other = logged_in(&server, &alice.second_device(&server).await).await;
    let dave = server.person("dave").await;
    let dropped = logged_in(&server, &dave.second_device(&server).await).await;
    let list = crate::harness::list(&dave.identity, &dave.account, 3, vec![dave.device()]);
    let body = AccountDevices { list, devices: vec![dave.record.clone()] };
    dave.put(&server, "/account/devices", &body).await.done();
    let invite = signing_key();
    let ik_pub = InviteKey::new(invite.verifying_key().to_bytes());
    let terms = NewInvite { ik_pub, expires_ms: server.now().plus_ms(600_000), uses: 9 };
    alice.post(&server, &group.path("/invites"), &terms).await.done();
    let join = asks.join(&server, group.id(), &invite);
    asks.post_join(&server, group.id(), &join).await.ok::<JoinPending>();
    let said = alice.say(&server, &group, &["hello"]).await.accepted[0].id.to_string();
    let token = |person: &Person| Some(person.token.clone());
    let is = |person: &Person| (token(person), Some(person.clone()));
    let callers = vec![
        (None, None),
        (Some(text_of(&[7; 32])), None),
        (token(&gone), None),
        (Some(TOKEN.to_owned()), None),
        (Some(BRIDGE_TOKEN.to_owned()), None),
        (token(&dropped), None),
        is(&stranger),
        is(&asks),
        is(&carol),
        is(&other),
        is(&bob),
        is(&alice),
    ];
    Stage { server, group, alice, invite, said, callers }
}

impl Stage {
    /// The request of a row as `person` makes it, who has every right to what he can have a right to.
    fn request(&self, row: &str, person: &Person) -> (Method, String, Value) {
        let (method, path) = row.split_once(' ').unwrap();
        let none = text_of(&[9; 32]);
        let id = text_of(&[9; 16]);
        let body = match row {
            "POST /login" => {
                let (device_id, signature) = (person.device(), text_of(&[1; 64]));
                json!({ "device_id": device_id, "nonce": none, "signature": signature })
            }
            "PUT /account/devices" => {
                let records = vec![self.alice.record.clone()];
                let list = crate::harness::list(
                    &self.alice.identity,
                    &self.alice.account,
                    self.next_version(person),
                    vec![self.alice.device()],
                );
                json!(AccountDevices { list, devices: records })
            }
            "POST /recover" => {
                let (identity, signature) = (person.member(), text_of(&[1; 64]));
                json!({ "device_id": identity, "nonce": none, "signature": signature })
            }
            "PUT /recover/devices" => {
                let other = self.callers[9].1.as_ref().unwrap();
                let mut devices = vec![self.alice.record.clone(), other.record.clone()];
                devices.sort_by_key(|record| record.device_id);
                json!(AccountDevices { list: other.list.clone(), devices })
            }
            "PUT /links/{id}/answer" => json!({ "answer": id }),
            "PUT /links/{id}/record" => json!(self.alice.record),
            "POST /keys" => json!(UploadKeys {
                one_time_keys: vec![self.alice.one_time_key(77, false)],
                fallback_key: None,
                replace: false,
            }),
            "POST /device/kept" => json!({ "generation": id, "after": 0 }),
            // What is parked of hers: for nobody but who asks.
            "POST /device/unpark" => {
                json!({ "group": self.group.id(), "sender": self.alice.device() })
            }
            "POST /keys/claim" => json!(ClaimRequest { devices: vec![self.alice.device()] }),
            "POST /groups" => op_body(&self.group.ops[0]),
            "POST /groups/{g}/roster" => op_body(&self.group.ops[1]),
            "POST /groups/{g}/invites" => {
                let ik_pub = InviteKey::new(signing_key().verifying_key().to_bytes());
                let expires_ms = self.server.now().plus_ms(60_000);
                json!(NewInvite { ik_pub, expires_ms, uses: 1 })
            }
            // Who holds the link, and somebody else's request.
            "POST /groups/{g}/join" => {
                let asks = self.callers[7].1.as_ref().unwrap();
                let join = asks.join(&self.server, self.group.id(), &self.invite);
                json!({ "request": OpBytes(join.to_bytes().unwrap()) })
            }
            "POST /groups/{g}/envelopes" => {
                let epoch = self.group.roster.epoch().0;
                let message: Submission = person.message(self.group.id(), epoch, &person.token);
                json!({ "envelopes": [message] })
            }
            "POST /groups/{g}/calls" => json!({ "call": id, "intent": "audio", "caps": ["mesh"] }),
            "POST /groups/{g}/calls/{id}/join" => json!({ "caps": ["mesh"] }),
            "POST /groups/{g}/calls/{id}/report" => json!({ "epoch": 0, "connected": [] }),
            "POST /groups/{g}/calls/{id}/sfu" => json!({ "epoch": 0 }),
            "POST /groups/{g}/calls/{id}/upgrade" => json!({ "with": text_of(&[9; 32]) }),
            "PUT /groups/{g}/sender-keys" => {
                json!(PutSenderKeys {
                    keys: Vec::new(),
                    failures: std::collections::BTreeMap::new()
                })
            }
            _ => json!({}),
        };
        let short = path.contains("/requests/");
        let path = path
            .replace("{g}", &self.group.id().to_string())
            .replace("{alice}", "alice%3Aa.example")
            .replace("{alice's}", &self.said)
            .replace("{id}", &id)
            .replace("{none}", if short { &id } else { &none });
        (method.parse().unwrap(), path, body)
    }

    /// Each list of hers is newer than the one before.
    fn next_version(&self, person: &Person) -> u32 {
        let is_alice = person.key == self.alice.key;
        if is_alice { 4 } else { 3 }
    }
}

#[tokio::test]
async fn every_endpoint_answers_every_kind_of_caller_as_the_table_says() {
    let stage = stage().await;
    let mut wrong = Vec::new();
    for (row, expected) in TABLE {
        for (at, (token, person)) in stage.callers.iter().enumerate() {
            let expected = expected[at.saturating_sub(5)];
            let (method, path, body) = stage.request(row, person.as_ref().unwrap_or(&stage.alice));
            let body = if matches!(method, Method::GET | Method::DELETE) {
                Vec::new()
            } else {
                serde_json::to_vec(&body).unwrap()
            };
            let answer = stage.server.send(method, &path, token.as_deref(), body).await;
            if answer.status.as_u16() != expected {
                let (is, text) = (answer.status.as_u16(), answer.text());
                wrong.push(format!("{row} by {}: {is}, not {expected}: {text}", CALLERS[at]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
