//! What a crowd costs whoever speaks to it: a pairwise message and a new chain for 49 and 499 others,
//! beside what Olm alone takes for as many; an op of a group of 1,000.
//!
//! `cargo bench -p causeway-groups --bench crowds`. The two of a row take turns within one run and are
//! counted in CPU time of this thread; the ratio is the median of the rounds' own. Databases, networks
//! and servers are measured elsewhere.
#![cfg(test)]

use std::{hint::black_box, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use causeway_groups::schemes::{
    pairwise::FanOut,
    sender_keys::{ChainSecrets, OwnChain, Seed, Suite},
};
use causeway_protocol::{
    content::{Content, Plaintext, Text, TextKind},
    device::{DeviceOf, DeviceRecord},
    fanout::Context,
    ids::{
        ClientId, CurveKey, DeviceId, Epoch, GroupId, MemberId, RosterHash, Signature, Timestamp,
    },
    olm_plaintext::OlmPlaintext,
    roster::{Body, Create, Devices, Entry, Op, OpCore, Policy, Roster},
};
use ed25519_dalek::{Signer as _, SigningKey};
use rustix::time::{ClockId, clock_gettime};
use vodozemac::{
    Curve25519PublicKey,
    olm::{Account, OlmMessage, Session, SessionConfig},
};
use zeroize::Zeroizing;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const GROUP: GroupId = GroupId::new([1; 32]);
const SENDER: DeviceId = DeviceId::new([2; 32]);
const ROSTER: RosterHash = RosterHash::new([4; 32]);
/// Rounds before those that count fill caches.
const WARM: usize = 2;

fn main() {
    println!("{:<46}{:>11}{:>11}{:>8}", "what", "ours ms", "bare ms", "ratio");
    for others in [49, 499] {
        let rounds = 5_000 / others;
        fan_out(others, rounds);
        settled(others, rounds);
        new_sessions(others, (1_500 / others).max(5));
    }
    bytes();
    op(1_000);
}

/// One ciphertext, and a piece for each, beside as many encryptions of a piece's length.
fn fan_out(others: usize, rounds: usize) {
    let mut ours = sessions(others);
    let mut bare = sessions(others);
    let text = plaintext();
    let ours = |_| {
        let sealed = FanOut::seal(context(), Zeroizing::new([7; 32]), &text).expect("fits");
        black_box(sealed.payload(0, 1));
        for (to, session) in recipients().zip(&mut ours) {
            let piece = OlmPlaintext::Piece(sealed.piece(&to)).to_bytes().expect("fits");
            black_box(session.encrypt(piece.as_slice()).expect("encrypts"));
        }
    };
    let bare = |_| encrypt(&mut bare, 65);
    row(&format!("1 KiB pairwise to {others}"), rounds, ours, bare);
}

/// A new chain for devices with which there are sessions that both sides have spoken in.
fn settled(others: usize, rounds: usize) {
    let mut ours = sessions(others);
    let mut bare = sessions(others);
    let length = distribution(&chain(0), recipients().next().expect("one")).len();
    let ours = |round| {
        let chain = chain(round);
        for (to, session) in recipients().zip(&mut ours) {
            let key = distribution(&chain, to);
            black_box(session.encrypt(key.as_slice()).expect("encrypts"));
        }
    };
    let bare = |_| encrypt(&mut bare, length);
    row(&format!("a new chain to {others}, settled"), rounds, ours, bare);
}

/// The same where each session begins with it.
fn new_sessions(others: usize, rounds: usize) {
    let here = Account::new();
    let keys: Vec<[Curve25519PublicKey; 2]> = (0..others)
        .map(|_| {
            let mut there = Account::new();
            there.generate_one_time_keys(1);
            let key = *there.one_time_keys().values().next().expect("a key");
            [there.curve25519_key(), key]
        })
        .collect();
    let length = distribution(&chain(0), recipients().next().expect("one")).len();
    let begin = |[identity, key]: &[Curve25519PublicKey; 2]| {
        let config = SessionConfig::version_1();
        here.create_outbound_session(config, *identity, *key).expect("a session")
    };
    let ours = |round| {
        let chain = chain(round);
        for (to, keys) in recipients().zip(&keys) {
            let key = distribution(&chain, to);
            black_box(begin(keys).encrypt(key.as_slice()).expect("encrypts"));
        }
    };
    let bare = |_| {
        for keys in &keys {
            black_box(begin(keys).encrypt(vec![0x46; length]).expect("encrypts"));
        }
    };
    row(&format!("a new chain to {others}, all sessions new"), rounds, ours, bare);
}

/// Where the bytes of a pairwise message are.
fn bytes() {
    let text = plaintext();
    let sealed = FanOut::seal(context(), Zeroizing::new([7; 32]), &text).expect("fits");
    let (mut session, _) = spoken();
    let piece = OlmPlaintext::Piece(sealed.piece(&SENDER)).to_bytes().expect("fits");
    let piece = 1 + session.encrypt(piece.as_slice()).expect("encrypts").to_parts().1.len();
    let payload = sealed.payload_len();
    println!("a text of 1,024 B: payload {payload} B, a piece {piece} B");
    for others in [49_usize, 499] {
        let shards = (others * (32 + piece)).div_ceil(45_000 - payload);
        let sealed = shards * payload + others * piece;
        let named = sealed + others * 32;
        let spelled = |n: usize| URL_SAFE_NO_PAD.encode(vec![0; n]).len();
        // `"device":"piece",` for each, and `"payload":"…"`; the fields around it are some 300 bytes.
        let json = shards * spelled(payload) + others * (spelled(32) + spelled(piece) + 6);
        println!(
            "to {others}: {shards} envelopes, {sealed} B sealed, {named} B with names of 32, some \
             {} B of JSON",
            json + shards * 300
        );
    }
}

/// What an op costs who signs it and who judges it, in a group of so many.
fn op(members: u32) {
    let founder = Founder::new();
    let mut roster = Roster::create(&founder.create()).expect("valid");
    for first in (1..members).step_by(500) {
        let entries = (first..members.min(first + 500)).map(stranger).collect();
        roster = roster.apply(&founder.op(&roster, &Body::Add(entries))).expect("valid");
    }
    assert_eq!(roster.members().len(), usize::try_from(members).expect("few"));
    let last = Body::Remove(vec![stranger(members - 1).member_id]);
    let (mut signing, mut judging) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        let mut bytes = Vec::new();
        signing.push(timed(|| bytes = founder.op(&roster, &last).as_bytes().to_vec()));
        judging.push(timed(|| {
            let op = Op::parse(&bytes).expect("an op");
            black_box(roster.apply(&op).expect("valid"));
        }));
    }
    println!(
        "an op on {members} members: signing {:.2} ms, judging {:.2} ms",
        median(signing.into_iter()),
        median(judging.into_iter()),
    );
}

