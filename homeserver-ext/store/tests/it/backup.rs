//! Backups of databases that are in use.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use causeway_store::{
    Beside, Db, Lock, OpenCause, Options, Schema,
    backup::{self, BackupError, Maker, Manifest, Source},
};
use sha2::{Digest as _, Sha256};
use sqlx::migrate::Migrator;

use crate::harness::{migrator, open};

fn counted() -> Migrator {
    migrator(vec![
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)".into(),
        "CREATE TABLE commits (id INTEGER PRIMARY KEY, n BIGINT NOT NULL);
         INSERT INTO commits VALUES (1, 0)"
            .into(),
    ])
}

/// Two databases, `one.db` and `two.db`, of which the first counts its commits.
struct Pair {
    dir: tempfile::TempDir,
    migrator: Migrator,
}

impl Pair {
    fn new() -> Self {
        let pair = Self { dir: tempfile::tempdir().unwrap(), migrator: counted() };
        fs::create_dir(pair.folder()).unwrap();
        pair
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn backup(&self) -> PathBuf {
        self.dir.path().join("backup")
    }

    async fn open(&self, name: &str) -> Db {
        let schemas = self.schemas(name);
        let path = self.folder().join(name);
        Db::open(Options { path, lock: Lock::Exclusive, schemas: &schemas }).await.unwrap()
    }

    fn schemas(&self, name: &str) -> [Schema<'_>; 1] {
        [Schema { name: "notes", migrator: &self.migrator, is_counted: name == "one.db" }]
    }

    /// What this program does with them.
    async fn with<T>(&self, work: impl AsyncFnOnce(Maker<'_>) -> T) -> T {
        let (one, two) = (self.schemas("one.db"), self.schemas("two.db"));
        let sources =
            [Source { name: "one.db", schemas: &one }, Source { name: "two.db", schemas: &two }];
        work(Maker { program: "test", version: "1", sources: &sources }).await
    }

    async fn create(&self, to: &Path) -> Result<Manifest, BackupError> {
        let folder = self.folder();
        self.with(async |maker| backup::create(maker, &folder, to, 7, &mut |_| {}).await).await
    }

    async fn verify(&self, from: &Path) -> Result<Manifest, BackupError> {
        self.with(async |maker| backup::verify(maker, from, &mut |_| {}).await).await
    }

    async fn restore(&self, aside: Option<&str>) -> Result<backup::Restored, BackupError> {
        let (from, folder) = (self.backup(), self.folder());
        self.with(async |maker| {
            backup::restore(maker, &from, &folder, None, aside, &mut |_| {}).await
        })
        .await
    }

    /// Both made, with one note each, and closed; and a backup of that.
    async fn backed_up() -> Self {
        let pair = Self::new();
        for name in ["one.db", "two.db"] {
            let db = pair.open(name).await;
            add(&db, "before").await;
            db.close().await;
        }
        pair.create(&pair.backup()).await.unwrap();
        pair
    }
}

async fn add(db: &Db, text: &str) {
    let mut tx = db.begin().await.unwrap();
    crate::harness::add(&mut tx, text).await.unwrap();
    tx.commit().await.unwrap();
}

async fn remove(db: &Db, text: &str) {
    let mut tx = db.begin().await.unwrap();
    sqlx::query("DELETE FROM notes WHERE text = $1").bind(text).execute(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
}

async fn notes(folder: &Path, name: &str) -> BTreeSet<String> {
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(folder.join(name)).read_only(true);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let notes: Vec<String> =
        sqlx::query_scalar("SELECT text FROM notes").fetch_all(&pool).await.unwrap();
    pool.close().await;
    notes.into_iter().collect()
}

/// What one database gives to the other it has until the other has it: all to the second, all back to
/// the first, and so on until it is told to stop.
async fn pass(pair: &Pair, all: &BTreeSet<String>, passed: &AtomicUsize, stop: &AtomicBool) {
    let (one, two) = (pair.open("one.db").await, pair.open("two.db").await);
    for n in all {
        add(&one, n).await;
    }
    while !stop.load(Relaxed) {
        for (from, to) in [(&one, &two), (&two, &one)] {
            for n in all {
                add(to, n).await;
                remove(from, n).await;
            }
            passed.fetch_add(1, Relaxed);
        }
    }
    one.close().await;
    two.close().await;
}

#[test]
fn what_passes_between_two_databases_is_in_one_of_the_copies() {
    let pair = Pair::new();
    let all: BTreeSet<String> = (0..40).map(|n| n.to_string()).collect();
    let (passed, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| runtime().block_on(pass(&pair, &all, &passed, &stop)));
        // All is in the second.
        while passed.load(Relaxed) == 0 {
            std::thread::yield_now();
        }
        let copied = || runtime().block_on(copy_between(&pair, &passed));
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(copied));
        stop.store(true, Relaxed);
        assert_eq!(found.unwrap(), all);
    });
}

