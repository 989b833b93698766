//! The group as Causeway has it: a chain for each device, keys to each other device over Olm.

use std::collections::VecDeque;

use causeway_groups::schemes::{
    pairwise::FanOut,
    sender_keys::{ChainSecrets, HeldChain, OwnChain, Seed, Suite, Wire},
};
use causeway_protocol::{
    device::{DeviceOf, DeviceRecord},
    fanout,
    ids::{
        ClientId, CurveKey, DeviceId, Epoch, GroupId, MemberId, RosterHash, Signature, Timestamp,
    },
    olm_plaintext::OlmPlaintext,
    roster::{Body, Create, Devices, Entry, Op, OpCore, Policy, Roster},
    sender_key::Context,
};
use ed25519_dalek::{Signer as _, SigningKey};
use vodozemac::olm::{Account, OlmMessage, Session, SessionConfig};
use zeroize::Zeroizing;

use crate::{Cost, TEXT, cost};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

struct Member {
    device: SigningKey,
    record: DeviceRecord,
    /// With each other member, by their numbers.
    sessions: Vec<Option<Session>>,
    own: OwnChain,
    held: Vec<Option<HeldChain>>,
}

pub(crate) struct Group {
    members: Vec<Member>,
    roster: Roster,
    sealed: VecDeque<Vec<u8>>,
    made: u64,
}

fn sign(key: &SigningKey, bytes: &[u8]) -> Signature {
    Signature::new(key.sign(bytes).to_bytes())
}

fn record(identity: &SigningKey, device: &SigningKey) -> DeviceRecord {
    let of = DeviceOf {
        member_id: MemberId::new(identity.verifying_key().to_bytes()),
        device_id: DeviceId::new(device.verifying_key().to_bytes()),
    };
    let curve25519 = CurveKey::new([9; 32]);
    DeviceRecord {
        member_id: of.member_id,
        device_id: of.device_id,
        curve25519,
        signature: sign(device, &DeviceRecord::record_bytes(&of, &curve25519)),
        certificate: sign(identity, &DeviceRecord::certificate_bytes(&of, &curve25519)),
    }
}

fn entry(number: usize, record: &DeviceRecord) -> Entry {
    Entry {
        member_id: record.member_id,
        role: 0,
        account: format!("m{number}:a.example"),
        legacy_id: String::new(),
        devices: Devices { version: 1, ids: vec![record.device_id] },
    }
}

fn chain(made: &mut u64, roster: &Roster, sender: DeviceId) -> OwnChain {
    *made += 1;
    let mut root = [7; 32];
    root[..8].copy_from_slice(&made.to_be_bytes());
    let secrets =
        ChainSecrets { root: Seed::new(root), signing: Zeroizing::new(root), rand: [9; 16] };
    OwnChain::new(Suite::Aes256Gcm, roster.group(), sender, roster.epoch(), NOW, secrets)
}

/// Sessions both ways, each having said something, so that nothing but ratchets is measured.
fn sessions() -> (Session, Session) {
    let (here, mut there) = (Account::new(), Account::new());
    there.generate_one_time_keys(1);
    let key = *there.one_time_keys().values().next().expect("a key");
    let mut mine = here
        .create_outbound_session(SessionConfig::version_1(), there.curve25519_key(), key)
        .expect("a session");
    let OlmMessage::PreKey(first) = mine.encrypt("first").expect("encrypts") else {
        unreachable!("nothing was answered")
    };
    let made = there
        .create_inbound_session(SessionConfig::version_1(), here.curve25519_key(), &first)
        .expect("a session");
    let mut theirs = made.session;
    let answer = theirs.encrypt("answer").expect("encrypts");
    mine.decrypt(&answer).expect("decrypts");
    (mine, theirs)
}

impl Group {
    pub(crate) fn of(members: usize) -> Self {
        let keys: Vec<_> = (0..members as u8)
            .map(|n| {
                let (identity, device) =
                    (SigningKey::from_bytes(&[n + 1; 32]), SigningKey::from_bytes(&[n + 101; 32]));
                let record = record(&identity, &device);
                (device, record)
            })
            .collect();
        let founder = &keys[0];
        let create = Create {
            scheme: 1,
            suite: 1,
            rand: [7; 16],
            account: "m0:a.example".to_owned(),
            legacy_id: String::new(),
            devices: Devices { version: 1, ids: vec![founder.1.device_id] },
            policy: Policy {
                min_version: 2,
                add_by: 0,
                post_by: 0,
                max_members: 1_000,
                ttl_s: 86_400,
                name: "Garden".to_owned(),
                description: String::new(),
            },
        };
        let core = OpCore::create(&founder.1, NOW, create).expect("fits");
        let mut roster = Roster::create(&seal_op(founder, core)).expect("valid");
        let all = keys.iter().enumerate().skip(1);
        let entries = all.map(|(number, (_, record))| entry(number, record)).collect();
        let core = OpCore::next(&roster, &founder.1, NOW, &Body::Add(entries)).expect("fits");
        roster = roster.apply(&seal_op(founder, core)).expect("valid");
        let mut made = 0;
        let mut members: Vec<_> = keys
            .into_iter()
            .map(|(device, record)| {
                let own = chain(&mut made, &roster, record.device_id);
                Member { device, record, sessions: Vec::new(), own, held: Vec::new() }
            })
            .collect();
        let count = members.len();
        for member in &mut members {
            member.sessions.resize_with(count, || None);
            member.held.resize_with(count, || None);
        }
        for one in 0..count {
            for other in one + 1..count {
                let (here, there) = sessions();
                members[one].sessions[other] = Some(here);
                members[other].sessions[one] = Some(there);
            }
        }
        let mut this = Self { members, roster, sealed: VecDeque::new(), made };
        for speaker in 0..count {
            this.give(speaker);
        }
        this
    }

