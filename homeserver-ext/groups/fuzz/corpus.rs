//! Writes what fuzzing begins with: a few plays, and what is stored.
//!
//! `cargo run --manifest-path homeserver-ext/groups/fuzz/Cargo.toml --example corpus`

use std::{fs, path::Path};

use causeway_groups::schemes::{
    sender_keys::{ChainSecrets, HeldChain, OwnChain, Seed, Suite},
    shared_key::Window,
};
use causeway_protocol::ids::{DeviceId, Epoch, GroupId, RosterHash, Timestamp};
use serde_json::Value;
use zeroize::Zeroizing;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let plays: [&[u8]; 5] = [
        // In order, each twice.
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1],
        // The last first, then one that is too old.
        &[1, 0, 3, 255, 0, 0, 0, 13, 0, 0, 0, 0, 1],
        // Every kind of step.
        &[2, 0, 0, 5, 8, 0, 5, 40, 24, 0, 6, 9, 10, 0, 5, 30, 11, 0, 5, 27, 0, 7, 13, 0, 0],
        &[0, 14, 1, 0, 0, 0, 255, 0, 1, 0, 0, 1, 1],
        &[0, 15, 0, 4, 0x21, 1, 2, 3],
    ];
    for target in ["pairwise", "sender_keys", "shared_key"] {
        write(&folder.join(target), &plays.map(<[u8]>::to_vec))?;
    }
    write(&folder.join("stored"), &stored())?;
    let mut texts = Vec::new();
    for seed in ["seed001.json", "seed004.json"] {
        let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../protocol/tests/vectors");
        let file: Value = serde_json::from_slice(&fs::read(vectors.join(seed))?)?;
        collect(&file, &mut texts);
    }
    write(&folder.join("legacy"), &texts)
}

/// Every text of the vectors, and every object as the JSON that it is.
fn collect(value: &Value, texts: &mut Vec<Vec<u8>>) {
    match value {
        Value::String(text) => {
            texts.push(text.clone().into_bytes());
            texts.extend(hex::decode(text));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Object(fields) => {
            texts.push(value.to_string().into_bytes());
            fields.values().for_each(|field| collect(field, texts));
        }
        _ => {}
    }
}

fn stored() -> Vec<Vec<u8>> {
    let mut stored = vec![Window::default().encode()];
    for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
        let secrets = ChainSecrets {
            root: Seed::new([7; 32]),
            signing: Zeroizing::new([8; 32]),
            rand: [9; 16],
        };
        let (group, sender) = (GroupId::new([1; 32]), DeviceId::new([2; 32]));
        let mut own = OwnChain::new(suite, group, sender, Epoch(3), Timestamp(5), secrets);
        for _ in 0..5 {
            stored.push(own.encode().to_vec());
            let key = own.distribution(sender, RosterHash::new([4; 32]), Timestamp(6));
            let held = key.and_then(|key| HeldChain::from_distribution(&key).ok());
            stored.extend(held.map(|held| held.encode().to_vec()));
            _ = own.seal(&RosterHash::new([4; 32]), [0; 4], b"one more");
        }
    }
    stored
}

fn write(folder: &Path, samples: &[Vec<u8>]) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    for (number, sample) in samples.iter().enumerate() {
        fs::write(folder.join(format!("{number:05}")), sample)?;
    }
    println!("{} in {}", samples.len(), folder.display());
    Ok(())
}
