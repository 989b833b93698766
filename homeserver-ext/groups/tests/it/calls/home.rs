//! A real LiveKit, and what the server of a home does with it: rooms, and tokens for them.

use std::{path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use causeway_groups::calls::{Access, Whose};
use causeway_livekit::{Binary, LiveKit, Settings};
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::time::timeout;

/// The year 2100.
const LATE: u64 = 4_102_444_800;

pub(crate) struct Home {
    pub(crate) livekit: LiveKit,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Home {
    /// With a room that is called so.
    pub(crate) async fn with_room(room: &str) -> Self {
        let home = Self::new().await;
        home.ask("CreateRoom", json!({"name": room})).await;
        home
    }

    pub(crate) async fn new() -> Self {
        // The workspace's, whichever crate's test this is of.
        let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let root = folders.find(|folder| folder.join("Cargo.lock").is_file()).unwrap();
        let binary =
            Binary::ensure(&root.join(".causeway"), |said| println!("{said}")).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let livekit = LiveKit::start(&binary, folder.path(), &Settings::default()).await.unwrap();
        // Another test may have been first.
        drop(rustls::crypto::ring::default_provider().install_default());
        Self { livekit, http: reqwest::Client::new(), _folder: folder }
    }

    /// For who is called so, where rights are others than usual with `rights`.
    pub(crate) fn access_with(&self, room: &str, identity: &str, rights: &Value) -> Access {
        let mut video = json!({"room": room, "roomJoin": true, "canPublish": true,
            "canSubscribe": true, "canPublishData": false});
        for (right, has) in rights.as_object().unwrap() {
            video[right] = has.clone();
        }
        let token = self.token(identity, &video);
        Access {
            url: self.livekit.url(),
            token: token.into(),
            whose: Whose::Home,
            is_sealed: true,
            speaks: true,
        }
    }

    pub(crate) fn access(&self, room: &str, identity: &str) -> Access {
        self.access_with(room, identity, &json!({}))
    }

    /// Asks it as its operator does.
    pub(crate) async fn ask(&self, what: &str, body: Value) -> Value {
        let rights =
            json!({"roomCreate": true, "roomAdmin": true, "roomList": true, "room": body["room"]});
        let url = format!("{}/twirp/livekit.RoomService/{what}", self.livekit.api_url());
        let ask = self.http.post(url).bearer_auth(self.token("operator", &rights));
        let answer = ask.json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{what}: {}", answer.status());
        answer.json().await.unwrap()
    }

    /// Until nobody is in a room any more.
    pub(crate) async fn until_empty(&self, room: &str) {
        let empty = async {
            while self.ask("ListParticipants", json!({"room": room})).await["participants"]
                != json!([])
            {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), empty).await.unwrap();
    }

    fn token(&self, identity: &str, video: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(&json!({"alg": "HS256", "typ": "JWT"}));
        let claims = json!({"iss": self.livekit.key(), "sub": identity, "nbf": 0, "exp": LATE,
            "video": video});
        let signed = format!("{head}.{}", part(&claims));
        let mut mac = Hmac::<Sha256>::new_from_slice(self.livekit.secret().as_bytes()).unwrap();
        mac.update(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }
}
