//! Every row of the vectors' `op_negatives` over HTTP: each is refused with its reason, and the
//! database is what it was before.

use std::{collections::BTreeSet, sync::LazyLock};

use causeway_protocol::{
    api::GroupHead,
    ids::{CurveKey, Epoch, text_of},
    roster::Op,
};
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

use crate::harness::{Person, Server};

static NEGATIVES: LazyLock<Value> = LazyLock::new(|| VECTORS["op_negatives"].clone());
static VECTORS: LazyLock<Value> = LazyLock::new(|| {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/tests/vectors/native.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
});

fn bytes(hex: &Value) -> Vec<u8> {
    hex::decode(hex.as_str().unwrap()).unwrap()
}

/// The person of the vectors who signs most of the ops, as the server knows her.
async fn alice(server: &Server) -> Person {
    let alice = &VECTORS["people"][0];
    let device = &alice["devices"][0];
    let key = |hex: &Value| SigningKey::from_bytes(&bytes(hex).try_into().unwrap());
    let (identity, own) = (key(&alice["identity_seed"]), key(&device["device_seed"]));
    let curve25519 = CurveKey::from_slice(&bytes(&device["curve25519"])).unwrap();
    let person = Person::with_keys("alice", identity, own, curve25519);
    assert_eq!(person.record.certificate.as_bytes()[..], bytes(&device["certificate"]));
    person.registered(server).await
}

/// A server on which one of the histories has happened.
struct Place {
    server: Server,
    /// A member of the group, if there is one; she posted all of it.
    alice: Person,
    path: String,
    head: Option<Epoch>,
}

async fn place(history: &Value) -> Place {
    let server = Server::start().await;
    let alice = alice(&server).await;
    let (mut path, mut head) = ("/groups".to_owned(), None);
    for op in history.as_array().unwrap() {
        server.know(&Op::parse(&bytes(op)).unwrap()).await;
        let body = json!({ "op": text_of(&bytes(op)) });
        let done: GroupHead = alice.post(&server, &path, &body).await.ok();
        path = format!("/groups/{}/roster", done.group);
        head = Some(done.epoch);
    }
    Place { server, alice, path, head }
}

#[tokio::test]
async fn every_row_is_refused_with_its_reason_and_nothing_changes() {
    let items = NEGATIVES["items"].as_array().unwrap();
    let (mut judged, mut behind) = (0, BTreeSet::new());
    for (history, ops) in NEGATIVES["histories"].as_object().unwrap() {
        let Place { server, alice, path, head } = place(ops).await;
        let stranger = server.person("stranger").await;
        let before = server.rows().await;
        for item in items.iter().filter(|item| item["history"] == history.as_str()) {
            let (name, reason) = (&item["name"], item["reason"].as_str().unwrap());
            let body = json!({ "op": text_of(&bytes(&item["op"])) });
            for caller in [&alice, &stranger] {
                let answer = caller.post(&server, &path, &body).await;
                let is_behind = matches!(reason, "wrong_epoch" | "stale_prev");
                let Some(head) = head.filter(|_| is_behind) else {
                    let refusal = answer.refused(400, "DEV_CAUSEWAY_INVALID_OP");
                    let said = format!("{reason} (step {})", item["step"]);
                    assert!(refusal.error.contains(&said), "{name}: {}", refusal.error);
                    continue;
                };
                // Whoever is a member learns what he lacks, others not even that there is a group.
                if caller.account != alice.account {
                    answer.refused(404, "M_NOT_FOUND");
                    continue;
                }
                let refusal = answer.refused(409, "M_STALE_EPOCH");
                let epoch = Op::parse(&bytes(&item["op"])).unwrap().epoch();
                let from = if Some(epoch) == head.next() { head } else { epoch };
                let lacks = ops.as_array().unwrap().iter().map(bytes).skip(from.0 as usize);
                let got = refusal.ops.unwrap().into_iter().map(|op| op.0);
                assert!(got.eq(lacks), "{name}");
                assert_eq!(refusal.epoch, Some(head), "{name}");
                behind.insert(name.as_str().unwrap());
            }
            server.assert_unchanged(&before).await;
            judged += 1;
        }
    }
    assert_eq!((judged, behind.len()), (items.len(), 4));
}

#[tokio::test]
async fn an_op_is_as_long_as_an_envelope_takes_and_not_a_byte_longer() {
    let items = NEGATIVES["size_limit"].as_array().unwrap();
    let mut results = Vec::new();
    for item in items {
        let history = &NEGATIVES["histories"][item["history"].as_str().unwrap()];
        let Place { server, alice, path, head } = place(history).await;
        let fill = &item["op_fill"];
        let count = usize::try_from(fill["count"].as_u64().unwrap()).unwrap();
        let filling = bytes(&fill["fill"]).repeat(count);
        let op = [bytes(&fill["prefix"]), filling, bytes(&fill["suffix"])].concat();
        assert_eq!(op.len() as u64, item["op_bytes"].as_u64().unwrap());
        let result = item["result"].as_str().unwrap();
        if result == "ok" {
            server.know(&Op::parse(&op).unwrap()).await;
        }
        let before = server.rows().await;
        let answer = alice.post(&server, &path, &json!({ "op": text_of(&op) })).await;
        if result == "ok" {
            assert_eq!(answer.ok::<GroupHead>().epoch, head.unwrap().next().unwrap());
            let rows = alice.stream(&server).await.take(head.unwrap().0 as usize + 2).await;
            assert_eq!(rows.last().unwrap().envelope.payload, op);
        } else {
            let refusal = answer.refused(400, "DEV_CAUSEWAY_INVALID_OP");
            let said = format!("{result} (step {})", item["step"]);
            assert!(refusal.error.contains(&said), "{}", refusal.error);
            server.assert_unchanged(&before).await;
        }
        results.push(result);
    }
    assert_eq!(results, ["ok", "too_large"]);
}
