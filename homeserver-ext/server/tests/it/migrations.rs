//! A database that an older version made goes on with what waits in it.

use std::path::Path;

use causeway_protocol::ids::Timestamp;
use causeway_server::{App, Clock, Config};
use causeway_store::{Db, Lock, Options, Schema};
use sqlx::migrate::Migrator;

use crate::harness::SERVER;

#[tokio::test]
async fn what_waits_from_before_a_migration_is_kept_and_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/server/sqlite");
    let old = folder.path().join("old");
    std::fs::create_dir(&old).unwrap();
    std::fs::copy(all.join("0001_first.sql"), old.join("0001_first.sql")).unwrap();
    let migrator = Migrator::new(old.as_path()).await.unwrap();
    let schemas = [Schema { name: "server", migrator: &migrator, is_counted: false }];
    let path = folder.path().join("server.db");
    let options = Options { path: path.clone(), lock: Lock::Exclusive, schemas: &schemas };
    let db = Db::open(options).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    for statement in [
        "INSERT INTO accounts VALUES ('a:a.example', x'01', 1, '{}', 1)",
        "INSERT INTO devices VALUES (1, x'02', x'01', 'a:a.example', '{}', TRUE, NULL, NULL)",
        "INSERT INTO groups VALUES (1, x'03', 0, x'', x'', 'tea', 1, FALSE, 60, 0)",
        "INSERT INTO envelopes VALUES (1, x'04', 0, 1, 0, 1, NULL, 60000, 9000, x'05')",
        "INSERT INTO mailboxes VALUES (1, 1, 0)",
        "INSERT INTO mailbox VALUES (1, 1, 1, NULL)",
    ] {
        sqlx::query(statement).execute(tx.conn()).await.unwrap();
    }
    tx.commit().await.unwrap();
    db.close().await;

    let clock = Clock::new(|| Timestamp(8_999));
    let app = App::open(Config::new(SERVER, path), clock).await.unwrap();
    let figures = app.figures().await.unwrap();
    assert_eq!((figures.mailbox_rows, figures.groups), (1, 1));
    assert_eq!(figures.oldest_waiting_ms, 0, "since when it waits nobody wrote down");
    app.upkeep().await.unwrap();
    assert_eq!(app.figures().await.unwrap().mailbox_rows, 1);
}