/// What is in a backup of which the second copy begins when there was time to give all back to the
/// first since that began to be copied, if anybody could.
async fn copy_between(pair: &Pair, passed: &AtomicUsize) -> BTreeSet<String> {
    let mut bytes = 0;
    let mut watch = |step: backup::Step<'_>| match step.name {
        "one.db" => bytes = step.done,
        _ if step.done == 0 && bytes > 0 => {
            let until = tokio::time::Instant::now() + Duration::from_millis(500);
            let back = passed.load(Relaxed) + 1;
            while passed.load(Relaxed) < back && tokio::time::Instant::now() < until {
                std::thread::yield_now();
            }
        }
        _ => {}
    };
    let (folder, to) = (pair.folder(), pair.backup());
    let made =
        pair.with(async |maker| backup::create(maker, &folder, &to, 7, &mut watch).await).await;
    assert_eq!(made.unwrap().files.len(), 2);
    pair.verify(&to).await.unwrap();
    notes(&to, "one.db").await.union(&notes(&to, "two.db").await).cloned().collect()
}

#[tokio::test]
async fn a_backup_is_private_and_is_never_written_over() {
    let pair = Pair::backed_up().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&pair.backup()), 0o700);
    let files: BTreeSet<_> =
        fs::read_dir(pair.backup()).unwrap().map(|file| file.unwrap().path()).collect();
    let names: Vec<_> = files.iter().map(|path| path.file_name().unwrap()).collect();
    assert_eq!(names, ["manifest.json", "one.db", "two.db"]);
    for file in &files {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    let manifest = pair.verify(&pair.backup()).await.unwrap();
    assert_eq!((manifest.made_ms, &*manifest.program), (7, "test"));
    assert_eq!(manifest.files[0].schemas["notes"], 2);
    assert_eq!(manifest.files[0].commits, Some(1));

    // With a slash at its end it is the same folder.
    let slash = pair.dir.path().join("slash/");
    pair.create(&slash).await.unwrap();
    pair.verify(&slash).await.unwrap();
    fs::remove_dir_all(&slash).unwrap();
    let again = pair.create(&pair.backup()).await;
    assert!(matches!(again, Err(BackupError::There(_))), "{again:?}");
    // Of one that does not come about nothing is left.
    fs::write(pair.folder().join("two.db"), "no database at all, but long enough".repeat(200))
        .unwrap();
    let other = pair.dir.path().join("other");
    let damaged = pair.create(&other).await;
    assert!(matches!(damaged, Err(BackupError::Damaged(..))), "{damaged:?}");
    fs::remove_dir_all(pair.folder()).unwrap();
    let none = pair.create(&other).await;
    assert!(matches!(none, Err(BackupError::Nothing(_))), "{none:?}");
    let nowhere = pair.dir.path().join("nowhere/backup");
    assert!(pair.create(&nowhere).await.is_err());
    assert_eq!(fs::read_dir(pair.dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn what_is_not_as_it_was_made_is_noticed() {
    let pair = Pair::backed_up().await;
    let path = pair.backup().join("two.db");
    let whole = fs::read(&path).unwrap();
    for at in [0, 30, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let found = pair.verify(&pair.backup()).await;
        assert!(matches!(found, Err(BackupError::Damaged(..))), "{at}: {found:?}");
    }
    for bytes in [Some(&whole[..whole.len() - 1]), None] {
        match bytes {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        assert!(matches!(pair.verify(&pair.backup()).await, Err(BackupError::Damaged(..))));
        assert!(matches!(pair.restore(Some("aside")).await, Err(BackupError::Damaged(..))));
    }
    // A count that the database has not: a restore would take it for its own.
    fs::write(&path, &whole).unwrap();
    let manifest = pair.backup().join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    assert!(text.contains("\"commits\": 1"), "{text}");
    fs::write(&manifest, text.replace("\"commits\": 1", "\"commits\": null")).unwrap();
    assert!(matches!(pair.verify(&pair.backup()).await, Err(BackupError::Damaged(..))));
    fs::write(&manifest, text).unwrap();
    // A page that was bad when it was copied: the manifest agrees, SQLite does not.
    let mut bytes = whole.clone();
    bytes[1_024..2_048].fill(0xff);
    fs::write(&path, &bytes).unwrap();
    let file = pair.backup().join("manifest.json");
    let text = fs::read_to_string(&file).unwrap();
    let (right, wrong) = (hex(&whole), hex(&bytes));
    assert!(text.contains(&right));
    fs::write(&file, text.replace(&right, &wrong)).unwrap();
    let found = pair.verify(&pair.backup()).await;
    assert!(matches!(found, Err(BackupError::Damaged(..))), "{found:?}");
}

fn hex(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

#[tokio::test]
async fn what_is_no_backup_of_this_program_is_refused() {
    let pair = Pair::backed_up().await;
    let file = pair.backup().join("manifest.json");
    let text = fs::read_to_string(&file).unwrap();
    for (was, is) in [
        ("\"format\": 1", "\"format\": 2"),
        ("\"two.db\"", "\"../two.db\""),
        ("{", "["),
        ("\"files\"", "\"things\""),
    ] {
        fs::write(&file, text.replacen(was, is, 1)).unwrap();
        let found = pair.verify(&pair.backup()).await;
        assert!(matches!(found, Err(BackupError::NotOne(..))), "{is}: {found:?}");
    }
    fs::write(&file, text.replace("\"test\"", "\"another\"")).unwrap();
    assert!(matches!(pair.verify(&pair.backup()).await, Err(BackupError::Others(..))));
    fs::write(&file, "{}").unwrap();
    let error = pair.verify(&pair.backup()).await.unwrap_err().to_string();
    assert!(error.ends_with("its manifest.json does not say of which form it is"), "{error}");
    fs::remove_file(&file).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let error = pair.verify(&pair.backup()).await.unwrap_err().to_string();
    assert!(error.ends_with("of its manifest.json: it is a pipe, and no regular file"), "{error}");
    fs::remove_file(&file).unwrap();
    assert!(matches!(pair.restore(Some("aside")).await, Err(BackupError::NotOne(..))));
    assert!(matches!(pair.verify(pair.dir.path()).await, Err(BackupError::NotOne(..))));
    assert!(!pair.folder().join("aside").exists());
}

#[tokio::test]
async fn a_backup_of_a_newer_program_is_not_put_back() {
    let pair = Pair::backed_up().await;
    let older = Pair { dir: pair.dir, migrator: crate::harness::notes() };
    let refused = older.restore(Some("aside")).await;
    let is_newer = |error: &BackupError| matches!(error, BackupError::Database(_, OpenCause::Newer(name, 2, 1)) if name == "notes");
    assert!(refused.as_ref().is_err_and(is_newer), "{refused:?}");
    assert!(!older.folder().join("aside").exists());
}

#[tokio::test]
async fn what_is_in_use_or_in_the_way_is_not_touched() {
    let pair = Pair::backed_up().await;
    let two = pair.open("two.db").await;
    add(&two, "after").await;
    let held = pair.restore(Some("aside")).await;
    let is_held =
        |error: &BackupError| matches!(error, BackupError::Database(_, OpenCause::Held(..)));
    assert!(held.as_ref().is_err_and(is_held), "{held:?}");
    two.close().await;
    let there = pair.restore(None).await;
    assert!(matches!(there, Err(BackupError::InTheWay(_))), "{there:?}");
    assert!(notes(&pair.folder(), "two.db").await.contains("after"));

    let restored = pair.restore(Some("aside")).await.unwrap();
    let aside = restored.aside.unwrap();
    assert_eq!(aside, pair.folder().join("aside"));
    assert!(notes(&aside, "two.db").await.contains("after"));
    assert_eq!(notes(&pair.folder(), "two.db").await, BTreeSet::from(["before".to_owned()]));
    // Nothing else is left: no copy on its way, no log of what was there.
    let there: BTreeSet<String> = fs::read_dir(pair.folder())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| ![".lock", ".reserve"].iter().any(|kind| name.ends_with(kind)))
        .collect();
    let expected = ["aside", "one.db", "one.db.generation", "two.db", "two.db.generation"];
    assert_eq!(there, BTreeSet::from(expected.map(str::to_owned)));
}

#[tokio::test]
async fn a_database_that_counts_knows_that_it_was_put_back() {
    // On another machine; over itself with nothing done since; over one that went on.
    for (beside, expected) in [(None, 2), (Some(1), 2), (Some(40), 41)] {
        let pair = Pair::backed_up().await;
        fs::remove_dir_all(pair.folder()).unwrap();
        if let Some(n) = beside {
            fs::create_dir(pair.folder()).unwrap();
            let file = pair.folder().join("one.db.generation");
            fs::write(file, format!("committed {n:020}\n")).unwrap();
        }
        assert_eq!(pair.restore(None).await.unwrap().aside, None);
        let one = pair.open("one.db").await;
        let known = one.beside().unwrap().unwrap();
        assert_eq!(known, Beside { committed: expected, is_early: false });
        assert!(known.is_ahead_of(1));
        one.close().await;
        pair.open("two.db").await.close().await;
    }
}

#[tokio::test]
async fn a_part_is_copied_and_put_back_alone() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir.path().join("t.db"), Lock::Shared).await.unwrap();
    add(&db, "one").await;
    let migrator = crate::harness::notes();
    let schemas = [Schema { name: "notes", migrator: &migrator, is_counted: false }];
    let sources = ["other.db", "t.db"].map(|name| Source { name, schemas: &schemas });
    let maker = Maker { program: "test", version: "1", sources: &sources };
    let (to, back) = (dir.path().join("to"), dir.path().join("back"));
    let mut steps = BTreeSet::new();
    let watch = &mut |step: backup::Step<'_>| {
        steps.insert((step.doing, step.done));
    };
    let made = backup::create(maker, dir.path(), &to, 7, watch).await.unwrap();
    let bytes = made.files[0].bytes;
    assert_eq!((made.files.len(), made.files[0].commits), (1, None));
    for (only, is_there) in [("other.db", false), ("t.db", true)] {
        let restored = backup::restore(maker, &to, &back, Some(only), None, watch).await;
        assert_eq!(restored.is_ok(), is_there, "{restored:?}");
    }
    assert!(steps.contains(&("reading", bytes)) && steps.contains(&("putting back", bytes)));
    assert_eq!(notes(&back, "t.db").await.len(), 1);
    db.close().await;
}

#[tokio::test]
async fn a_restore_that_was_cut_off_is_not_taken_for_an_empty_folder() {
    let pair = Pair::backed_up().await;
    // As it is between moving the old ones aside and giving the copies their names; and between the
    // names.
    for name in ["one.db", "two.db"] {
        let path = pair.folder().join(name);
        let part = pair.folder().join(format!("{name}.restoring"));
        fs::rename(&path, &part).unwrap();
        let schemas = pair.schemas(name);
        let options = Options { path: path.clone(), lock: Lock::Exclusive, schemas: &schemas };
        let refused = Db::open(options).await.err().unwrap();
        assert!(
            matches!(&refused.cause, OpenCause::Restoring(found) if *found == part),
            "{refused}"
        );
        assert!(!path.exists());
    }
    pair.restore(Some("aside")).await.unwrap();
    for name in ["one.db", "two.db"] {
        pair.open(name).await.close().await;
        assert_eq!(notes(&pair.folder(), name).await, ["before".to_owned()].into());
    }
}
