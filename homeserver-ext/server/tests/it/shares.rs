//! What one account may add, and that another is not hurt by it.

use causeway_protocol::{
    api::{AccountDevices, ClaimedKeys, GroupHead, KeyCount, Session, UploadKeys},
    ids::GroupId,
    roster::{Body, Op, Policy},
};
use causeway_server::{AccountQuotas, Quota};

use crate::harness::{Answer, Group, Person, Server, op_body, policy};

const MINUTE_MS: u64 = 60_000;

const fn quota(per_minute: u32, burst: u32) -> Quota {
    Quota { per_minute, burst }
}

const NONE: AccountQuotas =
    AccountQuotas { ops: None, op_kib: None, groups: None, keys: None, claims: None, lists: None };

fn described(group: &Group, signer: &Person, description: &str) -> Op {
    let policy = Policy { description: description.to_owned(), ..policy() };
    group.op(signer, &Body::Policy(policy))
}

async fn post(server: &Server, who: &Person, group: GroupId, op: &Op) -> Answer {
    who.post(server, &format!("/groups/{group}/roster"), &op_body(op)).await
}

#[tokio::test]
async fn ops_of_one_account_are_limited_over_all_its_devices_and_others_go_on() {
    let accounts = AccountQuotas { ops: Some(quota(2, 3)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (mut group, [mallory, alice]) = server.group(["mallory", "alice"]).await;
    // The op that let Alice in was the first.
    for name in ["one", "two"] {
        let op = described(&group, &mallory, name);
        post(&server, &mallory, group.id(), &op).await.ok::<GroupHead>();
        group.install(op);
    }
    let over = described(&group, &mallory, "three");
    let before = server.rows().await;
    let refusal = post(&server, &mallory, group.id(), &over).await.refused(429, "M_LIMIT_EXCEEDED");
    assert_eq!(refusal.retry_after_ms, Some(MINUTE_MS / 2));
    assert!(refusal.error.contains("native.ops"), "{}", refusal.error);
    server.assert_unchanged(&before).await;
    // Another device of hers has nothing left either.
    let second = mallory.second_device(&server).await;
    let session: Session = second.login(&server).await.ok();
    let second = second.with_token(session.access_token);
    post(&server, &second, group.id(), &over).await.refused(429, "M_LIMIT_EXCEEDED");
    // What is there already is answered as before.
    post(&server, &mallory, group.id(), group.ops.last().unwrap()).await.ok::<GroupHead>();
    // Alice has a share of her own, and may even post what Mallory could not.
    post(&server, &alice, group.id(), &over).await.ok::<GroupHead>();
    group.install(over);
    server.pass_ms(MINUTE_MS / 2);
    let next = described(&group, &mallory, "four");
    post(&server, &mallory, group.id(), &next).await.ok::<GroupHead>();
}

#[tokio::test]
async fn what_is_refused_counts_and_so_do_bytes() {
    let accounts = AccountQuotas { ops: Some(quota(1, 4)), op_kib: Some(quota(8, 64)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (mut group, [mallory, alice]) = server.group(["mallory", "alice"]).await;
    let long = described(&group, &mallory, &"x".repeat(40_000));
    post(&server, &mallory, group.id(), &long).await.ok::<GroupHead>();
    group.install(long);
    let longer = described(&group, &mallory, &"y".repeat(40_000));
    let refusal =
        post(&server, &mallory, group.id(), &longer).await.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refusal.error.contains("native.op_kib"), "{}", refusal.error);
    // On a roster of before: refused, and counted.
    let behind = described(&Group::begun(group.ops[0].clone()), &mallory, "z");
    post(&server, &mallory, group.id(), &behind).await.refused(409, "M_STALE_EPOCH");
    let refusal =
        post(&server, &mallory, group.id(), &behind).await.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refusal.error.contains("native.ops"), "{}", refusal.error);
    let leave = group.op(&alice, &Body::Leave);
    post(&server, &alice, group.id(), &leave).await.ok::<GroupHead>();
}

#[tokio::test]
async fn an_account_begins_so_many_groups_and_another_as_many() {
    let accounts = AccountQuotas { groups: Some(quota(1, 2)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (mallory, alice) = (server.person("mallory").await, server.person("alice").await);
    let first = Group::create(&server, &mallory).await;
    Group::create(&server, &mallory).await;
    let before = server.rows().await;
    let third = op_body(&Group::first_op(&mallory));
    let refusal = mallory.post(&server, "/groups", &third).await.refused(429, "M_LIMIT_EXCEEDED");
    assert_eq!(refusal.retry_after_ms, Some(MINUTE_MS));
    assert!(refusal.error.contains("native.new_groups"), "{}", refusal.error);
    server.assert_unchanged(&before).await;
    // One that is there is answered again: so clients find out what a restored server has lost.
    mallory.post(&server, "/groups", &op_body(&first.ops[0])).await.ok::<GroupHead>();
    Group::create(&server, &alice).await;
    server.pass_ms(MINUTE_MS);
    mallory.post(&server, "/groups", &third).await.ok::<GroupHead>();
}

#[tokio::test]
async fn keys_are_counted_one_by_one() {
    let accounts = AccountQuotas { keys: Some(quota(10, 20)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (mallory, alice) = (server.person("mallory").await, server.person("alice").await);
    let upload = |who: &Person, from: u64, count: u64| UploadKeys {
        one_time_keys: (from..from + count).map(|n| who.one_time_key(n, false)).collect(),
        fallback_key: None,
        replace: false,
    };
    mallory.post(&server, "/keys", &upload(&mallory, 100, 15)).await.ok::<KeyCount>();
    let before = server.rows().await;
    let more = upload(&mallory, 200, 10);
    let refusal = mallory.post(&server, "/keys", &more).await.refused(429, "M_LIMIT_EXCEEDED");
    assert_eq!(refusal.retry_after_ms, Some(MINUTE_MS / 2));
    assert!(refusal.error.contains("native.key_uploads"), "{}", refusal.error);
    server.assert_unchanged(&before).await;
    alice.post(&server, "/keys", &upload(&alice, 100, 15)).await.ok::<KeyCount>();
    server.pass_ms(MINUTE_MS / 2);
    mallory.post(&server, "/keys", &more).await.ok::<KeyCount>();
}

#[tokio::test]
async fn what_is_claimed_counts_by_account_whichever_device_asks() {
    let server = Server::start_with(|config| config.claims_per_hour = 2).await;
    let (alice, mallory) = (server.person("alice").await, server.person("mallory").await);
    let second = mallory.second_device(&server).await;
    let session: Session = second.login(&server).await.ok();
    let second = second.with_token(session.access_token);
    let body = serde_json::json!({ "devices": [alice.device()] });
    let mut is_fallback = Vec::new();
    for who in [&mallory, &second, &mallory, &second] {
        let claimed: ClaimedKeys = who.post(&server, "/keys/claim", &body).await.ok();
        is_fallback.push(claimed.keys[&alice.device()].fallback);
    }
    assert_eq!(is_fallback, [false, false, true, true]);
}

#[tokio::test]
async fn claims_and_device_lists_of_one_account_end_and_others_go_on() {
    let accounts = AccountQuotas { claims: Some(quota(1, 3)), lists: Some(quota(1, 2)), ..NONE };
    let server = Server::start_with(|config| config.accounts = accounts).await;
    let (alice, mallory) = (server.person("alice").await, server.person("mallory").await);
    let body = serde_json::json!({ "devices": [alice.device()] });
    for _ in 0..3 {
        mallory.post(&server, "/keys/claim", &body).await.ok::<ClaimedKeys>();
    }
    let refused = mallory.post(&server, "/keys/claim", &body).await;
    let refused = refused.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refused.error.contains("native.claims"), "{}", refused.error);
    let body = serde_json::json!({ "devices": [mallory.device()] });
    alice.post(&server, "/keys/claim", &body).await.ok::<ClaimedKeys>();

    mallory.second_device(&server).await;
    let before = server.rows().await;
    let body = AccountDevices { list: mallory.list.clone(), devices: vec![mallory.record.clone()] };
    mallory.put(&server, "/account/devices", &body).await.refused(409, "DEV_CAUSEWAY_OLD_VERSION");
    let refused = mallory.put(&server, "/account/devices", &body).await;
    let refused = refused.refused(429, "M_LIMIT_EXCEEDED");
    assert!(refused.error.contains("native.device_lists"), "{}", refused.error);
    server.assert_unchanged(&before).await;
    alice.second_device(&server).await;
}
