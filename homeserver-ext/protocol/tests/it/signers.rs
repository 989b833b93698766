//! People and devices that can sign, for tests that make their own histories.

use causeway_protocol::{
    device::{DeviceOf, DeviceRecord},
    ids::{AccountId, CurveKey, DeviceId, MemberId, Signature, Timestamp},
    roster::{Body, Create, Devices, Entry, Op, OpCore, Policy, Roster},
};
use ed25519_dalek::{Signer as _, SigningKey};

pub(crate) struct Person {
    pub(crate) identity: SigningKey,
    pub(crate) device: SigningKey,
    pub(crate) record: DeviceRecord,
    pub(crate) account: AccountId,
}

pub(crate) fn sign(key: &SigningKey, bytes: &[u8]) -> Signature {
    Signature::new(key.sign(bytes).to_bytes())
}

impl Person {
    pub(crate) fn new(number: u8) -> Self {
        let identity = SigningKey::from_bytes(&[number; 32]);
        let mut seed = [number; 32];
        seed[0] ^= 0xff;
        let device = SigningKey::from_bytes(&seed);
        let of = DeviceOf {
            member_id: MemberId::new(identity.verifying_key().to_bytes()),
            device_id: DeviceId::new(device.verifying_key().to_bytes()),
        };
        let mut curve = [number; 32];
        curve[31] = 0;
        let curve25519 = CurveKey::new(curve);
        let record = DeviceRecord {
            member_id: of.member_id,
            device_id: of.device_id,
            curve25519,
            signature: sign(&device, &DeviceRecord::record_bytes(&of, &curve25519)),
            certificate: sign(&identity, &DeviceRecord::certificate_bytes(&of, &curve25519)),
        };
        let account = format!("p{number}:a.example").parse().unwrap();
        Self { identity, device, record, account }
    }

    pub(crate) fn devices(&self, version: u32) -> Devices {
        Devices { version, ids: vec![self.record.device_id] }
    }

    pub(crate) fn entry(&self, role: u8) -> Entry {
        Entry {
            member_id: self.record.member_id,
            role,
            account: self.account.to_string(),
            legacy_id: String::new(),
            devices: self.devices(1),
        }
    }

    pub(crate) fn create(&self, policy: Policy) -> Op {
        let create = Create {
            scheme: 1,
            suite: 1,
            rand: [7; 16],
            account: self.account.to_string(),
            legacy_id: String::new(),
            devices: self.devices(1),
            policy,
        };
        self.seal(OpCore::create(&self.record, Timestamp(1), create).unwrap())
    }

    pub(crate) fn op(&self, head: &Roster, body: &Body) -> Op {
        self.seal(OpCore::next(head, &self.record, Timestamp(1), body).unwrap())
    }

    pub(crate) fn seal(&self, core: OpCore) -> Op {
        let signature = sign(&self.device, &core.signed_bytes().unwrap());
        core.sealed(self.record.certificate, signature).unwrap()
    }
}

pub(crate) fn policy() -> Policy {
    Policy {
        min_version: 2,
        add_by: 0,
        post_by: 0,
        max_members: 1_000,
        ttl_s: 2_592_000,
        name: "harbour".to_owned(),
        description: String::new(),
    }
}
