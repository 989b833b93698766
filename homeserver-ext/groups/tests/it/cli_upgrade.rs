//! A home of the version before, with a message on its way.

use causeway_groups::{SCHEMA, Vault, machine::Batch, vault::Class};
use causeway_store::{Conn, Db, Lock, Options};
use sqlx::{AssertSqlSafe, Connection as _};

use crate::{
    cli_proxy::Proxy,
    cli_world::{Person, World},
};

/// From the tables of this version to those of before, but for what is in them.
const BACK: &str = "
    DROP INDEX given_owed;
    ALTER TABLE given DROP COLUMN owed;
    DROP TABLE not_taken;
    DROP INDEX outbox_sealed;
    ALTER TABLE outbox DROP COLUMN sealed_epoch;
    ALTER TABLE outbox DROP COLUMN anew;
    DROP TABLE fallback_key;
    DROP TABLE forgotten;
    DROP TABLE share_pages;
    DROP TABLE owed_shares;
    DROP TABLE heard_shares;
    DROP TABLE sharers;
    DROP TABLE shared_lines;
    DROP TABLE shared_groups;
    DROP TABLE shared_given;
    DROP TABLE shared_windows;
    DROP TABLE shared_keys;
    DROP TABLE owed_pieces;
    DROP TABLE fan_outs;
    DROP TABLE imported;
    DROP TABLE legacy_own;
    DROP TABLE legacy_given;
    DROP TABLE legacy_held;
    ALTER TABLE outgoing DROP COLUMN piece;
    ALTER TABLE outgoing DROP COLUMN epoch;
    ALTER TABLE key_requests DROP COLUMN tries;
    ALTER TABLE key_requests DROP COLUMN next_ms;
    ALTER TABLE key_requests DROP COLUMN until_ms;
    ALTER TABLE key_requests ADD COLUMN asked_ms BIGINT;
    ALTER TABLE own DROP COLUMN replaces;
    ALTER TABLE own DROP COLUMN listed;
    DROP TABLE owed_words;
    ALTER TABLE owed_invites DROP COLUMN since_ms;
    ALTER TABLE invites DROP COLUMN maker;
    ALTER TABLE owed_invites DROP COLUMN next_ms;
    DROP TABLE link_uses;
    DROP TABLE revoked_links;
    ALTER TABLE invites ADD COLUMN revoked BIGINT NOT NULL DEFAULT 0;
    ALTER TABLE batches DROP COLUMN kept_for;
    ALTER TABLE batches RENAME COLUMN sealed TO body;
    DROP INDEX history_said;
    DROP INDEX history_of;
    ALTER TABLE history DROP COLUMN device;
    ALTER TABLE history DROP COLUMN client_id;
    ALTER TABLE history DROP COLUMN own;
    DROP TABLE parked;
    ALTER TABLE mirrors DROP COLUMN present;
    DROP TABLE place;
    DROP TABLE settings;
    ALTER TABLE holds DROP COLUMN is_opened;
    DROP TABLE offered_rows;
    ALTER TABLE groups DROP COLUMN offer;
    ALTER TABLE groups DROP COLUMN offered_by;
    DROP TABLE identities;
    ALTER TABLE own DROP COLUMN met;
    DROP INDEX ops_whole;
    ALTER TABLE groups DROP COLUMN since_whole;
    ALTER TABLE groups DROP COLUMN rosters_from;
    ALTER TABLE own ADD COLUMN generation BIGINT NOT NULL DEFAULT 0;
    UPDATE own SET generation = (SELECT n FROM commits);
    DROP TABLE commits;
    DELETE FROM schema_versions WHERE schema_name = 'client' AND version >= 7;";

/// The message that is on its way from this home, and the home of before with it.
fn take_back(person: &Person) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let path = person.home.join("client.db");
        let options = Options { path: path.clone(), lock: Lock::Shared, schemas: &[SCHEMA] };
        let db = Db::open(options).await.unwrap();
        let vault = Vault::open(&db, &person.home.join("storage.key")).await.unwrap();
        db.close().await;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let mut old = Conn::connect_with(&options).await.unwrap();
        let (group, sealed): (Vec<u8>, Vec<u8>) =
            sqlx::query_as("SELECT group_id, sealed FROM batches")
                .fetch_one(&mut old)
                .await
                .unwrap();
        let body = vault.unseal(Class::Content, "batches", "sealed", &group, &sealed).unwrap();
        let batch: Batch = serde_json::from_slice(&body).unwrap();
        sqlx::raw_sql(BACK).execute(&mut old).await.unwrap();
        sqlx::query("UPDATE batches SET body = $1")
            .bind(std::str::from_utf8(&body).unwrap())
            .execute(&mut old)
            .await
            .unwrap();
        old.close().await.unwrap();
        batch.messages[0].first.as_bytes().to_vec()
    })
}

/// What the server called the message of the outbox that it took last.
fn accepted(person: &Person) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let file = person.home.join("client.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let mut conn = Conn::connect_with(&options).await.unwrap();
        let last = "SELECT envelope_id FROM outbox WHERE state = 'accepted' ORDER BY row DESC";
        sqlx::query_scalar(AssertSqlSafe(last)).fetch_one(&mut conn).await.unwrap()
    })
}

#[test]
fn a_message_whose_outcome_is_unknown_goes_again_as_it_was() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let proxy = Proxy::before(world.server.address());
    proxy.lose_answers(1_000);
    world.person_at("alice", &proxy.url()).fails(&["send", "team", "before", "--timeout", "2"], 5);
    assert!(proxy.lost() > 0, "the server has it");
    let message = take_back(&alice);
    alice.ok(&["send", "--flush"]);
    assert_eq!(accepted(&alice), message, "sealed anew");
    alice.ok(&["send", "team", "after"]);
    assert_eq!(bob.texts(), ["before", "after"]);
}
