//! What any bridge must do: a durable commit for as many rows, and a request for each.

use causeway_bridge::storage::SCHEMA;
use causeway_store::{Db, Lock, Options};
use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::{process, stage::Stage};

/// What the bare loop takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floor {
    /// Messages per second.
    pub(super) rate: f64,
    /// CPU of each, milliseconds.
    pub(super) cpu_ms: f64,
    /// What each has written, KiB.
    pub(super) kib: f64,
}

/// The bare loop: `rows` in a commit, then a request for each with `at_once` in flight.
pub(super) async fn measure(stage: &Stage, messages: usize, rows: usize, at_once: usize) -> Floor {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("floor.db");
    let db = Db::open(Options {
        path,
        lock: Lock::Exclusive,
        schemas: &[causeway_groups::SCHEMA, SCHEMA],
    })
    .await
    .unwrap();
    let client = reqwest::Client::new();
    let me = std::process::id();
    let (began, before) = (Instant::now(), (process::cpu_ms(me), process::written_kib(me)));
    let rounds = messages / rows;
    for round in 0..rounds {
        let mut tx = db.begin().await.unwrap();
        for row in 0..rows {
            sqlx::query("INSERT INTO cursors (name, value) VALUES ($1, $2)")
                .bind(format!("{round}/{row}"))
                .bind("x".repeat(300))
                .execute(tx.conn())
                .await
                .unwrap();
        }
        tx.commit().await.unwrap();
        let put = async |row| {
            let url = format!(
                "{}/_matrix/client/v3/rooms/!r/send/m/{round}-{row}",
                stage.ground.homeserver
            );
            let body = format!("{{\"body\":\"{}\"}}", "x".repeat(100));
            client.put(url).body(body).send().await.unwrap().bytes().await.unwrap()
        };
        stream::iter(0..rows).map(put).buffer_unordered(at_once).count().await;
    }
    let done = (rounds * rows) as f64;
    Floor {
        rate: done / began.elapsed().as_secs_f64(),
        cpu_ms: (process::cpu_ms(me) - before.0) / done,
        kib: (process::written_kib(me) - before.1) / done,
    }
}
