//! One device that signs ops, and nothing else: what benches and tests of crowds have in common.

use causeway_protocol::{
    device::{DeviceOf, DeviceRecord},
    ids::{CurveKey, DeviceId, MemberId, Signature, Timestamp},
    roster::{Body, Devices, Entry, Op, OpCore, Roster},
};
use ed25519_dalek::{Signer as _, SigningKey};

/// An account's only device.
pub(crate) struct Signer {
    device: SigningKey,
    pub(crate) record: DeviceRecord,
}

impl Signer {
    /// The one with this number.
    pub(crate) fn new(number: u32) -> Self {
        let (identity, device) = keys(number);
        let of = DeviceOf {
            member_id: MemberId::new(identity.verifying_key().to_bytes()),
            device_id: DeviceId::new(device.verifying_key().to_bytes()),
        };
        let curve25519 = CurveKey::new([9; 32]);
        let record = DeviceRecord {
            member_id: of.member_id,
            device_id: of.device_id,
            curve25519,
            signature: sign(&device, &DeviceRecord::record_bytes(&of, &curve25519)),
            certificate: sign(&identity, &DeviceRecord::certificate_bytes(&of, &curve25519)),
        };
        Self { device, record }
    }

    /// The next op.
    pub(crate) fn op(&self, head: &Roster, now: Timestamp, body: &Body) -> Op {
        self.seal(OpCore::next(head, &self.record, now, body).expect("fits"))
    }

    pub(crate) fn seal(&self, core: OpCore) -> Op {
        let signature = sign(&self.device, &core.signed_bytes().expect("fits"));
        core.sealed(self.record.certificate, signature).expect("fits")
    }
}

/// The keys of identity and device with this number.
pub(crate) fn keys(number: u32) -> (SigningKey, SigningKey) {
    let secret = |byte: u8| {
        let mut secret = [byte; 32];
        secret[..4].copy_from_slice(&number.to_be_bytes());
        SigningKey::from_bytes(&secret)
    };
    (secret(1), secret(2))
}

pub(crate) fn sign(key: &SigningKey, bytes: &[u8]) -> Signature {
    Signature::new(key.sign(bytes).to_bytes())
}

/// A plain member with one device.
pub(crate) fn entry(DeviceOf { member_id, device_id }: DeviceOf, account: String) -> Entry {
    Entry {
        member_id,
        role: 0,
        account,
        legacy_id: String::new(),
        devices: Devices { version: 1, ids: vec![device_id] },
    }
}
