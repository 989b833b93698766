//! Messages under a shared key beside the AEAD alone and an Ed25519 signature.
//!
//! `cargo bench -p causeway-groups --bench shared_keys`. The variants of a row take turns within one
//! run, and are counted in CPU time of this thread; the ratio is the median of the rounds' own.
#![cfg(test)]

use std::{hint::black_box, time::Duration};

use aes_gcm::{
    Aes256Gcm,
    aead::{Aead, KeyInit},
};
use causeway_groups::schemes::shared_key::{GroupKey, Verified, Window, Wire};
use causeway_protocol::{
    ids::{DeviceId, Epoch, GroupId, RosterHash},
    shared_key::{Alg, Context, Nonce},
};
use chacha20poly1305::ChaCha20Poly1305;
use crypto_secretbox::XSalsa20Poly1305;
use ed25519_dalek::{Signature, Signer, SigningKey};
use rustix::time::{ClockId, clock_gettime};
use zeroize::Zeroizing;

const ROUNDS: usize = 100;
const SLICE: usize = 64;
const GROUP: GroupId = GroupId::new([1; 32]);

fn main() {
    println!("{:<44}{:>11}{:>11}{:>8}", "what", "ours µs", "bare µs", "ratio");
    for (name, alg) in [
        ("AES-256-GCM", Alg::Aes256Gcm),
        ("ChaCha20-Poly1305", Alg::ChaCha20Poly1305),
        ("XSalsa20-Poly1305", Alg::XSalsa20Poly1305),
    ] {
        for bytes in [1_024, 32 * 1_024] {
            seal(name, alg, bytes);
            open(name, alg, bytes);
        }
    }
}

struct Bench {
    key: GroupKey,
    signing: SigningKey,
    context: Context,
    text: Vec<u8>,
}

impl Bench {
    fn new(alg: Alg, bytes: usize) -> Self {
        let signing = SigningKey::from_bytes(&[7; 32]);
        let key = GroupKey::new(alg, GROUP, Epoch(1), Zeroizing::new([8; 32]));
        let context = Context {
            group: GROUP,
            sender: DeviceId::new(signing.verifying_key().to_bytes()),
            key: key.id(),
            roster: RosterHash::new([4; 32]),
        };
        Self { key, signing, context, text: vec![9; bytes] }
    }

    fn sealed(&self, counter: u64) -> Vec<u8> {
        let nonce = match self.key.alg() {
            Alg::XSalsa20Poly1305 => Nonce::Whole([counter.to_le_bytes()[0]; 24]),
            Alg::Aes256Gcm | Alg::ChaCha20Poly1305 => Nonce::Salt([1; 4]),
        };
        let sealed = self.key.seal(&self.context, counter, nonce, &self.signing, &self.text);
        sealed.expect("sealed")
    }

    /// The same cipher under one key, with nothing derived or bound.
    fn bare_box(&self) -> Vec<u8> {
        let (key, text) = ([5; 32], self.text.as_slice());
        let sealed = match self.key.alg() {
            Alg::Aes256Gcm => Aes256Gcm::new(&key.into()).encrypt(&[6; 12].into(), text),
            Alg::ChaCha20Poly1305 => {
                ChaCha20Poly1305::new(&key.into()).encrypt(&[6; 12].into(), text)
            }
            Alg::XSalsa20Poly1305 => {
                XSalsa20Poly1305::new(&key.into()).encrypt(&[6; 24].into(), text)
            }
        };
        sealed.expect("sealed")
    }

    fn bare_open(&self, boxed: &[u8]) -> Vec<u8> {
        let key = [5; 32];
        let opened = match self.key.alg() {
            Alg::Aes256Gcm => Aes256Gcm::new(&key.into()).decrypt(&[6; 12].into(), boxed),
            Alg::ChaCha20Poly1305 => {
                ChaCha20Poly1305::new(&key.into()).decrypt(&[6; 12].into(), boxed)
            }
            Alg::XSalsa20Poly1305 => {
                XSalsa20Poly1305::new(&key.into()).decrypt(&[6; 24].into(), boxed)
            }
        };
        opened.expect("opened")
    }
}

