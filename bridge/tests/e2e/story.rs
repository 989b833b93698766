//! The demo's story, as its own command plays it on a homeserver of its own.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::start::binary;

/// Runs `causeway demo --once --json` and returns what it printed.
pub(crate) async fn demo(arguments: &[&str], log_level: &str) -> Value {
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
    let outcome: Value = serde_json::from_str(&printed).unwrap();
    let way = |name: &str| {
        format!(
            "\"{name}\":{{\"sent\":{},\"received\":{}}}",
            outcome[name]["sent"], outcome[name]["received"]
        )
    };
    // In this order, and with nothing else in it.
    let whole = format!(
        "{{{},{},\"removed_member_could_read\":{},\"duplicates\":{},\"seconds\":{}}}\n",
        way("native_to_matrix"),
        way("matrix_to_native"),
        outcome["removed_member_could_read"],
        outcome["duplicates"],
        outcome["seconds"],
    );
    assert_eq!(printed, whole);
    outcome
}

/// Checks an outcome of `n` messages each way.
pub(crate) fn assert_whole(mut outcome: Value, n: u32) {
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
async fn the_same_story_in_a_pairwise_group_loses_and_doubles_nothing() {
    let arguments = ["--messages", "60", "--scheme", "pairwise"];
    assert_whole(demo(&arguments, "info").await, 60);
}

#[tokio::test]
async fn the_same_story_under_a_shared_key_loses_and_doubles_nothing() {
    let arguments = ["--messages", "60", "--scheme", "shared-key"];
    assert_whole(demo(&arguments, "info").await, 60);
}

#[tokio::test]
async fn the_story_on_two_servers_counts_what_each_has_read_of_the_other() {
    let printed = Command::new(binary())
        .args(["demo", "--once", "--json", "--servers", "2", "--messages", "8"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let mut outcome: Value = serde_json::from_slice(&printed.stdout).unwrap();
    let servers = outcome.as_object_mut().unwrap().remove("servers").unwrap();
    assert_whole(outcome, 8);
    let servers = servers.as_array().unwrap();
    let names: Vec<_> = servers.iter().map(|one| one["server"].as_str().unwrap()).collect();
    assert!(names.len() == 2 && names[0] != names[1], "{names:?}");
    for one in servers {
        let way = (&one["sent"], &one["received"], &one["duplicates"]);
        assert_eq!(way, (&json!(3), &json!(3), &json!(0)), "{one}");
    }
}

#[tokio::test]
async fn five_call_after_the_story_and_hear_each_other_directly_and_by_livekit() {
    five_call(&[]).await;
}

#[tokio::test]
async fn five_of_two_servers_call_and_hear_each_other_directly_and_by_the_homes_livekit() {
    five_call(&["--servers", "2"]).await;
}

async fn five_call(arguments: &[&str]) {
    let printed = Command::new(binary())
        .args(["demo", "--once", "--json", "--calls", "--messages", "2"])
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let mut outcome: Value = serde_json::from_slice(&printed.stdout).unwrap();
    let calls = outcome.as_object_mut().unwrap().remove("calls").unwrap();
    outcome.as_object_mut().unwrap().remove("servers");
    assert_whole(outcome, 2);
    let ways = |of: u32| json!({"of": of, "heard": of});
    assert_eq!(calls, json!({"directly": ways(12), "by_livekit": ways(20), "failed": 0}));
}
