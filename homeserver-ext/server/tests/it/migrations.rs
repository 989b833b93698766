//! A database that an older version made goes on with what waits in it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
};

use causeway_protocol::{
    api::{Accepted, DeliveryState, MessageStatus},
    envelope::{Kind, SubmittedTo},
    ids::Timestamp,
    roster::Body,
};
use causeway_server::{App, Clock, Config};
use causeway_store::{Db, Lock, Options, Schema};
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, migrate::Migrator};

use crate::harness::{Group, Person, SERVER, Server, text};

/// A database with the tables of the first so many migrations, and these rows.
async fn old_database(folder: &Path, count: usize, statements: &[&str]) -> PathBuf {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/server/sqlite");
    let old = folder.join("old");
    std::fs::create_dir(&old).unwrap();
    let mut files: Vec<_> = all.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    for file in &files[..count] {
        std::fs::copy(file, old.join(file.file_name().unwrap())).unwrap();
    }
    let migrator = Migrator::new(old.as_path()).await.unwrap();
    let schemas = [Schema { name: "server", migrator: &migrator, is_counted: false }];
    let path = folder.join("server.db");
    let options = Options { path: path.clone(), lock: Lock::Exclusive, schemas: &schemas };
    let db = Db::open(options).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    for statement in statements {
        sqlx::query(AssertSqlSafe(*statement)).execute(tx.conn()).await.unwrap();
    }
    tx.commit().await.unwrap();
    db.close().await;
    path
}

#[tokio::test]
async fn what_waits_from_before_a_migration_is_kept_and_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let statements = [
        "INSERT INTO accounts VALUES ('a:a.example', x'01', 1, '{}', 1)",
        "INSERT INTO devices VALUES (1, x'02', x'01', 'a:a.example', '{}', TRUE, NULL, NULL)",
        "INSERT INTO groups VALUES (1, x'03', 0, x'', x'', 'tea', 1, FALSE, 60, 0)",
        "INSERT INTO envelopes VALUES (1, x'04', 0, 1, 0, 1, NULL, 60000, 9000, x'05')",
        "INSERT INTO mailboxes VALUES (1, 1, 0)",
        "INSERT INTO mailbox VALUES (1, 1, 1, NULL)",
    ];
    let path = old_database(folder.path(), 1, &statements).await;

    let clock = Clock::new(|| Timestamp(8_999));
    let app = App::open(Config::new(SERVER, path), clock).await.unwrap();
    let figures = app.figures().await.unwrap();
    assert_eq!((figures.mailbox_rows, figures.groups), (1, 1));
    assert_eq!(figures.oldest_waiting_ms, 0, "since when it waits nobody wrote down");
    app.upkeep().await.unwrap();
    assert_eq!(app.figures().await.unwrap().mailbox_rows, 1);
}

fn hex(bytes: &[u8]) -> String {
    format!("x'{}'", hex::encode(bytes))
}

/// A group of three, of whom the last is out again, as version 6 kept it; their tokens are their
/// names.
fn old_rows(people: &[Person], group: &Group) -> Vec<String> {
    let roster = &group.roster;
    let mut statements = Vec::new();
    for (n, person) in (1..).zip(people) {
        let (account, list) =
            (person.account.as_str(), serde_json::to_string(&person.list).unwrap());
        let (member, device) = (hex(person.member().as_ref()), hex(person.device().as_ref()));
        let record = serde_json::to_string(&person.record).unwrap();
        let token = hex(&Sha256::digest(&person.token));
        let (from, until) =
            if n == 1 { (0, "NULL") } else { (1, if n == 3 { "2" } else { "NULL" }) };
        statements.extend([
            format!("INSERT INTO accounts VALUES ('{account}', {member}, '{list}', 1)"),
            format!(
                "INSERT INTO devices VALUES
                 ({n}, {device}, {member}, '{account}', '{record}', TRUE, {token}, NULL, 0)"
            ),
            format!("INSERT INTO group_devices VALUES (1, {device}, {member}, {from}, {until})"),
            format!("INSERT INTO group_members SELECT 1, {member}, '{account}', 0 WHERE {n} < 3"),
        ]);
    }
    statements.insert(
        0,
        format!(
            "INSERT INTO groups VALUES (1, {}, 2, {}, {}, 'tea', 2, FALSE, 2592000, 2)",
            hex(roster.group().as_ref()),
            hex(&roster.to_row()),
            hex(roster.hash().as_ref())
        ),
    );
    for op in &group.ops {
        let (epoch, hash, bytes) = (op.epoch().0, hex(op.hash().as_ref()), hex(op.as_bytes()));
        statements.push(format!("INSERT INTO ops VALUES (1, {epoch}, {hash}, {bytes})"));
    }
    statements
}