fn seal(name: &str, alg: Alg, bytes: usize) {
    let bench = Bench::new(alg, bytes);
    let digest = [3; 47];
    let mut counter = 0;
    let ours = || {
        timed(|_| {
            counter += 1;
            black_box(bench.sealed(counter % 1_000_000));
        })
    };
    let bare = || {
        timed(|_| {
            black_box((bench.bare_box(), bench.signing.sign(&digest)));
        })
    };
    row(&format!("seal {bytes} B, {name}"), ours, bare);
}

fn open(name: &str, alg: Alg, bytes: usize) {
    let bench = Bench::new(alg, bytes);
    let device = bench.signing.verifying_key();
    // Each signature is verified once: how long that takes depends on its bits, and less so where the
    // processor has met them before.
    let mut counter = 0;
    let ours = || {
        let wires: Vec<Vec<u8>> = (0..SLICE)
            .map(|_| {
                counter += 1;
                bench.sealed(counter)
            })
            .collect();
        let mut window = Window::default();
        timed(|n| {
            let wire = Wire::parse(&wires[n]).expect("parsed");
            let verified = wire.verify(&bench.key, &mut window, &bench.context, &device);
            black_box(verified.and_then(Verified::open).expect("opened"));
        })
    };
    let mut digest = [3; 47];
    let bare = || {
        let boxed: Vec<_> = (0..SLICE).map(|_| bench.bare_box()).collect();
        let signed: Vec<([u8; 47], Signature)> = (0..SLICE)
            .map(|_| {
                let last = bench.signing.sign(&digest).to_bytes();
                digest.copy_from_slice(&last[..47]);
                (digest, bench.signing.sign(&digest))
            })
            .collect();
        timed(|n| {
            let (digest, signature) = &signed[n];
            black_box(&device).verify_strict(black_box(digest), signature).expect("verified");
            black_box(bench.bare_open(&boxed[n]));
        })
    };
    row(&format!("open {bytes} B, {name}"), ours, bare);
}

/// Both in turns, and how the one stands to the other.
fn row(what: &str, mut ours: impl FnMut() -> f64, mut bare: impl FnMut() -> f64) {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS + 5 {
        // Verifying takes up to a fifth longer by where on the stack it runs, so that is another each
        // time.
        let places = (round * 7 % 64, round * 11 % 64);
        let costs = if round % 2 == 0 {
            let ours = deeper(places.0, &mut ours);
            (ours, deeper(places.1, &mut bare))
        } else {
            let bare = deeper(places.1, &mut bare);
            (deeper(places.0, &mut ours), bare)
        };
        // The first rounds fill caches and are not counted.
        if round >= 5 {
            rounds.push(costs);
        }
    }
    let ours = median(rounds.iter().map(|(ours, _)| *ours));
    let bare = median(rounds.iter().map(|(_, bare)| *bare));
    let ratio = median(rounds.iter().map(|(ours, bare)| ours / bare));
    println!("{what:<44}{ours:>11.1}{bare:>11.1}{ratio:>8.2}");
}

/// Runs it so many steps further down the stack.
#[inline(never)]
fn deeper(steps: usize, work: &mut dyn FnMut() -> f64) -> f64 {
    let step = black_box([0_u8; 72]);
    let took = if steps == 0 { work() } else { deeper(steps - 1, work) };
    black_box(&step);
    took
}

fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = of.collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// CPU time of this thread for one of a slice of turns, in µs.
fn timed(mut work: impl FnMut(usize)) -> f64 {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("not negative");
    let start = now();
    (0..SLICE).for_each(&mut work);
    let slice = f64::from(u32::try_from(SLICE).expect("a small slice"));
    now().saturating_sub(start).as_secs_f64() * 1e6 / slice
}
