//! Sender Keys beside Megolm and beside what no scheme can go below.
//!
//! `cargo bench -p causeway-groups --bench sender_keys`. Every row's variants take turns within one
//! run, in slices of a few milliseconds, and are counted in CPU time of this thread: the ratio is
//! the median of the rounds' own ratios, so a busy machine moves both sides alike.
//!
//! The floor is AES-256-GCM under a fresh key and an Ed25519 signature over 48 bytes: no keys
//! derived, nothing hashed, nothing remembered. Where messages are large it is out of reach for any
//! scheme whose signature covers them, so beside it stands the same with the signature over all of
//! the ciphertext, as Megolm has it.
#![cfg(test)]

use std::{hint::black_box, time::Duration};

use aes_gcm::{
    Aes256Gcm,
    aead::{AeadInPlace, KeyInit},
};
use causeway_groups::schemes::sender_keys::{
    ChainSecrets, HeldChain, OpenError, OwnChain, Seed, Suite, Wire,
};
use causeway_protocol::{
    ids::{DeviceId, Epoch, GroupId, RosterHash, Timestamp},
    sender_key::{Context, LEAVES},
};
use ed25519_dalek::{Signature, Signer, SigningKey};
use rustix::time::{ClockId, clock_gettime};
use vodozemac::megolm::{GroupSession, InboundGroupSession, MegolmMessage, SessionConfig};
use zeroize::Zeroizing;

const KIB: usize = 1024;
const ROUNDS: usize = 150;
const GROUP: GroupId = GroupId::new([1; 32]);
const ALICE: DeviceId = DeviceId::new([2; 32]);
const BOB: DeviceId = DeviceId::new([3; 32]);
const ROSTER: RosterHash = RosterHash::new([4; 32]);

fn main() {
    println!(
        "{:<44}{:>11}{:>11}  {:<18}{:>7}  {:<13}met",
        "what", "ours", "peer", "which", "ratio", "target"
    );
    seal(KIB, 64, [Some(0.90), Some(1.20)]);
    open(KIB, 64, [Some(1.00), Some(1.20)]);
    seal(64 * KIB, 8, [None, None]);
    open(64 * KIB, 8, [None, None]);
    open_after_a_gap();
    forged_far_index();
    overhead();
    state();
}

/// One variant of a row: runs a slice of messages and says what one of them cost, in µs.
type Variant<'a> = Box<dyn FnMut() -> f64 + 'a>;

/// Lets the variants take turns; all costs, by variant and round.
fn paired(mut variants: Vec<Variant<'_>>) -> Vec<Vec<f64>> {
    let mut costs = vec![Vec::with_capacity(ROUNDS); variants.len()];
    for round in 0..ROUNDS + 5 {
        for turn in 0..variants.len() {
            let at = (round + turn) % variants.len();
            let cost = variants[at]();
            // The first rounds fill caches and are not counted.
            if round >= 5 {
                costs[at].push(cost);
            }
        }
    }
    costs
}

/// CPU time of this thread for one of `count` turns of `work`, in µs.
fn timed(count: usize, mut work: impl FnMut(usize)) -> f64 {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("not negative");
    let start = now();
    (0..count).for_each(&mut work);
    now().saturating_sub(start).as_secs_f64() * 1e6
        / f64::from(u32::try_from(count).expect("a small slice"))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints one line: our median, the peer's, the median of the rounds' ratios, and the verdict.
fn row(what: &str, ours: &[f64], which: &str, peer: &[f64], target: Option<f64>) {
    let ratio = median(ours.iter().zip(peer).map(|(ours, peer)| ours / peer).collect());
    println!(
        "{what:<44}{:>8.2} µs{:>8.2} µs  {which:<18}{ratio:>6.2}×  {:<13}{}",
        median(ours.to_vec()),
        median(peer.to_vec()),
        target.map_or("reported".to_owned(), |t| format!("≤ {t:.2}×")),
        target.map_or("–", |t| yes(ratio <= t)),
    );
}

/// Prints a line of one absolute figure.
fn fact(what: &str, ours: &str, peer: &str, which: &str, target: &str, met: bool) {
    println!("{what:<44}{ours:>11}{peer:>11}  {which:<18}{:>7}  {target:<13}{}", "", yes(met));
}

fn yes(met: bool) -> &'static str {
    if met { "yes" } else { "NO" }
}

fn chain() -> OwnChain {
    let secrets =
        ChainSecrets { root: Seed::new([7; 32]), signing: Zeroizing::new([8; 32]), rand: [9; 16] };
    OwnChain::new(Suite::Aes256Gcm, GROUP, ALICE, Epoch(3), Timestamp(5), secrets)
}

fn reader(chain: &OwnChain) -> HeldChain {
    let distribution = chain.distribution(BOB, ROSTER, Timestamp(5)).expect("not ended");
    HeldChain::from_distribution(&distribution).expect("held")
}

fn open_one(chain: &mut HeldChain, wire: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let context = Context { group: GROUP, sender: ALICE, chain: chain.id(), roster: ROSTER };
    Ok(Wire::parse(wire)?.verify(chain, &context)?.open()?.spend())
}

