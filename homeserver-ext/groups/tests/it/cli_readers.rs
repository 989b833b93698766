//! Who reads on Matrix is shown to those who write.

use std::sync::Arc;

use causeway_groups::{
    SCHEMA, Vault,
    machine::{AddedBy, NewGroup, Outgoing, Received, SealError},
    sdk::{Client, Keep, KeepError},
};
use causeway_protocol::{
    api::BridgeInfo,
    content::{Content, Mirror, Mirrors},
    ids::{ClientId, GroupId},
    roster::Scheme,
};
use causeway_store::{Db, Lock, Options, Tx};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::{
    cli_server::now,
    cli_world::{Person, World},
};

/// Keeps nothing: who reads is asked of the command line.
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

/// The home of somebody, without its command line.
async fn opened(person: &Person) -> Client {
    let options =
        Options { path: person.home.join("client.db"), lock: Lock::Shared, schemas: &[SCHEMA] };
    let db = Db::open(options).await.unwrap();
    let vault = Vault::open(&db, &person.home.join("storage.key")).await.unwrap();
    let client = Client::open(db, vault, None, Arc::new(Nothing), now).await;
    client.unwrap().added_by_these(AddedBy::All)
}

async fn say(client: &Client, group: GroupId, present: &[usize], gone: &[usize]) {
    let id = |n: &usize| format!("@u{n:03}:m.example");
    let named = |n: &usize| Mirror { id: id(n), name: format!("User {n}") };
    let mirrors = present.iter().map(named).collect();
    say_of(client, group, Mirrors { mirrors, gone: gone.iter().map(id).collect() }).await;
}

async fn say_of(client: &Client, group: GroupId, mirrors: Mirrors) {
    let mut client_id = [0; 16];
    getrandom::fill(&mut client_id).unwrap();
    let content = Content::Mirrors(mirrors);
    client.sync_group(group).await.unwrap();
    let items = [Outgoing { client_id: ClientId::new(client_id), ttl_s: 0, content }];
    let batch = loop {
        client.prepare(group).await.unwrap();
        let mut tx = client.db().begin().await.unwrap();
        match client.machine().seal(&mut tx, now(), group, &items).await {
            Ok(batch) => {
                tx.commit().await.unwrap();
                break batch;
            }
            Err(SealError::Unprepared(_)) => {}
            Err(error) => panic!("{error}"),
        }
    };
    client.post(&batch).await.unwrap();
}

