use causeway_store::{Db, Lock, Script};
use sqlx::Row as _;

use crate::harness::open;

async fn fresh() -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir.path().join("t.db"), Lock::Exclusive).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    sqlx::raw_sql("CREATE TABLE pairs (a BIGINT PRIMARY KEY, b TEXT)")
        .execute(tx.conn())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    (dir, db)
}

async fn pairs(db: &Db) -> Vec<(i64, String)> {
    let mut read = db.read().await.unwrap();
    sqlx::query_as("SELECT a, b FROM pairs ORDER BY a").fetch_all(read.conn()).await.unwrap()
}

#[tokio::test]
async fn statements_are_run_in_order_each_with_its_own_values() {
    let (_dir, db) = fresh().await;
    // Twice: made anew, and prepared.
    for round in 0..2 {
        let mut tx = db.begin().await.unwrap();
        let mut script = Script::default();
        script.add("DELETE FROM pairs");
        script.run(tx.conn()).await.unwrap();
        let mut script = Script::default();
        let query = script.add("INSERT INTO pairs (b, a) VALUES ($2, $1)");
        query.bind(1).bind(format!("one {round}"));
        script.insert(
            "INSERT INTO pairs (a, b) ",
            &[(2, "two"), (3, "three"), (4, "four")],
            " ON CONFLICT DO NOTHING",
            |row, (a, b)| _ = row.bind(a).bind(b),
        );
        script
            .add("UPDATE pairs SET b = $2 WHERE a = $1 AND b <> $2 RETURNING b")
            .bind(3)
            .bind("3");
        script.add_list_of("DELETE FROM pairs WHERE b <> $1 AND a IN (", "two", vec![2, 4, 5]);
        script.add_list("SELECT a FROM pairs WHERE a IN (", vec![1, 2, 3, 4, 5]);
        let rows = script.run(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(rows[0].get::<String, _>(0), "3");
        let mut found: Vec<i64> = rows[1..].iter().map(|row| row.get(0)).collect();
        found.sort_unstable();
        assert_eq!(found, [1, 2, 3]);
        let kept = [(1, format!("one {round}")), (2, "two".to_owned()), (3, "3".to_owned())];
        assert_eq!(pairs(&db).await, kept);
    }
}

#[tokio::test]
async fn many_rows_are_put_down_and_none_is_lost() {
    let (_dir, db) = fresh().await;
    for count in [0, 1, 7, 8, 9, 127, 128, 129, 300] {
        let mut tx = db.begin().await.unwrap();
        let mut script = Script::default();
        script.add("DELETE FROM pairs");
        script.run(tx.conn()).await.unwrap();
        let mut script = Script::default();
        let rows: Vec<i64> = (0..count).collect();
        let insert = "INSERT INTO pairs (a, b) ";
        script.insert(insert, &rows, "", |row, n| _ = row.bind(n).bind(""));
        script.add("INSERT INTO pairs (a, b) VALUES ($1, $2)").bind(-1).bind("last");
        script.run(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
        let put: Vec<i64> = pairs(&db).await.into_iter().map(|(a, _)| a).collect();
        assert_eq!(put, (-1..count).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn where_one_fails_nothing_of_its_transaction_is_kept() {
    let (_dir, db) = fresh().await;
    let mut tx = db.begin().await.unwrap();
    let mut script = Script::default();
    script.add("INSERT INTO pairs (a, b) VALUES (1, $1)").bind("first");
    script.add("INSERT INTO pairs (a, b) VALUES (1, $1)").bind("again");
    script.add("INSERT INTO pairs (a, b) VALUES (2, $1)").bind("never");
    assert!(script.run(tx.conn()).await.unwrap_err().is_unique_violation());
    drop(tx);
    assert_eq!(pairs(&db).await, []);
    // The connection is as good as before.
    let mut tx = db.begin().await.unwrap();
    assert!(Script::default().run(tx.conn()).await.unwrap().is_empty());
    let mut script = Script::default();
    script.add("INSERT INTO pairs (a, b) VALUES (1, $1)").bind("first");
    script.run(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(pairs(&db).await, [(1, "first".to_owned())]);
}
