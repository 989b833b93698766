//! No key, token or text in a log line or a metric, however much is logged.

use std::fs;

use causeway_bridge::{demo::matrix_user::MatrixUser, init};

use crate::bridged::Bridged;

/// Everything that a leak of `bytes` could look like.
fn spellings(bytes: &[u8]) -> Vec<String> {
    use causeway_protocol::ids::text_of;
    let listed: Vec<String> = bytes.iter().map(ToString::to_string).collect();
    let standard = text_of(bytes).replace('-', "+").replace('_', "/");
    vec![hex::encode(bytes), hex::encode_upper(bytes), text_of(bytes), standard, listed.join(", ")]
}

#[tokio::test]
async fn nothing_secret_is_logged_at_trace() {
    let env = [("CAUSEWAY__LOGGING__LEVEL", "trace")];
    let Bridged { mut causeway, alice, group, synapse } = Bridged::start(&env).await;
    let carol = MatrixUser::login(&synapse.url(), "carol", "secret of carol").await.unwrap();
    let room = loop {
        if let Some(room) = carol.sync().await.unwrap().invites.pop() {
            break room;
        }
    };
    carol.join(&room).await.unwrap();
    alice.say(group, &["canary-native-0451".to_owned()]).await;
    carol.say(&room, "canary-matrix-0452").await.unwrap();
    alice.wait("Carol's canary", |read| read.iter().any(|r| r.body == "canary-matrix-0452")).await;
    let mut heard = false;
    while !heard {
        let events = carol.sync().await.unwrap().events;
        heard = events.iter().any(|e| e.text("/content/body") == Some("canary-native-0451"));
    }
    // What is refused is logged too.
    let http = reqwest::Client::new();
    let url = format!("{}/_matrix/app/v1/transactions/1", causeway.appservice_url());
    let wrong = http.put(&url).bearer_auth("canary-token-0453").body("{\"canary-body-0454\":");
    assert_eq!(wrong.send().await.unwrap().status(), 403);
    let hs_token = synapse.registration().hs_token.clone();
    let broken = http.put(&url).bearer_auth(hs_token.expose()).body("{\"canary-body-0454\":");
    assert_eq!(broken.send().await.unwrap().status(), 200);
    let metrics = http.get(format!("{}/metrics", causeway.appservice_url())).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();

    let data = causeway.dir().join("data");
    let mut secrets = vec![
        ("a native text", "canary-native-0451".to_owned()),
        ("a Matrix text", "canary-matrix-0452".to_owned()),
        ("a refused token", "canary-token-0453".to_owned()),
        ("a quarantined body", "canary-body-0454".to_owned()),
        ("hs_token", hs_token.expose().to_owned()),
        ("as_token", synapse.registration().as_token.expose().to_owned()),
        ("admin token", causeway.admin_token().unwrap().expose().to_owned()),
        ("registration token", causeway.registration_token().unwrap().expose().to_owned()),
        (
            "bridge token",
            init::read_token(&data.join(init::BRIDGE_TOKEN)).unwrap().expose().to_owned(),
        ),
    ];
    let key = fs::read(data.join(init::STORAGE_KEY)).unwrap();
    secrets.extend(spellings(&key).into_iter().map(|key| ("storage key", key)));

    assert!(causeway.stop().await.unwrap(), "it did not end in order");
    let log = fs::read_to_string(causeway.log_file()).unwrap();
    // The test means something only if it looks at what was logged in full.
    assert!(log.contains("TRACE"), "nothing was logged at TRACE");
    for (what, secret) in &secrets {
        assert!(secret.len() >= 8, "{what} is too short to look for");
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{what} is in the log: {}", line.unwrap_or_default());
        assert!(!metrics.contains(secret), "{what} is in the metrics");
    }
    // Bearer tokens of clients are not known here; none may stand behind its scheme.
    let bearer = log.lines().find(|line| line.contains("Bearer ") || line.contains("bearer "));
    assert!(bearer.is_none(), "an Authorization header is in the log: {bearer:?}");

    // At rest: texts are sealed, tokens are hashes.
    for file in ["bridge.db", "server.db", "bridge.db-wal", "server.db-wal"] {
        let Ok(bytes) = fs::read(data.join(file)) else { continue };
        for (what, secret) in &secrets {
            let is_in = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!is_in, "{what} is in {file}");
        }
        assert!(!bytes.windows(key.len()).any(|window| window == key), "storage key is in {file}");
    }
}
