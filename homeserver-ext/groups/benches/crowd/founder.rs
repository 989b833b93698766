//! A group's first op, and members who are only names.

use causeway_protocol::{
    device::DeviceOf,
    ids::{DeviceId, MemberId, Timestamp},
    roster::{Create, Devices, Entry, Op, OpCore, Policy},
};

use crate::signer::{Signer, entry};

/// Makes a group that so many may be in.
pub(crate) fn create(founder: &Signer, now: Timestamp, members: u32) -> Op {
    let create = Create {
        // Shared keys, which alone may have more; rosters are the same.
        scheme: if members > 1_000 { 3 } else { 1 },
        suite: 1,
        rand: [7; 16],
        account: "founder:a.example".to_owned(),
        legacy_id: String::new(),
        devices: Devices { version: 1, ids: vec![founder.record.device_id] },
        policy: Policy {
            min_version: 2,
            add_by: 0,
            post_by: 0,
            max_members: if members > 1_000 { 10_000 } else { 1_000 },
            ttl_s: 86_400,
            name: "Garden".to_owned(),
            description: String::new(),
        },
    };
    founder.seal(OpCore::create(&founder.record, now, create).expect("fits"))
}

/// A member who is only a name here.
pub(crate) fn stranger(number: u32) -> Entry {
    let name = |byte: u8| {
        let mut name = [byte; 32];
        name[..4].copy_from_slice(&number.to_be_bytes());
        name
    };
    let device = DeviceOf { member_id: MemberId::new(name(3)), device_id: DeviceId::new(name(4)) };
    entry(device, format!("member.{number}:a.example"))
}