/// Rows of before have numbers of their device, those of now of the whole server: all of the first
/// stand before all of the second.
#[tokio::test]
async fn mailboxes_of_before_are_read_to_their_end_and_then_what_came_since() {
    let people =
        ["alice", "bob", "carol"].map(|name| Person::new(name).with_token(name.to_owned()));
    let [alice, bob, carol] = &people;
    let mut group = Group::begun(Group::first_op(alice));
    group.install(group.op(alice, &Body::Add(vec![bob.entry(0), carol.entry(0)])));
    group.install(group.op(alice, &Body::Remove(vec![carol.member()])));
    let mut statements = old_rows(&people, &group);
    let mut ids = Vec::new();
    for (number, text) in [(9, "to all"), (10, "one"), (11, "two")] {
        let id = alice.message(group.id(), 1, text).id.unwrap();
        ids.push(id);
        statements.push(format!(
            "INSERT INTO envelopes VALUES ({number}, {}, 0, 1, 1, 1, NULL, 60000, 1800000060000, {},
             1800000000000, NULL)",
            hex(id.as_ref()),
            hex(text.as_bytes())
        ));
    }
    let places = [2_i64, 41].map(i64::to_be_bytes).concat();
    statements.extend([
        "INSERT INTO mailboxes VALUES (1, 5, 5, 5), (2, 41, 38, 0), (3, 3, 2, 0)".to_owned(),
        "INSERT INTO mailbox VALUES (2, 39, 9, NULL), (2, 40, 10, NULL), (2, 41, 11, NULL),
         (3, 3, 9, NULL)"
            .to_owned(),
        format!(
            "INSERT INTO accepted VALUES (1, {}, 1900000000000, {})",
            hex(ids[2].as_ref()),
            hex(&places)
        ),
    ]);
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
    old_database(folder.path(), 6, &statements).await;

    let clock = Arc::new(AtomicU64::new(1_800_000_000_000));
    let server = Server::start_in(folder, clock, |_| {}).await;
    let mut stream = bob.stream(&server).await;
    assert!(stream.hello().await.last_seq.0 >= 41);
    let rows = stream.take(3).await;
    assert_eq!(rows.iter().map(|row| row.seq.0).collect::<Vec<_>>(), [39, 40, 41]);
    let said = alice.say(&server, &group, &["three"]).await;
    assert_eq!(said.accepted[0].recipients, 1);
    let row = stream.next().await;
    assert!(row.seq.0 > 41 && text(&row.envelope) == "three");
    assert_eq!(
        rows.iter().map(|row| text(&row.envelope)).collect::<Vec<_>>(),
        ["to all", "one", "two"]
    );
    // What was accepted before is answered as it was, and its status goes on.
    let again: Accepted =
        alice.submit(&server, vec![alice.message(group.id(), 1, "two")]).await.ok();
    assert_eq!((again.accepted[0].id, again.accepted[0].recipients), (ids[2], 1));
    stream.ack(41).await;
    let state = async || {
        let status: MessageStatus =
            alice.get(&server, &format!("/messages/{}/status", ids[2])).await.ok();
        status.recipients[0].state
    };
    while state().await != DeliveryState::Acked {
        tokio::task::yield_now().await;
    }
    drop(stream);
    assert_eq!(bob.stream(&server).await.texts(1).await, ["three"]);
    // Who is out reads what was for her, and no more.
    let mut hers = carol.stream(&server).await;
    assert_eq!(hers.texts(1).await, ["to all"]);
    let to_her = SubmittedTo::Device(carol.device());
    let late = alice.submission(group.id(), 2, Kind::Direct, to_her, b"late".to_vec());
    let late: Accepted = alice.submit(&server, vec![late]).await.ok();
    assert_eq!(late.accepted[0].recipients, 0);
    hers.ack(3).await;
    while server.rows().await.iter().any(|row| row.starts_with("mailbox: 3,")) {
        tokio::task::yield_now().await;
    }
    // All of it has an end.
    server.pass_ms(31 * 86_400_000);
    server.app.upkeep().await.unwrap();
    let left = server.rows().await.into_iter().filter(|row| row.starts_with("mailbox:")).count();
    assert_eq!(left, 1, "that `three` expired, for alice");
}
