//! Writes what fuzzing begins with: every byte string of the vectors, and every history.
//!
//! `cargo run --manifest-path homeserver-ext/protocol/fuzz/Cargo.toml --example corpus`

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

fn main() -> std::io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut texts, mut histories) = (BTreeSet::new(), BTreeSet::new());
    for name in ["native.json", "v2.json"] {
        let file = fs::read(here.join("../tests/vectors").join(name))?;
        collect(&serde_json::from_slice(&file)?, &mut texts, &mut histories);
    }
    write(&here.join("corpus/parsers"), &texts)?;
    write(&here.join("corpus/histories"), &histories)
}

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap_or_else(|_| text.as_bytes().to_vec())
}

fn collect(value: &Value, texts: &mut BTreeSet<Vec<u8>>, histories: &mut BTreeSet<Vec<u8>>) {
    match value {
        Value::String(text) => drop(texts.insert(bytes(text))),
        Value::Array(items) => {
            let ops: Vec<_> = items.iter().filter_map(Value::as_str).map(bytes).collect();
            if ops.len() == items.len() && !ops.is_empty() {
                let piece = |op: &Vec<u8>| [&(op.len() as u16).to_be_bytes()[..], op].concat();
                histories.insert(ops.iter().flat_map(piece).collect());
            }
            items.iter().for_each(|item| collect(item, texts, histories));
        }
        Value::Object(fields) => {
            if fields.values().any(Value::is_object) || fields.len() > 2 {
                texts.insert(value.to_string().into_bytes());
            }
            fields.values().for_each(|field| collect(field, texts, histories));
        }
        _ => {}
    }
}

fn write(folder: &Path, samples: &BTreeSet<Vec<u8>>) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let samples = samples.iter().filter(|sample| sample.len() <= 16_384);
    let mut count = 0;
    for (number, sample) in samples.enumerate() {
        fs::write(folder.join(format!("{number:05}")), sample)?;
        count = number + 1;
    }
    println!("{count} in {}", folder.display());
    Ok(())
}
