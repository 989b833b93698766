//! A key for very many devices goes out a page at a time.

use std::collections::{BTreeMap, BTreeSet};

use causeway_protocol::{
    api::{AccountDevices, ClaimedKeys},
    device::{DeviceList, DeviceOf, DeviceRecord, OneTimeKey},
    envelope::{Kind, Submission},
    ids::{CurveKey, DeviceId, KeyId, MemberId, Signature, Timestamp},
    roster::Role,
};
use ed25519_dalek::{Signer as _, SigningKey};

use super::{ALICE, garden, shared};
use crate::world::{World, text};

#[tokio::test]
async fn a_key_is_given_to_a_crowd_in_pages() {
    const CROWD: usize = 90;
    let (mut world, group) = garden(&["alice", "bob"]).await;
    for n in 0..CROWD {
        let who = world.register(&format!("m{n}")).await;
        world.add(ALICE, group, who, Role::Member).await;
    }
    world.prepare(ALICE, group).await;
    let item = world.outgoing(text("hello"));
    let batch = world.seal(ALICE, group, &[item]).await.unwrap();
    let to: BTreeSet<_> = batch
        .submissions
        .iter()
        .filter(|s| s.kind == Kind::KeyDistribution)
        .flat_map(Submission::rows)
        .map(|row| format!("{:?}", row.to))
        .collect();
    assert_eq!(to.len(), 64, "with the first message to so many, the others with the chores");
    world.post(ALICE, &batch).await.unwrap();
    world.sync(ALICE).await;
    for who in 1..world.devices.len() {
        world.sync(who).await;
        assert_eq!(world.devices[who].texts(), ["hello"], "{who}");
    }
}

/// An account with 64 devices, of which nobody has the private halves, and a key for each.
fn account(nth: u8) -> (AccountDevices, BTreeMap<DeviceId, OneTimeKey>) {
    let secret = |device: u8| {
        SigningKey::from_bytes(&[[nth; 16], [device; 16]].concat().try_into().unwrap())
    };
    let sign = |key: &SigningKey, bytes: &[u8]| Signature::new(key.sign(bytes).to_bytes());
    let (identity, curve25519) = (secret(255), CurveKey::new([9; 32]));
    let member_id = MemberId::new(identity.verifying_key().to_bytes());
    let (mut devices, mut keys) = (Vec::new(), BTreeMap::new());
    for n in 0..64 {
        let key = secret(n);
        let device_id = DeviceId::new(key.verifying_key().to_bytes());
        let device = DeviceOf { member_id, device_id };
        devices.push(DeviceRecord {
            member_id,
            device_id,
            curve25519,
            signature: sign(&key, &DeviceRecord::record_bytes(&device, &curve25519)),
            certificate: sign(&identity, &DeviceRecord::certificate_bytes(&device, &curve25519)),
        });
        let mut one_time = OneTimeKey {
            key_id: KeyId::new([0; 8]),
            fallback: false,
            curve25519,
            signature: Signature::new([0; 64]),
        };
        one_time.signature = sign(&key, &one_time.signed_bytes(&device_id));
        keys.insert(device_id, one_time);
    }
    devices.sort_by_key(|record| record.device_id);
    let mut list = DeviceList {
        account: format!("m{nth}:a.example").parse().unwrap(),
        member_id,
        version: 1,
        created_ms: Timestamp(1),
        devices: devices.iter().map(|record| record.device_id).collect(),
        signature: Signature::new([0; 64]),
    };
    list.signature = sign(&identity, &list.signed_bytes());
    (AccountDevices { list, devices }, keys)
}

/// Of 64 devices each; as many as `CAUSEWAY_ACCOUNTS` says: of 157 there are 10,048 devices.
fn accounts() -> u8 {
    let asked = std::env::var("CAUSEWAY_ACCOUNTS").ok().and_then(|count| count.parse().ok());
    asked.unwrap_or(16)
}

#[tokio::test]
async fn a_thousand_devices_are_given_a_key_in_pages_of_256() {
    let mut world = World::with(&["alice"]).await;
    let new = causeway_groups::machine::NewGroup { max_members: 1_000, ..shared(None) };
    let group = world.create_group_as(ALICE, new).await;
    let (now, device) = (world.time(), &world.devices[ALICE]);
    let mut keys = BTreeMap::new();
    let accounts = accounts();
    for nth in 0..accounts {
        let (of, its) = account(nth);
        keys.extend(its);
        let mut tx = device.db.begin().await.unwrap();
        device
            .machine
            .learn(&mut tx, now, &of.list.account, Some(&of.clone().into()))
            .await
            .unwrap();
        let add = device.machine.add(&mut tx, now, group, &of.list.account, Role::Member).await;
        device.machine.install_ops(&mut tx, now, group, &[add.unwrap()]).await.unwrap();
        tx.commit().await.unwrap();
    }
    let (mut given, mut batches) = (BTreeSet::new(), Vec::new());
    for _ in 0..200 {
        let mut tx = device.db.begin().await.unwrap();
        let chores = device.machine.chores(&mut tx, now).await.unwrap();
        tx.commit().await.unwrap();
        if chores.is_empty() {
            break;
        }
        let claims = chores.needs.claims;
        assert!(claims.len() <= 256, "{} at once", claims.len());
        let answer = claims.iter().filter_map(|of| Some((*of, keys.get(of)?.clone()))).collect();
        let answer = ClaimedKeys { keys: answer };
        let mut tx = device.db.begin().await.unwrap();
        device.machine.claimed(&mut tx, now, &claims, &answer).await.unwrap();
        for batch in &chores.batches {
            device.machine.accepted(&mut tx, batch).await.unwrap();
        }
        tx.commit().await.unwrap();
        for batch in chores.batches {
            assert!(batch.submissions.iter().all(|s| s.kind == Kind::KeyDistribution));
            batches.push(batch.submissions.len());
            let rows = batch.submissions.iter().flat_map(Submission::rows);
            given.extend(rows.map(|row| format!("{:?}", row.to)));
        }
    }
    let all = usize::from(accounts) * 64;
    assert_eq!(given.len(), all, "each");
    assert_eq!(batches.iter().sum::<usize>(), all, "once");
    assert!(batches.iter().all(|count| *count <= 256), "{batches:?}");
    let left = "SELECT COUNT(*) FROM shared_keys WHERE is_given = FALSE";
    assert_eq!(world.count(ALICE, left).await, 0);
    assert_eq!(world.count(ALICE, "SELECT COUNT(*) FROM outgoing").await, 0);
}
