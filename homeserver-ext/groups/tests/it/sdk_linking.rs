//! Linking against whoever has the text, or the server: answers and records that are none, and time.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use causeway_groups::{
    SCHEMA, Vault,
    machine::{DevicesError, NotLinked, Received},
    schemes::link_answer,
    sdk::{Client, DeviceError, Keep, KeepError, Linking, LinkingError},
};
use causeway_protocol::{
    api::SealedAnswer,
    device_link::{AnswerRefused, DeviceLink, LINK_MS, LinkAnswer, OfferSecret},
    ids::Timestamp,
};
use causeway_store::{Db, Lock, Options, Tx};
use futures_util::future::BoxFuture;
use zeroize::Zeroizing;

use crate::cli_server::Server;

/// Milliseconds by which the clock of the last test is ahead.
static AHEAD: AtomicU64 = AtomicU64::new(0);

#[expect(clippy::disallowed_methods, reason = "the clock of these tests")]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(u64::try_from(since.as_millis()).unwrap())
}

fn later() -> Timestamp {
    now().plus_ms(AHEAD.load(Ordering::SeqCst))
}

struct Nobody;

impl Keep for Nobody {
    fn keep<'a>(
        &'a self,
        _: &'a Client,
        _: &'a mut Tx,
        _: Vec<Received>,
    ) -> BoxFuture<'a, Result<(), KeepError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

async fn home(folder: &Path) -> (Db, Vault) {
    let path = folder.join("client.db");
    let db = Db::open(Options { path, lock: Lock::Shared, schemas: &[SCHEMA] }).await.unwrap();
    let vault = Vault::open(&db, &folder.join("storage.key")).await.unwrap();
    (db, vault)
}

async fn registered(server: &Server, folder: &Path, name: &str) -> Client {
    let (db, vault) = home(folder).await;
    let url = server.url();
    let made = Client::register(db, vault, Some(&url), name, None, Arc::new(Nobody), now).await;
    made.unwrap().client
}

async fn offered(server: &Server, folder: &Path, clock: fn() -> Timestamp) -> Linking {
    let (db, vault) = home(folder).await;
    Linking::begin(db, vault, &server.url(), Arc::new(Nobody), clock).await.unwrap()
}

/// What `client` would say to the device of this text.
async fn answer_for(client: &Client, link: &DeviceLink) -> LinkAnswer {
    let newest = client.own_devices().await.unwrap();
    let mut tx = client.db().begin().await.unwrap();
    let answer = client.machine().answer_device(&mut tx, link, &newest, now()).await.unwrap();
    link_answer::open(&link.secret, &answer.sealed.0).unwrap()
}

#[tokio::test]
async fn an_answer_of_who_has_no_text_or_means_another_device_is_none() {
    let (server, folders) = (Server::start(), [(); 3].map(|()| tempfile::tempdir().unwrap()));
    let ann = registered(&server, folders[0].path(), "ann").await;
    // The server, or whoever knows the id alone, puts what it likes.
    let linking = offered(&server, folders[1].path(), now).await;
    let id = linking.link().secret.id();
    ann.http().put_answer(&id, &SealedAnswer(vec![7; 600])).await.unwrap();
    let error = linking.answer().await.unwrap_err();
    assert!(matches!(error, LinkingError::NotLinked(NotLinked::NotAnAnswer(_))), "{error}");
    // That text is spoilt, and another is made.
    let again = offered(&server, folders[1].path(), now).await;
    assert_ne!(again.link(), linking.link());

    // Of who has the text: a certificate of another device of his.
    let link = again.link().clone();
    let other = offered(&server, folders[2].path(), now).await;
    let meant = DeviceLink { secret: link.secret.clone(), ..other.link().clone() };
    let answer = answer_for(&ann, &meant).await;
    let sealed = link_answer::seal(&link.secret, &answer, [1; 12]).unwrap();
    ann.http().put_answer(&link.secret.id(), &SealedAnswer(sealed)).await.unwrap();
    let error = again.answer().await.unwrap_err();
    let refused = NotLinked::Refused(AnswerRefused::Certificate);
    assert!(matches!(error, LinkingError::NotLinked(is) if is == refused), "{error}");
    // An answer to another text is none to this one.
    let sealed = link_answer::seal(&link.secret, &answer, [1; 12]).unwrap();
    let secret = OfferSecret::new(Zeroizing::new([9; 32]));
    assert!(link_answer::open(&secret, &sealed).is_err());
}

#[tokio::test]
async fn a_record_of_another_device_lets_nobody_in() {
    let (server, folders) = (Server::start(), [(); 2].map(|()| tempfile::tempdir().unwrap()));
    let ann = registered(&server, folders[0].path(), "ann").await;
    let linking = offered(&server, folders[1].path(), now).await;
    let (link, id) = (linking.link().clone(), linking.link().secret.id());
    let thief = async {
        linking.answer().await.unwrap();
        // Signed and certified, and another's.
        ann.http().put_record(&id, &ann.me().record).await.unwrap();
    };
    let (linked, ()) = tokio::join!(ann.link_device(&link), thief);
    let error = linked.unwrap_err();
    assert!(matches!(error, DeviceError::Devices(DevicesError::OtherRecord)), "{error}");
    assert_eq!(ann.own_devices().await.unwrap().list.version, 1);
    // The device whose place was taken says so, and is nobody's.
    let answer = linking.answer().await.unwrap();
    let error = linking.accept(answer).await.err().unwrap();
    assert!(matches!(error, LinkingError::Taken), "{error}");
    offered(&server, folders[1].path(), now).await;
}

#[tokio::test]
async fn after_ten_minutes_keys_and_text_are_forgotten() {
    let (server, folders) = (Server::start(), [(); 2].map(|()| tempfile::tempdir().unwrap()));
    let ann = registered(&server, folders[0].path(), "ann").await;
    let linking = offered(&server, folders[1].path(), later).await;
    let link = linking.link().clone();
    assert_eq!(offered(&server, folders[1].path(), later).await.link(), &link);
    AHEAD.store(LINK_MS, Ordering::SeqCst);
    assert!(matches!(linking.answer().await, Err(LinkingError::Ended)));
    let again = offered(&server, folders[1].path(), later).await;
    assert_ne!(again.link(), &link);
    // One that was answered and never listed is nobody's either.
    let answer = answer_for(&ann, again.link()).await;
    AHEAD.store(2 * LINK_MS, Ordering::SeqCst);
    assert!(matches!(again.accept(answer).await.err(), Some(LinkingError::Ended)));
    let last = offered(&server, folders[1].path(), later).await;
    assert!(last.account().is_none());
}
