//! The demo's story, as its own command plays it, and what must not be in its logs.

use std::{fs, path::Path, process::Stdio};

use causeway_bridge::{
    demo::{causeway::Listeners, progress::Progress, synapse::Synapse},
    registration::Registration,
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::start::binary;

/// Runs `causeway demo --once --json` and returns what it printed.
async fn demo(arguments: &[&str], log_level: &str) -> Value {
    let output = Command::new(binary())
        .args(["demo", "--once", "--json"])
        .args(arguments)
        .env("CAUSEWAY__LOGGING__LEVEL", log_level)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.lines().count(), 1, "nothing but the object: {printed}");
    serde_json::from_str(&printed).unwrap()
}

/// Checks an outcome of `n` messages each way.
fn assert_whole(mut outcome: Value, n: u32) {
    let seconds = outcome.as_object_mut().unwrap().remove("seconds").unwrap();
    assert!(seconds.as_f64().unwrap() > 0.0);
    let way = json!({ "sent": n, "received": n });
    let whole = json!({
        "native_to_matrix": way, "matrix_to_native": way,
        "removed_member_could_read": 0, "duplicates": 0,
    });
    assert_eq!(outcome, whole);
}

#[tokio::test]
async fn the_story_loses_and_doubles_nothing() {
    assert_whole(demo(&["--messages", "60"], "info").await, 60);
}

#[tokio::test]
async fn on_a_given_homeserver_the_story_is_whole_and_leaves_no_secret_in_its_log() {
    let listeners = Listeners::free().unwrap();
    let synapse = Synapse::start(&listeners.appservice_url(), &Progress::new()).await.unwrap();
    let password = "canary-in-the-password";
    synapse.register("dora", password).await.unwrap();
    let dir = synapse.dir().join("kept");
    let password_file = synapse.dir().join("password");
    fs::write(&password_file, password).unwrap();
    let registration = synapse.registration_file();
    let arguments = [
        "--messages",
        "8",
        "--dir",
        dir.to_str().unwrap(),
        "--homeserver",
        &synapse.url(),
        "--registration",
        registration.to_str().unwrap(),
        "--matrix-user",
        "dora",
        "--matrix-password-file",
        password_file.to_str().unwrap(),
    ];
    assert_whole(demo(&arguments, "trace").await, 8);

    let log = fs::read(dir.join("causeway.log")).unwrap();
    assert!(contains(&log, b"TRACE"), "the log was not at trace");
    for (what, secret) in secrets(&dir, &registration) {
        assert!(!contains(&log, &secret), "{what} is in the log");
    }
    for text in ["the tide turns", "lamps", "the boat is ready", password, "Bearer "] {
        assert!(!contains(&log, text.as_bytes()), "`{text}` is in the log");
    }
}

/// Every secret of the installation, in each form in which it might be written.
fn secrets(dir: &Path, registration: &Path) -> Vec<(String, Vec<u8>)> {
    let registration = Registration::read(registration).unwrap();
    let mut secrets = vec![
        ("as_token".to_owned(), registration.as_token.expose().into()),
        ("hs_token".to_owned(), registration.hs_token.expose().into()),
    ];
    for file in ["admin.token", "registration.token", "bridge-registration.token"] {
        let token = fs::read_to_string(dir.join("data").join(file)).unwrap();
        secrets.push((file.to_owned(), token.trim().into()));
    }
    for file in ["data/storage.key", "ann.key", "ben.key"] {
        let key = fs::read(dir.join(file)).unwrap();
        assert_eq!(key.len(), 32, "{file}");
        secrets.push((format!("{file} in hex"), hex::encode(&key).into()));
        secrets.push((format!("{file} as it is"), key));
    }
    secrets
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
