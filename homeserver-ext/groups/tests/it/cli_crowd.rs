//! Many at one door: the SDK itself, a hundred times in one process.

use std::{path::Path, sync::Arc};

use causeway_groups::{
    SCHEMA, Vault,
    machine::{NewGroup, OpError, Received},
    sdk::{CallError, Client, Keep, KeepError, SdkError},
};
use causeway_protocol::{
    api::BridgeInfo,
    ids::{MemberId, Timestamp},
    roster::{Invalid, Role, Scheme},
};
use causeway_store::{Db, Lock, Options, Tx};
use futures_util::future::{BoxFuture, join_all};
use tempfile::TempDir;

use crate::cli_server::{Server, now};

const CROWD: usize = 100;
const USES: usize = 3;

/// Keeps nothing: who came is asked of the roster.
struct Nothing;

impl Keep for Nothing {
    fn keep<'a>(
        &'a self,
        _: &'a Client,
        _: &'a mut Tx,
        _: Vec<Received>,
    ) -> BoxFuture<'a, Result<(), KeepError>> {
        Box::pin(async { Ok(()) })
    }
}

async fn registered(server: &Server, folder: &Path, name: &str) -> Client {
    let path = folder.join(format!("{name}.db"));
    let options = Options { path, lock: Lock::Shared, schemas: &[SCHEMA] };
    let db = Db::open(options).await.unwrap();
    let vault = Vault::open(&db, &folder.join(format!("{name}.key"))).await.unwrap();
    let url = server.url();
    let registered =
        Client::register(db, vault, Some(&url), name, None, Arc::new(Nothing), now).await.unwrap();
    registered.client
}

#[tokio::test]
async fn of_a_hundred_who_use_a_link_for_three_at_once_three_come_in() {
    let server = Server::start();
    let folder = TempDir::new().unwrap();
    let alice = registered(&server, folder.path(), "alice").await;
    let group = alice
        .create_group(NewGroup {
            scheme: Scheme::SenderKeys,
            suite: None,
            name: "door".to_owned(),
            description: String::new(),
            members_may_add: false,
            is_channel: false,
            max_members: 1_000,
            ttl_s: 3_600,
        })
        .await
        .unwrap();
    // Longer than a hundred registrations take on the busiest machine.
    let expires: Timestamp = alice.now().plus_ms(3_600_000);
    let link = alice.create_invite(group, expires, u32::try_from(USES).unwrap()).await.unwrap();
    let mut crowd = Vec::new();
    for n in 0..CROWD {
        crowd.push(registered(&server, folder.path(), &format!("guest{n}")).await);
    }
    let asked = join_all(crowd.iter().map(|guest| guest.ask_to_join(&link))).await;
    let taken = asked.iter().filter(|asked| asked.is_ok()).count();
    assert_eq!(taken, USES);
    for refused in asked.iter().filter_map(|asked| asked.as_ref().err()) {
        let SdkError::Call(CallError::Refused { error, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert!(error.contains("used"), "{error}");
    }
    let mut stream = alice.stream();
    while alice.roster(group).await.unwrap().members().len() < 1 + USES {
        let rows = stream.next_rows().await.unwrap();
        let taken = alice.receive(&rows).await.unwrap();
        stream.took(&taken).await;
        alice.chores().await.unwrap();
    }
    alice.chores().await.unwrap();
    stream.close().await;
    alice.sync_group(group).await.unwrap();
    assert_eq!(alice.roster(group).await.unwrap().members().len(), 1 + USES);
    for (guest, asked) in crowd.iter().zip(&asked) {
        let is_in = guest.wait_to_join(group, std::time::Duration::ZERO).await.unwrap();
        assert_eq!(is_in, asked.is_ok(), "{}", guest.me().account);
    }
}

#[tokio::test]
async fn a_bridge_of_another_identity_than_was_shown_is_not_let_in() {
    let server = Server::start();
    let folder = TempDir::new().unwrap();
    let alice = registered(&server, folder.path(), "alice").await;
    let bot = registered(&server, folder.path(), "robot").await;
    let group = alice
        .create_group(NewGroup {
            scheme: Scheme::SenderKeys,
            suite: None,
            name: "door".to_owned(),
            description: String::new(),
            members_may_add: false,
            is_channel: false,
            max_members: 10,
            ttl_s: 3_600,
        })
        .await
        .unwrap();
    let shown = |member_id: MemberId| BridgeInfo {
        account: bot.me().account.clone(),
        member_id,
        fingerprint: String::new(),
    };
    let refused = alice.add_bridge(group, &shown(alice.me().record.member_id)).await;
    assert!(matches!(refused, Err(SdkError::Op(OpError::OtherIdentity(_)))), "{refused:?}");
    assert!(alice.roster(group).await.unwrap().bridge().is_none());
    alice.add_bridge(group, &shown(bot.me().record.member_id)).await.unwrap();
    assert!(alice.roster(group).await.unwrap().bridge().is_some());

    // It is asked once more by an admin, and by nobody else.
    let shown = shown(bot.me().record.member_id);
    alice.add_bridge(group, &shown).await.unwrap();
    let bob = registered(&server, folder.path(), "bob").await;
    alice.add(group, &bob.me().account, Role::Member).await.unwrap();
    bob.sync_group(group).await.unwrap();
    let refused = bob.add_bridge(group, &shown).await;
    let not_admin = matches!(refused, Err(SdkError::Op(OpError::Invalid(Invalid::NotAdmin))));
    assert!(not_admin, "{refused:?}");
}
