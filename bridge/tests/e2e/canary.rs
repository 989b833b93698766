//! The whole story on a homeserver that runs already, with everything logged: no key, token or text
//! in a log line, a metric or a file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use causeway_bridge::{
    demo::{
        causeway::{Causeway, Listeners},
        progress::Progress,
        synapse::Synapse,
    },
    init,
};

use crate::{
    needles::{Secret, spellings},
    start::binary,
    story::{assert_whole, demo},
};

/// Said in the story, each by another of its people or ways.
const TEXTS: [&str; 6] = [
    "the tide turns at seven",
    "who brings the lamps",
    "I have the map",
    "the boat is ready",
    "I bring two lamps",
    "which way is shorter",
];
const PASSWORD: &str = "canary-in-the-password";
const WRONG_TOKEN: &str = "canary-token-0453";
const BODY: &str = "canary-body-0454";

/// Keys and tokens of the installation in `dir`.
fn keys(dir: &Path, synapse: &Synapse) -> Vec<Secret> {
    let (registration, data) = (synapse.registration(), dir.join("data"));
    let mut keys = vec![
        ("as_token".to_owned(), registration.as_token.expose().into()),
        ("hs_token".to_owned(), registration.hs_token.expose().into()),
    ];
    for file in [init::ADMIN_TOKEN, init::REGISTRATION_TOKEN, init::BRIDGE_TOKEN] {
        let token = init::read_token(&data.join(file)).unwrap();
        keys.push((file.to_owned(), token.expose().into()));
    }
    for file in [data.join(init::STORAGE_KEY), dir.join("ann.key"), dir.join("ben.key")] {
        let key = fs::read(&file).unwrap();
        assert_eq!(key.len(), 32, "{}", file.display());
        keys.extend(spellings(&file.display().to_string(), &key));
    }
    keys
}

fn texts() -> Vec<Secret> {
    let others = [PASSWORD, WRONG_TOKEN, BODY];
    TEXTS.iter().chain(&others).map(|text| ((*text).to_owned(), (*text).into())).collect()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    assert!(needle.len() >= 8, "too short to look for");
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Databases of server and bridge, with their logs.
fn databases(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.join("data")).unwrap().map(|file| file.unwrap().path());
    let is_ours = |path: &PathBuf| path.display().to_string().contains(".db");
    let files: Vec<PathBuf> = files.filter(is_ours).collect();
    assert!(files.len() >= 2, "{files:?}");
    files
}

#[tokio::test]
async fn the_story_leaves_no_secret_behind() {
    let listeners = Listeners::free().unwrap();
    let synapse = Synapse::start(&listeners.appservice_url(), &Progress::new()).await.unwrap();
    synapse.register("dora", PASSWORD).await.unwrap();
    let dir = synapse.dir().join("kept");
    let password_file = synapse.dir().join("password");
    fs::write(&password_file, PASSWORD).unwrap();
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

    // The same installation again: what is refused is logged too, and what was counted is shown.
    let (url, server_name) = (synapse.url(), synapse.server_name());
    let registration = synapse.registration();
    let prepared = Causeway::prepare(binary(), &dir, &url, server_name, listeners, registration);
    let mut causeway = prepared.unwrap();
    causeway.set_env("CAUSEWAY__LOGGING__LEVEL", "trace");
    causeway.start().await.unwrap();
    let http = reqwest::Client::new();
    let url = format!("{}/_matrix/app/v1/transactions/1", causeway.appservice_url());
    let broken = format!("{{\"{BODY}\":");
    for (token, status) in [(WRONG_TOKEN, 403), (registration.hs_token.expose(), 200)] {
        let pushed = http.put(&url).bearer_auth(token).body(broken.clone()).send().await.unwrap();
        assert_eq!(pushed.status(), status);
    }
    let metrics = http.get(format!("{}/metrics", causeway.appservice_url())).send().await.unwrap();
    let metrics = metrics.bytes().await.unwrap();
    assert!(causeway.stop().await.unwrap(), "{}", causeway.log());

    let log = fs::read(causeway.log_file()).unwrap();
    // The test means something only if everything was logged, the story among it.
    let text = String::from_utf8_lossy(&log);
    assert!(text.contains("TRACE"), "nothing was logged at TRACE");
    assert!(text.contains("/_matrix/app/v1/transactions/"), "the story is not in the log");
    // Tokens of clients are not known here; none may stand behind its scheme.
    assert!(!text.to_lowercase().contains("bearer "), "a bearer token is in the log");
    let secrets = [keys(&dir, &synapse), texts()].concat();
    for (what, secret) in &secrets {
        assert!(!contains(&log, secret), "{what} is in the log");
        assert!(!contains(&metrics, secret), "{what} is in the metrics");
    }
    // At rest texts are sealed, and of tokens there are hashes.
    for file in databases(&dir) {
        let bytes = fs::read(&file).unwrap();
        for (what, secret) in &secrets {
            assert!(!contains(&bytes, secret), "{what} is in {}", file.display());
        }
    }
}
