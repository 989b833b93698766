use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use causeway_store::{Db, Error, Lock, Script, Tx};
use futures::poll_once;
use sqlx::Row as _;

use crate::harness::{add, all, open};

/// The one future tool that these tests need.
mod futures {
    use std::{future::Future, pin::Pin, task::Poll};

    pub(super) async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
        std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
    }
}

/// Adds these notes, and returns their places.
fn adding(texts: &[&str]) -> Script {
    let mut script = Script::default();
    for text in texts {
        script.add("INSERT INTO notes (text) VALUES ($1) RETURNING id").bind(*text);
    }
    script
}

async fn fresh() -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir.path().join("t.db"), Lock::Exclusive).await.unwrap();
    (dir, db)
}

#[tokio::test]
async fn what_waits_shares_one_commit_and_a_rollback_stays_alone() {
    let (_dir, db) = fresh().await;
    let first = db.begin().await.unwrap();
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let db = db.clone();
            let mut task = Box::pin(async move {
                let mut tx = db.begin().await?;
                add(&mut tx, &format!("note {n}")).await?;
                if n % 5 == 0 {
                    return Ok(false);
                }
                tx.commit().await.map(|()| true)
            });
            (n, std::future::poll_fn(move |cx| task.as_mut().poll(cx)))
        })
        .collect();
    // All twenty have asked before the first turn ends.
    let mut set = tokio::task::JoinSet::new();
    for (n, task) in tasks {
        set.spawn(async move { (n, task.await) });
    }
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    first.commit().await.unwrap();
    while let Some(done) = set.join_next().await {
        let (n, outcome): (i32, Result<bool, Error>) = done.unwrap();
        assert_eq!(outcome.unwrap(), n % 5 != 0);
    }
    let expected: Vec<_> = (0..20).filter(|n| n % 5 != 0).map(|n| format!("note {n}")).collect();
    assert_eq!(all(&db).await, expected);
    let counts = db.counts();
    assert_eq!(counts.transactions, 17);
    assert_eq!(counts.commits, 1, "one fsync for all that waited");
}

#[tokio::test]
async fn who_has_the_writer_for_long_is_counted() {
    let (_dir, db) = fresh().await;
    let mut short = db.begin().await.unwrap();
    add(&mut short, "short").await.unwrap();
    short.commit().await.unwrap();
    let kept = db.begin().await.unwrap();
    std::thread::sleep(std::time::Duration::from_millis(101));
    drop(kept);
    drop(db.begin().await.unwrap());
    assert_eq!(db.counts().long, 1, "also what is taken back");
}

#[tokio::test]
async fn nobody_returns_before_the_commit_that_covers_it() {
    let (_dir, db) = fresh().await;
    let mut one = db.begin().await.unwrap();
    let mut second = pin!(db.begin());
    assert!(poll_once(second.as_mut()).await.is_pending());
    add(&mut one, "one").await.unwrap();
    let mut committed = pin!(one.commit());
    assert!(poll_once(committed.as_mut()).await.is_pending());
    let mut two = second.await.unwrap();
    assert!(poll_once(committed.as_mut()).await.is_pending(), "the batch is still open");
    assert!(all(&db).await.is_empty());
    add(&mut two, "two").await.unwrap();
    drop(two);
    committed.await.unwrap();
    assert_eq!(all(&db).await, ["one"]);
}

#[tokio::test]
async fn a_failed_statement_spoils_only_its_own_transaction() {
    let (_dir, db) = fresh().await;
    let mut one = db.begin().await.unwrap();
    let mut second = pin!(db.begin());
    assert!(poll_once(second.as_mut()).await.is_pending());
    add(&mut one, "one").await.unwrap();
    let mut committed = pin!(one.commit());
    assert!(poll_once(committed.as_mut()).await.is_pending());
    let mut two = second.await.unwrap();
    add(&mut two, "two").await.unwrap();
    let error: Error = add(&mut two, "one").await.unwrap_err().into();
    assert!(error.is_unique_violation());
    drop(two);
    committed.await.unwrap();
    assert_eq!(all(&db).await, ["one"]);
}

