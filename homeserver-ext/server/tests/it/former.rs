//! What is left of devices that are gone, and of keys that were claimed, ends after a month.

use std::time::Duration;

use causeway_protocol::{
    api::{Accepted, AccountDevices, ClaimRequest, ClaimedKeys, KeyCount, OpPage, UploadKeys},
    envelope::{Kind, SubmittedTo},
    roster::{Body, Devices},
};
use causeway_store::Conn;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::harness::{Person, Server, list};

const MONTH_MS: u64 = 31 * 86_400_000;

async fn count(server: &Server, rows: &str) -> i64 {
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(server.database().join("server.db"));
    let mut conn = Conn::connect_with(&options).await.unwrap();
    let sql = AssertSqlSafe(format!("SELECT count(*) FROM {rows}"));
    sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap()
}

/// Notes what is former now, and forgets it when its time is over.
async fn a_month_later(server: &Server) {
    server.app.upkeep().await.unwrap();
    server.pass_ms(MONTH_MS + 1);
    server.app.upkeep().await.unwrap();
}

#[tokio::test]
async fn what_is_former_at_a_start_is_not_former_since_ever() {
    let server = Server::start().await;
    let (mut group, [_alice, bob]) = server.group(["alice", "bob"]).await;
    group.post(&server, &bob, &Body::Leave).await;
    // No two looks at the clock agree yet.
    server.app.upkeep_for_certain(Duration::ZERO).await.unwrap();
    server.app.upkeep().await.unwrap();
    assert_eq!(count(&server, "group_devices WHERE until_epoch IS NOT NULL").await, 1);
    a_month_later(&server).await;
    assert_eq!(count(&server, "group_devices WHERE until_epoch IS NOT NULL").await, 0);
}

#[tokio::test]
async fn claimed_keys_are_forgotten_and_never_taken_again() {
    let server = Server::start().await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let keys: Vec<_> = (11..=15).map(|n| bob.one_time_key(n, false)).collect();
    let upload = UploadKeys { one_time_keys: keys, fallback_key: None, replace: false };
    bob.post(&server, "/keys", &upload).await.ok::<KeyCount>();
    // Five of registration, and two of these.
    for _ in 0..7 {
        let claim = ClaimRequest { devices: vec![bob.device()] };
        alice.post(&server, "/keys/claim", &claim).await.ok::<ClaimedKeys>();
    }
    server.app.upkeep().await.unwrap();
    assert_eq!(count(&server, "one_time_keys WHERE claimed_ms IS NOT NULL").await, 7);
    a_month_later(&server).await;
    assert_eq!(count(&server, "one_time_keys WHERE claimed_ms IS NOT NULL").await, 0);
    let left: KeyCount = bob.post(&server, "/keys", &upload).await.ok();
    assert_eq!(left.one_time_keys, 3, "those that nobody has claimed");
}

#[tokio::test]
async fn a_device_off_its_list_goes_with_all_that_waits_for_it() {
    let server = Server::start().await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let other = bob.second_device(&server).await;
    let both = Devices { version: 2, ids: other.list.devices.clone() };
    group.post(&server, &bob, &Body::Devices(both)).await;
    let to = SubmittedTo::Device(other.device());
    let mut waits = alice.submission(group.id(), 2, Kind::Direct, to, vec![1; 50]);
    waits.ttl_ms = 30 * 86_400_000;
    alice.submit(&server, vec![waits]).await.ok::<Accepted>();
    let one = list(&bob.identity, &bob.account, 3, vec![bob.device()]);
    let body = AccountDevices { list: one, devices: vec![bob.record.clone()] };
    bob.put(&server, "/account/devices", &body).await.done();
    // While the group counts it nothing of it goes.
    a_month_later(&server).await;
    assert_eq!(count(&server, "mailboxes").await, 3);
    let alone = Devices { version: 3, ids: vec![bob.device()] };
    group.post(&server, &bob, &Body::Devices(alone)).await;
    a_month_later(&server).await;
    for table in ["mailboxes", "(SELECT DISTINCT device FROM one_time_keys)"] {
        assert_eq!(count(&server, table).await, 2, "{table}");
    }
    assert_eq!(count(&server, "group_devices WHERE until_epoch IS NOT NULL").await, 0);
    // The others go on, and the same device may be listed again.
    alice.say(&server, &group, &["on"]).await;
    Person { list: body.list, ..bob.clone() }.second_device(&server).await;
    assert_eq!(count(&server, "mailboxes").await, 3);
}

#[tokio::test]
async fn whoever_was_taken_out_reads_why_for_a_month() {
    let server = Server::start().await;
    let (mut group, [alice, bob]) = server.group(["alice", "bob"]).await;
    group.post(&server, &alice, &Body::Remove(vec![bob.member()])).await;
    server.app.upkeep().await.unwrap();
    server.pass_ms(MONTH_MS - 1_000);
    server.app.upkeep().await.unwrap();
    bob.get(&server, &group.path("/roster")).await.ok::<OpPage>();
    server.pass_ms(2_000);
    server.app.upkeep().await.unwrap();
    bob.get(&server, &group.path("/roster")).await.refused(404, "M_NOT_FOUND");
    alice.get(&server, &group.path("/roster")).await.ok::<OpPage>();
}