fn seal(size: usize, slice: usize, [megolm_target, floor_target]: [Option<f64>; 2]) {
    let text = vec![0x55; size];
    let mut own = chain();
    let ours = || {
        if own.next_index() + u32::try_from(slice).expect("small") > LEAVES {
            own = chain();
        }
        timed(slice, |_| {
            let mut salt = [0; 4];
            getrandom::fill(&mut salt).expect("entropy");
            black_box(own.seal(&ROSTER, salt, black_box(&text)).expect("sealed"));
        })
    };
    let mut session = GroupSession::new(SessionConfig::version_1());
    let megolm = || {
        timed(slice, |_| {
            black_box(session.encrypt(black_box(&text)).to_bytes());
        })
    };
    let signing = SigningKey::from_bytes(&[8; 32]);
    let floor = || {
        timed(slice, |_| {
            let mut wire = Vec::with_capacity(size + 16 + 64);
            wire.extend_from_slice(black_box(&text));
            let aead = Aes256Gcm::new(black_box(&[6; 32]).into());
            let tag = aead.encrypt_in_place_detached(&[0; 12].into(), &[], &mut wire).expect("tag");
            wire.extend_from_slice(&tag);
            wire.extend_from_slice(&signing.sign(black_box(&[5; 48])).to_bytes());
            black_box(wire);
        })
    };
    let whole = || {
        timed(slice, |_| {
            let mut wire = Vec::with_capacity(size + 16 + 64);
            wire.extend_from_slice(black_box(&text));
            let aead = Aes256Gcm::new(black_box(&[6; 32]).into());
            let tag = aead.encrypt_in_place_detached(&[0; 12].into(), &[], &mut wire).expect("tag");
            wire.extend_from_slice(&tag);
            let signature = signing.sign(black_box(&wire)).to_bytes();
            wire.extend_from_slice(&signature);
            black_box(wire);
        })
    };
    let costs = paired(vec![Box::new(ours), Box::new(megolm), Box::new(floor), Box::new(whole)]);
    let what = format!("seal {} KiB", size / KIB);
    row(&what, &costs[0], "vodozemac Megolm", &costs[1], megolm_target);
    row(&what, &costs[0], "Ed25519 + AES-GCM", &costs[2], floor_target);
    row(&what, &costs[0], "Ed25519 over all + AES-GCM", &costs[3], None);
}

fn open(size: usize, slice: usize, [megolm_target, floor_target]: [Option<f64>; 2]) {
    let text = vec![0x55; size];
    let mut own = chain();
    let mut held = reader(&own);
    let first = held.encode();
    let count = if size > KIB { 256 } else { LEAVES as usize };
    let wires: Vec<_> =
        (0..count).map(|_| own.seal(&ROSTER, [1; 4], &text).expect("sealed")).collect();
    let mut next = 0;
    let ours = || {
        if next + slice > count {
            (next, held) = (0, HeldChain::decode(&first).expect("decodes"));
        }
        next += slice;
        timed(slice, |at| {
            black_box(open_one(&mut held, &wires[next - slice + at]).expect("opens"));
        })
    };

    let mut session = GroupSession::new(SessionConfig::version_1());
    let key = session.session_key();
    let new = || InboundGroupSession::new(&key, SessionConfig::version_1());
    let mut inbound = new();
    let megolm_wires: Vec<_> = (0..count).map(|_| session.encrypt(&text).to_bytes()).collect();
    let mut next = 0;
    let megolm = || {
        if next + slice > count {
            (next, inbound) = (0, new());
        }
        next += slice;
        timed(slice, |at| {
            let wire = &megolm_wires[next - slice + at];
            let message = MegolmMessage::from_bytes(wire).expect("parses");
            black_box(inbound.decrypt(&message).expect("opens"));
        })
    };

    let signing = SigningKey::from_bytes(&[8; 32]);
    let (signed, public) = ([5; 48], signing.verifying_key());
    let signature = signing.sign(&signed).to_bytes();
    let mut sealed = text.clone();
    let tag = Aes256Gcm::new(&[6; 32].into())
        .encrypt_in_place_detached(&[0; 12].into(), &[], &mut sealed)
        .expect("tag");
    let floor = || {
        timed(slice, |_| {
            let signature = Signature::from_bytes(black_box(&signature));
            public.verify_strict(black_box(&signed), &signature).expect("signed");
            let mut text = black_box(&sealed).clone();
            let aead = Aes256Gcm::new(black_box(&[6; 32]).into());
            aead.decrypt_in_place_detached(&[0; 12].into(), &[], &mut text, &tag).expect("opens");
            black_box(text);
        })
    };
    let all = signing.sign(&sealed).to_bytes();
    let whole = || {
        timed(slice, |_| {
            let signature = Signature::from_bytes(black_box(&all));
            public.verify_strict(black_box(&sealed), &signature).expect("signed");
            let mut text = black_box(&sealed).clone();
            let aead = Aes256Gcm::new(black_box(&[6; 32]).into());
            aead.decrypt_in_place_detached(&[0; 12].into(), &[], &mut text, &tag).expect("opens");
            black_box(text);
        })
    };
    let costs = paired(vec![Box::new(ours), Box::new(megolm), Box::new(floor), Box::new(whole)]);
    let what = format!("open {} KiB", size / KIB);
    row(&what, &costs[0], "vodozemac Megolm", &costs[1], megolm_target);
    row(&what, &costs[0], "Ed25519 + AES-GCM", &costs[2], floor_target);
    row(&what, &costs[0], "Ed25519 over all + AES-GCM", &costs[3], None);
}

