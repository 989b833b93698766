//! A backup that is made while people talk, and everything lost after it.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use causeway_bridge::{
    demo::{causeway::Causeway, matrix_user::MatrixUser},
    domain::ghost::Names,
};
use serde_json::Value;
use tokio::sync::watch;

use crate::{bridged::Bridged, kill::keep_reading, people::PATIENCE, start::binary};

pub(crate) fn causeway_run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).current_dir(folder).output().unwrap()
}

pub(crate) fn done(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs what was restored, until its standard input is closed.
pub(crate) async fn after_restore(causeway: &Causeway) -> Child {
    let mut run = Command::new(binary())
        .args(["run", "--while-stdin", "--after-restore"])
        .current_dir(causeway.dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(fs::File::options().append(true).open(causeway.log_file()).unwrap())
        .spawn()
        .unwrap();
    while causeway.status("/ready").await != Some(200) {
        assert_eq!(run.try_wait().unwrap(), None, "{}", causeway.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run
}

fn copy(from: &Path, to: &Path, is_meant: impl Fn(&str) -> bool) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if is_meant(name) && path.is_file() {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// As often as `texts` has each of `prefix` 0, 1, …: at most once, in order, and the first `least`
/// of them all.
fn check(texts: &[String], prefix: char, least: usize) {
    let numbers = texts.iter().filter_map(|text| text.strip_prefix(prefix)?.parse::<usize>().ok());
    let numbers: Vec<_> = numbers.collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{prefix}: {numbers:?}");
    let expected: Vec<_> = (0..least).collect();
    assert!(numbers.starts_with(&expected), "{prefix}: the first {least} of {numbers:?}");
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "Carol's client, beside the test")]
async fn nothing_that_was_before_the_copy_is_lost_with_the_folder() {
    let Bridged { mut causeway, alice, carol, group, synapse } = Bridged::start().await;
    let reader = MatrixUser::login(&synapse.url(), "carol", "secret of carol").await.unwrap();
    let room = loop {
        if let Some(room) = reader.sync().await.unwrap().invites.pop() {
            break room;
        }
    };
    carol.join(&room).await.unwrap();
    let (tell, mut seen) = watch::channel(BTreeMap::new());
    let reading = tokio::spawn(keep_reading(reader, tell));

    let (is_over, said) = (AtomicBool::new(false), [const { AtomicUsize::new(0) }; 2]);
    let natives = async {
        while !is_over.load(Relaxed) {
            alice.say(group, &[format!("a{}", said[0].load(Relaxed))]).await;
            said[0].fetch_add(1, Relaxed);
        }
    };
    let matrix = async {
        while !is_over.load(Relaxed) {
            carol.say(&room, &format!("c{}", said[1].load(Relaxed))).await.unwrap();
            said[1].fetch_add(1, Relaxed);
        }
    };
    let folder = causeway.dir().to_owned();
    let create = async {
        while said.iter().any(|said| said.load(Relaxed) < 40) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let before = said.each_ref().map(|said| said.load(Relaxed));
        let place = folder.clone();
        let arguments = ["backup", "create", "copy", "--output", "json"];
        let made = tokio::task::spawn_blocking(move || causeway_run(&place, &arguments));
        let made = done(&made.await.unwrap());
        let after = said.each_ref().map(|said| said.load(Relaxed));
        is_over.store(true, Relaxed);
        (before, after, made)
    };
    let ((), (), (before, after, made)) = tokio::join!(natives, matrix, create);
    assert_eq!(made["manifest"]["files"].as_array().unwrap().len(), 2);
    println!("{before:?} were said before the copy, {after:?} when it was made");

    causeway.kill().unwrap();
    for file in fs::read_dir(folder.join("data")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let is_token = path.extension().is_some_and(|kind| kind == "token");
        if name != "storage.key" && !is_token {
            fs::remove_file(path).unwrap();
        }
    }
    let restored = done(&causeway_run(&folder, &["backup", "restore", "copy", "--output", "json"]));
    assert_eq!(restored["next"], "causeway run --after-restore");
    let refused = causeway_run(&folder, &["run"]);
    assert_eq!(refused.status.code(), Some(23));
    let mut run = after_restore(&causeway).await;

    alice.say(group, &["after from alice".to_owned()]).await;
    carol.say(&room, "after from carol").await.unwrap();
    let ghost = format!("@causeway_alice:{}", synapse.server_name());
    let has_all = |seen: &BTreeMap<String, Vec<String>>| {
        seen.get(&ghost).is_some_and(|texts| texts.iter().any(|text| text == "after from alice"))
    };
    let arrived = tokio::time::timeout(PATIENCE, seen.wait_for(has_all)).await.is_ok();
    assert!(arrived, "{}", causeway.log());
    let is_last =
        |read: &[crate::people::Read]| read.iter().any(|read| read.body == "after from carol");
    alice.wait("Carol after the restore", is_last).await;
    check(&seen.borrow()[&ghost], 'a', before[0]);
    check(&alice.mirrored(), 'c', before[1]);
    reading.abort();
    drop(run.stdin.take());
    run.wait().unwrap();
}

#[tokio::test]
async fn a_folder_that_was_put_back_whole_is_not_run_on_without_a_word() {
    let Bridged { mut causeway, alice, carol, group, synapse } = Bridged::start().await;
    let reader = MatrixUser::login(&synapse.url(), "carol", "secret of carol").await.unwrap();
    let room = loop {
        if let Some(room) = reader.sync().await.unwrap().invites.pop() {
            break room;
        }
    };
    carol.join(&room).await.unwrap();
    let data = causeway.dir().join("data");
    let names = Names::new(synapse.server_name()).unwrap();
    // The bridge's half, of which the native server knows; then both, and only the homeserver does.
    let halves: [fn(&str) -> bool; 2] = [|name| name.starts_with("bridge.db"), |_| true];
    for (number, is_meant) in halves.into_iter().enumerate() {
        assert!(causeway.stop().await.unwrap());
        let copied = causeway.dir().join(format!("copy{number}"));
        copy(&data, &copied, is_meant);
        let before = synapse.matrix().standing(names.bot()).await.unwrap();
        causeway.start().await.unwrap();
        carol.say(&room, &format!("lost {number}")).await.unwrap();
        let text = format!("lost {number}");
        alice.wait("what is said after the copy", |read| read.iter().any(|r| r.body == text)).await;
        while synapse.matrix().standing(names.bot()).await.unwrap() == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        causeway.kill().unwrap();
        for file in fs::read_dir(&data).unwrap() {
            let path = file.unwrap().path();
            if is_meant(path.file_name().unwrap().to_str().unwrap()) {
                fs::remove_file(path).unwrap();
            }
        }
        copy(&copied, &data, |_| true);
        let refused = causeway_run(causeway.dir(), &["run"]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(23), "{number}: {said}");
        // Nor does it forget what it was told.
        assert_eq!(causeway_run(causeway.dir(), &["run"]).status.code(), Some(23));
        let mut run = after_restore(&causeway).await;
        let text = format!("after {number}");
        carol.say(&room, &text).await.unwrap();
        alice
            .wait("what is said after the restore", |read| read.iter().any(|r| r.body == text))
            .await;
        alice.say(group, &[format!("native {number}")]).await;
        drop(run.stdin.take());
        run.wait().unwrap();
        // Once was enough.
        causeway.start().await.unwrap();
    }
}
