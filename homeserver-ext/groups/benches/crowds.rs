//! What a crowd costs whoever speaks to it: a pairwise message and a new chain for 49 and 499 others,
//! beside what Olm alone takes for as many; an op of a group of 1,000.
//!
//! `cargo bench -p causeway-groups --bench crowds`. The two of a row take turns within one run and are
//! counted in CPU time of this thread; the ratio is the median of the rounds' own. Databases, networks
//! and servers are measured elsewhere.
#![cfg(test)]

#[path = "crowd/founder.rs"]
mod founder;
#[path = "crowd/signer.rs"]
mod signer;

use std::{hint::black_box, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use causeway_groups::schemes::{
    pairwise::FanOut,
    sender_keys::{ChainSecrets, OwnChain, Seed, Suite},
};
use causeway_protocol::{
    content::{Content, Plaintext, Text, TextKind},
    envelope::Piece,
    fanout::Context,
    ids::{ClientId, DeviceId, EnvelopeId, Epoch, GroupId, RosterHash, Timestamp},
    olm_plaintext::OlmPlaintext,
    posting::{FanOut as FanOutInBytes, Posting},
    roster::{Body, Op, Roster},
};
use rustix::time::{ClockId, clock_gettime};
use vodozemac::{
    Curve25519PublicKey,
    olm::{Account, OlmMessage, Session, SessionConfig},
};
use zeroize::Zeroizing;

use crate::{
    founder::{create, stranger},
    signer::Signer,
};

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
        let spelled = |n: usize| URL_SAFE_NO_PAD.encode(vec![0; n]).len();
        // `"device":"piece",` for each, and `"payload":"…"`; the fields around it are some 300 bytes.
        let json = shards * spelled(payload) + others * (spelled(32) + spelled(piece) + 6);
        println!(
            "to {others}: {shards} envelopes, {sealed} B sealed, posted as {} B, or as some {} B of JSON",
            posted(others, shards, (payload, piece)),
            json + shards * 300
        );
    }
}

/// Of so many pieces in so many envelopes.
fn posted(others: usize, shards: usize, (payload, piece): (usize, usize)) -> usize {
    let places: Vec<u16> = (0..).take(others).collect();
    let fan_out = |places: &[u16]| FanOutInBytes {
        id: EnvelopeId::new([6; 16]),
        epoch: Epoch(3),
        ttl_ms: 86_400_000,
        payload: vec![0; payload],
        pieces: places.iter().map(|place| (*place, Piece(vec![0; piece]))).collect(),
    };
    let fan_outs = places.chunks(others.div_ceil(shards)).map(fan_out).collect();
    let posting = Posting { count: 1, epoch: Epoch(3), roster: ROSTER, fan_outs };
    posting.to_bytes().expect("fits").len()
}

/// What an op costs who signs it and who judges it, in a group of so many.
fn op(members: u32) {
    let founder = Signer::new(0);
    let mut roster = Roster::create(&create(&founder, NOW, members)).expect("valid");
    for first in (1..members).step_by(500) {
        let entries = (first..members.min(first + 500)).map(stranger).collect();
        roster = roster.apply(&founder.op(&roster, NOW, &Body::Add(entries))).expect("valid");
    }
    assert_eq!(roster.members().len(), usize::try_from(members).expect("few"));
    let last = Body::Remove(vec![stranger(members - 1).member_id]);
    let (mut signing, mut judging) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        let mut bytes = Vec::new();
        signing.push(timed(|| bytes = founder.op(&roster, NOW, &last).as_bytes().to_vec()));
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
