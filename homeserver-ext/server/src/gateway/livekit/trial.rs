//! A room that is no call's, in which the operator has it tried whether sound gets through.

use causeway_protocol::{api::CallIntent, ids::Timestamp};

use super::LiveKit;
use crate::config::LiveKit as Config;

/// It is there until it is closed, or has been empty for a minute.
#[derive(Debug)]
pub struct TrialRoom {
    livekit: LiveKit,
    name: String,
}

impl TrialRoom {
    /// Makes one that is called so; no call's room has a name with a `-` at the seventh place.
    ///
    /// # Errors
    /// Why not, for the operator.
    pub async fn open(config: &Config, name: &str) -> Result<Self, String> {
        let (livekit, name) = (LiveKit::new(config.clone()), name.to_owned());
        livekit.open(Timestamp(0), &name).await.map_err(|error| error.to_string())?;
        Ok(Self { livekit, name })
    }

    /// What lets somebody in, for two minutes.
    pub fn token(&self, identity: &str) -> Option<String> {
        self.livekit.token(&self.name, identity, CallIntent::Audio).ok()
    }

    /// Closes it.
    ///
    /// # Errors
    /// Why not, for the operator: it is gone in a minute.
    pub async fn close(self) -> Result<(), String> {
        self.livekit.close(Timestamp(0), &self.name).await.map_err(|error| error.to_string())
    }
}