#[tokio::test]
async fn a_script_is_a_transaction_or_begins_or_ends_one() {
    let (_dir, db) = fresh().await;
    let mut heard = db.listen("topic");
    let rows = db.write(adding(&["one", "two"]), vec!["topic".to_owned()]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), [1, 2]);
    assert_eq!(poll_once(pin!(heard.changed())).await, Poll::Ready(()));
    let (mut tx, mut rows) = db.begin_with(adding(&["three"])).await.unwrap();
    assert_eq!(rows.take()[0].get::<i64, _>(0), 3);
    add(&mut tx, "four").await.unwrap();
    tx.later().add("INSERT INTO notes (text) VALUES ($1)").bind("five");
    // What was left for later comes before what is said last.
    let mut rows = tx.commit_with(adding(&["six", "seven"])).await.unwrap();
    assert_eq!([rows.take(), rows.take()].map(|rows| rows[0].get::<i64, _>(0)), [6, 7]);
    let mut tx = db.begin().await.unwrap();
    tx.later().add("INSERT INTO notes (text) VALUES ($1)").bind("eight");
    tx.write_now().await.unwrap();
    add(&mut tx, "nine").await.unwrap();
    tx.later().add("INSERT INTO notes (text) VALUES ($1)").bind("ten");
    tx.commit().await.unwrap();
    let kept = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    assert_eq!(all(&db).await, kept);
    assert_eq!(db.counts().commits, 3);
}

#[tokio::test]
async fn a_script_that_fails_spoils_only_its_own_transaction() {
    let (_dir, db) = fresh().await;
    db.write(adding(&["one"]), Vec::new()).await.unwrap();
    // Alone, as all of it, at its beginning and at its end.
    let error = db.write(adding(&["a", "one"]), Vec::new()).await.unwrap_err();
    assert!(error.is_unique_violation());
    assert!(db.begin_with(adding(&["b", "one"])).await.err().unwrap().is_unique_violation());
    let mut tx = db.begin().await.unwrap();
    add(&mut tx, "c").await.unwrap();
    assert!(tx.commit_with(adding(&["one"])).await.unwrap_err().is_unique_violation());
    let mut tx = db.begin().await.unwrap();
    add(&mut tx, "d").await.unwrap();
    tx.later().add("INSERT INTO notes (text) VALUES ($1)").bind("one");
    assert!(tx.commit().await.unwrap_err().is_unique_violation());
    assert_eq!(all(&db).await, ["one"]);
    // Among others that share its commit.
    let first = db.begin().await.unwrap();
    let mut asked = Vec::new();
    for (n, texts) in [&["e", "one"][..], &["f"], &["g", "one"], &["h"]].into_iter().enumerate() {
        let db = db.clone();
        let mut task = Box::pin(async move {
            if n < 2 {
                return db.write(adding(texts), Vec::new()).await.map(drop);
            }
            let tx = db.begin().await?;
            tx.commit_with(adding(texts)).await.map(drop)
        });
        assert!(poll_once(task.as_mut()).await.is_pending());
        asked.push(task);
    }
    // All who share it have to go on before it ends.
    let (first, kept) =
        tokio::join!(first.commit_with(adding(&["two"])), futures_util::future::join_all(asked),);
    first.unwrap();
    assert_eq!(kept.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, false, true]);
    assert_eq!(all(&db).await, ["one", "two", "f", "h"]);
}

#[tokio::test]
async fn callers_that_give_up_leave_nothing_behind() {
    let (_dir, db) = fresh().await;
    let one = db.begin().await.unwrap();
    {
        let mut gives_up = pin!(db.begin());
        assert!(poll_once(gives_up.as_mut()).await.is_pending());
    }
    drop(one);
    // Given up in the middle of a statement.
    let mut two = db.begin().await.unwrap();
    {
        let mut statement = pin!(add(&mut two, "two"));
        let _ = poll_once(statement.as_mut()).await;
    }
    drop(two);
    // Given up while committing: kept whole or not at all, and others go on.
    let mut three = db.begin().await.unwrap();
    add(&mut three, "three").await.unwrap();
    {
        let mut commit = pin!(three.commit());
        let _ = poll_once(commit.as_mut()).await;
    }
    let mut four = db.begin().await.unwrap();
    add(&mut four, "four").await.unwrap();
    four.commit().await.unwrap();
    assert_eq!(all(&db).await, ["three", "four"]);
}

#[tokio::test]
async fn a_wake_comes_after_the_commit_and_never_after_a_rollback() {
    let (_dir, db) = fresh().await;
    let mut hears = db.listen("mailbox/1");
    let mut other = db.listen("mailbox/2");

    let mut tx = db.begin().await.unwrap();
    tx.wake("mailbox/1");
    drop(tx);
    db.begin().await.unwrap().commit().await.unwrap();
    assert!(poll_once(pin!(hears.changed())).await.is_pending(), "nobody hears of a rollback");

    let mut tx = db.begin().await.unwrap();
    add(&mut tx, "one").await.unwrap();
    tx.wake("mailbox/1");
    assert!(poll_once(pin!(hears.changed())).await.is_pending(), "nor of what is not committed");
    tx.commit().await.unwrap();
    // It was not listening at that moment, and hears of it all the same; once.
    assert_eq!(poll_once(pin!(hears.changed())).await, Poll::Ready(()));
    assert!(poll_once(pin!(hears.changed())).await.is_pending());
    assert!(poll_once(pin!(other.changed())).await.is_pending());
}