fn context() -> Context {
    let msg_id = ClientId::new([5; 16]);
    Context { group: GROUP, sender: SENDER, epoch: Epoch(3), roster: ROSTER, msg_id }
}

fn plaintext() -> Vec<u8> {
    let content = Content::Text(Text {
        kind: TextKind::Text,
        body: "x".repeat(1_024),
        html: None,
        reply_to: None,
        mirror: None,
    });
    Plaintext { sent_at: NOW, ttl_s: 0, client_id: context().msg_id, content }.to_bytes()
}

fn chain(round: usize) -> OwnChain {
    let mut root = [7; 32];
    root[..8].copy_from_slice(&round.to_be_bytes());
    let secrets =
        ChainSecrets { root: Seed::new(root), signing: Zeroizing::new(root), rand: [9; 16] };
    OwnChain::new(Suite::Aes256Gcm, GROUP, SENDER, Epoch(3), NOW, secrets)
}

fn distribution(chain: &OwnChain, to: DeviceId) -> Zeroizing<Vec<u8>> {
    let key = chain.distribution(to, ROSTER, NOW).expect("begun");
    OlmPlaintext::Distribution(key).to_bytes().expect("fits")
}

fn recipients() -> impl Iterator<Item = DeviceId> {
    (0_u64..).map(|n| {
        let mut id = [3; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        DeviceId::new(id)
    })
}

fn sessions(count: usize) -> Vec<Session> {
    (0..count).map(|_| spoken().0).collect()
}

/// Sessions both ways that have said something, so that no message of theirs begins one.
fn spoken() -> (Session, Session) {
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

fn encrypt(sessions: &mut [Session], length: usize) {
    for session in sessions {
        black_box(session.encrypt(vec![0x46; length]).expect("encrypts"));
    }
}

/// Both in turns, and how the one stands to the other.
fn row(what: &str, rounds: usize, mut ours: impl FnMut(usize), mut bare: impl FnMut(usize)) {
    let mut costs = Vec::with_capacity(rounds);
    for round in 0..rounds + WARM {
        let pair = if round % 2 == 0 {
            let ours = timed(|| ours(round));
            (ours, timed(|| bare(round)))
        } else {
            let bare = timed(|| bare(round));
            (timed(|| ours(round)), bare)
        };
        if round >= WARM {
            costs.push(pair);
        }
    }
    let ours = median(costs.iter().map(|(ours, _)| *ours));
    let bare = median(costs.iter().map(|(_, bare)| *bare));
    let ratio = median(costs.iter().map(|(ours, bare)| ours / bare));
    println!("{what:<46}{ours:>11.2}{bare:>11.2}{ratio:>8.2}");
}

fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = of.collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// CPU time of this thread, in ms.
fn timed(work: impl FnOnce()) -> f64 {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("not negative");
    let start = now();
    work();
    now().saturating_sub(start).as_secs_f64() * 1e3
}

/// Who makes the group, and lets everybody in.
struct Founder {
    device: SigningKey,
    record: DeviceRecord,
}

impl Founder {
    fn new() -> Self {
        let (identity, device) =
            (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
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

    fn create(&self) -> Op {
        let create = Create {
            scheme: 1,
            suite: 1,
            rand: [7; 16],
            account: "founder:a.example".to_owned(),
            legacy_id: String::new(),
            devices: Devices { version: 1, ids: vec![self.record.device_id] },
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
        self.seal(OpCore::create(&self.record, NOW, create).expect("fits"))
    }

    fn op(&self, head: &Roster, body: &Body) -> Op {
        self.seal(OpCore::next(head, &self.record, NOW, body).expect("fits"))
    }

    fn seal(&self, core: OpCore) -> Op {
        let signature = sign(&self.device, &core.signed_bytes().expect("fits"));
        core.sealed(self.record.certificate, signature).expect("fits")
    }
}

fn sign(key: &SigningKey, bytes: &[u8]) -> Signature {
    Signature::new(key.sign(bytes).to_bytes())
}

/// A member who is only a name here.
fn stranger(number: u32) -> Entry {
    let name = |byte: u8| {
        let mut name = [byte; 32];
        name[..4].copy_from_slice(&number.to_be_bytes());
        name
    };
    Entry {
        member_id: MemberId::new(name(3)),
        role: 0,
        account: format!("member.{number}:a.example"),
        legacy_id: String::new(),
        devices: Devices { version: 1, ids: vec![DeviceId::new(name(4))] },
    }
}
