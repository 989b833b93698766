//! The routes back to an account: the identity key opens them, and nothing else does.

use causeway_protocol::{
    api::{AccountDevices, GroupHead, GroupPage, LoginNonce, LoginRequest, Session},
    device::login_bytes,
    ids::{DeviceId, Signature, Timestamp},
    roster::{Body, Devices, OpCore},
};
use ed25519_dalek::SigningKey;
use reqwest::Method;

use crate::harness::{
    Answer, Person, SERVER, Server, json, list, op_body, record, sign, signing_key,
};

async fn prove(server: &Server, identity: &SigningKey, by: &SigningKey, at: &str) -> Answer {
    let nonce: LoginNonce =
        server.send(Method::POST, "/login/nonce", None, b"{}".to_vec()).await.ok();
    let device_id = DeviceId::new(identity.verifying_key().to_bytes());
    let signature = sign(by, &login_bytes(at, &device_id, &nonce.nonce));
    let request = LoginRequest { device_id, nonce: nonce.nonce, signature };
    let answer = server.send(Method::POST, "/recover", None, json(&request)).await;
    // A nonce is good once, whatever came of it.
    let again = server.send(Method::POST, "/recover", None, json(&request)).await;
    again.refused(403, "M_FORBIDDEN");
    answer
}

async fn put(server: &Server, devices: &AccountDevices) -> Answer {
    server.send(Method::PUT, "/recover/devices", None, json(devices)).await
}

/// A device of the account with this identity, alone on a list of this version.
fn alone(person: &Person, identity: &SigningKey, version: u32) -> (Person, AccountDevices) {
    let key = signing_key();
    let record = record(identity, &key);
    let list = list(identity, &person.account, version, vec![record.device_id]);
    let devices = AccountDevices { list: list.clone(), devices: vec![record.clone()] };
    (Person { key, record, list, ..person.clone() }, devices)
}

#[tokio::test]
async fn an_identity_is_shown_its_devices_and_nobody_elses() {
    let server = Server::start().await;
    let alice = server.person("alice").await;
    let shown: AccountDevices = prove(&server, &alice.identity, &alice.identity, SERVER).await.ok();
    assert_eq!((shown.list, shown.devices), (alice.list.clone(), vec![alice.record.clone()]));
    let stranger = signing_key();
    for (identity, by, at) in [
        (&alice.identity, &stranger, SERVER),
        (&alice.identity, &alice.key, SERVER),
        (&alice.identity, &alice.identity, "b.example"),
        (&stranger, &stranger, SERVER),
        (&alice.key, &alice.key, SERVER),
    ] {
        prove(&server, identity, by, at).await.refused(403, "M_FORBIDDEN");
    }
}

#[tokio::test]
async fn a_list_by_the_identity_replaces_all_devices_and_ends_their_sessions() {
    let server = Server::start().await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    // Not by her identity, of nobody's account, and no newer than hers.
    let (_, forged) = alone(&alice, &bob.identity, 2);
    put(&server, &forged).await.refused(403, "M_FORBIDDEN");
    let (_, mut unsigned) = alone(&alice, &alice.identity, 2);
    unsigned.list.signature = bob.list.signature;
    put(&server, &unsigned).await.refused(400, "M_INVALID_PARAM");
    let (_, nobodys) = alone(&Person::new("nobody"), &signing_key(), 2);
    put(&server, &nobodys).await.refused(403, "M_FORBIDDEN");
    let (_, old) = alone(&alice, &alice.identity, 1);
    put(&server, &old).await.refused(409, "DEV_CAUSEWAY_OLD_VERSION");
    alice.get(&server, "/groups").await.ok::<serde_json::Value>();

    let (new, devices) = alone(&alice, &alice.identity, 2);
    for _ in 0..2 {
        put(&server, &devices).await.done();
    }
    alice.get(&server, "/groups").await.refused(401, "M_UNKNOWN_TOKEN");
    alice.login(&server).await.refused(403, "DEV_CAUSEWAY_UNLISTED");
    new.login(&server).await.ok::<serde_json::Value>();
    // Whoever saw it cannot bring the former list back.
    let former = AccountDevices { list: alice.list.clone(), devices: vec![alice.record.clone()] };
    put(&server, &former).await.refused(409, "DEV_CAUSEWAY_OLD_VERSION");
}

#[tokio::test]
async fn the_new_device_brings_itself_in_and_posts_nothing_before() {
    let server = Server::start().await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let (new, devices) = alone(&bob, &bob.identity, 2);
    put(&server, &devices).await.done();
    let session: Session = new.login(&server).await.ok();
    let new = new.with_token(session.access_token);
    let early = new.message(group.id(), group.roster.epoch().0, "early");
    new.submit(&server, vec![early]).await.refused(404, "M_NOT_FOUND");
    let mine: GroupPage = new.get(&server, "/groups").await.ok();
    assert_eq!(mine.groups.len(), 1);
    let list = Devices { version: 2, ids: vec![new.device()] };
    let core = OpCore::by_identity(&group.roster, bob.member(), Timestamp(3), list).unwrap();
    let signature = sign(&bob.identity, &core.signed_bytes().unwrap());
    let op = core.sealed(Signature::new([0; 64]), signature).unwrap();
    new.post(&server, &group.path("/roster"), &op_body(&op)).await.ok::<GroupHead>();
    group.install(op);
    assert_eq!(new.say(&server, &group, &["here"]).await.accepted.len(), 1);
    // Who was taken out of the group comes back to nothing.
    group.post(&server, &alice, &Body::Remove(vec![bob.member()])).await;
    let (third, devices) = alone(&bob, &bob.identity, 3);
    put(&server, &devices).await.done();
    let session: Session = third.login(&server).await.ok();
    let third = third.with_token(session.access_token);
    third.get(&server, &format!("/groups/{}", group.id())).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn a_session_without_the_identity_does_not_keep_the_owner_from_coming_back() {
    let server = Server::start().await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let (_, mut forged) = alone(&alice, &alice.identity, 2);
    forged.list.signature = bob.list.signature;
    for _ in 0..80 {
        alice.put(&server, "/account/devices", &forged).await.refused(400, "M_INVALID_PARAM");
    }
    // Nor does anybody who has seen the list that she signed, and has no records for it, or false ones.
    let (_, devices) = alone(&alice, &alice.identity, 2);
    let mut others = devices.clone();
    others.devices[0].signature = bob.list.signature;
    for n in 0..80 {
        if n == 40 {
            others.devices.clear();
        }
        put(&server, &others).await.refused(400, "M_INVALID_PARAM");
    }
    put(&server, &devices).await.done();
    alice.get(&server, "/groups").await.refused(401, "M_UNKNOWN_TOKEN");
}
