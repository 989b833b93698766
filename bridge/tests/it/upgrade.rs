//! A database of the version before, with envelopes on their way into a group.

use std::path::Path;

use causeway_bridge::{
    steps::{Step, Steps},
    storage::{SCHEMA, sealed::Sealer},
};
use causeway_groups::{Vault, machine::Batch};
use causeway_store::{Conn, Db, Lock, Options};
use serde_json::json;
use sqlx::Connection as _;

use crate::world::World;

/// From the tables of this version to those of before, but for what is in them.
const BACK: &str = "
    DROP INDEX given_owed;
    ALTER TABLE given DROP COLUMN owed;
    ALTER TABLE portal_outbox DROP COLUMN taken_back;
    DROP TABLE agents_invited;
    DROP TABLE not_taken;
    DROP INDEX outbox_sealed;
    ALTER TABLE outbox DROP COLUMN sealed_epoch;
    ALTER TABLE outbox DROP COLUMN anew;
    DROP TABLE late;
    DROP TABLE delegated;
    DROP TABLE callers;
    CREATE TABLE portal_batches (
        batch INTEGER PRIMARY KEY, lane TEXT NOT NULL UNIQUE,
        sealed BLOB NOT NULL, made_at BIGINT NOT NULL);
    ALTER TABLE portal_outbox
        ADD COLUMN batch INTEGER REFERENCES portal_batches (batch) ON DELETE SET NULL;
    CREATE INDEX portal_outbox_batch ON portal_outbox (batch) WHERE batch IS NOT NULL;
    DELETE FROM batches;
    ALTER TABLE batches DROP COLUMN kept_for;
    ALTER TABLE batches RENAME COLUMN sealed TO body;
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
    DROP TABLE portal_invited;
    DROP TABLE errands;
    DROP TABLE chats;
    DROP TABLE answered;
    DROP INDEX portal_mirrors_user;
    DROP TABLE shares;
    ALTER TABLE portals DROP COLUMN refused;
    DROP TABLE restored;
    DROP TABLE place;
    DROP TABLE uncompared;
    DROP TABLE expired;
    DROP INDEX links_of_message;
    DROP INDEX portals_successor;
    ALTER TABLE portals DROP COLUMN successor;
    ALTER TABLE portals DROP COLUMN hears_from;
    ALTER TABLE portals DROP COLUMN lost;
    DROP TABLE reading;
    DROP TABLE gaps;
    DROP INDEX inbox_damaged;
    DROP INDEX inbox_routed;
    ALTER TABLE portals ADD COLUMN suspect INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE portals ADD COLUMN cursor_event TEXT;
    ALTER TABLE quarantine RENAME TO numbered;
    CREATE TABLE quarantine (hash BLOB PRIMARY KEY, event_id TEXT, reason TEXT NOT NULL,
        sealed BLOB NOT NULL, received_at BIGINT NOT NULL);
    DROP TABLE numbered;
    DROP INDEX dead_letters_expiry;
    ALTER TABLE dead_letters DROP COLUMN expires_at;
    DROP INDEX lanes_ready;
    ALTER TABLE lanes DROP COLUMN turn;
    ALTER TABLE portal_outbox DROP COLUMN who;
    ALTER TABLE lanes ADD COLUMN unreachable INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX lanes_ready ON lanes (not_before) WHERE ready = TRUE AND paused IS NULL;
    CREATE INDEX lanes_unreachable ON lanes (lane) WHERE unreachable = TRUE;
    CREATE INDEX portals_suspect ON portals (portal) WHERE suspect > 0;
    DROP INDEX history_said;
    DROP INDEX history_of;
    ALTER TABLE history DROP COLUMN device;
    ALTER TABLE history DROP COLUMN client_id;
    ALTER TABLE history DROP COLUMN own;
    DROP TABLE parked;
    ALTER TABLE mirrors DROP COLUMN present;
    DROP TABLE settings;
    ALTER TABLE holds DROP COLUMN is_opened;
    DROP TABLE offered_rows;
    ALTER TABLE groups DROP COLUMN offer;
    ALTER TABLE groups DROP COLUMN offered_by;
    DROP TABLE identities;
    ALTER TABLE own DROP COLUMN met;
    DROP TABLE fallback_key;
    ALTER TABLE own DROP COLUMN replaces;
    ALTER TABLE own DROP COLUMN listed;
    DROP TABLE owed_words;
    ALTER TABLE owed_invites DROP COLUMN since_ms;
    ALTER TABLE invites DROP COLUMN maker;
    ALTER TABLE owed_invites DROP COLUMN next_ms;
    DROP TABLE link_uses;
    DROP TABLE revoked_links;
    ALTER TABLE invites ADD COLUMN revoked BIGINT NOT NULL DEFAULT 0;
    DROP INDEX ops_whole;
    ALTER TABLE groups DROP COLUMN since_whole;
    ALTER TABLE groups DROP COLUMN rosters_from;
    ALTER TABLE own ADD COLUMN generation BIGINT NOT NULL DEFAULT 0;
    UPDATE own SET generation = (SELECT n FROM commits);
    DROP TABLE commits;
    DELETE FROM schema_versions WHERE schema_name = 'client' AND version >= 7;
    DELETE FROM schema_versions WHERE schema_name = 'bridge' AND version >= 7;";

