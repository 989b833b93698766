use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use causeway_store::{Db, Lock, OpenCause, OpenError, Options, Schema};
use sqlx::Row as _;

use crate::harness::{add, all, migrator, notes, open};

const CHILD: &str = "CAUSEWAY_STORE_TEST_DB";

/// This test binary again, as another process that runs just the test `name` on `path`.
fn child(name: &str, path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn as_child() -> Option<std::path::PathBuf> {
    std::env::var_os(CHILD).map(Into::into)
}

#[tokio::test]
async fn a_second_process_is_refused_and_told_who_holds_it() {
    if let Some(path) = as_child() {
        let refused = open(&path, Lock::Exclusive).await.err().unwrap();
        let OpenCause::Held(holder) = &refused.cause else { panic!("{refused}") };
        assert_ne!(holder.pid, std::process::id());
        assert!(refused.to_string().contains(&holder.pid.to_string()), "{refused}");
        assert!(!holder.program.is_empty());
        assert!(matches!(
            open(&path, Lock::Shared).await,
            Err(OpenError { cause: OpenCause::Held(_), .. })
        ));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let db = open(&path, Lock::Exclusive).await.unwrap();
    let mut child = child("open::a_second_process_is_refused_and_told_who_holds_it", &path);
    assert!(tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap().success());
    db.close().await;
    open(&path, Lock::Exclusive).await.unwrap();
}

#[tokio::test]
async fn clients_share_a_file_but_not_with_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let one = open(&path, Lock::Shared).await.unwrap();
    let two = open(&path, Lock::Shared).await.unwrap();
    assert!(matches!(
        open(&path, Lock::Exclusive).await,
        Err(OpenError { cause: OpenCause::Held(_), .. })
    ));
    one.close().await;
    two.close().await;
    open(&path, Lock::Exclusive).await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_the_file_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let newer = {
        let mut statements: Vec<String> =
            notes().iter().map(|m| m.sql.as_str().to_owned()).collect();
        statements.push("CREATE TABLE more (id INTEGER PRIMARY KEY)".into());
        migrator(statements)
    };
    let schemas = [Schema { name: "notes", migrator: &newer, is_counted: false }];
    let options = Options { path: path.clone(), lock: Lock::Exclusive, schemas: &schemas };
    Db::open(options).await.unwrap().close().await;
    let before = std::fs::read(&path).unwrap();

    let refused = open(&path, Lock::Exclusive).await.err().unwrap();
    assert!(matches!(&refused.cause, OpenCause::Newer(name, 2, 1) if name == "notes"), "{refused}");
    assert!(std::fs::read(&path).unwrap() == before);
}

#[tokio::test]
async fn a_migration_that_was_edited_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    open(&path, Lock::Exclusive).await.unwrap().close().await;
    let before = std::fs::read(&path).unwrap();
    let edited = migrator(vec!["CREATE TABLE notes (id INTEGER PRIMARY KEY)".into()]);
    let schemas = [Schema { name: "notes", migrator: &edited, is_counted: false }];
    let options = Options { path: path.clone(), lock: Lock::Exclusive, schemas: &schemas };
    assert!(matches!(
        Db::open(options).await,
        Err(OpenError { cause: OpenCause::Altered(_, 1), .. })
    ));
    assert!(std::fs::read(&path).unwrap() == before);
}

#[tokio::test]
async fn two_schemas_live_in_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let (notes, other) =
        (notes(), migrator(vec!["CREATE TABLE other (id INTEGER PRIMARY KEY)".into()]));
    let both = [
        Schema { name: "notes", migrator: &notes, is_counted: false },
        Schema { name: "other", migrator: &other, is_counted: false },
    ];
    for schemas in [&both[..1], &both[..], &both[1..]] {
        let options = Options { path: path.clone(), lock: Lock::Exclusive, schemas };
        Db::open(options).await.unwrap().close().await;
    }
}

#[tokio::test]
async fn a_migration_that_was_killed_half_way_is_completed() {
    const TABLES: i64 = 24;
    let steps = migrator(
        (0..TABLES)
            .map(|n| {
                format!(
                    "CREATE TABLE t{n} (x INTEGER); WITH RECURSIVE c(x) AS
                     (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 20000)
                     INSERT INTO t{n} SELECT x FROM c"
                )
            })
            .collect(),
    );
    let schemas = [Schema { name: "steps", migrator: &steps, is_counted: false }];
    let options =
        |path: &Path| Options { path: path.to_owned(), lock: Lock::Exclusive, schemas: &schemas };
    if let Some(path) = as_child() {
        Db::open(options(&path)).await.unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let written = || {
        let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        bytes(&path) + bytes(&dir.path().join("t.db-wal"))
    };
    for kill in 1..=8 {
        let mut child = child("open::a_migration_that_was_killed_half_way_is_completed", &path);
        while written() < kill * 300_000 && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let db = Db::open(options(&path)).await.unwrap();
    let mut read = db.read().await.unwrap();
    for n in 0..TABLES {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM t{n}"));
        let row = sqlx::query(sql).fetch_one(read.conn()).await.unwrap();
        assert_eq!(row.get::<i64, _>(0), 20_000);
    }
}

#[tokio::test]
async fn what_was_committed_survives_a_kill() {
    if let Some(path) = as_child() {
        let db = open(&path, Lock::Exclusive).await.unwrap();
        for n in 0.. {
            let mut tx = db.begin().await.unwrap();
            add(&mut tx, &format!("{n}")).await.unwrap();
            tx.commit().await.unwrap();
            // What is said here is what must be there; a kill leaves it whole.
            std::fs::write(path.with_extension("saying"), format!("{n}")).unwrap();
            std::fs::rename(path.with_extension("saying"), path.with_extension("said")).unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let mut child = child("open::what_was_committed_survives_a_kill", &path);
    let said = || std::fs::read_to_string(path.with_extension("said")).unwrap_or_default();
    while said().len() < 2 {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let said: usize = said().parse().unwrap();
    let db = open(&path, Lock::Exclusive).await.unwrap();
    let kept = all(&db).await;
    assert!(kept.len() > said, "said {said}, kept {}", kept.len());
    assert!(kept.iter().enumerate().all(|(n, text)| *text == n.to_string()));
}

#[tokio::test]
async fn the_file_is_as_safe_as_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let db = open(&path, Lock::Exclusive).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    let mut pragmas = Vec::new();
    for sql in [
        "PRAGMA journal_mode",
        "PRAGMA synchronous",
        "PRAGMA foreign_keys",
        "PRAGMA busy_timeout",
        "PRAGMA journal_size_limit",
    ] {
        let row = sqlx::query(sql).fetch_one(tx.conn()).await.unwrap();
        pragmas
            .push(row.try_get::<String, _>(0).unwrap_or_else(|_| row.get::<i64, _>(0).to_string()));
    }
    assert_eq!(pragmas, ["wal", "2", "1", "30000", "67108864"]);
    drop(tx);
    let mut read = db.read().await.unwrap();
    sqlx::query("DELETE FROM notes").execute(read.conn()).await.unwrap_err();
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert!(db.sizes().db_bytes > 0 || db.sizes().wal_bytes > 0);
}
