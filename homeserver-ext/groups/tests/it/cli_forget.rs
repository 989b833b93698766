//! Groups that are over can be forgotten; and what cannot be undone is asked about, where there is
//! somebody to ask.

use std::{fs::File, io::Write as _, process::Stdio};

use causeway_protocol::ids::GroupId;
use causeway_store::Conn;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, sqlite::SqliteConnectOptions};

use crate::cli_world::{Ended, Person, World, ended, texts};

fn id_of(person: &Person, name: &str) -> String {
    person.ok(&["group", "show", name])[0]["group"].as_str().unwrap().to_owned()
}

/// Tables of this home that hold something of a group, which names itself in them.
fn tables_with(person: &Person, group: &str) -> Vec<String> {
    let group: GroupId = group.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(person.home.join("client.db"));
        let mut conn = Conn::connect_with(&options).await.unwrap();
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT m.name FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c
             WHERE m.type = 'table' AND c.name = 'group_id' ORDER BY m.name",
        )
        .fetch_all(&mut conn)
        .await
        .unwrap();
        let mut with = Vec::new();
        for table in tables {
            let sql = format!("SELECT COUNT(*) FROM {table} WHERE group_id = $1");
            let count = sqlx::query_scalar(AssertSqlSafe(sql)).bind(group.as_bytes().as_slice());
            let count: i64 = count.fetch_one(&mut conn).await.unwrap();
            with.extend((count > 0).then_some(table));
        }
        conn.close().await.unwrap();
        with
    })
}

fn names(person: &Person) -> Vec<String> {
    let listed = person.ok(&["group", "list"]);
    let groups = listed[0]["groups"].as_array().unwrap().iter();
    groups.map(|group| group["name"].as_str().unwrap().to_owned()).collect()
}

fn last_row(lines: &[Value]) -> i64 {
    lines.last().unwrap()["row"].as_i64().unwrap()
}

#[test]
fn a_closed_group_is_forgotten_with_all_its_rows_and_its_name_is_free() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let id = id_of(&alice, "team");
    bob.ok(&["send", "team", "before"]);
    alice.ok(&["send", "team", "something of mine"]);
    let row = last_row(&alice.read());
    assert!(tables_with(&alice, &id).len() > 8, "{:?}", tables_with(&alice, &id));
    let said = alice.fails(&["group", "forget", "team"], 1);
    let said = said["error"].to_string();
    assert!(said.contains("open") && said.contains("group close"), "{said}");
    assert_eq!(names(&alice), ["team"]);

    alice.ok(&["group", "close", "team"]);
    bob.ok(&["group", "create", "team"]);
    for person in [&alice, &bob] {
        // Bob has not heard of the end, and has an open group of this name.
        person.ok(&["group", "show", &id]);
        let forgot = person.ok(&["group", "forget", "team"]);
        assert_eq!(
            (&forgot[0]["group"], &forgot[0]["forgotten"]),
            (&Value::from(&*id), &true.into())
        );
        assert_eq!(tables_with(person, &id), ["forgotten"]);
        // What still comes of it, and what the server still has of it, brings nothing back.
        let lines = person.read();
        assert!(lines.iter().all(|line| line["group"] != id), "{lines:?}");
        person.ok(&["group", "list"]);
        assert_eq!(tables_with(person, &id), ["forgotten"]);
        person.fails(&["group", "show", &id], 2);
    }
    assert!(names(&alice).is_empty());
    assert_eq!(names(&bob), ["team"]);

    // Rows go on rising: a reader that remembers the last one misses nothing.
    alice.ok(&["group", "create", "team"]);
    alice.ok(&["send", "team", "to the new one"]);
    assert!(last_row(&alice.read()) > row);
}

#[test]
fn a_group_that_was_left_and_forgotten_comes_back_when_somebody_adds_one_again() {
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let id = id_of(&bob, "team");
    for again in [false, true] {
        alice.ok(&["send", "team", "unread"]);
        bob.ok(&["group", "leave", "team"]);
        bob.ok(&["group", "forget", "team"]);
        assert!(bob.read().is_empty());
        assert_eq!(tables_with(&bob, &id), ["forgotten"]);
        alice.ok(&["member", "add", "team", "bob"]);
        if again {
            // Without a word of the mailbox.
            assert_eq!(names(&bob), ["team"]);
        }
        bob.read();
        bob.ok(&["group", "accept", "team"]);
        alice.ok(&["send", "team", "welcome back"]);
        assert_eq!(texts(&bob.read()), ["welcome back"]);
        bob.ok(&["send", "team", "hello again"]);
        assert_eq!(alice.texts(), ["hello again"]);
    }
}

#[test]
fn a_long_history_is_forgotten_too() {
    let world = World::new();
    let [alice, _bob] = world.group(["alice", "bob"]);
    let id = id_of(&alice, "team");
    alice.ok(&["group", "close", "team"]);
    alice.read();
    alice.meddle(&[
        "WITH RECURSIVE n (n) AS (SELECT 1000 UNION ALL SELECT n + 1 FROM n WHERE n < 26000)
         INSERT INTO history (row, group_id, at_ms, line)
         SELECT n, (SELECT group_id FROM groups), 1, x'00' FROM n",
    ]);
    alice.ok(&["group", "forget", "team"]);
    assert_eq!(tables_with(&alice, &id), ["forgotten"]);
    alice.ok(&["group", "create", "next"]);
    assert!(last_row(&alice.read()) > 26_000);
}

/// Runs it at a terminal at which somebody has typed this.
fn typed(person: &Person, arguments: &[&str], typed: &str) -> Ended {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let stdin = File::options().read(true).write(true).open(name).unwrap();
    let mut terminal = File::from(terminal);
    terminal.write_all(typed.as_bytes()).unwrap();
    let ended = ended(person.command(arguments).stdin(Stdio::from(stdin)).output().unwrap());
    drop(terminal);
    ended
}

#[test]
fn what_cannot_be_undone_is_asked_about_at_a_terminal_and_yes_is_no_question() {
    let world = World::new();
    let [alice, bob, _carol] = world.group(["alice", "bob", "carol"]);
    for (person, act) in [
        (&alice, &["member", "remove", "team", "carol"] as &[&str]),
        (&bob, &["group", "leave", "team"]),
        (&alice, &["group", "close", "team"]),
        (&alice, &["group", "forget", "team"]),
    ] {
        for no in ["n\n", "\n", "\x04"] {
            let ended = typed(person, act, no);
            assert_eq!(ended.status.code(), Some(1), "{act:?}: {}", ended.stderr);
            assert!(ended.stderr.contains("[y/N]"), "{}", ended.stderr);
            assert!(ended.stderr.contains("Nothing was changed"), "{}", ended.stderr);
        }
        assert!(typed(person, act, "y\n").status.success(), "{act:?}");
    }
    alice.ok(&["group", "create", "next"]);
    let ended = typed(&alice, &["group", "close", "next", "--yes"], "");
    assert!(ended.status.success() && !ended.stderr.contains("[y/N]"), "{}", ended.stderr);
}