/// A receiver that got index 0 and then index 1,001, beside one that lost nothing.
fn open_after_a_gap() {
    let text = vec![0x55; KIB];
    let mut own = chain();
    let mut held = reader(&own);
    let first = held.encode();
    let wires: Vec<_> =
        (0..LEAVES).map(|_| own.seal(&ROSTER, [1; 4], &text).expect("sealed")).collect();
    let mut after_first = reader(&chain());
    open_one(&mut after_first, &wires[0]).expect("opens");
    let after_first = after_first.encode();

    let gap = || {
        let mut chains: Vec<_> =
            (0..64).map(|_| HeldChain::decode(&after_first).expect("decodes")).collect();
        timed(64, |at| {
            black_box(open_one(&mut chains[at], &wires[1001]).expect("opens"));
        })
    };
    let mut next = 0;
    let in_order = || {
        if next + 64 > wires.len() {
            (next, held) = (0, HeldChain::decode(&first).expect("decodes"));
        }
        next += 64;
        timed(64, |at| {
            black_box(open_one(&mut held, &wires[next - 64 + at]).expect("opens"));
        })
    };
    let costs = paired(vec![Box::new(gap), Box::new(in_order)]);
    row("open 1 KiB after a gap of 1,000", &costs[0], "in order", &costs[1], Some(1.15));
}

/// The bytes of index 0 relabelled as the last index, at a receiver that has seen nothing.
fn forged_far_index() {
    let mut own = chain();
    let mut held = reader(&own);
    let before = held.encode();
    let wire = own.seal(&ROSTER, [1; 4], &[0x55; KIB]).expect("sealed");
    let mut forged = wire[..5].to_vec();
    forged.extend([0xff, 0x07]); // 1,023 as LEB128, where 0 was one byte.
    forged.extend_from_slice(&wire[6..]);
    let costs = paired(vec![Box::new(|| {
        timed(64, |_| {
            let refused = open_one(&mut held, black_box(&forged)).expect_err("forged");
            assert_eq!(refused, OpenError::Signature);
        })
    })]);
    let (cost, unchanged) = (median(costs[0].clone()), *held.encode() == *before);
    fact(
        "forged message, 1,023 ahead",
        &format!("{cost:.2} µs"),
        "",
        "",
        "≤ 10,000 µs",
        cost <= 10_000.0,
    );
    fact(
        "  chain afterwards",
        if unchanged { "unchanged" } else { "CHANGED" },
        "",
        "",
        "unchanged",
        unchanged,
    );
}

fn overhead() {
    let (mut own, mut session) = (chain(), GroupSession::new(SessionConfig::version_1()));
    let text = [0x55; KIB];
    let (mut ours, mut megolm) = (0, 0);
    for _ in 0..LEAVES {
        ours = ours.max(own.seal(&ROSTER, [1; 4], &text).expect("sealed").len() - KIB);
        megolm = megolm.max(session.encrypt(text).to_bytes().len() - KIB);
    }
    fact(
        "overhead on the wire, greatest of a chain",
        &format!("{ours} B"),
        &format!("{megolm} B"),
        "vodozemac Megolm",
        "≤ 95 B",
        ours <= 95,
    );
}

/// Bytes that a receiver stores for one sender, before they are sealed at rest.
fn state() {
    let most = |keep: fn(u32) -> bool| {
        let mut own = chain();
        let mut held = reader(&own);
        let mut most = 0;
        for index in 0..LEAVES {
            let wire = own.seal(&ROSTER, [1; 4], b"").expect("sealed");
            if keep(index) {
                open_one(&mut held, &wire).expect("opens");
            }
            most = most.max(held.encode().len());
        }
        most
    };
    let session = GroupSession::new(SessionConfig::version_1());
    let inbound = InboundGroupSession::new(&session.session_key(), SessionConfig::version_1());
    let megolm = serde_json::to_vec(&inbound.pickle()).expect("JSON").len();
    let (in_order, holes) = (most(|_| true), most(|index| index % 2 == 0));
    let peer = format!("{megolm} B");
    fact(
        "state per sender, in order, greatest",
        &format!("{in_order} B"),
        &peer,
        "Megolm pickle",
        "≤ 1,024 B",
        in_order <= 1024,
    );
    // 64 nodes are kept at most; what is behind them counts as lost.
    fact(
        "state per sender, every second one lost",
        &format!("{holes} B"),
        &peer,
        "Megolm pickle",
        "≤ 2,400 B",
        holes <= 2400,
    );
}
