//! The vault: the right key, the right place, or nothing.

use std::{fs, path::Path};

use causeway_groups::{
    SCHEMA, Vault,
    vault::{Class, VaultError},
};
use causeway_store::{Db, Lock, Options};
use tempfile::tempdir;

async fn db(dir: &Path) -> Db {
    let path = dir.join("client.db");
    Db::open(Options { path, lock: Lock::Exclusive, schemas: &[SCHEMA] }).await.unwrap()
}

#[tokio::test]
async fn a_record_opens_in_its_own_place_only() {
    let dir = tempdir().unwrap();
    let db = db(dir.path()).await;
    let vault = Vault::open(&db, &dir.path().join("storage.key")).await.unwrap();
    let record = vault.seal(Class::Content, "queue", "body", b"7", b"hello").unwrap();
    assert_eq!(record.len(), 45 + 5);
    let open = |class, table, column, key: &[u8], record: &[u8]| {
        vault.unseal(class, table, column, key, record).map(|text| text.to_vec()).ok()
    };
    assert_eq!(open(Class::Content, "queue", "body", b"7", &record).unwrap(), b"hello");
    assert!(open(Class::Content, "queue", "body", b"8", &record).is_none());
    assert!(open(Class::Content, "queue", "bodyx", b"7", &record).is_none());
    assert!(open(Class::Content, "queu", "ebody", b"7", &record).is_none());
    assert!(open(Class::Ratchet, "queue", "body", b"7", &record).is_none());
    for at in 0..record.len() {
        let mut changed = record.clone();
        changed[at] ^= 1;
        assert!(open(Class::Content, "queue", "body", b"7", &changed).is_none(), "byte {at}");
        assert!(open(Class::Content, "queue", "body", b"7", &record[..at]).is_none());
    }
}

#[tokio::test]
async fn the_first_start_makes_a_key_file_that_only_its_owner_reads() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempdir().unwrap();
    let db = db(dir.path()).await;
    let path = dir.path().join("storage.key");
    let vault = Vault::open(&db, &path).await.unwrap();
    let file = fs::metadata(&path).unwrap();
    assert_eq!(file.len(), 32);
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let record = vault.seal(Class::Signing, "t", "c", b"", b"x").unwrap();
    let again = Vault::open(&db, &path).await.unwrap();
    assert_eq!(again.unseal(Class::Signing, "t", "c", b"", &record).unwrap().as_slice(), b"x");
}

#[tokio::test]
async fn without_the_right_storage_key_nothing_is_written() {
    let dir = tempdir().unwrap();
    let key = dir.path().join("storage.key");
    let first = db(dir.path()).await;
    Vault::open(&first, &key).await.unwrap();
    first.close().await;
    let file = dir.path().join("client.db");
    let before = fs::read(&file).unwrap();

    let right = fs::read(&key).unwrap();
    fs::write(&key, [7; 32]).unwrap();
    let again = db(dir.path()).await;
    assert!(matches!(Vault::open(&again, &key).await, Err(VaultError::WrongKey(_))));
    again.close().await;
    assert_eq!(fs::read(&file).unwrap(), before);

    fs::write(&key, [7; 31]).unwrap();
    let again = db(dir.path()).await;
    assert!(matches!(Vault::open(&again, &key).await, Err(VaultError::KeyLength(_, 31))));
    again.close().await;

    fs::remove_file(&key).unwrap();
    let again = db(dir.path()).await;
    assert!(matches!(Vault::open(&again, &key).await, Err(VaultError::MissingKey(_))));
    again.close().await;
    assert!(!key.exists());
    assert_eq!(fs::read(&file).unwrap(), before);

    fs::write(&key, right).unwrap();
    Vault::open(&db(dir.path()).await, &key).await.unwrap();
}
