//! `causeway calls`, beside a native server in which somebody calls; and what `config check` and `doctor`
//! say of LiveKit's secret.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc};

use causeway_bridge::clock;
use causeway_groups::{
    SCHEMA, Vault,
    machine::Received,
    sdk::{Client, Keep, KeepError},
};
use causeway_protocol::{
    api::{CallCap, CallIntent, CallState, StartCall},
    ids::CallId,
};
use causeway_store::{Db, Lock, Options, Tx};
use futures_util::future::BoxFuture;
use serde_json::json;

use crate::{cli::said, cli_events::Site};

/// Keeps nothing.
struct Nothing;

impl Keep for Nothing {
    fn keep<'a>(
        &'a self,
        _: &'a Client,
        _: &'a mut Tx,
        _: Vec<Received>,
    ) -> BoxFuture<'a, Result<(), KeepError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Has the person begin a call in its one group; of its device.
fn begins(site: &Site, name: &str) -> CallState {
    let home = site.causeway.dir.path().join(name);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (path, key) = (home.join("client.db"), home.join("storage.key"));
        let schemas = [SCHEMA];
        let db = Db::open(Options { path, lock: Lock::Shared, schemas: &schemas }).await.unwrap();
        let vault = Vault::open(&db, &key).await.unwrap();
        let client = Client::open(db, vault, Some(&site.native), Arc::new(Nothing), clock::now);
        let client = client.await.unwrap();
        let group = client.rosters().await.unwrap()[0].group();
        let (call, intent) = (CallId::new([7; 16]), CallIntent::Audio);
        let asked = StartCall { call, intent, caps: vec![CallCap::Mesh], may_degrade: false };
        client.http().start_call(group, &asked).await.unwrap()
    })
}

#[test]
fn a_call_is_listed_shown_and_ended_and_who_is_in_it_put_out() {
    let site = Site::new();
    let (code, why) = site.fails(&["calls", "list"]);
    assert!(code == Some(1) && why.contains("is Causeway running?"), "{why}");
    let _serving = site.serve();
    assert_eq!(site.json(&["calls", "list"])[0]["calls"], json!([]));
    let text = said(&site.command(&["calls", "list"]).output().unwrap());
    assert!(text.contains("No call runs."), "{text}");

    site.register("alice");
    site.client("alice", &["group", "create", "tea"]);
    let state = begins(&site, "alice");
    let (call, device) = (state.call.to_string(), state.started_by.device.to_string());
    let page = site.json(&["calls", "list", "--limit", "1"]);
    let listed = &page[0]["calls"][0];
    assert_eq!((&listed["call"], &listed["participants"]), (&json!(call), &json!(1)));
    let after = page[0]["next"].to_string();
    let page = site.json(&["calls", "list", "--after", &after]);
    assert_eq!(page[0], json!({"calls": []}));
    let shown = site.json(&["calls", "show", &call]);
    assert_eq!(shown[0]["participants"][0]["device"], json!(device));
    let text = said(&site.command(&["calls", "show", &call]).output().unwrap());
    assert!(text.contains(&device) && text.contains("each talks to each"), "{text}");

    let refused = |words: &[&str], code: i32, why: &str| {
        let (found, text) = site.fails(words);
        assert!(found == Some(code) && text.contains(why), "{words:?}: {text}");
    };
    refused(&["calls", "move", &call, "--to", "sfu"], 1, "there is no LiveKit");
    refused(&["calls", "move", &call], 2, "--to");
    refused(&["calls", "mute", &call, &device], 1, "passes LiveKit");
    let another = causeway_protocol::ids::text_of(&[9; 32]);
    refused(&["calls", "kick", &call, &another], 1, "device in this call");
    refused(&["calls", "show", &causeway_protocol::ids::text_of(&[9; 16])], 1, "no such call");
    refused(&["calls", "show", "tea"], 2, "invalid value");
    let moved = site.json(&["calls", "move", &call, "--to", "mesh"]);
    assert_eq!(moved, [json!({"done": "move", "call": call, "to": "mesh"})]);
    let kicked = site.json(&["calls", "kick", &call, &device]);
    assert_eq!(kicked, [json!({"done": "kick", "call": call, "device": device})]);
    assert_eq!(site.json(&["calls", "show", &call])[0]["participants"], json!([]));
    for _ in 0..2 {
        assert_eq!(site.json(&["calls", "end", &call])[0]["done"], "end");
    }
    refused(&["calls", "show", &call], 1, "the call has ended");
    assert_eq!(site.json(&["calls", "list"])[0]["calls"], json!([]));
}

#[test]
fn a_secret_of_livekit_that_cannot_be_read_or_that_all_may_read_is_refused() {
    let site = Site::new();
    let file = site.causeway.dir.path().join("livekit.secret");
    let set = [
        "--set",
        "calls.livekit.api_url=http://127.0.0.1:9",
        "--set",
        "calls.livekit.public_url=ws://127.0.0.1:9",
        "--set",
        "calls.livekit.api_key=key",
        "--set",
        &format!("calls.livekit.api_secret_file={}", file.display()),
    ];
    let check = [&["config", "check"], &set[..]].concat();
    let (code, why) = site.fails(&check);
    assert!(code != Some(0) && why.contains("calls.livekit.api_secret_file"), "{why}");
    fs::write(&file, "0".repeat(32)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    for words in [&check, &[&["doctor"], &set[..]].concat()] {
        let (code, why) = site.fails(words);
        assert!(code != Some(0) && why.contains("all may read"), "{why}");
        assert!(why.contains("chmod 600"), "{why}");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let done = site.command(&check).output().unwrap();
    assert!(done.status.success(), "{}", said(&done));
}
