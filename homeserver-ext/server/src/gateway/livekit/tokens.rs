//! What lets a device into a room: for two minutes, to say and hear, and for nothing else.

use std::time::Duration;

use causeway_protocol::api::CallIntent;
use livekit_api::access_token::{AccessToken, VideoGrants};

use super::{LiveKit, SfuError};

/// How long a token lets somebody in. LiveKit renews it for whoever is in the room.
const TTL: Duration = Duration::from_mins(2);

impl LiveKit {
    /// A token for one room and one identity. Never to make or close a room, since LiveKit does not
    /// look at which; never hidden; and nothing but sound, with pictures where the call is of these.
    pub(crate) fn token(
        &self,
        room: &str,
        identity: &str,
        intent: CallIntent,
    ) -> Result<String, SfuError> {
        let sources: &[&str] = match intent {
            CallIntent::Audio => &["microphone"],
            CallIntent::Video => &["microphone", "camera"],
        };
        let grants = VideoGrants {
            room_join: true,
            room: room.to_owned(),
            can_publish: Some(true),
            can_subscribe: Some(true),
            can_publish_data: Some(false),
            can_publish_sources: sources.iter().map(|&source| source.to_owned()).collect(),
            can_update_own_metadata: Some(false),
            ..VideoGrants::default()
        };
        self.signed(identity, grants)
    }

    /// A token for one of Matrix: likewise, and to send whatever his client can, unless he sends
    /// elsewhere.
    pub(crate) fn guest_token(
        &self,
        room: &str,
        identity: &str,
        publish: bool,
    ) -> Result<String, SfuError> {
        let grants = VideoGrants {
            room_join: true,
            room: room.to_owned(),
            can_publish: Some(publish),
            can_subscribe: Some(true),
            can_publish_data: Some(false),
            can_update_own_metadata: Some(false),
            ..VideoGrants::default()
        };
        self.signed(identity, grants)
    }

    fn signed(&self, identity: &str, grants: VideoGrants) -> Result<String, SfuError> {
        let key = &self.config.api_key;
        let token = AccessToken::with_api_key(key, self.config.api_secret.expose())
            .with_identity(identity)
            .with_ttl(TTL)
            .with_grants(grants)
            .to_jwt();
        metrics::counter!("causeway_sfu_tokens_total").increment(1);
        token.map_err(|error| SfuError::Failed(error.to_string()))
    }
}
