//! A LiveKit of a test's own, what it says of itself, and somebody who connects to it.

use std::path::Path;

use causeway_livekit::{Binary, LiveKit, Settings};
use causeway_server::ApiSecret;
use futures_util::StreamExt as _;
use livekit_api::{
    access_token::{AccessToken, VideoGrants},
    services::room::RoomClient,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

use crate::harness::Server;

/// A real LiveKit.
pub(crate) struct Sfu {
    pub(super) server: LiveKit,
    _folder: tempfile::TempDir,
}

impl Sfu {
    pub(crate) async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    pub(super) async fn start_with(settings: Settings) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kept = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.causeway"));
        let binary = Binary::ensure(kept, |said| println!("{said}")).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let server = LiveKit::start(&binary, folder.path(), &settings).await.unwrap();
        Self { server, _folder: folder }
    }

    pub(crate) fn config(&self) -> causeway_server::LiveKit {
        causeway_server::LiveKit {
            api_url: self.server.api_url(),
            public_url: self.server.url(),
            api_key: self.server.key().to_owned(),
            api_secret: ApiSecret::new(self.server.secret()),
        }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    fn api(&self) -> RoomClient {
        RoomClient::with_api_key(&self.server.api_url(), self.server.key(), self.server.secret())
    }

    pub(super) async fn rooms(&self) -> Vec<String> {
        let rooms = self.api().list_rooms(Vec::new()).await.unwrap();
        rooms.into_iter().map(|room| room.name).collect()
    }

    /// Makes a room.
    pub(super) async fn opens(&self, room: &str) {
        let options = livekit_api::services::room::CreateRoomOptions::default();
        self.api().create_room(room, options).await.unwrap();
    }

    /// Looks into the rooms until LiveKit has these.
    pub(super) async fn until_rooms(&self, server: &Server, rooms: &[String]) {
        let until = async {
            while self.rooms().await != rooms {
                server.pass_ms(500);
                server.app.tick_rooms().await.unwrap();
            }
            // What was closed is written down, too.
            server.pass_ms(500);
            server.app.tick_rooms().await.unwrap();
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), until)
            .await
            .expect("they never are");
    }

    /// Who is in a room.
    pub(crate) async fn people(&self, room: &str) -> Vec<String> {
        let people = self.api().list_participants(room).await.unwrap();
        let mut names: Vec<_> = people.into_iter().map(|it| it.identity).collect();
        names.sort_unstable();
        names
    }

    /// How many of the tracks in a room are muted.
    pub(super) async fn muted(&self, room: &str) -> usize {
        let people = self.api().list_participants(room).await.unwrap();
        people.iter().flat_map(|it| &it.tracks).filter(|track| track.muted).count()
    }

    /// A token that whoever has the key can make.
    pub(super) fn token(&self, room: &str, identity: &str) -> String {
        let grants =
            VideoGrants { room_join: true, room: room.to_owned(), ..VideoGrants::default() };
        let token = AccessToken::with_api_key(self.server.key(), self.server.secret());
        token.with_identity(identity).with_grants(grants).to_jwt().unwrap()
    }

    /// What LiveKit makes of a token.
    pub(super) async fn validates(&self, jwt: &str) -> u16 {
        let url = format!("{}/rtc/validate", self.server.api_url());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        http.get(url).query(&[("access_token", jwt)]).send().await.unwrap().status().as_u16()
    }
}

/// Somebody who has come into a room, and sends nothing.
pub(crate) struct Connected(WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>);

impl Connected {
    /// Comes in, and waits until LiveKit has said that he has.
    pub(crate) async fn by(url: &str, jwt: &str) -> Self {
        let url = format!("{url}/rtc?access_token={jwt}&protocol=15&auto_subscribe=1");
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        loop {
            if let Message::Binary(_) = socket.next().await.unwrap().unwrap() {
                return Self(socket);
            }
        }
    }

    /// LiveKit ends it.
    pub(crate) async fn is_put_out(&mut self) {
        let ended = async {
            while let Some(Ok(message)) = self.0.next().await {
                if matches!(message, Message::Close(_)) {
                    break;
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), ended).await.expect("he stays");
    }
}
