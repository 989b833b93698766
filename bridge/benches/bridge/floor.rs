//! What any bridge must do: a durable commit for as many rows, and a request for each.

use causeway_bridge::storage::SCHEMA;
use causeway_store::{Db, Lock, Options};

use super::stage::Stage;

/// Rows of one commit, as many as the bridge takes at most.
const ROWS: usize = 64;

/// Messages per second of the bare loop.
pub(super) async fn measure(stage: &Stage, messages: usize) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("floor.db");
    let db = Db::open(Options { path, lock: Lock::Exclusive, schemas: &[SCHEMA] }).await.unwrap();
    let client = reqwest::Client::new();
    let began = tokio::time::Instant::now();
    for round in 0..messages / ROWS {
        let mut tx = db.begin().await.unwrap();
        for row in 0..ROWS {
            sqlx::query("INSERT INTO cursors (name, value) VALUES ($1, $2)")
                .bind(format!("{round}/{row}"))
                .bind("x".repeat(300))
                .execute(tx.conn())
                .await
                .unwrap();
        }
        tx.commit().await.unwrap();
        for row in 0..ROWS {
            let url =
                format!("{}/_matrix/client/v3/rooms/!r/send/m/{round}-{row}", stage.homeserver);
            let body = format!("{{\"body\":\"{}\"}}", "x".repeat(100));
            client.put(url).body(body).send().await.unwrap().bytes().await.unwrap();
        }
    }
    (messages / ROWS * ROWS) as f64 / began.elapsed().as_secs_f64()
}
