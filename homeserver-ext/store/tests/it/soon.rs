//! What may wait for the next commit goes before it, and waits for ever for nobody.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use causeway_store::{Db, Error, Lock, Script};
use futures_util::FutureExt as _;

use crate::harness::{add, all, open};

fn adding(text: &str) -> Script {
    let mut script = Script::default();
    script.add("INSERT INTO notes (text) VALUES ($1)").bind(text);
    script
}

async fn fresh() -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir.path().join("t.db"), Lock::Exclusive).await.unwrap();
    (dir, db)
}

#[tokio::test]
async fn it_goes_with_the_next_commit_and_before_it() {
    let (_dir, db) = fresh().await;
    db.soon_is(Duration::from_hours(1));
    let done = Arc::new(AtomicBool::new(false));
    let soon = db.write_soon(adding("one"), {
        let done = Arc::clone(&done);
        Box::new(move || done.store(true, Ordering::Relaxed))
    });
    let mut tx = db.begin().await.unwrap();
    let seen: Vec<String> =
        sqlx::query_scalar("SELECT text FROM notes").fetch_all(tx.conn()).await.unwrap();
    assert_eq!(seen, ["one"], "whoever comes next sees it");
    assert!(all(&db).await.is_empty(), "nobody else, before it is committed");
    add(&mut tx, "two").await.unwrap();
    assert!(!done.load(Ordering::Relaxed));
    tx.commit().await.unwrap();
    assert!(done.load(Ordering::Relaxed), "before whoever comes next is told");
    soon.await.unwrap();
    assert_eq!(all(&db).await, ["one", "two"]);
    assert_eq!((db.counts().commits, db.counts().transactions), (1, 2));
}

#[tokio::test]
async fn a_transaction_that_may_wait_is_lent_with_the_next_and_committed_with_it() {
    let (_dir, db) = fresh().await;
    db.soon_is(Duration::from_hours(1));
    let soon = async {
        let mut tx = db.begin_soon().await.unwrap();
        add(&mut tx, "one").await.unwrap();
        tx.commit().await.unwrap();
    };
    let next = async {
        let mut tx = db.begin().await.unwrap();
        add(&mut tx, "two").await.unwrap();
        tx.commit().await.unwrap();
    };
    tokio::join!(soon, next);
    assert_eq!(all(&db).await, ["one", "two"]);
    assert_eq!((db.counts().commits, db.counts().transactions), (1, 2));
}

#[tokio::test]
async fn nobody_waits_for_one_who_has_gone() {
    let (_dir, db) = fresh().await;
    db.soon_is(Duration::from_hours(1));
    assert!(db.begin_soon().now_or_never().is_none());
    db.write(adding("two"), vec![]).await.unwrap();
    assert_eq!(all(&db).await, ["two"]);
}

#[tokio::test]
async fn it_is_kept_where_the_next_is_taken_back() {
    let (_dir, db) = fresh().await;
    let soon = db.write_soon(adding("one"), Box::new(|| ()));
    let mut tx = db.begin().await.unwrap();
    add(&mut tx, "two").await.unwrap();
    drop(tx);
    soon.await.unwrap();
    assert_eq!(all(&db).await, ["one"]);
}

#[tokio::test]
async fn alone_it_is_committed_by_itself() {
    let (_dir, db) = fresh().await;
    db.write_soon(adding("one"), Box::new(|| ())).await.unwrap();
    assert_eq!(all(&db).await, ["one"]);
    assert_eq!(db.counts().commits, 1);
}

#[tokio::test]
async fn many_share_few_commits_in_their_order() {
    let (_dir, db) = fresh().await;
    let texts: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let all_soon: Vec<_> =
        texts.iter().map(|text| db.write_soon(adding(text), Box::new(|| ()))).collect();
    for soon in all_soon {
        soon.await.unwrap();
    }
    assert_eq!(all(&db).await, texts);
    assert!(db.counts().commits <= 4, "{:?}", db.counts());
}

#[tokio::test]
async fn what_fails_fails_alone() {
    let (_dir, db) = fresh().await;
    let one = db.write_soon(adding("one"), Box::new(|| ()));
    let mut broken = adding("two");
    broken.add("INSERT INTO nowhere (text) VALUES ($1)").bind("two");
    let two = db.write_soon(broken, Box::new(|| ()));
    let three = db.write_soon(adding("three"), Box::new(|| ()));
    db.write(adding("four"), vec![]).await.unwrap();
    one.await.unwrap();
    two.await.unwrap_err();
    three.await.unwrap();
    assert_eq!(all(&db).await, ["one", "three", "four"]);
    assert_eq!(db.counts().commits, 1);
}

#[tokio::test]
async fn whoever_gives_it_up_leaves_nothing() {
    let (_dir, db) = fresh().await;
    drop(db.write_soon(adding("one"), Box::new(|| ())));
    db.write(adding("two"), vec![]).await.unwrap();
    assert_eq!(all(&db).await, ["two"]);
}

#[tokio::test]
async fn a_database_that_is_closed_has_it() {
    let (dir, db) = fresh().await;
    let soon = db.write_soon(adding("one"), Box::new(|| ()));
    db.close().await;
    soon.await.unwrap();
    assert!(matches!(db.write_soon(adding("two"), Box::new(|| ())).await, Err(Error::Closed)));
    let again = open(&dir.path().join("t.db"), Lock::Exclusive).await.unwrap();
    assert_eq!(all(&again).await, ["one"]);
}