/// The message that is on its way in this folder's database, and the database of before with it.
async fn take_back(folder: &Path) -> Vec<u8> {
    let (path, schemas) = (folder.join("bridge.db"), &[causeway_groups::SCHEMA, SCHEMA]);
    let options = Options { path: path.clone(), lock: Lock::Exclusive, schemas };
    let db = Db::open(options).await.unwrap();
    let vault = Vault::open(&db, &folder.join("storage.key")).await.unwrap();
    db.close().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut old = Conn::connect_with(&options).await.unwrap();
    let (group, body, rows): (Vec<u8>, Vec<u8>, String) =
        sqlx::query_as("SELECT group_id, sealed, rows FROM batches")
            .fetch_one(&mut old)
            .await
            .unwrap();
    let sealer = Sealer(vault);
    let batch: Batch = sealer.open_json("batches", &group, &body).unwrap();
    let rows: Vec<i64> = serde_json::from_str(&rows).unwrap();
    assert_eq!((rows.len(), batch.messages.len()), (1, 1));
    sqlx::raw_sql(BACK).execute(&mut old).await.unwrap();
    let lane: String = sqlx::query_scalar("SELECT lane FROM portal_outbox WHERE id = $1")
        .bind(rows[0])
        .fetch_one(&mut old)
        .await
        .unwrap();
    sqlx::query("INSERT INTO portal_batches (batch, lane, sealed, made_at) VALUES (7, $1, $2, 0)")
        .bind(&lane)
        .bind(sealer.seal_json("portal_batches", lane.as_bytes(), &batch).unwrap())
        .execute(&mut old)
        .await
        .unwrap();
    sqlx::query("UPDATE portal_outbox SET batch = 7 WHERE id = $1")
        .bind(rows[0])
        .execute(&mut old)
        .await
        .unwrap();
    old.close().await.unwrap();
    batch.messages[0].first.as_bytes().to_vec()
}

#[tokio::test]
async fn envelopes_whose_outcome_is_unknown_go_again_as_they_were() {
    // Never posted, and posted without an answer.
    for step in [Step::Sealed, Step::Posted] {
        let mut world = World::new().await;
        let steps = Steps::default();
        let bridge = world.begin(steps.clone()).await;
        let alice = world.person("alice").await;
        let group = alice.create_group("Walkers").await;
        let stub = world.stub.clone();
        let room = async {
            alice.bridge(group, &["@al:x"]).await;
            stub.wait(|rooms| rooms.room_that_invites("@al:x")).await
        };
        let room = world.during(&bridge, room).await;
        let say = |body: &str| {
            let text = json!({"msgtype": "m.text", "body": body});
            stub.change(|rooms| rooms.event(&room, "@al:x", "m.room.message", None, text));
        };
        stub.change(|rooms| rooms.membership(&room, "@al:x", "@al:x", "join").unwrap());
        say("first");
        world
            .during(
                &bridge,
                alice.wait("first", |read| read.iter().any(|read| read.body == "first")),
            )
            .await;
        // What was read may not be written down as sent yet.
        let idle = async {
            while bridge.stats().await.outbox > 0 {
                tokio::task::yield_now().await;
            }
        };
        world.during(&bridge, idle).await;
        let sprung = steps.set(step, 0);
        say("second");
        world.during(&bridge, async { sprung.await.unwrap() }).await;
        bridge.drop_dead().await;

        let message = take_back(world.folder.path()).await;
        let bridge = world.begin(Steps::default()).await;
        say("third");
        world
            .during(
                &bridge,
                alice.wait("third", |read| read.iter().any(|read| read.body == "third")),
            )
            .await;
        assert_eq!(alice.mirrored(), ["first", "second", "third"], "{step:?}");
        let ids: Vec<Option<Vec<u8>>> =
            sqlx::query_scalar("SELECT message_id FROM links WHERE message_id = $1")
                .bind(&message)
                .fetch_all(bridge.spine.db.read().await.unwrap().conn())
                .await
                .unwrap();
        assert_eq!(ids.len(), 1, "{step:?}: sealed anew");
        bridge.drop_dead().await;
    }
}
