//! What calls of bridged rooms need beside Causeway: a real LiveKit, and a Synapse that is set up for them.

use std::path::Path;

use causeway_bridge::demo::{causeway::Causeway, matrix_user::MatrixUser, synapse::Synapse};
use causeway_livekit::{Binary, LiveKit, Settings};
use ruma::OwnedRoomId;
use serde_json::{Value, json};

/// A real LiveKit, for as long as this is kept.
pub(crate) struct Sfu {
    pub(crate) server: LiveKit,
    pub(crate) folder: tempfile::TempDir,
}

impl Sfu {
    pub(crate) async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kept = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.causeway"));
        let binary = Binary::ensure(kept, |said| println!("{said}")).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let server = LiveKit::start(&binary, folder.path(), &Settings::default()).await.unwrap();
        Self { server, folder }
    }

    /// Has Causeway use it from its next start on.
    pub(crate) async fn beside(&self, causeway: &mut Causeway) {
        let secret = self.folder.path().join("secret");
        std::fs::write(&secret, self.server.secret()).unwrap();
        for (key, value) in [
            ("API_URL", self.server.api_url()),
            ("PUBLIC_URL", self.server.url()),
            ("API_KEY", self.server.key().to_owned()),
            ("API_SECRET_FILE", secret.display().to_string()),
        ] {
            causeway.set_env(&format!("CAUSEWAY__CALLS__LIVEKIT__{key}"), &value);
        }
        causeway.stop().await.unwrap();
        causeway.start().await.unwrap();
    }

    pub(crate) async fn takes(&self, given: &Value) -> u16 {
        let url = format!("{}/rtc/validate", self.server.api_url());
        let jwt = given["jwt"].as_str().unwrap();
        let asked = reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .get(url)
            .query(&[("access_token", jwt)])
            .send()
            .await;
        asked.unwrap().status().as_u16()
    }
}

/// Has Synapse tell clients where calls are carried, and empty state later.
pub(crate) async fn has_calls(synapse: &mut Synapse, focus: &str) {
    let flags = json!({
        "msc4143_enabled": true, "msc4140_enabled": true, "msc3266_enabled": true,
        "msc4222_enabled": true, "msc4075_enabled": true,
    });
    synapse.set("experimental_features", flags);
    synapse.set("max_event_delay_duration", json!("24h"));
    let transport = json!({"type": "livekit", "livekit_service_url": focus});
    synapse.set("matrix_rtc", json!({"transports": [transport]}));
    synapse.kill().unwrap();
    synapse.start_again().await.unwrap();
}

/// The room to which Carol is invited, and which she joins.
pub(crate) async fn joined(carol: &MatrixUser) -> OwnedRoomId {
    loop {
        if let Some(room) = carol.sync().await.unwrap().invites.first() {
            carol.accept(room).await.unwrap();
            return room.clone();
        }
    }
}
