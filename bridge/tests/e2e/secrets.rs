//! What a client keeps to itself, as its machine has it in memory: read from its folder, where it is sealed,
//! with the client's own key.

use causeway_groups::{
    sdk::Client,
    vault::{Class, Vault},
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Row as _};

use crate::needles::Secret;

/// Where something is sealed: class, table, column, and the columns that say which row it is.
type Place = (Class, &'static str, &'static str, &'static [&'static str]);

const DEVICE_KEY: Place = (Class::Signing, "own", "device_sealed", &["x'01'"]);
const IDENTITY_KEY: Place = (Class::Signing, "own", "identity_sealed", &["x'01'"]);
const OLM_ACCOUNT: Place = (Class::Ratchet, "own", "olm_sealed", &["x'01'"]);
const TOKEN: Place = (Class::Content, "sessions", "token", &["x'01'"]);
const OLM_SESSIONS: Place = (Class::Ratchet, "olm_sessions", "sealed", &["peer", "session_id"]);
const OWN_CHAINS: Place = (Class::Ratchet, "own_chains", "sealed", &["group_id"]);
const HELD_CHAINS: Place =
    (Class::Ratchet, "held_chains", "sealed", &["group_id", "sender", "chain_id"]);
const SHARED_KEYS: Place = (Class::Ratchet, "shared_keys", "sealed", &["group_id", "key_id"]);

/// An own chain's version, suite, group, device, epoch, random part and time (`OwnChain::encode`).
const BEFORE_SIGNING_KEY: usize = 2 + 32 + 32 + 4 + 16 + 8;
/// A held chain's version, suite, group, device, epoch, name and public key (`HeldChain::encode`).
const BEFORE_NODES: usize = 2 + 32 + 32 + 4 + 32 + 32;
/// A node of a chain: depth, prefix and seed.
const NODE: usize = 1 + 2 + 32;
/// Depth of the nodes that are message keys.
const LEAF: u8 = 10;

/// All that there is now, each with its kind.
pub(crate) async fn of(client: &Client) -> Vec<Secret> {
    let key_file = client.db().path().with_file_name("storage.key");
    let vault = Vault::open(client.db(), &key_file).await.unwrap();
    let opened = async |place| opened(client, &vault, place).await;
    let mut all = Vec::new();
    let mut add = |kind: &str, bytes: &[u8]| all.push((kind.to_owned(), bytes.to_vec()));
    for (kind, place) in [
        ("device key", DEVICE_KEY),
        ("identity key", IDENTITY_KEY),
        ("session token", TOKEN),
        ("shared key", SHARED_KEYS),
    ] {
        for bytes in opened(place).await {
            add(kind, &bytes);
        }
    }
    for (kind, place) in
        [("key of an Olm account", OLM_ACCOUNT), ("key of an Olm session", OLM_SESSIONS)]
    {
        for pickle in opened(place).await {
            let pickle = serde_json::from_slice(&pickle).unwrap();
            private_keys(&pickle, "", &mut |key| add(kind, &key));
        }
    }
    for chain in opened(OWN_CHAINS).await {
        let (signing, nodes) = chain[BEFORE_SIGNING_KEY..].split_at(32);
        add("signing key of a chain", signing);
        seeds(nodes, &mut add);
    }
    for chain in opened(HELD_CHAINS).await {
        seeds(&chain[BEFORE_NODES..], &mut add);
    }
    all
}

fn seeds(nodes: &[u8], add: &mut impl FnMut(&str, &[u8])) {
    let (nodes, rest) = nodes.as_chunks::<NODE>();
    assert!(rest.is_empty(), "a chain is encoded otherwise");
    for [depth, _, _, seed @ ..] in nodes {
        add(if *depth == LEAF { "message key" } else { "chain key" }, seed);
    }
}

async fn opened(
    client: &Client,
    vault: &Vault,
    (class, table, column, key): Place,
) -> Vec<Vec<u8>> {
    let key: Vec<_> = key.iter().map(|column| format!("CAST({column} AS BLOB)")).collect();
    let sql = format!("SELECT {column}, {} FROM {table} WHERE {column} NOT NULL", key.join(", "));
    let mut read = client.db().read().await.unwrap();
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(read.conn()).await.unwrap();
    let open = |row: &causeway_store::Row| {
        let key: Vec<Vec<u8>> = (1..row.len()).map(|nth| row.get(nth)).collect();
        let sealed: Vec<u8> = row.get(0);
        vault.unseal(class, table, column, &key.concat(), &sealed).unwrap().to_vec()
    };
    rows.iter().map(open).collect()
}

/// The private keys of a pickle: lists of 32 bytes, but for those that others are told.
fn private_keys(pickle: &Value, within: &str, add: &mut impl FnMut(Vec<u8>)) {
    match pickle {
        Value::Array(list) => {
            let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
            match list.iter().map(byte).collect::<Option<Vec<u8>>>() {
                Some(bytes) if bytes.len() == 32 => add(bytes),
                _ => list.iter().for_each(|value| private_keys(value, within, add)),
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let is_told =
                    matches!(name.as_str(), "session_keys" | "public_keys" | "parent_ratchet_key")
                        || (name == "ratchet_key" && within != "active_ratchet");
                if !is_told {
                    private_keys(value, name, add);
                }
            }
        }
        _ => {}
    }
}
