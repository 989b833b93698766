//! Somebody who signs what the test wants.

use causeway_protocol::{
    api::{AccountDevices, OpBytes},
    device::{DeviceList, DeviceOf, DeviceRecord, OneTimeKey},
    ids::{CurveKey, DeviceId, GroupId, KeyId, MemberId, Signature, Timestamp},
    roster::{Body, Create, Devices, Entry, Op, OpCore, Policy, Roster},
};
use ed25519_dalek::{Signer as _, SigningKey};

use crate::world::World;

/// Somebody with keys of his own and an account, `mallory:a.example`, that a client has heard of.
pub(super) struct Stranger {
    key: SigningKey,
    pub(super) record: DeviceRecord,
}

impl Stranger {
    pub(super) async fn known_to(world: &mut World, who: usize) -> Self {
        let secret = |n: u8| SigningKey::from_bytes(&[n; 32]);
        let (identity, key) = (secret(1), secret(2));
        let curve25519 = CurveKey::new([9; 32]);
        let sign = |key: &SigningKey, bytes: &[u8]| Signature::new(key.sign(bytes).to_bytes());
        let device = DeviceOf {
            member_id: MemberId::new(identity.verifying_key().to_bytes()),
            device_id: DeviceId::new(key.verifying_key().to_bytes()),
        };
        let record = DeviceRecord {
            member_id: device.member_id,
            device_id: device.device_id,
            curve25519,
            signature: sign(&key, &DeviceRecord::record_bytes(&device, &curve25519)),
            certificate: sign(&identity, &DeviceRecord::certificate_bytes(&device, &curve25519)),
        };
        let mut list = DeviceList {
            account: "mallory:a.example".parse().unwrap(),
            member_id: device.member_id,
            version: 1,
            created_ms: Timestamp(1),
            devices: vec![device.device_id],
            signature: Signature::new([0; 64]),
        };
        list.signature = sign(&identity, &list.signed_bytes());
        let mut one_time = OneTimeKey {
            key_id: KeyId::new([0; 8]),
            fallback: true,
            curve25519,
            signature: Signature::new([0; 64]),
        };
        one_time.signature = sign(&key, &one_time.signed_bytes(&device.device_id));
        let account = list.account.clone();
        let devices = AccountDevices { list, devices: vec![record.clone()] };
        world.put_account(devices, vec![one_time]);
        world.learn(who, &account).await;
        Self { key, record }
    }

    pub(super) fn sign(&self, core: OpCore) -> OpBytes {
        let signature = self.key.sign(&core.signed_bytes().unwrap());
        let signature = Signature::new(signature.to_bytes());
        OpBytes(core.sealed(self.record.certificate, signature).unwrap().as_bytes().to_vec())
    }

    /// A group that `account` seems to have made, with everybody of `whom` in it.
    pub(super) async fn group_as(&self, world: &mut World, account: &str, whom: usize) -> GroupId {
        let create = Create {
            scheme: 1,
            suite: 1,
            rand: [3; 16],
            account: account.to_owned(),
            legacy_id: String::new(),
            devices: Devices { version: 1, ids: vec![self.record.device_id] },
            policy: Policy {
                min_version: 2,
                add_by: 0,
                post_by: 0,
                max_members: 1_000,
                ttl_s: 3_600,
                name: "tea".to_owned(),
                description: String::new(),
            },
        };
        let create = self.sign(OpCore::create(&self.record, Timestamp(1), create).unwrap());
        let roster = Roster::create(&Op::parse(&create.0).unwrap()).unwrap();
        let device = &world.devices[whom];
        let me = device.machine.me();
        let entry = Entry {
            member_id: me.record.member_id,
            role: 0,
            account: me.account.as_str().to_owned(),
            legacy_id: String::new(),
            devices: Devices { version: 1, ids: vec![me.record.device_id] },
        };
        let body = Body::Add(vec![entry]);
        let add = self.sign(OpCore::next(&roster, &self.record, Timestamp(2), &body).unwrap());
        for op in [&create, &add] {
            world.take_op(&op.0).unwrap();
        }
        let group = roster.group();
        world.install(whom, group, &[create, add]).await;
        group
    }
}
