//! How SQLite finds rows: every statement on a table that grows goes by an index.

use std::fs;

use causeway_bridge::storage::SCHEMA;
use causeway_store::{Db, Lock, Options, Read};
use sqlx::{AssertSqlSafe, Row as _};

use crate::statements::{files, statements};

/// Where statements of `bridge.db` stand.
const SOURCES: [&str; 2] = ["src/storage", "../homeserver-ext/groups/src/storage"];

/// Tables of one row, or of which each is wanted.
const SMALL: [&str; 18] = [
    "callers",
    "delegated",
    "errands",
    "own",
    "fallback_key",
    "data_keys",
    "one_time_keys",
    "owed_invites",
    "owed_words",
    "acks_due",
    "owed_shares",
    "imported",
    "legacy_own",
    "legacy_given",
    "reading",
    "gaps",
    "uncompared",
    "restored",
];

/// Indexes that hold only what waits.
const QUEUES: [&str; 7] = [
    "inbox_waiting",
    "inbox_early",
    "lanes_ready",
    "inbox_damaged",
    "portals_making",
    "parked_due",
    "owed_pieces_due",
];

/// Statements that walk through a table, by how they begin, and why they may.
const WALKS: [(&str, &str); 63] = [
    (
        "SELECT i.room_id, i.event_id FROM inbox i JOIN portals",
        "newest first: as far as a portal's",
    ),
    ("SELECT count(*) FROM chats", "a covering index; 10,000 rows at most"),
    ("UPDATE dead_letters SET tried_at", "all are wanted, when the database was put back"),
    ("UPDATE portals SET hears_from = NULL", "all are wanted, at the start"),
    ("SELECT lane, txn FROM portal_outbox WHERE lane IN", "every ten minutes: all lanes"),
    ("SELECT (SELECT count(*) FROM inbox", "for metrics: covering indexes"),
    ("SELECT lane, (SELECT count(*)", "for the admin API"),
    ("DELETE FROM quarantine WHERE received_at", "every ten minutes: 10,000 rows"),
    (
        "SELECT portal, group_id, room_id, name, state, encrypted, lost, successor, hears_from, refused FROM portals ORDER",
        "all are wanted",
    ),
    (
        "SELECT portal, group_id, room_id, lost, successor, hears_from FROM portals",
        "all, now and then",
    ),
    ("SELECT count(*) FROM (SELECT 1 FROM portal_outbox", "a lane's index; 10,000 rows at most"),
    ("SELECT portal, lost FROM portals", "all, now and then"),
    ("SELECT room_id FROM portals WHERE room_id IS NOT NULL", "all, when reading begins anew"),
    ("SELECT DISTINCT portal FROM expired", "a covering index; a hundred rows of each at most"),
    ("UPDATE lanes SET turn = 0", "all are wanted, at the start"),
    ("SELECT room, server, next_at, wait_ms FROM agents_invited", "all are wanted, at the start"),
    ("UPDATE portal_outbox SET replayed", "all are wanted, when the database was put back"),
    ("SELECT chain_id, sealed FROM given WHERE group_id", "when a member asks for a key"),
    ("UPDATE shared_keys SET next", "all are wanted, when the database was put back"),
    ("UPDATE shared_groups SET due_ms = 0", "all are wanted, when the database was put back"),
    ("UPDATE olm_sessions SET retired", "all are wanted, when the database was put back"),
    ("DELETE FROM asked WHERE done_ms", "all are wanted, when the database was put back"),
    ("DELETE FROM held_chains WHERE at_ms", "hourly"),
    ("UPDATE given SET sealed = NULL", "hourly"),
    ("DELETE FROM given WHERE sealed IS NULL", "hourly"),
    ("DELETE FROM answers WHERE at_ms", "hourly"),
    ("DELETE FROM outgoing WHERE at_ms", "hourly"),
    ("DELETE FROM key_requests WHERE until_ms", "hourly"),
    ("UPDATE groups SET rosters_from = (SELECT", "hourly: all groups"),
    ("DELETE FROM holds WHERE expires_ms", "hourly"),
    ("DELETE FROM invites WHERE expires_ms", "hourly"),
    ("DELETE FROM joins WHERE at_ms", "hourly"),
    ("DELETE FROM link_uses WHERE ik_pub NOT IN", "hourly"),
    ("DELETE FROM share_pages WHERE share_id NOT IN", "hourly"),
    ("DELETE FROM heard_shares WHERE since_ms", "hourly"),
    ("DELETE FROM sharers WHERE since_ms", "hourly"),
    ("DELETE FROM revoked_links WHERE at_ms", "hourly"),
    ("SELECT DISTINCT group_id, device FROM key_requests", "a covering index; of a month"),
    ("SELECT client_id, state, envelope_id, failure FROM outbox", "when a person asks for one"),
    ("SELECT COUNT(*) FROM answers", "the counts of an hour"),
    ("SELECT group_id, device, tag, idx, epoch, tries FROM (", "requests of the last month"),
    ("UPDATE key_requests SET next_ms = 0", "when a session began: requests of the last month"),
    (
        "DELETE FROM holds WHERE group_id = COALESCE(",
        "when a roster or a chain came: 16 MiB at most",
    ),
    ("SELECT group_id, fetch_from FROM groups", "with the chores: groups of this device"),
    ("SELECT COALESCE(SUM(bytes), 0) FROM offered_rows", "a covering index; 4 MiB at most"),
    ("SELECT account, member_id, standing", "all are wanted, after one of them changed"),
    ("SELECT group_id FROM groups", "with the chores: groups of this device"),
    ("SELECT COUNT(*), COUNT(CASE WHEN maker", "when an invite came"),
    ("UPDATE joins SET state", "when an invite ended"),
    ("SELECT request_id, group_id, ik_pub", "with the chores: requests of a month"),
    ("SELECT DISTINCT group_id FROM outgoing", "with the chores: a covering index"),
    ("SELECT COALESCE(SUM(bytes), 0) FROM holds", "16 MiB at most, and a covering index"),
    ("SELECT ik_pub FROM invites WHERE group_id", "links that this device knows, in order"),
    ("SELECT history.row, history.line FROM history", "in its order, a page at a time"),
    ("SELECT group_id FROM outbox WHERE state = 'queued'", "what waits: an index of that alone"),
    ("DELETE FROM outbox WHERE state <> 'queued'", "once for each `tail`"),
    ("DELETE FROM not_taken WHERE NOT EXISTS", "once for each `tail`: few"),
    ("DELETE FROM link_uses WHERE ik_pub IN (SELECT", "when a group is forgotten"),
    ("DELETE FROM owed_invites WHERE ik_pub IN", "when a group is forgotten"),
    ("DELETE FROM invites WHERE group_id", "when a group is forgotten"),
    ("DELETE FROM joins WHERE group_id", "when a group is forgotten"),
    ("DELETE FROM outbox WHERE group_id", "when a group is forgotten"),
    ("DELETE FROM given WHERE group_id", "when a group is forgotten"),
];