/// What a person reads of it.
fn shown(person: &Person, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_causeway-client"));
    command.arg("--home").arg(&person.home).args(arguments);
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn names_that_others_chose_break_no_line() {
    const FORGED: &str = "tea\n[team] bob: yes\r\u{2028}\u{1b}[2J\u{202e}x";
    let world = World::new();
    let [alice] = world.group(["alice"]);
    let robot = world.registered("robot");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let id = alice.ok(&["group", "show", "team"])[0]["group"].as_str().unwrap().to_owned();
    let group: GroupId = id.parse().unwrap();
    runtime.block_on(async {
        let (alice, bot) = (opened(&alice).await, opened(&robot).await);
        let (account, member_id) = (bot.me().account.clone(), bot.me().record.member_id);
        let info = BridgeInfo { account, member_id, fingerprint: String::new() };
        alice.add_bridge(group, &info).await.unwrap();
        let new = NewGroup {
            scheme: Scheme::SenderKeys,
            suite: None,
            name: FORGED.to_owned(),
            description: FORGED.to_owned(),
            members_may_add: false,
            is_channel: false,
            max_members: 10,
            ttl_s: 86_400,
        };
        alice.create_group(new).await.unwrap();
        let id = format!("@{FORGED}:m.example");
        let mirrors = vec![Mirror { id, name: FORGED.to_owned() }];
        say_of(&bot, group, Mirrors { mirrors, gone: Vec::new() }).await;
    });
    let told = shown(&alice, &["tail", "--once"]);
    let tables = [
        (shown(&alice, &["group", "list"]), 3),
        (shown(&alice, &["member", "list", "team"]), 4),
        (shown(&alice, &["pins"]), 2),
        (
            told.clone(),
            told.lines().filter(|line| line.get(6..).is_some_and(|l| l.starts_with('['))).count(),
        ),
    ];
    for (text, lines) in tables {
        assert_eq!(text.lines().count(), lines, "{text:?}");
        assert!(!text.contains(['\r', '\u{1b}', '\u{202e}', '\u{2028}']), "{text:?}");
        assert!(!text.lines().any(|line| line.trim_start().starts_with("[team] bob")), "{text:?}");
    }
    assert!(told.contains("can read here through Matrix"), "{told:?}");
}

fn matrix(person: &Person, arguments: &[&str]) -> Value {
    person.ok(arguments)[0]["matrix"].clone()
}

#[test]
fn who_reads_on_matrix_is_named_until_he_does_not() {
    let world = World::new();
    let [alice] = world.group(["alice"]);
    let robot = world.registered("robot");
    assert_eq!(matrix(&alice, &["group", "show", "team"]), Value::Null, "no bridge");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let group: GroupId =
        alice.ok(&["group", "show", "team"])[0]["group"].as_str().unwrap().parse().unwrap();
    let bot = runtime.block_on(async {
        let (alice, bot) = (opened(&alice).await, opened(&robot).await);
        let (account, member_id) = (bot.me().account.clone(), bot.me().record.member_id);
        let info = BridgeInfo { account, member_id, fingerprint: String::new() };
        alice.add_bridge(group, &info).await.unwrap();
        bot
    });
    let none = matrix(&alice, &["group", "show", "team"]);
    assert_eq!((&none["bridge"], &none["count"]), (&json!("robot:native.example"), &json!(0)));

    let all: Vec<usize> = (0..25).collect();
    runtime.block_on(say(&bot, group, &all, &[]));
    alice.read();
    let shown = matrix(&alice, &["group", "show", "team"]);
    assert_eq!((&shown["count"], &shown["more"]), (&json!(25), &json!(15)));
    assert_eq!(shown["readers"][9], json!({"id": "@u009:m.example", "name": "User 9"}));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_causeway-client"));
    command.arg("--home").arg(&alice.home).args(["group", "show", "team"]);
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let part = "Read on Matrix through robot:native.example by User 0 (@u000:m.example), ";
    assert!(text.contains(part) && text.contains(" and 15 more"), "{text}");
    let page = matrix(&alice, &["member", "list", "team", "--limit", "20"]);
    assert_eq!((&page["next"], &page["more"]), (&json!("@u020:m.example"), &json!(5)));
    let rest = matrix(&alice, &["member", "list", "team", "--from", "@u020:m.example"]);
    assert_eq!(rest["readers"].as_array().unwrap().len(), 5);

    // What the bridge puts there is not taken back when a message ends here.
    for (ttl, is_said) in [("60", true), ("0", false)] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_causeway-client"));
        command.arg("--home").arg(&alice.home).args(["send", "team", "--ttl", ttl, "x"]);
        let sent = command.output().unwrap();
        assert!(sent.status.success());
        let said = String::from_utf8(sent.stderr).unwrap();
        assert_eq!(said.contains("--ttl does not reach the Matrix side"), is_said, "{said}");
    }

    // Who went reads no more, and is a line.
    runtime.block_on(say(&bot, group, &[], &all[1..]));
    let lines = alice.read();
    assert_eq!(lines.iter().filter(|line| line["type"] == "mirrors").count(), 1, "{lines:?}");
    let shown = matrix(&alice, &["group", "show", "team"]);
    assert_eq!(shown["readers"], json!([{"id": "@u000:m.example", "name": "User 0"}]));
    assert_eq!(shown["more"], 0);
    alice.ok(&["member", "remove", "team", "robot"]);
    assert_eq!(matrix(&alice, &["member", "list", "team"]), Value::Null);
}