#[tokio::test]
async fn a_full_disk_is_an_error_for_all_in_the_batch_and_then_it_recovers() {
    let (_dir, db) = fresh().await;
    let mut one = db.begin().await.unwrap();
    sqlx::query("PRAGMA max_page_count = 5").fetch_all(one.conn()).await.unwrap();
    let mut second = pin!(db.begin());
    assert!(poll_once(second.as_mut()).await.is_pending());
    add(&mut one, "one").await.unwrap();
    let mut committed = pin!(one.commit());
    assert!(poll_once(committed.as_mut()).await.is_pending());
    let mut two = second.await.unwrap();
    add(&mut two, &"x".repeat(1 << 20)).await.unwrap_err();
    // SQLite may have ended the whole transaction, or only the statement: either everybody's
    // changes are kept or their commits fail.
    let two = two.commit().await;
    let one = committed.await;
    let kept = all(&db).await;
    assert_eq!(one.is_ok(), kept.contains(&"one".to_owned()));
    assert_eq!(one.is_ok(), two.is_ok());

    let mut tx = db.begin().await.unwrap();
    sqlx::query("PRAGMA max_page_count = 100000").fetch_all(tx.conn()).await.unwrap();
    add(&mut tx, "after").await.unwrap();
    tx.commit().await.unwrap();
    assert!(all(&db).await.contains(&"after".to_owned()));
}

#[tokio::test]
async fn a_closed_database_says_so() {
    let (dir, db) = fresh().await;
    let other = db.clone();
    db.close().await;
    assert!(matches!(other.begin().await, Err(Error::Closed)));
    assert!(matches!(other.read().await, Err(Error::Closed)));
    other.close().await;
    open(&dir.path().join("t.db"), Lock::Exclusive).await.unwrap();
}

#[tokio::test]
async fn what_another_process_writes_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let here = open(&path, Lock::Shared).await.unwrap();
    let there = open(&path, Lock::Shared).await.unwrap();
    let mut one = here.begin().await.unwrap();
    add(&mut one, "one").await.unwrap();
    let mut second = pin!(there.begin());
    assert!(poll_once(second.as_mut()).await.is_pending());
    one.commit().await.unwrap();
    let mut two = second.await.unwrap();
    add(&mut two, "two").await.unwrap();
    two.commit().await.unwrap();
    assert_eq!(all(&here).await, ["one", "two"]);
}

/// By itself SQLite would have the second wait for hundreds of commits of the first, or in vain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_process_that_commits_without_a_pause_another_has_its_turn() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.db");
    let here = open(&path, Lock::Shared).await.unwrap();
    let there = open(&path, Lock::Shared).await.unwrap();
    let commits = Arc::new(AtomicUsize::new(0));
    let mut loops = tokio::task::JoinSet::new();
    loops.spawn({
        let commits = Arc::clone(&commits);
        async move {
            for n in 0.. {
                let mut tx = here.begin().await.unwrap();
                for part in 0..50 {
                    add(&mut tx, &format!("{n}.{part}")).await.unwrap();
                }
                tx.commit().await.unwrap();
                commits.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    while commits.load(Ordering::Relaxed) == 0 {
        assert!(loops.try_join_next().is_none());
        tokio::task::yield_now().await;
    }
    let mut waited = 0;
    for n in 0..40 {
        let before = commits.load(Ordering::Relaxed);
        let mut tx = there.begin().await.unwrap();
        waited += commits.load(Ordering::Relaxed) - before;
        add(&mut tx, &n.to_string()).await.unwrap();
        tx.commit().await.unwrap();
    }
    assert!(loops.try_join_next().is_none());
    assert!(waited <= 40 * 5, "{waited} commits of the first went before 40 of the second");
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 24, ..Default::default() })]

    /// However many ask at once, and whatever becomes of each: what was committed is there, what
    /// was taken back is not, and nobody waits for ever.
    #[test]
    fn what_is_kept_is_what_was_said(plans in proptest::collection::vec(0_u8..8, 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(3)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (_dir, db) = fresh().await;
            let mut set = tokio::task::JoinSet::new();
            for (n, plan) in plans.iter().copied().enumerate() {
                set.spawn(one(db.clone(), n, plan));
            }
            let (mut kept, mut open) = (BTreeSet::new(), BTreeSet::new());
            while let Some(done) = set.join_next().await {
                match done.unwrap() {
                    (n, Some(true)) => drop(kept.insert(n)),
                    (n, None) => drop(open.insert(n)),
                    (_, Some(false)) => {}
                }
            }
            let found: BTreeSet<usize> =
                all(&db).await.iter().map(|text| text.parse().unwrap()).collect();
            assert!(kept.is_subset(&found), "{kept:?} {found:?}");
            assert!(found.is_subset(&kept.union(&open).copied().collect()), "{found:?} {open:?}");
            db.close().await;
        });
    }
}