#[tokio::test]
async fn every_statement_on_a_table_that_grows_goes_by_an_index() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bridge.db");
    let schemas = &[causeway_groups::SCHEMA, SCHEMA];
    let db = Db::open(Options { path, lock: Lock::Exclusive, schemas }).await.unwrap();
    let mut read = db.read().await.unwrap();
    let (mut seen, mut walked) = (0, Vec::new());
    for source in SOURCES {
        for file in files(source) {
            for statement in statements(&fs::read_to_string(&file).unwrap()) {
                let Some(walks) = walks(&mut read, &statement).await else { continue };
                seen += 1;
                if walks {
                    walked.push(statement);
                }
            }
        }
    }
    assert!(seen > 150, "only {seen} statements were found");
    let is_known =
        |statement: &&String| !WALKS.iter().any(|(known, _)| statement.starts_with(known));
    let unknown: Vec<&String> = walked.iter().filter(is_known).collect();
    assert!(unknown.is_empty(), "these walk through a table: {unknown:#?}");
    for (known, _) in WALKS {
        assert!(walked.iter().any(|statement| statement.starts_with(known)), "no more: {known}");
    }
}

/// Whether the plan goes through a table from end to end; `None` for what is only a part.
async fn walks(read: &mut Read, statement: &str) -> Option<bool> {
    let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
    let plan = sqlx::query(explain).fetch_all(read.conn()).await.ok()?;
    let walks = |step: &str| {
        let table = step.strip_prefix("SCAN ")?.split(' ').next()?;
        let is_queue = QUEUES.iter().any(|queue| step.ends_with(queue));
        (table != "CONSTANT" && !is_queue && !SMALL.contains(&table)).then_some(())
    };
    Some(plan.iter().any(|step| walks(step.get("detail")).is_some()))
}