    /// Gives all others the chain of `speaker`; how many bytes that is.
    fn give(&mut self, speaker: usize) -> usize {
        let mut bytes = 0;
        for reader in (0..self.members.len()).filter(|reader| *reader != speaker) {
            let recipient = self.members[reader].record.device_id;
            let member = &mut self.members[speaker];
            let key = member.own.distribution(recipient, self.roster.hash(), NOW).expect("begun");
            let plain = OlmPlaintext::Distribution(key).to_bytes().expect("fits");
            let session = member.sessions[reader].as_mut().expect("with each other");
            let sealed = session.encrypt(plain.as_slice()).expect("encrypts");
            bytes += sealed.to_parts().1.len() + 1;
            let reader = &mut self.members[reader];
            let session = reader.sessions[speaker].as_mut().expect("with each other");
            let opened = session.decrypt(&sealed).expect("decrypts");
            let Ok(OlmPlaintext::Distribution(key)) = OlmPlaintext::parse(&opened) else {
                unreachable!("it was written")
            };
            let held = HeldChain::from_distribution(&key).expect("whole");
            reader.held[speaker] = Some(held);
        }
        bytes
    }

    pub(crate) fn seal(&mut self, count: usize) -> Cost {
        let roster = self.roster.hash();
        cost(|| {
            for _ in 0..count {
                let own = &mut self.members[0].own;
                self.sealed.push_back(own.seal(&roster, [0; 4], &TEXT).expect("sealed"));
            }
            self.sealed.iter().map(Vec::len).sum()
        })
    }

    /// One ciphertext, and a piece for each other member.
    pub(crate) fn fan_out(&mut self, count: usize) -> Cost {
        let others: Vec<_> =
            self.members.iter().skip(1).map(|member| member.record.device_id).collect();
        let (group, epoch, roster) = (self.roster.group(), self.roster.epoch(), self.roster.hash());
        let sender = self.members[0].record.device_id;
        cost(|| {
            let mut bytes = 0;
            for number in 0..count {
                let mut key = [0x5a; 32];
                key[..8].copy_from_slice(&number.to_be_bytes());
                let msg_id = ClientId::new([1; 16]);
                let context = fanout::Context { group, sender, epoch, roster, msg_id };
                let sealed = FanOut::seal(context, Zeroizing::new(key), &TEXT).expect("fits");
                bytes += sealed.payload(0, 1).len();
                for (reader, recipient) in others.iter().enumerate() {
                    let piece = OlmPlaintext::Piece(sealed.piece(recipient)).to_bytes();
                    let session = self.members[0].sessions[reader + 1].as_mut().expect("one");
                    let piece = session.encrypt(piece.expect("fits").as_slice()).expect("encrypts");
                    bytes += 32 + 1 + piece.to_parts().1.len();
                }
            }
            bytes
        })
    }

    pub(crate) fn open(&mut self) -> Cost {
        cost(|| {
            while let Some(wire) = self.sealed.pop_front() {
                self.read(0, 1, &wire);
            }
            0
        })
    }

    fn read(&mut self, speaker: usize, reader: usize, wire: &[u8]) {
        let sender = self.members[speaker].record.device_id;
        let (group, roster) = (self.roster.group(), self.roster.hash());
        let held = self.members[reader].held[speaker].as_mut().expect("given");
        let context = Context { group, sender, chain: held.id(), roster };
        let wire = Wire::parse(wire).expect("a message");
        let opened = wire.verify(held, &context).expect("signed").open().expect("opens");
        assert_eq!(opened.spend().len(), TEXT.len());
    }

    /// The last one is put out by the first; every chain begins anew.
    pub(crate) fn remove_and_speak(&mut self) -> [Cost; 2] {
        let last = self.members.pop().expect("one");
        let removal = cost(|| {
            let founder = (self.members[0].device.clone(), self.members[0].record.clone());
            let body = Body::Remove(vec![last.record.member_id]);
            let core = OpCore::next(&self.roster, &founder.1, NOW, &body).expect("fits");
            let op = seal_op(&founder, core);
            let bytes = op.as_bytes().to_vec();
            let mut after = None;
            for _ in &self.members {
                let op = Op::parse(&bytes).expect("an op");
                after = Some(self.roster.apply(&op).expect("valid"));
            }
            self.roster = after.expect("somebody stays");
            bytes.len()
        });
        let speaking = cost(|| {
            let mut bytes = 0;
            let roster = self.roster.hash();
            for speaker in 0..self.members.len() {
                let sender = self.members[speaker].record.device_id;
                self.members[speaker].own = chain(&mut self.made, &self.roster, sender);
                // Given as it begins, before its first message.
                bytes += self.give(speaker);
                let own = &mut self.members[speaker].own;
                let wire = own.seal(&roster, [0; 4], &TEXT).expect("sealed");
                bytes += wire.len();
                for reader in (0..self.members.len()).filter(|reader| *reader != speaker) {
                    self.read(speaker, reader, &wire);
                }
            }
            bytes
        });
        [removal, speaking]
    }
}

fn seal_op((device, record): &(SigningKey, DeviceRecord), core: OpCore) -> Op {
    let signature = sign(device, &core.signed_bytes().expect("fits"));
    core.sealed(record.certificate, signature).expect("fits")
}
