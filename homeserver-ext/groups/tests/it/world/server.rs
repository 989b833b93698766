//! The server's part: it orders ops, fills mailboxes, refuses what is stale, hands out keys.

use std::collections::{BTreeMap, BTreeSet};

use causeway_groups::machine::Batch;
use causeway_protocol::{
    api::{AccountDevices, ClaimedKeys, OpBytes, PendingRequest, StreamRow},
    device::OneTimeKey,
    envelope::{Envelope, Kind, MAX_TTL_MS, Recipient},
    ids::{AccountId, DeviceId, Epoch, GroupId, KeyId, MemberId, Seq},
    invite::Join,
    roster::{Op, Roster},
};

use super::World;

#[derive(Default)]
pub(super) struct Group {
    pub(super) ops: Vec<Vec<u8>>,
    rosters: Vec<Roster>,
}

impl Group {
    fn head(&self) -> &Roster {
        self.rosters.last().expect("a group")
    }
}

impl World {
    pub(crate) fn put(&mut self, device: DeviceId, envelope: Envelope) {
        let mailbox = self.mailboxes.entry(device).or_default();
        let seq = Seq(mailbox.last().map_or(0, |row| row.seq.0) + 1);
        mailbox.push(StreamRow { seq, envelope });
        if let Some(came) = &mut self.came {
            came.insert((device, seq), self.now);
        }
    }

    pub(crate) fn head(&self, group: GroupId) -> &Roster {
        self.groups[&group].head()
    }

    pub(crate) fn rosters(&self, group: GroupId) -> &[Roster] {
        &self.groups[&group].rosters
    }

    /// The server takes an op, or says what the caller lacks.
    pub(crate) fn take_op(&mut self, bytes: &[u8]) -> Result<(), Vec<OpBytes>> {
        let op = Op::parse(bytes).expect("an op");
        let group = self.groups.entry(op.group()).or_default();
        let after = match group.rosters.last() {
            None => Roster::create(&op).expect("valid"),
            Some(head) => {
                let Ok(after) = head.apply(&op) else {
                    let from = usize::try_from(op.epoch().0).unwrap();
                    return Err(group.ops.iter().skip(from).cloned().map(OpBytes).collect());
                };
                after
            }
        };
        let mut readers: Vec<_> = after.devices().map(|d| d.device_id).collect();
        readers.extend(group.rosters.last().iter().flat_map(|r| r.devices()).map(|d| d.device_id));
        readers.sort_unstable();
        readers.dedup();
        group.rosters.push(after);
        group.ops.push(bytes.to_vec());
        for reader in readers {
            self.put(reader, roster_row(bytes));
        }
        Ok(())
    }

    pub(super) fn claim(&mut self, devices: &[DeviceId]) -> ClaimedKeys {
        let mut keys = BTreeMap::new();
        for device in devices {
            let Some(left) = self.keys.get_mut(device) else { continue };
            // The fallback key stands first, and stays.
            let key = if left.len() > 1 { left.pop() } else { left.first().cloned() };
            keys.extend(key.map(|key| (*device, key)));
        }
        ClaimedKeys { keys }
    }

    /// The server takes a batch, or says what the caller lacks.
    pub(crate) fn take_batch(&mut self, batch: &Batch) -> Result<(), Vec<OpBytes>> {
        let group = &self.groups[&batch.group];
        let stated = usize::try_from(batch.epoch.0).unwrap();
        let is_stale = group.rosters.windows(2).skip(stated).any(|pair| {
            pair[0].is_cut(&pair[1])
                || pair[1].closed()
                || Op::parse(&group.ops[usize::try_from(pair[1].epoch().0).unwrap()])
                    .is_ok_and(|op| matches!(op.kind().name(), "role" | "policy"))
        });
        if is_stale {
            return Err(group.ops.iter().skip(stated + 1).cloned().map(OpBytes).collect());
        }
        let (then, head) = (group.rosters[stated].clone(), group.head().clone());
        for submission in &batch.submissions {
            submission.check().expect("a good envelope");
            for row in submission.rows() {
                let readers: Vec<_> = match row.to {
                    Recipient::Device(device) => vec![device],
                    Recipient::Broadcast => then
                        .devices()
                        .filter(|d| head.counts(d).is_some())
                        .map(|d| d.device_id)
                        .filter(|d| *d != submission.sender.device)
                        .collect(),
                };
                for reader in readers {
                    let again = self
                        .mailboxes
                        .get(&reader)
                        .is_some_and(|mailbox| mailbox.iter().any(|had| had.envelope.id == row.id));
                    if !again {
                        self.put(reader, row.clone());
                    }
                }
            }
        }
        Ok(())
    }

    /// A join request reaches the devices that may sign an `add`.
    pub(crate) fn ask_to_join(&mut self, group: GroupId, request: &[u8]) {
        let id = Join::parse(request).unwrap().id().unwrap();
        let waiting = PendingRequest { id, request: request.to_vec(), at_ms: self.time() };
        self.requests.entry(group).or_default().push(waiting);
        let head = self.head(group).clone();
        let may_add = |member: &MemberId| head.may_add(member);
        let admins: Vec<_> = head.devices().filter(|d| may_add(&d.member_id)).collect();
        for admin in admins {
            let to = Recipient::Device(admin.device_id);
            self.put(admin.device_id, server_row(Kind::Join, group, head.epoch(), to, request));
        }
    }

    /// Nobody can open a session with this device any more.
    pub(crate) fn take_keys(&mut self, device: DeviceId) {
        self.keys.remove(&device);
    }

    /// Numbers of the keys that the server has of a device, the fallback key's among them.
    pub(crate) fn key_ids(&self, who: usize) -> BTreeSet<KeyId> {
        self.keys[&self.devices[who].id()].iter().map(|key| key.key_id).collect()
    }

    /// The fallback key that is given out.
    pub(crate) fn fallback(&self, who: usize) -> OneTimeKey {
        self.keys[&self.devices[who].id()][0].clone()
    }

    /// All one-time keys of a device were claimed.
    pub(crate) fn keep_fallback_only(&mut self, who: usize) {
        let fallback = self.fallback(who);
        self.give_only(who, fallback);
    }

    /// Everybody who asks for a key of a device gets this one.
    pub(crate) fn give_only(&mut self, who: usize, key: OneTimeKey) {
        self.keys.insert(self.devices[who].id(), vec![key]);
    }

    pub(crate) fn keys_left(&self, who: usize) -> usize {
        self.keys[&self.devices[who].id()].len() - 1
    }

    pub(crate) fn account_devices(&self, account: &AccountId) -> Option<&AccountDevices> {
        self.accounts.get(account)
    }
}

pub(crate) fn roster_row(op: &[u8]) -> Envelope {
    let parsed = Op::parse(op).expect("an op");
    server_row(Kind::Roster, parsed.group(), parsed.epoch(), Recipient::Broadcast, op)
}

fn server_row(kind: Kind, group: GroupId, epoch: Epoch, to: Recipient, payload: &[u8]) -> Envelope {
    let mut envelope = Envelope {
        id: causeway_protocol::ids::EnvelopeId::new([0; 16]),
        kind,
        group,
        epoch,
        sender: None,
        to,
        ttl_ms: MAX_TTL_MS,
        payload: payload.to_vec(),
        piece: None,
    };
    envelope.id = envelope.compute_id();
    envelope
}