/// One transaction: 0, 1 commit; 2 drops; 3 fails and drops; 4 gives up while committing; 5 is a script,
/// 6 one that fails, 7 one that is given up. Whether it was kept; none if it cannot know.
async fn one(db: Db, n: usize, plan: u8) -> (usize, Option<bool>) {
    let text = n.to_string();
    match plan {
        5 => return (n, Some(db.write(adding(&[&text]), Vec::new()).await.is_ok())),
        6 => {
            db.write(adding(&[&text, &text]), Vec::new()).await.unwrap_err();
            return (n, Some(false));
        }
        7 => {
            let done = poll_once(pin!(db.write(adding(&[&text]), Vec::new()))).await;
            assert!(done.is_pending());
            return (n, None);
        }
        _ => {}
    }
    let mut tx = db.begin().await.unwrap();
    add(&mut tx, &n.to_string()).await.unwrap();
    let outcome = match plan {
        0 | 1 => Some(tx.commit().await.is_ok()),
        2 => Some(false),
        3 => {
            add(&mut tx, &n.to_string()).await.unwrap_err();
            Some(false)
        }
        _ => match poll_once(pin!(tx.commit())).await {
            Poll::Ready(done) => Some(done.is_ok()),
            Poll::Pending => None,
        },
    };
    (n, outcome)
}

/// What is handed on in memory is handed on as if it were read: in order, and only if it is there.
#[tokio::test]
async fn what_follows_a_commit_is_done_in_the_order_of_commits_before_anybody_is_told() {
    let (_dir, db) = fresh().await;
    let done = Arc::new(Mutex::new(Vec::new()));
    let note = |tx: &mut Tx, n: usize| {
        let done = Arc::clone(&done);
        tx.once_committed(move || done.lock().unwrap().push(n));
    };
    let held = db.begin().await.unwrap();
    let tasks = (0..6).map(|n| {
        let (db, note, done) = (&db, &note, &done);
        async move {
            let mut tx = db.begin().await.unwrap();
            add(&mut tx, &format!("note {n}")).await.unwrap();
            note(&mut tx, n);
            if n == 2 {
                return;
            }
            tx.mark().await.unwrap();
            note(&mut tx, 100 + n);
            tx.unmark(n != 4).await.unwrap();
            tx.commit().await.unwrap();
            assert!(done.lock().unwrap().contains(&n));
        }
    });
    // All of them ask before the first has its turn.
    tokio::join!(join_all(tasks), async { drop(held) });
    assert_eq!(*done.lock().unwrap(), [0, 100, 1, 101, 3, 103, 4, 5, 105]);
}

/// Drives them together, in order.
async fn join_all(tasks: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut tasks: Vec<_> = tasks.map(|task| Some(Box::pin(task))).collect();
    std::future::poll_fn(|cx| {
        for task in &mut tasks {
            if task.as_mut().is_some_and(|task| task.as_mut().poll(cx).is_ready()) {
                *task = None;
            }
        }
        if tasks.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Nothing is in the log before the commit, but of a transaction that memory is not to hold.
#[tokio::test]
async fn a_transaction_that_spills_is_in_the_log_before_its_commit_and_read_by_nobody() {
    let (dir, db) = fresh().await;
    let log = dir.path().join("t.db-wal");
    let written = || std::fs::metadata(&log).map_or(0, |file| file.len());
    let text = "x".repeat(100_000);
    for spills in [false, true] {
        let before = written();
        let mut tx = db.begin().await.unwrap();
        if spills {
            tx.spill().await.unwrap();
        }
        for n in 0..100 {
            add(&mut tx, &format!("{n} {text}")).await.unwrap();
        }
        assert_eq!(written() > before + 5_000_000, spills);
        assert!(all(&db).await.is_empty());
        drop(tx);
        assert!(all(&db).await.is_empty());
    }
    let mut tx = db.begin().await.unwrap();
    add(&mut tx, "kept").await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(all(&db).await, ["kept"]);
}
