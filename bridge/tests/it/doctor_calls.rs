//! What `causeway doctor` finds of a real LiveKit, and how its own errors are told.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path};

use causeway_livekit::{Binary, LiveKit, Settings};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli_events::Site;

/// A real LiveKit, and its folder.
async fn livekit(settings: &Settings) -> (LiveKit, TempDir) {
    let kept = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.causeway"));
    let binary = Binary::ensure(kept, |said| println!("{said}")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let livekit = LiveKit::start(&binary, folder.path(), settings).await;
    (livekit.unwrap(), folder)
}

/// What `doctor --json` finds, where clients reach LiveKit at `url`: how it is, and in which words.
fn examined(
    site: &Site,
    (livekit, folder): &(LiveKit, TempDir),
    (url, secret): (&str, &str),
) -> BTreeMap<String, (String, String)> {
    let file = folder.path().join("secret");
    fs::write(&file, secret).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let set = [
        format!("calls.livekit.api_url={}", livekit.api_url()),
        format!("calls.livekit.public_url={url}"),
        format!("calls.livekit.api_key={}", livekit.key()),
        format!("calls.livekit.api_secret_file={}", file.display()),
    ];
    let words = set.iter().flat_map(|key| ["--set", key]);
    let words: Vec<_> = ["doctor", "--json"].into_iter().chain(words).collect();
    let done = site.command(&words).output().unwrap();
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    let checks = said["checks"].as_array().unwrap().iter();
    let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    checks.map(|it| (text(it, "name"), (text(it, "state"), text(it, "found")))).collect()
}

#[tokio::test]
async fn doctor_has_two_hear_each_other_through_livekit_and_leaves_no_room() {
    let there = livekit(&Settings::default()).await;
    let found = examined(&Site::new(), &there, (&there.0.url(), there.0.secret()));
    let state = |name: &str| found.get(name).map(|(state, _)| &**state);
    for name in ["LiveKit's version", "sound through LiveKit", "sound without UDP"] {
        assert_eq!(state(name), Some("ok"), "{name}: {found:#?}");
    }
    assert!(found["sound through LiveKit"].1.contains("heard each other"), "{found:#?}");
    let log = there.0.log().unwrap();
    let made = log.lines().find(|line| line.contains("doctor-")).expect("a room was made");
    assert!(log.contains("deleted") || log.contains("closing room"), "{made}");
}

#[tokio::test]
async fn doctor_says_whether_it_is_the_address_or_the_way_in_that_is_wrong() {
    // Nobody is there, and nothing is sent back.
    let node_ip = Some([192, 0, 2, 1].into());
    let there = livekit(&Settings { node_ip, ..Default::default() }).await;
    let found = examined(&Site::new(), &there, (&there.0.url(), there.0.secret()));
    assert_eq!(found["LiveKit's version"].0, "ok", "{found:#?}");
    let (state, said) = &found["sound through LiveKit"];
    assert!(
        state == "failed" && said.contains("no sound got there by UDP at 192.0.2.1:"),
        "{said}"
    );
    let (state, said) = &found["sound without UDP"];
    assert!(state == "warning" && said.contains("no connection by TCP to 192.0.2.1:"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_that_a_proxy_passes_no_websockets() {
    let there = livekit(&Settings::default()).await;
    let router = axum::Router::new()
        .route("/rtc/validate", axum::routing::get(async || "success"))
        .fallback(async || axum::http::StatusCode::BAD_REQUEST);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let serving = axum::serve(listener, router).into_future();
    let site = Site::new();
    let looking =
        tokio::task::spawn_blocking(move || examined(&site, &there, (&url, there.0.secret())));
    let found = tokio::select! {
        found = looking => found.unwrap(),
        _ = serving => unreachable!("it serves on"),
    };
    assert_eq!(found["LiveKit, for clients"].0, "ok", "{found:#?}");
    let (state, said) = &found["sound through LiveKit"];
    assert!(state == "failed" && said.contains("nobody comes into a call"), "{said}");
    assert!(said.contains("400"), "{said}");
    assert!(!found.contains_key("sound without UDP"), "{found:#?}");
}

#[test]
fn what_is_typed_wrong_is_json_where_that_was_asked_for() {
    let site = Site::new();
    for words in [
        &["doctor", "--json", "--none"][..],
        &["doctor", "--none", "--json"],
        &["demo", "--json", "--messages", "none"],
        &["doctor", "--output", "json", "--none"],
    ] {
        let done = site.command(words).output().unwrap();
        let error: Value = serde_json::from_slice(&done.stderr).expect("one object");
        assert_eq!((done.status.code(), &error["error"]["exit"]), (Some(2), &2.into()), "{error}");
    }
    // So is what else ends them.
    let done = site.command(&["doctor", "--json", "--config", "/none"]).output().unwrap();
    let error: Value = serde_json::from_slice(&done.stderr).expect("one object");
    assert_eq!((done.status.code(), &error["error"]["exit"]), (Some(1), &1.into()), "{error}");
    let done = site.command(&["doctor", "--none"]).output().unwrap();
    assert!(String::from_utf8_lossy(&done.stderr).starts_with("error: "));
}

#[tokio::test]
async fn doctor_says_that_a_key_is_wrong_and_blames_no_proxy_for_it() {
    let (site, there) = (Site::new(), livekit(&Settings::default()).await);
    let found = examined(&site, &there, (&there.0.url(), &"f".repeat(32)));
    let (state, said) = &found["LiveKit"];
    assert!(state == "failed" && said.contains("does not take our api_key"), "{said}");
    assert_eq!(found["LiveKit, for clients"].0, "skipped", "{found:#?}");
    assert!(!found.contains_key("sound through LiveKit"), "{found:#?}");
}
