//! `causeway doctor` on a real homeserver: one where all is well, and what it finds where it is not.

use std::fs;

use causeway_bridge::{
    demo::{
        causeway::{Causeway, Listeners},
        progress::Progress,
        synapse::Synapse,
    },
    registration::Registration,
    secret::Secret,
};
use serde_json::{Value, json};

use crate::start::binary;

/// Exit code, and each check that is not `ok`, with its state and fix; by the name of a homeserver of
/// loopback nobody is found.
async fn doctor(causeway: &Causeway) -> (i32, Vec<(String, String, String)>) {
    let output = tokio::process::Command::new(binary())
        .args(["doctor", "--json", "--try-room", "--config"])
        .arg(causeway.dir().join("causeway.yaml"))
        .output()
        .await
        .unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = said["checks"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found = checks.filter(|check| check["state"] != "ok" && check["name"] != "well-known");
    let found =
        found.map(|check| (text(&check["name"]), text(&check["state"]), text(&check["fix"])));
    (output.status.code().unwrap(), found.collect())
}

/// Rooms that the bot or a ghost is in, was in, or is invited to.
async fn rooms(synapse: &Synapse, user: &str) -> Value {
    let token = synapse.registration().as_token.expose();
    let filter = json!({"room": {"include_leave": true}}).to_string();
    let answer = reqwest::Client::new()
        .get(format!("{}/_matrix/client/v3/sync", synapse.url()))
        .query(&[("user_id", user), ("filter", filter.as_str())])
        .bearer_auth(token)
        .send()
        .await
        .unwrap();
    let answer: Value = answer.error_for_status().unwrap().json().await.unwrap();
    answer.get("rooms").cloned().unwrap_or_default()
}

/// What failed, and a word of its fix.
fn failed(found: &[(String, String, String)]) -> Vec<(&str, &str)> {
    let failed = found.iter().filter(|(_, state, _)| state == "failed");
    failed.map(|(name, _, fix)| (name.as_str(), fix.as_str())).collect()
}

#[tokio::test]
async fn what_is_wrong_with_a_homeserver_is_found_and_nothing_is_left_behind() {
    let listeners = Listeners::free().unwrap();
    let mut synapse = Synapse::start(&listeners.appservice_url(), &Progress::new()).await.unwrap();
    let installed = synapse.registration().clone();
    let mut causeway = Causeway::prepare(
        binary(),
        &synapse.dir().join("causeway"),
        &synapse.url(),
        synapse.server_name(),
        listeners,
        &installed,
    )
    .unwrap();
    causeway.start().await.unwrap();

    // Twice: what the first leaves, the second finds.
    for _ in 0..2 {
        assert_eq!(doctor(&causeway).await, (0, vec![]));
    }
    let nobody = Value::Null;
    let server = synapse.server_name();
    let ghost =
        "causeway_doctor-of-the-bridge-who-tries-a-room-and-is-no-account-of-the-native-side";
    for user in [format!("@causewaybot:{server}"), format!("@{ghost}:{server}")] {
        assert_eq!(rooms(&synapse, &user).await, nobody, "{user}");
    }
    assert!(causeway.stop().await.unwrap(), "{}", causeway.log());

    let local = causeway.dir().join("registration.yaml");
    let write = |change: &dyn Fn(&mut Registration)| {
        let mut registration = installed.clone();
        change(&mut registration);
        registration.to_yaml().unwrap()
    };
    for (name, fix, text) in [
        (
            "hs_token",
            "copy this registration",
            write(&|registration| registration.hs_token = Secret::new("another")),
        ),
        (
            "as_token",
            "app_service_config_files",
            write(&|registration| registration.as_token = Secret::new("another")),
        ),
    ] {
        fs::write(&local, text).unwrap();
        let (code, found) = doctor(&causeway).await;
        assert_eq!(code, 1, "{found:?}");
        let failed = failed(&found);
        assert!(
            matches!(failed.as_slice(), [(is, says)] if *is == name && says.contains(fix)),
            "{found:?}"
        );
    }
    fs::write(&local, installed.to_yaml().unwrap()).unwrap();

    // The homeserver's copy says less than ours, limits our rate, and every room is encrypted there.
    let copy = synapse.registration_file();
    fs::write(&copy, write(&|registration| registration.rate_limited = true)).unwrap();
    synapse.set("rc_message", json!({"per_second": 1, "burst_count": 10}));
    synapse.set("encryption_enabled_by_default_for_room_type", json!("all"));
    synapse.start_again().await.unwrap();
    let (code, found) = doctor(&causeway).await;
    assert_eq!(code, 1, "{found:?}");
    let failed_now = failed(&found);
    assert!(
        matches!(failed_now.as_slice(), [("a room", fix)]
        if fix.contains("encryption_enabled_by_default_for_room_type: \"off\"")),
        "{found:?}"
    );
    let is_slow = |(name, state, fix): &(String, String, String)| {
        name == "a ghost in it" && state == "warning" && fix.contains("rate_limited: false")
    };
    assert!(found.iter().any(is_slow), "{found:?}");

    synapse.set("encryption_enabled_by_default_for_room_type", json!("off"));
    let fewer = |registration: &mut Registration| {
        registration.namespaces.users.retain(|known| !known.regex.starts_with("@causeway_"));
        registration.namespaces.aliases.clear();
    };
    fs::write(&copy, write(&fewer)).unwrap();
    synapse.start_again().await.unwrap();
    let (code, found) = doctor(&causeway).await;
    assert_eq!(code, 1, "{found:?}");
    let names: Vec<_> = failed(&found).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["ghosts", "a room"], "{found:?}");
    assert!(failed(&found).iter().all(|(_, fix)| fix.contains("causeway registration")));
}
